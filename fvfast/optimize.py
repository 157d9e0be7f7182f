"""Feature visualization in the Fourier or pixel basis (Olah et al., 2017)."""

from collections.abc import Callable, Sequence

import torch

from fvfast._shared.checks import ImageSize, check_count
from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.engine.compiled.choice import CompileChoice
from fvfast.engine.precision import Precision
from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.parametrizations.optimizers import OptimizerSpec
from fvfast.regularizers import Regularizer
from fvfast.run.loop import Callback
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.presets import OPTIMIZE_PRESETS, OptimizePresetName, takes_preset
from fvfast.run.results import OptimizedImages as OptimizedImages
from fvfast.run.run import Run
from fvfast.spectrum.photograph import PhotographSource
from fvfast.transformations import Transformation


@result_kept
@takes_preset(OPTIMIZE_PRESETS)
def optimize(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    nb_steps: int = 256,
    use_fft: bool = True,
    fft_decay: float = 0.85,
    std: float = 0.01,
    regularizers: Sequence[Regularizer] | Regularizer | None = None,
    image_normalizer: str | Callable[[torch.Tensor], torch.Tensor] = "sigmoid",
    values_range: Sequence[float] = (0, 1),
    transformations: Transformation | Sequence[Transformation] | str | None = "standard",
    warmup_steps: int = False,
    custom_shape: ImageSize = (512, 512),
    save_every: int | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    precision: Precision = None,
    compile: CompileChoice = False,  # noqa: A002 (torch's name)
    guide: Guide | None = None,
    preset: OptimizePresetName = "xplique",
    initial: PhotographSource | None = None,
) -> OptimizedImages:
    """Find one image for each combination of an objective, by gradient ascent.

    The user's model is run frozen in evaluation mode and comes back as it was. Interrupting the run
    (Ctrl-C) returns the images so far, with a warning; before the first step, or twice within three
    seconds, it raises `KeyboardInterrupt`.

    Parameters
    ----------
    objective
        An objective with N combinations.
    optimizer
        A class, a function from a list of tensors to an optimizer, or a torch optimizer, whose
        settings are bound to the images. Default: Adam with learning rate 0.05.
    nb_steps
        Number of steps, at least 1.
    use_fft
        Optimize the Fourier coefficients (True) or the pixels (False).
    fft_decay
        Power with which high frequencies are damped.
    std
        Standard deviation of the initial coefficients or pixels.
    regularizers
        Functions from the images that the model sees (N, C, h, w) to penalties (N,), subtracted
        from the scores: see `fvfast.regularizers`.
    image_normalizer
        "sigmoid", "clip", or a function that maps pixels into [0, 1].
    values_range
        (low, high) of the images that the model takes; reversed ends are sorted.
    transformations
        Function, or list of functions applied in turn, from images (N, C, H, W) to images; None for
        none; "standard" for `fvfast.transformations.generate_standard_transformations`, "lucid" for
        `generate_lucid_transformations` there. Images are then resized to the model's input.
    warmup_steps
        Steps taken first with the gradients of ReLUs replaced by the identity, which wakes units
        that are dead on the initial image. The optimizer's state carries on.
    custom_shape
        (H, W) of the images, at least 2 x 2, or one number for squares; None takes the model's
        input size, "2x" twice that.
    save_every
        Keep the images every so many steps.
    seed
        Any integer. The same seed gives the same images. Transformations draw from the global
        generators of torch, numpy or Python, which are seeded for the run's steps and put back
        after each. A batch shares them, so an image is transformed differently alone than in a
        batch.
    progress, callback, device, precision, compile
        See `fvfast.maco`.
    preset
        Values of the arguments that are left out: "xplique" (the defaults above), or "lucid":
        images of the model's input size under small shifts and scales
        (`fvfast.transformations.generate_lucid_transformations`), with an ``fft_decay`` of 1.
    guide
        A `fvfast.Guide`, which draws the picture towards the look of photographs, or of the images
        that the network was trained on. Default: none.
    initial
        A photograph that all images begin with, instead of random numbers: see `fvfast.maco`. As
        every image, it is stretched to the whole ``values_range``.

    Returns
    -------
    images
        List of (N, C, H, W) tensors, float32 on the CPU: one for each kept step, the final one
        last.
    names
        The N names.

    Raises
    ------
    ValueError
        Sizes, steps or ranges outside those above, or a score that does not depend on the image.
    TypeError
        An argument of another type.
    torch.OutOfMemoryError
        The memory does not hold images of this size, or this many of them.

    References
    ----------
    Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017. Interface: Xplique 2.0.
    """
    run = Run(
        objective, OptimizeSettings.of(locals()), progress=progress, callback=callback,
        device=device,
    )  # fmt: skip
    save_every = None if save_every is None else check_count(save_every, "save_every", 1)
    names = objective.combination_names
    run.prepare(len(names), save_every)
    ascent = run.draw(range(len(names)), save_every)
    return OptimizedImages.of(
        ascent.images, names, interrupted=ascent.interrupted, guide=run.guided_by
    )
