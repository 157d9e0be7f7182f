"""Ctrl-C in processes as people have them: a script, a loop in a script, a notebook."""

import queue
import signal
import subprocess
import sys
import textwrap
import time

import pytest

SETUP = """
import time, warnings
from torch import nn
from fvfast import Objective, maco
warnings.simplefilter("ignore", UserWarning)
network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
objective = Objective.neuron(network, -1, 1, input_shape=(3, 16, 16))

def slow(report):
    if report.step == 2:
        print("three steps", flush=True)
    time.sleep(0.02)

def draw():
    return maco(objective, nb_steps=2000, nb_crops=1, custom_shape=16, progress=False,
                callback=slow)
"""

ONE = """
image, transparency = result = draw()
print("picture", tuple(image.shape), result.interrupted, flush=True)
"""

# Where it cannot be interrupted for half a second, so that both arrive before the run has ended.
BUSY = """
def busy(step):
    if step == 3:
        print("three steps", flush=True)
        time.sleep(0.5)
    return 0.5

result = maco(objective, nb_steps=2000, nb_crops=1, custom_shape=16, progress=False, box_size=busy)
print("picture", flush=True)
"""

LOOP = """
drawn = 0
try:
    for _ in range(5):
        draw()
        drawn += 1
        print("next", flush=True)
except KeyboardInterrupt:
    print("left after", drawn, flush=True)
"""


@pytest.fixture
def start():
    """Start a script; it is ended whatever happens."""
    running = []

    def begin(*parts):
        # Programs that a shell starts in the background inherit that the signal is ignored.
        handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        process = subprocess.Popen(
            [sys.executable, "-c", handler + "".join(map(textwrap.dedent, parts))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def press(process, times=1):
    """Wait until it draws, then press Ctrl-C."""
    assert process.stdout.readline() == "three steps\n", process.stderr.read()
    for count in range(times):
        time.sleep(0.1 * count)
        process.send_signal(signal.SIGINT)


def test_a_script_gets_the_picture(start):
    process = start(SETUP, ONE)
    press(process)
    said, errors = process.communicate(timeout=60)
    assert said == "picture (3, 16, 16) True\n"
    assert "interrupted after" in errors
    assert process.returncode == 0


def test_a_loop_goes_on_after_one_and_ends_after_two(start):
    process = start(SETUP, LOOP)
    press(process)
    assert process.stdout.readline() == "next\n"
    press(process)  # within three seconds
    said, _ = process.communicate(timeout=60)
    assert said == "left after 1\n"
    assert process.returncode == 0


def test_two_quick_ones_leave_a_script(start):
    process = start(SETUP, BUSY)
    press(process, times=2)
    said, errors = process.communicate(timeout=60)
    assert said == ""
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode != 0


class Notebook:
    """A kernel, as a notebook has it."""

    def __init__(self):
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def run(self, cell, interrupts=0):
        """Run a cell; return what it prints, and the name of its error."""
        asked = self.client.execute(cell)
        printed, error = "", None
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                printed += content["text"]
                if interrupts and printed.count("three steps") > 0:
                    for count in range(interrupts):
                        time.sleep(0.1 * count)
                        self.manager.interrupt_kernel()
                    interrupts = 0
            elif kind == "error":
                error = content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                return printed, error
        pytest.fail(f"the cell did not end; it printed {printed!r}")
        return printed, error

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def notebook():
    opened = Notebook()
    assert opened.run(SETUP) == ("", None)
    yield opened
    opened.close()


@pytest.mark.usefixtures("leaks_end_here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_notebook_gets_the_picture_and_goes_on(notebook):
    printed, error = notebook.run(ONE, interrupts=1)
    assert (printed, error) == ("three steps\npicture (3, 16, 16) True\n", None)
    assert notebook.run("print(result)")[0] == "MacoImage(image of 3 x 16 x 16, interrupted)\n"


@pytest.mark.usefixtures("leaks_end_here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_two_quick_ones_leave_a_cell(notebook):
    printed, error = notebook.run("time.sleep(3.1)\n" + BUSY, interrupts=2)
    assert (printed, error) == ("three steps\n", "KeyboardInterrupt")
    assert notebook.run("print(1)") == ("1\n", None)
