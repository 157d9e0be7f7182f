"""What `fvfast layers`, `fvfast info` and `fvfast --version` print."""

import dataclasses
import importlib.metadata
import re
import sys

import pytest
import torch
from console import QUICK, draw, invoke, settings_of
from console import _workplace as _workplace

from fvfast.cli.installation import describe_cuda_kernels
from fvfast.ops._kernels import native_status


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
def test_what_the_cuda_kernels_are_built_for(architectures, reason, described):
    status = dataclasses.replace(
        native_status(), cuda_architectures=architectures, cuda_reason=reason
    )
    assert describe_cuda_kernels(status) == described


def test_info_says_what_the_cuda_kernels_are_built_for():
    (line,) = (line for line in invoke("info").stdout.splitlines() if "CUDA kernels" in line)
    assert line.strip("│ ").endswith(describe_cuda_kernels(native_status()))


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
