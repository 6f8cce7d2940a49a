"""The dedupe window against a plain dictionary in order of arrival."""

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.ids.event_ids import EventAdmission, EventIds, fingerprints
from midstream.state.structures.hash_table import table_size
from tests.support.events import cuts, event_batches, random_event_list
from tests.support.ids import KEY

FIELDS = ("event_id", "action", "user_id", "item_id", "session_id", "request_id")


def content_of(event):
    """Return all that was sent beside the event id; NaN and -0.0 as text, which can be compared."""
    return tuple(str(each) for each in event._replace(event_id="", log_time_ms=0))


def identity_of(event):
    """Return what an event is recognised by, None when it cannot be."""
    if event.event_id:
        return ("id", event.event_id)
    if event.kind == Kind.SERVED and event.request_id:
        return ("served", event.request_id)
    if event.kind == Kind.TICK or event.event_time_ms is None:
        return None
    return ("content", content_of(event))


class Twin:
    """The window as an ordered dictionary from identity to content and second of log time."""

    def __init__(self, ids_max):
        """Start empty."""
        self.ids_max = ids_max
        self.held = OrderedDict()

    def admit(self, event):
        """Return what is known of an event, and remember it."""
        second = event.log_time_ms // 1_000
        self.held = OrderedDict((key, each) for key, each in self.held.items() if each[1] >= second - 86_400)
        identity, content = identity_of(event), content_of(event)
        if identity is None:
            return EventAdmission.NEW
        if identity in self.held:
            return EventAdmission.DUPLICATE if self.held[identity][0] == content else EventAdmission.CONFLICT
        if len(self.held) == self.ids_max:
            self.held.popitem(last=False)
        self.held[identity] = (content, second)
        return EventAdmission.NEW


def admit(ids, batch):
    """Return the admissions of a batch."""
    return ids.admit(ids.fingerprints(batch), batch.rows["log_time_ms"].copy()).tolist()


def events_of(batch):
    """Return the events of a batch."""
    return [event_at(batch, index) for index in range(len(batch))]


@given(event_batches(), st.sampled_from([1, 2, 3, 5, 100]), st.data())
def test_the_window_is_an_ordered_dictionary_however_the_log_is_cut(batch, ids_max, data):
    """Full or not, expiring or not, in parts or whole, with a table that grows, and restored on the way."""
    ids, twin = EventIds(ids_max, KEY, table_begin=8), Twin(ids_max)
    edges = [0, *data.draw(cuts(len(batch))), len(batch)]
    for start, stop in pairwise(edges):
        part = cut(batch, start, stop)
        assert admit(ids, part) == [twin.admit(event) for event in events_of(part)]
        assert len(ids) == len(twin.held)
        if data.draw(st.booleans()):
            fresh = EventIds(ids_max, KEY, table_begin=8)
            fresh.restore(ids.arrays())
            ids = fresh
        assert ids.rows.table is ids._ring.table
    assert (ids.arrays()["second"] == [second for _, second in twin.held.values()]).all()


@pytest.mark.parametrize("ids_max", [7, 100, 5_000])
@pytest.mark.parametrize("table_begin", [8, 1_024, 2**21])
def test_a_long_stream_agrees_too(ids_max, table_begin):
    """Thousands of evictions and expiries leave no entry behind or lost, nor does a table that grows."""
    events = random_event_list(4_000, seed=11)
    ids, twin = EventIds(ids_max, KEY, table_begin=table_begin), Twin(ids_max)
    for start in range(0, len(events), 500):
        part = events[start : start + 500]
        assert admit(ids, build(part)) == [twin.admit(event) for event in part]


@given(event_batches(), event_batches())
def test_looking_changes_nothing_and_says_what_admitting_would(before, batch):
    """The engine asks before it queues; only duplicates within the batch are news to ``admit``."""
    ids = EventIds(50, KEY)
    admit(ids, before)
    state = {name: array.tobytes() for name, array in ids.arrays().items()}
    found = ids.find(ids.fingerprints(batch)).tolist()
    assert {name: array.tobytes() for name, array in ids.arrays().items()} == state
    for index in range(len(batch)):
        again = EventIds(50, KEY)
        again.restore(ids.arrays())
        # Log time of the first batch, so that nothing expires in between.
        last = before.rows["log_time_ms"][-1:].copy() if len(before) else np.zeros(1, dtype=np.int64)
        prints = again.fingerprints(cut(batch, index, index + 1))
        assert again.admit(prints, last)[0] == found[index]


