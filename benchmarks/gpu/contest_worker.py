"""A contestant's worker with its network on the GPU; `benchmarks.gpu.contest` starts it.

    python -m benchmarks.gpu.contest_worker benchmarks.peers.horama_worker [arguments]

The workers of `benchmarks.peers` are written for the processor. What is different here: where the
network lies, and Horama's own argument for that; the device is waited for at the end of a turn,
before the clock is read, and never between two of its steps; and the memory is that of the device.
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
    """Let a function that builds a network put it on the GPU."""

    def build_there(scene: Scene) -> nn.Module:
        network = build(scene).to(DEVICE)
        if next(network.parameters(), None) is None:
            # Libraries run where the network's parameters are: one without any gets one.
            network.register_parameter("place", nn.Parameter(torch.zeros(1, device=DEVICE)))
        return network

    return build_there


def adapt(worker: Any) -> None:
    """Change a worker's module."""
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
