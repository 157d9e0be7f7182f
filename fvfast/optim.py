"""Feature visualisation in the Fourier or pixel basis (Olah et al., 2017)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from fvfast._checks import check_size, check_values_range
from fvfast.ascent import Callback, Gradients, run_ascent
from fvfast.engine.relu import open_relu_gradients
from fvfast.engine.state import borrowed
from fvfast.objectives import Objective
from fvfast.ops.philox import Purpose, image_identity, random_words, to_normal
from fvfast.optimizers import OptimizerSpec, ascend, bind_optimizer, keras_adam
from fvfast.preconditioning import (
    fft_image,
    fft_to_rgb,
    get_fft_scale,
    to_valid_grayscale,
    to_valid_rgb,
)
from fvfast.transformations import compose_transformations, generate_standard_transformations

Transformation = Callable[[torch.Tensor], torch.Tensor]


def optimize(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    nb_steps: int = 256,
    use_fft: bool = True,
    fft_decay: float = 0.85,
    std: float = 0.01,
    regularizers: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
    image_normalizer: str | Callable[[torch.Tensor], torch.Tensor] = "sigmoid",
    values_range: Sequence[float] = (0, 1),
    transformations: Transformation | Sequence[Transformation] | str | None = "standard",
    warmup_steps: int = False,
    custom_shape: Sequence[int] | None = (512, 512),
    save_every: int | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
) -> tuple[list[torch.Tensor], list[str]]:
    """Find one image for each combination of an objective, by gradient ascent.

    The user's model is run frozen in evaluation mode and comes back as it was. Interrupting the run
    (Ctrl-C) returns the images so far, with a warning.

    Parameters
    ----------
    objective
        An objective with N combinations.
    optimizer
        A class, a function from a list of tensors to an optimizer, or a torch optimizer, whose
        settings are bound to the images. Default: Adam with learning rate 0.05.
    nb_steps
        Number of steps, at least 1.
    use_fft
        Optimise the Fourier coefficients (True) or the pixels (False).
    fft_decay
        Power with which high frequencies are damped.
    std
        Standard deviation of the initial coefficients or pixels.
    regularizers
        Functions from the images that the model sees (N, C, h, w) to penalties (N,), subtracted
        from the scores: see `fvfast.regularizers`.
    image_normalizer
        "sigmoid", "clip", or a function that maps pixels into [0, 1].
    values_range
        (low, high) of the images that the model takes; reversed ends are sorted.
    transformations
        Function, or list of functions applied in turn, from images (N, C, H, W) to images; None for
        none; "standard" for `fvfast.transformations.generate_standard_transformations`. Images are
        then resized to the model's input.
    warmup_steps
        Steps taken first with the gradients of ReLUs replaced by the identity, which wakes units
        that are dead on the initial image. The optimizer's state carries on.
    custom_shape
        (H, W) of the images, at least 2 x 2; None takes the model's input size.
    save_every
        Keep the images every so many steps.
    seed
        Any integer. The same seed gives the same images. Transformations draw from torch's global
        generator, which is seeded for the run and restored.
    progress, callback, device
        See `fvfast.maco`.

    Returns
    -------
    images
        List of (N, C, H, W) tensors, float32 on the CPU: one for each kept step, the final one
        last.
    names
        The N names.

    Raises
    ------
    ValueError
        Sizes, steps or ranges outside those above, or a score that does not depend on the image.
    TypeError
        An argument of another type.

    References
    ----------
    Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017. Interface: Xplique 2.0.
    """
    if not isinstance(objective, Objective):
        raise TypeError(f"objective must be an Objective, got {type(objective).__name__}.")
    if nb_steps < 1:
        raise ValueError(f"nb_steps must be at least 1, got {nb_steps}.")
    model, objective_function, names, input_shape = objective.compile()
    count, channels, *model_size = input_shape
    height, width = model_size if custom_shape is None else custom_shape
    check_size(height, width, "optimize")
    low_high = check_values_range(sorted(values_range), "optimize")
    shape = (count, channels, height, width)
    transform = _as_transformation(transformations, min(height, width), channels)
    to_valid = to_valid_rgb if channels == 3 else to_valid_grayscale
    identities = [image_identity(name) for name in names]

    with (
        torch.inference_mode(False),
        torch.random.fork_rng(),
        borrowed(objective.model, device) as where,
    ):
        torch.manual_seed(seed)
        if use_fft:
            variable = fft_image(shape, std, seed=seed, images=identities).transpose(0, 1)
        else:
            variable = _initial_pixels(shape, std, seed, identities)
        variable = variable.contiguous().to(where).requires_grad_()  # (N, ...)
        scale = get_fft_scale(width, height, fft_decay).to(where)

        def image() -> torch.Tensor:
            pixels = fft_to_rgb(shape, variable.transpose(0, 1), scale) if use_fft else variable
            return to_valid(pixels, image_normalizer, low_high)

        def gradients(_step: int) -> Gradients:
            with torch.enable_grad():
                images = transform(image())
                images = F.interpolate(images, model_size, mode="bilinear", align_corners=False)
                scores = objective_function(model(images))
                for regularizer in regularizers or ():
                    scores = scores - regularizer(images)
                if not scores.requires_grad:
                    raise ValueError(
                        f"the score of {names[0]} does not depend on the image: no gradient "
                        "reaches it."
                    )
                (gradient,) = torch.autograd.grad(scores.sum(), variable)
            return Gradients(scores.detach(), gradient)

        def render() -> torch.Tensor:
            with torch.no_grad():
                return image()

        bound = bind_optimizer(optimizer, variable, keras_adam)
        with open_relu_gradients():
            for step in range(int(warmup_steps)):
                ascend(bound, variable, gradients(step).variable)
        ascent = run_ascent(
            variable,
            bound,
            gradients,
            render,
            names=names,
            nb_steps=nb_steps,
            progress=progress,
            callback=callback,
            save_every=save_every,
        )
    return ascent.images, names


def _as_transformation(
    transformations: Transformation | Sequence[Transformation] | str | None,
    size: int,
    channels: int,
) -> Transformation:
    if transformations is None:
        return lambda images: images
    if transformations == "standard":
        return generate_standard_transformations(size, channels)
    if callable(transformations):
        return transformations
    if not isinstance(transformations, str) and all(callable(step) for step in transformations):
        return compose_transformations(list(transformations))
    raise TypeError(
        "transformations must be 'standard', None, a function or a list of functions; got "
        f"{transformations!r}."
    )


def _initial_pixels(
    shape: tuple[int, int, int, int], std: float, seed: int, identities: Sequence[int]
) -> torch.Tensor:
    count = shape[1] * shape[2] * shape[3]
    words = random_words(
        count + count % 2, seed=seed, purpose=Purpose.BUFFER, images=identities
    )  # normal numbers come in pairs
    return std * to_normal(words)[:, :count].unflatten(1, shape[1:])
