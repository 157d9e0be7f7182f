"""Decides how to run a network by trying forms: those that fail or change results are left out."""

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from fvfast.engine.borrowing.fingerprint import has_global_hooks
from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.exact_float32 import exact_float32
from fvfast.engine.memory import available_memory
from fvfast.engine.passes import Passes, Scorer, is_out_of_memory
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
from fvfast.engine.taps import TappedModel

PROBE_VIEWS = 4
"""How many views are run to try a form: at least one of each image."""

SAME = 1e-3
"""Largest difference between two forms in the network's own type, relative to its outputs.

Rounding in float32 makes a far smaller difference; an operation left out or done twice, a far
larger one.
"""

SIMILAR = 0.1
"""Largest difference relative to the outputs with which "auto" accepts a 16-bit type."""

ALIKE = 0.9
"""Smallest likeness of gradients with which two forms agree, see `_Trial.likeness`."""

GAIN = 0.95
"""Largest share of float32's time that a 16-bit type may take, to be worth its rounding."""

HOPELESS = 2.0
"""Ratio of two times after which the slower one is not measured again."""

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


def some_views(views: torch.Tensor, images: int, most: int) -> torch.Tensor:
    """Return the first views of each of several images, as many of each, and at least one.

    Parameters
    ----------
    views
        (M*K, C, h, w).
    images
        M.
    most
        How many views to return, unless M is more.
    """
    return views.unflatten(0, (images, -1))[:, : max(1, most // images)].flatten(0, 1)


def fitting_views(bytes_per_view: float, free: int | None) -> int | None:
    """Count the views whose activations fit the free memory; None if that is unknown."""
    if free is None or bytes_per_view == 0:
        return None
    return max(1, int(MEMORY_SHARE * free / bytes_per_view))


def gradient_scale(scorer: Scorer, outputs: Sequence[torch.Tensor]) -> float:
    """Return the power of two that brings the gradient at the layers' outputs close to 1."""
    leaves = [tensor.detach().requires_grad_() for tensor in outputs]
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            scorer(leaves).sum(), leaves, allow_unused=True, materialize_grads=True
        )
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    if largest == 0 or not math.isfinite(largest):
        return 1.0
    return 2.0 ** -math.floor(math.log2(largest))


@dataclasses.dataclass(frozen=True)
class _Trial:
    """The results of a form for the views tried, and the bytes it kept for the backward pass."""

    running: Running
    outputs: list[torch.Tensor]
    gradient: torch.Tensor
    kept_bytes: int

    @property
    def form(self) -> Form:
        return self.running.form

    @property
    def is_finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in (*self.outputs, self.gradient))

    def agrees_with(self, other: "_Trial", tolerance: float) -> bool:
        """Whether outputs and gradients are the same up to tolerances."""
        # Comparisons with NaN are false, so results that are not finite do not agree.
        close = self.difference(other) <= tolerance
        return close and self.likeness(other) >= ALIKE

    def difference(self, other: "_Trial") -> float:
        """Return the largest relative difference of the layers' outputs."""
        return max(
            float((mine - its).norm() / its.norm().clamp(min=torch.finfo(its.dtype).tiny))
            for mine, its in zip(self.outputs, other.outputs, strict=True)
        )

    def likeness(self, other: "_Trial") -> float:
        """Return the cosine similarity of the gradients times the ratio (<= 1) of their norms."""
        mine, its = (trial.gradient.flatten().double() for trial in (self, other))
        norms = float(mine.norm()), float(its.norm())
        if max(norms) == 0:
            return 1.0
        # This equals <mine, its> / (norms[0] * norms[1]) * min(norms) / max(norms). The division
        # comes first because a product of two small gradients may underflow.
        return float((mine / max(norms)) @ (its / max(norms)))


