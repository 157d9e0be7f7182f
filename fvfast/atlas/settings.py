"""Settings of MaCo as a plan holds them: JSON, from which every worker makes the same settings."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from fvfast.run.batches import VIEWS_PER_BATCH
from fvfast.run.maco_settings import MacoSettings, check_has_phases
from fvfast.run.presets import PresetName
from fvfast.run.schedules import Linear
from fvfast.spectrum import Spectrum

DEFAULT_PRESET: PresetName = "fast"
_SCHEDULES = ("noise_intensity", "box_size", "learning_rate", "view_size")


def planned_settings(
    given: Mapping[str, Any], values_range: tuple[float, float], view_size: tuple[int, int]
) -> dict[str, Any]:
    """Resolve the settings of an atlas.

    Parameters
    ----------
    given
        Arguments of `fvfast.maco` by name; the preset has "fast" as its default, and
        ``maco_dataset`` is a file as `fvfast.spectrum.Spectrum.save` writes it.
    values_range
        Of the network, if none is given.
    view_size
        (h, w) of the images that the network takes, which ``custom_shape=None`` stands for.

    Returns
    -------
    planned
        All settings, ready for JSON.

    Raises
    ------
    ValueError, TypeError
        A setting is wrong, or cannot be written into a plan.
    """
    for name in ("optimizer", "regularizers", "initial", "guide", "compile"):
        value = given.get(name)
        if value is None or value is False or (isinstance(value, tuple) and not value):
            continue
        raise ValueError(
            f"{name}= cannot be written into the plan of an atlas, which other machines "
            "read; leave it out."
        )
    spectrum = given.get("maco_dataset")
    chosen = {"preset": DEFAULT_PRESET, "values_range": values_range}
    chosen |= {name: value for name, value in given.items() if name != "maco_dataset"}
    settings = MacoSettings.with_preset(**chosen)
    check_has_phases(settings.preset, maco_dataset=spectrum)
    if settings.custom_shape is None:
        settings = dataclasses.replace(settings, custom_shape=view_size)
    elif isinstance(settings.custom_shape, int):
        settings = dataclasses.replace(settings, custom_shape=(settings.custom_shape,) * 2)
    planned = settings.described() | {"spectrum": _spectrum(spectrum)}
    _check_same(settings, read_settings({**planned, "spectrum": None}))
    return planned


def read_settings(planned: Mapping[str, Any]) -> MacoSettings:
    """Make the settings that a plan holds.

    Raises
    ------
    ValueError, TypeError
        They are not settings of MaCo.
    OSError
        The file of the spectrum cannot be read.
    """
    preset = planned.get("preset", DEFAULT_PRESET)
    usual = MacoSettings.with_preset(
        preset=preset, nb_steps=planned.get("nb_steps", 1), seed=planned.get("seed", 0)
    )
    described = usual.described()
    values: dict[str, Any] = {"preset": preset}
    for name in described:
        value = planned.get(name)
        # What the preset has, such as its optimizer, may be more than JSON can say.
        values[name] = getattr(usual, name) if value == described[name] else _read(name, value)
    values["maco_dataset"] = _read_spectrum(planned.get("spectrum"))
    return MacoSettings(**values)


def batch_size_for(settings: MacoSettings) -> int:
    """Return how many pictures are drawn together by default, as in `fvfast.maco_batch`."""
    return max(1, VIEWS_PER_BATCH // settings.views_per_image)


def _read(name: str, value: Any) -> Any:
    if name in _SCHEDULES and isinstance(value, list):
        return Linear(*value)
    if name == "optimizer" and value == "default":
        return None
    return tuple(value) if isinstance(value, list) else value


def _check_same(settings: MacoSettings, read: MacoSettings) -> None:
    """Refuse settings of which JSON holds less than they are, such as functions of the step."""
    for name in _SCHEDULES:
        ours, theirs = settings.schedule(name), read.schedule(name)
        steps = range(settings.nb_steps)
        if (ours is None) != (theirs is None) or (
            ours is not None and theirs is not None and any(ours(n) != theirs(n) for n in steps)
        ):
            raise ValueError(
                f"{name}={getattr(settings, name)!r} cannot be written into the plan of an atlas; "
                "expected a number, a fvfast.Linear, or what a preset has."
            )


def _spectrum(file: Any) -> dict[str, str] | None:
    if file is None:
        return None
    if not isinstance(file, (str, Path)):
        raise TypeError(
            f"maco_dataset of an atlas is the path of a file that Spectrum.save wrote; got a "
            f"{type(file).__name__}."
        )
    path = Path(file).resolve()
    Spectrum.from_file(path)  # refuses what is none
    return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _read_spectrum(planned: Any) -> Spectrum | None:
    if planned is None:
        return None
    path = Path(cast(str, planned["file"]))
    if hashlib.sha256(path.read_bytes()).hexdigest() != planned["sha256"]:
        raise ValueError(f"{path} is another spectrum than the one that the plan was made with.")
    return Spectrum.from_file(path)
