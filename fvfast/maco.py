"""MaCo: feature visualization that optimizes the phase of an image's spectrum, or a pyramid."""

from collections.abc import Callable, Sequence

import torch

from fvfast._shared.checks import ImageSize
from fvfast.engine.borrowing.interrupts import result_kept
from fvfast.engine.compiled.choice import CompileChoice
from fvfast.engine.precision import Precision
from fvfast.objectives import Objective
from fvfast.objectives.guides import Guide
from fvfast.parametrizations.optimizers import OptimizerSpec
from fvfast.regularizers import Regularizer
from fvfast.run.batches import draw_batches
from fvfast.run.loop import Callback
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.presets import PRESETS, PresetName, takes_preset, takes_steps_third
from fvfast.run.results import MacoBatch as MacoBatch
from fvfast.run.results import MacoImage as MacoImage
from fvfast.run.run import Run
from fvfast.run.schedules import ScheduleSpec
from fvfast.run.single import draw_single
from fvfast.spectrum import SpectrumSource
from fvfast.spectrum.photograph import PhotographSource


@result_kept
@takes_steps_third
@takes_preset(PRESETS)
def maco(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    maco_dataset: SpectrumSource = None,
    nb_steps: int = 256,
    noise_intensity: ScheduleSpec = 0.08,
    box_size: ScheduleSpec = None,
    nb_crops: int = 32,
    values_range: Sequence[float] = (-1, 1),
    custom_shape: ImageSize = (512, 512),
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    save_every: int | None = None,
    device: torch.device | str | None = None,
    learning_rate: ScheduleSpec = None,
    preset: PresetName = "xplique",
    precision: Precision = None,
    compile: CompileChoice = False,  # noqa: A002 (torch's name)
    regularizers: Sequence[Regularizer] | Regularizer | None = None,
    guide: Guide | None = None,
    color_shift: float | None = None,
    view_size: ScheduleSpec = None,
    initial: PhotographSource | None = None,
) -> MacoImage:
    """Find the image that maximizes one objective, with natural Fourier magnitudes (MaCo).

    The user's model is run frozen in evaluation mode and comes back as it was. Interrupting the run
    (Ctrl-C) returns the image so far, with a warning, also when the last step is over. Before the
    first step, or twice within three seconds, it raises `KeyboardInterrupt`.

    Parameters
    ----------
    objective
        An objective with a single combination.
    optimizer
        A class, a function from a list of tensors to an optimizer, or a torch optimizer, whose
        settings are bound to the phase. Default: NAdam with learning rate 1.0 and Keras's momentum
        schedule; with ``preset="pyramid"`` Adam, which begins anew when a level is added.
    maco_dataset
        Where the magnitude comes from: a `fvfast.spectrum.Spectrum`, a folder of images, a tensor
        of images (N, C, H, W), in [0, 1] or as the model takes them, or an iterable of such
        batches. Default: a closed form that describes natural images. Not with
        ``preset="pyramid"``, whose magnitudes are free.
    nb_steps
        Number of steps, at least 1.
    noise_intensity
        Standard deviation of the normal part, and width of the uniform part, of the noise added to
        each crop, in units of values_range; a function of the step; a `fvfast.Linear` or
        `fvfast.Geometric`; or None, which falls from 1 to 1e-4 in equal ratios.
    box_size
        Mean side of the crops as a fraction of the image, a function of the step, or a
        `fvfast.Linear` or `fvfast.Geometric`. Default: linear from 0.5 to 0.05.
    nb_crops
        Crops per step. 0 shows the model the whole image, resized: bilinearly, or as means of
        pixels if the image is more than twice as large.
    values_range
        (low, high) of the images that the model takes; reversed ends are sorted.
    custom_shape
        (H, W) of the image, at least 2 x 2, or one number for a square; None takes the model's
        input size, "2x" twice that.
    seed
        Any integer. The same seed gives the same image. The initial phase, the boxes and the noise
        are functions of the seed, the combination's name and the step, so an image is also the
        same, up to rounding, in a batch, with another number of threads and on another device.
    progress
        Whether to show a progress bar.
    callback
        Called after each step with a `fvfast.run.loop.StepReport`; returning True ends the run.
    save_every
        Keep the image every so many steps. The image and transparency returned are then (M, C, H,
        W), one for each kept step and the final one last.
    device
        Where to run. Default: where the model is. A model elsewhere is moved for the run.
    learning_rate
        Of the optimizer: a number, a function of the step, or a `fvfast.Linear` or
        `fvfast.Geometric`. Default: the optimizer's own.
    preset
        Values of the arguments that are left out: "xplique" (the defaults above), "fast" (fewer
        steps and crops, larger boxes, noise and learning rate that fall, views that are small at
        first), "quick" (the same in a quarter of the time), "small" (the whole
        image, twice as large as the model's input, for inputs up to 64 x 64), "pyramid" (a sum of
        levels of all sizes instead of a phase), "horama", or "paper".
    precision
        Type in which the network runs: "float32", "bfloat16", "float16", or "auto", the fastest
        whose scores and gradients agree with the network's own type on the first views. Default:
        the network's own. Images and updates are float32 in any case.
    compile
        Whether the network is compiled with TorchInductor, the compiler of `torch.compile`, which
        takes from tens of seconds to minutes and needs a C++ compiler, on a GPU also Triton. True
        compiles before the second step, "auto" only if the rest of the run takes much longer than
        that. The compiled network is used if it gives the same and is 5 % faster, and later calls
        use it again; else a warning (with True) says why not. Default: False.
    regularizers
        Functions from the images (N, C, H, W) to penalties (N,), subtracted from the scores: see
        `fvfast.regularizers`. The transparency does not count them.
    guide
        A `fvfast.Guide`, which draws the picture towards the look of photographs, or of the images
        that the network was trained on. Default: none.
    color_shift
        Scale each channel of each crop by exp(color_shift * u) and move it by color_shift * v, in
        units of values_range, where u and v are uniform in [-1, 1): a network is then asked for
        what it recognizes in any colors. Default: None, no shift; 1 is usual for transformers.
    view_size
        Side of the crops that the network is shown, as a fraction of its input size: a number above
        0 and at most 1, a function of the step, or a `fvfast.Linear`. Sides are rounded to
        multiples of 32 pixels. Smaller views take less time, so that more steps fit the same
        seconds; the network must take other sizes than its own, and the objective must not depend
        on positions. Default: None, the network's input size.
    initial
        A photograph whose phases are the start: the path of a file, a PIL image, an array (H, W,
        C) of 8-bit values or values in [0, 1], or a tensor (C, H, W) in ``values_range``. It is
        cropped around its center to the shape of the image. Its magnitude is replaced, and its
        phases are used as they are, not standardized. They are soon lost at the default learning
        rate: try ``learning_rate=0.05``. To change a photograph, see `fvfast.accentuate`.

    Returns
    -------
    result
        A pair, which a notebook shows as a picture; ``result.interrupted`` tells whether the user
        ended the run.
    image
        (C, H, W), float32, in values_range, on the CPU.
    transparency
        (C, H, W): sum over the steps of the absolute gradient of the score with respect to the
        image. `fvfast.plot.plot_maco` shows both.

    Raises
    ------
    ValueError
        Several combinations (see `maco_batch`), sizes, steps or ranges outside those above, a
        spectrum with another number of channels than the model, a device that does not exist, or a
        score that does not depend on the image.
    TypeError
        An argument of another type.
    RuntimeError
        The device cannot be used: no driver, or a torch that is built without it.
    torch.OutOfMemoryError
        The memory does not hold images and crops of this size, or this many of them.

    Warns
    -----
    UserWarning
        The network takes small images, and is shown crops, which it may never have learned from; or
        small crops are compared with a whole photograph.
    RuntimeWarning
        A score or gradient is not finite (the last finite image is returned), the gradient is zero,
        the memory is full with images of ``save_every``, or the run was interrupted.

    References
    ----------
    Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
    Optimization", NeurIPS 2023, https://arxiv.org/abs/2306.06805. Interface: Xplique 2.0.
    """
    run = Run(
        objective, MacoSettings.of(locals()), progress=progress, callback=callback, device=device
    )
    return draw_single(run, save_every, "use maco_batch.")


