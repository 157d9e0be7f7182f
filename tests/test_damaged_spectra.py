"""Spectra in files of any origin: read, or refused with what is wrong, and at no cost."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from selection import thorough
from unprivileged import unprivileged

from fvfast.spectrum import Spectrum
from fvfast.spectrum import file as spectrum_file
from fvfast.spectrum.file import read_spectrum, write_spectrum

SHAPE = (1, 6, 4)
VALUES = np.arange(24, dtype=np.float32).reshape(SHAPE)
BYTES = VALUES.tobytes()


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def with_header(header, data=BYTES, version=(1, 0), length=None):
    """A .npy file with any header."""
    text = header.encode("latin1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes(version) + size + text + data


def described(kind="<f4", shape=SHAPE, order=False):
    return f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def members(**changes):
    """The files within an archive as `Spectrum.save` writes it; None leaves one out."""
    content = {
        "magnitude": VALUES,
        "kind": np.array("measured"),
        "size": np.array((6, 6)),
        "parzen_window": np.array(False),
        "image_count": np.array(3),
        "skipped_count": np.array(0),
        "fvfast_version": np.array("0.1.0"),
    } | changes
    return {
        f"{name}.npy": array if isinstance(array, bytes) else npy(array)
        for name, array in content.items()
        if array is not None
    }


def archive(method=zipfile.ZIP_DEFLATED, **changes):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members(**changes).items():
            made.writestr(name, data)
    return file.getvalue()


def load(tmp_path, data):
    path = tmp_path / "spectrum"
    path.write_bytes(data)
    return Spectrum.from_file(path)


def refusal(tmp_path, data):
    with pytest.raises(ValueError, match=r"^Spectrum\.from_file: ") as raised:
        load(tmp_path, data)
    message = str(raised.value)
    assert str(tmp_path / "spectrum") in message
    assert len(message.splitlines()) == 1
    return message


# What is sound is read, whatever wrote it


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(archive(zipfile.ZIP_STORED), id="not compressed"),
        pytest.param(archive(magnitude=np.asfortranarray(VALUES)), id="Fortran order"),
        pytest.param(archive(magnitude=VALUES.astype(">f4")), id="big endian"),
        pytest.param(archive(magnitude=VALUES.astype(">f8")), id="big endian, 64 bits"),
        pytest.param(archive(magnitude=VALUES.astype(np.longdouble)), id="long double"),
        pytest.param(archive(magnitude=VALUES.astype(">u2")), id="integers"),
        pytest.param(archive(size=np.array((6, 6), ">i4")), id="big endian integers"),
        pytest.param(archive(kind=np.array("measured", ">U8")), id="big endian text"),
        pytest.param(archive(magnitude=npy(VALUES, (2, 0))), id="version 2"),
        pytest.param(archive(magnitude=npy(VALUES, (3, 0))), id="version 3"),
        pytest.param(
            archive(magnitude=with_header(described(shape="(1L, 6L, 4L)"))), id="Python 2"
        ),
        pytest.param(archive(of_a_later_version=np.array([{}], object)), id="others left alone"),
    ],
)  # fmt: skip
def test_all_ways_to_write_the_same_are_read(tmp_path, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spectrum = load(tmp_path, data)
    assert torch.equal(spectrum.magnitude(6, 6, 1), torch.from_numpy(VALUES))
    assert (spectrum.image_count, spectrum.size, spectrum.version) == (3, (6, 6), "0.1.0")


@pytest.mark.parametrize("array", [VALUES.astype(">f8"), np.asfortranarray(VALUES)])
def test_all_ways_to_write_an_array_are_read(tmp_path, array):
    assert torch.equal(load(tmp_path, npy(array)).magnitude(6, 6, 1), torch.from_numpy(VALUES))


def test_archives_with_comments_and_more_around_them_are_read(tmp_path):
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file, "a") as made:
        made.comment = b"a comment"
        made.writestr("notes.txt", "no array")
    for data in (file.getvalue(), file.getvalue() + b"\n\0"):
        assert load(tmp_path, data).image_count == 3


def test_archives_of_more_than_4_gib_may_hold_small_arrays(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in members().items():
            with made.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert load(tmp_path, file.getvalue()).image_count == 3


# What is damaged is refused


HEADERS = {
    "unclosed": (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 6, 4"), "EOF"),
    "nested": (with_header("(" * 600), "damaged"),
    "unary": (with_header("-" * 900 + "1"), "damaged"),
    "no dictionary": (with_header("1\n"), "not a dictionary"),
    "other keys": (with_header("{1: 2, 'shape': 3}"), "damaged"),
    "no shape": (with_header(described(shape=[1, 6, 4])), "shape is not valid"),
    "negative shape": (with_header(described(shape=(-1, 6, 4))), "shape (-1, 6, 4)"),
    "two negative": (with_header(described(shape=(-1, -6, 4))), "shape (-1, -6, 4)"),
    "no type": (with_header(described(kind="x9")), "damaged"),
    "no order": (with_header(described(order=None)), "fortran_order"),
    "too long": (with_header(described() + " " * 70000, version=(2, 0)), "damaged"),
    "longer than the file": (with_header(described(), version=(2, 0), length=2**32 - 1), "EOF"),
    "version 9": (with_header(described(), version=(9, 0)), "version (9, 0)"),
    "no magic": (b"\x93NUMPX" + npy(VALUES)[6:], "magic"),
    "empty": (b"", "EOF"),
    "cut": (npy(VALUES)[:-1], "95 bytes of values follow"),
    "another array behind": (npy(VALUES) * 2, "bytes of values follow"),
    "objects": (npy(np.array([[[{}]]], object)), "holds object; expected numbers"),
    "durations": (npy(VALUES.astype("m8[s]")), "holds timedelta64[s]; expected numbers"),
    "dates": (npy(VALUES.astype("M8[D]")), "holds datetime64[D]"),
    "records": (npy(np.zeros(SHAPE, [("a", "f4")])), "expected numbers"),
    "bytes": (npy(np.zeros(SHAPE, "S3")), "holds |S3"),
    "texts": (npy(np.zeros(SHAPE, "U3")), "expected real magnitudes"),
    "NaN": (npy(np.full(SHAPE, np.nan)), "Some of them are"),
    "infinite": (npy(np.full(SHAPE, np.inf, np.float32)), "Some of them are"),
    "negative": (npy(-VALUES), "Some of them are"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_damaged_arrays_are_refused(tmp_path, case):
    data, expected = HEADERS[case]
    assert expected in refusal(tmp_path, data)


@pytest.mark.parametrize("case", [case for case in HEADERS if case != "empty"])
def test_damaged_members_are_refused(tmp_path, case):
    data, expected = HEADERS[case]
    message = refusal(tmp_path, archive(magnitude=data))
    assert expected in message
    assert "'magnitude'" in message or "Some of them" in message or "real magnitudes" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_count": np.array(np.inf)}, "'image_count' is of float64"),
        ({"image_count": np.array(-1)}, "-1 images"),
        ({"skipped_count": np.array(-1)}, "-1 that were skipped"),
        ({"skipped_count": np.array([1, 2])}, "'skipped_count' is of int64 and of shape (2,)"),
        ({"image_count": np.array("many")}, "'image_count' is of <U4"),
        ({"parzen_window": np.array("yes")}, "'parzen_window' is of <U3"),
        ({"size": np.array((6, 6), "m8[s]")}, "array 'size', holds timedelta64"),
        ({"size": np.array((6.0, 6.0))}, "'size' is of float64"),
        ({"size": np.array((np.nan, 6.0))}, "'size' is of float64"),
        ({"size": np.array((6, 6, 1))}, "'size' is of int64 and of shape (3,)"),
        ({"size": np.array((6, -6))}, "6 x -6 pixels"),
        ({"size": np.array((2**63, 6), np.uint64)}, "9223372036854775808 x 6"),
        ({"kind": np.array(b"measured")}, "array 'kind', holds |S8"),
        ({"kind": with_header(described("<U1", ()), b"\xff" * 4)}, "spectrum"),
        ({"fvfast_version": np.array(None)}, "array 'fvfast_version', holds object"),
        ({"kind": None}, "has no array 'kind'"),
    ],
)
def test_other_entries_are_refused(tmp_path, changes, expected):
    assert expected in refusal(tmp_path, archive(**changes))


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compressions_are_refused(tmp_path, method):
    message = refusal(tmp_path, archive(method))
    assert f"is compressed by method {method}; expected none or deflate" in message


def changed_directory(offset, value, size="<H"):
    """An archive whose list of members says something else of the first one."""
    data = bytearray(archive())
    struct.pack_into(size, data, data.index(b"PK\1\2") + offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (changed_directory(8, 1), "is encrypted"),
        (changed_directory(8, 64), "strong encryption"),
        (changed_directory(10, 99), "is compressed by method 99"),
        (changed_directory(16, 0, "<I"), "Bad CRC-32"),
        (changed_directory(20, 9, "<I"), "damaged"),
        (changed_directory(24, 2**31, "<I"), "bytes of values follow"),
        (changed_directory(42, 2**31, "<I"), "damaged"),
        (changed_directory(6, 99), "zip file version"),
        (archive()[:-30], "not a zip file"),
        (archive()[:200], "not a zip file"),
        (b"PK", "not a zip file"),
        (b"PK\5\6" + bytes(18), "has no array 'fvfast_version'"),
    ],
)
def test_damaged_archives_are_refused(tmp_path, data, expected):
    assert expected in refusal(tmp_path, data)


def test_members_that_are_there_twice_are_refused(tmp_path):
    file = io.BytesIO(archive())
    with (
        zipfile.ZipFile(file, "a") as made,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        made.writestr("magnitude.npy", npy(VALUES + 1))
    assert "array 'magnitude', is there more than once" in refusal(tmp_path, file.getvalue())


# At no cost


def bomb(shape, dtype):
    """A .npy file of zeros, in parts that need no memory."""
    yield with_header(described(np.dtype(dtype).str, shape), b"")
    left = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    while left > 0:
        yield bytes(min(left, 2**20))
        left -= 2**20


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "expected"),
    [
        thorough("magnitude", (3, 8192, 6000), "<f8", "1.1 GiB; expected at most 0.4 GiB"),
        ("magnitude", (3, 8192, 6000), "<u1", "0.5 GiB; expected at most 0.4 GiB"),
        ("size", (2**28 + 1,), "<i2", "1.0 GiB"),
        thorough("kind", (), "<U140000000", "0.5 GiB"),
    ],
)  # fmt: skip
def test_sizes_are_known_before_anything_is_unpacked(
    tmp_path, monkeypatch, name, shape, dtype, expected
):
    path = tmp_path / "spectrum"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for other, data in members().items():
            if other != f"{name}.npy":
                made.writestr(other, data)
        with made.open(f"{name}.npy", "w", force_zip64=True) as member:
            for part in bomb(shape, dtype):
                member.write(part)
    assert path.stat().st_size < 2**24
    most = 0
    read = zipfile.ZipExtFile.read

    def watched(self, size=-1):
        nonlocal most
        data = read(self, size)
        most = max(most, len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", watched)
    with pytest.raises(ValueError, match=rf"array '{name}', takes {expected}"):
        Spectrum.from_file(path)
    assert 0 < most <= 2**10


def test_arrays_that_are_large_together_are_refused(tmp_path):
    """Each of them, with 4 bytes for a value, is not."""
    many = np.zeros(60 * 2**20, np.uint8)
    message = refusal(tmp_path, archive(image_count=many, kind=many))
    assert "array 'kind', takes 0.2 GiB; expected at most 0.4 GiB" in message


def test_long_lists_of_members_are_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for index in range(12000):
            made.writestr(f"{index:070}", b"")
        for name, data in members().items():
            made.writestr(name, data)
    assert "list of members takes more than 1048576 bytes" in refusal(tmp_path, file.getvalue())


def test_headers_of_any_length_are_not_unpacked(tmp_path):
    long = with_header(described() + " " * 2**24, version=(2, 0))
    assert "EOF: reading array header" in refusal(tmp_path, archive(magnitude=long))


def test_what_is_saved_can_be_read(tmp_path):
    path = tmp_path / "a.npz"
    load(tmp_path, npy(np.ones((2, 32, 32), np.float32))).save(path)
    content = read_spectrum(path)
    limit = 2 * 32 * 32 * 4 + spectrum_file._BESIDE
    write_spectrum(path, content, limit)
    assert read_spectrum(path, limit).values.shape == (2, 32, 32)
    with pytest.raises(ValueError, match=r"Spectrum\.save: the spectrum has shape \(2, 32, 32\)"):
        write_spectrum(tmp_path / "b.npz", content, limit - 1)
    assert not (tmp_path / "b.npz").exists()


# What is not a file


OPENING = """
import sys
from fvfast.spectrum import Spectrum
for path in sys.argv[1:]:
    try:
        Spectrum.from_file(path)
    except ValueError as error:
        print(error)
"""


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    paths = [str(tmp_path / "pipe"), "/dev/zero", "/dev/null"]
    # In a process that can be ended, because the error would be to wait without an end.
    command = [sys.executable, "-c", OPENING, *paths]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    expected = "Spectrum.from_file: {} is a pipe or a device; expected a regular file."
    assert done.stdout.splitlines() == [expected.format(path) for path in paths]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permission bits are a matter of POSIX")
def test_files_that_cannot_be_opened_are_told_as_the_system_does(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "locked").write_bytes(archive())
    (tmp_path / "locked").chmod(0)
    for name, expected in (
        ("loop", "symbolic links"),
        ("x" * 5000, "File name too long"),
        (".", "Is a directory"),
        ("none", "No such file"),
    ):
        with pytest.raises(OSError, match=expected):
            Spectrum.from_file(tmp_path / name)
    with unprivileged(tmp_path), pytest.raises(PermissionError, match="locked"):
        Spectrum.from_file(tmp_path / "locked")
