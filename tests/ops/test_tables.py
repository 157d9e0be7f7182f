"""Numbers of a step and identities in the memory of the device: the same bits as from the host."""

import math

import pytest
import torch
from ops.without_native import call_without_native
from recorded_calls import recording
from selection import short_for

from fvfast.ops import inject_noise, inject_noise_, phase_update_, random_crops
from fvfast.ops._kernels import kernels_for
from fvfast.ops._memory import buffer
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.nadam import nadam_rates, nadam_table
from fvfast.ops.phase_ascent import phase_ascent_, render_phase

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# None is a float32 number, so that each must be rounded, and in the right place.
SIDES = [0.1, 1 / 3, 0.7, 0.05]
SCALES = [0.3, 0.0, 1 / 7, 1.1]
WIDTHS = [0.0, 0.0, 0.7, 1 / 9]
STEPS = range(6)  # two more than there are rows
IDENTITIES = [3, 2**32 - 1]
KEY = {"seed": 0x1234_5678_9ABC_DEF0}
RANGE = (-1.0, 2.0)


def table_of(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def row_of(step):
    return min(step, len(SIDES) - 1)


def boxes_of(number, step, identities=IDENTITIES, **changes):
    key = {**KEY, "identities": identities, "step": step, "device": torch.get_default_device()}
    return draw_boxes(number, 5, **{**key, **changes})


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)


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


def states(dtype):
    """Phase, gradient and averages, twice."""
    half = (2, 3, 48, 21)
    squares = 0.5 + normal(*half, seed=3, dtype=dtype) ** 2
    first = [normal(*half, seed=seed, dtype=dtype) for seed in range(3)] + [squares]
    return first, [tensor.clone() for tensor in first]


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


class Loop:
    """Steps around a network whose loss is half the squares of its crops: they are the gradient."""

    def __init__(self):
        half = (2, 3, 24, 11)
        self.magnitude, self.phase = normal(*half[1:], seed=1).abs() + 0.1, normal(*half)
        self.averages = torch.zeros(half), 0.5 + normal(*half, seed=3) ** 2

    def __call__(self, box_size, std, uniform_width, step, identities, nadam):
        rendered = render_phase(self.magnitude, self.phase, RANGE, 20)
        boxes = boxes_of(box_size, step, identities)
        crops = random_crops(
            rendered.image, boxes, 9, std=std, uniform_width=uniform_width, step=step,
            identities=identities, **KEY,
        )  # fmt: skip
        slope = torch.ops.fvfast.crop_gradient(crops, boxes, 24, 20, torch.float32, None)
        sums = phase_ascent_(
            slope, rendered, self.magnitude, self.phase, *self.averages, RANGE, **nadam
        )
        return boxes, crops, sums, self.phase, *self.averages


@pytest.mark.compiled
def test_one_recorded_step_serves_all_steps(backend):
    """Arguments of all kernels stay as they were: only the counter in memory moves on."""
    if not backend.startswith(("emulated", "ptx")):
        pytest.skip("about arguments of kernels; tests/test_gpu.py has captured graphs")
    steps, rates = 8, [1 / (1 + step) for step in range(8)]
    numbers = [[0.2 + step / 9, 0.3 / (1 + step), step / 70] for step in range(steps)]
    ours, theirs = Loop(), Loop()
    counter, words = torch.tensor(0), torch.tensor(IDENTITIES)
    rows = torch.cat((table_of(numbers), nadam_table(steps, lr=rates)), 1)
    start = [tensor.clone() for tensor in (ours.phase, *ours.averages)]
    nadam = {"step": counter, "rates": rows[:, 3:]}
    with recording() as recorded:
        found = ours(*rows[:, :3].unbind(1), counter, words, nadam)
    assert len(recorded.calls) >= 5
    for tensor, before in zip((ours.phase, *ours.averages), start, strict=True):
        tensor.copy_(before)
    seen = []
    for step in range(steps):
        counter.fill_(step)
        recorded.replay()
        nadam = {"step": step + 1, "lr": rates[step]}
        expected = theirs(*numbers[step], step, IDENTITIES, nadam)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
        seen.append(found[1].clone())
    assert not any(torch.equal(seen[0], other) for other in seen[1:])

    # Identities, too, are those that lie there now.
    words.copy_(torch.tensor([7, 8]))
    recorded.replay()
    expected = theirs(*numbers[-1], steps - 1, [7, 8], nadam)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_what_a_device_has_is_not_checked_but_harmless(backend):
    """A scale that is no number adds nothing, a negative counter reads the first row."""
    if not backend.startswith("emulated"):
        pytest.skip("on the CPU the host refuses them")
    images, scales, counter = normal(2, 9), table_of([0.25, 0.5]), torch.tensor(1)
    words = torch.tensor(IDENTITIES)
    with recording() as recorded:
        noisy = inject_noise(images, scales, step=counter, identities=words, **KEY)
    for scale in (math.nan, -1.0):
        scales.fill_(scale)
        recorded.replay()
        assert_same(noisy, images)
    scales.copy_(table_of([0.25, 0.5]))
    counter.fill_(-1)
    words += 2**32  # of which the lowest 32 bits count
    recorded.replay()
    expected = inject_noise(images, 0.25, step=2**32 - 1, identities=IDENTITIES, **KEY)
    assert_same(noisy, expected)


