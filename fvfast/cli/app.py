"""The console command ``fvfast``."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from fvfast._shared.version import VERSION
from fvfast.accentuate import accentuate
from fvfast.cli.accentuate import accentuate_command
from fvfast.cli.arguments import ambiguous_layers
from fvfast.cli.atlas import atlas_app
from fvfast.cli.installation import choose_device, describe_installation
from fvfast.cli.maco import maco_command
from fvfast.cli.network import describe_engine, describe_network
from fvfast.cli.optimize import optimize_command
from fvfast.cli.options import (
    DeviceOption,
    ModelName,
    PrecisionOption,
    ProgressOption,
    size_option,
)
from fvfast.cli.output import check_output, say
from fvfast.cli.requests import takes_target
from fvfast.cli.terminal import console, friendly_errors, plain, run_program
from fvfast.engine.compiled.trial import Compiler
from fvfast.engine.network.layers import trace_layers
from fvfast.files.writing import check_replaceable, remove_unfinished
from fvfast.maco import MacoBatch, MacoImage, maco_batch
from fvfast.models import load_model
from fvfast.optimize import optimize
from fvfast.plot.png import check_writable
from fvfast.spectrum import FOLDER_SIZE, Spectrum

EXIT_STATUS = (
    "Exit status: 0 if all pictures are there, whatever became of the output; 1 after an error, "
    "or if a picture is missing; 2 if the command line is wrong; 130 after Ctrl-C, 143 after "
    "SIGTERM and 129 after SIGHUP, when the pictures so far have been saved."
)


@dataclasses.dataclass(frozen=True)
class Session:
    """What a command is told beside its own arguments, as ``context.obj``.

    Attributes
    ----------
    debug
        Whether errors are shown with tracebacks.
    maco_batch, optimize, accentuate
        The functions that draw, with the arguments and results of `fvfast`'s own.
    """

    debug: bool = False
    maco_batch: Callable[..., MacoBatch] = maco_batch
    optimize: Callable[..., tuple[list[torch.Tensor], list[str]]] = optimize
    accentuate: Callable[..., MacoImage] = accentuate


class _Program(typer.Typer):
    """What is called is the program of this process; tests invoke its commands alone."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        run_program(functools.partial(super().__call__, *args, **settings))


app = _Program(
    name="fvfast",
    help="Feature visualization: find the image that makes a part of a network fire.",
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(atlas_app)
for name, command in (
    ("maco", maco_command),
    ("optimize", optimize_command),
    ("accentuate", accentuate_command),
):
    app.command(name)(takes_target(command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fvfast {VERSION}")
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
    """Feature visualization: find the image that makes a part of a network fire."""
    context.obj = dataclasses.replace(context.obj or Session(), debug=debug)


@app.command()
def layers(
    context: typer.Context,
    model: ModelName,
    leaves: Annotated[
        bool, typer.Option("--leaves", help="Only layers without layers inside.")
    ] = False,
) -> None:
    """List the layers of a network: index, name, type, shape of the output and its channels."""
    with friendly_errors(context.obj.debug):
        loaded = load_model(model)
        traced = trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
        table = Table("index", "name", "type", "output shape", "channels on axis")
        for info in traced:
            if info.name and info.shape is not None and (info.is_leaf or not leaves):
                table.add_row(
                    "" if info.index is None else str(info.index),
                    plain(info.name),
                    plain(info.type),
                    _times(info.shape),
                    "" if info.channel_axis is None else str(info.channel_axis),
                )
        console().print(table)
        if both := ambiguous_layers(traced):
            say(
                f"{', '.join(both)}: the name of one layer and the index of another; write "
                "--layer name:NAME or --layer index:NUMBER."
            )
        check_output()


@app.command()
def spectrum(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of images, with its subfolders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("spectrum.npz"),
    size: Annotated[Any, size_option(FOLDER_SIZE)] = None,
    gray: Annotated[
        bool, typer.Option("--gray", "--grey", help="Read the images in gray.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if there is one.")
    ] = False,
    progress: ProgressOption = True,
) -> None:
    """Measure the magnitudes of your own images, for `fvfast maco --spectrum`."""
    with friendly_errors(context.obj.debug) as stop:
        if out.is_dir():
            raise IsADirectoryError(
                f"{out} is a folder; expected a file to write the spectrum to, such as "
                f"{out / 'spectrum.npz'}."
            )
        if check_replaceable(out).exists() and not overwrite:
            raise FileExistsError(
                f"{out} is there already. Choose another file with --out, or replace it with "
                "--overwrite."
            )
        check_writable(check_replaceable(out).parent)
        remove_unfinished(check_replaceable(out).parent)
        measured = Spectrum.from_images(
            folder, size=size, progress=progress, channels=1 if gray else 3
        )
        with stop.later():
            measured.save(out)
            say(f"spectrum of {measured.image_count} images in {out.resolve()}")


@app.command()
def info(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="Also show a network's input and how it runs."
        ),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    compiles: Annotated[
        bool,
        typer.Option(
            "--compile", help="Also compile the network with TorchInductor, which may take minutes."
        ),
    ] = False,
) -> None:
    """Show versions, devices and how the kernels were built."""
    with friendly_errors(context.obj.debug):
        table = Table(show_header=False)
        for name, value in describe_installation():
            table.add_row(name, plain(value))
        if model is not None:
            loaded = load_model(model)
            for rows in (
                describe_network(loaded),
                describe_engine(
                    loaded, choose_device(device), precision, Compiler() if compiles else None
                ),
            ):
                table.add_section()
                for name, value in rows:
                    table.add_row(name, plain(value))
        console().print(table)
        check_output()


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
