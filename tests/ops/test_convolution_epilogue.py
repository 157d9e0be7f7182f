"""The epilogue of a convolution: the kernels against float64, rounded once.

In float32 a sum of three numbers has two roundings, in the order of torch's own calls. So the
results have the bits of the reference, on every back end.
"""

import ctypes
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from selection import short_for, short_where

from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer
from fvfast.ops.convolution_epilogue import convolution_epilogue_
from fvfast.ops.reference.convolution_epilogue import convolution_epilogue_reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FORMATS = [torch.contiguous_format, torch.channels_last]
LIMITS = [None, (0.0, math.inf), (0.0, 6.0)]
# One element; a pack and less; packs that begin in any channel; planes longer and shorter than a
# pack; several blocks; channels that are whole packs.
SHAPES = [
    "1 1 1 1", "1 3 1 1", "2 5 1 3", "1 2 2 2", "3 7 5 9", "2 8 4 4", "2 16 7 7", "1 24 13 11",
    "2 40 1 1", "1 1 31 33", "2 33 15 17",
]  # fmt: skip
SHORT = ["1 1 1 1", "2 5 1 3", "3 7 5 9", "2 16 7 7"]


def normal(*shape, seed=0, dtype=torch.float32, memory_format=torch.contiguous_format):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    numbers = 3 * torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    memory = {"memory_format": memory_format} if len(shape) == 4 else {}
    return numbers.to(torch.get_default_device(), dtype).contiguous(**memory)


def arguments_of(shape, dtype, memory_format=torch.contiguous_format):
    """An output, a bias and a term, in the range where all parts of ReLU6 are in use."""
    output, term = (
        normal(*shape, seed=seed, dtype=dtype, memory_format=memory_format) for seed in (0, 1)
    )
    return output, normal(shape[1], seed=2, dtype=dtype), term


def exact_epilogue(output, bias, term, limits):
    """The result in float64."""
    doubled = [None if one is None else one.double() for one in (output, bias, term)]
    return convolution_epilogue_reference(*doubled, limits)


def tolerance(output, bias, term):
    """Half an ulp of the largest result, and an ulp of the arithmetic for the partial sums."""
    largest = sum(one.abs().max().item() for one in (output, bias, term) if one is not None)
    arithmetic = torch.float64 if output.dtype == torch.float64 else torch.float32
    return (torch.finfo(output.dtype).eps / 2 + torch.finfo(arithmetic).eps) * largest


def assert_right(actual, output, bias, term, limits):
    exact = exact_epilogue(output, bias, term, limits)
    assert (actual.double() - exact).abs().max() <= tolerance(output, bias, term)
    assert torch.equal(actual, convolution_epilogue_reference(output, bias, term, limits))


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", short_for(SHORT, SHAPES))
def test_shapes_types_and_formats(sizes, dtype, memory_format):
    shape = tuple(map(int, sizes.split()))
    output, bias, term = arguments_of(shape, dtype, memory_format)
    before, strides = output.clone(), output.stride()
    assert convolution_epilogue_(output, bias, term=term, limits=(0.0, 6.0)) is output
    assert output.stride() == strides
    assert_right(output, before, bias, term, (0.0, 6.0))


WAYS = list(itertools.product((True, False), (True, False), LIMITS))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("has_bias", "has_term", "limits"), short_where(lambda way: way[0] != way[1], WAYS)
)
def test_every_combination(has_bias, has_term, limits, dtype, memory_format):
    output, bias, term = arguments_of((2, 11, 6, 5), dtype, memory_format)
    bias, term = bias if has_bias else None, term if has_term else None
    before = output.clone()
    convolution_epilogue_(output, bias, term=term, limits=limits)
    assert_right(output, before, bias, term, limits)
    if not has_bias and not has_term and limits is None:
        assert torch.equal(output, before)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_float32_has_the_bits_of_separate_calls(memory_format):
    output, bias, term = arguments_of((2, 16, 9, 7), torch.float32, memory_format)
    separate = output.clone().add_(bias[:, None, None]).add_(term).relu_()
    convolution_epilogue_(output, bias, term=term, limits=(0.0, math.inf))
    assert torch.equal(output, separate)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_are_rounded_once(dtype):
    """1 plus two of the smallest halves of its last bit: separate calls would lose both."""
    half = torch.finfo(dtype).eps / 2
    output = torch.ones(1, 8, 2, 2, dtype=dtype)
    bias, term = torch.full((8,), half, dtype=dtype), torch.full_like(output, half)
    assert torch.equal(output + bias[:, None, None] + term, output)
    convolution_epilogue_(output, bias, term=term)
    assert torch.equal(output, torch.full_like(output, 1 + 2 * half))


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("limits", LIMITS)
def test_what_is_not_finite(dtype, limits):
    """NaN stays NaN, as in torch's relu, and infinities end at the limits."""
    values = [math.nan, math.inf, -math.inf, 7.0, -1.0, 3.0, -0.0, 0.0, math.nan, 2.0]
    output = torch.tensor(values, dtype=dtype).view(1, 2, 1, 5)
    expected = output if limits is None else output.clamp(*limits)
    actual = convolution_epilogue_(output.clone(), limits=limits)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
    if limits == (0.0, math.inf):
        torch.testing.assert_close(actual, F.relu(output), rtol=0, atol=0, equal_nan=True)


