"""Pyramid to image and back: the kernels against the reference in float64."""

import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from selection import short_for, thorough

from fvfast.ops import pyramid_to_image
from fvfast.ops._kernels import kernels_for, native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.phase_cuda import colors_of
from fvfast.ops.reference.pyramid import (
    level_weights,
    pyramid_sizes,
    pyramid_to_image_reference,
    sum_of_levels,
)

DTYPES = [torch.float32, torch.float64]
RANGE = (-1.0, 2.0)
GAIN = 2.0
SIZES = short_for(
    [(1, 1), (3, 2), (5, 7), (31, 97), (64, 130)],
    [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (5, 7), (31, 97), (97, 31), (32, 128), (64, 130),
     (16, 65), (17, 64)],
)  # fmt: skip
needs_native = pytest.mark.skipif(
    not native_status().available, reason="the native module is not built"
)


def normal(*shape, seed=0):
    generator = torch.Generator("cpu").manual_seed(seed)
    numbers = torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu")
    return numbers.to(torch.get_default_device(), torch.float32)


def elements_of(size):
    return sum(height * width for height, width in pyramid_sizes(*size))


def pyramid_of(images, channels, size):
    """Levels that add up to sums of about one deviation, in which no sigmoid is saturated."""
    return normal(images, channels, elements_of(size)) / math.sqrt(len(pyramid_sizes(*size)))


def cotangent_of(images, channels, size):
    return normal(images, channels, *size, seed=1)


def kernels(pyramid, size, levels=None, values_range=RANGE, gain=GAIN):
    return pyramid_to_image(pyramid, size, values_range, levels=levels, gain=gain)


def reference(pyramid, size, levels=None, values_range=RANGE, gain=GAIN):
    levels = len(pyramid_sizes(*size)) if levels is None else levels
    return pyramid_to_image_reference(pyramid, size, levels, *values_range, gain)


def image_and_gradient(function, pyramid, cotangent, size, *settings):
    pyramid = pyramid.detach().requires_grad_()
    image = function(pyramid, size, *settings)
    return image.detach(), *torch.autograd.grad(image, pyramid, cotangent)


def largest(tensor):
    return tensor.abs().max().item() if tensor.numel() else 0.0


def by_level(gradient, size):
    return gradient.split([height * width for height, width in pyramid_sizes(*size)], dim=2)