class Planner:
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
        self.tapped = tapped
        self._available = available
        self._timer_for = timer_for
        self._views_of_run = len(views)
        self.images = images
        self.views = some_views(views, images, PROBE_VIEWS).detach()
        self.scorer = scorer
        self.passes = Passes(lambda _first, _last: self._noting_scorer, name, group=images)
        self._outputs: list[torch.Tensor] = []  # of the latest pass, for all views
        self.convolutions: list[Convolution] = []
        self.notes: list[str] = []
        self.gradient_scale = 1.0
        # So that two forms do not differ by the rounding of TF32.
        self.trial_context: Callable[[], AbstractContextManager[None]] = exact_float32

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
        own = self._try(Form())
        if isinstance(own, Exception):
            # Perhaps it failed because it reads the settings that the context changes.
            self.trial_context = contextlib.nullcontext
            own = self._try(Form())
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
        scaled = self._is_scaled(best.form)
        views_per_pass = self._views_per_pass(bytes_per_view)
        epilogues = self._choose_epilogues(best.running, views_per_pass, precision)
        plan = Plan(
            best.form,
            self.convolutions,
            views_per_pass,
            self._scale_in(best.form),
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

    def _fastest_same(self, own: _Trial) -> _Trial:
        """Return the first form, from the fastest on, that gives the network's own results."""
        try:
            self.convolutions = record(self.tapped, self.scorer, self.views, self.images)
        except Exception as error:  # noqa: BLE001 (the network can still run as it is)
            self.notes.append(f"joined convolutions: {_brief(error)}")
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
            trial = self._try(form)
            if isinstance(trial, Exception):
                self.notes.append(f"{form}: {_brief(trial)}")
            elif not trial.agrees_with(own, SAME):
                self.notes.append(f"{form}: changes the outputs by {trial.difference(own):.1%}")
            else:
                return trial
        return own

    def _in_precision(self, best: _Trial, precision: str) -> _Trial:
        dtype = dtype_of(precision)
        failures = []
        for form in self._forms_in(best.form, dtype):
            trial = self._try(form)
            if isinstance(trial, _Trial) and trial.is_finite:
                return trial
            reason = _brief(trial) if isinstance(trial, Exception) else "not finite"
            failures.append(f"{form}: {reason}")
        raise ValueError(
            f"the network does not run in precision={precision!r} on {self.views.device}: "
            f"{'; '.join(failures)}. Use another precision, or None for the network's own type."
        )

    def _fastest_similar(self, best: _Trial) -> _Trial:
        own = self.views.dtype
        candidates = [best]
        for dtype in half_types(self.views.device):
            for form in self._forms_in(best.form, dtype):
                trial = self._try(form)
                if isinstance(trial, Exception):
                    self.notes.append(f"{form}: {_brief(trial)}")
                    continue
                if not trial.agrees_with(best, SIMILAR):
                    self.notes.append(
                        f"{form}: changes the outputs by {trial.difference(best):.1%}, likeness of "
                        f"the gradients {trial.likeness(best):.3f}"
                    )
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

    def _try(self, form: Form) -> "_Trial | Exception":
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if (memory := _memory(tensor)) is not None:
                address, size = memory
                kept[address] = size
            return tensor

        try:
            running = Running(self.tapped.model, form, self.convolutions)
            with (
                self.trial_context(),
                running.installed(self.tapped.model),
                torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            ):
                outputs, gradient = self._forward_and_back(running)
                # Parameters do not count. Here they have the type of the form.
                for tensor in (
                    self.tapped.model.parameters() if self.tapped.model is not None else ()
                ):
                    if (memory := _memory(tensor)) is not None:
                        kept.pop(memory[0], None)
        except Exception as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            return error
        floats = [tensor.float() for tensor in outputs]
        return _Trial(running, floats, gradient.float(), sum(kept.values()))

    def _noting_scorer(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        # Here, not in the network, which may be run on a part of the views at a time.
        self._outputs = [tensor.detach() for tensor in outputs]
        return self.scorer(outputs)

    def _forward_and_back(self, running: Running) -> tuple[list[torch.Tensor], torch.Tensor]:
        def network(views: torch.Tensor) -> list[torch.Tensor]:
            return self.tapped(running.form.feed(views))

        self.passes.gradient_scale = self._scale_in(running.form)
        # A network that draws random numbers gets the same ones in each trial.
        with (
            torch.enable_grad(),
            running.context(self.views.device),
            drawn_from(0, 0, self.views.device),
        ):
            scores, gradient = self.passes.run(network, self.views, self.images)
        outputs = self._outputs
        if all(layer.module is None for layer in self.tapped.layers):
            # No layer was read: the score itself calls the network.
            outputs.append(scores)
        return outputs, gradient

    def seconds_of(self, forms: Sequence[Running], rounds: int = 3) -> list[float]:
        """Measure the median seconds of a pass in each form, in turns; far slower ones once."""
        seconds: list[list[float]] = [[] for _ in forms]
        for _ in range(rounds if len(forms) > 1 else 0):
            for running, taken in zip(forms, seconds, strict=True):
                if taken and taken[0] > HOPELESS * min(filter(None, seconds))[0]:
                    continue
                with running.installed(self.tapped.model):
                    self._forward_and_back(running)  # fills the caches with its weights
                    _wait(self.views.device)
                    start = time.perf_counter()
                    self._forward_and_back(running)
                    _wait(self.views.device)
                    taken.append(time.perf_counter() - start)
        return [statistics.median(taken) if taken else 0.0 for taken in seconds]

    def _views_per_pass(self, bytes_per_view: float) -> int | None:
        """Count the views that fit; no more than were left if memory ran out during the trials."""
        free = self._available(self.views.device)
        counts = (fitting_views(bytes_per_view, free), self.passes.views_per_pass)
        return min((count for count in counts if count is not None), default=None)

    def _scale_in(self, form: Form) -> float:
        return self.gradient_scale if self._is_scaled(form) else 1.0

    def _is_scaled(self, form: Form) -> bool:
        """Whether a form needs a gradient scale: only float16 cannot hold small gradients."""
        if form.dtype is not None:
            return form.dtype == torch.float16
        model = self.tapped.model
        return model is not None and any(p.dtype == torch.float16 for p in model.parameters())


def _memory(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return address and bytes of a tensor's memory; None for subclasses without their own."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    except (RuntimeError, NotImplementedError):
        return None


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        # The stream, not the device: that fails while another thread captures a graph.
        torch.cuda.current_stream(device).synchronize()
