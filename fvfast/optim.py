"""Feature visualisation in the Fourier or pixel basis (Olah et al., 2017)."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fvfast._checks import (
    check_callback,
    check_count,
    check_finite,
    check_image_size,
    check_seed,
    check_sorted_range,
)
from fvfast._room import check_kept_images, check_room
from fvfast.ascent import Callback, Gradients, run_ascent
from fvfast.engine.devices import check_device
from fvfast.engine.engine import Engine, EngineAtFirstUse, kept_engine
from fvfast.engine.interrupts import result_kept, torch_state_kept
from fvfast.engine.kept_forms import SHARED, FormStore
from fvfast.engine.passes import Scorer
from fvfast.engine.precision import Precision, check_precision
from fvfast.engine.randomness import SeededGenerators
from fvfast.engine.relu import open_relu_gradients
from fvfast.engine.state import borrowed, model_device
from fvfast.objectives import Objective
from fvfast.ops.philox import Purpose, draw_normal, image_identity
from fvfast.optimizers import OptimizerSpec, ascend, bind_optimizer, check_optimizer, keras_adam
from fvfast.preconditioning import (
    fft_image,
    fft_to_rgb,
    get_fft_scale,
    to_valid_grayscale,
    to_valid_rgb,
)
from fvfast.transformations import (
    Transformation,
    compose_transformations,
    generate_standard_transformations,
    resize,
)

Regularizer = Callable[[torch.Tensor], torch.Tensor]


@result_kept
def optimize(
    objective: Objective,
    optimizer: OptimizerSpec = None,
    nb_steps: int = 256,
    use_fft: bool = True,
    fft_decay: float = 0.85,
    std: float = 0.01,
    regularizers: Sequence[Regularizer] | Regularizer | None = None,
    image_normalizer: str | Callable[[torch.Tensor], torch.Tensor] = "sigmoid",
    values_range: Sequence[float] = (0, 1),
    transformations: Transformation | Sequence[Transformation] | str | None = "standard",
    warmup_steps: int = False,
    custom_shape: Sequence[int] | int | None = (512, 512),
    save_every: int | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    precision: Precision = None,
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
        (H, W) of the images, at least 2 x 2, or one number for squares; None takes the model's
        input size.
    save_every
        Keep the images every so many steps.
    seed
        Any integer. The same seed gives the same images. Transformations draw from the global
        generators of torch, numpy or Python, which are seeded for the run's steps and put back
        after each; they are shared by the batch, so an image alone sees other ones than in a batch.
    progress, callback, device, precision
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
    torch.OutOfMemoryError
        The memory does not hold images of this size, or so many.

    References
    ----------
    Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017. Interface: Xplique 2.0.
    """
    if not isinstance(objective, Objective):
        raise TypeError(f"objective must be an Objective, got {type(objective).__name__}.")
    check_optimizer(optimizer)
    check_callback(callback)
    nb_steps = check_count(nb_steps, "nb_steps", 1)
    if isinstance(warmup_steps, bool):  # False is the default, as in Xplique
        warmup_steps = int(warmup_steps)
    warmup_steps = check_count(warmup_steps, "warmup_steps", 0)
    save_every = None if save_every is None else check_count(save_every, "save_every", 1)
    seed = check_seed(seed)
    std, fft_decay = check_finite(std, "std"), check_finite(fft_decay, "fft_decay")
    low_high = check_sorted_range(values_range, "optimize")
    device = None if device is None else check_device(device)
    check_precision(precision)
    names = objective.combination_names
    channels, *model_size = objective.image_shape
    height, width = check_image_size(custom_shape, model_size, "optimize")
    shape = (len(names), channels, height, width)
    transform = _as_transformation(transformations, min(height, width), channels)
    where = device or model_device(objective.model)
    check_room("optimize", where, len(names), shape[1:], 1, (channels, *model_size))
    if save_every is not None and callback is None:  # which may end the run sooner
        check_kept_images("optimize", save_every, nb_steps, len(names), shape[1:], each=1)
    penalties = _as_regularizers(regularizers)
    normalizer = _as_normalizer(image_normalizer)
    to_valid = to_valid_rgb if channels == 3 else to_valid_grayscale

    with (
        torch_state_kept(),
        torch.inference_mode(False),
        borrowed(objective.model, device) as where,
    ):
        tapped, scorer, _, _ = objective.compile()
        variable = _initial(shape, std, seed, names, use_fft).to(where).requires_grad_()  # (N, ...)
        scale = get_fft_scale(width, height, fft_decay).to(where)

        generators = SeededGenerators(seed, where)

        def image() -> torch.Tensor:
            pixels = fft_to_rgb(shape, variable.transpose(0, 1), scale) if use_fft else variable
            return to_valid(pixels, normalizer, low_high)

        def views() -> torch.Tensor:
            return resize(transform(image()), (model_size[0], model_size[1]))

        def render() -> torch.Tensor:
            with torch.no_grad(), generators.in_place():
                return image()

        with torch.no_grad():
            first = fft_to_rgb(shape, variable.transpose(0, 1), scale) if use_fft else variable
            if not bool(first.isfinite().all()):
                raise ValueError(
                    f"the first image is not finite with std={std:g} and fft_decay={fft_decay:g}: "
                    "make them smaller."
                )
        part_scorer = functools.partial(_scorer_of_part, objective, scorer)

        def start(seen: torch.Tensor) -> contextlib.AbstractContextManager[Engine]:
            return kept_engine(
                tapped, seen[:1], part_scorer, names[0], precision,
                runs_user_code=objective.runs_user_code,
                store=FormStore() if objective.runs_user_code else SHARED,
                seed=seed,
            )  # fmt: skip

        def gradients(_step: int, *, join_activations: bool = True) -> Gradients:
            with torch.enable_grad(), generators.in_place():
                seen = views()
                scores, cotangent = running(seen).gradients(
                    seen, len(names), join_activations=join_activations
                )
                loss = (seen * cotangent).sum()
                for regularizer in penalties:
                    penalty = _penalty(regularizer, seen)
                    scores = scores - penalty.detach()
                    loss = loss - penalty.expand(len(names)).sum()
                (gradient,) = torch.autograd.grad(loss, variable)
                return Gradients(scores, gradient)

        def warm_gradients(step: int) -> Gradients:
            with open_relu_gradients():
                return gradients(step, join_activations=False)

        bound = bind_optimizer(optimizer, variable, keras_adam)
        run = functools.partial(
            run_ascent,
            variable,
            functools.partial(ascend, bound, variable),
            render=render,
            names=names,
            progress=progress,
        )
        with EngineAtFirstUse(start) as running:
            if warmup_steps:
                warm = run(gradients=warm_gradients, nb_steps=warmup_steps, label="warm-up")
                if warm.interrupted:
                    return warm.images, names
            ascent = run(
                gradients=gradients, nb_steps=nb_steps, callback=callback, save_every=save_every
            )
    return ascent.images, names


