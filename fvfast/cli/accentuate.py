"""The subcommand ``fvfast accentuate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fvfast.accentuate import accentuate
from fvfast.cli.arguments import check_finite_option
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
    CompileOption,
    DeviceOption,
    LearningRateOption,
    ModelName,
    OutOption,
    OverwriteOption,
    PrecisionOption,
    ProgressOption,
    RangeOption,
    SaveEveryOption,
    SeedOption,
    box_size_option,
    compiled_as,
    crops_option,
    default_of,
    noise_option,
    shown,
    size_option,
    steps_option,
)
from fvfast.cli.rendering import Pictures, Rendering
from fvfast.cli.requests import Target
from fvfast.cli.step_pictures import OnStep
from fvfast.cli.terminal import friendly_errors
from fvfast.models import load_model
from fvfast.objectives import Objective
from fvfast.plot.png import check_writable
from fvfast.run.accentuate_settings import AccentuateSettings
from fvfast.run.presets import AccentuatePresetName

DEFAULT_PRESET: AccentuatePresetName = default_of(accentuate, "preset")


def accentuate_command(
    context: typer.Context,
    model: ModelName,
    photograph: Annotated[
        Path,
        typer.Argument(metavar="PHOTO", help="Image to change, cropped around its center."),
    ],
    target: Target,
    out: OutOption = Path("pictures"),
    nb_steps: Annotated[int | None, steps_option(accentuate)] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            "--penalty",
            min=0.0,
            callback=check_finite_option,
            help="Weight of the distance to the photograph.",
            show_default=shown(accentuate, "penalty"),
        ),
    ] = None,
    decay: Annotated[
        float | None,
        typer.Option(
            "--decay",
            callback=check_finite_option,
            help="How much smaller the steps of high frequencies are.",
            show_default=shown(accentuate, "decay"),
        ),
    ] = None,
    nb_crops: Annotated[int | None, crops_option(accentuate)] = None,
    noise_intensity: Annotated[float | None, noise_option(accentuate)] = None,
    box_size: Annotated[Any, box_size_option("0.9,0.4")] = None,
    learning_rate: LearningRateOption = None,
    custom_shape: Annotated[Any, size_option(default_of(accentuate, "custom_shape"))] = None,
    values_range: RangeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    compile_when: CompileOption = None,
    preset: Annotated[
        AccentuatePresetName, typer.Option("--preset", help="Values of all that is not given.")
    ] = DEFAULT_PRESET,
    save_every: SaveEveryOption = None,
    overwrite: OverwriteOption = False,
    progress: ProgressOption = True,
) -> None:
    """Change a photograph until units respond to it: what they see in it."""
    if target.diversity is not None or target.path is not None:
        raise typer.BadParameter(
            "accentuate makes one picture of a photograph for each unit: leave --diversity and "
            "--path out. `fvfast maco` has them."
        )
    chosen = given_settings(AccentuateSettings, {**locals(), "compile": compiled_as(compile_when)})
    with friendly_errors(context.obj.debug) as stop:
        check_writable(out)
        loaded = load_model(model)
        where = choose_device(device)
        chosen = {"values_range": loaded.values_range, **chosen}

        def run(objective: Objective, on_step: OnStep) -> Pictures:
            scores = ScoreWatch(stop, on_step)
            made = context.obj.accentuate(
                objective, progress=progress, callback=scores, device=where, **chosen
            )
            # Opaque: a photograph is more than the parts that mattered.
            return Pictures(made.image[None], None, objective.combination_names, scores.table(1))

        render(
            Rendering(
                target.request(loaded, chosen["values_range"]),
                run,
                batch_size=1,
                together=False,
                folder=out,
                prefix=f"{loaded.name}_{photograph.stem}",
                settings={
                    **network_settings(loaded),
                    "method": "accentuate",
                    **AccentuateSettings.with_preset(**chosen).described(),
                    **photograph_settings(photograph),
                    "device": describe_device(where),
                },
                style="xplique",
                overwrite=overwrite,
                report=report_file,
                save_every=save_every,
            ),
            stop,
        )
