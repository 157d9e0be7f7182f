"""Runs tests, or any Python, with the runtime of a sanitizer loaded first.

The emulated module of `build("address")` or `build("thread")` can only be imported there. Torch
works under both. The tests that run there read in FVFAST_TEST_SANITIZER which module to build.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cuda_emulator.build import ROOT, UnavailableError, variant_of
from cuda_emulator.headers import compiler, run

VARIABLE = "FVFAST_TEST_SANITIZER"
# Of the C++ runtime AddressSanitizer wants to know, when it starts, how exceptions are thrown.
LIBRARIES = {
    "address": ["libasan.so", "libubsan.so", "libstdc++.so"],
    "thread": ["libtsan.so"],
}
OPTIONS = {
    # Python does not free what it holds when it ends.
    "address": {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    # Python and torch are not instrumented: what they do to memory is not looked at. Their threads
    # meet in ways that ThreadSanitizer does not see, so there is only one.
    "thread": {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1", "OMP_NUM_THREADS": "1"},
}


@functools.cache
def runtime_library(name: str) -> str:
    """Return the path of a library of the compiler."""
    path = Path(run([compiler(), f"-print-file-name={name}"]).stdout.strip())
    if not path.is_absolute():  # g++ repeats the name of a file that it has not got
        raise UnavailableError(f"g++ has no {name}")
    return str(path)


@functools.cache
def fixed_addresses() -> tuple[str, ...]:
    """Return a prefix for commands that turns the randomization of addresses off, if it works.

    ThreadSanitizer needs parts of the address space that a random layout may take.
    """
    prefix = ("setarch", "--addr-no-randomize")
    if shutil.which(prefix[0]) is None:
        return ()
    return prefix if run([*prefix, "true"]).returncode == 0 else ()


def run_under(
    sanitizer: str, command: Sequence[str], preload: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with a sanitizer.

    Parameters
    ----------
    sanitizer
        "address" or "thread".
    command
        What to run.
    preload
        Whether to load the runtime of the sanitizer first: not for programs that are linked to it.
    environment
        Variables to add.

    Returns
    -------
    finished
        With the reports in stderr. The exit status is not 0 if there is one.
    """
    variant = variant_of(sanitizer)
    variables = {**os.environ, **OPTIONS[variant], VARIABLE: variant, **environment}
    if preload:
        variables["LD_PRELOAD"] = " ".join(map(runtime_library, LIBRARIES[variant]))
    prefix = fixed_addresses() if variant == "thread" else ()
    return subprocess.run(
        [*prefix, *command],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def run_pytest_under(sanitizer: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run pytest on `arguments` with a sanitizer; see `run_under`."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0"]
    # Otherwise pytest would keep the report of a process that ends at once.
    return run_under(sanitizer, [*command, "--capture=sys", *arguments])
