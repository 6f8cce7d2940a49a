"""Units of a running experiment: bounded by a sample that outcomes cannot choose, and one after merges."""

import numpy as np
import pytest

from midstream.engine.experiments.running_units import DAY_MS, RunningUnits
from midstream.engine.experiments.unit_events import Askers, Exposures, UnitActs
from midstream.evaluation.experiments.grouping import CROSSED
from midstream.experiments.metrics import BUILT_IN

NAMES = (*BUILT_IN, "purchase")
PURCHASE = NAMES.index("purchase")


def ids(seed: int, count: int) -> np.ndarray:
    """Return hashes of units."""
    return np.random.default_rng(seed).integers(1, 1 << 63, count, dtype=np.uint64)


def exposed(units: RunningUnits, unit: np.ndarray, variant: np.ndarray, at_ms: int = 0) -> None:
    """Give each of some units a slate."""
    nobody = Askers(unit, np.zeros_like(unit))
    empty = np.zeros(len(unit), dtype=np.bool_)
    took_us = np.full(len(unit), np.nan)
    units.expose(unit, variant, Exposures(nobody, variant, np.full(len(unit), at_ms, dtype=np.int64), empty, took_us))
    while units.shrink(700):
        pass


def acted(units: RunningUnits, unit: np.ndarray, at_ms: int = 1) -> None:
    """Have each of some units purchase for 2."""
    nobody = Askers(unit, np.zeros_like(unit))
    column, value = np.full(len(unit), PURCHASE, dtype=np.intp), np.full(len(unit), 2.0)
    units.count(unit, UnitActs(nobody, column, value, np.full(len(unit), at_ms, dtype=np.int64), np.arange(len(unit))))


