"""The contest on a GPU: at the end of a turn it waits for the device, then reads the clock."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.gate import Finished, Gate

ROOT = Path(__file__).resolve().parents[2]


def take_turns(requests, steps):
    """Let a library take steps without waiting; return the answers, and when it was waited for."""
    waited = []

    def finish():
        time.sleep(0.05)  # what the device still had to do
        waited.append(opened.calls)

    answers = io.StringIO()
    lines = io.StringIO("".join(json.dumps(request) + "\n" for request in requests))
    opened = Gate(lines, answers, {}, finish_work=finish)
    try:
        for _ in range(steps):
            opened()
    except Finished:
        pass
    return [json.loads(line) for line in answers.getvalue().splitlines()], waited


def test_the_device_is_waited_for_at_the_end_of_a_turn_alone():
    answers, waited = take_turns([{"steps": 20}, {"steps": 5}], 100)
    assert waited == [2, 22, 27]  # after the first step, and after each turn
    assert len(answers) == 3


def test_the_wait_is_part_of_the_turn():
    answers, _ = take_turns([{"steps": 10}], 100)
    assert answers[0]["first_step_seconds"] >= 0.05
    assert answers[1]["seconds"] >= 0.05 / 10


WORKER = """
import sys, types, torch
waits = []
torch.cuda.synchronize = lambda *_: waits.append(1)
names = ("memory_allocated", "max_memory_allocated")
for name in names:
    setattr(torch.cuda, name, lambda *_: 0)
for name in ("reset_peak_memory_stats", "empty_cache"):
    setattr(torch.cuda, name, lambda *_: None)

def prepare(scene):
    def run(gate):
        while True:
            gate()
            print("step", len(waits), file=sys.stderr, flush=True)
    return {}, run

sys.modules["library_worker"] = types.SimpleNamespace(prepare=prepare, build_network=None)
sys.argv = ["contest_worker", "library_worker"]
from benchmarks.gpu.contest_worker import main
main()
"""


def test_the_worker_waits_for_the_device():
    requests = '{"values_range": [-1, 1]}\n{"steps": 6}\n'
    finished = subprocess.run(
        [sys.executable, "-c", WORKER], cwd=ROOT, input=requests, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    waits = [int(line.split()[1]) for line in finished.stderr.splitlines() if "step" in line]
    # Before the first step, after it, after five steps of six without another wait.
    assert waits == [0, 1, 1, 1, 1, 1, 1]
    assert len(finished.stdout.splitlines()) == 2
