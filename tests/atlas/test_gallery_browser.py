"""The pages of an atlas in a real browser, from a disk and from a web server."""

import time
from urllib.parse import quote

import pytest
from browser import Watched, running_browser, served, until
from synthetic import Layer, active_of, edit, score_of, write_atlas

from fvfast.atlas.gallery import write_gallery

pytestmark = pytest.mark.thorough

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"'`&amp;",
    "50% off/100%25",
    "what?#who/../..&sort=score",
    "javascript:alert(1)",
    "x" * 200,
    "名前 \u202egnp.exe",
]
NAMES = {1: "Macaw", 7: "goldfish", 10: "school bus", 20: "élan", 30: "macaroni"}
COUNT = 120


@pytest.fixture(scope="module")
def browser():
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Layers of 120 channels, of 3 classes without examples, and with hostile names."""
    folder = tmp_path_factory.mktemp("gallery")
    write_atlas(
        folder / "atlas",
        Layer("features.3", COUNT, names=NAMES),
        Layer("fc", 3, kind="class", examples=0, transparent=False),
        *(Layer(name, 2, kind="class", names={1: name}) for name in HOSTILE),
    )
    for index in (3, 4):
        (folder / f"atlas/examples/features.3/{index}.json").unlink()
    edit(folder / "atlas/units/features.3/5.json", lambda one: one.update(scores=[], score=None))
    summary = write_gallery(folder / "atlas", folder / "site", title="A network")
    assert len(summary.problems) == 1
    return folder / "site"


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


@pytest.fixture
def open_site(browser, server):
    """Return a function that opens the site with options of the browser."""
    opened = []

    def open_(**options):
        opened.append(Watched(browser, server, **options))
        return opened[-1]

    yield open_
    for watched in opened:
        watched.finish()


def shown_indices(page):
    """The indices of the units that a layer's page shows in the window, in their order."""
    links = page.locator(".tile a").evaluate_all("links => links.map(link => link.hash)")
    return [int(link.split("?")[0].rpartition("/")[2]) for link in links]


def focused(page):
    """What has the focus: its id, or where its link leads."""
    return page.evaluate("document.activeElement.id || document.activeElement.hash")


def loaded_images(page):
    """Wait until the images in the window are there; return how many they are."""
    until(
        page,
        """[...document.images].filter((image) => {
            const box = image.getBoundingClientRect();
            return box.bottom > 0 && box.top < innerHeight && box.width > 0;
        }).every((image) => image.complete && image.naturalWidth > 0)""",
    )
    return page.locator("img").count()


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
    ("words", "indices"),
    [
        ("macaw", [1]),
        ("MACA", [1, 30]),
        ("elan", [20]),
        ("bus school", [10]),
        ("17", [17]),
        ("8-11", [8, 9, 10, 11]),
        ("8-11 school", [10]),
        ("nothing like it", []),
        ("(", []),
    ],
)
def test_search(watched, words, indices):
    page = watched.open("layer-features.3.html")
    page.fill("#search", words)
    assert shown_indices(page) == indices
    assert page.inner_text("#found") == f"{len(indices)} of 120 units"
    assert page.get_attribute("#found", "aria-live") == "polite"
    page.reload()  # the address has the search
    assert page.input_value("#search") == words
    assert shown_indices(page) == indices


def test_filters(watched):
    page = watched.open("layer-features.3.html")
    page.select_option("#show", "none")
    assert shown_indices(page) == [3, 4]
    page.select_option("#show", "named")
    assert shown_indices(page) == sorted(NAMES)
    page.select_option("#show", "rare")
    rare = [one for one in range(COUNT) if active_of(one) < 0.1 and one not in (3, 4)]
    assert shown_indices(page) == rare
    page.fill("#search", "0-50")
    assert shown_indices(page) == [one for one in rare if one <= 50]
    page.select_option("#show", "examples")
    assert page.inner_text("#found") == "49 of 120 units"


def test_orders(watched):
    page = watched.open("layer-features.3.html")
    known = [one for one in range(COUNT) if one != 5]
    page.select_option("#sort", "score")
    assert shown_indices(page)[:10] == sorted(known, key=score_of)[:10]
    page.select_option("#order", "down")
    assert shown_indices(page)[:10] == sorted(known, key=score_of, reverse=True)[:10]
    page.locator(".tile a").first.focus()
    page.keyboard.press("End")
    assert focused(page).startswith("#features.3/5?")  # what has no score comes last
    page.select_option("#sort", "active")
    page.select_option("#order", "up")
    with_share = [one for one in range(COUNT) if one not in (3, 4)]
    assert (
        shown_indices(page)[:10] == sorted(with_share, key=lambda one: (active_of(one), one))[:10]
    )
    assert "active 0 %" in page.inner_text(".tile:first-child")
    page.select_option("#sort", "name")
    assert shown_indices(page)[:5] == [20, 7, 30, 1, 10]
    page.select_option("#sort", "index")
    page.select_option("#order", "down")
    assert shown_indices(page)[:3] == [119, 118, 117]


