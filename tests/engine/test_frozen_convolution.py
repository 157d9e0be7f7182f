import functools
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.ops.winograd import has_winograd_kernel

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
WAYS = [(torch.contiguous_format, False), (torch.channels_last, True)]
ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6}


class Case:
    """A convolution, images and a gradient of its output."""

    def __init__(
        self, inputs=3, outputs=5, kernel=3, stride=1, padding=0, dilation=1, groups=1,
        size=(11, 14), bias=True, activation="none", seed=0,
    ):  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        kernel, stride, padding, dilation = (
            (value, value) if isinstance(value, int) else value
            for value in (kernel, stride, padding, dilation)
        )
        self.settings = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups
        }  # fmt: skip
        self.activation = activation
        shape = (outputs, inputs // groups, *kernel)
        scale = (shape[1] * kernel[0] * kernel[1]) ** -0.5
        # With values around 3, all of ReLU6's three parts are in use.
        self.weight = 3 * scale * torch.randn(shape, generator=generator)
        self.bias = torch.randn(outputs, generator=generator) + 2 if bias else None
        self.images = torch.randn(2, inputs, *size, generator=generator)
        self.gradient = torch.randn(self.plain(torch.float32)[0].shape, generator=generator)

    def plain(self, dtype, memory_format=torch.contiguous_format):
        """Output and gradient of torch's own operations, on values rounded to bfloat16."""
        images = self.rounded(self.images, dtype).contiguous(memory_format=memory_format)
        images.requires_grad_()
        weight = self.rounded(self.weight, dtype).contiguous(memory_format=memory_format)
        bias = None if self.bias is None else self.rounded(self.bias, dtype)
        output = ACTIVATIONS[self.activation](F.conv2d(images, weight, bias, **self.settings))
        if not hasattr(self, "gradient"):
            return (output.detach(),)
        (gradient,) = torch.autograd.grad(output, images, self.rounded(self.gradient, dtype))
        return output.detach(), gradient

    @staticmethod
    def rounded(tensor, dtype):
        # All precisions start from the same values.
        return tensor.bfloat16().to(dtype)

    def frozen(self, dtype, memory_format=torch.contiguous_format, *, owns_gradient=False):
        weight = self.rounded(self.weight, dtype).contiguous(memory_format=memory_format)
        bias = None if self.bias is None else self.rounded(self.bias, dtype)
        return FrozenConvolution(
            weight, bias, **self.settings, activation=self.activation, owns_gradient=owns_gradient
        )

    def run(self, dtype, memory_format=torch.contiguous_format, *, owns_gradient=False):
        convolution = self.frozen(dtype, memory_format, owns_gradient=owns_gradient)
        images = self.rounded(self.images, dtype).contiguous(memory_format=memory_format)
        images.requires_grad_()
        output = convolution(images)
        kept = output.detach().clone()
        arriving = self.rounded(self.gradient, dtype).contiguous(memory_format=memory_format)
        before = arriving.clone()
        (gradient,) = torch.autograd.grad(output, images, arriving)
        if not owns_gradient:
            assert torch.equal(arriving, before)
        assert torch.equal(output.detach(), kept)
        assert gradient.shape == images.shape
        assert gradient.dtype == dtype
        return kept, gradient

    def check(self, dtypes=(torch.float32, torch.bfloat16)):
        exact = self.plain(torch.float64)
        for dtype, (memory_format, owns_gradient) in itertools.product(dtypes, WAYS):
            theirs = self.plain(dtype, memory_format)
            ours = self.run(dtype, memory_format, owns_gradient=owns_gradient)
            for mine, its, right in zip(ours, theirs, exact, strict=True):
                assert_as_exact(mine, its, right)


def assert_as_exact(mine, its, right):
    """At most twice torch's own error in the same type.

    Besides one rounding of the largest value: where few terms are added up, torch's own result may
    be exact by luck.
    """
    scale = float(right.abs().max())
    own = float((its.double() - right).abs().max())
    error = float((mine.double() - right).abs().max())
    assert error <= 2 * own + torch.finfo(mine.dtype).eps * scale


STRIDES_KERNELS = [
    *itertools.product((1, 2, 3, 4), (1, 2, 3, 5, 7)),
    (16, 16),
]


@pytest.mark.parametrize(("stride", "kernel"), STRIDES_KERNELS)
@pytest.mark.parametrize("inputs", [3, 6])
def test_strides_and_kernels(inputs, stride, kernel):
    size = (32, 37) if kernel == 16 else (13, 16)
    paddings = (0, 5) if kernel == 16 else range(4)
    for padding in paddings:
        Case(inputs, kernel=kernel, stride=stride, padding=padding, size=size).check()


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(7, 7), (8, 9), (10, 11)])
def test_few_channels_with_strides(inputs, size):
    """Includes sizes whose last pixels no output reads."""
    windows = zip(((1, 4), (2, 3), (3, 2), (4, 4), (5, 3)), itertools.cycle(ACTIVATIONS))
    for (kernel, stride), activation in windows:
        Case(inputs, kernel=kernel, stride=stride, size=size, activation=activation).check()


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": (1, 3), "stride": (1, 2), "padding": (0, 1)},
        {"kernel": (5, 2), "stride": (3, 1), "padding": (2, 0)},
        {"kernel": (2, 7), "stride": (2, 3), "padding": (0, 3)},
        {"kernel": (3, 1), "stride": (1, 1), "padding": (1, 3)},
        {"dilation": 2},
        {"dilation": 2, "stride": 2, "padding": 2},
        {"dilation": (1, 2), "stride": (2, 1), "padding": (1, 2), "kernel": (3, 2)},
        {"groups": 3},
        {"groups": 3, "stride": 2, "padding": 1},
        {"groups": 2, "inputs": 4, "outputs": 8, "stride": 2},
        {"bias": False},
        {"bias": False, "stride": 2},
    ],
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_other_settings(settings, activation):
    inputs = settings.pop("inputs", 6 if settings.get("groups") else 3)
    outputs = settings.pop("outputs", 6)
    Case(inputs, outputs, activation=activation, **settings).check()
    settings.update(inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise(stride, activation, multiplier):
    for kernel, padding in ((3, 1), (5, 2), (3, 0), ((3, 5), (0, 2))):
        Case(
            6, 6 * multiplier, kernel=kernel, stride=stride, padding=padding, groups=6,
            activation=activation,
        ).check()  # fmt: skip


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize("size", [(9, 9), (10, 13), (11, 12)])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_depthwise_backward_pass_by_a_forward_pass(stride, size, memory_format):
    """On its own, this is only used on processors with matrix units."""
    memory_format = FORMATS[memory_format]
    for kernel, padding, dilation in itertools.product(((3, 3), (5, 2)), (0, 1), (1, 2)):
        case = Case(
            8, 8, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=8,
            size=size,
        )  # fmt: skip
        _, exact = case.plain(torch.float64)
        for dtype in (torch.float32, torch.bfloat16):
            _, theirs = case.plain(dtype, memory_format)
            arriving = case.rounded(case.gradient, dtype).contiguous(memory_format=memory_format)
            before = arriving.clone()
            mine = case.frozen(dtype, memory_format)._backward_by_forward(
                arriving, case.images.shape
            )
            assert torch.equal(arriving, before)
            assert_as_exact(mine, theirs, exact)


class Watched(TorchDispatchMode):
    """Notes the shape of what each call of an operation is given first."""

    def __init__(self, operation):
        super().__init__()
        self._operation = operation
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is self._operation:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("has_units", [False, True])
def test_a_processor_with_matrix_units_takes_that_way(monkeypatch, has_units):
    """In bfloat16, of which it has no other kind of backward pass then."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_units, raising=False)

    def is_taken(**settings):
        case = Case(**settings)
        frozen = case.frozen(torch.bfloat16)
        gradient = case.rounded(case.gradient, torch.bfloat16)
        with Watched(torch.ops.aten.convolution_backward.default) as backward:
            frozen.backward(gradient, case.images.shape)
        return not backward.shapes

    assert is_taken(inputs=6, outputs=6, groups=6, padding=1) is has_units
    assert not is_taken(inputs=6, outputs=6, groups=6, padding=3)  # wider than the kernel reaches
    assert not is_taken(inputs=6, outputs=6, groups=2)
    assert not is_taken(inputs=1, outputs=1)
    Case(6, 6, groups=6, padding=1, activation="relu6").check()


@pytest.fixture
def winograd_shapes():
    """The shapes of the images that the Winograd convolution is called with."""
    if not has_winograd_kernel(torch.zeros(1)):
        pytest.skip("there is no kernel for this processor")
    with Watched(torch.ops.fvfast.winograd_convolution.default) as convolutions:
        yield convolutions.shapes


@pytest.mark.parametrize("padding", [0, 1, 2, (0, 2)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_winograd(padding, activation, winograd_shapes):
    for bias, channels in itertools.product((True, False), ((40, 48), (64, 31))):
        winograd_shapes.clear()
        Case(*channels, padding=padding, activation=activation, bias=bias).check()
        # Only with channels last: forward, and back.
        assert [shape[1] for shape in winograd_shapes] == list(channels)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 3},
        {"kernel": 5, "padding": 2},
        {"kernel": (3, 1)},
        {"stride": (1, 2)},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"outputs": 8},
        {"inputs": 16},
    ],
)
def test_other_convolutions_do_not_use_winograd(settings, winograd_shapes):
    Case(**{"inputs": 40, "outputs": 40, **settings}).check()
    assert not winograd_shapes


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_term_with_winograd(activation, winograd_shapes):
    case = Case(40, 48, padding=1, activation=activation)
    term = torch.randn_like(case.gradient)

    def run(convolve, dtype):
        last = {"dtype": dtype, "memory_format": torch.channels_last}
        images = case.images.bfloat16().to(**last).requires_grad_()
        added = term.bfloat16().to(**last).requires_grad_()
        output = convolve(images, added)
        gradients = torch.autograd.grad(output, (images, added), case.gradient.to(**last))
        return output.detach(), *gradients

    def plain(dtype):
        weight, bias = (case.rounded(t, dtype) for t in (case.weight, case.bias))
        convolve = functools.partial(F.conv2d, weight=weight, bias=bias, padding=1)
        return run(lambda images, added: ACTIVATIONS[activation](convolve(images) + added), dtype)

    ours = run(case.frozen(torch.float32, torch.channels_last), torch.float32)
    assert len(winograd_shapes) == 2
    for mine, its, right in zip(ours, plain(torch.float32), plain(torch.float64), strict=True):
        assert_as_exact(mine, its, right)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("inputs", [3, 8])
def test_only_a_gradient_of_its_own_is_overwritten(activation, inputs):
    case = Case(inputs, stride=2, activation=activation)
    for owns_gradient in (False, True):
        convolution = case.frozen(torch.float32, owns_gradient=owns_gradient)
        output = convolution.forward(case.images)
        gradient = torch.ones_like(output)
        through = convolution.through_activation(gradient, output)
        assert (through.data_ptr() == gradient.data_ptr()) == owns_gradient
        assert bool((gradient == 1).all()) != owns_gradient


@pytest.mark.parametrize("owns_gradient", [False, True])
def test_gradients_in_other_memory_formats(owns_gradient):
    """Means and sums send gradients whose elements share memory: they are never written to."""
    case = Case(8, activation="relu")
    exact = case.frozen(torch.float32)
    images = case.images.clone().requires_grad_()
    output = exact(images)
    dense = torch.full_like(output, 0.5)
    (expected,) = torch.autograd.grad(output, images, dense)
    shared = torch.tensor(0.5).expand(output.shape)
    last = dense.contiguous(memory_format=torch.channels_last)
    for arriving in (shared, last):
        output = case.frozen(torch.float32, owns_gradient=owns_gradient)(images)
        (gradient,) = torch.autograd.grad(output, images, arriving)
        torch.testing.assert_close(gradient, expected)
    assert float(shared[0, 0, 0, 0]) == 0.5
    assert bool((last == 0.5).all())


def test_float64_and_float16_run_too():
    case = Case(4, activation="relu", padding=1)
    case.check(dtypes=(torch.float64, torch.float16))


def test_without_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    Case(6, activation="relu6", padding=1).check()


def test_images_of_another_type_are_cast_and_their_gradient_cast_back():
    case = Case(activation="relu")
    images = case.images.clone().requires_grad_()
    output = case.frozen(torch.bfloat16)(images)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert images.grad.dtype == torch.float32


def test_an_empty_batch():
    case = Case(activation="relu")
    images = case.images[:0].clone().requires_grad_()
    output = case.frozen(torch.float32)(images)
    output.sum().backward()
    assert images.grad.shape == images.shape
