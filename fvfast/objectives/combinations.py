"""Which targets of an objective make a picture together, and which pictures are scored together."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Combinations:
    """The combinations of an objective with R combinations and T sub-objectives.

    Pictures that are scored together form a *group*. All groups of an objective are equally large,
    and the pictures of a group stand next to each other.

    Attributes
    ----------
    picks
        (R, T): index of the target of each sub-objective.
    partners
        (R, T): combinations with the same number are scored together by this sub-objective. Where
        it scores each picture on its own, every combination has a number of its own.
    group_size
        Pictures of a group; 1 where each picture is scored on its own.
    """

    picks: Indices
    partners: Indices
    group_size: int

    @staticmethod
    def of_term(targets: int, *, couples_images: bool) -> "Combinations":
        """Return the combinations of one sub-objective: one for each target.

        Parameters
        ----------
        targets
            How many targets it has.
        couples_images
            Whether it scores the pictures of all its targets together.
        """
        picks = np.arange(targets, dtype=np.int64)[:, None]
        partners = np.zeros_like(picks) if couples_images else picks
        return Combinations(picks, partners, targets if couples_images else 1)

    def times(self, other: "Combinations") -> "Combinations":
        """Combine each of these with each of the others, whose last target varies fastest.

        Pictures of one group are moved next to each other.
        """
        mine = np.repeat(np.arange(len(self)), len(other))
        others = np.tile(np.arange(len(other)), len(self))
        partners = np.concatenate(
            [
                # Scored together by a sub-objective of one side: alike on the other side.
                self.partners[mine] * len(other) + others[:, None],
                other.partners[others] * len(self) + mine[:, None],
            ],
            axis=1,
        )
        picks = np.concatenate([self.picks[mine], other.picks[others]], axis=1)
        if self.group_size == other.group_size == 1:
            return Combinations(picks, partners, 1)
        group = mine // self.group_size * len(other) + others // other.group_size
        # The groups in the order in which they begin.
        _, first, number = np.unique(group, return_index=True, return_inverse=True)
        order = np.argsort(first[number], kind="stable")
        return Combinations(picks[order], partners[order], self.group_size * other.group_size)

    def beside(self, other: "Combinations") -> "Combinations":
        """Combine each of these with the one of the others in the same place.

        Raises
        ------
        ValueError
            They differ in number.
        """
        if len(self) != len(other):
            raise ValueError(
                f"only objectives with equally many combinations can be zipped; got {len(self)} "
                f"and {len(other)}. `+` combines each of one with each of the other."
            )
        return Combinations(
            np.concatenate([self.picks, other.picks], axis=1),
            np.concatenate([self.partners, other.partners], axis=1),
            int(np.lcm(self.group_size, other.group_size)),
        )

    def partners_of(self, rows: Sequence[int] | Indices, term: int) -> list[int]:
        """Return the numbers of some combinations in ``partners``, after a check.

        Raises
        ------
        ValueError
            A sub-objective would score a combination without others that it scores with it.
        """
        numbers = self.partners[np.asarray(rows, dtype=np.int64), term]
        given, counts = np.unique(numbers, return_counts=True)
        whole = np.count_nonzero(self.partners[:, term] == self.partners[0, term])
        if (counts != whole).any() or len(set(map(int, rows))) != len(rows):
            number = given[np.argmax(counts != whole)]
            together = np.flatnonzero(self.partners[:, term] == number).tolist()
            raise ValueError(
                f"the combinations {', '.join(map(str, together))} are scored together, but only "
                f"some of them were given: {', '.join(str(int(row)) for row in rows)}. Give all."
            )
        return [int(number) for number in numbers]

    def __len__(self) -> int:
        """Count the combinations."""
        return len(self.picks)
