"""Failures of units: attempts are counted, units are set aside, and the rest is drawn."""

import pytest
import torch
from atlas_networks import BAD, CHANNELS
from conftest import make_plan

from fvfast import atlas
from fvfast.atlas.events import AttemptFailed, UnitDrawn
from fvfast.atlas.failures import Failure, breaks_device, read_failure, runs_out_of_memory
from fvfast.atlas.keys import UnitKey
from fvfast.atlas.verification import take_back
from fvfast.atlas.worker import Drawn, Worker

KEY = UnitKey("1", BAD)


def test_a_unit_that_always_fails_is_set_aside_and_the_rest_is_drawn(place, events):
    plan = make_plan("failing", layer="1")
    status = atlas.draw_atlas(plan, place, report=events)
    assert (status.drawn, status.missing, status.is_complete) == (CHANNELS - 1, 0, False)
    assert [(one.key, one.attempts) for one in status.set_aside] == [(KEY, 3)]
    assert "channel 5 never works" in status.set_aside[0].traceback
    assert "Traceback" in status.set_aside[0].traceback
    told = [(event.attempts, event.is_set_aside) for event in events.of(AttemptFailed)]
    assert told == [(1, False), (2, False), (3, True)]
    found = atlas.verify(place)
    assert (found.checked, found.wrong) == (CHANNELS - 1, [])
    # It is left alone, until somebody asks for it.
    events.clear()
    assert atlas.draw_atlas(plan, place, report=events).set_aside
    assert events == []
    assert take_back(place, found) == 1
    assert atlas.draw_atlas(plan, place, report=events).set_aside
    assert len(events.of(AttemptFailed)) == 3


@pytest.mark.filterwarnings("ignore:step 0")
def test_a_unit_without_a_finite_score_is_set_aside(folder):
    status = atlas.draw_atlas(make_plan("half_finite"), folder)
    assert [one.key.index for one in status.set_aside] == [BAD]
    assert "was not finite from the first step" in status.set_aside[0].error
    assert status.drawn == CHANNELS - 1


def test_a_broken_device_ends_the_worker_and_attempts_are_kept(folder, events):
    """Each call stands for a process, which a broken device ends."""
    plan = make_plan("breaking", layer="1", shard_size=8)
    for attempts in (1, 2, 3):
        with pytest.raises(atlas.BrokenDeviceError, match="device-side assert"):
            atlas.draw_atlas(plan, folder, report=events)
        assert read_failure(folder, KEY).attempts == attempts
    status = atlas.draw_atlas(plan, folder, report=events)
    assert [one.key for one in status.set_aside] == [KEY]
    assert status.drawn == CHANNELS - 1
    # Those that were drawn with it are drawn alone, and nothing of their bad luck is left.
    assert folder.names("failed/1") == [f"{BAD}.json"]
    assert len(events.of(UnitDrawn)) == CHANNELS - 1


class Scripted(Worker):
    """A worker that fails as it is told."""

    def __init__(self, plan, fail, **settings):
        super().__init__(plan, **settings)
        self.fail = fail
        self.batches = []

    def draw(self, _shard, indices):
        self.batches.append(list(indices))
        if error := self.fail(indices):
            raise error
        size = torch.rand(len(indices), 3, 4, 4)
        return Drawn(size, size, torch.ones(len(indices), 2), 1.0)


def test_a_full_memory_halves_the_batch(folder):
    plan = make_plan(units=range(16), shard_size=16, batch_size=8)
    atlas.begin(plan, folder)
    worker = Scripted(plan, lambda batch: len(batch) > 3 and torch.OutOfMemoryError("full"))
    result = atlas.run_shard(plan, 0, folder, worker=worker)
    assert (result.drawn, result.set_aside, worker.batch_size) == (16, 0, 2)
    assert list(map(len, worker.batches)) == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]
    assert folder.names("failed/0") == []


def test_a_full_memory_for_one_unit_is_a_failure(folder):
    plan = make_plan(units=range(4), batch_size=4)
    atlas.begin(plan, folder)
    worker = Scripted(plan, lambda batch: 2 in batch and torch.OutOfMemoryError("full"))
    result = atlas.run_shard(plan, 0, folder, worker=worker)
    assert (result.drawn, result.set_aside) == (3, 1)
    assert worker.batches == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [2], [2], [3]]


