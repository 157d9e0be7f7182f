"""The module is built in the source tree without pip and setuptools, and says what is missing."""

import os
import subprocess
import sys
import sysconfig

import pytest
from small_project import clean_environment, needs_nvcc, small

import build_native

__all__ = ["small"]  # a fixture


def build(project, *arguments, **environment):
    """Run build_native.py of a project; setuptools cannot be imported."""
    program = (
        "import runpy, sys; sys.modules['setuptools'] = None; sys.argv.pop(0); "
        "runpy.run_path('build_native.py', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "build_native.py", *arguments],
        cwd=project.folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def in_place(small):
    """The small project, whose package is that of the source tree."""
    small.package = small.folder / "fvfast"
    small.package.mkdir()
    return small


@needs_nvcc
def test_architectures_that_are_named(in_place):
    done = build(in_place, "--architectures", "90a 80", "--folder", "objects")
    assert done.returncode == 0, done.stderr
    (module,) = in_place.package.glob("_C.*.so")
    assert done.stdout.splitlines()[-1] == str(module)
    assert in_place.inspect()[2] == "80;90a"
    assert (in_place.folder / "objects" / "csrc" / "cuda" / "answer.cu.o").exists()
    assert b"sm_90a" in module.read_bytes()


def test_the_cpu_alone(in_place):
    (in_place.package / "_build_failure.txt").write_text("of an earlier build")
    done = build(in_place, CUDA_HOME="/nowhere")
    assert done.returncode == 0, done.stderr
    assert in_place.inspect() == ["41", "None", "None"]
    assert in_place.reason() == "left out by a build for the CPU alone\n"
    assert not (in_place.package / "_build_failure.txt").exists()


def test_what_does_not_compile_leaves_no_module(in_place):
    assert build(in_place).returncode == 0
    in_place.write("cpu/answer.cpp", "#error the answer is unknown\n")
    done = build(in_place)
    assert done.returncode == 1
    assert "the build failed" in done.stderr
    assert "the answer is unknown" in done.stderr
    assert not list(in_place.package.glob("_C.*.so"))


def test_a_missing_nvcc_is_an_error(in_place):
    done = build(in_place, "--architectures", "80", CUDA_HOME="/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("nvcc was not found in the folder bin of CUDA_HOME=/nowhere")


@needs_nvcc
def test_words_that_are_no_architectures_are_an_error(in_place):
    """What was built before stays where nothing was tried."""
    assert build(in_place).returncode == 0
    done = build(in_place, "--architectures", "sm_90")
    assert done.returncode == 1
    assert "got 'sm_90'" in done.stderr
    assert list(in_place.package.glob("_C.*.so"))


def test_missing_headers_of_python_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    with pytest.raises(build_native.BuildError) as raised:
        build_native.python_includes(["c++"])
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert str(raised.value).startswith(
        f"Python.h was not found in {tmp_path / 'include'} or {tmp_path / 'platinclude'}: install "
        f"the headers of Python {version}"
    )


def test_headers_of_python_that_only_the_compiler_knows(monkeypatch, tmp_path):
    folder = sysconfig.get_path("include")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    monkeypatch.setenv("CPATH", folder)
    assert build_native.python_includes(["c++"]) == [
        str(tmp_path / "include"),
        str(tmp_path / "platinclude"),
    ]


@pytest.mark.parametrize("module", ["pybind11", "ninja"])
def test_missing_tools_are_named(in_place, module, tmp_path):
    """Ninja may also be a program of its own."""
    (tmp_path / "missing" / f"{module}.py").parent.mkdir()
    (tmp_path / "missing" / f"{module}.py").write_text(
        f"raise ImportError('no {module}', name={module!r})\n"
    )
    path = os.pathsep.join(str(p) for p in tool_folders(tmp_path / "bin"))
    done = build(in_place, PYTHONPATH=str(tmp_path / "missing"), PATH=path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{module} was not found: install the package")


def tool_folders(folder):
    """A PATH with the compiler and its tools, and without ninja."""
    folder.mkdir()
    for name in ("c++", "ld", "as"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {subprocess.getoutput(f"command -v {name}")} "$@"\n')
        program.chmod(0o755)
    return [folder]
