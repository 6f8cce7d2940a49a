"""Calibration of served rankers: loud where people act otherwise by the same predictions, quiet where those moved."""

import math

import msgspec
import numpy as np
import pytest

from midstream.core.types import Calibration
from midstream.events.served_body import ServedBody, decode_body
from midstream.monitoring.served_calibration import (
    CalibrationDrift,
    CalibrationWatch,
    Forecast,
    RankerVersion,
    forecast_of,
)
from midstream.monitoring.served_drift import DAY_MS, HOUR_MS
from midstream.state.outcomes.outcome_fold import NEVER, OUTCOME, SLATE
from midstream.state.outcomes.outcomes import Slates
from tests.support.events import served_body

NOW = 100 * DAY_MS
CLICK, SEEN = 1, 8
BY = RankerVersion("ranker", "0001-a")
COUNT = 8_000


def day(random: np.random.Generator, chance: np.ndarray, acted: np.ndarray) -> tuple[Slates, dict[int, Forecast]]:
    """Slates of a day, one a user, spread evenly up to an hour ago: what was predicted, and how often people act."""
    count = len(chance)
    slate, outcome = np.zeros(count, dtype=SLATE), np.zeros(2 * count, dtype=OUTCOME)
    slate["user"] = np.arange(1, count + 1)
    slate["log_position"] = 10 + 3 * np.arange(count)
    slate["log_time_ms"] = NOW - HOUR_MS - np.linspace(22 * HOUR_MS, 0, count).astype(np.int64)
    slate["first"], slate["length"] = 2 * np.arange(count), 2
    outcome["bits"] = SEEN
    outcome["acted_after_ms"] = NEVER
    clicked = 2 * np.flatnonzero(random.random(count) < acted)
    outcome["bits"][clicked] |= CLICK
    outcome["acted_after_ms"][clicked] = 1_000
    forecasts = {10 + 3 * number: Forecast(BY, each) for number, each in enumerate(chance.tolist())}
    return Slates(slate, np.zeros(2 * count, dtype=np.uint64), outcome), forecasts


