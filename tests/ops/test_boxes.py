"""Drawing boxes: the kernel against the reference in float64."""

import math

import pytest
import torch
from ops.without_native import call_without_native

from fvfast.ops._kernels import native, native_status
from fvfast.ops._memory import buffer
from fvfast.ops.boxes import BoxDistribution, draw_boxes, draw_boxes_reference
from fvfast.ops.philox import Purpose, random_words, to_uniform

KEY = {"seed": 0x1234_5678_9ABC_DEF0, "identities": [3, 2**32 - 1], "step": 7}


def key():
    return {**KEY, "device": torch.get_default_device()}


DISTRIBUTIONS = [
    BoxDistribution(),
    BoxDistribution("uniform", 0.025),
    BoxDistribution(spread=0.1),
    BoxDistribution("normal", 3.0, 2.0, -1.0, 4.0),
    BoxDistribution("uniform", 0.0, 0.0, 0.3, 0.3),
]
needs_native = pytest.mark.skipif(
    not native_status().available, reason="the native module is not built"
)


def tolerance(distribution, box_size):
    """What float32 may be wrong by, with eps = 2^-23.

    A normal number below 6 is a radius times a cosine: the logarithm, the root, the angle and the
    cosine are each good to an ulp or so, and the angle, below 2 pi, passes its own error on. That
    is less than 64 eps. The few sums and products after it each round to half an eps of a result.
    """
    eps = torch.finfo(torch.float32).eps
    largest = max(abs(distribution.smallest), abs(distribution.largest))
    spreads = distribution.center_spread + distribution.spread
    return eps * (64 * spreads + 2 * (0.5 + 6 * spreads + abs(box_size) + largest))


def assert_right(box_size, nb_crops, distribution, **key):
    actual = draw_boxes(box_size, nb_crops, distribution=distribution, **key)
    expected = draw_boxes_reference(
        box_size, nb_crops, distribution=distribution, dtype=torch.float64, **key
    )
    assert actual.dtype == torch.float32
    assert actual.is_contiguous()
    assert actual.shape == (len(key["identities"]), nb_crops, 4)
    if actual.numel():
        error = (actual.double() - expected).abs().max().item()
        assert error <= tolerance(distribution, box_size)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@pytest.mark.parametrize("box_size", [0.05, 0.25, 1.0])
def test_boxes_are_those_of_the_reference(distribution, box_size):
    assert_right(box_size, 2000, distribution, **key())


@pytest.mark.compiled
@pytest.mark.parametrize(("identities", "nb_crops"), [([], 4), ([1, 2], 0), ([], 0), ([5], 1)])
def test_few_and_no_boxes(identities, nb_crops):
    for distribution in DISTRIBUTIONS:
        assert_right(0.25, nb_crops, distribution, **{**key(), "identities": identities})


def test_words_are_those_of_the_counter():
    """Sides uniform in [-1, 1) around a fixed center: y2 is the third word's number, exactly."""
    exact = BoxDistribution("uniform", spread=1.0, center_spread=0.0, smallest=-1.0, largest=1.0)
    boxes = draw_boxes(0.0, 1000, distribution=exact, **key())
    words = random_words(4000, purpose=Purpose.BOX, **key()).unflatten(1, (1000, 4))
    assert torch.equal(boxes[..., 2], to_uniform(words[..., 2]))
    assert torch.equal(boxes[..., 3], boxes[..., 2])
    assert torch.equal(boxes[..., 0], 1 - boxes[..., 2])


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 - 1, 2**64 + 5, -(2**80) + 3])
def test_the_lowest_64_bits_of_any_seed_count(seed):
    assert_right(0.25, 10, BoxDistribution(), **{**key(), "seed": seed})
    same = draw_boxes(0.25, 10, **{**key(), "seed": seed % 2**64})
    assert torch.equal(draw_boxes(0.25, 10, **{**key(), "seed": seed}), same)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"seed": KEY["seed"] + 2**32}, {"step": 8}, {"identities": [4, 5]}]
)
def test_seed_step_and_image_each_change_the_boxes(change):
    assert (
        draw_boxes(0.25, 100, **key()) == draw_boxes(0.25, 100, **{**key(), **change})
    ).sum() < 4


def test_an_image_alone_equals_itself_in_a_batch():
    batch = draw_boxes(0.25, 7, **key())
    for index, identity in enumerate(KEY["identities"]):
        assert torch.equal(
            draw_boxes(0.25, 7, **{**key(), "identities": [identity]})[0], batch[index]
        )


