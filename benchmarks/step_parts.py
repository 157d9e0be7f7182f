"""Where a step goes: each operation's time, and how close it comes to the speed of the memory."""

import dataclasses
from collections.abc import Callable, Sequence

import torch

from benchmarks.contest import print_table
from benchmarks.harness import alternating_medians, copy_function
from benchmarks.peers.scene import Scene
from fvfast.ops import inject_noise

CHANNELS = 3
FLOAT, COMPLEX = 4, 8  # bytes of a number


@dataclasses.dataclass(frozen=True)
class Part:
    """One operation of a step.

    Attributes
    ----------
    run
        Does it once.
    bytes
        What it has to read and write, each array once, however it is implemented.
    """

    name: str
    run: Callable[[], object]
    bytes: int


def parts_of_a_step(scene: Scene) -> list[Part]:
    """Return the operations around the network in one step of a scene."""
    size = scene.image_size
    low, high = scene.values_range
    crops = torch.rand(1, scene.crops, CHANNELS, scene.model_size, scene.model_size)
    image = torch.empty(1, CHANNELS, size, size).uniform_(low, high)
    spectrum = torch.fft.rfft2(image)
    image_bytes, spectrum_bytes = FLOAT * image.numel(), COMPLEX * spectrum.numel()
    return [
        Part(
            "inverse FFT",
            lambda: torch.fft.irfft2(spectrum, s=(size, size)),
            spectrum_bytes + image_bytes,
        ),
        Part(
            "noise",
            lambda: inject_noise(crops, scene.noise, seed=0, streams=[0], step=0),
            2 * scene.crop_bytes,
        ),
        Part("FFT of the gradient", lambda: torch.fft.rfft2(image), image_bytes + spectrum_bytes),
    ]


def measure_parts(
    parts: Sequence[Part], scene: Scene, *, step_seconds: float | None = None, rounds: int = 21
) -> list[dict[str, object]]:
    """Time the parts of a step and print them as a table.

    Parameters
    ----------
    parts
        What to time, in turns with a copy of as many bytes as the crops have.
    scene
        Gives the number of threads and the size of the crops.
    step_seconds
        A whole step, to say what share of it each part is and how much no part accounts for.
    rounds
        Turns of each part.

    Returns
    -------
    rows
        One per part.
    """
    torch.set_num_threads(scene.threads)
    functions = {part.name: part.run for part in parts}
    copy = copy_function(scene.crop_bytes)
    seconds = alternating_medians({**functions, "copy": copy}, rounds=rounds)
    bandwidth = 2 * scene.crop_bytes / seconds["copy"]

    def share(part_seconds: float) -> object:
        return "" if step_seconds is None else round(100 * part_seconds / step_seconds, 1)

    rows: list[dict[str, object]] = [
        {
            "part": part.name,
            "ms": round(1e3 * seconds[part.name], 3),
            "percent_of_step": share(seconds[part.name]),
            "mb": round(part.bytes / 1e6, 2),
            "gb_per_s": round(part.bytes / seconds[part.name] / 1e9, 2),
            "percent_of_copy": round(100 * part.bytes / seconds[part.name] / bandwidth, 1),
        }
        for part in parts
    ]
    if step_seconds is not None:
        rest = step_seconds - sum(seconds[part.name] for part in parts)
        blank = dict.fromkeys(rows[0], "") if rows else {}
        rows.append(
            {
                **blank,
                "part": "not listed",
                "ms": round(1e3 * rest, 3),
                "percent_of_step": share(rest),
            }
        )
    print(f"a copy moves {bandwidth / 1e9:.2f} GB/s, reads and writes together")
    print_table(rows, list(rows[0]))
    return rows
