"""The device on which parameters of images are made."""

import contextlib
import contextvars
from collections.abc import Iterator

import torch

_RUN: contextvars.ContextVar[torch.device | None] = contextvars.ContextVar("device", default=None)


@contextlib.contextmanager
def parameters_on(device: torch.device) -> Iterator[None]:
    """Make parameters on a device, that of the network, during a ``with`` statement."""
    token = _RUN.set(device)
    try:
        yield
    finally:
        _RUN.reset(token)


def parameter_device() -> torch.device:
    """Return the device for new parameters.

    In `fvfast.lucent.optvis.render.render_vis` it is that of the network. Elsewhere it is torch's
    default device where that was set, else the GPU in use, where there is one.
    """
    run = _RUN.get()
    if run is not None:
        return run
    default = torch.get_default_device()
    if default.type == "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return default
