"""Converts a picture and its transparency into the images that pages show."""

import hashlib
import io
from typing import NamedTuple

from PIL import Image

from fvfast.atlas.fields import WrongFileError
from fvfast.atlas.records import Record
from fvfast.atlas.stored import StoredImage
from fvfast.files.reading import reason

THUMBNAIL = 256
"""Longest side of a thumbnail. A tile has 170, and a screen up to two pixels for each of them."""
_QUALITY, _THUMBNAIL_QUALITY = 90, 78
# Transparency has detail in each pixel, and no loss but fewer levels: at full quality it would take
# twice the bytes of the colors.
_ALPHA_QUALITY, _THUMBNAIL_ALPHA_QUALITY = 60, 30
_METHOD = 3  # of WebP's 0 to 6: as good as 4 to the eye, and faster
# Counts up when pictures are converted in another way, so that those of an older gallery are not
# taken for new ones.
_VERSION = 1


class ShownPicture(NamedTuple):
    """The four images of a unit as WebP: with the colors alone, and blended by an alpha channel.

    Those with an alpha channel are None where the unit has no transparency.
    """

    picture: bytes
    thumbnail: bytes
    blended: bytes | None
    blended_thumbnail: bytes | None


def version_of(record: Record) -> str:
    """Return a text that changes when the pictures do: it is part of the names of their files."""
    hashes = [one.sha256 for one in (record.picture, record.transparency) if one is not None]
    content = " ".join([str(_VERSION), str(THUMBNAIL), *hashes])
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def convert(
    picture: bytes, transparency: bytes | None, about: StoredImage, also: StoredImage | None
) -> ShownPicture:
    """Convert the PNG files of a unit.

    Raises
    ------
    WrongFileError
        A file is not a PNG image of the size that its record says.
    """
    colors = _opened(picture, about, "RGB")
    if transparency is None or also is None:
        return ShownPicture(_webp(colors), _webp(_small(colors), thumbnail=True), None, None)
    alpha = _opened(transparency, also, "L")
    if alpha.size != colors.size:
        raise WrongFileError(
            f"{also.file} has {alpha.width} x {alpha.height} pixels; expected those of the "
            f"picture, {colors.width} x {colors.height}."
        )
    blended = colors.copy()
    blended.putalpha(alpha)
    return ShownPicture(
        _webp(colors),
        _webp(_small(colors), thumbnail=True),
        _webp(blended),
        _webp(_small(blended), thumbnail=True),
    )


def _opened(data: bytes, about: StoredImage, mode: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            if file.size == (about.width, about.height):
                return file.convert(mode)
            problem = (
                f"has {file.width} x {file.height} pixels, its record says "
                f"{about.width} x {about.height}"
            )
    except Exception as error:
        # Pillow's decoders may raise any exception for damaged files.
        raise WrongFileError(f"{about.file} is not a PNG image: {reason(error)}.") from error
    raise WrongFileError(f"{about.file} {problem}.")


def _small(image: Image.Image) -> Image.Image:
    side = max(image.size)
    if side <= THUMBNAIL:
        return image
    size = (max(1, round(one * THUMBNAIL / side)) for one in image.size)
    width, height = size
    # Pillow premultiplies colors by alpha while it resizes.
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _webp(image: Image.Image, *, thumbnail: bool = False) -> bytes:
    quality, alpha_quality = (
        (_THUMBNAIL_QUALITY, _THUMBNAIL_ALPHA_QUALITY) if thumbnail else (_QUALITY, _ALPHA_QUALITY)
    )
    target = io.BytesIO()
    image.save(target, "WEBP", quality=quality, method=_METHOD, alpha_quality=alpha_quality)
    return target.getvalue()
