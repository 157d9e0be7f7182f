"""The pages of an atlas in a real browser, from a disk and from a web server."""

import time
from urllib.parse import quote

import pytest
from browser import Watched, running_browser, served, until
from gallery_site import COUNT, HOSTILE, focused, loaded_images, shown_indices, write_site
from synthetic import Layer, active_of, score_of, write_atlas

from fvfast.atlas.gallery import write_gallery

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def browser():
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return write_site(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def server(site):
    with served(site) as address:
        yield address


@pytest.fixture(params=["file", "server"])
def watched(request, browser, site):
    """The site from a disk and from a server; after the test, nothing must have gone wrong."""
    base = f"file://{site}/" if request.param == "file" else request.getfixturevalue("server")
    watched = Watched(browser, base)
    yield watched
    watched.finish()


def test_from_the_first_page_to_a_unit(watched):
    page = watched.open("index.html")
    assert page.title() == "A network"
    assert page.locator(".layer").count() == 2 + len(HOSTILE)
    assert loaded_images(page) > 10
    page.click("text=features.3")
    page.wait_for_selector(".tile")
    assert page.inner_text("#found") == "120 units"
    assert loaded_images(page) > 10
    page.click(".tile:nth-child(8) a")
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("h1") == "goldfish"
    assert page.inner_text("#which") == "channel 7 of features.3 in efficientnet_lite0"
    assert loaded_images(page) == 2 + 3  # with and without transparency; examples
    assert page.inner_text(".examples li:first-child .value") == "7.5"
    assert page.inner_text(".examples li:first-child .source") == "00007-0.jpg"
    assert page.inner_text(".examples li:nth-child(3) .where") == "row 2, column 2"
    assert page.locator("#histogram rect").count() == 32
    assert page.locator("#history polyline").count() == 1
    ticks = page.locator("#history .tick[text-anchor=middle]").all_text_contents()
    assert ticks == ["2", "4", "6", "8", "10", "12"]
    assert page.inner_text("#command").startswith("fvfast maco net --layer 'features.3'")
    facts = page.inner_text("#facts").split("\n")
    assert facts[facts.index("Active") + 1] == f"in {100 * active_of(7):.0f} % of the images"
    page.click("text=Settings")
    assert "nb_steps" in page.inner_text(".settings")
    assert "precision" not in page.inner_text(".settings")  # which is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("#features.3/7", None),
        ("#features%2E3/7", None),
        ("#features.3/120", "There is no picture of channel 120 of features.3"),
        ("#features.3/", "There is no picture of channel"),
        ("#features.9/7", "There is no layer features.9 here."),
        ("#%/7", "The address names no unit."),
        ("#seven", "The address names no unit."),
        ("", "The address names no unit."),
    ],
)
def test_deep_links(watched, address, words):
    page = watched.open(f"unit.html{address}")
    if words is None:
        page.wait_for_selector("#unit:not([hidden])")
        assert page.inner_text("h1") == "goldfish"
        assert page.title() == "goldfish · features.3 · A network"
    else:
        page.wait_for_selector("#message:not([hidden])")
        assert page.inner_text("#message").startswith(words)
        assert page.is_hidden("#unit")


def test_a_deep_link_keeps_the_order_that_it_names(watched):
    page = watched.open("unit.html#features.3/7?sort=score&order=down")
    page.wait_for_selector("#unit:not([hidden])")
    order = sorted((one for one in range(COUNT) if one != 5), key=score_of, reverse=True)
    here = order.index(7)
    assert page.inner_text("#place") == f"{here + 1} of 120"
    page.click("#next")
    until(page, f"location.hash.startsWith('#features.3/{order[here + 1]}?')")
    page.click("#previous")
    page.click("#previous")
    until(page, f"location.hash.startsWith('#features.3/{order[here - 1]}?')")
    # An order without this unit: that of all.
    page = watched.open("unit.html#features.3/7?search=macaw")
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("#place") == "8 of 120"


