"""Views of online metrics, for HTTP, health and gauges: rows of figures, and what has drifted."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from midstream.core.durations import format_duration
from midstream.feedback.live_windows import LiveFigures
from midstream.feedback.online_metrics import MetricRow, SlateFigures
from midstream.feedback.slate_labels import models_label
from midstream.monitoring.online_gauges import DriftRow, OnlineRow
from midstream.monitoring.served_calibration import CalibrationDrift
from midstream.monitoring.served_drift import RateDrift, ScoreDrift

CALIBRATION: Final = "calibration"
SEGMENT: Final = "context."
"""Begin of the names of labels that are segments; their values come from callers, and are in no gauge."""


class OnlineFigureRow(msgspec.Struct, frozen=True):
    """Figures of one value of one label in one window, as JSON has them; null = the denominator is 0."""

    window: str
    label: str
    value: str
    slates: int
    open: int
    """Slates that are not settled."""
    so_far: Mapping[str, float | int | None]
    """Of all slates."""
    settled: Mapping[str, float | int | None]
    """Of settled ones."""


class OnlineDrift(msgspec.Struct, frozen=True):
    """Drift of the scores, of a rate or of the calibration of one placement."""

    placement: str
    of: str
    """``score``, ``click``, ``conversion`` or ``calibration``."""
    model: str
    """Of scores: name and version of each model; of a calibration: those of the ranker."""
    figure: float | None
    """Of scores the stability index, of a rate or a calibration its relative change; null = too few."""
    low: float | None
    """Of a change: bounds at all looks, relative to what was before."""
    high: float | None
    alarm: bool
    since: int | None = None
    """Of a calibration: log time of the first slate that is of now."""


class OnlineView(msgspec.Struct, frozen=True):
    """Newest figures."""

    now: int
    """Log time at which windows end; 0 = there was no round with slates yet."""
    rows: tuple[OnlineFigureRow, ...]
    drift: tuple[OnlineDrift, ...]
    unread: int
    """Slates whose records are not read yet: in no figure."""
    left_out: int
    """Slates for which there was no room."""


NOTHING: Final = OnlineView(0, (), (), 0, 0)


def view_of(found: LiveFigures, drifts: Sequence[ScoreDrift | RateDrift | CalibrationDrift]) -> OnlineView:
    """Return the figures of a round."""
    rows = tuple(
        OnlineFigureRow(
            format_duration(each.window_ms),
            each.label,
            each.value,
            each.so_far.slates,
            each.open,
            _document(each.so_far),
            _document(each.settled),
        )
        for each in found.rows
    )
    return OnlineView(found.now_ms, rows, tuple(map(_drift, drifts)), found.unread, found.left_out)


def gauge_rows(found: LiveFigures) -> list[OnlineRow]:
    """Return the rows that have gauges; rates are those of settled slates."""
    return [_gauge_row(each) for each in found.rows if not each.label.startswith(SEGMENT)]


def drift_rows(view: OnlineView) -> list[DriftRow]:
    """Return the drifts that have gauges."""
    return [
        DriftRow(each.placement, each.of, math.nan if each.figure is None else each.figure, each.alarm)
        for each in view.drift
    ]


def in_words(each: OnlineDrift) -> str:
    """Return an alarm as health says it."""
    if each.of == "score":
        return f"scores of {each.placement} are not those of the day before (PSI {each.figure:.2f})"
    if each.of == CALIBRATION:
        return f"acts on what {each.model} puts first in {each.placement} are {each.figure:+.0%} by its predictions"
    return f"the {each.of} rate of {each.placement} is {each.figure:+.0%} against the days before"


def _gauge_row(row: MetricRow) -> OnlineRow:
    so_far, settled = row.so_far, row.settled
    figures = (
        *(so_far.slates, row.open, settled.click_rate, settled.conversion_rate, settled.revenue_per_slate),
        *(settled.revenue_per_session, so_far.coverage, so_far.novelty, so_far.repeat_rate),
    )
    return OnlineRow(format_duration(row.window_ms), row.label, row.value, figures)


def _drift(found: ScoreDrift | RateDrift | CalibrationDrift) -> OnlineDrift:
    if isinstance(found, ScoreDrift):
        return OnlineDrift(found.placement, "score", found.model, _known(found.psi), None, None, found.is_alarm)
    if isinstance(found, CalibrationDrift):
        of, model, now, since = CALIBRATION, models_label(dict([found.by])), found.now, found.since_ms
    else:
        of, model, now, since = found.rate, "", found.today, None
    before = found.before or math.nan
    change, low, high = (_known(each / before) for each in (now - found.before, found.low, found.high))
    return OnlineDrift(found.placement, of, model, change, low, high, found.is_alarm, since)


def _document(figures: SlateFigures) -> dict[str, float | int | None]:
    return {name: _known(getattr(figures, name)) for name in SlateFigures.__dataclass_fields__}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
