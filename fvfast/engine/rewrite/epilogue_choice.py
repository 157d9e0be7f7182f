"""Chooses, layer by layer, what does bias, sum and activation of a convolution on a GPU.

Fvfast's kernel does, unless another candidate takes clearly less time. Which one is faster can
change from run to run, and pictures must not: so only with precision="auto", which measures anyway,
may a candidate run whose results have other bits.
"""

import collections
import dataclasses
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

import torch

from fvfast.engine.agreement import GAIN, SAME, largest_difference
from fvfast.engine.passes import is_out_of_memory
from fvfast.engine.rewrite.epilogues import Epilogue, EpilogueKind
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.ops.convolution_epilogue import has_epilogue_kernel

ROUNDINGS = 4
"""Largest difference in roundings of the type: of the convolution, the bias, the sum, the end."""

_NAMES: dict[EpilogueKind, str] = {
    "separate": "separate calls",
    "fvfast": "fvfast's kernel",
    "cudnn": "cuDNN's fused call",
}


class Timer(Protocol):
    """Measures calls."""

    def __call__(self, calls: Sequence[Callable[[], object]]) -> list[float]:
        """Return the seconds that each call takes."""
        ...


@dataclasses.dataclass(frozen=True)
class ConvolutionCall:
    """What a convolution was called with.

    Attributes
    ----------
    shape, memory_format, device
        Of the images (B, in, H, W).
    adds
        Whether there was a term to add.
    """

    shape: tuple[int, ...]
    memory_format: torch.memory_format
    device: torch.device
    adds: bool

    @classmethod
    def of(cls, images: torch.Tensor, term: torch.Tensor | None) -> "ConvolutionCall":
        """Describe a call."""
        last = images.is_contiguous(memory_format=torch.channels_last)
        is_last = last and not images.is_contiguous()
        memory_format = torch.channels_last if is_last else torch.contiguous_format
        return cls(tuple(images.shape), memory_format, images.device, term is not None)

    def repeated(self, times: float) -> "ConvolutionCall":
        """Return the call for more images, or for fewer."""
        batch = max(1, round(times * self.shape[0]))
        return dataclasses.replace(self, shape=(batch, *self.shape[1:]))


@dataclasses.dataclass
class EpilogueChooser:
    """Times candidates for the epilogues of convolutions.

    Parameters
    ----------
    time
        Measures them.
    any_bits
        Whether to take a candidate whose results differ by rounding.

    Attributes
    ----------
    failures
        What failed or came to other results, with the number of convolutions.
    """

    time: Timer
    any_bits: bool
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    _chosen: dict[Hashable, EpilogueKind] = dataclasses.field(default_factory=dict)
    _why_not: dict[Hashable, list[str]] = dataclasses.field(default_factory=dict)

    def choose(
        self,
        convolutions: Sequence[FrozenConvolution],
        calls: Mapping[int, ConvolutionCall],
    ) -> tuple[Epilogue | None, ...]:
        """Choose for each convolution; None where nothing follows it, or it is not called.

        Parameters
        ----------
        convolutions
            As they run.
        calls
            By the ``id`` of the convolution.
        """
        return tuple(self._choose_one(one, calls.get(id(one))) for one in convolutions)

    @property
    def notes(self) -> list[str]:
        """What failed, for people."""
        return [
            f"{reason} ({count} {'convolution' if count == 1 else 'convolutions'})"
            for reason, count in self.failures.items()
        ]

    def _choose_one(
        self, convolution: FrozenConvolution, call: ConvolutionCall | None
    ) -> Epilogue | None:
        nothing = convolution.bias is None and convolution.activation == "none"
        if call is None or (nothing and not call.adds):
            return None
        key = _key(convolution, call)
        if key not in self._chosen:
            self._chosen[key], self._why_not[key] = self._measure_if_it_fits(convolution, call)
        self.failures.update(self._why_not[key])
        return Epilogue(self._chosen[key], call.shape)

    def _measure_if_it_fits(
        self, convolution: FrozenConvolution, call: ConvolutionCall
    ) -> tuple[EpilogueKind, list[str]]:
        try:
            return self._measure(convolution, call)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return "separate", ["fused epilogues: too little memory to try them"]

    def _measure(
        self, convolution: FrozenConvolution, call: ConvolutionCall
    ) -> tuple[EpilogueKind, list[str]]:
        """Return the fastest candidate, and why others were left out."""
        images, term = _arguments(convolution, call)
        runs: dict[EpilogueKind, Callable[[], torch.Tensor]] = {}
        why_not: list[str] = []
        own = right = _run_of(convolution, "separate", call, images, term)()
        for kind in self._candidates(convolution):
            run = _run_of(convolution, kind, call, images, term)
            try:
                output = run()
            except RuntimeError as error:  # of cuDNN, which has no algorithm for everything
                if is_out_of_memory(error) and kind != "cudnn":
                    raise
                why_not.append(f"{_NAMES[kind]}: {_first_line(error)}")
                continue
            if not _agrees(output, right):
                why_not.append(f"{_NAMES[kind]}: changes the output of a convolution")
                continue
            if kind == "fvfast":
                own = output
            if self.any_bits or torch.equal(output, own):
                runs[kind] = run
        if "fvfast" not in runs:
            return "separate", why_not
        if len(runs) == 1:
            return "fvfast", why_not
        seconds = dict(zip(runs, self.time(list(runs.values())), strict=True))
        fastest = min(seconds, key=seconds.__getitem__)
        return (fastest if seconds[fastest] <= GAIN * seconds["fvfast"] else "fvfast"), why_not

    def _candidates(self, convolution: FrozenConvolution) -> list[EpilogueKind]:
        candidates: list[EpilogueKind] = ["fvfast", "separate"]
        if self.any_bits and convolution.activation == "relu":
            candidates.append("cudnn")
        return candidates


