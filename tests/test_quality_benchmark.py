"""The benchmark that judges recipes: what it reads, computes and writes."""

import csv
import io
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from selection import thorough

from benchmarks.peers import picture_requests
from benchmarks.quality import COLUMNS, KEY, main
from benchmarks.quality_artists import checkpoint_steps
from benchmarks.quality_pictures import Kept, kept_pictures
from benchmarks.quality_plots import plot, points_figure
from benchmarks.quality_recipes import RECIPES, find_recipe, parse_recipe
from benchmarks.quality_report import curves_of, print_summary, seconds_to_reach, shared
from benchmarks.quality_results import Results
from benchmarks.quality_statistics import standard_error
from fvfast import Geometric, Linear
from fvfast.run.presets import PRESETS

TINY = "tiny:nb_steps=2,nb_crops=1,custom_shape=(32, 32)"


@pytest.mark.parametrize("nb_steps", [1, 2, 5, 96, 256, 1000])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_checkpoints_end_with_the_run(nb_steps, count):
    steps = checkpoint_steps(nb_steps, count)
    assert steps == sorted(set(steps))
    assert steps[0] >= 1
    assert steps[-1] == nb_steps
    assert len(steps) <= count


def test_recipes_are_read():
    recipe = parse_recipe(
        "mine: nb_steps=9, box_size=linear(0.9, 0.3), noise_intensity=geometric(1, 0.5), "
        "learning_rate=0.5, custom_shape=(48, 64), precision=bfloat16, optimizer=adam(0.1)"
    )
    assert recipe.name == "mine"
    assert (recipe.preset, recipe.nb_steps) == ("xplique", 9)
    arguments = dict(recipe.arguments)
    assert arguments.pop("optimizer").lr == 0.1
    assert arguments == {
        "nb_steps": 9,
        "box_size": Linear(0.9, 0.3),
        "noise_intensity": Geometric(1, 0.5),
        "learning_rate": 0.5,
        "custom_shape": (48, 64),
        "precision": "bfloat16",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nb_steps=3", "has no name"),
        (":nb_steps=3", "has no name"),
        ("fast:nb_steps=3", "known recipe"),
        ("a:nb_steps", "not understood"),
        ("a:nb_steps=", "not understood"),
        ("a:**settings", "not understood"),
        ("a:steps=3", "expected any of"),
        ("a:seed=3", "expected any of"),
        ("a:box_size=linear(1)", "not understood"),
        ("a:box_size=adam(1)", "not understood"),
        ("a:nb_steps=linear(1, 2)", "not understood"),
        ("a:box_size=geometric(1, 0)", "two positive values"),
        ("a:box_size=linear(1, -1)", "not negative"),
        ("a:nb_steps=1+1", "not understood"),
        ("a:preset=quickly", "preset must be one of"),
        ("a:method=optimize,preset=fast", "preset must be one of"),
        ("a:method=optimize,nb_crops=3", "expected any of"),
        ("a:method=lucent", "expected one of maco, optimize, xplique, horama"),
        ("a:method=xplique", "needs nb_steps"),
        ("a:method=horama,nb_steps=3,nb_crops=2", "expected any of method, nb_steps"),
    ],
)
def test_recipes_that_are_not_understood(text, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(text)


def test_settings_tell_recipes_apart():
    """A run is repeated when, and only when, its settings have changed."""
    texts = ["a:nb_steps=3", "a:nb_steps=4", "a:nb_steps=3,box_size=linear(0.5, 0.1)"]
    settings = [parse_recipe(text).settings() for text in texts]
    settings += [find_recipe(name).settings() for name in RECIPES]
    assert len(set(settings)) == len(settings)
    assert parse_recipe("b:nb_steps=3").settings() == settings[0]
    fast = json.loads(find_recipe("fast").settings())
    assert fast["nb_steps"] == PRESETS["fast"].arguments["nb_steps"]
    others = [parse_recipe(f"a:method={method},nb_steps=3") for method in ("xplique", "horama")]
    assert len({recipe.settings() for recipe in others} | set(settings)) == len(settings) + 2
    with pytest.raises(ValueError, match="there is no recipe 'slow'"):
        find_recipe("slow")


def test_when_a_curve_reaches_a_value():
    seconds, values = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 0.5])
    assert seconds_to_reach(seconds, values, 0.25) == (1.25, False)
    assert seconds_to_reach(seconds, values, 1.0) == (2.0, False)
    assert seconds_to_reach(seconds, values, -1.0) == (1.0, True)
    assert seconds_to_reach(seconds, values, 1.5) is None


