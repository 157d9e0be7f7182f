"""Files that are no dictionaries: refused by name, and nothing in them is run."""

import contextlib
import gzip
import io
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dictionaries import FILES, READABLE, weights_of

from fvfast.files.dictionaries import read_dictionary

RUN = []


def run():
    RUN.append("ran")


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return run, ()


class Settings:
    """What a library saves beside its tensors, of a class of its own."""


def old_torch(values):
    file = io.BytesIO()
    torch.save(values, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def new_torch(values):
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


PICKLES = {
    "pickle": pickle.dumps(Code()),
    "pickle of Python 2": pickle.dumps(Code(), 0),
    "compressed": gzip.compress(pickle.dumps(Code())),
    "tensors of torch before 1.6": old_torch({"W_dec": torch.ones(3, 4)}),
    "code in the old format": old_torch({"W_dec": torch.ones(3, 4), "cfg": Code()}),
    "code": new_torch({"W_dec": torch.ones(3, 4), "cfg": Code()}),
    "settings": new_torch({"W_dec": torch.ones(3, 4), "cfg": Settings()}),
    "code after settings": b'{"d_vit": 4, "exp_factor": 1}\n' + new_torch({"cfg": Code()}),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_are_refused_and_not_run(tmp_path, kind):
    path = tmp_path / "ae.pt"
    path.write_bytes(PICKLES[kind])
    with pytest.raises(ValueError, match=r"is a pickle.*does not.*numpy\.save.*torch\.save"):
        read_dictionary(path)
    assert RUN == []
    if kind == "code":  # it would have run
        torch.load(path, weights_only=False)
        assert RUN.pop() == "ran"


def test_an_autoencoder_that_vit_prisma_pickled(tmp_path):
    folder = tmp_path / "sae"
    shutil.copytree(FILES / "vit_prisma_pickled", folder)
    with pytest.raises(ValueError, match=r"names vit_prisma\.sae\.config\.VisionModelSAERunner"):
        read_dictionary(folder)
    assert not any(name.startswith("vit_prisma") for name in sys.modules)


def test_truncated_files(tmp_path):
    """Wherever they end."""
    for name in READABLE:
        data = weights_of(FILES / name).read_bytes()
        path = tmp_path / weights_of(FILES / name).name
        for length in {0, 1, 7, 9, len(data) // 3, len(data) // 2, len(data) - 30, len(data) - 1}:
            path.write_bytes(data[:length])
            with pytest.raises(ValueError, match=str(path)) as refused:
                read_dictionary(path)
            assert "expected" in str(refused.value) or "again" in str(refused.value)
            assert len(str(refused.value)) < 400 + len(str(path))


def test_files_that_are_something_else(tmp_path):
    for data in (b"a text", bytes(100), b'{"d_vit": 4}\n', b"{}\nPK", b"{" * 9999):
        path = tmp_path / "some.pt"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"{path}.* is damaged, or no"):
            read_dictionary(path)
    with pytest.raises(FileNotFoundError):
        read_dictionary(tmp_path / "nothing.npy")
    with pytest.raises(ValueError, match=r"no folder of a dictionary; expected .* sae_weights"):
        read_dictionary(tmp_path)


@pytest.mark.parametrize(
    ("name", "config"), [("saelens_standard", "cfg.json"), ("vit_prisma", "config.json")]
)
def test_settings_that_are_missing_or_damaged(tmp_path, name, config):
    folder = tmp_path / name
    shutil.copytree(FILES / name, folder)
    for text in ("", "{", "[1]", "\0"):
        (folder / config).write_text(text)
        with pytest.raises(ValueError, match=rf"{config} .*expected"):
            read_dictionary(folder)
    (folder / config).unlink()
    with pytest.raises(ValueError, match=rf"but no {config}, which says of which layer .* give"):
        read_dictionary(folder)
    weights = weights_of(folder)
    assert read_dictionary(weights).layer is None


@pytest.mark.parametrize("key", ["d_in", "d_sae"])
def test_settings_of_another_dictionary(tmp_path, key):
    folder = tmp_path / "sae"
    shutil.copytree(FILES / "saelens_standard", folder)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**config, key: 9}))
    said = "7 of 9" if key == "d_in" else "9 of 4"
    with pytest.raises(ValueError, match=rf"there are 7 directions of 4 .* settings say {said}"):
        read_dictionary(folder)


