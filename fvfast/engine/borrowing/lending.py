"""Passes images to code that may write to them, without losing the images."""

import contextlib
from collections.abc import Iterator

import torch


class Lender:
    """Lends images to a network or a function, which may change them in place.

    The first time, the borrower gets a copy, which shows whether it writes. If it does, it gets a
    copy each time: autograd forbids writing to images whose gradient is needed, and the images are
    used again afterwards. If not, it gets the images themselves, which saves the copy.
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
        # Note it after an exception, too: passes are ended early by one.
        try:
            yield copy
        finally:
            self._writes = bool(self._writes) or copy._version > 0
