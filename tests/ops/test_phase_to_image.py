"""Phase to image and back: the kernels against the reference in float64."""

import functools
import math
import os
import subprocess
import sys

import pytest
import torch
from selection import short_for, thorough

from fvfast.ops import phase_to_image
from fvfast.ops._kernels import kernels_for, native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.phase_cuda import transform_fits
from fvfast.ops.reference.phase import (
    STANDARDIZATION_EPSILON,
    phase_to_image_reference,
    standardize,
)

DTYPES = [torch.float32, torch.float64]
RANGE = (-1.0, 2.0)
SIZES = short_for(
    [(2, 2), (3, 2), (5, 7), (31, 97), (225, 31)],
    [(2, 2), (2, 3), (3, 2), (2, 97), (5, 7), (7, 2), (31, 5), (31, 97), (97, 224), (225, 31)],
)
needs_native = pytest.mark.skipif(
    not native_status().available, reason="the native module is not built"
)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, dtype=torch.float64, generator=generator, device="cpu")
    return numbers.to(torch.get_default_device(), torch.float32)


def magnitude_of(channels, height, width):
    return normal(channels, height, width // 2 + 1, seed=1).abs() + 0.1


def phase_of(images, channels, height, width):
    """Return phases of which each has a mean and a deviation of its own."""
    scales = torch.arange(1.0, images + 1)[:, None, None, None]
    return scales * normal(images, channels, height, width // 2 + 1) + 0.3 * scales


def cotangent_of(images, channels, height, width):
    return normal(images, channels, height, width, seed=2)


def image_and_gradient(function, magnitude, phase, cotangent, width, **changes):
    phase = phase.detach().requires_grad_()
    image = function(magnitude, phase, width, **changes)
    return image.detach(), *torch.autograd.grad(image, phase, cotangent)


def kernels(magnitude, phase, width, values_range=RANGE, **changes):
    return phase_to_image(magnitude, phase, values_range, width, **changes)


def spectrum_of(magnitude, phase, width):
    """Half spectrum and statistics, of the kernels that leave the transform to torch."""
    found = kernels_for(phase.device)
    if found is None or found.target is None:
        return torch.ops.fvfast.phase_to_image(magnitude, phase, 0.0, 1.0, width, None)[1:]
    images, channels, height, _ = phase.shape
    common = {
        "dtype": str(phase.dtype).removeprefix("torch."),
        "sizes": [images, channels, height, width],
    }
    spectrum = torch.empty(phase.shape, dtype=torch.promote_types(phase.dtype, torch.complex64))
    statistics = torch.empty(images, 4, dtype=torch.float64)
    scratch = torch.empty(found.module.phase_image_scratch(**common), dtype=torch.uint8)
    found.module.cuda_phase_spectrum(
        magnitude=buffer(magnitude), phase=buffer(phase), phase_sums=(0, 0), sum_parts=0,
        spectrum=buffer(spectrum), statistics=buffer(statistics),
        scratch=buffer(scratch), epsilon=STANDARDIZATION_EPSILON, target=found.target, **common,
    )  # fmt: skip
    return spectrum, statistics


def reference(magnitude, phase, width, values_range=RANGE):
    return phase_to_image_reference(magnitude, phase, *values_range, width)


def reference_on_cpu(*tensors):
    """Image and gradient of the reference: the transforms of a GPU's library are no yardstick.

    cuFFT takes a column for symmetric that is not, if there is no other; and its errors, twice
    which are allowed, need not be those of the CPU.
    """
    *tensors, width = tensors
    device = torch.get_default_device()
    with torch.device("cpu"):
        found = image_and_gradient(reference, *(tensor.cpu() for tensor in tensors), width)
    return [tensor.to(device) for tensor in found]


def largest(tensor):
    return tensor.abs().max().item() if tensor.numel() else 0.0


@functools.cache
def tolerances(dtype, channels, height, width):
    """Twice the largest error of the reference in this type, of the image and of the gradient.

    Over more numbers than any test compares, because a few may be right by chance. float64 has no
    better reference; there the rounding of sums over P pixels grows as the root of P.
    """
    pixels = channels * height * width
    # The largest errors of long transforms scatter most.
    images = max(8, (2**16 if max(height, width) > 64 else 2**13) // pixels)
    shape = (images, channels, height, width)
    magnitude, cotangent = magnitude_of(channels, height, width), cotangent_of(*shape)
    phase = phase_of(*shape) / torch.arange(1.0, images + 1)[:, None, None, None]
    exact = reference_on_cpu(magnitude.double(), phase.double(), cotangent.double(), width)
    if dtype == torch.float64:
        eps = torch.finfo(dtype).eps
        return [eps * (32 + math.sqrt(pixels)) * largest(values) for values in exact]
    rounded = reference_on_cpu(magnitude, phase, cotangent, width)
    return [2 * largest(r.double() - e) for r, e in zip(rounded, exact, strict=True)]


def assert_right(actual, magnitude, phase, cotangent, width):
    expected = reference_on_cpu(magnitude.double(), phase.double(), cotangent.double(), width)
    limits = tolerances(phase.dtype, *actual[0].shape[1:])
    for name, values, exact, limit in zip(
        ("image", "gradient"), actual, expected, limits, strict=True
    ):
        assert values.dtype == phase.dtype
        assert values.shape == exact.shape
        assert largest(values.double() - exact) <= limit, name


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, thorough(2), 3, thorough(4)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size(dtype, channels, height, width):
    shape = (2, channels, height, width)
    data = [x.to(dtype) for x in (magnitude_of(*shape[1:]), phase_of(*shape), cotangent_of(*shape))]
    assert_right(image_and_gradient(kernels, *data, width), *data, width)


@pytest.mark.parametrize(
    ("images", "channels", "height", "width"),
    [
        thorough(1, 3, 512, 512),
        (5, 3, 224, 225),
        (5, 1, 97, 97),
        thorough(1, 3, 512, 97),
        (2, 3, 1, 1),
        (1, 3, 3, 1),
    ],
)
def test_batches_and_large_images(images, channels, height, width):
    shape = (images, channels, height, width)
    data = magnitude_of(*shape[1:]), phase_of(*shape), cotangent_of(*shape)
    actual = image_and_gradient(kernels, *data, width)
    assert_right(actual, *data, width)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("images", "height", "width"),
    [(1, 6, 700), (1, 6, 2100), (2, 300, 6), (2, 672, 6)],
    ids=["8 columns", "16 columns", "8 rows", "16 rows"],
)
def test_blocks_of_many_lanes(images, height, width):
    """CUDA blocks are this wide where an image has many columns, or a batch many rows."""
    data = magnitude_of(3, height, width), phase_of(images, 3, height, width)
    cotangent = cotangent_of(images, 3, height, width)
    batch = image_and_gradient(kernels, *data, cotangent, width)
    assert_right(batch, *data, cotangent, width)
    found = kernels_for(torch.get_default_device())
    if found is None or found.target is None:
        return  # on the CPU torch transforms, a batch as it likes
    alone = image_and_gradient(kernels, data[0], data[1][-1:], cotangent[-1:], width)
    for one, many in zip(alone, batch, strict=True):
        assert torch.equal(one[0], many[-1])


LENGTHS = [
    *range(2, 65),
    *(97, 100, 125, 224, 225, 243, 256, 343, 384, 512, 640, 1000, 1024, 1280, 2048, 4096),
]
# Powers and products of each radix, lengths with another factor, and the longest.
SHORT_LENGTHS = [*range(2, 17), 22, 25, 27, 49, 60, 64, 97, 224, 243, 343, 1000, 4096]


def has_most_shared_memory(backend):
    """Whether a block may have 227 KiB, which the longest transforms need."""
    if backend == "cuda":
        return torch.cuda.get_device_properties().shared_memory_per_block_optin >= 227 * 1024
    return backend != "ptx 80"


@pytest.mark.compiled
@pytest.mark.parametrize("length", short_for(SHORT_LENGTHS, LENGTHS))
def test_every_length_of_a_transform(length, backend):
    """Along the columns and along the rows; long ones with few of the others."""
    other = 6 if length <= 512 else 2
    rest = length
    for prime in (2, 3, 5, 7):
        while rest % prime == 0:
            rest //= prime
    for height, width in ((length, other), (other, length)):
        for channels in (3, 1):
            shape = (2, channels, height, width)
            data = (magnitude_of(*shape[1:]), phase_of(*shape), cotangent_of(*shape))
            assert_right(image_and_gradient(kernels, *data, width), *data, width)
            found = kernels_for(torch.get_default_device())
            if found is not None and found.target is not None:
                fits = transform_fits(found, shape, torch.float32)
                if rest > 1 or length > 4096 or has_most_shared_memory(backend):
                    assert fits == (rest == 1 and length <= 4096)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_images(dtype):
    phase = torch.empty(0, 3, 8, 5, dtype=dtype, requires_grad=True)
    image = kernels(magnitude_of(3, 8, 8).to(dtype), phase, 8)
    assert image.shape == (0, 3, 8, 8)
    assert image.dtype == dtype
    image.sum().backward()
    assert phase.grad.shape == phase.shape


@pytest.mark.parametrize("name", ["sliced", "permuted", "expanded", "offset"])
def test_strides(name):
    magnitude, phase = magnitude_of(3, 31, 16), phase_of(4, 3, 31, 16)
    if name == "sliced":
        phase = normal(4, 3, 31, 18)[..., ::2]
    elif name == "permuted":
        phase = phase.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        magnitude = magnitude.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    elif name == "expanded":
        phase, magnitude = phase[:1].expand(4, -1, -1, -1), magnitude[:1].expand(3, -1, -1)
    else:
        phase = phase[1:]
    cotangent = cotangent_of(len(phase), 31, 16, 3).permute(0, 3, 1, 2)
    actual = image_and_gradient(kernels, magnitude, phase, cotangent, 16)
    plain = [tensor.contiguous() for tensor in (magnitude, phase, cotangent)]
    expected = image_and_gradient(kernels, *plain, 16)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 128, 128), (5, 2, 31, 97), (2, 3, 5, 7)])
