"""Times `fvfast.atlas.examples.dataset_examples` against its network alone, and follows its memory.

    python -m benchmarks.dataset_examples FOLDER    (see benchmarks.photographs)

All run the same images in the same batches within one process, in turns: the network alone, with
images in memory; the examples, of images in memory and of their files. Besides the time that
passed, the processor's time of all threads counts, which other programs on the machine change less.
Memory is that of the process while 5,000 small images go through a small network.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.harness import machine, save_row
from fvfast.atlas.examples import dataset_examples
from fvfast.atlas.examples.reading import image_batches
from fvfast.atlas.examples.sources import image_source
from fvfast.models import LoadedModel, load_model

_MEBIBYTE = 2**20


class Seconds(NamedTuple):
    """Time that something took."""

    passed: float
    processor: float


def timed(function: Any) -> Seconds:
    """Call a function and return how long it took."""
    passed, processor = time.perf_counter(), time.process_time()
    function()
    return Seconds(time.perf_counter() - passed, time.process_time() - processor)


def measure(
    loaded: LoadedModel,
    folder: Path,
    layers: list[str],
    batch_size: int,
    turns: int,
    memory: list[int],
) -> None:
    """Print and write the median ratios to the network alone, with the memory beside them."""
    with image_batches(image_source(folder), loaded.input_shape, batch_size) as batches:
        decoded = [batch.pixels for batch in batches]
    low, high = loaded.values_range

    def alone() -> None:
        with torch.no_grad():
            for pixels in decoded:
                loaded.model(low + pixels.float() * ((high - low) / 255))

    def examples(images: Any) -> None:
        dataset_examples(loaded, layers, images, batch_size=batch_size, progress=False)

    in_memory = [image.permute(1, 2, 0).numpy() for pixels in decoded for image in pixels]
    sources = {"in memory": in_memory, "of files": folder}
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    print(f"{len(layers)} layers, {len(in_memory)} images, batches of {batch_size}")
    alone()
    for _ in range(turns):
        bare = timed(alone)
        print(f"network alone: {len(in_memory) / bare.passed:.1f} images/s", flush=True)
        for name, images in sources.items():
            whole = timed(functools.partial(examples, images))
            ratios[name].append((whole.passed / bare.passed, whole.processor / bare.processor))
    row: dict[str, str | int | float] = {
        **machine(),
        "network": loaded.name,
        "layers": " ".join(layers),
        "images": len(in_memory),
        "batch_size": batch_size,
        "turns": turns,
    }
    for name, pairs in ratios.items():
        for what, column in zip(("time", "processor_time"), zip(*pairs, strict=True), strict=True):
            row[f"{name.replace(' ', '_')}_{what}"] = round(statistics.median(column), 3)
            print(f"examples {name}: {statistics.median(column):.3f} times the network's {what}")
    row["mebibytes_after_1000"], row["most_mebibytes"] = memory[2], max(memory)
    print(f"written to {save_row('dataset_examples', row)}")


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
    parser.add_argument("--layers", nargs="+", default=["_blocks.5", "_blocks.10"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    memory = follow_memory()
    measure(
        load_model(options.network),
        options.folder,
        options.layers,
        options.batch_size,
        options.turns,
        memory,
    )


if __name__ == "__main__":
    main()
