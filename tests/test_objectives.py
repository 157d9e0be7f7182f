import os
import time
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from fvfast import Objective
from fvfast.losses import dot_cossim
from fvfast.objectives.layer_scores import LayerScore

INPUT = (3, 20, 20)


@pytest.fixture
def images():
    return torch.randn(6, *INPUT, generator=torch.Generator().manual_seed(1))


def scores(objective, images):
    model, function, _, _ = objective.compile()
    with torch.no_grad():
        return function(model(images))


def neuron(network, ids, **settings):
    return Objective.neuron(network, "7", ids, input_shape=INPUT, **settings)


class CallsNothing(nn.Module):
    """Computes with the weights of its modules, as what TorchScript makes of a network does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, images):
        return images.mean((2, 3)) @ self.layer.weight.T


def test_a_network_that_calls_no_module_has_no_last_layer():
    with pytest.raises(ValueError, match=r"\(CallsNothing\) calls no module that could be watched"):
        Objective.neuron(CallsNothing().eval(), -1, 0, input_shape=INPUT)


def test_scores_of_linear_and_convolution_outputs_by_hand(network, images):
    with torch.no_grad():
        convolution, logits = network[:4](images), network(images)
    assert torch.allclose(scores(neuron(network, 3), images), logits[:, 3].mean()[None] / 10)
    channel = Objective.channel(network, "3", 5, input_shape=INPUT)
    assert torch.allclose(scores(channel, images), convolution[:, 5].mean()[None] / 16)
    single = Objective.neuron(network, "3", [(5, 2, 7)], input_shape=INPUT)
    expected = convolution[:, 5, 2, 7].mean()[None] / convolution[0].numel()
    assert torch.allclose(scores(single, images), expected)


@pytest.mark.parametrize("size", [1, 255, 256, 10_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mean_square_of_a_layer(size, dtype):
    output = torch.randn(4, size).to(dtype)
    score = LayerScore().for_targets([None, None])(output)
    exact = output.double().square().unflatten(0, (2, 2)).mean((1, 2))
    # Positive terms: each of the at most 64 additions of a row in a lane, of the square, the root,
    # its square, the sum of rows and the division errs by half an epsilon at most.
    allowed = (64 + 20) / 2 * torch.finfo(torch.float32).eps
    assert torch.allclose(score.double(), exact, rtol=allowed, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reducer", ["magnitude", "mean"])
def test_gradient_of_a_layer(reducer, dtype):
    score = LayerScore(reducer).for_targets([None, None])
    output = torch.randn(6, 4, 5, 5).to(dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(score(output) @ torch.tensor([1.0, -3.0]), output)
    # Three crops of each of two images, weighted 1 and -3.
    weight = torch.tensor([1.0] * 3 + [-3.0] * 3)[:, None, None, None] / (3 * 4 * 5 * 5)
    detached = output.detach().float()
    expected = weight * (2 * detached if reducer == "magnitude" else torch.ones_like(detached))
    # One rounding of the scale and one of the product.
    assert torch.allclose(gradient.float(), expected, rtol=2 * torch.finfo(dtype).eps)


def test_each_combination_scores_its_own_images(network, images):
    """Six images: two crops for each of three neurons."""
    together = scores(neuron(network, [1, 4, 7]), images)
    alone = [scores(neuron(network, i), images[2 * n : 2 * n + 2]) for n, i in enumerate([1, 4, 7])]
    assert torch.allclose(together, torch.cat(alone))


def test_directions_do_not_interact_between_images(network, images):
    vectors = list(torch.randn(3, 16, generator=torch.Generator().manual_seed(2)))
    together = scores(Objective.direction(network, "3", vectors, input_shape=INPUT), images)
    with torch.no_grad():
        convolution = network[:4](images)
    for n, vector in enumerate(vectors):
        crops = convolution[2 * n : 2 * n + 2]
        expected = dot_cossim(crops, vector[:, None, None].expand_as(crops)).mean()
        assert torch.allclose(together[n], expected)


@pytest.mark.parametrize(
    "ids", [[2, 3], (2, 3), range(2, 4), np.array([2, 3]), torch.tensor([2, 3])]
)
def test_ids_in_any_collection(network, ids):
    assert neuron(network, ids).combination_names == ["Neuron#7_2", "Neuron#7_3"]
    channels = Objective.channel(network, "3", ids, input_shape=INPUT)
    assert channels.combination_names == ["Channel#3_2", "Channel#3_3"]


@pytest.mark.parametrize("index", [2, np.int64(2), torch.tensor(2)])
def test_single_ids(network, index):
    assert neuron(network, index).combination_names == ["Neuron#7_2"]


def test_neuron_coordinates_and_flat_indices_agree(network, images):
    shape = (16, 8, 8)
    flat = int(np.ravel_multi_index((11, 4, 2), shape))
    expected = scores(Objective.neuron(network, "3", flat, input_shape=INPUT), images)
    for ids in ([(11, 4, 2)], (11, 4, 2), np.array([[11, 4, 2]]), flat - 16 * 8 * 8, (11, -4, 2)):
        assert torch.equal(
            scores(Objective.neuron(network, "3", ids, input_shape=INPUT), images), expected
        )


def point(network, ids, *arguments, **settings):
    return Objective.point(network, "3", ids, *arguments, input_shape=INPUT, **settings)


def test_a_point_is_a_neuron(network, images):
    """By default behind the middle of the 8 x 8 positions."""
    middle = scores(Objective.neuron(network, "3", [(5, 4, 4)], input_shape=INPUT), images)
    assert torch.equal(scores(point(network, 5), images), middle)
    for place in ((1, 6), [1, -2], np.array([1, 6]), torch.tensor([1, 6])):
        other = scores(Objective.neuron(network, "3", [(5, 1, 6)], input_shape=INPUT), images)
        assert torch.equal(scores(point(network, -11, place), images), other)
    last = point(network, [1, 2], channel_axis=2)
    assert last.combination_names == ["Point#3_1@8,4", "Point#3_2@8,4"]
    assert last.masks == [[(8, 4, 1), (8, 4, 2)]]
    logit = Objective.point(network, "7", 3, input_shape=INPUT)
    assert torch.equal(scores(logit, images), scores(neuron(network, 3), images))
    assert point(network, [0, 1], names=["a", "b"]).combination_names == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((16,), ValueError, "index 16 is out of range for size 16"),
        ((5, (8, 0)), ValueError, "position of layer '3' .*: index 8 is out of range for size 8"),
        ((5, (1,)), ValueError, r"axis 0: expected 2 coordinates, got \(1,\)"),
        ((5, (1.5, 2)), TypeError, "position must be an int or a collection of ints"),
        (("five",), TypeError, "channel_ids must be an int"),
    ],
)
def test_mistakes_with_points(network, arguments, error, message):
    with pytest.raises(error, match=message):
        point(network, *arguments)


def test_negative_ids_count_from_the_end(network, images):
    assert torch.equal(scores(neuron(network, -1), images), scores(neuron(network, 9), images))


def test_sum_gives_the_product_of_combinations(network):
    total = neuron(network, [0, 1]) + Objective.channel(network, "3", [3, 4, 5], input_shape=INPUT)
    _, _, names, input_shape = total.compile()
    assert input_shape == (6, *INPUT)
    assert names[:3] == [
        "Neuron#7_0 & Channel#3_3",
        "Neuron#7_0 & Channel#3_4",
        "Neuron#7_0 & Channel#3_5",
    ]
    assert total.compile(combinations=[5])[2] == ["Neuron#7_1 & Channel#3_5"]


def test_algebra_weighs_each_term_on_its_own(network, images):
    a, b, c = (neuron(network, i) for i in (0, 1, 2))
    sa, sb, sc = (scores(term, images) for term in (a, b, c))
    for combined, expected in (
        (a * 1.0 + b * 3.0 + c * (-5.0), sa + 3 * sb - 5 * sc),
        (a - b, sa - sb),
        (a - (b - c), sa - sb + sc),
        (-(a + b) / 2, -(sa + sb) / 2),
        (2 * (a + 3 * b), 2 * sa + 6 * sb),
        (sum([a, b, c]), sa + sb + sc),
    ):
        assert torch.allclose(scores(combined, images), expected)


def test_operators_leave_their_operands_alone(network):
    a, b = neuron(network, 0), neuron(network, 1)
    _ = a * 5, a - b, a + b, -b, b / 3
    assert a.multipliers == [1.0]
    assert b.multipliers == [1.0]
    assert a.names == [["Neuron#7_0"]]


@pytest.mark.parametrize("operation", [lambda a: a + 1, lambda a: a * "2", lambda a: a - 3.0])
def test_algebra_with_anything_else_is_a_type_error(network, operation):
    with pytest.raises(TypeError):
        operation(neuron(network, 0))


def test_objectives_on_different_models_do_not_add(network):
    other = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with pytest.raises(ValueError, match="same model"):
        neuron(network, 0) + Objective.channel(other, "0", 1, input_shape=INPUT)


def test_layer_by_name_index_and_module(network, images):
    expected = scores(Objective.layer(network, "3", input_shape=INPUT), images)
    for layer in (3, network[3], -5):
        assert torch.equal(
            scores(Objective.layer(network, layer, input_shape=INPUT), images), expected
        )


def test_in_place_layers_do_not_change_what_is_read(network, images):
    """The batch norm's output is overwritten by the in-place ReLU behind it."""
    with torch.no_grad():
        expected = network[:2](images).square().mean()
    objective = Objective.layer(network, "1", input_shape=INPUT) + neuron(network, 0) * 0.0
    assert torch.allclose(scores(objective, images)[0], expected)