def test_any_number_of_threads_gives_the_same_bits(dtype, shape):
    """With the transforms on one thread: those are torch's."""
    module = native()
    if module is None:
        pytest.skip("the native module is not built")
    images, channels, height, width = shape
    magnitude, phase = magnitude_of(*shape[1:]).to(dtype), phase_of(*shape).to(dtype)
    gradient, threads, results = cotangent_of(*shape).to(dtype), torch.get_num_threads(), []
    common = {"sizes": shape, "dtype": str(dtype).removeprefix("torch.")}
    colors = [[0.5, 0.25, 0.0], [0.0, 1.0, 2.0], [3.0, 0.0, 1.0]] if channels == 3 else []
    look = {"low": -1.0, "high": 2.0, "colors": colors, "target": None}
    for count in (1, 2, 3):
        spectrum = torch.zeros(phase.shape, dtype=torch.promote_types(dtype, torch.complex64))
        statistics = torch.zeros(images, 4, dtype=torch.float64)
        scratch = torch.zeros(images, module.SUM_PARTS, module.SUMS_PER_PART, dtype=torch.float64)
        plain, out = torch.zeros_like(gradient), torch.zeros_like(phase)

        def threaded(function, count=count, **arguments):
            torch.set_num_threads(count)
            try:
                addresses = {
                    name: buffer(value) if isinstance(value, torch.Tensor) else value
                    for name, value in arguments.items()
                }
                function(**addresses)
            finally:
                torch.set_num_threads(1)

        epsilon = STANDARDIZATION_EPSILON
        try:
            threaded(
                module.phase_spectrum, magnitude=magnitude, phase=phase, phase_sums=(0, 0),
                spectrum=spectrum, statistics=statistics, scratch=scratch, epsilon=epsilon,
                **common,
            )  # fmt: skip
            torch.set_num_threads(1)
            image = torch.fft.irfft2(spectrum, s=(height, width)).contiguous()
            threaded(
                module.spectrum_image, image=image, statistics=statistics, epsilon=epsilon,
                **look, **common,
            )  # fmt: skip
            threaded(
                module.spectrum_image_gradient, gradient=gradient, image=image, out=plain,
                **look, **common,
            )  # fmt: skip
            transform = torch.fft.rfft2(plain).contiguous()
            threaded(
                module.phase_gradient, transform=transform, spectrum=spectrum, phase=phase,
                statistics=statistics, out=out, scratch=scratch, epsilon=epsilon, **common,
            )  # fmt: skip
        finally:
            torch.set_num_threads(threads)
        results.append((spectrum, statistics, image, plain, out))
    assert largest(results[0][-1]) > 0
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


