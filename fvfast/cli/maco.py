"""The subcommand ``fvfast maco``."""

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from fvfast.cli.drawing import (
    check_phase_options,
    chosen_magnitudes,
    given_settings,
    network_settings,
    photograph_settings,
    render,
    report_file,
    spectrum_settings,
    watch,
)
from fvfast.cli.films import VideoOption, films_of
from fvfast.cli.guides import GuideOption, GuideWeightOption, guide_settings, read_guide
from fvfast.cli.installation import choose_device, describe_device
from fvfast.cli.options import (
    BatchOption,
    BoxSizeOption,
    ColorShiftOption,
    CompileOption,
    CropsOption,
    DeviceOption,
    InitialOption,
    LearningRateOption,
    ModelName,
    NoiseOption,
    OutOption,
    OverwriteOption,
    PrecisionOption,
    ProgressOption,
    RangeOption,
    SaveEveryOption,
    SeedOption,
    SpectrumOption,
    ViewSizeOption,
    compiled_as,
    default_of,
    size_option,
    steps_option,
)
from fvfast.cli.rendering import Pictures, Rendering
from fvfast.cli.requests import Target
from fvfast.cli.step_pictures import OnStep
from fvfast.cli.terminal import friendly_errors
from fvfast.files.video import check_video
from fvfast.maco import maco
from fvfast.models import load_model
from fvfast.objectives import Objective
from fvfast.plot import Style
from fvfast.plot.png import check_writable
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.presets import PresetName

DEFAULT_PRESET: PresetName = default_of(maco, "preset")


def maco_command(
    context: typer.Context,
    model: ModelName,
    target: Target,
    out: OutOption = Path("pictures"),
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
    compile_when: CompileOption = None,
    batch_size: BatchOption = 1,
    preset: Annotated[
        PresetName, typer.Option("--preset", help="Values of all that is not given.")
    ] = DEFAULT_PRESET,
    spectrum: SpectrumOption = None,
    initial: InitialOption = None,
    style: Annotated[
        Style, typer.Option("--style", help="How the transparency is drawn.")
    ] = "xplique",
    guided_by: GuideOption = None,
    guide_weight: GuideWeightOption = None,
    save_every: SaveEveryOption = None,
    video: VideoOption = None,
    overwrite: OverwriteOption = False,
    progress: ProgressOption = True,
) -> None:
    """Draw units with MaCo: the magnitudes of natural images, optimized phases; or a pyramid."""
    check_phase_options(preset, spectrum, initial)
    chosen = given_settings(MacoSettings, {**locals(), "compile": compiled_as(compile_when)})
    with friendly_errors(context.obj.debug) as stop:
        check_writable(out)
        if video is not None:
            check_writable(check_video(video).parent)
        magnitudes = chosen_magnitudes(preset, spectrum)
        loaded = load_model(model)
        where = choose_device(device)
        # The network's range, not the preset's.
        chosen = {"values_range": loaded.values_range, **chosen}
        request = target.request(loaded, chosen["values_range"])
        guide = read_guide(
            guided_by, guide_weight, request.objective([0]), chosen["values_range"], where,
            progress=progress,
        )  # fmt: skip
        if guide is not None:
            chosen["guide"] = guide

        def run(objective: Objective, on_step: OnStep) -> Pictures:
            made = context.obj.maco_batch(
                objective,
                maco_dataset=magnitudes,
                progress=progress,
                callback=functools.partial(watch, stop, on_step),
                device=where,
                batch_size=max(batch_size, objective.group_size),
                **chosen,
            )
            return Pictures(made.images, made.transparencies, made.names, made.scores)

        render(
            Rendering(
                request,
                run,
                batch_size,
                together=False,
                folder=out,
                prefix=loaded.name,
                settings={
                    **network_settings(loaded),
                    "method": "maco",
                    **MacoSettings.with_preset(**chosen).described(),
                    **spectrum_settings(magnitudes, spectrum),
                    **photograph_settings(initial),
                    **guide_settings(guided_by),
                    "style": style,
                    "device": describe_device(where),
                },
                style=style,
                overwrite=overwrite,
                report=report_file,
                save_every=save_every,
                films=films_of(video, request, chosen["values_range"]),
            ),
            stop,
        )
