"""Noise injection: the kernels against the reference in float64."""

import functools
import math

import pytest
import torch
from selection import short_for, thorough

from fvfast.ops import inject_noise, inject_noise_
from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.reference.noise import inject_noise_reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
KEY = {"seed": 0x1234_5678_9ABC_DEF0, "step": 7}
needs_native = pytest.mark.skipif(
    not native_status().available, reason="the native module is not built"
)


# Of eps, relative: the logarithm and its root, whose errors halve, the root's own rounding, sine or
# cosine, and their product.
NORMAL_ERROR = 0.5 + 0.5 + 1 + 0.5


def images_of(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def identities_of(count):
    return [3 + 1000 * index for index in range(count)]


def noisy(images, std=0.5, function=inject_noise, **changes):
    arguments = {**KEY, "identities": identities_of(images.shape[0]), **changes}
    return function(images, std, **arguments)


@functools.cache
def tolerance(dtype, std):
    """Twice the error that the reference has in this type, over many numbers.

    float64 has no better reference to measure that error with. There the logarithm, the root, the
    angle and its cosine are each good to an ulp or two, of values that stay below 8, and the angle
    passes its error on to the cosine, magnified by 2 pi: less than 64 ulps of 1, times std.
    """
    images = images_of(4, 2**16, dtype=dtype)
    if dtype == torch.float64:
        eps = torch.finfo(dtype).eps
        return 64 * eps * std + 4 * eps * images.abs().max().item()
    exact = noisy(images.double(), std, inject_noise_reference)
    return 2 * (noisy(images, std, inject_noise_reference).double() - exact).abs().max().item()


def assert_right(actual, images, std=0.5, **changes):
    expected = noisy(images.double(), std, inject_noise_reference, **changes)
    assert actual.dtype == images.dtype
    assert actual.shape == images.shape
    assert torch.isfinite(actual).all()
    if actual.numel():
        assert (actual.double() - expected).abs().max().item() <= tolerance(images.dtype, std)


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 31, 63, 64, 65, 97, 224, 1023, 1025, 4099])
def test_vectors_of_any_size(dtype, size):
    images = images_of(2, size, dtype=dtype)
    assert_right(noisy(images), images)


@pytest.mark.compiled
@pytest.mark.every_instruction_set
def test_normals_are_exact_to_the_last_bits():
    """Relative to each number, also to the smallest: what back ends may differ by is twice that."""
    zeros = torch.zeros(1, 2**17)
    exact = noisy(zeros.double(), 1.0, inject_noise_reference, uniform_width=0.0)
    assert exact.abs().min() < 1e-4 < 4 < exact.abs().max()
    actual = noisy(zeros, 1.0, uniform_width=0.0).double()
    error = ((actual - exact) / exact).abs().max().item() / torch.finfo(torch.float32).eps
    assert error <= NORMAL_ERROR


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (2, 3, 3, 31, 17), (5, 97), (5,), (3, 1, 1)])
def test_batches_of_any_shape(dtype, shape):
    images = images_of(*shape, dtype=dtype)
    assert_right(noisy(images), images)


@pytest.mark.parametrize("shape", [(0,), (0, 3, 8, 8), (2, 0, 8)])
def test_empty_batches(shape):
    images = torch.empty(shape)
    assert noisy(images).shape == shape
    assert noisy(images, function=inject_noise_) is images


def views(images):
    """Views with every kind of strides of contiguous (N, K, C, S, S) images."""
    return {
        "channels_last": images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
        "permuted": images.permute(0, 4, 2, 1, 3),
        "first dimension not outermost": images.permute(2, 1, 0, 3, 4),
        "sliced": images[:, :, :, 1:, ::2],
        "offset": images[1:, 1:, 1:],
        "one channel": images[:, :, 1],
        "expanded": images[:, :1].expand(-1, 3, -1, -1, -1),
        "channels_last sliced": images.permute(0, 1, 3, 4, 2)
        .contiguous()
        .permute(0, 1, 4, 2, 3)[..., 1:-1],
    }


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", views(torch.empty(2, 2, 2, 2, 2)))
def test_strides(dtype, name):
    images = views(images_of(2, 3, 3, 13, 11, dtype=dtype))[name]
    out = noisy(images)
    assert_right(out, images)
    if name == "channels_last":
        assert out.stride() == images.stride()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "name", [name for name in views(torch.empty(2, 2, 2, 2, 2)) if name != "expanded"]
)
def test_in_place_gives_the_same_bits_and_writes_nothing_else(dtype, name):
    base = images_of(2, 3, 3, 13, 11, dtype=dtype)
    before, written = base.clone(), torch.zeros(base.shape)
    images = views(base)[name]
    expected = noisy(images)
    assert noisy(images, function=inject_noise_) is images
    assert torch.equal(images, expected)
    if images.untyped_storage().data_ptr() == base.untyped_storage().data_ptr():
        views(written)[name].fill_(1)
        assert torch.equal(base[written == 0], before[written == 0])


