"""Winograd convolutions, against those of torch in float64."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.winograd import (
    PANEL,
    winograd_convolution,
    winograd_convolution_reference,
    winograd_weight,
)

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(not native_status().available, reason="the native module is not built"),
]

LAST = torch.channels_last


class Case:
    """A convolution and its images, in float64."""

    def __init__(
        self, inputs, outputs, size=(9, 10), *, batch=2, padding=(1, 1), bias=True, term=False,
        limits=None,
    ):  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        self.padding, self.limits = padding, limits

        # Values that float32 holds, so that all precisions start from the same.
        def normal(*shape):
            return torch.randn(shape, generator=generator).double()

        self.weight = normal(outputs, inputs, 3, 3)
        self.images = normal(batch, inputs, *size)
        self.bias = 3 * normal(outputs) if bias else None
        self.exact = F.conv2d(self.images, self.weight, self.bias, padding=padding)
        self.term = normal(*self.exact.shape) if term else None
        if term:
            self.exact = self.exact + self.term
        if limits is not None:
            self.exact = self.exact.clamp(*limits)

    def run(self, function, dtype=torch.float32):
        def cast(tensor):
            return None if tensor is None else tensor.to(dtype)

        return function(
            cast(self.images),
            winograd_weight(self.weight.to(dtype)),
            cast(self.bias),
            outputs=len(self.weight),
            padding=self.padding,
            term=cast(self.term),
            limits=self.limits,
        )

    def check(self):
        """At most twice the error of the reference in the same type.

        Besides one rounding of the largest value: the reference may be exact by luck.
        """
        ours = self.run(winograd_convolution)
        assert ours.is_contiguous(memory_format=LAST)
        assert ours.shape == self.exact.shape
        own = (self.run(winograd_convolution_reference) - self.exact).abs().max()
        error = (ours - self.exact).abs().max()
        largest = self.exact.abs().max()
        assert error <= 2 * own + torch.finfo(torch.float32).eps * largest
        return error


SIZES = [(1, 1), (1, 8), (2, 3), (3, 2), (5, 4), (7, 7), (16, 17), (31, 5)]
CHANNELS = [(1, 1), (3, 5), (15, 33), (16, 32), (17, 31), (64, 64), (70, 130)]


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_and_channels(channels, size):
    Case(*channels, size).check()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("padding", [*itertools.product(range(3), range(3))])
def test_paddings(padding):
    for size in ((3, 3), (4, 7), (12, 5)):
        Case(20, 40, size, padding=padding).check()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("limits", [None, (0, math.inf), (0, 6), (-2, -1)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("term", [True, False])
def test_what_comes_behind_the_convolution(limits, bias, term):
    # 5 is a multiple of no vector's length, 64 of each.
    for outputs in (5, 64):
        Case(18, outputs, (7, 6), bias=bias, term=term, limits=limits).check()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize(
    ("channels", "size", "batch"),
    [((64, 64), (33, 34), 5), ((520, 40), (7, 7), 9), ((300, 450), (9, 8), 12)],
)
def test_many_units(channels, size, batch):
    """Several blocks of tiles for each thread, also with weights too large for a cache."""
    Case(*channels, size, batch=batch).check()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, LAST])
@pytest.mark.parametrize(("inputs", "size"), [(64, 56), (256, 14), (512, 7)])
def test_is_as_exact_as_the_convolution_of_torch(inputs, size, memory_format):
    """At most twice its error, so that the engine may take it for the network's own."""
    case = Case(inputs, 64, (size, size))
    images, weight, bias = (t.float() for t in (case.images, case.weight, case.bias))
    theirs = F.conv2d(
        images.contiguous(memory_format=memory_format),
        weight.contiguous(memory_format=memory_format),
        bias,
        padding=1,
    )
    assert case.check() <= 2 * (theirs - case.exact).abs().max()


def test_the_reference_is_exact_in_float64():
    for channels, size in itertools.product([(3, 5), (33, 20)], SIZES):
        case = Case(*channels, size, term=True, limits=(-3, 3))
        ours = case.run(winograd_convolution_reference, torch.float64)
        torch.testing.assert_close(ours, case.exact, rtol=1e-13, atol=1e-12)


