"""The comparison with Lucent: its measures, and its worker with fvfast in Lucent's place."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.lucent_comparison import Worker, judged, likeness
from fvfast.models import load_model


def test_likeness():
    torch.manual_seed(0)
    images = torch.rand(2, 4, 5, 3).numpy()
    same = likeness(images, images)
    assert same == {
        "first_rms": 0.0, "first_correlation": pytest.approx(1),
        "last_rms": 0.0, "last_correlation": pytest.approx(1),
    }  # fmt: skip
    other = np.stack([images[0], 1 - images[1]])
    found = likeness(images, other)
    assert found["first_rms"] == 0
    assert found["last_correlation"] == pytest.approx(-1)
    assert found["last_rms"] == pytest.approx(np.sqrt(((2 * images[1] - 1) ** 2).mean()))


@pytest.mark.thorough
def test_worker():
    """Two draws of one process: the second one from the same seed is the same."""
    pytest.importorskip("efficientnet_lite_pytorch")
    request = {"layer": "_fc", "unit": 88, "seed": 3, "steps": 12, "robust": True}
    with Worker("fvfast.lucent", Path(sys.executable), 1) as worker:
        images, measured = worker.draw(**request)
        again, _ = worker.draw(**request)
    assert images.shape == (2, 128, 128, 3)
    np.testing.assert_array_equal(images, again)
    assert min(measured[key] for key in ("first_seconds", "seconds", "cpu_seconds")) > 0
    network = load_model("efficientnet_lite0")
    network.model.eval()
    first, last = (judged(image, "_fc", 88, network) for image in images)
    assert last["score"] > first["score"]
    assert last["probability"] > first["probability"]
