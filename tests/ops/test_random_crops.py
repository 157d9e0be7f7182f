"""Fused cropping and its gradient: the kernels against the reference in float64."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.without_native import call_without_native
from selection import thorough

from fvfast.ops import inject_noise, random_crops
from fvfast.ops._kernels import kernels_for, native_status
from fvfast.ops.reference.crop import (
    crop_and_resize_reference,
    crop_gradient_reference,
    random_crops_reference,
    roi_weights,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FORMATS = [torch.contiguous_format, torch.channels_last]
NOISE = {"std": 0.3, "uniform_width": 0.7, "seed": 0x1234_5678_9ABC_DEF0, "step": 7}
BOXES = torch.tensor(
    [
        [0.12, 0.23, 0.71, 0.88],
        [-0.3, -0.1, 0.4, 0.6],  # partly outside
        [0.61, 0.55, 1.3, 1.7],
        [1.2, 1.3, 1.5, 1.6],  # wholly outside
        [0.8, 0.9, 0.2, 0.1],  # reversed: flipped
        [0.9, -0.2, 0.3, 1.2],  # one axis reversed, the other larger than the image
        [0.0, 0.0, 1.0, 1.0],
        [0.5, 0.5, 0.5, 0.5],  # a point
        [0.3, 0.0, 0.3, 1.0],  # a line
        [0.501, 0.502, 0.503, 0.504],
    ]
)
needs_native = pytest.mark.skipif(
    not native_status().available, reason="the native module is not built"
)


def random(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def boxes_of(count):
    return BOXES.to(torch.get_default_device()).expand(count, -1, -1)


def identities_of(count):
    return [3 + 1000 * index for index in range(count)]


def gradient_of(crops_gradient, boxes, size, dtype, transparency=None):
    return torch.ops.fvfast.crop_gradient(
        crops_gradient, boxes, *size, dtype, transparency, None, None
    )


def error_of(actual, exact):
    assert actual.shape == exact.shape
    assert torch.isfinite(actual).all()
    return (actual.double() - exact).abs().max().item() if actual.numel() else 0.0


# The reference in the same precision has an error, and the kernel may have twice that. It may be
# right to the bit by chance where there is little to compute, hence one rounding more. float64 has
# no better reference: its error is counted in roundings alone.
def crops_allowed(images, boxes, size, dtype, **arguments):
    exact = random_crops_reference(images.double(), boxes, size, **arguments, dtype=torch.float64)
    scale = max(1.0, images.abs().max().item() if images.numel() else 0.0)
    if dtype == images.dtype == torch.float64:
        return exact, 64 * torch.finfo(dtype).eps * scale
    rough = random_crops_reference(images, boxes, size, **arguments, dtype=dtype)
    eps = max(torch.finfo(kind).eps for kind in (images.dtype, dtype))
    return exact, 2 * error_of(rough, exact) + eps * scale


def gradient_allowed(crops_gradient, boxes, size, dtype):
    grouped = crops_gradient.unflatten(0, boxes.shape[:2])
    exact = crop_gradient_reference(grouped.double(), boxes, size, torch.float64)
    terms = crop_gradient_reference(grouped.double().abs(), boxes, size, torch.float64)
    if dtype == torch.float64:
        return exact, 64 * torch.finfo(dtype).eps * terms.max().item()
    rough = crop_gradient_reference(grouped, boxes, size, dtype)
    return exact, 2 * error_of(rough, exact) + torch.finfo(dtype).eps * terms.max().item()


def assert_close(actual, expected):
    exact, allowed = expected
    assert error_of(actual, exact) <= allowed


def assert_crops(actual, images, boxes, size, **arguments):
    assert_close(actual, crops_allowed(images, boxes, size, actual.dtype, **arguments))


def assert_gradient(actual, crops_gradient, boxes, size):
    assert_close(actual, gradient_allowed(crops_gradient, boxes, size, actual.dtype))


@functools.cache
def expected_on(device, image_size, size):  # noqa: ARG001 - where it lies
    """Images, the gradient of their crops, and what is right: noisy, quiet, gradient."""
    images, boxes = random(1, 3, *image_size), boxes_of(1)
    incoming = random(len(BOXES), 3, *size, seed=1)
    return (
        images,
        incoming,
        crops_allowed(images, boxes, size, torch.float32, **NOISE),
        crops_allowed(images, boxes, size, torch.float32),
        gradient_allowed(incoming, boxes, image_size, torch.float32),
    )


SHAPES = [
    ((1, 1), (1, 1)),
    ((1, 5), (2, 3)),
    ((2, 3), (7, 1)),
    ((3, 1), (5, 31)),
    ((5, 7), (31, 97)),
    ((7, 31), (3, 2)),
    ((31, 97), (97, 31)),
    ((97, 512), (7, 224)),  # columns further apart than a register reaches
    ((224, 31), (33, 225)),
    ((225, 40), (5, 259)),  # more columns than are done at a time
    ((3, 1025), (3, 520)),
]


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize(("image_size", "size"), SHAPES)
def test_sizes(image_size, size, memory_format):
    device = torch.get_default_device()
    images, incoming, noisy, quiet, gradient = expected_on(device, image_size, size)
    boxes = boxes_of(1)
    crops = random_crops(images, boxes, size, **NOISE, memory_format=memory_format)
    assert crops.is_contiguous(memory_format=memory_format)
    assert_close(crops, noisy)
    assert_close(random_crops(images, boxes, size, memory_format=memory_format), quiet)
    incoming = incoming.contiguous(memory_format=memory_format)
    assert_close(gradient_of(incoming, boxes, image_size, torch.float32), gradient)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_the_size_of_a_run(memory_format):
    images = random(1, 3, 512, 512)
    boxes = torch.cat((boxes_of(1)[:, :2], torch.tensor([[[0.2, 0.3, 0.7, 0.8]]])), dim=1)
    crops = random_crops(images, boxes, 224, **NOISE, memory_format=memory_format)
    assert_crops(crops, images, boxes, (224, 224), **NOISE)
    incoming = random(*crops.shape, seed=1).contiguous(memory_format=memory_format)
    gradient = gradient_of(incoming, boxes, (512, 512), torch.float32)
    assert_gradient(gradient, incoming, boxes, (512, 512))


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("image_dtype", [torch.float32, torch.float64], ids=str)
def test_types(image_dtype, dtype, memory_format):
    images, boxes = random(2, 3, 23, 19, dtype=image_dtype), boxes_of(2)
    arguments = {**NOISE, "identities": identities_of(2)}
    crops = random_crops(
        images, boxes, (17, 35), **arguments, dtype=dtype, memory_format=memory_format
    )
    assert crops.dtype == dtype
    assert_crops(crops, images, boxes, (17, 35), **arguments)
    incoming = random(*crops.shape, dtype=dtype, seed=1).contiguous(memory_format=memory_format)
    gradient = gradient_of(incoming, boxes, (23, 19), image_dtype)
    assert gradient.dtype == image_dtype
    assert_gradient(gradient, incoming, boxes, (23, 19))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_images_of_16_bits(dtype):
    images = random(1, 3, 9, 8, dtype=dtype).requires_grad_()
    crops = random_crops(images, boxes_of(1), 6)
    assert crops.dtype == dtype
    exact = random_crops(images.detach().float(), boxes_of(1), 6)
    assert torch.equal(crops, exact.to(dtype))
    crops.sum().backward()
    assert images.grad.dtype == dtype


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_any_number_of_channels(channels, memory_format):
    images, boxes = random(2, channels, 12, 11), boxes_of(2)
    crops = random_crops(images, boxes, (9, 10), **NOISE, memory_format=memory_format)
    assert_crops(crops, images, boxes, (9, 10), **NOISE)
    incoming = random(*crops.shape, seed=1).contiguous(memory_format=memory_format)
    assert_gradient(
        gradient_of(incoming, boxes, (12, 11), torch.float32), incoming, boxes, (12, 11)
    )


def views(images):
    """Views with every kind of strides of (N, C, H, W) images."""
    return {
        "channels_last": images.contiguous(memory_format=torch.channels_last),
        "transposed": images.transpose(2, 3),
        "batch inside": images.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3),
        "sliced": images[:, :, 1:, ::2],
        "offset": images[1:, 1:, 1:, 1:],
        "expanded": images[:, :1].expand(-1, 3, -1, -1),
        "expanded row": images[:, :, :1].expand(-1, -1, 7, -1),
    }


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("name", views(torch.empty(2, 2, 2, 2)))
def test_strides(name):
    images = views(random(2, 3, 13, 14))[name]
    boxes = boxes_of(len(images))
    size = images.shape[2:]
    assert torch.equal(
        random_crops(images, boxes, (9, 21)), random_crops(images.contiguous(), boxes, (9, 21))
    )
    incoming = views(random(2 * len(BOXES), 3, 13, 14))[name]
    if name == "offset":
        incoming = torch.cat((incoming, incoming[:1]))
    chosen = boxes_of(2)
    expected = gradient_of(incoming.contiguous(), chosen, size, torch.float32)
    actual = gradient_of(incoming, chosen, size, torch.float32)
    # Strided rows may be summed with other instructions: a fused product rounds once less.
    assert torch.allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert_gradient(actual, incoming, chosen, size)


def test_strided_and_negative_boxes():
    images = random(2, 3, 9, 8)
    strided = torch.cat((boxes_of(2), boxes_of(2)), dim=2)[:, ::2, :4]
    expected = random_crops(images, strided.contiguous(), 5)
    assert torch.equal(random_crops(images, strided, 5), expected)
    assert torch.equal(random_crops(images, strided.double(), 5), expected)


@pytest.mark.cpu_only
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(memory_format):
    images, boxes = random(2, 3, 65, 67), boxes_of(2)
    incoming = random(2 * len(BOXES), 3, 70, 71, seed=1).contiguous(memory_format=memory_format)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            transparency = torch.zeros_like(images)
            crops = random_crops(images, boxes, (70, 71), **NOISE, memory_format=memory_format)
            gradient = gradient_of(incoming, boxes, (65, 67), torch.float32, transparency)
            results.append((crops, gradient, transparency))
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            assert torch.equal(first, other)


def test_a_batch_equals_its_images_alone():
    images = random(5, 3, 31, 30)
    boxes = BOXES[:5, None].expand(-1, 3, -1).to(images.device) + 0.01
    batch = random_crops(images, boxes, 17, **NOISE, identities=identities_of(5)).unflatten(
        0, (5, 3)
    )
    incoming = random(15, 3, 17, 17, seed=1)
    gradients = gradient_of(incoming, boxes, (31, 30), torch.float32)
    for n, identity in enumerate(identities_of(5)):
        one = slice(n, n + 1)
        alone = random_crops(images[one], boxes[one], 17, **NOISE, identities=[identity])
        assert torch.equal(alone, batch[n])
        gradient = gradient_of(incoming[3 * n : 3 * n + 3], boxes[one], (31, 30), torch.float32)
        assert torch.equal(gradient[0], gradients[n])


@pytest.mark.compiled
@pytest.mark.parametrize("crops", [9, thorough(70)])
def test_a_batch_of_many_tiles_equals_its_images_alone(crops):
    """On CUDA the blocks of few tiles share the crops, those of many have all of them."""
    generator = torch.Generator().manual_seed(3)
    boxes = torch.rand(2, crops, 4, generator=generator, device="cpu")
    incoming = random(2 * crops, 3, 3, 50, seed=1)
    size = (8, 33_000)  # 516 tiles
    boxes = boxes.to(incoming.device)
    transparency = torch.zeros(2, 3, *size)
    gradients = gradient_of(incoming, boxes, size, torch.float32, transparency)
    assert torch.equal(transparency, gradients.abs())
    assert gradients.any()
    for n in range(2):
        one = slice(crops * n, crops * (n + 1))
        alone = torch.zeros(1, 3, *size)
        gradient = gradient_of(incoming[one], boxes[n : n + 1], size, torch.float32, alone)
        assert torch.equal(gradient[0], gradients[n])
        assert torch.equal(alone[0], transparency[n])


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_noise_is_that_of_inject_noise(memory_format):
    images, boxes = random(2, 3, 31, 30), boxes_of(2)
    key = {**NOISE, "identities": identities_of(2)}
    fused = random_crops(images, boxes, (33, 35), **key, memory_format=memory_format)
    quiet = random_crops(images, boxes, (33, 35)).unflatten(0, boxes.shape[:2])
    apart = inject_noise(quiet, key.pop("std"), **key).flatten(0, 1)
    # One rounding of a sum, which instructions that fuse may save.
    assert (fused - apart).abs().max().item() <= 4 * torch.finfo(torch.float32).eps * 8


@pytest.mark.parametrize(("std", "uniform_width"), [(0.0, 1.0), (1.0, 0.0)])
def test_either_noise_alone(std, uniform_width):
    images, boxes = torch.zeros(1, 3, 4, 4), boxes_of(1)
    key = {"std": std, "uniform_width": uniform_width, "seed": 1, "step": 2}
    crops = random_crops(images, boxes, 5, **key)
    assert_crops(crops, images, boxes, (5, 5), **key, identities=[0])
    assert crops.std() > 0.2


@settings(max_examples=60, deadline=None)
@given(
    box=st.lists(st.floats(-1.5, 2.5, width=32), min_size=4, max_size=4),
    size=st.tuples(st.integers(1, 40), st.integers(1, 300)),
    image_size=st.tuples(st.integers(1, 40), st.integers(1, 300)),
)
def test_the_gradient_is_the_adjoint(box, size, image_size):
    images = random(1, 2, *image_size, dtype=torch.float64)
    boxes = torch.tensor([[box]])
    crops = random_crops(images, boxes, size)
    incoming = random(*crops.shape, dtype=torch.float64, seed=1)
    gradient = gradient_of(incoming, boxes, image_size, torch.float64)
    there, back = (crops * incoming).sum().item(), (images * gradient).sum().item()
    terms = (crops * incoming).abs().sum().item() + (images * gradient).abs().sum().item()
    assert abs(there - back) <= 64 * torch.finfo(torch.float64).eps * max(terms, 1.0)
    # The same sums in float32, through the other instructions.
    single = gradient_of(incoming.float(), boxes, image_size, torch.float32)
    assert_gradient(single, incoming.float(), boxes, image_size)


# Ends of boxes of which positions are exact in float64: with others, the last position of a box
# that ends with the image may be a rounding beyond it, where the image is 0.
EXACT_ENDS = st.integers(0, 2**20).map(lambda numerator: numerator / 2**20)


@settings(max_examples=60, deadline=None)
@given(
    box=st.lists(EXACT_ENDS, min_size=4, max_size=4),
    size=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    value=st.floats(-3, 3, width=32),
)
def test_a_constant_image_crops_to_itself(box, size, value):
    crops = random_crops(torch.full((1, 3, 11, 6), value), torch.tensor([[box]]), size)
    assert torch.equal(crops, torch.full_like(crops, value))


def test_the_whole_image_at_its_size_is_itself():
    images = random(1, 3, 37, 41)
    assert torch.equal(random_crops(images, torch.tensor([[[0.0, 0, 1, 1]]]), (37, 41)), images)


def test_an_extreme_box_reads_nothing_it_should_not():
    huge = torch.tensor([[[-1e30, -1e30, 1e30, 1e30], [1e38, -1e38, -1e38, 1e38]]])
    images = random(1, 3, 5, 5)
    crops = random_crops(images, huge, 6)
    assert torch.equal(crops, torch.zeros_like(crops))
    gradient = gradient_of(torch.ones_like(crops), huge, (5, 5), torch.float32)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("noise", [thorough({}), NOISE])
def test_gradcheck(noise):
    images = random(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    boxes = boxes_of(1)[:, ::2]
    assert torch.autograd.gradcheck(lambda x: random_crops(x, boxes, (3, 2), **noise), images)
    assert torch.autograd.gradgradcheck(lambda x: random_crops(x, boxes, (3, 2)) ** 2, images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_transparency_sums_absolute_gradients(dtype, layout):
    images = random(2, 3, 12, 14, dtype=dtype).requires_grad_()
    transparency = torch.ones(2, 3, 12, 28, dtype=dtype)
    base = transparency
    if layout == "sliced":
        transparency = transparency[..., ::2]
    else:
        transparency = transparency[..., :14].contiguous(
            memory_format=getattr(torch, layout, FORMATS[0])
        )
    expected = transparency.clone()
    for step in (1, 2):
        crops = random_crops(
            images, boxes_of(2), 9, **{**NOISE, "step": step}, transparency=transparency
        )
        (gradient,) = torch.autograd.grad(crops.pow(2).sum(), images)
        expected += gradient.abs()
    assert torch.equal(transparency, expected)
    if layout == "sliced":
        assert torch.equal(base[..., 1::2], torch.ones(2, 3, 12, 14, dtype=dtype))


def test_transparency_may_wait_for_several_backward_passes():
    images = random(1, 3, 8, 8).requires_grad_()
    transparency = torch.zeros(1, 3, 8, 8)
    crops = [random_crops(images, boxes_of(1), 4, transparency=transparency) for _ in range(2)]
    (crops[0].sum() + crops[1].sum()).backward()
    assert torch.allclose(transparency, images.grad.abs())


@pytest.mark.every_instruction_set
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_gradients_that_are_not_finite_add_nothing_to_transparency(bad):
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    incoming = torch.ones(1, 3, 20, 20)
    incoming[0, 1, 3, 4] = bad
    transparency = torch.zeros(1, 3, 20, 20)
    gradient = gradient_of(incoming, boxes, (20, 20), torch.float32, transparency)
    assert not gradient[0, 1, 3, 4].isfinite()
    assert torch.equal(transparency, torch.where(gradient.isfinite(), gradient.abs(), 0))
    assert transparency[0, 0].min() == 1


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_nothing_to_do(shape):
    batch, count, channels = shape
    images = torch.randn(batch, channels, 5, 5, requires_grad=True)
    transparency = torch.zeros(batch, channels, 5, 5)
    crops = random_crops(images, torch.rand(batch, count, 4), 3, **NOISE, transparency=transparency)
    assert crops.shape == (batch * count, channels, 3, 3)
    crops.sum().backward()
    assert torch.equal(images.grad, torch.zeros_like(images))
    assert torch.equal(transparency, torch.zeros_like(transparency))


@pytest.mark.parametrize("channels_last", [thorough(False), True])
def test_opcheck(channels_last):
    operations = torch.ops.fvfast
    images, boxes = random(2, 3, 8, 9), boxes_of(2)
    for dtype in DTYPES:
        noise = (0.5, 0.5, 1, [2, 3], 4, *(None,) * 4)
        arguments = (images, boxes, 5, 6, dtype, channels_last, *noise)
        torch.library.opcheck(operations.crop_resize.default, arguments)
        crops = operations.crop_resize(*arguments)
        for transparency in (None, torch.zeros_like(images)):
            arguments = (crops, boxes, 8, 9, torch.float32, transparency, None, None)
            torch.library.opcheck(operations.crop_gradient.default, arguments)
            arguments = (random(*crops.shape), *arguments[1:])


@pytest.mark.cpu_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("gradient", [thorough(False), True])
def test_compiles_without_graph_breaks(gradient):
    def squared(images, boxes, transparency, step):
        noise = {**NOISE, "step": step}
        return random_crops(images * 1.0, boxes, (5, 6), **noise, transparency=transparency) ** 2

    torch._dynamo.reset()
    compiled = torch.compile(squared, fullgraph=True)
    for step in (1, 2, 3):
        found = []
        for function in (squared, compiled):
            images = random(2, 3, 8, 8).requires_grad_(gradient)
            transparency = torch.zeros(2, 3, 8, 8) if gradient else None
            out = function(images, boxes_of(2), transparency, step)
            found.append([out.detach()])
            if gradient:
                out.sum().backward()
                found[-1] += [images.grad, transparency]
        for plain, fast in zip(*found, strict=True):
            assert torch.equal(plain, fast)
            assert plain.abs().max() > 0


def cropped_in_every_type():
    """Crops, the gradient of the images and the sum of its size, by the type of the crops."""

    def run(dtype):
        images, boxes = random(2, 3, 9, 8).requires_grad_(), boxes_of(2)
        transparency = torch.zeros(2, 3, 9, 8)
        crops = random_crops(
            images,
            boxes,
            6,
            **NOISE,
            dtype=dtype,
            memory_format=torch.channels_last,
            transparency=transparency,
        )
        (gradient,) = torch.autograd.grad(crops.double().pow(2).sum(), images)
        return crops.detach(), gradient, transparency

    return {dtype: run(dtype) for dtype in DTYPES}


@pytest.mark.cpu_only
def test_the_reference_serves_other_devices():
    ours, theirs = cropped_in_every_type(), call_without_native(cropped_in_every_type)
    for dtype in DTYPES:
        for mine, reference in zip(ours[dtype], theirs[dtype], strict=True):
            assert mine.stride() == reference.stride()
            scale = max(1.0, reference.abs().max().item())
            difference = (mine.double() - reference.double()).abs().max().item()
            eps = max(torch.finfo(kind).eps for kind in (torch.float32, mine.dtype, dtype))
            assert difference <= 16 * eps * scale


@pytest.mark.cpu_only
@pytest.mark.parametrize("size", [(5, 7), (2, 30)])
def test_roi_align_of_horama(size):
    operations = pytest.importorskip("torchvision.ops")
    images = random(1, 3, 20, 17, dtype=torch.float64)
    boxes = BOXES.double()
    y1, x1, y2, x2 = boxes.unbind(1)
    # Ours sorts nothing: boxes that are reversed are one pixel wide there, too.
    pixels = torch.stack((0 * x1, x1 * 17, y1 * 20, x2 * 17, y2 * 20), dim=1)
    expected = operations.roi_align(images, pixels, size)
    rows = roi_weights(y1, y2, size[0], 20, torch.float64)
    columns = roi_weights(x1, x2, size[1], 17, torch.float64)
    actual = torch.einsum("kyh,chw,kxw->kcyx", rows, images[0], columns)
    assert torch.allclose(actual, expected, atol=1e-12)


@pytest.mark.cpu_only
def test_resampling_of_horama():
    operations = pytest.importorskip("torchvision.ops")
    images = random(1, 3, 20, 20, dtype=torch.float64)
    boxes = BOXES[None].double()
    y1, x1, y2, x2 = (20 * boxes[0]).unbind(1)
    large = operations.roi_align(images, torch.stack((0 * x1, x1, y1, x2, y2), dim=1), (14, 14))
    expected = torch.nn.functional.interpolate(
        large, (7, 7), mode="bicubic", align_corners=True, antialias=True
    )
    actual = crop_and_resize_reference(images, boxes, (7, 7), method="horama")
    assert torch.allclose(actual[0], expected, atol=1e-12)
    with pytest.raises(ValueError, match="'nearest'"):
        crop_and_resize_reference(images, boxes, (7, 7), method="nearest")


BAD = [
    (TypeError, "images", "torch.int64", {"images": torch.zeros(1, 3, 4, 4, dtype=torch.int64)}),
    (TypeError, "images", "list", {"images": [1.0]}),
    (ValueError, "images", r"\(3, 4, 4\)", {"images": torch.zeros(3, 4, 4)}),
    (ValueError, "images", r"\(1, 3, 0, 4\)", {"images": torch.zeros(1, 3, 0, 4)}),
    (TypeError, "boxes", "list", {"boxes": [1.0]}),
    (TypeError, "boxes", "torch.int64", {"boxes": torch.zeros(1, 2, 4, dtype=torch.int64)}),
    (ValueError, "boxes", r"\(2, 4\)", {"boxes": torch.zeros(2, 4)}),
    (ValueError, "boxes", r"\(2, 2, 4\)", {"boxes": torch.zeros(2, 2, 4)}),
    (ValueError, "boxes", r"\(1, 2, 3\)", {"boxes": torch.zeros(1, 2, 3)}),
    (ValueError, "size", r"\(0, 5\)", {"size": (0, 5)}),
    (ValueError, "size", r"\(-1, -1\)", {"size": -1}),
    (TypeError, "dtype", "torch.int8", {"dtype": torch.int8}),
    (ValueError, "memory_format", "preserve", {"memory_format": torch.preserve_format}),
    (ValueError, "std", "-1.0", {"std": -1.0}),
    (ValueError, "uniform_width", "nan", {"uniform_width": math.nan}),
    (ValueError, "identities", "2", {"identities": [1, 2]}),
    (ValueError, "identities", "4294967296", {"identities": [2**32]}),
    (ValueError, "step", "-1", {"step": -1}),
    (TypeError, "transparency", "list", {"transparency": [1.0]}),
    (
        TypeError,
        "transparency",
        "float64",
        {"transparency": torch.zeros(1, 3, 4, 4, dtype=torch.float64)},
    ),
    (ValueError, "transparency", r"\(1, 3, 4, 5\)", {"transparency": torch.zeros(1, 3, 4, 5)}),
    (
        ValueError,
        "transparency",
        "requires",
        {"transparency": torch.zeros(1, 3, 4, 4, requires_grad=True)},
    ),
    (
        ValueError,
        "transparency",
        "expanded",
        {"transparency": torch.zeros(1, 1, 4, 4).expand(1, 3, 4, 4)},
    ),
]


@pytest.mark.cpu_only
@pytest.mark.parametrize(("error", "argument", "got", "change"), BAD)
def test_bad_arguments_are_named(error, argument, got, change):
    arguments = {"images": torch.zeros(1, 3, 4, 4), "boxes": torch.zeros(1, 2, 4), "size": 5}
    with pytest.raises(error, match=rf"random_crops\(\): {argument}: expected .*{got}"):
        random_crops(**{**arguments, **change})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", range(4))
def test_boxes_that_are_not_finite(bad, which):
    """The CPU refuses them. A GPU cannot without waiting: there the samples lie outside."""
    images, incoming = random(1, 3, 4, 4), random(len(BOXES), 3, 5, 5)
    boxes = boxes_of(1).clone()
    boxes[0, 3, which] = bad
    kernels = kernels_for(images.device)
    if kernels is not None and kernels.target is not None:
        without = torch.cat((boxes[:, :3], boxes[:, 4:]), dim=1)
        crops = random_crops(images, boxes, 5)
        assert torch.equal(crops[3], torch.zeros_like(crops[3]))
        others = torch.cat((crops[:3], crops[4:]))
        assert torch.equal(others, random_crops(images, without, 5))
        gradient = gradient_of(incoming, boxes, (4, 4), torch.float32)
        # In its place, so that the sums have the same order.
        boxes[0, 3] = torch.tensor([2.0, 2.0, 3.0, 3.0])
        assert torch.equal(gradient, gradient_of(incoming, boxes, (4, 4), torch.float32))
        return
    with pytest.raises(ValueError, match=r"crop_resize\(\): boxes: expected finite numbers, got"):
        random_crops(torch.zeros(1, 3, 4, 4), boxes, 5)
    with pytest.raises(ValueError, match=r"crop_gradient\(\): boxes: expected finite numbers, got"):
        gradient_of(torch.zeros(len(BOXES), 3, 5, 5), boxes, (4, 4), torch.float32)
