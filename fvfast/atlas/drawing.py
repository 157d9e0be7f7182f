"""Draws an atlas: finds what is missing, has it drawn, and writes the table of all units."""

import re
from collections.abc import Callable, Iterable, Iterator

from fvfast.atlas.events import Report, ignore
from fvfast.atlas.executors.base import Executor, Job, Task
from fvfast.atlas.executors.here import Here
from fvfast.atlas.keys import FAILED, UNITS, quoted
from fvfast.atlas.manifest import write_manifest
from fvfast.atlas.places import Place
from fvfast.atlas.plan import GIVEN, Plan
from fvfast.atlas.progress import Status, begin, read_status
from fvfast.atlas.sizes import drawn_together

Part = tuple[int, int]
"""(k, n): the k-th of n machines that share an atlas, from 0."""


def parse_part(text: str) -> Part:
    """Read ``k/n``, with k from 0 to n - 1.

    Raises
    ------
    ValueError
        The text is something else.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
    if match is None or not int(match[1]) < int(match[2]):
        raise ValueError(
            f"{text!r} is no part of the shards; expected K/N with K from 0 to N - 1, such as "
            "0/8 for the first of eight."
        )
    return int(match[1]), int(match[2])


def draw_atlas(
    plan: Plan,
    place: Place,
    *,
    executor: Executor | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    part: Part | None = None,
    report: Report = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> Status:
    """Draw what is missing of an atlas; calling it again goes on where it was interrupted.

    Parameters
    ----------
    plan
        What is drawn; see `fvfast.atlas.make_plan`.
    place
        Where it goes.
    executor
        Who draws: `fvfast.atlas.executors.Here`, the default; `Processes`; `RayActors`.
    device
        Where workers draw. Default: on GPUs if there are any, else the CPU.
    batch_size
        Pictures that are drawn together, for a plan of an earlier version, which does not say it.
    part
        (k, n) draws every n-th shard from the k-th on, for machines that know nothing of each
        other. Default: all shards.
    report
        Called, from several threads, with what happens: see `fvfast.atlas.events`.
    stop
        Asked from time to time whether to end after the batches that are being drawn.

    Returns
    -------
    status
        How far the whole atlas is.

    Raises
    ------
    ValueError
        The place has an atlas with another plan: the message says what differs. Or ``batch_size``
        is another one than the plan's.
    OSError
        The place cannot be written.
    fvfast.atlas.OtherNetworkError
        A worker has another network than the plan says.
    """
    drawn_together(plan, batch_size)
    asked, plan = plan, begin(plan, place)
    if plan.batch_size is None and asked.batch_size_chosen == GIVEN:
        batch_size = asked.batch_size
    status = read_status(place, plan)
    for layer in plan.layers:
        place.tidy(f"{UNITS}/{quoted(layer.name)}")
        place.tidy(f"{FAILED}/{quoted(layer.name)}")
    job = Job(plan.text, place.arguments, device, batch_size)
    tasks = list(_of_part(_tasks(plan, status), part))
    if tasks and not stop():
        (executor or Here()).draw(job, tasks, report, stop)
        status = read_status(place, plan)
    if not status.missing and not (status.has_manifest and not tasks):
        write_manifest(plan, place)
        status = read_status(place, plan)
    return status


def _tasks(plan: Plan, status: Status) -> Iterator[Task]:
    """Yield the shards with units that are missing."""
    missing = {layer.layer.name: set(layer.missing) for layer in status.layers}
    for shard in plan.shards():
        wanted = missing[shard.layer.name].intersection(shard.indices)
        if wanted:
            yield Task(shard.number, tuple(sorted(wanted)))


def _of_part(tasks: Iterable[Task], part: Part | None) -> Iterator[Task]:
    if part is None:
        return iter(tasks)
    number, count = part
    return (task for task in tasks if task.shard % count == number)
