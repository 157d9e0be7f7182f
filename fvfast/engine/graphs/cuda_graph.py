"""A pass through a network as one CUDA graph: a single launch in place of several hundred.

A graph repeats what the GPU did, not what Python did. So nothing is captured that may want Python
in every pass: hooks of the user, functions of the user in the objective. What is captured is
compared with a pass of its own before it is used.
"""

import dataclasses
import logging
import math
import os
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from fvfast.engine.borrowing.fingerprint import HOOKS, has_global_hooks
from fvfast.engine.captures import CAPTURES
from fvfast.engine.exact_float32 import tf32_settings
from fvfast.engine.graphs.rehearsal import Pass as Pass
from fvfast.engine.graphs.rehearsal import rehearse

EAGER_PASSES = 3
"""Passes before the capture: they set up what is set up on first use, and short runs end there.

The last of them is the rehearsal.
"""

SAME = 1e-3
"""Largest difference of a replay from the same pass, relative to its results.

Kernels that add atomically differ from pass to pass by rounding; a pass that depends on more than
the views differs by far more.
"""

UNSTEADY = 4.0
"""Times the difference of two passes over the same views by which a replay may differ, if more."""

MOST = 0.1
"""Largest difference of a replay however much two passes differ."""

Capture: TypeAlias = Callable[[Pass, torch.Tensor], Pass]
"""Makes what replays a pass, from the pass and views like those that it will have."""

_log = logging.getLogger(__name__)


def why_not_captured(model: nn.Module | None, device: torch.device, *, runs_user_code: bool) -> str:
    """Say why passes through a network are not captured.

    Parameters
    ----------
    model
        The network.
    device
        Where it runs.
    runs_user_code
        Whether the score calls functions of the user.

    Returns
    -------
    reason
        Empty where they may be captured.

    Notes
    -----
    The environment variable ``FVFAST_CUDA_GRAPH=0`` says no to all.
    """
    if device.type != "cuda":
        return f"there are none on {device}"
    if os.environ.get("FVFAST_CUDA_GRAPH") == "0":
        return "FVFAST_CUDA_GRAPH=0 switches them off"
    if model is None or runs_user_code:
        return "the objective calls a function of the user, which wants Python in every pass"
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if devices != {device}:
        found = ", ".join(sorted(map(str, devices))) or "no device"
        return f"the network's tensors are on {found}, not all on {device}"
    hooked = has_global_hooks() or any(
        getattr(module, name) for module in model.modules() for name in HOOKS
    )
    return "hooks on its modules want Python in every pass" if hooked else ""


