"""An environment of Python with nothing but the packages of a bare GPU machine, and no network."""

import importlib.metadata
import os
import re
import venv
from pathlib import Path

PACKAGES = (
    "torch", "torchvision", "timm", "triton", "numpy", "pytest", "pytest-xdist", "pytest-timeout",
    "hypothesis", "pillow", "matplotlib", "typer", "rich", "tqdm", "pybind11", "ninja",
    "setuptools",
)  # fmt: skip

NO_NETWORK = """\
import socket


def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        raise OSError(f"there is no network here: {address}")
    return connect(self, address, *rest)


connect, socket.socket.connect = socket.socket.connect, refuse
socket.getaddrinfo = lambda host, *rest, **named: refuse(socket.socket(), host)
"""


def with_dependencies(names):
    """Return the installed distributions of some names, with all their dependencies."""
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        requirements = found[name].requires or []
        waiting += [
            re.match(r"[\w.-]+", line)[0] for line in requirements if "extra ==" not in line
        ]
    return found


def make_bare_environment(folder):
    """Make one; return its interpreter."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in with_dependencies(PACKAGES).values():
        for file in distribution.files or []:
            link(Path(distribution.locate_file("")), file, folder, packages)
    (packages / "no_network.py").write_text(NO_NETWORK)
    (packages / "no_network.pth").write_text("import no_network\n")
    return folder / "bin" / "python"


def link(source, file, folder, packages):
    """Link the first part of a file's path, or the whole of a program's."""
    parts = file.parts
    if parts[0] == "..":
        target = folder / "bin" / parts[-1]
        original = Path(os.path.normpath(source / file))
        if "bin" not in parts:
            return
    else:
        target, original = packages / parts[0], source / parts[0]
    if original.exists() and not target.exists() and parts[0] != "__pycache__":
        target.symlink_to(original)


def bare_variables():
    """Return the variables of a process there: none that lead elsewhere."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "FVFAST_TEST_SANITIZER", "PYTEST_ADDOPTS")
    return {name: value for name, value in os.environ.items() if name not in hidden}
