"""Records what Lucent computes, for test_lucent_recorded.py.

Run in an environment of its own, with Lucent 0.1.8 and what it needs::

    pip install torch torchvision tqdm ipython scikit-learn "kornia<=0.4.1" torch-lucent==0.1.8
    python tests/lucent/record_lucent.py tests/lucent/recorded.npz
"""

import sys

import numpy as np
import torch
from lucent.optvis import objectives, param, render, transform
from recorded_cases import (
    IMAGES,
    drawn,
    loss_and_gradient,
    objective_cases,
    parametrization_cases,
    small_network,
    transform_cases,
)


def record():
    """Compute all arrays, by name."""
    torch.manual_seed(0)
    model = small_network()
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    start = torch.randn(IMAGES).numpy()
    vectors = [torch.randn(6).numpy(), torch.randn(8).numpy()]
    arrays = {"start": start, "vector_6": vectors[0], "vector_8": vectors[1]}
    arrays |= {f"weights/{name}": one.numpy() for name, one in model.state_dict().items()}
    for name, objective in objective_cases(objectives, vectors).items():
        loss, gradient = loss_and_gradient(objectives, render, model, objective, start)
        arrays[f"loss/{name}"], arrays[f"gradient/{name}"] = np.float32(loss), gradient
        arrays[f"drawn/{name}"] = drawn(render, model, objective, start)
    square = torch.rand(2, 3, 16, 16)
    arrays["square"] = square.numpy()
    for name, function in transform_cases(transform).items():
        arrays[f"transformed/{name}"] = function(square).numpy()
    for name, (params, image) in parametrization_cases(param).items():
        for index, one in enumerate(params):
            arrays[f"parameters/{name}/{index:02}"] = one.detach().numpy()
        arrays[f"image/{name}"] = image().detach().numpy()
    return arrays


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **record())
