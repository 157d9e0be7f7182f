"""Decides how to run a network by trying forms: those that fail or change results are left out."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import torch

from fvfast.engine.agreement import GAIN, SAME, SIMILAR
from fvfast.engine.borrowing.fingerprint import has_global_hooks
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.memory import available_memory
from fvfast.engine.passes import Scorer
from fvfast.engine.precision import Precision, dtype_of, half_types
from fvfast.engine.rewrite.epilogue_choice import (
    ConvolutionCall,
    EpilogueChooser,
    Timer,
    gpu_timer,
)
from fvfast.engine.rewrite.epilogues import Epilogue, describe_epilogues
from fvfast.engine.rewrite.forms import Form, Running
from fvfast.engine.rewrite.frozen_convolution import FrozenConvolution
from fvfast.engine.rewrite.joining import freeze
from fvfast.engine.rewrite.recording import Convolution, record_convolutions
from fvfast.engine.rewrite.trials import Trial, Trials, brief, gradient_scale, some_views
from fvfast.engine.taps import TappedModel

MEMORY_SHARE = 0.6
"""Share of the free memory that the activations of one pass may take."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a network is run.

    Attributes
    ----------
    form
        What is changed about it.
    convolutions
        The convolutions that can be joined to what follows them.
    views_per_pass
        How many views fit the memory at once; None: unknown.
    gradient_scale
        See `fvfast.engine.passes.Passes`.
    notes
        What was tried, and why it was not taken.
    bytes_per_view
        Memory that one view keeps for the backward pass.
    takes_one_view
        Whether the network accepts only one view at a time.
    scaled_outputs
        If the network's type needs a gradient scale: the layers' outputs for the views that were
        tried. The scale depends on the score, so it is computed again for another score.
    epilogues
        What runs after each of the convolutions on a GPU; empty where there was nothing to choose.
    """

    form: Form = Form()  # noqa: RUF009 (frozen)
    convolutions: Sequence[Convolution] = ()
    views_per_pass: int | None = None
    gradient_scale: float = 1.0
    notes: tuple[str, ...] = ()
    bytes_per_view: float = 0.0
    takes_one_view: bool = False
    scaled_outputs: tuple[torch.Tensor, ...] = ()
    epilogues: tuple[Epilogue | None, ...] = ()

    def for_run(self, scorer: Scorer, device: torch.device) -> "Plan":
        """Return the plan adapted to a score and to the memory that is free now."""
        scale = gradient_scale(scorer, self.scaled_outputs) if self.scaled_outputs else 1.0
        free = available_memory(device)
        views = 1 if self.takes_one_view else fitting_views(self.bytes_per_view, free)
        return dataclasses.replace(self, gradient_scale=scale, views_per_pass=views)

    def takes_at_once(self, views: int) -> bool:
        """Whether so many views fit the memory, as far as is known.

        A network that takes one view at a time does so with any memory.
        """
        return self.views_per_pass is None or self.takes_one_view or views <= self.views_per_pass

    def describe(self) -> list[tuple[str, str]]:
        """Return names and values to show to people."""
        norms = sum(convolution.norm is not None for convolution in self.convolutions)
        sums = sum(convolution.adds for convolution in self.convolutions) if self.form.sums else 0
        activations = sum(
            entry.activation != "none" and (self.form.sums or not entry.adds)
            for entry in self.convolutions
        )
        rows = [("runs", str(self.form))]
        paddings = sum(entry.padded is not None for entry in self.convolutions)
        if self.form.joined:
            rows.append(
                (
                    "joined",
                    f"{len(self.convolutions)} convolutions with {norms} batch normalizations, "
                    f"{sums} sums, {activations} ReLUs and {paddings} paddings",
                )
            )
        if count := self._count_winograd():
            rows.append(("Winograd", f"{count} convolutions of 3 x 3"))
        if any(self.epilogues):
            rows.append(("epilogues", describe_epilogues(self.epilogues)))
        if self.views_per_pass is not None:
            rows.append(("views per pass that fit the memory", str(self.views_per_pass)))
        return rows + [("left out", note) for note in self.notes]

    def _count_winograd(self) -> int:
        if not self.form.joined:
            return 0
        dtype, last = self.form.dtype, self.form.channels_last
        frozen = (freeze(entry, dtype=dtype, channels_last=last) for entry in self.convolutions)
        return sum(convolution.uses_winograd for convolution in frozen)


def make_plan(
    tapped: TappedModel,
    scorer: Scorer,
    views: torch.Tensor,
    name: str,
    precision: Precision,
    images: int = 1,
) -> Plan:
    """Choose how to run a network, by running it on a few views.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode (`fvfast.engine.borrowing.state.borrowed`).
    scorer
        Scores the outputs of the images' views.
    views
        (M*K, C, h, w): views of M images.
    name
        Of the objective, for messages.
    precision
        See `fvfast.maco`.
    images
        M: one, or all that are scored together.

    Raises
    ------
    ValueError
        The network does not run in this precision, or the score does not depend on the views.
    """
    return Planner(tapped, scorer, views, name, images=images).plan(precision)[0]


def record(
    tapped: TappedModel, scorer: Scorer, views: torch.Tensor, images: int = 1
) -> list[Convolution]:
    """Find the convolutions of a network and what can be joined to each, by running one view.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    scorer
        Scores the outputs of the images' views.
    views
        (M*K, C, h, w): views of M images; the first one of each is run.
    images
        M.
    """
    assert tapped.model is not None
    first = some_views(views, images, 1)

    def run() -> list[torch.Tensor]:
        with drawn_from(0, 0, views.device):
            outputs = tapped(first)
            return [*outputs, scorer(outputs)]

    return record_convolutions(tapped.model, run)


def fitting_views(bytes_per_view: float, free: int | None) -> int | None:
    """Count the views whose activations fit the free memory; None if that is unknown."""
    if free is None or bytes_per_view == 0:
        return None
    return max(1, int(MEMORY_SHARE * free / bytes_per_view))


class Planner(Trials):
    """Tries forms of a network on a few views.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    scorer
        Scores the outputs of the images' views.
    views
        (M*K, C, h, w), views of M images.
    name
        Of the objective, for messages.
    images
        M: one, or all that are scored together.
    available
        Says how many bytes are free on a device, or None.
    timer_for
        Returns what times the epilogues of convolutions on a device, or None.
    """

    def __init__(
        self,
        tapped: TappedModel,
        scorer: Scorer,
        views: torch.Tensor,
        name: str,
        *,
        images: int = 1,
        available: Callable[[torch.device], int | None] = available_memory,
        timer_for: Callable[[torch.device], Timer | None] = gpu_timer,
    ) -> None:
        super().__init__(tapped, scorer, views, name, images=images)
        self._available = available
        self._timer_for = timer_for
        self._views_of_run = len(views)
        self.notes: list[str] = []

    def plan(self, precision: Precision) -> tuple[Plan, Running]:
        """Choose how to run the network.

        Parameters
        ----------
        precision
            See `fvfast.maco`.

        Returns
        -------
        plan
            The choice.
        running
            The network's weights in the form of the plan.

        Raises
        ------
        ValueError
            The network does not run in the precision that was asked for.
        """
        if self.tapped.model is None:
            return Plan(), Running(None, Form(), ())
        own = self.try_form(Form())
        if isinstance(own, Exception):
            # Perhaps it failed because it reads the settings that the context changes.
            self.trial_context = contextlib.nullcontext
            own = self.try_form(Form())
        if isinstance(own, Exception):
            raise own
        count = len(self.tapped.layers)
        self.gradient_scale = gradient_scale(self.scorer, own.outputs[:count])
        best = self._fastest_same(own)
        if precision == "auto":
            best = self._fastest_similar(best)
        elif precision is not None:
            best = self._in_precision(best, precision)
        bytes_per_view = best.kept_bytes / len(self.views)
        scaled = self.is_scaled(best.form)
        views_per_pass = self._views_per_pass(bytes_per_view)
        epilogues = self._choose_epilogues(best.running, views_per_pass, precision)
        plan = Plan(
            best.form,
            self.convolutions,
            views_per_pass,
            self.scale_in(best.form),
            tuple(self.notes),
            bytes_per_view,
            self.passes.takes_one_view,
            tuple(own.outputs[:count]) if scaled else (),
            epilogues,
        )
        return plan, best.running

    def _choose_epilogues(
        self, running: Running, views_per_pass: int | None, precision: Precision
    ) -> tuple[Epilogue | None, ...]:
        """Let the convolutions of a form finish in the fastest way, for as many views as a pass."""
        time = self._timer_for(self.views.device) if running.form.joined else None
        if time is None:
            return ()
        at_once = min(self._views_of_run, views_per_pass or self._views_of_run)
        times = at_once / len(self.views)
        calls: dict[int, ConvolutionCall] = {}

        def note(
            convolution: FrozenConvolution, images: torch.Tensor, term: torch.Tensor | None
        ) -> None:
            calls[id(convolution)] = ConvolutionCall.of(images, term).repeated(times)

        with running.installed(self.tapped.model), running.noting(note):
            self._forward_and_back(running)
        chooser = EpilogueChooser(time, any_bits=precision == "auto")
        epilogues = chooser.choose(running.joined_convolutions, calls)
        running.use_epilogues(epilogues)
        self.notes += chooser.notes
        return epilogues

    def _fastest_same(self, own: Trial) -> Trial:
        """Return the first form, from the fastest on, that gives the network's own results."""
        try:
            self.convolutions = record(self.tapped, self.scorer, self.views, self.images)
        except Exception as error:  # noqa: BLE001 (the network can still run as it is)
            self.notes.append(f"joined convolutions: {brief(error)}")
            return own
        if has_global_hooks():
            self.notes.append(
                "joins across modules: a hook on all modules (register_module_forward_hook and the "
                "like) sees what each puts out"
            )
        if not self.convolutions:
            return own
        sums = any(convolution.adds for convolution in self.convolutions)
        forms = [
            Form(joined=True, sums=True, channels_last=True),
            Form(joined=True, channels_last=True),
            Form(joined=True),
        ]
        for form in forms[0 if sums else 1 :]:
            trial = self.try_form(form)
            if isinstance(trial, Exception):
                self.notes.append(f"{form}: {brief(trial)}")
            elif not trial.agrees_with(own, SAME):
                self.notes.append(f"{form}: {_compared(trial, own)}")
            else:
                return trial
        return own

    def _in_precision(self, best: Trial, precision: str) -> Trial:
        dtype = dtype_of(precision)
        failures = []
        for form in self._forms_in(best.form, dtype):
            trial = self.try_form(form)
            if isinstance(trial, Trial) and trial.is_finite:
                return trial
            reason = brief(trial) if isinstance(trial, Exception) else "not finite"
            failures.append(f"{form}: {reason}")
        raise ValueError(
            f"the network does not run in precision={precision!r} on {self.views.device}: "
            f"{'; '.join(failures)}. Use another precision, or None for the network's own type."
        )

    def _fastest_similar(self, best: Trial) -> Trial:
        own = self.views.dtype
        candidates = [best]
        for dtype in half_types(self.views.device):
            for form in self._forms_in(best.form, dtype):
                trial = self.try_form(form)
                if isinstance(trial, Exception):
                    self.notes.append(f"{form}: {brief(trial)}")
                    continue
                if not trial.agrees_with(best, SIMILAR):
                    self.notes.append(f"{form}: {_compared(trial, best)}")
                    continue
                candidates.append(trial)
                break
        seconds = self.seconds_of([trial.running for trial in candidates])
        fastest = min(range(len(candidates)), key=seconds.__getitem__)
        if seconds[fastest] > GAIN * seconds[0]:
            fastest = 0
        for index, trial in enumerate(candidates):
            if index != fastest:
                self.notes.append(
                    f"{trial.form if index else own}: takes "
                    f"{seconds[index] / seconds[fastest]:.2f} times as long"
                )
        return candidates[fastest]

    def _forms_in(self, form: Form, dtype: torch.dtype) -> list[Form]:
        forms = [dataclasses.replace(form, dtype=dtype)]
        if dtype in (torch.bfloat16, torch.float16):
            # Autocast may give the two terms of a sum different types.
            forms.append(dataclasses.replace(form, dtype=dtype, autocast=True, sums=False))
        return forms

    def _views_per_pass(self, bytes_per_view: float) -> int | None:
        """Count the views that fit; no more than were left if memory ran out during the trials."""
        free = self._available(self.views.device)
        counts = (fitting_views(bytes_per_view, free), self.passes.views_per_pass)
        return min((count for count in counts if count is not None), default=None)


def _compared(trial: Trial, other: Trial) -> str:
    """Say how two trials differ: maybe in their gradients alone."""
    return (
        f"changes the outputs by {trial.difference(other):.1%}, likeness of the gradients "
        f"{trial.likeness(other):.3f}"
    )
