"""Decides how to run a network, by trying: what fails or changes its results is left out."""

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from fvfast.engine.exact_float32 import exact_float32
from fvfast.engine.forms import Form, Running, in_form
from fvfast.engine.memory import available_memory
from fvfast.engine.passes import Passes, Scorer, is_out_of_memory
from fvfast.engine.precision import Precision, dtype_of, half_types
from fvfast.engine.recording import Convolution, record_convolutions
from fvfast.engine.rewriting import freeze
from fvfast.engine.state import model_dtype
from fvfast.engine.taps import TappedModel

PROBE_VIEWS = 4
"""Views that are run to find out what works."""

SAME = 1e-3
"""Largest difference between two ways to run a network in its own type, relative to its outputs.

Rounding in float32 stays far below; an operation left out or done twice, far above.
"""

SIMILAR = 0.1
"""Largest difference that a 16-bit type may make to "auto", relative to the outputs."""

ALIKE = 0.9
"""Smallest likeness of the gradients of two forms, see `_Trial.likeness`."""

GAIN = 0.95
"""What a 16-bit type may take of the time of float32 at most, to be worth its rounding."""

HOPELESS = 2.0
"""Ratio of two times after which the slower one is not measured again."""

MEMORY_SHARE = 0.6
"""Part of the free memory that the activations of one pass may take."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a network is run.

    Attributes
    ----------
    form
        What is changed about it.
    convolutions
        Those that can be joined to what follows them.
    views_per_pass
        Views that fit the memory at once; None: unknown.
    gradient_scale
        See `fvfast.engine.passes.Passes`.
    notes
        What was tried, and why it was not taken.
    """

    form: Form = Form()  # noqa: RUF009 (frozen)
    convolutions: Sequence[Convolution] = ()
    views_per_pass: int | None = None
    gradient_scale: float = 1.0
    notes: tuple[str, ...] = ()

    def describe(self) -> list[tuple[str, str]]:
        """Names and values, for people."""
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
                    f"{len(self.convolutions)} convolutions with {norms} batch normalisations, "
                    f"{sums} sums, {activations} ReLUs and {paddings} paddings",
                )
            )
        if filtered := self._count_minimal_filters():
            rows.append(("minimal filtering", f"{filtered} convolutions of 3 x 3"))
        if self.views_per_pass is not None:
            rows.append(("views per pass that fit the memory", str(self.views_per_pass)))
        return rows + [("left out", note) for note in self.notes]

    def _count_minimal_filters(self) -> int:
        if not self.form.joined:
            return 0
        dtype, last = self.form.dtype, self.form.channels_last
        frozen = (freeze(entry, dtype=dtype, channels_last=last) for entry in self.convolutions)
        return sum(convolution.has_minimal_filter for convolution in frozen)


def make_plan(
    tapped: TappedModel, scorer: Scorer, views: torch.Tensor, name: str, precision: Precision
) -> Plan:
    """Choose how to run a network, by running it on a few views.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode (`fvfast.engine.state.borrowed`).
    scorer
        Scores the outputs of one image's views.
    views
        (B, C, h, w): views of one image.
    name
        Of the objective, for messages.
    precision
        See `fvfast.maco`.

    Raises
    ------
    ValueError
        The network does not run in this precision, or the score does not depend on the views.
    """
    return Planner(tapped, scorer, views, name).plan(precision)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What a form gave for the probe, and the bytes that it kept for the backward pass."""

    form: Form
    outputs: list[torch.Tensor]
    gradient: torch.Tensor
    kept_bytes: int

    @property
    def is_finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in (*self.outputs, self.gradient))

    def agrees_with(self, other: "_Trial", tolerance: float) -> bool:
        """Whether outputs and gradients are the same up to tolerances."""
        # Numbers that are not finite compare as different.
        close = self.difference(other) <= tolerance
        return close and self.likeness(other) >= ALIKE

    def difference(self, other: "_Trial") -> float:
        """Largest relative difference of the layers' outputs."""
        return max(
            float((mine - its).norm() / its.norm().clamp(min=torch.finfo(its.dtype).tiny))
            for mine, its in zip(self.outputs, other.outputs, strict=True)
        )

    def likeness(self, other: "_Trial") -> float:
        """Cosine similarity of the gradients, times the ratio of the smaller norm to the larger."""
        mine, its = (trial.gradient.flatten().double() for trial in (self, other))
        norms = float(mine.norm()), float(its.norm())
        if max(norms) == 0:
            return 1.0
        # One product is <mine, its> / (norms[0] * norms[1]) * min(norms) / max(norms). Divided
        # first: the product of two small gradients may not be a number any more.
        return float((mine / max(norms)) @ (its / max(norms)))


