"""What a process on a GPU can still do after the capture of a CUDA graph has failed.

tests/test_gpu.py runs this in a separate process, because torch does not fully recover.
"""

import os
import warnings

import torch
from torch import nn

from fvfast import Objective, maco
from fvfast.engine.captures import CAPTURES
from fvfast.engine.passes import Passes

INPUT = (3, 20, 20)


class WaitsUnseen(nn.Module):
    """Waits for the GPU where no rehearsal sees it, and breaks every capture."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        # Before the network: what comes after the layer that is read does not run.
        torch.cuda.synchronize()
        return self.network(x)


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()


def scores_of(model):
    scores = []
    maco(
        # The name of the layer, and so that of the picture, is another inside another module.
        Objective.neuron(model, -1, 3, input_shape=INPUT, names=["unit"]),
        nb_steps=8,
        nb_crops=4,
        custom_shape=(48, 40),
        device="cuda",
        callback=lambda report: scores.append(report.scores),
        progress=False,
    )
    return torch.cat(scores).cpu()


def assert_close(actual, expected):
    difference = (actual - expected).norm() / expected.norm()
    assert difference < 1e-4, difference


def recover_from_too_little_memory():
    """Run a pass whose first try asks for more memory than there is."""

    def network(views):
        if len(views) > 2:
            torch.empty(2**50, dtype=torch.uint8, device="cuda")
        return [views.flatten(1)]

    passes = Passes(lambda _first, _last: lambda outputs: outputs[0].square().sum(1), "name")
    views = torch.randn(4, *INPUT, device="cuda")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores, gradient = passes.run(network, views, len(views))
    assert any("going on with 2" in str(warning.message) for warning in caught)
    assert_close(scores, views.flatten(1).square().sum(1))
    assert_close(gradient, 2 * views)


def main():
    network = make_network()
    os.environ["FVFAST_CUDA_GRAPH"] = "0"
    expected = scores_of(network)
    del os.environ["FVFAST_CUDA_GRAPH"]
    stream, mode = torch.cuda.current_stream(), torch.cuda.get_sync_debug_mode()

    recover_from_too_little_memory()
    assert_close(scores_of(network), expected)
    assert CAPTURES.failure == ""
    assert_close(scores_of(WaitsUnseen(network).eval()), expected)
    assert CAPTURES.failure, "this must break a capture, or it shows nothing"
    failure = CAPTURES.failure
    assert torch.cuda.current_stream() == stream
    assert torch.cuda.get_sync_debug_mode() == mode
    assert torch.rand(1000, device="cuda").std() > 0.1
    recover_from_too_little_memory()
    assert_close(scores_of(network), expected)
    assert CAPTURES.failure == failure
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
