"""Runs that end early, by the user or by numbers that are not finite, keep what they had."""

import signal
import sys
import weakref

import numpy as np
import pytest
import torch
from engine.test_state import assert_same, fingerprint
from torch import nn

from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.borrowing import snapshot
from fvfast.engine.borrowing.interrupts import forget_interrupts
from fvfast.run import loop

INPUT = (3, 20, 20)
SHORT = {"nb_steps": 4, "nb_crops": 3, "custom_shape": (32, 32), "progress": False}


@pytest.fixture
def objective(network):
    return Objective.neuron(network, "7", 3, input_shape=INPUT)


def interrupt_at(step):
    def interrupt(report):
        if report.step == step:
            raise KeyboardInterrupt

    return interrupt


def test_interrupt_keeps_the_image_so_far(network):
    before = fingerprint(network)
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 4 steps"):
        image, transparency = maco(objective, **SHORT, callback=interrupt_at(1))
    assert_same(before, fingerprint(network))
    # The box schedule depends on nb_steps, so two steps alone need the same one.
    two, two_transparency = maco(
        objective,
        **{**SHORT, "nb_steps": 2},
        box_size=lambda step: float(np.linspace(0.5, 0.05, 4)[step]),
    )
    assert torch.equal(image, two)
    assert torch.equal(transparency, two_transparency)


@pytest.mark.parametrize("kind", ["callback of a weak reference", "destructor"])
def test_an_interrupt_where_python_ignores_exceptions_comes_through(network, kind):
    """As soon as the function returns in which it came."""
    hook = sys.unraisablehook

    class Dies:
        def __del__(self):
            if kind == "destructor":
                signal.raise_signal(signal.SIGINT)

    def interrupt(report):
        if report.step == 1:
            it = Dies()
            watch = weakref.ref(it, lambda _: signal.raise_signal(signal.SIGINT))
            if kind == "destructor":
                del watch
            del it

    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 4 steps"):
        maco(objective, **SHORT, callback=interrupt)
    assert sys.unraisablehook == hook


@pytest.mark.parametrize("ends", ["in a step", "afterwards"])
def test_other_exceptions_that_python_ignores_are_reported_as_usual(network, monkeypatch, ends):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: reported.append(ignored.exc_type))

    class Dies:
        def __del__(self):
            raise ZeroDivisionError

    def callback(report):
        if report.step == 1 and ends == "in a step":
            Dies()

    maco(Objective.neuron(network, "7", 3, input_shape=INPUT), **SHORT, callback=callback)
    if ends == "afterwards":
        Dies()
    assert reported == [ZeroDivisionError]


