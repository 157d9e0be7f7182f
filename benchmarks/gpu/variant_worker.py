"""Times the operations with another native module; `benchmarks.gpu.variants` starts it."""

import argparse
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from benchmarks.gpu.accuracy import Comparison, crops, phase_ascent, phase_to_image
from benchmarks.gpu.job import Job
from benchmarks.gpu.operations import Meter, crop_parts, phase_parts
from benchmarks.gpu.place import Place, measuring_place
from benchmarks.gpu.records import Records
from benchmarks.gpu.timing import copy_bandwidth
from benchmarks.gpu.work import CROP_FORMATS, make_work, name_of

MODULE = "fvfast._C"


def main() -> int:
    """Check a variant, and time it."""
    parser = argparse.ArgumentParser(description="Times the operations of a variant.")
    parser.add_argument("output", type=Path)
    parser.add_argument("name")
    parser.add_argument("--operations", default="")
    parser.add_argument("--module", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    if options.module is not None and not options.rehearse:
        use_module(options.module)
    records = Records(options.output, "variants")
    job = Job(records, options.output, options.rehearse, False, float("inf"))
    with measuring_place(options.rehearse) as place:
        with records.attempt(options.name):
            check(job, place, options.operations)
        with records.attempt(options.name):
            time_variant(job, place, options.name, options.operations)
    return 1 if records.failures else 0


def use_module(path: Path) -> None:
    """Make a file the native module of this process."""
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(path))
    specification = importlib.util.spec_from_file_location(MODULE, path, loader=loader)
    if specification is None:
        raise ImportError(f"{path} is not an extension module")
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    sys.modules[MODULE] = module


def check(job: Job, place: Place, operations: str) -> None:
    """Compare results with float64: a fast kernel with wrong results is useless."""
    checks = (crops,) if operations == "crop" else (phase_to_image, phase_ascent)
    with place.device:
        for one in checks:
            one(Comparison(job, place, place.sizes[0], seed=3))


def time_variant(job: Job, place: Place, name: str, operations: str) -> None:
    """Time the operations that the variant changes; all operations for the kernels as they are."""
    meter = Meter(place.clock, copy_bandwidth(place.device, place.clock))
    for sizes in place.sizes:
        for dtype, memory_format in CROP_FORMATS:
            work = make_work(sizes, place.device, dtype, memory_format)
            parts = crop_parts(work)
            if dtype == CROP_FORMATS[0][0]:  # the phase has one type
                parts = [*phase_parts(work), *parts]
            title = {"images": sizes.images, "crops are": name_of(dtype, memory_format)}
            for part in parts:
                if operations in part.name and not part.name.startswith("torch."):
                    job.records.add("variant", variant=name, **title, **meter.warm(part))
            place.free_memory()


if __name__ == "__main__":
    sys.exit(main())