def test_an_image_alone_equals_itself_in_a_batch():
    magnitude, phase, cotangent = (
        magnitude_of(3, 31, 97), phase_of(5, 3, 31, 97), cotangent_of(5, 3, 31, 97)
    )  # fmt: skip
    batch = image_and_gradient(kernels, magnitude, phase, cotangent, 97)
    limits = tolerances(torch.float32, 3, 31, 97)
    for index in range(5):
        alone = image_and_gradient(
            kernels, magnitude, phase[index][None], cotangent[index][None], 97
        )
        # torch's transform of a batch may add up in another order than that of one image.
        for one, many, limit in zip(alone, batch, limits, strict=True):
            assert largest(one[0] - many[index]) <= limit


@pytest.mark.compiled
@needs_native
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, thorough(4)])
@pytest.mark.parametrize(("height", "width"), [*SIZES, (3, 1), (1, 4)])
def test_statistics_are_those_of_the_phase_and_of_the_image(dtype, channels, height, width):
    magnitude = magnitude_of(channels, height, width).to(dtype)
    magnitude[:, 0, 0] = 3  # a mean that is not 0
    phase = phase_of(2, channels, height, width).to(dtype)
    spectrum, statistics = spectrum_of(magnitude, phase, width)
    plain = torch.fft.irfft2(spectrum.to("cpu", torch.complex128), s=(height, width))
    plain = plain.to(spectrum.device).flatten(1)
    flat = phase.double().flatten(1)
    expected = torch.stack(
        (flat.mean(1), flat.std(1, correction=0), plain.mean(1), plain.std(1, correction=0)), 1
    )
    # The inner columns' energy is that of the magnitude, not that of the rounded spectrum.
    eps = torch.finfo(dtype).eps
    rounding = 2 * eps if dtype == torch.float32 else eps * (32 + math.sqrt(plain.shape[1]))
    fused = torch.ops.fvfast.phase_to_image(magnitude, phase, 0.0, 1.0, width, None)[2]
    for actual in (statistics, fused):
        torch.testing.assert_close(actual, expected, rtol=rounding, atol=1e-15)


