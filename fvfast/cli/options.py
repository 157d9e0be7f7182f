"""The arguments and options that the subcommands of the console command share."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fvfast.cli.arguments import LARGEST_SEED, MOST_STEPS, MOST_TOGETHER
from fvfast.engine.precision import PrecisionName

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="efficientnet_lite0 (or 1, 2), torchvision:NAME, timm:NAME (add ?weights=none for "
        "random weights), or path.to.module:factory.",
        show_default=False,
    ),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="NAME_OR_INDEX",
        help="Layer to read, by name or index, as `fvfast layers MODEL` lists them; -1 is the "
        "last layer. Where a number may be both, name:3 or index:3. Default for --class: the last "
        "layer.",
        show_default=False,
    ),
]
ChannelOption = Annotated[
    str | None,
    typer.Option("--channel", "-c", metavar="IDS", help="Channels, such as 3,5-9."),
]
NeuronOption = Annotated[
    str | None,
    typer.Option(
        "--neuron",
        "-n",
        metavar="IDS",
        help="Neurons, such as 0-9 (flat, in the order of the output's axes, as `fvfast layers` "
        "shows them).",
    ),
]
ChannelAxisOption = Annotated[
    int | None,
    typer.Option(
        "--channel-axis",
        help="Axis of the channels in the layer's output, without the batch; -1 is the last.",
        show_default="what the layers around tell, as in `fvfast layers`",
    ),
]
ClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help='Class, by name ("coffee mug") or index. May be repeated.',
    ),
]
WholeLayerOption = Annotated[
    bool, typer.Option("--whole-layer", help="Maximize the mean square of the whole layer.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Draw and replace pictures that are there. Without it, those that were made with the "
        "same settings are kept, those that were interrupted are drawn again, and others are an "
        "error.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed",
        min=-LARGEST_SEED - 1,
        max=LARGEST_SEED,
        help="The same seed gives the same pictures.",
        show_default=True,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, mps, ...",
        show_default="a GPU if there is one, else the CPU",
    ),
]
PrecisionOption = Annotated[
    PrecisionName | None,
    typer.Option(
        "--precision",
        help="Type that the network runs in; auto: the fastest that agrees with its own.",
        show_default="the network's own",
    ),
]
BatchOption = Annotated[
    int,
    typer.Option("--batch-size", min=1, max=MOST_TOGETHER, help="Pictures optimized together."),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--values-range",
        metavar="LOW,HIGH",
        help="Lowest and highest value of the images that the network takes, for a factory that "
        "returns a plain module.",
        show_default="the network's own",
    ),
]
ProgressOption = Annotated[bool, typer.Option("--progress/--no-progress", help="Show progress.")]


def steps_option(function: Callable[..., Any]) -> Any:
    """Return the option for the number of steps of `fvfast.maco` or `fvfast.optimize`."""
    return typer.Option(
        "--steps",
        min=1,
        max=MOST_STEPS,
        help="Optimization steps.",
        show_default=shown(function, "nb_steps"),
    )


def size_option(default: tuple[int, int]) -> Any:
    """Return the option for the size of images."""
    height, width = default
    return typer.Option(
        "--size",
        metavar="SIZE",
        help="512, or HEIGHTxWIDTH.",
        show_default=str(height) if height == width else f"{height}x{width}",
    )


def default_of(function: Callable[..., Any], argument: str) -> Any:
    """Return the default of an argument, as the function's signature has it."""
    return inspect.signature(function).parameters[argument].default


def shown(function: Callable[..., Any], argument: str) -> str:
    """Return the default of an argument for the help."""
    return str(default_of(function, argument))
