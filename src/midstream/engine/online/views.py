"""Views of online metrics, for HTTP, health and gauges: rows of figures, and what has drifted."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from midstream.core.durations import format_duration
from midstream.feedback.live_windows import LiveFigures
from midstream.feedback.online_metrics import MetricRow, SlateFigures
from midstream.feedback.outcome_hours import HourSeries
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


class OnlineHours(msgspec.Struct, frozen=True):
    """Outcomes of one placement by hour of log time, as JSON has them; null = no action is configured for it."""

    placement: str | None
    """null = all placements together."""
    begin: int
    """At which the first hour begins; all lists go by hours of UTC from there, to the running one."""
    slates: tuple[int, ...]
    impressions: tuple[int, ...]
    clicks: tuple[int, ...] | None
    """Positions that were seen and clicked."""
    conversions: tuple[int, ...] | None
    """Slates with a conversion."""
    revenue: tuple[float, ...] | None


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
    hours: tuple[OnlineHours, ...] = ()
    """Outcomes so far of the last seven days: of all placements, then of each with a series, most slates first."""
    settle_ms: int = 0
    """Age from which a slate is settled."""


NOTHING: Final = OnlineView(0, (), (), 0, 0)


def view_of(
    found: LiveFigures,
    drifts: Sequence[ScoreDrift | RateDrift | CalibrationDrift],
    hours: Sequence[HourSeries],
    settle_ms: int,
) -> OnlineView:
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
    drift, by_hour = tuple(map(_drift, drifts)), tuple(map(_hours, hours))
    return OnlineView(found.now_ms, rows, drift, found.unread, found.left_out, by_hour, settle_ms)


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
    change = "up from none" if each.figure is None else f"{each.figure:+.0%}"
    if each.of == CALIBRATION:
        return f"acts on what {each.model} puts first in {each.placement} are {change} by its predictions"
    return f"the {each.of} rate of {each.placement} is {change} against the days before"


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


def _hours(series: HourSeries) -> OnlineHours:
    revenue = None if series.revenue is None else tuple(series.revenue.tolist())
    counts = (series.slates, series.impressions, series.clicks, series.conversions)
    whole = [None if each is None else tuple(each.astype(np.int64).tolist()) for each in counts]
    slates, impressions, clicks, conversions = whole
    return OnlineHours(series.placement, series.begin_ms, slates or (), impressions or (), clicks, conversions, revenue)


def _document(figures: SlateFigures) -> dict[str, float | int | None]:
    return {name: _known(getattr(figures, name)) for name in SlateFigures.__dataclass_fields__}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
