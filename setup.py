"""Builds the native module ``fvfast._C`` with ninja.

The build needs a C++17 compiler, and neither torch nor a GPU. Where it fails, the package installs
without the module: the reason is written to ``fvfast/_build_failure.txt``, which `fvfast info` and
the first use of an operation report, and the PyTorch reference does the work.

Environment variables
---------------------
CXX, CXXFLAGS, LDFLAGS
    The compiler (default: ``c++``) and flags that are added to ours.
FVFAST_NATIVE
    ``1`` makes a failed build an error, ``0`` leaves the native module out.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
FAILURE_RECORD = "_build_failure.txt"
WARNINGS = ["-Wall", "-Wextra"]
# Neither of the last two changes a value: they let the compiler turn sqrt and selections into
# vector code, which it may not do while errno and floating-point traps must be kept.
OPTIMISATION = ["-O3", "-DNDEBUG", "-fno-math-errno", "-fno-trapping-math"]


class BuildError(Exception):
    """The native module could not be built; the message says why."""


def compiler_command() -> list[str]:
    """Return the C++ compiler, with the arguments that CXX may carry."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def openmp_flags(compiler: list[str]) -> list[str]:
    """Return ``-fopenmp`` where the compiler and its linker have it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
        probe = [*compiler, "-fopenmp", str(source), "-o", str(Path(folder, "probe"))]
        try:
            found = subprocess.run(probe, capture_output=True, check=False).returncode == 0
        except OSError as error:
            raise BuildError(f"cannot run the C++ compiler: {error}") from error
    return ["-fopenmp"] if found else []


def ninja_escape(text: str) -> str:
    """Write a path as ninja reads it."""
    return text.replace("$", "$$").replace(":", "$:").replace(" ", "$ ")


def write_ninja(folder: Path, sources: list[Path], target: Path) -> None:
    """Write ``build.ninja``: one compilation for each source, and one link."""
    import pybind11

    compiler = compiler_command()
    openmp = openmp_flags(compiler)
    includes = [f"-I{ROOT / 'csrc'}"]
    for path in (pybind11.get_include(), sysconfig.get_path("include")):
        includes += ["-isystem", path]
    compile_flags = [
        *("-std=c++17", "-fPIC", "-fvisibility=hidden"),
        *(OPTIMISATION + WARNINGS + openmp + includes),
        *shlex.split(os.environ.get("CXXFLAGS", "")),
    ]
    # On macOS the symbols of Python are found when the module is loaded.
    shared = (
        ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    )
    link_flags = [*shared, *openmp, *shlex.split(os.environ.get("LDFLAGS", ""))]
    lines = [
        "ninja_required_version = 1.5",
        f"cxx = {shlex.join(compiler)}",
        f"compile_flags = {shlex.join(compile_flags)}",
        f"link_flags = {shlex.join(link_flags)}",
        "rule compile",
        "  command = $cxx $compile_flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "  description = compile $in",
        "rule link",
        "  command = $cxx $in $link_flags -o $out",
        "  description = link $out",
    ]
    objects = []
    for source in sources:
        relative = source.relative_to(ROOT)
        compiled = ninja_escape(str(relative.with_suffix(".o")))
        lines.append(f"build {compiled}: compile {ninja_escape(str(source))}")
        objects.append(compiled)
    lines.append(f"build {ninja_escape(str(target))}: link {' '.join(objects)}")
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")


def run_ninja(folder: Path) -> None:
    """Run ``build.ninja`` on all processors."""
    import ninja

    command = [str(Path(ninja.BIN_DIR, "ninja")), "-C", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stdout.write(finished.stdout + finished.stderr)
    if finished.returncode != 0:
        # The first message of the compiler says most; the last lines only count the failures.
        message = "\n".join((finished.stdout + finished.stderr).strip().splitlines()[:20])
        raise BuildError(f"the C++ build failed\n{message}")


class NinjaBuild(build_ext):
    """Builds the extension with ninja, or records why it could not."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension where setuptools expects it."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # An editable install runs from the source tree, and must find the record there.
        records = [target.parent / FAILURE_RECORD]
        if self.inplace or self.editable_mode:
            records.append(ROOT / "fvfast" / FAILURE_RECORD)
        for stale in [*records, target]:
            stale.unlink(missing_ok=True)

        wanted = os.environ.get("FVFAST_NATIVE", "")
        try:
            if wanted == "0":
                raise BuildError("left out at build time by FVFAST_NATIVE=0")
            folder = Path(self.build_temp, "ninja").resolve()
            folder.mkdir(parents=True, exist_ok=True)
            write_ninja(folder, [ROOT / source for source in ext.sources], target)
            run_ninja(folder)
        except (BuildError, ImportError, OSError) as failure:
            if wanted == "1":
                raise
            sys.stderr.write(
                "\nfvfast: the native module was NOT built; the PyTorch reference will be used.\n"
                f"fvfast: reason: {failure}\n\n"
            )
            for record in records:
                record.write_text(f"{failure}\n")


sources = sorted(path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.cpp"))
setup(
    # Optional: setuptools must not look for a file that a failed build did not leave.
    ext_modules=[Extension("fvfast._C", [str(path) for path in sources], optional=True)],
    cmdclass={"build_ext": NinjaBuild},
)
