"""The checks of a simulated run see what they are for: each is shown a promise that was not kept."""


import pytest

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event
from midstream.serving.ingest import EventsAnswer, Result
from midstream.testing.fuzz.ledger import Broken, Ledger
from midstream.testing.fuzz.proof import check_acknowledged
from midstream.testing.fuzz.traffic import Batch

ORDER = {"type": "cart", "event_id": "e", "user_id": "u1", "items": [{"item_id": "a"}, {"item_id": "b"}]}


def row(number, item):
    """A row of the order in the log."""
    return Event(Kind.INTERACTION, action="cart", event_id=f"e#{number}", user_id="u1", item_id=item)


@pytest.mark.parametrize("outcome", ["recorded", "duplicate"])
def test_an_acknowledged_order_may_not_vanish(outcome):
    """At least one of its rows stands before the position that was told; another item may have been refused."""
    ledger, batch = Ledger(), Batch([dict(ORDER)])
    ledger.note_sent(batch)
    ledger.note_answer(batch, EventsAnswer(1, 0, (), results=(Result(0, outcome),)), LogPosition(1))
    other = Event(Kind.TICK)

    def check(*events, is_rewritten=False):
        check_acknowledged(events, ledger, may_refuse=True, is_rewritten=is_rewritten)

    check(row(1, "b"))
    check(row(0, "a"), row(1, "b"))
    check(is_rewritten=True)
    for events in ((), (other,), (other, row(0, "a"), row(1, "b"))):
        with pytest.raises(Broken, match="an order was acknowledged at 1"):
            check(*events)
