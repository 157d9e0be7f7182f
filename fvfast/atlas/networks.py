"""The network of an atlas: found by name on every machine, and checked to be the same one."""

import ctypes
import hashlib
from typing import Any

import torch
from torch import nn

from fvfast._shared.version import VERSION
from fvfast.atlas.plan import Plan
from fvfast.models import LoadedModel, load_model

_HOW = (
    "Every worker loads the network itself, by name. Write a function without arguments into a "
    "module that all machines can import, which returns the network with its weights (or a "
    "fvfast.models.LoadedModel), and name it: path.to.module:factory."
)


class OtherNetworkError(RuntimeError):
    """A worker has another network, or another version of fvfast, than the plan says."""


def check_name(network: Any) -> str:
    """Return the name of a network.

    Raises
    ------
    TypeError
        It is something else, such as a live network: the message says how to name it.
    """
    if isinstance(network, str):
        return network
    what = type(network).__name__
    if isinstance(network, (nn.Module, LoadedModel)):
        raise TypeError(f"a live network ({what}) cannot be sent to workers. {_HOW}")
    raise TypeError(f"the network of an atlas is a name, got {what}. {_HOW}")


def load_planned(plan: Plan) -> LoadedModel:
    """Load the network of a plan, and make sure that it is the same.

    Raises
    ------
    OtherNetworkError
        Its weights or its input differ, or fvfast has another version here.
    """
    if plan.fvfast != VERSION:
        raise OtherNetworkError(
            f"the plan was made by fvfast {plan.fvfast}, and this is fvfast {VERSION}, whose "
            "pictures may differ. Install the plan's version on this machine, or draw a new atlas "
            "in another place."
        )
    loaded = load_model(plan.network.name)
    check_planned(plan, loaded)
    return loaded


def check_planned(plan: Plan, loaded: LoadedModel) -> None:
    """Raise OtherNetworkError unless a network is the one that the plan was made for."""
    name = plan.network.name
    if tuple(loaded.input_shape) != plan.network.input_shape:
        raise OtherNetworkError(
            f"{name} takes images {tuple(loaded.input_shape)} here, and {plan.network.input_shape} "
            "where the plan was made."
        )
    digest = weights_sha256(loaded.model)
    if digest != plan.network.weights_sha256:
        raise OtherNetworkError(
            f"{name} has other weights here ({digest[:12]}) than where the plan was made "
            f"({plan.network.weights_sha256[:12]}). Give all machines the same weights; a network "
            "with random ones must set its seed (torch.manual_seed) before it makes them."
        )


def weights_sha256(model: nn.Module) -> str:
    """Hash the names, shapes, types and values of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> Any:
    values = tensor.detach().cpu().contiguous()
    size = values.numel() * values.element_size()
    if size == 0:
        return b""
    # Not through numpy: torch never again resizes memory that it has shared with numpy.
    return bytes((ctypes.c_char * size).from_address(values.data_ptr()))
