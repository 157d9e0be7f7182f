"""Compiles and links the native module: finds the compilers, and writes the file that ninja runs.

The environment variables are described in setup.py. In a source tree, without pip and setuptools:

    python build_native.py [--architectures "80;90"] [--folder FOLDER]
"""

import argparse
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
WARNINGS = ["-Wall", "-Wextra"]
# The last two flags change no result. They allow vector code for sqrt and selections, which keeping
# errno and floating-point traps would forbid.
OPTIMIZATION = ["-O3", "-DNDEBUG", "-fno-math-errno", "-fno-trapping-math"]

# Architectures of the GPUs since 2018. Newer GPUs compile the PTX of the last one.
ARCHITECTURES = ("75", "80", "86", "90", "100", "120")
# "90": machine code for compute capability 9.0 and later ones with the same major number. "90a":
# with features that only 9.0 has. "100f": with features of its family, that is, its major number.
ARCHITECTURE = r"[1-9]\d+[af]?"
# The host compiler does not know nvcc's "#pragma unroll". Old architectures are built on purpose,
# so nvcc need not warn about them.
CUDA_WARNINGS = [
    *("-Werror", "all-warnings", "-Wno-deprecated-gpu-targets"),
    *("-Xcompiler", "-Wall,-Wextra,-Wno-unknown-pragmas"),
]
# Sources whose results must have the same bits on every processor: in these, no multiplication is
# fused with an addition.
BIT_EQUAL = {"boxes", "step_end"}
# Files in the package that say why there is no module, or no CUDA part; `fvfast info` shows them.
FAILURE_RECORD = "_build_failure.txt"
CUDA_FAILURE_RECORD = "_cuda_failure.txt"


class BuildError(Exception):
    """The native module, or its CUDA part, could not be built; the message says why."""


@dataclasses.dataclass(frozen=True)
class Cuda:
    """The CUDA compiler, and the architectures it compiles for, such as "80" or "90a"."""

    nvcc: str
    architectures: tuple[str, ...]


def compiler_command() -> list[str]:
    """Return the C++ compiler, with any arguments that CXX contains."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def compiles(compiler: list[str], flags: list[str], text: str) -> bool:
    """Tell whether a C++ program compiles and links."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(text)
        probe = [*compiler, *flags, str(source), "-o", str(Path(folder, "probe"))]
        try:
            return subprocess.run(probe, capture_output=True, check=False).returncode == 0
        except OSError as error:
            raise BuildError(f"cannot run the C++ compiler: {error}") from error


def openmp_flags(compiler: list[str]) -> list[str]:
    """Return ``-fopenmp`` if the compiler and its linker support it."""
    program = "#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n"
    return ["-fopenmp"] if compiles(compiler, ["-fopenmp"], program) else []


def python_includes(compiler: list[str]) -> list[str]:
    """Return the folders with Python's headers.

    Raises
    ------
    BuildError
        Python.h is missing: on many systems it comes in a separate package.
    """
    folders = list(dict.fromkeys(sysconfig.get_path(name) for name in ("include", "platinclude")))
    # The compiler may find the headers in another folder, from CPATH or CXXFLAGS.
    user_flags = shlex.split(os.environ.get("CXXFLAGS", ""))
    program = "#include <Python.h>\nint main() { return PY_MAJOR_VERSION < 3; }\n"
    if not any(Path(folder, "Python.h").exists() for folder in folders) and not compiles(
        compiler, user_flags, program
    ):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise BuildError(
            f"Python.h was not found in {' or '.join(folders)}: install the headers of Python "
            f"{version} (Debian and Ubuntu: python{version}-dev; Fedora: python3-devel), or name "
            "their folder in CPATH"
        )
    return folders


