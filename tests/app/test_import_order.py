"""What of a file is new, and in what order it goes into a log."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from midstream.app.import_order import BYTES_MAX, ROW_BYTES, Spill, own_time_ms, parts, plan_of
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.replay import batches
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build, event_at
from midstream.state.event_ids import fingerprints
from midstream.testing.ids import KEY

NOW_MS = 1_700_000_000_000


def make(kind, event_id, item_id, time_ms):
    """Return an event that may lack an id and a time."""
    return Event(kind, event_id=event_id, item_id=item_id, event_time_ms=time_ms)


events = st.lists(
    st.builds(
        make,
        st.sampled_from([Kind.INTERACTION, Kind.ITEM]),
        st.sampled_from(["", "a", "b", "c", "d", "e"]),
        st.text(st.characters(codec="utf-8"), max_size=3),
        st.none() | st.integers(NOW_MS - 100, NOW_MS),
    ),
    max_size=30,
)


def planned(some, log, last_log_time_ms, rows_max=5, bytes_max=BYTES_MAX):
    """Spill events in pieces of three; return the plan, and the events that it records, in order."""
    with tempfile.TemporaryDirectory() as folder, Spill(Path(folder), "file", KEY) as spill:
        for start in range(0, len(some), 3):
            spill.add(build(some[start : start + 3]))
        logged = batches(log.read, LogPosition(0), log.end)
        plan = plan_of(spill, logged, last_log_time_ms, NOW_MS)
        return plan, list(parts(spill, plan, rows_max, bytes_max))


def all_of(batch):
    """Return the events of a batch."""
    return [event_at(batch, index) for index in range(len(batch))]


@given(events)
def test_an_id_is_recorded_once(some):
    """Of events with the same id one is recorded, the first; those without an id or time are all."""
    plan, found_batches = planned(some, MemoryLog(), 0, 7)
    ids = [each.event_id for part in found_batches for each in all_of(part) if each.event_id]
    assert len(ids) == len(set(ids))
    assert set(ids) == {each.event_id for each in some if each.event_id}
    assert len(plan.order) + plan.known_count + plan.conflict_count == len(some)


@given(events, st.integers(1, 8), st.integers(1, 10 * ROW_BYTES))
def test_parts_are_bounded_by_rows_and_bytes(some, rows_max, bytes_max):
    """Cut anywhere they are the same events; a part of more bytes is one row."""
    _, whole = planned(some, MemoryLog(), 0, 100)
    _, found = planned(some, MemoryLog(), 0, rows_max, bytes_max)
    # As text, in which NaN is like NaN.
    assert [repr(each) for part in found for each in all_of(part)] == [
        repr(each) for part in whole for each in all_of(part)
    ]
    sizes = [len(part.text) + len(part) * ROW_BYTES for part in found]
    assert all(len(part) == 1 or size <= bytes_max for part, size in zip(found, sizes, strict=True))
    assert all(1 <= len(part) <= rows_max for part in found)


@given(events, st.integers(0, 30))
def test_what_a_log_holds_is_left_out(some, count):
    """After a first part was recorded, the same file adds only the rest, and a third time nothing."""
    with_ids = [each._replace(event_id=f"id{number}") for number, each in enumerate(some)]
    log = MemoryLog()
    if with_ids[:count]:
        log.append(build([each._replace(log_time_ms=NOW_MS) for each in with_ids[:count]]))
    _, found_batches = planned(with_ids, log, log.last_log_time_ms)
    found = [each.event_id for part in found_batches for each in all_of(part)]
    assert sorted(found) == sorted(each.event_id for each in with_ids[count:])
    for part in found_batches:
        log.append(type(part)(stamped(part.rows), part.text))
    again, _ = planned(with_ids, log, log.last_log_time_ms)
    assert len(again.order) == 0
    assert again.known_count == len(with_ids)


def stamped(rows):
    """Return rows with a log time."""
    rows = rows.copy()
    rows["log_time_ms"] = NOW_MS
    return rows


@given(events)
def test_history_goes_in_by_time(some):
    """Into an empty log, where every act has a time, rows go in by time, and as they stood where times are equal."""
    timed = [
        each._replace(event_id=f"id{number}", event_time_ms=each.event_time_ms or NOW_MS)
        for number, each in enumerate(some)
    ]
    plan, found_batches = planned(timed, MemoryLog(), 0, 4)
    assert plan.keeps_event_time
    found = [each for part in found_batches for each in all_of(part)]
    assert [each.event_id for each in found] == [each.event_id for each in sorted(timed, key=lambda e: e.event_time_ms)]


def test_history_beside_live_events_goes_in_as_it_stands():
    """Where the log is newer than the file, log time is now, and what is a day late is counted."""
    old = [Event(Kind.INTERACTION, item_id="a", event_time_ms=NOW_MS - day * 86_400_000) for day in (0, 3, 2)]
    log = MemoryLog()
    log.append(build([Event(Kind.INTERACTION, item_id="b", log_time_ms=NOW_MS)]))
    plan, _ = planned(old, log, log.last_log_time_ms)
    assert not plan.keeps_event_time
    assert plan.order.tolist() == [0, 1, 2]
    assert plan.late_count == 2


def test_acts_without_a_time_are_of_now():
    """A file whose acts have no time cannot bring its own log time; a catalogue without times can."""
    act, item = Event(Kind.INTERACTION, event_id="1"), Event(Kind.ITEM, event_id="2")
    assert not planned([item, act], MemoryLog(), 0)[0].keeps_event_time
    assert planned([item], MemoryLog(), 0)[0].keeps_event_time


@given(events, events)
def test_what_is_known_is_what_a_dict_knows(logged, some):
    """In the log or earlier in the file; the first content in the log is the one that counts."""
    log = MemoryLog()
    for start in range(0, len(logged), 4):
        log.append(build([each._replace(log_time_ms=NOW_MS) for each in logged[start : start + 4]]))
    known: dict[int, int] = {}
    prints = fingerprints(build(logged), KEY)
    for each, content in zip(prints.id_hash.tolist(), prints.content.tolist(), strict=True):
        known.setdefault(each, content)
    plan, _ = planned(some, log, NOW_MS)
    order, known_count, conflicts, seen = [], 0, 0, set()
    prints = fingerprints(build(some), KEY)
    for at, (each, content) in enumerate(zip(prints.id_hash.tolist(), prints.content.tolist(), strict=True)):
        if not each or not (each in known or each in seen):
            order.append(at)
            seen.add(each)
        elif each in known:
            known_count += known[each] == content
            conflicts += known[each] != content
        else:
            known_count += 1
    assert (sorted(plan.order.tolist()), plan.known_count, plan.conflict_count) == (order, known_count, conflicts)


def test_log_time_of_an_export_goes_before_event_time():
    """What comes from an export keeps its place in log time."""
    batch = build([Event(Kind.TICK, log_time_ms=7), Event(Kind.ITEM, event_time_ms=5, log_time_ms=9), Event(Kind.ITEM)])
    assert own_time_ms(batch).tolist() == [7, 9, 0]
