"""Takes the pictures of docs/gallery.md, of the pages of any atlas.

    python tools/gallery_screenshots.py SITE LAYER INDEX [OUT]

Needs playwright, and Chromium.
"""

import io
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import sync_playwright

LARGEST = 200_000  # bytes of a picture
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 780}


def main(site, layer, index, out="docs/images"):
    """Write pictures of a layer and a unit, of the layer in dark, and of a telephone."""
    page = f"layer-{layer.lower()}.html"
    unit = f"unit.html#{quote(layer, safe='')}/{index}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, address, size, scheme, zoom in (
            ("layer", page, WIDE, "light", 1),
            ("unit", unit, WIDE, "light", 1),
            ("dark", f"{page}#blended=1", WIDE, "dark", 1),
            ("narrow", unit, NARROW, "light", 1.5),
        ):
            context = browser.new_context(
                viewport=size, color_scheme=scheme, device_scale_factor=zoom
            )
            opened = context.new_page()
            opened.goto(f"{Path(site).resolve().as_uri()}/{address}", wait_until="networkidle")
            write(opened.screenshot(), Path(out) / f"gallery_{name}.webp")
            context.close()
        browser.close()


def write(png, path):
    """Write a picture, as good as its size allows."""
    with Image.open(io.BytesIO(png)) as picture:
        for quality in range(90, 40, -5):
            target = io.BytesIO()
            picture.save(target, "WEBP", quality=quality, method=6)
            if target.tell() <= LARGEST:
                break
    path.write_bytes(target.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
