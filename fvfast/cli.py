"""The console command ``fvfast``."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.markup import escape
from rich.table import Table

from fvfast._arguments import parse_size
from fvfast._installation import choose_device, describe_installation
from fvfast._rendering import Pictures, Target, render
from fvfast._terminal import INTERRUPTED, StopRequest, console, friendly_errors
from fvfast.engine.layers import trace_layers
from fvfast.maco import maco_batch
from fvfast.models import LoadedModel, load_model
from fvfast.objectives import Objective
from fvfast.optim import optimize
from fvfast.plot import Style
from fvfast.png import check_writable
from fvfast.spectrum import Spectrum

app = typer.Typer(
    name="fvfast",
    help="Feature visualisation: find the image that makes a part of a network fire.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StyleName = Literal["xplique", "horama"]
PresetName = Literal["xplique", "horama", "paper"]

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
        help="Layer to read, as `fvfast layers MODEL` lists them; a whole number is an index, -1 "
        "the last layer. Default for --class: the last layer.",
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
        "--neuron", "-n", metavar="IDS", help="Neurons, such as 0-9 (flat: channel, row, column)."
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
    bool, typer.Option("--whole-layer", help="Maximise the mean square of the whole layer.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Optimisation steps.", show_default="256")
]
SizeOption = Annotated[
    str | None,
    typer.Option("--size", metavar="SIZE", help="512, or HEIGHTxWIDTH.", show_default="512"),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same pictures.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, mps, ...",
        show_default="a GPU if there is one, else the CPU",
    ),
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Pictures optimised together.")
]
StyleOption = Annotated[StyleName, typer.Option("--style", help="How the transparency is drawn.")]
ProgressOption = Annotated[bool, typer.Option("--progress/--no-progress", help="Show progress.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fvfast {importlib.metadata.version('fvfast')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Feature visualisation: find the image that makes a part of a network fire."""
    context.obj = debug


@app.command("maco")
def maco_command(
    context: typer.Context,
    model: ModelName,
    layer: LayerOption = None,
    channel: ChannelOption = None,
    neuron: NeuronOption = None,
    classes: ClassOption = None,
    whole_layer: WholeLayerOption = False,
    out: OutOption = Path("pictures"),
    steps: StepsOption = None,
    crops: Annotated[
        int | None, typer.Option("--crops", min=0, help="Crops per step.", show_default="32")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option("--noise", min=0.0, help="Noise added to the crops.", show_default="0.08"),
    ] = None,
    size: SizeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    batch_size: BatchOption = 1,
    preset: Annotated[
        PresetName, typer.Option("--preset", help="Recipe for all that is not given.")
    ] = "xplique",
    spectrum: Annotated[
        Path | None,
        typer.Option(
            "--spectrum",
            help="Magnitudes, as `fvfast spectrum` writes them.",
            show_default="those of natural images",
        ),
    ] = None,
    style: StyleOption = "xplique",
    progress: ProgressOption = True,
) -> None:
    """Draw units with MaCo: the magnitudes of natural images, optimised phases."""
    target = _target(layer, channel, neuron, classes, whole_layer)
    # Only what is given: the preset has values for the rest.
    chosen = _given(nb_steps=steps, nb_crops=crops, noise_intensity=noise, custom_shape=_size(size))
    with friendly_errors(context.obj):
        check_writable(out)
        magnitudes = Spectrum.from_file(spectrum) if spectrum is not None else None
        loaded = load_model(model)

        def run(objective: Objective, stop: StopRequest) -> Pictures:
            made = maco_batch(
                objective,
                maco_dataset=magnitudes,
                values_range=loaded.values_range,
                seed=seed,
                progress=progress,
                callback=lambda _: bool(stop),
                device=choose_device(device),
                preset=preset,
                batch_size=batch_size,
                **chosen,
            )
            results = [_result(scores) for scores in made.scores]
            return Pictures(made.images, made.transparencies, made.names, results)

        _render(
            target.objectives(loaded, batch_size),
            run,
            out,
            loaded,
            {
                "method": "maco",
                "preset": preset,
                "spectrum": str(spectrum) if spectrum is not None else None,
                "seed": seed,
                **chosen,
            },
            style,
        )


