"""Convolutions and matrix products in full float32, without TF32, on NVIDIA GPUs.

TF32 rounds the inputs of a convolution to 10 bits, and cuDNN's convolutions use it by default. The
rounding makes two correct ways to compute the same thing differ by more than a mistake would.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from fvfast.engine.locks import torch_state_used


def tf32_settings() -> dict[str, bool]:
    """Whether convolutions and matrix products may use TF32."""
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
    """Compute without TF32 during a ``with`` block, then restore the settings.

    Notes
    -----
    The settings are global: meanwhile other threads compute without TF32, too. Blocks of two
    threads take turns. Within a block, a torch that has the newer settings refuses to read the
    older ones, such as ``torch.backends.cudnn.allow_tf32``.
    """
    with (
        torch_state_used(),
        _newer_settings() if _has_newer_settings() else _older_settings(),
    ):
        yield


def _has_newer_settings() -> bool:
    """Whether torch has a setting for each operation, as from 2.9 on.

    There the older settings cannot be set and restored: setting one replaces a default that would
    follow the setting for all operations.
    """
    return hasattr(torch.backends.cudnn, "conv")


@contextlib.contextmanager
def _newer_settings() -> Iterator[None]:
    backends: Any = torch.backends
    of_cuda = backends.cudnn  # its own setting is for all operations on CUDA
    operations = (of_cuda.conv, of_cuda.rnn, backends.cuda.matmul)
    before = [operation.fp32_precision for operation in operations]
    of_all = backends.fp32_precision
    try:
        backends.fp32_precision = "none"  # a setting that is unset shows this one's value
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
