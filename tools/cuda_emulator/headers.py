"""Finds the headers of the CUDA toolkit, for types and declarations; needs no GPU or nvcc."""

import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

FALLBACK = Path(__file__).resolve().parent / "include/fallback"
PROBE = "#include <cuda_runtime.h>\n#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"


class UnavailableError(RuntimeError):
    """The emulator cannot be built on this machine; the message says why."""


def candidates() -> Iterator[Path]:
    """Return folders that may contain ``cuda_runtime.h``, best first."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield Path(os.environ[variable], "include")
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        yield Path(nvcc).resolve().parent.parent / "include"
    yield Path("/usr/local/cuda/include")
    # Installed by pip with torch: some of NVIDIA's packages, and the copy in Triton.
    for package, pattern in (("nvidia", "*/include"), ("triton", "backends/nvidia/include")):
        specification = importlib.util.find_spec(package)
        for folder in (specification and specification.submodule_search_locations) or []:
            yield from sorted(Path(folder).resolve().glob(pattern))


def include_flags(folder: Path) -> list[str]:
    """Return flags of g++ for the headers in `folder`, completed by ``include/fallback``."""
    flags = ["-isystem", str(folder)]
    if (folder / "cccl").is_dir():
        flags += ["-isystem", str(folder / "cccl")]
    return [*flags, "-idirafter", str(FALLBACK)]


def run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a tool with `text` as its input, without this process's sanitizer, if it has one."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(
        command, input=text, env=environment, capture_output=True, text=True, check=False
    )


@functools.cache
def compiler() -> str:
    """Return the compiler's command. Tests load the runtimes of its sanitizers before Python."""
    if shutil.which("g++") is None:
        raise UnavailableError("the CUDA emulator needs g++")
    return "g++"


@functools.cache
def cuda_flags() -> tuple[str, ...]:
    """Return flags for the first complete set of headers."""
    tried = []
    for folder in candidates():
        if not (folder / "cuda_runtime.h").exists():
            continue
        flags = include_flags(folder)
        command = [compiler(), "-std=c++17", "-fsyntax-only", "-x", "c++", *flags, "-"]
        probe = run(command, PROBE)
        if probe.returncode == 0:
            return tuple(flags)
        tried.append(f"{folder}: {probe.stderr.strip().splitlines()[0]}")
    raise UnavailableError(
        "the CUDA emulator needs the headers of the CUDA toolkit: set CUDA_HOME, or pip install "
        "triton. " + ("Incomplete: " + "; ".join(tried) if tried else "None were found.")
    )
