"""Makes the pictures that a command line asks for, and writes each as soon as it is ready."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer

from fvfast._arguments import file_names, parse_ids, parse_layer
from fvfast._terminal import StopRequest, stop_on_interrupt
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.plot import Style
from fvfast.png import save_png

LAST_LAYER = -1


@dataclasses.dataclass(frozen=True)
class Target:
    """What the pictures are optimised for, as the command line says it.

    Attributes
    ----------
    layer
        Name or index of a layer; None where it was not given.
    channels, neurons
        Lists of numbers such as ``3,5-9``.
    classes
        Names or indices of classes.
    whole_layer
        Whether to maximise the mean square of the layer.
    """

    layer: str | None
    channels: str | None
    neurons: str | None
    classes: Sequence[str]
    whole_layer: bool

    def __post_init__(self) -> None:
        kinds = {
            "--channel": self.channels is not None,
            "--neuron": self.neurons is not None,
            "--class": bool(self.classes),
            "--whole-layer": self.whole_layer,
        }
        given = [option for option, used in kinds.items() if used]
        if len(given) != 1:
            raise typer.BadParameter(
                f"expected one of {', '.join(kinds)}; got {' and '.join(given) or 'none'}."
            )
        if self.layer is None and not self.classes:
            raise typer.BadParameter(
                f"{given[0]} needs --layer NAME_OR_INDEX; `fvfast layers MODEL` lists them."
            )
        for ids in (self.channels, self.neurons):
            if ids is not None:
                parse_ids(ids)

    def objectives(self, loaded: LoadedModel, batch_size: int) -> list[Objective]:
        """Objectives of up to ``batch_size`` pictures each.

        Raises
        ------
        ValueError
            The model has no such layer, class, channel or neuron.
        """
        layer = LAST_LAYER if self.layer is None else parse_layer(self.layer)
        feeding: dict[str, Any] = {
            "input_shape": loaded.input_shape,
            "preprocess": loaded.preprocess,
        }
        if self.whole_layer:
            return [Objective.layer(loaded.model, layer, **feeding)]
        if self.channels is not None:
            return [
                Objective.channel(loaded.model, layer, ids, **feeding)
                for ids in _chunks(parse_ids(self.channels), batch_size)
            ]
        if self.neurons is not None:
            return [
                Objective.neuron(loaded.model, layer, ids, **feeding)
                for ids in _chunks(parse_ids(self.neurons), batch_size)
            ]
        indices = list(dict.fromkeys(loaded.class_index(label) for label in self.classes))
        return [
            Objective.neuron(
                loaded.model, layer, ids, names=[_class_name(loaded, i) for i in ids], **feeding
            )
            for ids in _chunks(indices, batch_size)
        ]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What one run gave: N pictures.

    Attributes
    ----------
    images
        (N, C, H, W).
    transparencies
        (N, C, H, W), or None.
    names
        The N names.
    results
        What to add to the settings in each file, such as the final score.
    """

    images: torch.Tensor
    transparencies: torch.Tensor | None
    names: list[str]
    results: list[dict[str, Any]]


def render(
    objectives: Sequence[Objective],
    run: Callable[[Objective, StopRequest], Pictures],
    folder: Path,
    *,
    prefix: str,
    settings: Mapping[str, Any],
    style: Style,
    report: Callable[[Path, str], None],
) -> bool:
    """Optimise objectives one after another; write the pictures of each as soon as it is ready.

    Parameters
    ----------
    objectives
        The objectives.
    run
        Optimises one of them, and ends early when a stop is requested.
    folder
        Where to write.
    prefix
        What the names of the files begin with.
    settings
        How the pictures are made, written into the files.
    style
        See `fvfast.plot.blend_transparency`.
    report
        Called with the path and the name of each picture.

    Returns
    -------
    complete
        False when the user interrupted it: what was there by then is written.
    """
    files = iter(file_names(_all_names(objectives), prefix))
    with stop_on_interrupt() as stop:
        for objective in objectives:
            try:
                pictures = run(objective, stop)
            except KeyboardInterrupt:
                return False
            for index, name in enumerate(pictures.names):
                path = save_png(
                    folder / next(files),
                    pictures.images[index],
                    None if pictures.transparencies is None else pictures.transparencies[index],
                    style=style,
                    metadata=_metadata(name, {**settings, **pictures.results[index]}),
                )
                report(path, name)
            if stop:
                return False
    return True


def _metadata(name: str, settings: Mapping[str, Any]) -> dict[str, str]:
    version = importlib.metadata.version("fvfast")
    return {
        "Title": name,
        "Software": f"fvfast {version}",
        "fvfast.objective": name,
        "fvfast.version": version,
        "fvfast.seed": str(settings["seed"]),
        "fvfast.settings": json.dumps(settings),
    }


def _all_names(objectives: Sequence[Objective]) -> Iterator[str]:
    for objective in objectives:
        yield from objective.combination_names


def _chunks(ids: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _class_name(loaded: LoadedModel, index: int) -> str:
    known = loaded.categories is not None and index < len(loaded.categories)
    return loaded.categories[index] if loaded.categories and known else f"class {index}"
