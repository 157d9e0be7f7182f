"""Runs of any size: they take no more memory than they need, or are refused before the work."""

import itertools
import math
import re

import pytest
import torch
from selection import thorough
from torch import nn

from fvfast import Linear, Objective, maco, maco_batch, optimize
from fvfast.engine.memory import group_memory
from fvfast.evaluation.metrics import transferability
from fvfast.models import LoadedModel
from fvfast.ops.phase_to_image import phase_to_image
from fvfast.preconditioning import to_valid_grayscale, to_valid_rgb
from fvfast.run.loop import run_ascent
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.memory_checks import check_run_fits, gibibytes
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.progress import BarOfSteps
from fvfast.run.results import joined
from fvfast.run.score_table import ScoreTable, joined_scores
from fvfast.run.step_update import Gradients

INPUT = (3, 12, 12)
HUGE = 10**12
SHORT = {"nb_steps": 3, "custom_shape": 16, "progress": False}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    # Waiting for a second one takes longer than these networks.
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 5)).eval()


def objective(model, ids=1):
    return Objective.neuron(model, "2", ids, input_shape=INPUT)


def stop_after(steps):
    return lambda report: report.step == steps - 1


# Steps


@pytest.mark.parametrize(
    "settings", [{}, {"box_size": 0.3}, {"preset": "fast"}, {"progress": True, "nb_steps": 10**30}]
)
@pytest.mark.parametrize("call", [maco, maco_batch])
def test_steps_that_are_not_taken_take_no_memory(model, call, settings):
    result = call(
        objective(model), **{**SHORT, "nb_steps": HUGE, **settings}, callback=stop_after(3)
    )
    assert result[0].isfinite().all()
    if call is maco_batch:
        assert result.scores.shape == (1, 3)


def test_optimize_takes_no_memory_for_steps_that_are_not_taken(model):
    settings = {**SHORT, "nb_steps": HUGE}
    images, _ = optimize(objective(model), **settings, callback=stop_after(3), save_every=1)
    assert len(images) == 3


def test_the_first_steps_are_those_of_a_long_run(model):
    """A schedule of a number per step and one of a function of the step are the same."""
    steps = 50
    whole = Linear(0.5, 0.05).over(steps)
    found = maco(objective(model), **{**SHORT, "nb_steps": steps}, callback=stop_after(3))
    expected = maco(objective(model), **SHORT, box_size=lambda step: float(whole[step]))
    assert torch.equal(found[0], expected[0])


def test_scores_have_as_many_columns_as_the_longest_run(model):
    """Each batch hands over its own; together they are padded."""
    parts = []

    def stop(report):
        return report.step == (1 if report.names == ["Neuron#2_0"] else 3)

    settings = {**SHORT, "nb_steps": HUGE, "batch_size": 1, "on_result": parts.append}
    whole = maco_batch(objective(model, range(2)), **settings, callback=stop)
    assert [part.scores.shape for part in parts] == [(1, 2), (1, 4)]
    assert whole.scores.shape == (2, 4)
    assert whole.scores[0, 2:].isnan().all()
    assert torch.equal(whole.scores[0, :2], parts[0].scores[0])
    assert torch.equal(whole.scores[1], parts[1].scores[0])
    none = maco_batch(objective(model, range(2)), **settings, callback=stop, keep=False)
    assert none.scores.shape == (0, 4)


def test_a_table_of_scores_grows():
    table, rows, recent = ScoreTable(2), torch.rand(333, 2), torch.empty(2, 64)
    counts = itertools.chain(range(1, 150), range(150, 333, 61), [333])
    known = 0
    for count in counts:
        for step in range(known, count):
            recent[:, step % 64] = rows[step]
        table.add(recent, count)
        known = count
        assert len(table) == count
        assert torch.equal(table.whole(), rows[:count].T)
    assert ScoreTable(3).whole().shape == (3, 0)
    assert joined_scores([], 5).shape == (0, 5)


def test_tensors_are_joined_without_being_there_twice():
    parts = [torch.rand(2, 3) for _ in range(3)]
    expected = torch.cat(parts)
    assert torch.equal(joined(parts), expected)
    assert parts == []


# Images


