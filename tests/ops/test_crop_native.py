"""What the native module checks for itself before it crops."""

import math

import pytest
import torch

from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(not native_status().available, reason="the native module is not built"),
]

SIZES = (1, 2, 3, 8, 9, 4, 5)
IMAGES, CROPS = torch.zeros(1, 3, 8, 9), torch.zeros(1, 2, 3, 4, 5)
PIXELS, TRANSPARENCY = torch.zeros(1, 3, 8, 9), torch.zeros(1, 3, 8, 9)
BOXES = torch.full((1, 2, 4), 0.5, dtype=torch.float64)
SCRATCH = torch.zeros(2**17, dtype=torch.uint8)
SCRATCH_ADDRESS = SCRATCH.data_ptr() + -SCRATCH.data_ptr() % 64
SCRATCH_OF = {"image_dtype": "float32", "sizes": SIZES, "target": None}
NONE = (0, 0)


def crop(**changes):
    arguments = {
        "images": buffer(IMAGES),
        "boxes": buffer(BOXES),
        "out": buffer(CROPS),
        "image_dtype": "float32",
        "box_dtype": "float64",
        "out_dtype": "float32",
        "sizes": SIZES,
        "image_strides": IMAGES.stride(),
        "out_strides": CROPS.stride(),
        "identities": [0],
        "std": 1.0,
        "uniform_width": 1.0,
        "seed": 0,
        "step": 0,
        "counter": NONE,
        "std_table": None,
        "uniform_width_table": None,
        "identity_table": None,
        "target": None,
    }
    native().crop_resize(**{**arguments, **changes})


def gradient(**changes):
    arguments = {
        "gradient": buffer(CROPS),
        "boxes": buffer(BOXES),
        "image_gradient": buffer(PIXELS),
        "transparency": buffer(TRANSPARENCY),
        "scratch": (SCRATCH_ADDRESS, native().crop_gradient_scratch(**SCRATCH_OF)),
        "gradient_dtype": "float32",
        "image_dtype": "float32",
        "box_dtype": "float64",
        "sizes": SIZES,
        "gradient_strides": CROPS.stride(),
        "transparency_strides": TRANSPARENCY.stride(),
        "running": NONE,
        "flags": NONE,
        "target": None,
    }
    native().crop_gradient(**{**arguments, **changes})


def test_good_arguments():
    crop()
    gradient()
    gradient(transparency=NONE)


BAD_SIZES = [
    (1, 2, 3, 8, 9, 4, -5),
    (-1, 2, 3, 8, 9, 4, 5),
    (1, 2, 3, 0, 9, 4, 5),
    (1, 2, 3, 8, 9, 4, 2**24 + 1),
    (1, 2, 3, 2**24 + 1, 9, 4, 5),
    (2**40, 2**40, 3, 8, 9, 4, 5),
    (2**31, 2**31, 3, 8, 9, 4, 5),
    (1, 2**62, 3, 8, 9, 4, 5),
]


@pytest.mark.parametrize("sizes", BAD_SIZES, ids=str)
@pytest.mark.parametrize("function", [crop, gradient])
def test_sizes(function, sizes):
    changes = {"identities": [0] * min(max(sizes[0], 0), 9)} if function is crop else {}
    with pytest.raises(ValueError, match=r"\(\): sizes: expected .*, got"):
        function(sizes=sizes, **changes)
    with pytest.raises(ValueError, match=r"\(\): sizes: expected .*, got"):
        native().crop_gradient_scratch(image_dtype="float32", sizes=sizes, target=None)