@pytest.mark.parametrize("mean", [0.0, 1e3, -1e6])
def test_a_phase_far_from_zero(mean):
    """The spacing of float32 numbers at 1e6 is 0.06: what is left of the phase is used exactly."""
    phase = normal(1, 3, 31, 9) + mean
    magnitude, cotangent = magnitude_of(3, 31, 16), cotangent_of(1, 3, 31, 16)
    actual = image_and_gradient(kernels, magnitude, phase, cotangent, 16)
    assert_right(actual, magnitude, phase, cotangent, 16)


@pytest.mark.every_instruction_set
def test_outliers_reach_large_angles():
    """One value among P reaches sqrt(P - 1) deviations; their sines must still be right."""
    phase = torch.zeros(1, 1, 512, 257)
    phase[0, 0, 5, 7] = 1e6
    phase[0, 0, 6, 8] = -1.7e5
    magnitude = magnitude_of(1, 512, 512)
    spectrum, _ = spectrum_of(magnitude, phase, 512)
    angles = standardize(phase.double())
    assert largest(angles) > 350
    expected = torch.polar(magnitude.double().expand_as(phase), angles)
    # Each product and each sine is good to an ulp.
    assert ((spectrum - expected).abs() <= 4 * 2**-24 * magnitude.double()).all()