class Planner:
    """Tries forms of a network on a few views.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    scorer
        Scores the outputs of one image's views.
    views
        (B, C, h, w), views of one image.
    name
        Of the objective, for messages.
    """

    def __init__(self, tapped: TappedModel, scorer: Scorer, views: torch.Tensor, name: str) -> None:
        self.tapped = tapped
        self.views = views[:PROBE_VIEWS].detach()
        self.passes = Passes(lambda _first, _last: scorer, name)
        self.convolutions: list[Convolution] = []
        self.notes: list[str] = []
        self.gradient_scale = 1.0
        # What two forms differ by shall not be the rounding of TF32.
        self.trial_context: Callable[[], AbstractContextManager[None]] = exact_float32

    def plan(self, precision: Precision) -> Plan:
        """Choose how to run the network.

        Parameters
        ----------
        precision
            See `fvfast.maco`.

        Raises
        ------
        ValueError
            The network does not run in the precision that was asked for.
        """
        if self.tapped.model is None:
            return Plan()
        own = self._try(Form())
        if isinstance(own, Exception):
            # Perhaps only because it looks at the settings that are changed for a trial.
            self.trial_context = contextlib.nullcontext
            own = self._try(Form())
        if isinstance(own, Exception):
            raise own
        self.gradient_scale = self._gradient_scale(own)
        best = self._fastest_same(own)
        if precision == "auto":
            best = self._fastest_similar(best)
        elif precision is not None:
            best = self._in_precision(best, precision)
        return Plan(
            best.form,
            self.convolutions,
            self._views_per_pass(best),
            self._scale_in(best.form),
            tuple(self.notes),
        )

    def _fastest_same(self, own: _Trial) -> _Trial:
        """Find the form furthest from the network's own that gives the same results."""
        assert self.tapped.model is not None
        try:
            self.convolutions = record_convolutions(self.tapped.model, self._run_one_view)
        except Exception as error:  # noqa: BLE001 (whatever a network does, it still runs as it is)
            self.notes.append(f"joined convolutions: {_brief(error)}")
            return own
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
        seconds = self._time([trial.form for trial in candidates])
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
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        try:
            with (
                self.trial_context(),
                in_form(self.tapped.model, form, self.convolutions) as running,
                torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            ):
                outputs, gradient = self._forward_and_back(running)
                # Here, where they have the type of the form.
                for tensor in (
                    self.tapped.model.parameters() if self.tapped.model is not None else ()
                ):
                    kept.pop(tensor.untyped_storage().data_ptr(), None)
        except Exception as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            return error
        floats = [tensor.float() for tensor in outputs]
        return _Trial(form, floats, gradient.float(), sum(kept.values()))

    def _forward_and_back(self, running: Running) -> tuple[list[torch.Tensor], torch.Tensor]:
        outputs: list[torch.Tensor] = []

        def network(views: torch.Tensor) -> list[torch.Tensor]:
            made = self.tapped(running.form.feed(views))
            outputs[:] = [tensor.detach() for tensor in made]
            return made

        self.passes.gradient_scale = self._scale_in(running.form)
        with torch.enable_grad(), running.context(self.views.device):
            scores, gradient = self.passes.run(network, self.views, 1)
        if all(layer.module is None for layer in self.tapped.layers):
            # The score itself calls the network.
            outputs.append(scores)
        return outputs, gradient

    def _run_one_view(self) -> list[torch.Tensor]:
        outputs = self.tapped(self.views[:1])
        return [*outputs, self.passes.scorer(0, 1)(outputs)]

    def _time(self, forms: Sequence[Form], rounds: int = 3) -> list[float]:
        """Median seconds of a pass in each form, in turns; one that is far behind has one turn."""
        seconds: list[list[float]] = [[] for _ in forms]
        for _ in range(rounds if len(forms) > 1 else 0):
            for form, taken in zip(forms, seconds, strict=True):
                if taken and taken[0] > HOPELESS * min(filter(None, seconds))[0]:
                    continue
                with in_form(self.tapped.model, form, self.convolutions) as running:
                    self._forward_and_back(running)  # makes the joined weights
                    _wait(self.views.device)
                    start = time.perf_counter()
                    self._forward_and_back(running)
                    _wait(self.views.device)
                    taken.append(time.perf_counter() - start)
        return [statistics.median(taken) if taken else 0.0 for taken in seconds]

    def _views_per_pass(self, trial: _Trial) -> int | None:
        """Count the views whose activations fit the free memory."""
        free = available_memory(self.views.device)
        if free is None:
            return None
        if trial.kept_bytes == 0:
            return self.passes.views_per_pass
        fitting = max(1, int(MEMORY_SHARE * free * len(self.views) / trial.kept_bytes))
        # Where memory ran out meanwhile, what was left fitted.
        return min(fitting, self.passes.views_per_pass or fitting)

    def _gradient_scale(self, own: _Trial) -> float:
        """Power of two that brings the scores' gradient of the outputs near 1."""
        count = len(self.tapped.layers)
        outputs = [tensor.detach().requires_grad_() for tensor in own.outputs[:count]]
        with torch.enable_grad():
            scores = self.passes.scorer(0, 1)(outputs)
            gradients = torch.autograd.grad(
                scores.sum(), outputs, allow_unused=True, materialize_grads=True
            )
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        if largest == 0 or not math.isfinite(largest):
            return 1.0
        return 2.0 ** -math.floor(math.log2(largest))

    def _scale_in(self, form: Form) -> float:
        """Scale of the scores in a form: float16 alone cannot hold small gradients."""
        dtype = model_dtype(self.tapped.model) if form.dtype is None else form.dtype
        return self.gradient_scale if dtype == torch.float16 else 1.0


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        # Not for the device: while another thread captures a graph, that fails.
        torch.cuda.current_stream(device).synchronize()
