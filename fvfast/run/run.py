"""One run of any method: parametrization, views, network and loop, put together."""

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Sequence

import torch

from fvfast._shared.checks import check_callback
from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.interrupts import shielded, torch_state_kept
from fvfast.engine.borrowing.randomness import SeededGenerators
from fvfast.engine.borrowing.state import borrowed, model_device
from fvfast.engine.compiled.kept import Wish
from fvfast.engine.devices import check_device
from fvfast.engine.engine import Engine
from fvfast.engine.passes import Scorer
from fvfast.engine.rewrite.kept_forms import SHARED, FormStore
from fvfast.engine.rewrite.relu import open_relu_gradients
from fvfast.engine.starting import EngineAtFirstUse, kept_engine
from fvfast.engine.taps import TappedModel
from fvfast.objectives import Objective
from fvfast.ops.philox import image_identity
from fvfast.parametrizations.base import Parametrization
from fvfast.parametrizations.optimizers import set_learning_rate
from fvfast.parametrizations.phase import Phase
from fvfast.regularizers import Regularizer
from fvfast.run.loop import Ascent, Callback, run_ascent
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.memory_checks import check_kept_images, check_run_fits
from fvfast.run.progress import BarOfImages, BarOfSteps, StepBar, teller
from fvfast.run.settings import Parametrize, Settings
from fvfast.run.step_timer import StepTimer
from fvfast.run.step_update import Gradients
from fvfast.run.view_sizes import why_not_smaller
from fvfast.run.views import Crops
from fvfast.run.whole_step import WholeStep, WholeSteps, step_key, why_not_whole

_log = logging.getLogger(__name__)


class Run:
    """Pictures of the combinations of one objective, with the settings of one method.

    Parameters
    ----------
    objective
        What is maximized.
    settings
        The method and its settings.
    progress, callback, device
        See `fvfast.maco`.
    forms
        Where forms of the network are kept. Default: what all runs share, or, as functions of the
        user may change with what they refer to, a store of this run.
    splits
        Whether the views of several groups of images may go through the network in parts, as the
        memory allows. The last bits of a picture may depend on that.

    Attributes
    ----------
    shape
        (C, H, W) of the images.
    guided_by
        What guides the pictures, for people; empty without a guide.
    how_steps_run
        After a run, whether its steps were replayed from a CUDA graph, or why not.
    seconds_per_step
        After a run on a GPU, the mean time of a step; NaN if it was too short, and elsewhere.
    images_bar
        The bar that shows the steps of all batches; None for one of their own.
    batches_left
        How many batches of the call are not drawn yet.
    """

    def __init__(
        self,
        objective: Objective,
        settings: Settings,
        *,
        progress: bool = True,
        callback: Callback | None = None,
        device: torch.device | str | None = None,
        forms: FormStore | None = None,
        splits: bool = True,
    ) -> None:
        if not isinstance(objective, Objective):
            raise TypeError(f"objective must be an Objective, got {_type_name(objective)}.")
        check_callback(callback)
        self.guided_by = ""
        if settings.guide is not None:
            objective = settings.guide.guided(objective)
            self.guided_by = settings.guide.origin
        _check_range(objective, settings)
        self.objective = objective
        self.settings = settings
        self.progress = progress
        self.images_bar: BarOfImages | None = None
        self.batches_left = 1
        self.how_steps_run = ""
        self.seconds_per_step = math.nan
        self.callback = callback
        self.device = check_device(device) if device is not None else None
        _, *size = objective.image_shape
        self._view_size = (size[0], size[1])
        self.shape = settings.image_shape(objective)
        self.views = settings.views(self.shape, self._view_size)
        self._parametrize: Parametrize | None = None
        if forms is None:
            forms = FormStore() if objective.runs_user_code else SHARED
        self._forms = forms
        self.splits = splits
        self._has_started = False

    def prepare(
        self, images: int, save_every: int | None = None, *, function: str | None = None
    ) -> None:
        """Do what comes before the first image.

        Parameters
        ----------
        images
            Images that will be drawn together.
        save_every
            See `fvfast.maco`.
        function
            What the user called, for messages. Default: the function of the settings.

        Raises
        ------
        torch.OutOfMemoryError
            The memory does not hold this many images of this size.
        """
        function = function or self.settings.function
        device = self.device or model_device(self.objective.model)
        check_run_fits(
            function, device, images, self.shape, self.settings.views_per_image,
            (self.shape[0], *self._view_size), self.settings.smallest_view_type,
        )  # fmt: skip
        if save_every is not None and self.callback is None:  # which may end the run sooner
            each = 2 if self.settings.has_transparency else 1
            check_kept_images(
                function, save_every, self.settings.nb_steps, images, self.shape, each
            )
        if advice := self.settings.advice(self._view_size):
            warn_user(advice, UserWarning)
        if self.objective.compares_positions and (advice := self.settings.advice_on_positions()):
            warn_user(advice, UserWarning)
        self._parametrize = self.settings.parametrize(self.shape, progress=self.progress)

    def draw(self, combinations: Sequence[int], save_every: int | None = None) -> Ascent:
        """Draw the images of some combinations of the objective together."""
        if self._parametrize is None:
            self.prepare(len(combinations), save_every)
        assert self._parametrize is not None
        with (
            shielded(),
            torch_state_kept(),
            # Also within a user's inference mode, whose tensors take no part in gradients.
            torch.inference_mode(False),
            borrowed(self.objective.model, self.device) as device,
        ):
            tapped, scorer, names, _ = self.objective.compile(combinations)
            self._check_view_sizes(tapped, scorer, len(names), device)
            identities = [image_identity(one) for one in self.objective.seed_names(combinations)]
            parametrization = self._parametrize(identities, device)
            batch = _Batch(self, combinations, tapped, scorer, names, identities, parametrization)
            with EngineAtFirstUse(batch.start) as engine:
                return batch.take_all_steps(engine, save_every)

    def _check_view_sizes(
        self, tapped: TappedModel, scorer: Scorer, images: int, device: torch.device
    ) -> None:
        """Do without smaller views where the network does not take them, or say so."""
        views = self.views
        if self._has_started or not isinstance(views, Crops) or views.sizes is None:
            return
        sizes = views.sizes.ends
        reason = why_not_smaller(self.objective, tapped, scorer, images, sizes, device)
        if not reason:
            return
        assert isinstance(self.settings, MacoSettings)  # no others have them
        self.settings.refuse_smaller_views(reason, sizes)
        self.views = dataclasses.replace(views, sizes=None)


