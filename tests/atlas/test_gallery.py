"""The pages of an atlas, without a browser: what is written, escaped, left out and named."""

import dataclasses
import hashlib
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import fsspec
import pytest
from gallery_files import columns, provided
from PIL import Image
from small_project import ROOT, clean_environment
from synthetic import SIDE, Layer, edit, score_of, write_atlas

from fvfast.atlas.failures import ATTEMPTS, failure_of
from fvfast.atlas.gallery import GallerySummary, write_gallery
from fvfast.atlas.gallery.naming import slugs
from fvfast.atlas.gallery.pages import duration
from fvfast.atlas.gallery.scripts import thinned
from fvfast.atlas.keys import UnitKey

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'`&amp;",
    "50% off/100%25",
    "what?#who/../..",
    "{{ 7 * 7 }}",
    "名前",
    "\u202egnp.exe",
]


class Parsed(HTMLParser):
    """Tags, texts and links of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.texts = [], [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def place(tmp_path):
    """An atlas of 40 units with examples, some of them with names."""
    write_atlas(tmp_path / "atlas", Layer("features.3", 40, names={17: "macaw", 3: "lion"}))
    return tmp_path / "atlas"


@pytest.fixture
def site(tmp_path):
    return tmp_path / "site"


def test_the_summary_says_what_is_shown(place, site):
    summary = write_gallery(place, str(site))
    assert summary == GallerySummary(
        site=str(site),
        layers=1,
        planned=40,
        shown=40,
        set_aside=0,
        with_examples=40,
        pictures_written=40,
        problems=(),
    )
    assert summary.waiting == 0


def test_lists_and_details_say_what_the_records_say(place, site):
    write_gallery(place, site)
    units = columns(site)
    assert units["index"] == list(range(40))
    assert units["score"] == [score_of(index) for index in range(40)]
    assert units["name"][17] == "macaw"
    assert units["name"][16] is None
    assert units["examples"] == [3] * 40
    key, details = provided(site / "data" / "features.3" / "1.js")
    assert key == "details:features.3:1"
    record = json.loads((place / "units/features.3/17.json").read_bytes())
    assert list(details) == [str(index) for index in range(16, 32)]
    unit = details["17"]
    assert unit["scores"] == record["scores"]
    assert unit["command"] == record["command"]
    assert unit["examples"]["top"][1]["source"] == "photographs/00017-1.jpg"
    crop = site / "crops" / "features.3" / unit["examples"]["top"][1]["crop"]
    assert crop.read_bytes() == (place / "examples/features.3/17.1.webp").read_bytes()
    page = Parsed(site / "layer-features.3.html")
    assert "40 channels of " in "".join(page.texts)


def test_pictures_are_those_of_the_atlas(place, site):
    write_gallery(place, site)
    version = columns(site)["version"][5]
    with Image.open(place / "units/features.3/5.png") as file:
        original = file.convert("RGB")
    # WebP keeps 2 + quality / 5 levels of transparency; half of their distance is an error.
    for folder, levels in (("pictures", 14), ("thumbnails", 8)):
        with Image.open(site / folder / "features.3" / f"5.{version}.webp") as file:
            shown = file.convert("RGB")
            assert file.mode == "RGB"
        assert mean_difference(shown, original) < 4  # of WebP's compression: 1.9 and 2.8
        with Image.open(site / folder / "features.3" / f"5.{version}.blended.webp") as file:
            assert file.mode == "RGBA"
            alpha = file.getchannel("A")
        with Image.open(place / "units/features.3/5.transparency.png") as file:
            assert mean_difference(alpha, file) < 255 / levels / 2


def mean_difference(one, other):
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / len(one.tobytes())


def test_details_stay_in_their_files_while_units_are_added(tmp_path, site):
    """A browser may have kept an older list of units: what it loads then is of the same units."""
    place = tmp_path / "atlas"
    write_atlas(place, Layer("features.3", 40))
    for index in range(20):
        (place / f"units/features.3/{index}.json").rename(place / f"{index}.json")
    write_gallery(place, site)
    data = site / "data" / "features.3"
    assert sorted(file.name for file in data.iterdir()) == ["1.js", "2.js", "units.js"]
    before = provided(data / "2.js")
    assert list(provided(data / "1.js")[1]) == [str(index) for index in range(20, 32)]
    for index in range(20):
        (place / f"{index}.json").rename(place / f"units/features.3/{index}.json")
    write_gallery(place, site)
    assert provided(data / "2.js") == before


def test_thumbnails_are_small(tmp_path, site):
    place = tmp_path / "atlas"
    write_atlas(place, Layer("a", 1))
    replace_picture(place, "a", 0, Image.effect_mandelbrot((600, 300), (-2, -1, 1, 1), 50))
    write_gallery(place, site)
    (name,) = (site / "thumbnails" / "a").glob("0.*[0-9a-f].webp")
    with Image.open(name) as file:
        assert file.size == (256, 128)
    with Image.open(site / "pictures" / "a" / name.name) as file:
        assert file.size == (600, 300)


def replace_picture(place, layer, index, image):
    """Give a unit another picture, of any size and without transparency."""
    target = io.BytesIO()
    image.save(target, "PNG")
    file = f"units/{layer}/{index}.png"
    (place / file).write_bytes(target.getvalue())
    about = {
        "file": file,
        "sha256": hashlib.sha256(target.getvalue()).hexdigest(),
        "bytes": len(target.getvalue()),
        "width": image.width,
        "height": image.height,
    }
    edit(
        place / "units" / layer / f"{index}.json",
        lambda record: record.update(picture=about, transparency=None),
    )


def test_hostile_names_are_texts(tmp_path, site):
    layers = [Layer(name, 2, kind="class", names={1: name}) for name in HOSTILE]
    write_atlas(tmp_path / "atlas", *layers, network=HOSTILE[0])
    summary = write_gallery(tmp_path / "atlas", site, title=HOSTILE[1])
    assert summary.shown == 2 * len(HOSTILE)
    assert not summary.problems
    plain = tmp_path / "plain"
    write_atlas(plain, *(Layer(f"layer {number}", 2, kind="class") for number in range(8)))
    write_gallery(plain, tmp_path / "plain_site")
    # The same elements as without them, and no links but those of the pages.
    index, usual = Parsed(site / "index.html"), Parsed(tmp_path / "plain_site" / "index.html")
    assert index.tags == usual.tags
    assert set(HOSTILE) < set(index.texts)
    for link in index.links:
        path, _, key = link.partition("#")
        assert path in ("", "data:,") or (site / path).is_file(), link
        if path == "unit.html":
            layer, _, number = key.rpartition("/")
            assert unquote(layer) in HOSTILE
            assert number in "01"
    for script in (site / "data").rglob("*.js"):
        text = script.read_bytes()
        assert not re.search(rb"[<>&]|[^ -~\n]", text)  # ASCII, and nothing that ends a script
    assert columns(site, slugs(HOSTILE)[0])["name"] == [None, HOSTILE[0]]


def test_pages_name_no_other_place(place, site):
    write_gallery(place, site)
    for page in [*site.glob("*.html"), *(site / "assets").iterdir()]:
        text = page.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^ *//.*$| // .*$", "", text, flags=re.M), page


def test_hosts_and_tracebacks_are_not_published(place, site):
    (place / "failed/features.3").mkdir(parents=True)
    failure = failure_of(ValueError(), "0" * 64, UnitKey("features.3", 4), "channel", 1, "cpu")
    private = dataclasses.replace(failure, traceback="a-private-path", host="a-private-host")
    (place / failure.key.failure).write_bytes(private.encode())
    write_gallery(place, site)
    for file in site.rglob("*"):
        assert not file.is_file() or b"a-private" not in file.read_bytes(), file


def test_layers_of_like_names_have_files_of_their_own():
    names = ["conv.1", "Conv.1", "conv.1-2", "a/b", "a b", "...", "", "x" * 300, "x" * 301]
    found = slugs(names)
    assert len({one.lower() for one in found}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9._-]{1,64}", one) for one in found)
    assert found[0] == "conv.1"


def test_a_second_call_converts_only_what_is_new(place, site):
    for index in range(20, 40):
        (place / f"units/features.3/{index}.json").rename(place / f"{index}.json")
    first = write_gallery(place, site)
    assert (first.shown, first.waiting, first.pictures_written) == (20, 20, 20)
    assert "20 not drawn yet" in (site / "index.html").read_text()
    for index in range(20, 40):
        (place / f"{index}.json").rename(place / f"units/features.3/{index}.json")
    replace_picture(place, "features.3", 7, Image.new("RGB", (SIDE, SIDE), "teal"))
    second = write_gallery(place, site)
    assert (second.shown, second.waiting, second.pictures_written) == (40, 0, 21)
    version = columns(site)["version"][7]
    with Image.open(site / "pictures" / "features.3" / f"7.{version}.webp") as file:
        assert (
            max(abs(a - b) for a, b in zip(file.getpixel((9, 9)), (0, 128, 128), strict=True)) < 4
        )
    assert columns(site)["blended"][7] == 0


def test_units_that_were_set_aside_are_counted(place, site):
    (place / "failed/features.3").mkdir(parents=True)
    for index, attempts in (
        (4, ATTEMPTS),
        (5, ATTEMPTS),  # and drawn later
        (6, ATTEMPTS - 1),  # another attempt will be made
        (7, ATTEMPTS),
    ):
        key = UnitKey("features.3", index)
        failure = failure_of(ValueError("never works"), "0" * 64, key, "channel", attempts, "cpu")
        (place / key.failure).write_bytes(failure.encode())
    (place / "failed/features.3/8.json").write_bytes(b"{")
    for index in (4, 6, 7, 8):
        (place / f"units/features.3/{index}.json").unlink()
    summary = write_gallery(place, site)
    assert (summary.set_aside, summary.shown, summary.waiting) == (2, 36, 2)
    (problem,) = summary.problems
    assert problem.startswith("failed/features.3/8.json is not JSON")
    assert "2 set aside, 2 not drawn yet" in (site / "index.html").read_text()


def test_an_atlas_without_units_or_examples_has_pages(tmp_path, site):
    write_atlas(tmp_path / "atlas", Layer("a", 0), Layer("b", 2, examples=0, transparent=False))
    summary = write_gallery(tmp_path / "atlas", site)
    assert (summary.shown, summary.with_examples, summary.problems) == (2, 0, ())
    assert "beside the images" not in (site / "index.html").read_text()
    assert not list((site / "pictures").rglob("*blended*"))


def test_places_may_be_urls(place):
    memory = fsspec.filesystem("memory")
    memory.put(str(place), "/atlas", recursive=True)
    summary = write_gallery("memory://atlas", "memory://pages")
    assert (summary.shown, summary.problems) == (40, ())
    assert b"features.3" in memory.cat("/pages/index.html")
    assert write_gallery("memory://atlas", "memory://pages").pictures_written == 0


def test_folders_may_have_any_name(place, tmp_path):
    """Such as those that a search for files, or an address, would take for something else."""
    odd = tmp_path / "atlas [1] *? %20#x"
    place.rename(odd)
    assert write_gallery(odd, tmp_path / "site %41{}").shown == 40
    assert (tmp_path / "site %41{}" / "index.html").is_file()


def test_other_files_of_the_site_stay_and_nothing_unfinished_is_left(place, site):
    site.mkdir()
    (site / "CNAME").write_text("atlas.example")
    write_gallery(place, site)
    assert (site / "CNAME").read_text() == "atlas.example"
    assert not [file for file in site.rglob("*") if "unfinished" in file.name]


def test_long_histories_are_thinned_to_their_last_step():
    assert thinned([]) == ([], 1)
    assert thinned([1.0, 2.0]) == ([1.0, 2.0], 1)
    scores, stride = thinned([float(step) for step in range(2000)])
    assert stride == 8
    assert len(scores) == 250
    assert scores[-2:] == [1991.0, 1999.0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 seconds"), (150, "2.5 minutes"), (7200, "2.0 hours"), (400_000, "4.6 days")],
)
def test_durations_have_the_unit_that_suits_them(seconds, text):
    assert duration(seconds) == text


def test_templates_and_assets_are_in_a_wheel(tmp_path):
    """They are no modules: setuptools takes them only where it is told to."""
    subprocess.run(
        [
            *(sys.executable, "setup.py", "--quiet"),
            *("egg_info", "--egg-base", tmp_path),
            *("build_py", "--build-lib", tmp_path / "built"),
        ],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        check=True,
    )

    def names(package):
        folder = package / "fvfast" / "atlas" / "gallery"
        return {path.relative_to(folder) for path in folder.rglob("*.*") if path.suffix != ".pyc"}

    assert names(tmp_path / "built") == names(ROOT)
    assert len(names(ROOT)) > 20
