"""``fvfast atlas examples`` and ``fvfast atlas gallery``: what stands beside the pictures."""

from pathlib import Path
from typing import Annotated

import typer

from fvfast.atlas.gallery import write_gallery
from fvfast.atlas.places import Place
from fvfast.atlas.planned_examples import draw_examples
from fvfast.atlas.progress import read_plan
from fvfast.cli.atlas_options import PlaceArgument
from fvfast.cli.options import DeviceOption, ProgressOption
from fvfast.cli.output import check_output, say
from fvfast.cli.terminal import friendly_errors

MOST_EXAMPLES = 100
MOST_IMAGES_TOGETHER = 4096

ImagesOption = Annotated[
    str,
    typer.Option(
        "--images",
        metavar="IMAGES",
        help="A folder of images, or tar files in the layout of WebDataset "
        "(train-{000..099}.tar); a path or an address such as s3://bucket/name.",
        show_default=False,
    ),
]


def examples_command(
    context: typer.Context,
    place: PlaceArgument,
    images: ImagesOption,
    count: Annotated[
        int, typer.Option("--count", min=1, max=MOST_EXAMPLES, help="Images for each unit.")
    ] = 9,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", min=1, max=MOST_IMAGES_TOGETHER, help="Images that run together."
        ),
    ] = 32,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Keeps how far the pass has come; the same command goes on from there.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    progress: ProgressOption = True,
) -> None:
    """Find the images that excite each unit of an atlas most, and write them to it."""
    with friendly_errors(context.obj.debug) as stop:
        where = Place(place)
        where.check_writable()
        found = draw_examples(
            read_plan(where), where, images, k=count, batch_size=batch_size, device=device,
            checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
        if found.interrupted:
            say("interrupted: no examples are written; with --checkpoint, the next call goes on")
            raise typer.Exit(stop.status)
        unread = f", {found.unreadable} cannot be read" if found.unreadable else ""
        say(f"{len(found)} units, examples among {found.images} images{unread}: {where.address}")


def gallery_command(
    context: typer.Context,
    place: PlaceArgument,
    site: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="SITE",
            help="Folder of the pages, or an address such as s3://bucket/name.",
        ),
    ] = "gallery",
    title: Annotated[
        str | None,
        typer.Option(
            "--title",
            metavar="TEXT",
            help="Heading of the first page.",
            show_default="the network's name",
        ),
    ] = None,
    progress: ProgressOption = True,
) -> None:
    """Write pages that show all units, for a browser: from a disk or from any web server."""
    with friendly_errors(context.obj.debug):
        summary = write_gallery(place, site, title=title, progress=progress)
        for problem in summary.problems:
            typer.echo(problem, err=True)
        rest = [
            f"{count} {what}"
            for count, what in (
                (summary.waiting, "not drawn yet"),
                (summary.set_aside, "set aside"),
            )
            if count
        ]
        say(
            f"{summary.shown} of {summary.planned} units of {summary.layers} layers"
            f"{' (' + ', '.join(rest) + ')' if rest else ''}, {summary.with_examples} with "
            f"examples: open {summary.site.rstrip('/')}/index.html"
        )
        check_output()
