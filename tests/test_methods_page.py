"""The code of docs/methods.md runs, with a small network in the place of the page's."""

import functools
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fvfast import MacoBatch, Objective, maco, maco_batch
from fvfast.models import LoadedModel

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
BLOCKS = re.findall(r"(?:^    .+\n)+", PAGE, flags=re.M)


class Small(nn.Module):
    """Layers with the names of EfficientNet-Lite0's."""

    def __init__(self):
        super().__init__()
        widths = [3, *[8] * 9, 96]
        self._blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 1), nn.ReLU())
            for before, after in itertools.pairwise(widths)
        )
        self._fc = nn.Linear(96, 4)
        self.categories = ["tench", "goldfish", "jellyfish", "tabby"]

    def forward(self, x):
        for block in self._blocks:
            x = block(x)
        return self._fc(x.mean((2, 3)))


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the code of the page refers to, drawn small."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("cat.jpg")
    torch.manual_seed(0)
    model = Small().eval()
    model.input_shape = (3, 12, 12)
    short = {"nb_steps": 1, "custom_shape": 16, "progress": False}
    return {
        "Objective": Objective,
        "maco": functools.partial(maco, **short),
        "maco_batch": functools.partial(maco_batch, **short, box_size=0.9, nb_crops=2),
        "network": LoadedModel(model, "small", (3, 12, 12)),
        "model": model,
    }


def test_the_first_block_loads_the_network():
    assert "load_model" in BLOCKS[0]
    assert len(BLOCKS) > 5


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_blocks_run(names, block):
    code = re.sub(r"^    ", "", block, flags=re.M)
    *_, last = code.strip().splitlines()
    if not last.startswith("result"):
        code = re.sub(r"^(?=Objective\.zipped)", "objective = ", code, flags=re.M)
    exec(compile(code, "docs/methods.md", "exec"), names)
    if "result" in names:
        images = (
            names["result"].images
            if isinstance(names["result"], MacoBatch)
            else [names["result"].image]
        )
        assert all(bool(image.isfinite().all()) for image in images)
    else:
        assert isinstance(names["objective"], Objective)
