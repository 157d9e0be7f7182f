"""Runs one image through a network to learn the outputs of its modules."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fvfast.engine.borrowing.interrupts import opened
from fvfast.engine.borrowing.modes import Mode
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.borrowing.state import borrowed, model_device
from fvfast.engine.borrowing.threads import in_this_thread
from fvfast.engine.network.channel_axes import ChannelAxes, ChannelAxis, axis_beside_square
from fvfast.engine.network.input_type import input_dtype
from fvfast.engine.network.inputs import usual_shapes
from fvfast.engine.network.outputs import entries, select_output
from fvfast.engine.network.preprocessing import Preprocess, check_preprocess


class UnsuitableImagesError(ValueError):
    """A network cannot run on images of the shape that was tried."""


@dataclasses.dataclass(frozen=True)
class OutputInfo:
    """One output tensor of a module.

    Attributes
    ----------
    shape
        With the batch.
    dtype
        Type of its numbers.
    channel_axis
        Axis of the channels, counted without the batch; None where it is unknown.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    channel_axis: int | None


@dataclasses.dataclass(frozen=True)
class ModuleRecord:
    """What a probe saw of one module.

    Attributes
    ----------
    calls
        How often one forward pass calls it.
    outputs
        Outputs of its last call, by entry; the entry None is the first tensor.
    has_batch_statistics
        Whether the module, or one called before it, normalizes by the statistics of the batch.
    """

    calls: int
    outputs: Mapping[Any, OutputInfo]
    has_batch_statistics: bool


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a probe saw of a network.

    Attributes
    ----------
    batch
        Number of images that were run: one, or two if the network fails with one.
    modules
        The modules that were called, in the order in which their first calls ended.
    """

    batch: int
    modules: Mapping[nn.Module, ModuleRecord]


def run_probe(
    model: nn.Module,
    input_shape: tuple[int, ...],
    preprocess: Preprocess | None,
    *,
    what: str | None = None,
) -> Probe:
    """Run one image of zeros through a network in evaluation mode.

    Parameters
    ----------
    model
        The network; it is restored afterwards.
    input_shape
        (C, H, W) of one image.
    preprocess
        Applied to the image before the model.
    what
        What runs, for messages. Default: the model, with its class.

    Raises
    ------
    UnsuitableImagesError
        The network cannot run on an image of this shape.
    ValueError
        The preprocessing fails.
    """
    with torch.inference_mode(False), borrowed(model, warn=False):
        if preprocess is not None:
            check_preprocess(preprocess, input_shape, model_device(model))
        try:
            return _run(model, input_shape, preprocess, 1)
        except Exception as error:
            # Normalization by the statistics of the batch fails with a single value.
            with contextlib.suppress(Exception):
                return _run(model, input_shape, preprocess, 2)
            raise UnsuitableImagesError(
                f"{what or f'the model ({type(model).__name__})'} failed on one image of zeros of "
                f"shape (1, {', '.join(map(str, input_shape))}): {type(error).__name__}: {error} "
                "If it takes images of another shape, pass their (C, H, W) as input_shape=."
            ) from error


def find_working_shape(
    model: nn.Module, first: tuple[int, int, int], preprocess: Preprocess | None = None
) -> tuple[int, int, int] | None:
    """Return the first shape (C, H, W) of images on which a network runs; None if there is none.

    Parameters
    ----------
    model
        The network.
    first
        The shape to try first; after it, those of `usual_shapes`.
    preprocess
        Applied to the image before the model.
    """
    for shape in dict.fromkeys([first, *usual_shapes(model)]):
        with contextlib.suppress(UnsuitableImagesError):
            run_probe(model, shape, preprocess)
            return shape
    return None


class _BatchStatistics(Mode):
    """Notes whether a batch normalization uses the statistics of the current batch.

    Attributes
    ----------
    used
        Whether one has done so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "batch_norm":
            # The sixth argument of both torch.batch_norm and torch.nn.functional.batch_norm.
            training = args[5] if len(args) > 5 else kwargs.get("training", False)
            self.used = self.used or bool(training)
        return func(*args, **kwargs)


class _Recorder:
    """A hook that records the outputs of modules."""

    def __init__(self, axes: ChannelAxes, statistics: _BatchStatistics, *, square: bool) -> None:
        self._axes = axes
        self._square = square
        self._statistics = statistics
        self._calls: dict[nn.Module, int] = {}
        self._outputs: dict[nn.Module, dict[Any, _Seen]] = {}
        self._had_statistics: dict[nn.Module, bool] = {}

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        keys = [None, *entries(output)]
        tensors = {key: select_output(output, key) for key in keys}
        self._calls[module] = self._calls.get(module, 0) + 1
        self._outputs[module] = {
            key: self._see(inputs, tensor) for key, tensor in tensors.items() if tensor is not None
        }
        self._had_statistics[module] = self._statistics.used

    def records(self) -> dict[nn.Module, ModuleRecord]:
        """Return a record for each module that was called."""
        return {
            module: ModuleRecord(
                calls,
                {
                    key: seen.info(square=self._square)
                    for key, seen in self._outputs[module].items()
                },
                self._had_statistics[module],
            )
            for module, calls in self._calls.items()
        }

    def _see(self, inputs: Any, tensor: torch.Tensor) -> "_Seen":
        self._axes.pass_through(inputs, tensor)
        return _Seen(tuple(tensor.shape), tensor.dtype, self._axes.watch(tensor))


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What is recorded of an output while the network runs; the tensor itself may be freed."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    channels: ChannelAxis

    def info(self, *, square: bool) -> OutputInfo:
        axis = self.channels.axis
        if axis:
            return OutputInfo(self.shape, self.dtype, axis - 1)  # axis 0 is the batch's
        beside = axis_beside_square(self.shape[1:]) if square else None
        return OutputInfo(self.shape, self.dtype, beside)


def _run(
    model: nn.Module, input_shape: tuple[int, ...], preprocess: Preprocess | None, batch: int
) -> Probe:
    axes, statistics = ChannelAxes(), _BatchStatistics()
    recorder = _Recorder(axes, statistics, square=input_shape[-1] == input_shape[-2])
    images = torch.zeros(batch, *input_shape, device=model_device(model))
    axes.mark(images, 1)
    with torch.no_grad(), drawn_from(0, 0, images.device), _without_compilers(), statistics, axes:
        images = preprocess(images) if preprocess is not None else images
        # Before the hooks count calls: this may run the network up to its first weights.
        images = images.to(input_dtype(model, images))
        with _hooked(model, in_this_thread(recorder)):
            opened(model, images)
    return Probe(batch, recorder.records())


@contextlib.contextmanager
def _hooked(model: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    handles = [
        module.register_forward_hook(hook)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)  # scripted modules accept no hooks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _without_compilers() -> contextlib.AbstractContextManager[Any]:
    """Run compiled modules without compilation: hooks do not see what a compiler inlines."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    # The compiler takes seconds to load. If it is not loaded, nothing has been compiled.
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return set_stance("force_eager")
