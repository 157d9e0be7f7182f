"""Dictionaries as libraries save them: `make_fixtures.py` made the files with those libraries."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fvfast.files.dictionaries import Dictionary, read_dictionary
from fvfast.files.dictionaries.configs import Described, describe

FILES = Path(__file__).with_name("files")
LAYERS = {
    "saelens": "blocks.3.hook_resid_post",
    "saelens_transcoder": "blocks.3.hook_mlp_out",
    "vit_prisma": "blocks.9.hook_mlp_out",
    "dictionary_learning": "blocks.2",
}
READ_ALONE = ("overcomplete", "saev")  # without settings in a file of their own
FOLDERS = sorted(path.name for path in FILES.iterdir() if path.is_dir())
READABLE = [name for name in FOLDERS if name != "vit_prisma_pickled"]


def library(folder):
    return next(
        name for name in ("saelens", "vit_prisma", "dictionary_learning", *READ_ALONE)
        if folder.startswith(name)
    )  # fmt: skip


def weights_of(folder):
    (path,) = [path for path in folder.iterdir() if path.suffix not in (".json", ".npy")]
    return path


def check(dictionary, folder):
    # Archetypes are a product, which may be rounded once more; all others are as they are saved.
    rtol = 1e-6 if folder.name == "overcomplete_archetypal" else 0
    expected = np.load(folder / "expected.npy")
    np.testing.assert_allclose(dictionary.directions.numpy(), expected, rtol, atol=0)
    assert len(dictionary) == len(expected)


@pytest.mark.parametrize("name", READABLE)
def test_directions_are_those_that_the_library_gives(name):
    folder = FILES / name
    weights = weights_of(folder)
    dictionary = read_dictionary(weights if library(name) == "overcomplete" else folder)
    check(dictionary, folder)
    assert dictionary.directions.is_contiguous()
    assert dictionary.format == library(name).replace("vit_prisma", "vit-prisma")
    assert dictionary.layer == LAYERS.get(name, LAYERS.get(library(name)))
    assert dictionary.source == weights
    assert dictionary.names is None
    # The file alone, with the same settings beside it.
    assert read_dictionary(str(weights)).layer == dictionary.layer


@pytest.mark.parametrize("name", READABLE)
def test_weights_are_recognized_whatever_they_are_called(tmp_path, name):
    path = tmp_path / "weights.bin"
    shutil.copy(weights_of(FILES / name), path)
    dictionary = read_dictionary(path)
    check(dictionary, FILES / name)
    assert dictionary.layer is None


def test_the_fixtures_are_of_all_libraries():
    assert {library(name) for name in READABLE} == {"saelens", "vit_prisma",
                                                    "dictionary_learning", *READ_ALONE}  # fmt: skip
    assert set(json.loads((FILES / "versions.json").read_text())) >= {"saelens", "overcomplete"}


SIZES = {"d_in": 4, "d_sae": 8}


@pytest.mark.parametrize(
    ("config", "described"),
    [
        ({**SIZES, "hook_name": "blocks.1"}, Described("saelens", "blocks.1", 8, 4)),
        ({**SIZES, "hook_point": "blocks.1"}, Described("saelens", "blocks.1", 8, 4)),
        ({**SIZES, "metadata": {"hook_name": None}}, Described("saelens", None, 8, 4)),
        (
            {**SIZES, "d_out": 6, "metadata": {"hook_name": "in", "hook_name_out": "out"}},
            Described("saelens", "out", 8, 6),
        ),
        (
            {"hook_point_layer": 2, "layer_subtype": "ln1", "d_in": 4, "expansion_factor": 3,
             "is_transcoder": True, "out_hook_point_layer": 5, "layer_out_subtype": "hook_mlp_out",
             "d_out": 6},
            Described("vit-prisma", "blocks.5.hook_mlp_out", 12, 6),
        ),
        ({"trainer": {"dict_class": "AutoEncoder"}}, Described("dictionary_learning")),
        ({"hidden_size": 768}, Described()),
    ],
)  # fmt: skip
def test_settings_of_other_versions(config, described):
    """SAELens before version 6 and 3, and transcoders, whose directions are those they put out."""
    assert describe(config) == described


VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def save_npz(path, **more):
    np.savez(path, coef=VECTORS, **more)
    return path.with_suffix(".npz")


def save_torch(path, values):
    torch.save(values, path)
    return path


def save_safetensors(path, tensors):
    from safetensors.torch import save_file

    save_file(tensors, path)
    return path


TENSOR = torch.from_numpy(VECTORS)
SAVED = {
    "npy": lambda path: np.save(path, VECTORS) or path.with_suffix(".npy"),
    "npy, big-endian": lambda path: (
        np.save(path, VECTORS.astype(">f8")) or path.with_suffix(".npy")
    ),
    "npz": save_npz,
    "tensor": lambda path: save_torch(path, TENSOR),
    "half a tensor's storage": lambda path: save_torch(path, torch.cat([TENSOR, TENSOR])[:6]),
    "parameter": lambda path: save_torch(path, nn.Parameter(TENSOR)),
    "one by name": lambda path: save_torch(path, {"directions": TENSOR, "step": 3}),
    "checkpoint": lambda path: save_torch(path, {"state_dict": {"W_dec": TENSOR}, "epoch": 1}),
    "safetensors": lambda path: save_safetensors(path, {"concepts": TENSOR}),
}  # fmt: skip


@pytest.mark.parametrize("saved", SAVED)
def test_arrays_in_files(tmp_path, saved):
    path = SAVED[saved](tmp_path / "some")
    dictionary = read_dictionary(path)
    np.testing.assert_array_equal(dictionary.directions.numpy(), VECTORS)
    assert (dictionary.format, dictionary.layer, dictionary.source) == ("array", None, path)
    assert dictionary.sha256 == read_dictionary(VECTORS).sha256
    assert dictionary.sha256 != read_dictionary(VECTORS[::-1].copy()).sha256
    assert dictionary.sha256 != read_dictionary(VECTORS.reshape(4, 6)).sha256
    path.unlink()  # the directions are no longer in it


def test_which_of_several_tensors(tmp_path):
    tensors = {
        "first.W_dec": TENSOR,
        "first.decoder.weight": TENSOR.T.contiguous(),
        "b": TENSOR[0].clone(),
    }
    for path in (
        save_safetensors(tmp_path / "some.safetensors", tensors),
        save_torch(tmp_path / "some.pt", tensors),
    ):
        with pytest.raises(ValueError, match=r"no tensor that is known to .* first\.W_dec, first"):
            read_dictionary(path)
        for name in ("first.W_dec", "first.decoder.weight"):
            read = read_dictionary(path, name=name)
            np.testing.assert_array_equal(read.directions.numpy(), VECTORS)
        np.testing.assert_array_equal(read_dictionary(path, name="b").directions, VECTORS[:1])
        with pytest.raises(ValueError, match=r"no tensor 'c'; there are .*first\.W_dec"):
            read_dictionary(path, name="c")
    path = save_npz(tmp_path / "some", weights=VECTORS[:2])
    assert len(read_dictionary(path, name="weights")) == 2
    with pytest.raises(ValueError, match="has 0 arrays of directions; expected one, named other"):
        read_dictionary(path, name="other")


def test_names_in_a_file(tmp_path):
    names = ["a", "b", "c", "d", "e", "f"]
    path = save_npz(tmp_path / "named", names=names)
    assert read_dictionary(path).names == tuple(names)
    path = save_npz(tmp_path / "named", names=names[1:])
    with pytest.raises(ValueError, match=f"{path}: there are 5 names for 6 directions"):
        read_dictionary(path)


class Concepts:
    def get_dictionary(self):
        return TENSOR


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 6), nn.Linear(6, 4)


def test_objects_in_memory():
    """`make_fixtures.py` reads those of the libraries."""
    for source, made_by in (
        (Concepts(), "overcomplete"),
        (TENSOR.double().requires_grad_(), "array"),
        (VECTORS, "array"),
        ({"W_dec": TENSOR, "b_dec": TENSOR[0]}, "array"),
    ):
        dictionary = read_dictionary(source)
        np.testing.assert_array_equal(dictionary.directions.numpy(), VECTORS)
        assert (dictionary.format, dictionary.source) == (made_by, None)
        assert not dictionary.directions.requires_grad
    module = Decoder()
    directions = read_dictionary(module).directions
    assert torch.equal(directions, module.decoder.weight.T)
    module.decoder.weight.data.zero_()  # the dictionary is another
    assert directions.any()
    assert read_dictionary(dictionary) is dictionary
    for other in (3, None, [[1.0]]):
        with pytest.raises(TypeError, match="a dictionary is read from a path, an array"):
            read_dictionary(other)


def test_some_of_the_directions():
    dictionary = read_dictionary(VECTORS)
    assert repr(dictionary) == "Dictionary(6 directions of 4, array)"
    some = dictionary.select([4, -6])
    np.testing.assert_array_equal(some.directions.numpy(), VECTORS[[4, 0]])
    assert some.names == ("4", "0")
    named = Dictionary(TENSOR, names=tuple("abcdef"))
    assert named.select(np.array([5])).names == ("f",)
    turned = Dictionary(TENSOR.T)
    assert turned.sha256 == read_dictionary(VECTORS.T.copy()).sha256
    with pytest.raises(ValueError, match=r"shape \(4,\) and torch.float32; expected \(N, C\)"):
        Dictionary(TENSOR[0])
    for wrong in (6, -7):
        with pytest.raises(IndexError, match=f"no direction {wrong}; expected 0 to 5"):
            dictionary.select([wrong])
