"""Networks that draw random numbers: the seed decides them."""

import random

import numpy as np
import pytest
import torch
from misbehaving import Drops, draw, global_state

from fvfast import maco, maco_batch, optimize

pytestmark = pytest.mark.usefixtures("nothing_kept")


@pytest.mark.parametrize("call", [maco, optimize, maco_batch])
def test_the_seed_decides_what_a_network_draws(call):
    model = Drops()
    around = global_state()
    first = draw(model, call)
    torch.rand(3), random.random(), np.random.rand()  # other states of the generators
    assert torch.equal(draw(model, call), first)
    assert not torch.equal(draw(model, call, seed=1), first)
    assert global_state() != around


def test_each_step_draws_anew():
    model = Drops()
    seen = []
    model.fc.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0] == 0))
    draw(model)
    masks = seen[-3:]
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])