def test_custom_sub_objective_with_masks(network, images):
    mask = np.zeros((16, 8, 8), dtype=np.float32)
    mask[5] = 1
    custom = Objective(
        network,
        ["3"],
        [[mask]],
        [lambda output, mask: (output * mask).mean((1, 2, 3))],
        [1.0],
        ["by mask"],
        input_shape=INPUT,
    )
    expected = scores(Objective.channel(network, "3", 5, input_shape=INPUT), images)
    assert torch.allclose(scores(custom, images), expected)
    assert custom.combination_names == ["by mask"]


def test_from_callable_with_and_without_a_model(network, images):
    alone = Objective.from_callable(None, lambda x: x.mean((1, 2, 3)), input_shape=INPUT)
    assert torch.allclose(scores(alone, images), images.mean()[None])
    with_model = Objective.from_callable(
        network, [lambda x: network(x)[:, 0].mean(), lambda x: x.mean()], input_shape=INPUT
    )
    both = scores(with_model, images)
    with torch.no_grad():
        assert torch.allclose(both[0], network(images[:3])[:, 0].mean())
    combined = alone + neuron(network, 0)
    assert torch.allclose(
        scores(combined, images), images.mean()[None] + scores(neuron(network, 0), images)
    )


def test_callable_that_returns_something_else_is_explained(images):
    objective = Objective.from_callable(None, lambda x: x[:, 0], input_shape=INPUT)
    with pytest.raises(ValueError, match=r"returned shape .* expected a scalar or one score"):
        scores(objective, images)