def gpu_timer(device: torch.device) -> Timer | None:
    """Return what measures candidates on a device; None where there is nothing to choose.

    That is where fvfast has no kernels for a GPU, and while a graph is captured: a measurement
    waits for the device.
    """
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return None
    return seconds_on_gpu if has_epilogue_kernel(device) else None


def seconds_on_gpu(
    calls: Sequence[Callable[[], object]], rounds: int = 5, repeats: int = 4
) -> list[float]:
    """Measure the median seconds of each call on the current stream, in turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            # The device is busy until the host has queued all: no call waits for its launch.
            torch.cuda._sleep(_CYCLES)
            start.record()
            for _ in range(repeats):
                call()
            end.record()
            end.synchronize()
            taken.append(1e-3 * start.elapsed_time(end) / repeats)
    return [statistics.median(taken) for taken in seconds]


_CYCLES = 2**18  # about a tenth of a millisecond


def _key(convolution: FrozenConvolution, call: ConvolutionCall) -> Hashable:
    """Return what the time of a convolution depends on: networks repeat their layers."""
    return (
        convolution.weight.shape, convolution.weight.dtype, convolution.bias is None,
        convolution.stride, convolution.padding, convolution.dilation, convolution.groups,
        convolution.activation, call,
    )  # fmt: skip


def _arguments(
    convolution: FrozenConvolution, call: ConvolutionCall
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Make images and a term; the program's own random numbers are left alone."""
    generator = torch.Generator(call.device).manual_seed(0)

    def normal(shape: Sequence[int]) -> torch.Tensor:
        numbers = torch.randn(
            shape, generator=generator, dtype=convolution.weight.dtype, device=call.device
        )
        return numbers.contiguous(memory_format=call.memory_format)

    images = normal(call.shape)
    return images, normal(convolution.output_shape(images)) if call.adds else None


def _run_of(
    convolution: FrozenConvolution,
    kind: EpilogueKind,
    call: ConvolutionCall,
    images: torch.Tensor,
    term: torch.Tensor | None,
) -> Callable[[], torch.Tensor]:
    candidate = dataclasses.replace(convolution, epilogue=Epilogue(kind, call.shape))
    return lambda: candidate.forward(images, term)


def _agrees(output: torch.Tensor, right: torch.Tensor) -> bool:
    tolerance = max(SAME, ROUNDINGS * torch.finfo(right.dtype).eps)
    return largest_difference([output], [right]) <= tolerance


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
