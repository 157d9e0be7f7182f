"""What follows a convolution, as calls on existing arrays: torch's own calls, and fused ones."""

import math

import torch
import torch.nn.functional as F

from benchmarks.gpu.work import Work
from benchmarks.step_parts import Part
from fvfast.engine.rewrite.epilogues import convolve_and_finish, convolve_with_cudnn
from fvfast.ops.convolution_epilogue import convolution_epilogue_

CHANNELS, OUTPUTS = 64, 256
"""Of the convolution at the end of ResNet50's first blocks."""

REDUCTION = 4
"""How many times as large the views are as its images."""

SETTINGS = ((1, 1), (0, 0), (1, 1), 1)
RELU = (0.0, math.inf)


class Layer:
    """A convolution of 1 x 1, with arrays of the type and memory format of the crops.

    What is added is 0, so that the numbers stay the same however often they are measured.
    """

    def __init__(self, work: Work) -> None:
        sizes, dtype = work.sizes, work.crops["dtype"]
        side, views = sizes.crop // REDUCTION, sizes.images * sizes.crops

        def ones(*shape: int) -> torch.Tensor:
            numbers = torch.ones(shape, dtype=dtype, device=work.phase.device)
            return numbers.contiguous(memory_format=work.crops["memory_format"])

        self.images = ones(views, CHANNELS, side, side)
        self.weight = ones(OUTPUTS, CHANNELS, 1, 1)
        self.output = ones(views, OUTPUTS, side, side)
        self.term = torch.zeros_like(self.output)
        self.bias = torch.zeros(OUTPUTS, dtype=dtype, device=work.phase.device)

    def bytes(self, *, adds: bool, convolves: bool) -> int:
        """Return what must be read and written, each array once."""
        read = self.images.nbytes + self.weight.nbytes if convolves else self.output.nbytes
        return read + self.output.nbytes + (self.term.nbytes if adds else 0) + self.bias.nbytes

    def finish_separately(self, output: torch.Tensor, *, adds: bool) -> torch.Tensor:
        """Run bias, sum and ReLU as torch does on a GPU."""
        output.add_(self.bias[:, None, None])
        if adds:
            output.add_(self.term)
        return output.relu_()


def epilogue_parts(work: Work) -> list[Part]:
    """Return epilogues alone and with their convolution: torch's calls, and fvfast's kernel."""
    layer, parts = Layer(work), []
    for adds in (True, False):
        what = "bias, sum, ReLU" if adds else "bias, ReLU"
        term = layer.term if adds else None
        parts += [
            Part(
                f"{what} by fvfast",
                lambda term=term: convolution_epilogue_(
                    layer.output, layer.bias, term=term, limits=RELU
                ),
                layer.bytes(adds=adds, convolves=False),
            ),
            Part(
                f"{what} by torch",
                lambda adds=adds: layer.finish_separately(layer.output, adds=adds),
                layer.bytes(adds=adds, convolves=False),
            ),
            Part(
                f"convolution, {what} by fvfast",
                lambda term=term: convolve_and_finish(
                    layer.images, layer.weight, layer.bias, term, "relu", SETTINGS
                ),
                layer.bytes(adds=adds, convolves=True),
            ),
            Part(
                f"convolution, {what} by torch",
                lambda adds=adds: layer.finish_separately(
                    F.conv2d(layer.images, layer.weight), adds=adds
                ),
                layer.bytes(adds=adds, convolves=True),
            ),
        ]
    return parts


def cudnn_parts(work: Work) -> list[Part]:
    """Return the same by cuDNN's fused calls, which may refuse them: apart from all others."""
    layer = Layer(work)
    return [
        Part(
            f"convolution, {'bias, sum, ReLU' if adds else 'bias, ReLU'} by cuDNN",
            lambda term=layer.term if adds else None: convolve_with_cudnn(
                layer.images, layer.weight, layer.bias, term, SETTINGS
            ),
            layer.bytes(adds=adds, convolves=True),
        )
        for adds in (True, False)
    ]
