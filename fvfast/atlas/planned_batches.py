"""Chooses how many pictures of an atlas are drawn together: once, for all who draw it.

The last bits of a picture may depend on how many are drawn with it, so the number is a part of the
plan.
"""

import dataclasses
from typing import Final, Literal, Protocol

import torch

from fvfast._shared.checks import check_count
from fvfast.atlas.plan import GIVEN, Plan
from fvfast.atlas.sizes import drawn_together, largest_batch_for
from fvfast.atlas.trials import Trials, Tried, try_sizes
from fvfast.engine.devices import check_device
from fvfast.models import LoadedModel
from fvfast.run.batch_sizes import BatchCost

AUTO: Final = "auto"
DEFAULT: Final = "default"

AskedSize = int | Literal["auto", "default"] | None
"""A number; "auto" to measure; "default" for 64 crops; None for "auto" on a GPU, else "default"."""

WITHOUT_GPU = (
    "the default, because the plan was made without a GPU; made on a worker's machine, with "
    "--batch-size auto, it has what is best there"
)
NOT_MEASURED = "the default, not measured"


class DrawsBatches(Protocol):
    """Draws batches to see what they cost, as `fvfast.atlas.trials.Trials` does."""

    most: int

    def cost(self, size: int) -> BatchCost | None:
        """Draw a batch; None if it does not fit the memory."""
        ...

    def close(self) -> None:
        """Give back the memory."""
        ...


def choose_batch_size(
    plan: Plan,
    asked: AskedSize,
    loaded: LoadedModel,
    *,
    device: str | torch.device | None = None,
    sharing: int = 1,
) -> Plan:
    """Choose how many pictures of a plan are drawn together.

    Parameters
    ----------
    plan
        Says nothing about that.
    asked
        What the user wants.
    loaded
        The network.
    device
        Where that is measured. Default: a GPU if there is one.
    sharing
        Workers that will share the device's memory.

    Returns
    -------
    plan
        With the number, and how it was chosen.

    Raises
    ------
    ValueError, TypeError
        It is no number; or "auto" was asked for, and there is no GPU.
    RuntimeError
        The device cannot be used.
    """
    if asked == DEFAULT:
        return _with(plan, drawn_together(plan), NOT_MEASURED)
    if asked not in (None, AUTO):
        return _with(plan, check_count(asked, "batch_size", 1), GIVEN)
    gpu = gpu_to_measure_on(device)
    if gpu is None and asked == AUTO:
        raise ValueError(
            "batch_size 'auto' measures on a GPU, and there is none here. Begin the atlas on a "
            "machine with a worker's GPU, give a number, or leave it out (--batch-size) for the "
            "default."
        )
    if gpu is None:
        return _with(plan, drawn_together(plan), WITHOUT_GPU)
    trials = Trials(plan, loaded, gpu, first=drawn_together(plan), sharing=sharing)
    return tried_by(plan, trials, torch.cuda.get_device_name(gpu))


def tried_by(plan: Plan, trials: DrawsBatches, device: str) -> Plan:
    """Choose how many pictures are drawn together by trials, on a device of this name."""
    first = drawn_together(plan)
    try:
        most = min(trials.most, largest_batch_for(len(plan), first))
        tried = try_sizes(first, most, trials.cost)
    finally:
        trials.close()
    return _with(plan, tried.size, how_chosen(tried, device))


def gpu_to_measure_on(device: str | torch.device | None) -> torch.device | None:
    """Return the GPU of this machine on which an atlas is drawn; None if it has none."""
    if device is None and not torch.cuda.is_available():
        return None
    found = check_device("cuda" if device is None else device)
    return found if found.type == "cuda" else None


def how_chosen(tried: Tried, device: str) -> str:
    """Say on which device a number was tried, and what that has shown."""
    return f"tried on {device}: {tried}"


def _with(plan: Plan, size: int, how: str) -> Plan:
    return dataclasses.replace(plan, batch_size=size, batch_size_chosen=how)
