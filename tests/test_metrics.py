import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fvfast import Objective
from fvfast.evaluation.metrics import (
    agreement,
    evaluation_boxes,
    evaluation_crops,
    mean_logit,
    mean_score,
    transferability,
)
from fvfast.models import LoadedModel, Normalization, load_model

SIZE = (3, 20, 20)


def pictures(count=2, height=24, width=28, seed=0):
    """Smooth random pictures in (-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 6, 6, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic").mul(2).tanh()


def by_hand(images, boxes, size):
    """Crops (N, K, C, *size) with torch's own sampling, of pictures that need no reduction."""
    rows, columns = (torch.linspace(0, 1, length) for length in size)
    crops = []
    for y1, x1, y2, x2 in boxes.tolist():
        y = 2 * (y1 + (y2 - y1) * rows) - 1
        x = 2 * (x1 + (x2 - x1) * columns) - 1
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
        grid = grid.expand(len(images), -1, -1, -1)
        crops.append(F.grid_sample(images, grid, align_corners=True))
    return torch.stack(crops, dim=1)


@pytest.fixture
def loaded(network):
    return LoadedModel(network, "tiny", SIZE)


class Means(nn.Module):
    """Logits are the means of the colors: red, green, blue; and their sum."""

    def forward(self, images):
        means = images.mean((2, 3))
        return torch.cat([means, means.sum(1, keepdim=True)], dim=1)


def test_boxes_are_the_whole_picture_and_boxes_of_many_sizes_within_it():
    boxes = evaluation_boxes(40)
    assert boxes.shape == (40, 4)
    assert boxes[0].tolist() == [0, 0, 1, 1]
    sides = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sides[1:, 0], torch.linspace(0.25, 0.9, 39))
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    centers = (boxes[1:20, :2] + boxes[1:20, 2:]) / 2  # of the smaller ones, which can move
    assert (centers.mean(0) - 0.5).abs().max() < 0.1
    assert 0.08 < centers.std() < 0.2


def test_boxes_are_fixed_unless_another_seed_is_asked_for():
    assert torch.equal(evaluation_boxes(), evaluation_boxes())
    assert not torch.equal(evaluation_boxes(seed=1), evaluation_boxes())
    # Recorded: results of different days are compared.
    expected = torch.tensor([0.6227, 0.5018, 0.8727, 0.7518])
    torch.testing.assert_close(evaluation_boxes()[1], expected, atol=1e-4, rtol=0)
    assert evaluation_boxes(1).tolist() == [[0, 0, 1, 1]]


def test_crops_are_bilinear():
    images, boxes = pictures(), evaluation_boxes()
    # From 1 / 0.9 on, no picture is larger than what a crop of 31 x 31 samples.
    size = (31, 31)
    crops = evaluation_crops(images, size, boxes)
    torch.testing.assert_close(crops, by_hand(images, boxes, size), atol=1e-5, rtol=0)


def test_the_whole_picture_in_the_size_of_the_network_stays_as_it_is():
    images = pictures(height=20, width=20)
    torch.testing.assert_close(evaluation_crops(images, (20, 20))[:, 0], images)


def test_large_pictures_are_reduced_without_aliasing():
    # A fine grid of black and white: seen from far away, it is gray.
    board = (torch.arange(512)[:, None] + torch.arange(512)).remainder(2).float() * 2 - 1
    images = board.expand(1, 3, -1, -1)
    whole = evaluation_crops(images, (64, 64))[0, 0]
    assert whole[:, 2:-2, 2:-2].abs().max() < 0.05
    sampled = by_hand(images, evaluation_boxes(1), (64, 64))
    assert sampled.abs().max() > 0.5


def test_a_picture_is_judged_alike_in_any_size(network):
    large = pictures(1, height=400, width=400)
    small = F.interpolate(large, (100, 100), mode="bilinear", antialias=True)
    with torch.no_grad():
        of_large, of_small = (
            network(evaluation_crops(images, (20, 20))[0]).mean(0) for images in (large, small)
        )
    assert (of_large - of_small).abs().max() < 0.1 * of_large.std()


