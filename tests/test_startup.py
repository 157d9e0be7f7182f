"""The first moments of the console command, while torch is imported, which takes seconds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# In place of torch: it says that it is imported, and takes its time.
SLOW_TORCH = """
import os, sys
os.write(3, b"importing\\n")
while not os.read(4, 1):
    pass
print(os.environ.get("GOMP_SPINCOUNT"), flush=True)
sys.exit(os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev and 70 or 71)
"""
# The module alone: the package imports torch.
PLAIN = (
    "import runpy; runpy.run_path('fvfast/cli/startup.py'); print(os.environ.get('GOMP_SPINCOUNT'))"
)
COMMANDS = {
    "module": ["-m", "fvfast", "info"],
    "script": ["fvfast", "info"],
    "import": ["-c", "import fvfast"],
}


@pytest.fixture
def start(tmp_path):
    """Starts a command; returns it when it imports torch, and what lets it go on."""
    (tmp_path / "torch.py").write_text(SLOW_TORCH)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fvfast").write_text("from fvfast.cli import app\napp()\n")
    opened = []

    def begin(kind, *, ignored=False, closed=()):
        told, telling = os.pipe()
        waiting, go = os.pipe()
        opened.extend((told, go))

        def prepare():
            os.dup2(telling, 30)
            os.dup2(waiting, 31)
            os.dup2(30, 3)
            os.dup2(31, 4)
            signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)
            for number in closed:
                os.close(number)

        process = subprocess.Popen(
            [sys.executable, *COMMANDS[kind]],
            cwd=tmp_path / "bin",
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=prepare, close_fds=False, text=True,
        )  # fmt: skip
        os.close(telling)
        os.close(waiting)
        assert os.read(told, 100) == b"importing\n"
        return process, go

    yield begin
    for file in opened:
        os.close(file)


@pytest.mark.parametrize("kind", ["module", "script"])
def test_ctrl_c_while_torch_is_imported_is_one_word(start, kind):
    process, _ = start(kind)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "interrupted\n")
    assert process.returncode == 130


def test_other_programs_are_interrupted_as_ever(start):
    process, _ = start("import")
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate()[1]
    assert process.returncode == -signal.SIGINT


def test_in_the_background_ctrl_c_is_ignored(start):
    process, go = start("module", ignored=True)
    process.send_signal(signal.SIGINT)
    os.write(go, b"x")
    process.communicate()
    assert process.returncode == 71


@pytest.mark.parametrize(
    ("kind", "variables", "spins"),
    [
        ("module", {}, "3000"),
        ("script", {}, "3000"),
        ("module", {"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
        ("module", {"GOMP_SPINCOUNT": "77"}, "77"),
        ("import", {}, "3000"),
        ("import", {"OMP_WAIT_POLICY": "PASSIVE"}, "None"),
    ],
)
def test_threads_wait_briefly_unless_the_user_says_how(start, monkeypatch, kind, variables, spins):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    process, go = start(kind)
    os.write(go, b"x")
    assert process.communicate()[0] == f"{spins}\n"


def test_nothing_is_set_when_torch_has_read_it_already(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    script = f"import os, sys; sys.modules['torch'] = os; {PLAIN}"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout == "None\n", found.stderr


@pytest.mark.parametrize("closed", [(1,), (1, 2), (0, 1, 2)])
def test_no_file_gets_the_number_of_a_closed_stream(start, closed):
    process, go = start("module", closed=closed)
    os.write(go, b"x")
    process.communicate()
    assert process.returncode == 70  # the null device is there


def test_the_compiler_is_imported_only_by_who_asks_for_it(tmp_path):
    """It takes seconds, and fails where its folder of files cannot be made."""
    (tmp_path / "file").touch()
    code = (
        "import sys, fvfast.cli.app; print(*{'torch._inductor', 'torch._dynamo'} & {*sys.modules})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "file" / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "\n", "")
