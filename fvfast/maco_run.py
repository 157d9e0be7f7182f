"""One run of MaCo: its settings, its start, and what happens in each of its steps."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import torch

from fvfast._checks import (
    check_callback,
    check_count,
    check_image_size,
    check_seed,
    check_sorted_range,
)
from fvfast._room import check_room
from fvfast.ascent import Ascent, Callback, Gradients, run_ascent
from fvfast.engine.devices import check_device
from fvfast.engine.engine import Engine, EngineAtFirstUse, kept_engine
from fvfast.engine.interrupts import opened, shielded, torch_state_kept
from fvfast.engine.kept_forms import SHARED, FormStore
from fvfast.engine.passes import Scorer
from fvfast.engine.precision import Precision, check_precision
from fvfast.engine.state import borrowed, model_device
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
    set_learning_rate,
)
from fvfast.phase import PhaseVariable
from fvfast.preconditioning import init_maco_buffer
from fvfast.presets import DEFAULT_BOX_SIZE, FALLING_NOISE, find_preset
from fvfast.schedules import ScheduleSpec, schedule_of
from fvfast.spectrum import Spectrum, SpectrumSource
from fvfast.transformations import resize


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
        noise_intensity: ScheduleSpec,
        box_size: ScheduleSpec,
        nb_crops: int,
        values_range: Sequence[float],
        custom_shape: Sequence[int] | int | None,
        *,
        seed: int,
        progress: bool,
        callback: Callback | None,
        device: torch.device | str | None,
        learning_rate: ScheduleSpec,
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
        self.noise_at = schedule_of(
            "noise_intensity", noise_intensity, self.nb_steps, FALLING_NOISE
        )
        self.box_size_at = schedule_of("box_size", box_size, self.nb_steps, DEFAULT_BOX_SIZE)
        self.learning_rate_at = (
            None
            if learning_rate is None
            else schedule_of("learning_rate", learning_rate, self.nb_steps)
        )
        self.seed = check_seed(seed)
        self.progress = progress
        self.callback = callback
        self.device = check_device(device) if device is not None else None
        self.preset = find_preset(preset)
        self.precision = check_precision(precision)
        # What functions of the user do may change with what they refer to.
        self._forms = FormStore() if objective.runs_user_code else SHARED
        self._has_started = False

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """The magnitudes, measured once, however many batches use them."""
        # It may take long.
        return opened(
            Spectrum.of, self.maco_dataset, (self.height, self.width), self.channels,
            progress=self.progress,
        )  # fmt: skip

    def check_room(self, images: int, function: str) -> None:
        """Raise torch.OutOfMemoryError where so many images do not fit the memory."""
        device = self.device or model_device(self.objective.model)
        check_room(
            function, device, images, (self.channels, self.height, self.width),
            max(self.nb_crops, 1), (self.channels, *self.model_size),
            torch.float32 if self.precision in (None, "float32") else torch.bfloat16,
        )  # fmt: skip

    def optimise(self, combinations: Sequence[int], save_every: int | None = None) -> Ascent:
        """Optimise the images of some combinations of the objective together."""
        spectrum = self.spectrum
        with (
            shielded(),
            torch_state_kept(),
            # Also within a user's inference mode, whose tensors take no part in gradients.
            torch.inference_mode(False),
            borrowed(self.objective.model, self.device) as device,
        ):
            tapped, scorer, names, _ = self.objective.compile(combinations)
            identities = [image_identity(name) for name in names]
            magnitude, phase = init_maco_buffer(
                (self.height, self.width),
                spectrum,
                channels=self.channels,
                seed=self.seed,
                images=identities,
                distribution=self.preset.phase,
                device=device,
            )
            phase.requires_grad_()
            optimizer = bind_optimizer(self.optimizer, phase, keras_nadam)
            if self.learning_rate_at is not None:
                # Here, so that an optimizer without one is refused before the first step.
                set_learning_rate(optimizer, self.learning_rate_at(0))
            transparency = torch.zeros(
                (len(names), self.channels, self.height, self.width),
                dtype=torch.float32,
                device=device,
            )
            variable = PhaseVariable(magnitude, phase, optimizer, self.values_range, self.width)

            def part_scorer(first: int, last: int) -> Scorer:
                whole = last - first == len(names)
                return scorer if whole else self.objective.scorer(combinations[first:last])

            def start() -> contextlib.AbstractContextManager[Engine]:
                image = variable.render()[:1]
                with torch.no_grad():
                    views = self.augment(image, identities[:1], 0, torch.zeros_like(image))
                # Between the batches of one call nobody but a callback could change the network.
                thorough, self._has_started = not self._has_started, True
                return kept_engine(
                    tapped, views, part_scorer, names[0], self.precision,
                    runs_user_code=self.objective.runs_user_code,
                    store=self._forms, seed=self.seed, thorough=thorough,
                )  # fmt: skip

            def gradients(step: int) -> Gradients:
                engine = running()
                if self.learning_rate_at is not None:
                    set_learning_rate(optimizer, self.learning_rate_at(step))
                with torch.enable_grad():
                    image = variable.image()
                    views = self.augment(
                        image, identities, step, transparency,
                        dtype=engine.views_dtype, memory_format=engine.views_format,
                    )  # fmt: skip
                    scores, cotangent = engine.gradients(views, len(names))
                    (gradient,) = torch.autograd.grad(views, image, cotangent)
                    return Gradients(scores, gradient)

            with EngineAtFirstUse(start) as running:
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
