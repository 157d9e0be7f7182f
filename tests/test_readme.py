"""The README does what it says: its blocks of Python run, its commands are understood."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

from fvfast.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.+?)^```$", README, flags=re.M | re.S)
COMMANDS = re.findall(r"^    fvfast (.+?)(?:    #.*)?$", README, flags=re.M)

# What the README calls `model`: the reader's own network. One in twenty channels of a random
# network never fires, which is warned of; with this seed, the README's fires on most of an image.
MODEL = """
import torch
from torchvision.models.resnet import BasicBlock, ResNet
torch.manual_seed(0)
model = ResNet(BasicBlock, [1, 1, 1, 1]).eval()
"""


def test_all_blocks_and_commands_are_found():
    assert len(BLOCKS) == README.count("```") // 2 == 5
    assert len(COMMANDS) == 10


@pytest.mark.parametrize("block", BLOCKS)
def test_what_blocks_import_is_there(block):
    nodes = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    for node in nodes:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line):
    """Options, and the forms of their values; nothing is loaded or drawn."""
    name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    context = command.make_context(name, arguments)
    assert context.params


@pytest.mark.thorough
def test_blocks_run_one_after_the_other(tmp_path):
    """As a reader would paste them into one program."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    program = tmp_path / "program.py"
    program.write_text("\n".join([MODEL, *BLOCKS]))
    subprocess.run(
        [sys.executable, "-W", "error", program.name],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"}, check=True,
    )  # fmt: skip
    with Image.open(tmp_path / "macaw.png") as picture:
        assert (picture.size, picture.mode) == ((512, 512), "RGBA")
