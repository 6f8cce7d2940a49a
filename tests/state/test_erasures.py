"""Who was erased, against a plain list: each row goes at its own time, whoever else is erased, and when."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import LogPosition
from midstream.state.erasures import REFUSED_MS, Erasures

HOUR = 3_600_000
STEPS = st.sampled_from([0, 1, HOUR, 2 * HOUR, 22 * HOUR, REFUSED_MS, REFUSED_MS + 1])
ERASES = st.tuples(STEPS, st.sampled_from([(1,), (2,), (3,), (1, 3)]), st.sampled_from([False, False, True]))
TICKS = st.tuples(STEPS, st.just(()), st.sampled_from([False]))


def rows_of(table):
    """Return the rows that are held."""
    arrays = table.arrays()
    names = ("user_hash", "log_time_ms", "position", "is_pending")
    return list(zip(*(arrays[name].tolist() for name in names), strict=True))


@given(st.lists(ERASES | TICKS, max_size=12), st.sampled_from([3, 100]), st.booleans())
def test_rows_are_those_of_a_plain_list_after_each_event(drafts, erased_max, is_restored):
    """Erased again or not, pending or not, full or not, restored on the way or not."""
    table, now = Erasures(erased_max), 0
    rows: list[tuple[int, int, int, bool]] = []
    for position, (step, hashes, is_pending) in enumerate(drafts):
        now += step
        if hashes:
            table.add(hashes, now, LogPosition(position), is_pending=is_pending)
            rows = [*rows, *((each, now, position, is_pending) for each in hashes)][-erased_max:]
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
