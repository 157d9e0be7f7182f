"""``fvfast atlas``: pictures of thousands of units."""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator
from typing import Annotated, Any

import torch
import typer
from tqdm.auto import tqdm

from fvfast.atlas.drawing import Part, draw_atlas
from fvfast.atlas.executors.base import Executor
from fvfast.atlas.keys import PLAN
from fvfast.atlas.places import Place
from fvfast.atlas.plan import Plan
from fvfast.atlas.planning import make_plan
from fvfast.atlas.progress import begin, read_plan, read_status
from fvfast.atlas.settings import DEFAULT_PRESET
from fvfast.atlas.sizes import drawn_together
from fvfast.atlas.verification import Verification, take_back, verify
from fvfast.cli.atlas_options import (
    ChannelAxisOption,
    ClassesOption,
    DirectionsOption,
    GpusOption,
    KindOption,
    LayersOption,
    PartOption,
    PlaceArgument,
    PlaceOption,
    PlanOnlyOption,
    RayOption,
    RetryTogetherOption,
    TogetherOption,
    UnitsOption,
    WorkersOption,
    asked_batch_size,
    asked_layers,
    chosen_executor,
    chosen_part,
    workers_of_a_gpu,
)
from fvfast.cli.atlas_pages import examples_command, gallery_command
from fvfast.cli.atlas_report import (
    EXIT_STATUS,
    Follower,
    batches,
    leave,
    list_set_aside,
    remark,
    show_status,
    summary,
)
from fvfast.cli.drawing import check_phase_options
from fvfast.cli.options import (
    BoxSizeOption,
    ColorShiftOption,
    CropsOption,
    DeviceOption,
    LearningRateOption,
    ModelName,
    NoiseOption,
    PrecisionOption,
    ProgressOption,
    RangeOption,
    SeedOption,
    SpectrumOption,
    ViewSizeOption,
    default_of,
    size_option,
    steps_option,
)
from fvfast.cli.output import check_output, say
from fvfast.cli.stopping import StopRequest
from fvfast.cli.terminal import friendly_errors
from fvfast.maco import maco
from fvfast.models import load_model
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.presets import PresetName

