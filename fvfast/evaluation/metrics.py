"""How good a picture is: its score, what other networks see in it, and how close two pictures are.

Networks are shown the same fixed crops of every picture, without noise, so that pictures of
different recipes, sizes and libraries are judged in the same way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from fvfast._shared.checks import check_sorted_range
from fvfast.engine.borrowing.interrupts import opened
from fvfast.engine.borrowing.state import borrowed
from fvfast.engine.network.input_type import input_dtype
from fvfast.engine.passes import run_views
from fvfast.evaluation.crops import check_pictures, evaluation_boxes, evaluation_crops
from fvfast.models import LoadedModel
from fvfast.objectives import Objective
from fvfast.objectives.targets import Ids, as_ids

__all__ = [
    "Transferability",
    "agreement",
    "evaluation_boxes",
    "evaluation_crops",
    "mean_logit",
    "mean_score",
    "transferability",
]

_RANGE_TOLERANCE = 1e-3  # of the width of values_range: rounding, and 16-bit pictures


class Transferability(NamedTuple):
    """What M networks see in N images.

    Attributes
    ----------
    ranks
        int64 (N, M): place of the class among the network's classes, 1 for the most probable.
    probabilities
        float32 (N, M), in [0, 1]: probability of the class.
    networks
        The M names of the networks.
    """

    ranks: torch.Tensor
    probabilities: torch.Tensor
    networks: list[str]


def mean_score(
    images: torch.Tensor, objective: Objective, *, boxes: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the score of an objective, averaged over the evaluation crops.

    The scale is the objective's own: the score of a neuron or channel is divided by the number of
    neurons or channels of its layer. `mean_logit` returns the plain logit of a class. The model
    runs frozen in evaluation mode and is restored afterwards.

    Parameters
    ----------
    images
        (N, C, H, W), any size, in the range that the objective's model takes.
    objective
        With one combination, which scores all images, or with N, one for each image in order.
    boxes
        (K, 4), see `evaluation_boxes`, which is the default.

    Returns
    -------
    scores
        float32 (N,), on the CPU.

    Raises
    ------
    TypeError
        ``images`` is not a tensor, or ``objective`` not an `Objective`.
    ValueError
        Shapes or numbers do not match, or images are not finite.
    """
    if not isinstance(objective, Objective):
        raise TypeError(
            f"mean_score: objective must be an Objective, got {type(objective).__name__}; "
            "mean_logit takes a network and a class."
        )
    channels, *size = objective.image_shape
    check_pictures(images, "mean_score", channels)
    combinations = len(objective.combination_names)
    if combinations not in (1, len(images)):
        raise ValueError(
            f"mean_score: the objective has {combinations} combinations for {len(images)} images; "
            "expected one for all images, or one for each."
        )
    scores = []
    with torch.no_grad(), borrowed(objective.model) as device:
        # One image at a time: the memory that is needed does not grow with their number.
        for index, image in enumerate(images.to(device)):
            chosen = index if combinations > 1 else 0
            model, score, _, _ = objective.compile([chosen])
            (crops,) = evaluation_crops(image[None], size, boxes)
            scores.append(score(run_views(model, crops)).cpu())
    return torch.cat(scores)


