"""Folders of images of any origin: what cannot be read is skipped and named, at no cost."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageOps
from unprivileged import unprivileged

from fvfast.files import images as image_files
from fvfast.files.images import FORMATS, MEMORY, decode
from fvfast.files.memory_budget import MemoryBudget
from fvfast.spectrum import Spectrum
from fvfast.spectrum.photographs import PhotographFolder

ROWS, COLUMNS = 30, 40
GREEN = (9, 200, 90)


def picture(mode="RGB"):
    columns, rows = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    pixels = np.stack([columns * 6, rows * 8, (columns * rows) % 256], -1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(file_format, mode="RGB", **settings):
    file = io.BytesIO()
    picture(mode).save(file, file_format, **settings)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A folder with one image that is whole."""
    Image.new("RGB", (8, 8), GREEN).save(tmp_path / "whole.png")
    return tmp_path


def read(folder, size=(8, 8), channels=3):
    """The images of a folder, and what was warned of."""
    photographs = PhotographFolder(folder, size, channels, progress=False)
    if len(photographs.paths) == 1 and not photographs.unlisted:
        return torch.cat(list(photographs)), ""
    with pytest.warns(UserWarning, match="could not be") as told:
        images = torch.cat(list(photographs))
    (warning,) = told
    return images, str(warning.message)


def assert_skipped(folder, *expected, count=1):
    """Only the whole image is read, and the message has these parts."""
    images, message = read(folder)
    assert len(images) == 1
    np.testing.assert_allclose(images[0, :, 0, 0], np.array(GREEN) / 255, atol=1e-6)
    assert f"{count} of {count + 1} image files could not be read:\n" in message
    for part in expected:
        assert part in message
    assert "whole.png" not in message


