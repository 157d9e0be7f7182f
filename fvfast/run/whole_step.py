"""A step of MaCo from the phase to the next phase, all of whose numbers lie on the device.

Nothing that changes from step to step comes from the host, so that a step which was recorded once,
as a CUDA graph does, can be replayed: for later steps, and for other images of the same kind.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import torch

from fvfast.engine.engine import Engine
from fvfast.engine.graphs.repeated_steps import RepeatedSteps
from fvfast.engine.graphs.step_pass import StepPass
from fvfast.ops.boxes import draw_boxes
from fvfast.ops.crop_resize import random_crops
from fvfast.ops.nadam import nadam_table
from fvfast.ops.phase_step import new_sums
from fvfast.ops.step_end import NextBoxes
from fvfast.parametrizations.optimizers import KerasNadam, known_sums
from fvfast.parametrizations.phase import Phase
from fvfast.run.endings import FrozenEndings
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.settings import Settings
from fvfast.run.step_record import StepRecord
from fvfast.run.views import Crops

MOST_STEPS = 2**20
"""Of a run: each has a row in tables on the device."""


def why_not_whole(settings: Settings, views: object, parametrization: object) -> str:
    """Say why the steps of a run take numbers from the host; empty if they need not.

    Parameters
    ----------
    settings
        Of the run.
    views, parametrization
        What it shows the network, and what it optimizes.
    """
    if not isinstance(settings, MacoSettings):
        return f"{settings.function} has no recorded steps"
    if type(parametrization) is not Phase or not parametrization.is_fused:
        return "not a phase with fvfast's own optimizer"
    if type(views) is not Crops or views.nb_crops == 0:
        return "the network is shown whole images"
    if views.crop is not random_crops:
        return "crops of another function"
    if views.color_shift is not None:
        return "color_shift"
    if settings.penalties:
        return "regularizers"
    for name in ("box_size", "noise_intensity", "learning_rate", "view_size"):
        if callable(getattr(settings, name)):
            return f"{name} is a function of the user"
    if settings.nb_steps > MOST_STEPS:
        return f"more than {MOST_STEPS} steps"
    return ""


class WholeStep:
    """Takes steps of N images, in memory that later runs of the same kind use again.

    Around the network a step is eight launches, which also keep the record. The phase has two
    places, which take turns: the state before the last update is still there when an image ends.

    Parameters
    ----------
    phase
        What is optimized, with `KerasNadam`.
    crops
        What the network is shown.
    settings
        Of the run: they decide the numbers of all steps.

    Attributes
    ----------
    phase
        As given; its memory is that of later runs.
    record, endings
        Of the run.
    """

    def __init__(self, phase: Phase, crops: Crops, settings: MacoSettings) -> None:
        device = phase.state.device
        images = len(phase.state)
        self.phase = phase
        self.record = StepRecord(images, device)
        self.record.make_room()
        self._transparency = torch.zeros(phase.shape, dtype=torch.float32, device=device)
        self.endings = FrozenEndings(self._transparency)
        self._crops = crops
        self._identities = torch.zeros(images, dtype=torch.int64, device=device)
        self._tables = crops.tables(settings.nb_steps, device)
        self._other = torch.zeros_like(phase.state, requires_grad=False)
        self._sums = new_sums(phase.state.detach()).zero_()
        self._flags = torch.zeros(images, dtype=torch.int32, device=device)
        self._boxes = torch.zeros(images, crops.nb_crops, 4, device=device)
        self._next_boxes: NextBoxes | None = None
        if crops.draw is draw_boxes:
            self._next_boxes = NextBoxes(
                self._boxes, self._tables.box_size, self._identities, crops.seed, crops.boxes
            )
        self._run: _Run | None = None
        (group,) = self._optimizer.param_groups
        self._averages = self._optimizer.averages(phase.state, self._sums)
        rates = _rates(self._optimizer, settings).to(device)
        self._rates = {"rates": rates, "betas": group["betas"], "eps": group["eps"]}

    @property
    def _optimizer(self) -> KerasNadam:
        optimizer = self.phase.optimizer
        assert isinstance(optimizer, KerasNadam)
        return optimizer

    def begin(self, phase: Phase, identities: Sequence[int], run: StepPass, engine: Engine) -> None:
        """Begin a run.

        Parameters
        ----------
        phase
            Where it begins.
        identities
            Of its images.
        run
            Its pass through the network.
        engine
            Of the run, which says what views the network takes best.
        """
        if phase is not self.phase:
            self.phase.restart(phase)
        self.record.reset()
        self._transparency.zero_()
        self._flags.zero_()
        self._other.copy_(self.phase.state.detach())
        self._identities.copy_(torch.tensor(identities, dtype=torch.int64))
        if self._next_boxes is not None:
            self._boxes.copy_(self._draw())
        self._run = _Run(run, engine.views_dtype, engine.views_format)

    @property
    def draws(self) -> bool:
        """Whether the network draws random numbers, as far as is known."""
        return self._run is not None and bool(self._run.run.draws)

    def end(self) -> None:
        """Forget the run, and its network."""
        self._run = None

    def variant(self, number: int) -> tuple[int, int]:
        """Return the size of the views of a step."""
        return self._crops.size_at(number)

    def __call__(self, number: int, count: int = 1) -> None:
        """Take some steps; the number of the first tells the size of their views alone."""
        size = self.variant(number)
        state = self.phase.state.detach()
        for _ in range(count // 2):
            self._step(size, state, self._other)
            self._step(size, self._other, state)
        if count % 2:
            self._step(size, state, self._other)
            before = state.clone()
            state.copy_(self._other)
            self._other.copy_(before)
        self._optimizer.sums_hold(self.phase.state)

    def _step(self, size: tuple[int, int], phase: torch.Tensor, next_phase: torch.Tensor) -> None:
        assert self._run is not None, "the step belongs to no run"
        record = self.record
        sums: torch.Tensor | None = self._sums
        if phase is not self._other and known_sums(self._optimizer, self.phase.state) is None:
            sums = None  # of the first step
        with torch.no_grad():
            rendered = self.phase.rendered(phase, sums)
            boxes = self._boxes if self._next_boxes is not None else self._draw()
            views = self._crops.of_step(
                rendered.image, boxes, size, self._identities, record.step, self._tables,
                dtype=self._run.dtype, memory_format=self._run.memory_format,
            )  # fmt: skip
            with torch.enable_grad():
                scores, cotangent = self._run.run(views)
            gradient = torch.ops.fvfast.crop_gradient(
                cotangent.to(views.dtype), boxes, *rendered.image.shape[2:], rendered.image.dtype,
                self._transparency, record.running, self._flags,
            )  # fmt: skip
            scores = scores.to(torch.float32)
            self.phase.step(
                gradient, rendered, phase, next_phase, self._averages, sums=self._sums,
                scores=scores, flags=self._flags, running=record.running, step=record.step,
                **self._rates,
            )  # fmt: skip
            record.end_step(scores, self._flags, phase, next_phase, self._sums, self._next_boxes)

    def _draw(self) -> torch.Tensor:
        return self._crops.boxes_of_step(self._identities, self.record.step, self._tables)

    def state(self) -> list[torch.Tensor]:
        """Return all that a step changes."""
        return [
            self.phase.state.detach(), self._other, *self._averages, self._sums,
            *self.record.tensors(), self._transparency, self._flags, self._boxes,
        ]  # fmt: skip

    def restore(self, saved: Sequence[torch.Tensor]) -> None:
        """Write copies of `state` back."""
        with torch.no_grad():
            for tensor, copy in zip(self.state(), saved, strict=True):
                tensor.copy_(copy)
        self._optimizer.sums_hold(self.phase.state)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a step needs of a run.

    Attributes
    ----------
    run
        A pass through the network.
    dtype, memory_format
        Of the views.
    """

    run: StepPass
    dtype: torch.dtype
    memory_format: torch.memory_format


