"""Takes pictures and transparencies out of what `fvfast.maco` and its kin return."""

from collections.abc import Sequence
from typing import Any


def picture_of(image: Any, alpha: Any) -> tuple[Any, Any]:
    """Return one picture and its transparency.

    Parameters
    ----------
    image
        A picture, or what `fvfast.maco` returns.
    alpha
        Its transparency; None for that of a result.

    Raises
    ------
    ValueError
        It is a result of several pictures.
    """
    if _has(image, "transparency"):
        return image.image, image.transparency if alpha is None else alpha
    if _has(image, "names"):
        raise ValueError(
            f"a {type(image).__name__} holds {len(image.names)} pictures: plot_grid(result) draws "
            "all; result.images[0] and result.transparencies[0] are the first."
            if _has(image, "transparencies")
            else f"an {type(image).__name__} holds {len(image.names)} pictures: plot_grid(result) "
            "draws all; result.images[-1][0] is the first."
        )
    return image, alpha


def pictures_of(images: Any, alphas: Any, names: Any) -> tuple[Any, Any, Any]:
    """Return pictures, transparencies and names.

    Parameters
    ----------
    images
        Pictures, a list of what `fvfast.maco` returns, or what `fvfast.maco_batch` or
        `fvfast.optimize` does.
    alphas, names
        As given; None for those of the result.
    """
    if _has(images, "transparencies"):
        alphas = images.transparencies if alphas is None else alphas
        return images.images, alphas, images.names if names is None else names
    if _has(images, "names"):
        return images.images[-1], alphas, images.names if names is None else names
    if _has(images, "transparency"):
        images = [images]
    if isinstance(images, Sequence) and images and _has(images[0], "transparency"):
        alphas = [one.transparency for one in images] if alphas is None else alphas
        images = [one.image for one in images]
    return images, alphas, names


def guide_of(result: Any) -> str:
    """Return what guided the pictures of a result, or of several; empty for nothing."""
    first = result[0] if isinstance(result, list) and result else result
    guide = getattr(first, "guide", "")
    return guide if isinstance(guide, str) else ""


def _has(value: Any, field: str) -> bool:
    """Whether a value is a named tuple with a field; tensors have ``names``, too."""
    return isinstance(value, tuple) and field in getattr(value, "_fields", ())
