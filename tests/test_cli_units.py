"""What a command line can ask for: all channels, directions of a file, schedules, single steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from console import QUICK, draw, settings_of
from console import _workplace as _workplace
from PIL import Image
from safetensors.torch import save_file

from fvfast import Linear, Objective, maco, maco_batch
from fvfast.cli.step_pictures import StepPictures
from fvfast.models import load_model
from fvfast.plot import read_metadata, save_png

COMMANDS = ["maco", "optimize"]
SHORT = ["--steps", 2, "--size", 16, "--no-progress", "--device", "cpu"]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_channels(tmp_path, command):
    draw("--layer", "conv", "--channel", "all", *SHORT, command=command)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"tiny_Channel_conv_{index}.png" for index in range(6)]


@pytest.mark.parametrize("saved", ["npy", "npz"])
def test_directions_from_a_file(tmp_path, saved):
    vectors = np.random.default_rng(0).normal(size=(3, 6))
    if saved == "npy":
        np.save("probe.npy", vectors)
    else:
        np.savez("probe.npz", coef=vectors, others=np.zeros(2))
    file = f"probe.{saved}"
    draw("--layer", "conv", "--direction", file, "--batch-size", 2, *QUICK)
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == [f"tiny_probe_{index}.png" for index in range(3)]
    loaded = load_model("tiny_network:make")
    for index, path in enumerate(paths):
        wanted = settings_of(path)["objective"]["direction"]
        assert (wanted["file"], wanted["index"]) == (file, index)
        objective = Objective.direction(
            loaded.model, "conv", vectors[index], names=f"probe {index}", input_shape=(3, 12, 12)
        )
        image, alpha = maco(
            objective, nb_steps=2, nb_crops=2, custom_shape=(16, 20), progress=False
        )
        Image.open(path).verify()
        assert read_metadata(path)["Title"] == f"probe {index}"
        assert image.shape == alpha.shape == (3, 16, 20)


def test_directions_of_a_sparse_autoencoder(tmp_path):
    """A folder, as SAELens writes it, draws what an array with the same values draws."""
    vectors = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    Path("probe").mkdir()
    save_file({"W_dec": vectors, "b_dec": torch.zeros(6)}, "probe/sae_weights.safetensors")
    Path("probe/cfg.json").write_text('{"d_in": 6, "d_sae": 2, "hook_name": "conv"}')
    draw("--layer", "conv", "--direction", "probe", *QUICK)
    np.save("probe.npy", vectors)
    draw("--layer", "conv", "--direction", "probe.npy", "--out", "array", *QUICK)
    for index in range(2):
        paths = [tmp_path / folder / f"tiny_probe_{index}.png" for folder in ("pictures", "array")]
        images = [np.asarray(Image.open(path)) for path in paths]
        np.testing.assert_array_equal(*images)
        first, second = (settings_of(path)["objective"]["direction"] for path in paths)
        assert (first["crc32"], first["index"]) == (second["crc32"], index)
    torch.save({"W_dec": vectors, "cfg": Path("some")}, "pickled.pt")
    refused = draw("--layer", "conv", "--direction", "pickled.pt", *QUICK, status=1)
    assert "pickled.pt is a pickle that names pathlib" in refused.stderr


def test_other_directions_in_the_file_are_other_pictures():
    np.save("probe.npy", np.ones(6))
    draw("--layer", "conv", "--direction", "probe.npy", *QUICK)
    assert "nothing to draw" in draw("--layer", "conv", "--direction", "probe.npy", *QUICK).stdout
    np.save("probe.npy", -np.ones(6))
    refused = draw("--layer", "conv", "--direction", "probe.npy", *QUICK, status=1)
    assert "direction" in refused.stderr


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"coef": np.zeros((2, 3, 4))}, "expected real numbers of shape (C,)"),
        ({"coef": np.zeros((0, 6))}, "expected real numbers of shape (C,)"),
        ({"coef": np.ones(6) * 1j}, "complex128; expected real numbers"),
        ({"weights": np.ones(6)}, "has 0 arrays of directions; expected one, named directions,"),
        ({"coef": np.ones(6), "arr_0": np.ones(6)}, "has 2 arrays of directions"),
        ({"coef": np.zeros(6)}, "must be finite and not zero"),
        ({"coef": np.ones(7)}, "has the shape of its output"),
    ],
)
def test_files_without_directions_are_refused(arrays, message):
    np.savez("probe.npz", **arrays)
    result = draw("--layer", "conv", "--direction", "probe.npz", *QUICK, status=1)
    assert message in result.stderr


def test_a_direction_needs_a_file_and_a_layer():
    result = draw("--layer", "conv", "--direction", "none.npy", *QUICK, status=1)
    assert "none.npy" in result.stderr
    result = draw("--direction", "none.npy", *QUICK, status=2)
    assert "--direction needs --layer" in result.stderr


def test_schedules_are_those_of_python(tmp_path):
    options = ["--box-size", "0.9,0.3", "--learning-rate", "0.5", *QUICK]
    draw("--class", 1, *options)
    (path,) = (tmp_path / "pictures").iterdir()
    settings = settings_of(path)
    assert (settings["box_size"], settings["learning_rate"]) == ([0.9, 0.3], 0.5)
    draw("--class", 1, "--out", "same", "--preset", "xplique", *options)
    assert (tmp_path / "same" / path.name).read_bytes() == path.read_bytes()
    loaded = load_model("tiny_network:make")
    objective = Objective.neuron(
        loaded.model, -1, [1], names=["grey fox"], input_shape=loaded.input_shape
    )
    image, _ = maco(
        objective, box_size=Linear(0.9, 0.3), learning_rate=0.5, nb_steps=2, nb_crops=2,
        custom_shape=(16, 20), progress=False,
    )  # fmt: skip
    other, _ = maco(objective, nb_steps=2, nb_crops=2, custom_shape=(16, 20), progress=False)
    assert not torch.equal(image, other)


@pytest.mark.parametrize("text", ["big", "1,2,3", "-0.1", "nan", "0.5,inf", ""])
@pytest.mark.parametrize("option", ["--box-size", "--learning-rate"])
def test_numbers_that_are_no_schedule(option, text):
    result = draw("--class", 1, f"{option}={text}", status=2)
    assert "expected numbers of at least 0, such as 0.3 or 0.9,0.3" in " ".join(
        result.stderr.replace("│", " ").split()
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_images_of_single_steps(tmp_path, command):
    options = ["--steps", 7, "--size", 16, "--no-progress", "--save-every", 3, "--batch-size", 2]
    draw("--class", 0, "--class", 1, *options, command=command)
    steps = tmp_path / "pictures" / "steps"
    names = sorted(path.name for path in steps.iterdir())
    assert names == [f"tiny_{name}_{step}.png" for name in ("grey_fox", "red_fox") for step in "36"]
    assert read_metadata(steps / "tiny_red_fox_3.png")["fvfast.step"] == "3"
    pictures = {path.read_bytes() for path in steps.iterdir()}
    assert len(pictures) == 4
    # They are extra: the pictures are those without them.
    with_steps = (tmp_path / "pictures" / "tiny_red_fox.png").read_bytes()
    options[options.index("--save-every") :][:2] = []
    draw("--class", 0, "--class", 1, *options, "--out", "plain", command=command)
    assert (tmp_path / "plain" / "tiny_red_fox.png").read_bytes() == with_steps


def test_steps_of_images_that_are_no_pictures(tmp_path):
    draw("--layer", 0, "--channel", 0, "--steps", 3, "--size", 16, "--save-every", 1,
         "--no-progress", model="five")  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "pictures" / "steps").iterdir())
    assert names == ["many5_Channel_0_0_1.png", "many5_Channel_0_0_2.png"]


def test_a_run_goes_on_without_its_steps(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "steps").write_text("in the way")
    result = draw("--class", 1, "--save-every", 1, *QUICK)
    assert "1 picture in" in result.stdout
    assert "the images of single steps cannot be written" in result.stderr


def test_the_last_step_is_the_picture_itself(tmp_path):
    pictures = StepPictures(tmp_path, ["one"], 2)
    for step in range(4):
        report = type("Report", (), {"step": step, "nb_steps": 4, "names": ["one"]})()
        report.images = torch.zeros(1, 3, 4, 4)
        pictures(report)
    assert [path.name for path in tmp_path.glob("*.png")] == ["one_2.png"]


PHOTOGRAPHS = [("--inversion", Objective.inversion), ("--caricature", Objective.caricature)]


def photograph(name="sea.png", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(name)
    return name


@pytest.mark.parametrize(("option", "make"), PHOTOGRAPHS)
def test_photographs(tmp_path, option, make):
    """The pictures are those of the function, and the records tell which photographs."""
    files = [photograph(), photograph("wood.png", 1)]
    whole = ["--steps", 2, "--size", 16, "--crops", 0, "--no-progress", "--device", "cpu"]
    draw("--layer", "conv", option, files[0], option, files[1], "--batch-size", 2, *whole)
    kind = option.removeprefix("--")
    paths = [
        tmp_path / "pictures" / f"tiny_{kind.title()}_conv_{stem}.png" for stem in ("sea", "wood")
    ]
    assert sorted((tmp_path / "pictures").iterdir()) == paths
    model = load_model("tiny_network:make").model
    for path, file in zip(paths, files, strict=True):
        record = settings_of(path)["objective"]
        assert record[kind]["file"] == file
        assert len(record[kind]["crc32"]) == 8
        objective = make(model, "conv", file, input_shape=(3, 12, 12))
        image, alpha = maco(objective, nb_steps=2, nb_crops=0, custom_shape=16, progress=False)
        expected = tmp_path / "expected.png"
        save_png(expected, image, alpha)
        np.testing.assert_array_equal(
            np.asarray(Image.open(path)), np.asarray(Image.open(expected))
        )
    again = draw("--layer", "conv", option, files[0], *whole).stdout
    assert "nothing to draw" in again
    photograph(seed=2)  # another one under the same name
    refused = draw("--layer", "conv", option, files[0], *whole, status=1)
    assert "sea.png" in refused.stderr


@pytest.mark.parametrize(("option", "_make"), PHOTOGRAPHS)
def test_photographs_with_optimize_and_another_range(tmp_path, option, _make):
    draw(
        "--layer", "conv", option, photograph(), *SHORT, "--preset", "lucid",
        "--values-range", "0,1", command="optimize",
    )  # fmt: skip
    (path,) = (tmp_path / "pictures").iterdir()
    assert settings_of(path)["values_range"] == [0.0, 1.0]


@pytest.mark.parametrize(("option", "_make"), PHOTOGRAPHS)
def test_photographs_that_cannot_be_read(option, _make):
    missing = draw("--layer", "conv", option, "nosuch.jpg", *SHORT, status=1)
    assert "nosuch.jpg" in missing.stderr
    Path("text.jpg").write_text("no picture")
    damaged = draw("--layer", "conv", option, "text.jpg", *SHORT, status=1)
    assert "the photograph text.jpg cannot be read: damaged, or of another" in damaged.stderr


def test_points(tmp_path):
    draw("--layer", "conv", "--point", "0,2", *QUICK)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["tiny_Point_conv_0_5_5.png", "tiny_Point_conv_2_5_5.png"]
    path = tmp_path / "pictures" / names[1]
    assert settings_of(path)["objective"] == {"layer": "conv", "point": 2}
    assert read_metadata(path)["Title"] == "Point#conv_2@5,5"


DIVERSE = ["--layer", "conv", "--channel", "0,4", "--diversity", 3]


def picture(folder, channel, place):
    return folder / "pictures" / f"tiny_Channel_conv_{channel}_{place}.png"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_several_different_pictures_of_each_unit(tmp_path, command, batch_size):
    """Whole groups are drawn, whatever the size of a batch, and again if a picture is missing."""
    options = [*DIVERSE, "--diversity-weight", 0.5, "--batch-size", batch_size, *SHORT]
    draw(*options, command=command)
    paths = [picture(tmp_path, channel, place) for channel in (0, 4) for place in (1, 2, 3)]
    assert sorted((tmp_path / "pictures").iterdir()) == paths
    assert read_metadata(paths[4])["Title"] == "Channel#conv_4 & 2"
    assert settings_of(paths[4])["objective"] == {
        "layer": "conv", "channel": 4, "diversity": {"picture": 2, "of": 3, "weight": 0.5},
    }  # fmt: skip
    before = [path.read_bytes() for path in paths]
    paths[4].unlink()
    said = draw(*options, command=command).stdout
    assert "1 picture in" in said
    assert "5 that were already there" in said
    assert [path.read_bytes() for path in paths] == before


def test_different_pictures_are_those_of_the_function(tmp_path):
    draw(*DIVERSE, *QUICK)
    given = {"input_shape": (3, 12, 12)}
    model = load_model("tiny_network:make").model
    objective = Objective.channel(model, "conv", [0, 4], **given)
    objective += Objective.diversity(model, "conv", 3, **given)
    drawn = maco_batch(
        objective, nb_steps=2, nb_crops=2, custom_shape=(16, 20), batch_size=3, progress=False
    )
    for index, channel in enumerate((0, 4)):
        for place in range(3):
            expected = tmp_path / "expected.png"
            number = 3 * index + place
            save_png(expected, drawn.images[number], drawn.transparencies[number])
            images = map(Image.open, (picture(tmp_path, channel, place + 1), expected))
            np.testing.assert_array_equal(*map(np.asarray, images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--diversity", 1], "--diversity"),
        (["--diversity-weight", 0.5], "--diversity-weight says how much --diversity counts"),
        (["--diversity", 2, "--diversity-weight", "nan"], "nan is not a finite number"),
    ],
)
def test_mistakes_of_diversity(options, message):
    refused = draw("--layer", "conv", "--channel", 0, *options, *SHORT, status=2)
    assert message in refused.stderr
