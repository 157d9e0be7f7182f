"""Checks the compiled CUDA kernels without a GPU.

    python tools/cuda_check [--arch sm_80 sm_90 ...] [--quick]

It checks registers and local memory on each architecture, the width of accesses in the machine
code, the memory traffic of launches replayed as PTX, the results of the PTX against the references,
and the emulated kernels under sanitizers. The exit status is 1 if a check fails.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cuda_check import crop_cases, disassembly, phase_cases, resources, traffic
from cuda_emulator import build, sanitized
from rich.console import Console

CROPS, QUICK_CROPS = 32, 4
REPLAYED = ["80", "90"]  # of which the PTX is executed; traffic is counted on the first, and on the
# second that of kernels which the first has not got


def architecture(text: str) -> str:
    """Read "sm_80" or "80"."""
    number = text.removeprefix("sm_")
    if not number[:-1].isdigit():
        raise argparse.ArgumentTypeError(f"expected an architecture such as sm_80, got {text!r}")
    return number


def last_line(finished: "subprocess.CompletedProcess[str]") -> str:
    """Return the last line of pytest's output, with its counts."""
    return next((line for line in finished.stdout.splitlines()[::-1] if " passed" in line), "")


def run_compiled(architectures: list[str]) -> list[str]:
    """Run the tests of the operations on the PTX of each architecture."""
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/ops", "-q", "-k", "ptx"],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "FVFAST_TEST_PTX": " ".join(architectures)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"PTX of sm_{', sm_'.join(architectures)} against the references: {last_line(finished)}")
    if finished.returncode == 0:
        return []
    return ["tests on the PTX:\n" + finished.stdout[-4000:] + finished.stderr[-4000:]]


def run_sanitized(sanitizer: str, arguments: list[str]) -> list[str]:
    """Run tests of the operations on the emulated module under a sanitizer."""
    finished = sanitized.run_pytest_under(sanitizer, [*arguments, "-q"])
    print(f"{sanitizer} sanitizer: {last_line(finished)}")
    if finished.returncode == 0:
        return []
    return [
        f"tests under the {sanitizer} sanitizer:\n"
        + finished.stdout[-4000:]
        + finished.stderr[-4000:]
    ]


def main() -> int:
    """Run all checks and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--arch",
        nargs="+",
        type=architecture,
        default=["80", "90"],
        help="such as sm_80: those that registers are reported for (default: sm_80 sm_90)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"replay {QUICK_CROPS} crops instead of {CROPS}",
    )
    options = parser.parse_args()

    failures = resources.report(options.arch)
    failures += disassembly.check()
    crops = QUICK_CROPS if options.quick else CROPS
    module = build.load(build.build())
    failures += traffic.check(module, REPLAYED[0], crops=crops)
    failures += traffic.check(module, REPLAYED[1], crops=crops, cases=crop_cases.GRADIENTS)
    failures += phase_cases.check_launches(module)
    failures += run_compiled(REPLAYED)
    failures += run_sanitized("thread", ["tests/ops/test_small_grids.py", "-k", "random"])
    chosen = "ascending" if not options.quick else "ascending and small_grids"
    failures += run_sanitized("address", ["tests/ops", "-k", chosen])

    console = Console()
    for failure in failures:
        console.print(f"FAILED  {failure}", markup=False, highlight=False, soft_wrap=True)
    if not failures:
        console.print("All checks passed.", highlight=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
