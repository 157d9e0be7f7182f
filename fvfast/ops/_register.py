"""Registers operations so that whoever calls them, nothing unchecked comes to a kernel."""

import functools
from collections.abc import Callable
from typing import Any

import torch

_Function = Callable[..., Any]


def register(
    library: torch.library.Library,
    name: str,
    *,
    check: _Function,
    check_memory: _Function,
    kernel: _Function,
    reference: _Function,
    fake: _Function,
) -> None:
    """Give an operation of the library "fvfast" its implementations.

    Parameters
    ----------
    library
        Where the operation is defined.
    name
        Of the operation.
    check, check_memory
        Take the operation's name and its arguments, and raise an error that names them: the first
        knows shapes and types alone, as tracing does; the second looks at memory too.
    kernel
        For the CPU and CUDA.
    reference
        For other devices.
    fake
        Makes results without their contents.
    """

    def checked(function: _Function) -> _Function:
        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            check(name, *arguments)
            check_memory(name, *arguments)
            try:
                return function(*arguments)
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError) or "allocate" not in str(error):
                    raise
                raise RuntimeError(
                    f"{name}(): the shapes of its arguments: expected results that fit the memory, "
                    f"got an allocation that failed: {error}"
                ) from error

        return run

    @functools.wraps(fake)
    def traced(*arguments: Any) -> Any:
        check(name, *arguments)
        return fake(*arguments)

    for key in ("CPU", "CUDA"):
        library.impl(name, checked(kernel), key)
    library.impl(name, checked(reference), "CompositeExplicitAutograd")
    torch.library.register_fake(f"fvfast::{name}", traced, lib=library)
