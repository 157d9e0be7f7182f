"""Makes the pictures that a command line asks for, and writes each as soon as it is ready."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer

from fvfast._arguments import file_names, parse_ids, parse_layer
from fvfast._previews import PICTURE_CHANNELS, preview_channels, save_arrays
from fvfast._settings import versions
from fvfast._terminal import StopRequest, stop_on_interrupt
from fvfast._version import VERSION
from fvfast.engine.layers import trace_layers
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.plot import Style
from fvfast.png import save_png

LAST_LAYER = -1


@dataclasses.dataclass(frozen=True)
class Job:
    """Pictures that are optimised together.

    Attributes
    ----------
    objective
        An objective with N combinations.
    targets
        What each of the N pictures shows: the layer, and the channel, neuron or class.
    """

    objective: Objective
    targets: list[dict[str, Any]]


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
        Names or indices of classes; None where they were not given.
    whole_layer
        Whether to maximise the mean square of the layer.
    channel_axis
        Axis of the channels in the layer's output; None for what the network tells.
    """

    layer: str | None
    channels: str | None
    neurons: str | None
    classes: Sequence[str] | None
    whole_layer: bool
    channel_axis: int | None = None

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
        if self.channel_axis is not None and self.channels is None:
            raise typer.BadParameter("--channel-axis says where the channels of --channel are.")
        if self.layer is None and not self.classes:
            raise typer.BadParameter(
                f"{given[0]} needs --layer NAME_OR_INDEX; `fvfast layers MODEL` lists them."
            )
        for ids in (self.channels, self.neurons):
            if ids is not None:
                parse_ids(ids)

    def jobs(self, loaded: LoadedModel, batch_size: int) -> list[Job]:
        """Jobs of up to ``batch_size`` pictures each.

        Raises
        ------
        ValueError
            The model has no such layer, class, channel or neuron.
        """
        layer: str | int = LAST_LAYER
        if self.layer is not None:
            layer = parse_layer(
                self.layer, trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
            )
        feeding: dict[str, Any] = {
            "input_shape": loaded.input_shape,
            "preprocess": loaded.preprocess,
        }
        if self.whole_layer:
            whole = Objective.layer(loaded.model, layer, **feeding)
            return [Job(whole, [{"layer": whole.layers[0].name, "whole_layer": True}])]
        if self.channels is not None:
            kind, ids = "channel", parse_ids(self.channels)
        elif self.neurons is not None:
            kind, ids = "neuron", parse_ids(self.neurons)
        else:
            kind = "class"
            ids = list(dict.fromkeys(map(loaded.class_index, self.classes or ())))
        jobs = []
        for part in _chunks(ids, batch_size):
            names = [_class_name(loaded, index) for index in part] if kind == "class" else None
            if kind == "channel":
                objective = Objective.channel(
                    loaded.model, layer, part, channel_axis=self.channel_axis, **feeding
                )
            else:
                objective = Objective.neuron(loaded.model, layer, part, names=names, **feeding)
            name = objective.layers[0].name
            jobs.append(Job(objective, [{"layer": name, kind: index} for index in part]))
        return jobs


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
    scores
        (N, steps), not finite for steps that were not taken.
    """

    images: torch.Tensor
    transparencies: torch.Tensor | None
    names: list[str]
    scores: torch.Tensor


@dataclasses.dataclass
class Outcome:
    """How `render` ended.

    Attributes
    ----------
    written
        Paths of the pictures.
    failed
        Names of the pictures that are not written because not one step could be taken.
    interrupted
        Whether the user interrupted it: what was there by then is written.
    """

    written: list[Path] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    interrupted: bool = False


def render(
    jobs: Sequence[Job],
    run: Callable[[Objective, StopRequest], Pictures],
    folder: Path,
    *,
    prefix: str,
    settings: Mapping[str, Any],
    style: Style,
    report: Callable[[Path, str], None],
) -> Outcome:
    """Do jobs one after another; write the pictures of each as soon as it is ready.

    Parameters
    ----------
    jobs
        The jobs.
    run
        Optimises one objective, and ends early when a stop is requested.
    folder
        Where to write.
    prefix
        What the names of the files begin with.
    settings
        How the pictures are made, written into the files.
    style
        See `fvfast.plot.blend_transparency`.
    report
        Called with the path and the name of each picture, and of each file of arrays.

    Returns
    -------
    outcome
        What was written and what was not.
    """
    files = iter(file_names(_all_names(jobs), prefix))
    outcome = Outcome()
    with stop_on_interrupt() as stop:
        for job in jobs:
            try:
                pictures = run(job.objective, stop)
            except KeyboardInterrupt:
                outcome.interrupted = True
                return outcome
            for index, name in enumerate(pictures.names):
                path = folder / next(files)
                result = _result(pictures.scores[index])
                if result["steps_taken"] == 0:
                    if not stop:
                        outcome.failed.append(name)
                    continue
                metadata = _metadata(name, {"objective": job.targets[index], **settings, **result})
                transparency = (
                    None if pictures.transparencies is None else pictures.transparencies[index]
                )
                _write(path, name, pictures.images[index], transparency, style, metadata, report)
                outcome.written.append(path)
            if stop:
                outcome.interrupted = True
                return outcome
    return outcome


def _write(
    path: Path,
    name: str,
    image: torch.Tensor,
    transparency: torch.Tensor | None,
    style: Style,
    metadata: dict[str, Any],
    report: Callable[[Path, str], None],
) -> None:
    """Write a picture; of an image with other channels, all of them and a picture of some."""
    count = len(image)
    if count not in PICTURE_CHANNELS:
        arrays = path.with_suffix(".npz")
        save_arrays(arrays, image, transparency, metadata)
        report(arrays, f"{name}, all {count} channels")
        shown = preview_channels(count)
        image = image[shown]
        listed = ", ".join(map(str, shown))
        metadata = {**metadata, "fvfast.channels": f"{listed} of {count}; all in {arrays.name}"}
        name = f"{name}, channel{'s' if len(shown) > 1 else ''} {listed}"
    save_png(path, image, transparency, style=style, metadata=metadata)
    report(path, name)


def _result(scores: torch.Tensor) -> dict[str, Any]:
    taken = scores[scores.isfinite()]
    return {"steps_taken": len(taken), "score": float(taken[-1]) if len(taken) else None}


def _metadata(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Title": name,
        "fvfast.objective": name,
        "fvfast.version": VERSION,
        "fvfast.seed": settings["seed"],
        "fvfast.settings": json.dumps({**settings, "versions": versions()}),
    }


def _all_names(jobs: Sequence[Job]) -> Iterator[str]:
    for job in jobs:
        yield from job.objective.combination_names


def _chunks(ids: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _class_name(loaded: LoadedModel, index: int) -> str:
    known = loaded.categories is not None and index < len(loaded.categories)
    return loaded.categories[index] if loaded.categories and known else f"class {index}"
