"""Plans: one text for one plan, every difference by name, and bad input before the work."""

import json
import re

import numpy as np
import pytest
import torch
from atlas_networks import CHANNELS, tiny
from conftest import make_plan

from fvfast import Geometric, Linear, Spectrum, atlas
from fvfast.atlas.drawing import parse_part
from fvfast.atlas.keys import UnitKey
from fvfast.atlas.plan_differences import differences
from fvfast.atlas.planned_layers import as_ranges
from fvfast.atlas.settings import planned_settings, read_settings
from fvfast.atlas.sizes import shard_size_for
from fvfast.run.maco_settings import MacoSettings
from fvfast.run.presets import PRESETS


def test_a_plan_has_one_text():
    plan = make_plan(units=[3, 1, 2, 9, 9])
    assert plan.text == make_plan(units=[9, 1, 2, 3]).text
    assert atlas.Plan.parse(plan.text) == plan
    assert atlas.Plan.parse(plan.text).text == plan.text
    assert plan.text.isascii()
    assert plan.text.endswith("}\n")
    assert json.loads(plan.text)["layers"][0]["units"] == [[1, 4], [9, 10]]
    assert plan.sha256 != make_plan(units=[1, 2, 3]).sha256


def test_ranges():
    assert as_ranges([]) == ()
    assert as_ranges([5, 1, 2, 2]) == ((1, 3), (5, 6))


@pytest.mark.parametrize("shard_size", [1, 3, 7, 100])
def test_shards_are_consecutive_units_of_one_layer(shard_size):
    layers = [atlas.LayerUnits("0", [1, 2, 3, 7, 8, 20]), atlas.LayerUnits("4", range(5))]
    plan = atlas.make_plan("atlas_networks:tiny", layers, shard_size=shard_size)
    shards = list(plan.shards())
    assert len(shards) == plan.shard_count
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert all(1 <= len(shard.indices) <= shard_size for shard in shards)
    keys = [str(key) for shard in shards for key in shard.keys]
    assert keys == [*(f"0/{n}" for n in (1, 2, 3, 7, 8, 20)), *(f"4/{n}" for n in range(5))]
    assert len(plan) == 11
    with pytest.raises(ValueError, match=f"no shard {len(shards)}; the plan has"):
        plan.shard(len(shards))


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 8), (512, 8), (513, 16), (4096, 64), (10**6, 64)]
)
def test_few_units_make_small_shards(count, expected):
    assert shard_size_for(count, 8) == expected
    assert shard_size_for(count, 10) % 10 == 0


def test_keys_are_safe_in_paths_and_addresses():
    key = UnitKey("a/b <script>?#%é", 7)
    assert str(key) == "a%2Fb%20%3Cscript%3E%3F%23%25%C3%A9/7"
    assert UnitKey.parse(str(key)) == key
    assert key.record == f"units/{key}.json"
    for wrong in ("a", "/1", "a/", "a/-1", "a/1.json", "a/²"):
        with pytest.raises(ValueError, match="not the key of a unit"):
            UnitKey.parse(wrong)


def test_default_kinds():
    plan = atlas.make_plan("atlas_networks:classifier", ["0", 3, -1])
    assert [(layer.name, layer.kind) for layer in plan.layers] == [
        ("0", "channel"), ("3", "neuron"), ("4", "class"),
    ]  # fmt: skip
    assert plan.layers[2].names[1] == "mug"
    named = [atlas.LayerUnits(-1, ["mug", "thing 3"], "class")]
    assert list(atlas.make_plan("atlas_networks:classifier", named).layers[0]) == [1, 5]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_comes_back_from_a_plan(preset):
    planned = planned_settings({"preset": preset}, (-1.0, 1.0), (16, 16))
    read = read_settings(json.loads(json.dumps(planned)))
    own = MacoSettings.with_preset(preset=preset, values_range=(-1, 1))
    assert read.described() == own.described()
    assert read.optimizer is own.optimizer
    steps = range(own.nb_steps)
    for name in ("box_size", "noise_intensity", "learning_rate"):
        ours, theirs = own.schedule(name), read.schedule(name)
        assert (ours is None) == (theirs is None)
        assert ours is None or [ours(n) for n in steps] == [theirs(n) for n in steps]


def test_given_settings_come_back_from_a_plan():
    given = {
        "box_size": Linear(0.8, 0.1), "noise_intensity": 0.3, "learning_rate": Linear(2, 1),
        "nb_steps": 7, "seed": -3, "custom_shape": None, "precision": "float32",
    }  # fmt: skip
    planned = json.loads(json.dumps(planned_settings(given, (0.0, 1.0), (20, 30))))
    read = read_settings(planned)
    assert read.box_size == Linear(0.8, 0.1)
    assert (read.nb_steps, read.seed, read.custom_shape) == (7, -3, (20, 30))
    assert tuple(read.values_range) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"nb_steps": 5, "box_size": lambda step: 0.5 / (1 + step)},
            "box_size=.* cannot be written",
        ),
        (
            {"nb_steps": 5, "noise_intensity": Geometric(1, 0.1)},
            "noise_intensity=.* a fvfast.Linear",
        ),
        ({"optimizer": torch.optim.Adam}, "optimizer= cannot be written"),
        ({"regularizers": [lambda images: images.sum()]}, "regularizers= cannot be written"),
        ({"compile": True}, "compile= cannot be written"),
        ({"guide": np.zeros((8, 8, 3))}, "guide= cannot be written"),
        ({"preset": "slow"}, "preset must be one of"),
        ({"nb_steps": 0}, "nb_steps must be at least 1"),
    ],
)
def test_settings_that_a_plan_cannot_hold(given, message):
    with pytest.raises(ValueError, match=message):
        make_plan(**given)


