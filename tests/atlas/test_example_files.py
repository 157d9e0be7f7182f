"""What is written of dataset examples, and what a notebook shows."""

import hashlib
import io
import json
import tarfile
import threading
import urllib.parse

import fsspec
import numpy as np
import pytest
import torch
from example_images import SIDE, convolutions, pictures, write_folder
from PIL import Image
from torch import nn

from fvfast.atlas.examples import Units, dataset_examples, write_examples

KEYS = {
    "format", "key", "layer", "index", "kind", "name", "images", "images_unreadable", "mean",
    "active_share", "histogram", "top",
}  # fmt: skip
TOP_KEYS = {
    "rank", "value", "file", "sha256", "source", "label", "position", "box", "image_size"
}  # fmt: skip


class Files:
    """A place that notes the order in which files are written, and by whom."""

    def __init__(self):
        self.files = {}
        self.threads = set()
        self.lock = threading.Lock()

    def put(self, name, content):
        with self.lock:
            assert name not in self.files
            self.files[name] = content
            self.threads.add(threading.current_thread())


def strange_network():
    """A network whose layer has a name that is not one for a file."""
    model = nn.Sequential()
    model.add_module("a/b <script>", nn.Conv2d(3, 5, 5, stride=2))
    torch.manual_seed(0)
    nn.init.normal_(model[0].weight)
    return model.eval()


def examples_of(images, model=None, layers="2", **settings):
    return dataset_examples(
        model or convolutions(), layers, images, input_shape=(3, SIDE, SIDE), progress=False,
        **{"k": 4, **settings},
    )  # fmt: skip


def test_pictures_come_before_the_record_that_names_them(tmp_path):
    write_folder(tmp_path, pictures(20))
    found = examples_of(tmp_path, strange_network(), "a/b <script>")
    place = Files()
    found.write(place.put, progress=False)
    layer = urllib.parse.quote("a/b <script>", safe="")
    assert set(place.files) == {
        f"examples/{layer}/{index}{end}"
        for index in range(5)
        for end in (".json", *(f".{rank}.webp" for rank in range(4)))
    }
    written = []
    for name, content in place.files.items():
        if name.endswith(".json"):
            record = json.loads(content)
            assert set(record) == KEYS
            assert name == f"examples/{record['key']}.json"
            for rank, top in enumerate(record["top"]):
                assert set(top) == TOP_KEYS
                assert top["rank"] == rank
                assert top["file"] in written
                picture = place.files[top["file"]]
                assert top["sha256"] == hashlib.sha256(picture).hexdigest()
                t, left, bottom, right = top["box"]
                with Image.open(io.BytesIO(picture)) as crop:
                    assert (crop.format, crop.size) == ("WEBP", (right - left, bottom - t))
        written.append(name)


def test_records_say_what_was_found(tmp_path):
    write_folder(tmp_path, pictures(20))
    found = examples_of(tmp_path)
    place = Files()
    found.write(place.put, progress=False)
    for unit in found:
        record = json.loads(place.files[f"examples/2/{unit.index}.json"])
        assert record["images"] == sum(record["histogram"]["counts"]) == 20
        assert record["images_unreadable"] == 0
        assert (record["layer"], record["index"], record["kind"]) == ("2", unit.index, "channel")
        assert record["mean"] == pytest.approx(unit.mean, rel=1e-8)
        assert record["active_share"] == pytest.approx(unit.active_share, rel=1e-8)
        assert record["histogram"]["edges"] == list(unit.edges)
        for top, one in zip(record["top"], unit.top, strict=True):
            assert np.float32(top["value"]) == np.float32(one.value)
            assert (top["source"], top["label"]) == (one.source, one.label)
            assert top["position"] == list(one.position)
            assert top["box"] == list(one.box)
            assert top["image_size"] == [SIDE, SIDE]


def test_crops_are_what_the_network_saw(tmp_path):
    """Within what WebP loses of smooth pictures."""
    images = pictures(8)
    found = examples_of(images)
    for unit in found[:3]:
        for example, crop in zip(unit.top, found.crops(unit), strict=True):
            top, left, bottom, right = example.box
            assert np.array_equal(np.array(crop), images[example.image][top:bottom, left:right])
    found.write(tmp_path, progress=False)
    example = found[0].top[0]
    with Image.open(tmp_path / "examples" / "2" / "0.0.webp") as crop:
        exact = np.array(found.crops(found[0])[0]).astype(int)
        assert np.abs(np.array(crop).astype(int) - exact).mean() < 12
        assert example.rank == 0


