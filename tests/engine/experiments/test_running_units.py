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
    units.expose(unit, variant, Exposures(nobody, variant, np.full(len(unit), at_ms, dtype=np.int64), empty))


def acted(units: RunningUnits, unit: np.ndarray, at_ms: int = 1) -> None:
    """Have each of some units purchase for 2."""
    nobody = Askers(unit, np.zeros_like(unit))
    column, value = np.full(len(unit), PURCHASE, dtype=np.intp), np.full(len(unit), 2.0)
    units.count(unit, UnitActs(nobody, column, value, np.full(len(unit), at_ms, dtype=np.int64)))


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