@pytest.mark.parametrize("call", [maco, optimize])
def test_more_kept_images_than_the_memory_holds_are_refused(model, call):
    with pytest.raises(torch.OutOfMemoryError, match=r"save_every=1 keeps 10{12} images .* free"):
        call(objective(model), **{**SHORT, "nb_steps": HUGE}, save_every=1)


@pytest.mark.parametrize("settings", [MacoSettings, OptimizeSettings])
def test_a_run_ends_when_the_memory_is_full_of_images(settings):
    shape, cpu = (3, 16, 16), torch.device("cpu")

    def run(available=lambda _device: None):
        variables = settings().parametrize(shape, progress=False)([0], cpu)

        def gradients(_step):
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(variables.image().sum(), variables.source)
            return Gradients(torch.ones(1), gradient)

        transparency = torch.zeros(1, *shape) if settings.has_transparency else None
        return run_ascent(
            variables, gradients, variables.render, names=["x"], nb_steps=3,
            bar=BarOfSteps(["x"], 3, progress=False),
            transparency=transparency, save_every=1, available=available,
        ).images  # fmt: skip

    tensors = 2 if settings.has_transparency else 1
    needed = 2 * tensors * 3 * 16 * 16 * 4
    # Enough after the first step; not after the second, nor when it has freed what can go.
    answers = iter([needed, needed - 1, needed - 1])
    with pytest.warns(RuntimeWarning, match="step 1: the memory is full with 2 times .* GiB"):
        found = run(lambda _device: next(answers))
    assert len(found) == 2
    assert all(map(torch.equal, found, run()[:2]))


@pytest.mark.parametrize("size", [10**6, thorough(10**30)])
@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_images_that_no_memory_holds_are_refused(model, call, size):
    steps = []
    with pytest.raises(torch.OutOfMemoryError, match=r"GiB are free"):
        call(objective(model), **{**SHORT, "custom_shape": size}, callback=steps.append)
    assert not steps


@pytest.mark.parametrize("crops", [thorough(10**9), 10**30])
@pytest.mark.parametrize("call", [maco, maco_batch])
def test_crops_that_no_memory_holds_are_refused(model, call, crops):
    expected = rf"{call.__name__}: .* GiB for {crops} x 3 x 12 x 12 views .* GiB are free on cpu"
    with pytest.raises(torch.OutOfMemoryError, match=expected):
        call(objective(model), **SHORT, nb_crops=crops)


@pytest.mark.parametrize(("precision", "size"), [(None, 4), ("bfloat16", 2)])
def test_crops_in_sixteen_bits_take_half_the_memory(model, precision, size):
    needed = gibibytes(10**9 * 2 * 3 * 12 * 12 * size)
    with pytest.raises(torch.OutOfMemoryError, match=f"{re.escape(needed)} for {10**9} x"):
        maco(objective(model), **SHORT, nb_crops=10**9, precision=precision)


def test_a_batch_that_no_memory_holds_is_refused(model):
    """Handed over one by one it would fit."""
    settings = {**SHORT, "custom_shape": 8192, "on_result": print, "keep": False}
    many = objective(model, [0, 1, 2, 3, 4] * 40)
    with pytest.raises(torch.OutOfMemoryError, match="fewer images at a time"):
        maco_batch(many, **settings, batch_size=200)


def test_a_batch_size_beyond_all_images(model):
    few = objective(model, range(2))
    expected = maco_batch(few, **SHORT)
    assert torch.equal(maco_batch(few, **SHORT, batch_size=10**30).images, expected.images)


def test_small_runs_are_not_refused():
    """What a system says is free may be less than what it gives."""

    def check(images):
        check_run_fits(
            "maco", torch.device("cpu"), images, (3, 16, 16), 2, (3, 12, 12),
            available=lambda _device: 0,
        )  # fmt: skip

    check(10)
    with pytest.raises(torch.OutOfMemoryError, match="0 GiB are free"):
        check(10**5)


