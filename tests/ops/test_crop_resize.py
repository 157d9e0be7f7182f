import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fvfast.ops.crop_resize import crop_and_resize, crop_and_resize_grouped


def crop_by_hand(image, box, height, width):
    """Loops over the output pixels of one box of an image (C, H, W), in float64."""
    channels, rows, columns = image.shape
    y1, x1, y2, x2 = box.double().tolist()
    crop = torch.zeros(channels, height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            y = (y1 + (y2 - y1) * (i / (height - 1) if height > 1 else 0.5)) * (rows - 1)
            x = (x1 + (x2 - x1) * (j / (width - 1) if width > 1 else 0.5)) * (columns - 1)
            if not (0 <= y <= rows - 1 and 0 <= x <= columns - 1):
                continue
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            dy, dx = y - top, x - left
            crop[:, i, j] = (
                image[:, top, left] * (1 - dy) * (1 - dx)
                + image[:, top, right] * (1 - dy) * dx
                + image[:, bottom, left] * dy * (1 - dx)
                + image[:, bottom, right] * dy * dx
            )
    return crop


BOXES = torch.tensor(
    [
        [0.1, 0.2, 0.7, 0.9],
        [-0.3, -0.1, 0.4, 0.6],  # partly outside
        [1.2, 1.3, 1.5, 1.6],  # wholly outside
        [0.8, 0.9, 0.2, 0.1],  # reversed: flipped
        [0.0, 0.0, 1.0, 1.0],
        [0.5, 0.5, 0.5, 0.5],  # a point
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (7, 7), (31, 16)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5), (13, 4)])
def test_against_a_loop(shape, size):
    image = torch.randn(2, *shape, dtype=torch.float64)
    crops = crop_and_resize(image[None], BOXES, size)
    expected = torch.stack([crop_by_hand(image, box, *size) for box in BOXES])
    assert torch.allclose(crops, expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    box=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    size=st.integers(1, 9),
    value=st.floats(-3, 3),
)
def test_constant_image_crops_to_itself_inside(box, size, value):
    image = torch.full((1, 2, 11, 6), value, dtype=torch.float64)
    boxes = torch.tensor([box], dtype=torch.float64)
    crops = crop_and_resize(image, boxes, size)
    # Rounding may carry a sample at the very edge outside.
    inside = crops != 0
    assert torch.allclose(crops[inside], torch.tensor(value, dtype=torch.float64))
    if all(0 < end < 1 for end in box):
        assert bool(inside.all()) or value == 0


def test_gradient():
    image = torch.randn(2, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    boxes = BOXES.to(image.device).expand(2, -1, -1)
    assert torch.autograd.gradcheck(lambda x: crop_and_resize_grouped(x, boxes, (4, 3)), image)


def test_several_images_by_index():
    images = torch.randn(3, 2, 9, 8)
    indices = torch.tensor([2, 0, 2, 1, 0, 1])
    crops = crop_and_resize(images, BOXES.float(), 5, box_indices=indices)
    for crop, box, index in zip(crops, BOXES.float(), indices, strict=True):
        alone = crop_and_resize(images[index][None], box[None], 5)[0]
        assert torch.allclose(crop, alone, atol=1e-6)


def test_strided_images():
    images = torch.randn(1, 9, 8, 3).permute(0, 3, 1, 2)
    assert torch.allclose(
        crop_and_resize(images, BOXES.float(), 6),
        crop_and_resize(images.contiguous(), BOXES.float(), 6),
    )


def test_no_boxes():
    assert crop_and_resize(torch.randn(1, 3, 8, 8), torch.empty(0, 4), 5).shape == (0, 3, 5, 5)


@pytest.mark.parametrize(
    ("images", "boxes", "size", "indices", "message"),
    [
        (torch.ones(3, 8, 8), BOXES, 4, None, r"floating point \(N, C, H, W\)"),
        (torch.ones(1, 3, 8, 8, dtype=torch.int64), BOXES, 4, None, "floating point"),
        (torch.ones(1, 3, 8, 8), BOXES[0], 4, None, r"\(K, 4\)"),
        (torch.ones(1, 3, 8, 8), BOXES * float("nan"), 4, None, "finite"),
        (torch.ones(1, 3, 8, 8), BOXES, 0, None, "at least 1"),
        (torch.ones(2, 3, 8, 8), BOXES, 4, None, "box_indices is needed"),
        (torch.ones(2, 3, 8, 8), BOXES, 4, [0, 1], "one box index per box"),
        (torch.ones(2, 3, 8, 8), BOXES, 4, [0, 1, 2, 0, 0, 0], "0 to 1, got 0 to 2"),
    ],
)
def test_mistakes_are_explained(images, boxes, size, indices, message):
    with pytest.raises(ValueError, match=message):
        crop_and_resize(images, boxes, size, box_indices=indices)
