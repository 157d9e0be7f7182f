"""Runs the tests of the operations on every back end.

The same test sees the native kernels of the CPU, the CUDA kernels through the emulator in three
orders of their threads, and a GPU where there is one. What a test makes with torch's factory
functions lies on the device of the back end. Marks tell the exceptions:

cpu_only
    The test is about the CPU, or about Python: once is enough.
every_instruction_set
    On the CPU the test runs with each instruction set that the kernels are compiled for.
compiled
    The test also runs on the PTX that nvcc makes of the kernels, for the architectures that the
    environment variable FVFAST_TEST_PTX names, as in "80 90".

The short suite (``-m "not thorough"``) has one order of threads and the best instruction set of
this processor.

The environment variable FVFAST_TEST_BACKENDS leaves only the back ends that it names, as in
"cuda" or "cpu,emulated random".
"""

import contextlib
import ctypes
import os

import pytest
import torch
from emulated import ORDERS, emulated, emulated_module
from launched_kernels import launched_kernels, note_launches

from fvfast.ops._kernels import native

INSTRUCTION_SETS = ["baseline", "avx2", "avx512"]
SHORT_ORDER = "emulated random"
SANITIZER = os.environ.get("FVFAST_TEST_SANITIZER")


def pytest_generate_tests(metafunc):
    if "backend" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    backends = INSTRUCTION_SETS if "every_instruction_set" in marks else ["cpu"]
    if SANITIZER:
        backends = []
    if "cpu_only" not in marks:
        backends = [*backends, *ORDERS]
        if torch.cuda.is_available():
            backends.append("cuda")
    if "compiled" in marks:
        backends += [f"ptx {number}" for number in os.environ.get("FVFAST_TEST_PTX", "").split()]
    if chosen := os.environ.get("FVFAST_TEST_BACKENDS"):
        backends = [name for name in backends if name in chosen.split(",")]
    short = {"cpu", "cuda", SHORT_ORDER, best_instruction_set()}
    metafunc.parametrize(
        "backend",
        [
            pytest.param(name, marks=() if name in short else pytest.mark.thorough)
            for name in backends
        ],
        indirect=True,
    )


@pytest.fixture(autouse=SANITIZER is not None, scope="session")
def _launches_are_noted():
    """For the summary, of which a sanitizer has seen the kernels that it names."""
    module = emulated_module()
    if not isinstance(module, str):
        note_launches(ctypes.CDLL(module.__file__))


def pytest_terminal_summary(terminalreporter):
    if SANITIZER:
        terminalreporter.write_line(f"kernels: {' '.join(sorted(launched_kernels()))}")


def best_instruction_set():
    module = native()
    return "baseline" if module is None else module.simd_level()


@pytest.fixture(autouse=True)
def backend(request):
    """The name of the back end that the test runs on."""
    name = request.param
    if name in ORDERS:
        running = emulated(name)
    elif name.startswith("ptx"):
        running = compiled(name.removeprefix("ptx "))
    elif name == "cuda":
        running = torch.device("cuda")
    elif name == "cpu":
        running = contextlib.nullcontext()
    else:
        running = instruction_set(name)
    with running:
        yield name


@contextlib.contextmanager
def compiled(architecture):
    """Let the PTX interpreter execute the kernels, with threads preempted at random."""
    from cuda_check.replay import Replay  # needs nvcc

    with (
        emulated("emulated ascending") as module,
        Replay(module, architecture, order=7, statistics=False),
    ):
        yield


@contextlib.contextmanager
def instruction_set(name):
    """Let the kernels of the CPU use one of their instruction sets."""
    module = native()
    if module is None:
        pytest.skip("the native module is not built")
    before = module.simd_level()
    if not module.set_simd_level(name):
        pytest.skip(f"this processor has no {name}")
    yield
    assert module.set_simd_level(before)
