"""Sweeps over a table behind the horizon: each version of a row once, and a position that nothing can appear before."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.integrations.postgresql import sweep as sweeping
from midstream.integrations.postgresql.horizon import PREPARED, Horizon
from midstream.integrations.postgresql.sweep import Place, Sweep, TableRow, place_of

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def row(time: int, key: str, *, is_settled: bool, content: bytes = b"{}") -> TableRow:
    return TableRow(f"{time:04}", key, is_settled, content)


def handed(sweep: Sweep, rows: list[TableRow]) -> list[str]:
    return [each.key for _, each in sweep.take(rows)]


def test_rows_beyond_the_horizon_are_handed_over_once_and_the_position_stays() -> None:
    """Again only where they changed; the position passes them when the horizon has."""
    sweep = Sweep(Place())
    sweep.begin()
    assert handed(sweep, [row(1, "a", is_settled=True), row(2, "b", is_settled=False)]) == ["a", "b"]
    assert sweep.place == Place("0001", "a")
    sweep.begin()
    assert sweep.reach == sweep.place
    assert handed(sweep, [row(2, "b", is_settled=False), row(3, "c", is_settled=False)]) == ["c"]
    sweep.begin()
    changed = [row(2, "b", is_settled=True), row(3, "c", is_settled=True, content=b'{"x":1}')]
    assert handed(sweep, changed) == ["c"]
    assert sweep.place == Place("0003", "c")


def test_a_late_row_between_those_that_were_read_is_handed_over() -> None:
    """It is before them, and behind the position."""
    sweep = Sweep(Place())
    sweep.begin()
    sweep.take([row(5, "e", is_settled=False)])
    sweep.begin()
    assert handed(sweep, [row(1, "late", is_settled=False), row(5, "e", is_settled=False)]) == ["late"]


def test_rows_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones wait, and are not passed by."""
    monkeypatch.setattr(sweeping, "AHEAD_MAX", 2)
    sweep = Sweep(Place())
    rows = [row(number, str(number), is_settled=False) for number in range(4)]
    sweep.begin()
    assert handed(sweep, rows) == ["0", "1"]
    assert sweep.is_full
    assert sweep.reach == Place("0001", "1")
    sweep.begin()
    settled = [each._replace(is_settled=True) for each in rows]
    assert handed(sweep, settled) == ["2", "3"]


def test_a_version_of_a_row_has_its_name() -> None:
    """The same after a start, so ids leave out what was recorded; another where time or content differ."""
    names = [
        Sweep(Place()).take([each])[0][0]
        for each in (
            row(1, "a", is_settled=False),
            row(1, "a", is_settled=True),
            row(2, "a", is_settled=True),
            row(1, "a", is_settled=True, content=b"x"),
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert len(Sweep(Place()).take([row(1, "k" * 300, is_settled=True)])[0][0]) < 64


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_a_position_is_read_back(updated: str, key: str) -> None:
    """Whatever a key has in it."""
    for each in (Place(updated, key), Place(updated), Place()):
        assert place_of(each.text) == each


@pytest.mark.parametrize("text", ["", "7", "{}", '["a","b","c"]', "[1]", "[null]"])
def test_what_is_no_position_is_none(text: str) -> None:
    """As an operator may type it."""
    assert place_of(text) is None


def test_the_horizon_is_the_begin_of_the_oldest_open_transaction() -> None:
    """And now, where there is none; it never goes back."""
    horizon = Horizon()
    assert horizon.move(at(0), {}) == at(0)
    assert horizon.move(at(10), {"3/7": at(4)}) == at(4)
    assert horizon.move(at(20), {"3/7": at(4), "4/1": at(15)}) == at(4)
    assert horizon.move(at(30), {"4/1": at(15)}) == at(15)
    assert horizon.move(at(29), {"5/1": at(2)}) == at(15)


def test_a_transaction_whose_begin_is_hidden_began_behind_the_look_before() -> None:
    """One that was open at the first look may be as old as it likes: then there is no horizon until it has ended."""
    horizon = Horizon()
    assert horizon.move(at(0), {"3/7": None}) is None
    assert horizon.move(at(10), {"3/7": None, "4/1": None}) is None
    assert horizon.move(at(20), {"4/1": None}) == at(0)
    assert horizon.move(at(30), {"4/1": None, "5/1": None}) == at(0)
    assert horizon.move(at(40), {"5/1": None}) == at(20)


def test_a_transaction_that_was_prepared_began_before_it_had_its_name() -> None:
    """It was an open one at the look before, so it holds the horizon of then."""
    horizon = Horizon()
    assert horizon.move(at(0), {"3/7": at(-5)}) == at(-5)
    assert horizon.move(at(10), {f"{PREPARED}x": None}) == at(-5)
    assert horizon.move(at(20), {f"{PREPARED}x": None}) == at(-5)
    assert horizon.move(at(30), {}) == at(30)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30), st.booleans(), st.booleans()), max_size=12))
def test_no_open_transaction_has_begun_before_the_horizon(spans: list[tuple[int, int, bool, bool]]) -> None:
    """Whatever is hidden, and whatever becomes a prepared one."""
    horizon = Horizon()
    for look in range(0, 80, 3):
        is_open = {
            number: (begin, length)
            for number, (begin, length, _, _) in enumerate(spans)
            if begin < look < begin + length
        }
        told: dict[str, datetime | None] = {}
        for number, (begin, length) in is_open.items():
            _, _, is_hidden, becomes_prepared = spans[number]
            is_prepared = becomes_prepared and look > begin + length / 2
            name = f"{PREPARED}{number}" if is_prepared else f"{number}/1"
            told[name] = None if is_hidden or is_prepared else at(begin)
        found = horizon.move(at(look), told)
        begins = [begin for begin, _ in is_open.values()]
        if found is not None and begins:
            assert found <= at(min(begins))
