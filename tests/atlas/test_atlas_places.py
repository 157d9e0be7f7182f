"""Places: whole files or none, and what happens when one is full, or goes away and comes back."""

import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import fsspec
import pytest
from conftest import make_plan
from fsspec.implementations.local import LocalFileSystem

from benchmarks.s3_server import BUCKET, S3Server
from fvfast import atlas
from fvfast.atlas.keys import PLAN


def test_files_are_there_or_not(place):
    assert place.names("units/a%20b") == []
    assert not place.exists("units/a%20b/1.png")
    with pytest.raises(FileNotFoundError):
        place.read("units/a%20b/1.png")
    place.put("units/a%20b/1.png", b"first")
    place.put("units/a%20b/1.png", b"second")
    place.put("units/a%20b/2.png", b"")
    assert place.read("units/a%20b/1.png") == b"second"
    assert sorted(place.names("units/a%20b")) == ["1.png", "2.png"]
    place.remove("units/a%20b/1.png")
    place.remove("units/a%20b/1.png")
    assert not place.exists("units/a%20b/1.png")
    assert place.names("units/a%20b") == ["2.png"]


def test_a_place_can_be_sent_to_another_process(place):
    place.put("x", b"1")
    assert atlas.Place(**place.arguments).read("x") == b"1"


class StorageError(Exception):
    """Of a library, which is no error of the system."""


