"""Compiles the interpreter's C++ sources once, and loads them."""

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
CACHE = SOURCES.parents[1] / "build" / "ptx_interpreter"
FLAGS = [
    *("-std=c++17", "-O2", "-march=native", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    # As on a GPU: multiply-adds are fused only where PTX says so, and integers wrap around.
    *("-ffp-contract=off", "-fwrapv"),
    # An instruction may read a register as any type.
    "-fno-strict-aliasing",
]


class Buffer(ctypes.Structure):
    """Memory that a kernel may access: see PtxBuffer in interface.cpp."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("writable", ctypes.c_int),
        ("name", ctypes.c_char_p),
    )


class Launch(ctypes.Structure):
    """One launch: see PtxLaunch in interface.cpp."""

    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("cluster", ctypes.c_uint32 * 3),
        ("dynamic_shared", ctypes.c_uint32),
        ("order", ctypes.c_int),
        ("statistics", ctypes.c_int),
        ("max_steps", ctypes.c_uint64),
        ("parameters", ctypes.c_char_p),
        ("parameter_bytes", ctypes.c_uint64),
        ("buffers", ctypes.POINTER(Buffer)),
        ("buffer_count", ctypes.c_uint64),
    )


def _digest() -> str:
    # -march=native: another processor may not have all instructions of this one.
    information = Path("/proc/cpuinfo")
    found = re.findall(r"^flags.*$", information.read_text(), re.M) if information.exists() else []
    digest = hashlib.sha256(repr((FLAGS, found[:1])).encode())
    for path in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"the PTX interpreter does not compile\n{finished.stderr}")


def _build(library: Path) -> None:
    """Compile and link the library, two sources at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX") or "g++"
    with tempfile.TemporaryDirectory(dir=CACHE) as folder, ThreadPoolExecutor(2) as pool:
        # The largest first.
        sources = sorted(SOURCES.glob("*.cpp"), key=lambda path: -path.stat().st_size)
        objects = [str(Path(folder, f"{source.stem}.o")) for source in sources]
        commands = [
            [*compiler.split(), *FLAGS, "-c", str(source), "-o", compiled]
            for source, compiled in zip(sources, objects, strict=True)
        ]
        list(pool.map(_run, commands))
        linked = Path(folder, "linked.so")
        _run([*compiler.split(), "-shared", *objects, "-o", str(linked)])
        # If two processes build at once, the second one replaces the file by an equal one. That is
        # atomic: nobody finds half a library.
        linked.replace(library)


@functools.cache
def library() -> ctypes.CDLL:
    """Return the library. The first use compiles it, into build/ptx_interpreter."""
    path = CACHE / f"interpreter-{_digest()}.so"
    if not path.exists():
        _build(path)
    loaded = ctypes.CDLL(str(path))
    loaded.ptx_answer.restype = ctypes.c_char_p
    loaded.ptx_load.argtypes = (ctypes.c_char_p,)
    loaded.ptx_load.restype = ctypes.c_void_p
    loaded.ptx_free.argtypes = (ctypes.c_void_p,)
    loaded.ptx_free.restype = None
    loaded.ptx_symbol.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_uint64),
    )
    loaded.ptx_symbol.restype = ctypes.c_void_p
    loaded.ptx_launch.argtypes = (ctypes.c_void_p, ctypes.POINTER(Launch))
    return loaded
