"""Films of runs: frames in order, of the right colors, and never half a file."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from console import QUICK, draw, settings_of
from console import _workplace as _workplace
from PIL import Image, ImageSequence
from torch import nn

from fvfast import Guide, Objective, maco, maco_batch
from fvfast.cli import app as cli
from fvfast.files.video import VideoWriter
from fvfast.models import load_model
from fvfast.plot import save_video


def read_film(path):
    """All frames of a film, (M, H, W, 3)."""
    if Path(path).suffix.lower() == ".gif":
        with Image.open(path) as film:
            frames = ImageSequence.Iterator(film)
            return np.stack([np.asarray(frame.convert("RGB")) for frame in frames])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), f"{folder}/%03d.png"],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return np.stack([np.asarray(Image.open(path)) for path in sorted(Path(folder).iterdir())])


def gray_frames(count, size=(32, 48)):
    """Pictures that become brighter."""
    levels = torch.linspace(-1, 1, count)
    return [torch.full((3, *size), level.item()) for level in levels]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_whoever_may_read_pictures_may_read_films(tmp_path, suffix):
    plain = tmp_path / "plain"
    plain.touch()
    path = save_video(tmp_path / f"film{suffix}", gray_frames(2))
    assert path.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".GIF"])
@pytest.mark.parametrize("size", [(32, 48), (31, 47)])
def test_frames_are_those_of_the_pictures(tmp_path, suffix, size):
    path = save_video(
        tmp_path / "films" / f"film{suffix}", gray_frames(5, size), values_range=(-1, 1), fps=5
    )
    frames = read_film(path)
    assert frames.shape == (5, size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    # H.264 keeps brightness in 220 steps; a GIF of gray has each of its colors.
    means = frames.reshape(5, -1).mean(1)
    np.testing.assert_allclose(means, np.linspace(0, 255, 5), atol=3)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_range_of_all_pictures_is_the_default(tmp_path):
    path = save_video(tmp_path / "film.gif", torch.stack(gray_frames(3)) * 7 + 2)
    means = read_film(path).reshape(3, -1).mean(1)
    np.testing.assert_allclose(means, [0, 127.5, 255], atol=1)


def test_results_and_gray_pictures(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    objective = Objective.channel(network, 0, 1, input_shape=(1, 8, 8))
    result = maco(objective, nb_steps=3, nb_crops=1, custom_shape=16, save_every=1, progress=False)
    for images in (result, result.image):
        path = save_video(tmp_path / "run.mp4", images, values_range=(-1, 1))
        assert read_film(path).shape == (3, 16, 16, 3)


def test_an_exception_keeps_the_frames_so_far(tmp_path):
    def draw_and_fail(*frames):
        with VideoWriter(tmp_path / "film.mp4") as film:
            for frame in frames:
                film.add(frame)
            raise RuntimeError("stopped")

    black = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(RuntimeError, match="stopped"):
        draw_and_fail(black, black + 255)
    assert len(read_film(tmp_path / "film.mp4")) == 2
    before = (tmp_path / "film.mp4").read_bytes()
    with pytest.raises(RuntimeError, match="stopped"):
        draw_and_fail()
    assert (tmp_path / "film.mp4").read_bytes() == before


def test_bad_arguments(tmp_path, monkeypatch):
    frames = gray_frames(2)
    for error, message, arguments in [
        (ValueError, r"ends in \.mp4 or \.gif", ("film.avi", frames)),
        (ValueError, "no picture", ("film.gif", [])),
        (ValueError, "shape \\(32, 48\\); expected several pictures", ("film.gif", frames[0])),
        (ValueError, "of one size", ("film.gif", [frames[0], frames[1][:, :5]])),
        (ValueError, "1 or 3 channels", ("film.gif", torch.zeros(2, 4, 8, 8))),
        (IsADirectoryError, "is a folder", (".", frames)),
    ]:
        with pytest.raises(error, match=message):
            save_video(tmp_path / arguments[0], arguments[1])
    for fps in (0, -1, 1e-9, 1e9):
        with pytest.raises(ValueError, match=r"fps must be above 0, from 0\.01 to 1000, got"):
            save_video(tmp_path / "film.gif", frames, fps=fps)
    with pytest.raises(TypeError, match="fps must be a number, got '24'"):
        save_video(tmp_path / "film.gif", frames, fps="24")
    with pytest.raises(ValueError, match="save_video: values_range is"):
        save_video(tmp_path / "film.gif", frames, values_range=(0, 1, 2))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"pip install 'fvfast\[video\]'"):
        save_video(tmp_path / "film.mp4", frames)
    assert not list(tmp_path.glob("*film*"))


def test_the_command_films_each_step():
    draw("--layer", "conv", "--channel", 0, "--video", "run.mp4", *QUICK)
    assert len(read_film("run.mp4")) == 2
    # The picture is there; its film is drawn again where it is missing.
    Path("run.mp4").unlink()
    draw("--layer", "conv", "--channel", 0, "--video", "run.mp4", *QUICK)
    assert Path("run.mp4").exists()
    draw("--layer", "conv", "--channel", "1,2", "--batch-size", 2, "--video", "run.gif", *QUICK)
    films = sorted(path.name for path in Path().glob("run_*.gif"))
    assert films == ["run_tiny_Channel_conv_1.gif", "run_tiny_Channel_conv_2.gif"]
    result = draw("--layer", "conv", "--channel", 0, "--video", "run.avi", *QUICK, status=1)
    assert "ends in .mp4 or .gif" in result.output


def test_the_command_takes_guides(tmp_path):
    unguided = draw("--layer", "conv", "--channel", 0, *QUICK)
    assert unguided.exit_code == 0
    path = next((tmp_path / "pictures").iterdir())
    assert "guide" not in settings_of(path)
    folder = tmp_path / "photographs"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        pixels = generator.integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    guided = ["--guide", folder, "--guide-weight", 2, "--overwrite"]
    draw("--layer", "conv", "--channel", 0, *guided, *QUICK)
    guide = settings_of(path)["guide"]
    assert (guide["kind"], guide["weight"]) == ("images", 2.0)
    assert guide["of"] == f"3 images in {folder}"
    for options, message in [
        (["--guide", "nowhere"], "expected a folder of photographs"),
        (["--guide", "batch_norm"], "no batch normalization"),
    ]:
        result = draw("--layer", "conv", "--channel", 0, *options, *QUICK, status=1)
        assert message in result.output
    result = draw("--layer", "conv", "--channel", 0, "--guide-weight", 1, *QUICK, status=2)
    assert "--guide-weight weighs a guide" in result.output


def test_a_path_is_one_film(tmp_path):
    draw("--layer", "conv", "--channel", "0,3", "--path", 4, "--video", "path.gif", *QUICK)
    assert read_film("path.gif").shape == (4, 16, 20, 3)
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 4
    records = [settings_of(path)["objective"] for path in pictures]
    assert sorted(record["path"]["picture"] for record in records) == [1, 2, 3, 4]
    assert all(record["channel"] == [0, 3] for record in records)
    again = draw("--layer", "conv", "--channel", "0,3", "--path", 4, "--video", "path.gif", *QUICK)
    assert "nothing to draw" in again.output
    result = draw("--layer", "conv", "--channel", "0,1,2", "--path", 4, *QUICK, status=1)
    assert "name two, got 3" in result.output
    both = ["--path", 4, "--diversity", 2]
    result = draw("--layer", "conv", "--channel", "0,1", *both, *QUICK, status=2)
    assert "exclude each other" in result.output


def test_the_guide_sees_photographs_in_the_range_of_the_run():
    """That of ``--values-range``, not the network's own."""
    Path("photographs").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save("photographs/one.png")
    seen = []

    def remember(objective, **options):
        seen.append((objective, options))
        raise ValueError("enough")

    draw(
        "--layer", "conv", "--channel", 0, "--guide", "photographs", "--values-range", "0,1",
        *QUICK, status=1, session=cli.Session(maco_batch=remember),
    )  # fmt: skip
    ((objective, options),) = seen
    expected = Guide.from_images(objective, "photographs", values_range=(0, 1), progress=False)
    for one, other in zip(options["guide"].statistics, expected.statistics, strict=True):
        torch.testing.assert_close(one, other)


