"""Shares that move, in worlds of heavy and light users: equal variants stay alike, and a better one gets its share."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.engine.experiments.running_units import DAY_MS, RunningUnits
from midstream.engine.experiments.unit_events import Askers, Exposures, UnitActs
from midstream.evaluation.experiments.grouping import UnitTable
from midstream.evaluation.experiments.posterior import VariantPosterior, posterior_of
from midstream.experiments.assignment import BUCKETS
from midstream.experiments.metrics import BUILT_IN
from midstream.experiments.reallocation import SHARE_MIN, whole_shares

NAMES = (*BUILT_IN, "click")
CLICK = NAMES.index("click")
USERS, DAYS, SEEDS = 3_000, 14, 200
ACTIVE = {True: 0.9, False: 0.06}
"""Probability that a heavy and a light user come on a day; one of ten is heavy."""
CLICKS = {True: 0.5, False: 0.05}
"""Probability that one who came clicks on that day."""


@dataclass(frozen=True)
class World:
    """An experiment at its end."""

    found: tuple[VariantPosterior, ...]
    table: UnitTable
    shares: list[float]
    """Of the second variant, after each day."""
    leader: int
    """Variant that had the larger share after the first day."""


def world(seed: int, lift: float = 0.0) -> World:
    """Let users come and click for some days, with shares that move after each; the second variant has more clicks."""
    dice = np.random.default_rng(seed)
    unit = dice.integers(1, 1 << 63, USERS, dtype=np.uint64)
    bucket = dice.integers(0, BUCKETS, USERS)
    is_heavy = np.arange(USERS) < USERS // 10
    active, clicks = (np.where(is_heavy, each[True], each[False]) for each in (ACTIVE, CLICKS))
    units = RunningUnits(0, NAMES, 2, 10 * USERS, is_first_day=True)
    shares, first, moves = 0.5, 0.5, []
    found: tuple[VariantPosterior, ...] = ()
    for day in range(DAYS):
        came = np.flatnonzero(dice.random(USERS) < active)
        variant = (bucket[came] >= (1.0 - shares) * BUCKETS).astype(np.int16)
        at_ms = np.sort(dice.integers(day * DAY_MS, (day + 1) * DAY_MS - 1, len(came)))
        asked = Askers(unit[came], np.zeros_like(unit[came]))
        units.expose(
            unit[came],
            variant,
            Exposures(asked, variant, at_ms, np.zeros(len(came), dtype=np.bool_), np.full(len(came), np.nan)),
        )
        clicked = dice.random(len(came)) < clicks[came] * (1.0 + lift * variant)
        acted(units, unit[came][clicked], at_ms[clicked] + 1)
        found = posterior_of(units.table(), CLICK, 2, SHARE_MIN)
        shares = whole_shares([each.share for each in found])[1] / BUCKETS
        first = first if day else shares
        moves.append(shares)
    return World(found, units.table(), moves, int(first > 0.5))


def acted(units: RunningUnits, unit: NDArray[np.uint64], at_ms: NDArray[np.int64]) -> None:
    """Have units click."""
    column, value = np.full(len(unit), CLICK, dtype=np.intp), np.zeros(len(unit))
    units.count(unit, UnitActs(Askers(unit, np.zeros_like(unit)), column, value, at_ms, np.arange(len(unit))))


def evidence(world: World) -> float:
    """Return what units from the second day on say for the variant that led: differences of days, by n m / (n + m).

    Whatever shares did before, each day's difference is 0 on the mean where the variants are equal.
    """
    table = world.table
    kept = table.first_day > 0
    cell = table.first_day[kept].astype(np.int64) * 2 + table.variant[kept]
    units = np.bincount(cell, minlength=2 * DAYS).reshape(-1, 2)
    good = np.bincount(cell, table.columns[CLICK, kept] > 0, minlength=2 * DAYS).reshape(-1, 2)
    units, good = units[units.all(axis=1)], good[units.all(axis=1)]
    for_second = (good[:, 1] * units[:, 0] - good[:, 0] * units[:, 1]) / units.sum(axis=1)
    return float(for_second.sum()) * (1 if world.leader else -1)


@pytest.fixture(scope="module")
def equal() -> list[World]:
    """Worlds in which both variants are the same."""
    return [world(seed) for seed in range(SEEDS)]


def about(values: list[float], expected: float) -> bool:
    """Whether the mean of values is within three standard errors."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return bool(abs(float(np.mean(values)) - expected) <= 3.0 * error)


def test_equal_variants_have_equal_shares_on_the_mean(equal: list[World]) -> None:
    """Of traffic, and of their posterior means; users who do not come back count for nobody's favour."""
    assert about([each.shares[-1] for each in equal], 0.5)
    rates = [(each.found[0].rate, each.found[1].rate) for each in equal]
    assert about([b - a for a, b in rates if a is not None and b is not None], 0.0)


def test_equal_variants_part_no_more_often_than_chance_alone_has_it(equal: list[World]) -> None:
    """One is the best by 97.5 % in some 5 % of worlds at the end; with all days, and who stays behind, in a half."""
    assert np.mean([max(each.best for each in one.found) >= 0.975 for one in equal]) <= 0.1


def test_the_variant_that_led_first_is_no_better_by_later_units(equal: list[World]) -> None:
    """Neither by who stays in which variant, nor by who comes on which day."""
    assert about([evidence(each) for each in equal], 0.0)


def test_a_better_variant_gets_four_fifths_within_a_week() -> None:
    """With a third more clicks, of 430 new units on the first day and 150 on each later one: in 9 of 10 worlds."""
    had = [any(share >= 0.8 for share in world(seed, 1 / 3).shares[:7]) for seed in range(60)]
    assert np.mean(had) >= 0.9
