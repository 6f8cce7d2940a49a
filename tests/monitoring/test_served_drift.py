"""Drift of served scores and of rates: quiet without a change, loud with one, and bounded."""

import math

import numpy as np
import pytest

from midstream.monitoring import served_drift
from midstream.monitoring.served_drift import DAY_MS, HOUR_MS, RateOptions, RateWatch, ScoreSamples
from midstream.state.outcomes.outcome_fold import NEVER, OUTCOME, SLATE
from midstream.state.outcomes.outcomes import Slates

NOW = 100 * DAY_MS + 12 * HOUR_MS
CLICK, SEEN = 1, 8


def samples(shift: float, random: np.random.Generator, model: str = "m 1") -> ScoreSamples:
    """A day of scores, and two hours of scores that are moved."""
    found = ScoreSamples()
    for hour in range(26):
        moved = shift if hour >= 24 else 0.0
        at_ms = NOW - (25 - hour) * HOUR_MS
        for _ in range(20):
            scores = (random.normal(size=30) + moved).astype(np.float32)
            found.add("home", model if hour < 24 else "m 1", scores, at_ms)
    return found


def test_moved_scores_are_an_alarm_and_others_are_none() -> None:
    """Of 50 days without a change none alarms; a shift of a standard deviation does."""
    random = np.random.default_rng(5)
    for _ in range(50):
        (found,) = samples(0.0, random).drifts(NOW)
        assert not found.is_alarm
    (found,) = samples(1.0, random).drifts(NOW)
    assert found.is_alarm
    assert (found.scores_now, found.scores_before) == (1_200, 24 * 600)


def test_a_promoted_model_begins_anew() -> None:
    """Its scores are compared with none of another's; and an alarm ends with its day."""
    random = np.random.default_rng(5)
    found = {each.model: each for each in samples(3.0, random, "m 0").drifts(NOW)}
    assert set(found) == {"m 1"}
    assert math.isnan(found["m 1"].psi)
    moved = samples(3.0, random)
    assert [each.is_alarm for each in moved.drifts(NOW)] == [True]
    assert [each.is_alarm for each in moved.drifts(NOW + 2 * HOUR_MS)] == []


def test_scores_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hour, by hours and by placement."""
    monkeypatch.setattr(served_drift, "GROUPS_MAX", 2)
    found = ScoreSamples()
    for number in range(4):
        for hour in range(40):
            found.add(f"p{number}", "", np.ones(2_000, dtype=np.float32), hour * HOUR_MS)
    assert [key[0] for key in found._hours] == ["p2", "p3"]
    assert {len(hours) for hours in found._hours.values()} == {26}
    assert {len(each) for hours in found._hours.values() for each in hours.values()} == {1_000}


def slates(random: np.random.Generator, rates: dict[int, float], users: int = 2_000) -> Slates:
    """A slate of two positions a user and day; ``rates`` are by days before today."""
    count = users * len(rates)
    slate, outcome = np.zeros(count, dtype=SLATE), np.zeros(2 * count, dtype=OUTCOME)
    days = np.repeat(np.array(list(rates)), users)
    slate["user"] = np.tile(np.arange(1, users + 1), len(rates))
    slate["log_time_ms"] = NOW - days * DAY_MS - 6 * HOUR_MS
    slate["first"], slate["length"] = 2 * np.arange(count), 2
    outcome["bits"] = SEEN
    outcome["acted_after_ms"] = NEVER
    clicked = 2 * np.flatnonzero(random.random(count) < np.repeat(list(rates.values()), users))
    outcome["bits"][clicked] |= CLICK
    outcome["acted_after_ms"][clicked] = 1_000
    return Slates(slate, np.zeros(2 * count, dtype=np.uint64), outcome)


def drift_in(found: Slates, settle_ms: int = HOUR_MS) -> served_drift.RateDrift:
    """The drift of clicks."""
    watch = RateWatch(RateOptions("click", CLICK, settle_ms, SEEN), NOW)
    half = len(found) // 2
    watch.add(Slates(found.slate[:half], found.item_hash, found.outcome), ["home"] * half)
    watch.add(Slates(found.slate[half:], found.item_hash, found.outcome), ["home"] * (len(found) - half))
    (only,) = watch.drifts()
    return only


def test_a_rate_that_fell_is_an_alarm() -> None:
    """By half it is; by a tenth, or not at all, it is none."""
    random = np.random.default_rng(3)
    before = {3: 0.2, 2: 0.2, 1: 0.2}
    fell = drift_in(slates(random, {**before, 0: 0.1}))
    assert fell.is_alarm
    assert fell.today == pytest.approx(0.1, abs=0.02)
    assert fell.high < 0 < fell.before
    assert drift_in(slates(random, {**before, 0: 0.35})).is_alarm
    assert not drift_in(slates(random, {**before, 0: 0.18})).is_alarm
    assert not any(drift_in(slates(random, {**before, 0: 0.2})).is_alarm for _ in range(50))
    assert math.isnan(drift_in(slates(random, {1: 0.2, 0: 0.0}, users=100)).today)


def test_young_slates_and_late_acts_do_not_count() -> None:
    """A slate counts when it is settled, by what came until it was: so days are alike."""
    random = np.random.default_rng(3)
    found = slates(random, {1: 1.0, 0: 1.0})
    found.outcome["acted_after_ms"] = 2 * HOUR_MS
    assert (drift_in(found).today, drift_in(found).before) == (0.0, 0.0)
    watch = RateWatch(RateOptions("click", CLICK, 10 * HOUR_MS, SEEN), NOW)
    watch.add(slates(random, {0: 1.0}), ["home"] * 2_000)
    assert [*watch.drifts()] == []


def test_slates_of_one_user_are_one_unit() -> None:
    """Twenty slates of each user are no more certain than users are: the interval of their mean is wider."""
    random = np.random.default_rng(3)
    alone = drift_in(slates(random, {1: 0.3, 0: 0.3}))
    found = slates(random, {1: 0.3, 0: 0.3}, users=2_000)
    found.slate["user"] = 1 + found.slate["user"] % 250
    by_user = np.random.default_rng(4).random(251) < 0.3
    clicked = by_user[found.slate["user"].astype(int)]
    found.outcome["bits"][::2] = SEEN | np.where(clicked, CLICK, 0)
    found.outcome["acted_after_ms"][::2] = 1_000
    together = drift_in(found)
    assert together.users_today == 250
    assert together.high - together.low > 2 * (alone.high - alone.low)
