import importlib.metadata
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont, UnidentifiedImageError
from unprivileged import unprivileged

from fvfast.plot import (
    blend_transparency,
    check_writable,
    contact_sheet,
    png,
    read_metadata,
    save_png,
)

SOFTWARE = {"Software": f"fvfast {importlib.metadata.version('fvfast')}"}


@pytest.fixture
def picture():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, 18, 26, generator=generator)
    return image, torch.rand(3, 18, 26, generator=generator)


@pytest.mark.parametrize("style", ["xplique", "horama"])
def test_the_file_holds_the_blended_picture(tmp_path, picture, style):
    path = save_png(tmp_path / "new" / "folder" / "a.png", *picture, style=style)
    with Image.open(path) as file:
        assert file.format == "PNG"
        assert file.mode == "RGBA"
        assert file.size == (26, 18)
        expected = blend_transparency(*picture, style=style) * 255
        np.testing.assert_allclose(np.asarray(file), expected, atol=0.5 + 1e-3)


def test_without_transparency_there_is_no_alpha_channel(tmp_path, picture):
    path = save_png(tmp_path / "a.png", picture[0])
    with Image.open(path) as file:
        assert file.mode == "RGB"


def test_metadata_survives(tmp_path, picture):
    metadata = {"Title": "coffee mug", "fvfast.seed": 3, "Comment": "größer 猫\nsecond line"}
    path = save_png(tmp_path / "a.png", *picture, metadata=metadata)
    # Values of any type become text.
    assert read_metadata(path) == {**SOFTWARE, **metadata, "fvfast.seed": "3"}


def test_texts_that_png_cannot_hold_are_escaped(tmp_path, picture):
    metadata = {"Title": "a\0b", "Comment": "\udc80 猫", "ä" * 79: "\x1b", "Long": "x" * 100_000}
    path = save_png(tmp_path / "a.png", *picture, metadata=metadata)
    escaped = {"Title": r"a\x00b", "Comment": r"\udc80 猫"}
    assert read_metadata(path) == {**SOFTWARE, **metadata, **escaped}


def test_every_file_tells_the_version(tmp_path, picture):
    assert read_metadata(save_png(tmp_path / "a.png", *picture)) == SOFTWARE
    sheet = contact_sheet([picture[0]], ["a"], tmp_path / "b.png")
    assert read_metadata(sheet) == SOFTWARE
    own = save_png(tmp_path / "c.png", *picture, metadata={"Software": "mine"})
    assert read_metadata(own) == {"Software": "mine"}


