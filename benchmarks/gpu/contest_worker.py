"""A contestant's worker with its network on the GPU; `benchmarks.gpu.contest` starts it.

    python -m benchmarks.gpu.contest_worker benchmarks.peers.horama_worker [arguments]

The workers of `benchmarks.peers` are written for the CPU. Here the network is on the GPU, and
Horama gets its argument for that; the worker waits for the device at the end of a turn, before the
clock is read, but not between two steps; and the memory measured is the device's.
"""

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.peers.gate import serve
from benchmarks.peers.scene import Scene

DEVICE = "cuda"


def on_gpu(build: Callable[[Scene], nn.Module]) -> Callable[[Scene], nn.Module]:
    """Wrap a function that builds a network so that the network is on the GPU."""

    def build_there(scene: Scene) -> nn.Module:
        network = build(scene).to(DEVICE)
        if next(network.parameters(), None) is None:
            # Libraries run where the network's parameters are, so there has to be one.
            network.register_parameter("place", nn.Parameter(torch.zeros(1, device=DEVICE)))
        return network

    return build_there


def adapt(worker: Any) -> None:
    """Change a worker's module so that it runs on the GPU."""
    worker.build_network = on_gpu(worker.build_network)
    if hasattr(worker, "horama"):
        maco = worker.horama.maco
        worker.horama.maco = lambda *args, **named: maco(*args, **{**named, "device": DEVICE})


def device_memory() -> types.SimpleNamespace:
    """Return the functions of `benchmarks.peers.memory`, for the device."""
    return types.SimpleNamespace(
        current=torch.cuda.memory_allocated,
        peak=torch.cuda.max_memory_allocated,
        reset_peak=torch.cuda.reset_peak_memory_stats,
        return_free_memory=torch.cuda.empty_cache,
    )


def main() -> None:
    worker = importlib.import_module(sys.argv.pop(1))
    adapt(worker)
    serve(worker.prepare, finish_work=torch.cuda.synchronize, memory=device_memory())


if __name__ == "__main__":
    main()
