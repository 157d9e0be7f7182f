"""What a user types on the command line."""

import re

import pytest
import typer
from torch import nn

from fvfast.cli.arguments import (
    ambiguous_layers,
    file_names,
    parse_ids,
    parse_layer,
    parse_range,
    parse_size,
)
from fvfast.engine.network.layers import trace_layers


@pytest.mark.parametrize(
    ("text", "ids"),
    [("3", [3]), ("3,5-9", [3, 5, 6, 7, 8, 9]), (" 2 , 1 - 3", [2, 1, 3]), ("4-4", [4])],
)
def test_lists_of_numbers(text, ids):
    assert parse_ids(text) == ids


@pytest.mark.parametrize("text", ["", ",", "1,,2", "-3", "9-5", "a", "1.5", "٣"])
def test_no_lists_of_numbers(text):
    with pytest.raises(typer.BadParameter):
        parse_ids(text)


@pytest.mark.parametrize(
    "text", ["0-9999999999", "0-499999,500000-1000000", "9" * 5000, "1-" + "9" * 5000]
)
def test_lists_of_more_numbers_than_there_can_be(text):
    with pytest.raises(typer.BadParameter) as refused:
        parse_ids(text)
    assert "expected" in str(refused.value)
    assert len(str(refused.value)) < 200


def test_as_many_numbers_as_there_can_be():
    assert len(parse_ids("0-999999")) == 1_000_000


@pytest.mark.parametrize(
    ("text", "size"), [("512", (512, 512)), ("480x640", (480, 640)), ("3X2", (3, 2))]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["1", "0x0", "0x5", "5x", "x5", "-5", "5x5x5", "", "99999x99999", "20000", "9" * 5000]
)
def test_no_sizes(text):
    with pytest.raises(typer.BadParameter) as refused:
        parse_size(text)
    assert "expected" in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "expected"), [("0,1", (0.0, 1.0)), ("-1,1", (-1.0, 1.0)), (" -1e1 , .5", (-10.0, 0.5))]
)
def test_ranges(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["1", "1,0", "0,0", "0,1,2", "nan,1", "0,inf", "a,b", ""])
def test_no_ranges(text):
    with pytest.raises(typer.BadParameter):
        parse_range(text)


@pytest.fixture
def layers():
    """Names "0", "1", "1.0", "1.1", "2" of the indices 0, none, 1, 2, 3."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Flatten())
    return trace_layers(model.eval(), (3, 8, 8))


def test_layers_by_name_or_index(layers):
    expected = {
        "1.0": "1.0",
        "missing": "missing",
        "-1": -1,
        "3": 3,
        "+1": 1,
        "0": "0",  # both, of the same layer
        "name:1": "1",
        "name:missing": "missing",
        "index:2": 2,
        "index:-2": -2,
    }
    assert {text: parse_layer(text, layers) for text in expected} == expected


def test_numbers_that_may_mean_two_layers(layers):
    assert list(ambiguous_layers(layers)) == ["1", "2"]
    message = (
        r"named '1' \(Sequential\), name:1, or the one with index 1, which is '1\.0' \(ReLU\), "
        r"index:1"
    )
    with pytest.raises(typer.BadParameter, match=message):
        parse_layer("1", layers)
    with pytest.raises(typer.BadParameter, match="'index:a' is not an index"):
        parse_layer("index:a", layers)
    with pytest.raises(typer.BadParameter, match=r"'index:9+\.\.\. is not an index"):
        parse_layer(f"index:{'9' * 5000}", layers)
    assert parse_layer("9" * 5000, layers) == "9" * 5000  # a name that there is not


def test_file_names_are_safe_and_distinct():
    names = ["../../etc/passwd", "A", "a", "é" * 3, "x" * 300, "x" * 301, ""]
    files = file_names(names, "m:?")
    assert len({file.casefold() for file in files}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,110}\.png", file) for file in files)
