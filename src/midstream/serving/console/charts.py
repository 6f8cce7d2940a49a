"""Line charts as SVG, made by the server: a page needs no script to show one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 240, 56
"""Units of a chart's own coordinates; the page scales it."""
_DIGITS_FROM, _THOUSAND = 100, 1_000


@dataclass(frozen=True, slots=True)
class LineChart:
    """Points of one line, and its greatest value."""

    points: str
    """As the attribute ``points`` of a ``polyline`` has them; empty = fewer than two values."""
    most: float
    last: float
    """NaN = the newest value is not known."""


def line_chart(values: Sequence[float]) -> LineChart:
    """Return the line of values in order, the oldest on the left; NaN = not known, left out.

    The axis begins at 0 and ends at the greatest value, so that two charts of one figure can be compared by their ends.
    """
    last = values[-1] if values else math.nan
    known = [(place, value) for place, value in enumerate(values) if math.isfinite(value)]
    most = max((value for _, value in known), default=0.0)
    if len(known) < 2:  # noqa: PLR2004  a line has two ends
        return LineChart("", most, last)
    step, end = WIDTH / (len(values) - 1), most if most > 0 else 1.0
    heights = [(place, (HEIGHT - 4) * (max(value, 0.0) / end)) for place, value in known]
    return LineChart(" ".join(f"{place * step:.1f},{HEIGHT - 2 - height:.1f}" for place, height in heights), most, last)


def short_number(value: float | None) -> str:
    """Return a number in few characters; an en dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= _DIGITS_FROM or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def short_bytes(value: float) -> str:
    """Return a size in MB or GB."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:,.1f} MB"  # noqa: PLR2004  units
