"""Transformations: what they do to a batch, what they draw, and bad input."""

import functools
import math

import numpy as np
import pytest
import torch

from fvfast import transformations as t
from fvfast.transformations.random_transformations import resize_to


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


def images(*shape, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(7))


def gaussian_blur(image, sigma, kernel_size):
    """TensorFlow's SAME convolution written out for one plane, with zeros around it."""
    positions = np.arange(kernel_size) - (kernel_size - 1) / 2
    kernel = np.exp(-0.5 * (positions[:, None] ** 2 + positions[None, :] ** 2) / sigma**2)
    kernel /= kernel.sum()
    before = (kernel_size - 1) // 2
    height, width = image.shape
    padded = np.zeros((height + kernel_size - 1, width + kernel_size - 1))
    padded[before : before + height, before : before + width] = image
    return np.array(
        [
            [
                (padded[y : y + kernel_size, x : x + kernel_size] * kernel).sum()
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


@pytest.mark.parametrize("kernel_size", [1, 2, 5, 10])
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_blur_is_the_gaussian_written_out(kernel_size, channels):
    batch = images(2, channels, 9, 6)
    blurred = t.random_blur((1.3, 1.3), kernel_size)(batch)
    assert blurred.dtype == batch.dtype
    for n, c in ((0, 0), (1, channels - 1)):
        expected = gaussian_blur(batch[n, c].numpy(), 1.3, kernel_size)
        np.testing.assert_allclose(blurred[n, c].numpy(), expected, atol=1e-12)


def test_even_kernel_moves_the_image_by_half_a_pixel():
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    for kernel_size, shift in ((9, 0.0), (10, -0.5)):
        rows = t.random_blur((1.0, 1.0), kernel_size)(point).sum((0, 1, 3))
        center = (rows * torch.arange(21)).sum() / rows.sum()
        assert center.item() - 10 == pytest.approx(shift, abs=1e-4)


def test_blur_width_is_drawn_within_its_range():
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[0, 0, 20, 20] = 1
    blur = t.random_blur((1.0, 2.0), 31)
    sigmas = []
    for _ in range(50):
        rows = blur(point).sum((0, 1, 3))
        sigmas.append(math.sqrt((rows * (torch.arange(41) - 20) ** 2).sum()))
    assert 0.99 < min(sigmas) < 1.2
    assert 1.8 < max(sigmas) < 2.01


def test_narrow_blur_is_the_identity():
    batch = images(1, 3, 5, 5)
    torch.testing.assert_close(t.random_blur((0, 0), 5)(batch), batch)
    assert t.random_blur((0, 0), 4)(batch).isfinite().all()


def test_grayscale_blur_is_the_same_blur():
    batch = images(2, 1, 8, 8)
    torch.manual_seed(0)
    expected = t.random_blur((1.0, 2.0), 6)(batch)
    torch.manual_seed(0)
    assert torch.equal(t.random_blur_grayscale((1.0, 2.0), 6)(batch), expected)


def test_jitter_crops_everywhere_and_alike_in_the_batch():
    delta, height, width = 2, 5, 7
    batch = torch.arange(height * width).reshape(1, 1, height, width).repeat(3, 2, 1, 1)
    seen = set()
    for _ in range(200):
        crop = t.random_jitter(delta)(batch)
        assert crop.shape == (3, 2, height - delta, width - delta)
        corner = crop[0, 0, 0, 0].item()
        assert (crop[:, :, 0, 0] == corner).all()
        top, left = divmod(corner, width)
        expected = batch[:, :, top : top + height - delta, left : left + width - delta]
        assert torch.equal(crop, expected)
        seen.add((top, left))
    assert seen == {(top, left) for top in range(3) for left in range(3)}


def test_scale_sizes():
    batch = images(2, 3, 40, 61)
    sizes = set()
    for _ in range(100):
        scaled = t.random_scale((0.9, 1.1))(batch)
        height, width = scaled.shape[2:]
        assert 36 <= height <= 44
        assert abs(height / 40 - width / 61) < 1 / 40 + 1 / 61
        sizes.add(height)
    assert len(sizes) >= 7
    assert t.random_scale((0.5, 0.5))(batch).shape == (2, 3, 20, 30)


@pytest.mark.parametrize("size", [(3, 5), (9, 4), (13, 17)])
def test_resize_samples_at_half_pixel_centers(size):
    batch = images(2, 4, 9, 7)
    resized = t.resize(batch, size)

    def positions(count, new_count):
        center = (np.arange(new_count) + 0.5) * count / new_count - 0.5
        below = np.floor(center).astype(int)
        weight = center - below
        matrix = np.zeros((new_count, count))
        for row, (first, w) in enumerate(zip(below, weight, strict=True)):
            matrix[row, np.clip(first, 0, count - 1)] += 1 - w
            matrix[row, np.clip(first + 1, 0, count - 1)] += w
        return torch.from_numpy(matrix)

    expected = positions(9, size[0]) @ batch @ positions(7, size[1]).T
    torch.testing.assert_close(resized, expected)


def test_flip_is_drawn_for_each_image():
    batch = images(400, 1, 4, 5)
    for horizontal, vertical in ((True, False), (False, True), (True, True), (False, False)):
        flipped = t.random_flip(horizontal, vertical)(batch)
        choices = [
            batch,
            batch.flip(3) if horizontal else batch,
            batch.flip(2) if vertical else batch,
            batch.flip(2, 3) if horizontal and vertical else batch,
        ]
        matches = torch.stack([(flipped == c).all(3).all(2).all(1) for c in choices])
        assert matches.any(0).all()
        if horizontal or vertical:
            share = matches[0].double().mean().item()
            assert share == pytest.approx(0.25 if horizontal and vertical else 0.5, abs=0.1)
        else:
            assert torch.equal(flipped, batch)


def test_pad_surrounds_the_image():
    batch = images(2, 3, 4, 5)
    padded = t.pad(2, -1.5)(batch)
    assert padded.shape == (2, 3, 8, 9)
    assert torch.equal(padded[:, :, 2:-2, 2:-2], batch)
    assert (padded == -1.5).sum() == 2 * 3 * (8 * 9 - 4 * 5)
    assert torch.equal(t.pad(0)(batch), batch)


def test_composition_is_in_order():
    composed = t.compose_transformations([lambda x: x + 1, lambda x: 2 * x])
    assert composed(torch.tensor(3)) == 8
    assert t.compose_transformations([])(5) == 5


@pytest.mark.parametrize(("size", "smallest", "largest"), [(512, 171, 181), (224, 75, 79)])
def test_standard_transformations_leave_xplique_s_sizes(size, smallest, largest):
    transform = t.generate_standard_transformations(size, 1)
    # Only the scale is random: int(size / 2 * factor) pixels before the last crops.
    sizes = {transform(torch.zeros(1, 1, size, size)).shape[2] for _ in range(40)}
    assert smallest <= min(sizes)
    assert max(sizes) <= largest
    assert len(sizes) > 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 47)])
