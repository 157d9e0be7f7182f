"""Makes the requested pictures, and writes each as soon as it is ready."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fvfast._shared.version import VERSION
from fvfast.cli.arguments import file_names
from fvfast.cli.existing import SETTINGS, arrays_of, finished
from fvfast.cli.films import Films
from fvfast.cli.previews import PICTURE_CHANNELS, preview_channels, save_arrays
from fvfast.cli.requests import Request
from fvfast.cli.step_pictures import STEPS, OnStep, StepPictures
from fvfast.cli.stopping import StopRequest
from fvfast.files.writing import remove_unfinished
from fvfast.objectives import Objective
from fvfast.plot import Style
from fvfast.plot.png import save_png
from fvfast.run.loop import StepReport
from fvfast.run.provenance import versions


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The results of one run: N pictures.

    Attributes
    ----------
    images
        (N, C, H, W).
    transparencies
        (N, C, H, W), or None.
    names
        The N names.
    scores
        (N, steps); not finite for steps that were not taken.
    """

    images: torch.Tensor
    transparencies: torch.Tensor | None
    names: list[str]
    scores: torch.Tensor


@dataclasses.dataclass
class Outcome:
    """What `Rendering.render` has done.

    Attributes
    ----------
    written
        Paths of the pictures that were written.
    there
        Paths of the pictures that existed before, made with the same settings.
    failed
        Names of the pictures that were not written because not a single step could be taken.
    interrupted
        Whether the user interrupted it. Pictures that had been started are written.
    """

    written: list[Path] = dataclasses.field(default_factory=list)
    there: list[Path] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    interrupted: bool = False


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How pictures are made and where they are written.

    Attributes
    ----------
    request
        The pictures.
    run
        Optimizes one objective, calls a function after each step, and ends early when a stop is
        requested.
    batch_size
        Pictures that are optimized together; at least those that are scored together.
    together
        Whether a picture depends on those that are optimized with it.
    folder
        Where to write.
    prefix
        Beginning of the file names.
    settings
        How the pictures are made, written into the files.
    style
        See `fvfast.plot.blend_transparency`.
    overwrite
        Whether to replace pictures that exist.
    report
        Called with the path and the name of each picture and of each file of arrays.
    save_every
        Also write the images after every so many steps, into a folder of their own.
    films
        Where films of the runs are written; None for none. A picture without its film is not
        finished.
    """

    request: Request
    run: Callable[[Objective, OnStep], Pictures]
    batch_size: int
    together: bool
    folder: Path
    prefix: str
    settings: Mapping[str, Any]
    style: Style
    overwrite: bool
    report: Callable[[Path, str], None]
    save_every: int | None = None
    films: Films | None = None

    def render(self, stop: StopRequest) -> Outcome:
        """Make one batch of pictures after the other; write each as soon as it is ready.

        Raises
        ------
        FileExistsError
            The folder has other pictures under the same names, or there are other films. Raised
            before any work is done.
        """
        paths = [self.folder / file for file in file_names(self.request.names, self.prefix)]
        batches = self.request.batches(range(len(paths)), self.batch_size)
        settings = [self._settings_of(one, batch) for batch in batches for one in batch]
        existing = finished(
            zip(paths, settings, strict=True),
            with_arrays=self.request.channels not in PICTURE_CHANNELS,
            overwrite=self.overwrite,
        )
        if self.films is not None:
            if not self.overwrite:
                self.films.check_replaceable(paths)
            existing = {path for path in existing if self.films.path_of(path).exists()}
        remove_unfinished(self.folder)
        outcome = Outcome()
        for path, name in zip(paths, self.request.names, strict=True):
            if path in existing:
                self.report(path, f"{name}, already there")
                outcome.there.append(path)
        missing = [position for position, path in enumerate(paths) if path not in existing]
        if self.together:
            # Repeat whole batches: a part of a batch would give other pictures.
            batches = [batch for batch in batches if not set(batch).isdisjoint(missing)]
        else:
            batches = self.request.batches(missing, self.batch_size)
        # No signal interrupts the writing of finished pictures.
        with stop.later():
            for batch in batches:
                if stop:
                    outcome.interrupted = True
                    break
                with self._watched([paths[one] for one in batch]) as on_step:
                    pictures = self._run(batch, stop, on_step)
                if pictures is not None:
                    chosen = [(paths[one], settings[one]) for one in batch]
                    self._write_all(pictures, chosen, outcome, lost=not stop)
                    if self.films is not None:
                        self.films.take(pictures.images)
                if stop:
                    outcome.interrupted = True
                    break
        return outcome

    def _settings_of(self, position: int, batch: Sequence[int]) -> dict[str, Any]:
        settings = {"objective": self.request.targets[position], **self.settings}
        if self.together and len(batch) > 1:
            settings["optimized_together"] = [self.request.names[one] for one in batch]
        return settings

    @contextlib.contextmanager
    def _watched(self, paths: Sequence[Path]) -> Iterator[OnStep]:
        """Write what is wanted of single steps of the pictures at some paths."""
        watching: list[OnStep] = []
        if self.save_every is not None:
            names = [path.stem for path in paths]
            watching.append(StepPictures(self.folder / STEPS, names, self.save_every))
        with contextlib.ExitStack() as stack:
            if self.films is not None:
                watching.append(stack.enter_context(self.films.of(paths)))

            def on_step(report: StepReport) -> None:
                for watch in watching:
                    watch(report)

            yield on_step

    def _run(self, batch: Sequence[int], stop: StopRequest, on_step: OnStep) -> Pictures | None:
        """Optimize a batch; None if it was interrupted before there was a picture."""
        objective = self.request.objective(batch)
        try:
            with stop.after_the_step():
                return self.run(objective, on_step)
        except KeyboardInterrupt:
            return None

    def _write_all(
        self,
        pictures: Pictures,
        chosen: Sequence[tuple[Path, Mapping[str, Any]]],
        outcome: Outcome,
        *,
        lost: bool,
    ) -> None:
        """Write a batch; if one picture cannot be written, write the others, then raise."""
        error: Exception | None = None
        for index, (path, settings) in enumerate(chosen):
            if path in outcome.there:
                continue
            result = _result(pictures.scores[index])
            if result["steps_taken"] == 0:
                if lost:
                    outcome.failed.append(pictures.names[index])
                continue
            try:
                self._write(path, pictures, index, {**settings, **result})
                outcome.written.append(path)
            except (OSError, ValueError, RuntimeError, MemoryError) as failure:
                error = error or failure
        if error is not None:
            raise error

    def _write(
        self, path: Path, pictures: Pictures, index: int, settings: Mapping[str, Any]
    ) -> None:
        """Write a picture; for an image with other channels, all of them and a picture of some."""
        image, name = pictures.images[index], pictures.names[index]
        transparency = None if pictures.transparencies is None else pictures.transparencies[index]
        metadata = _metadata(name, settings)
        count = len(image)
        if count not in PICTURE_CHANNELS:
            arrays = arrays_of(path)
            save_arrays(arrays, image, transparency, metadata)
            self.report(arrays, f"{name}, all {count} channels")
            shown = preview_channels(count)
            image = image[shown]
            listed = ", ".join(map(str, shown))
            metadata = {**metadata, "fvfast.channels": f"{listed} of {count}; all in {arrays.name}"}
            name = f"{name}, channel{'s' if len(shown) > 1 else ''} {listed}"
        save_png(path, image, transparency, style=self.style, metadata=metadata)
        self.report(path, name)


def _result(scores: torch.Tensor) -> dict[str, Any]:
    taken = scores[scores.isfinite()]
    return {"steps_taken": len(taken), "score": float(taken[-1]) if len(taken) else None}


def _metadata(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Title": name,
        "fvfast.objective": name,
        "fvfast.version": VERSION,
        "fvfast.seed": settings["seed"],
        SETTINGS: json.dumps({**settings, "versions": versions()}),
    }
