"""Warnings that point at the user's line, however deep in the package they arise."""

import os
import sys
import warnings

_PACKAGE = os.path.dirname(__file__) + os.sep
# Context managers and wrapped functions put frames of the standard library in between.
_BETWEEN = (_PACKAGE, os.path.dirname(os.__file__) + os.sep + "contextlib.py")


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line outside this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)
