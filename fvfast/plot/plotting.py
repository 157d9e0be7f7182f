"""Blends a picture and its transparency into colors with an opacity, and draws them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fvfast._shared.messages import printable, shortened
from fvfast.plot.results import guide_of, picture_of, pictures_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = Literal["xplique", "horama"]
STYLES: tuple[Style, ...] = get_args(Style)
_LONGEST_TITLE, _TITLE_LINES = 80, 10


def blend_transparency(
    image: torch.Tensor | ArrayLike,
    alpha: torch.Tensor | ArrayLike | None = None,
    percentile_image: float = 1.0,
    percentile_alpha: float = 80.0,
    *,
    style: Style = "xplique",
) -> NDArray[np.float32]:
    """Turn a picture and its transparency into colors with an opacity.

    The picture is clipped to its percentiles (p, 100 - p). The transparency is averaged over the
    channels, clipped to [0, its percentile] and divided by its maximum: that is the opacity. Style
    "xplique" multiplies the picture by the opacity before its values are stretched to [0, 1], so
    that what is transparent is also flat; style "horama" stretches the picture alone.

    Parameters
    ----------
    image
        Picture of 1 or 3 channels: (C, H, W), (H, W, C) where that is unambiguous, or (H, W). Any
        range of values. Or what `fvfast.maco` returns, with its transparency.
    alpha
        Transparency as `fvfast.maco` returns it, of the same height and width, with any number of
        channels: a higher value is more opaque, a negative one counts as 0. None, or all zero (no
        information): opaque.
    percentile_image
        Percentile in [0, 50] at which both ends of the picture's values are clipped; 0 clips none.
    percentile_alpha
        Percentile in [0, 100] of the transparency above which everything is opaque. The higher it
        is, the more of the picture is transparent. If the percentile is zero, because most of the
        transparency is, the maximum takes its place.
    style
        "xplique" or "horama".

    Returns
    -------
    rgba
        Array (H, W, 4) float32 in [0, 1]. A picture with a single value becomes black.

    Raises
    ------
    ValueError
        A shape is not that of a picture, the two shapes do not match, values are not finite, a
        percentile is out of range, or the style is unknown.

    References
    ----------
    Formulas: ``plot_maco`` of Xplique 2.0 and of Horama 0.3.
    """
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; expected one of {', '.join(map(repr, STYLES))}.")
    image, alpha = picture_of(image, alpha)
    _check_percentile("percentile_image", percentile_image, 50.0)
    _check_percentile("percentile_alpha", percentile_alpha, 100.0)
    colors = _channels_last("image", image)
    opacity = _opacity(alpha, colors.shape[:2], percentile_alpha)
    colors = np.clip(colors, *np.percentile(colors, (percentile_image, 100.0 - percentile_image)))
    if style == "xplique":
        colors = colors * opacity
    colors = np.broadcast_to(_stretch(colors), (*colors.shape[:2], 3))
    return np.concatenate([colors, opacity], axis=-1).astype(np.float32)


def plot_maco(
    image: torch.Tensor | ArrayLike,
    alpha: torch.Tensor | ArrayLike | None = None,
    percentile_image: float = 1.0,
    percentile_alpha: float = 80.0,
    *,
    style: Style = "xplique",
    ax: "Axes | None" = None,
) -> None:
    """Draw a picture with its transparency on matplotlib axes.

    Like Xplique's, it returns nothing, so that a notebook shows the picture alone where this is the
    last line of a cell. Frame and ticks of the axes are switched off. Below the picture of a guided
    run stands what guided it.

    Parameters
    ----------
    image, alpha, percentile_image, percentile_alpha, style
        See `blend_transparency`.
    ax
        Axes to draw on. None: pyplot's current axes (``pyplot.gca()``).

    Raises
    ------
    ValueError
        See `blend_transparency`.
    """
    rgba = blend_transparency(image, alpha, percentile_image, percentile_alpha, style=style)
    guide = guide_of(image)
    if ax is None:
        # Imported late: `import fvfast` stays quick, and files are written without pyplot.
        from matplotlib import pyplot

        ax = pyplot.gca()
    ax.imshow(rgba)
    ax.axis("off")
    if guide:
        ax.text(
            0.5, -0.01, _guided_by(guide), transform=ax.transAxes, ha="center", va="top",
            fontsize="x-small", parse_math=False,
        )  # fmt: skip


def plot_grid(
    images: Sequence[torch.Tensor | ArrayLike] | torch.Tensor | NDArray[Any],
    alphas: Sequence[torch.Tensor | ArrayLike] | torch.Tensor | NDArray[Any] | None = None,
    names: Sequence[str] | None = None,
    columns: int | None = None,
    *,
    style: Style = "xplique",
) -> "Figure":
    """Draw several pictures side by side in a new pyplot figure.

    A notebook shows the figure once, at the end of the cell, whether or not it is the cell's value.
    Below the pictures of a guided run stands what guided it.

    Parameters
    ----------
    images
        N pictures, as `blend_transparency` takes them, in a sequence or as one array (N, C, H, W).
        Or what `fvfast.maco_batch` or `fvfast.optimize` returns, with transparencies and names.
    alphas
        N transparencies; None draws all opaque.
    names
        N titles; None draws none. Dollar signs are drawn as they are; long titles are cut to ten
        lines of 80 characters.
    columns
        Pictures per row, at least 1. None: as many columns as rows or one more.
    style
        "xplique" or "horama".

    Returns
    -------
    figure
        The matplotlib figure.

    Raises
    ------
    ValueError
        No pictures, lengths that differ, fewer than one column, or see `blend_transparency`.
    """
    guide = guide_of(images)
    images, alphas, names = pictures_of(images, alphas, names)
    count = len(images)
    check_lengths(count, alphas=alphas, names=names)
    columns = grid_columns(count, columns)
    from matplotlib import pyplot

    from fvfast.plot.figure import GridFigure

    rows = math.ceil(count / columns)
    size = (2.5 * columns, 2.7 * rows)
    figure = pyplot.figure(figsize=size, layout="constrained", FigureClass=GridFigure)
    for index in range(count):
        ax = figure.add_subplot(rows, columns, index + 1)
        plot_maco(images[index], None if alphas is None else alphas[index], style=style, ax=ax)
        if names is not None:
            # A name with dollar signs is not a formula.
            ax.set_title(_title(names[index]), fontsize="small", parse_math=False)
    if guide:
        figure.supxlabel(_guided_by(guide), fontsize="x-small", parse_math=False)
    return figure


def _guided_by(guide: str) -> str:
    return f"guided by {_title(guide)}"


def _title(name: str) -> str:
    # matplotlib takes minutes to lay out a line of tens of thousands of characters.
    lines = [shortened(printable(line), _LONGEST_TITLE) for line in name.split("\n")]
    return "\n".join(lines[:_TITLE_LINES])


def grid_columns(count: int, columns: int | None) -> int:
    """Return the number of columns of a grid of ``count`` pictures; ValueError if that is < 1."""
    if columns is None:
        return math.ceil(math.sqrt(count))
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected at least 1, or None to choose.")
    return min(columns, count)


def check_lengths(count: int, **others: Any) -> None:
    """Raise ValueError if there is no picture, or if another list has a different length."""
    if count == 0:
        raise ValueError("images is empty; expected at least one picture.")
    for name, values in others.items():
        if values is not None and len(values) != count:
            raise ValueError(
                f"{name} has {len(values)} entries for {count} pictures; expected one for each."
            )


def _check_percentile(name: str, value: float, highest: float) -> None:
    if not 0.0 <= value <= highest:
        raise ValueError(f"{name} is {value}; expected a percentile from 0 to {highest:g}.")


def _opacity(
    alpha: torch.Tensor | ArrayLike | None, size: tuple[int, ...], percentile: float
) -> NDArray[np.float64]:
    """Return the opacity (H, W, 1) in [0, 1]."""
    if alpha is None:
        return np.ones((*size, 1))
    array = _finite("alpha", alpha)
    if array.shape[1:] == size:
        values = np.moveaxis(array, 0, -1)
    elif array.shape[:2] == size:
        values = array
    else:
        raise ValueError(
            f"alpha has shape {array.shape} but image is {size[0]} x {size[1]} (height x width); "
            "expected the transparency of the same picture, with any number of channels."
        )
    values = values.mean(axis=-1, keepdims=True)
    # If most of the transparency is zero, so is the percentile: take the maximum, to avoid 0 / 0.
    ceiling = max(np.percentile(values, percentile), 0.0) or values.max()
    if ceiling <= 0.0:
        return np.ones_like(values)
    return np.clip(values, 0.0, ceiling) / ceiling


def _stretch(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale the values to [0, 1]; a single value becomes 0."""
    values = values - values.min()
    highest = values.max()
    if highest > 0.0:
        values /= highest
    return values


