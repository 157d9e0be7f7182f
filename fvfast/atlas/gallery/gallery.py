"""Makes the pages of an atlas."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fvfast.atlas.gallery.atlas import Atlas
from fvfast.atlas.gallery.layers import ShownLayer, unit_details
from fvfast.atlas.gallery.naming import slugs
from fvfast.atlas.gallery.pages import Site, write_pages
from fvfast.atlas.gallery.scripts import UNITS_PER_SCRIPT, script
from fvfast.atlas.gallery.summary import GallerySummary
from fvfast.atlas.gallery.unit_files import UnitFiles, WrittenUnit
from fvfast.atlas.places import Place
from fvfast.atlas.planned_layers import PlannedLayer

_MOST_THREADS = 16
_AHEAD = 4 * _MOST_THREADS  # units in work: what is in memory does not grow with the atlas


def write_gallery(
    place: str | Path, site: str | Path, *, title: str | None = None, progress: bool = False
) -> GallerySummary:
    """Write static pages that show the units of an atlas beside the images that excite them.

    The pages open from a disk (``index.html``) or from any web server, and load nothing from
    elsewhere. An atlas that is still being drawn is shown as it is; a later call converts only the
    pictures that are new. A unit whose files are damaged is left out, and named in the summary.

    Parameters
    ----------
    place
        Folder of the atlas: a path or an fsspec URL.
    site
        Folder for the pages: a path or an fsspec URL. Other files that are there stay.
    title
        Heading of the first page. Default: the name of the network.
    progress
        Whether to show a progress bar.

    Returns
    -------
    summary
        How much is shown, and what could not be, and why.

    Raises
    ------
    OSError
        The place has no plan or cannot be read, or the site cannot be written.
    ValueError
        The plan is damaged, or has a format that this version does not read.
    """
    atlas, target = Atlas(place), Place(site, patience=0)
    planned = atlas.plan.layers
    count = len(atlas.plan)
    with (
        tqdm(total=count, unit="unit", desc="gallery", disable=not progress) as bar,
        ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as threads,
    ):
        writer = _Writer(atlas, target, threads, bar.update)
        names = slugs(layer.name for layer in planned)
        layers = [writer.write(*pair) for pair in zip(planned, names, strict=True)]
    # Pages last: until then those of an earlier call are whole.
    for name, content in write_pages(Site(title or atlas.plan.network.name, atlas.plan, layers)):
        target.put(name, content)
    return GallerySummary(
        site=str(site),
        layers=len(layers),
        planned=count,
        shown=sum(layer.count for layer in layers),
        set_aside=sum(layer.set_aside for layer in layers),
        with_examples=sum(layer.with_examples for layer in layers),
        pictures_written=writer.pictures_written,
        problems=tuple(atlas.problems),
    )


class _Writer:
    """Writes pictures and data of layers; pictures are converted by several threads."""

    def __init__(
        self, atlas: Atlas, site: Place, threads: ThreadPoolExecutor, done: Callable[[], object]
    ) -> None:
        self._atlas, self._site = atlas, site
        self._threads, self._done = threads, done
        self.pictures_written = 0

    def write(self, planned: PlannedLayer, slug: str) -> ShownLayer:
        """Write a layer."""
        layer = ShownLayer(planned, slug)
        # By index, not by place in the list: they stay in their files while units are added.
        details: dict[int, dict[str, Any]] = {}
        for unit in self._written_units(planned, slug):
            self._done()
            self._atlas.problems += unit.problems
            if unit.version is None:
                continue
            self.pictures_written += unit.converted
            layer.add(unit.record, unit.version, unit.examples)
            index = unit.record.key.index
            if details and index // UNITS_PER_SCRIPT != next(iter(details)) // UNITS_PER_SCRIPT:
                self._write_details(slug, details)
            details[index] = unit_details(unit.record, unit.examples)
        if details:
            self._write_details(slug, details)
        layer.set_aside = self._atlas.set_aside(planned, set(layer.index))
        self._site.put(f"data/{slug}/units.js", script(f"units:{slug}", layer.columns()))
        return layer

    def _write_details(self, slug: str, details: dict[int, dict[str, Any]]) -> None:
        """Write the details of some units into their file, and forget them."""
        number = next(iter(details)) // UNITS_PER_SCRIPT
        data = script(f"details:{slug}:{number}", details)
        self._site.put(f"data/{slug}/{number}.js", data)
        details.clear()

    def _written_units(self, planned: PlannedLayer, slug: str) -> Iterator[WrittenUnit]:
        """Write the files of units in the threads; yield them in their order."""
        files = UnitFiles(self._atlas.place, self._site, slug)
        waiting: deque[Future[WrittenUnit]] = deque()
        for record, examples in self._atlas.units(planned):
            waiting.append(self._threads.submit(files.write, record, examples))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