@pytest.mark.every_instruction_set
def test_whole_turns_change_nothing():
    """Adding 2 pi to standardized phases, with the statistics of the old ones."""
    phase = standardize(normal(1, 3, 31, 49).double())
    generator = torch.Generator().manual_seed(3)
    turns = torch.randint(-3, 4, phase.shape, generator=generator, device="cpu").to(phase)
    count = phase.numel()
    squares = count * (1 - STANDARDIZATION_EPSILON) ** 2
    sums = torch.tensor([[[0.0, squares]]], dtype=torch.float64)
    magnitude = magnitude_of(3, 31, 97).double()
    image = kernels(magnitude, phase, 97, phase_sums=sums)
    turned = kernels(magnitude, phase + 2 * math.pi * turns, 97, phase_sums=sums)
    # 6 pi has a spacing of 2^-48, and the sum rounds once more: so much each of the angles may err,
    # times the slope of a pixel, at most its largest value in deviations.
    assert largest(turned - image) <= 2**-47 * math.sqrt(image.numel())
    assert largest(turned - kernels(magnitude, phase + 0.1 * turns, 97)) > 0.1


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_given_sums_are_used(dtype):
    magnitude, phase = magnitude_of(3, 31, 97).to(dtype), phase_of(2, 3, 31, 97).to(dtype)
    cotangent = cotangent_of(2, 3, 31, 97).to(dtype)
    flat = phase.double().flatten(1)
    sums = torch.stack((flat.sum(1), flat.square().sum(1)), dim=1)[:, None]
    given = image_and_gradient(kernels, magnitude, phase, cotangent, 97, phase_sums=sums)
    assert_right(given, magnitude, phase, cotangent, 97)
    if native() is not None:
        other = kernels(magnitude, phase, 97, phase_sums=4 * sums)
        assert largest(other - given[0]) > 0.01


@pytest.mark.parametrize("values_range", [(0.0, 1.0), (0.0, 255.0), (-2.5, -1.0), (1000.0, 1001.0)])
def test_ranges(values_range):
    magnitude, phase, cotangent = (
        magnitude_of(3, 31, 97), phase_of(2, 3, 31, 97), cotangent_of(2, 3, 31, 97)
    )  # fmt: skip
    actual = image_and_gradient(kernels, magnitude, phase, cotangent, 97, values_range=values_range)
    exact, single = (
        image_and_gradient(
            reference, magnitude.to(dtype), phase.to(dtype), cotangent.to(dtype), 97,
            values_range=values_range,
        )
        for dtype in (torch.float64, torch.float32)
    )  # fmt: skip
    for values, expected, rounded in zip(actual, exact, single, strict=True):
        assert largest(values - expected) <= 2 * largest(rounded - expected)


@pytest.mark.every_instruction_set
def test_saturated_and_special_values():
    phase = normal(2, 1, 4, 3)
    phase[1, 0, 2, 1] = math.nan
    phase.requires_grad_()
    image = kernels(magnitude_of(1, 4, 4), phase, 4)
    image.sum().backward()
    for values in (image, phase.grad):
        assert values[0].isfinite().all()
        assert values[1].isnan().all()
    # A spectrum of one frequency under outliers of the magnitude: pixels from -60 to 60 deviations.
    magnitude = torch.ones(1, 64, 33)
    image = kernels(magnitude, torch.zeros(1, 1, 64, 33), 64, values_range=(0.0, 1.0))
    assert image[0, 0, 0, 0] == 1
    assert image.isfinite().all()
    expected = reference(magnitude.double(), torch.zeros(1, 1, 64, 33).double(), 64, (0.0, 1.0))
    assert largest(image - expected) <= 1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_phase_and_constant_image(dtype, channels):
    magnitude = magnitude_of(channels, 6, 8).to(dtype)
    phase = torch.full((1, *magnitude.shape), 0.3, dtype=dtype, requires_grad=True)
    kernels(magnitude, phase, 8).square().sum().backward()
    assert phase.grad.isfinite().all()
    flat = kernels(torch.zeros_like(magnitude), phase, 8)
    torch.testing.assert_close(flat, torch.full_like(flat, sum(RANGE) / 2))
    (gradient,) = torch.autograd.grad(flat.sum(), phase)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_golden_image_and_gradient(golden):
    phase = golden["phase"][None].clone().requires_grad_()
    image = phase_to_image(golden["magnitude"], phase, golden.values_range, golden.width)
    (gradient,) = torch.autograd.grad(image, phase, golden["image_cotangent"][None])
    for actual, name, relative in ((image, "image", 1e-5), (gradient, "phase_grad", 1e-4)):
        assert largest(actual[0] - golden[name]) <= relative * largest(golden[name])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 5), (5, 2), (2, 3)])
