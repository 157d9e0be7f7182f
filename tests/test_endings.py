"""Images that end early: the same result whether the host looks at once or some steps later.

On a GPU the host looks later, so that neither waits for the other; a run on the CPU is told to.
"""

import itertools
import warnings

import pytest
import torch
from selection import short_for, thorough
from torch.utils._python_dispatch import TorchDispatchMode

from fvfast.parametrizations.optimizers import keras_adam, keras_nadam
from fvfast.run.endings import are_finite
from fvfast.run.loop import run_ascent
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.progress import BarOfSteps
from fvfast.run.step_record import PATIENCE_WITHOUT_GRADIENT
from fvfast.run.step_update import Gradients

NAMES = ["a", "b", "c"]
SHAPE = (3, 8, 10)
NAN, INFINITE = float("nan"), float("inf")


class Ascents:
    """Runs of three images, some of whose numbers are spoiled.

    Parameters
    ----------
    settings
        Of the runs.
    spoiled
        What happens to an image in a step: {(step, index): "score", "gradient" or "update"}.
    dead
        Indices of images without a gradient.
    stop_before
        The step before which the user interrupts.
    before_step
        Called before each step.
    device
        Where they run.
    """

    def __init__(
        self,
        settings,
        spoiled=None,
        *,
        dead=(),
        stop_before=None,
        before_step=lambda: None,
        device="cpu",
    ):
        self.settings = settings
        self.spoiled = spoiled or {}
        self.dead = list(dead)
        self.stop_before = stop_before
        self.before_step = before_step
        self.device = torch.device(device)

    def run(self, look_every, nb_steps=14, save_every=None):
        """Images, transparencies, scores, whether it was interrupted, and the warnings."""
        variables = self.settings.parametrize(SHAPE, progress=False)([3, 1, 4], self.device)
        has_transparency = self.settings.has_transparency
        transparency = torch.zeros(3, *SHAPE, device=self.device) if has_transparency else None
        usual = variables.ascend

        def gradients(step):
            self.before_step()
            if step == self.stop_before:
                raise KeyboardInterrupt
            self.step = step
            with torch.enable_grad():
                images = variables.image()
                scores = (images.square() - images).flatten(1).mean(1)
                (gradient,) = torch.autograd.grad(scores.sum(), variables.source)
            gradient[self.dead] = 0
            if transparency is not None:
                transparency.add_(gradient.abs().nan_to_num())
            scores = scores.detach()
            scores[self.spoiled_by("score")] = NAN
            gradient[self.spoiled_by("gradient"), 0] = INFINITE
            return Gradients(scores, gradient)

        def ascend(gradient):
            usual(gradient)
            with torch.no_grad():
                variables.state[self.spoiled_by("update")] = NAN

        variables.ascend = ascend
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = run_ascent(
                variables, gradients, variables.render, names=NAMES, nb_steps=nb_steps,
                bar=BarOfSteps(NAMES, nb_steps, progress=False), transparency=transparency,
                save_every=save_every, look_every=look_every,
            )  # fmt: skip
        return result, sorted(str(warning.message) for warning in caught)

    def spoiled_by(self, what):
        return [
            index
            for (step, index), how in self.spoiled.items()
            if step == self.step and how == what
        ]


def assert_same(actual, expected):
    (actual, said), (expected, expected_said) = actual, expected
    assert said == expected_said
    assert actual.interrupted == expected.interrupted
    for name in ("images", "transparencies"):
        found, wanted = getattr(actual, name), getattr(expected, name)
        assert len(found) == len(wanted), name
        assert all(map(torch.equal, found, wanted)), name
    torch.testing.assert_close(actual.scores, expected.scores, rtol=0, atol=0, equal_nan=True)


ENDINGS = {
    "none": {},
    "a score": {(5, 1): "score"},
    "the first step": {(0, 2): "gradient"},
    "the last step": {(13, 0): "score", (13, 1): "update"},
    "updates": {(4, 0): "update", (6, 2): "update"},
    "one after the other": {(3, 0): "score", (4, 2): "update", (5, 1): "gradient"},
    "all at once, by scores": dict.fromkeys([(7, 0), (7, 1), (7, 2)], "score"),
    "all at once, by updates": dict.fromkeys([(7, 0), (7, 1), (7, 2)], "update"),
    "all in the first step": dict.fromkeys([(0, 0), (0, 1), (0, 2)], "gradient"),
}
METHODS = {
    "maco": MacoSettings(nb_crops=0, custom_shape=SHAPE[1:]),
    "maco, Adam": MacoSettings(nb_crops=0, custom_shape=SHAPE[1:], optimizer=keras_adam),
    "optimize": OptimizeSettings(custom_shape=SHAPE[1:]),
    "optimize, NAdam": OptimizeSettings(custom_shape=SHAPE[1:], optimizer=keras_nadam),
}