def _channels_last(name: str, values: torch.Tensor | ArrayLike) -> NDArray[np.float64]:
    """Return a picture of shape (C, H, W), (H, W, C) or (H, W) as a float64 array (H, W, C)."""
    array = _finite(name, values)
    if array.shape[0] in (1, 3):
        return np.moveaxis(array, 0, -1)
    if array.shape[-1] in (1, 3):
        return array
    raise ValueError(
        f"{name} has shape {array.shape}; expected 1 or 3 channels in the first or in the last "
        f"dimension. Of other numbers of channels, choose some: {name}[:3] or {name}[[3, 2, 1]]."
    )


def _finite(name: str, values: torch.Tensor | ArrayLike) -> NDArray[np.float64]:
    """Return values as a finite float64 array of three dimensions."""
    if isinstance(values, torch.Tensor):
        # NumPy has no bfloat16.
        values = values.detach().to("cpu", torch.float64).numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.size == 0:
        hint = f" Take one picture of the batch, {name}[0]." if array.ndim == 4 else ""
        raise ValueError(
            f"{name} has shape {array.shape}; expected (C, H, W), (H, W, C) or (H, W).{hint}"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds values that are not finite (NaN or infinity); the optimization that "
            "made it has diverged: try fewer steps or a lower learning rate."
        )
    return array
