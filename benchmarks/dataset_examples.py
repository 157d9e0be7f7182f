"""Times `fvfast.atlas.examples.dataset_examples` against its network alone, and follows its memory.

    python -m benchmarks.dataset_examples FOLDER    (see benchmarks.photographs)

All run the same images in the same batches within one process, in turns: the network alone, with
images in memory; the examples, of images in memory and of their files. What counts is the
processor's time of all threads, with one thread for the network: other programs on the machine
hardly change it. The last layer should be among those that are read, because the network runs no
further than it must. Memory is that of the process while 5,000 small images go through a small
network.
"""

import argparse
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import machine, save_row
from fvfast.atlas.examples import dataset_examples
from fvfast.atlas.examples.reading import image_batches
from fvfast.atlas.examples.sources import image_source
from fvfast.models import LoadedModel, load_model

_MEBIBYTE = 2**20


def processor_seconds(function: Callable[[], object]) -> float:
    """Return the processor's time of all threads in one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(
    loaded: LoadedModel, folder: Path, layers: list[str], batch_size: int, turns: int
) -> dict[str, float]:
    """Return what an image takes, in processor times of the network alone, and what a call does.

    Each is the difference between many images and few, so that what a call takes besides the images
    does not count; of several turns the least counts, which other programs have changed least.
    """
    few, many = batch_size, 5 * batch_size
    paths = sorted(folder.rglob("*.jpg"))[:: max(1, len(list(folder.rglob("*.jpg"))) // many)]
    files = [(path, None, path.name) for path in paths[:many]]
    with image_batches(image_source(files), loaded.input_shape, batch_size) as batches:
        decoded = [batch.pixels for batch in batches]
    in_memory = [image.permute(1, 2, 0).numpy() for pixels in decoded for image in pixels]
    low, high = loaded.values_range

    def alone(count: int) -> None:
        with torch.no_grad():
            for pixels in decoded[: count // batch_size]:
                loaded.model(low + pixels.float() * ((high - low) / 255))

    def examples(images: list[Any], count: int) -> None:
        dataset_examples(loaded, layers, images[:count], batch_size=batch_size, progress=False)

    runs: dict[str, Callable[[int], None]] = {
        "network": alone,
        "in_memory": functools.partial(examples, in_memory),
        "of_files": functools.partial(examples, files),
    }
    least = {(name, count): math.inf for name in runs for count in (few, many)}
    for _ in range(turns):
        for (name, count), seconds in least.items():
            run = functools.partial(runs[name], count)
            least[name, count] = min(seconds, processor_seconds(run))
    each = {name: (least[name, many] - least[name, few]) / (many - few) for name in runs}
    return {
        "network_ms": round(1e3 * each["network"], 2),
        "in_memory": round(each["in_memory"] / each["network"], 3),
        "of_files": round(each["of_files"] / each["network"], 3),
        "call_s": round(least["in_memory", few] - few * each["in_memory"], 2),
    }


def resident_bytes() -> int:
    """Memory of this process, from Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


class _Images:
    """Small images that are made when they are asked for; notes the memory every 500 of them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.memory: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        generator = np.random.default_rng(0)
        for number in range(self._count):
            if number % 500 == 0:
                self.memory.append(resident_bytes())
            yield generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def follow_memory(count: int = 5000) -> list[int]:
    """Return the MiB of the process after every 500 images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.Conv2d(64, 256, 3)).eval()
    images = _Images(count)
    dataset_examples(model, ["1", "2"], images, input_shape=(3, 64, 64), progress=False)
    steps = [round(one / _MEBIBYTE) for one in images.memory]
    print(f"MiB after every 500 of {count} images: {', '.join(map(str, steps))}")
    return steps


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--layers", nargs="+", default=["_blocks.5", "_blocks.10", "_fc"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    memory = follow_memory()
    torch.set_num_threads(1)
    loaded = load_model(options.network)
    found = measure(loaded, options.folder, options.layers, options.batch_size, options.turns)
    row: dict[str, str | int | float] = {
        **machine(),
        "network": loaded.name,
        "layers": " ".join(options.layers),
        "batch_size": options.batch_size,
        "turns": options.turns,
        **found,
        "mebibytes_after_1000": memory[2],
        "most_mebibytes": max(memory),
    }
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    print(f"written to {save_row('dataset_examples', row)}")


if __name__ == "__main__":
    main()