def find_nvcc() -> str:
    """Find nvcc; raise BuildError if there is none."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        # If the user names a toolkit, no other one is taken.
        if home := os.environ.get(variable):
            nvcc = shutil.which(str(Path(home, "bin", "nvcc")))
            looked = f"in the folder bin of {variable}={home}"
            break
    else:
        nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
        looked = "in PATH and in /usr/local/cuda/bin"
    if nvcc is None:
        raise BuildError(
            f"nvcc was not found {looked}: install the CUDA toolkit (12 or newer), or set "
            "CUDA_HOME to the folder that has its bin/nvcc"
        )
    return nvcc


def find_cuda() -> Cuda:
    """Find nvcc, and choose the architectures.

    Raises
    ------
    BuildError
        There is no nvcc, it does not run, or FVFAST_CUDA_ARCHS cannot be read.
    """
    nvcc = find_nvcc()
    chosen = os.environ.get("FVFAST_CUDA_ARCHS", "")
    if chosen:
        return Cuda(nvcc, parse_architectures(chosen))
    # Each version of the toolkit supports other architectures.
    known = ask_nvcc(nvcc, "--list-gpu-code").split()
    found = tuple(a for a in ARCHITECTURES if f"sm_{a}" in known)
    if not found:
        raise BuildError(
            f"{nvcc} supports none of the architectures {';'.join(ARCHITECTURES)}: set "
            "FVFAST_CUDA_ARCHS to some that `nvcc --list-gpu-code` lists"
        )
    return Cuda(nvcc, found)


def parse_architectures(text: str) -> tuple[str, ...]:
    """Parse a list such as "90;80", and sort it; "native" stands for the GPUs of this machine."""
    words = [word for word in re.split(r"[;,\s]+", text) if word]
    found = [a for word in words for a in (native_architectures() if word == "native" else (word,))]
    wrong = [word for word in found if not re.fullmatch(ARCHITECTURE, word)]
    if wrong or not found:
        raise BuildError(
            'FVFAST_CUDA_ARCHS must be compute capabilities without a point, such as "80;90", with '
            'or without a suffix for special features, such as "90a" or "100f", or "native" for '
            f"the GPUs of this machine, got {text!r}"
        )
    return tuple(sorted(set(found), key=lambda a: (int(a.rstrip("af")), a)))


def native_architectures() -> tuple[str, ...]:
    """Ask the driver which GPUs this machine has."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = (said.stdout + said.stderr).strip()
    except OSError as error:
        answer = str(error)
    found = tuple(line.strip().replace(".", "") for line in answer.splitlines())
    if not found or not all(re.fullmatch(ARCHITECTURE, architecture) for architecture in found):
        raise BuildError(
            'FVFAST_CUDA_ARCHS is "native", but the GPUs of this machine are unknown: '
            f'{shlex.join(command)} says {answer!r}. Name the architectures, as in "80;90"'
        )
    return found


def ptx_architecture(architectures: Sequence[str]) -> str | None:
    """Choose the architecture whose PTX newer GPUs will compile.

    It is the newest without a suffix: code for the special features of one architecture or family
    runs on no other.
    """
    portable = [architecture for architecture in architectures if architecture.isdigit()]
    return portable[-1] if portable else None


def ask_nvcc(nvcc: str, *arguments: str) -> str:
    """Run nvcc and return its output on both streams."""
    command = [nvcc, *arguments]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"cannot run nvcc: {error}") from error
    if said.returncode != 0:
        raise BuildError(
            f"{shlex.join(command)} failed with status {said.returncode}\n{said.stdout}"
            f"{said.stderr}".strip()
        )
    return said.stdout + said.stderr


def compile_flags(compiler: list[str], openmp: list[str]) -> list[str]:
    """Return the flags of the C++ sources."""
    import pybind11

    includes = [f"-I{ROOT / 'csrc'}"]
    for path in (pybind11.get_include(), *python_includes(compiler)):
        includes += ["-isystem", path]
    return [
        *("-std=c++17", "-fPIC", "-fvisibility=hidden"),
        *(OPTIMIZATION + WARNINGS + openmp + includes),
        *shlex.split(os.environ.get("CXXFLAGS", "")),
    ]


def cuda_source_flags(source: Path) -> list[str]:
    """Return the flags for one CUDA source that do not depend on the architectures."""
    return [
        *("-std=c++17", "-O3", "-DNDEBUG", f"-I{ROOT / 'csrc'}"),
        *CUDA_WARNINGS,
        *(["-fmad=false"] if source.stem in BIT_EQUAL else []),
    ]


def cuda_flags(cuda: Cuda, threads: int) -> list[str]:
    """Return the flags that all CUDA sources share in the build of the module."""
    flags = ["--threads", str(threads), "-Xcompiler", "-fPIC,-fvisibility=hidden"]
    for architecture in cuda.architectures:
        flags += ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
    if newest := ptx_architecture(cuda.architectures):
        flags += ["-gencode", f"arch=compute_{newest},code=compute_{newest}"]
    if os.environ.get("CXX"):
        # nvcc accepts a single program: leave out launchers such as ccache, pass arguments apart.
        launchers = ("ccache", "sccache", "distcc")
        host, *arguments = (w for w in compiler_command() if Path(w).name not in launchers)
        flags += ["-ccbin", host, *(f"-Xcompiler={argument}" for argument in arguments)]
    return flags + shlex.split(os.environ.get("NVCCFLAGS", ""))


