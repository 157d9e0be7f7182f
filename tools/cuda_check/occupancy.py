"""Computes how many blocks of a kernel fit a multiprocessor, by the rules of CUDA's occupancy API.

The numbers are those of the table "Technical Specifications per Compute Capability" in the CUDA
programming guide.
"""

import dataclasses

WARP = 32
KIB = 1024
# On all architectures below: 65,536 registers, in four equal parts that each hold warps of their
# own, and handed out to a warp in units of 256.
REGISTERS = 65536
PARTS = 4
REGISTER_UNIT = 256
MOST_REGISTERS = 255  # of a thread
MOST_THREADS = 1024  # of a block


@dataclasses.dataclass(frozen=True)
class Multiprocessor:
    """The resources of a multiprocessor of one compute capability."""

    warps: int
    blocks: int
    shared_bytes: int
    # The system keeps some shared memory of every block for itself.
    reserved_bytes: int = KIB
    shared_unit: int = 128


MULTIPROCESSORS = {
    "75": Multiprocessor(32, 16, 64 * KIB, reserved_bytes=0, shared_unit=256),
    "80": Multiprocessor(64, 32, 164 * KIB),
    "86": Multiprocessor(48, 16, 100 * KIB),
    "87": Multiprocessor(48, 16, 164 * KIB),
    "89": Multiprocessor(48, 24, 100 * KIB),
    "90": Multiprocessor(64, 32, 228 * KIB),
    "100": Multiprocessor(64, 32, 228 * KIB),
    "103": Multiprocessor(64, 32, 228 * KIB),
    "120": Multiprocessor(48, 24, 100 * KIB),
}


def resident_blocks(architecture: str, threads: int, registers: int, shared_bytes: int) -> int:
    """Return how many blocks a multiprocessor runs at a time; 0 if it cannot run one.

    Parameters
    ----------
    architecture
        Such as "80".
    threads
        Of one block.
    registers
        Of one thread.
    shared_bytes
        Static and dynamic shared memory of one block.
    """
    chip = MULTIPROCESSORS.get(architecture)
    if chip is None:
        raise ValueError(
            f"the occupancy on architecture {architecture!r} is not known; expected one of "
            f"{', '.join(MULTIPROCESSORS)}. The CUDA programming guide has the numbers to add."
        )
    if threads < 1 or registers < 0 or shared_bytes < 0:
        raise ValueError(
            "a block has at least one thread, and no negative number of registers or bytes; got "
            f"{threads} threads, {registers} registers and {shared_bytes} bytes."
        )
    warps = -(-threads // WARP)
    of_warp = _round_up(registers * WARP, REGISTER_UNIT)
    allocated = _round_up(shared_bytes + chip.reserved_bytes, chip.shared_unit)
    if (
        threads > MOST_THREADS
        or registers > MOST_REGISTERS
        # The check before a launch assumes that every part gets equally many warps.
        or of_warp * _round_up(warps, PARTS) > REGISTERS
        or allocated > chip.shared_bytes
    ):
        return 0
    limits = [chip.blocks, chip.warps // warps]
    if of_warp:
        limits.append(REGISTERS // PARTS // of_warp * PARTS // warps)
    if allocated:
        limits.append(chip.shared_bytes // allocated)
    return min(limits)


def occupancy(architecture: str, threads: int, registers: int, shared_bytes: int) -> float:
    """Return the share of a multiprocessor's warps that can run at a time."""
    blocks = resident_blocks(architecture, threads, registers, shared_bytes)
    return blocks * -(-threads // WARP) / MULTIPROCESSORS[architecture].warps


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
