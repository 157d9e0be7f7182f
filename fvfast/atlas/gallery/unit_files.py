"""Writes the pictures of units and the crops of their examples, unless they are there."""

import dataclasses

from fvfast.atlas.examples.records import ExamplesRecord, StoredExample
from fvfast.atlas.fields import WrongFileError
from fvfast.atlas.gallery.layers import crop_name
from fvfast.atlas.gallery.pictures import convert, version_of
from fvfast.atlas.places import Place
from fvfast.atlas.records import Record
from fvfast.atlas.stored import StoredFile
from fvfast.files.reading import reason


@dataclasses.dataclass(frozen=True)
class WrittenUnit:
    """What a unit's page can show.

    Attributes
    ----------
    record
        The unit.
    version
        Part of the names of its pictures; None where they cannot be shown.
    examples
        Its examples, without those whose crops cannot be shown.
    converted
        Whether the pictures were not there yet.
    problems
        What cannot be shown, and why.
    """

    record: Record
    version: str | None
    examples: ExamplesRecord | None
    converted: bool
    problems: tuple[str, ...]


class UnitFiles:
    """Writes the files of a layer's units. Methods may be called from several threads.

    Parameters
    ----------
    place
        Folder of the atlas.
    site
        Folder of the pages.
    slug
        The layer's name in names of files.
    """

    def __init__(self, place: Place, site: Place, slug: str) -> None:
        self._place, self._site, self._slug = place, site, slug
        self._thumbnails = frozenset(site.names(f"thumbnails/{slug}"))
        self._crops = frozenset(site.names(f"crops/{slug}"))

    def write(self, record: Record, examples: ExamplesRecord | None) -> WrittenUnit:
        """Write the pictures of a unit and the crops of its examples, unless they are there."""
        version = version_of(record)
        # The thumbnail is written last: where it is, the others are.
        converted = f"{record.key.index}.{version}.webp" not in self._thumbnails
        if converted:
            try:
                self._write_pictures(record, version)
            except WrongFileError as error:
                return WrittenUnit(record, None, None, False, (str(error),))
        if examples is None:
            return WrittenUnit(record, version, None, converted, ())
        usable, problems = self._write_crops(examples)
        examples = dataclasses.replace(examples, top=tuple(usable))
        return WrittenUnit(record, version, examples, converted, tuple(problems))

    def _write_pictures(self, record: Record, version: str) -> None:
        also = record.transparency
        shown = convert(
            self._read(record.picture),
            None if also is None else self._read(also),
            record.picture,
            also,
        )
        for folder, suffix, data in (
            ("pictures", "webp", shown.picture),
            ("pictures", "blended.webp", shown.blended),
            ("thumbnails", "blended.webp", shown.blended_thumbnail),
            ("thumbnails", "webp", shown.thumbnail),
        ):
            if data is not None:
                name = f"{folder}/{self._slug}/{record.key.index}.{version}.{suffix}"
                self._site.put(name, data)

    def _write_crops(self, examples: ExamplesRecord) -> tuple[list[StoredExample], list[str]]:
        usable, problems = [], []
        for example in examples.top:
            name = crop_name(example.file, example.sha256)
            if name not in self._crops:
                try:
                    data = self._read(example)
                except WrongFileError as error:
                    problems.append(str(error))
                    continue
                self._site.put(f"crops/{self._slug}/{name}", data)
            usable.append(example)
        return usable, problems

    def _read(self, stored: StoredFile) -> bytes:
        try:
            data = self._place.read(stored.file)
        except OSError as error:
            raise WrongFileError(f"{stored.file} cannot be read: {reason(error)}.") from error
        return stored.check(data)