@functools.cache
def image_tolerance(dtype, channels, size):
    """Twice the largest error of the reference in this type, over more numbers than a test has."""
    images = max(8, 2**13 // math.prod(size))
    with torch.device("cpu"):
        pyramid = pyramid_of(images, channels, size)
        exact = reference(pyramid.double(), size)
        if dtype == torch.float64:
            # Twenty roundings, of the levels, the colors and the sigmoid.
            return 20 * torch.finfo(dtype).eps * largest(exact)
        return 2 * largest(reference(pyramid, size).double() - exact)


def levels_allowed(gradient, exact, cotangent, size):
    """The gradients of each level, those that are exact, and how much they may differ.

    The rounding of a sum grows as the root of the number of its terms; and the slopes of the
    sigmoid have an error as large as the image's.
    """
    limit = image_tolerance(gradient.dtype, gradient.shape[1], size)
    slope_error = 8 * torch.finfo(gradient.dtype).eps + 4 * limit / (RANGE[1] - RANGE[0])
    per_term = slope_error * GAIN * largest(cotangent)
    pairs = zip(by_level(gradient, size), by_level(exact, size), strict=True)
    for (ours, right), own in zip(pairs, pyramid_sizes(*size), strict=True):
        terms = 4 * math.prod(size) / math.prod(own)
        yield ours, right, per_term * (1 + 2 * math.sqrt(terms))


def assert_right(actual, pyramid, cotangent, size, levels=None):
    expected = image_and_gradient(reference, pyramid.double(), cotangent.double(), size, levels)
    image, gradient = actual
    assert image.dtype == gradient.dtype == pyramid.dtype
    assert image.shape == expected[0].shape
    assert gradient.shape == pyramid.shape
    limit = image_tolerance(pyramid.dtype, *image.shape[1:2], size)
    assert largest(image.double() - expected[0]) <= limit
    for ours, exact, allowed in levels_allowed(gradient, expected[1], cotangent, size):
        assert largest(ours.double() - exact) <= allowed, exact.shape


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, thorough(2), 3, thorough(4)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size(dtype, channels, height, width):
    size = (height, width)
    pyramid, cotangent = pyramid_of(2, channels, size), cotangent_of(2, channels, size)
    pyramid, cotangent = pyramid.to(dtype), cotangent.to(dtype)
    actual = image_and_gradient(kernels, pyramid, cotangent, size)
    assert_right(actual, pyramid, cotangent, size)


@pytest.mark.parametrize(
    ("images", "channels", "size"),
    [
        (5, 3, (224, 225)),
        thorough(1, 3, (512, 512)),
        (1, 1, (512, 97)),
        (1, 1, (3, 1000)),  # more columns than a warp's element has tiles
        (1, 1, (1500, 1)),
        thorough(3, 2, (257, 129)),
    ],
)
def test_batches_and_large_images(images, channels, size):
    pyramid, cotangent = pyramid_of(images, channels, size), cotangent_of(images, channels, size)
    actual = image_and_gradient(kernels, pyramid, cotangent, size)
    assert_right(actual, pyramid, cotangent, size)
    alone = image_and_gradient(kernels, pyramid[-1:], cotangent[-1:], size)
    for one, many in zip(alone, actual, strict=True):
        assert torch.equal(one[0], many[-1])


@pytest.mark.compiled
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 70), (70, 40)])
def test_every_number_of_levels(channels, size):
    """Levels that take no part may hold anything, and have a gradient of 0."""
    pyramid, cotangent = pyramid_of(2, channels, size), cotangent_of(2, channels, size)
    count = len(pyramid_sizes(*size))
    for levels in range(1, count + 1):
        begin = sum(math.prod(own) for own in pyramid_sizes(*size)[:levels])
        given = pyramid.clone()
        given[..., begin:] = math.nan
        actual = image_and_gradient(kernels, given, cotangent, size, levels)
        assert_right(actual, pyramid, cotangent, size, levels)
        assert torch.equal(actual[1][..., begin:], torch.zeros_like(actual[1][..., begin:]))


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_kernels_of_every_type(dtype, channels):
    size = (33, 70)
    pyramid = pyramid_of(1, channels, size).to(dtype)
    cotangent = cotangent_of(1, channels, size).to(dtype)
    actual = image_and_gradient(kernels, pyramid, cotangent, size)
    assert_right(actual, pyramid, cotangent, size)