def test_gradcheck(channels, height, width):
    magnitude = magnitude_of(channels, height, width).double()
    phase = phase_of(2, channels, height, width).double().requires_grad_()

    def image(phase):
        return kernels(magnitude, phase, width)

    assert torch.autograd.gradcheck(image, phase, fast_mode=True)
    assert torch.autograd.gradgradcheck(image, phase, fast_mode=True)


@pytest.mark.parametrize("dtype", short_for([torch.float32], DTYPES), ids=str)
def test_opcheck(dtype):
    magnitude, phase = magnitude_of(3, 8, 7).to(dtype), phase_of(2, 3, 8, 7).to(dtype)
    sums = torch.tensor([[[0.0, 100.0]], [[0.0, 100.0]]], dtype=torch.float64)
    for given in (None, sums):
        arguments = (magnitude, phase, 0.0, 1.0, 7, given)
        torch.library.opcheck(torch.ops.fvfast.phase_to_image.default, arguments)
    saved = torch.ops.fvfast.phase_to_image(*arguments)
    arguments = (cotangent_of(2, 3, 8, 7).to(dtype), magnitude, phase, *saved, 0.0, 1.0)
    torch.library.opcheck(torch.ops.fvfast.phase_to_image_backward.default, arguments)


@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("gradient", [thorough(False), True])
def test_compiles_without_graph_breaks(gradient):
    magnitude, phase = magnitude_of(3, 8, 8), phase_of(2, 3, 8, 8).requires_grad_(gradient)

    def doubled(phase):
        return 2 * kernels(magnitude, phase * 1.0, 8)

    torch._dynamo.reset()
    image = torch.compile(doubled, fullgraph=True)(phase)
    assert torch.equal(image, doubled(phase))
    if gradient:
        cotangent = cotangent_of(2, 3, 8, 8)
        (compiled,) = torch.autograd.grad(image, phase, cotangent)
        (eager,) = torch.autograd.grad(doubled(phase), phase, cotangent)
        assert torch.equal(compiled, eager)


