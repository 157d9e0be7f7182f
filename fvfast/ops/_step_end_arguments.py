"""The arguments of the end of a step, and their checks."""

from typing import Any, NamedTuple

import torch

from fvfast.ops._checks import (
    REAL,
    check_alike,
    check_counter,
    check_float32,
    check_per_image,
    check_sum,
    check_type,
    reject,
)
from fvfast.ops._memory import Named, check_memory
from fvfast.ops._tables import (
    check_identities,
    check_identity_values,
    check_table,
)
from fvfast.ops.boxes import BoxDistribution, check_distribution

_MOST = 2**31  # steps to have patience in


class StepEndArguments(NamedTuple):
    """The arguments, as in the schema."""

    scores: torch.Tensor
    flags: torch.Tensor
    phase: torch.Tensor
    next_phase: torch.Tensor
    sums: torch.Tensor
    running: torch.Tensor
    ended_in: torch.Tensor
    by_update: torch.Tensor
    has_gradient: torch.Tensor
    recent_scores: torch.Tensor
    counter: torch.Tensor
    patience: int
    boxes: torch.Tensor | None
    shape: str
    spread: float
    center_spread: float
    smallest: float
    largest: float
    seed: int
    box_size_table: torch.Tensor | None
    identity_table: torch.Tensor | None

    def distribution(self) -> BoxDistribution:
        """Return how boxes scatter."""
        return BoxDistribution(*self[13:18])

    def written(self) -> list[Named]:
        """Return what is written to, under the names of messages."""
        names = (
            "flags", "next_phase", "sums", "running", "ended_in", "by_update", "has_gradient",
            "recent_scores", "counter", "boxes",
        )  # fmt: skip
        return [(name, getattr(self, name)) for name in names]

    def is_plain(self) -> bool:
        """Whether a kernel reads and writes the memory as it is."""
        tensors = [tensor for _, tensor in self.written() + self.read()[:2] if tensor is not None]
        return all(tensor.is_contiguous() for tensor in tensors)

    def read(self) -> list[Named]:
        """Return what is only read."""
        names = ("scores", "phase", "box_size_table", "identity_table")
        return [(name, getattr(self, name)) for name in names]


def check_step_end(operation: str, *arguments: Any) -> None:
    """Raise TypeError or ValueError unless the arguments of the operation fit each other."""
    end = StepEndArguments(*arguments)
    check_type(operation, "phase", end.phase, REAL)
    if end.phase.ndim < 2 or 0 in end.phase.shape[1:]:
        reject(operation, "phase", "(N, ...)", f"a tensor {tuple(end.phase.shape)}")
    images, device = end.phase.shape[0], end.phase.device
    check_alike(operation, "next_phase", end.next_phase, end.phase.shape, end.phase.dtype, device)
    _check_rows(operation, "sums", end.sums, torch.float64, (images, 2), device)
    _check_rows(operation, "recent_scores", end.recent_scores, torch.float32, (images,), device)
    check_per_image(operation, "scores", end.scores, images, torch.float32, device)
    check_per_image(operation, "flags", end.flags, images, torch.int32, device)
    check_per_image(operation, "ended_in", end.ended_in, images, torch.int64, device)
    for name in ("running", "by_update", "has_gradient"):
        check_per_image(operation, name, getattr(end, name), images, torch.bool, device)
    check_counter(operation, end.counter, device)
    if not 0 <= end.patience <= _MOST:
        reject(operation, "patience", "an integer in [0, 2^31]", end.patience)
    check_distribution(operation, end.distribution(), prefix="")
    _check_boxes(operation, end, images, device)


def _check_rows(
    operation: str,
    argument: str,
    tensor: torch.Tensor,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    device: torch.device,
) -> None:
    """Check a tensor whose second size is free, at least 1; the shape is without it."""
    if tensor.ndim != len(shape) + 1 or tensor.shape[1] < 1:
        expected = f"({', '.join(map(str, (shape[0], 'R', *shape[1:])))}), R at least 1"
        reject(operation, argument, expected, tuple(tensor.shape))
    sizes = torch.Size((shape[0], tensor.shape[1], *shape[1:]))
    check_alike(operation, argument, tensor, sizes, dtype, device)


def _check_boxes(operation: str, end: StepEndArguments, images: int, device: torch.device) -> None:
    tables = ("box_size_table", "identity_table")
    if end.boxes is None:
        for name in tables:
            if getattr(end, name) is not None:
                reject(operation, name, "none without boxes", "a table")
        return
    if end.boxes.ndim != 3:
        reject(operation, "boxes", f"({images}, K, 4)", tuple(end.boxes.shape))
    shape = torch.Size((images, end.boxes.shape[1], 4))
    check_alike(operation, "boxes", end.boxes, shape, torch.float32, device)
    for name in tables:
        if getattr(end, name) is None:
            reject(operation, name, "a table beside boxes", "none")
    check_table(operation, "box_size_table", end.box_size_table, end.counter, device)
    check_identities(operation, [], end.identity_table, images, device)


def check_step_end_memory(operation: str, *arguments: Any) -> None:
    """Raise ValueError if memory is shared, or numbers that can be read are out of range."""
    end = StepEndArguments(*arguments)
    check_memory(operation, end.written(), end.read())
    check_sum(operation, 1, end.counter)
    if end.boxes is None:
        return
    check_identity_values(operation, end.identity_table)
    if end.box_size_table is not None and end.box_size_table.device.type == "cpu":
        row = min(int(end.counter.item()) + 1, end.box_size_table.shape[0] - 1)
        check_float32(operation, "box_size_table", end.box_size_table[row].item())