@pytest.mark.parametrize("call", [maco, maco_batch])
def test_an_interrupt_before_the_first_step_is_the_callers(network, objective, call):
    """There is nothing to keep, and noise is not a picture."""
    before = fingerprint(network)

    def interrupt(_step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(objective, **SHORT, box_size=interrupt)
    assert_same(before, fingerprint(network))


def press(count):
    """Press Ctrl-C in each of the first steps."""

    def callback(report):
        if report.step < count:
            signal.raise_signal(signal.SIGINT)

    return callback


CALLS = {
    maco: {"nb_steps": 4, "nb_crops": 2, "custom_shape": 16},
    maco_batch: {"nb_steps": 4, "nb_crops": 2, "custom_shape": 16, "batch_size": 1},
    optimize: {"nb_steps": 4, "custom_shape": 16},
}


@pytest.mark.usefixtures("python_handler")
@pytest.mark.filterwarnings("ignore:interrupted after 1 of")
@pytest.mark.parametrize("call", CALLS)
def test_a_second_interrupt_within_three_seconds_ends_a_loop(network, call):
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    before, results = fingerprint(network), []

    def loop_over_runs():
        for _ in range(5):
            results.append(call(objective, **CALLS[call], progress=False, callback=press(1)))

    with pytest.raises(KeyboardInterrupt):
        loop_over_runs()
    assert len(results) == 1
    assert results[0].interrupted
    assert_same(before, fingerprint(network))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("python_handler")
@pytest.mark.parametrize("call", CALLS)
def test_interrupts_far_apart_end_one_run_each(network, call):
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    for _ in range(3):
        forget_interrupts()  # what three seconds do
        with pytest.warns(RuntimeWarning, match="interrupted after 1 of"):
            result = call(objective, **CALLS[call], progress=False, callback=press(1))
        assert result.interrupted
    whole = call(objective, **CALLS[call], progress=False)
    assert not whole.interrupted


@pytest.mark.usefixtures("python_handler")
def test_two_quick_interrupts_leave_one_run(network):
    """The second one comes while the first ends the run, and does not wait for its result."""
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)

    before = fingerprint(network)

    def twice(_report):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        maco(objective, **CALLS[maco], progress=False, callback=twice)
    assert_same(before, fingerprint(network))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def python_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signal_after():
    """Send SIGINT, once, when a function returns."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def after(function):
        def watch(frame, event, _argument):
            if event == "return" and frame.f_code is function.__code__:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

        sys.setprofile(watch)

    yield after
    sys.setprofile(None)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "function",
    [loop._Loop.finish, snapshot.Snapshot.restore],
    ids=["the images are fetched", "the network is put back"],
)
@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_an_interrupt_after_the_last_step_takes_nothing_away(network, signal_after, call, function):
    objective = Objective.neuron(network, "7", 3, input_shape=INPUT)
    settings = {key: value for key, value in SHORT.items() if key != "nb_crops"}
    expected = call(objective, **settings)[0]
    before = fingerprint(network)

    def arm(report):
        if report.step == report.nb_steps - 1:
            signal_after(function)

    with pytest.warns(RuntimeWarning, match="interrupted after (the last step|1 of 1 images)"):
        found = call(objective, **settings, callback=arm)[0]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert_same(before, fingerprint(network))


def test_an_interrupt_after_a_batch_waits_until_it_is_handed_over(network, signal_after):
    parts = []
    objective = Objective.neuron(network, "7", range(4), input_shape=INPUT)

    def arm(report):
        if report.step == report.nb_steps - 1 and len(parts) == 1:
            signal_after(loop._Loop.finish)

    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 4 images; on_result has had"):
        maco_batch(
            objective, **SHORT, batch_size=1, callback=arm, on_result=parts.append, keep=False
        )
    assert [part.names for part in parts] == [["Neuron#7_0"], ["Neuron#7_1"]]


@pytest.mark.parametrize("call", [maco, maco_batch])
def test_the_measurement_of_a_data_set_can_be_interrupted(objective, call):
    """It may take long, and there is nothing to restore."""
    read = []

    def images():
        for _ in range(3):
            read.append(1)
            yield torch.rand(2, 3, 32, 32)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            call(objective, None, images(), **SHORT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(read) == 1


def test_interrupted_batch_returns_what_was_begun(network):
    objective = Objective.neuron(network, "7", range(6), input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        result = maco_batch(objective, **SHORT, batch_size=2, callback=interrupt_at(1))
    assert len(result.names) == len(result.images) == 2
    assert result.scores[:, :2].isfinite().all()
    assert result.scores[:, 2:].isnan().all()


class Failing(nn.Module):
    """Gives NaN for some images once it is told to."""

    def __init__(self, network, failing):
        super().__init__()
        self.network = network
        self.failing = failing
        self.fails = False

    def forward(self, x):
        y = self.network(x)
        if self.fails:
            bad = torch.zeros(len(y), 1, dtype=torch.bool)
            bad[self.failing] = True
            y = torch.where(bad, float("nan"), y)
        return y

    def fail_after(self, step):
        """Callback that lets it fail in the steps after one."""

        def watch(report):
            self.fails = report.step >= step

        return watch


def test_not_finite_stops_and_keeps_the_last_finite_image(network):
    model = Failing(network, slice(None)).eval()
    objective = Objective.neuron(model, "", 3, input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="step 2: the score or its gradient is not finite"):
        image, transparency = maco(objective, **SHORT, callback=model.fail_after(1))
    assert image.isfinite().all()
    assert transparency.isfinite().all()
    assert transparency.any()


def test_one_image_that_is_not_finite_does_not_stop_the_others(network):
    settings = {**SHORT, "nb_crops": 1}
    good = maco_batch(Objective.neuron(network, "7", [1, 2], input_shape=INPUT), **settings)
    model = Failing(network, slice(0, 1)).eval()
    objective = Objective.neuron(model, "network.7", [1, 2], input_shape=INPUT)
    # The images' identities follow their names.
    objective.names = [["Neuron#7_1", "Neuron#7_2"]]
    objective.layers = Objective.neuron(model, "", [1, 2], input_shape=INPUT).layers
    with pytest.warns(RuntimeWarning, match=r"not finite for Neuron#7_1; "):
        result = maco_batch(objective, **settings, callback=model.fail_after(1))
    assert result.images.isfinite().all()
    assert torch.allclose(result.images[1], good.images[1], atol=1e-5)
    assert not torch.allclose(result.images[0], good.images[0], atol=1e-5)


class Overflowing(torch.optim.SGD):
    """Writes NaN into the variable in its third step."""

    def __init__(self, params):
        super().__init__(params, lr=1.0)
        self.steps = 0

    def step(self, closure=None):
        super().step(closure)
        self.steps += 1
        if self.steps == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))


@pytest.mark.parametrize("nb_steps", [3, 5])
def test_an_update_that_is_not_finite_is_undone(objective, nb_steps):
    settings = {**SHORT, "nb_steps": nb_steps}
    with pytest.warns(RuntimeWarning, match="step 2: the image after its update is not finite"):
        images, transparencies = maco(objective, Overflowing, **settings, save_every=1)
    assert images.isfinite().all()
    assert transparencies.isfinite().all()
    assert torch.equal(images[-1], images[1])


def test_interrupt_between_batches_keeps_the_finished_ones(network):
    made = []

    def optimizer(parameters):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return torch.optim.Adam(parameters)

    objective = Objective.neuron(network, "7", range(4), input_shape=INPUT)
    with pytest.warns(RuntimeWarning, match="interrupted after 2 of 4 images"):
        result = maco_batch(objective, optimizer, **SHORT, batch_size=1)
    assert result.names == ["Neuron#7_0", "Neuron#7_1"]
    assert len(result.images) == len(result.scores) == 2


def test_error_in_a_later_batch_keeps_the_finished_ones(network):
    before = fingerprint(network)

    class FailsLater(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.fails = False

        def forward(self, x):
            if self.fails:
                raise KeyError("out of luck")
            return self.network(x)

    model = FailsLater().eval()
    objective = Objective.neuron(model, "", [1, 2], input_shape=INPUT)

    def fail_in_the_second_batch(report):
        model.fails = report.names == objective.combination_names[1:]

    with (
        pytest.warns(RuntimeWarning, match="failed after 1 of 2 images"),
        pytest.raises(KeyError, match="out of luck") as caught,
    ):
        maco_batch(objective, **SHORT, batch_size=1, callback=fail_in_the_second_batch)
    assert caught.value.finished.names == objective.combination_names[:1]
    assert_same(before, fingerprint(network))
