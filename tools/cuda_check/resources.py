"""Checks what the kernels need on each architecture: registers, shared memory, no local memory.

Every source of csrc/cuda is compiled as the build compiles it. Local memory is slow memory, which a
kernel uses if it runs out of registers or indexes an array with a variable: none of the kernels may
need it.
"""

import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cuda_check.occupancy import occupancy
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import build_native  # noqa: E402

CACHE = ROOT / "build" / "cuda_check"
# Compilations at a time.
PARALLEL = 2


@dataclasses.dataclass(frozen=True)
class Launch:
    """A typical launch; a block size of None means the largest that the kernel allows."""

    threads: int | None = None
    dynamic_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What the compiler says about one kernel, or about a function that it did not inline."""

    symbol: str
    registers: int
    static_bytes: int  # of shared memory
    stack_bytes: int
    spill_stores: int  # bytes, as are the loads
    spill_loads: int
    most_threads: int | None  # of a block, by __launch_bounds__; None: unknown, or no kernel


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One source compiled for one architecture."""

    source: Path
    architecture: str
    cubin: Path  # does not exist where the compilation failed
    kernels: tuple[Kernel, ...]
    complaints: tuple[str, ...]  # errors and warnings


def cuda_sources() -> list[Path]:
    """List the CUDA sources."""
    return sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))


def compile_cubin(source: Path, architecture: str, cache: Path = CACHE) -> Compiled:
    """Compile one source for one architecture, unless nothing changed since the last time.

    Parameters
    ----------
    source, architecture
        What, and for what, such as "80".
    cache
        Folder of what was compiled before.
    """
    nvcc = build_native.find_cuda().nvcc
    flags = [flag for flag in build_native.cuda_source_flags(source) if "Werror" not in flag]
    flags.remove("all-warnings")  # the numbers are needed even if there are warnings
    # Not errors in the build, because versions of nvcc assign different numbers of registers.
    spills = "-v,-warn-spills,-warn-lmem-usage"
    command = [nvcc, *flags, "-Xptxas", spills, f"-arch=sm_{architecture}", "-cubin"]

    digest = hashlib.sha256(repr([command, build_native.ask_nvcc(nvcc, "--version")]).encode())
    for file in (Path(__file__), source, *sorted((ROOT / "csrc").rglob("*.h"))):
        digest.update(file.read_bytes())
    folder = cache / f"{source.stem}-sm_{architecture}-{digest.hexdigest()[:16]}"
    output = folder / "output.json"
    if not output.exists():
        for stale in cache.glob(f"{source.stem}-sm_{architecture}-*"):
            shutil.rmtree(stale)
        folder.mkdir(parents=True)
        finished = subprocess.run(
            # nvcc keeps the PTX, which says how large the blocks may be.
            [*command, "--keep", "--keep-dir", folder, source, "-o", folder / "kernels.cubin"],
            capture_output=True,
            text=True,
            check=False,
        )
        said = finished.stdout + finished.stderr
        if finished.returncode != 0 and "error" not in said:
            said += f"error: {nvcc} ended with status {finished.returncode}\n"
        for kept in folder.iterdir():
            if kept.suffix not in (".ptx", ".cubin"):
                kept.unlink()
        output.write_text(json.dumps(said))
    said = json.loads(output.read_text())
    return Compiled(
        source,
        architecture,
        folder / "kernels.cubin",
        parse_kernels(said, "".join(ptx.read_text() for ptx in folder.glob("*.ptx"))),
        tuple(
            line.strip() for line in said.splitlines() if re.search(r"\b(warning|error)\b", line)
        ),
    )


