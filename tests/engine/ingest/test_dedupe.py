"""What is acknowledged as recorded has its effect: what there is no room for is refused before it is in the log."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from midstream.core.fold_step import Fingerprints
from midstream.engine.ingest.dedupe import Admitted
from midstream.engine.ingest.writer import RepeatedEvent
from midstream.engine.types import Outcome
from midstream.events.schema import build
from tests.support.rig import SMALL, Rig, view

RECORDED, REFUSED = Outcome.RECORDED, Outcome.REFUSED


def item(item_id: str, operation: str = "put") -> dict[str, object]:
    """Return an item event as a client sends it."""
    body: dict[str, object] = {} if operation == "delete" else {"attributes": {"price": 1}}
    return {"type": "item", "item_id": item_id, "operation": operation} | body


def outcomes(
    requests: Sequence[Sequence[dict[str, object]]], items_max: int, click_items_max: int, unknown_items: str = "accept"
) -> list[list[int]]:
    """Send requests at once to a shop with this much room; return what became of each event.

    What was recorded is in the state: nothing of it was refused there.
    """
    limits = msgspec.structs.replace(
        SMALL.limits, items_max=items_max, click_items_max=click_items_max, hot_items_max=items_max
    )
    items = msgspec.structs.replace(SMALL.items, unknown_items=unknown_items)
    config = msgspec.structs.replace(SMALL, limits=limits, items=items)

    async def work(rig: Rig) -> list[list[int]]:
        recorded = await asyncio.gather(*(rig.engine.record(rig.batch(*request)) for request in requests))
        for request, each in zip(requests, recorded, strict=True):
            for event, outcome in zip(request, each.outcome.tolist(), strict=True):
                if event["type"] == "item" and event["operation"] != "delete":
                    known = rig.engine.item(str(event["item_id"])) or {"in_catalogue": False}
                    assert known["in_catalogue"] == (outcome == RECORDED)
        intake = rig.engine._intake
        assert (intake._waiting, intake._waiting_count, len(intake._coming)) == ({}, 0, 0)
        return [each.outcome.tolist() for each in recorded]

    return Rig(config=config).run(work)


def test_more_new_items_than_there_is_room_for_are_refused() -> None:
    """In one request the first ones get the places; an item that is named twice takes one."""
    sent = [item(each) for each in ("a", "b", "a", "c", "d", "b")]
    assert outcomes([sent], 3, 1) == [[RECORDED] * 4 + [REFUSED, RECORDED]]


def test_items_on_their_way_take_their_places() -> None:
    """Requests that come before the first one is applied find its places taken."""
    requests = [[item("a"), item("b")], [item("b"), item("c"), item("d")], [item("e"), item("a")]]
    assert outcomes(requests, 3, 1) == [[RECORDED] * 2, [RECORDED, RECORDED, REFUSED], [REFUSED, RECORDED]]


@pytest.mark.parametrize("apart", [False, True])
def test_items_known_from_acts_alone_take_places_up_to_their_maximum(apart: bool) -> None:
    """A view makes an item too, as far as such items may be made."""
    views, puts = [view("x"), view("y"), view("z")], [item("a"), item("b"), item("x"), item("c")]
    requests = [views, puts] if apart else [[*views, *puts]]
    flat = [each for request in outcomes(requests, 4, 2) for each in request]
    assert flat == [RECORDED] * 6 + [REFUSED]


def test_a_delete_takes_no_place_and_makes_nothing_known() -> None:
    """It is recorded in a full catalogue too, and where unknown items are refused it makes no item."""
    assert outcomes([[item("a"), item("x", "delete"), item("b"), item("c")]], 2, 1) == [[0, 0, 0, REFUSED]]
    sent = [item("x", "delete"), view("x"), item("a"), item("b"), view("b")]
    assert outcomes([sent], 1, 1, "reject") == [[RECORDED, REFUSED, RECORDED, REFUSED, REFUSED]]


def test_copies_that_are_told_twice_change_an_outcome_once() -> None:
    """Where the time of a request ends between the two, whoever goes on for it is told again."""
    names = np.arange(1, 4)
    prints = Fingerprints(names.astype(np.uint64), names.astype(np.uint32), names.astype(np.uint32))
    outcome = np.zeros(3, dtype=np.uint8)
    admitted = Admitted(build([]), outcome, (), np.empty(0, dtype=np.int32), prints, 0, Counter(), is_new=True)
    copies = (RepeatedEvent(2, 2, Outcome.DUPLICATE),)
    for _ in range(2):
        admitted.note(copies)
        assert outcome.tolist() == [RECORDED, Outcome.DUPLICATE, RECORDED]