@dataclasses.dataclass(frozen=True)
class WholeSteps:
    """The steps of a run.

    Attributes
    ----------
    steps
        Takes them.
    step
        What they are.
    """

    steps: RepeatedSteps
    step: WholeStep


def step_key(phase: Phase, crops: Crops, settings: MacoSettings) -> Hashable:
    """Return a key for all that is fixed when a step is recorded."""
    schedules = ("box_size", "noise_intensity", "learning_rate", "view_size")
    group = phase.optimizer.param_groups[0]
    return (
        phase.shape, crops.size, crops.nb_crops, crops.boxes, crops.normal_noise,
        crops.uniform_noise, crops.seed, settings.nb_steps, tuple(settings.values_range),
        *(repr(getattr(settings, name)) for name in schedules),
        *(repr(group[name]) for name in ("lr", "betas", "eps", "momentum_decay")),
    )  # fmt: skip


def _rates(optimizer: KerasNadam, settings: MacoSettings) -> torch.Tensor:
    """Return the numbers of the optimizer in all steps."""
    (group,) = optimizer.param_groups
    at = settings.learning_rate_at
    steps = range(settings.nb_steps)
    return nadam_table(
        settings.nb_steps,
        lr=group["lr"] if at is None else [at(step) for step in steps],
        betas=group["betas"],
        momentum_decay=group["momentum_decay"],
    )
