"""Cases that measure the traffic of what follows a convolution."""

import math
from collections.abc import Sequence

import torch
from cuda_check.crop_cases import FORMATS
from cuda_check.floors import Case, Floor
from cuda_check.replay import Replay

from fvfast.ops.convolution_epilogue import convolution_epilogue_

CHANNELS, SIDE = 64, 14


def epilogue_case(layout: str, dtype: torch.dtype, *, adds: bool) -> Case:
    """Bias and ReLU, and perhaps a sum: the output is read and written, other arrays are read."""

    def run(replay: Replay, crops: int) -> Sequence[Floor]:
        shape = (crops, CHANNELS, SIDE, SIDE)
        output, term = (
            torch.randn(shape).to(dtype).contiguous(memory_format=FORMATS[layout]) for _ in range(2)
        )
        bias = torch.randn(CHANNELS).to(dtype)
        replay.launches.clear()
        convolution_epilogue_(output, bias, term=term if adds else None, limits=(0, math.inf))
        floor = (3 if adds else 2) * output.nbytes + bias.nbytes
        return [Floor("convolution_epilogue_kernel", floor, output.numel())]

    name = f"epilogue {layout} {str(dtype).removeprefix('torch.')}{' sum' if adds else ''}"
    return Case(name, run)


CASES = [
    epilogue_case("channels_last", torch.bfloat16, adds=True),
    epilogue_case("channels_last", torch.bfloat16, adds=False),
    epilogue_case("channels_last", torch.float32, adds=True),
    epilogue_case("contiguous", torch.float32, adds=True),
]