def test_a_pyramid_has_no_spectrum(tmp_path):
    spectrum = Spectrum.from_images(torch.rand(4, 3, 16, 16), progress=False)
    spectrum.save(tmp_path / "spectrum.npz")
    with pytest.raises(ValueError, match="maco_dataset has no meaning"):
        make_plan(preset="pyramid", maco_dataset=tmp_path / "spectrum.npz")
    plan = make_plan(preset="pyramid", color_shift=0.5)
    assert read_settings(plan.settings).color_shift == 0.5


def test_a_spectrum_is_one_of_the_settings(tmp_path):
    spectrum = Spectrum.from_images(torch.rand(4, 3, 16, 16), progress=False)
    spectrum.save(tmp_path / "spectrum.npz")
    plan = make_plan(maco_dataset=tmp_path / "spectrum.npz")
    assert plan.sha256 != make_plan().sha256
    assert read_settings(plan.settings).maco_dataset is not None
    other = Spectrum.from_images(torch.rand(4, 3, 16, 16) ** 2, progress=False)
    other.save(tmp_path / "spectrum.npz")
    with pytest.raises(ValueError, match="another spectrum than the one"):
        read_settings(plan.settings)
    with pytest.raises(TypeError, match="path of a file"):
        make_plan(maco_dataset=spectrum)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one layer"),
        (["nowhere"], "nowhere"),
        (["0", "0"], "layer '0' is named twice"),
        ([atlas.LayerUnits("0", [CHANNELS])], f"no channel {CHANNELS}: it has {CHANNELS}, from 0"),
        ([atlas.LayerUnits("0", [])], "no units of layer '0'"),
        ([atlas.LayerUnits("0", ["macaw"])], "only classes have names"),
        ([atlas.LayerUnits("0", kind="class")], "classes are the outputs of a network's last"),
        ([atlas.LayerUnits("0", kind="direction")], "need a file of directions"),
        ([atlas.LayerUnits("4", kind="neuron", units=[10])], "no neuron 10"),
    ],
)
def test_units_that_are_not_there(layers, message):
    with pytest.raises(ValueError, match=message):
        atlas.make_plan("atlas_networks:tiny", layers)


def test_directions_fit_their_layer(tmp_path):
    file = tmp_path / "probes.npy"
    np.save(file, np.eye(3, CHANNELS, dtype=np.float32))
    plan = make_plan(units="all", layer="0")
    layers = [atlas.LayerUnits("0", directions=str(file))]
    plan = atlas.make_plan("atlas_networks:tiny", layers)
    assert (plan.layers[0].kind, len(plan)) == ("direction", 3)
    np.save(file, np.ones((3, 7)))
    with pytest.raises(ValueError, match="directions of 7 numbers; layer '0' has 24 channels"):
        atlas.make_plan("atlas_networks:tiny", layers)


def test_a_live_network_is_refused_with_the_way_to_name_it():
    for network in (tiny(), 3):
        with pytest.raises(TypeError, match=r"path\.to\.module:factory"):
            atlas.make_plan(network, ["0"])


def test_images_that_are_no_pictures_are_refused():
    with pytest.raises(ValueError, match="images of 4 channels"):
        atlas.make_plan("atlas_networks:four_channels", ["0"])


def test_differences_are_told_field_by_field():
    there, asked = make_plan(units=range(5)), make_plan(units=range(8), nb_steps=3, seed=1)
    assert differences(there, asked) == [
        "layer 0: units is 0-4 there and 0-7 here",
        "nb_steps is 2 there and 3 here",
        "seed is 0 there and 1 here",
    ]
    assert differences(there, there) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.update(format=2), "has format 2; this version"),
        (lambda plan: plan.pop("network"), "field 'network', holds None; expected a JSON object"),
        (lambda plan: plan.update(layers=3), "its field 'layers' is 3; expected a list"),
        (lambda plan: plan["layers"][0].update(units=[[3, 3]]), "expected ranges"),
        (lambda plan: plan["layers"][0].update(units=[[3, 5], [4, 6]]), "expected ranges"),
        (lambda plan: plan["layers"][0].update(kind="row"), "has kind 'row'"),
        (lambda plan: plan.update(shard_size=0), "no units, or shards without any"),
        (lambda plan: plan.update(batch_size=0), "batch_size 0; expected at least 1"),
        (lambda plan: plan.update(batch_size="8"), "'batch_size' is '8'; expected an integer"),
        (lambda plan: plan["network"].update(input_shape=[3, 4]), "expected 3 sizes"),
    ],
)
def test_damaged_plans_are_refused_by_name(change, message):
    values = json.loads(make_plan().text)
    change(values)
    with pytest.raises(atlas.WrongFileError, match=message) as raised:
        atlas.Plan.parse(json.dumps(values), "s3://x/plan.json")
    assert "s3://x/plan.json" in str(raised.value)
    with pytest.raises(atlas.WrongFileError, match="is not JSON"):
        atlas.Plan.parse(b"{", "plan.json")


def test_parts():
    assert parse_part("0/1") == (0, 1)
    assert parse_part(" 3/8 ") == (3, 8)
    for wrong in ("8/8", "1", "-1/3", "a/b", "1/0", ""):
        with pytest.raises(ValueError, match=re.escape(f"{wrong!r} is no part")):
            parse_part(wrong)