def test_token_outputs_use_the_last_axis_for_channels():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(4, 6)

        def forward(self, x):
            return self.embed(x.flatten(2).transpose(1, 2))  # (B, T, 6)

    model = Tokens().eval()
    images = torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        tokens = model(images)
    channel = Objective.channel(model, "embed", 5, input_shape=(4, 3, 3))
    assert torch.allclose(scores(channel, images), tokens[..., 5].mean()[None] / 6)
    first_axis = Objective.channel(model, "embed", 5, input_shape=(4, 3, 3), channel_axis=0)
    assert torch.allclose(scores(first_axis, images), tokens[:, 5].mean()[None] / 9)
    vector = torch.randn(6)
    direction = Objective.direction(model, "embed", vector, input_shape=(4, 3, 3))
    expected = dot_cossim(tokens, vector.expand_as(tokens)).mean()
    assert torch.allclose(scores(direction, images)[0], expected)


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_many_channels_compile_fast_and_small():
    """1,000 channels of a 512 x 28 x 28 layer: under 0.1 s and 10 MB."""
    layer = nn.Conv2d(3, 512, 1).eval()
    Objective.layer(layer, layer, input_shape=(3, 28, 28))  # the probe run is remembered
    allocated = resident_bytes()
    tracemalloc.start()  # Python's objects; the resident size shows torch's memory too
    start = time.process_time()
    objective = Objective.channel(
        layer, layer, [i % 512 for i in range(1000)], input_shape=(3, 28, 28)
    )
    _, _, names, _ = objective.compile()
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(names) == 1000
    assert seconds < 0.1
    assert peak < 10e6
    assert resident_bytes() - allocated < 10e6


def test_input_shape_is_read_from_the_model():
    model = nn.Sequential(nn.Conv2d(1, 4, 3)).eval()
    assert Objective.layer(model, 0).image_shape == (1, 224, 224)
    model.input_shape = (1, 32, 40)
    assert Objective.layer(model, 0).image_shape == (1, 32, 40)
    assert Objective.layer(model, 0, input_shape=(1, 8, 8)).image_shape == (1, 8, 8)


