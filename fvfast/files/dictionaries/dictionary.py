"""A dictionary: many directions of one layer, and what is known about them."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Dictionary:
    """Directions of a layer, such as the decoder of a sparse autoencoder.

    Attributes
    ----------
    directions
        (N, C), float32, on the CPU: one direction of the layer's C channels in each row, as long as
        it is in the file.
    format
        "saelens", "vit-prisma", "saev", "dictionary_learning", "overcomplete", or "array".
    layer
        Where the library that made it says that it reads the network, by the library's name for
        this place ("blocks.9.hook_mlp_out"); None if the file does not say.
    names
        The N names; None if the file has none.
    source
        The file that the directions were read from; None for an object in memory.
    sha256
        Checksum of shape and values, the same in whatever file they are.

    Raises
    ------
    ValueError
        Shape or type of the directions are others, or there is not one name for each.
    """

    directions: torch.Tensor
    format: str = "array"
    layer: str | None = None
    names: tuple[str, ...] | None = None
    source: Path | None = None
    sha256: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        shape = tuple(self.directions.shape)
        if len(shape) != 2 or self.directions.dtype != torch.float32:
            raise ValueError(
                f"directions are of shape {shape} and {self.directions.dtype}; expected (N, C) and "
                "torch.float32, as read_dictionary makes them."
            )
        if self.names is not None and len(self.names) != len(self.directions):
            where = "" if self.source is None else f"{self.source}: "
            raise ValueError(
                f"{where}there are {len(self.names)} names for {shape[0]} directions; expected one "
                "for each."
            )
        digest = hashlib.sha256(repr(shape).encode())
        digest.update(np.ascontiguousarray(self.directions.detach().cpu().numpy(), "<f4").data)
        object.__setattr__(self, "sha256", digest.hexdigest())

    def __len__(self) -> int:
        return len(self.directions)

    def __repr__(self) -> str:
        count, width = self.directions.shape
        where = "" if self.layer is None else f" of {self.layer}"
        source = "" if self.source is None else f", {self.source}"
        return f"Dictionary({count} directions of {width}{where}, {self.format}{source})"

    def select(self, indices: Iterable[int]) -> "Dictionary":
        """Return a dictionary of some of the directions.

        Parameters
        ----------
        indices
            Which, in the order of the result; negative ones count from the end.

        Returns
        -------
        dictionary
            It has names: those of this dictionary, or the directions' numbers in it.

        Raises
        ------
        IndexError
            There is no such direction.
        """
        count = len(self)
        chosen = list(indices)
        for index in chosen:
            if not -count <= index < count:
                raise IndexError(
                    f"the dictionary has no direction {index}; expected 0 to {count - 1}."
                )
        chosen = [index % count for index in chosen]
        names = self.names or tuple(map(str, range(count)))
        return Dictionary(
            self.directions[chosen],
            self.format,
            self.layer,
            tuple(names[index] for index in chosen),
            self.source,
        )
