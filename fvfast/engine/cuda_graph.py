"""A pass through a network as one CUDA graph: a single launch in place of several hundred.

A graph repeats what the GPU did, not what Python did. So nothing is captured that may want Python
in every pass: hooks of the user, functions of the user in the objective. What is captured is
compared with a pass of its own before it is used.
"""

import logging
import os
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from fvfast.engine.fingerprint import GLOBAL_HOOKS, HOOKS

Pass = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Maps views (B, C, h, w) to scores (N,) and the gradient of the views (B, C, h, w)."""

EAGER_PASSES = 3
"""Passes before the capture: they set up what is set up on first use, and short runs end there."""

SAME = 1e-3
"""Largest difference of a replay from the same pass, relative to its results.

Kernels that add atomically differ from pass to pass by rounding; a pass that depends on more than
the views differs by far more.
"""

_log = logging.getLogger(__name__)


def can_be_captured(model: nn.Module | None, device: torch.device, *, runs_user_code: bool) -> bool:
    """Whether passes through a network may be captured.

    Parameters
    ----------
    model
        The network.
    device
        Where it runs.
    runs_user_code
        Whether the score calls functions of the user.

    Notes
    -----
    The environment variable ``FVFAST_CUDA_GRAPH=0`` says no to all.
    """
    if device.type != "cuda" or model is None or runs_user_code:
        return False
    if os.environ.get("FVFAST_CUDA_GRAPH") == "0":
        return False
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    if devices != {device}:
        return False
    return not any(getattr(torch_module, name) for name in GLOBAL_HOOKS) and not any(
        getattr(module, name) for module in model.modules() for name in HOOKS
    )


class GraphedPass:
    """Runs passes, the first few as they are, then as a captured graph.

    Views of another shape, type or memory format than the captured ones run as they are.

    Parameters
    ----------
    run
        One pass.
    capture
        Makes a graph of a pass: `capture_pass`, but for tests.
    """

    def __init__(
        self, run: Pass, capture: Callable[[Pass, torch.Tensor], Pass] | None = None
    ) -> None:
        self.run = run
        self.passes = 0
        self.replay: Pass | None = None
        self._capture = capture_pass if capture is None else capture
        self._captured_like: tuple[object, ...] = ()

    def __call__(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one pass; the gradient may be overwritten by the next."""
        if self.replay is not None and _kind(views) == self._captured_like:
            return self.replay(views)
        results = self.run(views)
        self.passes += 1
        if self.passes == EAGER_PASSES:
            self._try_to_capture(views, results)
        return results

    def _try_to_capture(
        self, views: torch.Tensor, expected: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        try:
            replay = self._capture(self.run, views)
            difference = max(map(_difference, replay(views), expected))
        except RuntimeError as error:  # what CUDA refuses to capture, and too little memory
            _log.info("passes run without a CUDA graph: %s", error)
            return
        if not difference <= SAME:
            _log.info("passes run without a CUDA graph: a replay differs by %.2g", difference)
            return
        self.replay, self._captured_like = replay, _kind(views)


def capture_pass(run: Pass, views: torch.Tensor) -> Pass:
    """Capture a pass in a CUDA graph.

    Parameters
    ----------
    run
        The pass; it must have run before.
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
    with torch.cuda.device(views.device), torch.cuda.graph(graph):
        scores, gradient = run(kept_views)

    def replay(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept_views.copy_(views.detach())
        graph.replay()
        # Who is told the scores may keep them.
        return scores.clone(), gradient

    return replay


def _kind(views: torch.Tensor) -> tuple[object, ...]:
    return views.shape, views.dtype, views.device, views.stride()


def _difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the expected one; 0 where both are 0."""
    error = (actual.double() - expected.double()).norm()
    return float(error / expected.double().norm()) if bool(error > 0) else float(error)