@given(event_batches(size_max=12))
def test_fingerprints_differ_when_what_was_sent_differs(batch):
    """Two events have one identity hash exactly when they have one identity, and the same for content."""
    prints, events = fingerprints(batch, KEY), events_of(batch)
    pairs = list(zip(prints.id_hash.tolist(), prints.check.tolist(), strict=True))
    for first in range(len(events)):
        assert (pairs[first][0] == 0) == (identity_of(events[first]) is None)
        for second in range(first):
            same_content = content_of(events[first]) == content_of(events[second])
            assert (prints.content[first] == prints.content[second]) == same_content
            if pairs[first][0] and pairs[second][0]:
                assert (pairs[first] == pairs[second]) == (identity_of(events[first]) == identity_of(events[second]))


@pytest.mark.parametrize("field", FIELDS[1:])
def test_text_that_moves_to_the_next_field_is_other_content(field):
    """The texts lie end to end, so their lengths must count."""
    other = FIELDS[FIELDS.index(field) - 1]
    bare = Event(Kind.INTERACTION, event_time_ms=1)
    one: dict[str, Any] = {field: "x"}
    two: dict[str, Any] = {other: "x"}
    first, second = bare._replace(**one), bare._replace(**two)
    prints = fingerprints(build([first, second]), KEY)
    assert other == "event_id" or prints.content[0] != prints.content[1]
    assert prints.id_hash[0] != prints.id_hash[1]


def test_a_served_record_is_not_hidden_by_an_event_with_its_request_id():
    """Clients choose event ids, and know request ids."""
    log = build([Event(Kind.INTERACTION, event_id="r1"), Event(Kind.SERVED, request_id="r1")])
    assert admit(EventIds(9, KEY), log) == [EventAdmission.NEW, EventAdmission.NEW]


def test_ids_are_kept_for_a_day_to_the_second():
    """24 h later it is a duplicate still, a second after that it is new."""
    day = 86_400_000
    times = [0, day, 2 * day + 1_000]
    log = build([Event(Kind.INTERACTION, event_id="e", log_time_ms=time) for time in times])
    ids = EventIds(9, KEY)
    assert admit(ids, cut(log, 0, 2)) == [EventAdmission.NEW, EventAdmission.DUPLICATE]
    assert ids.span_ms(day) == day
    assert admit(ids, cut(log, 2, 3)) == [EventAdmission.NEW]


@given(st.integers(0, 10**8))
def test_tables_have_room(places):
    """A power of two, never over the load."""
    size = table_size(places)
    assert size & (size - 1) == 0
    assert places <= 0.6 * size


def test_bytes_are_those_of_the_arrays():
    """What is said is what is reserved."""
    ids = EventIds(1_000, KEY)
    ring = ids._ring
    held = [each for each in (*ring.columns, *vars(ring).values()) if isinstance(each, np.ndarray)]
    assert ids.bytes_max == sum(each.nbytes for each in held) - ring.meta.nbytes
    assert ids.bytes_now == 0


@given(st.integers(0, 2**16), st.integers(1, 40))
def test_the_second_of_an_event_is_that_of_its_first_copy(seed, ids_max):
    """By its fingerprint and by its id, while it is remembered; of one that is not, there is none."""
    dice = np.random.default_rng(seed)
    events = [
        Event(Kind.INTERACTION, event_id=f"e{dice.integers(60)}", log_time_ms=1_000 + 400 * number)
        for number in range(100)
    ]
    ids, twin, batch = EventIds(ids_max, KEY), Twin(ids_max), build(events)
    prints = ids.fingerprints(batch)
    ids.admit(prints, batch.rows["log_time_ms"].copy())
    for each in events:
        twin.admit(each)
    assert twin.held
    for row, each in enumerate(events):
        held = twin.held.get(("id", each.event_id))
        second = None if held is None else held[1]
        assert ids.second_of_print(int(prints.id_hash[row]), int(prints.check[row])) == second
        assert ids.second_of(each.event_id) == second
    assert ids.second_of("unknown") is None
