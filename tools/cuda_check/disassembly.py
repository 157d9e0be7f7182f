"""Checks, in the disassembled code, how wide the kernels' accesses to memory are.

A thread that moves 128 bits with one instruction needs a quarter of the instructions of one that
moves 32, and keeps more bytes in flight. Only the machine code shows whether accesses were merged.
"""

import collections
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cuda_check.resources import ROOT, build_native, compile_cubin, readable
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ARCHITECTURE = "80"
PACKAGE = "nvidia-cuda-nvdisasm"
# An instruction that every kernel of a source must contain, and its width in bits.
# Copies from global to shared memory count as LDGSTS.
WANTED = {
    "crop/crop": ("STG", 128),
    "crop/crop_gradient": ("LDGSTS", 128),
    "convolution_epilogue": ("STG", 128),
}
# Images of any width allow no wider accesses, and this kernel takes 7 us of a step on an H200.
NARROW = (
    "add_parts_kernel",
    "crop_gradient_cluster_kernel",  # has no code for this architecture
    # Elements that are wider than the arithmetic are converted one by one; no network makes them.
    "crop_gradient_kernel<float, Float64",
)
# Global, shared and local memory.
ACCESSES = ("LDG", "LDGSTS", "STG", "LDS", "STS", "LDL", "STL")
WIDTHS = (8, 16, 32, 64, 128)

Counts = collections.Counter[tuple[str, int]]


def find_nvdisasm() -> str:
    """Find the disassembler: beside nvcc, in PATH, or in the package from PyPI."""
    said = build_native.ask_nvcc(build_native.find_cuda().nvcc, "--dryrun", "-x", "cu", "/dev/null")
    here = re.search(r"_HERE_=(.*)", said)
    beside = shutil.which(str(Path(here[1], "nvdisasm"))) if here else None
    if found := beside or shutil.which("nvdisasm"):
        return found
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nvdisasm":
            return str(file.locate())
    raise FileNotFoundError(
        f"nvdisasm was not found beside nvcc, nor in PATH: `pip install {PACKAGE}` brings it."
    )


def disassemble(cubin: Path) -> str:
    """Return the machine code of a cubin as text."""
    command = [find_nvdisasm(), "--print-code", str(cubin)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def count_accesses(text: str) -> dict[str, Counts]:
    """Count the instructions of each kernel that access memory, by kind and width in bits."""
    counts: dict[str, Counts] = {}
    for symbol, code in _functions(text):
        counts[symbol] = collections.Counter()
        # Each line has an address, perhaps a condition such as @!P0, and the instruction.
        for opcode in re.findall(r"/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)", code):
            kind, *modifiers = opcode.split(".")
            if kind in ACCESSES:
                counts[symbol][kind, _width(modifiers)] += 1
    return counts


def _functions(text: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"^\.text\.(\S+):$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _width(modifiers: list[str]) -> int:
    for modifier in modifiers:
        # U8, S16, 64, 128. Other suffixes mean 64-bit addresses (E) and caching.
        if match := re.fullmatch(r"[US]?(8|16|32|64|128)", modifier):
            return int(match[1])
    return 32


def failures_of(
    counts: dict[str, Counts], names: dict[str, str], kind: str, bits: int
) -> list[str]:
    """Return failures: kernels whose accesses are too narrow, or that use local memory."""
    found = []
    for symbol, accesses in counts.items():
        may_be_narrow = any(name in names[symbol] for name in NARROW)
        if not accesses[kind, bits] and not may_be_narrow:
            has = ", ".join(f"{n} x {k}.{b}" for (k, b), n in sorted(accesses.items())) or "none"
            found.append(f"{names[symbol]}: expected {kind} of {bits} bits, got {has}")
        if local := sum(n for (k, _), n in accesses.items() if k in ("LDL", "STL")):
            found.append(f"{names[symbol]}: {local} accesses to local memory; expected none")
    return found


def check() -> list[str]:
    """Print the widths of kernels' accesses to memory, and return failures."""
    failures = []
    table = Table("kernel", *ACCESSES, title=f"instructions for sm_{ARCHITECTURE}, by bits")
    for stem, (kind, bits) in WANTED.items():
        compiled = compile_cubin(ROOT / "csrc/cuda" / f"{stem}.cu", ARCHITECTURE)
        if not compiled.cubin.exists():
            failures += [f"{stem}.cu: {complaint}" for complaint in compiled.complaints]
            continue
        counts = count_accesses(disassemble(compiled.cubin))
        names = readable(sorted(counts))
        for symbol in sorted(counts, key=names.__getitem__):
            cells = (
                ", ".join(f"{n} x {b}" for b in WIDTHS if (n := counts[symbol][access, b]))
                for access in ACCESSES
            )
            table.add_row(escape(names[symbol]), *cells)
        failures += [f"{stem}.cu: {text}" for text in failures_of(counts, names, kind, bits)]
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    return failures
