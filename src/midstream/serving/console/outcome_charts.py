"""Bar charts of outcomes: click rate, conversion rate and revenue by placement, variant and segment.

A chart has the values of one label, the one with most slates first; bars of one figure have one scale, from 0 to the
greatest of the chart. A figure has two bars: of settled slates, and of all slates so far. What is not known has none.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from midstream.experiments.names import arm_of

BAR_WIDTH: Final = 100
"""Units of a bar's own coordinates; the page scales it."""
ROWS_MAX: Final = 20
"""Of a chart. A segment has up to 32 values, and a shop may have more placements."""
FIGURES: Final[Mapping[str, str]] = {
    "click_rate": "Click rate",
    "conversion_rate": "Conversion rate",
    "revenue_per_slate": "Revenue a slate",
}
_PLACEMENT: Final = "placement"
_SEGMENT: Final = "context."

FigureRow = Mapping[str, Any]
"""A row of ``GET /v1/online-metrics``."""


@dataclass(frozen=True, slots=True)
class FigureBar:
    """One figure of one value: of settled slates and of all; None = not known."""

    settled: float | None
    so_far: float | None
    settled_width: float
    """Of ``BAR_WIDTH``; 0 where it is not known."""
    so_far_width: float


@dataclass(frozen=True, slots=True)
class OutcomeBars:
    """A value of a label with its figures, in the order of ``FIGURES``."""

    value: str
    slates: int
    open: int
    bars: tuple[FigureBar, ...]


@dataclass(frozen=True, slots=True)
class OutcomeChart:
    """The values of one label in one window."""

    title: str
    label: str
    rows: tuple[OutcomeBars, ...]
    left_out: int
    """Values for which there was no room: those with fewest slates."""


def outcome_charts(rows: Sequence[FigureRow]) -> list[OutcomeChart]:
    """Return the charts of one window: placements, variants of each experiment, segments, then all other labels.

    A placement under an experiment is a value of its own beside its variants, where the holdout or drafts answer it.
    """
    groups: dict[tuple[int, str, str], list[tuple[str, FigureRow]]] = defaultdict(list)
    for row in rows:
        label, value = row["label"], row["value"]
        arm = arm_of(value) if label == _PLACEMENT else None
        if arm is not None and arm.experiment:
            groups[1, f"By variant of {arm.experiment} on {arm.placement}", "Variant"].append((arm.variant, row))
        elif arm is not None:
            groups[0, "By placement", "Placement"].append((value, row))
        elif label.startswith(_SEGMENT):
            name = label.removeprefix(_SEGMENT)
            groups[2, f"By segment {name}", name].append((value, row))
        else:
            groups[3, f"By {label}", label.capitalize()].append((value, row))
    return [_chart(title, label, groups[number, title, label]) for number, title, label in sorted(groups)]


def _chart(title: str, label: str, named: Sequence[tuple[str, FigureRow]]) -> OutcomeChart:
    shown = sorted(named, key=lambda each: (-each[1]["slates"], each[0]))[:ROWS_MAX]
    columns = [_bars([row for _, row in shown], figure) for figure in FIGURES]
    bars = zip(*columns, strict=True)
    rows = tuple(
        OutcomeBars(value, row["slates"], row["open"], own) for (value, row), own in zip(shown, bars, strict=True)
    )
    return OutcomeChart(title, label, rows, len(named) - len(shown))


def _width(value: float | None, most: float) -> float:
    """Return the width of a bar, of which the longest has the value ``most``."""
    if value is None or most <= 0:
        return 0.0
    return round(max(value, 0.0) / most * BAR_WIDTH, 1)  # in this order: 1 by one of the smallest floats is infinite


def _bars(rows: Sequence[FigureRow], figure: str) -> list[FigureBar]:
    """Return the bars of one figure, on the scale of the greatest."""
    pairs = [(_known(row["settled"].get(figure)), _known(row["so_far"].get(figure))) for row in rows]
    most = max((value for pair in pairs for value in pair if value is not None), default=0.0)
    return [FigureBar(*pair, *(_width(value, most) for value in pair)) for pair in pairs]


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
