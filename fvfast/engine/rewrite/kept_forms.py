"""Forms of networks that are kept between runs, and the checks before one is used again.

Choosing a form and folding weights for it take as long as a few passes through the network, a good
part of a short run. So both are kept until the network is freed, until it changes, or until memory
is needed.
"""

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Protocol, TypeVar, cast

import torch
from torch import nn

from fvfast.engine.borrowing.fingerprint import addresses, contents, identity, structure
from fvfast.engine.compiled.kept import CompiledForms
from fvfast.engine.compiled.trial import Compiler
from fvfast.engine.graphs.cuda_graph import CudaGraphs
from fvfast.engine.locks import free_after_fork
from fvfast.engine.memory import when_memory_is_needed
from fvfast.engine.passes import Scorer
from fvfast.engine.precision import Precision
from fvfast.engine.rewrite.forms import Running
from fvfast.engine.rewrite.plan import Plan, Planner, record
from fvfast.engine.rewrite.recording import same_convolutions
from fvfast.engine.taps import TappedModel

KEPT_FORMS = 4
"""How many forms are kept for all networks together: those used last."""

KEPT_PASSES = 2
"""How many captured passes are kept with a form: one for full batches, one for the last batch."""

R = TypeVar("R", bound="Repeated")


class Repeated(Protocol):
    """A pass, or steps, that several runs repeat."""

    @property
    def is_in_use(self) -> bool:
        """Whether a run has begun and not ended."""
        ...


_log = logging.getLogger(__name__)


class KeptForm:
    """How a network is run, with everything that was prepared for it.

    Parameters
    ----------
    model
        The network in its present state.
    plan
        How to run it.
    running
        Its weights in the form of the plan.

    Attributes
    ----------
    compiled
        What was compiled for it.
    """

    def __init__(self, model: nn.Module | None, plan: Plan, running: Running) -> None:
        self.plan = plan
        self.compiled = CompiledForms()
        self._is_compiled = False
        self.running = running
        self.last_use = 0
        self._passes: dict[Hashable, Repeated] = {}
        self._structure = None if model is None else structure(model)
        self._contents = None if model is None else self._read_contents(model)
        self._addresses: Hashable = None

    @property
    def can_be_kept(self) -> bool:
        """Whether a later run can check that the network has not changed."""
        return self._contents is not None

    def watch_all_values(self, model: nn.Module) -> None:
        """Have later runs check all values of the network: compiled code has some in it."""
        if not self._is_compiled:
            self._is_compiled = True
            self._contents = self._read_contents(model)

    def plan_for(self, scorer: Scorer, device: torch.device) -> Plan:
        """Return the plan for a run, adapted to its score and to the memory that is free now."""
        return self.plan if self.last_use == 0 else self.plan.for_run(scorer, device)

    def serves(
        self,
        tapped: TappedModel,
        scorer: Scorer,
        views: torch.Tensor,
        images: int = 1,
        *,
        thorough: bool = True,
    ) -> bool:
        """Whether the network can still run in this form.

        Parameters
        ----------
        tapped, scorer, views, images
            See `fvfast.engine.rewrite.plan.make_plan`.
        thorough
            Whether to check more than hooks and versions: the values that were copied and, by
            running one view, which convolutions are called with which settings.
        """
        if tapped.model is None:
            return True
        if structure(tapped.model) != self._structure:
            return False
        if not thorough:
            return True
        if self._read_contents(tapped.model) != self._contents:
            return False
        if not self.plan.form.joined:
            return True
        try:
            convolutions = record(tapped, scorer, views, images)
        except Exception as error:  # noqa: BLE001 (planning raises it again, with advice)
            _log.info("the form of %s is chosen again: %s", type(tapped.model).__name__, error)
            return False
        return same_convolutions(convolutions, self.plan.convolutions)

    def repeated(self, model: nn.Module, kind: Hashable, make: Callable[[], R]) -> R:
        """Return what is captured, or will be, for a kind of scorer; a new one for kind None."""
        if kind is None:
            return make()
        now = addresses(model)
        if now != self._addresses:
            # Captured passes read the weights from the old addresses.
            self._passes.clear()
            self._addresses = now
        found = self._passes.pop(kind, None) or make()
        idle = [key for key, one in self._passes.items() if not one.is_in_use]
        for key in idle[: max(0, len(self._passes) + 1 - KEPT_PASSES)]:
            del self._passes[key]
        self._passes[kind] = found
        return cast(R, found)  # kinds of passes and of steps differ

    def _read_contents(self, model: nn.Module) -> Hashable:
        """Compute checksums of the values that were copied; None if one cannot be read."""
        try:
            return contents(self._copied(model))
        except RuntimeError as error:  # from torch, for tensors without memory of their own
            _log.info("the form of %s is not kept: %s", type(model).__name__, error)
            return None

    def _copied(self, model: nn.Module) -> Iterator[torch.Tensor | None]:
        """Yield the tensors of the network of which the form has converted or folded copies."""
        form = self.plan.form
        if self._is_compiled or (form.dtype is not None and not form.autocast):
            yield from model.parameters()
            yield from model.buffers()
        elif form.joined:
            for convolution in self.plan.convolutions:
                yield from (convolution.weight, convolution.bias)
                values = (convolution.norm or {}).values()
                yield from (value for value in values if isinstance(value, torch.Tensor))


