"""Kills workers and drivers of an atlas at random moments, and looks whether anything was lost.

    python -m benchmarks.atlas_kills --place folder
    python -m benchmarks.atlas_kills --place s3
    python -m benchmarks.atlas_kills --place folder --ray

Each round draws an atlas of all units of a tiny network with two workers, while SIGKILL hits
workers, the driver and, with Ray, the raylet; a driver that was killed is started again. When the
kills are used up, the last round goes on to its end. Then every picture is decoded and compared
with its record. Rounds follow each other until there were enough kills.
"""

import argparse
import contextlib
import dataclasses
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.s3_server import BUCKET, s3_server
from benchmarks.tiny_network import CHANNELS
from fvfast.atlas import Place, read_status, verify
from fvfast.atlas.keys import PLAN, UNITS

ROOT = Path(__file__).parents[1]
NETWORK, LAYER = "benchmarks.tiny_network:tiny", "0"
_LONGEST = 3600.0
_WHILE_DRAWING = 0.8  # share of the kills that wait until something is drawn
_LOOK_UP, _PATIENCE = 1.0, 60.0
_TOLD = 20  # kills between two lines


@dataclasses.dataclass
class Findings:
    """What was found, over all rounds.

    Attributes
    ----------
    kills
        How often each kind of process was killed.
    rounds
        Atlases that were drawn.
    units, files
        Units and files of all of them.
    problems
        What was wrong.
    """

    kills: Counter[str] = dataclasses.field(default_factory=Counter)
    rounds: int = 0
    units: int = 0
    files: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)


def kill_until(
    address: str,
    findings: Findings,
    kills: int,
    *,
    units: int,
    steps: int,
    ray: bool = False,
    pause: float = 3.0,
    chance: random.Random,
) -> None:
    """Draw one atlas to its end, with at most so many kills in all rounds."""
    place = Place(address)
    driver = _start(address, units, steps, ray=ray)
    before = findings.kills.total()
    deadline, told = time.monotonic() + _LONGEST, findings.kills.total() // _TOLD
    try:
        while True:
            left = kills - findings.kills.total()
            with contextlib.suppress(subprocess.TimeoutExpired):
                if left > 0 and chance.random() < _WHILE_DRAWING:
                    _wait_for_units(place, driver)
                status = driver.wait(chance.uniform(0, 2 * pause) if left > 0 else 600)
                if status == 0:
                    break
                was_hit = findings.kills.total() > before
                findings.problems += _unexpected(driver, status, may_fail=ray and was_hit)
                if findings.problems:
                    break
                driver = _start(address, units, steps, ray=ray)
                before = findings.kills.total()
                continue
            if time.monotonic() > deadline:
                findings.problems.append(f"{address} is not drawn after {_LONGEST:.0f} seconds")
                break
            victims = list(_victims(driver.pid))
            for kind, victim in chance.sample(victims, chance.randint(1, len(victims))):
                # A driver that has no workers yet would be the one too often.
                if findings.kills.total() < kills and (kind != "driver" or chance.random() < 1 / 3):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                        findings.kills[kind] += 1
            if findings.kills.total() // _TOLD > told and place.exists(PLAN):
                told = findings.kills.total() // _TOLD
                print(f"{read_status(place).drawn} units after {dict(findings.kills)}", flush=True)
    finally:
        _end(driver)
    findings.rounds += 1
    _check(place, units, findings)


def _wait_for_units(place: Place, driver: subprocess.Popen[bytes]) -> None:
    """Wait until more units are drawn: programs that start are killed often enough."""
    deadline, before = time.monotonic() + _PATIENCE, -1
    while time.monotonic() < deadline and driver.poll() is None:
        drawn = len(place.names(f"{UNITS}/{LAYER}"))
        if 0 <= before < drawn:
            return
        before = drawn
        time.sleep(_LOOK_UP)


