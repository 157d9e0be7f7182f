"""Calls every function of a native module that takes memory, with random arguments.

    python tests/fuzz/run.py MODULE COUNT PROGRESS [FUNCTION [NUMBER]]

A module with CUDA kernels is one that emulates them: its functions are called on CUDA.

About 60 % of the calls are valid, and must succeed. In the others one argument is broken: they may
be refused, with one of the exceptions below. A crash is for AddressSanitizer to report: the file
PROGRESS then names the call, which FUNCTION and NUMBER repeat alone.
"""

import collections
import ctypes
import importlib.util
import inspect
import json
import os
import random
import sys
import zlib
from typing import Any

import cases
import cuda_cases
from breaks import break_one
from memory import Memory

REFUSALS = (ValueError, TypeError, OverflowError, MemoryError)
# What takes no memory; all other functions must have cases.
WITHOUT_MEMORY = {"philox_words", "max_threads", "simd_level", "set_simd_level"}
ON_CUDA = {"transform_fits", "phase_image_scratch", "phase_image_gradient_scratch"}
LEVELS = ("baseline", "avx2", "avx512")
CAPABILITIES = (90, 80)  # with clusters of blocks, and without


def load(path: str) -> Any:
    """The module of this file: without the package, and so without torch."""
    spec = importlib.util.spec_from_file_location("_C", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_cuda(module: Any) -> bool:
    """Whether a module has the kernels of CUDA: then it emulates them."""
    return hasattr(module, "UPDATE_PARTS")


def choose_device(module: Any, number: int) -> None:
    """Let one call after the other run on another instruction set, or another emulated device."""
    levels = [level for level in LEVELS if module.set_simd_level(level)]
    module.set_simd_level(levels[number % len(levels)])
    if has_cuda(module):
        capability = CAPABILITIES[number % len(CAPABILITIES)]
        ctypes.CDLL(module.__file__).cuda_emulator_set_capability(ctypes.c_int(capability))


def run_one(module: Any, case: Any, number: int) -> str:
    """Make one call; return its outcome. The number alone determines its arguments."""
    function = case.__name__
    rng = random.Random(zlib.crc32(f"{function} {number}".encode()))
    memory = Memory(rng, (0, 0) if has_cuda(module) else None)
    # Some ask the module how much scratch memory they need.
    extra = [module] if "module" in inspect.signature(case).parameters else []
    arguments = case(rng, memory, *extra)
    valid = rng.random() < 0.6
    if not valid:
        broken = break_one(rng, memory, function, arguments)
    try:
        result = getattr(module, function)(**arguments)
        assert result is None or 0 <= result <= 2**48, result
    except REFUSALS as refusal:
        if valid:
            raise AssertionError(f"a valid call was refused: {arguments}") from refusal
        return "refused"
    except BaseException as error:
        raise AssertionError(f"broken: {None if valid else broken}") from error
    finally:
        memory.free()
    return "valid" if valid else "harmless"


def main(path: str, count: str, progress: str, *only: str) -> None:
    module = load(path)
    functions = {name for name in dir(module) if callable(getattr(module, name))}
    functions -= {name for name in functions if name.startswith("__")} | WITHOUT_MEMORY
    chosen = cases.CASES
    if has_cuda(module):
        functions -= ON_CUDA | cuda_cases.ON_THE_CPU
        chosen = cuda_cases.CASES
    assert functions == {case.__name__ for case in chosen}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    file = os.open(progress, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for case in chosen:
        for number in range(int(count)):
            if only != (case.__name__, str(number))[: len(only)]:
                continue
            os.pwrite(file, f"{case.__name__} {number:<8}".encode().ljust(40), 0)
            choose_device(module, number)
            counts[case.__name__][run_one(module, case, number)] += 1
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
