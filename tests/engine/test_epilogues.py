"""Bias, sum and activation of convolutions by fvfast's kernel, or by cuDNN in one call."""

import contextlib
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from emulated import emulated
from engine.test_frozen_convolution import ACTIVATIONS, FORMATS, Case, assert_as_exact
from selection import short_for
from torch import nn

from benchmarks.epilogue_traffic import EpilogueTraffic, epilogue_traffic
from fvfast.engine.rewrite.epilogues import Epilogue, describe_epilogues
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution

BACKENDS = ["processor", "emulated random"]
SETTINGS = [
    {"kernel": 3, "padding": 1},
    {"kernel": 1, "outputs": 8},
    {"kernel": (1, 3), "stride": (1, 2), "padding": (0, 1)},
    {"stride": 2, "size": (7, 7), "outputs": 16},
    {"inputs": 6, "outputs": 6, "groups": 6, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"bias": False},
]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The processor's kernel, and the kernel of a GPU."""
    running = contextlib.nullcontext() if request.param == "processor" else emulated(request.param)
    with running:
        yield


class Finished(Case):
    """A case whose convolution is finished by fvfast's kernel."""

    def frozen(self, *args, **kwargs):
        return dataclasses.replace(super().frozen(*args, **kwargs), epilogue=Epilogue("fvfast"))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("activation", short_for(["relu6"], ACTIVATIONS))
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_forward_and_back(settings, activation):
    Finished(**settings, activation=activation).check(dtypes=(torch.float32,))


def mask_of(output, activation):
    """Where the activation passes a gradient on."""
    below = output < 6 if activation == "relu6" else True
    return torch.ones_like(output) if activation == "none" else ((output > 0) & below).to(output)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("activation", short_for(["relu6"], ACTIVATIONS))
@pytest.mark.parametrize("settings", short_for([0, 4], range(len(SETTINGS))))
def test_sixteen_bits(settings, activation, dtype):
    """The mask is that of the rounded output: near 0, the rounding of the convolution decides."""
    case = Finished(**SETTINGS[settings], activation=activation)
    exact, *_ = case.plain(torch.float64)
    plain = Case(**SETTINGS[settings])
    for memory_format in FORMATS.values():
        output, gradient = case.run(dtype, memory_format)
        assert_as_exact(output, case.plain(dtype, memory_format)[0], exact)
        plain.gradient = case.rounded(case.gradient, dtype) * mask_of(output, activation)
        _, its = plain.plain(dtype, memory_format)
        _, right = plain.plain(torch.float64)
        assert_as_exact(gradient, its, right)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_sum_with_a_shortcut(activation, memory_format, dtype):
    case = Case(outputs=8, padding=1, activation=activation)
    term = torch.randn(case.gradient.shape, generator=torch.Generator().manual_seed(1))

    def run(convolve, dtype):
        images, shortcut = (
            case.rounded(one, dtype).contiguous(memory_format=memory_format).requires_grad_()
            for one in (case.images, term)
        )
        output = convolve(images, shortcut)
        arriving = case.rounded(case.gradient, dtype).contiguous(memory_format=memory_format)
        return [output.detach(), *torch.autograd.grad(output, (images, shortcut), arriving)]

    def separate(images, shortcut):
        weight, bias = (case.rounded(one, images.dtype) for one in (case.weight, case.bias))
        convolved = F.conv2d(images, weight, bias, **case.settings)
        return ACTIVATIONS[activation](convolved + shortcut)

    frozen = dataclasses.replace(
        case.frozen(dtype, memory_format), adds=True, epilogue=Epilogue("fvfast")
    )
    compared = [run(frozen, dtype), run(separate, dtype), run(separate, torch.float64)]
    if dtype != torch.float32:
        compared = [results[:1] for results in compared]  # near 0, roundings decide the mask
    for mine, its, right in zip(*compared, strict=True):
        assert_as_exact(mine, its, right)


