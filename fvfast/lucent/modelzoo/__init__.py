"""Networks under Lucent's names: those of torchvision, where torchvision is installed.

``from fvfast.lucent.modelzoo import *`` gives torchvision's networks, as Lucent's does.
"""

import importlib
from typing import Any, NoReturn


def inceptionv1(*_args: Any, **_settings: Any) -> NoReturn:
    """Say what to use in place of Lucid's InceptionV1, whose weights Lucent downloads.

    Raises
    ------
    NotImplementedError
        Always.
    """
    raise NotImplementedError(
        "inceptionv1: fvfast does not have the weights of Lucid's InceptionV1, which Lucent "
        "downloads. Load another torch.nn.Module: torchvision.models.googlenet(weights='DEFAULT') "
        "has the same architecture, fvfast.models.load_model('efficientnet_lite0').model needs no "
        "download, and the network of an installed Lucent (from lucent.modelzoo import "
        "inceptionv1) runs here as it is."
    )


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted({"inceptionv1", *_public_names(_torchvision(name))})
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    models = _torchvision(name)
    if not hasattr(models, name):
        raise AttributeError(
            f"fvfast.lucent.modelzoo has no network {name!r}: it has those of torchvision.models."
        )
    return getattr(models, name)


def _torchvision(name: str) -> Any:
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        raise AttributeError(
            f"fvfast.lucent.modelzoo has no {name!r}: its networks are torchvision's, which is not "
            "installed: pip install 'fvfast[torchvision]'."
        ) from error


def _public_names(models: Any) -> list[str]:
    return [name for name in vars(models) if not name.startswith("_")]