BAD = {
    "not finite": (torch.tensor([[1.0, 2.0], [3.0, torch.nan]]), r"direction 1 has values that"),
    "infinite": (torch.tensor([[torch.inf, -torch.inf]]), "direction 0 has values that"),
    "too large for float32": (torch.tensor([[1e300]]).double() * 1e300, "direction 0 has values"),
    "empty": (torch.ones(0, 4), r"shape \(0, 4\) and float32; expected real"),
    "three axes": (torch.ones(2, 3, 4), r"\(2, 3, 4\)( and float32)?; expected"),
    "complex": (torch.ones(2, 3) * 1j, "complex64; expected real numbers"),
    "truths": (torch.ones(2, 3) > 0, "bool; expected real numbers"),
    "no numbers": (torch.ones(2, 3).to_sparse(), "expected real numbers"),
    "expanded": (torch.ones(1).expand(2**20, 2**13), "takes 32.0 GiB as float32; expected at most"),
}


@pytest.mark.parametrize("kind", BAD)
def test_tensors_that_are_no_directions(tmp_path, kind):
    values, message = BAD[kind]
    path = tmp_path / "some.pt"
    with pytest.raises(ValueError, match=message):
        read_dictionary(values)
    if not values.is_sparse:
        torch.save({"W_dec": values}, path)
        with pytest.raises(ValueError, match=message):
            read_dictionary(path)


def test_numbers_of_opposite_sign_are_finite():
    """Though their sum is not."""
    large = np.full((2, 4), 3e38, np.float32)
    assert read_dictionary(large).directions.isfinite().all()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"W_dec": torch.ones(4)}, r"no directions: W_dec \(4,\); expected matrices"),
        ({"_weights": torch.ones(2, 3), "multiplier": torch.ones(5)}, "do not fit each other"),
        ({"W": torch.ones(2, 3), "C": torch.ones(2, 3), "Relax": torch.ones(2, 3),
          "multiplier": torch.ones(())}, r"do not fit each other: W \(2, 3\), C"),
        ({}, "no tensor that is known"),
        ([torch.ones(3)], "holds a list; expected a tensor"),
    ],
)  # fmt: skip
def test_state_dicts_that_do_not_fit(tmp_path, tensors, message):
    path = tmp_path / "some.pt"
    torch.save(tensors, path)
    with pytest.raises(ValueError, match=message):
        read_dictionary(path)


def test_compressed_archives_are_refused(tmp_path):
    """What a few bytes unpack to cannot be foreseen."""
    path, packed = tmp_path / "some.pt", tmp_path / "packed.pt"
    torch.save({"W_dec": torch.ones(64, 64)}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in source.namelist():
            out.writestr(entry, source.read(entry))
    with pytest.raises(ValueError, match=r"is compressed; expected an archive as torch\.save"):
        read_dictionary(packed)


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)  # makes its import fail
    with pytest.raises(ImportError, match=r"pip install 'fvfast\[dictionaries\]'"):
        read_dictionary(FILES / "saelens_standard")


def test_damaged_files_do_nothing_else(tmp_path):
    """Bytes changed at random: the file is read, or refused."""
    generator = np.random.default_rng(0)
    read = 0
    for name in READABLE:
        data = np.frombuffer(weights_of(FILES / name).read_bytes(), np.uint8)
        path = Path(tmp_path / weights_of(FILES / name).name)
        for _ in range(20):
            changed = data.copy()
            places = generator.integers(0, len(data), generator.integers(1, 6))
            changed[places] = generator.integers(0, 256, len(places))
            path.write_bytes(changed.tobytes())
            with contextlib.suppress(ValueError):
                read += len(read_dictionary(path)) > 0
    assert 0 < read < 20 * len(READABLE)