def test_the_logit_is_the_mean_over_the_crops(network, loaded):
    images = pictures()
    with torch.no_grad():
        logits = torch.stack([network(c) for c in evaluation_crops(images, (20, 20))])  # (N, K, 10)
    torch.testing.assert_close(mean_logit(images, 3, loaded), logits[..., 3].mean(1))
    expected = torch.stack([logits[0, :, 3].mean(), logits[1, :, 7].mean()])
    torch.testing.assert_close(mean_logit(images, [3, 7], loaded), expected)


def test_logits_written_out():
    images = pictures(height=12, width=12)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9]])
    means = by_hand(images, boxes, (20, 20)).mean((3, 4))  # (N, K, C)
    loaded = LoadedModel(Means().eval(), "means", SIZE)
    for index in range(3):
        torch.testing.assert_close(
            mean_logit(images, index, loaded, boxes=boxes), means[..., index].mean(1)
        )
    torch.testing.assert_close(
        mean_logit(images, 3, loaded, boxes=boxes), means.sum(2).mean(1), atol=1e-6, rtol=1e-5
    )


def test_transferability_written_out():
    images = pictures(height=12, width=12)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9]])
    means = by_hand(images, boxes, (20, 20)).mean((3, 4)).double().tolist()
    result = transferability(
        images, 1, [LoadedModel(Means().eval(), "means", SIZE)], values_range=(-1, 1), boxes=boxes
    )
    for n in range(2):
        average = [0.0] * 4
        for crop in means[n]:
            powers = [math.exp(value) for value in [*crop, sum(crop)]]
            average = [a + p / sum(powers) / 2 for a, p in zip(average, powers, strict=True)]
        assert result.probabilities[n, 0] == pytest.approx(average[1], abs=1e-6)
        assert result.ranks[n, 0] == 1 + sum(value > average[1] for value in average)


def test_ranks_and_probabilities_belong_together(loaded):
    images = pictures()
    every = [transferability(images, i, [loaded], values_range=(-1, 1)) for i in range(10)]
    probabilities = torch.stack([one.probabilities for one in every])
    ranks = torch.stack([one.ranks for one in every])
    torch.testing.assert_close(probabilities.sum(0), torch.ones(2, 1))
    assert ranks.dtype == torch.int64
    assert ranks.sort(0).values[:, 0, 0].tolist() == list(range(1, 11))
    torch.testing.assert_close(
        probabilities.gather(0, ranks.argsort(0)), probabilities.sort(0, descending=True).values
    )


def test_logits_that_are_far_apart_still_have_an_order():
    class Far(nn.Module):
        def forward(self, images):
            return torch.tensor([0.0, 200.0, 400.0, 300.0]).expand(len(images), -1)

    far = LoadedModel(Far().eval(), "far", SIZE)
    ranks = [
        transferability(pictures(1), i, [far], values_range=(-1, 1)).ranks.item() for i in range(4)
    ]
    assert ranks == [4, 3, 1, 2]


def test_images_are_mapped_to_each_networks_range(network):
    images = pictures()
    networks = [
        LoadedModel(network, "same", SIZE),
        # The same function for images in another range, and with a preprocessing.
        LoadedModel(
            nn.Sequential(Shift(2.0, -1.0), network).eval(), "zero to one", SIZE, (0.0, 1.0)
        ),
        LoadedModel(
            nn.Sequential(Shift(1.0, 0.25), network).eval(),
            "normalized",
            SIZE,
            (-1.0, 1.0),
            Normalization([0.5 + 0.125] * 3, [0.5] * 3),
        ),
        LoadedModel(
            nn.Sequential(Shift(1 / 127.5, -1.0), network).eval(), "bytes", SIZE, (0.0, 255.0)
        ),
    ]
    result = transferability(images, [4, 5], networks, values_range=(-1, 1))
    assert result.networks == ["same", "zero to one", "normalized", "bytes"]
    assert result.probabilities.shape == result.ranks.shape == (2, 4)
    for column in range(1, 4):
        torch.testing.assert_close(result.probabilities[:, column], result.probabilities[:, 0])
        assert torch.equal(result.ranks[:, column], result.ranks[:, 0])
        torch.testing.assert_close(
            mean_logit(images, 4, networks[column], values_range=(-1, 1)),
            mean_logit(images, 4, networks[0]),
        )
    in_bytes = transferability((images + 1) * 127.5, [4, 5], networks, values_range=(0, 255))
    torch.testing.assert_close(in_bytes.probabilities, result.probabilities)
    # Without the mapping it would be another number.
    assert (
        mean_logit((images + 1) / 2, 4, networks[0]) - mean_logit(images, 4, networks[0])
    ).abs().min() > 1e-3


