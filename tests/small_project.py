"""A project with our build, but with a small module that compiles in seconds as its sources."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = ("setup.py", "build_native.py", "pyproject.toml", "LICENSE", "README.md")
NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="needs nvcc")


def clean_environment(**changes):
    """The environment without what would choose another build."""
    ours = ("FVFAST_", "CUDA_HOME", "CUDA_PATH", "CXX", "LDFLAGS", "NVCCFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **changes}


def copy_sources(folder, *folders):
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "_*_failure.txt")
    for name in folders:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder)


def assert_self_contained(folder):
    """The module needs no CUDA library, and exports none of its own copy."""
    if sys.platform != "linux":
        return
    (module,) = folder.glob("**/_C.*.so")
    needed = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in needed
    assert "cuda" not in needed
    symbols = subprocess.run(
        ["nm", "--dynamic", module], capture_output=True, text=True, check=True
    ).stdout
    assert " T PyInit__C" in symbols
    assert not re.search(r"cuda|__fatbin", symbols)


# A module that knows what it was built with.
BINDINGS = """
#include <Python.h>
#include "common/answer.h"
int answer_of_the_cpu();
int answer_of_cuda();
static PyModuleDef definition{PyModuleDef_HEAD_INIT, "_C", "", -1, {}, {}, {}, {}, {}};
PyMODINIT_FUNC PyInit__C() {
  PyObject* module = PyModule_Create(&definition);
  PyModule_AddIntConstant(module, "answer", answer_of_the_cpu());
#ifdef FVFAST_WITH_CUDA
  PyModule_AddIntConstant(module, "cuda_answer", answer_of_cuda());
  PyModule_AddStringConstant(module, "cuda_architectures", FVFAST_CUDA_ARCHS);
#endif
  return module;
}
"""
KERNEL = """
#include "common/answer.h"
__global__ void __launch_bounds__(128) kernel(float* out) {
  if (out != nullptr) out[threadIdx.x] = kAnswer;
}
int answer_of_cuda() {
  kernel<<<1, 128>>>(nullptr);
  return kAnswer + (cudaGetLastError() == cudaSuccess ? 0 : 1);
}
"""
INSPECT = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
names = ("answer", "cuda_answer", "cuda_architectures")
print(*(getattr(module, name, None) for name in names))
"""


@pytest.fixture
def small(tmp_path):
    """A project with our build and a small module."""
    folder = tmp_path / "small"
    copy_sources(folder)
    for name, text in (
        ("bindings.cpp", BINDINGS),
        (
            "cpu/answer.cpp",
            '#include "common/answer.h"\nint answer_of_the_cpu() { return kAnswer; }',
        ),
        ("cuda/answer.cu", KERNEL),
        ("common/answer.h", "constexpr int kAnswer = 41;\n"),
    ):
        file = folder / "csrc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return SmallProject(folder)


class SmallProject:
    """The project, its package, and what was built there."""

    def __init__(self, folder):
        self.folder = folder
        self.package = folder / "lib" / "fvfast"

    def write(self, name, text):
        (self.folder / "csrc" / name).write_text(text)

    def build(self, **environment):
        """Build it; return whether that worked, and the output."""
        arguments = ["build_ext", "--build-lib", "lib", "--build-temp", "temp"]
        done = subprocess.run(
            [sys.executable, "setup.py", *arguments],
            cwd=self.folder,
            env=clean_environment(**{"FVFAST_CUDA_ARCHS": "80", **environment}),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode == 0, done.stdout + done.stderr

    def inspect(self):
        """The answers of the module, and the architectures of its CUDA part."""
        (module,) = self.package.glob("_C.*.so")
        command = [sys.executable, "-c", INSPECT, str(module)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def reason(self):
        """Why there is no CUDA part."""
        record = self.package / "_cuda_failure.txt"
        return record.read_text() if record.exists() else None


def fake_driver(folder, program):
    """A PATH whose nvidia-smi is a shell script."""
    command = folder / "driver" / "nvidia-smi"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!/bin/sh\n{program}\n")
    command.chmod(0o755)
    return f"{command.parent}{os.pathsep}{os.environ['PATH']}"


def fake_nvcc(folder, when):
    """A toolkit whose nvcc fails when its arguments match, and is the real one otherwise."""
    (folder / "bin").mkdir(parents=True)
    script = folder / "bin" / "nvcc"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in {when}) echo "no license for this" >&2; exit 1;; esac\n'
        f'exec {NVCC} "$@"\n'
    )
    script.chmod(0o755)
    return str(folder)
