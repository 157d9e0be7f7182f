"""What is said to people: warnings that point at their line, and names fit for a terminal."""

import os
import sys
import warnings

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
# Context managers and wrapped functions put frames of the standard library in between.
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
    r"""Text with everything that is not plain characters written as escapes.

    A terminal obeys control characters: names could clear the screen, set its title or hide what
    stands beside them. Lone surrogates, which bytes that are not UTF-8 become in names of files,
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
        With control characters, format characters (also those that change the direction of
        writing), unassigned ones, surrogates, and spaces other than the usual one as ``\x1b``,
        ``\n``, ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text
    )


def shortened(text: str, length: int) -> str:
    """Text of at most ``length`` characters, cut with an ellipsis at its end."""
    return text if len(text) <= length else text[: length - len(_ELLIPSIS)] + _ELLIPSIS