NOISE_OF_MODULE = {
    "dtype": "float32", "sizes": [2, 3], "image_strides": [3, 1], "out_strides": [3, 1],
    "identities": [], "std": 0.0, "uniform_width": 0.0, "seed": 0, "step": 0,
    "uniform_width_table": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("std_table", {"counter": (0, 0)}),
        ("std_table", {"std_table": lambda memory: (memory, 0, 1)}),
        ("std_table", {"std_table": lambda memory: (memory, 2**32 + 1, 0)}),
        ("std_table", {"std_table": lambda memory: (memory, 4, -1)}),
        ("std_table", {"std_table": lambda memory: (memory, 4, 2)}),  # beyond its end
        ("std_table", {"std_table": lambda memory: (memory, 4, 2**62)}),
        ("std_table", {"std_table": ((0, 4), 4, 1)}),
        ("std_table", {"std_table": lambda memory: ((memory[0] + 4, 3), 3, 1)}),
        ("identity_table", {"identity_table": lambda memory: (memory, 3, 1)}),
        ("identity_table", {"identity_table": lambda memory: (memory, 2, 4)}),
        ("identities", {"identities": [1, 2]}),
        ("identities", {"identity_table": None}),
        ("counter", {"counter": lambda memory: (memory[0] + 1, 1)}),
        ("counter", {"counter": lambda memory: (memory[0], 0)}),
        ("images|out", {"out": lambda memory: memory, "images": lambda memory: memory}),
    ],
)
def test_the_module_checks_tables_for_itself(backend, argument, change):
    if not backend.startswith("emulated"):
        pytest.skip("the modules of others take none, or cannot be given addresses")
    images, out, table = torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(4).double()
    counter, words = torch.tensor(1), torch.tensor(IDENTITIES)
    kernels = kernels_for(images.device)
    given = {
        **NOISE_OF_MODULE, "images": buffer(images), "out": buffer(out), "counter": buffer(counter),
        "std_table": (buffer(table), 4, 1), "identity_table": (buffer(words), 2, 1),
        "target": kernels.target,
    }  # fmt: skip
    kernels.module.inject_noise(**given)
    assert out.abs().max() > 0
    changed = {
        name: value(buffer(table)) if callable(value) else value for name, value in change.items()
    }
    with pytest.raises(ValueError, match=rf"inject_noise\(\): ({argument}): expected .*, got"):
        kernels.module.inject_noise(**{**given, **changed})


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


FLOAT64 = "a number, or a torch.float64 tensor"
WRONG = [
    (TypeError, f"std: expected {FLOAT64} .*got torch.float32", {"std": torch.ones(3)}),
    (TypeError, "std: expected .*got torch.float64 ()", {"std": torch.ones(()).double()}),
    (TypeError, "uniform_width: expected .*(3, 1)", {"uniform_width": torch.ones(3, 1).double()}),
    (ValueError, "std_table: expected at least one row", {"std": torch.ones(0).double()}),
    (ValueError, "std_table: expected .* at most 2^32, got (1099511627776,)",
     {"std": torch.ones(1).double().expand(2**40)}),
    (ValueError, "std_table: expected a tensor on cpu, got one on meta",
     {"std": torch.ones(3, device="meta").double()}),
    (ValueError, "std_table: expected the step as a torch.int64 tensor beside", {"step": 1}),
    (ValueError, "std_table: expected a finite number >= 0, got -1.0",
     {"std": torch.tensor([1.0, -1.0]).double()}),
    (ValueError, "uniform_width_table: expected .*got inf",
     {"uniform_width": torch.tensor([math.inf]).double()}),
    (ValueError, "std: expected a tensor without a gradient",
     {"std": torch.ones(3).double().requires_grad_()}),
    (TypeError, "identities: expected integers, or a torch.int64 tensor .*got torch.int32",
     {"identities": torch.tensor([1, 2], dtype=torch.int32)}),
    (ValueError, "identity_table: expected (2,), one for each image, got (3,)",
     {"identities": torch.tensor([1, 2, 3])}),
    (ValueError, "identity_table: expected a tensor on cpu",
     {"identities": torch.tensor([1, 2], device="meta")}),
    (ValueError, "identity_table: expected integers in [0, 2^32), got -1",
     {"identities": torch.tensor([1, -1])}),
    (ValueError, "identity_table: expected integers .*got 4294967296",
     {"identities": torch.tensor([2**32, 1])}),
]  # fmt: skip


