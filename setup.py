"""Builds the native module ``fvfast._C`` with ninja: for the CPU, and for CUDA if nvcc is found.

CUDA kernels take minutes to compile. No GPU is needed: images for containers are made without one.

The build needs a C++17 compiler, but neither torch nor a GPU. If it fails, the package is installed
without the module, and the PyTorch reference does the work: the reason is written to
``fvfast/_build_failure.txt``, and `fvfast info` and the first use of an operation report it. If
only the CUDA part fails, the module is built without it, and ``fvfast/_cuda_failure.txt`` says why.

Environment variables
---------------------
CXX, CXXFLAGS, LDFLAGS
    The compiler (default: ``c++``) and additional flags. nvcc uses the same compiler for host code.
CUDA_HOME or CUDA_PATH, NVCCFLAGS
    The CUDA toolkit (default: that of the ``nvcc`` in PATH, else ``/usr/local/cuda``) and
    additional flags for nvcc.
FVFAST_NATIVE
    ``1`` makes a failed build an error, ``0`` leaves the native module out.
FVFAST_CUDA
    ``1`` makes a missing nvcc or a failed CUDA build an error, ``0`` leaves CUDA out.
FVFAST_CUDA_ARCHS
    Compute capabilities such as ``80;90`` (default: those of ``75;80;86;90;100;120`` that nvcc
    supports), or ``native`` for the GPUs of this machine. The module also contains PTX of the
    newest one, for later GPUs; but not of one with a suffix, such as ``90a`` or ``100f``, because
    code for the special features of an architecture or a family runs on no other.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # an isolated build does not search the folder of setup.py

from build_native import (  # noqa: E402
    CUDA_FAILURE_RECORD,
    FAILURE_RECORD,
    BuildError,
    build_module,
    find_cuda,
    native_sources,
    say,
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
        # An editable install runs from the source tree, so the records must be there, too.
        folders = [target.parent]
        if self.inplace or self.editable_mode:
            folders.append(ROOT / "fvfast")
        for folder in folders:
            for record in (FAILURE_RECORD, CUDA_FAILURE_RECORD):
                (folder / record).unlink(missing_ok=True)
        target.unlink(missing_ok=True)

        native, cuda = switch("FVFAST_NATIVE"), switch("FVFAST_CUDA")
        if native is False and cuda is True:
            raise ValueError(
                "FVFAST_CUDA=1 asks for a part of the module that FVFAST_NATIVE=0 leaves out; "
                "unset one of them"
            )
        try:
            if native is False:
                raise BuildError("left out at build time by FVFAST_NATIVE=0")
            reason = self.build_native([ROOT / source for source in ext.sources], target, cuda)
            if not reason:
                return
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
        """Build the module, with CUDA if possible; return the reason if not, else an empty text."""
        folder = Path(self.build_temp, "ninja").resolve()
        try:
            if wanted is False:
                raise BuildError("left out at build time by FVFAST_CUDA=0")
            build_module(folder, sources, target, find_cuda())
        except BuildError as failure:
            if wanted:
                raise
            note(f"the native module is built without CUDA.\nfvfast: reason: {failure}")
            # If a C++ source was the cause, this fails again, with its message.
            build_module(folder, sources, target, None)
            return str(failure)
        return ""


def note(message: str) -> None:
    """Print a message, which pip shows with ``--verbose``."""
    say(f"\nfvfast: {message}\n\n")


def relative(paths: Iterable[Path]) -> list[str]:
    """Return paths relative to this file, as setuptools requires."""
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def long_description() -> str:
    """Return README.md for a page on which a path leads nowhere: with whole addresses."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (home,) = re.findall(r'^Homepage = "(.+)"$', project, flags=re.MULTILINE)

    def whole(link: re.Match[str]) -> str:
        mark, text, target = link.groups()
        if "://" in target:
            return link[0]
        if target.startswith("#"):
            return f"[{text}]({home}{target})"
        # "raw" is the picture itself, "blob" the page that shows a file or a folder.
        return f"{mark}[{text}]({home}/{'raw' if mark else 'blob'}/main/{target})"

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)", whole, readme)


setup(
    long_description=long_description(),
    long_description_content_type="text/markdown",
    # Optional, so that setuptools accepts that a failed build leaves no file. A source distribution
    # contains the sources and what they depend on.
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
