"""Whatever happens to the console command or its output, each picture is saved.

Runs are stopped and killed at random moments while their output goes through a pipe, nowhere, or to
a full disk. FVFAST_TEST_COMMANDS says how many runs there are in the thorough suite.
"""

import collections
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from command_server import Server
from console import TINY
from PIL import Image
from selection import thorough

from fvfast.plot import read_metadata

RUNS = int(os.environ.get("FVFAST_TEST_COMMANDS", "12"))
SHORT_RUNS = 5
STEPS = 8
CHANNELS = 3
QUICK = ["--crops", 2, "--size", "48", "--device", "cpu"]
DRAW = ["maco", "tiny_network:make", "--layer", "conv", "--channel", f"0-{CHANNELS - 1}"]
DRAW += ["--steps", STEPS, *QUICK]
STOPS = {
    "nothing": (),
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
    "SIGTERM": (signal.SIGTERM,),
    "SIGTERM and Ctrl-C": (signal.SIGTERM, signal.SIGINT),
    "SIGHUP": (signal.SIGHUP,),
    "SIGKILL": (signal.SIGKILL,),
}
OUTPUTS = ("tee", "head", "closed", "full", "file")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny_network.py").write_text(
        TINY
        + """
def named():
    made = make()
    names = ["caf\\u00e9 \\x1b[2J\\n", "\\u732b\\u202e", "a\\x00b", "\\udc80"]
    return LoadedModel(made.model, "named", made.input_shape, made.values_range, None, names)
"""
    )
    return tmp_path


@contextlib.contextmanager
def output(kind, folder):
    """Standard output and error of one kind, and the processes that read them."""
    if kind == "closed":
        yield (None, None), []
    elif kind in ("full", "file"):
        path = "/dev/full" if kind == "full" else folder / "output"
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        yield (file, file), []
        os.close(file)
    else:
        reading, writing = os.pipe()
        command = ["tee", str(folder / "log")] if kind == "tee" else ["head", "-1"]
        reader = subprocess.Popen(command, stdin=reading, stdout=subprocess.DEVNULL)
        os.close(reading)
        yield (writing, writing), [reader]
        os.close(writing)
        reader.wait()


def check_saved(folder, witnessed, *, killed):
    """Each picture of which a step was taken is there, whole, with all its steps."""
    taken = collections.Counter(witnessed)
    names = list(taken)
    for name in names[:-1] if killed else names:
        path = folder / "out" / f"tiny_{name.replace('#', '_')}.png"
        with Image.open(path) as picture:
            picture.load()
        settings = json.loads(read_metadata(path)["fvfast.settings"])
        # The signal may come after a step, before it is noted here.
        assert settings["steps_taken"] - taken[name] in (0, 1), name
    if not killed and (folder / "out").exists():
        left = {path.name for path in (folder / "out").iterdir()}
        assert not {name for name in left if not name.endswith(".png")}


def wait_for_a_moment(witness, generator):
    """Wait for some step; in some runs, for some time, which may be before the first one."""
    if generator.random() < 0.25:
        time.sleep(generator.random())
        return
    steps = generator.randrange(1, CHANNELS * STEPS)
    for _ in range(3000):
        if witness.exists() and len(witness.read_text().split()) >= steps:
            return
        time.sleep(0.01)
    raise TimeoutError("the command takes no steps")


def one_run(server, folder, stop, kind, generator):
    """Run and stop a command; return its status and whether something unfinished was left."""
    out = folder / "out"
    signals = STOPS[stop]
    progress = generator.choice(["--progress", "--no-progress"])
    with output(kind, folder) as ((stdout, stderr), readers):
        command = server.start(
            *DRAW, "--out", out, progress,
            cwd=folder, stdout=stdout, stderr=stderr, witness=str(folder / "witness"),
        )  # fmt: skip
        wait_for_a_moment(folder / "witness", generator)
        for number in signals:
            time.sleep(0.05 * generator.random())
            command.send(number)
            if number == signal.SIGINT:  # goes to all that a terminal runs in the foreground
                for reader in readers:
                    reader.send_signal(number)
        status = command.wait()
    allowed = {0, *(128 + number for number in signals)}
    if signal.SIGKILL in signals:
        allowed = {0, -signal.SIGKILL}
    witness = folder / "witness"
    witnessed = witness.read_text().split() if witness.exists() else []
    if status in (-signal.SIGTERM, -signal.SIGHUP) and -status in signals:
        assert not witnessed  # before the command has begun
    else:
        assert status in allowed, (status, stop, kind)
    check_saved(folder, witnessed, killed=status == -signal.SIGKILL)
    return status, bool(list(out.glob(".fvfast-*"))) if out.exists() else False


