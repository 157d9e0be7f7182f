"""The subcommand ``fvfast optimize``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fvfast.cli.drawing import (
    ScoreWatch,
    given_settings,
    network_settings,
    photograph_settings,
    render,
    report_file,
)
from fvfast.cli.installation import choose_device, describe_device
from fvfast.cli.options import (
    BatchOption,
    CompileOption,
    DeviceOption,
    InitialOption,
    ModelName,
    OutOption,
    OverwriteOption,
    PrecisionOption,
    ProgressOption,
    RangeOption,
    SaveEveryOption,
    SeedOption,
    compiled_as,
    default_of,
    size_option,
    steps_option,
)
from fvfast.cli.rendering import Pictures, Rendering
from fvfast.cli.requests import Target
from fvfast.cli.step_pictures import OnStep
from fvfast.cli.terminal import friendly_errors
from fvfast.models import load_model
from fvfast.objectives import Objective
from fvfast.optimize import optimize
from fvfast.plot.png import check_writable
from fvfast.run.optimize_settings import OptimizeSettings
from fvfast.run.presets import OptimizePresetName

DEFAULT_PRESET: OptimizePresetName = default_of(optimize, "preset")


def optimize_command(
    context: typer.Context,
    model: ModelName,
    target: Target,
    out: OutOption = Path("pictures"),
    nb_steps: Annotated[int | None, steps_option(optimize)] = None,
    use_fft: Annotated[
        bool, typer.Option("--fft/--pixels", help="Optimize Fourier coefficients or pixels.")
    ] = True,
    custom_shape: Annotated[Any, size_option(default_of(optimize, "custom_shape"))] = None,
    values_range: RangeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    compile_when: CompileOption = None,
    batch_size: BatchOption = 1,
    preset: Annotated[
        OptimizePresetName, typer.Option("--preset", help="Values of all that is not given.")
    ] = DEFAULT_PRESET,
    initial: InitialOption = None,
    save_every: SaveEveryOption = None,
    overwrite: OverwriteOption = False,
    progress: ProgressOption = True,
) -> None:
    """Draw units with Fourier (or pixel) feature visualization."""
    chosen = given_settings(OptimizeSettings, {**locals(), "compile": compiled_as(compile_when)})
    with friendly_errors(context.obj.debug) as stop:
        check_writable(out)
        loaded = load_model(model)
        where = choose_device(device)
        chosen = {"values_range": loaded.values_range, **chosen}

        def run(objective: Objective, on_step: OnStep) -> Pictures:
            scores = ScoreWatch(stop, on_step)
            images, names = context.obj.optimize(
                objective, progress=progress, callback=scores, device=where, **chosen
            )
            return Pictures(images[-1], None, names, scores.table(len(names)))

        render(
            Rendering(
                target.request(loaded, chosen["values_range"]),
                run,
                batch_size,
                # They share their transformations.
                together=True,
                folder=out,
                prefix=loaded.name,
                settings={
                    **network_settings(loaded),
                    "method": "optimize",
                    **OptimizeSettings.with_preset(**chosen).described(),
                    **photograph_settings(initial),
                    "device": describe_device(where),
                },
                style="xplique",
                overwrite=overwrite,
                report=report_file,
                save_every=save_every,
            ),
            stop,
        )
