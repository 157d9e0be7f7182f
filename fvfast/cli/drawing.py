"""What the commands that draw have in common."""

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import typer

from fvfast.cli.output import say
from fvfast.cli.rendering import Outcome, Rendering
from fvfast.cli.step_pictures import OnStep
from fvfast.cli.stopping import StopRequest
from fvfast.cli.terminal import print_error
from fvfast.files.reading import open_regular
from fvfast.models import LoadedModel
from fvfast.run.loop import StepReport
from fvfast.run.presets import PresetName, find_preset
from fvfast.run.provenance import weights_digest
from fvfast.run.settings import Settings
from fvfast.spectrum import Spectrum


def render(rendering: Rendering, stop: StopRequest) -> None:
    """Write the pictures and say where they are; leave with a status where some are missing.

    Parameters
    ----------
    rendering
        What is drawn.
    stop
        Whether the user wants to stop.

    Raises
    ------
    typer.Exit
        The status is not 0.
    """
    outcome = rendering.render(stop)
    with stop.later():
        _conclude(rendering, outcome, stop)


def _conclude(rendering: Rendering, outcome: Outcome, stop: StopRequest) -> None:
    count, there = len(outcome.written), len(outcome.there)
    where = rendering.folder.resolve()
    if outcome.failed:
        print_error(
            f"no picture of {', '.join(outcome.failed)}: the score or its gradient was not finite "
            "from the first step. Check the network's output and --values-range."
        )
    already = f", and {there} that were already there" if there else ""
    if outcome.interrupted:
        wanted = len(rendering.request.names) - there
        say(f"interrupted: {_pictures(count)} of {wanted} in {where}{already}")
        raise typer.Exit(stop.status)
    if count:
        say(f"{_pictures(count)} in {where}{already}")
    elif not outcome.failed:
        say(f"nothing to draw: {_pictures(there)} already in {where}")
    if outcome.failed:
        raise typer.Exit(1)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def report_file(path: Path, name: str) -> None:
    """Say that a file was written."""
    say(f"{name}: {path}")


def watch(stop: StopRequest, on_step: OnStep, report: StepReport) -> bool:
    """After each step: whether to stop."""
    on_step(report)
    if stop or report.step == report.nb_steps - 1:
        stop.finish()
    return bool(stop)


class ScoreWatch:
    """A callback that keeps the scores of all steps, for methods that do not return them.

    Parameters
    ----------
    stop, on_step
        See `watch`, which it calls after each step.
    """

    def __init__(self, stop: StopRequest, on_step: OnStep) -> None:
        self._stop = stop
        self._on_step = on_step
        self._scores: list[torch.Tensor] = []

    def __call__(self, report: StepReport) -> bool:
        """Keep the scores of a step; return whether to stop."""
        self._scores.append(report.scores)
        return watch(self._stop, self._on_step, report)

    def table(self, images: int) -> torch.Tensor:
        """Return the scores of so many images: (N, steps)."""
        return torch.stack(self._scores, 1) if self._scores else torch.empty(images, 0)


def network_settings(loaded: LoadedModel) -> dict[str, str]:
    """Return what the settings of a picture say about its network."""
    return {"model": loaded.name, "weights": weights_digest(loaded.model)}


def check_phase_options(
    preset: PresetName, spectrum: Path | None, initial: Path | None = None
) -> None:
    """Refuse options about magnitudes and phases where a preset leaves these free."""
    if find_preset(preset).parametrization == "phase":
        return
    options = {"--spectrum": spectrum, "--initial": initial}
    given = [flag for flag, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(
            f"--preset {preset} leaves the magnitudes and phases free: leave {' and '.join(given)} "
            "out, or choose a preset that optimizes phases, such as fast."
        )


def chosen_magnitudes(preset: PresetName, path: Path | None) -> Spectrum | None:
    """Return the magnitudes of the images; None where a preset leaves them free."""
    if find_preset(preset).parametrization != "phase":
        return None
    return Spectrum.natural() if path is None else Spectrum.from_file(path)


def spectrum_settings(magnitudes: Spectrum | None, path: Path | None) -> dict[str, str]:
    """Return what the settings of a picture say about its magnitudes."""
    if magnitudes is None:
        return {}
    if path is None or magnitudes.size is None or magnitudes.channels is None:
        return {"spectrum": repr(magnitudes)}
    # A file that was measured anew is another one under the same name.
    values = magnitudes.magnitude(*magnitudes.size, magnitudes.channels)
    digest = zlib.crc32(values.numpy().tobytes())
    return {"spectrum": f"{magnitudes}, {digest:08x}", "spectrum_file": str(path)}


def given_settings(settings: type[Settings], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a command's arguments that are settings and were given."""
    names = [field.name for field in dataclasses.fields(settings)]
    return {name: arguments[name] for name in names if arguments.get(name) is not None}


def photograph_settings(path: Path | None) -> dict[str, str]:
    """Return what the settings of a picture say about its photograph; nothing without one."""
    if path is None:
        return {}
    with open_regular(path) as file:  # reading a pipe might never end
        digest = hashlib.sha256(file.readall()).hexdigest()
    return {"photograph": f"sha256 {digest}", "photograph_file": str(path)}