def test_negative_view():
    images = torch.complex(images_of(2, 9), images_of(2, 9)).conj().imag
    assert images.is_neg()
    assert_right(noisy(images), images.resolve_neg())


@pytest.mark.every_instruction_set
def test_special_values_stay():
    for dtype in DTYPES:
        special = torch.tensor([[math.inf, -math.inf, math.nan, 0.0, 1.0]], dtype=dtype)
        out = noisy(special, std=0.0)
        assert torch.equal(out.isnan(), special.isnan())
        assert torch.equal(out[:, [0, 1, 3, 4]], special[:, [0, 1, 3, 4]])


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_all_16_bit_numbers_convert_exactly(dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)[None]
    out = noisy(every, std=0.0)
    finite = ~every.isnan()
    assert torch.equal(out[finite], every[finite])
    assert out[~finite].isnan().all()


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_results_round_as_torch_rounds(dtype):
    # Scales reach from subnormal numbers to overflow.
    for std in (2.0**-26, 2.0**-16, 1.0, 2.0**14, 2.0**120):
        zeros = torch.zeros(1, 2**14)
        expected = noisy(zeros, std).to(dtype)
        assert torch.equal(noisy(zeros.to(dtype), std), expected)


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_any_number_of_threads_gives_the_same_bits(dtype, layout):
    images = images_of(2, 3, 64, 64, dtype=dtype)
    if layout == "channels_last":
        images = images.to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(noisy(images))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_an_image_alone_equals_itself_in_a_batch():
    images = images_of(5, 3, 31, 31)
    batch = noisy(images)
    for index, identity in enumerate(identities_of(5)):
        assert torch.equal(noisy(images[index : index + 1], identities=[identity])[0], batch[index])


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"seed": KEY["seed"] + 2**32}, {"step": 8}, {"identities": [4]}]
)
def test_seed_step_and_identity_each_change_the_noise(change):
    images = torch.zeros(1, 4096)
    # Equal numbers are possible, as they have 24 bits each; two in a row of them are not expected.
    assert (noisy(images) == noisy(images, **change)).sum() < 4


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1, 2**64 + 5, -(2**80) + 3])
def test_the_lowest_64_bits_of_any_seed_count(seed):
    images = images_of(1, 100)
    assert_right(noisy(images, seed=seed), images, seed=seed)
    assert torch.equal(noisy(images, seed=seed), noisy(images, seed=seed % 2**64))


@pytest.mark.parametrize("extreme", [0, 2**32 - 1])
def test_extreme_words_of_the_counter(extreme):
    images = images_of(1, 100)
    changes = {"identities": [extreme], "step": extreme}
    assert_right(noisy(images, **changes), images, **changes)


def test_statistics():
    """Moments of n numbers within six of their own standard deviations (one in 5e8 fails)."""
    count = 2**20
    noise = noisy(torch.zeros(2, count, dtype=torch.float64), std=1.0)
    variance = 1 + (1 - 2**-16) / 12
    # Fourth central moment of a sum: m4(a) + 6 var(a) var(b) + m4(b), and m4 of a uniform is 1/80.
    fourth = 3 + 6 / 12 + 1 / 80
    mean_spread = math.sqrt(variance / count)
    variance_spread = math.sqrt((fourth - variance**2) / count)
    for image in noise:
        assert abs(image.mean().item()) < 6 * mean_spread
        assert abs(image.var().item() - variance) < 6 * variance_spread
        for lag in (1, 2, 3, 4):
            correlation = (image[lag:] * image[:-lag]).mean().item()
            assert abs(correlation) < 6 * variance / math.sqrt(count - lag)
    between = (noise[0] * noise[1]).mean().item()
    assert abs(between) < 6 * variance / math.sqrt(count)


@pytest.mark.parametrize(("std", "uniform_width"), [(0.0, 1.0), (1.0, 0.0), (0.3, 0.7)])
def test_normal_and_uniform_noise_have_scales_of_their_own(std, uniform_width):
    images = images_of(2, 1000)
    arguments = {**KEY, "identities": [0, 1], "uniform_width": uniform_width}
    expected = inject_noise_reference(images.double(), std, **arguments)
    error = (inject_noise(images, std, **arguments).double() - expected).abs().max().item()
    assert error <= tolerance(torch.float32, 1.0)


def test_gradient_is_the_identity():
    images = images_of(2, 3, 5, 5).requires_grad_()
    cotangent = images_of(2, 3, 5, 5) + 1
    (gradient,) = torch.autograd.grad(noisy(images), images, cotangent)
    assert torch.equal(gradient, cotangent)


@pytest.mark.parametrize("function", [inject_noise, inject_noise_])
def test_gradcheck(function):
    images = images_of(2, 3, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: noisy(x.clone(), function=function), images)
    assert torch.autograd.gradgradcheck(lambda x: noisy(x.clone(), function=function), images)