@pytest.mark.cpu_only
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 31, 100])
def test_levels_are_resampled_as_torch_does(length):
    """A level has pixel centers at half integers: ``align_corners=False``."""
    for size in range(1, length + 1):
        level = normal(1, 1, size).double()
        expected = F.interpolate(level, size=length, mode="linear", align_corners=False)
        weights = level_weights(length, size, level)
        torch.testing.assert_close(weights @ level[0, 0], expected[0, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.cpu_only
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 8), (12, 15), (33, 129)])
def test_levels_are_halved_and_enlarged(size):
    sizes = pyramid_sizes(*size)
    assert sizes[0] == (1, 1)
    assert sizes[-1] == size
    for coarse, fine in itertools.pairwise(sizes):
        assert coarse == ((fine[0] + 1) // 2, (fine[1] + 1) // 2)
    pyramid = normal(2, elements_of(size)).double()
    parts = pyramid.split([math.prod(own) for own in sizes], dim=1)
    expected = sum(
        F.interpolate(part.view(2, 1, *own), size=size, mode="bilinear", align_corners=False)
        for part, own in zip(parts, sizes, strict=True)
    )
    torch.testing.assert_close(sum_of_levels(pyramid, size), expected[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_images(dtype):
    pyramid = torch.empty(0, 3, elements_of((8, 5)), dtype=dtype, requires_grad=True)
    image = kernels(pyramid, (8, 5))
    assert image.shape == (0, 3, 8, 5)
    assert image.dtype == dtype
    image.sum().backward()
    assert pyramid.grad.shape == pyramid.shape


@pytest.mark.parametrize("name", ["sliced", "permuted", "expanded", "offset"])
def test_strides(name):
    size = (9, 12)
    pyramid = pyramid_of(4, 3, size)
    if name == "sliced":
        pyramid = torch.stack((pyramid, pyramid), -1).flatten(2)[..., ::2]
    elif name == "permuted":
        pyramid = pyramid.permute(0, 2, 1).contiguous().permute(0, 2, 1)
    elif name == "expanded":
        pyramid = pyramid[:1].expand(4, -1, -1)
    else:
        pyramid = pyramid[1:]
    cotangent = normal(len(pyramid), *size, 3).permute(0, 3, 1, 2)
    actual = image_and_gradient(kernels, pyramid, cotangent, size)
    expected = image_and_gradient(kernels, pyramid.contiguous(), cotangent.contiguous(), size)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.cpu_only
@needs_native
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "size"), [(3, (160, 300)), (2, (97, 31)), (1, (700, 3))])
def test_any_number_of_threads_gives_the_same_bits(dtype, channels, size):
    pyramid = pyramid_of(2, channels, size).to(dtype)
    cotangent = cotangent_of(2, channels, size).to(dtype)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            results.append(image_and_gradient(kernels, pyramid, cotangent, size))
    finally:
        torch.set_num_threads(threads)
    assert largest(results[0][1]) > 0
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("values_range", [(0.0, 1.0), (0.0, 255.0), (-2.5, -1.0), (1000.0, 1001.0)])
@pytest.mark.parametrize("gain", [1.0, 0.25, -3.0, 0.0])
def test_ranges_and_gains(values_range, gain):
    size = (12, 20)
    pyramid, cotangent = pyramid_of(2, 3, size), cotangent_of(2, 3, size)
    settings = (size, None, values_range, gain)
    actual = image_and_gradient(kernels, pyramid, cotangent, *settings)
    exact, single = (
        image_and_gradient(reference, pyramid.to(dtype), cotangent.to(dtype), *settings)
        for dtype in (torch.float64, torch.float32)
    )
    # The reference may be exact by luck: a rounding of the largest value besides.
    for values, expected, rounded in zip(actual, exact, single, strict=True):
        limit = 2 * largest(rounded - expected)
        assert largest(values - expected) <= limit + 1.2e-7 * largest(expected)


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("channels", [1, 3])
def test_saturated_and_special_values(channels):
    size = (6, 9)
    pyramid = pyramid_of(4, channels, size)
    pyramid[1, 0, 0] = math.nan
    pyramid[2, :, 0] = 1e4
    pyramid[3, :, 0] = -1e4
    image, gradient = image_and_gradient(kernels, pyramid, cotangent_of(4, channels, size), size)
    assert image[1].isnan().any()
    assert gradient[1].isnan().any()
    for values in (image, gradient):
        assert values[[0, 2, 3]].isfinite().all()
    assert torch.isin(image[2:], torch.tensor(RANGE)).all()
    assert largest(gradient[2:]) == 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 5), (5, 2)])
@pytest.mark.parametrize("levels", [None, 1])
def test_gradcheck(channels, size, levels):
    pyramid = pyramid_of(2, channels, size).double().requires_grad_()

    def image(pyramid):
        return kernels(pyramid, size, levels)

    assert torch.autograd.gradcheck(image, pyramid, fast_mode=True)
    assert torch.autograd.gradgradcheck(image, pyramid, fast_mode=True)


@pytest.mark.parametrize("dtype", short_for([torch.float32], DTYPES), ids=str)
def test_opcheck(dtype):
    size = (8, 7)
    pyramid = pyramid_of(2, 3, size).to(dtype)
    for levels in (2, 4):
        arguments = (pyramid, *size, levels, *RANGE, GAIN)
        torch.library.opcheck(torch.ops.fvfast.pyramid_to_image.default, arguments)
        image = torch.ops.fvfast.pyramid_to_image(*arguments)
        arguments = (cotangent_of(2, 3, size).to(dtype), image, levels, *RANGE, GAIN)
        torch.library.opcheck(torch.ops.fvfast.pyramid_to_image_backward.default, arguments)


@pytest.mark.thorough
@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("gradient", [False, True])
def test_compiles_without_graph_breaks(gradient):
    size = (8, 9)
    pyramid = pyramid_of(2, 3, size).requires_grad_(gradient)

    def doubled(pyramid):
        return 2 * kernels(pyramid * 1.0, size)

    torch._dynamo.reset()
    image = torch.compile(doubled, fullgraph=True)(pyramid)
    assert torch.equal(image, doubled(pyramid))
    if gradient:
        cotangent = cotangent_of(2, 3, size)
        (compiled,) = torch.autograd.grad(image, pyramid, cotangent)
        (eager,) = torch.autograd.grad(doubled(pyramid), pyramid, cotangent)
        assert torch.equal(compiled, eager)