@result_kept
@takes_steps_third
@takes_preset(PRESETS)
def maco_batch(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    maco_dataset: SpectrumSource = None,
    nb_steps: int = 256,
    noise_intensity: ScheduleSpec = 0.08,
    box_size: ScheduleSpec = None,
    nb_crops: int = 32,
    values_range: Sequence[float] = (-1, 1),
    custom_shape: ImageSize = (512, 512),
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    learning_rate: ScheduleSpec = None,
    preset: PresetName = "xplique",
    precision: Precision = None,
    compile: CompileChoice = False,  # noqa: A002 (torch's name)
    regularizers: Sequence[Regularizer] | Regularizer | None = None,
    guide: Guide | None = None,
    color_shift: float | None = None,
    view_size: ScheduleSpec = None,
    initial: PhotographSource | None = None,
    batch_size: int | None = None,
    on_result: Callable[[MacoBatch], None] | None = None,
    keep: bool = True,
) -> MacoBatch:
    """Find one image for each combination of an objective.

    Each image has its own phase, boxes and noise, and is the one that `maco` makes with the same
    seed, up to rounding.

    Parameters
    ----------
    objective
        An objective with any number of combinations.
    batch_size
        Images optimized at a time. Default: as many as make 64 crops, at least one; on a GPU twice
        as many in each further batch, as long as that saves time and fits the memory. A callback
        sees one batch at a time, and ending a run ends its batch only. Fewer of its crops than that
        go through the network at once where the memory does not hold their activations. Images
        that the objective scores together are never separated: whole groups of them are drawn.
    on_result
        Called with each batch as soon as it is finished, which for a whole layer is long before the
        last one is.
    keep
        Whether to keep the images and return them, 6 MB for each of 512 x 512. False needs
        ``on_result``, which alone has them then: the memory that a run takes does not
        grow with the number of images.
    others
        As in `maco`.

    Returns
    -------
    result
        Images, transparencies, names and scores. After an interrupt: of the images begun, which
        ``on_result`` has been given as well. With ``keep=False``: of no images, that is, of shape
        (0, C, H, W) and (0, S), S the steps of the longest run.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `maco`. After the first batch, the exception has an attribute ``finished``: what would
        have been returned.

    Warns
    -----
    UserWarning, RuntimeWarning
        As `maco`; or ``batch_size`` is less than the images that are scored together.
    """
    run = Run(
        objective, MacoSettings.of(locals()), progress=progress, callback=callback, device=device
    )
    return draw_batches(run, batch_size, on_result, keep=keep)
