"""What a pass over images found: the examples of each unit, and how to look at and keep them."""

import base64
import html
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from PIL import Image

from fvfast._shared.messages import printable, shortened
from fvfast.atlas.examples.checkpoints import Progress
from fvfast.atlas.examples.crops import cropped
from fvfast.atlas.examples.fields import Field
from fvfast.atlas.examples.layers import LayerReader
from fvfast.atlas.examples.pixels import Pixels, load_pixels
from fvfast.atlas.examples.running import NONE, RunningExamples
from fvfast.atlas.examples.samples import ImageSource, Sample, UnreadableError, picked
from fvfast.atlas.examples.unit_examples import Example, UnitExamples
from fvfast.atlas.examples.writing import Write, write_set
from fvfast.atlas.places import Place
from fvfast.files.images import MEMORY, pillow_for_many
from fvfast.files.memory_budget import MemoryBudget

_STAY = "Images must stay as they are, and in their order, until their crops are made."
_SHOWN_UNITS, _THUMBNAIL, _LONGEST_NAME = 8, 96, 40


class ExampleSet(Sequence[UnitExamples]):
    """The examples of all units, in the order that was asked for: a sequence of `UnitExamples`.

    ``examples["features.3", 17]`` is a unit by its layer and index. In a notebook the set shows its
    first units.

    Attributes
    ----------
    images
        How many images were read.
    unreadable
        How many could not be read.
    named_unreadable
        The first of these, each with the reason.
    interrupted
        Whether the user ended the pass before all images were read.
    input_shape
        (C, H, W) of what the network was shown.
    layers
        Names of the units' layers.

    Parameters
    ----------
    readers, fields
        The units, and what they see.
    running
        What was found.
    progress
        How far the pass has come.
    source
        The images.
    input_shape, mode
        (C, H, W) of the network's input, and Pillow's name of such images.
    interrupted
        See above.
    """

    def __init__(
        self,
        readers: Sequence[LayerReader],
        fields: Sequence[Field],
        running: RunningExamples,
        progress: Progress,
        source: ImageSource,
        input_shape: tuple[int, int, int],
        mode: str,
        interrupted: bool,
    ) -> None:
        self.images = progress.read
        self.unreadable = progress.unreadable
        self.named_unreadable = list(progress.named)
        self.interrupted = interrupted
        self.input_shape = input_shape
        self._mode = mode
        self._progress = progress
        self._source = source
        self._found = running.state()
        self._edges = running.histograms.edges().cpu()
        self._places = [
            (reader, field, unit)
            for reader, field in zip(readers, fields, strict=True)
            for unit in range(len(reader))
        ]
        self._rows = {
            (reader.units.layer.name, reader.units.indices[unit]): row
            for row, (reader, _, unit) in enumerate(self._places)
        }
        self.layers = list(dict.fromkeys(layer for layer, _ in self._rows))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: int | slice | tuple[str, int]) -> "UnitExamples":  # type: ignore[override]
        """Return a unit by its place, or by its layer and index."""
        if isinstance(key, tuple):
            if key not in self._rows:
                raise KeyError(f"there is no unit {key[1]!r} of layer {key[0]!r} in {self!r}.")
            return self._unit(self._rows[key])
        if isinstance(key, slice):
            return [self._unit(row) for row in range(len(self))[key]]  # type: ignore[return-value]
        return self._unit(range(len(self))[key])

    def __repr__(self) -> str:
        layers = self.layers
        listed = ", ".join(shortened(printable(name), _LONGEST_NAME) for name in layers[:4])
        unreadable = f", {self.unreadable} unreadable" if self.unreadable else ""
        return (
            f"ExampleSet({len(self)} units of {listed}{', ...' if len(layers) > 4 else ''}; "
            f"{self.images} images{unreadable}{', interrupted' if self.interrupted else ''})"
        )

    def crops(self, unit: UnitExamples) -> list[Image.Image]:
        """Return the crops of a unit's examples, which are read for this.

        Parameters
        ----------
        unit
            One of this set.

        Returns
        -------
        crops
            One for each of ``unit.top``.

        Raises
        ------
        ValueError
            An image cannot be read any more.
        """
        with pillow_for_many():
            loaders = self.loaders(example.image for example in unit.top)
            pixels = {number: load() for number, load in loaders}
        return [cropped(pixels[example.image], example.box) for example in unit.top]

    def write(
        self,
        place: Place | Write | str | os.PathLike[str],
        *,
        threads: int | None = None,
        progress: bool = True,
    ) -> None:
        """Write all units: ``examples/<layer>/<index>.json`` and ``<index>.<rank>.webp``.

        Pictures come first: where the record of a unit is, its pictures are. Images are read again,
        one after the other, so memory does not grow with the number of units.

        Parameters
        ----------
        place
            A folder; a URL that fsspec knows; a `fvfast.atlas.Place`; or a function of a name and
            the bytes of a file, which writes the file completely or not at all, and is called from
            several threads.
        threads
            How many; None for as many as Python takes by default.
        progress
            Show a progress bar.

        Raises
        ------
        OSError
            A file cannot be written.
        ValueError
            An image cannot be read any more.
        """
        write_set(self, place, threads=threads, progress=progress)

    def best_images(self) -> list[list[int]]:
        """Return the numbers of the best images of each unit."""
        found = self._found["images"]
        return [[image for image in row if image != NONE] for row in found.tolist()]

    def loaders(self, numbers: Iterable[int]) -> Iterator[tuple[int, Callable[[], Pixels]]]:
        """Yield functions that load images as the network saw them, with the images' numbers.

        They may be called in any thread, and raise ValueError where an image cannot be read any
        more.

        Parameters
        ----------
        numbers
            Which images: some of `best_images`.
        """
        if not self._source.can_repeat:
            for number in sorted(set(numbers)):
                yield number, partial(self._progress.pixels.__getitem__, number)
            return
        budget = MemoryBudget(MEMORY)
        for number, sample in picked(self._source, numbers):
            known, _ = self._progress.names[number]
            if sample.source != known:
                raise ValueError(
                    f"image {number} of {self._source.name} was {known!r}, and is "
                    f"{sample.source!r} now. {_STAY}"
                )
            yield number, partial(self._load, number, sample, budget)

    def _load(self, number: int, sample: Sample, budget: MemoryBudget) -> Pixels:
        height, width = self.input_shape[1:]
        try:
            return load_pixels(sample, (height, width), self._mode, budget)
        except UnreadableError as error:
            raise ValueError(
                f"{self._progress.names[number][0]} could be read before, and now it cannot: "
                f"{error}. {_STAY}"
            ) from error

    def _unit(self, row: int) -> UnitExamples:
        reader, field, unit = self._places[row]
        found, units = self._found, reader.units
        seen = int(found["seen"][row])
        return UnitExamples(
            layer=units.layer.name,
            index=units.indices[unit],
            kind=units.kind,
            name=units.names[unit],
            images=seen,
            mean=float(found["total"][row]) / seen if seen else None,
            active_share=int(found["active"][row]) / seen if seen else None,
            edges=tuple(self._edges[row].tolist()),
            counts=tuple(found["counts"][row].tolist()),
            top=tuple(self._examples(row, reader, field, unit)),
        )

    def _examples(
        self, row: int, reader: LayerReader, field: Field, unit: int
    ) -> Iterator[Example]:
        rows = (self._found[name][row].tolist() for name in ("values", "images", "positions"))
        for rank, (value, image, position) in enumerate(zip(*rows, strict=True)):
            if image == NONE:
                return
            source, label = self._progress.names[image]
            place = reader.place(unit, position)
            yield Example(rank, value, source, label, image, place, field.box(place))

    def _repr_html_(self) -> str:
        """Return the first units with their crops, for notebooks."""
        rows = []
        for unit in self[:_SHOWN_UNITS]:  # type: ignore[attr-defined]
            title = html.escape(printable(f"{unit.layer}/{unit.index} {unit.name or ''}".strip()))
            numbers = (
                "no images"
                if unit.mean is None or unit.active_share is None
                else f"mean {unit.mean:.3g}, active in {unit.active_share:.0%}"
            )
            rows.append(f"<tr><td>{title}<br><small>{numbers}</small></td>{self._cells(unit)}</tr>")
        more = len(self) - len(rows)
        return (
            f"<p>{html.escape(repr(self))}</p><table>{''.join(rows)}</table>"
            + (f"<p>and {more} more</p>" if more else "")
        )  # fmt: skip

    def _cells(self, unit: UnitExamples) -> str:
        # Of an archive, all would have to be read again.
        quick = self._source.can_pick or not self._source.can_repeat
        crops: Sequence[Image.Image | None] = self.crops(unit) if quick else [None] * len(unit.top)
        cells = []
        for example, crop in zip(unit.top, crops, strict=True):
            title = html.escape(printable(example.source))
            picture = title if crop is None else _picture(crop, title)
            cells.append(f"<td>{picture}<br><small>{example.value:.3g}</small></td>")
        return "".join(cells)


def _picture(crop: Image.Image, title: str) -> str:
    shown = crop.resize((_THUMBNAIL, max(1, _THUMBNAIL * crop.height // crop.width)))
    file = io.BytesIO()
    shown.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{title}" title="{title}">'
