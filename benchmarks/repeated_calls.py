"""Measures how much time it saves that a network keeps its form between calls of `maco`.

Run with ``python -m benchmarks.repeated_calls``. One process draws pictures in turns: with a new
form (after `fvfast.engine.clear`), and with the form that the call before has left.
"""

import argparse
import statistics
import time

import torch

import fvfast.engine
from benchmarks.harness import machine, save_row
from benchmarks.stopwatch import Stopwatch
from fvfast import Objective, maco
from fvfast.models import LoadedModel, load_model


def seconds(loaded: LoadedModel, unit: int, steps: int) -> float:
    """Draw one unit of the last layer and return how long it took."""
    start = time.perf_counter()
    objective = Objective.neuron(
        loaded.model, -1, unit, input_shape=loaded.input_shape, preprocess=loaded.preprocess
    )
    maco(objective, preset="fast", nb_steps=steps, values_range=loaded.values_range, progress=False)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--networks", nargs="+", default=["efficientnet_lite0", "torchvision:resnet50?weights=none"]
    )
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    arguments = parser.parse_args()
    for network in arguments.networks:
        loaded = load_model(network)
        seconds(loaded, 0, 1)  # sets up what first use needs
        watch = Stopwatch()
        anew, kept = [], []
        watch.start()
        for unit in range(arguments.rounds):
            fvfast.engine.clear()
            anew.append(seconds(loaded, unit, arguments.steps))
            kept.append(seconds(loaded, unit, arguments.steps))
        watch.stop()
        row = {
            **machine(),
            "network": network,
            "steps": arguments.steps,
            "rounds": arguments.rounds,
            "seconds anew": round(statistics.median(anew), 3),
            "seconds kept": round(statistics.median(kept), 3),
            "median of differences": round(
                statistics.median(a - k for a, k in zip(anew, kept, strict=True)), 3
            ),
            "other_load_percent": watch.other_load_percent(),
        }
        print(", ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
        if not arguments.no_save:
            save_row("repeated_calls", row)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
