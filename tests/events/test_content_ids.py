"""Ids made of content: all that was sent counts and nothing else, as the hash of the same bytes in one piece says."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.events.content_ids import ID_BYTES, content_hashes, id_texts, numbered, with_ids
from midstream.events.kernel import kernel
from midstream.events.schema import ROW, Event, build, event_at
from midstream.events.siphash import id_key_of, sip_begin, sip_text

KEY = id_key_of("000102030405060708090a0b0c0d0e0f")
BASE = Event(
    Kind.INTERACTION, 0, "e", "view", "ann", "lamp", "s", "r", b'{"page":"x"}', 1_700_000_000_000, 2.5, 1.0, 3, 9
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
events = st.builds(
    Event,
    st.sampled_from([Kind.INTERACTION, Kind.ITEM]),
    st.integers(0, 4),
    st.sampled_from(["", "e1"]),
    st.sampled_from(["", "view"]),
    *[names] * 4,
    st.binary(max_size=20),
    event_time_ms=st.none() | st.integers(0, 1 << 41),
    value=st.floats(width=32),
    quantity=st.floats(width=32),
    position=st.integers(-1, 99),
    log_time_ms=st.integers(0, 1 << 41),
)


@kernel
def whole(arena, key):
    """Return the hash of all bytes of an arena as one text."""
    return sip_text(sip_begin(key), 0, arena, 0, len(arena))


def plain(event):
    """Return what is hashed of an event: its row without places, and its texts behind the event id."""
    value, quantity = (np.nan if np.isnan(number) else number + 0.0 for number in (event.value, event.quantity))
    row = build([event._replace(event_id="", value=value, quantity=quantity, log_time_ms=0)])
    fixed = row.rows.copy()
    fixed["text_start"] = 0
    return fixed.tobytes() + row.text


@given(st.lists(events, min_size=1, max_size=6))
def test_the_hash_is_that_of_the_bytes(some):
    """Of the row and its texts end to end, whatever lies around them."""
    found = content_hashes(build(some), KEY)
    for event, words in zip(some, found.tolist(), strict=True):
        assert tuple(words) == whole(np.frombuffer(plain(event), dtype=np.uint8), KEY)


def test_all_that_was_sent_counts():
    """Each field changes the hash, but the event id and the log time; a number has one form."""
    (base,) = content_hashes(build([BASE]), KEY).tolist()
    others: dict[str, Any] = {
        "kind": Kind.IMPRESSION,
        "operation": 1,
        "action": "cart",
        "user_id": "bob",
        "item_id": "mug",
        "session_id": "t",
        "request_id": "q",
        "body": b"",
        "event_time_ms": None,
        "value": 2.0,
        "quantity": 2.0,
        "position": 4,
    }
    assert set(others) == set(Event._fields) - {"event_id", "log_time_ms"}
    for name, other in others.items():
        assert content_hashes(build([BASE._replace(**{name: other})]), KEY).tolist() != [base], name
    for same in (BASE._replace(event_id="f"), BASE._replace(log_time_ms=1)):
        assert content_hashes(build([same]), KEY).tolist() == [base]
    zeros = [BASE._replace(value=value) for value in (0.0, -0.0)]
    assert np.ptp(content_hashes(build(zeros), KEY).astype(np.float64), axis=0).tolist() == [0.0, 0.0]
    other_key = id_key_of("f0" * 16)
    assert content_hashes(build([BASE]), other_key).tolist() != [base]


@given(st.lists(events, max_size=6))
def test_events_without_an_id_get_one(some):
    """The others keep theirs, and nothing else changes; a number makes another id, the same one each time."""
    batch = build(some)
    needs = batch.rows["event_id_length"] == 0
    hashes = content_hashes(batch, KEY)
    ids = id_texts(hashes[needs])
    made = with_ids(batch, needs, ids)
    texts = iter(bytes(each).decode() for each in ids)
    for at, event in enumerate(some):
        expected = event if event.event_id else event._replace(event_id=next(texts))
        assert repr(event_at(made, at)) == repr(event_at(build([expected]), 0))
    assert ids.shape == (int(np.count_nonzero(needs)), ID_BYTES)
    second, third = (numbered(hashes, np.full(len(some), number), KEY) for number in (2, 3))
    assert second.tolist() == numbered(hashes, np.full(len(some), 2), KEY).tolist()
    assert not {*map(tuple, second.tolist())} & {*map(tuple, third.tolist()), *map(tuple, hashes.tolist())}


def test_a_row_is_whole_words():
    """The hash takes eight bytes at once."""
    assert ROW.itemsize % 8 == 0