@pytest.mark.parametrize("save_every", [None, thorough(1), 3])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("method", short_for(["maco", "optimize, NAdam"], METHODS))
def test_a_later_look_changes_nothing(method, ending, save_every):
    ascents = Ascents(METHODS[method], ENDINGS[ending])
    expected = ascents.run(1, save_every=save_every)
    assert len(expected[1]) == len({(step, how) for (step, _), how in ENDINGS[ending].items()})
    assert all(image.isfinite().all() for image in expected[0].images)
    for look_every in (2, 3, 32):
        assert_same(ascents.run(look_every, save_every=save_every), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_image_is_finite_if_all_its_numbers_are(dtype):
    """Also where their sum overflows, or is infinity less infinity."""
    most = torch.finfo(dtype).max
    numbers = torch.zeros(6, 2, 5, dtype=dtype)
    numbers[1], numbers[2] = most, -most
    numbers[3, 1, 4], numbers[4, 0, 0] = NAN, -INFINITE
    numbers[5, 0, :2] = torch.tensor([INFINITE, -INFINITE])
    assert are_finite(numbers).tolist() == [True] * 3 + [False] * 3
    assert are_finite(numbers[:, 1, 4]).tolist() == [True] * 3 + [False, True, True]


def test_an_image_that_has_ended_keeps_its_last_good_state():
    """And its transparency up to the step in which it ended; the others go on."""
    whole, _ = Ascents(METHODS["maco"]).run(2)
    five, _ = Ascents(METHODS["maco"]).run(2, nb_steps=5)
    six, _ = Ascents(METHODS["maco"]).run(2, nb_steps=6)
    found, said = Ascents(METHODS["maco"], {(5, 1): "update"}).run(2)
    assert said == [
        "step 5: the image after its update is not finite for b; the last finite image is kept. "
        "Check the model's output, values_range and the learning rate."
    ]
    for index in (0, 2):
        assert torch.equal(found.images[-1][index], whole.images[-1][index])
        assert torch.equal(found.transparencies[-1][index], whole.transparencies[-1][index])
    assert torch.equal(found.images[-1][1], five.images[-1][1])
    assert torch.equal(found.transparencies[-1][1], six.transparencies[-1][1])
    assert found.scores[1].isfinite().tolist() == [True] * 6 + [False] * 8


@pytest.mark.parametrize("stop_before", [thorough(1), thorough(2), 3, 8])
@pytest.mark.parametrize("ending", sorted(set(ENDINGS) - {"all in the first step"}))
def test_an_interrupt_finds_the_same(ending, stop_before):
    ascents = Ascents(METHODS["maco"], ENDINGS[ending], stop_before=stop_before)
    expected, said = ascents.run(1)
    for look_every in (2, 3, 32):
        found, says = ascents.run(look_every)
        if found.interrupted and not expected.interrupted:
            # All have ended before the user interrupts, but the host has not seen it yet.
            steps = expected.scores.shape[1]
            assert says.pop(0).startswith(f"interrupted after {steps} of 14 steps")
            found.interrupted = False
        assert_same((found, says), (expected, said))


def test_an_interrupt_when_no_image_has_taken_a_step():
    ascents = Ascents(METHODS["maco"], ENDINGS["all in the first step"], stop_before=1)
    with pytest.raises(KeyboardInterrupt):
        ascents.run(2)


@pytest.mark.parametrize("nb_steps", [1, 9, 10, 11])
def test_images_without_a_gradient_are_named(nb_steps):
    ascents = Ascents(METHODS["maco"], {(2, 0): "score"}, dead=[0, 2])
    expected = ascents.run(1, nb_steps)
    last = min(nb_steps, PATIENCE_WITHOUT_GRADIENT)
    assert any(f"zero in each of the first {last} steps for" in text for text in expected[1])
    assert sum("c: the unit is dead" in text for text in expected[1]) == 1
    for look_every in (2, 3, 32):
        assert_same(ascents.run(look_every, nb_steps), expected)


class CountsLooks(TorchDispatchMode):
    """Counts the numbers that Python reads from tensors, as each makes a GPU's host wait."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["maco", "optimize, NAdam"])
def test_a_step_reads_nothing_that_it_has_computed(method):
    def looks_in_a_step(read=lambda: None):
        counts = []
        with CountsLooks() as counting:

            def before_step():
                counts.append(counting.count)
                read()

            Ascents(METHODS[method], before_step=before_step).run(32, 30)
        (found,) = {after - before for before, after in itertools.pairwise(counts[15:])}
        return found

    # Checks of arguments read numbers, too, but of the CPU.
    assert looks_in_a_step() == (0 if method == "maco" else 2)
    computed = torch.ones(())
    assert looks_in_a_step(lambda: computed.item()) == looks_in_a_step() + 1