@contextlib.contextmanager
def cudnn_on_the_processor(convolve):
    """Let a function stand in for cuDNN's fused calls, which a processor has not got."""
    library = torch.library.Library("aten", "IMPL")
    library.impl(
        "cudnn_convolution_relu", lambda *given: convolve(*given[:2], None, *given[2:]), "CPU"
    )
    library.impl(
        "cudnn_convolution_add_relu",
        lambda images, weight, term, alpha, *given: convolve(images, weight, alpha * term, *given),
        "CPU",
    )
    try:
        yield
    finally:
        library._destroy()


class Cudnn:
    """Computes what cuDNN's fused calls do, and counts the calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images, weight, term, bias, stride, padding, dilation, groups):
        self.calls += 1
        output = F.conv2d(images, weight, bias, stride, padding, dilation, groups)
        return (output if term is None else output + term).relu()


CONVOLUTION = FrozenConvolution(
    torch.randn(4, 3, 3, 2, generator=torch.Generator().manual_seed(0)),
    torch.randn(4, generator=torch.Generator().manual_seed(1)),
    stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=1, activation="relu",
    epilogue=Epilogue("cudnn", (2, 3, 9, 8)),
)  # fmt: skip


def images_of(*shape, seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("adds", [True, False])
def test_cudnns_calls_get_the_arguments_of_the_convolution(adds):
    images = images_of(2, 3, 9, 8)
    term = images_of(*CONVOLUTION.output_shape(images), seed=3) if adds else None
    separate = dataclasses.replace(CONVOLUTION, epilogue=Epilogue())
    cudnn = Cudnn()
    with cudnn_on_the_processor(cudnn):
        torch.testing.assert_close(CONVOLUTION(images, term), separate(images, term))
    assert cudnn.calls == 1


@pytest.mark.parametrize("shape", [(1, 3, 9, 8), (2, 3, 9, 9)])
def test_cudnn_gets_no_images_of_a_shape_that_was_not_timed(shape):
    images, cudnn = images_of(*shape), Cudnn()
    separate = dataclasses.replace(CONVOLUTION, epilogue=Epilogue())
    with cudnn_on_the_processor(cudnn):
        torch.testing.assert_close(CONVOLUTION(images), separate(images))
    assert cudnn.calls == 0


@pytest.mark.parametrize("activation", ["none", "relu6"])
def test_cudnn_applies_no_relu_that_is_left_to_the_network(activation):
    images, cudnn = images_of(2, 3, 9, 8), Cudnn()
    asked = dataclasses.replace(CONVOLUTION, activation=activation)
    separate = dataclasses.replace(asked, epilogue=Epilogue())
    with cudnn_on_the_processor(cudnn):
        torch.testing.assert_close(asked(images), separate(images))
    assert cudnn.calls == 0


def test_the_traffic_of_epilogues_follows_from_the_shapes():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),  # 4 x 6 x 6
        nn.Conv2d(4, 5, 1, bias=False), nn.ReLU(),  # 5 x 6 x 6
        nn.Conv2d(5, 6, 6), nn.Conv2d(6, 7, 1, bias=False),  # 6, and 7 without an epilogue
    )  # fmt: skip
    found = epilogue_traffic(network, views=10, size=8, item=2)
    first, second, third = (20 * count for count in (4 * 36, 5 * 36, 6))
    assert found == EpilogueTraffic(
        epilogues=3,
        separate=4 * first + 2 * second + 2 * third,
        fused=2 * (first + second + third),
    )


def test_a_sum_reads_the_other_term():
    assert EpilogueTraffic().with_one(10, bias=True, adds=True, clamps=True) == EpilogueTraffic(
        epilogues=1, separate=70, fused=30
    )
    assert EpilogueTraffic().with_one(10, bias=False, adds=False, clamps=False).epilogues == 0


def test_epilogues_are_counted_for_people():
    kinds = ["fvfast", "cudnn", "fvfast", "separate", "fvfast"]
    epilogues = [*(Epilogue(kind) for kind in kinds), None]
    assert describe_epilogues(epilogues) == "3 fused by fvfast, 1 by cuDNN, 1 separate"
