"""Runs the user's network during an optimization: scores, and gradients of the views."""

import collections
import functools
from collections.abc import Hashable

import torch

from fvfast.engine.borrowing.randomness import drawn_from
from fvfast.engine.compiled.kept import Compilation, Wish
from fvfast.engine.compiled.trial import Compiler, why_not_compiled
from fvfast.engine.graphs.cuda_graph import CudaGraphs, Pass
from fvfast.engine.graphs.repeated_pass import RepeatedPass, kind_of
from fvfast.engine.graphs.repeated_steps import RepeatedSteps
from fvfast.engine.graphs.step_pass import StepPass
from fvfast.engine.memory import available_memory
from fvfast.engine.passes import MakeScorer, Passes
from fvfast.engine.rewrite.kept_forms import KeptForm
from fvfast.engine.rewrite.plan import Plan, fitting_views
from fvfast.engine.taps import TappedModel

AS_IT_IS = 3.0
"""How many times as much memory as in its form a network may take as it is, which is compiled."""


class Engine:
    """Computes scores and gradients with a network that runs by a plan.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    form
        The network's form, which later runs may use again.
    plan
        How this run uses it.
    make_scorer
        Makes the function that scores images ``first`` to ``last`` (exclusive).
    name
        Of the first objective, for messages.
    graphs
        What captures passes.
    runs_user_code
        Whether the scores call functions of the user.
    seed
        Decides what the network draws for itself.
    group
        How many images, next to each other, are scored together.
    splits
        Whether views go through the network in parts if memory runs out.
    wish
        What is to be compiled; None: nothing.
    compiler
        What compiles.
    """

    def __init__(
        self,
        tapped: TappedModel,
        form: KeptForm,
        plan: Plan,
        make_scorer: MakeScorer,
        name: str,
        *,
        graphs: CudaGraphs,
        runs_user_code: bool,
        seed: int = 0,
        group: int = 1,
        splits: bool = True,
        wish: Wish | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        self.tapped = tapped
        self.plan = plan
        self.running = form.running
        self.runs_user_code = runs_user_code
        self._graphs = graphs
        self._form = form
        self._make_scorer = make_scorer
        self._name = name
        self._group = group
        self._splits = splits
        self._passes = self._make_passes(make_scorer)
        self._runs: dict[tuple[int, bool], Pass] = {}
        self._repeated: list[RepeatedPass | RepeatedSteps] = []
        self._device = torch.device("cpu")  # until there are views
        self._seed = seed
        self._step = 0
        self._draws: bool | None = None  # whether the network draws; known after a pass
        self._wish = wish
        self._compiler = Compiler() if compiler is None else compiler
        self._compilation: Compilation | None = None
        # How many views went through the network at once, and how often, in the latest pass.
        self._lengths: collections.Counter[int] = collections.Counter()

    @property
    def views_dtype(self) -> torch.dtype:
        """Type in which views are best made."""
        form = self.plan.form
        takes = form.dtype is not None and not form.autocast and self.tapped.preprocess is None
        return form.dtype if takes and form.dtype is not None else torch.float32

    @property
    def views_format(self) -> torch.memory_format:
        """Memory format in which views are best made."""
        return torch.channels_last if self.plan.form.channels_last else torch.contiguous_format

    def gradients(
        self, views: torch.Tensor, count: int, *, join_activations: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute scores (N,) and the gradient of their sum, of the shape and type of the views.

        Parameters
        ----------
        views
            (N*K, C, h, w).
        count
            N.
        join_activations
            False runs ReLUs on their own, so that a caller can replace them.

        Raises
        ------
        torch.OutOfMemoryError
            Not even one view fits the memory.
        """
        self._device = views.device
        settings = count, join_activations
        if settings not in self._runs:
            self._runs[settings] = self._first_run(views.device, *settings)
        if join_activations:
            self._prepare_to_compile(views, self._draws)
        run, step = self._runs[settings], self._step
        self._step += 1
        if self._draws is False:
            scores, gradient = run(views)
        else:
            with drawn_from(self._seed, step, views.device) as draws:
                scores, gradient = run(views)
            self._draws = bool(self._draws) or draws.happened
        return scores, gradient.to(views.dtype)

    @property
    def status(self) -> str:
        """How the latest passes run, in words."""
        if self._repeated:
            return self._repeated[-1].status
        obstacle = self._obstacle(self._device)
        return f"without a CUDA graph: {obstacle}" if obstacle else "not yet"

    @property
    def compiled_note(self) -> str:
        """What came of compiling the network, in words; empty if it was not tried."""
        return "" if self._compilation is None else self._compilation.note

    def close(self) -> None:
        """End the run: what is kept for later runs no longer refers to the network."""
        for repeated in self._repeated:
            repeated.end()

    def repeated_steps(
        self, count: int, views: int, device: torch.device, key: Hashable
    ) -> tuple[RepeatedSteps, StepPass] | None:
        """Return what takes whole steps of N images, and the pass of this run for them.

        Parameters
        ----------
        count
            N.
        views
            Of all images.
        device
            Of the images.
        key
            All that is fixed when such a step is recorded.

        Returns
        -------
        steps, run
            Whose scorers have turned to the targets of this run. None where none is captured.
        """
        self._device = device
        capture, model = self._graphs.capture_steps, self.tapped.model
        if capture is None or model is None or self._obstacle(device):
            return None
        kind = kind_of(self._make_scorer(0, count))
        if kind is not None:
            at_once = min(self.plan.views_per_pass or views, views)
            compiles = self._wish is not None
            scale = self.plan.gradient_scale
            kind = ("steps", kind, count, scale, at_once, self._splits, compiles, key)
        steps = self._form.repeated(model, kind, lambda: RepeatedSteps(capture))
        passes = self._make_passes(steps.scorers.turned_to(self._make_scorer))
        self._repeated.append(steps)

        def run(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self._prepare_to_compile(views, step.draws)
            return self._pass(passes, views, count, join_activations=True)

        step = StepPass(run, self._seed, lambda: steps.taken)
        return steps, step

    def _first_run(self, device: torch.device, count: int, join_activations: bool) -> Pass:
        """Return a function that runs passes, with a CUDA graph if that is possible."""

        def run(passes: Passes, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self._pass(passes, views, count, join_activations)

        model = self.tapped.model
        if self._obstacle(device):
            return functools.partial(run, self._passes)
        kind = kind_of(self._make_scorer(0, count))
        if kind is not None:
            compiles = self._wish is not None
            scale = self.plan.gradient_scale
            kind = (kind, count, join_activations, scale, self._splits, compiles)
        assert model is not None  # there would be nothing to capture
        capture = self._graphs.capture
        repeated = self._form.repeated(model, kind, lambda: RepeatedPass(capture))
        repeated.begin(self._make_scorer, self._make_passes, run)
        self._repeated.append(repeated)
        return repeated

    def _obstacle(self, device: torch.device) -> str:
        """Say why no pass is captured on a device; empty where they may be."""
        return self._graphs.why_not(self.tapped.model, device, runs_user_code=self.runs_user_code)

    def _make_passes(self, make_scorer: MakeScorer) -> Passes:
        return Passes(
            make_scorer, self._name, self.plan.views_per_pass, self.plan.gradient_scale,
            self._group, splits=self._splits,
        )  # fmt: skip

    def _pass(
        self, passes: Passes, views: torch.Tensor, count: int, join_activations: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._lengths.clear()
        compilation = self._compilation if join_activations else None

        def network(part: torch.Tensor) -> list[torch.Tensor]:
            self._lengths[len(part)] += 1
            fed = self.running.form.feed(part)
            compiled = None if compilation is None else compilation.network_for(fed)
            return self.tapped(fed) if compiled is None else compiled(fed)

        # The context covers the scores, too: a user's function may call the network itself.
        context = self.running.context(views.device, join_activations=join_activations)
        with torch.enable_grad(), context:
            return passes.run(network, views, count)

    def _prepare_to_compile(self, views: torch.Tensor, draws: bool | None) -> None:
        """Compile the network for the views that most passes have, if the run wants that."""
        if self._wish is None or not self._lengths:
            return
        if self._compilation is None:
            self._compilation = self._begin_compilation(self._wish, views.device)
        length = max(self._lengths, key=lambda length: (self._lengths[length], length))
        fed = self.running.form.feed(views[:length].detach())
        free = available_memory(views.device)
        most = fitting_views(AS_IT_IS * self.plan.bytes_per_view, free)
        fits = most is None or most >= length
        self._compilation.prepare(fed, length / len(views), draws=draws, fits=fits)

    def _begin_compilation(self, wish: Wish, device: torch.device) -> Compilation:
        def own(views: torch.Tensor) -> list[torch.Tensor]:
            with self.running.context(device, joins=False):
                return self.tapped(views)

        def in_form(views: torch.Tensor) -> list[torch.Tensor]:
            with self.running.context(device):
                return self.tapped(views)

        model = self.tapped.model
        reason = why_not_compiled(model, device, runs_user_code=self.runs_user_code)
        return Compilation(self._form.compiled, self._compiler, wish, model, own, in_form, reason)
