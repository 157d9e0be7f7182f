"""What a notebook shows of a result that is the value of a cell."""

import base64
import html
import io
import math
from collections.abc import Sequence

import torch
from PIL import Image

from fvfast._shared.messages import printable
from fvfast.plot.plotting import blend_transparency

MOST_PICTURES = 24
_THUMBNAIL = 192  # pixels
_SMALLEST = 128


def picture_bytes(
    image: torch.Tensor, transparency: torch.Tensor | None, largest: int | None = None
) -> bytes:
    """Return a picture as a PNG file, each pixel as a square of several if it is tiny.

    Parameters
    ----------
    image, transparency
        (C, H, W), or None. Of 3 channels or more the first three are shown, else the first.
    largest
        Longest side, to which larger pictures are reduced.
    """
    shown = image[:3] if len(image) >= 3 else image[:1]
    picture = Image.fromarray((blend_transparency(shown, transparency) * 255).round().astype("u1"))
    if max(picture.size) < _SMALLEST:
        times = math.ceil(_SMALLEST / max(picture.size))
        size = (times * picture.width, times * picture.height)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    if largest is not None:
        picture.thumbnail((largest, largest))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def gallery(images: torch.Tensor, transparencies: torch.Tensor | None, names: Sequence[str]) -> str:
    """Return the first pictures of a batch with their names, as HTML.

    Parameters
    ----------
    images, transparencies
        (N, C, H, W), or None.
    names
        The N names.
    """
    figures = []
    for index, name in enumerate(names[:MOST_PICTURES]):
        transparency = None if transparencies is None else transparencies[index]
        data = base64.b64encode(picture_bytes(images[index], transparency, _THUMBNAIL)).decode()
        title = html.escape(printable(name))
        figures.append(
            f'<figure style="display:inline-block;margin:4px;width:{_THUMBNAIL}px">'
            f'<img src="data:image/png;base64,{data}" alt="{title}">'
            f'<figcaption style="overflow-wrap:anywhere">{title}</figcaption></figure>'
        )
    more = len(names) - len(figures)
    return "".join(figures) + (f"<p>and {more} more</p>" if more > 0 else "")
