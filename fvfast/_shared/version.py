"""The version of this package."""

import importlib.metadata

try:
    VERSION = importlib.metadata.version("fvfast")
except importlib.metadata.PackageNotFoundError:
    VERSION = "not installed"  # run from a source tree
