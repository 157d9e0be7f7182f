"""Who draws what `benchmarks.quality` judges: fvfast, or another library's own code."""

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.peers.contestants import PEERS, ROOT
from benchmarks.quality_recipes import FUNCTIONS, Recipe
from benchmarks.stopwatch import Stopwatch
from fvfast import Objective
from fvfast.models import LoadedModel
from fvfast.run.loop import StepReport

Row = dict[str, Any]
Pictures = list[tuple[Row, torch.Tensor]]
"""For each checkpoint, its step and times, and the picture (1, C, H, W)."""


class Artist(Protocol):
    """Draws pictures of subjects, such as classes, by one recipe."""

    def draw(self, subject: Any, seed: int, stop: Callable[[], bool]) -> Pictures:
        """Run the recipe once; it ends early, with fewer pictures, when it is to stop."""
        ...


def checkpoint_steps(nb_steps: int, count: int) -> list[int]:
    """Return after how many steps pictures are copied: in equal ratios from 1/16 of the run on."""
    if count == 1:
        return [nb_steps]
    spread = np.geomspace(max(1.0, nb_steps / 16), nb_steps, count)
    return sorted({*(int(step) for step in spread.round()), nb_steps})


def class_objective(loaded: LoadedModel, index: int) -> Objective:
    """Make the objective of a class, as the command line does."""
    return Objective.neuron(
        loaded.model, -1, index, names=class_name(loaded, index),
        input_shape=loaded.input_shape, preprocess=loaded.preprocess,
    )  # fmt: skip


def class_name(loaded: LoadedModel, index: int) -> str:
    """Return the name of a class, or its index if names are not known."""
    return loaded.categories[index] if loaded.categories else f"class {index}"


@dataclasses.dataclass
class OwnArtist:
    """Draws with `fvfast.maco` or `fvfast.optimize`.

    Attributes
    ----------
    recipe
        What to draw by.
    loaded
        The network.
    checkpoints
        Pictures along a run.
    precision
        For all recipes; None for what each says.
    objective_of
        Makes the objective of a subject.
    """

    recipe: Recipe
    loaded: LoadedModel
    checkpoints: int
    precision: str | None
    objective_of: Callable[[LoadedModel, Any], Objective] = class_objective
    _is_set_up: bool = dataclasses.field(default=False, init=False)

    def draw(self, subject: Any, seed: int, stop: Callable[[], bool]) -> Pictures:
        """Run the recipe once; pictures are copied with the clock stopped."""
        if not self._is_set_up:
            # One step, so that setup on first use does not count as the recipe's time.
            self._run(subject, 0, lambda _report: True)
            self._is_set_up = True
        steps = checkpoint_steps(self.recipe.nb_steps, self.checkpoints)
        pictures: Pictures = []
        watch = Stopwatch()

        def take(report: StepReport) -> bool:
            if report.step + 1 in steps:
                watch.stop()
                times = {
                    "step": report.step + 1,
                    "seconds": round(watch.seconds, 4),
                    "cpu_seconds": round(watch.cpu_seconds, 4),
                    "other_load_percent": watch.other_load_percent(),
                }
                pictures.append((times, report.images.detach().cpu().clone()))
                watch.start()
            return stop()

        watch.start()
        self._run(subject, seed, take)
        return pictures

    def _run(self, subject: Any, seed: int, callback: Callable[[StepReport], bool]) -> None:
        settings = dict(self.recipe.arguments)
        if self.precision is not None:
            settings["precision"] = self.precision
        FUNCTIONS[self.recipe.method](
            self.objective_of(self.loaded, subject), values_range=self.loaded.values_range,
            seed=seed, progress=False, callback=callback, **settings,
        )  # fmt: skip


class PeerArtist:
    """Draws with another library's own code, in a process of its own; a context manager.

    Its seconds leave the first step out, in which Xplique traces its graph and others set up.

    Parameters
    ----------
    recipe
        Of a method that is a library's name.
    weights
        File of the network's weights, see `export_network`.
    loaded
        The network.
    threads
        Of the library's framework.
    """

    def __init__(self, recipe: Recipe, weights: Path, loaded: LoadedModel, threads: int) -> None:
        self._recipe = recipe
        library = recipe.method
        python = PEERS / f".venv-{library}" / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"{recipe.name}: {library} is not installed; run make bench-peers.")
        self._folder = tempfile.TemporaryDirectory()
        variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.peers.{library}_artist"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._folder.name,
            stderr=subprocess.DEVNULL, env={**os.environ, **variables},
        )  # fmt: skip
        self._ask(
            weights=str(weights), threads=threads, values_range=list(loaded.values_range),
            model_size=loaded.input_shape[1],
        )  # fmt: skip

    def draw(self, subject: int, seed: int, stop: Callable[[], bool]) -> Pictures:
        """Draw one picture of a class, after the last step."""
        if stop():
            return []
        watch = Stopwatch()
        watch.start()
        answer = self._ask(class_index=subject, seed=seed, nb_steps=self._recipe.nb_steps)
        watch.stop()
        image = torch.from_numpy(np.load(answer.pop("image"))).float()
        steps = self._recipe.nb_steps
        times = {key: round(value * steps, 4) for key, value in answer.items()}
        watch.cpu_seconds = times["cpu_seconds"]
        load = watch.other_load_percent()
        return [({"step": steps, **times, "other_load_percent": load}, image[None])]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{self._recipe.method} ended with status {self._process.wait()}: run "
                f"{self._process.args!r} to see why."
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def artist_of(
    recipe: Recipe,
    loaded: LoadedModel,
    *,
    checkpoints: int,
    precision: str | None,
    threads: int,
    objective_of: Callable[[LoadedModel, Any], Objective] = class_objective,
) -> Iterator[Artist]:
    """Prepare who draws by a recipe; other libraries draw classes, whatever ``objective_of`` is."""
    if recipe.method in FUNCTIONS:
        yield OwnArtist(recipe, loaded, checkpoints, precision, objective_of)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "network.npz"
        export_network(loaded.model, weights)
        with contextlib.closing(PeerArtist(recipe, weights, loaded, threads)) as artist:
            yield artist


def export_network(model: torch.nn.Module, path: Path) -> None:
    """Write an EfficientNet-Lite for Keras: its weights by name, and the strides of its blocks."""
    strides = [block._depthwise_conv.stride for block in model._blocks]  # type: ignore[union-attr]
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    np.savez(path, strides=np.array([stride[0] for stride in strides]), **arrays)