@pytest.mark.every_instruction_set
def test_images_and_threads_do_not_change_each_other():
    case = Case(70, 100, (13, 11), batch=7, term=True)
    weight = winograd_weight(case.weight.float())
    settings = {"outputs": 100, "padding": (1, 1)}
    images, term, bias = case.images.float(), case.term.float(), case.bias.float()

    def run(first, last):
        return winograd_convolution(
            images[first:last], weight, bias, term=term[first:last], **settings
        )

    whole = run(0, 7)
    assert torch.equal(whole, torch.cat([run(0, 2), run(2, 3), run(3, 7)]))
    before = torch.get_num_threads()
    try:
        for threads in (1, 3, 16):
            torch.set_num_threads(threads)
            assert torch.equal(run(0, 7), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.every_instruction_set
def test_strided_arguments():
    case = Case(6, 9, (8, 7), term=True)
    plain = case.run(winograd_convolution)
    case.images = case.images.repeat_interleave(2, dim=3)[..., ::2]
    case.term = case.term.mT.contiguous().mT
    case.bias = case.bias.repeat_interleave(3)[::3]
    assert torch.equal(case.run(winograd_convolution), plain)


@pytest.mark.every_instruction_set
@pytest.mark.parametrize(
    ("size", "padding"), [((0, 5), (2, 1)), ((5, 0), (1, 2)), ((0, 0), (2, 2))]
)
def test_images_without_pixels_are_their_padding(size, padding):
    case = Case(4, 40, padding=padding, term=True)
    case.images = case.images.new_empty(2, 4, *size)
    rows, columns = (length + 2 * pad - 2 for length, pad in zip(size, padding, strict=True))
    case.term = case.term[:, :, :1, :1].expand(2, 40, rows, columns)
    expected = (case.bias[:, None, None].float() + case.term.float()).float()
    assert torch.equal(case.run(winograd_convolution), expected)


@pytest.mark.every_instruction_set
def test_an_empty_batch_and_what_is_not_a_number():
    empty = Case(4, 8, batch=0).run(winograd_convolution)
    assert empty.shape == (0, 8, 9, 10)
    case = Case(4, 8, (6, 6), limits=(0, 6))
    case.images[0, 0, 0, 0] = math.nan
    output = case.run(winograd_convolution)
    assert output[0, :, 0, 0].isnan().all()
    assert output[0, :, 4:, 4:].isfinite().all()
    assert output[1].isfinite().all()


def test_other_types_take_the_reference():
    case = Case(4, 8)
    ours = case.run(winograd_convolution, torch.float64)
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, case.exact, rtol=1e-13, atol=1e-12)


def test_both_sides_lay_weights_out_alike():
    assert native().winograd_panel == PANEL


def test_defaults_of_the_program_do_not_matter():
    case = Case(5, 34)
    plain = case.run(winograd_convolution)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            other = case.run(winograd_convolution)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(other, plain)


NONE = (0, 0)
IMAGES, OUT, WEIGHT = torch.zeros(2, 5, 6, 4), torch.zeros(2, 5, 6, 8), torch.zeros(16 * 4 * 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (2, 5, 6)}, "sizes: expected 4"),
        ({"sizes": (2, -5, 6, 4)}, "sizes: expected sizes >= 0"),
        ({"sizes": (2, 5, 6, 0)}, "sizes: expected at least one input"),
        ({"sizes": (2, 0, 6, 4)}, "sizes: expected images of at least 3 x 3 pixels"),
        ({"sizes": (2**30, 2**30, 6, 4)}, "at most 2\\^48 elements"),
        ({"outputs": -1}, "outputs: expected a number >= 0, got -1"),
        ({"outputs": 2**47}, "at most 2\\^48 elements"),
        ({"outputs": 2**63 - 1}, "outputs: expected at most 2\\^48, got more"),
        ({"padding": (3, 1)}, "padding: expected 0 to 2, got 3"),
        ({"padding": (1, -1)}, "padding: expected 0 to 2, got -1"),
        ({"limits": (1.0, 0.0)}, "limits: expected a lower limit and an upper one"),
        ({"limits": (math.nan, 0.0)}, "limits: expected a lower limit and an upper one"),
        ({"images": NONE}, "images: expected an address"),
        ({"weights": NONE}, "weights: expected an address"),
        ({"out": NONE}, "out: expected an address"),
        ({"images": (IMAGES.data_ptr(), 239)}, "images: expected memory of 240 elements or more"),
        ({"weights": (WEIGHT.data_ptr(), 1)}, "weights: expected memory of 2048 elements or more"),
        ({"bias": (WEIGHT.data_ptr(), 7)}, "bias: expected memory of 8 elements or more, got 7"),
        ({"term": (WEIGHT.data_ptr(), 1)}, "term: expected memory of 480 elements or more"),
        ({"out": (OUT.data_ptr(), 479)}, "out: expected memory of 480 elements or more"),
        (
            {"out": (IMAGES.data_ptr(), OUT.numel())},
            "out: expected memory apart from that of images",
        ),
        (
            {"term": (OUT.data_ptr() + 4, OUT.numel())},
            "out: expected memory apart from that of term",
        ),
    ],
)
def test_the_module_checks_its_arguments(changes, message):
    arguments = {
        "images": buffer(IMAGES),
        "weights": buffer(WEIGHT),
        "bias": NONE,
        "term": NONE,
        "out": buffer(OUT),
        "sizes": (2, 5, 6, 4),
        "outputs": 8,
        "padding": (1, 1),
        "limits": None,
    }
    with pytest.raises(ValueError, match=message):
        native().winograd_convolution(**{**arguments, **changes})