def _start(address: str, units: int, steps: int, *, ray: bool) -> subprocess.Popen[bytes]:
    who = ["--ray", "local", "--workers", "2"] if ray else ["--workers", "2"]
    return subprocess.Popen(
        [
            sys.executable, "-m", "fvfast", "atlas", "run", NETWORK, "--layer", f"name:{LAYER}",
            "--units", f"0-{units - 1}", "--steps", str(steps), "--crops", "2", "--size", "48",
            "--out", address, "--no-progress", *who,
        ],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _unexpected(driver: subprocess.Popen[bytes], status: int, *, may_fail: bool) -> list[str]:
    """Return what a driver said that was not killed; one whose cluster was killed may fail."""
    assert driver.stderr is not None
    said = driver.stderr.read().decode(errors="replace")
    if status == -signal.SIGKILL or may_fail:
        return []
    return [f"the driver ended with {status}: {said[-500:]}"]


def _end(driver: subprocess.Popen[bytes]) -> None:
    for _, process in list(_victims(driver.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    driver.wait()
    if driver.stderr is not None:
        driver.stderr.close()


def _victims(driver: int) -> Iterator[tuple[str, int]]:
    """Yield the driver, its workers and, with Ray, the raylet and the processes of actors."""
    yield "driver", driver
    for process in _descendants(driver):
        line = _command_line(process)
        if "spawn_main" in line or "ray::RayWorker" in line:
            yield "worker", process
        elif "raylet/raylet" in line:
            yield "raylet", process


def _descendants(process: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # After the name of the program, which may have spaces: the state, and the parent.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    yield from found[1:]


def _command_line(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _check(place: Place, units: int, findings: Findings) -> None:
    """Compare all files with what should be there."""
    status = read_status(place)
    findings.units += status.drawn
    if status.drawn != units:
        findings.problems.append(f"{status.drawn} of {units} units are there")
    findings.problems += [f"{one.key} is set aside: {one.error}" for one in status.set_aside]
    findings.problems += [f"{one.key}: {one.reason}" for one in verify(place).wrong]
    names = place.names(f"{UNITS}/{LAYER}")
    findings.files += len(names)
    if len(names) != 3 * units:
        findings.problems.append(f"{len(names)} files of {units} units; expected three of each")
    for name in names:
        if name.endswith(".png"):
            data = place.read(f"{UNITS}/{LAYER}/{name}")
            try:
                Image.open(io.BytesIO(data)).load()
            except (OSError, SyntaxError) as error:
                findings.problems.append(f"{name} is no whole picture: {error}")


@contextlib.contextmanager
def addresses(kind: str) -> Iterator[Iterator[str]]:
    """Provide addresses of empty places: folders, or parts of a bucket of a server."""
    if kind == "folder":
        with tempfile.TemporaryDirectory() as folder:
            yield (f"{folder}/atlas-{number}" for number in range(10**6))
        return
    with s3_server():
        yield (f"s3://{BUCKET}/atlas-{number}" for number in range(10**6))


def main() -> None:
    """Kill as often as the command line says, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--place", choices=("folder", "s3"), default="folder")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--units", type=int, default=CHANNELS)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--pause", type=float, default=3.0, help="mean seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, findings, start = random.Random(asked.seed), Findings(), time.monotonic()
    with addresses(asked.place) as places:
        while findings.kills.total() < asked.kills and not findings.problems:
            kill_until(
                next(places), findings, asked.kills, units=asked.units, steps=asked.steps,
                ray=asked.ray, pause=asked.pause, chance=chance,
            )  # fmt: skip
    print(
        f"{asked.place}{', Ray' if asked.ray else ''}: {findings.kills.total()} kills "
        f"({dict(findings.kills)}), {findings.rounds} atlases, {findings.units} units, "
        f"{findings.files} files in {time.monotonic() - start:.0f} s"
    )
    print("\n".join(findings.problems) or "nothing is lost: all units are there, all hashes right")
    sys.exit(bool(findings.problems))


if __name__ == "__main__":
    main()
