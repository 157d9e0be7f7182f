"""Runs the benchmarks of fvfast's own operations, which do not need other libraries.

The contests with other libraries are ``benchmarks.hot_path`` and ``benchmarks.end_to_end``.
"""

import subprocess
import sys

OPERATIONS = ("noise", "crop_resize", "phase", "pyramid")


def main() -> None:
    for operation in OPERATIONS:
        print(f"\n{operation}", flush=True)
        # Each in its own process, so that none starts with memory that another has used.
        subprocess.run([sys.executable, "-m", f"benchmarks.{operation}"], check=True)


if __name__ == "__main__":
    main()
