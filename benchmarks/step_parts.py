"""Times each operation of a step, and how close it comes to the speed of the memory."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.contest import print_table
from benchmarks.harness import alternating_medians, copy_function
from benchmarks.peers.scene import Scene
from fvfast import Spectrum
from fvfast.engine.memory import reused_memory
from fvfast.objectives.layer_scores import LayerScore
from fvfast.ops import phase_update_, random_crops
from fvfast.ops.boxes import draw_boxes

FLOAT, COMPLEX = 4, 8  # bytes of a number


@dataclasses.dataclass(frozen=True)
class Part:
    """One operation of a step.

    Attributes
    ----------
    run
        Runs it once.
    bytes
        The bytes that any implementation has to read and write, each array once.
    """

    name: str
    run: Callable[[], object]
    bytes: int


def parts_of_a_step(scene: Scene) -> list[Part]:
    """Return the operations of one step of a scene whose network is removed."""
    size, low_high = scene.image_size, scene.values_range
    noise: dict[str, Any] = {"std": scene.noise, "seed": 0, "identities": [0], "step": 0}
    magnitude = Spectrum.natural().magnitude(size, size)
    phase = torch.randn(1, *magnitude.shape)
    slope = torch.zeros_like(phase)
    optimizer_state = [torch.zeros_like(phase) for _ in range(2)]
    image, spectrum, statistics = torch.ops.fvfast.phase_to_image(
        magnitude, phase, *low_high, size, None
    )
    boxes = draw_boxes(scene.box_size, scene.crops, seed=0, identities=[0], step=0)
    crops = random_crops(image, boxes, scene.model_size, **noise)
    score = LayerScore().for_targets([None])
    values = crops.clone().requires_grad_()
    transparency = torch.zeros_like(image)
    phase_bytes, image_bytes = FLOAT * phase.numel(), FLOAT * image.numel()
    spectrum_bytes = COMPLEX * phase.numel()

    return [
        Part(
            "phase to image",
            lambda: torch.ops.fvfast.phase_to_image(magnitude, phase, *low_high, size, None),
            2 * phase_bytes + 3 * spectrum_bytes + 3 * image_bytes,
        ),
        Part(
            "  of which inverse FFT",
            lambda: torch.fft.irfft2(spectrum, s=(size, size)),
            spectrum_bytes + image_bytes,
        ),
        Part(
            "boxes",
            lambda: draw_boxes(scene.box_size, scene.crops, seed=0, identities=[0], step=0),
            FLOAT * boxes.numel(),
        ),
        Part(
            "crop, resize, noise",
            lambda: random_crops(image, boxes, scene.model_size, **noise),
            image_bytes + scene.crop_bytes,
        ),
        Part(
            "  without noise",
            lambda: random_crops(image, boxes, scene.model_size),
            image_bytes + scene.crop_bytes,
        ),
        Part(
            "score and its gradient",
            lambda: torch.autograd.grad(score(values).sum(), values),
            3 * scene.crop_bytes,
        ),
        Part(
            "crop gradient, transparency",
            lambda: torch.ops.fvfast.crop_gradient(
                crops, boxes, size, size, torch.float32, transparency, None, None
            ),
            scene.crop_bytes + 3 * image_bytes,
        ),
        Part(
            "image gradient to phase",
            lambda: torch.ops.fvfast.phase_to_image_backward(
                image, magnitude, phase, image, spectrum, statistics, *low_high
            ),
            4 * image_bytes + 3 * spectrum_bytes + 3 * phase_bytes,
        ),
        Part("  of which FFT", lambda: torch.fft.rfft2(image), image_bytes + spectrum_bytes),
        Part(
            "phase update",
            lambda: phase_update_(phase, slope, *optimizer_state, step=10, lr=1e-6),
            7 * phase_bytes,
        ),
        Part("last good phase, finite?", lambda: keep_if_finite(phase, image), 4 * phase_bytes),
    ]


def keep_if_finite(phase: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """Do what the loop does in each step: keep the last good phase, check for NaN twice."""
    copy.flatten()[: phase.numel()].copy_(phase.flatten())
    return phase.flatten(1).sum(1).isfinite() & phase.flatten(1).sum(1).isfinite()


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
        Time of a whole step, to compute the share of each part, and of what no part covers.
    rounds
        Number of turns of each part.

    Returns
    -------
    rows
        One per part.
    """
    torch.set_num_threads(scene.threads)
    functions = {part.name: part.run for part in parts}
    copy = copy_function(scene.crop_bytes)
    with reused_memory():  # as in a run
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
        # Indented parts are parts of the one before.
        whole = [part.name for part in parts if not part.name.startswith(" ")]
        rest = step_seconds - sum(seconds[name] for name in whole)
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
