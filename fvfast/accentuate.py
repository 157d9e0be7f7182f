"""Feature accentuation: what a unit responds to in a photograph (Hamblin et al., 2024)."""

from collections.abc import Sequence

import torch

from fvfast._shared.checks import ImageSize
from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.engine.compiled.choice import CompileChoice
from fvfast.engine.precision import Precision
from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.parametrizations.optimizers import OptimizerSpec
from fvfast.regularizers import Regularizer
from fvfast.run.accentuate_settings import AccentuateSettings
from fvfast.run.loop import Callback
from fvfast.run.presets import ACCENTUATE_PRESETS, AccentuatePresetName, takes_preset
from fvfast.run.results import MacoImage
from fvfast.run.run import Run
from fvfast.run.schedules import Linear, ScheduleSpec
from fvfast.run.single import draw_single
from fvfast.spectrum.photograph import PhotographSource


@result_kept
@takes_preset(ACCENTUATE_PRESETS)
def accentuate(
    objective: Objective,
    photograph: PhotographSource,
    optimizer: OptimizerSpec = None,
    nb_steps: int = 64,
    decay: float = 1.0,
    penalty: float = 10.0,
    *,
    noise_intensity: ScheduleSpec = 0.05,
    box_size: ScheduleSpec = Linear(0.9, 0.4),  # noqa: B008 (it is frozen)
    nb_crops: int = 8,
    values_range: Sequence[float] = (-1, 1),
    custom_shape: ImageSize = (512, 512),
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    save_every: int | None = None,
    device: torch.device | str | None = None,
    learning_rate: ScheduleSpec = None,
    preset: AccentuatePresetName = "gentle",
    precision: Precision = None,
    compile: CompileChoice = False,  # noqa: A002 (torch's name)
    regularizers: Sequence[Regularizer] | Regularizer | None = None,
    guide: Guide | None = None,
) -> MacoImage:
    """Change a photograph until one objective is large, but no more than that takes.

    The Fourier coefficients of the photograph are the start. The first image is the photograph, to
    half a gray level of 256 in black and white pixels, and to rounding in others. The user's model
    is run frozen in evaluation mode and comes back as it was. Interrupting the run (Ctrl-C) returns
    the image so far, as in `fvfast.maco`.

    Parameters
    ----------
    objective
        An objective with a single combination.
    photograph
        The path of a file, a PIL image, an array (H, W, C) of 8-bit values or of values in [0, 1],
        or a tensor (C, H, W) of 8-bit values or of values in ``values_range``. It is cropped around
        its center to the aspect of ``custom_shape``, and resized.
    optimizer
        See `fvfast.maco`. Default: Adam with learning rate 0.05.
    nb_steps
        Number of steps, at least 1.
    decay
        Power of the frequency with which the steps of high frequencies are smaller: coefficients
        are divided by ``frequency ** -decay`` before they are optimized. 0 treats all alike.
    penalty
        Weight of the distance to the photograph, which is subtracted from the score: the mean
        square of the differences, as parts of the range of values. 0 lets the image go anywhere.
    noise_intensity, box_size, nb_crops
        See `fvfast.maco`. Default: crops from nine tenths to two fifths of the image.
    values_range
        (low, high) of the images that the model takes; reversed ends are sorted.
    custom_shape
        (H, W) of the image, at least 2 x 2, or one number for a square; None takes the model's
        input size, "2x" twice that.
    seed
        Any integer, which decides the boxes and the noise.
    progress, callback, save_every, device, learning_rate, precision, compile, regularizers, guide
        See `fvfast.maco`.
    preset
        Values of the arguments that are left out: "gentle" (the defaults above), or "strong", twice
        as many steps without a penalty.

    Returns
    -------
    result
        A pair, which a notebook shows as a picture.
    image
        (C, H, W), float32, in values_range, on the CPU.
    transparency
        (C, H, W): sum over the steps of the absolute gradient of the score with respect to the
        image, without the penalty. `fvfast.plot.plot_maco` shows both.

    Raises
    ------
    OSError
        There is no such file.
    ValueError
        As `fvfast.maco`; also a photograph that cannot be read, or whose values or channels are
        not those of the images.
    TypeError
        An argument of another type.
    RuntimeError, torch.OutOfMemoryError
        As `fvfast.maco`.

    Warns
    -----
    UserWarning, RuntimeWarning
        As `fvfast.maco`.

    References
    ----------
    Hamblin, Fel, Saha, Konkle, Alvarez, "Feature Accentuation: Revealing 'What' Features Respond to
    in Natural Images", 2024, https://arxiv.org/abs/2402.10039.
    """
    run = Run(
        objective, AccentuateSettings.of(locals()), progress=progress, callback=callback,
        device=device,
    )  # fmt: skip
    return draw_single(run, save_every, "call accentuate for each.")
