"""Batches are built, cut, joined and picked without a text going to the wrong row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.events.schema import TEXTS, Event, build, concat, cut, event_at, pick, text_column, texts_of
from tests.support.events import event_lists


def events_of(batch) -> list[Event]:
    return [event_at(batch, index) for index in range(len(batch))]


def same(left: list[Event], right: list[Event]) -> bool:
    """Compare as text, because a value that was not sent is NaN, which is not equal to itself."""
    return [repr(at_rest(each)) for each in left] == [repr(at_rest(each)) for each in right]


def at_rest(event: Event) -> Event:
    """Return the event as a row holds it: plain numbers, the quantity in single precision."""
    quantity = float(np.float32(event.quantity))
    return event._replace(kind=int(event.kind), operation=int(event.operation), quantity=quantity)


@given(event_lists())
def test_what_was_built_reads_back(events: list[Event]) -> None:
    """Every field and text of every event comes back."""
    assert same(events_of(build(events)), events)


@given(event_lists(), st.data())
def test_cut_is_a_slice(events: list[Event], data: st.DataObject) -> None:
    """A cut batch holds the events between, and their texts alone."""
    start = data.draw(st.integers(0, len(events)))
    stop = data.draw(st.integers(start, len(events)))
    part = cut(build(events), start, stop)
    assert same(events_of(part), events[start:stop])
    assert part.text == build(events[start:stop]).text


@given(st.lists(event_lists(), max_size=4))
def test_concat_joins_in_order(lists: list[list[Event]]) -> None:
    """Joined batches hold all events in order, and the bytes of one built at once."""
    whole = [event for events in lists for event in events]
    joined = concat([build(events) for events in lists])
    assert same(events_of(joined), whole)
    assert joined.text == build(whole).text
    assert np.array_equal(joined.rows["text_start"], build(whole).rows["text_start"])


@given(st.lists(event_lists(), min_size=2, max_size=6))
def test_batches_joined_are_the_batch_of_all_their_events(lists: list[list[Event]]) -> None:
    """To the byte, empty and cut ones included; none of them is changed by it, nor by writing to the rows."""
    batches = [cut(build((*events, Event(1))), 0, len(events)) for events in lists]
    before = [(each.rows.tobytes(), each.text) for each in batches]
    found, right = concat(batches), build([event for events in lists for event in events])
    assert found.rows.dtype == right.rows.dtype
    assert (found.rows.tobytes(), found.text[: len(right.text)]) == (right.rows.tobytes(), right.text)
    found.rows["log_time_ms"] = 7
    assert [(each.rows.tobytes(), each.text) for each in batches] == before


@given(event_lists(), st.data())
def test_pick_takes_any_rows_in_any_order(events: list[Event], data: st.DataObject) -> None:
    """Rows may be left out, come twice and change places; each keeps its own texts."""
    chosen = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=20)) if events else []
    picked = pick(build(events), chosen)
    assert same(events_of(picked), [events[index] for index in chosen])
    assert picked.text == build([events[index] for index in chosen]).text


@given(event_lists(), st.sampled_from(TEXTS), st.data())
def test_a_column_of_texts_is_that_of_each_event(events: list[Event], name: str, data: st.DataObject) -> None:
    """Of any rows in any order, also of events cut out of a batch."""
    batch = build(events)
    chosen = np.array(
        data.draw(st.lists(st.integers(0, len(events) - 1), max_size=20)) if events else [], dtype=np.int64
    )
    place = TEXTS.index(name)
    assert text_column(batch, name, chosen) == [texts_of(batch, int(each))[place] for each in chosen]
