"""Drawing: the pictures of `maco_batch`, each once, whatever was there before."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from atlas_networks import CHANNELS
from conftest import SETTINGS, Events, make_plan, replaced

from fvfast import Objective, atlas, maco_batch
from fvfast.atlas.events import UnitDrawn
from fvfast.atlas.keys import UnitKey
from fvfast.atlas.manifest import _as_csv, _row
from fvfast.atlas.pictures import encode_picture
from fvfast.atlas.records import Record
from fvfast.atlas.verification import take_back, what_is_wrong
from fvfast.atlas.worker import Worker
from fvfast.models import load_model
from fvfast.plot import blend_transparency


def record_of(place, key):
    key = UnitKey.parse(key)
    return Record.parse(place.read(key.record), key)


def assert_pictures_of(place, layer, indices, batch):
    """The files of units are those of the images of a batch, and so are the scores."""
    for position, index in enumerate(indices):
        key = UnitKey(layer, index)
        expected = encode_picture(batch.images[position], batch.transparencies[position])
        assert place.read(key.picture) == expected.picture, key
        assert place.read(key.transparency) == expected.transparency, key
        scores = record_of(place, str(key)).scores
        assert scores == pytest.approx(batch.scores[position].tolist(), rel=1e-5)


def test_the_pictures_are_those_of_maco_batch(place):
    """Bit for bit: names, seeds and the pictures that are drawn together are the same."""
    plan = make_plan(seed=3)
    status = atlas.draw_atlas(plan, place)
    assert status.is_complete
    loaded = load_model("atlas_networks:tiny")
    objective = Objective.channel(loaded.model, "0", input_shape=loaded.input_shape)
    batch = maco_batch(objective, preset="fast", seed=3, progress=False, **SETTINGS)
    assert_pictures_of(place, "0", range(CHANNELS), batch)


def test_other_kinds_are_those_of_maco_batch(folder, tmp_path):
    np.save(tmp_path / "probes.npy", np.eye(4, CHANNELS, dtype=np.float32))
    plan = atlas.make_plan(
        "atlas_networks:classifier",
        [
            atlas.LayerUnits("1", directions=str(tmp_path / "probes.npy")),
            atlas.LayerUnits("2", [0, 3], kind="neuron"),
            atlas.LayerUnits(-1, ["mug", "macaw"]),
        ],
        **SETTINGS,
    )
    atlas.draw_atlas(plan, folder)
    model = load_model("atlas_networks:classifier").model
    settings = {"preset": "fast", "progress": False, **SETTINGS}
    directions = Objective.direction(model, "1", np.eye(4, CHANNELS, dtype=np.float32))
    assert_pictures_of(folder, "1", range(4), maco_batch(directions, **settings))
    neurons = Objective.neuron(model, "2", [0, 3])
    assert_pictures_of(folder, "2", [0, 3], maco_batch(neurons, **settings))
    classes = Objective.neuron(model, -1, ["macaw", "mug"])
    assert_pictures_of(folder, "4", [0, 1], maco_batch(classes, **settings))
    assert record_of(folder, "4/1").name == "mug"
    assert record_of(folder, "4/1").command.startswith(
        "fvfast maco atlas_networks:classifier --layer name:4 --class 1 --preset fast --steps 2"
    )


def test_gray_pictures(folder):
    atlas.draw_atlas(make_plan("gray", units=[0]), folder)
    assert not what_is_wrong(folder, atlas.read_plan(folder), UnitKey("0", 0))
    assert record_of(folder, "0/0").picture.width == SETTINGS["custom_shape"]


def test_a_picture_is_the_plain_one_and_its_transparency():
    torch.manual_seed(0)
    image, transparency = torch.rand(3, 5, 7), torch.rand(3, 5, 7)
    encoded = encode_picture(image, transparency)
    from PIL import Image

    with Image.open(io.BytesIO(encoded.picture)) as picture:
        assert (picture.mode, picture.size) == ("RGB", (7, 5))
        expected = np.rint(blend_transparency(image)[..., :3] * 255)
        assert np.array_equal(np.asarray(picture), expected)
    with Image.open(io.BytesIO(encoded.transparency)) as opacity:
        assert (opacity.mode, opacity.size) == ("L", (7, 5))
        expected = np.rint(blend_transparency(image, transparency)[..., 3] * 255)
        assert np.array_equal(np.asarray(opacity), expected)


def test_only_what_is_missing_is_drawn_and_it_is_the_same(place):
    plan = make_plan(shard_size=8)
    atlas.draw_atlas(plan, place)
    keys = [UnitKey("0", index) for index in (0, 9, 10, 11, 23)]
    before = {key: place.read(key.picture) for key in keys}
    for key in keys:
        place.remove(key.record)
    place.remove(keys[1].picture)
    assert atlas.read_status(place).missing == 5
    events = Events()
    assert atlas.draw_atlas(plan, place, report=events).is_complete
    assert sorted(event.key for event in events.of(UnitDrawn)) == keys
    assert {key: place.read(key.picture) for key in keys} == before
    assert atlas.verify(place).is_right


def test_nothing_is_done_when_everything_is_there(folder, events):
    plan = make_plan(units=[0, 1])
    atlas.draw_atlas(plan, folder)

    class Unwilling:
        def draw(self, *_):
            raise AssertionError

    assert atlas.draw_atlas(plan, folder, executor=Unwilling(), report=events).is_complete
    assert events == []


def test_parts_share_the_shards(folder):
    plan = make_plan(shard_size=8)
    first = atlas.draw_atlas(plan, folder, part=(0, 2))
    assert (first.drawn, first.missing, first.has_manifest) == (16, 8, False)
    second = atlas.draw_atlas(plan, folder, part=(1, 2))
    assert second.is_complete
    assert second.has_manifest


def test_run_shard_needs_nothing_else(folder):
    plan = make_plan(shard_size=8)
    atlas.begin(plan, folder)
    result = atlas.run_shard(plan, 1, folder)
    assert (result.drawn, result.set_aside, result.stopped) == (8, 0, False)
    assert atlas.run_shard(plan, 1, folder).drawn == 0
    assert atlas.read_status(folder).drawn == 8


def test_a_stop_ends_after_the_batch(folder, events):
    plan = make_plan(shard_size=24, batch_size=4)
    atlas.begin(plan, folder)
    result = atlas.run_shard(plan, 0, folder, report=events, stop=lambda: bool(events))
    assert result.stopped
    assert 4 <= len(events) < 24
    assert atlas.verify(folder).checked == len(events)
    assert atlas.draw_atlas(plan, folder).is_complete


def test_another_plan_is_refused_with_the_difference(place):
    atlas.draw_atlas(make_plan(units=[0]), place)
    with pytest.raises(ValueError, match="nb_steps is 2 there and 3 here; seed is 0 there and 1"):
        atlas.draw_atlas(make_plan(units=[0], nb_steps=3, seed=1), place)
    assert atlas.read_plan(place) == make_plan(units=[0])


def test_another_network_is_refused(folder):
    plan = make_plan("unseeded", units=[0])
    with pytest.raises(atlas.OtherNetworkError, match="has other weights here"):
        atlas.draw_atlas(plan, folder)
    old = atlas.Plan.parse(make_plan().text.replace('"fvfast":"', '"fvfast":"9.'))
    with pytest.raises(atlas.OtherNetworkError, match=r"made by fvfast 9\..*, and this is fvfast"):
        Worker(old)


@pytest.mark.parametrize(
    ("file", "data", "reason"),
    [
        ("units/0/1.json", b"", "units/0/1.json is not JSON"),
        ("units/0/1.json", b"[]", "holds []; expected a JSON object"),
        ("units/0/1.json", b'{"format": 2}', "has format 2"),
        ("units/0/1.png", b"x", "units/0/1.png is damaged: its SHA-256 is 2d711642"),
        ("units/0/1.transparency.png", b"", "1.transparency.png is damaged: its SHA-256"),
        ("units/0/1.png", None, "a file is missing"),
        ("units/0/1.json", "plan", "belongs to another plan"),
        ("units/0/1.json", "index", "is of unit 2 of layer '0'; its name says unit 1"),
        ("units/0/1.json", "layer", "is of unit 1 of layer '1'"),
        ("units/0/1.json", "scores", "field 'scores' is ['x']; expected a list of finite numbers"),
        ("units/0/1.json", "picture", "field 'picture', holds 'x'; expected a JSON object"),
    ],
)
def test_damage_is_named_and_drawn_again(folder, file, data, reason):
    plan = make_plan(units=range(3))
    atlas.draw_atlas(plan, folder)
    before = folder.read(file)
    changes = {
        "plan": {"plan": "0" * 64}, "index": {"index": 2}, "scores": {"scores": ["x"]},
        "layer": {"layer": "1", "key": "1/1"}, "picture": {"picture": "x"},
    }  # fmt: skip
    if data is None:
        folder.remove(file)
    else:
        change = changes.get(data)
        folder.put(file, json.dumps({**json.loads(before), **change}).encode() if change else data)
    found = atlas.verify(folder)
    assert [unit.key for unit in found.wrong] == [UnitKey("0", 1)]
    assert reason in found.wrong[0].reason
    assert not found.is_right
    assert take_back(folder, found) == 1
    assert atlas.draw_atlas(plan, folder).is_complete
    assert atlas.verify(folder).is_right


def test_a_record_says_how_the_picture_was_made(folder):
    plan = make_plan(units=[4, 7], seed=-2)
    atlas.draw_atlas(plan, folder)
    record = record_of(folder, "0/7")
    assert (record.plan, record.kind, record.name) == (plan.sha256, "channel", None)
    assert (record.steps, len(record.scores), record.attempt, record.batch_size) == (2, 2, 1, 2)
    assert record.score == record.scores[-1]
    assert record.device == "cpu"
    assert record.seconds > 0
    assert record.command == (
        "fvfast maco atlas_networks:tiny --layer name:0 --channel 7 --preset fast --steps 2 "
        "--crops 2 --size 24x24 --seed -2"
    )
    stored = json.loads(folder.read("units/0/7.json"))
    assert (stored["key"], stored["layer"], stored["index"]) == ("0/7", "0", 7)
    assert stored["picture"]["bytes"] == len(folder.read("units/0/7.png"))


def test_the_table_has_a_row_for_each_unit(folder):
    atlas.draw_atlas(make_plan(units=[3, 1]), folder)
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(io.BytesIO(folder.read("manifest.parquet"))).to_pylist()
    assert [row["key"] for row in rows] == ["0/1", "0/3"]
    assert rows[0]["picture"] == "units/0/1.png"
    text = _as_csv([_row(folder, UnitKey("0", index)) for index in (1, 3)]).decode()
    assert [row["picture_sha256"] for row in csv.DictReader(io.StringIO(text))] == [
        row["picture_sha256"] for row in rows
    ]


def test_there_is_no_atlas(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no plan\.json: there is no atlas"):
        atlas.read_status(atlas.Place(tmp_path))
    (tmp_path / "plan.json").write_bytes(b"{")
    with pytest.raises(atlas.WrongFileError, match=r"plan\.json is not JSON"):
        atlas.read_status(atlas.Place(tmp_path))


def test_other_files_do_not_matter(folder, tmp_path):
    atlas.draw_atlas(make_plan(units=[0]), folder)
    units = tmp_path / "atlas/units/0"
    (units / ".fvfast-0.unfinished").write_bytes(b"half")
    (units / "7.json.bak").write_bytes(b"x")
    (units / "notes.txt").write_bytes(b"x")
    with replaced(tmp_path / "atlas/plan.json", make_plan(units=[0, 7]).text.encode()):
        assert atlas.read_status(folder).missing == 1
        atlas.draw_atlas(make_plan(units=[0, 7]), folder)
    assert not (units / ".fvfast-0.unfinished").exists()
