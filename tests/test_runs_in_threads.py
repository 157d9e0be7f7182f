"""Runs in several threads, and in forked processes, give the same results as alone."""

import contextlib
import copy
import itertools
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch
from misbehaving import Drops, Network, everything, global_state
from selection import thorough
from torch import nn

import fvfast.engine
from fvfast import Objective, maco, maco_batch, optimize
from fvfast.engine import locks

INPUT = (3, 12, 12)
SHORT = {"nb_steps": 4, "custom_shape": (16, 16), "progress": False}
LONG_ENOUGH = 60  # seconds that nothing here takes, to end a test that hangs


@pytest.fixture(autouse=True)
def nothing_kept_and_one_thread():
    fvfast.engine.clear()
    threads = torch.get_num_threads()
    # Waiting for a second one takes longer than these networks.
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(model, call=maco, unit=1, **settings):
    """One picture of a unit of the last layer."""
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    objective = Objective.neuron(model, last, unit, names="picture", input_shape=INPUT)
    own = {"nb_crops": 2} if call is not optimize else {}
    result = call(objective, **{**SHORT, **own, **settings})[0]
    return result[-1] if call is optimize else result


def in_threads(*works):
    """Do several things at the same time, and return what each gave, or raised."""
    results = [None] * len(works)

    def do(index):
        try:
            results[index] = works[index]()
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            results[index] = error

    threads = [
        threading.Thread(target=do, args=(index,), daemon=True) for index in range(len(works))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_ENOUGH)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"
    return results


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def value(result):
    if isinstance(result, BaseException):
        raise result
    return result


# Networks that share something


def with_a_common_backbone():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return [
        nn.Sequential(backbone, nn.Flatten(), nn.Linear(4 * 10 * 10, 5)).eval() for _ in range(2)
    ]


class Limited(Network):
    """Limits its weights in each pass, through their data."""

    def forward(self, x):
        self.fc.weight.data.clamp_(-0.01, 0.01)
        return super().forward(x)


class Shifted(Network):
    """Moves its weights on in each pass."""

    def forward(self, x):
        self.fc.weight.data.add_(0.001)
        return super().forward(x)


def with_tied_weights():
    one, other = Limited(), Shifted()
    other.fc.weight = one.fc.weight
    return [one, other]


def with_the_same_memory():
    one, other = Limited(), Shifted()
    other.fc.weight.data = one.fc.weight.data[:]
    return [one, other]


class Reads(Network):
    """Adds a tensor that is not a buffer, and counts in it."""

    def around(self, x):
        self.table += 0.1
        return x + self.table


def with_a_common_tensor():
    one, other = Reads(), Reads()
    one.table = other.table = torch.zeros(())
    return [one, other]


def one_within_the_other():
    inner = Limited()
    return [inner, nn.Sequential(nn.Hardtanh(), inner).eval()]


SHARING = [
    with_a_common_backbone, with_tied_weights, with_the_same_memory, with_a_common_tensor,
    one_within_the_other,
]  # fmt: skip


@pytest.mark.parametrize("precision", [None, thorough("bfloat16")])
@pytest.mark.parametrize("make", SHARING)
def test_networks_that_share_something_take_turns(make, precision):
    models = make()
    alone = [run(model, unit=unit, precision=precision) for model in models for unit in range(3)]
    before = [everything(model) for model in models]
    fvfast.engine.clear()
    together = in_threads(*(
        lambda model=model: [run(model, unit=unit, precision=precision) for unit in range(3)]
        for model in models
    ))  # fmt: skip
    assert [everything(model) for model in models] == before
    for expected, found in zip(alone, joined(map(value, together)), strict=True):
        assert torch.equal(expected, found)


def test_networks_that_share_nothing_do_not_wait():
    """Two copies, each of which goes on only when the other is in its run as well."""
    both = threading.Barrier(2, timeout=LONG_ENOUGH)
    one = Network()
    for result in in_threads(*(
        lambda model=model: run(model, callback=lambda _report: both.wait() and None)
        for model in (one, copy.deepcopy(one))
    )):  # fmt: skip
        value(result)


# Runs within runs