def _scorer_of_part(objective: Objective, whole: Scorer, first: int, last: int) -> Scorer:
    count = len(objective.combination_names)
    return whole if last - first == count else objective.scorer(range(first, last))


def _penalty(regularizer: Regularizer, images: torch.Tensor) -> torch.Tensor:
    penalty: torch.Tensor | float = regularizer(images)  # as users write them
    if not isinstance(penalty, torch.Tensor):
        penalty = torch.tensor(penalty, dtype=images.dtype, device=images.device)
    if penalty.ndim == 0 or penalty.shape == images.shape[:1]:
        return penalty
    raise ValueError(
        f"a regularizer returned shape {tuple(penalty.shape)} for {len(images)} images; expected "
        f"one penalty per image, ({len(images)},), or a scalar."
    )


def _as_regularizers(regularizers: Any) -> list[Regularizer]:
    given = [] if regularizers is None else regularizers
    given = [given] if callable(given) else list(given)
    for regularizer in given:
        if not callable(regularizer):
            raise TypeError(
                f"regularizers must be functions of images, such as fvfast.regularizers.l1_reg(); "
                f"got {regularizer!r}."
            )
    return given


def _as_normalizer(normalizer: Any) -> Any:
    if callable(normalizer) or normalizer in ("sigmoid", "clip"):
        return normalizer
    raise ValueError(
        f"image_normalizer must be 'sigmoid', 'clip' or a function, got {normalizer!r}."
    )


def _initial(
    shape: tuple[int, int, int, int], std: float, seed: int, names: Sequence[str], use_fft: bool
) -> torch.Tensor:
    """First Fourier coefficients (N, 2, C, H, W // 2 + 1), or pixels (N, C, H, W)."""
    identities = [image_identity(name) for name in names]
    if use_fft:
        buffer = fft_image(shape, std, seed=seed, images=identities)
        return buffer.transpose(0, 1).contiguous()
    return std * draw_normal(shape[1:], seed=seed, purpose=Purpose.BUFFER, images=identities)


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
