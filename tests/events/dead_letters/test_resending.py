"""A dead letter sent again is the event that came, once, at the time at which it came."""

import json

import pytest

from midstream.core.answers.letters import DeadLetter
from midstream.core.errors import Fault
from midstream.core.types import TimestampMs
from midstream.events.dead_letters.dead_letters import dead_letter
from midstream.events.dead_letters.resending import event_of
from midstream.events.json.decode import decode
from midstream.events.wire import Accept
from midstream.state.ids.event_ids import fingerprints
from tests.support.ids import KEY

REASON = Fault("", "", "", "")
ACCEPT = Accept(frozenset({"view"}), 0)
TIME = 1_700_000_000_000
VIEW = {"type": "view", "user_id": "ann"}
ORDER = VIEW | {"items": [{"item_id": "a", "value": 1.5}, {"item_id": "b", "quantity": 2, "position": 3}]}


def letter(event, item=-1, number=7):
    """Return the letter of an event, or of one item of it."""
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    made = dead_letter(TimestampMs(TIME), REASON, raw, item)
    return DeadLetter(made.time_ms, made.reason, made.raw, made.characters_cut, made.item, number=number)


def sent(event, item=-1, number=7):
    """Return what would be sent again, None = nothing."""
    again = event_of(letter(event, item, number))
    return None if again is None else json.loads(again)


def test_what_has_a_time_goes_as_it_came():
    """So that whoever sends it once more sends the same."""
    event = VIEW | {"item_id": "a", "time": TIME - 5}
    assert sent(event) == event
    named = event | {"event_id": "e1"}
    assert sent(named) == named


@pytest.mark.parametrize("time", [{}, {"time": None}])
def test_what_has_none_gets_the_time_at_which_it_came(time):
    """With its own id."""
    assert sent(VIEW | time | {"event_id": "e1"}) == VIEW | {"event_id": "e1", "time": TIME}


def test_what_has_neither_gets_an_id_of_content_and_number():
    """The same each time, another one for another letter or another event."""
    first = sent(VIEW)["event_id"]
    assert first == sent(VIEW | {"event_id": None})["event_id"].rpartition(":")[0] + ":" + first.rpartition(":")[2]
    assert sent(VIEW) == sent(VIEW) == VIEW | {"time": TIME, "event_id": first}
    assert first != sent(VIEW, number=8)["event_id"]
    assert first != sent(VIEW | {"session_id": "s"})["event_id"]
    assert len(first) < 60


@pytest.mark.parametrize("extra", [{"event_id": "e1", "time": TIME}, {"time": TIME}])
def test_an_item_alone_is_the_row_that_the_order_would_have_made(extra):
    """Its fingerprint tells it from nothing: sent with the whole order it counts once."""
    order = decode(json.dumps(ORDER | extra).encode(), ACCEPT).batch
    for item in (0, 1):
        again = event_of(letter(ORDER | extra, item))
        assert again is not None
        alone = decode(again, ACCEPT).batch
        assert len(alone) == 1
        whole, single = fingerprints(order, KEY), fingerprints(alone, KEY)
        for name in ("id_hash", "check", "content"):
            assert getattr(whole, name)[item] == getattr(single, name)[0]


def test_an_item_of_an_order_without_id_and_time_has_an_id_of_its_own():
    """One item, not the order."""
    found = sent(ORDER, item=1)
    assert found["item_id"] == "b"
    assert "items" not in found
    assert found["event_id"].startswith("dead-letter:7:")


@pytest.mark.parametrize(
    "raw",
    [b"", b"no json", b"[]", b'["a"]', b"5", b'{"events": []}', b'{"type": "vi\xff"}', b'{"type": 1e', b"x" * 300_000],
)
def test_what_is_no_event_is_not_sent(raw):
    """It would be another request, or none."""
    assert event_of(letter(raw)) is None


def test_an_item_that_is_not_there_is_the_event():
    """A letter that somebody edited is judged like any event."""
    assert sent(ORDER | {"time": TIME}, item=9) == ORDER | {"time": TIME}
    assert sent({"type": "view", "items": 3, "time": 1}, item=0) is None
