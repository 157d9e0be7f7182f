"""Names of files and folders of a gallery, which any file system and any web server takes."""

import re
from collections.abc import Iterable

_LONGEST = 60
_OTHER = re.compile(r"[^a-z0-9._-]+")


def slugs(names: Iterable[str]) -> list[str]:
    """Return a text of letters, digits, dots, hyphens and underscores for each layer's name.

    They differ from each other, also where a file system does not tell capitals from small letters.
    """
    taken: set[str] = set()
    found = []
    for name in names:
        base = _OTHER.sub("-", name.lower())[:_LONGEST].strip("-.") or "layer"
        slug, number = base, 1
        while slug in taken:
            number += 1
            slug = f"{base}-{number}"
        taken.add(slug)
        found.append(slug)
    return found
