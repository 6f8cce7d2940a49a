"""Outcomes by hour against plain loops over the slates: every sum of every hour, whatever the lots."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.feedback import outcome_hours
from midstream.feedback.outcome_hours import HOUR_MS, HOURS, OutcomeHours
from midstream.state.outcomes.slate_groups import base_placement
from tests.feedback.test_online_metrics import CART, CLICK, OPTIONS, ORDER, POSITION, SEEN, Told, columns_of

NOW = 400 * HOUR_MS + 1_234
FIRST = (400 - HOURS + 1) * HOUR_MS
SLATES = st.lists(
    st.builds(
        Told,
        st.sampled_from([FIRST - 1, FIRST, FIRST + HOUR_MS - 1, FIRST + HOUR_MS, NOW, NOW + 1]) | st.integers(0, NOW),
        st.sampled_from(["home", "home@size.few", "home@size.as-is", "cart"]),
        st.just(0),
        st.lists(POSITION, max_size=4, unique_by=lambda each: each[0]),
    ),
    max_size=8,
)


def series_of(slates, lot):
    """The series of slates that came in lots of a size, by placement."""
    hours = OutcomeHours(replace(OPTIONS, now_ms=NOW))
    for start in range(0, len(slates), lot):
        some = slates[start : start + lot]
        hours.add(columns_of(some)[0], [each.placement for each in some])
    return hours.series()


def sums_of(slates):
    """Placement, hour → slates, positions seen, those clicked, slates with an order, their revenue."""
    found: defaultdict[Any, list[float]] = defaultdict(lambda: [0.0] * 5)
    for told in slates:
        if not FIRST <= told.served_ms <= NOW:
            continue
        acts = [(bits, 0.0 if np.isnan(value) else value) for _, bits, value in told.positions]
        own = (
            1,
            sum(bool(bits & SEEN) for bits, _ in acts),
            sum(bool(bits & SEEN and bits & (CLICK | CART)) for bits, _ in acts),
            any(bits & ORDER for bits, _ in acts),
            sum(value for bits, value in acts if bits & ORDER),
        )
        for name in (None, base_placement(told.placement)):
            sums = found[name, told.served_ms // HOUR_MS]
            for place, value in enumerate(own):
                sums[place] += value
    return found


@given(SLATES, st.integers(1, 8))
def test_sums_are_those_of_the_slates(slates, lot):
    """Of each hour and placement, a variant counted for its placement; nothing before the first hour or after now."""
    expected = sums_of(slates)
    series = series_of(slates, lot)
    assert {each.placement for each in series} == {name for name, _ in expected}
    hours = range(min((hour for _, hour in expected), default=0), NOW // HOUR_MS + 1)
    for each in series:
        columns = (each.slates, each.impressions, each.clicks, each.conversions, each.revenue)
        assert each.begin_ms == hours[0] * HOUR_MS
        assert {len(column) for column in columns} == {len(hours)}
        for place, hour in enumerate(hours):
            sums = [column[place] for column in columns]
            np.testing.assert_allclose(sums, expected.get((each.placement, hour), [0.0] * 5))


def test_placements_are_bounded(monkeypatch):
    """Those with most slates have series of their own; the first series has all, also those without."""
    monkeypatch.setattr(outcome_hours, "PLACEMENTS_MAX", 2)
    slates = [Told(NOW, name, 0, [(1, SEEN, 0.0)]) for name in ("a", "b", "b", "c", "c", "c")]
    assert [(each.placement, each.slates.sum()) for each in series_of(slates, 4)] == [(None, 6), ("c", 3), ("b", 2)]


def test_no_slate_has_no_series():
    """Neither without any, nor with old ones alone."""
    assert series_of([], 1) == ()
    assert series_of([Told(FIRST - 1, "home", 0, [])], 1) == ()
