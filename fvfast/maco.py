"""MaCo: feature visualisation that optimises the phase of an image's spectrum."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from fvfast._checks import (
    check_callback,
    check_count,
    check_image_size,
    check_seed,
    check_sorted_range,
)
from fvfast._warnings import warn_user
from fvfast.ascent import Ascent, Callback, Gradients, run_ascent
from fvfast.engine.devices import check_device
from fvfast.engine.engine import Engine, running_engine
from fvfast.engine.passes import Scorer
from fvfast.engine.plan import Plan, make_plan
from fvfast.engine.precision import Precision, check_precision
from fvfast.engine.state import borrowed
from fvfast.engine.taps import TappedModel
from fvfast.objectives import Objective
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.crop_resize import random_crops
from fvfast.ops.noise import inject_noise
from fvfast.ops.philox import image_identity
from fvfast.optimizers import (
    OptimizerSpec,
    bind_optimizer,
    check_optimizer,
    keras_nadam,
)
from fvfast.phase import PhaseVariable
from fvfast.preconditioning import init_maco_buffer
from fvfast.presets import Schedule, box_schedule, find_preset, noise_schedule, takes_preset
from fvfast.spectrum import Spectrum, SpectrumSource
from fvfast.transformations import resize

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
    custom_shape: Sequence[int] | int | None = (512, 512),
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    save_every: int | None = None,
    device: torch.device | str | None = None,
    preset: str = "xplique",
    precision: Precision = None,
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
        (H, W) of the image, at least 2 x 2, or one number for a square; None takes the model's
        input size.
    seed
        Any integer. The same seed gives the same image. The initial phase, the boxes and the noise
        are functions of the seed, the objective's name and the step, so an image is also the same,
        up to rounding, in a batch, with another number of threads and on another device.
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
    precision
        Type in which the network runs: "float32", "bfloat16", "float16", or "auto", the fastest
        whose scores and gradients agree with the network's own type on the first views. Default:
        the network's own. Images and updates are float32 in any case.

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
        spectrum with another number of channels than the model, a device that there is not, or a
        score that does not depend on the image.
    TypeError
        An argument of another type.
    RuntimeError
        The device cannot be used: no driver, or a torch that is built without it.

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
        values_range, custom_shape, seed=seed, progress=progress, callback=callback, device=device,
        preset=preset, precision=precision,
    )  # fmt: skip
    names = objective.combination_names
    if len(names) != 1:
        raise ValueError(
            f"maco optimises one image, but the objective has {len(names)} combinations "
            f"({names[0]}, {names[1]}, ...); use maco_batch."
        )
    save_every = None if save_every is None else check_count(save_every, "save_every", 1)
    ascent = run.optimise([0], save_every)
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
    custom_shape: Sequence[int] | int | None = (512, 512),
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    preset: str = "xplique",
    precision: Precision = None,
    batch_size: int | None = None,
    on_result: Callable[[MacoBatch], None] | None = None,
) -> MacoBatch:
    """Find one image for each combination of an objective.

    Each image has its own phase, boxes and noise, and is the one that `maco` makes with the same
    seed, up to rounding.

    Parameters
    ----------
    objective
        An objective with any number of combinations.
    optimizer, maco_dataset, nb_steps, noise_intensity, box_size, nb_crops, values_range, \
