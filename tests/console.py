"""Runs the console command in this process, with small networks."""

import json
import sys

import pytest
from typer.testing import CliRunner

from fvfast.cli import app as cli
from fvfast.plot import read_metadata

TINY = """
import signal
import torch
from torch import nn
from fvfast.models import LoadedModel

class Full(nn.Sequential):
    def forward(self, images):
        if images.requires_grad:
            raise torch.cuda.OutOfMemoryError("out of memory [really]")
        return super().forward(images)

def interrupted():
    signal.raise_signal(signal.SIGTERM)

def interrupted_import():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        # As modules in C++ do.
        raise ImportError("initialization failed")

def failing():
    return LoadedModel(Full(nn.Conv2d(3, 2, 3)), "failing", (3, 8, 8))

def half_finite():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model[2].bias.data[1] = float("nan")
    return LoadedModel(model, "half", (3, 8, 8))

def plain():
    return nn.Sequential(nn.Conv2d(3, 2, 3))

def numbered():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Flatten())
    return LoadedModel(model.eval(), "numbered", (3, 8, 8))

class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.mixed = nn.Identity()
    def forward(self, images):
        x = self.norm(self.conv(images).permute(0, 2, 3, 1))
        return self.mixed(x @ x.transpose(-1, -2))

def last():
    torch.manual_seed(0)
    return LoadedModel(ChannelsLast().eval(), "last", (3, 8, 8))

def many(channels):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 2, 3))
    return LoadedModel(model, f"many{channels}", (channels, 8, 8))

def two():
    return many(2)

def five():
    return many(5)

def make():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 6, 3))
    model.add_module("block", nn.Sequential(nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model.add_module("fc", nn.Linear(6, 4))
    names = ["red fox", "grey fox", "a/b", "a b"]
    return LoadedModel(model.eval(), "tiny", (3, 12, 12), (-1.0, 1.0), None, names)
"""
QUICK = ["--steps", "2", "--crops", "2", "--size", "16x20", "--no-progress", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    """A folder from which the networks can be imported; where it is imported, tests work there."""
    (tmp_path / "tiny_network.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("tiny_network", None)


def invoke(*arguments, status=0, session=None):
    # Without colors and with a wide terminal, so that messages stay whole.
    result = CliRunner().invoke(
        cli.app, list(map(str, arguments)), env={"NO_COLOR": "1", "COLUMNS": "300"}, obj=session
    )
    assert result.exit_code == status, (result.output, result.exception)
    return result


def draw(*arguments, command="maco", model="make", **settings):
    return invoke(command, f"tiny_network:{model}", *arguments, **settings)


def settings_of(path):
    return json.loads(read_metadata(path)["fvfast.settings"])
