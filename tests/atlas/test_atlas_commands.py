"""``fvfast atlas``: what it prints, its exit statuses, and SIGTERM."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from atlas_networks import BAD, CHANNELS
from conftest import OPTIONS, make_plan
from typer.testing import CliRunner

from fvfast import atlas
from fvfast.cli import app as cli
from fvfast.cli.atlas_options import workers_of_a_gpu

HERE = Path(__file__).parent


def invoke(*arguments, status=0):
    result = CliRunner().invoke(cli.app, ["atlas", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def run(place, *arguments, network="tiny", layer="name:0", status=0):
    named = f"atlas_networks:{network}"
    return invoke(
        "run", named, "--layer", layer, "--out", place, *OPTIONS, *arguments, status=status
    )


def test_an_atlas_from_beginning_to_end(tmp_path):
    place = tmp_path / "atlas"
    result = run(place, "--units", "0-3,7")
    assert result.stdout == f"5 of 5 units in {place}\n"
    assert "channel" in invoke("status", place).stdout
    assert "5 of 5 records and their pictures are right" in invoke("verify", place).stdout
    (place / "units/0/3.png").write_bytes(b"x")
    (place / "units/0/7.json").unlink()
    result = invoke("verify", place, "--no-progress", status=1)
    assert "0/3: units/0/3.png is damaged: its SHA-256 is" in result.stdout
    assert "1 units are damaged; `fvfast atlas retry" in result.stderr
    assert f"4 of 5 units in {place}, 1 missing" in invoke("status", place, status=3).stdout
    result = invoke("retry", place, "--no-progress")
    assert "1 units that were set aside or damaged are drawn again" in result.stdout
    assert atlas.verify(atlas.Place(place)).is_right


def test_a_unit_that_is_set_aside_shows_in_the_status(tmp_path):
    place = tmp_path / "atlas"
    result = run(place, network="failing", layer="name:1", status=4)
    assert f"1/{BAD}: attempt 3 of 3 failed, set aside: RuntimeError: channel 5" in result.stderr
    assert f"{CHANNELS - 1} of {CHANNELS} units in {place}, 1 set aside" in result.stdout
    result = invoke("status", place, status=4)
    assert f"set aside: 1/{BAD}: RuntimeError: channel 5 never works" in result.stdout
    assert f"traceback in failed/1/{BAD}.json" in result.stdout
    assert invoke("verify", place, "--no-progress", status=4)


def test_other_settings_are_refused_with_the_difference(tmp_path):
    run(tmp_path / "atlas", "--units", "0")
    result = run(tmp_path / "atlas", "--units", "0", "--seed", "1", status=1)
    assert "another plan: seed is 0 there and 1 here" in result.stderr


def test_the_plan_says_how_many_are_drawn_together(tmp_path):
    place = tmp_path / "atlas"
    result = run(place, "--batch-size", "4", "--plan-only")
    assert "4 pictures together (given)" in result.stdout
    assert "4 pictures together (given)" in invoke("status", place, status=3).stdout
    assert not (place / "units").exists()
    assert "batch_size is 4 there and 3 here" in run(place, "--batch-size", "3", status=1).stderr
    # A size that nobody asked for is that of the plan.
    assert f"of {CHANNELS} units" in run(place, "--shard", "0/2").stdout
    assert f"{CHANNELS} of {CHANNELS} units" in run(place, "--batch-size", "auto").stdout
    assert {record_of(place, index)["batch_size"] for index in range(CHANNELS)} == {4}
    assert (
        "the plan of the atlas says 4"
        in invoke("retry", place, "--batch-size", "3", status=1).stderr
    )


def test_parts_do_not_measure(tmp_path):
    run(tmp_path / "atlas", "--shard", "0/2")
    shown = invoke("status", tmp_path / "atlas").stdout
    assert "32 pictures together (the default, not measured)" in shown


def test_a_plan_of_an_earlier_version_shows_the_default(tmp_path):
    plan = make_plan(batch_size="default")
    old = dataclasses.replace(plan, batch_size=None, batch_size_chosen="")
    atlas.begin(old, atlas.Place(tmp_path))
    shown = invoke("status", tmp_path, status=3).stdout
    assert "32 pictures together, unless who draws them asks otherwise" in shown
    run(tmp_path, "--batch-size", "5")
    assert {record_of(tmp_path, index)["batch_size"] for index in range(CHANNELS)} <= {4, 5}


@pytest.mark.parametrize(
    ("workers", "gpus_per_worker", "gpus", "expected"),
    [
        (None, None, 0, 1), (None, None, 2, 1), (4, None, 2, 2), (3, None, 2, 2), (4, None, 0, 4),
        (None, 0.5, 0, 2), (8, 1.0, 0, 1), (8, 0.0, 0, 1), (8, 2.0, 0, 1),
    ],
)  # fmt: skip
def test_workers_that_share_a_gpu(workers, gpus_per_worker, gpus, expected):
    assert workers_of_a_gpu(workers, gpus_per_worker, gpus) == expected


def record_of(place, index):
    return json.loads((place / f"units/0/{index}.json").read_text())


def test_classes_directions_and_parts(tmp_path):
    np = pytest.importorskip("numpy")
    np.save(tmp_path / "probes.npy", np.eye(3, CHANNELS, dtype=np.float32))
    named = "atlas_networks:classifier"
    result = invoke(
        "run", named, "--class", "mug", "--class", "3", "--out", tmp_path / "classes", *OPTIONS
    )
    assert "2 of 2 units" in result.stdout
    directions = ["--layer", "name:1", "--directions", tmp_path / "probes.npy"]
    result = invoke("run", named, *directions, "--out", tmp_path / "directions", *OPTIONS)
    assert "3 of 3 units" in result.stdout
    result = run(tmp_path / "parts", "--shard", "1/2")
    assert f"0 of {CHANNELS} units" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "expected --layer NAME_OR_INDEX or --class NAME"),
        (["--class", "macaw", "--units", "3"], 2, "--units and --directions need --layer"),
        (["--layer", "name:0", "--shard", "2/2"], 2, "is no part of the shards"),
        (["--layer", "name:0", "--units", "99"], 1, "has no channel 99: it has 24, from 0 to 23"),
        (
            ["--layer", "name:0", "--preset", "pyramid", "--spectrum", "own.npz"],
            2,
            "leave --spectrum out",
        ),
        (["--layer", "nowhere"], 1, "nowhere"),
        (["--layer", "name:0", "--gpus-per-worker", "1"], 2, "--gpus-per-worker needs --ray"),
        (["--layer", "name:0", "--batch-size", "0"], 2, "expected 1 to 100,000, or auto"),
        (["--layer", "name:0", "--batch-size", "auto", "--device", "cpu"], 1, "measures on a GPU"),
        (
            ["--layer", "name:0", "--batch-size", "auto", "--shard", "0/2"],
            2,
            "each of 2 machines would measure",
        ),
    ],
)
def test_mistakes_are_found_before_the_work(tmp_path, arguments, status, message):
    arguments = ["run", "atlas_networks:tiny", *arguments, "--out", tmp_path / "atlas"]
    result = invoke(*arguments, *OPTIONS, status=status)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "atlas/units").exists()


def test_there_is_no_atlas(tmp_path):
    for command in ("status", "verify", "retry"):
        assert "there is no atlas" in invoke(command, tmp_path, status=1).stderr


def start(place, *arguments):
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [
            sys.executable, "-m", "fvfast", "atlas", "run", "atlas_networks:tiny",
            "--layer", "name:0", "--out", str(place), "--steps", "200", "--crops", "2",
            "--size", "24", "--batch-size", "2", "--no-progress", *arguments,
        ],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "status", "workers"),
    [
        (signal.SIGTERM, 0, []),
        pytest.param(signal.SIGTERM, 0, ["--workers", "2"], marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, 130, [], marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, 130, ["--workers", "2"], marks=pytest.mark.thorough),
    ],
)
def test_a_signal_ends_it_after_the_batch(tmp_path, number, status, workers):
    place = atlas.Place(tmp_path / "atlas")
    process = start(tmp_path / "atlas", *workers)
    while not (tmp_path / "atlas/units/0").exists() or not place.names("units/0"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == status, err
    found = atlas.verify(place)
    assert 0 < found.checked < CHANNELS
    assert found.wrong == []
    assert f"{found.checked} of {CHANNELS} units in" in out


@pytest.mark.thorough
def test_sigterm_before_the_work_is_no_error(tmp_path):
    process = start(tmp_path / "atlas")
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode in (0, -signal.SIGTERM)  # before Python has installed a handler


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_a_place_that_is_gone_for_ten_seconds_loses_nothing(tmp_path, workers):
    """While it is away, nothing is written in its stead."""
    folder, away = tmp_path / "atlas", tmp_path / "away"
    place = atlas.Place(folder)
    process = start(folder, *workers)
    while not (folder / "units/0").exists() or not place.names("units/0"):
        assert process.poll() is None
        time.sleep(0.05)
    folder.rename(away)
    time.sleep(10)
    assert not folder.exists()
    assert process.poll() is None
    away.rename(folder)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert f"{folder} cannot be reached (plan.json is not there); waiting" in err
    assert f"{folder} is back after" in err
    assert f"{CHANNELS} of {CHANNELS} units in" in out
    assert atlas.verify(place).is_right
