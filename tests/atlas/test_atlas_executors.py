"""Executors: local processes and Ray actors draw what this process draws, and are replaced."""

import os
import random
import time
from pathlib import Path

import pytest
from atlas_networks import BAD, CHANNELS
from conftest import Events, make_plan

from benchmarks.atlas_kills import Findings, addresses, kill_until
from fvfast import atlas
from fvfast.atlas.events import AttemptFailed, Note, UnitDrawn
from fvfast.atlas.executors.base import Job, Task
from fvfast.atlas.executors.endings import MOST_ENDINGS, Endings
from fvfast.atlas.executors.here import Here
from fvfast.atlas.executors.messages import Crashed, Refused, refusal
from fvfast.atlas.executors.processes import Processes
from fvfast.atlas.executors.ray_cluster import shares_of
from fvfast.atlas.keys import UnitKey

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("leaks_end_here"),
]

EXECUTORS = [
    pytest.param(lambda: Processes(2), id="processes"),
    pytest.param(lambda: ray_actors(workers=2), id="ray", marks=pytest.mark.thorough),
]


@pytest.fixture(autouse=True)
def _workers_find_the_networks(monkeypatch):
    """And take one thread each, as small networks gain nothing from more."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def ray_actors(**settings):
    pytest.importorskip("ray")
    from fvfast.atlas.executors.ray_actors import RayActors

    return RayActors(**settings)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_pictures_are_those_of_this_process(tmp_path, executor):
    plan = make_plan(shard_size=8)
    here, there = atlas.Place(tmp_path / "here"), atlas.Place(tmp_path / "there")
    atlas.draw_atlas(plan, here, executor=Here())
    events = Events()
    assert atlas.draw_atlas(plan, there, executor=executor(), report=events).is_complete
    assert sorted(event.key.index for event in events.of(UnitDrawn)) == list(range(CHANNELS))
    for index in range(CHANNELS):
        assert there.read(UnitKey("0", index).picture) == here.read(UnitKey("0", index).picture)
    assert atlas.verify(there).is_right


@pytest.mark.thorough
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_broken_device_replaces_the_worker_until_the_unit_is_set_aside(folder, events, executor):
    plan = make_plan("breaking", layer="1", shard_size=8)
    status = atlas.draw_atlas(plan, folder, executor=executor(), report=events)
    assert [one.key for one in status.set_aside] == [UnitKey("1", BAD)]
    assert (status.drawn, status.missing) == (CHANNELS - 1, 0)
    attempts = [one.attempts for one in events.of(AttemptFailed) if one.key.index == BAD]
    assert attempts == [1, 2, 3]
    assert "device" in " ".join(note.text for note in events.of(Note))


@pytest.mark.thorough
def test_the_only_worker_of_a_cluster_is_replaced(folder, events):
    """Between its end and the start of the next one, there is no worker at all."""
    plan = make_plan("breaking", layer="1", shard_size=8)
    status = atlas.draw_atlas(plan, folder, executor=ray_actors(workers=1), report=events)
    assert (status.drawn, status.missing) == (CHANNELS - 1, 0)
    assert [one.key for one in status.set_aside] == [UnitKey("1", BAD)]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_worker_with_other_weights_is_refused(folder, executor):
    with pytest.raises(atlas.OtherNetworkError, match="has other weights here"):
        atlas.draw_atlas(make_plan("unseeded"), folder, executor=executor())
    assert atlas.read_status(folder).drawn == 0


@pytest.mark.thorough
def test_workers_that_always_end_are_given_up(folder, events):
    """What kills each worker is no unit's fault: none is set aside."""
    plan = make_plan("deadly", layer="1")
    with pytest.raises(atlas.WorkersFailedError, match="ended 3 times without drawing a unit"):
        atlas.draw_atlas(plan, folder, executor=Processes(1, most_endings=3), report=events)
    assert "a worker ended with status 9; another one goes on" in {one.text for one in events}
    status = atlas.read_status(folder)
    assert (status.set_aside, status.layers[0].failing) == ([], [])


@pytest.mark.thorough
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_stop_ends_all_workers_after_their_batches(folder, events, executor):
    plan = make_plan(shard_size=8, batch_size=2, nb_steps=300)
    status = atlas.draw_atlas(
        plan, folder, executor=executor(), report=events,
        stop=lambda: bool(events.of(UnitDrawn)),
    )  # fmt: skip
    assert 0 < status.drawn < CHANNELS
    assert atlas.verify(folder).wrong == []
    assert not status.set_aside


