"""The settings of TF32, without a GPU: convolutions that follow them are simulated.

Some cannot be set back to what they were at first, so another process sets them.
"""

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from engine.plans import objective_of, plan_of, views_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fvfast import maco
from fvfast.engine.exact_float32 import exact_float32, tf32_settings
from fvfast.engine.rewrite.plan import Planner

HAS_NEWER = hasattr(torch.backends.cudnn, "conv")


def tf32_is_on():
    return tf32_settings()["convolutions"]


def rounded(tensor):
    """Round to the 10 bits of TF32."""
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


class RoundingConvolutions(TorchDispatchMode):
    """Convolutions as cuDNN computes them.

    Attributes
    ----------
    seen
        Whether TF32 was on, of each.
    """

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kinds = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
        if func in kinds:
            self.seen.append(tf32_is_on())
            if self.seen[-1] and args[0].dtype == torch.float32:
                inputs = 2 if func is kinds[0] else 3
                args = (*map(rounded, args[:inputs]), *args[inputs:])
        return func(*args, **(kwargs or {}))


@pytest.fixture
def convolutions(monkeypatch):
    """Neither oneDNN's own operations nor Winograd's, which are for the CPU only."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with RoundingConvolutions() as mode:
        yield mode


@pytest.fixture
def steep():
    """A network whose normalization leaves a small difference of large numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    with torch.no_grad():
        large = model[0](views_of() + 30)
        model[1].running_mean.copy_(large.mean((0, 2, 3)))
        model[1].running_var.copy_(large.var((0, 2, 3)))
    return objective_of(model)


class InTf32(Planner):
    """Tries forms with the settings of the program."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.trial_context = contextlib.nullcontext


def test_rounding_of_convolutions_hides_no_form(convolutions, steep):
    assert plan_of(steep, views=views_of() + 30).form.joined
    assert not all(convolutions.seen)
    assert tf32_is_on()

    plan = plan_of(steep, views=views_of() + 30, planner=InTf32)
    assert not plan.form.joined
    assert any("changes the outputs by" in note for note in plan.notes)


def test_the_faster_of_two_forms_is_timed_as_it_will_run(convolutions, steep):
    timed = []

    class Watched(Planner):
        def seconds_of(self, forms):
            before = len(convolutions.seen)
            seconds = super().seconds_of(forms)
            timed.append((len(forms), convolutions.seen[before:]))
            return seconds

    plan_of(steep, precision="auto", planner=Watched)
    ((count, seen),) = timed
    assert count > 1
    assert seen
    assert all(seen)


def test_runs_have_the_settings_of_the_program(convolutions, steep):
    maco(steep, nb_steps=1, nb_crops=2, custom_shape=(24, 24), progress=False)
    assert convolutions.seen[-1]


@pytest.mark.skipif(not HAS_NEWER, reason="this torch has the older settings alone")
def test_a_network_that_asks_for_the_older_settings_is_planned():
    """As `torch.backends.cudnn.flags` does, which networks may use."""

    class Asks(nn.Conv2d):
        def forward(self, x):
            with torch.backends.cudnn.flags(enabled=False):
                return super().forward(x)

    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"), exact_float32():
        torch.backends.cudnn.allow_tf32  # noqa: B018 (it is what raises)
    plan = plan_of(objective_of(Asks(3, 8, 3).eval()))
    assert not any("legacy" in note for note in plan.notes)


def test_a_network_that_fails_still_does():
    class Divides(nn.Conv2d):
        by = 1

        def forward(self, x):
            return super().forward(x) * (1 / self.by)

    model = Divides(3, 8, 3).eval()
    objective = objective_of(model)
    model.by = 0
    with pytest.raises(ZeroDivisionError):
        plan_of(objective)


def test_two_threads_take_turns():
    """Otherwise the thread that began first would restore settings that the other still uses."""
    inside, other_inside = threading.Event(), threading.Event()
    seen = []

    def other():
        inside.wait()
        with exact_float32():
            other_inside.set()
            seen.append(tf32_is_on())

    thread = threading.Thread(target=other)
    thread.start()
    with exact_float32():
        inside.set()
        assert not other_inside.wait(0.2)
        assert not tf32_is_on()
    thread.join()
    assert seen == [False]
    assert tf32_is_on()


SETTINGS = [
    "pass",
    "b.cudnn.allow_tf32 = False",
    "b.cudnn.allow_tf32 = True",
    "b.cuda.matmul.allow_tf32 = True",
    "torch.set_float32_matmul_precision('medium')",
]
NEWER_SETTINGS = [
    "b.fp32_precision = 'ieee'",
    "b.fp32_precision = 'tf32'",
    "b.cudnn.fp32_precision = 'tf32'",
    "b.fp32_precision = 'tf32'; b.cudnn.fp32_precision = 'tf32'",
    "b.cudnn.conv.fp32_precision = 'tf32'",
    "b.cudnn.conv.fp32_precision = 'ieee'",
    "b.cudnn.conv.fp32_precision = 'none'; b.cudnn.rnn.fp32_precision = 'none'",
    "b.cuda.matmul.fp32_precision = 'tf32'",
    "b.fp32_precision = 'ieee'; b.cudnn.conv.fp32_precision = 'tf32'",
]


def test_settings_are_as_before():
    """By each way to ask for them, and whatever is set next."""
    settings = SETTINGS + NEWER_SETTINGS * HAS_NEWER
    script = Path(__file__).with_name("tf32_settings.py")
    done = subprocess.run(
        [sys.executable, script, *settings], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    outcomes = list(map(json.loads, done.stdout.splitlines()))
    assert len(outcomes) == len(settings)
    for setting, outcome in zip(settings, outcomes, strict=True):
        assert outcome["without"] == outcome["with"], setting
        assert outcome["inside"] == ["ieee"] * 3 if HAS_NEWER else [False, False], setting
    for outcome in outcomes[: len(SETTINGS)]:
        assert outcome["older"] == [[False, False, "highest"], True]
