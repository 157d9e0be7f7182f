"""A launch that is too large for a grid of blocks is refused before the kernel starts.

Nothing is allocated: where a launch took place, it would fail at the first address.
"""

import pytest

from cuda_emulator.build import UnavailableError, build, load

MOST = 2**31 - 1
TARGET = (0, 0)
NONE = (0, 0)


def at(address):
    """Memory that is said to be there."""
    return address, 2**60


ADDRESSES = {
    "magnitude": at(2**50),
    "phase": at(2**51),
    "statistics": at(2**52),
    "scratch": at(2**53),
}
CROPS = {"image_dtype": "float32", "box_dtype": "float32", "boxes": at(64), "target": TARGET}
COLORS = {"low": 0.0, "high": 1.0, "colors": []}
PHASE = {**ADDRESSES, "dtype": "float32", "epsilon": 1e-5, "target": TARGET}


@pytest.fixture(scope="module")
def module():
    try:
        return load(build())
    except UnavailableError as reason:
        pytest.skip(str(reason))


def crop_resize(module):
    channels = 2**32
    module.crop_resize(
        images=at(2**50), out=at(2**52), sizes=(1, 1, channels, 1, 1, 1, 1), out_dtype="float32",
        image_strides=(0, 1, 1, 1), out_strides=(0, 0, 1, 1, 1), identities=[0], std=0.0,
        uniform_width=0.0, seed=0, step=0, counter=NONE, std_table=None, uniform_width_table=None,
        identity_table=None, **CROPS,
    )  # fmt: skip


def crop_gradient(module):
    side = 2**24
    module.crop_gradient(
        gradient=at(2**50), image_gradient=at(2**52), transparency=NONE, scratch=NONE,
        gradient_dtype="float32", sizes=(1, 1, 1, side, side, 1, 1),
        gradient_strides=(1, 1, 1, 1, 1), transparency_strides=(0, 0, 0, 0), running=NONE,
        flags=NONE, **CROPS,
    )  # fmt: skip


def phase_image(module):
    channels = 2**32
    sizes = {"sizes": (1, channels, 1, 1), "phase_sums": at(2**49), "sum_parts": 1}
    module.phase_image(image=at(2**54), **PHASE, **sizes, **COLORS)


def phase_spectrum(module):
    sizes = {"sizes": (1, 1, 1, 2**38), "phase_sums": at(2**49), "sum_parts": 1}
    module.cuda_phase_spectrum(spectrum=at(2**54), **PHASE, **sizes)


def phase_spectrum_of_images(module):
    images = 2**32
    sizes = {"sizes": (images, 1, 1, 1), "phase_sums": at(2**49), "sum_parts": 1}
    module.cuda_phase_spectrum(spectrum=at(2**54), **PHASE, **sizes)


def phase_image_gradient(module):
    channels = 2**32
    module.phase_image_gradient(
        gradient=at(2**54), image=at(2**55), out=at(2**56), finish=True, sizes=(1, channels, 1, 1),
        **PHASE, **COLORS,
    )  # fmt: skip


def phase_gradient(module):
    channels = 2**32
    module.cuda_phase_gradient(
        transform=at(2**54), out=at(2**56), sizes=(1, channels, 1, 1), **PHASE
    )


def spectrum_image(module):
    side = 2**20
    module.spectrum_image(
        image=at(2**54), statistics=at(2**52), epsilon=1e-5, dtype="float32",
        sizes=(1, 1, side, side), target=TARGET, **COLORS,
    )  # fmt: skip


def spectrum_image_gradient(module):
    side = 2**20
    module.spectrum_image_gradient(
        gradient=at(2**53), image=at(2**54), out=at(2**55), dtype="float32",
        sizes=(1, 1, side, side), target=TARGET, **COLORS,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("launch", "op", "blocks"),
    [
        (crop_resize, "crop_resize", 2**32),
        (crop_gradient, "crop_gradient", 2**39),
        (phase_image, "phase_image", 2**32),
        (phase_spectrum, "phase_image", 2**32 + 1),  # of 32 columns, and one for the last
        (phase_spectrum_of_images, "phase_spectrum", 2**32),
        (phase_image_gradient, "phase_image_gradient", 2**32),
        (phase_gradient, "phase_image_gradient", 2**32),
        (spectrum_image, "spectrum_image", 2**32),
        (spectrum_image_gradient, "spectrum_image_gradient", 2**32),
    ],
)
def test_more_blocks_than_a_grid_has(module, launch, op, blocks):
    with pytest.raises(ValueError, match=rf"^{op}\(\): sizes: expected sizes that make") as raised:
        launch(module)
    assert f"at most {MOST} blocks of threads, got {blocks}: use smaller" in str(raised.value)
