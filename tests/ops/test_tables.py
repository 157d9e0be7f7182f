"""Numbers of a step and identities in the memory of the device: the same bits as from the host."""

import pytest
import torch
from ops.tables import (
    IDENTITIES,
    KEY,
    RANGE,
    SCALES,
    SIDES,
    STEPS,
    WIDTHS,
    assert_same,
    boxes_of,
    normal,
    row_of,
    states,
    table_of,
)
from ops.without_native import call_without_native
from selection import short_for

from fvfast.ops import inject_noise, inject_noise_, phase_update_, random_crops
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.nadam import nadam_rates, nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.compiled
def test_boxes():
    sides, counter, words = table_of(SIDES), torch.tensor(0), torch.tensor(IDENTITIES)
    drawn = []
    for step in STEPS:
        drawn.append(boxes_of(sides, counter, words))
        assert_same(drawn[-1], boxes_of(SIDES[row_of(step)], step))
        counter += 1
    assert not any(torch.equal(drawn[0], other) for other in drawn[1:])


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", short_for([inject_noise_], [inject_noise, inject_noise_]))
def test_noise(function, dtype):
    images, counter = normal(2, 3, 31, dtype=dtype), torch.tensor(0)
    given = {
        "std": table_of(SCALES),
        "uniform_width": table_of(WIDTHS),
        "identities": torch.tensor(IDENTITIES),
    }
    for step in STEPS:
        row = row_of(step)
        numbers = {"std": SCALES[row], "uniform_width": WIDTHS[row], "identities": IDENTITIES}
        expected = inject_noise(images, **numbers, step=step, **KEY)
        assert_same(function(images.clone(), **given, step=counter, **KEY), expected)
        assert torch.equal(images, expected) == (row == 1)  # which has no noise
        counter += 1


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_crops(memory_format, dtype):
    real = torch.promote_types(dtype, torch.float32)
    images, boxes, counter = normal(2, 3, 9, 11, dtype=real), boxes_of(0.5, 0), torch.tensor(0)
    images.requires_grad_()
    layout = {"dtype": dtype, "memory_format": memory_format, **KEY}
    words = torch.tensor(IDENTITIES)
    for step in STEPS:
        row = row_of(step)
        numbers = {"std": SCALES[row], "uniform_width": WIDTHS[row], "identities": IDENTITIES}
        expected = random_crops(images, boxes, (7, 9), step=step, **numbers, **layout)
        actual = random_crops(
            images, boxes, (7, 9), std=table_of(SCALES), uniform_width=table_of(WIDTHS),
            identities=words, step=counter, **layout,
        )  # fmt: skip
        assert_same(actual, expected)
        counter += 1
    slopes = [torch.autograd.grad(crops.sum(), images)[0] for crops in (actual, expected)]
    assert_same(*slopes)


def test_a_single_table_serves_both_scales():
    images, counter = normal(2, 9), torch.tensor(2)
    key = {**KEY, "identities": IDENTITIES, "step": counter}
    expected = inject_noise(images, SCALES[2], **key)
    assert_same(inject_noise(images, table_of(SCALES), **key), expected)


@pytest.mark.compiled
@pytest.mark.every_instruction_set
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_updates(dtype):
    rates, counter = nadam_table(4, lr=[0.3, 0.7, 1.1, 0.1]), torch.tensor(0)
    rates = rates.to(torch.get_default_device())
    ours, theirs = states(dtype)
    for lr in (0.3, 0.7, 1.1, 0.1):
        sums = phase_update_(*ours, step=counter, rates=rates)
        expected = phase_update_(*theirs, step=int(counter) + 1, lr=lr)
        assert_same(sums, expected)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
        counter += 1
    phase_update_(*ours, step=counter, rates=rates)  # beyond the last row
    phase_update_(*theirs, step=4, lr=0.1)
    assert_same(ours[0], theirs[0])


