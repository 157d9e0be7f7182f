"""Scores of a run, in memory that grows with the steps that it takes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

_FIRST_STEPS = 64


class ScoreTable:
    """Scores (N, steps taken).

    Parameters
    ----------
    count
        N.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._steps = 0
        self._table = torch.empty(count, 0, device="cpu")

    def append(self, scores: torch.Tensor) -> None:
        """Add the scores (N,) of a step."""
        capacity = self._table.shape[1]
        if self._steps == capacity:
            # Twice as many, so that each score is copied twice at most, on the average.
            grown = scores.new_empty(self._count, max(_FIRST_STEPS, 2 * capacity))
            grown[:, :capacity] = self._table
            self._table = grown
        self._table[:, self._steps] = scores
        self._steps += 1

    def drop_from(self, step: int) -> None:
        """Forget the scores of a step and of those after it."""
        self._steps = min(self._steps, step)

    def __len__(self) -> int:
        """Count the steps."""
        return self._steps

    def last(self) -> torch.Tensor:
        """Return the scores (N,) of the last step."""
        return self._table[:, self._steps - 1]

    def whole(self) -> torch.Tensor:
        """Return all scores (N, steps), on the CPU."""
        return self._table[:, : self._steps].cpu().contiguous()


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
