"""Runs the user's network: finds its layers, reads them, and leaves the network as it was."""


def clear() -> None:
    """Free what is kept for networks between calls: folded weights, captured passes.

    The next call for a network chooses again how to run it, which takes a few passes. Without this
    function, what is kept for a network is freed with the network, or when memory runs out.
    """
    from fvfast.engine.rewrite.kept_forms import SHARED

    SHARED.clear()
