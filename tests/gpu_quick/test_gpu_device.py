"""Code that only a GPU runs, with stand-ins for torch and the driver."""

import contextlib
import gc
import time
import types
import warnings

import pytest
import torch

import build_native
from benchmarks.gpu import machine
from benchmarks.gpu.build import build_for_gpu
from benchmarks.gpu.job import Job
from benchmarks.gpu.machine import UnusableError, gpu_architecture, query_gpu
from benchmarks.gpu.operations import Meter
from benchmarks.gpu.place import Place
from benchmarks.gpu.profile import NothingSeenError, Profiler
from benchmarks.gpu.records import Records, read_records
from benchmarks.gpu.steps import BOX, Counts, Watch
from benchmarks.gpu.timing import GraphClock, WallClock
from benchmarks.gpu.work import Sizes
from benchmarks.step_parts import Part

DEVICE = torch.device("cuda", 0)


class Device:
    """Stands for torch.cuda: what is queued takes no time, but for the cycles of a sleep."""

    def __init__(self, monkeypatch, host_cycles=0):
        self.host_cycles = host_cycles  # that the host needs to queue a replay
        self.asleep = 0
        self.graphs = []
        self.waits = 0
        fakes = {
            "Stream": lambda *_: types.SimpleNamespace(wait_stream=lambda _: None),
            "current_stream": lambda *_: None,
            "stream": lambda _: contextlib.nullcontext(),
            "CUDAGraph": self.graph,
            "Event": lambda **_: self.event(),
            "synchronize": self.synchronize,
            "_sleep": self.sleep,
            "get_device_properties": lambda _: types.SimpleNamespace(L2_cache_size=2**20),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def graph(self):
        log = []
        self.graphs.append(log)
        return types.SimpleNamespace(
            capture_begin=lambda: log.append("begin"),
            capture_end=lambda: log.append("end"),
            replay=lambda: log.append("replay"),
        )

    def event(self):
        return types.SimpleNamespace(
            record=lambda: None,
            query=lambda: self.asleep <= self.host_cycles,
            synchronize=lambda: None,
            elapsed_time=lambda _: 2.0,
        )

    def synchronize(self, *_):
        self.waits += 1

    def sleep(self, cycles):
        self.asleep = cycles


def test_calls_are_captured_and_replayed(monkeypatch):
    device, calls = Device(monkeypatch), []
    clock = GraphClock(DEVICE)
    assert clock.seconds([lambda: calls.append(1)] * 3, rounds=5) == pytest.approx(2e-3)
    assert len(calls) == 6  # as they are, and captured
    assert device.graphs == [["begin", "end"] + ["replay"] * 7]


def test_a_slow_host_makes_the_device_sleep_longer(monkeypatch):
    device = Device(monkeypatch, host_cycles=2**20)
    clock = GraphClock(DEVICE)
    clock.seconds([lambda: None], rounds=1)
    assert device.asleep == 2**21


def test_a_host_that_never_is_in_time_is_an_error(monkeypatch):
    Device(monkeypatch, host_cycles=2**60)
    with pytest.raises(RuntimeError, match="nothing to do while the replay"):
        GraphClock(DEVICE).seconds([lambda: None], rounds=1)


def test_a_capture_ends_whatever_a_call_raises(monkeypatch):
    device, times = Device(monkeypatch), []

    def call():
        times.append(1)
        if len(times) == 2:
            raise RuntimeError("cannot be captured")

    with pytest.raises(RuntimeError, match="cannot be captured"):
        GraphClock(DEVICE).replay([call])
    assert device.graphs == [["begin", "end"]]
    assert gc.isenabled()


def test_no_garbage_is_collected_in_a_capture(monkeypatch):
    Device(monkeypatch)
    seen = []
    GraphClock(DEVICE).replay([lambda: seen.append(gc.isenabled())])
    assert seen == [True, False]


def test_cold_calls_have_more_arrays_than_a_cache_holds(monkeypatch):
    Device(monkeypatch)
    clock = GraphClock(DEVICE)
    meter = Meter(clock, 1e12)
    for size in (5e6, 5e7, 5e8):
        copies = meter.copies_needed(Part("one", str, int(size)))
        assert copies >= 2
        assert copies * size >= min(clock.cold_bytes, 48 * size)
    assert meter.copies_needed(Part("boxes", str, 512)) == 2


def place():
    return Place(DEVICE, WallClock(), (Sizes(1, 24, 2, 12),))


def test_waits_are_counted_where_they_are(monkeypatch):
    modes = []

    def set_mode(mode):
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)

    device = Device(monkeypatch)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    profiler = types.SimpleNamespace(start=str, stop=lambda steps: steps)
    watch = Watch(place(), Counts(warm_up=2, timed=3, watched=2, profiled=1), profiler)
    waits_before = []
    watch(0)
    watch(7)  # as by a check of the settings
    for step in range(watch.counts.total):
        waits_before.append(device.waits)
        if modes == ["warn"]:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        assert watch(step + 1) == BOX
    assert modes == ["warn", "default"]
    assert list(watch.waits.values()) == [2]
    assert next(iter(watch.waits)).startswith("test_gpu_device.py:")
    assert watch.launches == 1
    # After the first step, and before and after those that are timed: never among them.
    assert waits_before == [0, 1, 2, 2, 2, 3, 3, 3]