def mean_logit(
    images: torch.Tensor,
    class_index: Ids,
    network: LoadedModel,
    *,
    values_range: Sequence[float] | None = None,
    boxes: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the logit of a class, averaged over the evaluation crops.

    Parameters
    ----------
    images
        (N, C, H, W), any size, in ``values_range``.
    class_index
        Index of the class among the network's outputs, from 0; or N of them, one for each image.
    network
        A classifier: its outputs are logits (B, classes). It runs frozen in evaluation mode and is
        restored afterwards.
    values_range
        (low, high) of the images, which are mapped linearly to the network's own range. Default:
        the network's.
    boxes
        (K, 4), see `evaluation_boxes`, which is the default.

    Returns
    -------
    logits
        float32 (N,), on the CPU.

    Raises
    ------
    TypeError
        ``images`` is not a tensor, or ``network`` not a `fvfast.models.LoadedModel`.
    ValueError
        Shapes do not match, images are not finite or not in the range, or the network does not have
        the class.
    """
    return _per_image(
        "mean_logit", images, class_index, network, values_range, boxes,
        lambda logits, index: logits[:, index].mean(),
    ).float()  # fmt: skip


def transferability(
    images: torch.Tensor,
    class_index: Ids,
    networks: Sequence[LoadedModel],
    *,
    values_range: Sequence[float],
    boxes: torch.Tensor | None = None,
) -> Transferability:
    """Compute rank and probability of a class in networks other than the one that was optimized.

    The softmax of each crop's logits is averaged over the evaluation crops, as is usual if a
    classifier sees several crops of a picture. The probability is the entry of the class in this
    mean; the rank is one more than the number of classes with a higher entry.

    Parameters
    ----------
    images
        (N, C, H, W), any size, in ``values_range``.
    class_index
        Index of the class among the outputs, the same in all networks, from 0; or N of them, one
        for each image.
    networks
        M classifiers. They run frozen in evaluation mode and are restored afterwards.
    values_range
        (low, high) of the images: the range of the network that they were made for. They are mapped
        linearly to each network's own range.
    boxes
        (K, 4), see `evaluation_boxes`, which is the default.

    Returns
    -------
    result
        Ranks and probabilities (N, M), on the CPU, and the networks' names.

    Raises
    ------
    TypeError, ValueError
        See `mean_logit`; also ValueError if there is no network.
    """
    if not networks:
        raise ValueError("transferability: networks is empty; expected at least one network.")

    def judge(logits: torch.Tensor, index: int) -> torch.Tensor:
        mean = logits.softmax(1).mean(0)
        return torch.stack([(mean > mean[index]).sum() + 1, mean[index]])

    judged = torch.stack(
        [
            _per_image("transferability", images, class_index, network, values_range, boxes, judge)
            for network in networks
        ],
        dim=1,
    )  # (N, M, 2)
    names = [network.name for network in networks]
    return Transferability(judged[..., 0].long(), judged[..., 1].float(), names)


def agreement(images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Compare pictures with those of a reference run, by Pearson's correlation of their values.

    The correlation does not depend on brightness and contrast, so either picture may have any
    range. It also serves to compare transparencies.

    Parameters
    ----------
    images, reference
        Pictures or transparencies of the same shape: (N, C, H, W), or (C, H, W) for a single one.

    Returns
    -------
    correlation
        float32 (N,), or a scalar for a single picture, in [-1, 1] and on the CPU: 1 for the same
        picture, near 0 for unrelated ones.

    Raises
    ------
    TypeError
        An argument is not a tensor.
    ValueError
        Shapes differ, values are not finite, or all values of a picture are the same, for which no
        correlation is defined.
    """
    for name, given in (("images", images), ("reference", reference)):
        if not isinstance(given, torch.Tensor):
            raise TypeError(f"agreement: {name} must be a tensor, got {type(given).__name__}.")
    if images.shape != reference.shape:
        raise ValueError(
            f"agreement: images have shape {tuple(images.shape)} but the reference "
            f"{tuple(reference.shape)}; expected the same. Resize the larger pictures first "
            "(torch.nn.functional.interpolate with antialias=True)."
        )
    single = images.ndim == 3
    batches = []
    for name, given in (("images", images), ("reference", reference)):
        batch = given[None] if single else given
        check_pictures(batch, "agreement", name=name)
        batches.append(batch.detach().to("cpu", torch.float64).flatten(1))
    for name, batch in zip(("images", "reference"), batches, strict=True):
        flat = (batch.amax(1) == batch.amin(1)).nonzero().flatten().tolist()
        if flat:
            raise ValueError(
                f"agreement: {name}[{flat[0]}] has one value only ({batch[flat[0], 0].item():g}); "
                "a correlation needs values that vary."
            )
    first, second = (F.normalize(batch - batch.mean(1, keepdim=True), dim=1) for batch in batches)
    correlation = (first * second).sum(1).clamp(-1.0, 1.0).float()
    return correlation[0] if single else correlation


def _per_image(
    function: str,
    images: torch.Tensor,
    class_index: Ids,
    network: LoadedModel,
    values_range: Sequence[float] | None,
    boxes: torch.Tensor | None,
    judge: Callable[[torch.Tensor, int], torch.Tensor],
) -> torch.Tensor:
    """Stack the results of ``judge`` for each image, given its logits (K, classes) and class."""
    if not isinstance(network, LoadedModel):
        raise TypeError(
            f"{function}: expected a fvfast.models.LoadedModel, which says what images the network "
            f"takes, got {type(network).__name__}; make one with load_model(name) or "
            "LoadedModel(model, name, input_shape, values_range)."
        )
    channels, *size = network.input_shape
    check_pictures(images, function, channels)
    given = network.values_range if values_range is None else values_range
    wanted = check_sorted_range(network.values_range, function)
    mapped = _mapped(images, check_sorted_range(given, function), wanted, function)
    indices = _class_indices(class_index, len(images), function)
    results = []
    with torch.no_grad(), borrowed(network.model) as device:
        # One image at a time: the memory that is needed does not grow with their number.
        for image, index in zip(mapped.to(device), indices, strict=True):
            (crops,) = evaluation_crops(image[None], size, boxes)
            logits = _logits(crops, network)
            if not 0 <= index < logits.shape[1]:
                raise ValueError(
                    f"{function}: class_index is {index}; {network.name} has {logits.shape[1]} "
                    f"classes: expected 0 to {logits.shape[1] - 1}."
                )
            results.append(judge(logits, index).cpu())
    return torch.stack(results)


def _logits(crops: torch.Tensor, network: LoadedModel) -> torch.Tensor:
    """Compute the logits (K, classes) of crops in float64, in which softmax has no ties."""

    def run(part: torch.Tensor) -> list[torch.Tensor]:
        if network.preprocess is not None:
            part = network.preprocess(part)
        outputs = opened(network.model, part.to(input_dtype(network.model, part)))
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or len(outputs) != len(part):
            is_tensor = isinstance(outputs, torch.Tensor)
            got = tuple(outputs.shape) if is_tensor else type(outputs).__name__
            raise ValueError(
                f"{network.name} puts out {got} for {len(part)} images; expected the logits of a "
                f"classifier, ({len(part)}, classes)."
            )
        return [outputs]

    (logits,) = run_views(run, crops)
    return logits.double()


def _mapped(
    images: torch.Tensor,
    given: tuple[float, float],
    wanted: tuple[float, float],
    function: str,
) -> torch.Tensor:
    """Map images linearly from one range to another."""
    low, high = given
    slack = _RANGE_TOLERANCE * (high - low)
    least, most = images.min().item(), images.max().item()
    if least < low - slack or most > high + slack:
        raise ValueError(
            f"{function}: the images have values from {least:g} to {most:g}, outside values_range "
            f"({low:g}, {high:g}); give the range that the images were made with."
        )
    images = images.detach().float()
    if given == wanted:
        return images
    scale = (wanted[1] - wanted[0]) / (high - low)
    return (images - low) * scale + wanted[0]


def _class_indices(class_index: Ids, count: int, function: str) -> list[int]:
    """Return one index per image."""
    indices = as_ids(class_index, "class_index")
    if len(indices) == 1:
        return indices * count
    if len(indices) != count:
        raise ValueError(
            f"{function}: class_index has {len(indices)} entries for {count} images; expected one "
            "for all images, or one for each."
        )
    return indices
