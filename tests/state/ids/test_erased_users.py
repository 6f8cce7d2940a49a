"""Who was erased, against a plain list: each row goes at its own time, whoever else is erased, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.state.ids.erased_users import REFUSED_MS, Erasures, asked_at, asked_body
from midstream.state.structures.hashing import id_hash
from tests.support.ids import KEY

HOUR = 3_600_000
STEPS = st.sampled_from([0, 1, HOUR, 2 * HOUR, 22 * HOUR, REFUSED_MS, REFUSED_MS + 1])
ERASES = st.tuples(STEPS, st.sampled_from([(1,), (2,), (3,), (1, 3)]), st.sampled_from([False, False, True]))
TICKS = st.tuples(STEPS, st.just(()), st.sampled_from([False]))


def rows_of(table):
    """Return the rows that are held."""
    arrays = table.arrays()
    names = ("user_hash", "log_time_ms", "position", "is_pending", "asked_ms")
    return list(zip(*(arrays[name].tolist() for name in names), strict=True))


def without_second_ones(rows, hashes):
    """Return the rows without the pending ones of these ids, but the first of each."""
    waiting = [row for row in rows if row[3] and row[0] in hashes]
    firsts = [next(row for row in waiting if row[0] == each) for each in {row[0] for row in waiting}]
    return [row for row in rows if row not in waiting or row in firsts]


def with_room(rows, erased_max):
    """Drop one after another what is missed least: what waits for nothing, then what a later row of the id says too."""
    rows = list(rows)
    while len(rows) > erased_max:
        done = [row for row in rows if not row[3]]
        said_again = [row for at, row in enumerate(rows) if any(each[0] == row[0] for each in rows[at + 1 :])]
        rows.remove((done or said_again or rows)[0])
    return rows


@given(st.lists(ERASES | TICKS, max_size=12), st.sampled_from([3, 100]), st.booleans())
def test_rows_are_those_of_a_plain_list_after_each_event(drafts, erased_max, is_restored):
    """Erased again or not, pending or not, full or not, restored on the way or not."""
    table, now = Erasures(erased_max), 0
    rows: list[tuple[int, int, int, bool, int]] = []
    for position, (step, hashes, is_pending) in enumerate(drafts):
        now += step
        if hashes:
            table.add(hashes, now, LogPosition(position), now - position, is_pending=is_pending)
            kept = without_second_ones(rows, hashes) if is_pending else rows
            rows = with_room(
                [*kept, *((each, now, position, is_pending, now - position) for each in hashes)], erased_max
            )
        table.expire(now)
        rows = [row for row in rows if row[3] or now - row[1] <= REFUSED_MS]
        assert rows_of(table) == rows
        for each in (1, 2, 3):
            times = [row[1] for row in rows if row[0] == each and now - row[1] <= REFUSED_MS]
            assert table.erased_at(each) == (times[-1] if times else None)
        if is_restored:
            fresh = Erasures(erased_max)
            fresh.restore(table.arrays())
            fresh.expire(now)
            table = fresh


def copy_of(user, time_ms):
    """An event that is not stamped yet, with a time of its own."""
    return build([Event(Kind.INTERACTION, action="view", user_id=user, item_id="mug", event_time_ms=time_ms)])


def test_late_copies_are_refused_for_a_day_and_no_longer():
    """An event that comes has no log time yet: it is the table that knows when the day is over, erased again or not."""
    table, first_ms = Erasures(100), 1_700_000_000_000
    ann = id_hash("ann", KEY)
    table.add((ann,), first_ms, LogPosition(7), first_ms, is_pending=True)
    last_ms = first_ms + HOUR
    table.add((ann,), last_ms, LogPosition(8), last_ms, is_pending=True)

    def is_late(user, time_ms):
        found = table.late_copies(copy_of(user, time_ms), KEY)
        return None if found is None else found.tolist()

    for now in (last_ms, last_ms + REFUSED_MS):
        table.expire(now)
        assert is_late("ann", last_ms) == [True]
        assert is_late("ann", last_ms + 1) == is_late("bob", first_ms) == [False]
    table.expire(last_ms + REFUSED_MS + 1)
    assert is_late("ann", last_ms) is None
    assert len(table.pending) == 2


@pytest.mark.parametrize(
    "body, asked_ms",
    [
        (asked_body(400), 400),
        (asked_body(500), 500),
        (asked_body(501), 500),
        (asked_body(-1), 0),
        (b"", 500),
        (b"{}", 500),
        (b"[" * 100_000, 500),
        (b'{"asked_ms": 1e300}', 500),
        (b'{"asked_ms": 18446744073709551616}', 500),
        (b'{"asked_ms": "400"}', 500),
        (b'\xff{"asked_ms": 400}', 500),
    ],
)
def test_an_erase_says_when_it_was_asked_for_and_never_later_than_its_log_time(body, asked_ms):
    """A body that says nothing, or something that cannot be, leaves the log time, 500 here."""
    assert asked_at(body, 500) == asked_ms
