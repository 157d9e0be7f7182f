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
from fvfast.ops.nadam import nadam_table
from fvfast.parametrizations.optimizers import KerasNadam
from fvfast.parametrizations.phase import Phase
from fvfast.run.endings import Endings
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.settings import Settings
from fvfast.run.step_record import StepRecord
from fvfast.run.step_update import Gradients, StepUpdate
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
    record, endings, update
        Of the run.
    """

    def __init__(self, phase: Phase, crops: Crops, settings: MacoSettings) -> None:
        device = phase.state.device
        images = len(phase.state)
        self.phase = phase
        self.record = StepRecord(images, device)
        self._transparency = torch.zeros(phase.shape, dtype=torch.float32, device=device)
        self.endings = Endings(self.record, phase.state, self._transparency, at_once=False)
        self._crops = crops
        self.update = StepUpdate(phase, self.record, self.endings)
        self._identities = torch.zeros(images, dtype=torch.int64, device=device)
        self._tables = crops.tables(settings.nb_steps, device)
        self._run: _Run | None = None
        assert isinstance(phase.optimizer, KerasNadam)
        rates = _rates(phase.optimizer, settings).to(device)
        phase.optimizer.follow(rates, self.record.step)

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
        self.endings.reset()
        self._identities.copy_(torch.tensor(identities, dtype=torch.int64))
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

    def __call__(self, number: int) -> None:
        """Take a step; its number tells the size of its views alone."""
        assert self._run is not None, "the step belongs to no run"
        with torch.enable_grad():
            images = self.phase.image()
            views = self._crops.of_step(
                images, self.variant(number), self._identities, self.record.step, self._tables,
                self._transparency,
                dtype=self._run.dtype, memory_format=self._run.memory_format,
            )  # fmt: skip
            scores, cotangent = self._run.run(views)
            (gradient,) = torch.autograd.grad(views, images, cotangent.to(views.dtype))
        gradients = Gradients(scores, gradient)
        self.update.check(gradients)
        self.update.take(gradients)

    def state(self) -> list[torch.Tensor]:
        """Return all that a step changes."""
        optimizer = self.phase.optimizer
        assert isinstance(optimizer, KerasNadam)
        averages = optimizer.tensors(self.phase.state)
        phase = self.phase.state.detach()
        return [phase, *averages, *self.record.tensors(), *self.endings.tensors()]

    def restore(self, saved: Sequence[torch.Tensor]) -> None:
        """Write copies of `state` back."""
        with torch.no_grad():
            for tensor, copy in zip(self.state(), saved, strict=True):
                tensor.copy_(copy)
        optimizer = self.phase.optimizer
        assert isinstance(optimizer, KerasNadam)
        optimizer.sums_hold(self.phase.state)


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