@pytest.mark.parametrize(
    "key", ["", "x" * 80, "ä" * 80, "猫", "a\0b", "a\nb", " a", "a ", "a  b", "\x1b", "\xa0", 3]
)
def test_keywords_that_png_refuses_are_refused_before_writing(tmp_path, picture, key):
    with pytest.raises(ValueError, match="1 to 79 Latin-1"):
        save_png(tmp_path / "a.png", *picture, metadata={key: "text"})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, picture, monkeypatch):
    path = save_png(tmp_path / "a.png", picture[0])
    before = path.read_bytes()

    def full_disk(_picture, file, **_options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_png(path, *picture)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_replaced(tmp_path, picture):
    path = save_png(tmp_path / "a.png", picture[0], metadata={"Title": "old"})
    save_png(path, picture[0], metadata={"Title": "new"})
    assert read_metadata(path) == {**SOFTWARE, "Title": "new"}
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_file_name_can_be_written(tmp_path, picture):
    path = save_png(tmp_path / f"{'x' * 251}.png", picture[0])
    assert list(tmp_path.iterdir()) == [path]


def test_read_metadata_says_what_is_wrong(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif")
    with pytest.raises(ValueError, match="is a GIF file"):
        read_metadata(tmp_path / "a.gif")
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "missing.png")


def test_texts_that_cannot_be_read_are_one_message(picture, tmp_path):
    path = save_png(tmp_path / "a.png", *picture, metadata={"Title": "a title"})
    whole = path.read_bytes()
    # What the header says decides, before any pixel is decoded.
    header = b"IHDR" + struct.pack(">II", 12000, 12000) + whole[24:29]
    checked = header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(whole[:12] + checked + whole[33:])
    with pytest.raises(ValueError, match=r"a\.png: 12000 x 12000 pixels of PNG take 1\.14 GiB"):
        read_metadata(path)
    # Only the beginning of a text is there: in Pillow that is not an OSError.
    end = whole.index(b"tEXt") - 4
    for damaged in (whole[:end] + bytes(3), whole[:33] + b"\0\0\0\x05zTXtab\0\x01c" + whole[33:]):
        path.write_bytes(damaged)
        with pytest.raises((ValueError, OSError)):
            read_metadata(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(UnidentifiedImageError, match="damaged, or of another format"):
        read_metadata(path)


def test_saving_needs_no_pyplot(tmp_path):
    code = (
        "import sys, torch; from fvfast.plot import save_png, contact_sheet;"
        f"save_png({str(tmp_path / 'a.png')!r}, torch.rand(3, 8, 8));"
        f"contact_sheet([torch.rand(3, 8, 8)], ['a'], {str(tmp_path / 'b.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_check_writable_accepts_a_folder_that_is_not_there_yet(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_check_writable_refuses_a_file(tmp_path, below):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        check_writable(tmp_path / "file" / below)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permission bits are a matter of POSIX")
def test_check_writable_refuses_a_folder_without_permission(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    try:
        with (
            unprivileged(tmp_path),
            pytest.raises(PermissionError, match=r"locked.*Choose another folder"),
        ):
            check_writable(locked / "pictures")
    finally:
        locked.chmod(0o755)


def test_the_contact_sheet_shows_each_picture_with_its_name(tmp_path):
    red, blue = torch.zeros(3, 8, 8), torch.zeros(3, 8, 16)
    red[0] = blue[2] = 1.0
    # One dark pixel, so that the others are stretched to full color.
    named = contact_sheet([red, blue, red], ["red\nsquare", "b" * 200, ""], tmp_path / "a.png")
    blank = contact_sheet([red, blue, red], ["\n", "", ""], tmp_path / "b.png", columns=2)
    with Image.open(named) as file, Image.open(blank) as unnamed:
        sheet, plain = np.asarray(file).astype(int), np.asarray(unnamed).astype(int)
    assert sheet.shape == plain.shape == (2 * (320 + 12 + 48) + 12, 2 * 332 + 12, 3)
    np.testing.assert_array_equal(sheet[100, 100], [255, 0, 0])
    np.testing.assert_array_equal(sheet[100, 332 + 100], [0, 0, 255])
    np.testing.assert_array_equal(sheet[-100 - 48, 100], [255, 0, 0])
    # A picture twice as wide as high leaves white below it.
    np.testing.assert_array_equal(sheet[12 + 250, 332 + 100], [255, 255, 255])
    lettered = np.abs(sheet - plain).sum(-1) > 0
    assert lettered[332 : 332 + 24, 12:332].any()
    assert lettered[332 + 24 : 332 + 48, 12:332].any()
    assert lettered[332 : 332 + 24, 344:664].any()
    lettered[332 : 332 + 48, 12:332] = lettered[332 : 332 + 24, 344:664] = False
    assert not lettered.any(), "letters outside the place for names"


@pytest.mark.parametrize(
    "name", ["i" * 100_000, "\u0301" * 20_000, "\n" * 20_000, "a\0\x1b\r\udc80\u202e", "猫" * 999]
)
def test_no_name_is_too_much_for_the_contact_sheet(tmp_path, name, monkeypatch):
    measured = []
    usual = ImageFont.FreeTypeFont.getlength

    def count(font, text, *arguments, **settings):
        measured.append(len(text))
        return usual(font, text, *arguments, **settings)

    monkeypatch.setattr(ImageFont.FreeTypeFont, "getlength", count)
    path = contact_sheet([torch.rand(3, 8, 8)], [name], tmp_path / "a.png")
    with Image.open(path) as file:
        assert file.size[0] == 2 * 12 + 320
        assert file.size[1] <= 2 * 12 + 320 + 10 * 24
    # Cutting off one letter after the other measured each line again.
    assert sum(measured) < 10_000


@pytest.mark.parametrize("width", [1, 5, 31, 32, 33, 60])
def test_a_line_is_cut_no_more_than_it_must_be(width):
    font = ImageFont.load_default(18)
    line = "Wi" * width
    fitted = png._fitted(line, font)
    assert font.getlength(fitted) <= 320
    if fitted != line:
        kept = fitted.removesuffix("...")
        assert font.getlength(line[: len(kept) + 1] + "...") > 320


def test_the_contact_sheet_shows_transparency_on_white(tmp_path):
    alpha = torch.zeros(3, 8, 8)
    alpha[:, :, :4] = 1.0
    image = torch.zeros(3, 8, 8)
    image[0] = 1.0
    path = contact_sheet([image], ["half"], tmp_path / "a.png", alphas=[alpha])
    with Image.open(path) as file:
        sheet = np.asarray(file)
    np.testing.assert_array_equal(sheet[150, 12 + 40], [255, 0, 0])
    np.testing.assert_array_equal(sheet[150, 12 + 280], [255, 255, 255])


def test_the_contact_sheet_refuses_names_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="names has 1 entries for 2"):
        contact_sheet(torch.rand(2, 3, 4, 4), ["a"], tmp_path / "a.png")
