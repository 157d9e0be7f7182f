"""Whether a device can be used, found out before any work starts."""

import os
import warnings

import torch

_LISTED = "`fvfast info` lists the devices."


def check_device(device: torch.device | str | int) -> torch.device:
    """Return a device that can be used; a CUDA device always with its index.

    Parameters
    ----------
    device
        A device, its name, or the index of a GPU, as torch takes them.

    Raises
    ------
    TypeError
        ``device`` is none of these.
    ValueError
        There is no device with this name or index.
    RuntimeError
        This build of torch does not support the device, or its driver does not work.
    """
    if not isinstance(device, (torch.device, str, int)) or isinstance(device, bool):
        raise TypeError(
            'device must be a torch.device, a name such as "cpu" or "cuda:1", or the index of a '
            f"GPU, got {device!r}."
        )
    asked = f"the device {str(device)!r} cannot be used"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f'{asked}: expected a name of torch\'s such as "cpu", "cuda", "cuda:1" or "mps" '
            f"({_first_line(error)}). {_LISTED}"
        ) from error
    if found.type == "cuda":
        return _check_gpu(found, asked)
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, ImportError) as error:
        # torch raises any of them, depending on the device and on how torch was built.
        raise RuntimeError(f"{asked}: {_first_line(error)}. {_LISTED}") from error
    return found


def _check_gpu(device: torch.device, asked: str) -> torch.device:
    with warnings.catch_warnings():
        # The error below says what torch's warning about the driver says.
        warnings.simplefilter("ignore")
        usable, count = torch.cuda.is_available(), torch.cuda.device_count()
    if not usable:
        raise RuntimeError(f'{asked}: {_why_no_gpu()}, or use device="cpu". {_LISTED}')
    # "cuda" means torch's current GPU.
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= count:
        there = "is one GPU, cuda:0" if count == 1 else f"are {count} GPUs, cuda:0 to {count - 1}"
        raise ValueError(f"{asked}: there {there}. {_LISTED}")
    return torch.device("cuda", index)


def _why_no_gpu() -> str:
    """Say what keeps torch from using a GPU, and what to do about it."""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built without CUDA. Install a build of torch with CUDA "
            "(https://pytorch.org/get-started/locally)"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return (
            f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU. Unset it, or name the GPUs to use"
        )
    try:
        torch.cuda.init()
        reason = "torch finds no GPU"
    except (RuntimeError, AssertionError) as error:
        reason = _first_line(error)
    return f"{reason}. Check with `nvidia-smi` that the GPU and its driver work"


def _first_line(error: BaseException) -> str:
    """Return the first sentence or line of torch's message; the rest is for torch's developers."""
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
