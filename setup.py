"""Builds the native module ``fvfast._C`` with ninja: for the CPU, and for CUDA where nvcc is found.

The build needs a C++17 compiler, and neither torch nor a GPU. Where it fails, the package installs
without the module: the reason is written to ``fvfast/_build_failure.txt``, which `fvfast info` and
the first use of an operation report, and the PyTorch reference does the work. Where only the CUDA
part fails, the module is built without it, and ``fvfast/_cuda_failure.txt`` says why.

Environment variables
---------------------
CXX, CXXFLAGS, LDFLAGS
    The compiler (default: ``c++``) and flags that are added to ours. nvcc compiles its host code
    with the same compiler.
CUDA_HOME or CUDA_PATH, NVCCFLAGS
    The CUDA toolkit (default: that of the ``nvcc`` in PATH, else ``/usr/local/cuda``) and flags for
    nvcc that are added to ours.
FVFAST_NATIVE
    ``1`` makes a failed build an error, ``0`` leaves the native module out.
FVFAST_CUDA
    ``1`` makes a missing nvcc or a failed CUDA build an error, ``0`` leaves CUDA out.
FVFAST_CUDA_ARCHS
    Compute capabilities such as ``80;90`` (default: ``75;80;86;90;100;120``, or those of them that
    nvcc has), or ``native`` for those of the GPUs of this machine. The module also carries PTX of
    the newest, for GPUs that come later, but for ones with a suffix: ``90a`` and ``100f``, the
    features of one architecture and of one family, run nowhere else.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # an isolated build does not look beside setup.py

from build_native import (  # noqa: E402
    CUDA_FAILURE_RECORD,
    FAILURE_RECORD,
    BuildError,
    build_module,
    find_cuda,
    native_sources,
)


def switch(name: str) -> bool | None:
    """Read a variable that is 1, 0, or not set."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise ValueError(f"{name} must be 1, 0 or not set, got {value!r}")
    return None if value == "" else value == "1"


class NinjaBuild(build_ext):
    """Builds the extension with ninja, or records why it could not."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension where setuptools expects it."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # An editable install runs from the source tree, and must find the records there.
        folders = [target.parent]
        if self.inplace or self.editable_mode:
            folders.append(ROOT / "fvfast")
        for folder in folders:
            for record in (FAILURE_RECORD, CUDA_FAILURE_RECORD):
                (folder / record).unlink(missing_ok=True)
        target.unlink(missing_ok=True)

        native, cuda = switch("FVFAST_NATIVE"), switch("FVFAST_CUDA")
        if native is False and cuda is True:
            raise ValueError("FVFAST_CUDA=1 asks for a part of what FVFAST_NATIVE=0 leaves out")
        try:
            if native is False:
                raise BuildError("left out at build time by FVFAST_NATIVE=0")
            reason = self.build_native([ROOT / source for source in ext.sources], target, cuda)
            if not reason:
                return
            note(f"the native module was built without CUDA.\nfvfast: reason: {reason}")
            name = CUDA_FAILURE_RECORD
        except (BuildError, ImportError, OSError) as failure:
            if native or cuda:
                raise
            reason, name = str(failure), FAILURE_RECORD
            note(
                "the native module was NOT built; the PyTorch reference will be used.\n"
                f"fvfast: reason: {reason}"
            )
        for folder in folders:
            (folder / name).write_text(f"{reason}\n")

    def build_native(self, sources: list[Path], target: Path, wanted: bool | None) -> str:
        """Build the module, with CUDA if possible; return why there is none, or nothing."""
        folder = Path(self.build_temp, "ninja").resolve()
        try:
            if wanted is False:
                raise BuildError("left out at build time by FVFAST_CUDA=0")
            build_module(folder, sources, target, find_cuda())
        except BuildError as failure:
            if wanted:
                raise
            # Where it was the C++ that failed, it fails again, and says so.
            build_module(folder, sources, target, None)
            return str(failure)
        return ""


def note(message: str) -> None:
    """Say something that pip shows with ``--verbose``."""
    sys.stderr.write(f"\nfvfast: {message}\n\n")


def relative(paths: Iterable[Path]) -> list[str]:
    """Write paths as relative to this file, which setuptools asks for."""
    return sorted(str(path.relative_to(ROOT)) for path in paths)


setup(
    # Optional: setuptools must not look for a file that a failed build did not leave. A source
    # distribution contains the sources, and what they depend on.
    ext_modules=[
        Extension(
            "fvfast._C",
            relative(native_sources()),
            depends=[*relative((ROOT / "csrc").rglob("*.h")), "build_native.py"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": NinjaBuild},
)
