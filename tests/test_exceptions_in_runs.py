"""Whatever a function of the user raises, and when: it comes out, and leaves nothing behind."""

import warnings

import pytest
import torch
from misbehaving import CountsInItsData, everything, global_state
from selection import short_for

import fvfast.engine
from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine.locks import USES

INPUT = (3, 12, 12)
UNITS = range(4)
SETTINGS = {"nb_steps": 3, "custom_shape": (16, 16), "progress": False}


class MineError(Exception):
    pass


class MineBaseException(BaseException):
    pass


class Frozen(Exception):  # noqa: N818 (what matters is that it takes no attributes)
    def __setattr__(self, name, value):
        if not name.startswith("__"):  # as contextlib sets its traceback
            raise AttributeError(name)
        super().__setattr__(name, value)


ERRORS = [
    RuntimeError, ValueError, MemoryError, torch.OutOfMemoryError, StopIteration, MineError, Frozen,
    MineBaseException, SystemExit, GeneratorExit,
]  # fmt: skip
# One that each layer of the code may treat in its own way.
SHORT_ERRORS = [RuntimeError, torch.OutOfMemoryError, StopIteration, Frozen, MineBaseException]


class Fails:
    """A function that raises an error the n-th time it is called."""

    def __init__(self, function):
        self.function = function
        self.calls = 0
        self.at = 0
        self.error = None

    def fail(self, at, error):
        self.calls, self.at, self.error = 0, at, error

    def __call__(self, *args):
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.function(*args)


class Hooked(CountsInItsData):
    """Calls a function in its pass, and writes to a buffer before and after."""

    def __init__(self):
        super().__init__()
        self.calls = lambda x: x

    def around(self, x):
        self.n.data.add_(1)
        x = self.calls(x)
        self.n.data.add_(1)
        return x


class Descent(torch.optim.SGD):
    """Takes steps by a function."""

    def __init__(self, parameters, calls):
        super().__init__(parameters, lr=0.1)
        self.calls = calls

    def step(self, closure=None):
        self.calls(0)
        return super().step(closure)


