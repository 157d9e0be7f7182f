"""MaCo: feature visualisation that optimises the phase of an image's spectrum."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from fvfast._checks import check_size, check_values_range
from fvfast.ascent import Ascent, Callback, Gradients, run_ascent
from fvfast.engine.state import borrowed
from fvfast.objectives import Objective
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.crop_resize import crop_and_resize_grouped
from fvfast.ops.noise import inject_noise
from fvfast.ops.philox import image_identity
from fvfast.optimizers import OptimizerSpec, bind_optimizer, keras_nadam
from fvfast.preconditioning import init_maco_buffer, maco_image_parametrization
from fvfast.presets import Schedule, box_schedule, find_preset, noise_schedule, takes_preset
from fvfast.spectrum import Spectrum, SpectrumSource

CROPS_PER_BATCH = 64
"""Crops that `maco_batch` sends through the model at once unless told otherwise."""


class MacoBatch(NamedTuple):
    """Result of `maco_batch` for N objectives.

    Attributes
    ----------
    images
        (N, C, H, W), in values_range.
    transparencies
        (N, C, H, W): sums over the steps of the absolute gradient of the image.
    names
        The N names.
    scores
        (N, nb_steps): the scores before each step's update; NaN for steps that were not taken.
    """

    images: torch.Tensor
    transparencies: torch.Tensor
    names: list[str]
    scores: torch.Tensor


@takes_preset
def maco(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    maco_dataset: SpectrumSource = None,
    nb_steps: int = 256,
    noise_intensity: float | Schedule | None = 0.08,
    box_size: float | Schedule | None = None,
    nb_crops: int = 32,
    values_range: Sequence[float] = (-1, 1),
    custom_shape: Sequence[int] | None = (512, 512),
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    save_every: int | None = None,
    device: torch.device | str | None = None,
    preset: str = "xplique",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the image that maximises one objective, with natural Fourier magnitudes (MaCo).

    The user's model is run frozen in evaluation mode and comes back as it was. Interrupting the run
    (Ctrl-C) returns the image so far, with a warning.

    Parameters
    ----------
    objective
        An objective with a single combination.
    optimizer
        A class, a function from a list of tensors to an optimizer, or a torch optimizer, whose
        settings are bound to the phase. Default: NAdam with learning rate 1.0 and Keras's momentum
        schedule.
    maco_dataset
        Where the magnitude comes from: a `fvfast.spectrum.Spectrum`, a folder of images, a tensor
        of images (N, C, H, W) in [0, 1], or an iterable of such batches. Default: a closed form
        that describes natural images.
    nb_steps
        Number of steps, at least 1.
    noise_intensity
        Standard deviation of the normal part, and width of the uniform part, of the noise added to
        each crop, in units of values_range; or a function of the step; or None, which falls from 1
        to 1e-4.
    box_size
        Mean side of the crops as a fraction of the image, or a function of the step. Default:
        linear from 0.5 to 0.05.
    nb_crops
        Crops per step. 0 shows the model the whole image, resized.
    values_range
        (low, high) of the images that the model takes; reversed ends are sorted.
    custom_shape
        (H, W) of the image, at least 2 x 2; None takes the model's input size.
    seed
        Any integer. The same seed gives the same image, alone or in a batch: the initial phase,
        the boxes and the noise are functions of the seed, the objective's name and the step.
    progress
        Whether to show a progress bar.
    callback
        Called after each step with a `fvfast.ascent.StepReport`; returning True ends the run.
    save_every
        Keep the image every so many steps. The image and transparency returned are then (M, C, H,
        W), one for each kept step and the final one last.
    device
        Where to run. Default: where the model is. A model elsewhere is moved for the run.
    preset
        Values of the arguments that are left out: "xplique" (the defaults above), "horama", or
        "paper".

    Returns
    -------
    image
        (C, H, W), float32, in values_range, on the CPU.
    transparency
        (C, H, W): sum over the steps of the absolute gradient of the score with respect to the
        image. `fvfast.plot.plot_maco` shows both.

    Raises
    ------
    ValueError
        Several combinations (see `maco_batch`), sizes, steps or ranges outside those above, a
        spectrum with another number of channels than the model, or a score that does not depend on
        the image.
    TypeError
        An argument of another type.

    Warns
    -----
    RuntimeWarning
        A score or gradient is not finite (the last finite image is returned), the gradient is zero,
        or the run was interrupted.

    References
    ----------
    Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
    Optimization", NeurIPS 2023, https://arxiv.org/abs/2306.06805. Interface: Xplique 2.0.
    """
    run = MacoRun(
        objective, optimizer, maco_dataset, nb_steps, noise_intensity, box_size, nb_crops,
        values_range, custom_shape, seed=seed, preset=preset,
    )  # fmt: skip
    names = objective.combination_names
    if len(names) != 1:
        raise ValueError(
            f"maco optimises one image, but the objective has {len(names)} combinations "
            f"({names[0]}, {names[1]}, ...); use maco_batch."
        )
    ascent = run.optimise(
        [0], device=device, progress=progress, callback=callback, save_every=save_every
    )
    images, transparencies = (
        torch.cat(batches) for batches in (ascent.images, ascent.transparencies)
    )
    return (images, transparencies) if save_every else (images[-1], transparencies[-1])


