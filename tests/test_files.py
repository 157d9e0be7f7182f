"""Files are written completely or not at all, and only where a file can be."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fvfast.files.writing import remove_unfinished, replacing
from fvfast.plot import read_metadata, save_png
from fvfast.spectrum import Spectrum

TESTS = Path(__file__).parent


def write(path, text=b"new"):
    with replacing(path) as file:
        file.write(text)


@pytest.fixture
def special(tmp_path):
    """Things that are not files, by kind."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "socket"))
    (tmp_path / "device").symlink_to(os.devnull)
    (tmp_path / "linked pipe").symlink_to("pipe")
    yield tmp_path
    bound.close()


@pytest.mark.parametrize("name", ["pipe", "folder", "socket", "device", "linked pipe"])
def test_what_is_no_file_is_not_replaced(special, name):
    before = os.lstat(special / name)
    picture = torch.rand(3, 8, 8)
    spectrum = Spectrum.from_images(torch.rand(2, 3, 8, 8), progress=False)
    for save in (write, lambda path: save_png(path, picture), spectrum.save):
        with pytest.raises(OSError, match=rf"{name} is a {name.split()[-1]}; expected the name"):
            save(special / name)
    after = os.lstat(special / name)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert not list(special.glob(".fvfast-*"))


def test_the_null_device_stays():
    with pytest.raises(FileExistsError, match="/dev/null is a device"):
        save_png("/dev/null", torch.rand(3, 8, 8))
    assert Path("/dev/null").is_char_device()


def test_a_pipe_that_appears_meanwhile_stays(tmp_path):
    with pytest.raises(FileExistsError), replacing(tmp_path / "a") as file:  # noqa: PT012
        os.mkfifo(tmp_path / "a")
        file.write(b"new")
    assert (tmp_path / "a").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("again")
    (tmp_path / "again").symlink_to(Path("there") / "file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "again").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"
    assert len(list(tmp_path.rglob("*"))) == 4


def test_a_link_to_nothing_makes_the_file(tmp_path):
    (tmp_path / "link").symlink_to(Path("new") / "file")
    write(tmp_path / "link")
    assert (tmp_path / "new" / "file").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        write(tmp_path / "link")
    assert len(list(tmp_path.iterdir())) == 1


def test_an_error_leaves_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


WRITER = """
import sys, time
from pathlib import Path
from fvfast.files.writing import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""
# Without torch: the package itself is a folder of modules.
WITHOUT_TORCH = """
import sys, types
package = types.ModuleType("fvfast")
package.__path__ = [sys.argv.pop(1)]
sys.modules["fvfast"] = package
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of writing a file."""
    package = str(TESTS.parent / "fvfast")
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH + WRITER, package, tmp_path / "a.png"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.communicate()


def unfinished(folder):
    return list(folder.glob(".fvfast-*.unfinished"))


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, writer):
    assert len(unfinished(tmp_path)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(unfinished(tmp_path)) == 1
    write(tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


def test_what_a_living_process_writes_is_left_alone(tmp_path, writer):
    for _ in range(3):
        write(tmp_path / "b.png")
        remove_unfinished(tmp_path)
    assert len(unfinished(tmp_path)) == 1
    writer.communicate()
    assert writer.returncode == 0
    assert (tmp_path / "a.png").read_bytes() == b"half"
    assert not unfinished(tmp_path)


def test_other_things_of_such_names_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / ".fvfast-1.unfinished")  # opening it would wait for a writer
    (tmp_path / ".fvfast-2.unfinished").mkdir()
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / ".fvfast-3.unfinished").symlink_to("precious")
    (tmp_path / ".fvfast-4.finished").write_bytes(b"mine")
    before = sorted(tmp_path.iterdir())
    begin = time.monotonic()
    remove_unfinished(tmp_path)
    assert time.monotonic() - begin < 30
    assert sorted(tmp_path.iterdir()) == before
    remove_unfinished(tmp_path / "missing")


def test_a_file_that_another_process_took_for_left_is_made_anew(tmp_path, monkeypatch):
    """Between the making of a file and its lock."""
    import fcntl

    usual, taken = fcntl.flock, []

    def lock(file, flags):
        if not taken:
            taken.extend(unfinished(tmp_path))
            taken[0].unlink()
        return usual(file, flags)

    monkeypatch.setattr(fcntl, "flock", lock)
    write(tmp_path / "a")
    assert taken
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


def test_without_locks_files_are_written_and_none_is_removed(tmp_path, monkeypatch):
    import errno
    import fcntl

    def refuse(_file, _flags):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".fvfast-1.unfinished").write_bytes(b"of whom?")
    save_png(tmp_path / "a.png", torch.rand(3, 8, 8), metadata={"Title": "a"})
    assert read_metadata(tmp_path / "a.png")["Title"] == "a"
    assert len(unfinished(tmp_path)) == 1