class FormStore:
    """Kept forms by network; they are freed with their network.

    Parameters
    ----------
    graphs
        What captures the passes that are kept with a form.
    compiler
        What compiles networks. Default: TorchInductor.
    """

    def __init__(
        self,
        graphs: CudaGraphs = CudaGraphs(),  # noqa: B008 (frozen)
        compiler: Compiler | None = None,
    ) -> None:
        self.graphs = graphs
        self.compiler = Compiler() if compiler is None else compiler
        self._forms: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, KeptForm]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.RLock()
        free_after_fork(self)
        self._uses = itertools.count(1)

    def take(self, model: nn.Module, key: Hashable) -> KeptForm | None:
        """Take a kept form out, so that no other run uses it; None if there is none."""
        with self._lock:
            return self._forms.get(model, {}).pop(key, None)

    def put(self, model: nn.Module, key: Hashable, form: KeptForm) -> None:
        """Keep a form for the next run."""
        with self._lock:
            form.last_use = next(self._uses)
            self._forms.setdefault(model, {})[key] = form
            everything = [
                (kept.last_use, kept_key, forms)
                for forms in list(self._forms.values())
                for kept_key, kept in forms.items()
            ]
            everything.sort(key=lambda entry: entry[0])
            for _, kept_key, forms in everything[:-KEPT_FORMS]:
                del forms[kept_key]

    def clear(self) -> None:
        """Free all forms."""
        with self._lock:
            self._forms.clear()

    def __len__(self) -> int:
        """Count the forms."""
        with self._lock:
            return sum(len(forms) for forms in list(self._forms.values()))


SHARED = FormStore()
"""The forms that all runs of the process share."""

when_memory_is_needed(SHARED.clear)


def key_of(
    tapped: TappedModel, views: torch.Tensor, precision: Precision, images: int = 1
) -> Hashable:
    """Return a key for all that a form depends on besides the network; None if there is none."""
    try:
        preprocess = identity(tapped.preprocess)
    except TypeError:  # the function allows no weak reference
        return None
    layers = tuple(
        (None if layer.module is None else weakref.ref(layer.module), layer.key, layer.calls)
        for layer in tapped.layers
    )
    return (
        layers, preprocess, precision, images,
        views.shape[1:], views.dtype, views.device,
    )  # fmt: skip


def choose_form(
    tapped: TappedModel,
    scorer: Scorer,
    views: torch.Tensor,
    name: str,
    precision: Precision,
    images: int = 1,
) -> KeptForm:
    """Choose how to run a network; see `fvfast.engine.rewrite.plan.make_plan`."""
    plan, running = Planner(tapped, scorer, views, name, images=images).plan(precision)
    _log.info("chose the form in which the network runs for %s: %s", name, plan.form)
    return KeptForm(tapped.model, plan, running)