@takes_preset
def maco_batch(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    maco_dataset: SpectrumSource = None,
    nb_steps: int = 256,
    noise_intensity: float | Schedule | None = 0.08,
    box_size: float | Schedule | None = None,
    nb_crops: int = 32,
    values_range: Sequence[float] = (-1, 1),
    custom_shape: Sequence[int] | None = (512, 512),
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    preset: str = "xplique",
    batch_size: int | None = None,
) -> MacoBatch:
    """Find one image for each combination of an objective.

    Each image has its own phase, boxes and noise, and is the one that `maco` makes with the same
    seed, up to rounding.

    Parameters
    ----------
    objective
        An objective with any number of combinations.
    optimizer, maco_dataset, nb_steps, noise_intensity, box_size, nb_crops, values_range, \
custom_shape, seed, progress, callback, device, preset
        See `maco`.
    batch_size
        Images optimised at a time. Default: as many as make 64 crops, at least one. A callback
        sees one batch at a time, and ending a run ends its batch only.

    Returns
    -------
    result
        Images, transparencies, names and scores. After an interrupt: of the images begun.

    Raises
    ------
    ValueError, TypeError
        As `maco`.
    """
    run = MacoRun(
        objective, optimizer, maco_dataset, nb_steps, noise_intensity, box_size, nb_crops,
        values_range, custom_shape, seed=seed, preset=preset,
    )  # fmt: skip
    if batch_size is None:
        batch_size = max(1, CROPS_PER_BATCH // max(nb_crops, 1))
    elif batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    names = objective.combination_names
    ascents: list[Ascent] = []
    done = 0
    while done < len(names):
        chosen = list(range(done, min(done + batch_size, len(names))))
        ascents.append(run.optimise(chosen, device=device, progress=progress, callback=callback))
        done += len(chosen)
        if ascents[-1].interrupted:
            break
    return MacoBatch(
        torch.cat([ascent.images[-1] for ascent in ascents]),
        torch.cat([ascent.transparencies[-1] for ascent in ascents]),
        names[:done],
        torch.cat([_padded(ascent.scores, nb_steps) for ascent in ascents]),
    )


def _padded(scores: torch.Tensor, nb_steps: int) -> torch.Tensor:
    """Scores (N, steps taken) with NaN for the steps that were not."""
    return F.pad(scores, (0, nb_steps - scores.shape[1]), value=float("nan"))


class MacoRun:
    """The settings of a MaCo run, checked before any work.

    Parameters are those of `maco`.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerSpec,
        maco_dataset: SpectrumSource,
        nb_steps: int,
        noise_intensity: float | Schedule | None,
        box_size: float | Schedule | None,
        nb_crops: int,
        values_range: Sequence[float],
        custom_shape: Sequence[int] | None,
        *,
        seed: int,
        preset: str,
    ) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(f"objective must be an Objective, got {type(objective).__name__}.")
        if nb_steps < 1:
            raise ValueError(f"nb_steps must be at least 1, got {nb_steps}.")
        if nb_crops < 0:
            raise ValueError(f"nb_crops must be at least 0, got {nb_crops}.")
        self.objective = objective
        self.channels, *self.model_size = objective.image_shape
        self.height, self.width = self.model_size if custom_shape is None else custom_shape
        check_size(self.height, self.width, "maco")
        self.values_range = check_values_range(sorted(values_range), "maco")
        self.optimizer = optimizer
        self.nb_steps = nb_steps
        self.nb_crops = nb_crops
        self.noise_at = noise_schedule(noise_intensity, nb_steps)
        self.box_size_at = box_schedule(box_size, nb_steps)
        self.seed = seed
        self.preset = find_preset(preset)
        self.spectrum = Spectrum.of(maco_dataset, (self.height, self.width), self.channels)

    def optimise(
        self,
        combinations: Sequence[int],
        *,
        device: torch.device | str | None,
        progress: bool,
        callback: Callback | None,
        save_every: int | None = None,
    ) -> Ascent:
        """Optimise the images of some combinations of the objective together."""
        model, objective_function, names, _ = self.objective.compile(combinations)
        identities = [image_identity(name) for name in names]
        with torch.inference_mode(False), borrowed(self.objective.model, device) as where:
            magnitude, phase = init_maco_buffer(
                (self.height, self.width),
                self.spectrum,
                channels=self.channels,
                seed=self.seed,
                images=identities,
                distribution=self.preset.phase,
                device=where,
            )
            phase.requires_grad_()
            transparency = torch.zeros(
                len(names), self.channels, self.height, self.width, device=where
            )

            def image() -> torch.Tensor:
                return maco_image_parametrization(magnitude, phase, self.values_range, self.width)

            def gradients(step: int) -> Gradients:
                with torch.enable_grad():
                    images = image()
                    outputs = model(self.augment(images, identities, step))
                    scores = objective_function(outputs)
                    if not scores.requires_grad:
                        raise ValueError(
                            f"the score of {names[0]} does not depend on the image: no gradient "
                            "reaches it."
                        )
                    phase_gradient, image_gradient = torch.autograd.grad(
                        scores.sum(), (phase, images)
                    )
                transparency.add_(image_gradient.abs().nan_to_num(0, 0, 0))
                return Gradients(scores.detach(), phase_gradient)

            def render() -> torch.Tensor:
                with torch.no_grad():
                    return image()

            return run_ascent(
                phase,
                bind_optimizer(self.optimizer, phase, keras_nadam),
                gradients,
                render,
                names=names,
                nb_steps=self.nb_steps,
                transparency=transparency,
                progress=progress,
                callback=callback,
                save_every=save_every,
            )

    def augment(self, images: torch.Tensor, identities: Sequence[int], step: int) -> torch.Tensor:
        """Crop, resize and add noise: images (N, C, H, W) to what the model sees (N*K, C, h, w)."""
        size = (self.model_size[0], self.model_size[1])
        if self.nb_crops == 0:
            crops = F.interpolate(images, size, mode="bilinear", align_corners=False).unsqueeze(1)
        else:
            boxes = draw_boxes(
                self.box_size_at(step),
                self.nb_crops,
                seed=self.seed,
                images=identities,
                step=step,
                distribution=self.preset.boxes,
                device=images.device,
            )
            crops = crop_and_resize_grouped(images, boxes, size)  # (N, K, C, h, w)
        noise = self.noise_at(step)
        crops = inject_noise(
            crops,
            noise * self.preset.normal_noise,
            uniform_width=noise * self.preset.uniform_noise,
            seed=self.seed,
            streams=identities,
            step=step,
        )
        return crops.flatten(0, 1)