@pytest.mark.thorough
@pytest.mark.cpu_only
def test_reference_runs_without_the_native_module():
    script = (
        "import torch\n"
        "from fvfast.ops import phase_to_image\n"
        "from fvfast.ops.reference.phase import phase_to_image_reference\n"
        "m, p = torch.rand(3, 5, 4), torch.rand(2, 3, 5, 4)\n"
        "def run(f):\n"
        "    q = p.clone().requires_grad_()\n"
        "    image = f(q)\n"
        "    return image, *torch.autograd.grad(image.square().sum(), q)\n"
        "actual = run(lambda q: phase_to_image(m, q, (0, 1), 7))\n"
        "expected = run(lambda q: phase_to_image_reference(m, q, 0.0, 1.0, 7))\n"
        "assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))\n"
    )
    environment = {**os.environ, "FVFAST_DISABLE_NATIVE": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


GOOD = {
    "magnitude": torch.ones(3, 8, 5),
    "phase": torch.ones(2, 3, 8, 5),
    "values_range": (0.0, 1.0),
    "width": 8,
}


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("error", "argument", "got", "change"),
    [
        (TypeError, "magnitude", "list", {"magnitude": [1.0]}),
        (TypeError, "phase", "torch.int64", {"phase": torch.ones(2, 3, 8, 5, dtype=torch.int64)}),
        (TypeError, "phase", "torch.float16", {"phase": torch.ones(2, 3, 8, 5).half()}),
        (TypeError, "magnitude", "torch.float64", {"magnitude": torch.ones(3, 8, 5).double()}),
        (ValueError, "phase", r"\(3, 8, 5\)", {"phase": torch.ones(3, 8, 5)}),
        (ValueError, "phase", r"\(2, 0, 8, 5\)", {"phase": torch.ones(2, 0, 8, 5)}),
        (ValueError, "magnitude", r"\(1, 8, 5\)", {"magnitude": torch.ones(1, 8, 5)}),
        (ValueError, "magnitude", "gradient", {"magnitude": torch.ones(3, 8, 5).requires_grad_()}),
        (ValueError, "width", "10", {"width": 10}),
        (ValueError, "width", "7", {"width": 7}),
        (ValueError, "values_range", "nan", {"values_range": (0.0, math.nan)}),
        (ValueError, "values_range", "inf", {"values_range": (0.0, math.inf)}),
        (ValueError, "values_range", r"\(1.0, 0.0\)", {"values_range": (1.0, 0.0)}),
        (ValueError, "values_range", r"\(0.0, 1.0, 2.0\)", {"values_range": (0.0, 1.0, 2.0)}),
        (ValueError, "phase_sums", r"\(2,\)", {"phase_sums": torch.ones(2).double()}),
        (TypeError, "phase_sums", "torch.float32", {"phase_sums": torch.ones(2, 1, 2)}),
    ],
)
def test_bad_arguments_are_named(error, argument, got, change):
    with pytest.raises(error, match=rf"phase_to_image\(\): {argument}: expected .*{got}"):
        phase_to_image(**{**GOOD, **change})


COMMON = {"sizes": [1, 3, 4, 4], "dtype": "float32"}
LOOK = {"low": 0.0, "high": 1.0, "colors": [[1.0, 0.0, 0.0]] * 3, "target": None}
FUNCTIONS = {
    "phase_spectrum": (
        ["magnitude", "phase", "spectrum", "statistics", "scratch"],
        {"phase_sums": (0, 0), "epsilon": 1e-5},
    ),
    "spectrum_image": (["image", "statistics"], {"epsilon": 1e-5, **LOOK}),
    "spectrum_image_gradient": (["gradient", "image", "out"], LOOK),
    "phase_gradient": (
        ["transform", "spectrum", "phase", "statistics", "out", "scratch"],
        {"epsilon": 1e-5},
    ),
}
BAD = [
    ("sizes", {"sizes": [1, 3, 4]}),
    ("sizes", {"sizes": [-1, 3, 4, 4]}),
    ("sizes", {"sizes": [1, 3, 0, 4]}),
    ("sizes", {"sizes": [2**20, 3, 2**20, 2**20]}),
    ("dtype", {"dtype": "float16"}),
    ("epsilon", {"epsilon": -1.0}),
    ("epsilon", {"epsilon": math.nan}),
    ("low", {"low": math.nan}),
    ("high", {"high": math.inf}),
    ("high", {"high": 0.0}),
    ("colors", {"colors": [[1.0]]}),
    ("colors", {"colors": [[math.nan] * 3] * 3}),
    ("colors", {"sizes": [1, 2, 4, 4]}),
]


@pytest.mark.cpu_only
@needs_native
@pytest.mark.parametrize("function", FUNCTIONS)
def test_native_module_checks_for_itself(function):
    addresses, others = FUNCTIONS[function]
    memory = torch.zeros(len(addresses), 1024, dtype=torch.float64)
    good = {**COMMON, **others}
    good |= {name: buffer(row) for name, row in zip(addresses, memory, strict=True)}
    bad = [(name, change) for name, change in BAD if change.keys() <= good.keys()]
    bad = [(name, change) for name, change in bad if name != "colors" or "colors" in good]
    bad += [(address, {address: (0, 1024)}) for address in addresses]
    bad += [(address, {address: (64, 3)}) for address in addresses]
    assert len(bad) > len(addresses) + 5
    getattr(native(), function)(**good)
    for argument, change in bad:
        with pytest.raises(ValueError, match=rf"{function}\(\): {argument}: expected .*, got"):
            getattr(native(), function)(**{**good, **change})
