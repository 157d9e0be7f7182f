"""The channels of an output are found from the functions that made or read it."""

import pytest
import torch
from selection import thorough
from torch import nn
from torch.nn import functional
from torchvision import models

from fvfast import Objective, maco
from fvfast.engine.network.channel_axes import ChannelAxes, axis_beside_square
from fvfast.engine.network.layers import find_layer, trace_layers

INPUT = (3, 32, 32)


def axis_after(function, shape=(2, 5, 7, 11), axis=1):
    images = torch.zeros(shape)
    axes = ChannelAxes()
    axes.mark(images, axis)
    with axes:
        return axes.watch(function(images)).axis


def shuffled(x, groups):
    """Channels shuffled as ShuffleNet does."""
    count, channels, height, width = x.shape
    split = x.view(count, groups, channels // groups, height, width).transpose(1, 2)
    return split.contiguous().view(count, channels, height, width)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.relu() + 1, 1),
        (lambda x: functional.pad(x, (0, 1, 2, 3, 4, 5)), 1),
        (lambda x: torch.cat([x, x], 1), 1),
        (lambda x: x.chunk(5, 1)[2], 1),
        (lambda x: x[:, 1:3], 1),
        (lambda x: functional.interpolate(x, scale_factor=2), 1),
        (lambda x: x.flatten(2), 1),
        (lambda x: x.flatten(2).transpose(1, 2), 2),
        (lambda x: x.flatten(2).mT, 2),
        (lambda x: x.permute(0, 2, 3, 1), 3),
        (lambda x: torch.permute(input=x, dims=(0, 3, 1, 2)), 2),
        (lambda x: x.movedim(1, -1).reshape(-1, 7 * 11, 5), 2),
        (lambda x: x.movedim(1, -1).unsqueeze(1), 4),
        (lambda x: x.mean((2, 3)), 1),
        (lambda x: functional.linear(x, torch.zeros(4, 11)), 3),
        (lambda x: x @ torch.zeros(11, 4), 3),
        (lambda x: functional.layer_norm(x, (11,)), 3),
        (lambda x: functional.layer_norm(x, (7, 11)), 1),
        (lambda x: functional.conv2d(x.transpose(1, 3), torch.zeros(4, 11, 1, 1)), 1),
        (lambda x: x @ x.transpose(-1, -2), None),
        (lambda x: x.reshape(2, 7, 5, 11), None),
        (lambda x: shuffled(x.repeat_interleave(4, 1), 4), 1),
        (lambda x: x.repeat_interleave(4, 1).view(2, 4, 5, 7, 11), None),
        (lambda x: x.unsqueeze(-1).expand(2, 5, 7, 11, 3), 1),
        (lambda x: x.data, 1),
        (lambda x: x.shape and x, 1),
    ],
)
def test_where_the_channels_go(function, expected):
    assert axis_after(function) == expected


def test_a_function_that_reads_an_output_tells_its_channels():
    axes, unknown = ChannelAxes(), torch.zeros(2, 5, 7, 11)
    watched = axes.watch(unknown)
    with axes:
        functional.linear(unknown, torch.zeros(4, 11))
    assert watched.axis == 3


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values**2

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Opaque(nn.Module):
    def forward(self, x):
        return Square.apply(x)


class Blocks(nn.Module):
    """Convolution, then a block as ConvNeXt has them, whose inside is channels last."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.norm = nn.LayerNorm(6)
        self.opaque = Opaque()
        self.widen = nn.Linear(6, 9)
        self.heads = nn.Identity()

    def forward(self, x):
        x = self.widen(self.opaque(self.norm(self.stem(x).permute(0, 2, 3, 1))))
        self.heads(x @ x.transpose(-1, -2))
        return x.permute(0, 3, 1, 2)


def test_layers_know_their_channels():
    axes = {info.name: info.channel_axis for info in trace_layers(Blocks().eval(), INPUT)}
    assert axes == {"stem": 0, "norm": 2, "opaque": 2, "widen": 2, "heads": None, "": 0}


def test_channels_last_are_scored_over_all_positions():
    model = Blocks().eval()
    images = torch.randn(4, *INPUT)
    objective = Objective.channel(model, "widen", 8, input_shape=INPUT)
    tapped, function, _, _ = objective.compile()
    with torch.no_grad():
        expected = model(images)[:, 8].mean() / 9
        assert torch.allclose(function(tapped(images)), expected[None])
    with pytest.raises(ValueError, match=r"output \(8, 8, 9\), on axis 2: index 9 is out of range"):
        Objective.channel(model, "widen", 9, input_shape=INPUT)


def test_a_direction_of_channels_last():
    model = Blocks().eval()
    vector = torch.randn(9)
    objective = Objective.direction(model, "widen", vector, input_shape=INPUT)
    assert objective.masks[0][0].shape == (1, 1, 9)


def test_what_cannot_be_seen_is_asked_for():
    model = Blocks().eval()
    choices = r"channel_axis= \(--channel-axis\), one of 0 \(8\), 1 \(8\), 2 \(8\)\."
    for make in (Objective.channel, Objective.direction):
        target = 3 if make == Objective.channel else torch.ones(8)
        with pytest.raises(ValueError, match=choices):
            make(model, "heads", target, input_shape=INPUT)
        make(model, "heads", target, input_shape=INPUT, channel_axis=1)


class Scripted(nn.Module):
    """What a scripted module does cannot be seen; the layer behind it reads what it makes."""

    def __init__(self):
        super().__init__()
        self.inside = torch.jit.script(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()))
        self.behind = nn.Identity()

    def forward(self, x):
        return self.behind(self.inside(x))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_what_a_square_image_becomes_is_square():
    model = Scripted().eval()
    assert find_layer(model, "behind", INPUT).channel_axis == 0
    # Other images say nothing: two sizes may be equal by chance.
    oblong = find_layer(model, "behind", (3, 8, 9))
    assert (oblong.shape, oblong.channel_axis) == ((6, 6, 7), None)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((6, 5, 5), 0), ((5, 6, 5), 1), ((5, 5, 6), 2), ((5, 5, 5), None), ((4, 5, 6), None),
     ((5, 6), None), ((2, 3, 5, 5), None)],
)  # fmt: skip
def test_the_axis_beside_a_square(shape, axis):
    assert axis_beside_square(shape) == axis


def test_channels_of_sequences():
    model = nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 8, 3)).eval()
    assert find_layer(model, "1", INPUT).channel_axis == 0


@pytest.mark.parametrize(
    ("name", "layer", "shape", "axis"),
    [
        ("swin_t", "features.7", (1, 1, 768), 2),
        thorough("swin_t", "features.2", (4, 4, 192), 2),
        ("convnext_tiny", "features.7.2.block.5", (1, 1, 768), 2),
        thorough("convnext_tiny", "features.7", (768, 1, 1), 0),
        ("shufflenet_v2_x0_5", "stage2", (48, 4, 4), 0),
        thorough("vit_b_16", "encoder.layers.encoder_layer_3", (5, 768), 1),
    ],
)
def test_real_networks(name, layer, shape, axis):
    settings = {"image_size": 32} if name == "vit_b_16" else {}
    model = models.get_model(name, weights=None, **settings).eval()
    found = find_layer(model, layer, INPUT)
    assert (found.shape, found.channel_axis) == (shape, axis)


def test_a_run_on_channels_last():
    model = Blocks().eval()
    objective = Objective.channel(model, "norm", 5, input_shape=INPUT)
    image, _ = maco(objective, nb_steps=2, nb_crops=2, custom_shape=24, progress=False)
    assert image.isfinite().all()