custom_shape, seed, progress, callback, device, preset, precision
        See `maco`.
    batch_size
        Images optimised at a time. Default: as many as make 64 crops, at least one. A callback
        sees one batch at a time, and ending a run ends its batch only. Fewer of its crops than that
        go through the network at once where the memory does not hold their activations.
    on_result
        Called with each batch as soon as it is finished, which for a whole layer is long before the
        last one is.

    Returns
    -------
    result
        Images, transparencies, names and scores. After an interrupt: of the images begun.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As `maco`.
    """
    check_callback(on_result, "on_result")
    run = MacoRun(
        objective, optimizer, maco_dataset, nb_steps, noise_intensity, box_size, nb_crops,
        values_range, custom_shape, seed=seed, progress=progress, callback=callback, device=device,
        preset=preset, precision=precision,
    )  # fmt: skip
    if batch_size is None:
        batch_size = max(1, CROPS_PER_BATCH // max(run.nb_crops, 1))
    check_count(batch_size, "batch_size", 1)
    names = objective.combination_names
    batches: list[MacoBatch] = []

    def finished() -> MacoBatch:
        images, transparencies, parts, scores = zip(*batches, strict=True)
        return MacoBatch(
            torch.cat(images),
            torch.cat(transparencies),
            [name for part in parts for name in part],
            torch.cat(scores),
        )

    # The model is borrowed for all batches at once: one warning, and no time in between.
    with borrowed(objective.model):
        for start in range(0, len(names), batch_size):
            try:
                ascent = run.optimise(range(start, min(start + batch_size, len(names))))
                batches.append(
                    MacoBatch(
                        ascent.images[-1],
                        ascent.transparencies[-1],
                        names[start : start + batch_size],
                        _padded(ascent.scores, run.nb_steps),
                    )
                )
                if on_result is not None:
                    on_result(batches[-1])
            except BaseException as error:
                if not batches:
                    raise
                done = f"after {sum(len(batch.names) for batch in batches)} of {len(names)} images"
                if isinstance(error, KeyboardInterrupt):
                    warn_user(f"interrupted {done}; these are returned.", RuntimeWarning)
                    break
                warn_user(
                    f"failed {done}; the exception's attribute `finished` holds them.",
                    RuntimeWarning,
                )
                error.finished = finished()  # type: ignore[attr-defined]
                raise
            if ascent.interrupted:
                break
    return finished()


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
        custom_shape: Sequence[int] | int | None,
        *,
        seed: int,
        progress: bool,
        callback: Callback | None,
        device: torch.device | str | None,
        preset: str,
        precision: Precision,
    ) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(f"objective must be an Objective, got {type(objective).__name__}.")
        check_optimizer(optimizer)
        check_callback(callback)
        self.objective = objective
        self.optimizer = optimizer
        self.maco_dataset = maco_dataset
        self.nb_steps = check_count(nb_steps, "nb_steps", 1)
        self.nb_crops = check_count(nb_crops, "nb_crops", 0)
        self.channels, *model_size = objective.image_shape
        self.model_size = (model_size[0], model_size[1])
        self.height, self.width = check_image_size(custom_shape, self.model_size, "maco")
        self.values_range = check_sorted_range(values_range, "maco")
        self.noise_at = noise_schedule(noise_intensity, self.nb_steps)
        self.box_size_at = box_schedule(box_size, self.nb_steps, preset)
        self.seed = check_seed(seed)
        self.progress = progress
        self.callback = callback
        self.device = check_device(device) if device is not None else None
        self.preset = find_preset(preset)
        self.precision = check_precision(precision)
        self.plan: Plan | None = None

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """The magnitudes, measured once, however many batches use them."""
        return Spectrum.of(
            self.maco_dataset, (self.height, self.width), self.channels, progress=self.progress
        )

    def optimise(self, combinations: Sequence[int], save_every: int | None = None) -> Ascent:
        """Optimise the images of some combinations of the objective together."""
        # Also within a user's inference mode, whose tensors take no part in gradients.
        with torch.inference_mode(False), borrowed(self.objective.model, self.device) as device:
            tapped, scorer, names, _ = self.objective.compile(combinations)
            identities = [image_identity(name) for name in names]
            magnitude, phase = init_maco_buffer(
                (self.height, self.width),
                self.spectrum,
                channels=self.channels,
                seed=self.seed,
                images=identities,
                distribution=self.preset.phase,
                device=device,
            )
            phase.requires_grad_()
            optimizer = bind_optimizer(self.optimizer, phase, keras_nadam)
            transparency = torch.zeros(
                len(names), self.channels, self.height, self.width, device=device
            )

            variable = PhaseVariable(magnitude, phase, optimizer, self.values_range, self.width)

            def part_scorer(first: int, last: int) -> Scorer:
                whole = last - first == len(names)
                return scorer if whole else self.objective.scorer(combinations[first:last])

            def gradients(step: int) -> Gradients:
                if not engines:
                    # Here, where an interrupt ends the run like in any other step.
                    plan = self._plan(
                        tapped, combinations, variable.render()[:1], identities[:1], names[0]
                    )
                    engines.append(
                        stack.enter_context(running_engine(tapped, plan, part_scorer, names[0]))
                    )
                engine = engines[0]
                with torch.enable_grad():
                    image = variable.image()
                    views = self.augment(
                        image, identities, step, transparency,
                        dtype=engine.views_dtype, memory_format=engine.views_format,
                    )  # fmt: skip
                    scores, cotangent = engine.gradients(views, len(names))
                    (gradient,) = torch.autograd.grad(views, image, cotangent)
                    return Gradients(scores, gradient)

            engines: list[Engine] = []
            with contextlib.ExitStack() as stack:
                return run_ascent(
                    phase,
                    variable.ascend,
                    gradients,
                    variable.render,
                    names=names,
                    nb_steps=self.nb_steps,
                    transparency=transparency,
                    progress=self.progress,
                    callback=self.callback,
                    save_every=save_every,
                )

    def _plan(
        self,
        tapped: TappedModel,
        combinations: Sequence[int],
        image: torch.Tensor,
        identity: Sequence[int],
        name: str,
    ) -> Plan:
        """Choose, once, how to run the network, on the views of an image (1, C, H, W)."""
        if self.plan is None:
            with torch.no_grad():
                views = self.augment(image, identity, 0, torch.zeros_like(image))
            scorer = self.objective.scorer(combinations[:1])
            self.plan = make_plan(tapped, scorer, views, name, self.precision)
        return self.plan

    def augment(
        self,
        images: torch.Tensor,
        identities: Sequence[int],
        step: int,
        transparency: torch.Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> torch.Tensor:
        """Crop, resize and add noise: images (N, C, H, W) to what the model sees (N*K, C, h, w).

        The backward pass adds the absolute gradient of the images to the transparency.
        """
        intensity = self.noise_at(step)
        noise: dict[str, Any] = {
            "std": intensity * self.preset.normal_noise,
            "uniform_width": intensity * self.preset.uniform_noise,
            "seed": self.seed,
            "streams": identities,
            "step": step,
        }
        if self.nb_crops == 0:
            if images.requires_grad:
                images.register_hook(functools.partial(_add_absolute, transparency))
            return inject_noise(resize(images, self.model_size), **noise)
        boxes = draw_boxes(
            self.box_size_at(step),
            self.nb_crops,
            seed=self.seed,
            images=identities,
            step=step,
            distribution=self.preset.boxes,
            device=images.device,
        )
        return random_crops(
            images, boxes, self.model_size, alpha=transparency, dtype=dtype,
            memory_format=memory_format, **noise,
        )  # fmt: skip


def _add_absolute(transparency: torch.Tensor, gradient: torch.Tensor) -> None:
    """Add an absolute gradient; what is not finite adds nothing."""
    transparency.add_(gradient.abs().nan_to_num(0, 0, 0))
