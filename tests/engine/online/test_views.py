"""Views of drifts: words of alarms, also where there is no relative change."""

import pytest

from midstream.engine.online.views import in_words, view_of
from midstream.feedback.live_windows import LiveFigures
from midstream.monitoring.served_drift import RateDrift


@pytest.mark.parametrize("before, change", [(0.1, "+50%"), (0.0, "up from none")])
def test_an_alarm_is_told_also_behind_a_rate_of_zero(before: float, change: str) -> None:
    """The first clicks ever are an alarm without a relative change: health reads its words."""
    drift = RateDrift("home", "click", before + 0.05, before, 0.04, 0.06, 300, 900)
    assert drift.is_alarm
    (seen,) = view_of(LiveFigures(1, (), 0, 0), [drift], (), 1).drift
    assert (seen.alarm, seen.figure is None) == (True, not before)
    assert in_words(seen) == f"the click rate of home is {change} against the days before"