GOOD = {"pyramid": torch.ones(2, 3, 57), "size": (8, 5), "values_range": (0.0, 1.0)}


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("error", "argument", "got", "change"),
    [
        (TypeError, "pyramid", "list", {"pyramid": [1.0]}),
        (TypeError, "pyramid", "torch.float16", {"pyramid": torch.ones(2, 3, 57).half()}),
        (ValueError, "pyramid", r"\(2, 3, 56\)", {"pyramid": torch.ones(2, 3, 56)}),
        (ValueError, "pyramid", r"\(2, 0, 57\)", {"pyramid": torch.ones(2, 0, 57)}),
        (ValueError, "pyramid", r"\(3, 57\)", {"pyramid": torch.ones(3, 57)}),
        (ValueError, "size", r"\(8,\)", {"size": (8,)}),
        (ValueError, "height", "0", {"size": (0, 5)}),
        (ValueError, "width", "32769", {"size": (8, 32769)}),
        (ValueError, "levels", "0", {"levels": 0}),
        (ValueError, "levels", "5", {"levels": 5}),
        (ValueError, "values_range", r"\(0.0,\)", {"values_range": (0.0,)}),
        (ValueError, "low, high", r"\(1.0, 0.0\)", {"values_range": (1.0, 0.0)}),
        (ValueError, "low, high", "nan", {"values_range": (0.0, math.nan)}),
        (ValueError, "gain", "inf", {"gain": math.inf}),
    ],
)
def test_bad_arguments_are_named(error, argument, got, change):
    pyramid_to_image(**GOOD)
    with pytest.raises(error, match=rf"pyramid_to_image\(\): {argument}: expected .*{got}"):
        pyramid_to_image(**{**GOOD, **change})


BAD = [
    ("sizes", {"sizes": [1, 3, 4]}),
    ("sizes", {"sizes": [-1, 3, 4, 4]}),
    ("sizes", {"sizes": [1, 3, 0, 4]}),
    ("sizes", {"sizes": [1, 3, 4, 32769]}),
    ("sizes", {"sizes": [2**30, 3, 2**15, 2**15]}),
    ("dtype", {"dtype": "float16"}),
    ("levels", {"levels": 0}),
    ("levels", {"levels": 4}),
    ("gain", {"gain": math.nan}),
    ("low", {"low": math.nan}),
    ("high", {"high": 0.0}),
    ("colors", {"colors": [[1.0]]}),
    ("colors", {"sizes": [1, 2, 4, 4]}),
]


@pytest.mark.cpu_only
@needs_native
@pytest.mark.parametrize(
    ("function", "addresses"),
    [
        ("pyramid_image", ["pyramid", "image"]),
        ("pyramid_gradient", ["gradient", "image", "out", "scratch"]),
    ],
)
def test_native_module_checks_for_itself(function, addresses):
    memory = torch.zeros(len(addresses), 4096, dtype=torch.float64)
    good = {
        "sizes": [1, 3, 4, 4], "dtype": "float32", "levels": 3, "low": 0.0, "high": 1.0,
        "gain": 2.0, "colors": colors_of(3), "target": None,
    }  # fmt: skip
    good |= {name: buffer(row) for name, row in zip(addresses, memory, strict=True)}
    bad = [*BAD, *((address, {address: (0, 4096)}) for address in addresses)]
    bad += [(address, {address: (64, 3)}) for address in addresses]
    getattr(native(), function)(**good)
    for argument, change in bad:
        with pytest.raises(ValueError, match=rf"{function}\(\): {argument}: expected .*, got"):
            getattr(native(), function)(**{**good, **change})


def test_scratch_is_as_small_as_a_fraction_of_the_image():
    """The parts of the gradient are what its traffic has besides the image and the pyramid."""
    found = kernels_for(torch.get_default_device())
    if found is None:
        pytest.skip("the reference needs none")
    scratch = found.module.pyramid_gradient_scratch(
        dtype="float32", sizes=[1, 3, 512, 512], levels=10, target=found.target
    )
    assert 0 < scratch < 0.6 * 4 * 3 * 512 * 512
