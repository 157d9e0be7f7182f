"""Scores of a run, in memory that grows with the steps that it takes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

_FIRST_STEPS = 64


class ScoreTable:
    """Scores (N, steps taken), on the CPU.

    Parameters
    ----------
    count
        N.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._steps = 0
        self._table = torch.empty(count, 0, device="cpu")

    def add(self, recent: torch.Tensor, steps: int) -> None:
        """Add scores until so many steps are there.

        Parameters
        ----------
        recent
            (N, R): those of step t in column t modulo R.
        steps
            At most R more than there are.
        """
        ring = recent.shape[1]
        if steps > self._table.shape[1]:
            # Twice as many, so that each score is copied twice at most, on the average.
            capacity = max(_FIRST_STEPS, steps, 2 * self._table.shape[1])
            grown = recent.new_empty(self._count, capacity, device="cpu")
            grown[:, : self._steps] = self._table[:, : self._steps]
            self._table = grown
        while self._steps < steps:
            column = self._steps % ring
            count = min(ring - column, steps - self._steps)
            part = recent[:, column : column + count]
            self._table[:, self._steps : self._steps + count] = part
            self._steps += count

    def drop_from(self, step: int) -> None:
        """Forget the scores of a step and of those after it."""
        self._steps = min(self._steps, step)

    def __len__(self) -> int:
        """Count the steps."""
        return self._steps

    def whole(self) -> torch.Tensor:
        """Return all scores (N, steps)."""
        return self._table[:, : self._steps].contiguous()


def joined_scores(tables: Sequence[torch.Tensor], steps: int) -> torch.Tensor:
    """Join scores (N, steps taken) of several runs, with NaN for steps that some did not take.

    Parameters
    ----------
    tables
        The scores of each run.
    steps
        Of the longest.
    """
    rows = [F.pad(table, (0, steps - table.shape[1]), value=float("nan")) for table in tables]
    return torch.cat(rows) if rows else torch.empty(0, steps, dtype=torch.float32, device="cpu")
