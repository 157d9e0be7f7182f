"""Times a step of `fvfast.maco` against the network alone, in turns within one run.

Run with ``python -m benchmarks.overhead``. Two processes with the same network differ by several
percent, depending on where their memory happens to lie. So both are timed within one run: after
each step, the run's own engine takes the same number of views forward and back once more, and
nothing else. The overhead is the median step divided by the median of these passes.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

from benchmarks.harness import machine, save_row
from benchmarks.peers.fvfast_worker import make_objective, settings_of
from benchmarks.peers.scene import Scene
from benchmarks.peers.torch_networks import build_network
from benchmarks.stopwatch import Stopwatch
from fvfast import maco
from fvfast.engine.engine import Engine
from fvfast.engine.starting import kept_engine
from fvfast.run import run
from fvfast.run.loop import StepReport

WARM_UP = 3  # steps that are not counted


def measure(scene: Scene, steps: int) -> tuple[list[float], list[float]]:
    """Measure the seconds of each step and of each pass of the network alone.

    Parameters
    ----------
    scene
        Network, sizes, crops and threads.
    steps
        Number of steps that count.
    """
    engines: list[Engine] = []

    @contextlib.contextmanager
    def watched(*arguments: Any, **settings: Any) -> Iterator[Engine]:
        with kept_engine(*arguments, **settings) as engine:
            engines.append(engine)
            yield engine

    step_seconds: list[float] = []
    pass_seconds: list[float] = []
    low, high = scene.values_range
    shape = (scene.crops, 3, scene.model_size, scene.model_size)
    views = low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    began = 0.0

    def after_a_step(report: StepReport) -> None:
        nonlocal began, views
        now = time.perf_counter()
        engine = engines[0]
        views = views.to(engine.views_dtype).contiguous(memory_format=engine.views_format)
        counts = report.step >= WARM_UP
        if counts:
            step_seconds.append(now - began)
        start = time.perf_counter()
        engine.gradients(views, 1)
        if counts:
            pass_seconds.append(time.perf_counter() - start)
        began = time.perf_counter()

    with mock.patch.object(run, "kept_engine", watched):
        maco(
            make_objective(scene, build_network(scene)),
            nb_steps=WARM_UP + steps,
            **settings_of(scene),
            callback=after_a_step,
        )
    return step_seconds, pass_seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v2", "resnet50"])
    parser.add_argument("--steps", type=int, default=21)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    arguments = parser.parse_args()
    for network in arguments.networks:
        scene = Scene(network=network, threads=arguments.threads)
        watch = Stopwatch()
        watch.start()
        steps, passes = measure(scene, arguments.steps)
        watch.stop()
        step, alone = statistics.median(steps), statistics.median(passes)
        print(
            f"{network}: step {1e3 * step:.1f} ms, network alone {1e3 * alone:.1f} ms: "
            f"{step / alone:.3f} times; fastest {1e3 * min(steps):.1f} and {1e3 * min(passes):.1f}:"
            f" {min(steps) / min(passes):.3f} times; other load {watch.other_load_percent()} %",
            flush=True,
        )
        if not arguments.no_save:
            path = save_row(
                "overhead",
                {
                    **machine(),
                    "network": network,
                    "image_size": scene.image_size,
                    "model_size": scene.model_size,
                    "crops": scene.crops,
                    "steps": arguments.steps,
                    "step_ms": round(1e3 * step, 2),
                    "network_ms": round(1e3 * alone, 2),
                    "overhead": round(step / alone, 4),
                    "fastest_step_ms": round(1e3 * min(steps), 2),
                    "fastest_network_ms": round(1e3 * min(passes), 2),
                    "other_load_percent": watch.other_load_percent(),
                },
            )
            print(f"written to {path}")


if __name__ == "__main__":
    main()
