"""Decides for which views a network is compiled, and keeps what was compiled for later runs."""

import dataclasses
import logging
from collections.abc import Callable, Hashable

import torch
from torch import nn

from fvfast._shared.messages import warn_user
from fvfast.engine.borrowing.state import preserved
from fvfast.engine.compiled.choice import CompileChoice
from fvfast.engine.compiled.network import CompiledNetwork
from fvfast.engine.compiled.trial import Compiler, Outcome, Trial
from fvfast.engine.passes import Network

MOST_SHAPES = 4
"""For how many shapes of views a network is compiled. Further ones run without."""

WORTH = 10.0
"""With "auto", the rest of a run must take so many times as long as compiling is expected to."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a run wants to be compiled.

    Attributes
    ----------
    choice
        See `fvfast.maco`.
    passes
        How many steps the run has, with those of the batches to come.
    say
        Tells people what takes long.
    is_first
        Whether these are the first images of a call, for which what is kept from an earlier call
        is checked.
    warns
        Whether to warn if what was asked for is left out.
    """

    choice: CompileChoice = False
    passes: int = 1
    say: Callable[[str], None] = _log.info
    is_first: bool = True
    warns: bool = True


class CompiledForms:
    """What was compiled for one form of a network, and what was left out, by shape of the views.

    Attributes
    ----------
    outcomes
        By all that compiled code depends on.
    """

    def __init__(self) -> None:
        self.outcomes: dict[Hashable, Outcome] = {}

    def of(self, views: torch.Tensor) -> CompiledNetwork | None:
        """Return the compiled network for views; None where there is none."""
        outcome = self.outcomes.get(_key(views))
        return None if outcome is None else outcome.network


class Compilation:
    """Compiles a network during one run, before a pass.

    Parameters
    ----------
    forms
        What earlier runs compiled.
    compiler
        What compiles.
    wish
        What this run wants.
    model, own, in_form
        See `Trial`.
    why_not
        Why nothing is compiled; empty where it may be.
    """

    def __init__(
        self,
        forms: CompiledForms,
        compiler: Compiler,
        wish: Wish,
        model: nn.Module | None,
        own: Network,
        in_form: Network,
        why_not: str,
    ) -> None:
        self._forms = forms
        self._compiler = compiler
        self._wish = wish
        self._model = model
        self._own = own
        self._in_form = in_form
        self._checked: set[Hashable] = set()
        self._refused: set[Hashable] = set()
        self._passes = 0
        self.note = ""
        if why_not:
            self._leave_out(why_not)
        self._is_possible = not why_not

    def network_for(self, views: torch.Tensor) -> CompiledNetwork | None:
        """Return what runs views, where it is compiled and was checked in this run."""
        return self._forms.of(views) if _key(views) in self._checked else None

    def prepare(
        self, views: torch.Tensor, share: float, *, draws: bool | None, fits: bool = True
    ) -> None:
        """Compile, if that is wanted and worth it, or check what an earlier run compiled.

        Parameters
        ----------
        views
            (B, C, h, w), as a pass gets them.
        share
            Which share they are of the views of a step.
        draws
            Whether the network draws random numbers; None before the first pass.
        fits
            Whether the memory holds a pass through the network as it is.
        """
        self._passes += 1
        key = _key(views)
        if not self._is_possible or key in self._checked or key in self._refused:
            return
        if not fits:
            self._refused.add(key)
            self._leave_out("the memory may not hold a pass through the network as it is")
            return
        if draws:
            self._leave_out("the network draws random numbers")
            self._is_possible = False
            return
        outcomes = self._forms.outcomes
        if key in outcomes:
            self._checked.add(key)
            with preserved(self._model):
                self._check(key, views)
        elif draws is not None and len(outcomes) < MOST_SHAPES:
            self._checked.add(key)
            trial = self._trial(views)
            # The run must be the same whatever was tried in between.
            with preserved(self._model):
                if self._is_wanted(trial, share):
                    self._compile(key, trial, views)

    def _is_wanted(self, trial: Trial, share: float) -> bool:
        """Whether to compile: a second shape in the same call has to be worth it in any case."""
        if self._wish.choice is True and self._wish.is_first and len(self._checked) == 1:
            return True
        seconds = trial.seconds_in_form()
        left = (self._wish.passes - self._passes) * seconds / share
        wanted = left > WORTH * self._compiler.expected_seconds
        if not wanted:
            self.note = (
                f"left out: the rest of the run takes about {left:.0f} s, and compiling pays from "
                f"{WORTH * self._compiler.expected_seconds:.0f} s on"
            )
            _log.info("compiled form: %s", self.note)
        return wanted

    def _compile(self, key: Hashable, trial: Trial, views: torch.Tensor) -> None:
        self._wish.say(
            f"compiling the network for {len(views)} views at once: this may take minutes."
        )
        outcome = trial.run()
        self._forms.outcomes[key] = outcome
        self._compiler.expected_seconds = outcome.seconds or self._compiler.expected_seconds
        if outcome.network is None:
            self._leave_out(outcome.note)
        else:
            self.note = outcome.note
            self._wish.say(f"compiled network: {outcome.note}.")

    def _check(self, key: Hashable, views: torch.Tensor) -> None:
        """Compare what an earlier run compiled with the network, which may have changed."""
        outcome = self._forms.outcomes[key]
        if outcome.network is None:
            self._leave_out(outcome.note)
            return
        self.note = outcome.note
        if not self._wish.is_first:
            return
        if difference := self._trial(views).differs(outcome.network):
            _log.info("the network is compiled anew: %s", difference)
            del self._forms.outcomes[key]
            self._checked.discard(key)

    def _trial(self, views: torch.Tensor) -> Trial:
        return Trial(self._model, self._own, self._in_form, views, self._compiler)

    def _leave_out(self, reason: str) -> None:
        self.note = f"left out: {reason}"
        _log.info("compiled form: %s", self.note)
        if self._wish.choice is True and self._wish.is_first and self._wish.warns:
            warn_user(
                f"compile=True: the network runs without being compiled: {reason}.", UserWarning
            )


def _key(views: torch.Tensor) -> Hashable:
    # The compiler writes the number of threads into the code.
    return views.shape, views.dtype, views.device, views.stride(), torch.get_num_threads()