def test_preprocess_runs_before_the_model(network, images):
    shifted = neuron(network, 0, preprocess=lambda x: (x - 0.5) / 2)
    expected = scores(neuron(network, 0), (images - 0.5) / 2)
    assert torch.allclose(scores(shifted, images), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: neuron(m, 10), r"index 10 is out of range for size 10 \(0 to 9\)"),
        (lambda m: neuron(m, -11), "out of range"),
        (lambda m: Objective.channel(m, "3", 16, input_shape=INPUT), "channel of layer '3'"),
        (lambda m: Objective.neuron(m, "3", [(1, 2)], input_shape=INPUT), "3 coordinates"),
        (lambda m: Objective.layer(m, "33", input_shape=INPUT), "Closest names: 3"),
        (lambda m: Objective.layer(m, 8, input_shape=INPUT), "calls 8 leaf modules"),
        (lambda m: Objective.layer(m, nn.ReLU(), input_shape=INPUT), "not a module of the model"),
        (lambda m: Objective.layer(m, "3", "sum", input_shape=INPUT), "'magnitude' or 'mean'"),
        (
            lambda m: Objective.direction(m, "3", torch.ones(15), input_shape=INPUT),
            r"\(16, 8, 8\) or \(16,\); got \(15,\)",
        ),
        (
            lambda m: Objective.direction(m, "7", torch.ones(4, 9), input_shape=INPUT),
            r"the 4 directions have 9 channels each, and layer .7. has 10",
        ),
        (
            lambda m: Objective.direction(m, "7", torch.zeros(10), input_shape=INPUT),
            "finite and not zero",
        ),
        (lambda m: Objective.direction(m, "7", [1.0] * 10, input_shape=INPUT), "one as a tensor"),
        (lambda m: neuron(m, [0, 1], names=["one"]), "one name per target"),
        (lambda m: Objective.layer(m, "3", input_shape=(3, 20)), r"\(C, H, W\)"),
        (lambda m: Objective.layer(m, "3", input_shape=(5, 20, 20)), "input_shape="),
        (lambda m: neuron(m, 0) * float("nan"), "finite"),
        (lambda m: neuron(m, []), "at least one target"),
    ],
)
def test_mistakes_are_explained(network, make, message):
    with pytest.raises(ValueError, match=message):
        make(network)


def test_ids_of_the_wrong_type(network):
    with pytest.raises(TypeError, match="neurons_ids"):
        Objective.neuron(network, "7", [1.5], input_shape=INPUT)
    with pytest.raises(TypeError, match="neurons_ids must be an int"):
        Objective.neuron(network, "7", 1.5, input_shape=INPUT)
    with pytest.raises(TypeError, match="channel_ids must be an int"):
        Objective.channel(network, "3", "five", input_shape=INPUT)
    with pytest.raises(TypeError, match="not a mask of booleans"):
        Objective.channel(network, "3", [True, False], input_shape=INPUT)
    with pytest.raises(TypeError, match="layer must be"):
        Objective.channel(network, True, 1, input_shape=INPUT)
    with pytest.raises(TypeError, match="names must be strings"):
        neuron(network, 1, names=[5])
    with pytest.raises(TypeError, match="direction must be a tensor"):
        Objective.direction(network, "7", None, input_shape=INPUT)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        Objective.layer("resnet", "7", input_shape=INPUT)


def test_a_function_alone_adds_to_an_objective_of_any_input(network, images):
    function = Objective.from_callable(None, lambda x: x.mean((1, 2, 3)))
    for total in (function + neuron(network, 0), neuron(network, 0) + function):
        assert total.image_shape == INPUT
        expected = images.mean()[None] + scores(neuron(network, 0), images)
        assert torch.allclose(scores(total, images), expected)


def test_kinds_differ_where_settings_do(network):
    """Scorers of one kind take over each other's targets: only these may differ."""
    channel, direction = Objective.channel, Objective.direction
    vectors = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))

    def kind(objective):
        return objective.scorer([0]).kind

    given = {"input_shape": INPUT}
    same = [
        (channel(network, "3", 1, **given), channel(network, "3", 2, **given)),
        (neuron(network, 1), neuron(network, 7)),
        (
            direction(network, "3", vectors[0], **given),
            direction(network, "3", vectors[1], **given),
        ),
    ]
    for one, other in same:
        assert kind(one) == kind(other) is not None
    different = [
        channel(network, "3", 1, **given),
        channel(network, "3", 1, 2.0, **given),
        neuron(network, 1) + neuron(network, 2),
        direction(network, "3", vectors[0], **given),
        direction(network, "3", vectors[0], cossim_pow=1.0, **given),
        Objective.layer(network, "3", **given),
        Objective.layer(network, "3", "mean", **given),
    ]
    assert len({kind(one) for one in different}) == len(different)