class Shift(nn.Module):
    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, images):
        return images * self.scale + self.shift


def test_the_score_of_an_objective(network, loaded):
    images = pictures()
    objective = Objective.neuron(network, -1, 3, input_shape=SIZE)
    # An objective of a neuron divides by the number of neurons, as Xplique does.
    torch.testing.assert_close(mean_score(images, objective), mean_logit(images, 3, loaded) / 10)
    each = Objective.neuron(network, -1, [3, 7], input_shape=SIZE)
    torch.testing.assert_close(
        mean_score(images, each * 10.0), mean_logit(images, [3, 7], loaded), atol=1e-6, rtol=1e-5
    )
    with torch.no_grad():
        channels = torch.stack([network[:4](c) for c in evaluation_crops(images, (20, 20))])
    channel = Objective.channel(network, "3", 5, input_shape=SIZE)
    torch.testing.assert_close(
        mean_score(images, channel), channels[:, :, 5].mean((1, 2, 3)) / 16, atol=1e-6, rtol=1e-5
    )


def test_the_score_of_a_function_without_a_model():
    images = pictures()
    objective = Objective.from_callable(None, lambda crops: crops.mean(), input_shape=SIZE)
    expected = evaluation_crops(images, (20, 20)).mean((1, 2, 3, 4))
    torch.testing.assert_close(mean_score(images, objective), expected)


