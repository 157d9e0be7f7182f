"""Layers are found by the names that wrappers such as DataParallel give them."""

import pytest
import torch
from torch import nn

from fvfast import Objective, maco
from fvfast.engine.network.layers import find_layer, trace_layers

INPUT = (3, 20, 20)


def compiled(module):
    return torch.compile(module, backend="eager")


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, compiled, lambda m: compiled(nn.DataParallel(m))]
)
def test_every_name_that_a_wrapped_model_lists(network, wrap):
    wrapped = wrap(network)
    for name, module in wrapped.named_modules():
        found = find_layer(wrapped, name, INPUT)
        inside = network if module not in list(network.modules()) else module
        assert found.module is inside
        # The same picture with and without the wrapper: seeds come from this name.
        assert found.name == find_layer(network, inside, INPUT).name
    for key in wrapped.state_dict():
        assert find_layer(wrapped, key.rpartition(".")[0], INPUT).module in set(network.modules())


def test_names_of_a_wrapped_model_for_the_model_itself(network):
    for name in ("module.3", "_orig_mod.3", "module._orig_mod.3", "_orig_mod.module.3"):
        assert find_layer(network, name, INPUT).module is network[3]


def test_the_wrapper_itself_is_the_network(network):
    for wrapped in (nn.DataParallel(network), compiled(network)):
        assert find_layer(wrapped, wrapped, INPUT).module is network
        assert find_layer(network, wrapped, INPUT).module is network
        assert Objective.neuron(wrapped, wrapped, 2, input_shape=INPUT).layers[0].shape == (10,)


def test_parts_that_were_compiled_since(network):
    body, head = network[:5], network[5:]
    model = nn.Sequential(body, head)
    model[0] = compiled(body)
    assert find_layer(model, "0", INPUT).module is model[0]
    assert find_layer(model, body, INPUT).module is body
    for name in ("0.3", "0._orig_mod.3", "_orig_mod.0.3"):
        found = find_layer(model, name, INPUT)
        assert (found.module, found.name) == (network[3], "0._orig_mod.3")
    assert find_layer(nn.Sequential(body, head), model[0], INPUT).module is body


def test_layers_inside_compiled_modules_are_seen(network):
    names = {info.name for info in trace_layers(network, INPUT) if info.calls}
    network.compile(backend="eager")
    assert {info.name for info in trace_layers(compiled(network), INPUT) if info.calls} == names


def test_a_module_of_that_name_is_no_wrapper():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Sequential(nn.Conv2d(3, 4, 3))
            self.conv = nn.Conv2d(4, 5, 3)

        def forward(self, x):
            return self.conv(self.module(x))

    model = Holder().eval()
    assert find_layer(model, "module.0", INPUT).module is model.module[0]
    assert find_layer(model, "module", INPUT).module is model.module
    assert find_layer(nn.DataParallel(model), "module.module.0", INPUT).module is model.module[0]
    # Not a layer of another name.
    with pytest.raises(ValueError, match=r"no layer 'module\.1'"):
        find_layer(model, "module.1", INPUT)


def test_the_picture_is_the_one_of_the_network_inside(network):
    settings = {"nb_steps": 2, "nb_crops": 2, "custom_shape": 24, "progress": False}

    def picture(model, layer):
        return maco(Objective.channel(model, layer, 5, input_shape=INPUT), **settings)[0]

    assert torch.equal(picture(nn.DataParallel(network), "module.3"), picture(network, "3"))
