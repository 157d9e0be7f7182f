"""Hands images to code that may write to them, without losing them."""

import contextlib
from collections.abc import Iterator

import torch


class Lender:
    """Lends images to a network or a function, which may change them in place.

    The first time it gets a copy, which tells whether it writes: then it gets one each time, for
    autograd does not let it write to the images that gradients are asked of, and they are needed
    afterwards. Others get the images themselves, without the time and the memory of a copy.
    """

    def __init__(self) -> None:
        self._writes: bool | None = None

    @contextlib.contextmanager
    def lent(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the images, or a copy, for the length of a ``with`` statement."""
        if self._writes is False:
            yield images
            return
        copy = images.clone()
        # An exception may be the end of the pass: what follows still knows.
        try:
            yield copy
        finally:
            self._writes = bool(self._writes) or copy._version > 0