@pytest.mark.cpu_only
def test_any_number_of_threads_gives_the_same_bits():
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(draw_boxes(0.25, 5000, **key()))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


def drawn_from_all_distributions():
    return [draw_boxes(0.25, 9, distribution=one, **KEY) for one in DISTRIBUTIONS]


@pytest.mark.cpu_only
def test_the_reference_stands_in_for_a_missing_module():
    drawn = call_without_native(drawn_from_all_distributions)
    for boxes, distribution in zip(drawn, DISTRIBUTIONS, strict=True):
        expected = draw_boxes_reference(0.25, 9, distribution=distribution, **KEY)
        assert torch.equal(boxes, expected)


@pytest.mark.cpu_only
def test_other_devices_have_the_reference():
    boxes = draw_boxes(0.25, 9, device="meta", **KEY)
    assert boxes.device.type == "meta"
    assert boxes.shape == (2, 9, 4)
    assert boxes.dtype == torch.float32


def test_opcheck():
    arguments = (0.25, 9, "normal", 0.05, 0.15, 0.05, 1.0, 1, [2, 3], 4, None)
    arguments = (*arguments, None, None, torch.device("cpu"))
    torch.library.opcheck(torch.ops.fvfast.draw_boxes.default, arguments)


@pytest.mark.parametrize(
    ("argument", "got", "change"),
    [
        ("box_size", "nan", {"box_size": math.nan}),
        ("box_size", "inf", {"box_size": math.inf}),
        ("nb_crops", "-1", {"nb_crops": -1}),
        ("nb_crops", "4294967297", {"nb_crops": 2**32 + 1}),
        ("identities", "-1", {"identities": [-1]}),
        ("identities", "4294967296", {"identities": [2**32]}),
        ("step", "-1", {"step": -1}),
        ("step", "4294967296", {"step": 2**32}),
        ("distribution.shape", "cauchy", BoxDistribution("cauchy")),
        ("distribution.spread", "-1.0", BoxDistribution(spread=-1.0)),
        ("distribution.center_spread", "nan", BoxDistribution(center_spread=math.nan)),
        ("distribution.largest", "largest 0.1", BoxDistribution(smallest=0.2, largest=0.1)),
        ("distribution.largest", "smallest -inf", BoxDistribution(smallest=-math.inf)),
    ],
)
def test_bad_arguments_are_named(argument, got, change):
    if isinstance(change, BoxDistribution):
        change = {"distribution": change}
    arguments = {"box_size": 0.25, "nb_crops": 4, **key(), **change}
    with pytest.raises(ValueError, match=rf"draw_boxes\(\): {argument}: expected .*{got}"):
        draw_boxes(**arguments)


@pytest.mark.cpu_only
@needs_native
@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("boxes", {"boxes": (0, 8)}),
        ("boxes", {"boxes": (64, 7)}),  # of 8 numbers
        ("boxes", {"boxes": (66, 8)}),
        ("crops", {"crops": -1}),
        ("crops", {"crops": 2**32 + 1}),
        ("box_size", {"box_size": math.nan}),
        ("box_size", {"box_size": 1e300}),
        ("shape", {"shape": "cauchy"}),
        ("spread", {"spread": -1.0}),
        ("spread", {"spread": 1e300}),
        ("center_spread", {"center_spread": math.inf}),
        ("smallest", {"smallest": math.nan}),
        ("largest", {"largest": math.inf}),
        ("largest", {"largest": 0.01}),
        ("identities", {"identities": [2**32]}),
        ("identities", {"identities": [-1]}),
        ("step", {"step": -1}),
        ("counter", {"counter": (64, 1)}),
        ("box_size_table", {"box_size_table": ((64, 1), 1, 1)}),
        ("identity_table", {"identity_table": ((64, 1), 1, 1)}),
    ],
)
def test_native_module_checks_for_itself(argument, change):
    boxes = torch.zeros(1, 2, 4)
    arguments = {
        "boxes": buffer(boxes),
        "crops": 2,
        "box_size": 0.25,
        "shape": "normal",
        "spread": 0.05,
        "center_spread": 0.15,
        "smallest": 0.05,
        "largest": 1.0,
        "identities": [0],
        "seed": 0,
        "step": 0,
        "counter": (0, 0),
        "box_size_table": None,
        "identity_table": None,
        "target": None,
    }
    with pytest.raises(ValueError, match=rf"draw_boxes\(\): {argument}: expected .*, got"):
        native().draw_boxes(**{**arguments, **change})
