"""A site with everything that pages of an atlas may show, and what tests read of a page."""

from browser import until
from synthetic import Layer, edit, write_atlas

from fvfast.atlas.gallery import write_gallery

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


def write_site(folder):
    """Write layers of 120 channels, of 3 classes without examples, and with hostile names."""
    write_atlas(
        folder / "atlas",
        Layer("features.3", COUNT, names=NAMES),
        Layer("fc", 3, kind="class", examples=0, transparent=False),
        *(Layer(name, 2, kind="class", names={1: name}) for name in HOSTILE),
    )
    for index in (3, 4):
        (folder / f"atlas/examples/features.3/{index}.json").unlink()
    edit(folder / "atlas/units/features.3/5.json", lambda one: one.update(scores=[], score=None))
    small = {"scores": [0.001, 0.00525, -0.00525], "steps": 3}
    edit(folder / "atlas/units/features.3/6.json", lambda one: one.update(small))
    summary = write_gallery(folder / "atlas", folder / "site", title="A network")
    assert len(summary.problems) == 1
    return folder / "site"


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
