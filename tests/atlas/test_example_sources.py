"""Where images of dataset examples come from: folders, tar files, iterables; bad ones are named."""

import io
import json
import os
import tarfile

import fsspec
import numpy as np
import pytest
import torch
from example_images import SIDE, convolutions, pictures, write_folder
from PIL import Image
from unprivileged import unprivileged

from fvfast.atlas.examples import dataset_examples
from fvfast.atlas.examples.folders import LARGEST_FILE
from fvfast.atlas.examples.sources import image_source


def examples_of(images, **settings):
    return dataset_examples(
        convolutions(), "2", images, input_shape=(3, SIDE, SIDE), progress=False,
        **{"k": 4, "batch_size": 8, **settings},
    )  # fmt: skip


def tops(examples):
    return [[(one.image, one.value) for one in unit.top] for unit in examples]


def named(source):
    return [(sample.source, sample.label) for sample in source.samples()]


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_archive(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def members_of(images, start=0):
    for number, image in enumerate(images, start):
        yield f"{number:04}.png", png(image)
        yield f"{number:04}.cls", str(number % 3).encode()
        yield f"{number:04}.txt", b"a caption"


def test_a_folder_is_sorted_and_labels_are_folders(tmp_path):
    write_folder(tmp_path, pictures(5))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "A.PNG").write_bytes(png(pictures(1)[0]))
    assert named(image_source(tmp_path)) == [
        ("A.PNG", None),
        ("class0/0000.png", "class0"),
        ("class0/0003.png", "class0"),
        ("class1/0001.png", "class1"),
        ("class1/0004.png", "class1"),
        ("class2/0002.png", "class2"),
    ]


def test_all_kinds_of_sources_give_the_same(tmp_path):
    images = pictures(20)
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:04}.png")
    memory = fsspec.filesystem("memory")
    for number, image in enumerate(images):
        memory.pipe_file(f"/fvfast-examples/{number:04}.png", png(image))
    for number in range(4):
        part = images[5 * number : 5 * number + 5]
        write_archive(tmp_path / f"a-{number:03}.tar", members_of(part, 5 * number))
    write_archive(tmp_path / "all.tar.gz", members_of(images), "w:gz")
    memory.pipe_file("/fvfast-tars/all.tar", _archive_bytes(images))
    expected = tops(examples_of(images))
    try:
        for source in (
            folder,
            "memory://fvfast-examples",
            str(tmp_path / "a-{000..003}.tar"),
            str(tmp_path / "a-*.tar"),
            [tmp_path / f"a-{number:03}.tar" for number in range(4)],
            tmp_path / "all.tar.gz",
            "memory://fvfast-tars/all.tar",
            [Image.fromarray(image) for image in images],
            [torch.from_numpy(image).permute(2, 0, 1) for image in images],
            [image.astype(np.float32) / 255 for image in images],
            [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images],
            ((image, number, f"{number}") for number, image in enumerate(images)),
            iter(images),
        ):
            assert tops(examples_of(source)) == expected
    finally:
        memory.rm("/fvfast-examples", recursive=True)
        memory.rm("/fvfast-tars", recursive=True)


def _archive_bytes(images):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members_of(images):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_labels_of_archives(tmp_path):
    image = png(pictures(1)[0])
    write_archive(
        tmp_path / "labels.tar",
        [
            ("a/x.png", image),
            ("a/x.cls", b"7\n"),
            ("a/y.json", json.dumps({"label": 3}).encode()),
            ("a/y.jpg", image),
            ("b/y.json", b"{broken"),
            ("b/y.seg.png", image),
            ("b/z.png", image),
            ("c/readme.md", b"text"),
        ],
    )
    assert named(image_source(tmp_path / "labels.tar")) == [
        ("labels.tar/a/x.png", "7"),
        ("labels.tar/a/y.jpg", "3"),
        ("labels.tar/b/y.seg.png", None),
        ("labels.tar/b/z.png", None),
    ]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_is_named_and_the_others_are_read(tmp_path, mode):
    images = pictures(30, side=64)
    for number, part in enumerate((images[:15], images[15:])):
        write_archive(tmp_path / f"{number}.tar", members_of(part, 15 * number), mode)
    first = tmp_path / "0.tar"
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2 + 100])
    with pytest.warns(UserWarning, match=r"0\.tar: the archive cannot be read on") as caught:
        found = examples_of(str(tmp_path / "{0..1}.tar"), k=40)
    assert len(caught) == 1
    assert found.unreadable == 1
    assert 15 + 5 <= found.images < 30
    sources = {example.source for example in found[0].top}
    assert {f"1.tar/{number:04}.png" for number in range(15, 30)} <= sources
    assert "0.tar/0000.png" in sources