def test_where_bits_depend_on_it_the_same_batch_is_drawn_again(folder):
    plan = make_plan(units=range(8), shard_size=8, batch_size=4)
    atlas.begin(plan, folder)
    full = iter([True, False, True, True])
    worker = Scripted(
        plan, lambda _batch: next(full) and torch.OutOfMemoryError("full of x"), must_fit=True
    )
    with pytest.raises(
        atlas.NotEnoughMemoryError, match=r"cpu: .* the 4 pictures .* \(full of x\)"
    ):
        atlas.run_shard(plan, 0, folder, worker=worker)
    assert worker.batches == [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2
    status = atlas.read_status(folder)
    assert (status.drawn, status.missing, status.layers[0].failing) == (4, 4, [])


@pytest.mark.filterwarnings("ignore:out of memory with")
def test_views_of_a_planned_batch_go_through_the_network_at_once_or_not_at_all(folder):
    """The network takes four views at most; an image has two."""
    plan = make_plan("hungry", units=range(8), layer="1", batch_size=4)
    atlas.begin(plan, folder)
    with pytest.raises(atlas.NotEnoughMemoryError, match=r"the 4 pictures .*Tried to allocate"):
        atlas.run_shard(plan, 0, folder, worker=Worker(plan, device="cpu", must_fit=True))
    assert atlas.read_status(folder).drawn == 0
    assert folder.names("failed/1") == []
    # On the CPU that does not matter.
    assert not Worker(plan, device="cpu").must_fit
    assert atlas.run_shard(plan, 0, folder, worker=Worker(plan, device="cpu")).drawn == 8


@pytest.mark.filterwarnings("ignore:out of memory with")
def test_a_picture_that_is_alone_may_be_seen_in_parts(folder):
    plan = make_plan("hungry", units=range(2), layer="1", batch_size=1, nb_crops=6)
    atlas.begin(plan, folder)
    worker = Worker(plan, device="cpu", must_fit=True)
    assert atlas.run_shard(plan, 0, folder, worker=worker).drawn == 2


def test_a_failure_that_passes_is_forgotten(folder, events):
    plan = make_plan(units=range(4))
    atlas.begin(plan, folder)
    failures = iter([ValueError("first"), ValueError("second"), None, ValueError("third")])
    worker = Scripted(plan, lambda _batch: next(failures, None))
    result = atlas.run_shard(plan, 0, folder, worker=worker, report=events)
    assert (result.drawn, result.set_aside) == (4, 0)
    assert [str(event.key) for event in events.of(AttemptFailed)] == ["0/0", "0/1"]
    assert folder.names("failed/0") == []


def test_an_interrupt_is_no_attempt(folder):
    plan = make_plan(units=range(8), shard_size=8, batch_size=4)
    atlas.begin(plan, folder)
    worker = Scripted(plan, lambda batch: 4 in batch and KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        atlas.run_shard(plan, 0, folder, worker=worker)
    status = atlas.read_status(folder)
    assert (status.drawn, status.missing, status.layers[0].failing) == (4, 4, [])


def test_what_cannot_be_written_stops_the_work(folder):
    plan = make_plan(units=range(8), shard_size=8)
    atlas.begin(plan, folder)

    class Stubborn(atlas.Place):
        def put(self, name, data):
            if name.endswith("1.png"):
                raise PermissionError(f"{name} cannot be written")
            super().put(name, data)

    stubborn = Stubborn(folder.address)
    with pytest.raises(PermissionError, match=r"units/0/1\.png cannot be written"):
        atlas.run_shard(plan, 0, stubborn, worker=Scripted(plan, lambda _batch: None))
    assert not folder.exists("units/0/1.json")
    assert folder.names("failed/0") == []


def test_a_damaged_failure_counts_as_one(folder):
    folder.put(KEY.failure, b"{")
    failure = read_failure(folder, KEY)
    assert (failure.key, failure.attempts) == (KEY, 1)
    assert "is not JSON" in failure.error


def test_a_failure_comes_back_as_it_was():
    failure = Failure("p", KEY, "channel", 2, "E: \ud800", "trace", "host", "cpu", "now")
    assert Failure.parse(failure.encode(), failure.key) == failure


@pytest.mark.parametrize(
    ("error", "broken", "full"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, False),
        (torch.OutOfMemoryError("CUDA out of memory."), False, True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), False, True),
        (MemoryError(), False, True),
        (RuntimeError("shapes differ"), False, False),
        (ValueError("CUDA error"), False, False),
    ],
)
def test_errors_are_told_apart(error, broken, full):
    assert (breaks_device(error), runs_out_of_memory(error)) == (broken, full)
