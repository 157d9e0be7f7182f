"""Runs images through a network once, and finds for each unit the images that excite it most."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from fvfast._shared.checks import check_count, check_sorted_range
from fvfast._shared.messages import printable, warn_user
from fvfast.atlas.examples.checkpoints import (
    Progress,
    described,
    read_checkpoint,
    run_key,
    write_checkpoint,
)
from fvfast.atlas.examples.example_set import ExampleSet
from fvfast.atlas.examples.fields import measure_fields
from fvfast.atlas.examples.layers import LayerReader
from fvfast.atlas.examples.pixels import MODES
from fvfast.atlas.examples.reading import ImageBatch, image_batches
from fvfast.atlas.examples.running import RunningExamples
from fvfast.atlas.examples.samples import ImageSource
from fvfast.atlas.examples.sources import Images, image_source
from fvfast.atlas.examples.units import ChosenUnits, Layers, choose_units
from fvfast.atlas.examples.writing import Place, Write
from fvfast.engine.borrowing.interrupts import let_interrupts_through, result_kept, user_insists
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.borrowing.state import borrowed, unwrap
from fvfast.engine.devices import check_device
from fvfast.engine.memory import free_memory
from fvfast.engine.network.layers import Preprocess
from fvfast.engine.passes import is_out_of_memory, run_views
from fvfast.engine.taps import TappedModel
from fvfast.files.writing import check_replaceable
from fvfast.models import VALUES_RANGE, LoadedModel
from fvfast.objectives.input_shape import checked_input_shape

_NAMED = 20  # images that cannot be read, in messages and records
_PRUNED_EVERY = 64  # batches


@result_kept
def dataset_examples(
    model: nn.Module | LoadedModel,
    layers: Layers,
    images: Images,
    *,
    k: int = 9,
    batch_size: int = 32,
    device: torch.device | str | int | None = None,
    input_shape: Sequence[int] | None = None,
    values_range: Sequence[float] | None = None,
    preprocess: Preprocess | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 10_000,
    threads: int | None = None,
    progress: bool = True,
) -> ExampleSet:
    """Find, for each of many units, the images that excite it most.

    All images go through the network once, each cropped around its center to the shape of the
    network's input. Of each unit, the largest activation in each image counts. Memory grows with
    the number of units and k, but not with the number of images.

    Parameters
    ----------
    model
        The network; or what `fvfast.models.load_model` returns, which says how it takes images.
    layers
        A layer, by name, index or module, for all its channels; a list of layers; indices of
        channels by the name of the layer, ``{"features.3": [0, 17]}``; or `Units`, also for
        neurons, classes and directions.
    images
        A folder; tar files in the layout of WebDataset (paths or URLs, ``a-{000..003}.tar``); or
        any iterable of (image, label, source), (image, label) or images, each a PIL image, an array
        (H, W, C) or a tensor (C, H, W), of uint8 or of numbers from 0 to 1.
    k
        How many images are kept for each unit.
    batch_size
        Images that run together; fewer, if the memory is too small. Results differ by no more than
        rounding.
    device
        Where to run the network; None leaves it where it is.
    input_shape
        (C, H, W) that the network is shown; None for the shape that it declares, or (3, 224, 224).
    values_range
        Lowest and highest value of the images that ``preprocess`` (or, without one, the network)
        takes; (-1, 1) by default.
    preprocess
        Applied to images (N, C, H, W) in ``values_range`` before the network.
    checkpoint
        Path of a file that keeps how far the pass has come. Another call with the same network,
        units and images goes on from there, with the same result.
    checkpoint_every
        After how many images it is written.
    threads
        How many threads decode images; None for as many as Python takes by default.
    progress
        Show a progress bar.

    Returns
    -------
    examples
        A sequence of `UnitExamples`, in the order of the units; ``.write(place)`` writes them.
        Interrupted by Ctrl-C, it holds what the images until then have shown.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit the network; no image can be read; or the checkpoint is of
        something else.
    OSError
        There is no such folder or archive, or the checkpoint cannot be written.

    Warns
    -----
    UserWarning
        Once, at the end, with the names of images that could not be read.
    RuntimeWarning
        Activations were not finite, or the pass was interrupted.
    """
    loaded = _loaded(model, input_shape, values_range, preprocess)
    count, batch = check_count(k, "k", 1), check_count(batch_size, "batch_size", 1)
    every = check_count(checkpoint_every, "checkpoint_every", 1)
    chosen = choose_units(loaded.model, layers, loaded.input_shape, loaded.preprocess)
    source = image_source(images)
    path = None if checkpoint is None else check_replaceable(Path(checkpoint))
    where = None if device is None else check_device(device)
    with torch.inference_mode(False), borrowed(loaded.model, where) as found, torch.no_grad():
        run = _Run(loaded, chosen, source, count, found)
        if path is not None:
            run.resume(path)
        interrupted = run.go(batch, every, threads, progress)
    run.report()
    return run.result(interrupted)


def write_examples(
    model: nn.Module | LoadedModel,
    layers: Layers,
    images: Images,
    place: Place | Write | str | os.PathLike[str],
    *,
    threads: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> ExampleSet:
    """Find the examples of units and write them, unless the pass over the images is interrupted.

    Parameters
    ----------
    model, layers, images, threads, progress
        As in `dataset_examples`.
    place
        Where to; see `ExampleSet.write`.
    settings
        Other arguments of `dataset_examples`.

    Returns
    -------
    examples
        What was found; ``examples.interrupted`` says whether it was written.
    """
    examples = dataset_examples(
        model, layers, images, threads=threads, progress=progress, **settings
    )
    if not examples.interrupted:
        examples.write(place, threads=threads, progress=progress)
    return examples


class _Run:
    """One pass over the images."""

    def __init__(
        self,
        loaded: LoadedModel,
        chosen: list[ChosenUnits],
        source: ImageSource,
        count: int,
        device: torch.device,
    ) -> None:
        self._loaded = loaded
        self._chosen = chosen
        self._source = source
        self._count = count
        self._device = device
        self._size = loaded.input_shape[1:]
        self._readers = [LayerReader(one, self._size) for one in chosen]
        self._network = TappedModel(loaded.model, [one.layer for one in chosen], loaded.preprocess)
        # Sums and bins need float64, which Apple's GPUs lack.
        self._home = torch.device("cpu") if device.type == "mps" else device
        units = sum(map(len, self._readers))
        self._running = RunningExamples(units, count, self._home)
        self._progress = Progress()
        self._path: Path | None = None
        self._key: dict[str, str] = {}
        self._saved_at = 0
        self._most = sys.maxsize  # images that the memory suffices for
        self._fields = measure_fields(
            self._network, self._readers, loaded.input_shape, loaded.values_range, device
        )

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one, and keep it up to date."""
        settings = {
            "k": self._count,
            "input_shape": self._loaded.input_shape,
            "values_range": self._loaded.values_range,
            "preprocess": described(self._loaded.preprocess),
        }
        self._key = run_key(self._loaded.model, self._chosen, settings, self._source.listing)
        self._path = path
        if (found := read_checkpoint(path, self._key)) is not None:
            self._progress, state = found
            self._running.restore(state)
            self._saved_at = self._progress.end

    def go(self, batch_size: int, every: int, threads: int | None, progress: bool) -> bool:
        """Read the images that are left; return whether the user interrupted this."""
        start = self._progress.end
        bar = tqdm(total=self._source.total, initial=start, desc="images", disable=not progress)
        try:
            with bar, self._batches(batch_size, threads) as batches:
                for number, batch in enumerate(batches):
                    self._add(batch, prune=number % _PRUNED_EVERY == _PRUNED_EVERY - 1)
                    bar.update(batch.end - bar.n)
                    if batch.end - self._saved_at >= every:
                        self.save()
                    let_interrupts_through()
        except KeyboardInterrupt:
            if not self._progress.read or user_insists():
                raise
            kept = f" {self._path} keeps them to go on." if self._path is not None else ""
            warn_user(
                f"interrupted after {self._progress.end} images: the examples among these are "
                f"kept.{kept}",
                RuntimeWarning,
            )
            return True
        finally:
            self.save()  # also after an error, such as that of a disk
        return False

    def save(self) -> None:
        """Write the checkpoint, if there is one and something is new."""
        if self._path is None or self._saved_at == self._progress.end:
            return
        self._prune()
        write_checkpoint(self._path, self._key, self._progress, self._running.state())
        self._saved_at = self._progress.end

    def report(self) -> None:
        """Warn of images that could not be read, and of activations that are not finite.

        Raises
        ------
        ValueError
            No image could be read.
        """
        progress = self._progress
        text = "".join(f"\n  {printable(one)}" for one in progress.named)
        if progress.unreadable > len(progress.named):
            text += f"\n  and {progress.unreadable - len(progress.named)} more"
        if not progress.read:
            raise ValueError(
                f"none of the {progress.unreadable} images of {self._source.name} could be "
                f"read:{text}"
                if progress.unreadable
                else f"{self._source.name} has no images."
            )
        if progress.unreadable:
            warn_user(
                f"{progress.unreadable} of {progress.end} images of {self._source.name} could not "
                f"be read, and were skipped:{text}",
                UserWarning,
            )
        missing = progress.read - int(self._running.seen.min())
        if missing:
            warn_user(
                f"up to {missing} of {progress.read} images gave a unit an activation that is NaN "
                "or infinite; these are left out. Check values_range and the type of the weights.",
                RuntimeWarning,
            )

    def result(self, interrupted: bool) -> ExampleSet:
        """Return what was found."""
        self._prune()
        return ExampleSet(
            self._readers,
            self._fields,
            self._running,
            self._progress,
            self._source,
            self._loaded.input_shape,
            MODES[self._loaded.input_shape[0]],
            interrupted,
        )

    def _batches(self, batch_size: int, threads: int | None) -> Any:
        return image_batches(
            self._source,
            self._loaded.input_shape,
            batch_size,
            start=self._progress.end,
            threads=threads,
        )

    def _add(self, batch: ImageBatch, *, prune: bool) -> None:
        if batch.numbers:
            values, positions = self._largest(batch)
            # From here to the end no interrupt comes through: all of a batch counts, or nothing.
            numbers = torch.tensor(batch.numbers, device=self._home)
            self._running.add(values, positions, numbers)
        progress = self._progress
        for number, sample in zip(batch.numbers, batch.samples, strict=True):
            progress.names[number] = sample.source, sample.label
        progress.end = batch.end
        progress.read += len(batch.numbers)
        progress.unreadable += len(batch.unreadable)
        progress.named += batch.unreadable[: _NAMED - len(progress.named)]
        if not self._source.can_repeat:
            pixels = batch.pixels.permute(0, 2, 3, 1).numpy()
            progress.pixels.update(zip(batch.numbers, pixels, strict=True))
        if prune or not self._source.can_repeat:
            self._prune()

    def _largest(self, batch: ImageBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a batch: values and positions (U, B)."""
        low, high = self._loaded.values_range
        pixels = batch.pixels.to(self._device, non_blocking=True)
        images = torch.add(low, pixels.float(), alpha=(high - low) / 255)
        with drawn_from(0, batch.numbers[0], self._device):
            found = self._within_memory(images)
        values, positions = zip(*found, strict=True)
        return torch.cat(values, dim=1), torch.cat(positions, dim=1)

    def _within_memory(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Run images in as many parts as the memory needs: values and positions of each."""
        found: list[tuple[torch.Tensor, torch.Tensor]] = []
        done = 0
        while done < len(images):
            part = images[done : done + self._most]
            try:
                found.append(self._run(part))
            except Exception as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self._most = len(part) // 2
                free_memory(self._device)
            else:
                done += len(part)
        return found

    def _run(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = run_views(self._network, images)
        found = [
            reader.largest(output) for reader, output in zip(self._readers, outputs, strict=True)
        ]
        values = torch.cat([value.to(self._home) for value, _ in found])
        return values, torch.cat([position.to(self._home) for _, position in found])

    def _prune(self) -> None:
        """Forget names and pixels of images that are no longer among the best of any unit."""
        best = set(self._running.images.unique().tolist())
        progress = self._progress
        progress.names = {n: names for n, names in progress.names.items() if n in best}
        # Copies: each would otherwise hold its whole batch.
        progress.pixels = {
            n: pixels if pixels.base is None else pixels.copy()
            for n, pixels in progress.pixels.items()
            if n in best
        }


def _loaded(
    model: nn.Module | LoadedModel,
    input_shape: Sequence[int] | None,
    values_range: Sequence[float] | None,
    preprocess: Preprocess | None,
) -> LoadedModel:
    """Return the network with all that says how it takes images."""
    network = unwrap(model.model if isinstance(model, LoadedModel) else model)
    if input_shape is None and isinstance(model, LoadedModel):
        shape = model.input_shape
    else:
        shape = checked_input_shape(input_shape, network)
    if shape[0] not in MODES:
        raise ValueError(
            f"the network takes images of {shape[0]} channels; dataset examples are for images in "
            "color (3) or gray (1)."
        )
    default = model.values_range if isinstance(model, LoadedModel) else VALUES_RANGE
    low, high = check_sorted_range(
        default if values_range is None else values_range, "dataset_examples"
    )
    if preprocess is None and isinstance(model, LoadedModel):
        preprocess = model.preprocess
    name = model.name if isinstance(model, LoadedModel) else type(network).__name__
    return LoadedModel(network, name, shape, (low, high), preprocess)
