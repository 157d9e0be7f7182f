"""The rehearsal, as it would run on a bare machine: every stage, to its end, without a failure.

The short suite runs the stages of `FAST` to their end, and kills those of `KILLED`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bare_environment import bare_variables, make_bare_environment
from cuda_emulator.build import UnavailableError, check_platform
from cuda_emulator.headers import cuda_flags
from selection import short_for

from benchmarks.gpu.records import RESULTS, read_records
from benchmarks.gpu.stages import QUICK

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240  # seconds
MOST_FILES = 8
NAMES = [stage.name for stage in QUICK]
FAST = ["machine", "accuracy"]
# Their marks of being under way differ: a record, the outcome of a test, what another program said.
KILLED = ["accuracy", "tests", "sanitizers"]


def why_not():
    """Return the reason why no rehearsal can run here; empty if one can."""
    try:
        check_platform()
        cuda_flags()
    except UnavailableError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True, scope="module")
def emulator():
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    return make_bare_environment(tmp_path_factory.mktemp("bare"))


def start(python, folder, *options, **settings):
    command = [python, "-m", "benchmarks.gpu_quick", "--rehearse", "--output", folder, *options]
    return subprocess.Popen(command, cwd=ROOT, env=bare_variables(), text=True, **settings)


def rehearse(python, folder, *options):
    """Run a rehearsal to its end; return what was printed."""
    process = start(python, folder, *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printed, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, printed + (folder / "log.txt").read_text()[-3000:]
    return printed


@pytest.fixture(scope="module")
def rehearsal(bare_python, tmp_path_factory):
    """The folder of a whole rehearsal, and what was printed."""
    folder = tmp_path_factory.mktemp("rehearsal")
    return folder, rehearse(bare_python, folder)


def of_kind(folder, stage, kind):
    return [r for r in read_records(folder) if (r["stage"], r["kind"]) == (stage, kind)]


def test_the_environment_is_bare(bare_python):
    script = (
        "import importlib, socket, sys\n"
        "for name in ('torch', 'pytest', 'ninja', 'pybind11', 'numpy'):\n"
        "    importlib.import_module(name)\n"
        "for name in ('pip', 'skimage', 'sklearn', 'efficientnet_lite_pytorch', 'mypy'):\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        continue\n"
        "    sys.exit(name)\n"
        "try:\n"
        "    socket.create_connection(('127.0.0.1', 9))\n"
        "except OSError as error:\n"
        "    sys.exit(0 if 'no network' in str(error) else 'network')\n"
    )
    finished = subprocess.run(
        [bare_python, "-c", script], cwd="/", env=bare_variables(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr


def assert_all_ended(folder, printed, names):
    """Each stage came to its end without a failure, and left little behind."""
    records = read_records(folder)
    ends = {r["stage"]: r["outcome"] for r in records if r["kind"] == "end"}
    assert ends == dict.fromkeys(names, "done")
    assert not [r for r in records if r["kind"] == "failure"]
    for name in names:
        assert name in printed
    assert len(list(folder.iterdir())) <= MOST_FILES
    assert all(path.stat().st_size < 2**22 for path in folder.iterdir())


def test_the_fast_stages_end_without_a_failure(bare_python, tmp_path):
    printed = rehearse(bare_python, tmp_path, "--stages", ",".join(FAST))
    assert_all_ended(tmp_path, printed, FAST)
    assert_every_operation_is_compared(tmp_path)


@pytest.mark.thorough
def test_every_stage_ends_without_a_failure(rehearsal):
    assert_all_ended(*rehearsal, NAMES)


@pytest.mark.thorough
def test_what_is_left_out_is_known(rehearsal):
    folder, _ = rehearsal
    left_out = {r["what"].split(",")[0] for r in read_records(folder) if r["kind"] == "left out"}
    assert left_out <= {"the GPU", "launches", "the commands of the build"}


@pytest.mark.thorough
def test_every_operation_is_compared(rehearsal):
    folder, _ = rehearsal
    assert_every_operation_is_compared(folder)


def assert_every_operation_is_compared(folder):
    errors = of_kind(folder, "accuracy", "error")
    assert {r["operation"] for r in errors} == {
        "boxes", "noise", "crops", "crop gradient", "transparency", "phase to image",
        "image gradient to phase gradient", "image gradient to updated phase", "phase update",
        "pyramid to image", "image gradient to pyramid", "convolution epilogue",
    }  # fmt: skip
    assert {r["images"] for r in errors} == {1, 2}
    assert {r.get("form") for r in errors if r["operation"] == "crops"} == {
        "float32 contiguous", "bfloat16 channels_last",
    }  # fmt: skip
    assert all(r["error"] <= r["allowed"] for r in errors)


@pytest.mark.thorough
def test_every_kernel_is_timed(rehearsal):
    folder, _ = rehearsal
    kernels = of_kind(folder, "kernels", "kernel")
    assert {r["kernel"] for r in kernels} == {
        "boxes_kernel", "columns_kernel", "image_rows_kernel", "crop_kernel",
        "crop_gradient_cluster_kernel", "gradient_rows_kernel", "gradient_columns_kernel",
        "phase_update_kernel",
    }  # fmt: skip
    assert {(r["cache"], r["box"]) for r in kernels} == {
        (cache, box) for cache in ("warm", "cold") for box in (0.5, 0.25, 0.05)
    }
    assert all(r["us"] > 0 for r in kernels)


@pytest.mark.thorough
def test_tests_ran_on_the_device(rehearsal):
    folder, _ = rehearsal
    (operations, poisonous) = of_kind(folder, "tests", "tests")
    assert operations["passed"] > 20
    assert operations["status"] == "0"
    assert poisonous["skipped"] >= 1
    lines = [json.loads(line) for line in (folder / "tests.jsonl").read_text().splitlines()]
    ran = [line["test"] for line in lines if line["outcome"] == "passed"]
    assert all("emulated ascending" in test for test in ran)


@pytest.mark.thorough
def test_steps_say_how_they_ran(rehearsal):
    folder, _ = rehearsal
    steps = of_kind(folder, "steps", "step")
    assert {(r["precision"], r["graph"]) for r in steps} == {
        (precision, graph) for precision in ("float32", "bfloat16") for graph in ("on", "off")
    }
    for step in steps:
        assert step["step ms"] > 0
        assert step["network ms"] > 0
        assert step["kernels of fvfast"] == 8  # the emulated device has clusters
        assert step["precision"] in step["form"]


@pytest.mark.thorough
def test_the_table_can_be_made_again(rehearsal, bare_python):
    folder, printed = rehearsal
    command = [bare_python, "-m", "benchmarks.gpu_quick", "--table", folder]
    finished = subprocess.run(
        command, cwd=ROOT, env=bare_variables(), capture_output=True, text=True, check=True
    )
    table = finished.stdout.split("\neverything:")[0].strip()
    assert table
    assert table in printed


@pytest.mark.thorough
def test_the_long_check_has_the_same_stages_and_contests(tmp_path, bare_python):
    command = [bare_python, "-m", "benchmarks.gpu_check", "--rehearse", "--output", tmp_path]
    finished = subprocess.run(
        [*command, "--stages", "machine,contests"], cwd=ROOT, env=bare_variables(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + (tmp_path / "log.txt").read_text()[-3000:]
    (contest,) = of_kind(tmp_path, "contests", "contest")
    assert contest["step_ms"] > 0
    report = (tmp_path / "report.md").read_text()
    assert "| contests | done |" in report
    assert "### contest" in report


# What a stage has written in the middle of its work, where that is not a record yet.
WRITTEN = {
    "tests": ("tests.jsonl", b"\n"),
    "counters": ("ncu.unfinished", b"Connected"),
    "sanitizers": ("racecheck.unfinished", b"ran: "),
}


def is_under_way(folder, name, lines):
    """Whether a stage has written something besides its "begin" and the lines before it."""
    file, text = WRITTEN.get(name, (RESULTS, b"\n"))
    path = folder / file
    content = path.read_bytes() if path.exists() else b""
    return content.count(text) > (0 if name in WRITTEN else lines + 1)


@pytest.mark.parametrize("name", short_for(KILLED, NAMES))
def test_a_kill_in_any_stage_loses_nothing(name, tmp_path, bare_python):
    earlier = {"stage": "machine", "kind": "fact", "time": 0, "what": "number", "value": 42}
    (tmp_path / RESULTS).write_text(json.dumps(earlier) + "\n")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = start(bare_python, tmp_path, "--stages", name, **silent)
    deadline = time.monotonic() + LIMIT
    try:
        while not is_under_way(tmp_path, name, 1):
            assert process.poll() is None, "the stage ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()
        status = process.wait()
    assert status == -signal.SIGKILL
    wait_for_orphans(tmp_path)
    assert len(list(tmp_path.iterdir())) <= MOST_FILES
    records = read_records(tmp_path)
    assert records[0] == earlier
    assert [r["kind"] for r in records[1:2]] == ["begin"]
    assert "end" not in [r["kind"] for r in records]
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_quick", "--table", tmp_path], cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cut off" in shown.stdout
    report = (tmp_path / "report.md").read_text()
    numbers = [r for r in records if r["kind"] not in ("begin", "left out")]
    assert len(numbers) > (name not in WRITTEN)
    assert all(str(r.get("what", r["stage"])) in report for r in numbers)


def wait_for_orphans(folder):
    """Processes that write to the folder end with the one that was killed."""
    deadline = time.monotonic() + 10
    while users := [pid for pid in os.listdir("/proc") if pid.isdigit() and works_in(pid, folder)]:
        assert time.monotonic() < deadline, f"still there: {users}"
        time.sleep(0.05)


def works_in(pid, folder):
    try:
        state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and str(folder).encode() in Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return False