def test_hostile_names_do_nothing_and_their_links_work(watched):
    for name in HOSTILE:
        page = watched.open("index.html")
        page.locator(".layer h3 a").filter(has_text=name).click()
        page.wait_for_selector(".tile")
        assert page.inner_text("h1") == name
        page.locator(".tile a").nth(1).click()
        page.wait_for_selector("#unit:not([hidden])")
        assert page.inner_text("h1") == name
        assert loaded_images(page) == 5
        page.click("#previous")
        until(page, "document.querySelector('h1').textContent === 'Class 0'")
        page.keyboard.press("Escape")
        page.wait_for_selector(".tile")
        assert focused(page).endswith("/0")
        page.fill("#search", name)
        assert 1 in shown_indices(page)
        assert page.locator("img[src=x], main script").count() == 0
        page = watched.open(f"unit.html#{quote(name, safe='')}/1")
        page.wait_for_selector("#unit:not([hidden])")
        assert (
            page.inner_text("#command")
            == f"fvfast maco net --layer '{name}' --channel 1 --preset fast"
        )


def test_what_is_not_known_is_left_out(watched):
    page = watched.open("unit.html#fc/1")  # without examples and transparency
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("h1") == "Class 1"
    assert page.is_hidden("#histogram-section")
    assert page.is_hidden("#transparency-tools")
    assert page.inner_text("#examples-about") == "No images were shown to this unit."
    # There is room for the score's history beside the picture, until a unit has examples again.
    picture, history = (page.locator(one).bounding_box() for one in ("#picture", "#history"))
    assert history["x"] > picture["x"] + picture["width"]
    page.evaluate("location.hash = '#features.3/7'")
    until(page, "document.querySelector('h1').textContent === 'goldfish'")
    picture, history = (page.locator(one).bounding_box() for one in ("#picture", "#history"))
    assert history["y"] > picture["y"] + picture["height"]
    page = watched.open("unit.html#features.3/5")  # without scores
    page.wait_for_selector("#unit:not([hidden])")
    assert page.is_hidden("#history-section")
    assert "Score\n\N{EN DASH}" in page.inner_text("#facts")


def test_numbers_beside_a_chart_leave_room_for_its_title(watched):
    page = watched.open("unit.html#features.3/6")
    page.wait_for_selector("#history text")
    boxes = {
        text.text_content(): text.bounding_box() for text in page.locator("#history text").all()
    }
    title = boxes["score"]
    wide = boxes["\N{MINUS SIGN}0.005"]
    assert wide["x"] >= title["x"] + title["width"]


def seconds_to_usable(page, address):
    """Open a layer; wait until the pictures in the window are there, and search in it."""
    page.goto("about:blank")
    begin = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".tile")
    assert loaded_images(page) > 20
    page.fill("#search", "needle")
    assert shown_indices(page) == [4321]
    return time.perf_counter() - begin


def test_ten_thousand_units_are_usable_within_two_seconds(browser, tmp_path):
    """From a local server; the best of three times, because other programs may be busy."""
    count = 10_000
    write_atlas(tmp_path / "atlas", Layer("many", count, names={4321: "needle"}))
    write_gallery(tmp_path / "atlas", tmp_path / "site")
    with served(tmp_path / "site") as address:
        watched = Watched(browser, address)
        page = watched.page
        assert min(seconds_to_usable(page, f"{address}layer-many.html") for _ in range(3)) < 2
        page.fill("#search", "")
        assert page.locator(".tile").count() < 200
        page.locator(".tile a").first.focus()
        begin = time.perf_counter()
        page.keyboard.press("End")
        assert focused(page) == "#many/9999"
        assert time.perf_counter() - begin < 1
        begin = time.perf_counter()
        page.select_option("#sort", "score")
        assert shown_indices(page)[0] == min(range(count), key=score_of)
        assert time.perf_counter() - begin < 1
        watched.finish()
