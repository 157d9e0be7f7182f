"""What is recorded of Lucent, and computed again by fvfast: the same calls on both.

Each function takes the modules of one of the two libraries. Nothing is drawn at random: transforms
have one choice, and what is optimized is given.
"""

# ruff: noqa: N803 (T is Lucent's name for the function that returns features)

import numpy as np
import torch
from torch import nn

IMAGES = (3, 3, 16, 16)
SIZE = 24
"""What the network is shown."""

STEPS = (1, 6)


def small_network(weights=None):
    """Convolutions with batch normalizations, and a linear layer, for any size of images."""
    network = nn.Sequential()
    network.add_module("stem", nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6)))
    network.add_module("relu", nn.ReLU())
    network.add_module("mixed", nn.Conv2d(6, 8, 3, padding=1))
    network.add_module("relu2", nn.ReLU())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(8, 10))
    if weights is not None:
        network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    return network.eval()


def objective_cases(objectives, vectors):
    """Objectives by name, in terms of the module ``objectives``."""
    o, of_6, of_8 = objectives, *map(torch.from_numpy, vectors)

    def own(T):
        return -(T("mixed") ** 2).mean() + T("input").std() - T("labels")[:, 1].mean()

    return {
        "text": "mixed:2",
        "text of a part": "stem_0:1",
        "channel of linear": o.channel("fc", 3),
        "neuron": o.neuron("mixed", 1),
        "neuron at a position": o.neuron("mixed", 1, x=2, y=7),
        "neuron of one image": o.neuron("mixed", 1, batch=2),
        "neuron_weight": o.neuron_weight("stem_0", of_6, x=1, y=3),
        "channel_weight": o.channel_weight("mixed", of_8),
        "localgroup_weight": o.localgroup_weight("mixed", of_8, x=1, y=2, wx=4, wy=3),
        "localgroup_weight of all": o.localgroup_weight("mixed", None, x=1, y=2, wx=4, wy=3),
        "direction": o.direction("mixed", of_8),
        "direction_neuron": o.direction_neuron("mixed", of_8),
        "blur_input_each_step": o.channel("fc", 0) - 1e-2 * o.blur_input_each_step(),
        "channel_interpolate": o.channel_interpolate("stem_0", 1, "mixed", 4),
        "alignment": o.alignment("mixed") + 0.1 * o.alignment("input", decay_ratio=3),
        "diversity": o.channel("mixed", 0) - 1e2 * o.diversity("mixed"),
        "sum": o.Objective.sum([o.channel("mixed", i, batch=i) for i in range(3)]),
        "arithmetic": 2 * o.channel("mixed", 0)
        - o.neuron("mixed", 3) / 4
        + 1
        - (-o.channel("fc", 2)),
        "function": own,
    }


def transform_cases(transform):
    """Transformations by name, none of which draws anything but its only choice."""
    return {
        "scaled down": transform.random_scale([0.87]),
        "scaled up": transform.random_scale([1.13]),
        "rotated": transform.random_rotate([7]),
        "rotated by radians": transform.random_rotate([-0.15], units="rads"),
        "reflected": transform.pad(3),
        "bordered": transform.pad(2, mode="constant", constant_value=0.3),
        "normalized": transform.normalize(),
        "for InceptionV1": transform.preprocess_inceptionv1(),
        "composed": transform.compose(
            [transform.pad(1, "constant"), transform.random_scale([0.95])]
        ),
    }


def parametrization_cases(param):
    """Parametrizations by name."""
    return {
        "image": param.image(12),
        "image of a batch": param.image(10, 14, batch=2, sd=0.5),
        "image of odd width": param.image(11, decorrelate=False),
        "image of pixels": param.image(8, fft=False),
        "image of one channel": param.image(9, channels=1),
        "fft_image": param.fft_image((2, 3, 9, 12), sd=0.3, decay_power=0.7),
        "lowres_tensor": param.lowres_tensor((4, 3, 12, 14), (2, 3, 5, 7)),
        "lowres_tensor with an offset": param.lowres_tensor((3, 3, 12, 14), (1, 3, 4, 7), offset=2),
        "cppn": param.cppn(8, num_layers=3),
        "cppn with normalization": param.cppn(
            6, num_hidden_channels=5, num_layers=2, normalize=True
        ),
    }


def loss_and_gradient(objectives, render, model, objective, start):
    """Loss of an objective for images, and its gradient, by the module's own hooks."""
    images = torch.from_numpy(start).requires_grad_()
    features = render.hook_model(model, lambda: images)
    model(nn.functional.interpolate(images, SIZE, mode="bilinear", align_corners=True))
    loss = objectives.as_objective(objective)(features)
    loss.backward()
    return loss.item(), images.grad.numpy()


def drawn(render, model, objective, start):
    """Images of a run by plain gradient descent, with nothing random in it."""
    values = torch.from_numpy(start.copy()).requires_grad_()
    kept = render.render_vis(
        model, objective, lambda: ([values], lambda: torch.sigmoid(values)),
        optimizer=lambda params: torch.optim.SGD(params, lr=20.0), transforms=[],
        thresholds=STEPS, progress=False, show_image=False, fixed_image_size=SIZE,
    )  # fmt: skip
    return np.stack(kept)