def cuda_link_flags(cuda: Cuda) -> list[str]:
    """Return the flags that link the CUDA runtime statically: the module then needs no driver.

    The runtime's functions stay hidden, because torch has its own, perhaps of another version.
    """
    library = "libcudart_static.a"
    # Ask nvcc for its folders, because nvcc may be a script or a link in another place.
    said = re.search(r"LIBRARIES=(.*)", ask_nvcc(cuda.nvcc, "--dryrun", "-x", "cu", "/dev/null"))
    folders = [word[2:] for word in shlex.split(said[1] if said else "") if word.startswith("-L")]
    return [
        *(f"-L{folder}" for folder in folders if Path(folder, library).exists()),
        *("-lcudart_static", "-lrt", "-ldl", "-lpthread", f"-Wl,--exclude-libs,{library}"),
    ]


def own_flags(source: Path, cuda: Cuda | None) -> list[str]:
    """Return the flags that one source needs in addition."""
    if source.suffix == ".cu":
        return cuda_source_flags(source)
    flags = ["-ffp-contract=off"] if source.stem in BIT_EQUAL else []
    if cuda is not None and (source.parent.name == "bindings" or source.stem == "bindings"):
        flags += ["-DFVFAST_WITH_CUDA", f'-DFVFAST_CUDA_ARCHS="{";".join(cuda.architectures)}"']
    return flags


