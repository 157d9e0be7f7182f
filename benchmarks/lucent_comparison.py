"""Draws units with Lucent and with `fvfast.lucent`, in turns: speed, scores, likeness of images.

Run with ``make bench-lucent``, which installs Lucent in an environment of its own. Both draw the
same units of EfficientNet-Lite0 with the same seeds. Without transformations nothing else is
random, and the images can be compared pixel by pixel. With them, the two draw other numbers, as
from other seeds.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from benchmarks.harness import machine, save_row
from benchmarks.load import busy_seconds, share_of_others
from fvfast.models import LoadedModel, load_model

ROOT = Path(__file__).resolve().parents[1]
LUCENT = Path(__file__).parent / "peers" / ".venv-lucent" / "bin" / "python"
SHEET = Path("build/lucent_comparison.png")
UNITS = (("_fc", 88), ("_fc", 985), ("_conv_head", 5))
"""Layers and units: the classes macaw and daisy, and a channel."""

TRANSFORMS = ("none", "standard")

LAYER_OF_CLASSES = "_fc"

Pixels = np.ndarray[Any, Any]


class Worker:
    """A process that draws with one of the libraries; a context manager.

    Parameters
    ----------
    package
        "lucent" or "fvfast.lucent".
    python
        The interpreter of its environment.
    threads
        Of torch.
    """

    def __init__(self, package: str, python: Path, threads: int) -> None:
        self.package = package
        self._folder = tempfile.TemporaryDirectory()
        self._log = (Path(self._folder.name) / "log").open("w+")
        self._process = subprocess.Popen(
            [
                python, "-m", "benchmarks.peers.lucent_worker",
                "--package", package, "--threads", str(threads),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            cwd=self._folder.name,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
                 "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    def draw(self, **request: Any) -> tuple[Pixels, dict[str, float]]:
        """Draw a unit; return its images (2, H, W, C) and the measurements, see the worker."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        file = Path(self._folder.name) / "images.npy"
        busy = busy_seconds()
        with contextlib.suppress(BrokenPipeError):
            requests.write(json.dumps({**request, "file": str(file)}) + "\n")
            requests.flush()
        answer = answers.readline()
        if not answer:
            self._log.seek(0)
            raise RuntimeError(f"{self.package} ended:\n{self._log.read()[-4000:]}")
        measured = json.loads(answer)
        wall = measured["first_seconds"] + measured["seconds"] * (request["steps"] - 1)
        own = measured["cpu_seconds"] * request["steps"]
        measured["other_load"] = share_of_others(busy, busy_seconds(), own, wall)
        return np.load(file), measured


def judged(image: Pixels, layer: str, unit: int, network: LoadedModel) -> dict[str, float]:
    """Score of a unit for an image as the network sees it, without transformations."""
    low, high = network.values_range
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    views = low + (high - low) * functional.interpolate(
        pixels, network.input_shape[1:], mode="bilinear", align_corners=True
    )
    outputs: list[torch.Tensor] = []
    module = dict(network.model.named_modules())[layer]
    hook = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.no_grad():
        logits = network.model(views)
    hook.remove()
    scores = {"score": float(outputs[0][0, unit].mean())}
    if layer == LAYER_OF_CLASSES:
        scores["probability"] = float(logits.softmax(1)[0, unit])
    return scores


def likeness(ours: Pixels, theirs: Pixels) -> dict[str, float]:
    """Root mean square of the difference and correlation of the pixels, after a step and all."""
    found = {}
    for when, one, other in zip(("first", "last"), ours, theirs, strict=True):
        found[f"{when}_rms"] = float(np.sqrt(((one - other) ** 2).mean()))
        found[f"{when}_correlation"] = float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    return found


def rows(
    workers: dict[str, Worker],
    network: LoadedModel,
    transforms: Sequence[str],
    steps: int,
    seeds: int,
) -> Iterator[tuple[dict[str, Any], list[Pixels]]]:
    """Draw all units; yield what is recorded of each, with the last images of both libraries."""
    names = {name.replace(".", "_"): name for name, _ in network.model.named_modules()}
    for name in transforms:
        for layer, unit in UNITS:
            for seed in range(seeds):
                row: dict[str, Any] = {
                    "transforms": name,
                    "layer": layer, "unit": unit, "seed": seed, "steps": steps,
                }  # fmt: skip
                images = []
                for package, worker in workers.items():
                    both, measured = worker.draw(
                        layer=layer, unit=unit, seed=seed, steps=steps, robust=name == "standard"
                    )
                    images.append(both)
                    found = {**measured, **judged(both[-1], names[layer], unit, network)}
                    found.setdefault("probability", float("nan"))
                    row |= {f"{package}_{key}": value for key, value in found.items()}
                yield {**row, **likeness(*images)}, [both[-1] for both in images]


def main() -> None:
    """Compare the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lucent-python", type=Path, default=LUCENT)
    parser.add_argument("--transforms", nargs="+", choices=TRANSFORMS, default=TRANSFORMS)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    network = load_model("efficientnet_lite0")
    network.model.eval()
    found, sheet = [], []
    with contextlib.ExitStack() as stack:
        workers = {
            package: stack.enter_context(Worker(package, python, arguments.threads))
            for package, python in (
                ("lucent", arguments.lucent_python),
                ("fvfast.lucent", Path(sys.executable)),
            )
        }
        for row, images in rows(
            workers, network, arguments.transforms, arguments.steps, arguments.seeds
        ):
            found.append(row)
            sheet.append(np.concatenate(images, axis=0))
            shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            print(shown, flush=True)
            save_row("lucent_comparison", {**machine(), **row})
    for transforms in arguments.transforms:
        chosen = [row for row in found if row["transforms"] == transforms]
        for key in ("seconds", "cpu_seconds"):
            ours, theirs = (
                statistics.median(row[f"{package}_{key}"] for row in chosen)
                for package in ("fvfast.lucent", "lucent")
            )
            print(f"{transforms}: {key} per step {ours:.4f}, Lucent {theirs:.4f}")
    SHEET.parent.mkdir(exist_ok=True)
    Image.fromarray((np.concatenate(sheet, axis=1) * 255).astype("u1")).save(SHEET)


if __name__ == "__main__":
    main()
