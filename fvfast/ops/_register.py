"""Registers operations, so that arguments are checked before a kernel runs, whoever calls it."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from fvfast.ops._checks import reject, require_tensor

_Function = Callable[..., Any]


def _schema(name: str) -> torch.FunctionSchema:
    schema: torch.FunctionSchema = getattr(torch.ops.fvfast, name).default._schema
    return schema


def _required(name: str) -> list[tuple[int, str]]:
    """Places and names of the tensors that are required: the dispatcher lets None pass for them."""
    return [
        (place, declared.name)
        for place, declared in enumerate(_schema(name).arguments)
        if str(declared.type) == "Tensor"
    ]


def _shapes(arguments: Iterable[tuple[str, Any]]) -> str:
    """Write down the shapes of tensors, and integers, which may be sizes."""
    return ", ".join(
        f"{name} {tuple(value.shape) if isinstance(value, torch.Tensor) else value}"
        for name, value in arguments
        if isinstance(value, torch.Tensor | int)
    )


@contextlib.contextmanager
def _failed_allocations_named(name: str, arguments: Sequence[Any]) -> Iterator[None]:
    """Let the error of an allocation that fails name the operation and what it was given."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate" not in str(error):
            raise
        names = (argument.name for argument in _schema(name).arguments)
        given = _shapes(zip(names, arguments, strict=True))
        raise RuntimeError(
            f"{name}(): {given}: expected shapes whose results fit the memory, got an "
            f"allocation that failed: {error}"
        ) from error


def _call_with_values(name: str, *arguments: Any) -> Any:
    """Call an operation with tensors whose memory holds their values.

    Torch may negate a tensor, conjugate it or make it zero only when it is read; kernels do not.
    """
    resolved = list(arguments)
    for place, (declared, value) in enumerate(zip(_schema(name).arguments, arguments, strict=True)):
        if not isinstance(value, torch.Tensor):
            continue
        if not (value.is_neg() or value.is_conj() or value._is_zerotensor()):
            continue
        if declared.alias_info is not None and declared.alias_info.is_write:
            expected = "a tensor whose memory holds its values"
            got = "one that torch negates, conjugates or makes zero when it is read"
            reject(name, declared.name, expected, got)
        with _failed_allocations_named(name, arguments):
            value = value.resolve_neg().resolve_conj()
            resolved[place] = torch.zeros_like(value) if value._is_zerotensor() else value
    return getattr(torch.ops.fvfast, name)(*resolved)


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
        Take the operation's name and its arguments, and raise an error that names them. The
        first reads shapes and types alone, as tracing does; the second looks at memory, too.
    kernel
        For the CPU and CUDA.
    reference
        For other devices.
    fake
        Makes results without their contents.
    """
    required = _required(name)

    def checked(function: _Function) -> _Function:
        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            for place, argument in required:
                require_tensor(name, argument, arguments[place])
            check(name, *arguments)
            check_memory(name, *arguments)
            with _failed_allocations_named(name, arguments):
                return function(*arguments)

        return run

    @functools.wraps(fake)
    def traced(*arguments: Any) -> Any:
        for place, argument in required:
            require_tensor(name, argument, arguments[place])
        check(name, *arguments)
        return fake(*arguments)

    for key in ("CPU", "CUDA"):
        library.impl(name, checked(kernel), key)
    for key in ("Negative", "Conjugate", "ZeroTensor"):
        library.impl(name, functools.partial(_call_with_values, name), key)
    library.impl(name, checked(reference), "CompositeExplicitAutograd")
    torch.library.register_fake(f"fvfast::{name}", traced, lib=library)