@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_a_run_within_a_run_of_the_same_thread(call):
    outer, _ = with_a_common_backbone()
    part = nn.Sequential(outer[0], nn.Flatten(), nn.Linear(400, 2)).eval()
    before = everything(outer)
    expected = [run(outer, call), run(part), run(outer, unit=2)]
    inner = []

    def begin_others(_report):
        inner.extend((run(part), run(outer, unit=2)))

    found = run(outer, call, callback=begin_others)
    assert torch.equal(found, expected[0])
    for one, other in zip(inner, expected[1:] * 4, strict=True):
        assert torch.equal(one, other)
    assert everything(outer) == before


def test_runs_that_would_wait_for_each_other_for_ever():
    one, other = Network(), Network()
    before = everything(one), everything(other)
    both = threading.Barrier(2, timeout=LONG_ENOUGH)

    def within(outer, inner):
        met = []

        def callback(_report):
            if not met:
                met.append(both.wait())
                run(inner)

        return run(outer, callback=callback)

    results = in_threads(lambda: within(one, other), lambda: within(other, one))
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 1
    with pytest.raises(RuntimeError, match="two threads wait for each other"):
        raise refused[0]
    assert (everything(one), everything(other)) == before


def test_a_run_that_optimizes_within_a_run_waits_for_nobody_for_ever():
    """The generators are taken for a step at a time only."""
    one, other = Network(), Network()
    both = threading.Barrier(2, timeout=LONG_ENOUGH)

    def within(outer, inner, call, inner_call):
        met = []

        def callback(_report):
            if not met:
                met.append(both.wait())
                run(inner, inner_call)

        return run(outer, call, callback=callback)

    for result in in_threads(
        lambda: within(one, Network(), maco, optimize),
        lambda: within(other, Network(), optimize, maco),
    ):
        value(result)


@pytest.mark.parametrize("call", [maco, maco_batch, optimize])
def test_the_wait_for_another_thread_can_be_interrupted(in_a_run, call):
    model = Network()
    in_a_run(model, maco)

    def interrupt():
        end = time.monotonic() + LONG_ENOUGH
        while not locks.USES._wanted and time.monotonic() < end:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sender = threading.Thread(target=interrupt)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(model, call)
    finally:
        sender.join()
        signal.signal(signal.SIGINT, before)
    assert not locks.USES._wanted


# What all threads share of torch


def jitter(images):
    """Draws from all three generators."""
    noise = torch.randn(()) + random.random() + float(np.random.rand())
    return images + 0.1 * noise


@pytest.mark.parametrize(
    "calls",
    [thorough((maco, maco)), (maco, optimize), thorough((optimize, optimize))],
)
def test_what_is_drawn_does_not_depend_on_other_threads(calls):
    models = [Drops(), Drops()]
    settings = {
        call: {"transformations": jitter} if call is optimize else {} for call in set(calls)
    }
    pairs = list(zip(models, calls, strict=True))
    alone = [[run(model, call, seed=seed, **settings[call]) for seed in range(4)]
             for model, call in pairs]  # fmt: skip
    around = global_state()
    together = in_threads(*(
        lambda model=model, call=call: [
            run(model, call, seed=seed, **settings[call]) for seed in range(4)
        ]
        for model, call in pairs
    ))  # fmt: skip
    assert global_state() == around
    for expected, found in zip(joined(alone), joined(map(value, together)), strict=True):
        assert torch.equal(expected, found)


def test_the_seed_decides_what_transformations_draw():
    model = Network()
    around = global_state()
    first = run(model, optimize, transformations=jitter)
    assert global_state() == around
    torch.rand(3), random.random(), np.random.rand()  # other states of the generators
    assert torch.equal(run(model, optimize, transformations=jitter), first)
    assert not torch.equal(run(model, optimize, transformations=jitter, seed=1), first)


def test_a_callback_draws_from_the_programs_generators():
    model, drawn = Network(), []
    torch.manual_seed(3)
    expected = torch.cat([torch.rand(1) for _ in range(4)])
    torch.manual_seed(3)
    run(model, optimize, callback=lambda _report: drawn.append(torch.rand(1)))
    assert torch.equal(torch.cat(drawn), expected)