class GraphedPass:
    """Runs passes, the first few as they are, then as a captured graph.

    Views of another shape, type or memory format than the captured ones run as they are, and so do
    all after a change of settings such as ``torch.backends.cudnn.deterministic``.

    Parameters
    ----------
    run
        One pass.
    capture
        Makes a graph of a pass. Default: `capture_pass`.

    Attributes
    ----------
    passes
        How many ran as they are, until one was captured or could not be.
    replay
        The captured graph; None while there is none.
    obstacle
        Why there is none and will be none; empty otherwise.
    """

    def __init__(self, run: Pass, capture: Capture | None = None) -> None:
        self.run = run
        self.passes = 0
        self.replay: Pass | None = None
        self.obstacle = ""
        self._capture = capture_pass if capture is None else capture
        self._captured_like: tuple[object, ...] = ()
        self._tolerance = SAME
        self._is_checked = True

    def begin_run(self) -> None:
        """Let the first replay of a new run be compared with a pass of its own.

        What a graph depends on may have changed since in ways that nothing else shows.
        """
        self._is_checked = False
        if self.replay is None and not self.obstacle:
            # The run before may have ended in the middle of a capture.
            self.passes = 0

    def __call__(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one pass; the gradient may be overwritten by the next."""
        if self.replay is not None and _kind(views) == self._captured_like:
            try:
                if self._is_checked:
                    return self.replay(views)
                return self._check(self.replay, views)
            except RuntimeError as error:
                # In some versions of torch, one failed capture of the program ends all replays.
                self._go_without(f"a replay failed: {error}")
        if self.passes == EAGER_PASSES:
            return self.run(views)
        self.passes += 1
        return self.run(views) if self.passes < EAGER_PASSES else self._last_eager_pass(views)

    @property
    def status(self) -> str:
        """How passes run, for people."""
        if self.replay is not None:
            return "replayed from a CUDA graph"
        if self.obstacle:
            return f"without a CUDA graph: {self.obstacle}"
        return f"without a CUDA graph before pass {EAGER_PASSES + 1}"

    def _check(self, replay: Pass, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._is_checked = True
        results = self.run(views)
        difference = _largest_difference(replay(views), results)
        if not difference <= self._tolerance:
            _log.info("a pass is captured anew: its replay differs by %.2g", difference)
            self.replay, self.passes = None, 0
        return results

    def _last_eager_pass(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if CAPTURES.failure:
            self._go_without(CAPTURES.failure)
            return self.run(views)
        try:
            results, obstacle = rehearse(self.run, views)
        except RuntimeError as error:
            results, obstacle = None, str(error)
        if obstacle:
            self._go_without(obstacle)
            if views.device.type == "cuda":
                # What is kept for the stream of captures is of no use to another one.
                CAPTURES.empty_cache()
        if results is None:
            # It waits for the GPU, which it may do, or fails anyway: then it fails again, and after
            # the exception is gone, and with it the tensors of its frames.
            return self.run(views)
        if not obstacle:
            self._try_to_capture(views, results)
        return results

    def _try_to_capture(
        self, views: torch.Tensor, expected: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        # Before the capture, whose memory a pass beside it may not leave enough of.
        spread = _largest_difference(self.run(views), expected)
        if not UNSTEADY * spread <= MOST:
            self._go_without(f"two passes over the same views differ by {spread:.2g}")
            return
        try:
            replay = self._capture(self.run, views)
            difference = _largest_difference(replay(views), expected)
        except RuntimeError as error:  # what CUDA refuses to capture, and too little memory
            self._go_without(str(error))
            return
        self._tolerance = max(SAME, UNSTEADY * spread)
        if not difference <= self._tolerance:
            self._go_without(f"a replay differs by {difference:.2g}")
            return
        self.replay, self._captured_like = replay, _kind(views)

    def _go_without(self, obstacle: str) -> None:
        self.replay = None
        self.obstacle = obstacle.strip().partition("\n")[0]
        _log.info("passes run without a CUDA graph: %s", self.obstacle)


def capture_pass(run: Pass, views: torch.Tensor) -> Pass:
    """Capture a pass in a CUDA graph.

    Parameters
    ----------
    run
        The pass; it must have run before on the stream of captures, see `rehearse`.
    views
        (B, C, h, w), on the GPU.

    Returns
    -------
    replay
        Runs the graph on other views of the same kind. Its gradient is overwritten by the next.

    Raises
    ------
    RuntimeError
        The pass does something that cannot be captured, such as reading a number from the GPU.
    """
    kept_views = views.detach().clone()
    graph = torch.cuda.CUDAGraph()
    with CAPTURES.capturing(graph, views.device):
        scores, gradient = run(kept_views)

    def replay(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept_views.copy_(views.detach())
        graph.replay()
        # Who is told the scores may keep them.
        return scores.clone(), gradient

    return replay


@dataclasses.dataclass(frozen=True)
class CudaGraphs:
    """Whether passes are captured, and by what.

    Attributes
    ----------
    why_not
        Says why passes through a network are not captured, as `why_not_captured` does.
    capture
        Makes a graph of a pass, as `capture_pass` does.
    """

    why_not: Callable[..., str] = why_not_captured
    capture: Capture = capture_pass


def _kind(views: torch.Tensor) -> tuple[object, ...]:
    """List what a graph was captured for: the views' kind, and settings that choose kernels."""
    cudnn = torch.backends.cudnn
    settings = (
        cudnn.enabled,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        tuple(tf32_settings().values()),
    )
    return views.shape, views.dtype, views.device, views.stride(), settings


def _largest_difference(
    actual: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]
) -> float:
    differences = list(map(_difference, actual, expected))
    # Of a number and one that is not, max may return either.
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def _difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the expected one; 0 where both are 0."""
    error = (actual.double() - expected.double()).norm()
    return float(error / expected.double().norm()) if bool(error > 0) else float(error)
