"""What `fvfast info` says of CUDA graphs and float32."""

import pytest
import torch
from engine.cuda_stand_in import CudaStandIn
from engine.passes_to_capture import INPUT, views_of
from engine.recorded_steps import StepRecorder
from torch import nn

from fvfast import Objective
from fvfast.cli.network import describe_float32, describe_graph, describe_steps
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.exact_float32 import exact_float32
from fvfast.engine.graphs.cuda_graph import CudaGraphs
from fvfast.engine.rewrite.kept_forms import FormStore
from fvfast.engine.rewrite.plan import Plan
from fvfast.models import LoadedModel


def described(network, gpu):
    """What info says of a network that becomes one on a GPU."""
    objective = Objective.layer(network, -1, input_shape=INPUT)
    with gpu.installed(), borrowed(network):
        tapped, scorer, (name,), _ = objective.compile()  # its targets are there too
        return describe_graph(tapped, Plan(), scorer, views_of(0), name)


def test_what_info_says(network, monkeypatch):
    assert described(network, CudaStandIn((2, 14))) == "replayed from a CUDA graph"
    monkeypatch.setenv("FVFAST_CUDA_GRAPH", "0")
    assert "FVFAST_CUDA_GRAPH=0" in described(network, CudaStandIn((2, 14)))


def test_what_info_says_of_a_network_that_waits(network):
    gpu = CudaStandIn((2, 14))

    class Waits(nn.Module):
        def forward(self, x):
            gpu.wait()
            return x

    assert described(nn.Sequential(*network, Waits()).eval(), gpu) == (
        "without a CUDA graph: called a synchronizing CUDA operation"
    )


@pytest.mark.parametrize(
    ("why_not", "expected"),
    [
        ("", "replayed from a CUDA graph, two at once"),
        (
            "hooks on its modules want Python in every pass",
            "one by one, and passes without a CUDA graph: hooks on its modules want Python in "
            "every pass",
        ),
    ],
)
def test_what_info_says_of_steps(network, why_not, expected):
    graphs = CudaGraphs(why_not=lambda *_, **__: why_not, capture_steps=StepRecorder())
    loaded = LoadedModel(network, "network", INPUT)
    objective = Objective.layer(network, -1, input_shape=INPUT)
    said = describe_steps(objective, loaded, torch.device("cpu"), None, FormStore(graphs))
    assert said == expected


def test_what_info_says_of_float32():
    assert describe_float32() == "convolutions may use TF32, matrices without TF32"
    with exact_float32():
        assert describe_float32() == "convolutions without TF32, matrices without TF32"
