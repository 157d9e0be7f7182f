"""Starts engines: by a plan that is given, or in the form that an earlier run has left."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fvfast.engine.borrowing.state import preserved
from fvfast.engine.compiled.kept import Wish
from fvfast.engine.compiled.trial import Compiler
from fvfast.engine.engine import Engine
from fvfast.engine.graphs.cuda_graph import CudaGraphs
from fvfast.engine.memory import free_memory
from fvfast.engine.network.preprocessing import check_preprocess
from fvfast.engine.passes import MakeScorer
from fvfast.engine.precision import Precision
from fvfast.engine.rewrite.forms import Running
from fvfast.engine.rewrite.kept_forms import FormStore, KeptForm, choose_form, key_of
from fvfast.engine.rewrite.plan import Plan
from fvfast.engine.taps import TappedModel


@contextlib.contextmanager
def running_engine(
    tapped: TappedModel,
    plan: Plan,
    make_scorer: MakeScorer,
    name: str,
    *,
    runs_user_code: bool = True,
    wish: Wish | None = None,
    compiler: Compiler | None = None,
) -> Iterator[Engine]:
    """Run a network by a plan during a ``with`` statement; nothing is kept for later runs.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    plan
        What `make_plan` returned.
    make_scorer
        Makes the function that scores images ``first`` to ``last`` (exclusive).
    name
        Of the first objective, for messages.
    runs_user_code
        Whether the scores call functions of the user.
    wish
        What is to be compiled; None: nothing.
    compiler
        What compiles. Default: TorchInductor.
    """
    running = Running(tapped.model, plan.form, plan.convolutions, plan.epilogues)
    form = KeptForm(tapped.model, plan, running)
    with _installed(
        tapped, form, plan, make_scorer, name, graphs=CudaGraphs(), runs_user_code=runs_user_code,
        wish=wish, compiler=compiler,
    ) as engine:  # fmt: skip
        yield engine


@contextlib.contextmanager
def kept_engine(
    tapped: TappedModel,
    views: torch.Tensor,
    make_scorer: MakeScorer,
    name: str,
    precision: Precision,
    *,
    runs_user_code: bool,
    store: FormStore,
    seed: int = 0,
    thorough: bool = True,
    group: int = 1,
    at_once: int | None = None,
    wish: Wish | None = None,
) -> Iterator[Engine]:
    """Run a network in the form of an earlier run, or choose a form and keep it for later runs.

    Parameters
    ----------
    tapped
        The network, frozen and in evaluation mode.
    views
        (M*K, C, h, w): views of the first group of images, like those of the run.
    make_scorer, name, runs_user_code
        See `running_engine`.
    precision
        See `fvfast.maco`.
    store
        Where forms are kept.
    seed
        Decides what the network draws for itself.
    thorough
        See `fvfast.engine.rewrite.kept_forms.KeptForm.serves`.
    group
        M, how many images, next to each other, are scored together.
    at_once
        How many views have to go through the network at once. Default: as many as fit the memory.
    wish
        What is to be compiled; None: nothing.

    Raises
    ------
    ValueError
        See `make_plan` and `check_preprocess`.
    torch.OutOfMemoryError
        The memory does not hold as many views as have to go through the network at once.
    """
    model, first = tapped.model, make_scorer(0, group)
    key = key_of(tapped, views, precision, group)
    form = None if model is None or key is None else store.take(model, key)
    # The run must be the same however many forms were tried before it.
    with preserved(model):
        if form is None or not form.serves(tapped, first, views, group, thorough=thorough):
            if tapped.preprocess is not None:
                check_preprocess(tapped.preprocess, tuple(views.shape[1:]), views.device)
            form = choose_form(tapped, first, views, name, precision, group)
    if wish is not None and model is not None:
        form.watch_all_values(model)
    plan = form.plan_for(first, views.device)
    if plan.views_per_pass is not None and plan.views_per_pass < (at_once or len(views)):
        # Not even the views of one group fit, or of all: free what is kept for other networks.
        free_memory(views.device)
        plan = plan.for_run(first, views.device)
    if at_once is not None and not plan.takes_at_once(at_once):
        raise torch.OutOfMemoryError(
            f"the memory of {views.device} holds {plan.views_per_pass} of the {at_once} views that "
            "have to go through the network at once."
        )
    with _installed(
        tapped, form, plan, make_scorer, name,
        graphs=store.graphs, runs_user_code=runs_user_code, seed=seed, group=group,
        splits=at_once is None,
        wish=wish, compiler=store.compiler,
    ) as engine:  # fmt: skip
        yield engine
    # Not reached after an exception, which may have left the form half changed.
    if model is not None and key is not None and form.can_be_kept:
        store.put(model, key, form)


@contextlib.contextmanager
def _installed(
    tapped: TappedModel,
    form: KeptForm,
    plan: Plan,
    make_scorer: MakeScorer,
    name: str,
    **settings: Any,
) -> Iterator[Engine]:
    with form.running.installed(tapped.model):
        engine = Engine(tapped, form, plan, make_scorer, name, **settings)
        try:
            yield engine
        finally:
            engine.close()


class EngineAtFirstUse(contextlib.ExitStack):
    """An engine that starts at the first step and ends with the ``with`` statement.

    The start is part of the step, where an interrupt ends the run as it does in any step.

    Parameters
    ----------
    start
        Makes what `running_engine` returns, from the arguments of the first call.
    """

    def __init__(self, start: Callable[..., contextlib.AbstractContextManager[Engine]]) -> None:
        super().__init__()
        self._start = start
        self._engine: Engine | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has started."""
        return self._engine is not None

    def __call__(self, *args: Any) -> Engine:
        """Return the engine."""
        if self._engine is None:
            self._engine = self.enter_context(self._start(*args))
        return self._engine