def test_scratch_of_which_there_cannot_be_enough():
    # 2^44 boxes, each with more than 2^24 bytes: their product overflows 64 bits.
    sizes = (1, 2**44, 1, 2**24, 2**24, 1, 1)
    with pytest.raises(ValueError, match=r"crop_gradient_scratch\(\): sizes: expected .* scratch"):
        native().crop_gradient_scratch(image_dtype="float32", sizes=sizes, target=None)
    with pytest.raises(ValueError, match=r"crop_gradient\(\): sizes: expected .* scratch"):
        gradient(sizes=sizes)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("images", {"images": NONE}),
        ("boxes", {"boxes": NONE}),
        ("out", {"out": NONE}),
        ("images", {"images": (IMAGES.data_ptr(), 215)}),
        ("images", {"images": (IMAGES.data_ptr(), -1)}),
        ("images", {"images": (IMAGES.data_ptr() + 2, 216)}),
        ("images", {"image_strides": [216, 73, 9, 1]}),
        ("boxes", {"boxes": (BOXES.data_ptr(), 7)}),
        ("out", {"out": (CROPS.data_ptr(), 119)}),
        ("image_dtype", {"image_dtype": "bfloat16"}),
        ("box_dtype", {"box_dtype": "float16"}),
        ("out_dtype", {"out_dtype": "int8"}),
        ("image_strides", {"image_strides": [9, 1]}),
        ("image_strides", {"image_strides": [216, 72, -9, 1]}),
        ("image_strides", {"image_strides": [216, 72, 9, 2**30]}),
        ("images", {"image_strides": [216, 2**60, 9, 1]}),
        ("out_strides", {"out_strides": [1]}),
        ("out", {"out_strides": [0, 60, 20, 5, 0]}),  # elements that share memory
        ("out", {"out_strides": [0, 60, 20, 4, 1]}),
        ("out", {"out_strides": [0, 2**50, 20, 5, 1]}),
        ("out", {"out": (IMAGES.data_ptr() + 4, 120)}),
        ("out", {"out": (IMAGES.data_ptr() - 4, 120)}),
        ("identities", {"identities": []}),
        ("identities", {"identities": [2**32]}),
        ("std", {"std": math.nan}),
        ("uniform_width", {"uniform_width": -1.0}),
        ("step", {"step": -1}),
        ("counter", {"counter": (64, 1)}),
        ("std_table", {"std_table": ((64, 1), 1, 1)}),
        ("uniform_width_table", {"uniform_width_table": ((64, 1), 1, 1)}),
        ("identity_table", {"identity_table": ((64, 1), 1, 1)}),
        ("boxes", {"boxes": torch.full((8,), math.nan, dtype=torch.float64)}),
    ],
)
def test_crops(argument, change):
    boxes = change.get("boxes")
    change = {**change, "boxes": buffer(boxes)} if isinstance(boxes, torch.Tensor) else change
    with pytest.raises(ValueError, match=rf"crop_resize\(\): {argument}: expected .*, got"):
        crop(**change)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("gradient", {"gradient": NONE}),
        ("boxes", {"boxes": NONE}),
        ("image_gradient", {"image_gradient": NONE}),
        ("scratch", {"scratch": NONE}),
        ("scratch", {"scratch": (SCRATCH_ADDRESS + 8, 2**16)}),
        ("scratch", {"scratch": (SCRATCH_ADDRESS, 100)}),
        ("gradient", {"gradient": (CROPS.data_ptr(), 119)}),
        ("boxes", {"boxes": (BOXES.data_ptr(), 7)}),
        ("image_gradient", {"image_gradient": (PIXELS.data_ptr(), 215)}),
        ("transparency", {"transparency": (TRANSPARENCY.data_ptr(), 215)}),
        ("transparency", {"transparency_strides": [216, 73, 9, 1]}),
        ("gradient_dtype", {"gradient_dtype": "int8"}),
        ("image_dtype", {"image_dtype": "float16"}),
        ("gradient_strides", {"gradient_strides": [1]}),
        ("gradient_strides", {"gradient_strides": [120, 60, 20, 5, -1]}),
        ("transparency_strides", {"transparency_strides": [1]}),
        ("transparency", {"transparency_strides": [216, 72, 0, 1]}),
        ("transparency", {"transparency": buffer(PIXELS)}),
        ("transparency", {"transparency": (CROPS.data_ptr(), 216)}),
        ("image_gradient", {"image_gradient": (CROPS.data_ptr() + 8, 216)}),
        ("image_gradient", {"image_gradient": (SCRATCH_ADDRESS + 8, 216)}),
        ("scratch", {"gradient": (SCRATCH_ADDRESS + 8, 120)}),
    ],
)
def test_gradients(argument, change):
    with pytest.raises(ValueError, match=rf"crop_gradient\(\): {argument}: expected .*, got"):
        gradient(**change)


@pytest.mark.parametrize(
    "sizes", [(0, 2, 3, 8, 9, 4, 5), (1, 0, 3, 8, 9, 4, 5), (1, 2, 0, 8, 9, 4, 5)], ids=str
)
def test_nothing_to_do_reads_no_memory(sizes):
    crop(sizes=sizes, images=NONE, boxes=NONE, out=NONE, identities=[0] * sizes[0])
    gradient(
        sizes=sizes, gradient=NONE, boxes=NONE, image_gradient=NONE, transparency=NONE, scratch=NONE
    )
    assert native().crop_gradient_scratch(image_dtype="float32", sizes=sizes, target=None) == 0