@app.command("optimize")
def optimize_command(
    context: typer.Context,
    model: ModelName,
    layer: LayerOption = None,
    channel: ChannelOption = None,
    neuron: NeuronOption = None,
    classes: ClassOption = None,
    whole_layer: WholeLayerOption = False,
    out: OutOption = Path("pictures"),
    steps: StepsOption = None,
    fft: Annotated[
        bool, typer.Option("--fft/--pixels", help="Optimise Fourier coefficients or pixels.")
    ] = True,
    size: SizeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    batch_size: BatchOption = 1,
    progress: ProgressOption = True,
) -> None:
    """Draw units with Fourier (or pixel) feature visualisation."""
    target = _target(layer, channel, neuron, classes, whole_layer)
    chosen = _given(nb_steps=steps, custom_shape=_size(size))
    with friendly_errors(context.obj):
        check_writable(out)
        loaded = load_model(model)

        def run(objective: Objective, stop: StopRequest) -> Pictures:
            images, names = optimize(
                objective,
                use_fft=fft,
                values_range=loaded.values_range,
                seed=seed,
                progress=progress,
                callback=lambda _: bool(stop),
                device=choose_device(device),
                **chosen,
            )
            return Pictures(images[-1], None, names, [{} for _ in names])

        _render(
            target.objectives(loaded, batch_size),
            run,
            out,
            loaded,
            {"method": "optimize", "use_fft": fft, "seed": seed, **chosen},
            "xplique",
        )


@app.command()
def layers(
    context: typer.Context,
    model: ModelName,
    leaves: Annotated[
        bool, typer.Option("--leaves", help="Only layers without layers inside.")
    ] = False,
) -> None:
    """List the layers of a network: index, name, type and shape of the output."""
    with friendly_errors(context.obj):
        loaded = load_model(model)
        traced = trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
        table = Table("index", "name", "type", "output shape")
        for info in traced:
            if info.name and info.shape is not None and (info.is_leaf or not leaves):
                table.add_row(
                    "" if info.index is None else str(info.index),
                    escape(info.name),
                    info.type,
                    _times(info.shape),
                )
        console().print(table)


@app.command()
def spectrum(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of images, with its subfolders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("spectrum.npz"),
    size: SizeOption = None,
    grey: Annotated[bool, typer.Option("--grey", help="Read the images in grey.")] = False,
    progress: ProgressOption = True,
) -> None:
    """Measure the magnitudes of your own images, for `fvfast maco --spectrum`."""
    height_and_width = _size(size)
    with friendly_errors(context.obj):
        check_writable(out.parent)
        measured = Spectrum.from_images(
            folder, size=height_and_width, progress=progress, channels=1 if grey else 3
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        measured.save(out)
        typer.echo(f"spectrum of {measured.image_count} images in {out.resolve()}")


@app.command()
def info(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Also show a network's input.")
    ] = None,
) -> None:
    """Show versions, devices and how the kernels were built."""
    with friendly_errors(context.obj):
        table = Table(show_header=False)
        for name, value in describe_installation():
            table.add_row(name, escape(value))
        if model is not None:
            loaded = load_model(model)
            low, high = loaded.values_range
            table.add_section()
            table.add_row("network", f"{escape(loaded.name)} ({type(loaded.model).__name__})")
            table.add_row("input (channels x height x width)", _times(loaded.input_shape))
            table.add_row("values_range", f"{low:g} to {high:g}")
            table.add_row("preprocess", escape(str(loaded.preprocess)))
            table.add_row(
                "named classes",
                "none" if loaded.categories is None else str(len(loaded.categories)),
            )
        console().print(table)


def _target(
    layer: str | None,
    channel: str | None,
    neuron: str | None,
    classes: list[str] | None,
    whole_layer: bool,
) -> Target:
    return Target(layer, channel, neuron, classes or [], whole_layer)


def _render(
    objectives: list[Objective],
    run: Callable[[Objective, StopRequest], Pictures],
    out: Path,
    loaded: LoadedModel,
    settings: dict[str, Any],
    style: Style,
) -> None:
    """Write the pictures and say where they are; exit status 130 after an interrupt."""
    files: list[Path] = []

    def report(path: Path, name: str) -> None:
        files.append(path)
        typer.echo(f"{name}: {path}")

    complete = render(
        objectives,
        run,
        out,
        prefix=loaded.name,
        settings={"model": loaded.name, "values_range": loaded.values_range, **settings},
        style=style,
        report=report,
    )
    pictures = "1 picture" if len(files) == 1 else f"{len(files)} pictures"
    if complete:
        typer.echo(f"{pictures} in {out.resolve()}")
        return
    wanted = sum(len(objective.combination_names) for objective in objectives)
    typer.echo(f"interrupted: {pictures} of {wanted} in {out.resolve()}")
    raise typer.Exit(INTERRUPTED)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _size(text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text)


def _result(scores: torch.Tensor) -> dict[str, Any]:
    taken = scores[scores.isfinite()]
    return {"steps_taken": len(taken), "score": float(taken[-1]) if len(taken) else None}


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


if __name__ == "__main__":
    app()
