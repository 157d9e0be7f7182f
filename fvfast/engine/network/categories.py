"""Names of a network's classes, where the network carries them, and their indices."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

_LONGEST_INDEX = 18  # digits; Python refuses to read thousands of them


def find_categories(model: nn.Module | None) -> list[str] | None:
    """Return the names of the classes that a network carries, in the order of its outputs.

    Read, in this order, from: ``model.categories``, which `fvfast.models.load_model` sets;
    ``class_names`` or ``classes``; ``config.id2label`` (transformers), unless it only numbers them;
    ``label_names`` of timm's ``pretrained_cfg``. None if it has none of these.
    """
    for attribute in ("categories", "class_names", "classes"):
        if names := _names(getattr(model, attribute, None)):
            return names
    labels = getattr(getattr(model, "config", None), "id2label", None)
    if isinstance(labels, Mapping) and sorted(labels) == list(range(len(labels))):
        names = _names([labels[index] for index in range(len(labels))])
        if names and names != [f"LABEL_{index}" for index in range(len(names))]:
            return names
    settings = getattr(model, "pretrained_cfg", None)
    return _names(settings.get("label_names")) if isinstance(settings, Mapping) else None


def class_index(label: str, categories: Sequence[str] | None, owner: str) -> int:
    """Return the index of a class.

    Parameters
    ----------
    label
        Name of the class, in upper or lower case, or its index.
    categories
        Names of all classes, in the order of the network's outputs; None if they are unknown.
    owner
        The network, for messages.

    Raises
    ------
    ValueError
        The classes have no names, none has this one (the closest are listed), or several have.
    """
    if label.isascii() and label.isdecimal():
        if len(label) > _LONGEST_INDEX:
            raise ValueError(
                f"the class {label[:_LONGEST_INDEX]}... has {len(label)} digits; expected the "
                "index or the name of a class."
            )
        return int(label)
    if categories is None:
        raise ValueError(
            f"the class {label!r} is unknown: the names of the classes of {owner} are not "
            "known (ImageNet's come with torchvision: pip install 'fvfast[torchvision]'). Give "
            "the index of the class."
        )
    names = [category.casefold() for category in categories]
    found = [i for i, name in enumerate(names) if name == label.strip().casefold()]
    if len(found) > 1:
        raise ValueError(
            f"{label!r} is the name of several classes of {owner}: "
            f"{', '.join(map(str, found))}. Give the index of one."
        )
    if not found:
        raise ValueError(f"{owner} has no class {label!r}.{closest_names(label, categories)}")
    return found[0]


def closest_names(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a sentence that lists the known names most like one; empty if there is none."""
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=5, cutoff=0.5)
    return f" Closest names: {', '.join(prefix + one for one in close)}." if close else ""


def _names(value: Any) -> list[str] | None:
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value):
        return list(value)
    return None