def rows_of(recipe, pairs, settings="{}"):
    return [
        {
            "recipe": recipe, "precision": "", "settings": settings, "checkpoints": 2,
            "evaluation_crops": 3, "network": "n", "processor": "p", "threads": 1,
            "class_index": index, "seed": seed, "step": step, "seconds": step / 2,
            "mean_logit": index + step, "lite1_probability": 0.5, "lite2_probability": 0.25,
            "lite1_rank": index, "lite2_rank": step, "cpu_seconds": step, "cores": 2, "torch": "t",
            "other_load_percent": 1,
        }
        for index, seed in pairs
        for step in (2, 1)
    ]  # fmt: skip


def test_recipes_are_compared_over_the_same_runs():
    rows = rows_of("short", [(1, 0), (2, 0)]) + rows_of("xplique", [(2, 0), (3, 0)])
    curves = shared(curves_of(rows))
    assert [curve.label for curve in curves] == ["xplique", "short"]
    for curve in curves:
        assert list(curve.runs) == [("2", "0")]
        assert list(curve.mean("mean_logit")) == [3, 4]
        assert list(curve.mean("seconds")) == [0.5, 1]
        assert list(curve.transferability()) == [0.375, 0.375]


def test_the_table_has_first_ranks_with_their_errors(capsys):
    """Class 1 is ranked first in Lite1, classes 2 and 3 are not; seeds are not counted as more."""
    pairs = [(index, seed) for index in (1, 2, 3) for seed in (0, 1)]
    curves = curves_of(rows_of("short", pairs))
    print_summary(curves)
    cells = [cell.strip() for cell in re.split("[│┃]", capsys.readouterr().out)]
    assert "33 ± 33" in cells  # of 1, 0, 0
    assert "0 ± 0" in cells  # Lite2 ranks all of them second
    assert "4.00 ± 0.58" in cells  # the score: 3, 4, 5
    assert "2.0" in cells  # processor seconds
    assert standard_error([0, 1], ["a", "a"]) is None
    assert standard_error([0, 2, 4, 6], ["a", "a", "b", "b"]) == pytest.approx(2)


def test_runs_with_one_checkpoint_are_points_with_bars(tmp_path):
    rows = [row for row in rows_of("short", [(1, 0), (2, 0)]) if row["step"] == 2]
    curves = curves_of([*rows, *({**row, "recipe": "long", "cpu_seconds": 9} for row in rows)])
    figure = points_figure(curves)
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == ["long", "short"]
    (_, _, (segments,)) = figure.axes[0].containers[0]
    # Half of the classes in Lite1, none in Lite2: 50 and 0, with a standard error of 25.
    assert segments.get_segments()[0][:, 1].tolist() == [0, 50]
    plot(curves, tmp_path / "points.png")
    with Image.open(tmp_path / "points.png") as image:
        assert len(np.unique(np.asarray(image))) > 50


def test_versions_of_a_recipe_are_not_mixed():
    rows = rows_of("short", [(1, 0)]) + rows_of("short", [(1, 0)], settings='{"nb_steps": 3}')
    assert [curve.label for curve in curves_of(rows)] == ["short", "short (settings 2)"]


