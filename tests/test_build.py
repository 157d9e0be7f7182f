"""The package builds alone, in an isolated environment, and survives a missing compiler."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import pathlib, sys, warnings
# An editable install of the same package would lend its native module to this one.
sys.meta_path = [finder for finder in sys.meta_path if "Editable" not in repr(finder)]
import torch
import fvfast
from fvfast.ops import inject_noise
from fvfast.ops._native import native_status
assert pathlib.Path({folder!r}) in pathlib.Path(fvfast.__file__).parents, fvfast.__file__
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    out = inject_noise(torch.zeros(1, 8), 1.0, seed=0, streams=[0], step=0)
assert out.isfinite().all() and out.unique().numel() == 8
status = native_status()
print(status.available, status.reason)
"""


def build_and_import(tmp_path, *arguments, **environment):
    """Build a wheel from a copy of the sources, unpack it and use it from another directory."""
    source, wheels, unpacked = (tmp_path / name for name in ("source", "wheels", "unpacked"))
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "_build_failure.txt")
    for folder in ("csrc", "fvfast"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for pattern in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        for file in ROOT.glob(pattern):
            shutil.copy(file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(wheels), str(source)]
    built = subprocess.run(
        [*command, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        return built, ""
    (wheel,) = wheels.glob("fvfast-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    used = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folder=str(unpacked))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked), "FVFAST_DISABLE_NATIVE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    return built, used.stdout


def test_isolated_build(tmp_path):
    _, output = build_and_import(tmp_path, FVFAST_NATIVE="1")
    assert output.startswith("True")


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler"])
def test_a_broken_compiler_leaves_the_package_and_a_reason(tmp_path, compiler):
    _, output = build_and_import(tmp_path, "--no-build-isolation", CXX=compiler, FVFAST_NATIVE="")
    assert output.startswith("False")
    assert compiler in output


def test_a_required_native_module_makes_a_broken_compiler_an_error(tmp_path):
    built, _ = build_and_import(
        tmp_path, "--no-build-isolation", CXX="/bin/false", FVFAST_NATIVE="1"
    )
    assert built.returncode != 0
    assert "the C++ build failed" in built.stdout + built.stderr


def test_the_native_module_can_be_left_out(tmp_path):
    _, output = build_and_import(tmp_path, "--no-build-isolation", FVFAST_NATIVE="0")
    assert output.startswith("False left out at build time")
