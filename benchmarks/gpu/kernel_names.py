"""Recognizes fvfast's kernels, and shortens their names."""

import re

_OURS = re.compile(r"fvfast(?:::|4)cuda")
_SHORT = re.compile(r"fvfast::cuda::(\w+)")
_MANGLED = re.compile(r"fvfast4cuda(\d+)(\w+)")


def is_own(kernel: str) -> bool:
    """Whether a text contains the name of one of fvfast's kernels, mangled or not."""
    return _OURS.search(kernel) is not None


def short_name(kernel: str) -> str:
    """Return the name of one of fvfast's kernels alone, without namespaces and arguments."""
    if found := _SHORT.search(kernel):
        return found[1]
    if found := _MANGLED.search(kernel):
        return found[2][: int(found[1])]
    # Some tools write it without the namespace.
    return re.split(r"[<(]", kernel.removeprefix("void "))[0]
