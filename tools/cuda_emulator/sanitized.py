"""Runs tests, or any Python program, with the runtime of a sanitizer loaded first.

The emulated module of `build("address")` or `build("thread")` can only be imported there. Torch
works under both. Tests that run there read from FVFAST_TEST_SANITIZER which module to build.
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
# When it starts, AddressSanitizer looks up in the C++ runtime how exceptions are thrown.
LIBRARIES = {
    "address": ["libasan.so", "libubsan.so", "libstdc++.so"],
    "thread": ["libtsan.so"],
}
OPTIONS = {
    # Python does not free everything when it ends.
    "address": {
        # Tests ask for more memory than there is, and expect an error of torch.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
    # Python and torch are not instrumented, so their accesses to memory are not checked. There is
    # only one thread of theirs, because ThreadSanitizer does not see how they synchronize.
    "thread": {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1", "OMP_NUM_THREADS": "1"},
}


@functools.cache
def runtime_library(name: str) -> str:
    """Return the path of a library of the compiler."""
    path = Path(run([compiler(), f"-print-file-name={name}"]).stdout.strip())
    if not path.is_absolute():  # for a file that g++ does not have, it prints the name unchanged
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
    # Otherwise pytest would capture the report, and lose it when the process is aborted.
    return run_under(sanitizer, [*command, "--capture=sys", *arguments])
