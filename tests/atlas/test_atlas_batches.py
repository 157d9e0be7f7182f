"""How many pictures of an atlas are drawn together: chosen once, and a part of the plan."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from atlas_networks import CHANNELS, SHAPE
from conftest import SETTINGS, make_plan

from fvfast import atlas
from fvfast.atlas.keys import PLAN, UnitKey
from fvfast.atlas.plan import GIVEN
from fvfast.atlas.planned_batches import (
    NOT_MEASURED,
    WITHOUT_GPU,
    choose_batch_size,
    gpu_to_measure_on,
    how_chosen,
    tried_by,
)
from fvfast.atlas.records import Record
from fvfast.atlas.sizes import drawn_together, goes_on_with, largest_batch_for, shard_size_for
from fvfast.atlas.trials import TRIAL_STEPS, Trials, Tried, latest, shared, try_sizes
from fvfast.atlas.worker import has_to_fit
from fvfast.engine.network.layers import trace_layers
from fvfast.models import LoadedModel, load_model
from fvfast.run.batch_sizes import BatchCost

FREE = 10**9
USUAL = 32  # pictures of two crops each


class Device:
    """A stand-in for a GPU: what batches cost there, and which of them were drawn."""

    def __init__(self, seconds=lambda _: 1.0, holds=math.inf, peak=1):
        self.seconds, self.holds, self.peak = seconds, holds, peak
        self.drawn = []
        self.most = 1000
        self.is_closed = False

    def cost(self, size):
        self.drawn.append(size)
        if size > self.holds:
            return None
        return BatchCost(size, self.seconds(size), self.peak * size, FREE)

    def close(self):
        self.is_closed = True


def test_batches_are_tried_as_long_as_larger_ones_save_time():
    device = Device(lambda size: max(1.0, size / 16.4))
    tried = try_sizes(4, 1000, device.cost)
    assert (tried.size, device.drawn) == (16, [4, 8, 16, 32])
    assert tried.seconds == {4: 0.25, 8: 0.125, 16: 0.0625, 32: pytest.approx(1 / 16.4)}


@pytest.mark.parametrize(("most", "expected"), [(4, [4]), (8, [4, 8]), (31, [4, 8, 16])])
def test_no_more_are_tried_than_make_sense(most, expected):
    device = Device()
    assert (try_sizes(4, most, device.cost).size, device.drawn) == (expected[-1], expected)


def test_what_does_not_fit_is_not_chosen():
    device = Device(holds=3)
    tried = try_sizes(8, 64, device.cost)
    assert (tried.size, tried.too_many, device.drawn) == (2, 4, [8, 4, 2])
    device = Device(holds=20)
    tried = try_sizes(8, 64, device.cost)
    assert (tried.size, tried.too_many, device.drawn) == (16, 32, [8, 16, 32])
    # Not even one: a worker will say what is wrong.
    assert try_sizes(2, 64, Device(holds=0).cost).size == 1
    # It is not tried if it might not fit: 32 would take more than a share of the memory.
    device = Device(peak=FREE // 50)
    assert (try_sizes(8, 64, device.cost).size, device.drawn) == (16, [8, 16])


def test_a_run_that_is_too_short_to_be_timed_keeps_the_size():
    device = Device(lambda _: math.nan)
    tried = try_sizes(8, 64, device.cost)
    assert (tried.size, device.drawn, str(tried)) == (8, [8], "fits the memory")


def test_how_a_size_was_chosen_is_told():
    tried = Tried(16, {8: 0.00125, 16: 0.001}, 32)
    assert how_chosen(tried, "NVIDIA H200") == (
        "tried on NVIDIA H200: a step takes so many ms for each picture: 1.25 of 8, 1 of 16; 32 do "
        "not fit the memory"
    )


def test_workers_that_share_a_memory_have_a_part_of_it():
    cost = BatchCost(8, 1.0, 400, 1000)
    assert shared(cost, 2) == BatchCost(8, 1.0, 400, 500)
    assert shared(cost, 3) is None
    unknown = BatchCost(8, 1.0, 400, None)
    assert shared(unknown, 3) == unknown


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 8), (512, 8), (513, 16), (4096, 64), (32_000, 64)]
)
def test_large_batches_are_for_many_units(count, expected):
    """So many workers have shards, and trials take a small part of the time."""
    assert largest_batch_for(count, 8) == expected
    # Shards are as large as with the default, so as many workers have some.
    assert shard_size_for(count, expected) == shard_size_for(count, 8)


def trials(network="tiny", layer="0", first=4, **settings):
    plan = make_plan(network, layer=layer, **settings)
    loaded = load_model(f"atlas_networks:{network}")
    return Trials(plan, loaded, torch.device("cpu"), first=first)


def test_a_trial_draws_a_batch_and_counts_what_it_costs():
    trial = trials()
    assert trial.most == CHANNELS
    cost = trial.cost(8)
    assert (cost.images, cost.peak_bytes, cost.free_bytes) == (8, 0, None)
    assert math.isnan(cost.seconds_per_step)
    # There are no more units.
    assert trial.cost(8 * CHANNELS).images == CHANNELS
    trial.close()


def test_a_trial_is_short():
    steps = [trials(nb_steps=count)._settings.nb_steps for count in (3, 10 * TRIAL_STEPS)]
    assert steps == [3, TRIAL_STEPS]


def test_a_batch_whose_views_have_to_be_split_does_not_fit():
    """The network takes four views; an image has two."""
    trial = trials("hungry", layer="1")
    assert trial.cost(4) is None
    assert trial.cost(2).images == 2


def test_another_error_of_a_trial_is_told():
    with pytest.raises(RuntimeError, match="channel 5 never works"):
        trials("failing", layer="1").cost(8)


def test_the_last_layer_with_several_batches_is_tried():
    layers = [atlas.LayerUnits("4"), atlas.LayerUnits("0"), atlas.LayerUnits("1", range(9))]
    plan = atlas.make_plan("atlas_networks:tiny", layers, **SETTINGS)
    infos = trace_layers(load_model("atlas_networks:tiny").model, SHAPE)
    names = [latest(plan.layers, infos, size).name for size in (4, 9, 10, 24)]
    assert names == ["4", "4", "0", "4"]


def test_without_a_gpu_the_size_is_the_default_and_says_why():
    plan = make_plan(device="cpu")
    assert (plan.batch_size, plan.batch_size_chosen) == (USUAL, WITHOUT_GPU)
    assert make_plan(batch_size="default").batch_size_chosen == NOT_MEASURED
    assert make_plan(batch_size=3).batch_size_chosen == GIVEN
    with pytest.raises(ValueError, match="'auto' measures on a GPU, and there is none here"):
        make_plan(batch_size="auto", device="cpu")
    for wrong, error in ((0, ValueError), ("many", TypeError), (2.5, TypeError)):
        with pytest.raises(error, match="batch_size"):
            make_plan(batch_size=wrong)


def test_only_gpus_are_measured():
    assert gpu_to_measure_on("cpu") is None
    if not torch.cuda.is_available():
        assert gpu_to_measure_on(None) is None


def measured(size=16, **settings):
    """A plan as it is made on a machine with a GPU."""
    plan = make_plan(batch_size=size, **settings)
    return dataclasses.replace(plan, batch_size_chosen=how_chosen(Tried(size, {}), "a GPU"))


def old(**settings):
    """A plan as earlier versions wrote it."""
    plan = make_plan(batch_size="default", **settings)
    return dataclasses.replace(plan, batch_size=None, batch_size_chosen="")


def large(count):
    """A plan of many units that says no number of pictures; 16 pictures make 64 views."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, count, 1)).eval()
    loaded = LoadedModel(model, "large", SHAPE)
    plan = atlas.make_plan(
        "large", ["0"], loaded=loaded, batch_size="default", **SETTINGS | {"nb_crops": 4}
    )
    return dataclasses.replace(plan, batch_size=None, batch_size_chosen="")


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(1024, 1000, [16]), (1025, 1000, [16, 32]), (2049, 1000, [16, 32, 64]), (2049, 40, [16, 32])],
)
def test_trials_choose_for_a_plan(count, most, expected):
    plan, device = large(count), Device()
    device.most = most
    chosen = tried_by(plan, device, "NVIDIA H200")
    assert (chosen.batch_size, device.drawn, device.is_closed) == (expected[-1], expected, True)
    assert chosen.batch_size_chosen.startswith("tried on NVIDIA H200: a step takes")
    # Trials do not change which units are a shard.
    assert goes_on_with(chosen, plan)
    assert chosen.shard_size == plan.shard_size


