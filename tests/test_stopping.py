"""What signals do to the console command, stage by stage."""

import os
import signal
import threading

import pytest

from fvfast.cli.startup import is_command
from fvfast.cli.stopping import stop_on_signals
from fvfast.engine.borrowing.interrupts import let_interrupts_through, opened, shielded

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def usual_handlers():
    """A shell's background jobs inherit an ignored SIGINT, and nohup's an ignored SIGHUP."""
    usual = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL)
    before = {
        number: signal.signal(number, handler)
        for number, handler in zip(STOPPING, usual, strict=True)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_at_once_what_has_nothing_to_save(number):
    with stop_on_signals() as stop:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert stop.cut
        assert stop.status == 128 + number


@pytest.mark.parametrize("first", STOPPING)
@pytest.mark.parametrize("second", STOPPING)
def test_the_first_signal_is_noted_and_the_second_one_raises_once(first, second):
    with stop_on_signals() as stop, stop.later():
        with stop.after_the_step():
            assert not stop
            signal.raise_signal(first)
            assert stop
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(second)
            # What follows is the way to the picture so far.
            signal.raise_signal(second)
        signal.raise_signal(second)
        assert stop.status == 128 + first


def test_after_the_last_step_no_signal_raises():
    with stop_on_signals() as stop, stop.later(), stop.after_the_step():
        stop.finish()
        for number in STOPPING:
            signal.raise_signal(number)


@pytest.mark.parametrize("number", STOPPING)
def test_the_engine_is_not_interrupted_while_it_puts_things_back(number):
    reached = []
    with stop_on_signals() as stop, stop.later(), stop.after_the_step():
        with pytest.raises(KeyboardInterrupt), shielded():  # noqa: PT012
            signal.raise_signal(number)
            opened(lambda: None)
            signal.raise_signal(number)
            reached.append("put back")
            let_interrupts_through()
        assert reached == ["put back"]
        assert stop.status == 128 + number


@pytest.mark.parametrize("number", STOPPING)
def test_what_is_ignored_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    with stop_on_signals() as stop:
        signal.raise_signal(number)
        assert not stop
        assert signal.getsignal(number) is signal.SIG_IGN


def test_in_the_background_the_end_is_still_asked_for():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_signals() as stop, stop.later(), stop.after_the_step():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # nothing shields from it: it stops after the step
        assert stop.status == 143


def test_handlers_come_back():
    before = [signal.getsignal(number) for number in STOPPING]
    with stop_on_signals():
        assert [signal.getsignal(number) for number in STOPPING] != before
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_other_threads_take_no_signals():
    seen = []

    def run():
        with stop_on_signals() as stop:
            seen.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(False, signal.default_int_handler)]


@pytest.mark.parametrize("number", STOPPING)
def test_a_forked_process_ends_as_any_other(number):
    with stop_on_signals() as stop, stop.later():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), number)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
        assert not stop


@pytest.mark.parametrize(
    ("arguments", "original", "expected"),
    [
        (["/usr/bin/fvfast", "maco"], ["python", "/usr/bin/fvfast", "maco"], True),
        (["-m", "maco"], ["python", "-X", "dev", "-m", "fvfast", "maco"], True),
        (["-m", "maco"], ["python", "-mfvfast", "maco"], True),
        (["-m"], ["python", "-m", "pytest", "fvfast"], False),
        (["-c"], ["python", "-c", "import fvfast"], False),
        (["fvfast.py"], ["python", "fvfast.py"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_only_the_command_itself_is_prepared(arguments, original, expected):
    assert is_command(arguments, original) is expected
