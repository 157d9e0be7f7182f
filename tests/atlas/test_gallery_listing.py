"""Lists of units in a real browser: search, filters, orders, the keyboard, the way back."""

import pytest
from browser import Watched, running_browser, served, until
from gallery_site import COUNT, NAMES, focused, shown_indices, write_site
from synthetic import active_of, score_of

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
