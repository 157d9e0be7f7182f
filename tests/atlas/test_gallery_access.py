"""The pages of an atlas for all readers: colors, sizes of windows, keyboard, screen readers."""

import io
import itertools

import pytest
from browser import Watched, running_browser, served, until
from contrast import TEXTS, contrast
from PIL import Image
from synthetic import Layer, write_atlas

from fvfast.atlas.gallery import write_gallery

pytestmark = pytest.mark.thorough

PAGES = ("index.html", "layer-features.3.html", "unit.html#features.3/7")
WIDE_NAME = "layer" * 40


@pytest.fixture(scope="module")
def browser():
    with running_browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    names = {1: "macaw", 7: "a name " * 10, 8: "x" * 200}
    write_atlas(
        folder / "atlas",
        Layer("features.3", 60, names=names, examples=9),
        Layer(WIDE_NAME, 2, kind="class"),
        network="package.module:" + "factory" * 20,
    )
    write_gallery(folder / "atlas", folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def server(site):
    with served(site) as address:
        yield address


@pytest.fixture
def open_site(browser, server):
    """Return a function that opens a page of the site with options of the browser."""
    opened = []

    def open_(name, **options):
        opened.append(Watched(browser, server, **options))
        page = opened[-1].open(name)
        wait_for(page, name)
        return page

    yield open_
    for watched in opened:
        watched.finish()


def wait_for(page, name):
    """Wait until a page is filled."""
    kind = name.split("-")[0].split(".")[0]
    page.wait_for_selector(
        {"index": ".layer", "layer": ".tile", "unit": "#unit:not([hidden])"}[kind]
    )


def open_details(page):
    """Open what is folded, where there is such a thing."""
    for summary in page.locator("summary").all():
        summary.click()


@pytest.mark.parametrize("name", [*PAGES, "unit.html#features.3/8"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_page_scrolls_sideways(open_site, name, width):
    page = open_site(name, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    open_details(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_narrow_window_has_two_columns_and_places_to_touch(open_site):
    page = open_site(PAGES[1], viewport={"width": 390, "height": 844}, has_touch=True)
    tops = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.offsetTop)")
    assert tops.count(tops[0]) == 2
    small = page.evaluate(
        """[...document.querySelectorAll("button, select, input, .tile a")].filter((one) => {
            if (!one.checkVisibility()) return false;
            const box = (one.closest("label") ?? one).getBoundingClientRect();
            return box.height < 36 || box.width < 36;
        }).map((one) => one.id)"""
    )
    assert small == []
    page.tap(".tile:nth-child(2) a")
    wait_for(page, "unit")
    picture, examples = (page.locator(one).bounding_box() for one in ("#picture", "#examples"))
    assert picture["width"] > 340
    assert examples["y"] > picture["y"] + picture["height"]


def background(page):
    return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")


def test_light_and_dark_are_those_of_the_system_or_of_the_reader(open_site):
    light, dark = "rgb(251, 250, 247)", "rgb(21, 22, 26)"
    page = open_site(PAGES[0], color_scheme="dark")
    assert background(page) == dark
    assert page.get_attribute("#theme-button", "aria-pressed") == "true"
    page.emulate_media(color_scheme="light")
    until(page, "document.querySelector('#theme-button').ariaPressed === 'false'")
    assert background(page) == light
    page.click("#theme-button")
    assert background(page) == dark
    page.click("text=features.3")  # on all pages, from the first pixel on
    wait_for(page, "layer")
    assert background(page) == dark
    page.keyboard.press("d")
    assert background(page) == light


def test_the_ratio_is_that_of_the_standard():
    assert contrast("rgb(255, 255, 255)", "rgb(0, 0, 0)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_texts_stand_out(open_site, name, scheme):
    page = open_site(name, color_scheme=scheme)
    open_details(page)
    page.keyboard.press("?")
    texts = page.evaluate(TEXTS)
    assert len(texts) > 20
    faint = [
        (text, color, behind) for text, color, behind in texts if contrast(color, behind) < 4.5
    ]
    assert not faint
    # Borders of fields, and the outline of what has the focus: at least 3.
    page.keyboard.press("Escape")
    page.focus("#theme-button")
    style = "getComputedStyle(document.querySelector('#theme-button'))"
    for color in ("borderTopColor", "outlineColor"):
        assert contrast(page.evaluate(f"{style}.{color}"), background(page)) >= 3


@pytest.mark.parametrize("name", PAGES)
def test_the_focus_is_visible_and_goes_through_all_controls(open_site, name):
    page = open_site(name)
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """(() => {
                const one = document.activeElement;
                const style = getComputedStyle(one);
                const box = one.getBoundingClientRect();
                return {
                    what: one.id || one.textContent.trim() || one.querySelector("img")?.alt,
                    outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
                    visible: box.width > 0 && box.bottom > 0 && box.top < innerHeight,
                    body: one === document.body,
                };
            })()"""
        )
        if here["body"]:
            break
        assert here["visible"], here
        assert here["outline"], here
        seen.append(here["what"])
    assert seen[0] == "Skip to the content"
    assert {"help-button", "theme-button"} < set(seen)
    expected = {
        "index": {"search", "features.3", WIDE_NAME},
        "layer": {"search", "sort", "order", "show", "blended"},
        "unit": {"previous", "next", "transparency", "copy"},
    }[name.split("-")[0].split(".")[0]]
    assert expected < set(seen)


def test_the_skip_link_leads_to_the_content_and_changes_no_unit(open_site):
    page = open_site(PAGES[2])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.url.endswith("#features.3/7")
    assert page.is_visible("#unit")


@pytest.mark.parametrize("name", PAGES)
def test_screen_readers_find_their_way(open_site, name):
    page = open_site(name)
    page.wait_for_selector("img")
    for role in ("banner", "main", "contentinfo", "navigation"):
        assert page.get_by_role(role).count() >= 1, role
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate(
        "[...document.querySelectorAll('main :is(h1, h2, h3)')]"
        ".filter(one => one.checkVisibility()).map(one => Number(one.tagName[1]))"
    )
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    nameless = page.evaluate(
        """[...document.querySelectorAll("img:not([alt]), a, button, input, select, svg")]
        .filter((one) => one.checkVisibility()).filter((one) => {
            if (one.tagName === "IMG") return true;
            const label = one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent;
            const images = [...one.querySelectorAll("img")].map((image) => image.alt).join("");
            return !(label || one.textContent.trim() || images);
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_alternative_texts_say_what_is_shown(open_site):
    page = open_site(PAGES[1])
    assert page.get_attribute(".tile:nth-child(2) img", "alt") == "Picture of channel 1, macaw"
    assert page.get_attribute(".tile:nth-child(3) img", "alt") == "Picture of channel 2"
    item = page.locator(".tile:nth-child(3)")
    assert (item.get_attribute("aria-posinset"), item.get_attribute("aria-setsize")) == ("3", "60")
    page = open_site("unit.html#features.3/1")
    alternatives = page.locator("#unit img").evaluate_all("all => all.map(image => image.alt)")
    # The picture with transparency is the same one, behind it.
    assert alternatives[:2] == ["", "Picture that excites channel 1, macaw, of features.3"]
    assert alternatives[2] == "Part of photographs/00001-0.jpg where the value is 7.5"
    assert page.get_attribute("#histogram svg", "aria-label").startswith("Histogram of 528 images")
    assert page.get_attribute("#history svg", "aria-label").startswith("Score from step 1 to 12")


def test_nothing_moves_for_readers_who_want_it_so(open_site):
    moving = "getComputedStyle(document.querySelector('.tile img')).transitionDuration"
    assert open_site(PAGES[1]).evaluate(moving) == "0.12s"
    assert open_site(PAGES[1], reduced_motion="reduce").evaluate(moving) == "0s"


def test_the_command_is_copied(open_site):
    page = open_site(PAGES[2], permissions=["clipboard-read", "clipboard-write"])
    page.click("#copy")
    until(page, "document.querySelector('#copy').textContent === 'Copied'")
    assert page.inner_text("#copied") == "The command is copied."
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "fvfast maco net --layer 'features.3' --channel 7 --preset fast"


def test_without_a_clipboard_the_command_is_selected(open_site):
    page = open_site(PAGES[2])
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.keyboard.press("c")
    until(page, "document.querySelector('#copy').textContent === 'Selected'")
    assert page.evaluate("String(getSelection())").startswith("fvfast maco net")


def middle_and_corner(page):
    """Colors of the picture of a unit, as they are painted."""
    with Image.open(io.BytesIO(page.locator("#picture").screenshot())) as painted:
        colors = painted.convert("RGB")
    width, height = colors.size
    return colors.getpixel((width // 2, height // 2)), colors.getpixel((width - 9, 9))


def test_the_slider_blends_the_picture_with_the_page(open_site):
    """The synthetic transparency is opaque in the middle, and clear in the corners."""
    page = open_site(PAGES[2])
    until(page, "[...document.images].every(image => image.complete)")
    plain_middle, plain_corner = middle_and_corner(page)
    paper = (251, 250, 247)
    assert max(abs(a - b) for a, b in zip(plain_corner, paper, strict=True)) > 40
    slider = page.locator("#transparency")
    slider.fill("50")
    half = [(one + other) / 2 for one, other in zip(plain_corner, paper, strict=True)]
    assert middle_and_corner(page)[1] == pytest.approx(half, abs=3)
    slider.fill("100")
    middle, corner = middle_and_corner(page)
    assert corner == pytest.approx(paper, abs=3)
    assert middle == pytest.approx(plain_middle, abs=8)  # two compressed pictures of the same
    page.click("#next")
    until(page, "document.querySelector('#place').textContent.startsWith('9')")
    assert page.inner_text("#transparency-value") == "100 %"


def test_the_option_of_a_layer_shows_the_page_behind_the_pictures(open_site):
    page = open_site(PAGES[1], color_scheme="dark")
    page.check("#blended")
    until(
        page, "[...document.querySelectorAll('.tile img')].slice(0, 9).every(one => one.complete)"
    )
    with Image.open(io.BytesIO(page.locator(".tile img").first.screenshot())) as painted:
        corner = painted.convert("RGB").getpixel((painted.width - 9, 9))
    assert corner == pytest.approx((21, 22, 26), abs=3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "The unit cannot be shown: {} cannot be loaded."),
        (
            "",
            "The unit cannot be shown: {} is not the file that this page expects.",
        ),
        (
            'fvfastAtlas.provide("details:features.3:0", {});',
            "{} has no channel 7: load this page again.",
        ),
    ],
)
def test_files_that_do_not_fit_are_named(browser, site, content, words):
    """The console of the browser names them too, so this page is not a watched one."""
    file = site / "data" / "features.3" / "0.js"
    before = file.read_bytes()
    file.unlink() if content is None else file.write_text(content)
    try:
        page = browser.new_page()
        page.goto(f"file://{site}/{PAGES[2]}")
        page.wait_for_selector("#message:not([hidden])")
        assert page.inner_text("#message") == words.format("data/features.3/0.js")
        page.close()
    finally:
        file.write_bytes(before)


def test_without_javascript_the_pages_say_so(open_site):
    page = open_site(PAGES[0], java_script_enabled=False)
    assert "JavaScript" in page.inner_text("noscript")
    assert page.locator(".layer").count() == 2
