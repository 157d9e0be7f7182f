"""Convolutions and products of matrices in float32 as it is, without TF32, on NVIDIA GPUs.

TF32 rounds the inputs of a convolution to 10 bits, and is what cuDNN's convolutions use unless they
are told not to. Two ways to compute the same then differ by more than a way that is wrong.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

_lock = threading.RLock()


def tf32_settings() -> dict[str, bool]:
    """Whether convolutions, and products of matrices, may use TF32."""
    backends: Any = torch.backends
    if _has_newer_settings():
        operations = {"convolutions": backends.cudnn.conv, "matrices": backends.cuda.matmul}
        return {name: entry.fp32_precision == "tf32" for name, entry in operations.items()}
    return {
        "convolutions": backends.cudnn.allow_tf32,
        "matrices": backends.cuda.matmul.allow_tf32,
    }


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Compute without TF32 for the length of a ``with`` block; afterwards all is as it was.

    Notes
    -----
    The settings are those of the whole program: its other threads compute without TF32 too
    meanwhile. Two such blocks, of two threads, take turns. Within one, torch refuses to read the
    older settings, such as ``torch.backends.cudnn.allow_tf32``, where the newer ones are known.
    """
    with _lock, _newer_settings() if _has_newer_settings() else _older_settings():
        yield


def _has_newer_settings() -> bool:
    """Whether each operation has a setting, as from torch 2.9 on.

    There the older ones cannot be set and set back: they overwrite a default, which follows what is
    said of all operations.
    """
    return hasattr(torch.backends.cudnn, "conv")


@contextlib.contextmanager
def _newer_settings() -> Iterator[None]:
    backends: Any = torch.backends
    of_cuda = backends.cudnn  # its own setting is that of all operations on CUDA
    operations = (of_cuda.conv, of_cuda.rnn, backends.cuda.matmul)
    before = [operation.fp32_precision for operation in operations]
    of_all = backends.fp32_precision
    try:
        backends.fp32_precision = "none"  # what is unset elsewhere says what this one says
        own = of_cuda.fp32_precision
    finally:
        backends.fp32_precision = of_all
    try:
        of_cuda.fp32_precision = "ieee"
        for operation in operations:
            if operation.fp32_precision != "ieee":  # it does not follow
                operation.fp32_precision = "ieee"
        yield
    finally:
        of_cuda.fp32_precision = own
        for operation, precision in zip(operations, before, strict=True):
            if operation.fp32_precision != precision:
                operation.fp32_precision = precision


@contextlib.contextmanager
def _older_settings() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