@pytest.mark.parametrize("runs", [SHORT_RUNS, thorough(RUNS)])
def test_stopped_at_any_moment(server, folder, runs):
    generator = random.Random(0)
    cases = list(itertools.product(STOPS, OUTPUTS))
    generator.shuffle(cases)
    ended, left = collections.Counter(), 0
    for number, (stop, kind) in zip(range(runs), itertools.cycle(cases), strict=False):
        place = folder / str(number)
        place.mkdir()
        (place / "tiny_network.py").write_text(TINY)
        status, unfinished = one_run(server, place, stop, kind, generator)
        ended[status] += 1
        left += unfinished
        # The same command goes on where that one ended.
        before = {path: path.stat().st_mtime_ns for path in place.glob("out/*.png")}
        status, printed, error = server.run(*DRAW, "--out", "out", "--no-progress", cwd=place)
        assert status == 0, error
        files = sorted(path.name for path in (place / "out").iterdir())
        assert files == [f"tiny_Channel_conv_{one}.png" for one in range(CHANNELS)]
        settings = {
            path: json.loads(read_metadata(path)["fvfast.settings"])
            for path in (place / "out").iterdir()
        }
        assert all(one["steps_taken"] == STEPS for one in settings.values())
        kept = sum(path.stat().st_mtime_ns == time for path, time in before.items())
        assert printed.count("already there: ") == kept
    sys.stdout.write(f"\n{runs} runs, by status: {dict(ended)}; {left} left something unfinished\n")
    assert any(ended)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_output_that_is_lost_loses_no_picture(server, folder, kind):
    with output(kind, folder) as ((stdout, stderr), _):
        command = server.start(
            *DRAW, "--out", "out", cwd=folder, stdout=stdout, stderr=stderr, encoding="ascii"
        )
        assert command.wait() == 0
    assert len(list((folder / "out").iterdir())) == CHANNELS


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict", "latin-1:strict"])
def test_names_are_escaped_where_a_terminal_cannot_show_them(server, folder, encoding):
    arguments = ["maco", "tiny_network:named", "--steps", 2, *QUICK, "--out", "out", "--progress"]
    classes = [option for index in range(4) for option in ("--class", index)]
    status, printed, error = server.run(*arguments, *classes, cwd=folder, encoding=encoding)
    assert status == 0, error
    assert len(list((folder / "out").iterdir())) == 4
    for text in (printed, error):
        assert not {"\x1b", "\x00", "\u202e"} & set(text.replace("\x1b[A", ""))
    first, *_ = printed.splitlines()
    cafe = r"caf\xe9" if encoding.startswith("ascii") else "caf\u00e9"
    assert first == rf"{cafe} \x1b[2J\n: out/named_caf_2J.png"
    assert r"\u202e" in printed
    assert r"a\x00b" in printed
    assert r"\udc80" in printed
    titles = {read_metadata(path)["Title"] for path in (folder / "out").iterdir()}
    assert titles == {"caf\u00e9 \x1b[2J\n", "\u732b\u202e", r"a\x00b", r"\udc80"}


@pytest.mark.parametrize(("arguments", "status"), [(["layers"], 1), (["info", "--model"], 1)])
def test_a_list_that_is_lost_is_an_error(server, folder, arguments, status):
    full = os.open("/dev/full", os.O_WRONLY)
    arguments = [*arguments, "tiny_network:make"]
    ended, _, error = server.run(*arguments, cwd=folder, stdout=full)
    os.close(full)
    assert ended == status
    assert "error: the output could not be written: No space left on device." in error
    reading, writing = os.pipe()
    os.close(reading)
    assert server.run(*arguments, cwd=folder, stdout=writing)[::2] == (0, "")
    os.close(writing)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(server, folder, number):
    with output("file", folder) as ((stdout, stderr), _):
        streams = {"stdout": stdout, "stderr": stderr, "ignored": [int(number)]}
        command = server.start(*DRAW, "--out", "out", cwd=folder, **streams)
        for _ in range(5):
            time.sleep(0.03)
            command.send(number)
        assert command.wait() == 0
    assert len(list((folder / "out").iterdir())) == CHANNELS


def test_usage_errors_are_told_on_any_stream(server, folder):
    with output("closed", folder) as ((stdout, stderr), _):
        assert server.start("maco", cwd=folder, stdout=stdout, stderr=stderr).wait() == 2
