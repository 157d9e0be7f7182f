"""What a user types on the command line."""

import re

import pytest
import typer

from fvfast._arguments import file_names, parse_ids, parse_layer, parse_range, parse_size


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
    ("text", "size"), [("512", (512, 512)), ("480x640", (480, 640)), ("3X2", (3, 2))]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["1", "0x5", "5x", "x5", "-5", "5x5x5", ""])
def test_no_sizes(text):
    with pytest.raises(typer.BadParameter):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("0,1", (0.0, 1.0)), ("-1,1", (-1.0, 1.0)), (" -1e1 , .5", (-10.0, 0.5))]
)
def test_ranges(text, expected):
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["1", "1,0", "0,0", "0,1,2", "nan,1", "0,inf", "a,b", ""])
def test_no_ranges(text):
    with pytest.raises(typer.BadParameter):
        parse_range(text)


def test_layers_by_name_or_index():
    names = ["3", "-1", "conv", "blocks.3", "3a"]
    assert [parse_layer(text) for text in names] == [3, -1, "conv", "blocks.3", "3a"]


def test_file_names_are_safe_and_distinct():
    names = ["../../etc/passwd", "A", "a", "é" * 3, "x" * 300, "x" * 301, ""]
    files = file_names(names, "m:?")
    assert len({file.casefold() for file in files}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,110}\.png", file) for file in files)