class _Batch:
    """Images that are drawn together, and what happens in each of their steps."""

    def __init__(
        self,
        run: Run,
        combinations: Sequence[int],
        tapped: TappedModel,
        scorer: Scorer,
        names: list[str],
        identities: list[int],
        parametrization: Parametrization,
    ) -> None:
        self._run = run
        self._settings = run.settings
        self._combinations = combinations
        self._tapped = tapped
        self._scorer = scorer
        self._names = names
        self._identities = identities
        self._group = run.objective.group_size
        self._parametrization = parametrization
        self._learning_rate_at = run.settings.learning_rate_at
        if self._learning_rate_at is not None:
            # Here, so that an optimizer without one is refused before the first step.
            set_learning_rate(parametrization.optimizer, self._learning_rate_at(0))
        device = parametrization.state.device
        self._transparency = (
            torch.zeros((len(names), *run.shape), dtype=torch.float32, device=device)
            if self._settings.has_transparency
            else None
        )
        self._generators = (
            None if run.views.are_functions else SeededGenerators(self._settings.seed, device)
        )

    def take_all_steps(self, engine: EngineAtFirstUse, save_every: int | None) -> Ascent:
        """Take the warm-up's steps, then those of the run."""
        # The engine is passed on, not kept: it refers to this object, and a cycle of references
        # would hold the network until the garbage collector runs.
        warmup_steps = self._settings.warmup_steps
        if warmup_steps:
            warm = run_ascent(
                self._parametrization, functools.partial(self._warm_gradients, engine),
                self._render, names=self._names,
                nb_steps=warmup_steps, bar=self._bar(warmup_steps, "warm-up"),
            )  # fmt: skip
            if warm.interrupted:
                return warm
        whole = self._whole_steps(engine)
        timer = StepTimer(self._parametrization.state.device)
        ascent = run_ascent(
            self._parametrization, functools.partial(self._gradients, engine), self._render,
            names=self._names,
            nb_steps=self._settings.nb_steps, transparency=self._transparency,
            bar=self._bar(self._settings.nb_steps), callback=self._run.callback,
            save_every=save_every, whole=whole, timer=timer,
        )  # fmt: skip
        self._run.seconds_per_step = timer.seconds_per_step()
        if whole is not None:
            self._run.how_steps_run = whole.steps.status
        return ascent

    def _whole_steps(self, running: EngineAtFirstUse) -> WholeSteps | None:
        """Return what takes whole steps on the device; None where the host takes a part in them."""
        obstacle = "a callback" if self._run.callback is not None else ""
        settings, views, phase = self._settings, self._run.views, self._parametrization
        obstacle = obstacle or why_not_whole(settings, views, phase)
        if obstacle or not isinstance(settings, MacoSettings):
            self._run.how_steps_run = f"one by one: {obstacle}"
            _log.info("steps run %s", self._run.how_steps_run)
            return None
        assert isinstance(phase, Phase)
        assert isinstance(views, Crops)
        engine = self._started(running)
        key = step_key(phase, views, settings)
        count = len(self._names)
        found = engine.repeated_steps(count, count * views.nb_crops, phase.state.device, key)
        if found is None:
            self._run.how_steps_run = f"one by one, and passes {engine.status}"
            return None
        steps, run = found
        step = steps.begin(functools.partial(WholeStep, phase, views, settings))
        step.begin(phase, self._identities, run, engine)
        self._parametrization = step.phase
        return WholeSteps(steps, step)

    def _bar(self, nb_steps: int, label: str | None = None) -> StepBar:
        if self._run.images_bar is not None:
            return self._run.images_bar.batch(self._names, nb_steps)
        return BarOfSteps(self._names, nb_steps, progress=self._run.progress, label=label)

    def start(self, views: torch.Tensor) -> contextlib.AbstractContextManager[Engine]:
        """Return the engine, whose form is chosen with views of the first group of images."""
        count = len(self._names)
        views_of_all = count * self._settings.views_per_image
        # Between the batches of one call only a callback could change the network.
        thorough, self._run._has_started = not self._run._has_started, True
        return kept_engine(
            self._tapped, views, self._scorer_of_part, self._names[0], self._settings.precision,
            runs_user_code=self._run.objective.runs_user_code,
            store=self._run._forms, seed=self._settings.seed, thorough=thorough,
            group=self._group, wish=self._wish(is_first=thorough),
            at_once=None if self._run.splits or count == self._group else views_of_all,
        )  # fmt: skip

    def _wish(self, *, is_first: bool) -> Wish | None:
        """Say what is to be compiled; None: nothing."""
        choice = self._settings.compile
        if choice is False:
            return None
        passes = self._settings.nb_steps * self._run.batches_left
        return Wish(choice, passes, teller(progress=self._run.progress), is_first)

    def _scorer_of_part(self, first: int, last: int) -> Scorer:
        if last - first == len(self._names):
            return self._scorer
        return self._run.objective.scorer(self._combinations[first:last])

    def _own_generators(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._generators is None else self._generators.in_place()

    def _render(self) -> torch.Tensor:
        with self._own_generators():
            return self._parametrization.render()

    def _warm_gradients(self, running: EngineAtFirstUse, step: int) -> Gradients:
        with open_relu_gradients():
            return self._gradients(running, step, join_activations=False)

    def _gradients(
        self, running: EngineAtFirstUse, step: int, *, join_activations: bool = True
    ) -> Gradients:
        """Compute scores and gradients of the images as they are."""
        with torch.enable_grad(), self._own_generators():
            if self._learning_rate_at is not None:
                set_learning_rate(self._parametrization.optimizer, self._learning_rate_at(step))
            engine, images, views = self._make_views(running, step)
            scores, cotangent = engine.gradients(
                views, len(self._names), join_activations=join_activations
            )
            source = self._parametrization.source
            if not self._settings.penalties:
                (gradient,) = torch.autograd.grad(views, source, cotangent)
                return Gradients(scores, gradient)
            seen = views if self._settings.regularizes_views else images
            loss = (views * cotangent).sum()
            for regularizer in self._settings.penalties:
                penalty = _penalty(regularizer, seen)
                scores = scores - penalty.detach()
                loss = loss - penalty.expand(len(seen)).sum()
            (gradient,) = torch.autograd.grad(loss, source)
            return Gradients(scores, gradient)

    def _make_views(
        self, running: EngineAtFirstUse, step: int
    ) -> tuple[Engine, torch.Tensor, torch.Tensor]:
        """Return the engine, the images, and their views in a type that the engine takes."""
        make, identities = self._run.views, self._identities
        if not make.are_functions:
            images = self._parametrization.image()
            views = make(images, identities, step, self._transparency)
            return running(views[: self._group]), images, views
        engine = self._started(running)
        images = self._parametrization.image()
        views = make(
            images, identities, step, self._transparency,
            dtype=engine.views_dtype, memory_format=engine.views_format,
        )  # fmt: skip
        return engine, images, views

    def _started(self, running: EngineAtFirstUse) -> Engine:
        """Return the engine; its form is chosen with views that depend on no global generator."""
        if not running.is_running:
            with torch.no_grad():
                group = self._parametrization.render()[: self._group]
                identities = self._identities[: self._group]
                make = self._run.views
                first = make(group, identities, make.largest_step, torch.zeros_like(group))
            running(first)
        return running()


def _type_name(value: object) -> str:
    """Return what a value is; the whole name of a type that is called as the expected one."""
    kind = type(value)
    same = kind.__name__ == Objective.__name__  # such as Lucent's
    return f"{kind.__module__}.{kind.__name__}" if same else kind.__name__


def _check_range(objective: Objective, settings: Settings) -> None:
    """Raise ValueError where photographs were shown in another range than images are made in."""
    low, high = settings.values_range
    for its_low, its_high in objective.values_ranges - {(low, high)}:
        raise ValueError(
            f"{settings.function}: images are made in values_range=({low:g}, {high:g}), but the "
            f"photograph of the objective was shown to the network in ({its_low:g}, {its_high:g}). "
            "Give the same values_range, the one that the network takes, to both."
        )


def _penalty(regularizer: Regularizer, images: torch.Tensor) -> torch.Tensor:
    penalty: torch.Tensor | float = regularizer(images)  # as users write them
    if not isinstance(penalty, torch.Tensor):
        penalty = torch.tensor(penalty, dtype=images.dtype, device=images.device)
    if penalty.ndim == 0 or penalty.shape == images.shape[:1]:
        return penalty
    raise ValueError(
        f"a regularizer returned shape {tuple(penalty.shape)} for {len(images)} images; expected "
        f"one penalty per image, ({len(images)},), or a scalar."
    )
