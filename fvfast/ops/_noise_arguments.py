"""What noise depends on, as it is for every operation that adds some: its arguments and checks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from fvfast.ops._checks import check_numbered, check_scale, check_step, check_sum
from fvfast.ops._kernels import Kernels
from fvfast.ops._memory import Named, buffer
from fvfast.ops._tables import (
    check_identities,
    check_identity_values,
    check_table,
    current_number,
    known_number,
    split_identities,
    split_number,
    table_argument,
)
from fvfast.ops.philox import known_step, signed, split_step, whole_step

NOISE_SCHEMA = (
    "float std, float uniform_width, SymInt seed, SymInt[] identities, SymInt step, "
    "Tensor? counter, Tensor? std_table, Tensor? uniform_width_table, Tensor? identity_table"
)


class NoiseArguments(NamedTuple):
    """What the noise of a tensor depends on besides its shape, as in the schema.

    Tables stand in place of `std`, of `uniform_width` and of `identities`.
    """

    std: float
    uniform_width: float
    seed: int
    identities: Sequence[int]
    step: int
    counter: torch.Tensor | None  # added to the step
    std_table: torch.Tensor | None = None
    uniform_width_table: torch.Tensor | None = None
    identity_table: torch.Tensor | None = None

    def for_reference(self) -> dict[str, Any]:
        """Return the arguments as the references take them."""
        words = self.identities if self.identity_table is None else self.identity_table
        return {
            "std": current_number(self.std, self.std_table, self.counter),
            "uniform_width": current_number(
                self.uniform_width, self.uniform_width_table, self.counter
            ),
            "seed": self.seed,
            "identities": words,
            "step": whole_step(self.step, self.counter),
        }

    def for_kernels(self, kernels: Kernels) -> dict[str, Any]:
        """Return the arguments as the native module takes them."""
        given = self.known() if kernels.target is None else self
        return {
            "std": given.std,
            "uniform_width": given.uniform_width,
            "seed": given.seed % 2**64,
            "identities": given.identities,
            "step": given.step,
            "counter": buffer(given.counter),
            "std_table": table_argument(given.std_table),
            "uniform_width_table": table_argument(given.uniform_width_table),
            "identity_table": table_argument(given.identity_table),
            "target": kernels.target,
        }

    def known(self) -> "NoiseArguments":
        """Return the same without tensors, which are read: on the CPU, where they can be."""
        words = self.identities if self.identity_table is None else self.identity_table.tolist()
        return NoiseArguments(
            known_number(self.std, self.std_table, self.counter),
            known_number(self.uniform_width, self.uniform_width_table, self.counter),
            self.seed,
            words,
            known_step(self.step, self.counter),
            None,
        )

    def scale_tables(self) -> dict[str, torch.Tensor]:
        """Return the tables of `std` and `uniform_width` that there are, by their names."""
        tables = {"std_table": self.std_table, "uniform_width_table": self.uniform_width_table}
        return {name: table for name, table in tables.items() if table is not None}

    def tensors(self) -> list[Named]:
        """Return what kernels read, under the names of messages."""
        names = ("counter", "std_table", "uniform_width_table", "identity_table")
        return [(name, getattr(self, name)) for name in names]


def noise_arguments(
    function: str,
    std: float | torch.Tensor,
    uniform_width: float | torch.Tensor | None,
    seed: int,
    identities: Sequence[int] | torch.Tensor,
    step: int | torch.Tensor,
) -> NoiseArguments:
    """Bring the arguments of a function into the types of the schema; the operation checks them.

    Parameters are those of `inject_noise`, with the function's name for messages.
    """
    deviation, std_table = split_number(function, "std", std)
    width, uniform_width_table = deviation, std_table
    if uniform_width is not None:
        width, uniform_width_table = split_number(function, "uniform_width", uniform_width)
    words, identity_table = split_identities(function, identities)
    number, counter = split_step(function, step)
    return NoiseArguments(
        float(deviation), float(width), signed(seed), words, number, counter,
        std_table, uniform_width_table, identity_table,
    )  # fmt: skip


def check_noise(
    operation: str, arguments: NoiseArguments, images: int, elements: int, device: torch.device
) -> None:
    """Raise ValueError unless noise can be drawn for some images of `elements` elements each."""
    check_scale(operation, "std", arguments.std)
    check_scale(operation, "uniform_width", arguments.uniform_width)
    check_identities(operation, arguments.identities, arguments.identity_table, images, device)
    check_step(operation, arguments.step, arguments.counter, device)
    tables = arguments.scale_tables()
    for name, table in tables.items():
        check_table(operation, name, table, arguments.counter, device)
    if arguments.std > 0 or arguments.uniform_width > 0 or tables:
        check_numbered(operation, "images", elements)


def check_noise_values(operation: str, arguments: NoiseArguments) -> None:
    """Raise ValueError unless what tensors hold is in range, where it can be read: on the CPU."""
    check_sum(operation, arguments.step, arguments.counter)
    check_identity_values(operation, arguments.identity_table)
    for name, table in arguments.scale_tables().items():
        if table.device.type == "cpu":
            check_scale(operation, name, known_number(0.0, table, arguments.counter))
