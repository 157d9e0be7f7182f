"""Messages for people: warnings that point at the user's line, and text that is safe to print."""

import os
import sys
import warnings

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
# Context managers put frames of the standard library between those of this package.
_BETWEEN = (_PACKAGE, os.path.dirname(os.__file__) + os.sep + "contextlib.py")
_ELLIPSIS = "..."


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line outside this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape every character of a text that cannot be printed.

    A terminal obeys control characters: a name could clear the screen, set the title or hide what
    is printed beside it. Lone surrogates, which stand for bytes of file names that are not UTF-8,
    cannot be encoded at all.

    Parameters
    ----------
    text
        Any text.
    keep
        Characters that stay as they are, such as ``"\n"``.

    Returns
    -------
    escaped
        The text with escapes such as ``\x1b``, ``\n`` and ``\u202e`` in place of control and
        format characters (also those that change the direction of writing), unassigned characters,
        surrogates, and spaces other than the usual one.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text
    )


def shortened(text: str, length: int) -> str:
    """Cut a text to at most ``length`` characters; an ellipsis marks the cut."""
    return text if len(text) <= length else text[: length - len(_ELLIPSIS)] + _ELLIPSIS