@pytest.mark.cpu_only
def test_identities_are_numbers_or_a_tensor():
    images, words = torch.zeros(2, 3), torch.tensor(IDENTITIES)
    message = r"^inject_noise\(\): identities, identity_table: expected one of them, got both"
    with pytest.raises(ValueError, match=message):
        torch.ops.fvfast.inject_noise(images, 1.0, 1.0, 1, [1, 2], 0, None, None, None, words)


def pattern(message):
    for letter in "()[^":
        message = message.replace(letter, "\\" + letter)
    return message


@pytest.mark.cpu_only
@pytest.mark.parametrize(("error", "message", "change"), WRONG)
def test_wrong_tables_of_noise_are_named(error, message, change):
    given = {"std": table_of(SCALES), "step": torch.tensor(1), "identities": [1, 2], **KEY}
    images, boxes = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4)
    given.update(change)
    with pytest.raises(error, match=rf"^inject_noise\(\): {pattern(message)}"):
        inject_noise(images, **given)
    name = r"(random_crops|crop_resize)\(\)"
    with pytest.raises(error, match=f"^{name}: {pattern(message)}"):
        random_crops(images, boxes, 3, **given)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, f"box_size: expected {FLOAT64}", {"number": torch.ones(3)}),
        (ValueError, "box_size_table: expected at least one row", {"number": table_of([])}),
        (ValueError, "box_size_table: expected the step as", {"step": 3}),
        (ValueError, "box_size_table: expected .*finite number", {"number": table_of([math.nan])}),
        (ValueError, "box_size_table: .* of float32, got 1e", {"number": table_of([1e300])}),
        (ValueError, "identity_table: expected integers", {"identities": torch.tensor([-1])}),
        (ValueError, "(counter|box_size_table): expected a tensor on meta", {"device": "meta"}),
    ],
)  # fmt: skip
def test_wrong_tables_of_boxes_are_named(error, message, change):
    given = {"number": table_of(SIDES), "step": torch.tensor(1), **change}
    with pytest.raises(error, match=rf"^draw_boxes\(\): {message}"):
        boxes_of(**given)


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "rates: expected a torch.float64 tensor", {"rates": torch.ones(4, 3)}),
        (TypeError, "rates: expected a tensor, got list", {"rates": [[0.1, 0.1, 0.5]]}),
        (ValueError, "rates: expected a row for each step", {"rates": torch.ones(4).double()}),
        (ValueError, "rates: expected a row for each step", {"rates": torch.ones(4, 2).double()}),
        (ValueError, "rates: expected at least one row", {"rates": torch.ones(0, 3).double()}),
        (ValueError, "rates: expected a tensor on cpu",
         {"rates": torch.ones(4, 3, device="meta").double()}),
        (ValueError, "rates: expected finite numbers > 0", {"rates": torch.zeros(4, 3).double()}),
        (ValueError, "rates: expected a finite", {"rates": torch.full((1, 3), math.inf).double()}),
        (ValueError, "rates: expected a tensor without",
         {"rates": torch.ones(4, 3).double().requires_grad_()}),
        (ValueError, "step: expected a torch.int64 tensor of one element, which", {"step": 1}),
        (ValueError, "step: expected .*got torch.float32", {"step": torch.tensor(1.0)}),
        (ValueError, "counter: expected an integer in", {"step": torch.tensor(-1)}),
        (ValueError, "step: expected an integer, or rates", {"rates": None}),
        (ValueError, "lr, maximize: expected none of them", {"lr": 1.0, "maximize": True}),
        (ValueError, "betas: expected", {"betas": (0.9, 1.0)}),
    ],
)  # fmt: skip
def test_wrong_rates_are_named(error, message, change):
    state, _ = states(torch.float32)
    with pytest.raises(error, match=rf"^phase_update_\(\): {message}"):
        phase_update_(*state, **{"step": torch.tensor(1), "rates": nadam_table(4), **change})


@pytest.mark.cpu_only
def test_what_is_written_is_apart_from_tables():
    memory = torch.ones(4, 3, dtype=torch.float64)
    phase, gradient, exp_avg = torch.ones(3, 4, 3, dtype=torch.float64).unbind()
    with pytest.raises(ValueError, match=r"exp_avg_sq: .*apart from that of rates"):
        phase_update_(phase, gradient, exp_avg, memory, step=torch.tensor(0), rates=memory)
    given = {"step": torch.tensor(0), "identities": range(4), **KEY}
    with pytest.raises(ValueError, match=r"images: .*apart from that of std_table"):
        inject_noise_(memory, memory[:, 0], **given)


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