def test_a_guide_of_other_photographs_is_another_one():
    folder = Path("photographs")
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    unit = ["--layer", "conv", "--channel", 0, "--guide"]
    draw(*unit, folder, *QUICK)
    assert "already there" in draw(*unit, folder, *QUICK).output
    Image.fromarray(255 - pixels).save(folder / "one.png")
    assert "guide_content" in draw(*unit, folder, *QUICK, status=1).output

    model = load_model("tiny_network:make").model
    objective = Objective.channel(model, "conv", 0, input_shape=(3, 12, 12))
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    Guide.from_images(objective, images, progress=False).save("look.safetensors")
    draw(*unit, "look.safetensors", "--overwrite", *QUICK)
    assert "already there" in draw(*unit, "look.safetensors", *QUICK).output
    Guide.from_images(objective, -images, progress=False).save("look.safetensors")
    assert "guide_content" in draw(*unit, "look.safetensors", *QUICK, status=1).output


def test_a_film_of_something_else_is_not_replaced():
    Path("run.gif").write_text("holidays")
    unit = ["--layer", "conv", "--channel", 0, "--video", "run.gif", *QUICK]
    result = draw(*unit, status=1)
    assert "run.gif is there already" in result.output
    assert "--overwrite" in result.output
    path = ["--layer", "conv", "--channel", "0,1", "--path", 3, "--video", "run.gif", *QUICK]
    assert "run.gif is there already" in draw(*path, status=1).output
    assert Path("run.gif").read_text() == "holidays"
    assert not Path("pictures").exists()
    draw(*unit, "--overwrite")
    assert len(read_film("run.gif")) == 2


