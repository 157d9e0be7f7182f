"""An atlas of 50,000 units by 64 workers of Ray that draw nothing: what all the rest costs.

    python -m benchmarks.atlas_simulation --units 50000 --workers 64

Workers, driver, records and the place are the real ones; in place of drawing, a worker pauses and
returns a small gray picture. Some batches kill their worker, and a few units always fail. The
driver's memory, its processor time and the units written are noted while it goes on. At the end all
units have to be there, or set aside, and every file has to be the one that its record describes.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from benchmarks.atlas_memory import resident
from fvfast import atlas
from fvfast.atlas.events import AttemptFailed, Event, Note, UnitDrawn
from fvfast.atlas.executors.messages import Ready
from fvfast.atlas.executors.ray_worker import RayWorker
from fvfast.atlas.plan import Shard
from fvfast.atlas.worker import Drawn

MOST = 100_000
SIZE = 8
FAILING_EVERY = 5000
"""One unit of so many fails whenever it is drawn."""
DEATHS = "FVFAST_SIMULATED_DEATHS"
PAUSE = "FVFAST_SIMULATED_PAUSE"
RESULTS = Path(__file__).parent / "results" / "atlas_simulation.csv"


def wide() -> nn.Module:
    """Return a network with `MOST` neurons, which nobody runs."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3 * 4, MOST))
    network.input_shape = (3, 64, 64)  # type: ignore[assignment]
    return network.eval()


class IdleWorker:
    """Takes the place of `fvfast.atlas.Worker`."""

    device = "none"
    must_fit = False
    values_range = (-1.0, 1.0)

    def __init__(self) -> None:
        self.batch_size = 8
        self._random = random.Random()

    def draw(self, shard: Shard, indices: Sequence[int]) -> Drawn:
        """Pause, die, fail, or return gray pictures."""
        del shard
        if self._random.random() < float(os.environ[DEATHS]):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(index % FAILING_EVERY == FAILING_EVERY // 2 for index in indices):
            raise RuntimeError("this unit always fails")
        time.sleep(float(os.environ[PAUSE]))
        images = torch.zeros(len(indices), 3, SIZE, SIZE)
        return Drawn(images, images.abs() + 1, torch.ones(len(indices), 2), 0.0)

    def free_memory(self) -> None:
        """There is none."""


class IdleActor(RayWorker):
    """An actor whose worker draws nothing."""

    def load(self) -> Ready:
        """Load no network."""
        self._plan = self._job.read_plan()
        self._place = self._job.open_place(print)
        self._worker = IdleWorker()  # type: ignore[assignment]
        return Ready()


class Watch:
    """Notes how far the atlas is, and what the driver needs for it."""

    def __init__(self, units: int) -> None:
        self.rows: list[tuple[int, float, float, float]] = []
        self.deaths = self.set_aside = 0
        self._every = max(1, units // 20)
        self._units = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count what has happened."""
        with self._lock:
            if isinstance(event, Note):
                self.deaths += "has died" in event.text
            elif isinstance(event, AttemptFailed):
                self.set_aside += event.is_set_aside
            elif isinstance(event, UnitDrawn):
                self._units += 1
                if self._units == 1:
                    self._began = time.monotonic()
                if self._units % self._every == 0:
                    self._note()

    def _note(self) -> None:
        seconds = time.monotonic() - self._began
        row = self._units, seconds, resident(os.getpid()), time.process_time()
        self.rows.append(row)
        print("{:7d} units {:7.1f} s   driver {:7.1f} MB {:7.1f} s of processor".format(*row))


def main() -> int:
    """Simulate an atlas; the exit status says whether it is whole."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--deaths", type=float, default=0.002, help="share of batches that kill")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of a batch")
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary one")
    parser.add_argument("--shard-size", type=int, default=64)
    asked = parser.parse_args()
    os.environ.update({DEATHS: str(asked.deaths), PAUSE: str(asked.pause)})
    plan = atlas.make_plan(
        "benchmarks.atlas_simulation:wide", [atlas.LayerUnits("2", range(asked.units))],
        nb_steps=2, nb_crops=1, custom_shape=SIZE, shard_size=asked.shard_size,
    )  # fmt: skip
    watch = Watch(asked.units)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        place = atlas.Place(folder)
        began = time.monotonic()
        executor = atlas.RayActors(workers=asked.workers, actor=IdleActor)
        status = atlas.draw_atlas(plan, place, executor=executor, report=watch)
        seconds = time.monotonic() - began
        looked = time.monotonic()
        atlas.read_status(place, plan)
        status_seconds = time.monotonic() - looked
        wrong = atlas.verify(place).wrong
    failing = len(range(FAILING_EVERY // 2, asked.units, FAILING_EVERY))
    missing = sum(len(layer.missing) for layer in status.layers)
    aside = sum(len(layer.set_aside) for layer in status.layers)
    print(
        f"{asked.units} units in {seconds:.0f} s with the start of {asked.workers} workers, "
        f"{watch.deaths} of which died: {missing} missing, {aside} set aside ({failing} always "
        f"fail), {len(wrong)} wrong; the status takes {status_seconds:.1f} s"
    )
    write(asked, watch)
    return 0 if not missing and aside == failing and not wrong and watch.deaths else 1


def write(asked: argparse.Namespace, watch: Watch) -> None:
    """Write what was noted."""
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["workers", "units", "seconds", "units_per_second", "driver_mb", "driver_cpu_seconds"]
        )
        for units, seconds, megabytes, processor in watch.rows:
            rate = units / seconds if seconds else 0.0
            writer.writerow(
                [asked.workers, units, f"{seconds:.1f}", f"{rate:.1f}", f"{megabytes:.1f}",
                 f"{processor:.1f}"]
            )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
