"""What a unit of an atlas costs beyond `maco_batch`: encoding, writing, records.

    python -m benchmarks.atlas_costs --units 8 --steps 16

Alternates between the two on one network that is loaded once, and prints seconds, and seconds of
the processor over all threads, which other programs disturb less. What comes on top is the same for
any number of steps.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

from fvfast import Objective, atlas, maco_batch
from fvfast.models import load_model


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return seconds, and seconds of the processor, that a function takes."""
    wall, processor = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--layer", default="_blocks.4")
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    loaded = load_model(asked.model)
    units = list(range(asked.units))
    plan = atlas.make_plan(
        asked.model, [atlas.LayerUnits(asked.layer, units)], loaded=loaded, nb_steps=asked.steps
    )
    worker = atlas.Worker(plan, loaded=loaded, device="cpu")
    batches = []

    def alone() -> None:
        objective = Objective.channel(
            loaded.model, asked.layer, units,
            input_shape=loaded.input_shape, preprocess=loaded.preprocess,
        )  # fmt: skip
        maco_batch(
            objective, preset="fast", nb_steps=asked.steps, values_range=loaded.values_range,
            progress=False, on_result=batches.append, keep=False,
        )  # fmt: skip
        batches.clear()

    def drawn() -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = atlas.Place(folder)
            atlas.begin(plan, place)
            for number in range(plan.shard_count):
                atlas.run_shard(plan, number, place, worker=worker)

    for act in (alone, drawn):
        act()  # chooses the form, and warms up
    rows = [(*timed(alone), *timed(drawn)) for _ in range(asked.rounds)]
    for name, first in (("seconds", 0), ("processor seconds", 1)):
        before = statistics.median(row[first] for row in rows) / asked.units
        after = statistics.median(row[first + 2] for row in rows) / asked.units
        print(
            f"{name} per unit, {asked.steps} steps: maco_batch {before:.3f}, atlas {after:.3f}, "
            f"{1000 * (after - before):.0f} ms more ({after / before:.3f} times)"
        )


if __name__ == "__main__":
    main()
