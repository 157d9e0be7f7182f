"""Seeds for a script."""

import random

import torch


def set_seed(seed: int) -> None:
    """Seed the generators of torch and Python, and let cuDNN choose deterministic algorithms.

    Everything random in `fvfast.lucent` is drawn from torch's global generator, so
    ``torch.manual_seed(seed)`` alone decides a picture, too.

    Parameters
    ----------
    seed
        Any integer.
    """
    torch.manual_seed(seed)  # on every device
    torch.backends.cudnn.deterministic = True
    random.seed(seed)
