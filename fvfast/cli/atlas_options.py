"""The options of ``fvfast atlas``: which units, who draws them, and where."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fvfast.atlas.drawing import Part, parse_part
from fvfast.atlas.executors.base import Executor
from fvfast.atlas.executors.here import Here
from fvfast.atlas.planned_batches import AUTO, DEFAULT, AskedSize
from fvfast.atlas.planned_layers import Kind
from fvfast.atlas.planning import LAST_LAYER, LayerUnits
from fvfast.cli.arguments import MOST_TOGETHER, parse_ids_or_all, parse_layer, parse_together
from fvfast.engine.network.layers import trace_layers
from fvfast.models import LoadedModel

MOST_WORKERS = 1024

LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="NAME_OR_INDEX",
        help="Layer, by name or index, as `fvfast layers MODEL` lists them; -1 is the last layer. "
        "May be repeated.",
        show_default=False,
    ),
]
UnitsOption = Annotated[
    Any,
    typer.Option(
        "--units",
        metavar="IDS",
        parser=parse_ids_or_all,
        help="Units of each of the layers: all, or such as 0-63,70.",
        show_default="all",
    ),
]
KindOption = Annotated[
    Kind | None,
    typer.Option(
        "--kind",
        help="What the units are.",
        show_default="channels where a layer has positions, classes of the last layer, or neurons",
    ),
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help='Class of the last layer, by name ("coffee mug") or index, or all. May be repeated.',
        show_default=False,
    ),
]
DirectionsOption = Annotated[
    Path | None,
    typer.Option(
        "--directions",
        metavar="FILE",
        help="Directions of the layer's channels, which are the units then: a file as "
        "`fvfast maco --direction` takes.",
        show_default=False,
    ),
]
ChannelAxisOption = Annotated[
    int | None,
    typer.Option(
        "--channel-axis",
        help="Axis of the channels in the layer's output, without the batch.",
        show_default="what the layers around tell, as in `fvfast layers`",
    ),
]
PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        help="A folder, or an address such as s3://bucket/name.",
        show_default=False,
    ),
]
PlaceOption = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="PLACE",
        help="Where the atlas is: a folder, or an address such as s3://bucket/name.",
    ),
]
TogetherOption = Annotated[
    Any,
    typer.Option(
        "--batch-size",
        metavar="N",
        parser=parse_together,
        help="Pictures optimized together, a part of the plan; auto measures on a GPU of this "
        "machine how many are best.",
        show_default="as the plan says; for a new one auto on a GPU, else as many as make 64 crops",
    ),
]
RetryTogetherOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        max=MOST_TOGETHER,
        help="Pictures optimized together, if the plan does not say it.",
        show_default="as the plan says",
    ),
]
PlanOnlyOption = Annotated[
    bool,
    typer.Option("--plan-only", help="Write the plan, and draw nothing."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=MOST_WORKERS,
        help="Draw in so many processes of this machine, one per GPU where there are GPUs.",
        show_default="this process draws",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Draw in a Ray cluster: its address, auto for the one of this machine, or local to "
        "start one here.",
        show_default=False,
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        min=0.0,
        help="GPUs, or a fraction of one, for each worker of a Ray cluster.",
        show_default="1 if the cluster has GPUs, else 0",
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Draw the K-th of N parts, from 0, on one of N machines that share the place.",
        show_default="everything",
    ),
]


def asked_layers(
    loaded: LoadedModel,
    layers: Sequence[str] | None,
    units: Sequence[int] | Literal["all"] | None,
    kind: Kind | None,
    classes: Sequence[str] | None,
    directions: Path | None,
    channel_axis: int | None,
) -> list[LayerUnits]:
    """Return the units that a command line asks for.

    Raises
    ------
    typer.BadParameter
        It names none, or its options exclude each other.
    """
    layers, classes = layers or [], classes or []
    if not layers and not classes:
        raise typer.BadParameter(
            "expected --layer NAME_OR_INDEX or --class NAME; `fvfast layers MODEL` lists layers."
        )
    if not layers and (units is not None or directions is not None):
        raise typer.BadParameter("--units and --directions need --layer NAME_OR_INDEX.")
    if directions is not None and len(layers) != 1:
        raise typer.BadParameter("--directions are those of one layer: give --layer once.")
    traced = trace_layers(loaded.model, loaded.input_shape, loaded.preprocess)
    asked = [
        LayerUnits(
            parse_layer(layer, traced),
            "all" if units is None else units,
            kind,
            None if directions is None else str(directions),
            channel_axis,
        )
        for layer in layers
    ]
    if classes:
        chosen: Any = "all" if [one.lower() for one in classes] == ["all"] else classes
        asked.append(LayerUnits(LAST_LAYER, chosen, "class"))
    return asked


def chosen_executor(
    workers: int | None,
    ray: str | None,
    gpus_per_worker: float | None,
    loaded: LoadedModel | None = None,
) -> Executor:
    """Return who draws.

    Raises
    ------
    typer.BadParameter
        The options exclude each other.
    ImportError, ConnectionError
        Ray is not installed, or cannot be reached.
    """
    if ray is None:
        if gpus_per_worker is not None:
            raise typer.BadParameter("--gpus-per-worker needs --ray ADDRESS.")
        if workers is None:
            return Here(loaded)
        from fvfast.atlas.executors.processes import Processes

        return Processes(workers)
    from fvfast.atlas.executors.ray_actors import RayActors

    return RayActors(ray, workers=workers, gpus_per_worker=gpus_per_worker)


def asked_batch_size(asked: AskedSize, part: Part | None, *, is_begun: bool) -> AskedSize:
    """Return the batch size that a command line asks for.

    The commands of several machines plan for themselves: what each measured might differ.

    Raises
    ------
    typer.BadParameter
        It asks each of several machines to measure.
    """
    if part is None or is_begun or isinstance(asked, int):
        return asked
    if asked == AUTO:
        raise typer.BadParameter(
            f"with --shard, each of {part[1]} machines would measure a --batch-size of its own. "
            "Write the plan first: on one of them, with --plan-only in place of --shard."
        )
    return DEFAULT


def workers_of_a_gpu(workers: int | None, gpus_per_worker: float | None, gpus: int) -> int:
    """Return how many workers share the memory of a GPU.

    Parameters
    ----------
    workers, gpus_per_worker
        As a command line has them.
    gpus
        Of this machine.
    """
    if gpus_per_worker is not None:
        return max(1, round(1 / gpus_per_worker)) if gpus_per_worker > 0 else 1
    return -(-(workers or 1) // max(1, gpus))


def chosen_part(text: str | None) -> Part | None:
    """Return the part of the shards that a command line asks for."""
    if text is None:
        return None
    try:
        return parse_part(text)
    except ValueError as error:
        raise typer.BadParameter(re.sub(r"\.$", "", str(error))) from error
