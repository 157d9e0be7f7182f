"""The runner: stages that hang, fail, break and leave processes behind."""

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from benchmarks.gpu.records import Records, read_records
from benchmarks.gpu.stages import CHECK, QUICK, QUICK_SECONDS, Stage, choose, with_limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GPUs are checked on Linux")

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "good": "def run(job): job.records.add('number', value=1)",
    "failing": """
        def run(job):
            job.records.add('number', value=1)
            raise RuntimeError('the device is on fire')
        """,
    "hanging": """
        import signal, time
        def run(job):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            job.records.add('number', value=1)
            time.sleep(1000)
        """,
    "leaving": """
        import subprocess, sys
        def run(job):
            child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'],
                                     start_new_session=True)
            job.records.add('number', value=child.pid)
        """,
    "breaking": "import os\ndef run(job): os.abort()",
    "missing": None,
}
DRIVER = """
import json, sys
from pathlib import Path
from benchmarks.gpu.runner import Runner
from benchmarks.gpu.stages import Stage
folder, seconds, stages = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
runner = Runner(Path(folder), rehearsed=False, thorough=False, seconds=seconds)
sys.exit(0 if runner.run([Stage(*stage) for stage in stages]) else 1)
"""


def run_stages(folder, names, seconds=60.0, limit=30.0):
    modules = folder / "modules"
    modules.mkdir()
    for name, text in STAGES.items():
        if text is not None:
            (modules / f"stage_{name}.py").write_text(textwrap.dedent(text))
    stages = [(name, f"stage_{name}", limit, limit, "a test") for name in names]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{modules}"}
    output = folder / "results"
    finished = subprocess.run(
        [sys.executable, "-c", DRIVER, output, str(seconds), json.dumps(stages)], cwd=ROOT,
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return finished, output, read_records(output)


def outcomes(records):
    return {r["stage"]: r["outcome"] for r in records if r["kind"] == "end"}


def test_a_stage_that_fails_does_not_stop_the_next(tmp_path):
    finished, output, records = run_stages(
        tmp_path, ["failing", "breaking", "missing", "leaving", "good"]
    )
    assert outcomes(records) == {
        "failing": "failed", "breaking": "killed by signal 6", "missing": "failed",
        "leaving": "done", "good": "done",
    }  # fmt: skip
    assert finished.returncode == 1
    assert len([r for r in records if r["kind"] == "number"]) == 3
    failures = {r["stage"]: r for r in records if r["kind"] == "failure"}
    assert failures["failing"]["message"] == "RuntimeError: the device is on fire"
    assert "Traceback" in failures["failing"]["details"]
    assert "stage_missing" in failures["missing"]["message"]
    report = (output / "report.md").read_text()
    assert "the device is on fire" in report
    assert "FAILED  failing: the stage failing: RuntimeError" in finished.stdout
    (left,) = (r["value"] for r in records if r["stage"] == "leaving" and r["kind"] == "number")
    assert not is_running(left)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_stage_over_its_limit_is_ended_and_the_next_runs(tmp_path):
    began = time.monotonic()
    finished, _, records = run_stages(tmp_path, ["hanging", "good"], limit=1.5)
    assert time.monotonic() - began < 20
    assert outcomes(records) == {"hanging": "ended at its limit", "good": "done"}
    assert {r["stage"] for r in records if r["kind"] == "number"} == {"hanging", "good"}
    assert finished.returncode == 1


@pytest.mark.thorough
def test_the_time_for_all_stages_is_kept(tmp_path):
    began = time.monotonic()
    _, _, records = run_stages(tmp_path, ["hanging", "good"], seconds=5.5)
    assert time.monotonic() - began < 20
    assert outcomes(records) == {"hanging": "ended at its limit", "good": "left out: no time"}


def test_a_stage_for_which_no_time_is_left_is_left_out(tmp_path):
    _, _, records = run_stages(tmp_path, ["good"], seconds=1)
    assert outcomes(records) == {"good": "left out: no time"}


def test_all_good(tmp_path):
    finished, _, records = run_stages(tmp_path, ["good"])
    assert finished.returncode == 0
    assert outcomes(records) == {"good": "done"}


def test_half_a_line_hides_no_other(tmp_path):
    Records(tmp_path, "one").add("number", value=1)
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes() + b'{"stage": "one", "kin')
    Records(tmp_path, "two").add("number", value=2)
    first, half, second = read_records(tmp_path)
    assert (first["value"], second["value"]) == (1, 2)
    assert half["kind"] == "left out"


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected the folder of a run"):
        read_records(tmp_path)


def test_the_stages_fit_the_time():
    *all_but_last, _ = QUICK
    assert sum(stage.seconds for stage in all_but_last) + 30 <= QUICK_SECONDS
    assert QUICK_SECONDS <= 480
    assert [stage.name for stage in CHECK][: len(QUICK)] == [stage.name for stage in QUICK]


def test_stages_are_chosen_by_number_and_name():
    assert [stage.name for stage in choose(QUICK, "kernels,0")] == ["machine", "kernels"]
    assert choose(QUICK, None) == list(QUICK)
    for wrong in ("9", "kernel", ","):
        with pytest.raises(ValueError, match=r"stages: expected .*got"):
            choose(QUICK, wrong)


def test_limits_are_changed():
    stage = Stage("one", "module", 10, 20, "")
    assert with_limits([stage], ["one=5"])[0].seconds == 5
    assert with_limits([stage], [])[0] == stage
    for wrong in ("one", "one=", "one=-1", "one=inf", "two=5"):
        with pytest.raises(ValueError, match=r"(limit|stages): expected .*got"):
            with_limits([stage], [wrong])
