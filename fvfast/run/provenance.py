"""What else a picture depends on: versions, and the weights of the network."""

import zlib

import torch
from torch import nn

from fvfast._shared.version import VERSION
from fvfast.engine.borrowing.fingerprint import contents


def versions() -> dict[str, str]:
    """Versions that a picture depends on."""
    return {"fvfast": VERSION, "torch": torch.__version__}


def weights_digest(model: nn.Module) -> str:
    """Make a digest of a network's weights: eight digits, different for other weights.

    Returns
    -------
    digest
        Hexadecimal digits; "unknown" for tensors whose memory cannot be read.
    """
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    try:
        checksums = contents(tensors.values())
    except (RuntimeError, ValueError):
        return "unknown"
    shapes = [(name, tuple(one.shape), str(one.dtype)) for name, one in tensors.items()]
    return f"{zlib.crc32(repr((shapes, checksums)).encode()):08x}"
