"""The stage that builds kernels with other constants, and times them and the original ones.

A variant is a copy of the sources in which constants have other values. Only the objects that
depend on these are compiled again; the others are taken from the build.
"""

import concurrent.futures
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build_native
from benchmarks.gpu.build import FOLDER
from benchmarks.gpu.job import Job
from benchmarks.gpu.processes import ROOT, run_command

WORKER = "benchmarks.gpu.variant_worker"
SECONDS_TO_MEASURE = 15.0
"""Time to measure one variant. If less is left after its build, it is left out."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Kernels with other constants.

    Attributes
    ----------
    name
        Name of the variant.
    constants
        File in csrc, name of the constant, and its value.
    operations
        A word in the names of the operations whose times may change.
    """

    name: str
    constants: tuple[tuple[str, str, str], ...]
    operations: str


TRANSFORMS, CROPS = "phase", "crop"
VARIANTS = (
    Variant("8 lanes", (("cuda/phase/tiling.h", "kFewestLanes", "8"),), TRANSFORMS),
    Variant("512 threads", (("cuda/phase/tiling.h", "kRegisterColumnThreads", "512"),), TRANSFORMS),
    Variant("crops: larger tiles", (("cuda/crop/tile.h", "kCropPixels", "8192"),), CROPS),
    Variant("crops: smaller tiles", (("cuda/crop/tile.h", "kCropPixels", "2048"),), CROPS),
    Variant("256 threads", (("cuda/phase/tiling.h", "kTransformThreads", "256"),), TRANSFORMS),
)  # fmt: skip


def run(job: Job) -> None:
    """Build all variants in parallel, and time each as soon as it is built."""
    if job.rehearsed:
        rehearse(job)
        return
    folder = FOLDER / "variants"
    with concurrent.futures.ThreadPoolExecutor(len(VARIANTS)) as threads:
        building = {threads.submit(build, one, folder, FOLDER): one for one in VARIANTS}
        with job.records.attempt("the kernels as they are"):
            measure(job, "as it is", None, "")
        for result in concurrent.futures.as_completed(building):
            one = building[result]
            with job.records.attempt(f"the variant {one.name}"):
                module = result.result()
                if job.seconds_left < SECONDS_TO_MEASURE:
                    job.records.leave_out(one.name, "no time")
                else:
                    measure(job, one.name, module, one.operations)


def rehearse(job: Job) -> None:
    """Do everything except compile; the emulated module stands for each variant."""
    from benchmarks.gpu.place import emulated_module

    folder = job.folder.parent / f"{job.folder.name}.variants"
    try:
        write_build_file(folder / "build")
        for one in VARIANTS:
            with job.records.attempt(f"the variant {one.name}"):
                sources = write_sources(one, folder / slug(one.name))
                found = commands(one, sources, folder / "build", folder / slug(one.name))
                if len(found) < 2:
                    raise RuntimeError("nothing would be compiled")
        measure(job, VARIANTS[0].name, Path(emulated_module().__file__), VARIANTS[0].operations)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_build_file(folder: Path) -> None:
    """Write the ninja file of a build, for a GPU that need not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    cuda = build_native.Cuda(build_native.find_nvcc(), ("90",))
    build_native.write_ninja(folder, build_native.native_sources(), folder / "_C.so", cuda)


def slug(name: str) -> str:
    """Turn a name into the name of a folder."""
    return re.sub(r"\W+", "_", name)


def write_sources(variant: Variant, folder: Path) -> Path:
    """Copy the sources and change the constants.

    Raises
    ------
    ValueError
        The sources have no such constant.
    """
    sources = folder / "csrc"
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(ROOT / "csrc", sources)
    for file, constant, value in variant.constants:
        path = sources / file
        text, count = re.subn(
            rf"(constexpr int(?:64_t)? {constant} = )[^;]+;", rf"\g<1>{value};", path.read_text()
        )
        if count != 1:
            raise ValueError(
                f"{variant.name}: expected one constant {constant} in csrc/{file}, found {count}: "
                "change VARIANTS in benchmarks/gpu/variants.py as the sources have changed"
            )
        path.write_text(text)
    return sources


def build(variant: Variant, folder: Path, original: Path) -> Path:
    """Build a variant and return its module.

    Parameters
    ----------
    variant
        The variant.
    folder
        The variant is built in a subfolder of this folder.
    original
        Folder of the original build, with its objects.
    """
    target = folder / slug(variant.name)
    sources = write_sources(variant, target)
    *compilations, link = commands(variant, sources, original, target)
    with concurrent.futures.ThreadPoolExecutor(max(1, len(compilations))) as threads:
        for finished in threads.map(_run_shell, compilations, [original] * len(compilations)):
            _check(finished)
    _check(_run_shell(link, original))
    return target / f"_C{build_native.sysconfig.get_config_var('EXT_SUFFIX')}"


def _run_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=False
    )


def _check(finished: subprocess.CompletedProcess[str]) -> None:
    if finished.returncode != 0:
        raise build_native.BuildError((finished.stderr or finished.stdout).strip()[:2000])


def commands(variant: Variant, sources: Path, original: Path, target: Path) -> list[str]:
    """Return the shell commands that build a variant; the last one links it.

    They are ninja's, with other paths for the objects that depend on changed files.
    """
    finished = subprocess.run(
        [build_native.find_ninja(), "-C", str(original), "-t", "compdb"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    entries = json.loads(finished.stdout)
    changed = {file for file, _, _ in variant.constants}
    compilations, replaced = [], {}
    for entry in entries:
        source = Path(entry["file"])
        if source.suffix != ".cu" or not changed & included(source):
            continue
        moved = str(target / f"{source.stem}.o")
        replaced[entry["output"]] = moved
        command = entry["command"].replace(str(ROOT / "csrc"), str(sources))
        compilations.append(command.replace(entry["output"], moved))
    link = next(entry for entry in entries if entry["output"].endswith(".so"))
    command = link["command"]
    for output, moved in replaced.items():
        command = re.sub(rf"(?<!\S){re.escape(output)}(?!\S)", moved, command)
    module = target / f"_C{build_native.sysconfig.get_config_var('EXT_SUFFIX')}"
    return [*compilations, command.replace(link["output"], str(module))]


def included(source: Path) -> set[str]:
    """Return the paths, relative to csrc, of a source and of all headers that it includes."""
    csrc = ROOT / "csrc"
    found: set[str] = set()
    waiting = [str(source.relative_to(csrc))]
    while waiting:
        name = waiting.pop()
        if name in found or not (csrc / name).exists():
            continue
        found.add(name)
        waiting += re.findall(r'#include "([^"]+)"', (csrc / name).read_text())
    return found


def measure(job: Job, name: str, module: Path | None, operations: str) -> None:
    """Time the operations in a process that uses the variant's module."""
    command = [
        *(sys.executable, "-m", WORKER, str(job.folder), name),
        *("--operations", operations),
        *(["--module", str(module)] if module else []),
        *(["--rehearse"] if job.rehearsed else []),
    ]
    status = run_command(command, job.log, min(job.seconds_left - 2, 2 * SECONDS_TO_MEASURE))
    if status != 0:
        reason = "ended at its limit" if status is None else f"exit status {status}"
        job.records.fail(f"the variant {name}", f"{reason}: see {os.path.basename(job.log)}")
