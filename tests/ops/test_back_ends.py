"""What the operations of all back ends have in common: the same numbers, steps in tensors."""

import pytest
import torch

from fvfast.ops import inject_noise, random_crops
from fvfast.ops._kernels import kernels_for, native, runs_on, use_emulated
from fvfast.ops._memory import buffer
from fvfast.ops.boxes import BoxDistribution, draw_boxes

KEY = {"seed": 0x1234_5678_9ABC_DEF0, "identities": [3, 2**32 - 1], "step": 7}


@pytest.fixture
def own_device():
    """The device of the back end; the native module of the CPU must be there to compare with."""
    if native() is None:
        pytest.skip("the native module is not built")
    return torch.get_default_device()


def on_cpu(function):
    """Call a function with the kernels of the CPU."""
    with torch.device("cpu"), use_emulated(None):
        return function(torch.device("cpu"))


@pytest.mark.compiled
@pytest.mark.parametrize("shape", ["normal", "uniform"])
@pytest.mark.parametrize("step", [0, 7, 2**32 - 1])
def test_boxes_have_the_same_bits(own_device, shape, step):
    def draw(device):
        return draw_boxes(
            0.3, 999, seed=KEY["seed"], identities=KEY["identities"], step=step,
            distribution=BoxDistribution(shape, 0.07), device=device,
        )  # fmt: skip

    assert torch.equal(draw(own_device).cpu(), on_cpu(draw))


@pytest.mark.compiled
def test_noise_has_the_same_random_integers(own_device):
    """Uniform noise on zeros is a random integer times a power of two: exact, so all bits count."""

    def noise(device):
        zeros = torch.zeros(2, 3, 31, 7, device=device)
        return inject_noise(zeros, 0.0, uniform_width=1.0, **KEY)

    expected = on_cpu(noise)
    assert expected.unique().numel() > 200  # of 256
    assert torch.equal(noise(own_device).cpu(), expected)


@pytest.mark.compiled
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("size", [(5, 7), (8, 12)])
def test_crops_have_the_same_random_integers(own_device, memory_format, size):
    def crops(device):
        images = torch.zeros(2, 3, 9, 9, device=device)
        boxes = torch.full((2, 4, 4), 0.5, device=device)
        return random_crops(
            images, boxes, size, std=0.0, uniform_width=1.0, memory_format=memory_format, **KEY
        )

    assert torch.equal(crops(own_device).cpu(), on_cpu(crops))


def test_a_step_may_lie_on_the_device():
    key = {**KEY, "step": torch.tensor(7)}
    images = torch.zeros(2, 3, 5, 7)
    boxes = draw_boxes(
        0.3, 4, seed=1, identities=KEY["identities"], step=torch.tensor([7]), device=images.device
    )
    expected = draw_boxes(
        0.3, 4, seed=1, identities=KEY["identities"], step=7, device=images.device
    )
    assert torch.equal(boxes, expected)
    assert torch.equal(inject_noise(images, 0.5, **key), inject_noise(images, 0.5, **KEY))
    crops = [random_crops(images, boxes, 5, std=0.5, **chosen) for chosen in (key, KEY)]
    assert torch.equal(*crops)
    assert crops[0].abs().max() > 0
    key["step"].add_(1)
    assert not torch.equal(inject_noise(images, 0.5, **key), inject_noise(images, 0.5, **KEY))


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    "step", [torch.tensor(7.0), torch.tensor([7, 8]), torch.tensor(7, dtype=torch.int32)]
)
def test_other_tensors_are_no_steps(step):
    with pytest.raises(ValueError, match=r"inject_noise\(\): step: expected .* got torch\."):
        inject_noise(torch.zeros(2, 3), 0.5, **{**KEY, "step": step})


def test_the_emulated_module_works_for_one_device_alone(backend):
    if not backend.startswith("emulated"):
        pytest.skip("about the emulated module")
    module = kernels_for(torch.device("cpu")).module
    with pytest.raises(RuntimeError, match=r"draw_boxes\(\): CUDA: invalid device ordinal"):
        module.draw_boxes(
            boxes=buffer(torch.zeros(1, 4)), crops=1, box_size=0.5, shape="normal", spread=0.0,
            center_spread=0.0, smallest=0.0, largest=1.0, identities=[0], seed=0, step=0,
            counter=(0, 0), box_size_table=None, identity_table=None, target=(1, 0),
        )  # fmt: skip


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((7, 5), "75;80", True),
        ((8, 9), "75;80;86", True),  # machine code of the same major version
        ((8, 0), "75;86", False),
        ((7, 0), "75;80", False),
        ((9, 0), "75;80", True),  # the newest is there as PTX
        ((12, 1), "80;120", True),
        ((9, 0), "80;100", False),
        ((9, 0), "", False),
        ((9, 0), "90a", True),  # the features of one architecture, without PTX
        ((9, 1), "90a", False),
        ((10, 0), "90a", False),
        ((10, 0), "80;90a", True),  # the newest that has PTX is 80
        ((7, 5), "80;90a", False),
        ((10, 3), "100f", True),  # those of a family
        ((10, 0), "103f", False),
        ((11, 0), "100f", False),
    ],
)
def test_what_a_device_can_run(capability, architectures, runs):
    assert runs_on(capability, architectures) == runs