def test_standard_transformations_of_any_channels(channels, height, width):
    batch = images(3, channels, height, width).requires_grad_()
    result = t.generate_standard_transformations(height, channels)(batch)
    assert result.shape[:2] == (3, channels)
    result.sum().backward()
    assert batch.grad.isfinite().all()
    assert batch.grad.abs().sum() > 0


def test_the_global_generator_decides():
    batch = images(2, 3, 40, 40)
    transform = t.generate_standard_transformations(40)
    torch.manual_seed(5)
    first, second = transform(batch), transform(batch)
    torch.manual_seed(5)
    assert torch.equal(transform(batch), first)
    assert first.shape != second.shape or not torch.equal(first, second)


@pytest.mark.parametrize(
    "transform",
    [
        t.random_blur((1.2, 1.2), 4),
        t.random_jitter(1),
        t.random_scale((0.8, 0.8)),
        t.random_flip(),
        t.pad(1),
    ],
)
def test_gradient(transform):
    def repeatable(batch):
        torch.manual_seed(0)
        return transform(batch)

    batch = images(2, 2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(repeatable, (batch,), fast_mode=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: t.random_blur((2.0, 1.0)), "sigma_range is"),
        (lambda: t.random_blur((-1.0, 1.0)), "sigma_range is"),
        (lambda: t.random_blur((1.0,)), "sigma_range is"),
        (lambda: t.random_blur((1.0, math.nan)), "sigma_range is"),
        (lambda: t.random_blur(kernel_size=0), "kernel_size is 0"),
        (lambda: t.random_jitter(-1), "delta is -1"),
        (lambda: t.random_scale((0.0, 1.0)), "factors above 0"),
        (lambda: t.pad(-2), "size is -2"),
        (lambda: t.generate_standard_transformations(0), "size and channels are 0 and 3"),
        (lambda: t.generate_standard_transformations(64, 0), "size and channels are 64 and 0"),
        (lambda: t.resize(torch.zeros(1, 1, 4, 4), (0, 4)), r"size is \(0, 4\)"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="delta is 8 and the images are 8 x 20"):
        t.random_jitter(8)(torch.zeros(1, 3, 8, 20))
    with pytest.raises(ValueError, match=r"the factor 0\.200 leaves nothing of images of 4 x 9"):
        t.random_scale((0.2, 0.2))(torch.zeros(1, 3, 4, 9))
    with pytest.raises(TypeError, match="'blur' is not a function"):
        t.compose_transformations([t.pad(1), "blur"])


@pytest.mark.parametrize(
    "transform",
    [t.random_blur(), t.random_jitter(), t.random_scale(), t.random_flip(), t.pad()],
)
def test_one_image_without_a_batch_is_refused(transform):
    with pytest.raises(ValueError, match=r"expected \(N, C, H, W\)"):
        transform(torch.zeros(3, 32, 32))


def one_by_one(functions, batch):
    """Each transformation alone: a pass over the pixels for each."""
    for function in functions:
        batch = function(batch)
    return batch


CHAINS = {
    "standard": [
        t.pad(8), t.random_jitter(4), t.random_jitter(8), t.random_scale((0.9, 0.95)),
        t.random_blur((1.0, 1.1)), t.random_jitter(2), t.random_flip(), resize_to((23, 17)),
    ],
    "border": [t.pad(3, 0.7), t.random_scale((0.7, 1.4)), t.pad(2, -1.0), t.random_blur((1, 2), 4)],
    "flips": [
        t.random_flip(True, True), t.random_jitter(5), t.random_scale((1.2, 1.5)), t.random_flip(),
        t.random_jitter(3), t.random_flip(False, True), t.random_blur((0.5, 0.6), 3),
    ],
    "outside": [t.pad(40), t.random_jitter(75), t.random_scale((1.5, 2.0)), t.random_blur()],
    "function": [
        t.random_jitter(2), t.random_scale(), lambda batch: batch**2, t.random_blur(), t.pad(1, 2.0)
    ],
}  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 1, 24, 24), (3, 3, 37, 41), (5, 2, 26, 90)])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_its_transformations_one_by_one(chain, shape):
    """Drawn alike, images and gradients, in float64: 30 sums of numbers below 10."""
    composed = t.compose_transformations(CHAINS[chain])
    for seed in range(10):
        batches, results, states = [], [], []
        for apply in (composed, functools.partial(one_by_one, CHAINS[chain])):
            torch.manual_seed(seed)
            batch = images(*shape).requires_grad_()
            result = apply(batch)
            (result**2).sum().backward()
            batches.append(batch.grad)
            results.append(result.detach())
            states.append(torch.random.get_rng_state())
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(*batches, rtol=1e-12, atol=1e-11)
        assert torch.equal(*states)


