"""A stand-in for the compiler, which runs graphs as they are, and a clock for it."""

from fvfast.engine.compiled.trial import Compiler
from fvfast.engine.rewrite.kept_forms import FormStore


class StandIn:
    """Compiles nothing, and counts what it was given and how often that ran.

    A pass takes a second by its clock; one that is "compiled" a part of that.

    Parameters
    ----------
    share
        That part.
    error
        What it raises instead.
    """

    def __init__(self, share=0.5, error=None):
        self.share = share
        self.error = error
        self.graphs = 0
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, graph, _examples):
        if self.error is not None:
            raise self.error
        self.graphs += 1
        self.seconds += 2

        def run(*inputs):
            self.calls += 1
            self.seconds -= (1 - self.share) / 2  # a pass is two of them
            return graph(*inputs)

        return run

    def clock(self):
        self.seconds += 1
        return self.seconds

    def compiler(self, **settings):
        return Compiler(self, self.clock, **settings)

    def store(self, **settings):
        """What keeps forms, with this compiler."""
        return FormStore(compiler=self.compiler(**settings))