def write_ninja(folder: Path, sources: list[Path], target: Path, cuda: Cuda | None) -> None:
    """Write ``build.ninja``: one compilation for each source, and one link."""
    compiler = compiler_command()
    openmp = openmp_flags(compiler)
    compile_command = [*compiler, *compile_flags(compiler, openmp)]
    # The CUDA sources come first: they take longest.
    ours = sorted(sources, key=lambda source: source.suffix != ".cu")
    kernels = [source for source in ours if source.suffix == ".cu"]
    if cuda is None:
        ours = ours[len(kernels) :]
    # On macOS, Python's symbols are resolved when the module is loaded.
    shared = (
        ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    )
    link_flags = [*shared, *openmp, *(cuda_link_flags(cuda) if cuda else [])]
    lines = [
        "ninja_required_version = 1.5",
        *rule("compile", compile_command, "$flags -MMD -MF $out.d -c $in"),
        *rule("link", compiler, f"$in {ninja_words([*link_flags, *user_link_flags()])}"),
    ]
    if cuda is not None:
        # With fewer sources than processors, compile the architectures of a source in parallel.
        threads = max(1, (os.cpu_count() or 1) // max(1, len(kernels)))
        command = [cuda.nvcc, *cuda_flags(cuda, threads)]
        lines += rule("compile_cuda", command, "$flags -MMD -MF $out.d -c $in")
    objects = []
    for source in ours:
        relative = source.relative_to(ROOT)
        compiled = ninja_path(f"{relative}.o")
        name = "compile_cuda" if source.suffix == ".cu" else "compile"
        lines.append(f"build {compiled}: {name} {ninja_path(str(source))}")
        lines.append(f"  flags = {ninja_words(own_flags(source, cuda))}")
        lines.append(f"  what = {ninja_path(str(relative))}")
        objects.append(compiled)
    lines.append(f"build {ninja_path(str(target))}: link {' '.join(objects)}")
    lines.append(f"  what = {ninja_path(target.name)}")
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")


def user_link_flags() -> list[str]:
    """Return the user's own flags for linking."""
    return shlex.split(os.environ.get("LDFLAGS", ""))


def rule(name: str, command: list[str], arguments: str) -> list[str]:
    """Return the lines of one rule; compilations also record the headers that they read."""
    lines = [
        f"rule {name}",
        f"  command = {ninja_words(command)} {arguments} -o $out",
        f"  description = {name} $what",
    ]
    return [*lines, "  depfile = $out.d", "  deps = gcc"] if "$out.d" in arguments else lines


def ninja_words(words: list[str]) -> str:
    """Quote the words of a command for the shell, then for ninja."""
    return shlex.join(words).replace("$", "$$")


def ninja_path(path: str) -> str:
    """Quote a path for ninja."""
    return path.replace("$", "$$").replace(":", "$:").replace(" ", "$ ")


def say(text: str) -> None:
    """Print now: whoever reads, such as pip, may be at the other end of a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()


def announcement(sources: Sequence[Path], cuda: Cuda | None) -> str:
    """Return the line that says what will be compiled, and how to compile less."""
    kernels = [source for source in sources if source.suffix == ".cu"]
    if cuda is None:
        count = len(sources) - len(kernels)
        return f"fvfast: the native module is compiled from {count} files, without CUDA\n"
    return (
        f"fvfast: the native module is compiled from {len(sources)} files, {len(kernels)} of them "
        f"by nvcc for the architectures {';'.join(cuda.architectures)}. This takes minutes; "
        "FVFAST_CUDA=0 leaves CUDA out, FVFAST_CUDA_ARCHS chooses architectures\n"
    )


def find_ninja() -> str:
    """Find ninja: in the Python package, else in PATH."""
    try:
        import ninja
    except ImportError as error:
        if found := shutil.which("ninja"):
            return found
        raise BuildError("ninja was not found: install the package ninja") from error
    return str(Path(ninja.BIN_DIR, "ninja"))


def run_ninja(folder: Path) -> None:
    """Run ``build.ninja`` on all processors; print a line when a file is compiled."""
    command = [find_ninja(), "-C", str(folder)]
    # How many files of how many are compiled, and the seconds since the start.
    environment = {**os.environ, "NINJA_STATUS": "[%f/%t, %e s] "}
    pipe = subprocess.PIPE
    lines = []
    with subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment
    ) as ninja:
        for line in ninja.stdout:
            lines.append(line)
            say(line)
    if ninja.returncode != 0:
        # The compiler's first message is the most useful; the last lines only count failures.
        output = "".join(lines).strip()
        start = max(output.find("FAILED: "), 0)
        message = "\n".join(output[start:].splitlines()[:20])
        raise BuildError(f"the build failed\n{message}")


def native_sources() -> list[Path]:
    """List the sources of the module."""
    return sorted(path for kind in ("*.cpp", "*.cu") for path in (ROOT / "csrc").rglob(kind))


def build_module(folder: Path, sources: list[Path], target: Path, cuda: Cuda | None) -> None:
    """Compile what has changed since the last build into `folder`, and link the module."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ninja(folder, sources, target, cuda)
    say(announcement(sources, cuda))
    run_ninja(folder)


def build_in_place(architectures: Sequence[str] | None, *, folder: Path | None = None) -> Path:
    """Build the module in the source tree, where a Python started in this folder finds it.

    This needs a C++ compiler, pybind11 and ninja, but neither pip nor setuptools.

    Parameters
    ----------
    architectures
        A list of what FVFAST_CUDA_ARCHS may contain, such as ("80", "90"). None: no CUDA.
    folder
        Where objects are kept for the next build; by default ``build/in_place``.

    Returns
    -------
    module
        The file, in ``fvfast/``.

    Raises
    ------
    BuildError
        Something is missing or does not compile. A module of an earlier build is removed when
        compilation begins.
    """
    package = ROOT / "fvfast"
    target = package / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    cuda = None
    if architectures is not None:
        cuda = Cuda(find_nvcc(), parse_architectures(";".join(architectures)))
    for stale in (target, package / FAILURE_RECORD, package / CUDA_FAILURE_RECORD):
        stale.unlink(missing_ok=True)
    if cuda is None:
        (package / CUDA_FAILURE_RECORD).write_text("left out by a build for the CPU alone\n")
    try:
        build_module(folder or ROOT / "build" / "in_place", native_sources(), target, cuda)
    except ImportError as error:
        raise BuildError(f"{error.name} was not found: install the package of that name") from error
    return target


def main() -> None:
    """Build the module in place, as the command line says."""
    parser = argparse.ArgumentParser(description="Builds the native module in the source tree.")
    parser.add_argument(
        "--architectures", help='like FVFAST_CUDA_ARCHS, such as "80;90"; default: no CUDA'
    )
    parser.add_argument("--folder", type=Path, help="where objects are kept for the next build")
    arguments = parser.parse_args()
    chosen = None if arguments.architectures is None else [arguments.architectures]
    try:
        module = build_in_place(chosen, folder=arguments.folder)
    except BuildError as error:
        parser.exit(1, f"{error}\n")
    sys.stdout.write(f"{module}\n")


if __name__ == "__main__":
    main()
