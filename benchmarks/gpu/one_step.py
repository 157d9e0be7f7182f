"""Takes one step around the network in a range that a profiler can be told to watch.

python -m benchmarks.gpu.one_step --images 1 --form 0 [--rehearse]
"""

import argparse

import torch

from benchmarks.gpu.around_network import fvfast_step
from benchmarks.gpu.place import measuring_place
from benchmarks.gpu.work import CROP_FORMATS, make_work


def main() -> None:
    """Take two steps; the second one is in the range."""
    parser = argparse.ArgumentParser(description="Takes one step for a profiler.")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--form", type=int, choices=range(len(CROP_FORMATS)), default=0)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    with measuring_place(options.rehearse) as place:
        sizes = next(one for one in place.sizes if one.images >= options.images)
        work = make_work(sizes, place.device, *CROP_FORMATS[options.form])
        step = fvfast_step(work)
        step()
        place.synchronize()
        if place.is_gpu:
            torch.cuda.profiler.start()
        step()
        place.synchronize()
        if place.is_gpu:
            torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