@contextlib.contextmanager
def another_default_type():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


OF_A_THREAD = {
    "nothing": contextlib.nullcontext,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no gradients": torch.no_grad,
}


@pytest.mark.parametrize("call", [maco, thorough(maco_batch), thorough(optimize)])
def test_threads_with_other_settings_of_torch(call):
    """Each thread has its own; the default type is one for all, and changes now and then."""
    models = {name: Network() for name in OF_A_THREAD}

    def draw(name):
        with OF_A_THREAD[name]():
            modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            picture = run(models[name], call).clone()
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == modes
            assert torch.is_autocast_enabled("cpu") == (name == "autocast")
            return picture

    alone = {name: draw(name) for name in OF_A_THREAD}
    before = {name: everything(model) for name, model in models.items()}
    done = threading.Event()

    def change_the_default_type():
        while not done.is_set():
            with another_default_type():
                time.sleep(0.001)
            time.sleep(0.001)

    def draw_all(name):
        return [draw(name) for _ in range(3)]

    changer = threading.Thread(target=change_the_default_type, daemon=True)
    changer.start()
    try:
        together = in_threads(*(lambda name=name: draw_all(name) for name in OF_A_THREAD))
    finally:
        done.set()
        changer.join()
    for name, pictures in zip(OF_A_THREAD, map(value, together), strict=True):
        for picture in pictures:
            assert picture.dtype == torch.float32
            assert torch.equal(picture, alone[name]), name
    assert {name: everything(model) for name, model in models.items()} == before


# Forked processes


def forked(work):
    """Do something in a forked process; return how it ended."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # the others are gone
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (a child must not go on with the tests)
            os.write(2, f"in the forked process: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + LONG_ENOUGH
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


@pytest.fixture
def in_a_run():
    """Begin a run in another thread, which stays in its second step until the test is over."""
    arrived, leave = threading.Event(), threading.Event()
    threads = []

    def begin(model, call):
        def stay(_report):
            arrived.set()
            leave.wait(LONG_ENOUGH)

        threads.append(threading.Thread(target=lambda: run(model, call, callback=stay)))
        threads[-1].start()
        assert arrived.wait(LONG_ENOUGH)

    yield begin
    leave.set()
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("ignore:.*training mode")
@pytest.mark.forks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes")
@pytest.mark.parametrize("call", [maco, thorough(maco_batch), thorough(optimize)])
def test_a_fork_while_another_thread_is_in_a_run(in_a_run, call):
    model = Network()
    expected = run(model, call)
    model.train()
    before = everything(model)
    in_a_run(model, call)

    def work():
        assert everything(model) == before
        model.eval()
        assert torch.equal(run(model, call), expected)

    assert not model.training  # in this process
    assert forked(work) == 0


@pytest.mark.forks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes")
def test_a_fork_within_a_run():
    """A callback may start processes, which go on with what their parent has."""
    model = Network()
    before = everything(model)
    expected = run(model, unit=2)
    ended = []

    def work():
        assert torch.equal(run(model, unit=2), expected)

    run(model, callback=lambda _report: ended.append(forked(work)))
    assert ended == [0] * 4
    assert everything(model) == before


@pytest.mark.forks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes")
def test_a_fork_while_another_thread_holds_a_lock():
    held, leave = threading.Event(), threading.Event()
    owners = list(locks._with_a_lock)
    assert len(owners) >= 3  # kept forms, memory, captures

    def hold():
        with contextlib.ExitStack() as stack:
            stack.enter_context(locks.torch_state_used())
            for owner in owners:
                stack.enter_context(owner._lock)
            held.set()
            leave.wait(LONG_ENOUGH)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(LONG_ENOUGH)
    try:
        assert forked(lambda: run(Drops())) == 0
    finally:
        leave.set()
        thread.join()


@pytest.mark.forks
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes")
def test_a_thread_that_forks_beside_a_run_can_be_interrupted():
    """It is the main thread of the forked process, where nothing is set up or put back."""
    results = []

    def interrupt():
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def fork_in_a_thread(_report):
        results.extend(in_threads(lambda: forked(interrupt)))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(Network(), callback=fork_in_a_thread, nb_steps=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert results == [0]
