"""Measures pictures of inner channels, by the artist and by networks that had no part in them.

    python -m benchmarks.photographs build/photographs
    python -m benchmarks.quality_channels

Each channel, seed and recipe is one run of `fvfast.maco` or `fvfast.optimize` on EfficientNet-Lite0
with its ImageNet weights. The channels are of two layers, a middle and a late one, both outputs of
a ReLU6. Two judges look at the evaluation crops of a picture:

- the artist's network itself: the mean activation of the channel, as a multiple of the 99.9th
  percentile of its mean activation over crops of photographs;
- Lite1 and Lite2: the mean activation of the channel's twin (see `benchmarks.quality_twins`), as a
  percentile of its mean activations over crops of photographs that the twin was not found with, and
  as a multiple of their 99th percentile. As a control, the same percentile for the twin of another
  channel, the next one of the same layer, which the picture was not made for.

Channels are taken in an order that is drawn once. Those without a twin in both networks, or that
never vary, are left out before any picture is drawn, and listed. Each finished run is appended to
the results at once, and runs whose results exist are not repeated.
"""

import argparse
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.harness import RESULTS
from benchmarks.quality_artists import artist_of
from benchmarks.quality_channels_report import print_channels
from benchmarks.quality_results import Row
from benchmarks.quality_runs import (
    MACHINE_COLUMNS,
    RECIPE_COLUMNS,
    TIME_COLUMNS,
    Run,
    add_photographs_option,
    add_run_options,
    check_methods,
    check_photographs,
    check_run_options,
    do_runs,
    run_and_report,
)
from benchmarks.quality_twins import (
    CROPS,
    DEPTHS,
    Twin,
    block_of,
    channel_means,
    find_twins,
    means_of_photographs,
    nonlinear_layers,
)
from fvfast import Objective
from fvfast.cli.terminal import console
from fvfast.evaluation.metrics import evaluation_boxes, evaluation_crops
from fvfast.models import LoadedModel, load_model

ARTIST = "efficientnet_lite0"
JUDGES = ("efficientnet_lite1", "efficientnet_lite2")
LAYERS = ("_blocks.5._swish", "_blocks.14._swish")
DEFAULT_RECIPES = ("fast", "pyramid")
OWN_PERCENTILE = 99.9

COLUMNS = (
    *MACHINE_COLUMNS, "network", *RECIPE_COLUMNS, "layer", "channel", "seed",
    "photographs", "evaluation_crops", "nb_steps", "step", *TIME_COLUMNS,
    "mean_activation", "own_multiple",
    *(f"{judge}_{column}" for judge in ("lite1", "lite2")
      for column in ("layer", "channel", "correlation", "percentile", "multiple",
                     "control_percentile")),
)  # fmt: skip
KEY = (
    "processor", "threads", "network", *RECIPE_COLUMNS, "layer", "channel", "seed", "photographs",
    "evaluation_crops",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Channel:
    """A channel of the artist's network, and its twins.

    Attributes
    ----------
    layer, index
        Which one it is.
    usual
        The 99.9th percentile of its mean activation over crops of photographs.
    twins
        One in each of `JUDGES`.
    controls
        The twins of another channel.
    """

    layer: str
    index: int
    usual: float
    twins: tuple[Twin, ...]
    controls: tuple[Twin, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.layer} {self.index}"


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_options(parser, RESULTS / "quality_channels.csv", DEFAULT_RECIPES)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), help="nonlinear outputs")
    parser.add_argument("--channels", type=int, default=12, help="of each layer")
    add_photographs_option(parser)
    parser.add_argument(
        "--correlation", type=float, default=0.5, help="least correlation of a channel's twins"
    )
    arguments = parser.parse_args(argv)
    if arguments.channels < 1:
        parser.error(f"--channels must be at least 1, got {arguments.channels}")
    check_run_options(parser, arguments, COLUMNS, KEY)
    check_photographs(parser, arguments)
    check_methods(parser, arguments.all_recipes)
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = arguments_of(argv)
    run_and_report(arguments, lambda: run_all(arguments), print_channels)


