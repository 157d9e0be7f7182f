"""The package builds alone, in an isolated environment, and survives a missing compiler.

What setup.py decides about CUDA is tested with a small module in place of ours, which compiles in
seconds; that our module links and loads with CUDA, where there is neither a GPU nor a driver, with
the real sources.
"""

import re
import subprocess
import sys
import zipfile

import pytest
from selection import thorough
from small_project import (
    KERNEL,
    NVCC,
    assert_self_contained,
    clean_environment,
    copy_sources,
    fake_driver,
    fake_nvcc,
    needs_nvcc,
    small,
)

__all__ = ["small"]  # a fixture

SCRIPT = """
import pathlib, sys, warnings
# An editable install of the same package would lend its native module to this one.
sys.meta_path = [finder for finder in sys.meta_path if "Editable" not in repr(finder)]
import torch
import fvfast
from fvfast.ops import inject_noise
from fvfast.ops._kernels import native_status
assert pathlib.Path({folder!r}) in pathlib.Path(fvfast.__file__).parents, fvfast.__file__
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    out = inject_noise(torch.zeros(1, 8), 1.0, seed=0, identities=[0], step=0)
assert out.isfinite().all() and out.unique().numel() == 8
status = native_status()
print(status.available, status.reason)
print("CUDA:", status.cuda_architectures, status.cuda_reason)
"""


def build_and_import(tmp_path, *arguments, **environment):
    """Build a wheel from a copy of the sources, unpack it and use it from another directory."""
    source, wheels, unpacked = (tmp_path / name for name in ("source", "wheels", "unpacked"))
    copy_sources(source, "csrc", "fvfast")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(wheels), str(source)]
    built = subprocess.run(
        [*command, *arguments],
        env=clean_environment(**environment),
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
        env=clean_environment(PYTHONPATH=str(unpacked)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    return built, used.stdout


@pytest.mark.thorough
def test_isolated_build(tmp_path):
    """With CUDA where nvcc is found; what was built then loads also without a driver."""
    wanted = {"FVFAST_CUDA": "1", "FVFAST_CUDA_ARCHS": "80"} if NVCC else {}
    _, output = build_and_import(tmp_path, FVFAST_NATIVE="1", CXXFLAGS="-O1", **wanted)
    assert output.startswith("True")
    assert ("CUDA: 80" if NVCC else "CUDA:  nvcc was not found") in output
    assert_self_contained(tmp_path / "unpacked")


@pytest.mark.thorough
@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler"])
def test_a_broken_compiler_leaves_the_package_and_a_reason(tmp_path, compiler):
    _, output = build_and_import(tmp_path, "--no-build-isolation", CXX=compiler)
    assert output.startswith("False")
    assert compiler in output


def test_a_required_native_module_makes_a_broken_compiler_an_error(tmp_path):
    built, _ = build_and_import(
        tmp_path, "--no-build-isolation", CXX="/bin/false", FVFAST_NATIVE="1"
    )
    assert built.returncode != 0
    assert "the build failed" in built.stdout + built.stderr


@pytest.mark.thorough
def test_the_native_module_can_be_left_out(tmp_path):
    _, output = build_and_import(tmp_path, "--no-build-isolation", FVFAST_NATIVE="0")
    assert output.startswith("False left out at build time")


def test_a_wheel_has_the_native_module(small, tmp_path):
    """The small one; the real one is built where the suite is thorough."""
    copy_sources(small.folder, "fvfast")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "-w", str(tmp_path), str(small.folder)],
        env=clean_environment(FVFAST_NATIVE="1", FVFAST_CUDA="0"),
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("fvfast-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    small.package = tmp_path / "fvfast"
    assert small.inspect() == ["41", "None", "None"]
    assert small.reason() == "left out at build time by FVFAST_CUDA=0\n"
    assert (small.package / "py.typed").exists()


def test_cuda_is_left_out_on_request(small):
    worked, _ = small.build(FVFAST_CUDA="0")
    assert worked
    assert small.inspect() == ["41", "None", "None"]
    assert small.reason() == "left out at build time by FVFAST_CUDA=0\n"


def test_without_nvcc_the_module_is_built_without_cuda(small, tmp_path):
    worked, _ = small.build(CUDA_HOME=str(tmp_path))
    assert worked
    assert small.inspect() == ["41", "None", "None"]
    assert small.reason().startswith(
        f"nvcc was not found in the folder bin of CUDA_HOME={tmp_path}"
    )


def test_cuda_that_is_required_makes_a_missing_nvcc_an_error(small, tmp_path):
    worked, said = small.build(FVFAST_CUDA="1", CUDA_PATH=str(tmp_path))
    assert not worked
    assert f"CUDA_PATH={tmp_path}: install the CUDA toolkit (12 or newer), or set" in said


@needs_nvcc
def test_cuda_is_built_for_the_architectures_that_are_named(small):
    worked, said = small.build(FVFAST_CUDA_ARCHS="90;80")
    assert worked, said
    # The second answer says whether there was a GPU that could run the kernel.
    assert small.inspect() in (["41", "42", "80;90"], ["41", "41", "80;90"])
    assert small.reason() is None
    assert_self_contained(small.package)
    code = next(small.package.glob("_C.*.so")).read_bytes()
    assert b"sm_80" in code
    assert b"sm_90" in code


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler"])
def test_a_broken_compiler_is_no_error_and_leaves_a_reason(small, compiler):
    worked, said = small.build(CXX=compiler)
    assert worked
    assert compiler in said
    assert compiler in (small.package / "_build_failure.txt").read_text()
    assert not list(small.package.glob("_C.*"))


def test_a_changed_header_builds_again(small):
    assert small.build(FVFAST_CUDA="0")[0]
    small.write("common/answer.h", "constexpr int kAnswer = 7;\n")
    worked, said = small.build(FVFAST_CUDA="0")
    assert worked
    assert "csrc/cpu/answer.cpp" in said
    assert small.inspect() == ["7", "None", "None"]


@pytest.mark.thorough
@needs_nvcc
def test_a_changed_header_or_switch_builds_again(small):
    assert small.build(FVFAST_CUDA="1")[0]
    small.write("common/answer.h", "constexpr int kAnswer = 7;\n")
    worked, said = small.build(FVFAST_CUDA="1")
    assert worked
    assert "csrc/cuda/answer.cu" in said
    assert small.inspect()[:2] in (["7", "8"], ["7", "7"])
    assert small.build(FVFAST_CUDA="0")[0]
    assert small.inspect() == ["7", "None", "None"]
    assert small.reason() is not None
    # What was compiled for CUDA is still there, and the record goes.
    worked, said = small.build(FVFAST_CUDA="1")
    assert worked
    assert "csrc/cuda/answer.cu" not in re.sub(r"link .*", "", said)
    assert small.reason() is None


@needs_nvcc
@pytest.mark.parametrize("when", [thorough("*--list-gpu-code*"), thorough("*--dryrun*"), "*.cu*"])
def test_an_nvcc_that_fails_leaves_the_cpu_and_a_reason(small, tmp_path, when):
    toolkit = {"CUDA_HOME": fake_nvcc(tmp_path / "toolkit", when)}
    archs = {"FVFAST_CUDA_ARCHS": ""} if "list" in when else {}
    worked, _ = small.build(**toolkit, **archs)
    assert worked
    assert small.inspect() == ["41", "None", "None"]
    assert "no license for this" in small.reason()
    worked, said = small.build(FVFAST_CUDA="1", **toolkit, **archs)
    assert not worked
    assert "no license for this" in said


@needs_nvcc
def test_a_warning_of_the_cuda_compilers_is_an_error(small):
    small.write("cuda/answer.cu", KERNEL + "__global__ void other() { int unused; }")
    worked, said = small.build(FVFAST_CUDA="1")
    assert not worked
    assert "unused" in said


@needs_nvcc
def test_nvcc_compiles_host_code_with_the_given_compiler(small, tmp_path):
    wrapper, log = tmp_path / "my-c++", tmp_path / "log"
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec g++ "$@"\n')
    wrapper.chmod(0o755)
    worked, said = small.build(FVFAST_CUDA="1", CXX=f"{wrapper} -DONE", NVCCFLAGS="-DTWO")
    assert worked, said
    of_nvcc = [line for line in log.read_text().splitlines() if "__CUDACC__" in line]
    assert of_nvcc
    assert all("-DONE" in line and "TWO" in line for line in of_nvcc)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FVFAST_CUDA": "yes"}, "FVFAST_CUDA must be 1, 0 or not set, got 'yes'"),
        (
            {"FVFAST_CUDA": "1", "FVFAST_NATIVE": "0"},
            "a part of the module that FVFAST_NATIVE=0 leaves out",
        ),
    ],
)
def test_switches_that_make_no_sense_are_errors(small, environment, message):
    worked, said = small.build(**environment)
    assert not worked
    assert message in said


