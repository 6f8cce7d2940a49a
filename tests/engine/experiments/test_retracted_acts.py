"""Acts that were taken back, in the watch of experiments: units are those of a log in which the acts never came."""

import random
from pathlib import Path

import numpy as np
import pytest

from midstream.app.inspect.experiment_units import ExperimentSpan, read_units
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of
from midstream.core.types import LogPosition
from midstream.engine.experiments.counted_acts import CountedActs
from midstream.engine.experiments.running_units import DAY_MS, RunningUnits
from midstream.engine.experiments.unit_events import Askers, Exposures, UnitActs
from midstream.engine.experiments.watch import UnitsSeen
from midstream.engine.instance import Instance
from midstream.evaluation.experiments.grouping import UnitTable
from midstream.experiments.metrics import BUILT_IN, VALUE
from midstream.experiments.routing import experiments_in
from tests.app.inspect.test_retracted_outcomes import ACTIONS, random_act, sums_of
from tests.engine.experiments.test_watch import SAID, folder, order, record, run, served, stocked, watch_of

__all__ = ["folder"]
NAMES = (*BUILT_IN, "view", "purchase")
USERS = 20


def columns_of(table: UnitTable) -> list[tuple[object, ...]]:
    """Return unit, variant, day and sums of each unit, by unit."""
    told = (table.unit.tolist(), table.variant.tolist(), table.first_day.tolist(), map(tuple, table.columns.T.tolist()))
    return sorted(zip(*told, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_the_watch_has_the_units_of_the_log(folder: Path, seed: int) -> None:
    """After random acts and retractions, read in pieces that end anywhere; and after a start that reads all anew."""
    dice = random.Random(seed)  # noqa: S311  a test

    async def work(running: Instance) -> UnitsSeen:
        await stocked(running)
        watch = watch_of(running)
        early = [random_act(dice, number, USERS) for number in range(20)]
        await record(running, early)
        await running.experimenting.start("size", order("a", "b", auto_stop=False), SAID)
        await served(running, [f"user-{number}" for number in range(USERS)])
        acts, gone, number = list(early), set[str](), 20
        for _ in range(12):
            new = [random_act(dice, number + place, USERS) for place in range(dice.randrange(1, 15))]
            number += len(new)
            acts += new
            await record(running, new)
            if dice.random() < 0.6:
                await watch.look()
            for each in dice.sample(acts, 4):
                if each["event_id"] not in gone:
                    gone.add(each["event_id"])
                    assert (await running.engine.retractor.by_id(each["event_id"])).retracted == 1
            if dice.random() < 0.6:
                await watch.look()
        await watch.look()
        seen = watch.units_seen("size")
        assert seen is not None
        kept = [each for each in acts[20:] if each["event_id"] not in gone]
        assert 0 < len(kept) < len(acts)
        rows = [seen.names.index(name) for name in (*ACTIONS, VALUE)]
        for place in range(USERS):
            unit = running.engine.fold.vocabulary.user_hash_of(f"user-{place}")
            (at,) = np.flatnonzero(seen.table.unit == unit)
            assert tuple(seen.table.columns[rows, at]) == sums_of(kept, f"user-{place}")
        return seen

    async def again(running: Instance) -> UnitsSeen:
        await watch_of(running).look()
        seen = watch_of(running).units_seen("size")
        assert seen is not None
        return seen

    live = run(folder, work, watches=False)
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    (told,) = experiments_in(fold.placements.current)
    span = ExperimentSpan(LogPosition(told.began_position), told.began_ms)
    units = read_units(log, fold, [each.placement for each in told.variants], span)
    assert units.names == live.names
    assert columns_of(live.table) == columns_of(units.table)
    assert columns_of(run(folder, again, watches=False).table) == columns_of(units.table)


def acts_at(unit: np.ndarray, value: np.ndarray, at_ms: int, position: np.ndarray) -> UnitActs:
    """Return purchases of some units."""
    column = np.full(len(unit), NAMES.index("purchase"), dtype=np.intp)
    times = np.full(len(unit), at_ms, dtype=np.int64)
    return UnitActs(Askers(unit, np.zeros_like(unit)), column, value, times, position)


def slates_at(unit: np.ndarray, variant: np.ndarray, at_ms: int) -> Exposures:
    """Return a slate of each of some units."""
    count = len(unit)
    times = np.full(count, at_ms, dtype=np.int64)
    return Exposures(
        Askers(unit, np.zeros_like(unit)), variant, times, np.zeros(count, np.bool_), np.full(count, np.nan)
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_first_day", [False, True])
@pytest.mark.parametrize("units_max, merges", [(1_000, 0.5), (40, 0.0), (40, 0.5)])
def test_units_give_back_what_they_counted(seed: int, is_first_day: bool, units_max: int, merges: float) -> None:
    """Random slates, acts, merges and retractions: the table is that of the same without the acts.

    In a sample, and where shares move, acts of merged ids may stay; none is subtracted that was not counted.
    """
    dice = np.random.default_rng(seed)
    ids = dice.integers(1, 1 << 63, 60, dtype=np.uint64)
    stands = {int(each): int(each) for each in ids}
    having, lacking = (RunningUnits(0, NAMES, 2, units_max, is_first_day=is_first_day) for _ in range(2))
    gone = set(dice.choice(600, 250, replace=False).tolist())
    held: list[tuple[int, int, float, int]] = []
    position = 0
    for step in range(60):
        at_ms = step * DAY_MS // 20
        unit = np.array([stands[int(each)] for each in dice.choice(ids, 6)], dtype=np.uint64)
        variant = (unit % np.uint64(2)).astype(np.int16)
        variant[dice.random(6) < 0.05] ^= 1
        slates = slates_at(unit, variant, at_ms)
        asked = dice.choice(ids, 10)
        own = np.array([stands[int(each)] for each in asked], dtype=np.uint64)
        value = dice.integers(0, 3, 10).astype(np.float64)
        places = np.arange(position, position + 10)
        kept = ~np.isin(places, list(gone))
        for units, rows in ((having, np.ones(10, np.bool_)), (lacking, kept)):
            units.expose(unit, variant, slates)
            while units.shrink(9):
                pass
            units.count(own[rows], acts_at(own[rows], value[rows], at_ms + 1, places[rows]))
        held += [(int(asked[at]), int(places[at]), float(value[at]), at_ms + 1) for at in np.flatnonzero(~kept)]
        position += 10
        if dice.random() < merges:
            roots = [each for each in ids.tolist() if stands[each] == each]
            other, into = dice.choice(np.array(roots, dtype=np.uint64), 2, replace=False).tolist()
            alias = np.array([each for each, root in stands.items() if root == other], dtype=np.uint64)
            stands |= dict.fromkeys(alias.tolist(), into)
            for units in (having, lacking):
                units.unite(alias, np.full(len(alias), into, dtype=np.uint64))
        while held and (dice.random() < 0.6 or step == 59):
            asker, place, worth, then_ms = held.pop(int(dice.integers(len(held))))
            now = np.array([stands[asker]], dtype=np.uint64)
            act = acts_at(np.array([asker], dtype=np.uint64), np.array([worth]), then_ms, np.array([place]))
            having.take_back(now, act)
            assert not having.take_back(now, act), "once"
    purchases = NAMES.index("purchase")
    assert having.table().columns[purchases].sum() > 0
    if merges and (having.halvings or is_first_day):
        assert having.table().unit.tolist() == lacking.table().unit.tolist()
        assert (having.table().columns >= lacking.table().columns).all()
    else:
        assert columns_of(having.table()) == columns_of(lacking.table())


def test_a_sum_of_no_values_is_nothing() -> None:
    """Values whose sum is rounded leave no rest when all of them are taken back."""
    unit = np.array([5], dtype=np.uint64)
    units = RunningUnits(0, NAMES, 2, 40)
    variant = np.zeros(1, dtype=np.int16)
    units.expose(unit, variant, slates_at(unit, variant, 0))
    acts = [acts_at(unit, np.array([value]), 1, np.array([place])) for place, value in enumerate((0.1, 0.2, 0.3))]
    for each in acts:
        units.count(unit, each)
    for each in acts:
        assert units.take_back(unit, each)
    assert not units.table().columns[[NAMES.index("purchase"), NAMES.index(VALUE)]].any()


def test_no_act_is_subtracted_from_a_unit_that_is_younger() -> None:
    """A merge was forgotten, so the act is no longer that of the unit that counted it: the other one loses nothing."""
    one, other = np.array([1], dtype=np.uint64), np.array([2], dtype=np.uint64)
    value, position, variant = np.array([9.0]), np.array([7]), np.zeros(1, dtype=np.int16)
    units = RunningUnits(0, NAMES, 2, 40)
    units.expose(other, variant, slates_at(other, variant, 1))
    units.unite(one, other)
    units.count(other, acts_at(other, value, 2, position))
    units.expose(one, variant, slates_at(one, variant, 5))
    assert not units.take_back(one, acts_at(one, value, 2, position))
    assert (units.table().columns >= 0.0).all()


def test_counted_acts_are_bounded_by_positions() -> None:
    """Those of the newest positions are remembered, older ones are not; each is found once."""
    counted = CountedActs(1 << 20)
    places = np.arange(0, 1 << 22, 4_099)
    for start in range(0, len(places), 50):
        counted.add(places[start : start + 50])
    assert not counted.remove(places + 1).any()
    found = counted.remove(places)
    is_new = places >= places[-1] - (1 << 20)
    assert found[is_new].all()
    assert not found[places < places[-1] - (1 << 20) - (1 << 18)].any()
    assert not counted.remove(places).any()
    assert len(counted._chunks) <= 5