class Case:
    """A run with a function of the user in one place."""

    def __init__(self, call, place):
        fvfast.engine.clear()
        self.call = call
        self.model = Hooked()
        self.fails = Fails(lambda x, *_: x)
        self.settings = (
            {**SETTINGS} if call is optimize else {**SETTINGS, "nb_crops": 2, "box_size": 0.9}
        )
        if call is maco_batch:
            self.settings["batch_size"] = 2
        feeding = {"input_shape": INPUT}
        self.objective = None
        getattr(self, f"_put_into_{place}")(feeding)
        if self.objective is None:
            ids = UNITS if call is maco_batch else 2
            self.objective = Objective.neuron(self.model, "fc", ids, **feeding)

    def _put_into_callback(self, _feeding):
        self.settings["callback"] = self.fails
        self.fails.function = lambda _report: None

    def _put_into_preprocess(self, feeding):
        feeding["preprocess"] = self.fails

    def _put_into_score(self, feeding):
        self.fails.function = lambda images: self.model(images)[:, 2]
        self.objective = Objective.from_callable(self.model, self.fails, **feeding)

    def _put_into_network(self, _feeding):
        self.model.calls = self.fails

    def _put_into_hook(self, _feeding):
        self.fails.function = lambda *_: None
        self.model.conv.register_forward_hook(self.fails)

    def _put_into_optimizer(self, _feeding):
        self.settings["optimizer"] = lambda parameters: Descent(parameters, self.fails)

    def _put_into_schedule(self, _feeding):
        self.fails.function = lambda _step: 0.1
        self.settings["noise_intensity"] = self.fails

    def _put_into_spectrum(self, _feeding):
        self.settings["maco_dataset"] = map(self.fails, [torch.rand(2, 3, 16, 16)] * 3)

    def _put_into_on_result(self, _feeding):
        self.fails.function = lambda _batch: None
        self.settings["on_result"] = self.fails

    def _put_into_transformation(self, _feeding):
        self.settings["transformations"] = self.fails

    def _put_into_regularizer(self, _feeding):
        self.fails.function = lambda images: images.mean((1, 2, 3))
        self.settings["regularizers"] = self.fails

    def _put_into_normalizer(self, _feeding):
        self.settings["image_normalizer"] = self.fails

    def run(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return self.call(self.objective, **self.settings)

    def outcome(self):
        """Run; return what it raises, if it does."""
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 (each kind is looked at)
            return error
        return None


ANYWHERE = ["callback", "preprocess", "score", "network", "hook", "optimizer"]
OF_MACO = [*ANYWHERE, "schedule", "spectrum"]
OF_OPTIMIZE = ["transformation", "regularizer", "normalizer"]
PLACES = [
    *((maco, place) for place in OF_MACO),
    *((maco_batch, place) for place in [*OF_MACO, "on_result"]),
    *((optimize, place) for place in [*ANYWHERE, *OF_OPTIMIZE]),
]
# Each place once.
SHORT_PLACES = [
    *((maco, place) for place in ("callback", "score", "network", "optimizer", "schedule")),
    *((maco_batch, place) for place in ("spectrum", "on_result", "hook")),
    *((optimize, place) for place in ("preprocess", *OF_OPTIMIZE)),
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    # Waiting for a second one takes longer than these networks.
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def moments(calls):
    """The first calls, where runs are set up, one in the middle, and the last ones."""
    return sorted({1, 2, calls // 2 + 1, calls - 1, calls} & set(range(1, calls + 1)))


@pytest.mark.parametrize(
    ("call", "place"),
    short_for(SHORT_PLACES, PLACES),
    ids=[f"{call.__name__}-{place}" for call, place in PLACES],
)
def test_an_exception_leaves_nothing_behind(call, place):
    case = Case(call, place)
    around = global_state()
    case.fails.fail(0, None)  # the objective was made by a pass
    case.run()
    calls = case.fails.calls
    assert calls > 0
    for number, error_type in enumerate(ERRORS):
        if place == "spectrum" and error_type is StopIteration:
            continue  # the end of a data set
        for at in moments(calls)[number % 2 :: 2] or [1]:
            case = Case(call, place)
            before = everything(case.model)
            error = error_type("on purpose")
            case.fails.fail(at, error)
            met = case.outcome()
            if met is None:
                # Forms of a network that fail when they are tried are left out.
                assert isinstance(error, Exception) or case.fails.calls < at, (at, error)
                assert place not in ("callback", "on_result", "optimizer", "schedule"), at
            else:
                # What explains an error names it as its cause.
                assert error in (met, met.__cause__, met.__context__), (at, met)
            assert everything(case.model) == before, (at, error)
            assert global_state() == around, (at, error)
            assert not USES._uses, (at, error)


@pytest.mark.parametrize(
    "error_type",
    short_for(
        [RuntimeError, torch.OutOfMemoryError, KeyboardInterrupt], [*ERRORS, KeyboardInterrupt]
    ),
)
def test_what_a_failed_run_has_kept_does_not_change_the_next(error_type):
    case = Case(maco, "network")
    expected = case.run()
    calls = case.fails.calls
    fvfast.engine.clear()
    for at in (1, calls // 2, calls, calls + 2, calls + 3):  # also in the form that was kept
        case.fails.fail(at, error_type("on purpose"))
        for _ in range(2):
            case.outcome()
        case.fails.fail(0, None)
        assert torch.equal(case.run()[0], expected[0]), at


@pytest.mark.parametrize("place", ["callback", "on_result"])
@pytest.mark.parametrize("error_type", short_for(SHORT_ERRORS, ERRORS))
def test_finished_batches_come_with_the_exception(error_type, place):
    expected = Case(maco_batch, "callback").run()
    case = Case(maco_batch, place)
    handed = []
    if place == "callback":
        case.settings["on_result"] = handed.append
        case.fails.fail(5, error_type("on purpose"))  # in the second step of the second batch
    else:
        case.fails.function = handed.append
        case.fails.fail(2, error_type("on purpose"))
    with pytest.raises(error_type, match="on purpose") as caught:
        case.run()
    # A batch that could not be handed over is there as well.
    count = 2 if place == "callback" else 4
    finished = caught.value.finished
    assert finished.names == expected.names[:count]
    assert torch.equal(finished.images, expected.images[:count])
    assert torch.equal(finished.scores, expected.scores[:count])
    assert [part.names for part in handed] == [expected.names[:2]]


@pytest.mark.filterwarnings("error")
def test_finished_batches_come_where_warnings_are_errors():
    case = Case(maco_batch, "callback")
    case.fails.fail(5, MineError("on purpose"))
    with pytest.raises(RuntimeWarning, match="failed after 2 of 4 images") as caught:
        case.call(case.objective, **case.settings)
    assert len(caught.value.__context__.finished.names) == 2
