"""Networks with weights of several types, or of subclasses of tensors."""

import copy

import pytest
import torch
import torch.nn.functional as F
from misbehaving import INPUT, SHORT, Network, draw
from torch import nn
from torch.utils._pytree import tree_map

from fvfast import Objective, maco, optimize

pytestmark = pytest.mark.usefixtures("nothing_kept")

# Types


class Towers(nn.Module):
    """As in OpenCLIP: a scale in float32 beside a body in another type."""

    def __init__(self, dtype):
        super().__init__()
        torch.manual_seed(0)
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.conv = nn.Conv2d(3, 8, 3).to(dtype)
        self.norm = nn.LayerNorm(8)  # in float32, as some keep it
        self.fc = nn.Linear(8, 5).to(dtype)
        self.dtype = dtype
        self.eval()

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.logit_scale * self.fc(self.norm(x.float()).to(self.dtype)).float()


class FunctionalTowers(Towers):
    def forward(self, x):
        kernel = self.conv.weight.flatten(1)
        patches = F.unfold(F.pad(x, (1, 1, 1, 1)), 3)
        x = (kernel @ patches).mean(2)
        return self.logit_scale * self.fc(self.norm(x.float()).to(self.dtype)).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
@pytest.mark.parametrize("made", [Towers, FunctionalTowers])
@pytest.mark.parametrize("call", [maco, optimize])
def test_images_have_the_type_of_what_reads_them_first(made, dtype, call):
    model = made(dtype)
    seen = []
    model.conv.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].dtype))
    image = draw(model, call)
    assert image.dtype == torch.float32
    assert set(seen) <= {dtype}
    assert model.conv.weight.dtype == dtype
    assert draw(model, call, precision="bfloat16").isfinite().all()


def test_functions_get_that_type_too():
    model = Towers(torch.bfloat16)
    objective = Objective.from_callable(model, lambda x: model(x)[:, 1], input_shape=INPUT)
    assert maco(objective, **SHORT)[0].isfinite().all()


def test_the_type_is_found_again_after_a_change():
    model = Towers(torch.bfloat16)
    draw(model)
    model.conv.half()
    assert draw(model).isfinite().all()


# Subclasses of tensors


class Wrapped(torch.Tensor):
    """Weights in eight bits, as a tensor without memory of its own."""

    @staticmethod
    def __new__(cls, values, scale):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=torch.float32)

    def __init__(self, values, scale):
        self.values8, self.scale = values, scale

    def __repr__(self):
        return f"Wrapped({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return cls(args[0].values8, args[0].scale)

        def whole(one):
            return one.values8 * one.scale if isinstance(one, cls) else one

        return func(*tree_map(whole, args), **tree_map(whole, kwargs or {}))


@pytest.mark.parametrize("layer", ["conv", "fc"])
def test_weights_without_memory_of_their_own(layer):
    plain, wrapped = Network(), Network()
    module = getattr(wrapped, layer)
    weight = module.weight.detach()
    scale = weight.abs().max() / 127
    values = (weight / scale).round().to(torch.int8)
    getattr(plain, layer).weight.data.copy_(values * scale)
    module.weight = nn.Parameter(Wrapped(values, scale), requires_grad=False)
    before = module.weight
    drawn = draw(wrapped)
    assert module.weight is before
    torch.testing.assert_close(drawn, draw(plain))
    torch.testing.assert_close(draw(wrapped), drawn)
    assert copy.deepcopy(plain) is not plain
