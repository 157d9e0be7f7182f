"""Counts the bytes that epilogues of convolutions move on a GPU, as separate calls and fused.

    python -m benchmarks.epilogue_traffic

Nothing is timed: the bytes follow from the shapes of the outputs. Run on the CPU, with one view.
"""

import dataclasses

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form, Running
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.engine.rewrite.plan import record

VIEWS, SIZE = 32, 224
BYTES = 2  # of a number in bfloat16
NETWORKS = ("resnet50", "mobilenet_v2")


@dataclasses.dataclass(frozen=True)
class EpilogueTraffic:
    """What the epilogues of a network move in a forward pass.

    Attributes
    ----------
    epilogues
        How many convolutions have one.
    separate, fused
        Bytes that torch's calls move, one after the other, and that one pass moves.
    """

    epilogues: int = 0
    separate: int = 0
    fused: int = 0

    def with_one(
        self, output_bytes: int, *, bias: bool, adds: bool, clamps: bool
    ) -> "EpilogueTraffic":
        """Add the epilogue of an output of some bytes, if it has one."""
        if not (bias or adds or clamps):
            return self
        # Bias and activation read the output and write it; a sum also reads the other term.
        separate = 2 * bias + 3 * adds + 2 * clamps
        return EpilogueTraffic(
            self.epilogues + 1,
            self.separate + separate * output_bytes,
            self.fused + (3 if adds else 2) * output_bytes,
        )


def epilogue_traffic(
    network: nn.Module, views: int = VIEWS, size: int = SIZE, item: int = BYTES
) -> EpilogueTraffic:
    """Count the traffic of a network's epilogues in one forward pass.

    Parameters
    ----------
    network
        Takes images (B, 3, size, size).
    views
        B.
    size
        Height and width of the views.
    item
        Bytes of a number.
    """
    network.eval()
    total = EpilogueTraffic()

    def note(
        convolution: FrozenConvolution, images: torch.Tensor, term: torch.Tensor | None
    ) -> None:
        nonlocal total
        _, *shape = convolution.output_shape(images)
        total = total.with_one(
            views * item * torch.Size(shape).numel(),
            bias=convolution.bias is not None,
            adds=term is not None,
            clamps=convolution.activation != "none",
        )

    objective = Objective.layer(network, -1, input_shape=(3, size, size))
    tapped, *_ = objective.compile()
    view = torch.zeros(1, 3, size, size)
    with borrowed(network), torch.no_grad():
        convolutions = record(tapped, objective.scorer([0]), view)
        running = Running(network, Form(joined=True, sums=True), convolutions)
        with running.noting(note), running.context(view.device):
            tapped(view)
    return total


def main() -> None:
    """Print a row for each network."""
    table = Table("network", title=f"epilogues of {VIEWS} views of {SIZE}, bfloat16")
    for column in ("epilogues", "MB separate", "MB fused", "MB saved"):
        table.add_column(column, justify="right")
    for name in NETWORKS:
        found = epilogue_traffic(torchvision.models.get_model(name, weights=None))
        megabytes = (found.separate, found.fused, found.separate - found.fused)
        table.add_row(name, str(found.epilogues), *(f"{count / 1e6:.0f}" for count in megabytes))
    Console().print(table)


if __name__ == "__main__":
    main()
