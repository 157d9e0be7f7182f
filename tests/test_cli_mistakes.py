"""Mistakes in a command, and failures of a network: one message that says what to do."""

import subprocess
import sys

import pytest
import torch
from console import _workplace as _workplace
from console import draw, invoke


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


@pytest.mark.thorough
def test_the_module_tells_of_mistakes_as_the_command_does():
    result = subprocess.run(
        [sys.executable, "-m", "fvfast", "maco"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "Usage: fvfast maco" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got none"),
        (["--class", "1", "--channel", "2"], "got --channel and --class"),
        (["--channel", "2"], "--channel needs --layer"),
        (["--class", "1", "--channel-axis", "0"], "--channel-axis says where"),
        (["--layer", "conv", "--channel", "2-"], "'2-' is not a list of numbers"),
        (["--class", "1", "--size", "big"], "'big' is not a size"),
        (["--class", "1", "--style", "lucid"], "lucid"),
        (["--class", "1", "--steps", "0"], "--steps"),
        (["--class", "1", "--values-range", "1,0"], "'1,0' is not a range of values"),
        (["--class", "1", "--preset", "lucid"], "lucid"),
        (["--layer", "conv", "--channel", "0-9999999999"], "lists more than 1,000,000 numbers"),
        (["--class", "1", "--steps", 2**63], "--steps"),
        (["--class", "1", "--steps", "9" * 5000], "--steps"),
        (["--class", "1", "--crops", 10**12], "--crops"),
        (["--class", "1", "--batch-size", 10**12], "--batch-size"),
        (["--class", "1", "--seed", 2**63], "--seed"),
        (["--class", "1", "--noise", "nan"], "--noise"),
        (["--class", "1", "--noise", "inf"], "inf is not a finite number"),
        (["--class", "1", "--noise", "-1"], "--noise"),
        (["--class", "1", "--size", "0x0"], "expected at least 2 x 2"),
        (["--class", "1", "--size", "99999x99999"], "expected at most 134,217,728 pixels"),
        (["--class", "1", "--values-range", "nan,1"], "'nan,1' is not a range of values"),
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


def test_debug_shows_the_traceback():
    result = invoke("--debug", "layers", "nothing_like_this", status=1)
    assert isinstance(result.exception, ValueError)


def test_an_output_folder_that_is_a_file_is_refused_before_the_network_is_loaded():
    result = invoke("maco", "no_such_network", "--class", 1, "--out", __file__, status=1)
    assert "is not a folder" in result.stderr
