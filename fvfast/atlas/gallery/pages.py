"""Writes the pages: templates, filled in, with the styles and programs that they load."""

import dataclasses
import importlib.resources
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import jinja2

from fvfast._shared.version import VERSION
from fvfast.atlas.gallery.layers import ShownLayer
from fvfast.atlas.gallery.scripts import UNITS_PER_SCRIPT, script
from fvfast.atlas.plan import Plan

_PACKAGE = "fvfast.atlas.gallery"
_SAMPLES = 6  # thumbnails beside each layer of the first page
_DIGITS = 12  # of a hash: enough to tell apart what one group makes


@dataclasses.dataclass(frozen=True)
class Site:
    """What all pages say.

    Attributes
    ----------
    title
        The heading of the first page.
    plan
        Plan of the atlas.
    layers
        The layers.
    """

    title: str
    plan: Plan
    layers: Sequence[ShownLayer]

    @property
    def has_examples(self) -> bool:
        """Whether a unit is shown beside images."""
        return any(layer.with_examples for layer in self.layers)

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Names and values of all settings, those that are None left out."""
        return [
            (name, _text(value)) for name, value in self.plan.settings.items() if value is not None
        ]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the first page says about the whole."""
        plan, layers = self.plan, self.layers
        network = plan.network
        shown, planned = sum(layer.count for layer in layers), len(plan)
        facts = [
            ("Network", network.name),
            ("Weights", f"SHA-256 {network.weights_sha256[:_DIGITS]}"),
            ("Input", " \N{MULTIPLICATION SIGN} ".join(map(str, network.input_shape))),
            ("Units", f"{shown:,}" if shown == planned else f"{shown:,} of {planned:,}"),
        ]
        dates = sorted({date for layer in layers for date in layer.dates})
        if dates:
            facts.append(("Drawn", dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"))
        if seconds := sum(layer.seconds for layer in layers):
            facts.append(("Computing time", duration(seconds)))
        return [*facts, ("Made with", f"fvfast {plan.fvfast}")]

    def data(self) -> dict[str, Any]:
        """Return what the programs of all pages need."""
        return {
            "title": self.title,
            "network": self.plan.network.name,
            "unitsPerScript": UNITS_PER_SCRIPT,
            "layers": [
                {
                    "name": layer.planned.name,
                    "slug": layer.slug,
                    "kind": layer.planned.kind,
                    "page": layer.page,
                    "count": layer.count,
                }
                for layer in self.layers
            ],
        }


def write_pages(site: Site) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of all pages, and of the styles and programs that they load."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, anchor=_anchor, thousands="{:,}".format)
    common = {"site": site, "version": VERSION, "samples": sample_positions}
    for asset in sorted(
        importlib.resources.files(_PACKAGE).joinpath("assets").iterdir(), key=lambda one: one.name
    ):
        yield f"assets/{asset.name}", asset.read_bytes()
    for layer in site.layers:
        yield layer.page, _filled(environment, "layer.html", common, layer=layer)
    yield "data/atlas.js", script("atlas", site.data())
    yield "unit.html", _filled(environment, "unit.html", common)
    yield "index.html", _filled(environment, "index.html", common)


def _filled(
    environment: jinja2.Environment, template: str, common: dict[str, Any], **values: Any
) -> bytes:
    text = environment.get_template(template).render(**common, **values)
    # A name may hold half of a pair of surrogates, which no encoding has.
    return text.encode("utf-8", "xmlcharrefreplace")


def sample_positions(layer: ShownLayer) -> list[int]:
    """Return the units that stand for a layer on the first page, spread over all of them."""
    shown = min(_SAMPLES, layer.count)
    return [number * layer.count // shown for number in range(shown)]


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _anchor(layer: ShownLayer, position: int) -> str:
    """Return what follows the # of a link to a unit."""
    return f"{quote(layer.planned.name, safe='')}/{layer.index[position]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