def test_units_are_bounded_by_a_sample_of_all_that_come() -> None:
    """As many as the maximum at most, whichever came first; who is in it had all its slates and acts counted."""
    unit = ids(1, 44_000)
    variant = (unit % np.uint64(2)).astype(np.int16)
    units = RunningUnits(0, NAMES, 2, 5_000)
    for start in range(0, len(unit), 1_000):
        exposed(units, unit[start : start + 1_000], variant[start : start + 1_000], start)
        acted(units, unit[: start + 1_000 : 5], start + 1)
        assert len(units) <= 5_000
    table = units.table()
    assert units.halvings == 4  # 44,000 are 2,750 sixteens
    assert len(table.unit) == pytest.approx(2_750, rel=0.1)
    place = np.searchsorted(np.sort(unit), table.unit)
    came = np.argsort(unit)[place]
    assert came.mean() == pytest.approx(22_000, rel=0.05)  # early ones and late ones alike
    expected = np.where(came % 5 == 0, np.ceil((44_000 - came // 1_000 * 1_000) / 1_000), 0.0)
    assert np.array_equal(table.columns[PURCHASE], expected)
    assert np.array_equal(table.columns[NAMES.index("value")], 2.0 * expected)
    assert tuple(units.slates) == tuple(np.bincount(variant))
    share = (table.variant == 0).mean()
    assert share == pytest.approx(0.5, abs=0.04)


def test_a_smaller_sample_is_drawn_in_slices() -> None:
    """No call looks at more rows than it may; whatever the slices, the same units are left."""
    unit, variant = ids(6, 3_000), np.zeros(3_000, dtype=np.int16)
    asked, at_ms, took_us = Askers(unit, np.zeros_like(unit)), np.zeros(3_000, dtype=np.int64), np.full(3_000, np.nan)
    left: list[set[int]] = []
    for rows in (1, 64, 10_000):
        units = RunningUnits(0, NAMES, 2, 1_000)
        units.expose(unit, variant, Exposures(asked, variant, at_ms, np.zeros(3_000, dtype=np.bool_), took_us))
        had, is_more = len(units), True
        while is_more:
            is_more = units.shrink(rows)
            assert had - len(units) <= rows
            had = len(units)
        assert units.halvings == 2
        left.append(set(units.table().unit.tolist()))
    assert left[0] == left[1] == left[2]
    assert len(left[0]) == pytest.approx(750, rel=0.1)


def test_acts_count_from_the_first_slate_on_and_days_from_the_start() -> None:
    """What came before is not an outcome, and of strangers nothing is kept."""
    unit = ids(2, 3)
    units = RunningUnits(DAY_MS, NAMES, 2, 100)
    acted(units, unit, 5)
    exposed(units, unit[:2], np.array([0, 1], dtype=np.int16), 2 * DAY_MS)
    acted(units, unit, 2 * DAY_MS - 1)
    acted(units, unit, 2 * DAY_MS)
    table = units.table()
    assert table.unit.tolist() == unit[:2].tolist()
    assert table.columns[PURCHASE].tolist() == [1.0, 1.0]
    assert table.first_day.tolist() == [1, 1]


def test_a_unit_of_two_variants_is_in_none() -> None:
    """In one piece or in two, and slates of other experiments are none of its."""
    unit = ids(3, 3)
    units = RunningUnits(0, NAMES, 2, 100)
    exposed(units, unit[[0, 0, 1, 2]], np.array([0, 1, 1, -1], dtype=np.int16))
    exposed(units, unit[[1]], np.array([1], dtype=np.int16))
    assert units.table().variant.tolist() == [CROSSED, 1]
    exposed(units, unit[[1]], np.array([0], dtype=np.int16))
    assert units.table().variant.tolist() == [CROSSED, CROSSED]
    assert units.table().columns[0].tolist() == [2.0, 3.0]


def table_of(units: RunningUnits) -> dict[int, tuple[int, int, list[float]]]:
    """Unit to its variant, first day and sums."""
    table = units.table()
    sums = table.columns.T.tolist()
    return {
        int(unit): (int(v), int(day), s)
        for unit, v, day, s in zip(table.unit, table.variant, table.first_day, sums, strict=True)
    }


@pytest.mark.parametrize("seed", range(4))
def test_merged_units_are_those_that_had_one_id_from_the_start(seed: int) -> None:
    """Whatever rows they had: the last one, the first, several in turn; others are as they were."""
    dice = np.random.default_rng(seed)
    unit = ids(seed, 300)
    into = np.where(dice.random(300) < 0.5, unit[dice.integers(0, 40, 300)], unit)
    into[:40] = unit[:40]
    variant = (into % np.uint64(2)).astype(np.int16)
    variant[:5] = 1 - variant[:5]
    late, at_once = RunningUnits(0, NAMES, 2, 10_000), RunningUnits(0, NAMES, 2, 10_000)
    for day in range(3):
        chosen = np.flatnonzero(dice.random(300) < 0.5)
        exposed(late, unit[chosen], variant[chosen], day * DAY_MS)
        exposed(at_once, into[chosen], variant[chosen], day * DAY_MS)
        known = np.isin(unit, late.table().unit)
        acted(late, unit[known], day * DAY_MS + 1)
        acted(at_once, into[known], day * DAY_MS + 1)
    is_alias = into != unit
    is_changed = [late.unite(unit[is_alias][at : at + 7], into[is_alias][at : at + 7]) for at in range(0, 300, 7)]
    assert is_changed[0]
    assert not late.unite(unit[is_alias], into[is_alias])
    assert table_of(late) == table_of(at_once)
    exposed(late, unit[:40], variant[:40], 9 * DAY_MS)
    exposed(at_once, unit[:40], variant[:40], 9 * DAY_MS)
    assert table_of(late) == table_of(at_once)


def test_a_unit_of_a_sample_stays_in_it_by_the_id_that_it_has_now() -> None:
    """A merged unit is kept where its id is of the sample, as each later slate of that id is."""
    unit = ids(9, 9_000)
    units = RunningUnits(0, NAMES, 2, 2_000)
    exposed(units, unit, np.zeros(9_000, dtype=np.int16))
    kept = units.table().unit
    others = ids(10, len(kept))
    units.unite(kept, others)
    after = units.table().unit
    assert set(after.tolist()) < set(others.tolist())
    assert len(after) == pytest.approx(len(kept) / 2**units.halvings, rel=0.4)


def test_a_unit_counts_on_its_first_day_until_another_variant() -> None:
    """Where shares move: in the variant of its first slate, whatever it saw and did on later days."""
    unit = ids(4, 3)
    units = RunningUnits(0, NAMES, 2, 100, is_first_day=True)
    first, other = np.zeros(3, dtype=np.int16), np.ones(3, dtype=np.int16)
    exposed(units, unit, first, DAY_MS + 10)
    acted(units, unit, DAY_MS + 11)
    exposed(units, unit[:1], other[:1], DAY_MS + 12)
    acted(units, unit, DAY_MS + 12)
    acted(units, unit, 2 * DAY_MS - 1)
    exposed(units, unit[1:], other[1:], 2 * DAY_MS)
    exposed(units, unit[2:], first[2:], 2 * DAY_MS)
    acted(units, unit, 2 * DAY_MS)
    table = units.table()
    assert table.variant.tolist() == [0, 0, 0]
    assert table.first_day.tolist() == [1, 1, 1]
    counts = dict(zip(table.unit.tolist(), table.columns[PURCHASE].tolist(), strict=True))
    assert [counts[each] for each in unit.tolist()] == [1.0, 3.0, 3.0]
    assert table.columns[NAMES.index("slates")].tolist() == [1.0, 1.0, 1.0]


def test_units_that_are_merged_keep_the_first_of_their_days() -> None:
    """Where shares move: the earlier one decides variant and day; the later one counts where it had the same."""
    unit = ids(5, 6)
    units = RunningUnits(0, NAMES, 2, 100, is_first_day=True)
    variant = np.array([0, 0, 0, 1, 1, 1], dtype=np.int16)
    for number, at_ms in enumerate((5, 9, DAY_MS, 7, 8, DAY_MS + 1)):
        exposed(units, unit[[number]], variant[[number]], at_ms)
    acted(units, unit, 100)
    acted(units, unit, DAY_MS + 100)
    units.unite(unit[[1, 0, 5]], unit[[0, 3, 2]])  # 1 into 0 (same), that into 3 (another, later), 5 into 2 (another)
    found = table_of(units)
    assert found.keys() == {int(each) for each in unit[[3, 4, 2]]}
    assert found[int(unit[3])][:2] == (0, 0)
    assert found[int(unit[3])][2][PURCHASE] == 2.0
    assert found[int(unit[2])][:2] == (0, 1)
    acted(units, unit[[3]], 200)
    assert table_of(units)[int(unit[3])][2][PURCHASE] == 2.0  # behind the first slate of another variant, at 7
