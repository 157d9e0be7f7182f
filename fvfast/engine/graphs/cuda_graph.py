"""A pass through a network as one CUDA graph: a single launch in place of several hundred.

A graph repeats what the GPU did, not what Python did. So a pass is not captured if Python code of
the user must run in every pass: hooks, or functions in the objective. Before a graph is used, its
results are compared with those of an ordinary pass.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import nn

from fvfast.engine.agreement import SAME, largest_difference
from fvfast.engine.borrowing.fingerprint import HOOKS, has_global_hooks
from fvfast.engine.captures import CAPTURES
from fvfast.engine.exact_float32 import tf32_settings
from fvfast.engine.graphs.rehearsal import Pass as Pass
from fvfast.engine.graphs.rehearsal import rehearse

EAGER_PASSES = 3
"""Ordinary passes before the capture, so that everything set up on first use is in place.

The last of them is the rehearsal. Runs that are shorter never capture.
"""

UNSTEADY = 4.0
"""A replay may differ by this factor times the difference of two ordinary passes, if that is more
than `fvfast.engine.agreement.SAME`.

Kernels that add atomically differ from pass to pass by rounding; a pass that depends on more than
the views differs by far more.
"""

MOST = 0.1
"""Largest difference of a replay, however much two ordinary passes differ."""

CaptureSteps: TypeAlias = Callable[[Callable[[], None], Sequence[torch.Tensor]], Callable[[], None]]
"""Makes what replays steps, from the steps and the memory that they change."""

Capture: TypeAlias = Callable[[Pass, torch.Tensor], Pass]
"""Makes what replays a pass, from the pass and views like those that it will have."""

_log = logging.getLogger(__name__)


def why_not_captured(model: nn.Module | None, device: torch.device, *, runs_user_code: bool) -> str:
    """Return the reason why passes through a network cannot be captured.

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
        Empty if they can be captured.

    Notes
    -----
    The environment variable ``FVFAST_CUDA_GRAPH=0`` switches all captures off.
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
    """Runs passes: the first few as ordinary passes, later ones by replaying a captured graph.

    Passes run without the graph if the views have another shape, type or memory format than the
    captured ones, or if settings such as ``torch.backends.cudnn.deterministic`` have changed.

    Parameters
    ----------
    run
        Runs one pass.
    capture
        Makes a graph of a pass. Default: `capture_pass`.

    Attributes
    ----------
    passes
        How many ordinary passes ran before the capture.
    replay
        The captured graph; None while there is none.
    obstacle
        Why no graph will be captured; empty if one was or may still be.
    """

    def __init__(self, run: Pass, capture: Capture | None = None) -> None:
        self.run = run
        self.passes = 0
        self.replay: Pass | None = None
        self.obstacle = ""
        self._capture = capture_pass if capture is None else capture
        self._conditions: tuple[object, ...] = ()  # of the capture
        self._tolerance = SAME
        self._is_checked = True

    def begin_run(self) -> None:
        """Have the first replay of a new run compared with an ordinary pass.

        What a graph depends on may have changed since in ways that no other check detects.
        """
        self._is_checked = False
        if self.replay is None and not self.obstacle:
            # The run before may have ended in the middle of a capture.
            self.passes = 0

    def __call__(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one pass; the next pass may overwrite the gradient."""
        if self.replay is not None and _conditions(views) == self._conditions:
            try:
                if self._is_checked:
                    return self.replay(views)
                return self._check(self.replay, views)
            except RuntimeError as error:
                # In some versions of torch a failed capture breaks all other graphs of the process.
                self._go_without(f"a replay failed: {error}")
        if self.passes == EAGER_PASSES:
            return self.run(views)
        self.passes += 1
        return self.run(views) if self.passes < EAGER_PASSES else self._last_eager_pass(views)

    @property
    def status(self) -> str:
        """How passes run, in words."""
        if self.replay is not None:
            return "replayed from a CUDA graph"
        if self.obstacle:
            return f"without a CUDA graph: {self.obstacle}"
        return f"without a CUDA graph before pass {EAGER_PASSES + 1}"

    def _check(self, replay: Pass, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._is_checked = True
        results = self.run(views)
        difference = largest_difference(replay(views), results)
        if not difference <= self._tolerance:
            _log.info("a pass is captured anew: its replay differs by %.2g", difference)
            self.replay, self.passes = None, 0
        return results

    def _last_eager_pass(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if CAPTURES.failure:
            self._go_without(CAPTURES.failure)
            return self.run(views)
        try:
            results, obstacle = rehearse(lambda: self.run(views), views.device)
        except RuntimeError as error:
            results, obstacle = None, str(error)
        if obstacle:
            self._go_without(obstacle)
            if views.device.type == "cuda":
                # Memory that was cached for the stream of captures cannot serve another stream.
                CAPTURES.empty_cache()
        if results is None:
            # The pass waits for the GPU, which is no mistake, or fails for another reason. Run it
            # again here, where the exception is gone, and with it the tensors in its frames.
            return self.run(views)
        if not obstacle:
            self._try_to_capture(views, results)
        return results

    def _try_to_capture(
        self, views: torch.Tensor, expected: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        # Before the capture: afterwards the memory may not suffice for the graph and a pass.
        spread = largest_difference(self.run(views), expected)
        if not UNSTEADY * spread <= MOST:
            self._go_without(f"two passes over the same views differ by {spread:.2g}")
            return
        try:
            replay = self._capture(self.run, views)
            difference = largest_difference(replay(views), expected)
        except RuntimeError as error:  # what CUDA refuses to capture, and too little memory
            self._go_without(str(error))
            return
        self._tolerance = max(SAME, UNSTEADY * spread)
        if not difference <= self._tolerance:
            self._go_without(f"a replay differs by {difference:.2g}")
            return
        self.replay, self._conditions = replay, _conditions(views)

    def _go_without(self, obstacle: str) -> None:
        self.replay = None
        self.obstacle = obstacle.strip().partition("\n")[0]
        _log.info("passes run without a CUDA graph: %s", self.obstacle)


def capture_pass(run: Pass, views: torch.Tensor) -> Pass:
    """Capture a pass in a CUDA graph.

    Parameters
    ----------
    run
        The pass; it must have run on the stream of captures before, see `rehearse`.
    views
        (B, C, h, w), on the GPU.

    Returns
    -------
    replay
        Runs the graph on other views of the same shape, type and strides. The next replay
        overwrites its gradient.

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
        # Callers may keep the scores; the next replay overwrites the graph's own.
        return scores.clone(), gradient

    return replay


def capture_steps(steps: Callable[[], None], state: Sequence[torch.Tensor]) -> Callable[[], None]:
    """Capture steps, which read and write the same memory each time, in a CUDA graph.

    Parameters
    ----------
    steps
        Take the steps; they must have run on the stream of captures before, see `rehearse`.
    state
        What they change. Capturing them does not take them.

    Returns
    -------
    replay
        Takes the steps.

    Raises
    ------
    RuntimeError
        They do something that cannot be captured, such as reading a number from the GPU.
    """
    graph = torch.cuda.CUDAGraph()
    with CAPTURES.capturing(graph, state[0].device):
        steps()
    return graph.replay


@dataclasses.dataclass(frozen=True)
class CudaGraphs:
    """Whether passes and steps are captured, and by what.

    Attributes
    ----------
    why_not
        Says why passes through a network are not captured, as `why_not_captured` does.
    capture
        Makes a graph of a pass, as `capture_pass` does.
    capture_steps
        Makes a graph of steps, as `capture_steps` does; None: whole steps are not captured.
    """

    why_not: Callable[..., str] = why_not_captured
    capture: Capture = capture_pass
    capture_steps: CaptureSteps | None = capture_steps


def _conditions(views: torch.Tensor) -> tuple[object, ...]:
    """List what a graph is captured for: properties of the views, settings that choose kernels."""
    return views.shape, views.dtype, views.device, views.stride(), kernel_settings()


def kernel_settings() -> tuple[object, ...]:
    """List the settings of torch that choose kernels."""
    cudnn = torch.backends.cudnn
    return (
        cudnn.enabled,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
        tuple(tf32_settings().values()),
    )
