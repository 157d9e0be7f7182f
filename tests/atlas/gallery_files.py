"""Reads the data that the pages of an atlas load."""

import json
import re


def provided(script):
    """Key and value of a script of data."""
    call = re.fullmatch(
        r'fvfastAtlas\.provide\(("(?:[^"\\]|\\.)*"),(.*)\);\n', script.read_text(), re.S
    )
    return json.loads(call[1]), json.loads(call[2])


def columns(site, slug="features.3"):
    return provided(site / "data" / slug / "units.js")[1]
