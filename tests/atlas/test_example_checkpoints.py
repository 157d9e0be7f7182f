"""A pass over images that was interrupted goes on where it was, with the same result."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from example_images import SIDE, convolutions, pictures, write_folder
from torch import nn

from fvfast.atlas.examples import dataset_examples

IMAGES = pictures(40)


def examples_of(images, model=None, **settings):
    return dataset_examples(
        model or convolutions(), "2", images, input_shape=(3, SIDE, SIDE), progress=False,
        **{"k": 4, "batch_size": 8, **settings},
    )  # fmt: skip


class _Interrupting:
    """Images, with a function that is called before a certain one."""

    def __init__(self, images, number, call):
        self.images, self.number, self.call = images, number, call

    def __iter__(self):
        for number, image in enumerate(self.images):
            if number == self.number:
                self.call()
            yield image, number % 3, f"picture {number}"


def press_control_c():
    os.kill(os.getpid(), signal.SIGINT)


def fail():
    raise RuntimeError("the disk is gone")


def nothing():
    pass


@pytest.mark.parametrize("every", [1, 16, 1000])
def test_after_an_error_the_next_call_goes_on(tmp_path, every):
    path = tmp_path / "kept.npz"
    whole = list(examples_of(_Interrupting(IMAGES, 0, nothing)))
    with pytest.raises(RuntimeError, match="the disk is gone"):
        examples_of(_Interrupting(IMAGES, 29, fail), checkpoint=path, checkpoint_every=every)
    assert path.exists()
    resumed = examples_of(_Interrupting(IMAGES, 0, nothing), checkpoint=path)
    assert list(resumed) == whole
    assert resumed.images == 40


def test_control_c_keeps_the_result(tmp_path):
    path = tmp_path / "kept.npz"
    whole = list(examples_of(_Interrupting(IMAGES, 0, nothing)))
    with pytest.warns(RuntimeWarning, match=r"interrupted after \d+ images: .* keeps them to go"):
        part = examples_of(_Interrupting(IMAGES, 33, press_control_c), checkpoint=path)
    assert part.interrupted
    assert "interrupted" in repr(part)
    assert 0 < part.images < 40
    assert part.images % 8 == 0
    exact = examples_of(IMAGES[: part.images])
    assert [[one.image for one in unit.top] for unit in part] == [
        [one.image for one in unit.top] for unit in exact
    ]
    assert part.crops(part[0])
    resumed = examples_of(_Interrupting(IMAGES, 0, nothing), checkpoint=path)
    assert not resumed.interrupted
    assert list(resumed) == whole
    assert list(examples_of(_Interrupting(IMAGES, 0, nothing), checkpoint=path)) == whole


def test_an_iterator_goes_on_with_its_pictures(tmp_path):
    """An iterator is read once, so the checkpoint keeps the pictures of the best images."""
    path = tmp_path / "kept.npz"
    whole = examples_of(iter(IMAGES))
    with pytest.raises(RuntimeError):
        examples_of(iter(_Interrupting(IMAGES, 29, fail)), checkpoint=path, checkpoint_every=8)
    # The listing of a generator is its type.
    resumed = examples_of(iter(_Interrupting(IMAGES, 0, nothing)), checkpoint=path)
    for unit, other in zip(resumed, whole, strict=True):
        assert [one.image for one in unit.top] == [one.image for one in other.top]
        for crop, expected in zip(resumed.crops(unit), whole.crops(other), strict=True):
            assert np.array_equal(np.array(crop), np.array(expected))


def test_unreadable_images_stay_counted(tmp_path):
    folder, path = tmp_path / "images", tmp_path / "kept.npz"
    write_folder(folder, IMAGES)
    (folder / "a.png").write_text("no image")
    with pytest.warns(UserWarning, match="1 of 41 images"):
        whole = examples_of(folder, checkpoint=path)
    with pytest.warns(UserWarning, match="1 of 41 images"):
        again = examples_of(folder, checkpoint=path)
    assert (again.images, again.unreadable) == (40, 1)
    assert again.named_unreadable == whole.named_unreadable
    assert list(again) == list(whole)


def _other_network():
    model = convolutions()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-3
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": _other_network()}, "other network"),
        ({"k": 5}, "other settings"),
        ({"values_range": (0, 1)}, "other settings"),
        ({"preprocess": nn.Identity()}, "other settings"),
        ({"images": IMAGES[:39]}, "other images"),
        ({"images": [(image, "a label") for image in IMAGES]}, "other images"),
        ({"images": IMAGES[:39], "model": _other_network()}, "other network and images"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, change, message):
    path = tmp_path / "kept.npz"
    examples_of(IMAGES, checkpoint=path)
    before = path.read_bytes()
    settings = {"images": IMAGES, "checkpoint": path, **change}
    with pytest.raises(ValueError, match=f"kept.npz does not fit: it was made with {message}"):
        examples_of(**settings)
    assert path.read_bytes() == before


def test_a_checkpoint_may_go_on_with_another_batch_size(tmp_path):
    path = tmp_path / "kept.npz"
    whole = examples_of(IMAGES, batch_size=5)
    with pytest.raises(RuntimeError):
        examples_of(_Interrupting(IMAGES, 29, fail), checkpoint=path, checkpoint_every=8)
    resumed = examples_of(_Interrupting(IMAGES, 0, nothing), checkpoint=path, batch_size=5)
    for unit, other in zip(resumed, whole, strict=True):
        assert [one.image for one in unit.top] == [one.image for one in other.top]
        assert unit.counts == other.counts


@pytest.mark.parametrize("damage", ["cut", "text", "other arrays"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "kept.npz"
    examples_of(IMAGES, checkpoint=path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("something else")
    else:
        np.savez(path, values=np.zeros(3))
    with pytest.raises(ValueError, match=r"kept\.npz.* (is damaged|does not fit)"):
        examples_of(IMAGES, checkpoint=path)


def test_a_checkpoint_cannot_be_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        examples_of(IMAGES, checkpoint=tmp_path)


_KILLED = """
    import os, sys
    sys.path.insert(0, {tests!r})
    from test_example_checkpoints import IMAGES, _Interrupting, examples_of
    examples_of(
        _Interrupting(IMAGES, 36, lambda: os.kill(os.getpid(), 9)),
        checkpoint={path!r}, checkpoint_every=1,
    )
"""


@pytest.mark.thorough
def test_a_process_that_is_killed(tmp_path):
    path = tmp_path / "kept.npz"
    code = textwrap.dedent(_KILLED.format(tests=os.path.dirname(__file__), path=str(path)))
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    resumed = examples_of(_Interrupting(IMAGES, 0, nothing), checkpoint=path)
    assert list(resumed) == list(examples_of(_Interrupting(IMAGES, 0, nothing)))