@pytest.mark.compiled
@pytest.mark.parametrize("width", [40, 26 * 2 + 1])  # whose transform is ours, and is torch's
def test_ascents(width):
    """The gradient is finished by the update on CUDA, and read there."""
    half = (2, 3, 48, width // 2 + 1)
    magnitude, cotangent = normal(*half[1:], seed=1).abs() + 0.1, normal(2, 3, 48, width, seed=4)
    rates, counter = nadam_table(3, maximize=False).to(torch.get_default_device()), torch.tensor(2)
    results = []
    for given in ({"step": counter, "rates": rates}, {"step": 3, "maximize": False}):
        phase, averages = normal(*half), [0.1 * normal(*half, seed=2), 0.5 + normal(*half) ** 2]
        rendered = render_phase(magnitude, phase, RANGE, width)
        sums = phase_ascent_(cotangent, rendered, magnitude, phase, *averages, RANGE, **given)
        results.append((phase, *averages, sums))
    for one, other in zip(*results, strict=True):
        assert_same(one, other)


@pytest.mark.compiled
def test_columns_of_one_table():
    """A row has all numbers of a step; identities have gaps; more of them than one launch takes."""
    count = 300
    rows = torch.cat((table_of([SIDES, SCALES, WIDTHS]).t(), nadam_table(4).to(table_of([]))), 1)
    counter = torch.tensor(2)
    words = torch.arange(2 * count).flip(0)[::2]
    known = words.tolist()
    assert_same(boxes_of(rows[:, 0], counter, words), boxes_of(SIDES[2], 2, known))
    images = normal(count, 3)
    noisy = inject_noise(
        images, rows[:, 1], uniform_width=rows[:, 2], identities=words, step=counter, **KEY
    )
    given = {"uniform_width": WIDTHS[2], "identities": known, "step": 2, **KEY}
    assert_same(noisy, inject_noise(images, SCALES[2], **given))
    ours, theirs = states(torch.float32)
    phase_update_(*ours, step=counter, rates=rows[:, 3:])
    phase_update_(*theirs, step=3)
    assert_same(ours[0], theirs[0])
    by_columns = rows.t().contiguous().t()  # no two numbers of a row lie together
    ours, _ = states(torch.float32)
    phase_update_(*ours, step=counter, rates=by_columns[:, 3:])
    assert_same(ours[0], theirs[0])


def test_no_images():
    none, counter = torch.zeros(0, dtype=torch.int64), torch.tensor(1)
    assert boxes_of(table_of(SIDES), counter, none).shape == (0, 5, 4)
    images = torch.zeros(0, 3)
    key = {**KEY, "identities": none, "step": counter}
    assert inject_noise(images, table_of(SCALES), **key).shape == (0, 3)


def by_tables_and_by_numbers():
    """Results of the PyTorch reference, in pairs."""
    counter, words = torch.tensor(2), torch.tensor(IDENTITIES)
    images, boxes = normal(2, 3, 9, 11), boxes_of(0.5, 0)
    ours, theirs = states(torch.float32)
    phase_update_(*ours, step=counter, rates=nadam_table(4))
    phase_update_(*theirs, step=3)
    scales = {"std": table_of(SCALES), "uniform_width": table_of(WIDTHS)}
    given = {**scales, "step": counter, "identities": words, **KEY}
    known = {"std": SCALES[2], "uniform_width": WIDTHS[2], "step": 2, **KEY}
    known["identities"] = IDENTITIES
    return [
        (boxes_of(table_of(SIDES), counter, words), boxes_of(SIDES[2], 2)),
        (inject_noise(images, **given), inject_noise(images, **known)),
        (inject_noise(images.half(), **given), inject_noise(images.half(), **known)),
        (random_crops(images, boxes, 5, **given), random_crops(images, boxes, 5, **known)),
        *zip(ours, theirs, strict=True),
    ]


@pytest.mark.cpu_only
def test_the_reference():
    for ours, theirs in call_without_native(by_tables_and_by_numbers):
        assert_same(ours, theirs)


@pytest.mark.cpu_only
def test_other_devices_are_not_read():
    """Torch refuses to read a number of the device "meta", which has none."""
    with torch.device("meta"):
        counter, words = torch.tensor(2), torch.zeros(2, dtype=torch.int64)
        numbers = torch.zeros(4, dtype=torch.float64)
        images = torch.zeros(2, 3, 9, 11)
        state = [torch.zeros(2, 3, 8, 5) for _ in range(4)]
        rates = torch.zeros(4, 3, dtype=torch.float64)
    boxes = boxes_of(numbers, counter, words, device="meta")
    assert boxes.shape == (2, 5, 4)
    given = {"std": numbers, "identities": words, "step": counter, **KEY}
    assert inject_noise(images, **given).shape == images.shape
    assert random_crops(images, boxes, 5, **given).shape == (10, 3, 5, 5)
    assert phase_update_(*state, step=counter, rates=rates).shape == (2, 1, 2)


def operation_arguments():
    counter, words = torch.tensor(2), torch.tensor(IDENTITIES)
    noise = (0.0, 0.0, 1, [], 4, counter, table_of(SCALES), table_of(WIDTHS), words)
    box = (0.0, 5, "normal", 0.05, 0.15, 0.05, 1.0, 1, [], 4, counter, table_of(SIDES), words)
    rates = (0.9, 0.999, 0.0, 0.0, 1.0, 1e-7, nadam_table(4), counter)
    return {
        "draw_boxes": (*box, torch.device("cpu")),
        "inject_noise": (normal(2, 3, 8, 8), *noise),
        "inject_noise_": (normal(2, 3, 8, 8), *noise),
        "crop_resize": (normal(2, 3, 8, 8), boxes_of(0.5, 0), 5, 6, torch.float32, True, *noise),
        "phase_update_": (*states(torch.float32)[0], *rates),
    }


@pytest.mark.parametrize("name", operation_arguments())
def test_opcheck(name):
    operation = getattr(torch.ops.fvfast, name).default
    torch.library.opcheck(operation, operation_arguments()[name])


@pytest.mark.cpu_only
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_without_graph_breaks():
    sides, scales, rates = table_of(SIDES), table_of(SCALES), nadam_table(4)
    images, words = normal(2, 3, 9, 11), torch.tensor(IDENTITIES)

    def step(counter, *state):
        boxes = draw_boxes(sides, 5, step=counter, identities=words, **KEY)
        given = {"std": scales, "identities": words, "step": counter, **KEY}
        crops = random_crops(images, boxes, 5, **given)
        return crops, phase_update_(*state, step=counter, rates=rates), state[0]

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True)
    counter = torch.tensor(0)
    for _ in range(3):
        ours, theirs = states(torch.float32)
        for one, other in zip(compiled(counter, *ours), step(counter, *theirs), strict=True):
            assert_same(one, other)
        counter += 1


@pytest.mark.cpu_only
def test_a_table_of_nadam():
    settings = {"betas": (0.8, 0.99), "momentum_decay": 0.3, "maximize": False}
    table = nadam_table(20, lr=0.7, **settings)
    for step, row in enumerate(table.tolist(), start=1):
        rates = nadam_rates(step=step, lr=0.7, **settings)
        assert row == [rates.gradient_rate, rates.momentum_rate, rates.correction]
    with pytest.raises(ValueError, match=r"nadam_table\(\): steps: expected .*got 0"):
        nadam_table(0)
    with pytest.raises(ValueError, match=r"nadam_table\(\): lr: expected a number, or 3"):
        nadam_table(3, lr=[1.0, 2.0])