def test_files_that_were_read_are_free_memory(tmp_path):
    for name, text in {
        "memory.max": "1000\n",
        "memory.current": "700\n",
        "memory.stat": "anon 200\nactive_file 100\ninactive_file 400\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert group_memory(tmp_path) == 800
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory(tmp_path) is None
    assert group_memory(tmp_path / "none") is None


# Numbers


BEYOND = [
    (-3e38, 3e38), (0, 1e39), (0, 10**400), (-math.inf, 0), (0, math.inf), (math.nan, 1),
    (1, 1), (1, 1 + 1e-12), (0, 1e-60), (0,), (0, 1, 2),
]  # fmt: skip


def judged(values_range, own=(-1, 1)):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 5)).eval()
    loaded = LoadedModel(model, "linear", INPUT, own)
    return transferability(torch.zeros(1, *INPUT), 1, [loaded], values_range=values_range)


@pytest.mark.parametrize("values_range", BEYOND)
@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_ranges_that_float32_does_not_have_are_refused(model, call, values_range):
    with pytest.raises(ValueError, match=rf"{call.__name__.removesuffix('_batch')}: values_range"):
        call(objective(model), **SHORT, values_range=values_range)


@pytest.mark.parametrize("values_range", BEYOND)
@pytest.mark.parametrize(
    "function",
    [
        judged,
        lambda given: judged((-1, 1), given),
        lambda given: to_valid_rgb(torch.rand(1, 3, 4, 4), "sigmoid", given),
        lambda given: to_valid_grayscale(torch.rand(1, 1, 4, 4), "clip", given),
    ],
)
def test_all_that_take_a_range_refuse_the_same(function, values_range):
    with pytest.raises(ValueError, match="values_range"):
        function(values_range)


@pytest.mark.parametrize("values_range", [(-3e38, 3e38), (0, 1e39), (0, math.inf), (math.nan, 1)])
def test_the_operation_refuses_what_its_images_cannot_have(values_range):
    with pytest.raises(ValueError, match="values_range: expected finite numbers low < high"):
        phase_to_image(torch.rand(3, 8, 5), torch.rand(1, 3, 8, 5), values_range, 8)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("values_range", [(-1.7e38, 1.7e38), (0, 3.4e38), (0, 1e-40), (1e30, 2e30)])
def test_ranges_at_the_ends_of_float32_give_finite_images(model, values_range):
    """Their gradients may not be finite, which is told; the images are."""
    for call in (maco, optimize):
        result = call(objective(model), **SHORT, values_range=values_range)[0]
        images = result[-1] if call is optimize else result
        assert images.isfinite().all()
        low, high = values_range
        assert torch.tensor(low) <= images.min()
        assert images.max() <= torch.tensor(high)


def test_a_range_beyond_float16_is_refused_in_float16(model):
    settings = {**SHORT, "values_range": (0, 1e5)}
    with pytest.raises(ValueError, match=r"does not run in precision='float16'.*not finite"):
        maco(objective(model), **settings, precision="float16")
    assert maco(objective(model), **settings, precision="auto")[0].isfinite().all()


@pytest.mark.parametrize("value", [1e39, 10**400, math.inf, math.nan])
@pytest.mark.parametrize("argument", ["noise_intensity", "box_size", "learning_rate"])
def test_schedules_beyond_float32_are_refused(model, argument, value):
    steps = []
    for given in (value, lambda _step: value):
        with pytest.raises(ValueError, match=f"{argument} must be finite and not negative"):
            maco(objective(model), **SHORT, **{argument: given}, callback=steps.append)
    with pytest.raises(ValueError, match="must be finite and not negative"):
        Linear(value, 1)
    assert not steps


@pytest.mark.parametrize("value", [1e39, 10**400, -1e39, math.inf, math.nan])
@pytest.mark.parametrize("argument", ["std", "fft_decay"])
def test_scales_beyond_float32_are_refused(model, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be finite"):
        optimize(objective(model), **SHORT, **{argument: value})


@pytest.mark.parametrize("settings", [{"std": 1e38}, {"fft_decay": 1e5}])
def test_a_first_image_that_is_not_finite_is_refused(model, settings):
    with pytest.raises(
        ValueError, match=r"the first image is not finite with std=.* and fft_decay"
    ):
        optimize(objective(model), **SHORT, **settings)


@pytest.mark.parametrize("value", [2.5, "3", math.nan, None])
def test_warm_up_takes_a_number_of_steps(model, value):
    with pytest.raises(TypeError, match="warmup_steps must be an integer"):
        optimize(objective(model), **SHORT, warmup_steps=value)
