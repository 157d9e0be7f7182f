"""The examples of the units of a plan, in the place of its atlas."""

import numpy as np
import pytest
from atlas_networks import CHANNELS, SHAPE
from example_images import pictures

from fvfast import atlas
from fvfast.atlas.examples import dataset_examples
from fvfast.atlas.examples.records import ExamplesRecord
from fvfast.atlas.fields import WrongFileError
from fvfast.atlas.keys import UnitKey
from fvfast.atlas.planned_examples import draw_examples
from fvfast.models import load_model

NAMED = "atlas_networks:classifier"


def planned(*layers):
    return atlas.make_plan(NAMED, layers, nb_steps=1, nb_crops=1, custom_shape=16)


def read(place, key):
    return ExamplesRecord.parse(place.read(key.examples), key)


def test_all_units_of_a_plan_are_written(folder, tmp_path):
    file = tmp_path / "probes.npy"
    np.save(file, np.eye(CHANNELS, dtype=np.float32)[[5, 2]])
    plan = planned(
        atlas.LayerUnits("0", [0, 1, 2, 7]),
        atlas.LayerUnits("1", directions=str(file)),
        atlas.LayerUnits(-1, ["mug", "thing 3"], "class"),
    )
    images = pictures(6)
    found = draw_examples(plan, folder, images, k=2, progress=False)
    named = [(unit.layer, unit.index, unit.kind, unit.name) for unit in found]
    assert named == [
        *(("0", index, "channel", None) for index in (0, 1, 2, 7)),
        *(("1", index, "direction", None) for index in (0, 1)),
        *(("4", index, "class", name) for index, name in ((1, "mug"), (5, "thing 3"))),
    ]  # fmt: skip
    # A direction along one axis is the channel of this axis.
    channel = dataset_examples(load_model(NAMED), {"1": [5]}, images, k=2, progress=False)[0]
    assert found["1", 0].top == channel.top
    for unit in found:
        record = read(folder, unit.key)
        assert record.images == 6
        assert record.edges == list(unit.edges)
        assert record.counts == list(unit.counts)
        assert record.mean == pytest.approx(unit.mean, rel=1e-8)
        for stored, example in zip(record.top, unit.top, strict=True):
            assert stored.file == unit.key.crop(example.rank)
            assert stored.check(folder.read(stored.file))
            assert stored.value == pytest.approx(example.value, rel=1e-8)
            assert (stored.source, stored.label) == (example.source, example.label)
            assert stored.box == list(example.box)
            assert stored.image_size == list(SHAPE[1:])
    with pytest.raises(WrongFileError, match=r"examples/0/1\.json is of unit 0 of layer '0'"):
        ExamplesRecord.parse(folder.read(UnitKey("0", 0).examples), UnitKey("0", 1))


def test_what_killed_processes_have_left_is_removed(folder, tmp_path):
    left = tmp_path / "atlas/examples/0/.fvfast-0.unfinished"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    draw_examples(planned(atlas.LayerUnits("0", [3])), folder, pictures(2), progress=False)
    assert sorted(folder.names("examples/0")) == ["3.0.webp", "3.1.webp", "3.json"]
    assert not left.exists()


def test_the_examples_of_another_network_are_refused(folder):
    plan = planned(atlas.LayerUnits("0", [3]))
    other = load_model("atlas_networks:failing")
    with pytest.raises(atlas.OtherNetworkError, match="other weights"):
        draw_examples(plan, folder, pictures(2), loaded=other)
    assert folder.names("examples/0") == []