@pytest.mark.parametrize("classes", [{"goldfish": "1"}, thorough({"goldfish": "1", "7": "7"})])
def test_a_run_from_the_command_line(tmp_path, capsys, classes):
    results, plot = tmp_path / "results" / "quality.csv", tmp_path / "plots" / "quality.png"
    pictures = tmp_path / "pictures"
    command = [
        "--classes", *classes, "--recipes", "--recipe", TINY, "--checkpoints", "2",
        "--results", str(results), "--plot", str(plot), "--pictures", str(pictures),
    ]  # fmt: skip
    main(command)
    first = capsys.readouterr().out
    assert f"1 of {len(classes)}: tiny, goldfish, seed 0" in first
    rows = Results(results, COLUMNS, KEY).read()
    assert [(row["class_index"], row["step"]) for row in rows] == [
        (index, step) for index in classes.values() for step in ("1", "2")
    ]
    for row in rows:
        assert float(row["seconds"]) > 0
        assert 1 <= int(row["lite1_rank"]) <= 1000
        assert 0 <= float(row["lite2_probability"]) <= 1
        assert np.isfinite(float(row["mean_logit"]))
    with Image.open(plot) as image:
        assert len(np.unique(np.asarray(image))) > 50
    kept = kept_pictures(pictures)
    assert len(kept) == len(classes)
    assert Kept("tiny", "goldfish", 0) in kept
    assert kept[Kept("tiny", "goldfish", 0)] == pictures / "tiny-goldfish-s0.png"
    with Image.open(pictures / "tiny-goldfish-s0.png") as image:
        assert image.size == (32, 32)
        assert len(np.unique(np.asarray(image))) > 50
    main(command)
    again = " ".join(capsys.readouterr().out.split())
    assert again.count("in the results already") == len(classes)
    assert "not in the folder" not in again
    (pictures / "tiny-goldfish-s0.png").unlink()
    main(command)
    again = " ".join(capsys.readouterr().out.split())
    assert again.count("its picture is not in the folder (--again draws it)") == 1
    assert Results(results, COLUMNS, KEY).read() == rows
    main([*command, "--report"])
    assert f"Mean over {len(classes)} run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoints", "0"], "must be at least 1"),
        (["--plot", "curves.xyz"], "expected a file that ends in"),
        (["--recipes", "slow"], "there is no recipe 'slow'"),
        (["--recipes"], "there is no recipe to run"),
        (["--recipe", TINY, "--recipe", TINY], "several recipes are named tiny"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        main(["--results", str(tmp_path / "quality.csv"), *options])
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_folder_for_pictures_that_cannot_be_written(tmp_path, capsys):
    """It is said before the first run."""
    (tmp_path / "file").write_text("")
    results = tmp_path / "quality.csv"
    with pytest.raises(SystemExit):
        main(["--results", str(results), "--pictures", str(tmp_path / "file" / "folder")])
    assert "--pictures: " in capsys.readouterr().err
    assert not results.exists()


def test_kept_pictures_say_what_they_show(tmp_path):
    """Names with hyphens and other characters are read back as they were given."""
    shown = [Kept("a-b", "black-and-gold spider", 2), Kept("a/b", "tench", 0)]
    for number, kept in enumerate(shown):
        image = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(number))
        assert kept.save(image, tmp_path) == kept.path(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "z.png")
    assert list(kept_pictures(tmp_path)) == shown
    names = {path.name for path in kept_pictures(tmp_path).values()}
    assert names == {"a-b-black-and-gold_spider-s2.png", "a_b-tench-s0.png"}


def test_results_of_something_else_are_left_alone(tmp_path, capsys):
    path = tmp_path / "quality.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerow(["a", "b"])
    with pytest.raises(SystemExit):
        main(["--results", str(path)])
    assert "has other columns" in capsys.readouterr().err
    assert path.read_text().strip() == "a,b"


SCENE = {"weights": "", "threads": 1, "values_range": [0, 1], "model_size": 8}


def test_another_library_is_asked_in_lines(tmp_path, monkeypatch):
    """A library that prints, too, in its place."""
    requests = [SCENE, {"class_index": 3, "seed": 1, "nb_steps": 4}]
    answers = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, requests))))
    monkeypatch.setattr(sys, "stdout", answers)
    monkeypatch.chdir(tmp_path)

    def prepare(scene):
        assert scene == SCENE

        def draw(class_index, seed, nb_steps, next_step):
            for _ in range(nb_steps):
                next_step()
                sys.stdout.write("tracing\n")
            return np.full((3, 8, 8), class_index + seed)

        return draw

    picture_requests.serve(prepare)
    ready, answer = map(json.loads, answers.getvalue().splitlines())
    assert ready == {}
    assert np.load(answer["image"]).tolist() == np.full((3, 8, 8), 4.0).tolist()
    assert answer["seconds"] > 0


def test_a_single_step_has_no_time():
    clock = picture_requests.StepClock()
    clock()
    with pytest.raises(ValueError, match="only 1 step was taken"):
        clock.per_step()
