"""The stage that times whole steps with networks, and records how they run and what they await."""

import collections
import contextlib
import dataclasses
import itertools
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.gpu.around_network import compiled_step, fvfast_step, reference_step
from benchmarks.gpu.job import Job
from benchmarks.gpu.network_alone import NetworkAlone
from benchmarks.gpu.place import Place, measuring_place
from benchmarks.gpu.profile import Launches, NothingSeenError, Profiler, profile_calls
from benchmarks.gpu.work import CROP_FORMATS, make_work, name_of
from fvfast import maco
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.run import Run

GRAPH = "FVFAST_CUDA_GRAPH"
PRECISIONS = ("bfloat16", "float32")
BOX = 0.25
"""Mean side of the boxes."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with random weights.

    Attributes
    ----------
    name
        Name of the network.
    size
        Height and width of its input.
    """

    name: str
    size: int

    def build(self, device: torch.device) -> nn.Module:
        """Make it, in evaluation mode."""
        import torchvision

        torch.manual_seed(0)
        model: nn.Module = getattr(torchvision.models, self.name)(weights=None)
        for layer in model.modules():
            # The last layer of a new transformer is zero, and so would be all gradients.
            if isinstance(layer, nn.Linear) and not layer.weight.any():
                nn.init.normal_(layer.weight, std=0.02)
        return model.eval().to(device)


class TinyNetwork(Network):
    """Replaces the networks in a rehearsal."""

    def build(self, device: torch.device) -> nn.Module:
        """Make a network with one convolution."""
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 5),
        ).eval().to(device)  # fmt: skip


