"""Compiles a network's passes for one shape of views, checks the results, and measures the gain."""

import dataclasses
import errno
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from fvfast.engine.agreement import (
    ALIKE,
    GAIN,
    SAME,
    SIMILAR,
    largest_difference,
    likeness,
    random_like,
)
from fvfast.engine.borrowing.fingerprint import HOOKS, has_global_hooks
from fvfast.engine.borrowing.snapshot import state_of
from fvfast.engine.compiled.inductor import Compile, inductor
from fvfast.engine.compiled.network import CompiledNetwork
from fvfast.engine.compiled.reads import ReadsNumbersError
from fvfast.engine.exact_float32 import exact_float32
from fvfast.engine.memory import free_memory
from fvfast.engine.passes import Network, is_out_of_memory

T = TypeVar("T")

ROUNDS = 3
"""How often the two are timed in turns."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of compiling a network for one shape of views.

    Attributes
    ----------
    network
        What runs it; None where it is left out.
    note
        How fast it is, or why it is left out.
    seconds
        How long compiling took; 0 if it did not come to that.
    """

    network: CompiledNetwork | None
    note: str
    seconds: float = 0.0


@dataclasses.dataclass
class Compiler:
    """What compiles, and the clock that measures.

    Attributes
    ----------
    compile
        Compiles a graph.
    clock
        Returns seconds.
    expected_seconds
        How long compiling is expected to take: as long as the last time.
    """

    compile: Compile = inductor
    clock: Callable[[], float] = time.perf_counter
    expected_seconds: float = 60.0


def why_not_compiled(model: nn.Module | None, device: torch.device, *, runs_user_code: bool) -> str:
    """Return the reason why a network is not compiled; empty if it may be."""
    if model is None or runs_user_code:
        return "the objective calls a function of the user, which wants Python in every pass"
    if sys.platform == "win32":
        return "it has not been tried on Windows"
    if device.type not in ("cpu", "cuda"):
        return f"it has not been tried on {device.type}"
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if devices - {device}:
        return f"the network's tensors are not all on {device}"
    hooked = has_global_hooks() or any(
        getattr(module, name) for module in model.modules() for name in HOOKS
    )
    return "hooks on its modules want Python in every pass" if hooked else ""


class Trial:
    """Compiles a network for views of one shape, and compares it.

    Parameters
    ----------
    model
        The network.
    own
        Runs it as it is, in the type of its form: what is compiled.
    in_form
        Runs it in the form that is the fastest without a compiler.
    views
        (B, C, h, w).
    compiler
        What compiles.
    """

    def __init__(
        self,
        model: nn.Module | None,
        own: Network,
        in_form: Network,
        views: torch.Tensor,
        compiler: Compiler,
    ) -> None:
        self._model = model
        self._own = own
        self._in_form = in_form
        self._views = views.detach()
        self._compiler = compiler

    def run(self) -> Outcome:
        """Compile, check and measure."""
        return self._tried(self._run, lambda reason: Outcome(None, reason))

    def seconds_in_form(self) -> float:
        """Measure the seconds of a pass that is not compiled; 0 where it fails."""
        return self._tried(lambda: self._seconds(self._in_form), lambda _reason: 0.0)

    def differs(self, network: Network) -> str:
        """Say how a compiled network differs, or what fails; empty if neither."""
        return self._tried(lambda: self._difference(network), lambda reason: reason)

    def _tried(self, function: Callable[[], T], otherwise: Callable[[str], T]) -> T:
        """Call a function; if it fails, what is returned depends on the reason alone."""
        try:
            return function()
        except Exception as error:  # noqa: BLE001 (the network runs without, whatever it is)
            _log.info("the network is not compiled", exc_info=error)
            if not is_out_of_memory(error):
                return otherwise(reason_of(error))
        # Here the exception is gone, and with it the tensors in its frames.
        free_memory(self._views.device)
        return otherwise("out of memory")

    def _difference(self, network: Network) -> str:
        """Say by how much a compiled network differs from the network; empty if it does not."""
        with exact_float32():
            outputs, gradient = self._forward_and_back(self._own)
            own_outputs, own_gradient = self._forward_and_back(network)
        difference = largest_difference(own_outputs, outputs)
        wide = all(output.dtype.itemsize >= 4 for output in outputs)
        if not difference <= (SAME if wide else SIMILAR):
            return f"changes the outputs by {difference:.1%}"
        alike = likeness(own_gradient, gradient)
        return "" if alike >= ALIKE else f"likeness of the gradients {alike:.3f}"

    def _run(self) -> Outcome:
        # Here, because it takes seconds, which a run that compiles nothing saves.
        from fvfast.engine.compiled.compiler import compile_network

        if self._changes_itself():
            return Outcome(None, "the network changes itself in each pass")
        clock = self._compiler.clock
        start = clock()
        # Not the views of the check, which shows if numbers of the views are in the code.
        others = self._views.flip(-1) * 0.75
        network = compile_network(self._own, others, self._compiler.compile)
        taken = clock() - start
        if difference := self._difference(network):
            return Outcome(None, difference, taken)
        before, after = [], []
        for _ in range(ROUNDS):
            before.append(self._seconds(self._in_form))
            after.append(self._seconds(network))
        share = statistics.median(after) / statistics.median(before)
        if share > GAIN:
            return Outcome(None, f"{_compared(share)}, compiling took {taken:.0f} s", taken)
        return Outcome(network, f"{_compared(share)}, compiling took {taken:.0f} s", taken)

    def _changes_itself(self) -> bool:
        """Whether a pass depends on the passes before it."""
        if self._model is None:
            return False
        before = state_of(self._model)
        self._forward_and_back(self._own)
        return state_of(self._model) != before

    def _seconds(self, network: Network) -> float:
        self._forward_and_back(network)  # fills the caches with its weights
        _wait(self._views.device)
        start = self._compiler.clock()
        self._forward_and_back(network)
        _wait(self._views.device)
        return self._compiler.clock() - start

    def _forward_and_back(self, network: Network) -> tuple[list[torch.Tensor], torch.Tensor]:
        leaf = self._views.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.enable_grad():
            outputs = network(leaf)
        (gradient,) = torch.autograd.grad(outputs, leaf, [random_like(one) for one in outputs])
        return [output.detach() for output in outputs], gradient


def reason_of(error: Exception) -> str:
    """Say in a line why something could not be recorded or compiled."""
    if isinstance(error, ReadsNumbersError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A compiler's output has the command first.
    wrong = [line for line in lines if " error: " in line or line.startswith("fatal error")]
    full = [line for line in lines if os.strerror(errno.ENOSPC) in line]
    line = next(iter(full or wrong or lines), "")
    return f"{type(error).__name__}: {line[:160]}"


def _compared(share: float) -> str:
    if share <= 1:
        return f"{1 / share:.2f} times as fast"
    return f"{share - 1:.0%} slower"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