def test_a_chain_in_float32_differs_from_float64_by_rounding():
    """The weights are made in float64, so each pixel has the error of two dot products."""
    composed = t.compose_transformations(CHAINS["standard"])
    batch = images(2, 3, 200, 200)
    torch.manual_seed(0)
    exact = composed(batch)
    torch.manual_seed(0)
    single = composed(batch.float())
    assert single.dtype == torch.float32
    # Weights sum to at most 1 and pixels are below 1; some 20 of them add up in each product.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=40 * 2**-24)


def test_half_precision_is_rounded_once():
    composed = t.compose_transformations(CHAINS["standard"])
    batch = images(1, 3, 64, 64).bfloat16()
    torch.manual_seed(0)
    exact = composed(batch.double())
    torch.manual_seed(0)
    half = composed(batch)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=2**-8, atol=1e-6)


def test_a_chain_of_crops_copies_pixels():
    """Nothing is multiplied, so any type is as it was, and infinities stay where they are."""
    batch = torch.arange(2 * 30 * 30).reshape(2, 1, 30, 30)
    composed = t.compose_transformations([t.pad(2, 7), t.random_jitter(4), t.random_flip()])
    torch.manual_seed(1)
    expected = one_by_one([t.pad(2, 7), t.random_jitter(4), t.random_flip()], batch)
    torch.manual_seed(1)
    assert torch.equal(composed(batch), expected)


def test_composed_chains_are_one_chain():
    inner = t.compose_transformations([t.random_jitter(2), t.random_blur()])
    outer = t.compose_transformations([t.random_scale(), inner])
    batch = images(2, 3, 20, 20)
    torch.manual_seed(2)
    expected = one_by_one([t.random_scale(), t.random_jitter(2), t.random_blur()], batch)
    torch.manual_seed(2)
    torch.testing.assert_close(outer(batch), expected, rtol=1e-12, atol=1e-13)


def test_a_chain_says_which_part_was_wrong():
    composed = t.compose_transformations([t.random_scale((0.5, 0.5)), t.random_jitter(30)])
    with pytest.raises(ValueError, match="random_jitter: delta is 30 and the images are 20 x 25"):
        composed(images(1, 3, 40, 50))
    wrong = t.compose_transformations([lambda batch: batch[0], t.random_jitter(1)])
    with pytest.raises(ValueError, match=r"random_jitter: .*expected \(N, C, H, W\)"):
        wrong(images(1, 3, 40, 50))