def test_trials_give_back_the_memory_after_an_error_too():
    device = Device(seconds=lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tried_by(large(100), device, "x")
    assert device.is_closed


def test_a_batch_has_to_fit_where_bits_depend_on_it():
    assert has_to_fit(measured(), torch.device("cuda", 0))
    assert not has_to_fit(measured(), torch.device("cpu"))
    assert not has_to_fit(old(), torch.device("cuda", 0))


def test_a_plan_holds_the_size_and_how_it_was_chosen():
    plan = measured()
    assert atlas.Plan.parse(plan.text) == plan
    values = json.loads(plan.text)
    assert (values["batch_size"], values["batch_size_chosen"]) == (
        16, "tried on a GPU: fits the memory",
    )  # fmt: skip
    assert plan.sha256 != make_plan(batch_size=8).sha256
    assert drawn_together(plan) == drawn_together(plan, 16) == 16


def sizes_drawn(place):
    records = (UnitKey("0", index) for index in range(CHANNELS))
    return {Record.parse(place.read(key.record), key).batch_size for key in records}


def test_who_does_not_ask_goes_on_with_the_size_that_is_there(folder):
    there = measured(8)
    atlas.begin(there, folder)
    assert atlas.begin(make_plan(), folder) == there
    assert atlas.begin(measured(4), folder) == there
    assert atlas.begin(make_plan(batch_size=8), folder) == there
    assert make_plan(before=there) == make_plan(before=there, batch_size="auto") == there
    assert atlas.draw_atlas(make_plan(), folder).plan == there
    assert sizes_drawn(folder) == {8}
    assert atlas.verify(folder).is_right


@pytest.mark.parametrize("wrong", ["atuo", 2.0, 0, True])
def test_a_plan_that_goes_on_is_asked_for_with_a_number(wrong):
    with pytest.raises((TypeError, ValueError), match="batch_size must be"):
        make_plan(before=measured(8), batch_size=wrong)


def test_a_number_of_numpy_counts_as_one():
    assert make_plan(before=measured(8), batch_size=np.int64(4)).batch_size == 4


def test_sizes_of_shards_follow(folder):
    there = make_plan(batch_size=16)
    assert (there.shard_size, make_plan().shard_size) == (16, 32)
    atlas.begin(there, folder)
    assert atlas.begin(make_plan(), folder) == there
    with pytest.raises(ValueError, match="shard_size is 16 there and 10 here"):
        atlas.begin(make_plan(shard_size=10), folder)
    kept = measured(8, shard_size=10)
    assert make_plan(before=kept, shard_size=10) == kept


def test_another_size_is_refused(folder):
    there = measured(8)
    atlas.begin(there, folder)
    with pytest.raises(ValueError, match="another plan: batch_size is 8 there and 4 here"):
        atlas.draw_atlas(make_plan(batch_size=4), folder)
    for refused in (
        lambda: atlas.draw_atlas(there, folder, batch_size=4),
        lambda: atlas.Worker(there, batch_size=4),
    ):
        with pytest.raises(ValueError, match="batch_size is 4, and the plan of the atlas says 8"):
            refused()
    assert atlas.Worker(there, batch_size=8).batch_size == 8


def test_old_plans_go_on_as_they_were(folder):
    """They do not say a size: it is the default, or what whoever draws asks for."""
    there = old()
    assert "batch_size" not in json.loads(there.text)
    assert atlas.Plan.parse(there.text) == there
    folder.put(PLAN, there.text.encode())
    assert atlas.begin(make_plan(), folder) == make_plan(before=there) == there
    assert atlas.begin(measured(8), folder) == there
    assert atlas.draw_atlas(make_plan(), folder).plan == there
    assert sizes_drawn(folder) == {CHANNELS}


def test_a_size_for_an_old_plan_counts_for_that_run(folder):
    there = old()
    folder.put(PLAN, there.text.encode())
    assert atlas.draw_atlas(make_plan(batch_size=6), folder).plan == there
    assert sizes_drawn(folder) == {6}
    assert atlas.Worker(there, batch_size=5).batch_size == 5


def test_choosing_leaves_the_rest_of_a_plan_as_it_is():
    plan, loaded = old(), load_model("atlas_networks:tiny")
    chosen = choose_batch_size(plan, 5, loaded)
    assert dataclasses.replace(chosen, batch_size=None, batch_size_chosen="") == plan