@pytest.mark.parametrize("damage", ["header", "end", "no end"])
def test_an_archive_that_is_damaged_between_members(tmp_path, damage):
    """Python's own reader takes all of these for the end of the archive."""
    image = png(pictures(1)[0])
    path = tmp_path / "a.tar"
    write_archive(path, [(f"{number}.png", image) for number in range(4)])
    content = bytearray(path.read_bytes())
    block = 512 * (1 + -(-len(image) // 512))  # of a member
    if damage == "header":
        content[2 * block + 20] ^= 1
    else:
        del content[2 * block + (100 if damage == "end" else 0) :]
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"1 of 3 images .*\n  a\.tar: .* damaged or ends early"):
        assert examples_of(path).images == 2


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(ValueError, match=r"none of the 1 images of .*\n  a\.tar: the archive"):
        examples_of(tmp_path / "a.tar")


def test_bad_images_are_named_and_counted(tmp_path):
    images = pictures(6)
    write_folder(tmp_path, images)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(png(np.random.default_rng(0).integers(
        0, 256, (64, 64, 3), dtype=np.uint8))[:3000])  # fmt: skip
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.warns(UserWarning, match="5 of 11 images") as caught:
        found = examples_of(tmp_path, batch_size=3)
    (warning,) = caught
    for name in ("text.jpg", "empty.png", "cut.png", "deep.png", "gone.png"):
        assert f"\n  {name}: " in str(warning.message)
    assert (found.images, found.unreadable, len(found.named_unreadable)) == (6, 5, 5)
    assert {one.source[:5] for one in found[0].top} == {"class"}


def test_only_bad_images(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"none of the 1 images of .* could be read:\n  text.jpg"):
        examples_of(tmp_path)


def test_kinds_of_pixels(tmp_path):
    """Gray, gray with alpha, palettes, alpha, CMYK: as Pillow converts them to RGB."""
    image = Image.fromarray(pictures(1)[0])
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1"):
        image.convert(mode).save(tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}")
    found = examples_of(tmp_path)
    assert (found.images, found.unreadable) == (6, 0)


def test_a_network_for_gray_images(tmp_path):
    write_folder(tmp_path, pictures(5))
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3)).eval()
    found = dataset_examples(model, "0", tmp_path, input_shape=(1, 16, 16), progress=False)
    assert found.crops(found[0])[0].mode == "L"


def test_images_are_turned_as_their_exif_data_says(tmp_path):
    upright = pictures(3, side=40)
    for number, image in enumerate(upright):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(image, 1)))
        turned.save(tmp_path / f"{number}.png", exif=exif)
    assert tops(examples_of(tmp_path)) == tops(examples_of(upright))


def test_images_of_the_user_stay_as_they_are():
    image = Image.fromarray(pictures(1, side=40)[0])
    exif = image.getexif()
    exif[0x0112] = 6
    before = np.array(image)
    examples_of([image])
    assert np.array_equal(before, np.array(image))
    assert image.getexif()[0x0112] == 6


class _DataSet:
    """As torchvision's: the class of an image is a number, and one file is damaged."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        if number == 2:
            raise OSError("image file is truncated")
        return Image.fromarray(self.images[number]), number % 3


def test_a_data_set_of_torch():
    with pytest.warns(UserWarning, match="1 of 6 images of a _DataSet .*\n  image 2: .*truncated"):
        found = examples_of(_DataSet(pictures(6)), k=6)
    assert {(one.image, one.source, one.label) for one in found[0].top} == {
        (number, f"image {number}", str(number % 3)) for number in (0, 1, 3, 4, 5)
    }


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (5, TypeError, "images must be a folder, tar files, or an iterable"),
        ([], ValueError, "a list has no images"),
        (["a.tar", "b.jpg"], ValueError, "may name tar files only; got 'b.jpg'"),
        ("nothing/here", NotADirectoryError, "there is no such folder"),
        ("nothing.tar", FileNotFoundError, "there is no such archive"),
        ("no-{00..02}.tar", FileNotFoundError, "there is no such archive"),
        ("memory://nothing-here", NotADirectoryError, "there is no such folder"),
        (["text", 5], TypeError, "an image is a str"),
        ([(1, 2, 3, 4)], TypeError, "image 0 is a tuple of 4"),
        ([np.zeros((4, 4, 3)) - 1], ValueError, "values from -1 to -1; expected 0 to 1"),
        ([np.zeros((4, 4, 3), int)], ValueError, "int64; expected uint8, or floats"),
        ([np.zeros((4, 4, 5), np.uint8)], ValueError, r"shape \(4, 4, 5\)"),
    ],
)
def test_what_is_no_source(images, error, message):
    with pytest.raises(error, match=message):
        examples_of(images)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"has no image files; expected files that end in \.avif"):
        examples_of(tmp_path)


def test_files_that_are_too_large_for_memory(tmp_path):
    """In an archive or a store; their header would be enough for a bomb of zeros."""
    path, large = tmp_path / "a.tar", tarfile.TarInfo("large.png")
    large.size = LARGEST_FILE + 1
    with path.open("wb") as file:
        file.write(large.tobuf())
        file.seek(512 * (1 + -(-large.size // 512)))  # leaves a hole, which holds zeros
        file.write(_archive_bytes(pictures(2)))
    with pytest.warns(
        UserWarning, match=r"a\.tar/large\.png: 64 MiB; expected files of at most 64"
    ):
        assert examples_of(path).images == 2


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permission bits are a matter of POSIX")
def test_folders_without_permission_are_named(tmp_path):
    write_folder(tmp_path, pictures(4))
    locked = tmp_path / "class1"
    locked.chmod(0)
    tmp_path.chmod(0o755)
    try:
        with (
            unprivileged(tmp_path),
            pytest.warns(UserWarning, match="could not be listed.*\n.*class1: Permission denied"),
        ):
            assert image_source(tmp_path).total == 3
    finally:
        locked.chmod(0o755)