def run_all(arguments: argparse.Namespace) -> list[Row]:
    """Do the runs that are not in the results yet; return the rows of all requested runs."""
    artist, own = load_model(ARTIST), load_model(ARTIST)
    judges = [load_model(name) for name in JUDGES]
    channels = [
        channel
        for layer in arguments.layers
        for channel in choose_channels(arguments, own, judges, layer)
    ]
    photographs = f"{len(list(arguments.photographs.rglob('*.jpg')))} x {CROPS}"
    plan = [
        Run(recipe, channel, channel.name, seed, {
            "network": ARTIST, "layer": channel.layer, "channel": channel.index,
            "photographs": photographs, "evaluation_crops": len(evaluation_boxes()),
        })
        for channel in channels
        for seed in arguments.seeds
        for recipe in arguments.all_recipes
    ]  # fmt: skip
    return do_runs(
        plan, arguments,
        lambda recipe: artist_of(
            recipe, artist, checkpoints=1, precision=arguments.precision,
            threads=arguments.threads, objective_of=channel_objective,
        ),
        lambda run, image: judge(image, run.subject, own, judges),
        lambda row: f"{row['own_multiple']:.2f} times the artist's usual, percentiles "
        f"{row['lite1_percentile']:.1f} and {row['lite2_percentile']:.1f}",
    )  # fmt: skip


def channel_objective(loaded: LoadedModel, channel: Channel) -> Objective:
    """Make the objective of a channel, as the command line does."""
    return Objective.channel(
        loaded.model, channel.layer, channel.index, names=channel.name,
        input_shape=loaded.input_shape, preprocess=loaded.preprocess,
    )  # fmt: skip


def choose_channels(
    arguments: argparse.Namespace, own: LoadedModel, judges: Sequence[LoadedModel], layer: str
) -> list[Channel]:
    """Choose channels of a layer, and say which ones were left out for want of a twin."""
    cache = arguments.photographs.parent / "quality_channels"
    folder = arguments.photographs
    deepest = max(map(block_of, nonlinear_layers(own.model, 0.5, 0.5)))
    means = means_of_photographs(folder, own, [layer], cache)[layer]
    twins = [
        find_twins(means, means_of_photographs(folder, judge, near, cache))
        for judge in judges
        for near in [nonlinear_layers(judge.model, block_of(layer) / deepest, DEPTHS)]
    ]
    usual = np.percentile(means.reshape(-1, means.shape[2]), OWN_PERCENTILE, axis=0)
    chosen: list[Channel] = []
    left_out: list[str] = []
    for index in np.random.default_rng(0).permutation(means.shape[2]).tolist():
        if len(chosen) == arguments.channels + 1:
            break  # one more than are drawn: the control of the last
        pair = tuple(found[index] for found in twins)
        least = min(twin.correlation for twin in pair)
        if least >= arguments.correlation and usual[index] > 0:
            chosen.append(Channel(layer, index, float(usual[index]), pair))
        else:
            left_out.append(f"{index} ({least:.2f})")
    chosen = [
        dataclasses.replace(channel, controls=control.twins)
        for channel, control in itertools.pairwise(chosen)
    ]
    told = ", ".join(
        f"{channel.index} ({' and '.join(f'{twin.correlation:.2f}' for twin in channel.twins)})"
        for channel in chosen
    )
    console().print(
        f"{layer}: channels, with their twins' correlations: {told or 'none'}. Left out, with the "
        f"lower correlation: {', '.join(left_out) or 'none'}.",
        soft_wrap=True,
    )
    return chosen


def judge(
    image: torch.Tensor, channel: Channel, own: LoadedModel, judges: Sequence[LoadedModel]
) -> Row:
    """Compute the metrics of a picture (1, C, H, W) in the artist's range, which all share."""
    activation = mean_activation(image, own, channel.layer, channel.index)
    row: Row = {
        "mean_activation": float(f"{activation:.5g}"),
        "own_multiple": float(f"{activation / channel.usual:.5g}"),
    }
    for network, twin, control in zip(judges, channel.twins, channel.controls, strict=True):
        assert network.values_range == own.values_range
        short = network.name.rpartition("_")[2]
        value = mean_activation(image, network, twin.layer, twin.channel)
        other = mean_activation(image, network, control.layer, control.channel)
        row |= {
            f"{short}_layer": twin.layer,
            f"{short}_channel": twin.channel,
            f"{short}_correlation": round(twin.correlation, 3),
            f"{short}_percentile": round(twin.percentile(value), 3),
            f"{short}_multiple": float(f"{twin.multiple(value):.5g}"),
            f"{short}_control_percentile": round(control.percentile(other), 3),
        }
    return row


def mean_activation(image: torch.Tensor, network: LoadedModel, layer: str, channel: int) -> float:
    """Return the mean activation of a channel over the evaluation crops of a picture."""
    (crops,) = evaluation_crops(image, network.input_shape[1:])
    return float(channel_means(network.model, [layer], crops)[layer][:, channel].mean())


if __name__ == "__main__":
    main()