def test_keyboard_of_a_layer(watched):
    page = watched.open("layer-features.3.html")
    tops = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.offsetTop)")
    columns = tops.count(tops[0])
    assert columns > 3
    page.keyboard.press("ArrowDown")
    assert focused(page) == "#features.3/0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert focused(page) == f"#features.3/{1 + columns}"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # nothing is before the first one
    assert focused(page) == "#features.3/0"
    page.keyboard.press("End")
    assert focused(page) == "#features.3/119"
    assert page.evaluate("document.activeElement.getBoundingClientRect().bottom <= innerHeight")
    page.keyboard.press("Home")
    assert focused(page) == "#features.3/0"
    assert page.evaluate(
        "document.activeElement.getBoundingClientRect().top"
        " >= document.querySelector('#controls').getBoundingClientRect().bottom"
    )
    # The grid is one stop of the tabulator, and the focus outlives what scrolls out of sight.
    assert page.locator('.tile a[tabindex="0"]').count() == 1
    page.mouse.wheel(0, 3000)
    until(page, "scrollY > 1000")
    assert focused(page) == "#features.3/0"
    page.keyboard.press("/")
    assert focused(page) == "search"
    page.keyboard.type("mac")
    page.keyboard.press("Enter")
    assert focused(page) == "#features.3/1?search=mac"
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("h1") == "Macaw"


def test_keyboard_of_a_unit(watched):
    page = watched.open("layer-features.3.html#search=mac")
    page.click(".tile a")
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("#place") == "1 of 2"
    page.keyboard.press("ArrowLeft")  # nothing is before the first one
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('h1').textContent === 'macaroni'")
    assert page.get_attribute("#next", "aria-disabled") == "true"
    page.keyboard.press("t")
    assert page.inner_text("#transparency-value") == "100 %"
    page.keyboard.press("Escape")
    page.wait_for_selector(".tile")
    assert page.input_value("#search") == "mac"
    assert focused(page) == "#features.3/30?search=mac"
    page.keyboard.press("Escape")
    page.wait_for_selector(".layer")


def test_help_and_search_from_anywhere(watched):
    page = watched.open("unit.html#features.3/7")
    page.wait_for_selector("#unit:not([hidden])")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("ArrowRight")  # for the help, not for the page below it
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    assert page.inner_text("h1") == "goldfish"
    page.keyboard.press("/")
    page.wait_for_selector(".tile")
    assert focused(page) == "search"
    page.keyboard.press("?")  # a letter of the search
    assert page.input_value("#search") == "?"
    assert page.is_hidden("#help")


def test_search_in_all_layers(watched):
    page = watched.open("index.html")
    page.keyboard.press("/")
    page.keyboard.type("118-119")
    page.wait_for_selector(".results li")
    assert page.inner_text("#found") == "2 units"
    assert page.is_hidden("#layers")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit:not([hidden])")
    assert page.inner_text("h1") == "Channel 119"
    page.go_back()
    page.wait_for_selector(".results li")
    assert page.input_value("#search") == "118-119"
    page.focus("#search")
    page.keyboard.press("Escape")
    assert page.is_visible("#layers")
    page.fill("#search", "features")  # a layer is no unit
    until(page, "document.querySelector('#found').textContent === '0 units'")


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


def test_the_back_button_returns_to_the_same_place(watched):
    page = watched.open("layer-features.3.html")
    page.select_option("#sort", "score")
    page.select_option("#show", "examples")
    page.check("#blended")
    page.mouse.move(600, 600)
    page.mouse.wheel(0, 1200)
    until(page, "scrollY === 1200")
    tile = page.locator(".tile a").nth(20)
    tile.scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    address = tile.get_attribute("href")
    tile.click()
    page.wait_for_selector("#unit:not([hidden])")
    page.click("#next")
    page.go_back()
    page.go_back()
    page.wait_for_selector(".tile")
    assert page.input_value("#sort") == "score"
    assert page.input_value("#show") == "examples"
    assert page.is_checked("#blended")
    until(page, f"Math.abs(scrollY - {before}) < 2")
    assert page.locator(f'.tile a[href="{address}"]').is_visible()


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
