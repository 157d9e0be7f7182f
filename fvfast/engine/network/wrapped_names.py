"""Names of layers as wrappers of a network or of its parts list them."""

from collections.abc import Mapping

from torch import nn

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Names under which torch's wrappers hold what they wrap; "module" may be a user's own, too."""


def find_wrapped_name(name: str, modules: Mapping[str, nn.Module]) -> str | None:
    """Find the name that a network has for a layer whose name comes from a wrapped one.

    A listing or a state dict of a network in `torch.nn.DataParallel` puts ``module.`` before each
    name, one of a compiled network ``_orig_mod.``; and a network whose parts were compiled since
    has such pieces where the name has none.

    Parameters
    ----------
    name
        What the user wrote.
    modules
        The modules by name.

    Returns
    -------
    name
        A name of ``modules``; None where none or several modules would be meant.
    """
    parts = _bare(name)
    while True:
        found: dict[int, str] = {}
        for candidate, module in modules.items():
            if _bare(candidate) == parts:
                # The outermost of wrapper and wrapped is the one that is called in any case.
                found.setdefault(id(_innermost(module)), candidate)
        if found:
            return next(iter(found.values())) if len(found) == 1 else None
        # A wrapper's only where the network itself gives no meaning to it.
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
