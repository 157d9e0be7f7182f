"""How far an atlas is, read from its files: no program that draws it is asked."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fvfast.atlas.failures import Failure, failed_indices, read_failure
from fvfast.atlas.keys import MANIFESTS, PLAN, UNITS, UnitKey, indices_of, quoted
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.plan_differences import refuse_other
from fvfast.atlas.planned_layers import PlannedLayer

S = TypeVar("S")
T = TypeVar("T")

_READERS = 16


@dataclasses.dataclass(frozen=True)
class LayerStatus:
    """How far a layer is.

    Attributes
    ----------
    layer
        The layer, as it is planned.
    missing
        Indices of the units without a record that are not set aside.
    set_aside
        What is known of those that are.
    failing
        What is known of those of which an attempt has failed, and another one is to be made.
    """

    layer: PlannedLayer
    missing: list[int]
    set_aside: list[Failure]
    failing: list[Failure]

    @property
    def drawn(self) -> int:
        """How many units have a record."""
        return len(self.layer) - len(self.missing) - len(self.set_aside)


@dataclasses.dataclass(frozen=True)
class Status:
    """How far an atlas is.

    Attributes
    ----------
    plan
        What it is of.
    layers
        How far each layer is.
    has_manifest
        Whether the table of all units is there.
    """

    plan: Plan
    layers: list[LayerStatus]
    has_manifest: bool

    @property
    def drawn(self) -> int:
        """How many units have a record."""
        return sum(layer.drawn for layer in self.layers)

    @property
    def missing(self) -> int:
        """How many units have none, and are not set aside."""
        return sum(len(layer.missing) for layer in self.layers)

    @property
    def set_aside(self) -> list[Failure]:
        """What is known of the units that are set aside."""
        return [failure for layer in self.layers for failure in layer.set_aside]

    @property
    def is_complete(self) -> bool:
        """Whether all units have a record."""
        return self.drawn == len(self.plan)


def read_plan(place: Place) -> Plan:
    """Read the plan of an atlas.

    Raises
    ------
    FileNotFoundError
        There is no atlas.
    fvfast.atlas.WrongFileError
        The plan is damaged.
    """
    try:
        data = place.read(PLAN)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{place.address} has no {PLAN}: there is no atlas. `fvfast atlas run` begins one."
        ) from None
    place.begin()
    return Plan.parse(data, f"{place.address}/{PLAN}")


def begin(plan: Plan, place: Place) -> Plan:
    """Write a plan into a place, or make sure that it is the one that is there.

    Returns
    -------
    plan
        The one that is drawn: as many pictures are drawn together as the place's plan says, unless
        the plan that is asked for was given another number.

    Raises
    ------
    ValueError
        The place has an atlas with another plan: the message says what differs.
    OSError
        The place cannot be written.
    """
    if place.exists(PLAN):
        there = read_plan(place)
        refuse_other(there, plan, place.address)
        return there
    place.check_writable()
    place.put(PLAN, plan.text.encode())
    place.begin()
    return plan


def read_status(place: Place, plan: Plan | None = None) -> Status:
    """Read how far an atlas is.

    Parameters
    ----------
    place
        Where it is.
    plan
        Its plan, if it is known already.
    """
    plan = plan or read_plan(place)
    layers = [_layer_status(place, layer) for layer in plan.layers]
    return Status(plan, layers, any(map(place.exists, MANIFESTS)))


def _layer_status(place: Place, layer: PlannedLayer) -> LayerStatus:
    there = indices_of(place.names(f"{UNITS}/{quoted(layer.name)}"))
    missing = [index for index in layer if index not in there]
    failed = failed_indices(place, layer.name).intersection(missing)
    keys = [UnitKey(layer.name, index) for index in sorted(failed)]
    failures = list(side_by_side(lambda key: read_failure(place, key), keys))
    aside = {failure.key.index for failure in failures if failure.is_set_aside}
    return LayerStatus(
        layer,
        [index for index in missing if index not in aside],
        [failure for failure in failures if failure.is_set_aside],
        [failure for failure in failures if not failure.is_set_aside],
    )


def side_by_side(act: Callable[[S], T], values: Iterable[S]) -> Iterator[T]:
    """Yield what a function returns for each value, in order; several run at the same time.

    Only some values are ahead of the one that is awaited, however many there are.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS, "fvfast-atlas-reader") as pool:
        ahead: list[concurrent.futures.Future[T]] = []
        try:
            for value in values:
                ahead.append(pool.submit(act, value))
                if len(ahead) >= 4 * _READERS:
                    yield ahead.pop(0).result()
            while ahead:
                yield ahead.pop(0).result()
        finally:
            for one in ahead:
                one.cancel()
