"""Modes that change what torch's functions do, and that end even when interrupted."""

import traceback
from types import TracebackType

from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,
    _pop_mode,
    _push_mode,
)


def restore_modes(modes: list[TorchFunctionMode]) -> None:
    """Make these the modes of this thread, the innermost last."""
    if _get_current_function_mode_stack() == modes:
        return
    while _get_current_function_mode_stack():
        _pop_mode()
    for mode in modes:
        _push_mode(mode)


class Mode(TorchFunctionMode):
    """A mode whose end restores the modes that were active when it began.

    torch removes a mode from its stack while it calls it. An interrupt at that moment leaves the
    stack one short, and the ``__exit__`` of torch's own class then fails or removes another mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: list[list[TorchFunctionMode]] = []

    def __enter__(self) -> "Mode":
        self._before.append(_get_current_function_mode_stack())
        _push_mode(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            # An interrupt may leave a generator of torch unfinished, which puts a mode back when it
            # is freed: not later, with the traceback, but now.
            traceback.clear_frames(trace)
        restore_modes(self._before.pop())
