"""Draws images: Lucent's ``render``."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from fvfast._shared.progress_bars import tqdm
from fvfast.engine.borrowing.interrupts import opened, result_kept
from fvfast.engine.borrowing.state import borrowed, unwrap
from fvfast.lucent.layer_names import LayerNames
from fvfast.lucent.optvis import param
from fvfast.lucent.optvis.devices import parameters_on
from fvfast.lucent.optvis.display import export as export
from fvfast.lucent.optvis.display import notebook_display
from fvfast.lucent.optvis.display import show as show
from fvfast.lucent.optvis.display import tensor_to_img_array as tensor_to_img_array
from fvfast.lucent.optvis.display import view as view
from fvfast.lucent.optvis.features import ModuleHook as ModuleHook
from fvfast.lucent.optvis.features import hook_model as hook_model
from fvfast.lucent.optvis.network import ObjectiveOnNetwork
from fvfast.lucent.optvis.objective import Objective, ObjectiveFunction
from fvfast.lucent.optvis.objectives import as_objective
from fvfast.lucent.optvis.param.color import Parameters
from fvfast.lucent.optvis.settings import (
    Images,
    MakeOptimizer,
    check_functions,
    checked_name,
    checked_optimizer,
    checked_size,
    checked_thresholds,
    checked_transforms,
    default_optimizer,
    what_the_network_sees,
)
from fvfast.lucent.optvis.steps import Array, Steps
from fvfast.lucent.optvis.transform import compose, standard_transforms
from fvfast.transformations import Transformation


@result_kept
def render_vis(
    model: nn.Module,
    objective_f: str | Objective | ObjectiveFunction,
    param_f: Callable[[], Parameters] | None = None,
    optimizer: MakeOptimizer | None = None,
    transforms: Sequence[Transformation] | None = None,
    thresholds: Sequence[int] = (512,),
    verbose: bool = False,
    preprocess: bool = True,
    progress: bool = True,
    show_image: bool = True,
    save_image: bool = False,
    image_name: str | None = None,
    show_inline: bool = False,
    fixed_image_size: int | Sequence[int] | None = None,
) -> list[Array]:
    """Draw images that minimize an objective.

    The model is run frozen in evaluation mode and comes back as it was. Interrupting the run
    (Ctrl-C) returns the images so far, with a warning; twice within three seconds, it raises
    `KeyboardInterrupt`. ``torch.manual_seed`` decides everything random.

    Parameters
    ----------
    model
        The network.
    objective_f
        "layer:channel", an objective of `fvfast.lucent.optvis.objectives`, or a function of T that
        returns a loss.
    param_f
        Function that returns what is optimized, and a function of the images. Default:
        ``param.image(128)``.
    optimizer
        Function that makes an optimizer of a list of tensors. Default: Adam with learning rate
        0.05.
    transforms
        List of functions of images. Default: ``transform.standard_transforms``.
    thresholds
        Steps after which images are returned; the largest is the number of steps.
    verbose
        Print the loss before the first step and at each threshold.
    preprocess
        Normalize the images, in [0, 1], by ImageNet's mean and deviation, as torchvision's networks
        expect, or as Lucid's InceptionV1 does if the model has this name.
    progress
        Show a bar.
    show_image
        Show the images in Pillow's viewer at the end, where there is a display.
    save_image
        Save the images at the end.
    image_name
        File to save. Default: "image.jpg".
    show_inline
        Show the images in a notebook at the end, and with ``verbose`` at each threshold.
    fixed_image_size
        Size, or (height, width), of what the network is shown. Default: the size of the transformed
        images, or 224 if a side of the images is shorter.

    Returns
    -------
    images
        One array (N, H, W, C) with values in [0, 1] for each threshold.

    Raises
    ------
    TypeError, ValueError
        An argument, or what a function returns, is not what is described above; a layer or a
        channel is not there; or the loss does not depend on the images.
    RuntimeError
        The network fails before a layer of the objective, or does not call it.

    References
    ----------
    Interface: Lucent 0.1.8, https://github.com/greentfrapp/lucent.
    """
    names, network, objective = LayerNames(model), unwrap(model), as_objective(objective_f)
    check_functions(param_f=param_f, optimizer=optimizer)
    steps = checked_thresholds(thresholds)
    functions = checked_transforms(standard_transforms if transforms is None else transforms)
    size = checked_size(fixed_image_size)
    name = checked_name(image_name, save_image=save_image)
    if show_inline:
        notebook_display()  # which says what to install

    def on_image(step: int, image: Array, loss: float) -> None:
        if verbose:
            tqdm.write(f"Loss at step {step}: {loss:.3f}")
            if show_inline:
                show(image)

    with torch.inference_mode(False), borrowed(network) as device:
        with parameters_on(device), torch.enable_grad():
            images = Images.of(opened(param_f or (lambda: param.image(128))))
        maker = optimizer or default_optimizer
        with torch.no_grad():
            first = opened(images)
        seen = what_the_network_sees(
            network, functions, first, preprocess=preprocess, fixed_image_size=size
        )
        with ObjectiveOnNetwork(network, names, objective) as watched:
            run = Steps(
                images, checked_optimizer(maker(images.parameters)), compose(seen), watched, device
            )
            if verbose:
                tqdm.write(f"Initial loss: {run.first_loss():.3f}")
            kept = run.take(steps, progress=progress, on_image=on_image)
    last = torch.from_numpy(kept[-1]).permute(0, 3, 1, 2)
    if save_image:
        export(last, name)
    if show_inline:
        show(kept[-1])
    elif show_image:
        view(last)
    return kept
