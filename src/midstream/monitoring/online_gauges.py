"""Gauges of online metrics and of drift, set as a whole after each round.

Labels are windows, names of placements and of models, and tiers; segments, whose values callers send, are not among
them. At most ``SERIES_MAX`` rows have gauges, those with most slates first.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SERIES_MAX: Final = 512
"""Rows with gauges: 10 series each, 1 MB of text."""
FIGURES: Final = (
    ("slates", "Slates of the window."),
    ("open_slates", "Of these slates, those that are not settled."),
    ("click_rate", "Positions that were seen and clicked, of those that were seen; settled slates."),
    ("conversion_rate", "Slates with a conversion; settled ones."),
    ("revenue_per_slate", "Value of conversions a slate; settled ones."),
    ("revenue_per_session", "Value of conversions a session; settled slates."),
    ("coverage", "Distinct items of the catalogue in slates."),
    ("novelty_bits", "Mean self-information of the items."),
    ("repeat_rate", "Positions whose item an earlier slate of the session had."),
)


class OnlineRow(NamedTuple):
    """One row of the gauges: labels, then ``FIGURES`` in order; NaN = not known."""

    window: str
    label: str
    value: str
    figures: tuple[float, ...]


class DriftRow(NamedTuple):
    """One figure of drift."""

    placement: str
    of: str
    """``score``, ``click``, ``conversion`` or ``calibration``."""
    figure: float
    """Of scores the index, else the relative change; NaN = not known."""
    is_alarm: bool


class OnlineGauges(Collector):
    """Families of gauges; before the first round there are no series."""

    def __init__(self) -> None:
        """Begin without any series."""
        self._rows: tuple[OnlineRow, ...] = ()
        self._drifts: tuple[DriftRow, ...] = ()
        self._unread = self._left_out = 0

    def set(self, rows: Sequence[OnlineRow], drifts: Iterable[DriftRow], unread: int, left_out: int) -> None:
        """Replace all of them."""
        self._rows = tuple(sorted(rows, key=lambda each: -each.figures[0])[:SERIES_MAX])
        self._drifts = tuple(drifts)[:SERIES_MAX]
        self._unread, self._left_out = unread, left_out + max(0, len(rows) - SERIES_MAX)

    def collect(self) -> Iterable[Metric]:
        """Yield the families, samples ordered by their labels."""
        for number, (name, documentation) in enumerate(FIGURES):
            family = GaugeMetricFamily(f"midstream_online_{name}", documentation, labels=("window", "label", "value"))
            for each in sorted(self._rows):
                if not math.isnan(each.figures[number]):
                    family.add_metric(each[:3], each.figures[number])
            yield family
        drift = GaugeMetricFamily(
            "midstream_online_drift", "Served scores (PSI), rates (change).", labels=("placement", "of")
        )
        alarm = GaugeMetricFamily("midstream_online_alarm", "1 = its drift is an alarm.", labels=("placement", "of"))
        worst: dict[tuple[str, str], DriftRow] = {}
        for row in self._drifts:
            had = worst.get(row[:2])
            if had is None or row.is_alarm > had.is_alarm:
                worst[row[:2]] = row
        for labels, row in sorted(worst.items()):
            if not math.isnan(row.figure):
                drift.add_metric(labels, row.figure)
            alarm.add_metric(labels, float(row.is_alarm))
        yield from (drift, alarm)
        behind = GaugeMetricFamily("midstream_online_behind", "Slates and rows in no gauge.", labels=("why",))
        behind.add_metric(("unread",), self._unread)
        behind.add_metric(("left_out",), self._left_out)
        yield behind