def drift_in(slates: Slates, forecasts: dict[int, Forecast]) -> CalibrationDrift:
    """The only one, of slates that come in two lots."""
    watch, half = CalibrationWatch(CLICK, SEEN, HOUR_MS // 2, NOW), len(slates) // 2
    watch.add(Slates(slates.slate[:half], slates.item_hash, slates.outcome), ["home"] * half)
    watch.add(Slates(slates.slate[half:], slates.item_hash, slates.outcome), ["home"] * (len(slates) - half))
    (found,) = watch.drifts(forecasts)
    return found


def test_people_who_act_otherwise_are_an_alarm() -> None:
    """Half as many acts, or twice, by the same predictions; a tenth less or none less is none, however often."""
    random = np.random.default_rng(5)
    chance = random.uniform(0.1, 0.4, COUNT)
    newest = np.arange(COUNT) >= 3 * COUNT // 4
    for times, is_alarm in ((0.5, True), (1.8, True), (0.9, False)):
        found = drift_in(*day(random, chance, chance * np.where(newest, times, 1.0)))
        assert found.is_alarm == is_alarm, times
        assert found.now / found.before == pytest.approx(times, abs=0.1)
        assert (found.users_now, found.users_before) == (COUNT // 4, 3 * COUNT // 4)
        assert found.low < found.now - found.before < found.high
        assert found.since_ms == NOW - HOUR_MS - int(22 * HOUR_MS * (1 - 3 * COUNT // 4 / (COUNT - 1)))
    assert not any(drift_in(*day(random, chance, chance)).is_alarm for _ in range(50))


def test_acts_behind_none_are_no_alarm() -> None:
    """Where nobody acted before, as where clients did not log acts yet, there is nothing to compare with."""
    random = np.random.default_rng(5)
    newest = np.arange(COUNT) >= 3 * COUNT // 4
    found = drift_in(*day(random, np.full(COUNT, 0.3), np.where(newest, 0.3, 0.0)))
    assert (found.before, found.low > 0.0, found.is_alarm) == (0.0, True, False)


def test_acts_that_were_predicted_are_none() -> None:
    """A click rate that falls by half as the predictions do, by other visitors or items, is no change of people; nor is
    a model that is wrong by the same factor all day.
    """
    random = np.random.default_rng(5)
    newest = np.arange(COUNT) >= 3 * COUNT // 4
    chance = random.uniform(0.2, 0.4, COUNT) * np.where(newest, 0.5, 1.0)
    assert not drift_in(*day(random, chance, chance)).is_alarm
    assert not drift_in(*day(random, chance, 1.7 * chance)).is_alarm


def test_a_version_is_compared_with_itself() -> None:
    """Slates of another version, or of none, are no part of it; too few users say nothing."""
    random = np.random.default_rng(5)
    chance = np.full(COUNT, 0.3)
    slates, forecasts = day(random, chance, np.where(np.arange(COUNT) < COUNT // 2, 0.3, 0.1))
    other = RankerVersion("ranker", "0002-b")
    theirs = {at: Forecast(other if at >= 10 + 3 * COUNT // 2 else BY, 0.3) for at in forecasts}
    watch = CalibrationWatch(CLICK, SEEN, HOUR_MS // 2, NOW)
    watch.add(slates, ["home"] * COUNT)
    found = {each.by: each for each in watch.drifts(theirs)}
    assert [found[each].is_alarm for each in (BY, other)] == [False, False]
    assert found[other].now == pytest.approx(found[other].before, abs=0.1)
    few = {at: each for at, each in forecasts.items() if at < 10 + 3 * 700}
    (alone,) = watch.drifts(few)
    assert (alone.users_now, math.isnan(alone.now), alone.is_alarm) == (175, True, False)
    assert [*watch.drifts({})] == []


def test_slates_of_a_canary_count_for_the_version_at_its_placement() -> None:
    """So a change right after a promotion is seen: the champion of now filled slates of its canary before."""
    random = np.random.default_rng(5)
    chance, first = np.full(COUNT, 0.3), 3 * COUNT // 4
    slates, forecasts = day(random, chance, np.where(np.arange(COUNT) < first, 0.3, 0.1))
    watch = CalibrationWatch(CLICK, SEEN, HOUR_MS // 2, NOW)
    watch.add(slates, ["home@t0001-ranker.candidate"] * first + ["home"] * (COUNT - first))
    (found,) = watch.drifts(forecasts)
    assert (found.placement, found.is_alarm) == ("home", True)


def test_what_nobody_saw_is_no_prediction_that_failed() -> None:
    """Where impressions are logged a first place counts that was seen; young slates and late acts do not count."""
    random = np.random.default_rng(5)
    chance = np.full(COUNT, 0.3)
    slates, forecasts = day(random, chance, chance)
    newest = slice(2 * (3 * COUNT // 4), None, 4)  # every other first place of the newest quarter
    slates.outcome["bits"][newest] = 0
    slates.outcome["acted_after_ms"][newest] = NEVER
    assert not drift_in(slates, forecasts).is_alarm
    assert drift_in(slates, forecasts).users_now == math.ceil(0.25 * (COUNT - COUNT // 8))
    slates.outcome["bits"] &= ~np.uint32(SEEN)  # no client logs impressions: then a slate counts as it is
    assert drift_in(slates, forecasts).is_alarm
    slates.slate["log_time_ms"] = NOW - HOUR_MS // 4
    watch = CalibrationWatch(CLICK, SEEN, HOUR_MS // 2, NOW)
    watch.add(slates, ["home"] * COUNT)
    assert [*watch.drifts(forecasts)] == []


def test_a_forecast_is_of_the_first_place_of_a_calibrated_ranker() -> None:
    """By the line of the version that gave the scores; another scorer, version or page predicts nothing."""
    line = Calibration(slope=1.0, offset=0.0, is_probability=True)
    record = msgspec.structs.replace(
        decode_body(served_body("r", ("a", "b"))),
        scorer="ranker",
        models={"ranker": "0001-a"},
        scores=np.array([0.25, 0.5], dtype="<f4").tobytes(),
        first_position=0,
    )
    found = forecast_of(record, {BY: line})
    assert found is not None
    assert found.by == BY
    assert found.chance == pytest.approx(0.25)
    others: list[ServedBody] = [
        msgspec.structs.replace(record, **changes)
        for changes in (
            {"scorer": "blend"},
            {"models": {"ranker": "0002-b"}},
            {"first_position": 5},
            {"scores": b""},
            {"scores": np.array([np.nan], dtype="<f4").tobytes()},
        )
    ]
    assert [forecast_of(each, {BY: line}) for each in others] == [None] * len(others)
    assert forecast_of(record, {}) is None