def test_places_are_folders_and_urls(tmp_path):
    found = examples_of(pictures(8))
    place = Files()
    found.write(place.put, progress=False, threads=3)
    assert len(place.threads) <= 3
    found.write(tmp_path / "atlas", progress=False)
    found.write("memory://fvfast-atlas", progress=False)
    memory = fsspec.filesystem("memory")
    try:
        for name, content in place.files.items():
            assert (tmp_path / "atlas" / name).read_bytes() == content
            assert memory.cat_file(f"/fvfast-atlas/{name}") == content
    finally:
        memory.rm("/fvfast-atlas", recursive=True)
    with pytest.raises(TypeError, match=r"a folder, a URL, a fvfast\.atlas\.Place, or a fun"):
        found.write(5, progress=False)


def test_an_archive_is_read_again(tmp_path):
    write_folder(tmp_path / "images", pictures(12))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "images", "images")
    found = examples_of(tmp_path / "a.tar")
    place = Files()
    found.write(place.put, progress=False)
    assert len(place.files) == 12 * 5
    assert "data:image" not in found._repr_html_()  # that would read it again
    assert "a.tar/images/class" in found._repr_html_()


def test_a_failing_place_ends_the_writing():
    found = examples_of(pictures(8))
    written = []

    def write(name, content):
        if len(written) == 10:
            raise OSError(28, "No space left on device")
        written.append((name, content))

    with pytest.raises(OSError, match="No space left"):
        found.write(write, progress=False, threads=1)
    assert len(written) == 10


def test_images_that_are_gone_when_crops_are_made(tmp_path):
    write_folder(tmp_path, pictures(4))
    found = examples_of(tmp_path)
    (tmp_path / "class1" / "0001.png").unlink()
    with pytest.raises(ValueError, match=r"class1/0001\.png could be read before, and now"):
        found.write(Files().put, progress=False)


class _Changing:
    """Images that are others the second time."""

    def __init__(self, second):
        self.turns = [list(enumerate(pictures(6))), second]

    def __iter__(self):
        for number, image in self.turns.pop(0):
            yield image, None, f"picture {number}"


def test_images_in_another_order_the_second_time():
    found = examples_of(_Changing(list(enumerate(pictures(6)))[::-1]))
    with pytest.raises(ValueError, match=r"image \d of a _Changing was 'picture \d', and is"):
        found.write(Files().put, progress=False)


def test_fewer_images_the_second_time():
    found = examples_of(_Changing([]), k=6)
    with pytest.raises(ValueError, match="a _Changing had more than 0 images before"):
        found.crops(found[0])


def test_find_and_write_in_one():
    place = Files()
    found = write_examples(
        convolutions(), {"2": [3]}, pictures(6), place.put, input_shape=(3, SIDE, SIDE), k=2,
        progress=False,
    )  # fmt: skip
    assert set(place.files) == {f"examples/2/3{end}" for end in (".json", ".0.webp", ".1.webp")}
    assert len(found) == 1


def test_a_notebook_shows_the_first_units(tmp_path):
    write_folder(tmp_path / "a<b>&", pictures(6))
    found = examples_of(
        tmp_path, strange_network(), Units("a/b <script>", names={0: "<b>bold</b>"}), k=2
    )
    shown = found._repr_html_()
    assert shown.count("<img ") == 5 * 2
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "a/b &lt;script&gt;/0 &lt;b&gt;bold&lt;/b&gt;" in shown
    many = examples_of(pictures(6))
    assert "and 4 more" in many._repr_html_()
    assert repr(many) == "ExampleSet(12 units of 2; 6 images)"


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "layers is empty"),
        ("nothing", ValueError, "no layer 'nothing'"),
        ({"2": [12]}, ValueError, r"index 12 is out of range for size 12"),
        ({"2": []}, ValueError, "no indices are given"),
        ({"2": [1, 1]}, ValueError, "unit 1 of layer '2' is named twice"),
        (["2", Units("2", [3])], ValueError, "unit 3 of layer '2' is named twice"),
        (Units("2", kind="face"), ValueError, "kind must be one of channel, neuron, class, dir"),
        (Units("2", kind="direction"), ValueError, "directions=, of shape"),
        (Units("2", directions=[[1]]), ValueError, "directions=, of shape"),
        (
            Units("2", kind="direction", directions=np.ones((2, 5))),
            ValueError,
            r"directions have shape \(2, 5\); expected \(n, 12\)",
        ),
        (
            Units("2", kind="direction", directions=np.full((2, 12), np.nan)),
            ValueError,
            "direction 0 holds NaN or infinity",
        ),
    ],
)
def test_wrong_units(layers, error, message):
    with pytest.raises(error, match=message):
        examples_of(pictures(2), layers=layers)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
        ({"values_range": (1, 1)}, ValueError, "values_range"),
        ({"device": "nowhere"}, ValueError, "the device 'nowhere' cannot be used"),
    ],
)
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=message):
        examples_of(pictures(2), **settings)


def test_a_network_for_other_images():
    model = nn.Sequential(nn.Conv2d(4, 2, 3)).eval()
    with pytest.raises(ValueError, match="takes images of 4 channels; dataset examples are for"):
        dataset_examples(model, "0", pictures(2), input_shape=(4, 9, 9), progress=False)
