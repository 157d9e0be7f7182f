import collections
import dataclasses
import gc
import types
import weakref

import pytest
import torch
from torch import nn

import fvfast.engine.network.layers as layers_module
from fvfast.engine.network.inputs import find_input_shape
from fvfast.engine.network.layers import find_layer, select_output, trace_layers
from fvfast.engine.taps import TappedModel

INPUT = (3, 20, 20)


class Branches(nn.Module):
    """Returns a tuple, a dict and nested containers from its parts; calls one part twice."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.second = nn.Conv2d(4, 4, 1)
        self.first = nn.Conv2d(3, 4, 1)
        self.pair = Pair()

    def forward(self, x):
        x = self.second(self.second(self.first(x)))
        return {"pair": self.pair(x), "logits": x.mean((2, 3))}


class Pair(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), {"map": x}


def test_trace_lists_names_shapes_order_and_calls():
    layers = {info.name: info for info in trace_layers(Branches().eval(), INPUT)}
    assert layers["first"].index == 0
    assert layers["second"].index == 1
    assert layers["second"].calls == 2
    assert layers["unused"].index is None
    assert layers["unused"].shape is None
    assert layers["first"].shape == (4, 20, 20)
    assert layers["pair"].shape == (4,)
    assert not layers[""].is_leaf


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


class DataclassOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.alias = self.conv

    def forward(self, x):
        y = self.conv(x)
        return Output(y.mean((2, 3)), y)


def test_dataclass_outputs():
    model = DataclassOutput().eval()
    assert find_layer(model, "", INPUT).shape == (4,)
    assert find_layer(model, ("", "hidden"), INPUT).shape == (4, 20, 20)


def test_a_module_with_two_names():
    model = DataclassOutput().eval()
    layer = find_layer(model, "alias", INPUT)
    assert (layer.name, layer.module) == ("alias", model.conv)


def test_a_layer_replaced_since_is_explained(network):
    tapped = TappedModel(network, [find_layer(network, "3", INPUT)])
    network[3] = nn.Conv2d(8, 16, 3, stride=2)
    with pytest.raises(RuntimeError, match="no longer part of the model"):
        tapped(torch.randn(1, *INPUT))


def test_trace_notices_other_preprocessing_and_settings():
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()

    def width(size):
        def resized(x):
            return nn.functional.interpolate(x, (size, size))

        return find_layer(model, 0, INPUT, resized).shape[-1]

    assert [width(size) for size in (8, 16, 20)] == [6, 14, 18]
    assert find_layer(model, 0, INPUT).shape == (4, 18, 18)
    model[0].stride = (2, 2)
    assert find_layer(model, 0, INPUT).shape == (4, 9, 9)


def test_trace_is_remembered_until_the_model_changes():
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    trace_layers(model, INPUT)
    trace_layers(model, INPUT)
    assert len(calls) == 1
    model.append(nn.ReLU())
    assert [info.name for info in trace_layers(model, INPUT)] == ["", "0", "1"]


def test_entries_of_tuple_and_mapping_outputs():
    model = Branches().eval()
    images = torch.randn(2, *INPUT)
    expected = model(images)
    layers = [
        find_layer(model, spec, INPUT)
        for spec in ("pair", ("pair", 0), ("pair", 1), ("", "logits"), ("", "pair"))
    ]
    assert [layer.shape for layer in layers] == [(4,), (4,), (4, 20, 20), (4,), (4,)]
    outputs = TappedModel(model, layers)(images)
    assert torch.equal(outputs[0], expected["pair"][0])
    assert torch.equal(outputs[2], expected["pair"][1]["map"])
    assert torch.equal(outputs[3], expected["logits"])


def test_last_call_of_a_shared_module_counts():
    model = Branches().eval()
    images = torch.randn(2, *INPUT)
    (output,) = TappedModel(model, [find_layer(model, "second", INPUT)])(images)
    assert torch.equal(output, model(images)["pair"][1]["map"])


def test_forward_pass_ends_at_the_last_layer_needed(network):
    reached = []
    network[4].register_forward_hook(lambda *_: reached.append(1))
    layer = find_layer(network, "3", INPUT)
    reached.clear()
    TappedModel(network, [layer])(torch.randn(1, *INPUT))
    assert not reached


def test_early_end_passes_a_model_that_catches_exceptions():
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            try:
                return self.conv(x)
            except Exception:  # noqa: BLE001 (what some networks do around optional parts)
                return x

    model = Catching().eval()
    layer = find_layer(model, "conv", INPUT)
    images = torch.randn(1, *INPUT)
    assert torch.equal(TappedModel(model, [layer])(images)[0], model.conv(images))


def test_no_hooks_stay_behind(network):
    layer = find_layer(network, "3", INPUT)
    tapped = TappedModel(network, [layer])
    tapped(torch.randn(1, *INPUT))
    with pytest.raises(RuntimeError):
        tapped(torch.randn(1, 7, 20, 20))
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("unused", "never called"),
        (("pair", 5), r"no tensor output 5; its outputs are \[0, 1\]"),
        ("secnd", "Closest names: second"),
        ("map", "has no layer 'map'"),
        (99, "out of range"),
    ],
)
def test_mistakes_are_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        find_layer(Branches().eval(), spec, INPUT)


def test_last_part_of_a_name_is_suggested():
    model = nn.ModuleDict({"features": nn.Sequential(collections.OrderedDict(conv2=nn.Identity()))})
    model.forward = model["features"].forward
    with pytest.raises(ValueError, match=r"Closest names: features\.conv2"):
        find_layer(model, "conv2", INPUT)


def test_select_output_of_other_things():
    assert select_output(None) is None
    assert select_output("text") is None
    assert select_output((None, {"a": torch.ones(2)})).sum() == 2


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (3, 224, 224)),
        ({"default_cfg": {"input_size": (3, 299, 299)}}, (3, 299, 299)),
        ({"image_size": 96}, (3, 96, 96)),
        ({"input_image_size": [64, 48]}, (3, 64, 48)),
        ({"input_shape": (None, 1, 28, 30)}, (1, 28, 30)),
        (
            {
                "pretrained_cfg": {"input_size": (3, 224, 224)},
                "patch_embed": types.SimpleNamespace(img_size=(32, 48)),
            },
            (3, 32, 48),
        ),
    ],
)
def test_input_shape_from_what_models_declare(attributes, expected):
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    for name, value in attributes.items():
        setattr(model, name, value)
    assert find_input_shape(model) == expected


class Normalized(nn.Module):
    """A network whose preprocessing is a method of its own, as users write it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.eval()

    def normalize(self, images):
        return (images - 0.5) / 0.25

    def forward(self, x):
        return self.conv(x)


def doubled(model):
    return lambda images: model.normalize(images) * 2


def test_preprocessing_that_is_a_method_does_not_keep_the_network():
    model = Normalized()
    for _ in range(3):
        trace_layers(model, (3, 8, 8), model.normalize)
        trace_layers(model, (3, 8, 8), doubled(model))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_few_traces_are_remembered():
    model, runs = Normalized(), []
    model.conv.register_forward_hook(lambda *_: runs.append(1))

    def scaled(images):
        return images * 2

    for _ in range(5):
        trace_layers(model, (3, 8, 8), scaled)
        trace_layers(model, (3, 8, 8), model.normalize)
    assert len(runs) == 2
    for size in range(9, 30):
        trace_layers(model, (3, size, size))
    assert len(layers_module._traces[model]) == layers_module.KEPT_TRACES
