"""Online metrics by windows and labels against plain loops, with what is still open told apart."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.feedback import online_metrics
from midstream.feedback.online_metrics import MetricOptions, OnlineMetrics, SlateFigures, SlateLabels
from midstream.state.outcomes.outcome_fold import OUTCOME, SLATE
from midstream.state.outcomes.outcomes import Slates

CLICK, CART, ORDER, SEEN = 1, 2, 4, 8
NOW, HOUR = 1_000, 100
OPTIONS = MetricOptions(
    now_ms=NOW,
    windows_ms=(HOUR, 5 * HOUR),
    settle_ms=60,
    seen=SEEN,
    clicks=CLICK | CART,
    conversions=ORDER,
    items_count=10,
)
PLACEMENTS = ["home", "cart"]


@dataclass
class Told:
    """One slate and what followed."""

    served_ms: int
    placement: str
    session: int
    positions: list[Any] = field(default_factory=list)
    """(item, bits, value) of each."""


POSITION = st.tuples(st.integers(1, 5), st.integers(0, 15), st.sampled_from([math.nan, 0.0, 2.5, 40.0]))
SLATES = st.lists(
    st.builds(
        Told,
        st.sampled_from([NOW - age for age in (501, 500, 499, 101, 100, 99, 61, 60, 59, 0, -1)])
        | st.integers(NOW - 6 * HOUR, NOW + 10),
        st.sampled_from(PLACEMENTS),
        st.integers(0, 2),
        st.lists(POSITION, max_size=4, unique_by=lambda each: each[0]),
    ),
    max_size=8,
).map(lambda slates: sorted(slates, key=lambda each: each.served_ms))


def columns_of(slates):
    """Slates as the join gives them, their positions with a gap before each."""
    slate = np.zeros(len(slates), dtype=SLATE)
    first = 0
    hashes, outcomes = [], []
    for number, told in enumerate(slates):
        first += 1
        hashes.append(0)
        outcomes.append((9.0, 15))
        slate[number]["log_time_ms"], slate[number]["first"] = told.served_ms, first
        slate[number]["length"] = len(told.positions)
        first += len(told.positions)
        hashes += [item for item, _, _ in told.positions]
        outcomes += [(value, bits) for _, bits, value in told.positions]
    outcome = np.zeros(len(outcomes), dtype=OUTCOME)
    for number, (value, bits) in enumerate(outcomes):
        outcome[number]["value"], outcome[number]["bits"] = value, bits
    labels = SlateLabels(
        {"placement": [told.placement for told in slates], "all": ["all"] * len(slates)},
        np.array([told.session for told in slates], dtype=np.uint64),
    )
    return Slates(slate, np.array(hashes, dtype=np.uint64), outcome), labels


def metrics_of(slates, sizes=(3,), options=OPTIONS):
    """Metrics of slates that come some at a time."""
    found, start = OnlineMetrics(options), 0
    for size in (*sizes, len(slates)):
        found.add(*columns_of(slates[start : start + size]))
        start += size
    return found


def ratio(part, whole):
    """A figure without a denominator is NaN."""
    return part / whole if whole else math.nan


def figures_of(mine, window):
    """The figures of some slates of a window, one slate after another."""
    shares = Counter(item for told in window for item, _, _ in told.positions)
    whole = sum(shares.values())
    repeated = {id(told): 0 for told in window}
    had: defaultdict[Any, set[Any]] = defaultdict(set)
    for told in window:
        items = {item for item, _, _ in told.positions}
        repeated[id(told)] = len(items & had[told.session])
        had[told.session] |= items
    positions = [each for told in mine for each in told.positions]
    seen = [bits for _, bits, _ in positions if bits & SEEN]
    worth = {
        id(told): sum(0 if math.isnan(value) else value for _, bits, value in told.positions if bits & ORDER)
        for told in mine
    }
    known = [told for told in mine if told.session]
    sessions = len({told.session for told in known})
    return SlateFigures(
        slates=len(mine),
        positions=len(positions),
        impressions=len(seen),
        click_rate=ratio(sum(bool(bits & (CLICK | CART)) for bits in seen), len(seen)),
        conversion_rate=ratio(sum(any(bits & ORDER for _, bits, _ in told.positions) for told in mine), len(mine)),
        revenue_per_slate=ratio(sum(worth.values()), len(mine)),
        sessions=sessions,
        revenue_per_session=ratio(sum(worth[id(told)] for told in known), sessions),
        coverage=len({item for item, _, _ in positions}) / 10,
        novelty=ratio(sum(-math.log2(shares[item] / whole) for item, _, _ in positions), len(positions)),
        repeat_rate=ratio(sum(repeated[id(told)] for told in known), sum(len(told.positions) for told in known)),
    )


def same(found, expected):
    """Equal but for rounding."""
    for name in SlateFigures.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), nan_ok=True, abs=1e-12), name


@given(SLATES, st.lists(st.integers(0, 3), max_size=3))
@example([Told(NOW - age, "home", 1, [(1, SEEN, 1.0)]) for age in (500, 499, 100, 99, 61, 60, 59, 0, -1)], [])
def test_figures_are_those_of_plain_loops(slates, sizes):
    """Each window, label and value; settled slates apart; slates of before and of later in none."""
    rows = {(each.window_ms, each.label, each.value): each for each in metrics_of(slates, sizes).rows()}
    expected = set()
    for window_ms in OPTIONS.windows_ms:
        window = [told for told in slates if NOW - window_ms < told.served_ms <= NOW]
        for label, value in [("placement", name) for name in PLACEMENTS] + [("all", "all")]:
            mine = [told for told in window if value in ("all", told.placement)]
            if not mine:
                continue
            expected.add((window_ms, label, value))
            row = rows[window_ms, label, value]
            settled = [told for told in mine if told.served_ms <= NOW - 60]
            assert row.open == len(mine) - len(settled)
            same(row.settled, figures_of(settled, window))
            same(row.so_far, figures_of(mine, window))
    assert rows.keys() == expected


def test_a_late_outcome_moves_the_window_of_its_slate():
    """A purchase that is joined later is in the figures of when its slate was served; then the slate settles."""
    slate = Told(NOW - 50, "home", 1, [(1, SEEN, math.nan)])
    early, _ = metrics_of([slate], options=_at(NOW)).rows()
    assert (early.open, early.settled.slates, early.so_far.conversion_rate) == (1, 0, 0.0)
    assert math.isnan(early.settled.conversion_rate)
    slate.positions = [(1, SEEN | ORDER, 25.0)]
    late, _ = metrics_of([slate], options=_at(NOW + 20)).rows()
    assert (late.open, late.settled.conversion_rate, late.settled.revenue_per_slate) == (0, 1.0, 25.0)


def _at(now_ms):
    return MetricOptions(now_ms, (HOUR,), 60, SEEN, CLICK, ORDER, 10)


def metrics_with(labels, slates, options):
    """Metrics of slates under one label."""
    found = OnlineMetrics(options)
    columns, known = columns_of(slates)
    found.add(columns, SlateLabels({"model": labels}, known.session))
    return found


def test_values_beyond_the_maximum_are_one(monkeypatch):
    """The first ones keep their rows."""
    monkeypatch.setattr(online_metrics, "LABELS_MAX", 3)
    slates = [Told(NOW - number, "home", 1, [(1, SEEN, 1.0)]) for number in range(5, 0, -1)]
    found = {each.value: each.so_far.slates for each in metrics_with(list("abcda"), slates, _at(NOW)).rows()}
    assert found == {"a": 2, "b": 1, "other": 2}


def test_positions_beyond_the_maximum_are_counted(monkeypatch):
    """Nothing is left out without a sign."""
    monkeypatch.setattr(online_metrics, "POSITIONS_MAX", 5)
    slates = [Told(NOW - number, "home", 1, [(1, SEEN, 1.0), (2, SEEN, 1.0)]) for number in (3, 2, 1)]
    found = metrics_of([*slates, Told(NOW - 9 * HOUR, "home", 1, [(1, 0, 1.0)])], sizes=(2,))
    assert found.left_out == 1
    assert {each.so_far.slates for each in found.rows()} == {2}


def test_a_rate_of_no_action_is_unknown():
    """Where no action is a click or a conversion there is no rate, rather than 0."""
    slates = [Told(NOW - 1, "home", 1, [(1, 15, 2.0)])]
    (row,) = metrics_with(["a"], slates, MetricOptions(NOW, (HOUR,), 60, SEEN, 0, 0, 10)).rows()
    figures = row.so_far
    assert (figures.slates, figures.impressions, figures.sessions) == (1, 1, 1)
    for name in ("click_rate", "conversion_rate", "revenue_per_slate", "revenue_per_session"):
        assert math.isnan(getattr(figures, name)), name


def test_no_slate_no_row():
    """Also where all are from before."""
    assert list(OnlineMetrics(OPTIONS).rows()) == []
    assert list(metrics_of([Told(0, "home", 1, [(1, 0, 1.0)])]).rows()) == []


def test_parts_of_a_long_column_give_what_one_sort_gives(monkeypatch):
    """Numbers of values in their order, repeats, and distinct values of each code, by parts and marks or at once."""
    rng = np.random.default_rng(7)
    value = rng.integers(0, 2**64, 400, dtype=np.uint64)[rng.integers(0, 400, 3_000)]
    code = rng.integers(0, 3, 3_000)
    expected = np.unique(value, return_inverse=True)
    seen, repeats = set(), []
    for each in (expected[1] % 300).tolist():
        repeats.append(each in seen)
        seen.add(each)
    distinct = [len(set(value[code == each].tolist())) for each in range(4)]
    for at_once, marks in ((10_000, 1 << 20), (100, 10)):
        monkeypatch.setattr(online_metrics, "SORTED_MAX", at_once)
        monkeypatch.setattr(online_metrics, "MARKS_MAX", marks)
        rests: Counter[str] = Counter()
        count, number = online_metrics._numbered(value, partial(rests.update, "1"))
        assert (count, number.tolist()) == (len(expected[0]), expected[1].tolist())
        assert (rests.total() > 100) == (at_once == 100)
        assert online_metrics._repeated(number % 300, lambda: None).tolist() == repeats
        assert online_metrics._distinct(code, number, 4, lambda: None).tolist() == distinct
