"""What of a file is new, and in what order it goes into a log."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.ingest.ordering import BYTES_MAX, ROW_BYTES, RowSpill, parts, plan_of
from midstream.app.mapping.batches import own_time_ms
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build, event_at
from midstream.events.siphash import id_key_of
from midstream.state.ids.event_ids import fingerprints
from tests.support.ids import KEY

NOW_MS = 1_700_000_000_000
LOG_KEY = id_key_of("0f" * 16)


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
    with tempfile.TemporaryDirectory() as folder, RowSpill(Path(folder), "file", KEY, LOG_KEY) as spill:
        for start in range(0, len(some), 3):
            piece = some[start : start + 3]
            spill.add(build(piece), np.arange(start, start + len(piece)))
        logged = batches(log.read, LogPosition(0), log.end)
        plan = plan_of(spill, logged, last_log_time_ms, NOW_MS)
        return plan, list(parts(spill, plan, rows_max, bytes_max))


def all_of(batch):
    """Return the events of a batch."""
    return [event_at(batch, index) for index in range(len(batch))]


@given(events)
def test_an_id_is_recorded_once(some):
    """Of events with the same id one is recorded, the first; those without one are all, and the fold takes each of them
    for another event.
    """
    plan, found_batches = planned(some, MemoryLog(), 0, 7)
    found = [each for part in found_batches for each in all_of(part)]
    own = [each.event_id for each in found if each.event_id and not each.event_id.startswith("import:")]
    assert len(own) == len(set(own))
    assert set(own) == {each.event_id for each in some if each.event_id}
    assert len(found) - len(own) == sum(not each.event_id for each in some)
    prints = fingerprints(build(found), KEY).id_hash.tolist()
    assert len(set(prints)) == len(prints)
    assert all(prints)
    assert len(plan.order) + plan.known_count + len(plan.conflicts) == len(some)


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
    """In the log or earlier in the file; the first content that came is the one that counts."""
    logged, some = ([each for each in them if each.event_id] for them in (logged, some))
    log = MemoryLog()
    for start in range(0, len(logged), 4):
        log.append(build([each._replace(log_time_ms=NOW_MS) for each in logged[start : start + 4]]))
    known: dict[str, int] = {}
    for each, content in zip(logged, fingerprints(build(logged), KEY).content.tolist(), strict=True):
        known.setdefault(each.event_id, content)
    plan, _ = planned(some, log, NOW_MS)
    order, known_count, conflicts = [], 0, []
    for at, (each, content) in enumerate(zip(some, fingerprints(build(some), KEY).content.tolist(), strict=True)):
        if each.event_id not in known:
            order.append(at)
            known[each.event_id] = content
        elif known[each.event_id] == content:
            known_count += 1
        else:
            conflicts.append(at)
    assert (sorted(plan.order.tolist()), plan.known_count) == (order, known_count)
    assert plan.conflicts.tolist() == conflicts


def appended(log, found_batches):
    """Append what a plan records; return how much that is."""
    for part in found_batches:
        log.append(type(part)(stamped(part.rows), part.text))
    return sum(len(part) for part in found_batches)


BODIES = (b'{"price":1}', b'{"price":2}', b'{"title":"x"}', b'{"price":1,"title":"x"}')
rows = st.lists(
    st.builds(
        lambda kind, operation, *rest: make(kind, "", *rest)._replace(operation=operation * (kind == Kind.ITEM)),
        st.sampled_from([Kind.INTERACTION, Kind.ITEM]),
        st.sampled_from([Operation.PUT, Operation.PATCH, Operation.DELETE]),
        st.sampled_from("ab"),
        st.none() | st.integers(NOW_MS - 2, NOW_MS),
    ).flatmap(lambda each: st.sampled_from(BODIES).map(lambda body: each._replace(body=body_of(each, body)))),
    max_size=12,
)


def body_of(event, body):
    """Return what an event of a kind and operation has."""
    return body if event.kind == Kind.ITEM and event.operation != Operation.DELETE else b""


def is_timeless_change(event):
    """Return whether a row says how something is from now on."""
    return event.kind == Kind.ITEM and event.event_time_ms is None


@given(rows, st.randoms())
def test_rows_are_known_by_what_they_become(some, random):
    """A file adds nothing a second time, nor in another order where order means nothing; equal rows are all kept; of a
    file that grew the new rows alone are.
    """
    log = MemoryLog()
    cut = random.randint(0, len(some))
    assert appended(log, planned(some[:cut], log, 0)[1]) == cut
    grown, found = planned(some, log, log.last_log_time_ms)
    # A change without a time that the log holds already and that would change nothing is known, however often it comes.
    acts_count = sum(not is_timeless_change(each) for each in some[cut:])
    assert acts_count <= len(grown.order) <= len(some) - cut
    appended(log, found)
    assert len(planned(some, log, log.last_log_time_ms)[0].order) == 0
    others = [each for each in some if not is_timeless_change(each)]
    random.shuffle(others)
    assert len(planned(others, log, log.last_log_time_ms)[0].order) == 0
    prints = [
        each for _, batch in log.read(LogPosition(0), 1_000) for each in fingerprints(batch, KEY).id_hash.tolist()
    ]
    assert len(prints) == len(set(prints))


@given(rows, rows)
def test_changes_without_a_time_end_as_the_file_says(earlier, later):
    """Whatever another file said in between, after an import the items are as its rows, one after another, leave them,
    as if all of them had been recorded again.
    """
    earlier, later = ([each for each in them if is_timeless_change(each)] for them in (earlier, later))
    log = MemoryLog()
    for some in (earlier, later):
        appended(log, planned(some, log, log.last_log_time_ms)[1])
    before = folded(log)
    plan, found = planned(earlier, log, log.last_log_time_ms)
    appended(log, found)
    assert folded(log) == applied(before, earlier)
    assert (len(plan.order) == 0) == (before == folded(log))


def folded(log):
    """Return the attributes of each item that a log leaves, None of one that is deleted."""
    events = [event_at(batch, at) for _, batch in log.read(LogPosition(0), 1_000) for at in range(len(batch))]
    return applied({}, events)


def applied(items, changes):
    """Return items after changes; those that are gone are not there."""
    found = dict(items)
    for each in changes:
        if each.operation == Operation.DELETE:
            found.pop(each.item_id, None)
        else:
            kept = found.get(each.item_id, {}) if each.operation == Operation.PATCH else {}
            found[each.item_id] = kept | json.loads(each.body)
    return found


def test_another_type_makes_other_events():
    """The same rows under another action, or with a column taken in that was not, are other events."""
    log = MemoryLog()
    views = [Event(Kind.INTERACTION, action="view", item_id="a", event_time_ms=NOW_MS - n) for n in range(3)]
    appended(log, planned(views, log, 0)[1])
    carts = [each._replace(action="cart") for each in views]
    paged = [each._replace(body=b'{"page":"list"}') for each in views]
    assert len(planned(carts, log, NOW_MS)[0].order) == 3
    assert len(planned(paged, log, NOW_MS)[0].order) == 3
    assert len(planned(views, log, NOW_MS)[0].order) == 0


def test_an_own_id_rules_and_its_conflicts_have_lines():
    """Another content under an id of the log, or of a row above, is no news and no copy: its rows are named."""
    log = MemoryLog()
    log.append(build([Event(Kind.INTERACTION, event_id="e", item_id="a", log_time_ms=NOW_MS)]))
    some = [Event(Kind.INTERACTION, event_id=name, item_id=item) for name, item in ("eb", "ea", "fa", "fb", "fa")]
    plan, _ = planned(some, log, NOW_MS)
    assert (plan.order.tolist(), plan.known_count, plan.conflicts.tolist()) == ([2], 2, [0, 3])
    assert plan.lines[plan.conflicts].tolist() == [0, 3]


@pytest.mark.parametrize("kind", [Kind.ITEM, Kind.USER])
def test_prices_of_before_come_again(kind):
    """A catalogue without times that others changed since is recorded again where it differs, and nowhere else."""
    log = MemoryLog()

    def patch(name, body):
        item, user = (name, "") if kind == Kind.ITEM else ("", name)
        return Event(kind, Operation.PATCH, item_id=item, user_id=user, body=body)

    def prices(a, b):
        return [patch(name, b'{"price":%d}' % price) for name, price in (("a", a), ("b", b))]

    recorded = [
        appended(log, planned(some, log, log.last_log_time_ms)[1])
        for some in (
            prices(1, 1),
            prices(1, 1),
            prices(2, 1),
            [patch("b", b'{"title":"x"}')],
            prices(1, 1),
            prices(1, 1),
            prices(2, 2),
        )
    ]
    assert recorded == [2, 0, 1, 1, 1, 0, 2]


def test_log_time_of_an_export_goes_before_event_time():
    """What comes from an export keeps its place in log time."""
    batch = build([Event(Kind.TICK, log_time_ms=7), Event(Kind.ITEM, event_time_ms=5, log_time_ms=9), Event(Kind.ITEM)])
    assert own_time_ms(batch).tolist() == [7, 9, 0]