@pytest.mark.parametrize(
    ("kills", "where", "ray"),
    [
        pytest.param(10, "folder", False, marks=pytest.mark.thorough),
        pytest.param(6, "s3", False, marks=pytest.mark.thorough),
        pytest.param(4, "folder", True, marks=pytest.mark.thorough),
    ],
)
def test_kills_lose_nothing(kills, where, ray):
    findings = Findings()
    if ray:
        pytest.importorskip("ray")
    with addresses(where) as places:
        kill_until(
            next(places), findings, kills, units=40, steps=48, ray=ray, pause=2.0,
            chance=random.Random(0),
        )  # fmt: skip
    assert findings.problems == []
    assert findings.units == 40
    assert findings.kills.total() > 0


class Doomed:
    """An executor whose worker dies when it has drawn some units."""

    def draw(self, job, tasks, report, _stop):
        task = next(iter(tasks))
        plan = job.read_plan()
        atlas.run_shard(
            plan, task.shard, job.open_place(print), missing=task.missing[:2], report=report
        )
        raise KeyboardInterrupt


def test_a_driver_that_ends_loses_nothing(folder, events):
    plan = make_plan(units=range(4))
    with pytest.raises(KeyboardInterrupt):
        atlas.draw_atlas(plan, folder, executor=Doomed())
    assert atlas.read_status(folder).drawn == 2
    assert atlas.draw_atlas(plan, folder, report=events).is_complete
    assert len(events) == 2


def test_endings_are_counted_between_units():
    endings = Endings(2)
    for _ in range(3):
        for _ in range(2 * MOST_ENDINGS - 1):
            endings.count("was killed")
        endings.progress()
    for _ in range(2 * MOST_ENDINGS - 1):
        endings.count("was killed")
    with pytest.raises(atlas.WorkersFailedError, match="the last one was killed"):
        endings.count("was killed")


def test_what_workers_refuse_is_told_by_type():
    refused = refusal(FileNotFoundError("x"))
    assert isinstance(refused, Refused)
    assert type(refused.error) is OSError
    assert isinstance(refusal(atlas.OtherNetworkError("x")).error, atlas.OtherNetworkError)
    assert isinstance(refusal(atlas.PlaceLostError("x")).error, atlas.PlaceLostError)
    full = refusal(atlas.NotEnoughMemoryError("x"))
    assert isinstance(full.error, atlas.NotEnoughMemoryError)
    assert isinstance(refusal(KeyError("x")), Crashed)


@pytest.mark.thorough
def test_a_worker_ends_with_its_driver(folder):
    """As when the driver is killed: the connection closes."""
    import multiprocessing

    from fvfast.atlas.executors.worker_process import main

    plan = make_plan(nb_steps=200, batch_size=2)
    atlas.begin(plan, folder)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    job = Job(plan.text, folder.arguments, "cpu")
    process = context.Process(target=main, args=(theirs, job, 1))
    process.start()
    theirs.close()
    ours.send(Task(0, None))
    while not atlas.read_status(folder).drawn:
        assert process.is_alive()
        time.sleep(0.1)
    ours.close()
    process.join(60)
    assert process.exitcode == 0
    assert 0 < atlas.read_status(folder).drawn < CHANNELS
    process.close()


@pytest.mark.thorough
def test_there_is_no_such_cluster(folder):
    with pytest.raises(ConnectionError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        atlas.draw_atlas(make_plan(units=[0]), folder, executor=ray_actors(address="127.0.0.1:1"))


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        ([{"CPU": 8}], None, None, (1, 0, 8)),
        ([{"CPU": 8}], 3, None, (3, 0, 2)),
        ([{"CPU": 2}], 4, None, (4, 0, 0.5)),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 64, "GPU": 8}], None, None, (16, 1, 4)),
        ([{"CPU": 16, "GPU": 8}], None, 0.5, (16, 0.5, 1)),
        ([{"CPU": 4, "GPU": 3}, {"CPU": 4, "GPU": 3}], None, 2, (2, 2, 4)),
        ([{"CPU": 4}, {"CPU": 4}], None, None, (2, 0, 4)),
    ],
)
def test_actors_share_the_cluster(nodes, workers, gpus, expected):
    assert shares_of(nodes, workers, gpus) == expected


def test_a_worker_that_needs_more_than_a_machine_has():
    with pytest.raises(ValueError, match="no machine of the cluster has more than 1 GPUs"):
        shares_of([{"CPU": 4, "GPU": 1}] * 2, None, 2)


def test_ray_is_not_installed(monkeypatch):
    import importlib

    from fvfast.atlas.executors.ray_actors import RayActors

    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'fvfast\[ray\]'"):
        RayActors()
