import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fvfast import Objective, maco
from fvfast.engine.borrowing.state import borrowed, unwrap
from fvfast.engine.rewrite.relu import open_relu_gradients


def fingerprint(model):
    return {
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "identity": [id(p) for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [p.grad for p in model.parameters()],
        "training": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
    }


def assert_same(before, after):
    assert before["state"].keys() == after["state"].keys()
    for name, tensor in before["state"].items():
        assert torch.equal(tensor, after["state"][name]), name
    for what in ("identity", "requires_grad", "grad", "training", "hooks"):
        assert before[what] == after[what], what


def test_model_is_frozen_inside_and_restored_after_an_error(network):
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = fingerprint(network)

    def fail_while_borrowing():
        with borrowed(network):
            assert not any(m.training for m in network.modules())
            assert not any(p.requires_grad for p in network.parameters())
            raise KeyError

    with pytest.warns(UserWarning, match="training mode"), pytest.raises(KeyError):
        fail_while_borrowing()
    assert_same(before, fingerprint(network))


def test_buffers_that_a_network_changes_are_restored():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("last", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            self.last = x.mean()
            return x

    model = Counting().eval()
    last = model.last
    with borrowed(model):
        model(torch.ones(1))
        assert model.count == 1
    assert model.count == 0
    assert model.last is last


def test_a_moved_model_comes_back_with_its_own_tensors(network):
    """The meta device stands in for an accelerator: moving there loses all values."""
    before = fingerprint(network)
    storage = [tensor.data_ptr() for tensor in network.state_dict().values()]
    with borrowed(network, "meta") as device:
        assert device.type == "meta"
        assert network[0].weight.device.type == "meta"
    assert_same(before, fingerprint(network))
    assert storage == [tensor.data_ptr() for tensor in network.state_dict().values()]


def test_a_model_on_several_devices_is_not_moved(network):
    network[0].to("meta")
    with pytest.raises(ValueError, match="several devices"), borrowed(network, "cpu"):
        pass


def test_wrappers_are_looked_through(network):
    assert unwrap(nn.DataParallel(network)) is network
    assert unwrap(torch.compile(network)) is network


def test_a_network_compiled_in_place_runs_as_it_is(network):
    """As one in the wrapper of torch.compile does."""
    compiled = []

    def compiler(graph, _examples):
        compiled.append(graph)
        return graph

    objective = Objective.neuron(network, "7", 3, input_shape=(3, 20, 20))
    plain, _ = maco(objective, nb_steps=2, nb_crops=2, custom_shape=(32, 32), progress=False)
    network.compile(backend=compiler)
    network[0].compile(backend=compiler)
    calls = [network._compiled_call_impl, network[0]._compiled_call_impl]
    objective = Objective.neuron(network, "7", 3, input_shape=(3, 20, 20))
    image, _ = maco(objective, nb_steps=2, nb_crops=2, custom_shape=(32, 32), progress=False)
    assert not compiled
    assert torch.equal(image, plain)
    assert [network._compiled_call_impl, network[0]._compiled_call_impl] == calls


@pytest.mark.parametrize(
    ("relu", "ceiling"),
    [
        (nn.ReLU(), None),
        (nn.ReLU(inplace=True), None),
        (nn.ReLU6(inplace=True), 6.0),
        (F.relu, None),
        (F.relu6, 6.0),
        (torch.relu, None),
        (torch.relu_, None),
        (torch.Tensor.relu_, None),
        (lambda x: x.relu(), None),
        (lambda x: F.relu(x, inplace=True), None),
    ],
)
def test_open_relu_keeps_values_and_opens_gradients(relu, ceiling):
    x = torch.linspace(-3, 9, 7, requires_grad=True)
    with open_relu_gradients():
        y = relu(x * 1)
    assert torch.equal(y, x.clamp(0, ceiling))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    blocked = torch.linspace(-3, 9, 7, requires_grad=True)
    relu(blocked * 1).sum().backward()
    assert blocked.grad[0] == 0


def test_open_relu_in_place_overwrites_its_argument():
    x = torch.tensor([-1.0, 2.0])
    with open_relu_gradients():
        F.relu(x, inplace=True)
    assert torch.equal(x, torch.tensor([0.0, 2.0]))


def test_open_relu_inside_a_copied_network_leaves_the_network_alone(network):
    before = copy.deepcopy(network)
    with open_relu_gradients():
        network(torch.randn(1, 3, 20, 20))
    for ours, theirs in zip(network.modules(), before.modules(), strict=True):
        assert type(ours) is type(theirs)
