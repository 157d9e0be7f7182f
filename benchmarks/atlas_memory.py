"""Memory of the driver and of a worker over thousands of tiny units: it does not grow.

    python -m benchmarks.atlas_memory --units 2000

Draws an atlas with one worker process, and prints the resident memory of both while it goes on.
"""

import argparse
import os
import tempfile
import threading
from pathlib import Path

import torch
from torch import nn

from fvfast import atlas
from fvfast.atlas.events import Event, UnitDrawn

_MOST = 20_000


def wide() -> nn.Module:
    """Return a network with `_MOST` neurons."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(3 * 8 * 8, _MOST))
    network.input_shape = (3, 32, 32)  # type: ignore[assignment]
    return network.eval()


def resident(process: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Watch:
    """Notes the memory of this process and of its worker after every so many units."""

    def __init__(self, every: int) -> None:
        self.rows: list[tuple[int, float, float]] = []
        self._every = every
        self._units = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count a unit."""
        if not isinstance(event, UnitDrawn):
            return
        with self._lock:
            self._units += 1
            if self._units % self._every == 0:
                self.rows.append((self._units, resident(os.getpid()), resident(_worker())))


def _worker() -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            continue
        if parent == os.getpid() and b"spawn_main" in line:
            return int(folder.name)
    raise RuntimeError("there is no worker")


def main() -> None:
    """Draw, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=2000)
    asked = parser.parse_args()
    plan = atlas.make_plan(
        "benchmarks.atlas_memory:wide", [atlas.LayerUnits("2", range(asked.units))],
        nb_steps=2, nb_crops=1, custom_shape=48, shard_size=64, batch_size=16,
    )  # fmt: skip
    watch = Watch(max(1, asked.units // 10))
    with tempfile.TemporaryDirectory() as folder:
        executor = atlas.Processes(1)
        atlas.draw_atlas(plan, atlas.Place(folder), executor=executor, report=watch)
    print("units   driver MB   worker MB")
    for units, driver, worker in watch.rows:
        print(f"{units:5d} {driver:11.1f} {worker:11.1f}")


if __name__ == "__main__":
    main()
