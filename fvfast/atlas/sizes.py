"""How many units of an atlas are drawn together, and how many are a shard."""

import dataclasses

from fvfast._shared.checks import check_count
from fvfast.atlas.plan import GIVEN, Plan
from fvfast.atlas.settings import batch_size_for, read_settings

SMALLEST_SHARD, LARGEST_SHARD, MOST_SHARDS = 8, 64, 64


def shard_size_for(count: int, batch_size: int) -> int:
    """Return whole batches: few, where there are few units, so that many workers share them."""
    size = batch_size * -(-SMALLEST_SHARD // batch_size)
    while size < LARGEST_SHARD and size * MOST_SHARDS < count:
        size *= 2
    return size


def largest_batch_for(count: int, first: int) -> int:
    """Return how many of so many units are drawn together at most, a multiple of ``first``.

    Larger ones would leave fewer shards than many workers can share, and trying them would take a
    good part of the time that they save.
    """
    size = first
    while size < LARGEST_SHARD and size * MOST_SHARDS < count:
        size *= 2
    return size


def drawn_together(plan: Plan, asked: int | None = None) -> int:
    """Return how many pictures of a plan are drawn together.

    Parameters
    ----------
    plan
        The plan. Those of earlier versions leave the number to whoever draws.
    asked
        What the caller wants.

    Raises
    ------
    ValueError
        The plan says another number than the caller.
    """
    asked = None if asked is None else check_count(asked, "batch_size", 1)
    if plan.batch_size is None:
        return asked or batch_size_for(read_settings(plan.settings))
    if asked not in (None, plan.batch_size):
        raise ValueError(
            f"batch_size is {asked}, and the plan of the atlas says {plan.batch_size}: the last "
            "bits of a picture may depend on how many are drawn with it. Leave batch_size "
            "(--batch-size) out to go on, or draw a new atlas in another place."
        )
    return plan.batch_size


def with_batch_size_of(plan: Plan, other: Plan) -> Plan:
    """Return a plan that draws as many pictures together as another one."""
    return dataclasses.replace(
        plan, batch_size=other.batch_size, batch_size_chosen=other.batch_size_chosen
    )


def goes_on_with(there: Plan, asked: Plan) -> bool:
    """Whether a plan that is asked for is the one that is there.

    If nobody asked for a number of pictures that are drawn together, or for a size of shards, it
    may be another one: that of the plan that is there counts.
    """
    if asked.batch_size_chosen == GIVEN and there.batch_size not in (None, asked.batch_size):
        return False
    same = with_batch_size_of(asked, there)
    texts = [same.text]
    if asked.shard_size == shard_size_for(len(asked), drawn_together(asked)):
        usual = shard_size_for(len(there), drawn_together(there))
        texts.append(dataclasses.replace(same, shard_size=usual).text)
    return there.text in texts
