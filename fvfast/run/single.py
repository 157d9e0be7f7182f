"""Runs that draw one image."""

from fvfast._shared.checks import check_count
from fvfast.run.results import MacoImage, joined
from fvfast.run.run import Run


def draw_single(run: Run, save_every: int | None, otherwise: str) -> MacoImage:
    """Draw the only combination of a run's objective.

    Parameters
    ----------
    run
        Has not drawn anything.
    save_every
        See `fvfast.maco`.
    otherwise
        What to do about several combinations, for the message.

    Returns
    -------
    result
        As `fvfast.maco`.

    Raises
    ------
    ValueError, TypeError
        There are several combinations, or ``save_every`` is not a count.
    """
    names = run.objective.combination_names
    if len(names) != 1:
        raise ValueError(
            f"{run.settings.function} optimizes one image, but the objective has {len(names)} "
            f"combinations ({names[0]}, {names[1]}{', ...' if len(names) > 2 else ''}); {otherwise}"
        )
    save_every = None if save_every is None else check_count(save_every, "save_every", 1)
    run.prepare(1, save_every)
    ascent = run.draw([0], save_every)
    images, transparencies = joined(ascent.images), joined(ascent.transparencies)
    if not save_every:
        images, transparencies = images[-1], transparencies[-1]
    return MacoImage.of(images, transparencies, interrupted=ascent.interrupted, guide=run.guided_by)