def png(width, height, rows=0, *, color=2):
    """A PNG file whose header says a size, with some rows of zeros."""
    deflate = zlib.compressobj(1)
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[color])
    data = b"".join(deflate.compress(row) for _ in range(rows)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff(tags, data=b"\0" * 64):
    """A TIFF file with these tags, each one number."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


TILED = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 32768, 323: 32768, 324: 64, 325: 64}


# Errors that Pillow documents for none of these: RuntimeError, struct.error, NotImplementedError


def damaged_files():
    jp2 = encoded("JPEG2000")
    avif = encoded("AVIF")
    dds = encoded("DDS", "RGBA")
    yield "a.avif", avif[:200]
    yield "b.avif", avif.replace(b"ispe", b"ispx")
    yield "a.jp2", jp2[:60]
    yield "b.jp2", jp2.replace(b"ihdr", b"ihdx")
    yield "c.jp2", jp2[:16] + bytes(8) + jp2[24:]
    yield "a.png", dds
    yield "b.png", dds[:84] + b"DX99" + dds[88:]
    yield "c.png", encoded("PNG")[:60]
    yield "d.png", png(0, 8)
    yield "a.jpg", encoded("JPEG")[:400]
    yield "b.jpg", b""
    yield "a.gif", encoded("GIF")[:40]
    yield "a.webp", encoded("WEBP")[:100]
    yield "a.tif", tiff({256: 8, 257: 8, 258: 8, 259: 5, 262: 1, 273: 150, 278: 8, 279: 64})
    yield "b.tif", tiff({256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 99999, 278: 8, 279: 64})
    yield "a.ppm", b"P6 8 8 255\n\0\0"
    yield "b.ppm", b"P6 99999999999999999999 8 255\n"
    yield "a.bmp", encoded("BMP")[:50]


@pytest.mark.parametrize(
    ("name", "data"), list(damaged_files()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_one_damaged_file_does_not_give_up_the_folder(folder, name, data):
    (folder / name).write_bytes(data)
    assert_skipped(folder, f"\n  {folder / name}: ")


def test_whatever_a_decoder_raises_is_a_reason_to_skip(folder, monkeypatch):
    class StrangeError(Exception):
        pass

    def fit(image, *arguments, method):
        if image.size == (COLUMNS, ROWS):
            raise StrangeError
        return real(image, *arguments, method=method)

    real = ImageOps.fit
    monkeypatch.setattr(ImageOps, "fit", fit)
    picture().save(folder / "a.png")
    assert_skipped(folder, "a.png: StrangeError")


def test_the_first_of_many_are_named(folder):
    for index in range(33):
        (folder / f"{index:02}.jpg").write_bytes(b"nothing")
    spectrum_warning = r"(?s)33 of 34 image files .*00\.jpg.*19\.jpg.*\n  and 13 more\nThey were"
    with pytest.warns(UserWarning, match=spectrum_warning) as told:
        spectrum = Spectrum.from_images(folder, (8, 8), progress=False)
    assert "20.jpg" not in str(told[0].message)
    assert (spectrum.image_count, spectrum.skipped_count) == (1, 33)


# What is in a folder


def test_a_path_that_is_too_long_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for _ in range(21):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    for name in ("deep.png", "e" * 200):
        Path(name).touch()
    monkeypatch.chdir(folder)
    images, message = read(folder)
    assert len(images) == 1
    assert "1 folder could not be listed:" in message
    assert "File name too long" in message


def test_a_file_whose_path_is_too_long_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    longest = os.pathconf(folder, "PC_PATH_MAX") - 1
    left = longest - len(str(folder)) - 10
    while left > 0:
        name = "d" * min(200, max(left - 1, 1))
        left -= len(name) + 1
        os.mkdir(name)
        os.chdir(name)
    Path("e" * 60 + ".png").touch()
    monkeypatch.chdir(folder)
    assert_skipped(folder, "eee.png: File name too long")


def test_folders_within_folders_to_any_depth(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    picture().save("deep.png")
    try:
        assert len(PhotographFolder(folder, (8, 8), progress=False).paths) == 2
    finally:
        # Python's own way of removing trees does not reach so deep.
        Path("deep.png").unlink()
        for _ in range(1500):
            os.chdir("..")
            os.rmdir("d")


def test_what_is_no_file_is_named_or_left_alone(folder):
    (folder / "folder.png").mkdir()
    picture().save(folder / "folder.png" / "inside.png")
    (folder / "folder.png" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("nothing")
    os.mkfifo(folder / "pipe.png")
    (folder / "null.png").symlink_to("/dev/zero")
    (folder / "linked.png").symlink_to("whole.png")
    images, message = read(folder)
    assert len(images) == 3
    assert "4 of 7 image files" in message
    for part in ("loop.png: Too many levels", "nowhere.png: No such file", "pipe or a device"):
        assert part in message
    assert message.count("expected a regular file") == 2


def test_a_file_that_disappears_is_named(folder):
    picture().save(folder / "gone.png")
    photographs = PhotographFolder(folder, (8, 8), progress=False)
    (folder / "gone.png").unlink()
    with pytest.warns(UserWarning, match=r"gone\.png: No such file or directory"):
        assert sum(map(len, photographs)) == 1


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permission bits are a matter of POSIX")
def test_files_and_folders_without_permission_are_named(folder):
    picture().save(folder / "locked.png")
    (folder / "locked").mkdir()
    picture().save(folder / "locked" / "inside.png")
    (folder / "locked.png").chmod(0)
    (folder / "locked").chmod(0)
    (folder / "whole.png").chmod(0o644)
    folder.chmod(0o755)
    try:
        with unprivileged(folder):
            assert_skipped(
                folder,
                "locked.png: Permission denied",
                f"1 folder could not be listed:\n  {folder / 'locked'}: Permission denied",
            )
            with pytest.raises(PermissionError, match="locked"):
                PhotographFolder(folder / "locked", (8, 8))
    finally:
        (folder / "locked").chmod(0o755)


# Formats


def test_no_program_is_started_for_an_image(folder, monkeypatch):
    program, marker = folder / "programs" / "gs", folder / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho started >> {marker}\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (folder / "holiday.jpg").write_bytes(encoded("EPS"))
    assert_skipped(folder, "holiday.jpg: damaged, or of another format than AVIF, ")
    assert not marker.exists()


def other_formats():
    for name in ("DDS", "EPS", "ICO", "PCX", "SGI", "TGA"):
        yield pytest.param(encoded(name), id=name)
    for name in ("MSP", "XBM"):
        yield pytest.param(encoded(name, "1"), id=name)
    yield pytest.param(b"GRIB\0\0\0\1" + bytes(99), id="GRIB")
    yield pytest.param(b"BUFR" + bytes(99), id="BUFR")
    yield pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(99), id="HDF5")
    yield pytest.param(b"\0\0\1\xb3\x28\x02\xd0" + bytes(99), id="MPEG")
    yield pytest.param(
        b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 99, 99, 72) + bytes(6)
        + b"\x01\0\t\0" + bytes(99), id="WMF"
    )  # fmt: skip


@pytest.mark.parametrize("data", list(other_formats()))
def test_other_formats_are_named_whatever_the_name_says(folder, data):
    (folder / "a.png").write_bytes(data)
    assert_skipped(folder, "a.png: damaged, or of another format than AVIF, BMP, GIF")


@pytest.mark.parametrize(
    ("file_format", "mode", "settings"),
    [
        *((name, "RGB", {}) for name in FORMATS if name != "GIF"),
        ("PNG", "P", {}), ("PNG", "L", {}), ("PNG", "1", {}), ("PNG", "RGBA", {}),
        ("PNG", "LA", {}), ("GIF", "P", {}), ("TIFF", "CMYK", {}), ("JPEG", "CMYK", {}),
        ("PNG", "P", {"transparency": 3}), ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("MPO", "RGB", {"save_all": True}), ("JPEG", "RGB", {"progressive": True}),
        *((name, "RGB", {"save_all": True}) for name in ("GIF", "PNG", "TIFF", "WEBP")),
    ],
)  # fmt: skip
def test_each_kind_of_pixels_is_read_as_pillow_converts_it(folder, file_format, mode, settings):
    if settings.get("save_all"):
        settings = {**settings, "append_images": [Image.new(mode, (COLUMNS, ROWS))] * 2}
    (folder / "whole.png").write_bytes(encoded(file_format, mode, **settings))
    for channels, target in ((3, "RGB"), (1, "L")):
        images, _ = read(folder, (ROWS, COLUMNS), channels)
        with Image.open(folder / "whole.png") as file:
            expected = np.asarray(file.convert(target)).reshape(ROWS, COLUMNS, channels)
        np.testing.assert_array_equal((images[0].permute(1, 2, 0) * 255).round(), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_rotated_as_their_data_says(folder, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / "whole.png").write_bytes(encoded("PNG", exif=exif))
    with Image.open(folder / "whole.png") as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    images, _ = read(folder, expected.shape[:2])
    np.testing.assert_array_equal((images[0].permute(1, 2, 0) * 255).round(), expected)


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_pixels_of_more_than_8_bits_are_named(folder, mode):
    picture("L").convert(mode).save(folder / "a.tiff")
    assert_skipped(folder, f"a.tiff: {mode} pixels have more than 8 bits")


# Time and memory


def test_jpegs_with_scan_upon_scan_are_named(folder):
    data = encoded("JPEG", "L", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    count = data.count(b"\xff\xda")
    (folder / "whole.jpg").write_bytes(data[:-2] + last * (1000 - count) + data[-2:])
    (folder / "a.jpg").write_bytes(data[:-2] + last * (1001 - count) + data[-2:])
    images, message = read(folder)
    assert len(images) == 2
    assert "a.jpg: 1001 scans of a JPEG; expected at most 1000" in message
    assert "1 of 3 image files" in message


def test_sizes_in_the_header_decide_before_anything_is_decoded(folder):
    (folder / "a.png").write_bytes(png(12000, 12000))
    (folder / "b.png").write_bytes(png(20000, 20000))
    (folder / "c.tif").write_bytes(tiff(TILED))
    (folder / "f.png").write_bytes(png(1, 50_000_000))
    strip = {256: 7000, 257: 7000, 258: 8, 259: 8, 262: 1, 273: 64, 277: 1, 278: 7000, 279: 64}
    (folder / "e.tif").write_bytes(tiff(strip))
    (folder / "d.gif").write_bytes(encoded("GIF").replace(b"\x28\0\x1e\0", b"\xff\x2f\xff\x2f"))
    assert_skipped(
        folder,
        "a.png: 12000 x 12000 pixels of PNG take 1.14 GiB to decode; expected at most 0.75 GiB",
        "b.png: Image size (400000000 pixels) exceeds limit",
        "c.tif: 8 x 8 pixels of TIFF take 12.00 GiB",
        "d.gif: 12287 x 12287 pixels of GIF take 1.13 GiB",
        "e.tif: 7000 x 7000 pixels of TIFF take 0.91 GiB",
        "f.png: 1 x 50000000 pixels of PNG take 1.37 GiB",
        count=6,
    )


def test_large_jpegs_are_reduced_while_they_are_decoded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    large = Image.fromarray(pixels).resize((2048, 2048), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg", quality=95)
    large.save(tmp_path / "a.bmp")
    # Coefficients of 3 channels, and half the width and half the height.
    enough = 2048 * 2048 * (3 * 2 + 8 // 4) + (2048 + 2048) * 20
    size = (512, 512)
    reduced = decode(tmp_path / "a.jpg", size, "RGB", MemoryBudget(enough))
    with pytest.raises(ValueError, match="2048 x 2048 pixels of JPEG take"):
        decode(tmp_path / "a.jpg", size, "RGB", MemoryBudget(enough - 1))
    whole = decode(tmp_path / "a.bmp", size, "RGB", MemoryBudget(MEMORY))
    assert np.abs(reduced.astype(int) - whole).mean() < 1


def test_the_budget_is_never_exceeded_and_nobody_starves():
    budget = MemoryBudget(100)
    lock, held, most = threading.Lock(), 0, 0

    def use(count):
        nonlocal held, most
        with budget.reserved(count):
            with lock:
                held += min(count, 100)
                most = max(most, held)
            with lock:
                held -= min(count, 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [7, 60, 100, 1, 250, 33, 50] * 200))
    assert 0 < most <= 100
    with budget.reserved(100):
        pass


def test_a_failure_gives_its_memory_back(folder):
    budget = MemoryBudget(MEMORY)
    (folder / "a.png").write_bytes(encoded("PNG")[:-200])
    for _ in range(100):
        with pytest.raises(ValueError, match="truncated"):
            decode(folder / "a.png", (8, 8), "RGB", budget)
    assert budget._free == budget.size


PEAK = """
import re, sys
from pathlib import Path
from fvfast.spectrum.photographs import PhotographFolder
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
folder = PhotographFolder(sys.argv[1], (64, 64), progress=False)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
print(sum(map(len, folder)), peak() - before)
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_large_images_take_turns(tmp_path):
    data = png(9000, 5000, 5000)
    for index in range(4):
        (tmp_path / f"{index}.png").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path], check=True, capture_output=True, text=True
    )
    count, peak = map(int, done.stdout.split())
    assert count == 4
    # One takes 180 MB and a little; all at once, with copies for each conversion, 2 GB.
    assert peak < MEMORY * 0.65
    assert done.stderr == ""


def test_pillow_is_left_as_it_was(folder):
    before = Image.core.get_block_size(), len(warnings.filters)
    batches = iter(PhotographFolder(folder, (8, 8), progress=False))
    next(batches)
    # Also while the batch is used, before the next one.
    assert (Image.core.get_block_size(), len(warnings.filters)) == before


def test_metadata_is_no_reason_to_warn(folder):
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    data = encoded("JPEG", exif=exif)
    # The text is said to lie behind the end of the data.
    place = data.index(b"\x01\x0e\0\x02")
    (folder / "whole.png").write_bytes(data[: place + 4] + b"\0\0\xff\xff" + data[place + 8 :])
    images, message = read(folder)
    assert len(images) == 1
    assert message == ""


@pytest.fixture
def older_pillow(monkeypatch):
    """One that knows no AVIF."""
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    image_files._known_formats.cache_clear()
    yield
    image_files._known_formats.cache_clear()


@pytest.mark.usefixtures("older_pillow")
def test_formats_that_an_older_pillow_lacks_are_left_out(folder):
    assert len(read(folder)[0]) == 1
    assert image_files._known_formats() == [name for name in FORMATS if name != "AVIF"]
