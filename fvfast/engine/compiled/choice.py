"""Whether a network is compiled for a run."""

from typing import Any, Literal

CompileChoice = bool | Literal["auto"]
"""False: never. True: at once. "auto": if the run is long enough for it."""


def check_compile(choice: Any) -> CompileChoice:
    """Return the choice; raise ValueError unless it is one."""
    if isinstance(choice, bool) or (isinstance(choice, str) and choice == "auto"):
        return choice  # type: ignore[return-value]
    raise ValueError(
        f'compile must be True, False or "auto", which compiles for long runs; got {choice!r}.'
    )