def test_the_model_comes_back_as_it_was(network, loaded):
    network.train()
    network[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    images = pictures().requires_grad_()
    objective = Objective.neuron(network.eval(), -1, 3, input_shape=SIZE)
    expected = mean_logit(images, 3, loaded)
    network.train()
    with pytest.warns(UserWarning, match="training mode"):
        logits = mean_logit(images, 3, loaded)
    with pytest.warns(UserWarning, match="training mode"):
        scores = mean_score(images, objective)
    with pytest.warns(UserWarning, match="training mode"):
        result = transferability(images, 3, [loaded], values_range=(-1, 1))
    assert torch.equal(logits, expected)  # in evaluation mode all the same
    for made in (logits, scores, result.probabilities):
        assert not made.requires_grad
    assert all(module.training for module in network.modules())
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert images.grad is None


def test_agreement_is_the_correlation_of_the_values():
    images, others = pictures(3), pictures(3, seed=1)
    expected = [
        np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(images, others, strict=True)
    ]
    torch.testing.assert_close(
        agreement(images, others), torch.tensor(expected, dtype=torch.float32)
    )
    torch.testing.assert_close(agreement(images, images), torch.ones(3))
    torch.testing.assert_close(agreement(images, 0.3 * images + 2), torch.ones(3))
    torch.testing.assert_close(agreement(images, -images), -torch.ones(3))
    single = agreement(images[0], others[0])
    assert single.shape == ()
    torch.testing.assert_close(single, agreement(images, others)[0])


def test_noise_lowers_the_agreement():
    image = pictures(1)[0]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    values = [float(agreement(image + std * noise, image)) for std in (0.0, 0.1, 1.0, 10.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0
    assert values[1] > 0.95
    assert values[3] < 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda i, m: mean_logit(i[0], 3, m), ValueError, "expected .N, C, H, W."),
        (lambda i, m: mean_logit(i[:, :1], 3, m), ValueError, "have 1 channels; the network takes"),
        (lambda i, m: mean_logit(i[:0], 3, m), ValueError, "images is empty"),
        (lambda i, m: mean_logit(i / 0, 3, m), ValueError, "not finite"),
        (lambda i, m: mean_logit(i.to(torch.uint8), 3, m), ValueError, "torch.uint8"),
        (lambda i, m: mean_logit(i.numpy(), 3, m), TypeError, "must be a tensor, got ndarray"),
        (lambda i, m: mean_logit(i, 10, m), ValueError, "is 10; tiny has 10 classes: expected 0 "),
        (lambda i, m: mean_logit(i, -1, m), ValueError, "class_index is -1"),
        (lambda i, m: mean_logit(i, [1, 2, 3], m), ValueError, "3 entries for 2 images"),
        (lambda i, m: mean_logit(i, "tabby", m), TypeError, "class_index must be an int"),
        (lambda i, m: mean_logit(i, 3, m.model), TypeError, "LoadedModel.*got Sequential"),
        (lambda i, m: mean_logit(i * 255, 3, m), ValueError, "outside values_range .-1, 1."),
        (lambda i, m: mean_logit(i, 3, m, boxes=torch.ones(4)), ValueError, r"expected \(K, 4\)"),
        (
            lambda i, m: mean_logit(i, 3, m, boxes=torch.tensor([[0, 0, 1, 1.5]])),
            ValueError,
            "expected 0 <= y1 < y2 <= 1",
        ),
        (
            lambda i, m: mean_logit(i, 3, LoadedModel(m.model[:4].eval(), "cut", SIZE)),
            ValueError,
            "cut puts out .*expected the logits of a classifier",
        ),
        (lambda i, m: transferability(i, 3, [m], values_range=(1, 1)), ValueError, "low < high"),
        (lambda i, _: transferability(i, 3, [], values_range=(-1, 1)), ValueError, "at least one"),
        (
            lambda i, m: transferability(i, 10, [m], values_range=(-1, 1)),
            ValueError,
            "transferability: class_index is 10",
        ),
        (lambda i, m: mean_score(i, m), TypeError, "must be an Objective, got LoadedModel"),
        (
            lambda i, m: mean_score(i, Objective.neuron(m.model, -1, [1, 2, 3], input_shape=SIZE)),
            ValueError,
            "3 combinations for 2 images",
        ),
        (lambda i, _: agreement(i, i[:1]), ValueError, "shape .*expected the same"),
        (lambda i, _: agreement(i, i[0]), ValueError, "shape .*expected the same"),
        (lambda i, _: agreement(i[0, 0], i[0, 0]), ValueError, "expected .N, C, H, W."),
        (lambda i, _: agreement(i, i * torch.nan), ValueError, "reference hold values"),
        (lambda i, _: agreement(i, torch.full_like(i, 0.1)), ValueError, r"reference\[0\] has one"),
        (lambda i, _: agreement(i, i.numpy()), TypeError, "reference must be a tensor"),
        (lambda *_: evaluation_boxes(0), ValueError, "count must be at least 1"),
    ],
)
def test_what_cannot_be_judged_is_refused(loaded, call, error, message):
    with pytest.raises(error, match=message):
        call(pictures(), loaded)


@pytest.fixture(scope="module")
def lite():
    return [load_model(f"efficientnet_lite{variant}") for variant in range(2)]


@pytest.mark.parametrize(
    ("name", "label", "judges"),
    [("coffee", "espresso", 1), ("chelsea", "Egyptian cat", 2)],
)
def test_real_networks_recognize_photographs(lite, name, label, judges):
    data = pytest.importorskip("skimage.data")
    array = getattr(data, name)().astype(np.float32) / 255
    photograph = torch.from_numpy(array).permute(2, 0, 1)[None]
    index = lite[0].class_index(label)
    boxes = evaluation_boxes(4)
    result = transferability(photograph, index, lite[:judges], values_range=(0, 1), boxes=boxes)
    assert result.networks == ["efficientnet_lite0", "efficientnet_lite1"][:judges]
    assert result.ranks.max() <= 2
    assert result.probabilities.min() > 0.2
    # Noise says nothing to them.
    noise = torch.rand(photograph.shape, generator=torch.Generator().manual_seed(0))
    empty = transferability(noise, index, lite[:1], values_range=(0, 1), boxes=boxes)
    assert empty.ranks.item() > 10
    assert empty.probabilities.item() < 0.02