def test_infinities_of_opposite_signs_are_nan():
    output = torch.full((1, 4, 1, 1), math.inf)
    assert convolution_epilogue_(output, torch.full((4,), -math.inf)).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("formats", list(itertools.permutations(FORMATS)), ids=str)
def test_a_term_in_another_memory_format(formats, dtype):
    output, bias, term = arguments_of((2, 5, 6, 7), dtype, formats[0])
    term = term.contiguous(memory_format=formats[1])
    before = output.clone()
    convolution_epilogue_(output, bias, term=term, limits=(0.0, 6.0))
    assert_right(output, before, bias, term, (0.0, 6.0))


VIEWS = {
    "sliced": lambda x: x[:, 1:, ::2, 1:],
    "permuted": lambda x: x.permute(3, 2, 0, 1),
    "every second element": lambda x: x[..., ::2],
}


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_any_strides_and_nothing_else_is_written(name, memory_format):
    view = VIEWS[name]
    base = normal(3, 6, 5, 8, memory_format=memory_format)
    before, written = base.clone(), torch.zeros(base.shape).copy_(base)
    output, term = view(base), view(normal(3, 6, 5, 8, seed=1))
    bias = normal(2 * output.shape[1], seed=2)[::2]
    expected = convolution_epilogue_reference(output, bias, term, (0.0, 6.0))
    convolution_epilogue_(output, bias, term=term, limits=(0.0, 6.0))
    assert torch.equal(output, expected)
    view(written).fill_(math.inf)
    assert torch.equal(base[written != math.inf], before[written != math.inf])


@pytest.mark.compiled
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("which", ["output", "term", "bias"])
def test_memory_that_is_not_aligned_to_16_bytes(which, dtype, memory_format):
    def shifted(tensor):
        memory = torch.zeros(tensor.numel() + 1, dtype=dtype)[1:]
        return memory.as_strided(tensor.shape, tensor.stride(), 1).copy_(tensor)

    given = dict(
        zip(
            ("output", "bias", "term"),
            arguments_of((2, 8, 3, 5), dtype, memory_format),
            strict=True,
        )
    )
    given[which] = shifted(given[which])
    assert given[which].data_ptr() % 16
    output, before = given["output"], given["output"].clone()
    convolution_epilogue_(output, given["bias"], term=given["term"], limits=(0.0, 6.0))
    assert_right(output, before, given["bias"], given["term"], (0.0, 6.0))


SMALL_DEVICE = 21  # of the emulator; no other test asks for its multiprocessors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_more_elements_than_threads(dtype):
    """Threads go on to other packs, in other channels: also beyond the last channel."""
    kernels = kernels_for(torch.get_default_device())
    if kernels is None or kernels.target != (0, 0):
        pytest.skip("the emulator can have as few threads")
    library = ctypes.CDLL(kernels.module.__file__)
    library.cuda_emulator_set_multiprocessors(SMALL_DEVICE, 1)
    library.cuda_emulator_set_device_count(SMALL_DEVICE + 1)
    try:
        for shape in ((5, 37, 11, 29), (2, 3001, 3, 3), (1, 2, 151, 97)):
            output, bias, term = arguments_of(shape, dtype, torch.channels_last)
            pixels, channels = shape[0] * shape[2] * shape[3], shape[1]
            # The same memory, as that of images with channels last and of contiguous ones.
            for sizes in ((pixels, channels, 1), (shape[0], channels, pixels // shape[0])):
                biases = bias.repeat_interleave(sizes[2]).repeat(sizes[0])
                flat = [one.permute(0, 2, 3, 1).flatten() for one in (output, term)]
                finished = flat[0].clone()
                kernels.module.convolution_epilogue(
                    output=buffer(finished), bias=buffer(bias), term=buffer(flat[1]),
                    dtype=str(dtype).removeprefix("torch."), sizes=sizes, limits=(0.0, 6.0),
                    target=(SMALL_DEVICE, 0),
                )  # fmt: skip
                wide = torch.float64 if dtype == torch.float64 else torch.float32
                exact = flat[0].to(wide) + biases.to(wide) + flat[1].to(wide)
                assert torch.equal(finished, exact.clamp(0.0, 6.0).to(dtype)), (shape, sizes)
    finally:
        library.cuda_emulator_set_device_count(1)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4)])
def test_empty(shape):
    output = torch.empty(shape)
    bias, term = torch.empty(shape[1]), torch.empty(shape)
    assert convolution_epilogue_(output, bias, term=term).shape == shape


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype, memory_format):
    output, bias, term = arguments_of((2, 3, 4, 5), dtype, memory_format)
    operation = torch.ops.fvfast.convolution_epilogue_.default
    for given in ((output, bias, term, (0.0, 6.0)), (output, None, None, None)):
        torch.library.opcheck(operation, given)


@pytest.mark.cpu_only
def test_the_native_function_refuses_more_elements_than_it_can_count():
    kernels = kernels_for(torch.device("cpu"))
    if kernels is None:
        pytest.skip("the native module is not built")
    nowhere = {"output": (0, 0), "bias": (0, 0), "term": (0, 0)}
    with pytest.raises(
        ValueError, match=r"convolution_epilogue\(\): sizes: expected at most 2\^48"
    ):
        kernels.module.convolution_epilogue(
            **nowhere, dtype="float32", sizes=(2**20, 2**20, 2**20), limits=None, target=None
        )
