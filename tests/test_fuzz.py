"""Random calls of the native module and of the operations, built with sanitizers: no crash.

`tests/fuzz` says what is called. The module checks its arguments itself, and its kernels stay
inside the memory that those arguments describe. Operations, called without the functions above
them, refuse what does not fit, or return what the PyTorch reference returns.

All of that with the kernels of the CPU; and, in the thorough suite, with those of CUDA, emulated.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulator.build import UnavailableError, locked
from cuda_emulator.build import build as build_emulated

ROOT = Path(__file__).resolve().parent.parent
CALLS = 1100  # of each function
EMULATED_CALLS = 100
# Of each operation. More take long: FVFAST_TEST_CALLS=10000 of them about half an hour.
OPERATION_CALLS = int(os.environ.get("FVFAST_TEST_CALLS", "200"))
SLOWEST = 20  # seconds that a call may take
# Most of the time goes into the build, so the compiler does not optimize: which elements a kernel
# touches does not depend on it. Line numbers are all that a report needs.
SANITIZERS = ["-fsanitize=address", "-fsanitize=signed-integer-overflow"]
COMPILE = [*SANITIZERS, "-fno-sanitize-recover=all", "-O0", "-g1"]


def runtime(name):
    """A library of the compiler, which must be loaded before Python."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    command = ["g++", f"-print-file-name={name}"]
    path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    if not path.is_absolute():  # g++ repeats the name of a file that it has not got
        pytest.skip(f"needs {name} of g++")
    return str(path)


def build(folder):
    """Build the module with sanitizers, apart from the one in use; only what has changed."""
    command = [sys.executable, "setup.py", "build_ext"]
    command += ["--build-lib", str(folder / "lib"), "--build-temp", str(folder / "temp")]
    environment = {
        **os.environ,
        "CXX": "g++",
        "CXXFLAGS": " ".join(COMPILE),
        "LDFLAGS": " ".join(SANITIZERS),
        "FVFAST_NATIVE": "1",
        "FVFAST_CUDA": "0",
    }
    with locked(folder):
        built = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    assert built.returncode == 0, built.stdout + built.stderr
    (module,) = folder.glob("lib/fvfast/_C.*")
    return module


@pytest.fixture(scope="module")
def module():
    """The module with sanitizers; what was compiled is kept for the next time."""
    return build(ROOT / "build" / "fuzz")


def fuzz(module, script, calls, progress):
    """Run a script of random calls; returns what it printed."""
    # The C++ runtime too: AddressSanitizer looks for what throws exceptions when it starts.
    libraries = [runtime("libasan.so"), runtime("libubsan.so"), runtime("libstdc++.so")]
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/fuzz" / script)]
    options = [
        "detect_leaks=0",  # Python does not free what it holds when it ends
        "allocator_may_return_null=1",  # no report of what malloc refuses
    ]
    finished = subprocess.run(
        [*command, str(module), str(calls), str(progress)],
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": ":".join(options),
            "OMP_NUM_THREADS": "2",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600 + calls / 2,
    )
    last = progress.read_text().strip() if progress.exists() else "none"
    assert finished.returncode == 0, f"last call: {last}\n{finished.stderr}"
    # A request for more memory than there is is not an error.
    lines = finished.stderr.splitlines()
    assert not [line for line in lines if "failed to allocate" not in line], finished.stderr
    sys.stdout.write(f"{finished.stdout}\n")
    return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def emulated():
    """The module whose CUDA kernels run on the CPU, with sanitizers."""
    try:
        return build_emulated("address")
    except UnavailableError as reason:
        pytest.skip(str(reason))


def check_functions(counts, calls):
    """Otherwise the fuzzing itself is broken: all calls would fail the first check, or pass it."""
    for function, outcomes in counts.items():
        assert sum(outcomes.values()) == calls, (function, outcomes)
        assert outcomes.get("valid", 0) > calls / 2, (function, outcomes)
        assert outcomes.get("refused", 0) > calls / 5, (function, outcomes)


def check_operations(found, calls):
    for operation, outcomes in found["counts"].items():
        assert sum(outcomes.values()) == calls, (operation, outcomes)
        assert outcomes["refused"] > calls / 4, (operation, outcomes)
        assert outcomes["valid"] + outcomes["changed"] > calls / 4, (operation, outcomes)
    assert max(found["slowest"].values()) < SLOWEST, found["slowest"]


def test_no_call_crashes_the_module(module, tmp_path):
    counts = fuzz(module, "run.py", CALLS, tmp_path / "progress")
    assert sum(sum(outcomes.values()) for outcomes in counts.values()) >= 10_000
    check_functions(counts, CALLS)


def test_operations_check_for_themselves(module, tmp_path):
    found = fuzz(module, "run_operations.py", OPERATION_CALLS, tmp_path / "progress")
    check_operations(found, OPERATION_CALLS)


@pytest.mark.thorough
def test_no_call_crashes_the_emulated_module(emulated, tmp_path):
    counts = fuzz(emulated, "run.py", EMULATED_CALLS, tmp_path / "progress")
    assert "end_step" in counts  # which only CUDA has
    check_functions(counts, EMULATED_CALLS)


@pytest.mark.thorough
def test_emulated_operations_check_for_themselves(emulated, tmp_path):
    found = fuzz(emulated, "run_operations.py", EMULATED_CALLS, tmp_path / "progress")
    check_operations(found, EMULATED_CALLS)
