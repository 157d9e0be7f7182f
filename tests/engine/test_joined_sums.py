"""Joined convolutions that take over the sum at the end of a branch."""

import pytest
import torch
import torch.nn.functional as F
from engine.joined import check, conv, once
from torch import nn

from fvfast import Objective
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.rewrite.forms import Form
from fvfast.engine.rewrite.plan import make_plan


def shortcut(m, x):
    x = F.relu(m.stem(x))
    return F.relu(m.bn(m.conv(x)) + x)


def shortcut_in_place(m, x):
    x = F.relu(m.stem(x))
    y = m.bn(m.conv(x))
    y += x
    return m.relu(y)


def shortcut_first(m, x):
    x = m.stem(x)
    return F.relu6(torch.add(x, m.bn(m.conv(x)))) * 2


def no_activation(m, x):
    x = m.stem(x)
    return (x + m.conv(x)).sigmoid()


def two_branches(m, x):
    return F.relu(m.stem(x) + m.bn(m.conv(m.stem(x).relu())))


def both_are_convolutions(m, x):
    return F.relu(m.bn(m.conv(m.inner(x).relu())) + m.outer(x))


def into_the_shortcut(m, x):
    x = F.relu(m.stem(x))
    y = x * 1
    y += m.conv(x)
    return y.relu()


def sum_is_read_twice(m, x):
    x = m.stem(x)
    y = m.conv(x) + x
    return [F.relu(y), y.sin()]


def branch_is_read_twice(m, x):
    x = m.stem(x)
    y = m.conv(x)
    return [F.relu(y + x), y.sin()]


def other_shape(m, x):
    return F.relu(m.stem(x) + m.stem.bias[:, None, None])


def scaled_sum(m, x):
    x = m.stem(x)
    return F.relu(torch.add(x, m.conv(x), alpha=0.5))


STEM = {"stem": conv, "conv": lambda: conv(6, 6, padding=1), "bn": lambda: nn.BatchNorm2d(6)}


@pytest.mark.parametrize(
    ("function", "parts", "sums", "expected"),
    [
        (shortcut, {}, [1], (2, 1, ["relu", "relu"])),
        (shortcut_in_place, {"relu": lambda: nn.ReLU(True)}, [1], (2, 1, ["relu", "relu"])),
        (shortcut_first, {}, [1], (2, 1, ["relu6"])),
        (no_activation, {}, [1], (2, 0, [])),
        (two_branches, {}, [0], (1, 1, ["relu"])),
        (
            both_are_convolutions,
            {"inner": conv, "outer": conv},
            [2],
            (3, 1, ["relu", "relu"]),
        ),
        (into_the_shortcut, {}, [], (2, 0, ["relu"])),
        (sum_is_read_twice, {}, [1], (2, 0, [])),
        (branch_is_read_twice, {}, [], (2, 0, [])),
        (other_shape, {}, [], (1, 0, [])),
        (scaled_sum, {}, [], (2, 0, [])),
    ],
)
def test_sums(function, parts, sums, expected):
    made = once(function, **{**STEM, **parts})()
    found = check(made, expected)
    assert [index for index, entry in enumerate(found) if entry.adds] == sums


def test_a_sum_in_place_whose_result_is_dropped_is_found_out():
    """Nothing tells it from an assignment: the outputs do."""

    def dropped(m, x):
        x = F.relu(m.stem(x))
        y = m.conv(x)
        y.add_(x)
        return y.sigmoid()

    model = once(dropped, **STEM)().eval()
    objective = Objective.layer(model, "", input_shape=(3, 12, 12))
    tapped, scorer, names, _ = objective.compile()
    with borrowed(model):
        plan = make_plan(tapped, scorer, torch.randn(2, 3, 12, 12), names[0], None)
    assert plan.form == Form(joined=True, channels_last=True)
    assert any("with sums" in note for note in plan.notes)