@needs_nvcc
@pytest.mark.parametrize("architectures", [*map(thorough, ["8.0", "90b", "a"]), "sm_80", ";"])
def test_other_words_are_no_architectures(small, architectures):
    worked, said = small.build(FVFAST_CUDA="1", FVFAST_CUDA_ARCHS=architectures)
    assert not worked
    assert f'"native" for the GPUs of this machine, got {architectures!r}' in said


@needs_nvcc
@pytest.mark.parametrize(
    ("architectures", "ptx"), [thorough("90a", []), ("90a;80", ["80"])], ids=["alone", "beside"]
)
def test_code_for_the_features_of_one_architecture_alone_comes_without_ptx(
    small, architectures, ptx
):
    """PTX of such would run nowhere else; beside it, that of the newest other serves newer GPUs."""
    worked, said = small.build(FVFAST_CUDA="1", FVFAST_CUDA_ARCHS=architectures)
    assert worked, said
    assert small.inspect()[2] == ";".join(sorted(architectures.split(";")))
    commands = (small.folder / "temp" / "ninja" / "build.ninja").read_text()
    assert "code=sm_90a" in commands
    assert re.findall(r"code=compute_(\w+)", commands) == ptx


@pytest.mark.thorough
@needs_nvcc
def test_the_architectures_of_this_machine(small, tmp_path):
    """One of each GPU, as the driver lists them."""
    path = fake_driver(tmp_path, "echo 9.0; echo 8.0; echo 9.0")
    worked, said = small.build(FVFAST_CUDA="1", FVFAST_CUDA_ARCHS="native", PATH=path)
    assert worked, said
    assert small.inspect()[2] == "80;90"
    fake_driver(tmp_path, "echo no driver; exit 9")
    worked, said = small.build(FVFAST_CUDA="1", FVFAST_CUDA_ARCHS="native", PATH=path)
    assert not worked
    assert "says 'no driver'. Name the architectures, as in" in said
