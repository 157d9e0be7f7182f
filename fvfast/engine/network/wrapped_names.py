"""Understands names of layers with the prefixes that wrappers such as DataParallel add."""

from collections.abc import Mapping

from torch import nn

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names under which torch's wrappers hold what they wrap.

"module" is another, but users give that name to modules of their own, too.
"""


def find_wrapped_name(name: str, modules: Mapping[str, nn.Module]) -> str | None:
    """Find the network's own name for a layer whose name has more or fewer wrapper prefixes.

    In a listing or state dict of a network in `torch.nn.DataParallel` each name begins with
    ``module.``, in one of a compiled network with ``_orig_mod.``. In turn, a network whose parts
    were compiled has such prefixes where the user's name has none.

    Parameters
    ----------
    name
        What the user wrote.
    modules
        The modules by name.

    Returns
    -------
    name
        A name in ``modules``; None if no module matches, or several do.
    """
    parts = _bare(name)
    while True:
        found: dict[int, str] = {}
        for candidate, module in modules.items():
            if _bare(candidate) == parts:
                # Of a wrapper and the module inside, take the wrapper: it is always called.
                found.setdefault(id(_innermost(module)), candidate)
        if found:
            return next(iter(found.values())) if len(found) == 1 else None
        # "module" is taken for a wrapper's prefix only if the network has no module of that name.
        if parts[:1] != ("module",):
            return None
        parts = parts[1:]


def _bare(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split(".") if part not in _WRAPPERS) if name else ()


def _innermost(module: nn.Module) -> nn.Module:
    while True:
        inner = next(
            (getattr(module, name, None) for name in _WRAPPERS if name in module._modules), None
        )
        if not isinstance(inner, nn.Module):
            return module
        module = inner
