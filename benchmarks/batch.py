"""Times many units in one batch against one after another, and how much the network gains by it.

Run with ``python -m benchmarks.batch``: channels of a layer of EfficientNet-Lite0 with ImageNet
weights are drawn by `fvfast.maco_batch` and by one `fvfast.maco` each, in turns of a few channels.
Then the network alone is run forward and back on different numbers of views at once. If a view
takes the same time in passes of any size, a batch only saves what is done once per run.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from benchmarks.harness import alternating_medians, machine, save_row
from fvfast import Objective, maco, maco_batch
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.memory import reused_memory
from fvfast.engine.rewrite.plan import make_plan
from fvfast.engine.starting import running_engine
from fvfast.models import LoadedModel, load_model

NETWORK = "efficientnet_lite0"
VIEWS = (1, 4, 16, 64)


def channels_of(loaded: LoadedModel, layer: str, ids: list[int]) -> Objective:
    """Make an objective for some channels."""
    return Objective.channel(loaded.model, layer, ids, input_shape=loaded.input_shape)


def seconds_per_view(loaded: LoadedModel, layer: str, rounds: int) -> dict[int, float]:
    """Measure seconds per view, forward and back, of the network alone, for each size of a pass."""
    objective = channels_of(loaded, layer, [0])
    tapped, scorer, names, _ = objective.compile()
    all_views = torch.rand(max(VIEWS), *loaded.input_shape) * 2 - 1
    with borrowed(loaded.model), reused_memory():
        plan = make_plan(tapped, scorer, all_views, names[0], None)
        with running_engine(tapped, plan, lambda _first, _last: scorer, names[0]) as engine:
            passes = {
                str(count): lambda views=all_views[:count]: engine.gradients(views, 1)
                for count in VIEWS
            }
            medians = alternating_medians(passes, rounds=rounds, warm_up=1)
    return {count: medians[str(count)] / count for count in VIEWS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", default="_blocks.10")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--turn", type=int, default=8, help="channels per turn")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--crops", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7, help="for the network alone")
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    arguments = parser.parse_args()
    loaded = load_model(NETWORK)
    settings: dict[str, Any] = {
        "nb_steps": arguments.steps,
        "nb_crops": arguments.crops,
        "values_range": loaded.values_range,
        "progress": False,
    }
    maco(channels_of(loaded, arguments.layer, [0]), **settings)  # sets up what first use needs
    single: list[float] = []
    batch: list[float] = []
    largest = 0.0
    for first in range(0, arguments.channels, arguments.turn):
        ids = list(range(first, min(first + arguments.turn, arguments.channels)))
        start = time.perf_counter()
        alone = [maco(channels_of(loaded, arguments.layer, [i]), **settings)[0] for i in ids]
        middle = time.perf_counter()
        together = maco_batch(channels_of(loaded, arguments.layer, ids), **settings).images
        single.append((middle - start) / len(ids))
        batch.append((time.perf_counter() - middle) / len(ids))
        difference = (together - torch.stack(alone)).abs().amax() / together.abs().amax()
        largest = max(largest, float(difference))
        print(
            f"channels {ids[0]} to {ids[-1]}: alone {single[-1]:.2f} s, batch {batch[-1]:.2f} s "
            f"each; largest difference of pictures {difference:.1e}",
            flush=True,
        )
    ratio = statistics.median(b / s for s, b in zip(single, batch, strict=True))
    print(f"batch / alone: {ratio:.2f} (median over the turns)")
    views = seconds_per_view(loaded, arguments.layer, arguments.rounds)
    for count, seconds in views.items():
        print(f"network alone, {count} views at once: {1e3 * seconds:.1f} ms per view")
    if not arguments.no_save:
        path = save_row(
            "batch",
            {
                **machine(),
                "network": NETWORK,
                "layer": arguments.layer,
                "channels": arguments.channels,
                "steps": arguments.steps,
                "crops": arguments.crops,
                "alone_s": round(statistics.median(single), 3),
                "batch_s": round(statistics.median(batch), 3),
                "batch_over_alone": round(ratio, 3),
                "largest_difference": float(f"{largest:.2g}"),
                **{f"view_ms_of_{count}": round(1e3 * s, 2) for count, s in views.items()},
            },
        )
        print(f"written to {path}")


if __name__ == "__main__":
    main()
