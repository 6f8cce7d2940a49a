"""Plots of outcomes over time: click rate, conversion rate, revenue and slates by hour or by day, as SVG with axes.

The server makes them, so a page needs no script to show one. The value axis begins at 0 and ends at a round number; the
time axis has some hours or days by name. A rate without a denominator is a gap in its line. The part whose outcomes go
on coming is dashed: clicks come for half an hour by custom, conversions and revenue for a day. So is the line from a
first day of which not all hours are there. A table beside has every number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from midstream.engine.online.figuring import CONVERSION_SETTLE_MS

WIDTH: Final = 620
HEIGHT: Final = 170
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 24
"""Margins around the lines, in the units of the drawing: values stand on the left, times below."""
SHOWN: Final[Mapping[str, int]] = {"hour": 48, "day": 8}
"""Points of a plot: more hours than two days cannot be told apart; seven days may begin and end within one."""
LABELS_MAX: Final = 6
"""Of the time axis."""
_LEAST: Final = 1e-300
"""A power of ten below it has few digits left, or none."""
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_HOURS: Final = {"hour": 1, "day": 24}
_COLUMNS: Final = ("slates", "impressions", "clicks", "conversions", "revenue")

Series = Mapping[str, Any]
"""An element of ``hours`` of ``GET /v1/online-metrics``."""


@dataclass(frozen=True, slots=True)
class TimePoint:
    """One hour or day; NaN = the denominator is 0, or the act is not configured."""

    begin_ms: int
    slates: float
    impressions: float
    click_rate: float
    conversion_rate: float
    revenue: float
    is_open: bool
    """Whether some of its slates can still get outcomes by custom."""
    has_open_conversions: bool
    """Whether some of its slates can still get conversions by custom, which come later."""
    is_partial: bool
    """Whether the series begin within it, so that its sums are not those of all its hours."""


@dataclass(frozen=True, slots=True)
class AxisMark:
    """A value or a time of an axis: its place and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class TimePlot:
    """One figure over time."""

    title: str
    is_rate: bool
    settled: tuple[str, ...]
    """Lines as the attribute ``points`` of a ``polyline`` has them."""
    open: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    values: tuple[AxisMark, ...]
    times: tuple[AxisMark, ...]
    most: float
    last: float
    """The newest known value; NaN = there is none."""


def time_points(series: Sequence[Series], placement: str, by: str, now_ms: int, settle_ms: int) -> list[TimePoint]:
    """Return the points of one placement, the oldest first; empty = it has no slates.

    Args:
        series: Of the route.
        placement: Name; empty = all together.
        by: ``hour`` or ``day``, of UTC.
        now_ms: Log time at which the series end.
        settle_ms: Age from which a slate is settled, but for its conversions.
    """
    found = next((each for each in series if (each["placement"] or "") == placement), None)
    if found is None:
        return []
    length_ms = _HOURS[by] * 3_600_000
    sums: dict[int, list[float]] = {}
    for place in range(len(found["slates"])):
        begin_ms = (found["begin"] + place * 3_600_000) // length_ms * length_ms
        own = sums.setdefault(begin_ms, [0.0] * len(_COLUMNS))
        for number, name in enumerate(_COLUMNS):
            own[number] += math.nan if found[name] is None else found[name][place]
    points = [
        _point(begin_ms, own, found["begin"], now_ms - begin_ms - length_ms, settle_ms)
        for begin_ms, own in sums.items()
    ]
    return points[-SHOWN[by] :]