atlas_app = typer.Typer(
    name="atlas",
    help="Pictures of thousands of units of a network, on one machine or many.",
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


atlas_app.command("examples")(examples_command)
atlas_app.command("gallery")(gallery_command)


@atlas_app.command("run", epilog=EXIT_STATUS)
def run_command(
    context: typer.Context,
    model: ModelName,
    layer: LayersOption = None,
    units: UnitsOption = None,
    kind: KindOption = None,
    classes: ClassesOption = None,
    directions: DirectionsOption = None,
    channel_axis: ChannelAxisOption = None,
    out: PlaceOption = "atlas",
    workers: WorkersOption = None,
    ray: RayOption = None,
    gpus_per_worker: GpusOption = None,
    shard: PartOption = None,
    nb_steps: Annotated[int | None, steps_option(maco)] = None,
    nb_crops: CropsOption = None,
    noise_intensity: NoiseOption = None,
    box_size: BoxSizeOption = None,
    learning_rate: LearningRateOption = None,
    color_shift: ColorShiftOption = None,
    view_size: ViewSizeOption = None,
    custom_shape: Annotated[Any, size_option(default_of(maco, "custom_shape"))] = None,
    values_range: RangeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    batch_size: TogetherOption = None,
    plan_only: PlanOnlyOption = False,
    preset: Annotated[
        PresetName, typer.Option("--preset", help="Values of all that is not given.")
    ] = DEFAULT_PRESET,
    spectrum: SpectrumOption = None,
    progress: ProgressOption = True,
) -> None:
    """Draw units with MaCo, or go on with an atlas that was interrupted."""
    given = locals()
    check_phase_options(preset, spectrum)
    settings = {
        field.name: given[field.name]
        for field in dataclasses.fields(MacoSettings)
        if given.get(field.name) is not None
    }
    if spectrum is not None:
        settings["maco_dataset"] = spectrum
    with _stoppable(context) as stop:
        part = chosen_part(shard)
        place = Place(out)
        place.check_writable()
        loaded = load_model(model)
        asked = asked_layers(loaded, layer, units, kind, classes, directions, channel_axis)
        executor = chosen_executor(workers, ray, gpus_per_worker, loaded)
        before = read_plan(place) if place.exists(PLAN) else None
        plan = make_plan(
            model, asked, loaded=loaded, before=before, device=device,
            batch_size=asked_batch_size(batch_size, part, is_begun=before is not None),
            sharing=workers_of_a_gpu(workers, gpus_per_worker, torch.cuda.device_count()),
            **settings,
        )  # fmt: skip
        plan = begin(plan, place)
        if before is None and (ray is not None or torch.cuda.is_available()):
            remark(batches(plan))
        if plan_only:
            show_status(read_status(place, plan))
            return
        _draw(
            plan, place, stop, executor, device=device, part=part, progress=progress,
            batch_size=batch_size if isinstance(batch_size, int) else None,
        )  # fmt: skip


@atlas_app.command("status", epilog=EXIT_STATUS)
def status_command(context: typer.Context, place: PlaceArgument) -> None:
    """Say how far an atlas is. It is read from the files: nothing needs to run."""
    with friendly_errors(context.obj.debug):
        where = Place(place)
        status = read_status(where)
        show_status(status)
        say(summary(status, where.address))
        check_output()
        leave(status)


@atlas_app.command("verify", epilog=EXIT_STATUS)
def verify_command(
    context: typer.Context, place: PlaceArgument, progress: ProgressOption = True
) -> None:
    """Compare all pictures with their records, by their hashes."""
    with friendly_errors(context.obj.debug):
        where = Place(place)
        found = _verified(where, progress)
        for unit in found.wrong:
            say(f"{unit.key}: {unit.reason}")
        wrong = len(found.wrong)
        say(f"{found.checked - wrong} of {found.checked} records and their pictures are right")
        say(summary(found.status, where.address))
        check_output()
        if wrong:
            raise ValueError(
                f"{wrong} units are damaged; `fvfast atlas retry {where.address}` draws them again."
            )
        leave(found.status)


@atlas_app.command("retry", epilog=EXIT_STATUS)
def retry_command(
    context: typer.Context,
    place: PlaceArgument,
    workers: WorkersOption = None,
    ray: RayOption = None,
    gpus_per_worker: GpusOption = None,
    device: DeviceOption = None,
    batch_size: RetryTogetherOption = None,
    progress: ProgressOption = True,
) -> None:
    """Draw units that are set aside, damaged or missing."""
    with _stoppable(context) as stop:
        where = Place(place)
        where.check_writable()
        plan = read_plan(where)
        executor = chosen_executor(workers, ray, gpus_per_worker)
        drawn_together(plan, batch_size)  # refuses another one than the plan's
        count = take_back(where, _verified(where, progress))
        say(f"{count} units that were set aside or damaged are drawn again")
        _draw(
            plan, where, stop, executor, device=device, batch_size=batch_size, part=None,
            progress=progress,
        )  # fmt: skip


def _draw(
    plan: Plan,
    place: Place,
    stop: StopRequest,
    executor: Executor,
    *,
    device: str | None,
    batch_size: int | None,
    part: Part | None,
    progress: bool,
) -> None:
    """Draw, say what became of the units, and leave with the status that says so."""
    with Follower(progress=progress) as follower:
        follower.expect(read_status(place, plan))
        # The first signal ends it after the batches that were begun, the second one at once.
        with stop.after_the_step():
            status = draw_atlas(
                plan, place, executor=executor, device=device, batch_size=batch_size, part=part,
                report=follower, stop=lambda: bool(stop),
            )  # fmt: skip
    with stop.later():
        list_set_aside(status)
        say(summary(status, place.address))
        if stop:
            raise typer.Exit(0 if stop.number == signal.SIGTERM else stop.status)
        if part is None or follower.set_aside:
            leave(status)


@contextlib.contextmanager
def _stoppable(context: typer.Context) -> Iterator[StopRequest]:
    """Report errors in a line; SIGTERM is no error, whenever it comes."""
    with friendly_errors(context.obj.debug) as stop:
        try:
            yield stop
        except KeyboardInterrupt:
            if stop.number != signal.SIGTERM:
                raise
            raise typer.Exit(0) from None


def _verified(place: Place, progress: bool) -> Verification:
    with tqdm(total=len(read_plan(place)), unit="unit", disable=not progress) as bar:
        return verify(place, watch=lambda _key: bar.update())