class Torn(LocalFileSystem):
    """A file system of another kind, on which writing ends in the middle."""

    protocol = "torn"

    def pipe_file(self, path, value, **_):
        with open(path, "wb") as file:
            file.write(value[: len(value) // 2])
        raise KeyboardInterrupt

    def cat_file(self, *_, **__):
        raise StorageError("gone")


class Renaming(LocalFileSystem):
    """A file system that is neither a folder nor object storage, such as sftp."""

    protocol = "renaming"


class Full(LocalFileSystem):
    """A disk that is full for the first attempts."""

    protocol = "full"
    errors = 2

    def pipe_file(self, path, value, **settings):
        if type(self).errors:
            type(self).errors -= 1
            with open(path, "wb") as file:
                file.write(value[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pipe_file(path, value, **settings)


for kind in (Torn, Renaming, Full):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.mark.parametrize("protocol", ["file", "renaming", "torn"])
def test_a_half_written_file_has_no_name(tmp_path, protocol):
    place = atlas.Place(f"{protocol}://{tmp_path}/atlas")
    if protocol == "torn":
        with pytest.raises(KeyboardInterrupt):
            place.put("units/0/1.png", b"0123456789")
    else:
        place.put("units/0/1.png", b"0123456789")
        assert place.names("units/0") == ["1.png"]
    left = sorted(path.name for path in (tmp_path / "atlas/units/0").iterdir())
    assert left == ([] if protocol == "torn" else ["1.png"])


def test_a_full_disk_is_said_once_and_waited_for(tmp_path):
    said, pauses = [], []
    place = atlas.Place(f"full://{tmp_path}/atlas", say=said.append, sleep=pauses.append)
    place.put("units/0/1.png", b"0123456789")
    assert place.read("units/0/1.png") == b"0123456789"
    assert "is full: make room there; waiting for up to 600 seconds" in said[0]
    assert "is back after 0 seconds" in said[1]
    assert len(said) == 2
    assert pauses == [0.25, 0.5]
    assert os.listdir(tmp_path / "atlas/units/0") == ["1.png"]


def test_patience_has_an_end(tmp_path):
    (tmp_path / "atlas").mkdir()
    place = atlas.Place(tmp_path / "atlas", patience=0.3, say=lambda _text: None)
    place.begin()
    with pytest.raises(atlas.PlaceLostError, match=r"cannot write units/0/1\.png since 0 seconds"):
        place.put("units/0/1.png", b"")
    assert not (tmp_path / "atlas/units").exists()


def test_without_patience_nothing_is_waited_for(tmp_path):
    pauses, said = [], []
    Full.errors = 1
    settings = {"patience": 0, "say": said.append, "sleep": pauses.append}
    place = atlas.Place(f"full://{tmp_path}/atlas", **settings)
    with pytest.raises(OSError, match="No space left on device") as raised:
        place.put("units/0/1.png", b"0123456789")
    assert raised.value.errno == errno.ENOSPC
    place.put("units/0/1.png", b"0123456789")
    lost = atlas.Place(f"torn://{tmp_path}/atlas", **settings)
    with pytest.raises(atlas.PlaceLostError, match=r"cannot read 1\.png \(StorageError: gone\)"):
        lost.read("1.png")
    assert not pauses
    assert not said


def test_a_folder_that_goes_away_is_waited_for_and_not_made_anew(tmp_path):
    said = []
    place = atlas.Place(tmp_path / "atlas", say=said.append)
    place.put(PLAN, b"{}")
    place.begin()
    (tmp_path / "atlas").rename(tmp_path / "away")

    def bring_back():
        time.sleep(0.6)
        assert not (tmp_path / "atlas").exists()
        (tmp_path / "away").rename(tmp_path / "atlas")

    thread = threading.Thread(target=bring_back)
    thread.start()
    place.put("units/0/1.png", b"x")
    thread.join()
    assert place.read("units/0/1.png") == b"x"
    assert ["cannot be reached" in said[0], "is back after" in said[1]] == [True, True]
    assert len(said) == 2


def test_a_folder_that_goes_away_while_a_file_is_written_is_told_alike(tmp_path, monkeypatch):
    """Not as a missing file, which says nothing to a user who has unmounted a disk."""
    said, folder, away = [], tmp_path / "atlas", tmp_path / "away"
    place = atlas.Place(folder, say=said.append, sleep=lambda _seconds: away.rename(folder))
    place.put(PLAN, b"{}")
    place.begin()
    rename = Path.replace

    def replace(path, target):
        if path.name.startswith(".fvfast-") and not said:
            folder.rename(away)
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    place.put("units/0/1.png", b"x")
    assert place.read("units/0/1.png") == b"x"
    assert f"{folder} cannot be reached (plan.json is not there); waiting" in said[0]


def test_a_folder_that_goes_away_before_a_file_is_written_is_not_made_anew(tmp_path, monkeypatch):
    """At the last moment: it was still there when the place looked."""
    said, folder, away = [], tmp_path / "atlas", tmp_path / "away"
    place = atlas.Place(folder, say=said.append, sleep=lambda _seconds: away.rename(folder))
    place.put(PLAN, b"{}")
    place.begin()
    exists = Path.exists

    def look(path):
        is_there = exists(path)
        if path.name == PLAN and not said and is_there:
            folder.rename(away)
        return is_there

    monkeypatch.setattr(Path, "exists", look)
    place.put("units/0/1.png", b"x")
    assert place.read("units/0/1.png") == b"x"
    assert f"{folder} cannot be reached (plan.json is not there); waiting" in said[0]


@pytest.mark.thorough
def test_a_server_that_goes_away_for_ten_seconds_is_waited_for(monkeypatch):
    server, said = S3Server(), []
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        place = atlas.Place(f"s3://{BUCKET}/away", say=said.append)
        place.put("a", b"1")
        server.stop()
        thread = threading.Timer(10, server.start)
        thread.start()
        place.put("b", b"2")
        thread.join()
        assert place.read("b") == b"2"
        assert "cannot be reached" in said[0]
        assert "is back after" in said[-1]
        assert len(said) == 2
    finally:
        server.stop()


def test_places_that_cannot_be_written_are_found_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    plan = make_plan(units=[0])
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        atlas.begin(plan, atlas.Place(tmp_path / "file"))
    with pytest.raises(ValueError, match="nosuch"):
        atlas.Place("nosuch://x")


@pytest.mark.thorough
def test_a_bucket_that_is_not_there_is_found_at_once(server):
    start = time.monotonic()
    with pytest.raises(OSError, match="files cannot be written to s3://nosuch/x"):
        atlas.begin(make_plan(units=[0]), atlas.Place("s3://nosuch/x"))
    assert time.monotonic() - start < 30
    assert server.endpoint


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB, where the system lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_loses_nothing(small_disk, events):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4_150_000 - 16 * 4096))
    plan = make_plan(custom_shape=48)

    def sleep(_seconds):
        # Whoever is told makes room.
        ballast.unlink(missing_ok=True)

    said = []
    place = atlas.Place(small_disk / "atlas", say=said.append, sleep=sleep, patience=20)
    worker = atlas.Worker(plan)
    atlas.begin(plan, place)
    atlas.run_shard(plan, 0, place, worker=worker, report=events)
    assert not ballast.exists()
    assert "is full: make room there" in said[0]
    found = atlas.verify(place)
    assert found.checked == len(events)
    assert not found.wrong
    assert not found.status.set_aside
