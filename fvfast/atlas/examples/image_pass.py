"""One pass over images: what is known of the units, how far it is, and what to tell of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm.auto import tqdm

from fvfast._shared.messages import printable, warn_user
from fvfast.atlas.examples.activations import Activations
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
from fvfast.atlas.examples.units import ChosenUnits
from fvfast.engine.borrowing.interrupts import let_interrupts_through, user_insists
from fvfast.models import LoadedModel

_NAMED = 20  # images that cannot be read, in messages and records
_PRUNED_EVERY = 64  # batches


class ImagePass:
    """One pass over all images.

    Parameters
    ----------
    loaded
        The network, borrowed, and how it takes images.
    chosen
        The units.
    source
        The images.
    count
        How many are kept for each unit.
    device
        Where the network is.
    """

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
        self._readers = [LayerReader(one, loaded.input_shape[1:]) for one in chosen]
        # Sums and bins need float64, which Apple's GPUs lack.
        self._home = torch.device("cpu") if device.type == "mps" else device
        self._activations = Activations(loaded, self._readers, device, self._home)
        self._running = RunningExamples(sum(map(len, self._readers)), count, self._home)
        self._progress = Progress()
        self._path: Path | None = None
        self._key: dict[str, str] = {}
        self._saved_at = 0
        self._fields = measure_fields(
            self._activations.network,
            self._readers,
            loaded.input_shape,
            loaded.values_range,
            device,
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

    def _batches(
        self, batch_size: int, threads: int | None
    ) -> contextlib.AbstractContextManager[Iterator[ImageBatch]]:
        return image_batches(
            self._source,
            self._loaded.input_shape,
            batch_size,
            start=self._progress.end,
            threads=threads,
        )

    def _add(self, batch: ImageBatch, *, prune: bool) -> None:
        if batch.numbers:
            values, positions = self._activations.largest(batch.pixels, batch.numbers[0])
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
