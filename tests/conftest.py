"""Fixtures that several test files share."""

import gc
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from emulated import kernel_threads
from torch import nn

import fvfast.engine
from fvfast.engine.borrowing.interrupts import forget_interrupts

GOLDEN = Path(__file__).parent / "golden"


class GoldenArrays(dict):
    """Arrays of one golden file as tensors (names of objectives stay arrays of strings)."""

    @classmethod
    def load(cls, path):
        with np.load(path) as file:
            return cls(
                (key, file[key] if file[key].dtype.kind == "U" else torch.from_numpy(file[key]))
                for key in file.files
            )

    @property
    def values_range(self):
        low, high = self["values_range"].tolist()
        return low, high

    @property
    def width(self):
        return self["image"].shape[-1]

    def model(self):
        """The golden convolutional network, in evaluation mode."""
        model = nn.Sequential()
        model.add_module("conv1", nn.Conv2d(3, 8, 3))
        model.add_module("relu1", nn.ReLU())
        model.add_module("conv2_linear", nn.Conv2d(8, 16, 3, stride=2))
        model.add_module("conv2", nn.ReLU())
        model.add_module("pool", nn.AdaptiveAvgPool2d(1))
        model.add_module("flatten", nn.Flatten())
        model.add_module("logits", nn.Linear(16, 10))
        for ours, theirs in (("conv1", "conv1"), ("conv2_linear", "conv2"), ("logits", "logits")):
            layer = model.get_submodule(ours)
            layer.load_state_dict(
                {kind: self[f"{theirs}.{kind}"].clone() for kind in ("weight", "bias")}
            )
        return model.eval()


def pytest_configure():
    """Hear Ctrl-C, which a shell has programs in its background ignore (pytest &)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Fork first: autograd does not work in a forked process once it has threads of its own."""
    items.sort(key=lambda item: item.get_closest_marker("forks") is None)


@pytest.fixture(scope="module")
def leaks_end_here():
    """Let the garbage collector close what Ray and Jupyter leave open.

    In the tests that may ignore its warnings, and not in the middle of a later one.
    """
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _no_interrupt_before():
    """The interrupts of one test do not count in the next one."""
    forget_interrupts()


@pytest.fixture(scope="session", params=["48x48", "40x64"])
def golden(request):
    return GoldenArrays.load(GOLDEN / f"xplique_{request.param}.npz")


@pytest.fixture
def nothing_kept():
    """Begin without the forms that earlier calls have left with their networks."""
    fvfast.engine.clear()


@pytest.fixture
def network():
    """A small convolutional network on 3 x 20 x 20 images, in evaluation mode."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()


MANY_OBJECTS = 100_000


@pytest.fixture(autouse=True, scope="module")
def frozen_objects():
    """Spare the garbage collector what lives as long as the process.

    Torch, its compiler and thousands of tests are a million objects, and tests that collect
    garbage would look through them each time.
    """
    if len(gc.get_objects()) > MANY_OBJECTS:
        gc.collect()
        gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """Print how much CUDA code was run on the CPU."""
    counts = kernel_threads()
    if counts is not None:
        threads, launches = counts
        terminalreporter.write_line(f"emulated {threads:,} CUDA threads in {launches:,} launches")


INPUT = (3, 20, 20)