def test_a_profiler_that_sees_nothing_is_told(monkeypatch):
    Device(monkeypatch)
    profiler = Profiler(place())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of what its build cannot do
        profiler.start()
        torch.ones(3).sum()
        with pytest.raises(NothingSeenError, match="saw no kernel"):
            profiler.stop(1)


SMI = """#!/bin/sh
case "$1" in
*compute_cap*) echo 9.0;;
*mig*) echo "Field \\"mig.mode.current\\" is not a valid field to query."; exit 2;;
*name*) echo "NVIDIA H100 80GB HBM3";;
*) echo 1;;
esac
"""


def driver(tmp_path, monkeypatch, text):
    program = tmp_path / "nvidia-smi"
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_what_the_driver_says(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, SMI)
    answers = query_gpu()
    assert answers["name"] == "NVIDIA H100 80GB HBM3"
    assert answers["power.limit"] == "1"
    assert gpu_architecture() == "90"


def test_a_driver_that_does_not_work(tmp_path, monkeypatch):
    driver(tmp_path, monkeypatch, "#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "NVIDIA-SMI has failed" in query_gpu()
    with pytest.raises(UnusableError, match=r"NVIDIA-SMI has failed; and torch .* finds no GPU"):
        gpu_architecture()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert gpu_architecture() == "90"


def test_no_gpu_is_a_failure_of_the_first_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    job = Job(Records(tmp_path, "machine"), tmp_path, False, False, time.monotonic() + 60)
    machine.run(job)
    (failure,) = (record for record in read_records(tmp_path) if record["kind"] == "failure")
    assert failure["message"] == "nvidia-smi was not found: there is no NVIDIA driver"


@pytest.mark.parametrize("fails", [False, True])
def test_the_build_is_for_this_gpu(tmp_path, monkeypatch, fails):
    built = tmp_path / "_C.so"
    built.write_bytes(bytes(10**6))
    asked = []

    def build_in_place(architectures, *, folder):
        asked.append((architectures, folder))
        if fails:
            raise build_native.BuildError("error: no such header")
        return built

    driver(tmp_path, monkeypatch, SMI)
    results = tmp_path / "results"
    job = Job(Records(results, "build"), results, False, False, time.monotonic() + 60)
    build_for_gpu(job, build_in_place, tmp_path / "objects")
    assert asked == [(["90"], tmp_path / "objects")]
    (record,) = read_records(results)
    if fails:
        assert record["message"] == "BuildError: error: no such header"
    else:
        assert (record["architecture"], record["MB"]) == ("90", 1.0)
