"""Times a pass through a network, forward and back: as it is, in its form, and compiled.

Run with ``python -m benchmarks.compiled``; compiling takes a minute or more for each network. The
three take turns in one process, on the same views. The form is what a run without ``compile=``
chooses; the last layer is read.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch._inductor.config

from benchmarks.harness import alternating_medians, machine, save_row
from benchmarks.stopwatch import Stopwatch
from fvfast import Objective
from fvfast.engine.agreement import random_like
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.compiled.compiler import compile_network
from fvfast.engine.compiled.inductor import inductor
from fvfast.engine.memory import reused_memory
from fvfast.engine.passes import Network
from fvfast.engine.rewrite.plan import Planner
from fvfast.models import load_model

NETWORKS = (
    "efficientnet_lite0",
    "torchvision:mobilenet_v2?weights=none",
    "torchvision:resnet50?weights=none",
)


def _pass(network: Network, views: torch.Tensor) -> Callable[[], object]:
    """Return a function that runs a network forward and back."""
    leaf = views.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.enable_grad():
        cotangents = [random_like(output) for output in network(leaf)]

    def run() -> object:
        with torch.enable_grad():
            return torch.autograd.grad(network(leaf), leaf, cotangents)

    return run


def measure(name: str, count: int, rounds: int) -> dict[str, str | int | float]:
    """Measure the three passes of a network.

    Parameters
    ----------
    name
        Of the network, as the command line takes it.
    count
        How many views run at once.
    rounds
        How many passes of each count.
    """
    loaded = load_model(name)
    torch.manual_seed(0)
    views = torch.rand(count, *loaded.input_shape)
    objective = Objective.layer(
        loaded.model, -1, input_shape=loaded.input_shape, preprocess=loaded.preprocess
    )
    with torch.inference_mode(False), borrowed(loaded.model), reused_memory():
        tapped, scorer, names, _ = objective.compile()
        plan, running = Planner(tapped, scorer, views, names[0]).plan(None)
        fed = plan.form.feed(views)

        def own(images: torch.Tensor) -> list[torch.Tensor]:
            return tapped(images)

        def in_form(images: torch.Tensor) -> list[torch.Tensor]:
            with running.context(images.device):
                return tapped(images)

        start = time.perf_counter()
        compiled = compile_network(own, fed, inductor)
        compiling = time.perf_counter() - start
        passes = {
            "own": _pass(own, views),
            "form": _pass(in_form, fed),
            "compiled": _pass(compiled, fed),
        }
        watch = Stopwatch()
        watch.start()
        seconds = alternating_medians(passes, rounds=rounds, warm_up=2)
        watch.stop()
        # Of all threads together; other busy programs hardly change it.
        busy = alternating_medians(passes, rounds=rounds, warm_up=0, clock=time.process_time)
    return {
        **machine(),
        "network": name,
        "views": count,
        "model_size": loaded.input_shape[-1],
        "form": str(plan.form),
        "rounds": rounds,
        **{f"{kind}_ms": round(1e3 * taken, 1) for kind, taken in seconds.items()},
        **{f"{kind}_cpu_ms": round(1e3 * taken, 1) for kind, taken in busy.items()},
        "form_by_compiled": round(seconds["form"] / seconds["compiled"], 3),
        "compiling_s": round(compiling, 1),
        "other_load_percent": watch.other_load_percent(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--views", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-save", action="store_true", help="write no CSV file")
    arguments = parser.parse_args()
    # So that compiling takes as long as the first time on a machine.
    torch._inductor.config.force_disable_caches = True
    for network in arguments.networks:
        for count in arguments.views:
            row = measure(network, count, arguments.rounds)
            print(
                f"{network}, {count} views: as it is {row['own_ms']} ms, {row['form']} "
                f"{row['form_ms']} ms, compiled {row['compiled_ms']} ms; of processor time "
                f"{row['own_cpu_ms']}, {row['form_cpu_ms']} and {row['compiled_cpu_ms']} ms; "
                f"compiling took {row['compiling_s']} s; other load {row['other_load_percent']} %",
                flush=True,
            )
            if not arguments.no_save:
                save_row("compiled", row)


if __name__ == "__main__":
    main()
