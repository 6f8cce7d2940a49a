"""Columns of a data set: sorting, sessions by silence, and the events made of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.evaluation.data.interactions import InteractionTable, batches, by_session, by_time, events, with_sessions
from midstream.events.schema import concat, event_at

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 20)), min_size=0, max_size=40)


def interactions(rows, *, session=True):
    """Rows of (owner, item, time)."""
    owner = np.array([row[0] for row in rows], dtype=np.str_)
    empty = np.full(len(rows), "", dtype=np.str_)
    return InteractionTable(
        user_id=empty if session else owner,
        session_id=owner if session else empty,
        item_id=np.array([row[1] for row in rows], dtype=np.str_),
        action=np.full(len(rows), "click"),
        time_ms=np.array([row[2] for row in rows], dtype=np.int64),
    )


def rows_of(columns):
    """The rows again."""
    return list(zip(columns.session_id.tolist(), columns.item_id.tolist(), columns.time_ms.tolist(), strict=True))


@given(ROWS)
def test_sorting_is_stable_and_keeps_every_row(rows):
    """By time and by session equal Python's stable sort."""
    assert rows_of(by_time(interactions(rows))) == sorted(rows, key=lambda row: row[2])
    assert rows_of(by_session(interactions(rows))) == sorted(rows, key=lambda row: (row[0], row[2]))


@given(ROWS, st.integers(0, 8))
def test_sessions_are_cut_by_user_and_silence(rows, gap):
    """Two acts share a session exactly when the user is the same and no silence between them is longer."""
    expected: dict[str, list[tuple[str, int]]] = {}
    for owner in "abc":
        number, before = 0, None
        for _, item, time in sorted((row for row in rows if row[0] == owner), key=lambda row: row[2]):
            if before is not None and time - before > gap:
                number += 1
            before = time
            expected.setdefault(f"{owner}#{number}", []).append((item, time))
    cut = with_sessions(interactions(rows, session=False), gap)
    found: dict[str, list[tuple[str, int]]] = {}
    for session, item, time in rows_of(cut):
        found.setdefault(session, []).append((item, time))
    assert found == expected
    assert cut.time_ms.tolist() == sorted(cut.time_ms.tolist())


@given(ROWS, st.integers(1, 7))
def test_events_are_the_rows_however_they_are_cut(rows, size):
    """Every row is one interaction with log time = event time; any batch size gives the same events and positions."""
    columns = by_time(interactions(rows))
    whole = events(columns)
    cut = list(batches(columns, size))
    assert [first for first, _ in cut] == list(range(0, len(rows), size))
    joined = concat([batch for _, batch in cut])
    assert joined.text == whole.text
    assert joined.rows.tobytes() == whole.rows.tobytes()
    for row, (session, item, time) in enumerate(rows_of(columns)):
        event = event_at(whole, row)
        assert (event.kind, event.action, event.event_id) == (Kind.INTERACTION, "click", str(row))
        assert (event.session_id, event.item_id, event.event_time_ms, event.log_time_ms) == (session, item, time, time)


@given(ROWS)
def test_what_is_dropped_is_counted(rows):
    """Rows kept and rows dropped add up to the rows that came, by reason."""
    columns = interactions(rows)
    left = columns.without("x", columns.item_id == "x")
    left = left.without("late", left.time_ms > 10)
    assert len(left) + sum(left.dropped.values()) == len(rows)
    assert left.dropped == {
        "x": sum(row[1] == "x" for row in rows),
        "late": sum(row[1] != "x" and row[2] > 10 for row in rows),
    }
