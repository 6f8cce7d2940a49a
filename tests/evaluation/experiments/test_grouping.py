"""Slates are grouped by unit, in pieces or at once, as a plain loop would group them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.experiments.grouping import CROSSED, UnitTable, grouped, joined, past_columns, units_by_day

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 4), st.integers(-9, 9)), max_size=30)


def table_of(some: list[tuple[int, int, int, int]]) -> UnitTable:
    """Rows of unit, variant, day, value, with a column of ones."""
    unit, variant, day, value = np.array(some, dtype=np.int64).reshape(-1, 4).T
    columns = (value.astype(np.float32), np.ones(len(value)))
    return grouped(unit.astype(np.uint64) + np.uint64(2**63), variant.astype(np.int8), day.astype(np.int32), columns)


def as_map(table: UnitTable) -> dict[int, tuple[int, int, float, float]]:
    """Unit to its variant, first day and sums."""
    return {
        int(unit) - 2**63: (int(variant), int(day), float(value), float(count))
        for unit, variant, day, value, count in zip(
            table.unit, table.variant, table.first_day, *table.columns, strict=True
        )
    }


@given(rows)
def test_groups_are_those_of_a_plain_loop(some):
    """Each unit once; its variant if all its rows agree; its first day; its sums."""
    expected: dict[int, tuple[int, int, float, float]] = {}
    for unit, variant, day, value in some:
        before = expected.get(unit, (variant, day, 0.0, 0.0))
        kept = variant if before[0] == variant else CROSSED
        expected[unit] = (kept, min(before[1], day), before[2] + value, before[3] + 1)
    assert as_map(table_of(some)) == expected


@given(rows, st.integers(0, 30), st.integers(0, 30))
def test_pieces_join_to_the_whole(some, first, second):
    """A unit may be in several pieces, and have crossed in one or between two."""
    cuts = sorted((first, second))
    pieces = [table_of(each) for each in (some[: cuts[0]], some[cuts[0] : cuts[1]], some[cuts[1] :])]
    assert as_map(joined(pieces)) == as_map(table_of(some))


@given(rows, rows)
def test_past_stands_beside_its_unit(now, before):
    """A unit without a past has zeros."""
    table, past = table_of(now), table_of(before)
    known = as_map(past)
    expected = [known.get(int(unit) - 2**63, (0, 0, 0.0, 0.0))[2:] for unit in table.unit]
    assert past_columns(table, past).T.tolist() == [list(each) for each in expected]


def test_units_are_counted_on_their_first_day():
    """A unit that comes back is not new again; one that crossed is not counted."""
    table = table_of([(1, 0, 3, 0), (1, 0, 5, 0), (2, 1, 5, 0), (3, 1, 3, 0), (4, 0, 3, 0), (4, 1, 3, 0)])
    assert units_by_day(table, 2).tolist() == [[1, 1], [0, 0], [0, 1]]
    assert units_by_day(table_of([]), 2).shape == (0, 2)