def test_autograd_notices_the_change_in_place():
    images = images_of(2, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        noisy(images, function=inject_noise_)
    saved = images * 1
    product = saved * saved
    noisy(saved, function=inject_noise_)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.parametrize("dtype", short_for([torch.float32, torch.bfloat16], DTYPES), ids=str)
@pytest.mark.parametrize("name", ["inject_noise", "inject_noise_"])
def test_opcheck(name, dtype):
    operation = getattr(torch.ops.fvfast, name).default
    images = images_of(2, 3, 8, 8, dtype=dtype)
    for view in (images, images.to(memory_format=torch.channels_last), images[..., ::2]):
        torch.library.opcheck(operation, (view, 0.5, 0.5, 1, [2, 3], 4, *(None,) * 4))


@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("function", [inject_noise, inject_noise_])
@pytest.mark.parametrize("gradient", [thorough(False), True])
def test_compiles_without_graph_breaks(function, gradient):
    def scaled(images, step):
        return 2 * noisy(images * 1.0, function=function, step=step)

    torch._dynamo.reset()
    compiled = torch.compile(scaled, fullgraph=True)
    for step in (1, 2, 3):
        images = images_of(2, 3, 8, 8).requires_grad_(gradient)
        out = compiled(images, step)
        assert torch.equal(out, scaled(images, step))
        if gradient:
            out.sum().backward()
            assert torch.equal(images.grad, torch.full_like(images, 2))


TABLES = ("std_table", "uniform_width_table", "identity_table")

BAD = [
    (TypeError, "images", "torch.int64", {"images": torch.zeros(1, 3, dtype=torch.int64)}),
    (TypeError, "images", "list", {"images": [1.0]}),
    (ValueError, "images", "scalar", {"images": torch.tensor(1.0)}),
    (ValueError, "std", "-1.0", {"std": -1.0}),
    (ValueError, "std", "nan", {"std": math.nan}),
    (ValueError, "std", "inf", {"std": math.inf}),
    (ValueError, "uniform_width", "-1.0", {"uniform_width": -1.0}),
    (ValueError, "identities", "got 2", {"identities": [1, 2]}),
    (ValueError, "identities", "4294967296", {"identities": [2**32]}),
    (ValueError, "identities", "-1", {"identities": [-1]}),
    (ValueError, "step", "-1", {"step": -1}),
    (ValueError, "step", "4294967296", {"step": 2**32}),
]


@pytest.mark.cpu_only
@pytest.mark.parametrize("function", [inject_noise, inject_noise_])
@pytest.mark.parametrize(("error", "argument", "got", "change"), BAD)
def test_bad_arguments_are_named(function, error, argument, got, change):
    arguments = {"images": torch.zeros(1, 3), "std": 1.0, "identities": [0], **KEY, **change}
    with pytest.raises(error, match=rf"{function.__name__}\(\): {argument}: expected .*{got}"):
        function(**arguments)


@pytest.mark.cpu_only
def test_expanded_images_cannot_change_in_place():
    with pytest.raises(ValueError, match=r"inject_noise_\(\): images: expected .* expanded"):
        noisy(torch.zeros(1, 3).expand(2, 3), function=inject_noise_)


@pytest.mark.cpu_only
@needs_native
@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("images", {"images": (0, 3)}),
        ("out", {"out": (0, 3)}),
        ("out", {"out": (64, 2)}),
        ("dtype", {"dtype": "int64"}),
        ("sizes", {"sizes": []}),
        ("sizes", {"sizes": [1, -3]}),
        ("sizes", {"sizes": [1] * 17}),
        ("sizes", {"sizes": [1, 2**34 + 1]}),
        ("sizes", {"sizes": [1, 2**40, 2**40]}),
        ("image_strides", {"image_strides": [1]}),
        ("out_strides", {"out_strides": [3, -1]}),
        ("images", {"image_strides": [3, 2**62]}),
        ("out", {"out_strides": [3, 2**62]}),
        ("out", {"out_strides": [3, 0]}),
        ("out", {"out_strides": [3, 2]}),  # overlaps the images, and is not in place
        ("identities", {"identities": [1, 2]}),
        ("identities", {"identities": [2**32]}),
        ("std", {"std": math.nan}),
        ("uniform_width", {"uniform_width": -1.0}),
        ("step", {"step": -1}),
        ("counter", {"counter": (64, 1)}),
        *((name, {name: ((64, 1), 1, 1)}) for name in TABLES),
    ],
)
def test_native_module_checks_for_itself(argument, change):
    images = torch.zeros(1, 3)
    arguments = {
        "images": buffer(images),
        "out": buffer(images),
        "dtype": "float32",
        "sizes": [1, 3],
        "image_strides": [3, 1],
        "out_strides": [3, 1],
        "identities": [0],
        "std": 1.0,
        "uniform_width": 1.0,
        "seed": 0,
        "step": 0,
        "counter": (0, 0),
        "std_table": None,
        "uniform_width_table": None,
        "identity_table": None,
        "target": None,
    }
    with pytest.raises(ValueError, match=rf"inject_noise\(\): {argument}: expected .*, got"):
        native().inject_noise(**{**arguments, **change})
