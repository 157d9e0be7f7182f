"""The arguments and options that the subcommands of the console command share."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fvfast.cli.arguments import (
    LARGEST_SEED,
    MOST_CROPS,
    MOST_STEPS,
    MOST_TOGETHER,
    check_finite_option,
    parse_range,
    parse_schedule,
    parse_size,
)
from fvfast.engine.compiled.choice import CompileChoice
from fvfast.engine.precision import PrecisionName
from fvfast.maco import maco

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="efficientnet_lite0 (or 1, 2), torchvision:NAME, timm:NAME (add ?weights=none for "
        "random weights), or path.to.module:factory.",
        show_default=False,
    ),
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
CompileOption = Annotated[
    Literal["auto", "always"] | None,
    typer.Option(
        "--compile",
        help="Compile the network with TorchInductor, which may take minutes: always, or auto, "
        "if the run is long enough. It is used if it is faster.",
        show_default="never",
    ),
]
BatchOption = Annotated[
    int,
    typer.Option("--batch-size", min=1, max=MOST_TOGETHER, help="Pictures optimized together."),
]
RangeOption = Annotated[
    Any,
    typer.Option(
        "--values-range",
        metavar="LOW,HIGH",
        parser=parse_range,
        help="Lowest and highest value of the images that the network takes, for a factory that "
        "returns a plain module.",
        show_default="the network's own",
    ),
]
SaveEveryOption = Annotated[
    int | None,
    typer.Option(
        "--save-every",
        metavar="STEPS",
        min=1,
        max=MOST_STEPS,
        help="Also write the images after every so many steps, into the folder OUT/steps.",
        show_default="only the last",
    ),
]
ProgressOption = Annotated[bool, typer.Option("--progress/--no-progress", help="Show progress.")]


def compiled_as(option: Literal["auto", "always"] | None) -> CompileChoice | None:
    """Return the setting that the option ``--compile`` stands for; None where it is not given."""
    return True if option == "always" else option


def steps_option(function: Callable[..., Any]) -> Any:
    """Return the option for the number of steps of `fvfast.maco` or `fvfast.optimize`."""
    return typer.Option(
        "--steps",
        min=1,
        max=MOST_STEPS,
        help="Optimization steps.",
        show_default=shown(function, "nb_steps"),
    )


def schedule_option(flag: str, what: str, default: str) -> Any:
    """Return the option for a number that may change from step to step."""
    return typer.Option(
        flag,
        metavar="VALUE",
        parser=parse_schedule,
        help=f"{what}: a number, or FIRST,LAST for a linear change over the steps.",
        show_default=default,
    )


def size_option(default: tuple[int, int]) -> Any:
    """Return the option for the size of images."""
    height, width = default
    return typer.Option(
        "--size",
        metavar="SIZE",
        parser=parse_size,
        help="512, or HEIGHTxWIDTH.",
        show_default=str(height) if height == width else f"{height}x{width}",
    )


def default_of(function: Callable[..., Any], argument: str) -> Any:
    """Return the default of an argument, as the function's signature has it."""
    return inspect.signature(function).parameters[argument].default


def shown(function: Callable[..., Any], argument: str) -> str:
    """Return the default of an argument for the help."""
    return str(default_of(function, argument))


def crops_option(function: Callable[..., Any]) -> Any:
    """Return the option for the number of crops."""
    return typer.Option(
        "--crops",
        min=0,
        max=MOST_CROPS,
        help="Crops per step.",
        show_default=shown(function, "nb_crops"),
    )


def noise_option(function: Callable[..., Any]) -> Any:
    """Return the option for the noise of crops."""
    return typer.Option(
        "--noise",
        min=0.0,
        callback=check_finite_option,
        help="Noise added to the crops.",
        show_default=shown(function, "noise_intensity"),
    )


def box_size_option(default: str) -> Any:
    """Return the option for the size of crops."""
    return schedule_option(
        "--box-size", "Mean side of the crops, as a fraction of the image", default
    )


CropsOption = Annotated[int | None, crops_option(maco)]
NoiseOption = Annotated[float | None, noise_option(maco)]
BoxSizeOption = Annotated[Any, box_size_option("0.5,0.05")]
LearningRateOption = Annotated[
    Any, schedule_option("--learning-rate", "Learning rate", "the optimizer's own")
]
ColorShiftOption = Annotated[
    float | None,
    typer.Option(
        "--color-shift",
        min=0.0,
        callback=check_finite_option,
        help="Scale the colors of each crop by up to e to this power, and move them by up to it.",
        show_default="none",
    ),
]
ViewSizeOption = Annotated[
    Any,
    schedule_option(
        "--view-size", "Side of the views, as a fraction of the network's input", "all of it"
    ),
]
InitialOption = Annotated[
    Path | None,
    typer.Option(
        "--initial",
        metavar="PHOTO",
        help="Image to begin with, cropped around its center.",
        show_default="random numbers",
    ),
]
SpectrumOption = Annotated[
    Path | None,
    typer.Option(
        "--spectrum",
        help="Magnitudes, as `fvfast spectrum` writes them.",
        show_default="those of natural images",
    ),
]