def parse_kernels(said: str, ptx: str) -> tuple[Kernel, ...]:
    """Parse the output of `ptxas -v`, and the block sizes in the PTX."""
    kernels = []
    for part in said.split("Function properties for ")[1:]:
        symbol = part.split(maxsplit=1)[0]
        entry = re.search(rf"\.entry {re.escape(symbol)}\(([^{{]*)", ptx)
        bounds = re.search(r"\.(?:max|req)ntid ([\d, ]+)", entry[1]) if entry else None
        threads = None
        if bounds:
            threads = 1
            for size in bounds[1].split(","):
                threads *= int(size)
        kernels.append(
            Kernel(
                symbol,
                registers=_number(r"Used (\d+) registers", part),
                static_bytes=_number(r"(\d+) bytes smem", part),
                stack_bytes=_number(r"(\d+) bytes stack frame", part),
                spill_stores=_number(r"(\d+) bytes spill stores", part),
                spill_loads=_number(r"(\d+) bytes spill loads", part),
                most_threads=threads,
            )
        )
    return tuple(kernels)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def readable(symbols: Sequence[str]) -> dict[str, str]:
    """Return the names of mangled symbols, without namespaces and arguments."""
    if not symbols:
        return {}
    filtered = subprocess.run(
        ["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True
    )
    return dict(zip(symbols, map(_without_arguments, filtered.stdout.splitlines()), strict=True))


def _without_arguments(name: str) -> str:
    name = name.removeprefix("void ").replace("fvfast::cuda::", "").replace("fvfast::", "")
    depth = 0
    for index, character in enumerate(name):
        depth += {"<": 1, ">": -1}.get(character, 0)
        # Template arguments that are values are written as (type)value.
        if character == "(" and depth == 0:
            return name[:index]
    return name


def failures_of(compiled: Compiled, names: Mapping[str, str]) -> list[str]:
    """Return the failures of one source on one architecture."""
    where = f"{compiled.source.name} for sm_{compiled.architecture}"
    found = [f"{where}: {complaint}" for complaint in compiled.complaints]
    if not compiled.kernels:
        found.append(f"{where}: no kernels were compiled")
    for kernel in compiled.kernels:
        if kernel.stack_bytes or kernel.spill_stores or kernel.spill_loads:
            found.append(
                f"{where}: {names[kernel.symbol]} needs local memory: {kernel.stack_bytes} bytes "
                f"of stack, {kernel.spill_stores} bytes of spill stores, {kernel.spill_loads} "
                "bytes of spill loads; expected none. Fewer values alive at a time or a smaller "
                "block leave more registers; arrays need indices that are constants when unrolled."
            )
    return found


def report(
    architectures: Sequence[str],
    launches: Mapping[str, Launch] | None = None,
    sources: Sequence[Path] | None = None,
    cache: Path = CACHE,
) -> list[str]:
    """Print a table of all kernels, and return failures.

    Parameters
    ----------
    architectures
        Such as ["80", "90"].
    launches
        Typical launches, by the kernel's name without its template's arguments.
    sources
        CUDA sources; those of the project if not given.
    cache
        Folder of what was compiled before.
    """
    pairs = [(source, a) for source in sources or cuda_sources() for a in architectures]
    with ThreadPoolExecutor(PARALLEL) as pool:
        compiled = list(pool.map(lambda pair: compile_cubin(*pair, cache), pairs))
    names = readable(sorted({kernel.symbol for one in compiled for kernel in one.kernels}))
    table = Table(
        "kernel",
        "threads",
        "shared bytes",
        *(f"sm_{architecture}" for architecture in architectures),
        title="registers and theoretical occupancy",
    )
    rows: dict[str, dict[str, str]] = {}
    blocks: dict[str, tuple[str, str]] = {}
    for one in compiled:
        for kernel in one.kernels:
            name = names[kernel.symbol]
            launch = (launches or {}).get(name.partition("<")[0], Launch())
            threads = launch.threads or kernel.most_threads
            shared = kernel.static_bytes + launch.dynamic_bytes
            blocks[name] = (str(threads or "?"), str(shared))
            rows.setdefault(name, {})[one.architecture] = _cell(
                kernel, one.architecture, threads, shared
            )
    for name in sorted(rows):
        table.add_row(escape(name), *blocks[name], *(rows[name].get(a, "") for a in architectures))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    return [failure for one in compiled for failure in failures_of(one, names)]


def _cell(kernel: Kernel, architecture: str, threads: int | None, shared_bytes: int) -> str:
    text = str(kernel.registers)
    if threads is not None:
        text += f" {occupancy(architecture, threads, kernel.registers, shared_bytes):4.0%}"
    if kernel.stack_bytes or kernel.spill_stores or kernel.spill_loads:
        text += (
            f" [bold red]stack {kernel.stack_bytes}, spills {kernel.spill_stores}/"
            f"{kernel.spill_loads}[/]"
        )
    return text
