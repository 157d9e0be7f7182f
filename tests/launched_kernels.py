"""Which CUDA kernels there are, and which of them the emulated module has run."""

import ctypes
import re
from pathlib import Path

CUDA = Path(__file__).resolve().parent.parent / "csrc" / "cuda"
# What stands between __global__ and the name may have parentheses of its own.
BOUNDS = r"(?:\s+__launch_bounds__\((?:[^()]|\([^()]*\))*\))?"
# The first member of EmulatorLaunch, as the emulator declares it, is the mangled symbol.
HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
_launched: set[str] = set()


def all_kernels() -> set[str]:
    """Return the names of all kernels in the sources."""
    sources = [path.read_text() for path in CUDA.rglob("*.*")]
    names = [
        name
        for source in sources
        for name in re.findall(rf"__global__\s+void{BOUNDS}\s+(\w+)\s*\(", source)
    ]
    # All that there are: none escapes the expression, and no two have the same name.
    assert len(set(names)) == sum(len(re.findall(r"__global__ void", one)) for one in sources)
    return set(names)


@HOOK
def _note(launch):
    _launched.add(launch[0].decode())
    return 0  # the emulator runs it


def note_launches(library: ctypes.CDLL) -> None:
    """Let the emulated module tell of all launches."""
    library.cuda_emulator_set_hook.argtypes = (HOOK,)
    library.cuda_emulator_set_hook.restype = None
    library.cuda_emulator_set_hook(_note)


def launched_kernels() -> set[str]:
    """Return the names of the kernels that have been launched since."""
    # In a mangled symbol, the length of a name stands before it.
    return {
        name for name in all_kernels() for symbol in _launched if f"{len(name)}{name}" in symbol
    }
