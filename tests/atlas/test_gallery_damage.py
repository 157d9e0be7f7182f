"""Damaged files of an atlas are named and left out of its pages; a damaged plan is refused."""

import re

import pytest
from gallery_files import columns
from synthetic import SIDE, Layer, edit, write_atlas

from fvfast.atlas.gallery import write_gallery


@pytest.fixture
def place(tmp_path):
    """An atlas of 40 units with examples, some of them with names."""
    write_atlas(tmp_path / "atlas", Layer("features.3", 40, names={17: "macaw", 3: "lion"}))
    return tmp_path / "atlas"


@pytest.fixture
def site(tmp_path):
    return tmp_path / "site"


def damage(file, change):
    """Return a function that damages a file of an atlas: by its bytes, or by its values."""

    def apply(place):
        if isinstance(change, bytes):
            (place / file).write_bytes(change)
        elif change is None:
            (place / file).unlink()
        else:
            edit(place / file, change)

    return apply


RECORD, EXAMPLES = "units/features.3/7.json", "examples/features.3/7.json"
DAMAGES = {
    "no JSON": (damage(RECORD, b"{"), RECORD, "is not JSON", False),
    "empty": (damage(RECORD, b""), RECORD, "is not JSON", False),
    "no UTF-8": (damage(RECORD, b"\xff\xfe\xff"), RECORD, "is not JSON", False),
    "deep": (damage(RECORD, b"[" * 100_000), RECORD, "is not JSON", False),
    "a list": (damage(RECORD, b"[]"), RECORD, "expected a JSON object", False),
    "NaN": (damage(RECORD, b'{"format": NaN}'), RECORD, "NaN is not a number", False),
    "format": (
        damage(RECORD, lambda one: one.update(format=2)),
        RECORD,
        "has format 2; this version of fvfast reads format 1",
        False,
    ),
    "another unit": (
        damage(RECORD, lambda one: one.update(index=8)),
        RECORD,
        "is of unit 8 of layer 'features.3'",
        False,
    ),
    "another plan": (
        damage(RECORD, lambda one: one.update(plan="0" * 64)),
        RECORD,
        "belongs to another plan, 000000000000",
        False,
    ),
    "score": (
        damage(RECORD, lambda one: one.update(score="high")),
        RECORD,
        "its field 'score' is 'high'; expected a finite number",
        False,
    ),
    "huge score": (
        damage(RECORD, lambda one: one.update(score=10**400)),
        RECORD,
        "expected a finite number",
        False,
    ),
    "no picture": (
        damage(RECORD, lambda one: one.pop("picture")),
        RECORD,
        "field 'picture', holds None; expected a JSON object",
        False,
    ),
    "a file elsewhere": (
        damage(RECORD, lambda one: one["picture"].update(file="units/features.3/../../plan.json")),
        RECORD,
        "expected one in the folder units/features.3",
        False,
    ),
    "a bomb": (
        damage(RECORD, lambda one: one["picture"].update(width=10**6)),
        RECORD,
        "expected sides of 1 to 16384",
        False,
    ),
    "another size": (
        damage(RECORD, lambda one: one["picture"].update(width=SIDE + 1)),
        "units/features.3/7.png",
        "has 48 x 48 pixels, its record says 49 x 48",
        False,
    ),
    "picture gone": (
        damage("units/features.3/7.png", None),
        "units/features.3/7.png",
        "cannot be read: No such file or directory",
        False,
    ),
    "picture damaged": (
        damage("units/features.3/7.transparency.png", b"PNG"),
        "units/features.3/7.transparency.png",
        "is damaged: its SHA-256 is",
        False,
    ),
    "examples": (
        damage(EXAMPLES, lambda one: one.update(images=-1)),
        EXAMPLES,
        "its field 'images' is -1; expected an integer of at least 0",
        True,
    ),
    "bins": (
        damage(EXAMPLES, lambda one: one["histogram"]["counts"].pop()),
        EXAMPLES,
        "expected a list of 32 integers",
        True,
    ),
    "share": (
        damage(EXAMPLES, lambda one: one.update(active_share=3)),
        EXAMPLES,
        "has an active_share of 3; expected 0 to 1",
        True,
    ),
    "examples gone": (
        damage(EXAMPLES, None),
        "examples/features.3",
        "has no record of 1 of the 40 units that were drawn: 7.",
        True,
    ),
    "crop damaged": (
        damage("examples/features.3/7.1.webp", b"RIFF"),
        "examples/features.3/7.1.webp",
        "is damaged: its SHA-256 is",
        True,
    ),
    "another name": (
        lambda place: (place / "units/features.3/07.json").write_bytes(b"{}"),
        "units/features.3/07.json",
        "is not named after a unit",
        True,
    ),
    "not in the plan": (
        lambda place: (place / "units/features.3/40.json").write_bytes(b"{}"),
        "units/features.3/40.json",
        "is of a unit that is not in the plan",
        True,
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_is_damaged_is_named_and_left_out(place, site, case):
    apply, file, words, shown = DAMAGES[case]
    apply(place)
    summary = write_gallery(place, site)
    (problem,) = summary.problems
    assert problem.startswith(file)
    assert words in problem
    assert problem.isprintable()
    assert summary.shown == (40 if shown else 39)
    units = columns(site)
    assert (7 in units["index"]) == shown
    if file == EXAMPLES or "examples gone" in case:
        assert units["examples"][7] == 0
    if "crop" in case:
        assert units["examples"][7] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan.update(format=9), "has format 9"),
        (lambda plan: plan.pop("network"), "field 'network', holds None"),
        (lambda plan: plan["layers"][0].update(units=[[5, 2]]), "layer 1, has units [5, 2]"),
        (lambda plan: plan["layers"][0].update(name="\ud800"), "not Unicode text"),
        (lambda plan: plan["layers"].append(3), "layer 2, holds 3; expected a JSON object"),
    ],
)
def test_a_damaged_plan_is_refused(place, site, change, words):
    edit(place / "plan.json", change)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        write_gallery(place, site)
    assert str(caught.value).startswith(f"{place}/plan.json")
    assert not site.exists()


def test_a_folder_without_a_plan_is_refused(tmp_path, site):
    with pytest.raises(FileNotFoundError, match=r"has no plan\.json: there is no atlas"):
        write_gallery(tmp_path, site)


def test_a_site_that_cannot_be_written_is_an_error(place, site):
    site.write_text("a file")
    with pytest.raises(OSError, match="site"):
        write_gallery(place, site)