NETWORKS = (Network("resnet50", 224), Network("mobilenet_v2", 224), Network("vit_b_16", 224))
REHEARSED = (TinyNetwork("tiny", 12),)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Numbers of steps of a run, in order: to warm up, to time, to find waits, to profile."""

    warm_up: int
    timed: int
    watched: int
    profiled: int

    @property
    def total(self) -> int:
        """Number of steps of the run."""
        return self.warm_up + self.timed + self.watched + self.profiled


WHOLE, TINY = Counts(8, 40, 3, 5), Counts(4, 2, 1, 1)


def run(job: Job) -> None:
    """Time steps: first as in a usual run, then without graphs, then without a network."""
    with measuring_place(job.rehearsed) as place:
        sizes, counts = place.sizes[0], TINY if job.rehearsed else WHOLE
        alone: dict[tuple[str, Network], NetworkAlone] = {}
        networks = REHEARSED if job.rehearsed else NETWORKS
        for graph, precision, network in itertools.product((True, False), PRECISIONS, networks):
            title = {
                "network": network.name, "precision": precision, "graph": "on" if graph else "off"
            }  # fmt: skip
            with job.records.attempt(str(title)), graph_switched(graph):
                key = precision, network
                if key not in alone:
                    model = network.build(place.device)
                    alone[key] = NetworkAlone(place, model, network.size, sizes.crops, precision)
                    for name, value in alone[key].plan.describe():
                        job.records.add("plan", **title, what=name, value=value)
                time_steps(job, place, alone[key], title, counts)
            place.free_memory()
        step_around_the_network(job, place)


def step_around_the_network(job: Job, place: Place) -> None:
    """Time the step without a network, launched from Python, against the PyTorch reference."""
    for sizes, (dtype, memory_format) in itertools.product(place.sizes, CROP_FORMATS):
        title = {"images": sizes.images, "crops are": name_of(dtype, memory_format)}
        with job.records.attempt(f"the step around the network, {title}"):
            work = make_work(sizes, place.device, dtype, memory_format)
            steps = {"fvfast": fvfast_step(work)}
            if job.thorough or job.rehearsed:
                steps["reference"] = reference_step(work)
            if job.thorough and not job.rehearsed:
                with job.records.attempt(f"the compiled reference, {title}"):
                    steps["reference, compiled"] = compiled_step(work)
            for name, step in steps.items():
                seconds = wall_seconds(place, step, 3 if job.rehearsed else 50)
                job.records.add(
                    "around", **title, step=name, ms=1e3 * seconds,
                    **launches_of(job, place, step, f"{name}, {title}"),
                )  # fmt: skip
        place.free_memory()


def wall_seconds(place: Place, step: Any, count: int) -> float:
    """Measure the seconds of a step by the wall clock; wait for the device only at the end."""
    for _ in range(3):
        step()
    place.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        step()
    place.synchronize()
    return (time.perf_counter() - began) / count


def launches_of(job: Job, place: Place, step: Any, what: str) -> dict[str, object]:
    """Return what a step launches; nothing if the profiler does not see it."""
    try:
        return profile_calls(place, step, steps=1).row()
    except NothingSeenError as error:
        job.records.leave_out(f"launches, {what}", str(error))
        return {}


class Watch:
    """Measures the steps of a run, as the function that says how large the boxes of a step are.

    It is called when a step begins. A callback would make the host look at each step's numbers.

    Parameters
    ----------
    place
        Where the run takes place.
    counts
        Numbers of steps.
    profiler
        Counts launches. Default: torch's.
    """

    def __init__(self, place: Place, counts: Counts, profiler: Profiler | None = None) -> None:
        self.place = place
        self.counts = counts
        self.began = time.perf_counter()
        self.first_seconds = 0.0
        self.seconds = 0.0
        self.launches: Launches | None = None
        self.unseen = ""
        self.waits: collections.Counter[str] = collections.Counter()
        self._profiler = Profiler(place) if profiler is None else profiler
        self._done = 0
        self._warnings: Any = None
        self._told: list[warnings.WarningMessage] = []

    def __call__(self, step: int) -> float:
        """Note that the steps before this one have been taken."""
        if step == self._done + 1:  # not if the function is only tried out
            self._done = step
            self._have_taken(step)
        return BOX

    def _have_taken(self, done: int) -> None:
        counts = self.counts
        timed = counts.warm_up + counts.timed
        if done == 1:
            self.place.synchronize()
            self.first_seconds = time.perf_counter() - self.began
        if done == counts.warm_up:
            self.place.synchronize()
            self.began = time.perf_counter()
        # Time before profiling: a profiler may make the launches that follow slower.
        if done == timed:
            self.place.synchronize()
            self.seconds = (time.perf_counter() - self.began) / counts.timed
            self._listen()
        if done == timed + counts.watched:
            self._hear()
            self._profiler.start()
        if done == counts.total:
            try:
                self.launches = self._profiler.stop(counts.profiled)
            except NothingSeenError as error:
                self.unseen = str(error)

    def _listen(self) -> None:
        """Have torch warn of each wait for the device."""
        self._warnings = warnings.catch_warnings(record=True)
        self._told = self._warnings.__enter__()
        warnings.simplefilter("always")
        if self.place.is_gpu:
            torch.cuda.set_sync_debug_mode("warn")

    def _hear(self) -> None:
        if self.place.is_gpu:
            torch.cuda.set_sync_debug_mode("default")
        self._warnings.__exit__(None, None, None)
        for one in self._told:
            text = str(one.message)
            # Not torch's warning that this mode is a prototype.
            if "synchroniz" in text and "prototype" not in text:
                self.waits[f"{os.path.basename(one.filename)}:{one.lineno}"] += 1


def time_steps(
    job: Job, place: Place, alone: NetworkAlone, title: dict[str, str], counts: Counts
) -> None:
    """Run `maco` on a network and record one row."""
    sizes, watch = place.sizes[0], Watch(place, counts)
    maco(
        alone.objective,
        nb_steps=counts.total + 1,
        box_size=watch,
        nb_crops=sizes.crops,
        custom_shape=(sizes.image, sizes.image),
        progress=False,
        device=place.device,
        precision=title["precision"],
    )
    network_seconds = alone.seconds(counts.timed)
    whole = {}
    if title["graph"] == "on":
        seconds, how = time_whole_steps(place, alone, title["precision"], counts)
        whole = {"whole step ms": 1e3 * seconds, "steps run": how}
    row = {} if watch.launches is None else watch.launches.row()
    if watch.launches is None:
        job.records.leave_out(f"launches, {title}", watch.unseen)
    job.records.add(
        "step", **title,
        **{
            "step ms": 1e3 * watch.seconds,
            "network ms": 1e3 * network_seconds,
            "first step ms": 1e3 * watch.first_seconds,
            "form": dict(alone.plan.describe())["runs"],
            "passes run": alone.passes_run,
            **whole,
        },
        **row,
    )  # fmt: skip
    for where, count in watch.waits.items():
        job.records.add("wait", **title, where=where, **{"per step": count / counts.watched})


def time_whole_steps(
    place: Place, alone: NetworkAlone, precision: str, counts: Counts
) -> tuple[float, str]:
    """Measure the seconds of a step in which no function of the user takes a part.

    They are the difference between a long and a short run, both with graphs of earlier ones.

    Returns
    -------
    seconds, how
        Of a step, and whether steps were replayed, or why not.
    """
    sizes = place.sizes[0]
    seconds, how = [], ""
    for nb_steps in (counts.warm_up, counts.warm_up + counts.timed):
        settings = MacoSettings(
            nb_steps=nb_steps, box_size=BOX, nb_crops=sizes.crops,
            custom_shape=(sizes.image, sizes.image), precision=precision,  # type: ignore[arg-type]
        )  # fmt: skip
        run = Run(alone.objective, settings, progress=False, device=place.device)
        run.draw([0])
        place.synchronize()
        began = time.perf_counter()
        run.draw([0])
        place.synchronize()
        seconds.append(time.perf_counter() - began)
        how = run.how_steps_run
    return (seconds[1] - seconds[0]) / counts.timed, how


@contextlib.contextmanager
def graph_switched(on: bool) -> Iterator[None]:
    """Switch the engine's capture of graphs on or off."""
    values = {} if on else {GRAPH: "0"}
    with mock.patch.dict(os.environ, values):
        if on:
            os.environ.pop(GRAPH, None)
        yield