def time_plots(points: Sequence[TimePoint], by: str) -> list[TimePlot]:
    """Return a plot of each figure."""
    shown = "%H:%M" if by == "hour" else "%d %b"
    step = max(1, math.ceil(len(points) / LABELS_MAX))
    times = tuple(
        AxisMark(_across(place, len(points)), f"{datetime.fromtimestamp(each.begin_ms / 1_000, UTC):{shown}}")
        for place, each in enumerate(points)
        if place % step == 0
    )
    first = 1 if points and points[0].is_partial else 0
    settled = slice(first, _first([each.is_open for each in points]))
    converted = slice(first, _first([each.has_open_conversions for each in points]))
    figures = (
        ("Click rate", True, settled, [each.click_rate for each in points]),
        ("Conversion rate", True, converted, [each.conversion_rate for each in points]),
        ("Revenue", False, converted, [each.revenue for each in points]),
        ("Slates", False, settled, [each.slates for each in points]),
    )
    return [_plot(title, values, known, times, is_rate=is_rate) for title, is_rate, known, values in figures]


def round_end(most: float) -> float:
    """Return the end of an axis for a greatest value: 1, 2, 2.5 or 5 times a power of ten.

    Example:
        >>> round_end(0.034), round_end(130.0), round_end(0.0)
        (0.05, 200.0, 1.0)
    """
    if not most >= _LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(float(f"{each * power:.12g}") for each in _ROUND if each * power >= most * (1 - 1e-9))


def _first(flags: Sequence[bool]) -> int:
    """Return the place of the first flag that is set; that behind the last where none is."""
    return next((place for place, each in enumerate(flags) if each), len(flags))


def _point(begin_ms: int, sums: Sequence[float], first_ms: int, age_ms: int, settle_ms: int) -> TimePoint:
    """Return a point of sums; ``first_ms`` is when the series begin, ``age_ms`` how long ago the point ended."""
    slates, seen, clicks, conversions, revenue = sums
    click_rate = clicks / seen if seen else math.nan
    conversion_rate = conversions / slates if slates else math.nan
    return TimePoint(
        begin_ms=begin_ms,
        slates=slates,
        impressions=seen,
        click_rate=click_rate,
        conversion_rate=conversion_rate,
        revenue=revenue,
        is_open=age_ms < settle_ms,
        has_open_conversions=age_ms < CONVERSION_SETTLE_MS and not math.isnan(revenue),
        is_partial=first_ms > begin_ms,
    )


def _plot(
    title: str, values: Sequence[float], known_part: slice, times: tuple[AxisMark, ...], *, is_rate: bool
) -> TimePlot:
    known = [each for each in values if math.isfinite(each)]
    most = max(known, default=0.0)
    end = min(round_end(most), 1.0) if is_rate else round_end(most)
    at = [
        (_across(place, len(values)), round(_down(each, end), 1)) if math.isfinite(each) else None
        for place, each in enumerate(values)
    ]
    marks = tuple(AxisMark(_down(end * part / 2, end), _text(end * part / 2, is_rate=is_rate)) for part in range(3))
    dots = tuple(each for each in at if each is not None)
    last = known[-1] if known else math.nan
    # Dashed parts go to the settled points beside them, so that the line has no hole where it changes.
    first, first_open = known_part.start, known_part.stop
    settled = _lines(at[first:first_open])
    still_open = _lines(at[: first + 1]) + _lines(at[max(first, first_open - 1) :])
    return TimePlot(title, is_rate, settled, still_open, dots, marks, times, most, last)


def _lines(at: Sequence[tuple[float, float] | None]) -> tuple[str, ...]:
    """Return lines through neighbours; a point that is not known parts them."""
    lines: list[list[tuple[float, float]]] = [[]]
    for each in at:
        if each is None:
            lines.append([])
        else:
            lines[-1].append(each)
    return tuple(" ".join(f"{x},{y}" for x, y in line) for line in lines if len(line) > 1)


def _across(place: int, count: int) -> float:
    return round(LEFT + (place + 0.5) * (WIDTH - LEFT - RIGHT) / count, 1)


def _down(value: float, end: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - max(value, 0.0) / end)


def _text(value: float, *, is_rate: bool) -> str:
    return f"{100 * value:.3g} %" if is_rate else f"{value:,.6g}"
