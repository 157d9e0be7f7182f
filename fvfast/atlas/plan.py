"""What an atlas is of: network, layers, units and settings. Its hash names the run."""

import bisect
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from fvfast._shared.version import VERSION
from fvfast.atlas.fields import Fields
from fvfast.atlas.keys import FORMAT, PLAN, UnitKey
from fvfast.atlas.planned_layers import PlannedLayer

GIVEN = "given"
"""How a batch size was chosen that somebody asked for."""


@dataclasses.dataclass(frozen=True)
class PlannedNetwork:
    """The network of an atlas.

    Attributes
    ----------
    name
        By which every worker loads it; see `fvfast.models.load_model`.
    weights_sha256
        Of its parameters and buffers.
    input_shape
        (C, H, W) of the images that it takes.
    """

    name: str
    weights_sha256: str
    input_shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive units of one layer, which one worker draws.

    Attributes
    ----------
    number
        From 0.
    layer
        The layer.
    indices
        Of the units.
    """

    number: int
    layer: PlannedLayer
    indices: list[int]

    @property
    def keys(self) -> list[UnitKey]:
        """The keys of the units."""
        return [UnitKey(self.layer.name, index) for index in self.indices]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an atlas is of. Made by `fvfast.atlas.make_plan`, which checks it.

    Attributes
    ----------
    network
        The network.
    layers
        The layers, each once.
    settings
        All settings of MaCo, as JSON has them; see `fvfast.atlas.settings`.
    shard_size
        Units of a shard, at most.
    fvfast
        The version that draws it.
    batch_size
        Pictures that are drawn together, by whoever draws them. None in a plan of an earlier
        version, which leaves that to each run.
    batch_size_chosen
        How that was chosen, for people; `GIVEN` if somebody asked for it.
    """

    network: PlannedNetwork
    layers: tuple[PlannedLayer, ...]
    settings: Mapping[str, Any]
    shard_size: int
    fvfast: str = VERSION
    batch_size: int | None = None
    batch_size_chosen: str = ""

    @functools.cached_property
    def text(self) -> str:
        """The plan as canonical JSON: one plan has one text."""
        values = {
            "format": FORMAT,
            "fvfast": self.fvfast,
            "network": {
                "name": self.network.name,
                "weights_sha256": self.network.weights_sha256,
                "input_shape": list(self.network.input_shape),
            },
            "layers": [layer.described() for layer in self.layers],
            "settings": dict(self.settings),
            "shard_size": self.shard_size,
        }
        if self.batch_size is not None:
            values |= {"batch_size": self.batch_size, "batch_size_chosen": self.batch_size_chosen}
        return canonical(values)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the text: the name of the run."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __len__(self) -> int:
        return sum(map(len, self.layers))

    @functools.cached_property
    def _first_shards(self) -> list[int]:
        """Numbers of the first shards of the layers, and of all."""
        counts = [0]
        for layer in self.layers:
            counts.append(counts[-1] - -len(layer) // self.shard_size)
        return counts

    @property
    def shard_count(self) -> int:
        """How many shards there are."""
        return self._first_shards[-1]

    def shard(self, number: int) -> Shard:
        """Return a shard.

        Raises
        ------
        ValueError
            There is none of this number.
        """
        if not 0 <= number < self.shard_count:
            raise ValueError(
                f"there is no shard {number}; the plan has {self.shard_count}, from 0 to "
                f"{self.shard_count - 1}."
            )
        layer = bisect.bisect_right(self._first_shards, number) - 1
        start = (number - self._first_shards[layer]) * self.shard_size
        chosen = self.layers[layer]
        return Shard(number, chosen, chosen.at(start, start + self.shard_size))

    def shards(self) -> Iterator[Shard]:
        """Yield all shards, in the order of their numbers."""
        return map(self.shard, range(self.shard_count))

    def layer(self, name: str) -> PlannedLayer:
        """Return the layer of this name."""
        return next(layer for layer in self.layers if layer.name == name)

    def name_of(self, key: UnitKey) -> str | None:
        """Return the name of a unit; None if it has none."""
        return (self.layer(key.layer).names or {}).get(key.index)

    @classmethod
    def parse(cls, data: bytes | str, where: str = PLAN) -> "Plan":
        """Read the text of a plan.

        Raises
        ------
        WrongFileError
            It is none.
        """
        fields = Fields.parse(data, where)
        network = fields.inner("network")
        shape = network.listed("input_shape")
        if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
            raise network.error(f"has input_shape {shape}; expected 3 sizes.")
        plan = cls(
            PlannedNetwork(network.text("name"), network.text("weights_sha256"), tuple(shape)),
            tuple(
                PlannedLayer.read(Fields(one, f"{where}, layer {number},"))
                for number, one in enumerate(fields.listed("layers"), start=1)
            ),
            dict(fields.inner("settings").items()),
            fields.count("shard_size"),
            fields.text("fvfast"),
            fields.optional_count("batch_size"),
            fields.optional_text("batch_size_chosen") or "",
        )
        if plan.shard_size < 1 or not len(plan):
            raise fields.error("has no units, or shards without any.")
        if plan.batch_size == 0:
            raise fields.error("has batch_size 0; expected at least 1.")
        return plan


def canonical(values: Any) -> str:
    """Return JSON in the one form that is hashed: sorted, without spaces, ASCII."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{text}\n"
