"""Draws many pictures, a batch at a time; whatever ends the run, finished ones are not lost."""

import contextlib
from collections.abc import Callable, Iterator

from fvfast._shared.checks import check_callback, check_count
from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.interrupts import (
    let_interrupts_through,
    opened_at_once,
    user_insists,
)
from fvfast.engine.borrowing.state import borrowed
from fvfast.run.batch_sizes import BatchSizes, CostMeter
from fvfast.run.progress import BarOfImages
from fvfast.run.results import MacoBatch, MacoResults
from fvfast.run.run import Run

VIEWS_PER_BATCH = 64
"""Views of the images that are drawn together, by default."""

OnResult = Callable[[MacoBatch], None]


def draw_batches(
    run: Run, batch_size: int | None = None, on_result: OnResult | None = None, *, keep: bool = True
) -> MacoBatch:
    """Draw an image for each combination of a run's objective.

    Parameters and results are those of `fvfast.maco_batch`.
    """
    check_callback(on_result, "on_result")
    if not keep and on_result is None:
        raise ValueError(
            "keep=False keeps no image: pass on_result=, a function that takes each batch, for "
            "example to save it."
        )
    first = _whole_groups(run, batch_size)
    count = len(run.objective.combination_names)
    results = MacoResults(count, run.shape, keep=keep, guide=run.guided_by)
    run.prepare(min(first, count), function="maco_batch")
    # The model is borrowed for all batches at once: one warning, one move to the device.
    with borrowed(run.objective.model, run.device) as device, _one_bar(run, count, first):
        sizes = BatchSizes(first, grows=batch_size is None and device.type == "cuda")
        meter = CostMeter(device)
        start = 0
        while start < count:
            batch = range(start, min(start + sizes.size, count))
            start = batch.stop
            try:
                meter.begin()
                run.batches_left = -(-(count - batch.start) // len(batch))
                is_last = _draw_batch(run, batch, results, on_result)
                sizes.learn(meter.end(len(batch), run.seconds_per_step))
                let_interrupts_through()
            except BaseException as error:
                if not results.done:
                    raise
                if user_insists():
                    error.finished = results.whole()  # type: ignore[attr-defined]
                    raise
                _say_what_is_done(error, results, count, keep=keep)
                if isinstance(error, KeyboardInterrupt):
                    results.interrupted = True
                    break
                raise
            if is_last:
                results.interrupted = True
                break
    return results.whole()


def _whole_groups(run: Run, batch_size: int | None) -> int:
    """Return how many images are drawn together: whole groups of those scored together."""
    group = run.objective.group_size
    if batch_size is None:
        asked = max(1, VIEWS_PER_BATCH // run.settings.views_per_image)
    else:
        asked = check_count(batch_size, "batch_size", 1)
        if asked < group:
            warn_user(
                f"batch_size={asked} is less than the {group} images that the objective scores "
                f"together: {group} are drawn at a time.",
                UserWarning,
            )
    return max(1, asked // group) * group


@contextlib.contextmanager
def _one_bar(run: Run, count: int, batch_size: int) -> Iterator[None]:
    """Show several batches on one bar."""
    if count > batch_size:
        run.images_bar = BarOfImages(count, progress=run.progress)
    try:
        yield
    finally:
        if run.images_bar is not None:
            run.images_bar.close()
            run.images_bar = None


def _draw_batch(
    run: Run, combinations: range, results: MacoResults, on_result: OnResult | None
) -> bool:
    """Draw one batch and hand it over; return whether the user interrupted it."""
    ascent = run.draw(combinations)
    names = run.objective.combination_names[combinations.start : combinations.stop]
    batch = MacoBatch.of(
        ascent.images[-1], ascent.transparencies[-1], names, ascent.scores,
        interrupted=ascent.interrupted, guide=run.guided_by,
    )  # fmt: skip
    results.add(batch)
    if run.images_bar is not None:
        run.images_bar.end_batch(len(names))
    if on_result is not None:
        # Even if an interrupt is pending: the batch is finished, and nobody else has it.
        opened_at_once(on_result, batch)
    return ascent.interrupted


def _say_what_is_done(
    error: BaseException, results: MacoResults, count: int, *, keep: bool
) -> None:
    done = f"after {results.done} of {count} images"
    if isinstance(error, KeyboardInterrupt):
        where = "these are returned" if keep else "on_result has had them"
        warn_user(f"interrupted {done}; {where}.", RuntimeWarning)
    else:
        # Unlike setattr(), this works for classes that refuse new attributes.
        object.__setattr__(error, "finished", results.whole())
        where = "the exception's attribute `finished` holds" if keep else "on_result has had"
        warn_user(f"failed {done}; {where} them.", RuntimeWarning)
