"""Builds the native module with its CUDA kernels compiled for the CPU, and programs for tests.

    python -m cuda_emulator.build [plain|address|thread]       in tools/

Builds are incremental. All variants share one folder, and one build at a time works in it.
"""

import contextlib
import fcntl
import functools
import importlib.machinery
import importlib.util
import os
import platform
import re
import shlex
import sys
import sysconfig
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from cuda_emulator.headers import UnavailableError, compiler, cuda_flags, run

__all__ = ["BuildError", "UnavailableError", "build", "build_programs", "load"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEFAULT_FOLDER = ROOT / "build/cuda_emulator"
EXTENSION = "_C" + sysconfig.get_config_var("EXT_SUFFIX")

# Products and sums are not contracted, so that a kernel gets the rounding that it asks for.
COMMON = ["-std=c++17", "-fPIC", "-fopenmp", "-ffp-contract=off", "-fno-math-errno"]
# Launches are recognized by the symbols of kernels, which are therefore visible. They are not
# unique symbols of the process, because two emulated modules must not share their variables.
KERNELS = ["-fvisibility=default", "-fno-gnu-unique", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
# Optimization does not change what memory a kernel accesses, and would take most of the time.
REPORTING = ["-O0", "-g1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
UNDEFINED = "alignment,bounds,integer-divide-by-zero,shift,signed-integer-overflow"
SANITIZERS = {
    "plain": ["-O1"],
    "address": [f"-fsanitize=address,{UNDEFINED}", *REPORTING],
    "thread": ["-fsanitize=thread", *REPORTING],
}


class BuildError(RuntimeError):
    """The build failed; the message contains the compiler's."""


def variant_of(sanitizer: str | None) -> str:
    """Return the name of a variant; None means the one without a sanitizer."""
    variant = sanitizer or "plain"
    if variant not in SANITIZERS:
        raise ValueError(f"sanitizer: expected None, 'address' or 'thread', got {sanitizer!r}")
    return variant


def escape(path: Path | str) -> str:
    """Quote a path for ninja."""
    return str(path).replace("$", "$$").replace(":", "$:").replace(" ", "$ ")


class Ninja:
    """The text of a ``build.ninja``; relative paths are relative to its folder."""

    def __init__(self) -> None:
        # Without links, like all paths, so that all environments of this Python share the build.
        python = shlex.quote(os.path.realpath(sys.executable))
        translator = HERE / "translate.py"
        self.translator = escape(translator)
        self.lines = [
            "ninja_required_version = 1.5",
            "rule translate",
            f"  command = {python} {shlex.quote(str(translator))} $in $out",
            "  restat = 1",  # what has not changed is not compiled again
            "  description = translate $in",
            "rule compile",
            f"  command = {compiler()} $flags -MMD -MF $out.d -c $in -o $out",
            "  depfile = $out.d",
            "  deps = gcc",
            "  description = compile $out",
            "rule link",
            # Libraries that were loaded before, such as the real CUDA runtime, must not replace the
            # emulator's functions.
            f"  command = {compiler()} $flags $in -Wl,-Bsymbolic -ldl -o $out",
            "  description = link $out",
        ]

    def add(self, target: str, rule: str, sources: Sequence[Path | str], **options: object) -> str:
        """Add a rule that makes `target`; options are flags and further dependencies."""
        line = f"build {escape(target)}: {rule} {' '.join(map(escape, sources))}"
        if options.get("implicit"):
            line += f" | {options['implicit']}"
        if options.get("order"):
            line += f" || {options['order']}"
        self.lines.append(line)
        if "flags" in options:
            self.lines.append(f"  flags = {options['flags']}")
        return target

    def translate(self, source: Path, target: str) -> str:
        """Add the translation of a CUDA source or header to C++."""
        return self.add(target, "translate", [source], implicit=self.translator)

    def compile_kernels(self, source: str, target: str, variant: str, flags: list[str]) -> str:
        """Add the compilation of a translated source."""
        flags = [*COMMON, *KERNELS, *SANITIZERS[variant], *flags]
        flags += [f"-I{HERE / 'include'}", *cuda_flags()]
        return self.add(target, "compile", [source], flags=shlex.join(flags), order="headers")

    def link(self, target: str, objects: list[str], variant: str, *flags: str) -> str:
        """Add the linking of a library or a program."""
        flags = ("-fopenmp", *SANITIZERS[variant], *flags)
        return self.add(target, "link", objects, flags=shlex.join(flags))

    def text(self, headers: list[str]) -> str:
        """The file; `headers` are translated before anything is compiled."""
        phony = f"build headers: phony {' '.join(map(escape, headers))}"
        return "\n".join([*self.lines, phony]) + "\n"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create a folder, and let only one process at a time build in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_ninja(folder: Path, text: str, targets: Sequence[str]) -> str:
    """Build targets; return the output of ninja and the compiler."""
    try:
        import ninja
    except ImportError as error:
        raise UnavailableError("the CUDA emulator needs the Python package ninja") from error
    path = folder / "build.ninja"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    command = [str(Path(ninja.BIN_DIR, "ninja")), "-C", str(folder), *targets]
    command.insert(1, f"-j{os.cpu_count() or 1}")
    finished = run(command)
    output = finished.stdout + finished.stderr
    if finished.returncode != 0:
        raise BuildError(
            "the build of the CUDA emulator failed\n" + "\n".join(output.splitlines()[:60])
        )
    return output


def check_platform() -> None:
    """Refuse machines for which the emulator was not written."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError(
            f"the CUDA emulator needs Linux on x86-64, not {sys.platform} on {platform.machine()}"
        )


def module_text() -> str:
    """Return the ``build.ninja`` of all variants of the native module."""
    try:
        import pybind11
    except ImportError as error:
        raise UnavailableError("the CUDA emulator needs the Python package pybind11") from error
    csrc = ROOT / "csrc"
    ninja = Ninja()
    headers = [
        ninja.translate(header, f"generated/{header.relative_to(csrc)}")
        for header in sorted([*csrc.glob("cuda/**/*.h"), *csrc.glob("cuda/**/*.cuh")])
    ]
    # The host's part is compiled once, quickly and without sanitizers: only csrc/cuda is tested.
    flags = [*COMMON, "-fvisibility=hidden", "-DNDEBUG", "-DFVFAST_WITH_CUDA", f"-I{csrc}"]
    for folder in (pybind11.get_include(), sysconfig.get_path("include")):
        flags += ["-isystem", os.path.realpath(folder)]
    sources = [path for path in sorted(csrc.rglob("*.cpp")) if path.parent != csrc / "cuda"]
    host = [
        ninja.add(
            f"host/{source.relative_to(csrc).with_suffix('.o')}",
            "compile",
            [source],
            flags=shlex.join([*flags, "-O1" if "cpu" in source.parts else "-O0"]),
        )
        for source in sources
    ]
    kernels = {
        source.relative_to(csrc): ninja.translate(
            source, f"generated/{source.relative_to(csrc).with_suffix('.cpp')}"
        )
        for source in sorted(csrc.glob("cuda/**/*.cu"))
    }
    for variant in SANITIZERS:
        # The kernels come first: if several objects define a function, the linker takes the first
        # copy, and only the kernels' objects are instrumented.
        objects = [
            ninja.compile_kernels(
                translated,
                f"{variant}/{path.with_suffix('.o')}",
                variant,
                # The folder of the translated headers is beside the translated file.
                ["-DFVFAST_WITH_CUDA", "-Igenerated", f"-I{csrc}"],
            )
            for path, translated in kernels.items()
        ]
        ninja.link(f"{variant}/{EXTENSION}", [*objects, *host], variant, "-shared")
    return ninja.text(headers)


def missing_functions(module: Path) -> list[str]:
    """Return the functions of CUDA and fvfast that a library uses but nothing defines."""
    listed = run(["nm", "-D", "--undefined-only", str(module)])
    if listed.returncode != 0:
        raise BuildError(f"nm cannot read what was built: {listed.stderr}")
    names = [line.split()[-1] for line in listed.stdout.splitlines()]
    return [name for name in names if re.match(r"(__)?cu(da)?[A-Z]|_Z.*6fvfast", name)]


def build(sanitizer: str | None = None, folder: Path | None = None) -> Path:
    """Build the emulated native module.

    Parameters
    ----------
    sanitizer
        "address" (with the checks of undefined behavior) or "thread"; None for neither.
    folder
        Where to build; by default in ``build/cuda_emulator`` of the repository.

    Returns
    -------
    path
        The file of the module, for `load`.

    Raises
    ------
    UnavailableError
        If this machine lacks the compiler or the headers of CUDA.
    BuildError
        If the sources do not compile, or use something that the emulator does not have.
    """
    check_platform()
    variant = variant_of(sanitizer)
    folder = DEFAULT_FOLDER if folder is None else folder.resolve()
    with locked(folder):
        output = run_ninja(folder, module_text(), [f"{variant}/{EXTENSION}"])
        module = folder / variant / EXTENSION
        if missing := missing_functions(module):
            # Removed, because the next build would not check it again.
            module.unlink()
            raise BuildError(
                f"nothing defines {', '.join(missing)}: the CUDA API of the emulator is in "
                "tools/cuda_emulator/include/cuda_emulator/runtime.h"
            )
    (folder / variant / "build.log").write_text(output)
    return module


@functools.cache
def load(path: Path) -> types.ModuleType:
    """Import a built module, even if others of the same name are loaded."""
    name = f"cuda_emulator_{path.parent.name}._C"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    specification = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module


def build_programs(sources: Sequence[Path], folder: Path, variants: Sequence[str]) -> None:
    """Build `sources` as ``folder/VARIANT/program`` and ``folder/VARIANT/library.so``.

    Parameters
    ----------
    sources
        CUDA sources; one of them has a main function.
    folder
        Where to build.
    variants
        Any of "plain", "address" and "thread".
    """
    check_platform()
    with locked(folder):
        ninja = Ninja()
        targets = []
        for source in sources:
            ninja.translate(source, f"{source.stem}.cpp")
        folders = sorted({source.parent for source in sources})
        headers = [
            ninja.translate(header, header.name)
            for parent in folders
            for header in sorted(parent.glob("*.h"))
        ]
        for variant in variants:
            objects = [
                ninja.compile_kernels(
                    f"{source.stem}.cpp", f"{variant}/{source.stem}.o", variant, ["-I."]
                )
                for source in sources
            ]
            targets.append(ninja.link(f"{variant}/program", objects, variant, "-rdynamic"))
            targets.append(ninja.link(f"{variant}/library.so", objects, variant, "-shared"))
        run_ninja(folder, ninja.text(headers), targets)


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "plain"
    sys.stdout.write(f"{build(None if chosen == 'plain' else chosen)}\n")
