"""Jinja templates of the console: everything is escaped, and a value that is missing is an error and no empty cell."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from midstream.serving.console.charts import line_chart, short_bytes, short_number
from midstream.serving.console.outcome_charts import BAR_WIDTH, FIGURES, outcome_charts
from midstream.serving.console.placement_form import label_of
from midstream.serving.console.slate_rows import title_of
from midstream.serving.console.time_charts import HEIGHT, LEFT, RIGHT, WIDTH

SECTIONS = (
    ("", "Now"),
    ("/placements", "Placements"),
    ("/requests", "Requests"),
    ("/catalogue", "Items and users"),
    ("/models", "Models"),
    ("/experiments", "Experiments"),
    ("/outcomes", "Outcomes"),
    ("/dead-letters", "Dead letters"),
    ("/keys", "Keys"),
    ("/operation", "Operation"),
)
"""Addresses below ``/console`` and their names, as the navigation has them."""

_YEAR_10000_MS = 253_402_300_800_000


def _step(text: object) -> str:
    """Return a text as one step of a path."""
    return quote(str(text), safe="")


class Templates:
    """Renders pages."""

    def __init__(self, sections: Sequence[tuple[str, str]] = SECTIONS) -> None:
        """Load no template yet: each is compiled when it is first shown.

        Args:
            sections: Of the navigation.
        """
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Any] = {
            "time": time_text,
            "number": short_number,
            "size": short_bytes,
            "chart": line_chart,
            "pretty": pretty,
            "step": _step,
            "percent": percent,
            "hour": hour_text,
            "outcome_charts": outcome_charts,
            "title": item_title,
            "label": label_of,
        }
        shown: dict[str, Any] = {
            "sections": sections,
            "outcome_figures": FIGURES,
            "bar_width": BAR_WIDTH,
            "plot_width": WIDTH,
            "plot_height": HEIGHT,
            "plot_left": LEFT,
            "plot_right": WIDTH - RIGHT,
        }
        self._environment.filters.update(filters)
        self._environment.globals.update(shown)

    def render(self, template: str, base: str, values: Mapping[str, Any]) -> str:
        """Return the text of a page; ``base`` is what stands before ``/console`` in every link."""
        return self._environment.get_template(template).render(base=base, **values)


def time_text(time_ms: float | None) -> Markup:
    """Return a time in UTC to the second, as an element that programs can read; an en dash where there is none."""
    if time_ms is None or not 0 < time_ms < _YEAR_10000_MS:
        return Markup("–")
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    shown = f"{moment:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(timespec="milliseconds"), shown)


def item_title(item: Mapping[str, Any]) -> str:
    """Return what an item of a slate is called; empty = its fields do not say it."""
    return title_of(item.get("fields"))


def pretty(document: object) -> str:
    """Return a document as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def hour_text(time_ms: float) -> str:
    """Return a time in UTC to the hour."""
    return f"{datetime.fromtimestamp(time_ms / 1_000, UTC):%Y-%m-%d %H:%M}"


def percent(share: float | None) -> str:
    """Return a share as percent; an en dash where it is not known."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.4g} %"
