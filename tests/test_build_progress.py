"""The build says what it compiles, how much of it is done, and how long it has taken."""

import re
import subprocess
import sys

import pytest
from small_project import clean_environment, needs_nvcc, small

__all__ = ["small"]  # a fixture

PROGRESS = r"^\[(\d+)/(\d+), [\d.]+ s\] (.+)$"


def test_a_line_for_each_file(small):
    worked, said = small.build(FVFAST_CUDA="0")
    assert worked
    assert "fvfast: the native module is compiled from 2 files, without CUDA\n" in said
    found = re.findall(PROGRESS, said, flags=re.MULTILINE)
    assert [(done, of) for done, of, _ in found] == [("1", "3"), ("2", "3"), ("3", "3")]
    what = [what for _, _, what in found]
    assert sorted(what[:2]) == ["compile csrc/bindings.cpp", "compile csrc/cpu/answer.cpp"]
    assert re.fullmatch(r"link _C\..*so", what[2])


@needs_nvcc
def test_cuda_is_announced_with_the_way_to_leave_it_out(small):
    worked, said = small.build(FVFAST_CUDA="1", FVFAST_CUDA_ARCHS="90;80")
    assert worked
    (line,) = (line for line in said.splitlines() if line.startswith("fvfast: "))
    assert "from 3 files, 1 of them by nvcc for the architectures 80;90. This takes min" in line
    assert "FVFAST_CUDA=0 leaves CUDA out" in line
    assert "compile_cuda csrc/cuda/answer.cu" in said


@pytest.mark.parametrize("command", ["setup.py", "build_native.py"])
def test_a_line_comes_when_its_file_is_compiled(small, tmp_path, command):
    """Through a pipe, as pip reads it: the last file waits until the line of another was read."""
    seen, compiler = tmp_path / "seen", tmp_path / "slow-c++"
    (small.folder / "fvfast").mkdir()
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *bindings.cpp*)\n'
        f"  i=0; until [ -e {seen} ]; do sleep 0.05; i=$((i + 1)); [ $i -lt 600 ] || exit 1; done\n"
        'esac\nexec c++ "$@"\n'
    )
    compiler.chmod(0o755)
    arguments = ["build_ext", "--build-lib", "lib"] if command == "setup.py" else []
    with subprocess.Popen(
        [sys.executable, command, *arguments],
        cwd=small.folder,
        env=clean_environment(CXX=str(compiler), FVFAST_CUDA="0", FVFAST_NATIVE="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as build:
        for line in build.stdout:
            if "compile csrc/cpu/answer.cpp" in line:
                seen.touch()
    assert seen.exists()
    assert build.returncode == 0
