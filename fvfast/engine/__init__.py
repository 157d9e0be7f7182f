"""Runs the user's network: finds its layers, taps them, and hands the network back as it was."""


def clear() -> None:
    """Free what is kept with networks between calls: folded weights, captured passes.

    The next call for each network chooses anew how to run it, which takes a few of its passes.
    Without this, what is kept for a network goes when the network does, and when memory runs out.
    """
    from fvfast.engine.rewrite.kept_forms import SHARED

    SHARED.clear()
