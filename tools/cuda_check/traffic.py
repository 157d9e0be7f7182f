"""Measures how much memory traffic the kernels cause, compared with the least possible.

Each case runs one operation of a step at its usual size, with the kernels replayed as PTX. For each
kernel it knows the floor, the compulsory traffic in bytes: every input element that is needed is
read once, and every output is written once. The sectors of 32 bytes that the kernel's warps request
may be at most `Floor.most_traffic` times that. The share of wavefronts in shared memory that are
due to bank conflicts must be below `Floor.most_conflicts`.

A new case is a function that runs the operation and returns the floors, in the `CASES` of
`convolution_cases`, `crop_cases`, `phase_cases` or `pyramid_cases`.
"""

import dataclasses
import sys
import types
from collections.abc import Sequence

from cuda_check import convolution_cases, crop_cases, phase_cases, pyramid_cases
from cuda_check.floors import Case, Floor
from cuda_check.replay import Replay, Totals
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fvfast.ops._kernels import use_emulated

SECTOR = 32  # bytes
CASES = [
    *crop_cases.CASES,
    *phase_cases.CASES,
    *pyramid_cases.CASES,
    *convolution_cases.CASES,
]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one kernel did in one case, and its floor."""

    case: str
    kernel: str
    totals: Totals
    floor: Floor

    @property
    def requested(self) -> int:
        """Bytes of the sectors that its warps requested."""
        return SECTOR * self.totals.sectors

    @property
    def ratio(self) -> float:
        """Ratio of the requested bytes to the floor."""
        return self.requested / self.floor.bytes

    def failures(self) -> list[str]:
        """Return failures, as text."""
        failures = []
        if self.ratio > self.floor.most_traffic:
            failures.append(
                f"{self.case}: {self.kernel}: asks for {self.ratio:.2f} times the compulsory "
                f"{self.floor.bytes} bytes, at most {self.floor.most_traffic} are allowed"
            )
        most_conflicts = self.floor.most_conflicts
        if self.totals.conflict_share >= most_conflicts:
            failures.append(
                f"{self.case}: {self.kernel}: {self.totals.conflict_share:.1%} of the wavefronts "
                f"of shared memory are bank conflicts, fewer than {most_conflicts:.0%} are allowed"
            )
        return failures


def assign(
    case: str, totals: dict[str, Totals], floors: Sequence[Floor]
) -> tuple[list[Measurement], list[str]]:
    """Match kernels with their floors.

    Parameters
    ----------
    case
        Its name.
    totals
        By the names of the kernels that ran.
    floors
        Of the kernels that should have run.

    Returns
    -------
    measurements, failures
        Of the kernels, and about kernels without a floor or floors without a kernel.
    """
    measurements, failures = [], []
    if not floors:
        failures.append(f"{case}: gave no floors, so that nothing was measured")
    for floor in floors:
        whole = Totals()
        names = [name for name in totals if floor.is_of(name)]
        for name in names:
            whole += totals[name]
        if names:
            label = names[0] if len(names) == 1 else floor.kernel
            measurements.append(Measurement(case, label, whole, floor))
        else:
            ran = ", ".join(totals) or "none"
            failures.append(f"{case}: the kernel {floor.kernel} did not run; those that ran: {ran}")
    failures += [
        f"{case}: there is no floor for the kernel {name}, which ran"
        for name in totals
        if not any(floor.is_of(name) for floor in floors)
    ]
    return measurements, failures


def measure(
    case: Case, module: types.ModuleType, architecture: str, crops: int
) -> tuple[list[Measurement], list[str]]:
    """Run a case: see `assign` for the results."""
    with Replay(module, architecture) as replay, use_emulated(module):
        floors = case.run(replay, crops)
    return assign(case.name, replay.totals(), floors)


def table_of(measurements: Sequence[Measurement], title: str) -> Table:
    """Make a table with a row for each kernel."""
    columns = [
        "launches",
        "instructions / element",
        "MB read",
        "MB written",
        "MB requested",
        "MB floor",
        "ratio",
        "bank conflicts",
    ]
    table = Table("case", "kernel", title=title)
    for column in columns:
        table.add_column(column, justify="right")
    for one in measurements:
        table.add_row(
            one.case,
            escape(one.kernel),
            str(one.totals.launches),
            f"{one.totals.instructions / one.floor.elements:.1f}",
            f"{one.totals.bytes_read / 1e6:.3f}",
            f"{one.totals.bytes_written / 1e6:.3f}",
            f"{one.requested / 1e6:.3f}",
            f"{one.floor.bytes / 1e6:.3f}",
            f"{one.ratio:.2f}",
            f"{one.totals.conflict_share:.1%}" if one.totals.wavefronts else "-",
            style="red" if one.failures() else None,
        )
    return table


def check(
    module: types.ModuleType,
    architecture: str,
    *,
    crops: int = 32,
    cases: Sequence[Case] | None = None,
) -> list[str]:
    """Print a table of the kernels of all cases, and return failures.

    Parameters
    ----------
    module
        The emulated module.
    architecture
        Compute capability without its point, such as "80".
    crops
        Of the image.
    cases
        Default: all.

    Returns
    -------
    failures
        One line each.
    """
    measurements, failures = [], []
    for case in CASES if cases is None else cases:
        measured, wrong = measure(case, module, architecture, crops)
        measurements += measured
        failures += wrong
        failures += [failure for one in measured for failure in one.failures()]
    title = f"traffic of {crops} crops on sm_{architecture}"
    Console(width=None if sys.stdout.isatty() else 200).print(table_of(measurements, title))
    return failures