def test_the_film_of_an_unfinished_picture_is_replaced():
    def stop_early(objective, **options):
        return maco_batch(objective, **{**options, "nb_steps": 1})

    unit = ["--layer", "conv", "--channel", 0, "--video", "run.gif", *QUICK]
    draw(*unit, session=cli.Session(maco_batch=stop_early))
    assert len(read_film("run.gif")) == 1
    draw(*unit)
    assert len(read_film("run.gif")) == 2


@pytest.mark.parametrize("units", [["--channel", 0], ["--channel", "0,1", "--path", 3]])
def test_where_no_film_can_be_written(units):
    Path("films").symlink_to("unmounted")
    result = draw("--layer", "conv", *units, "--video", "films/run.gif", *QUICK, status=1)
    assert "films" in result.output
    assert not Path("pictures").exists()


@pytest.mark.parametrize("units", [["--channel", 0], ["--channel", "0,1", "--path", 3]])
@pytest.mark.parametrize("lost_before", [True, False])
def test_a_film_that_fails_keeps_the_pictures(units, lost_before):
    """Also one that fails at the end of the run."""

    def lose_the_folder(*arguments, callback, **options):
        def watch(report):
            ended = None if lost_before else callback(report)
            shutil.rmtree("films", ignore_errors=True)
            Path("films").write_text("")
            return callback(report) if lost_before else ended

        return maco_batch(*arguments, callback=watch, **options)

    Path("films").mkdir()
    result = draw(
        "--layer", "conv", *units, "--video", "films/run.gif", *QUICK,
        session=cli.Session(maco_batch=lose_the_folder),
    )  # fmt: skip
    assert "the film cannot be written to films/run.gif" in result.output
    assert len(list(Path("pictures").iterdir())) == (3 if "--path" in units else 1)


WITH_LITTLE_SPACE = """
import resource, sys, torch
from fvfast.plot import save_video
images = torch.rand(8, 3, 256, 256)
save_video(sys.argv[1], images[:1, :, :16, :16])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_video(sys.argv[1], images)
except OSError as error:
    print("failed:", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_film_that_does_not_fit_is_an_error_and_replaces_nothing(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    run = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE_SPACE, path], capture_output=True, text=True, check=True
    )
    assert "failed:" in run.stdout
    assert len(read_film(path)) == 1
    assert [entry.name for entry in tmp_path.glob("*film*")] == [path.name]
