"""Rows of a request: what is refused leaves nothing, what is taken lies one after another, as many as may."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import TooLarge
from midstream.events.rows import Rows
from midstream.events.schema import TEXTS, text_lengths
from midstream.events.wire import Accept, Limits, Refused, WireEvent

ACCEPT = Accept(frozenset({"view", "cart"}), 1_750_000_000_000, limits=Limits(rows_max=12, text_bytes_max=300))
IDS = st.sampled_from(["a", "é", "日本語", "x" * 20])
BAD: tuple[dict[str, Any], ...] = ({"item_id": "b", "quantity": 1e39}, {"item_id": "b\n"}, {"item_id": "x" * 999})
acts = st.fixed_dictionaries({"type": st.just("view"), "user_id": IDS, "item_id": IDS})
orders = st.fixed_dictionaries(
    {
        "type": st.just("cart"),
        "user_id": IDS,
        "event_id": IDS,
        "items": st.lists(st.fixed_dictionaries({"item_id": IDS}), min_size=1, max_size=3),
    }
)


def with_bad_item(order: dict[str, Any], at: int, bad: dict[str, Any]) -> dict[str, Any]:
    """An order of which one item cannot be taken."""
    items = [*order["items"]]
    items.insert(at % (len(items) + 1), bad)
    return order | {"items": items}


refused = st.builds(with_bad_item, orders, st.integers(0, 3), st.sampled_from(BAD))


def added(rows: Rows, events: list[dict[str, Any]]) -> list[int]:
    """Add events with numbers of their own; return those that were refused."""
    found: list[int] = []
    for index, event in enumerate(events):
        try:
            rows.add(msgspec.convert(event, WireEvent), index)
        except Refused:
            found.append(index)
    return found


@given(st.lists(acts | orders | refused, max_size=4))
def test_what_is_refused_leaves_no_row_and_no_byte(events: list[dict[str, Any]]) -> None:
    """Whichever of its items cannot be taken: the batch is that of the others, whose texts follow one another."""
    rows, others = Rows(ACCEPT), Rows(ACCEPT)
    bad = added(rows, events)
    assert bad == [index for index, each in enumerate(events) if any(item in BAD for item in each.get("items", ()))]
    kept = [index for index in range(len(events)) if index not in bad]
    added(others, [events[index] for index in kept])
    batch, other = rows.batch(), others.batch()
    assert (batch.rows.tobytes(), batch.text) == (other.rows.tobytes(), other.text)
    assert rows.event_index().tolist() == [kept[each] for each in others.event_index()]
    assert rows.event_index().tolist() == [index for index in kept for _ in events[index].get("items", (0,))]
    sizes = text_lengths(batch).sum(axis=1)
    assert batch.rows["text_start"].tolist() == (np.cumsum(sizes) - sizes).tolist()
    assert sizes.sum() == len(batch.text)
    assert len(TEXTS) == text_lengths(batch).shape[1]


@pytest.mark.parametrize(
    "limits, fits",
    [
        (Limits(rows_max=3), 3),
        (Limits(text_bytes_max=27), 3),  # nine bytes each: an action, a user, two of an item, two of an event id
        (Limits(text_bytes_max=28), 3),
        (Limits(text_bytes_max=26), 2),
    ],
)
def test_as_many_rows_and_bytes_as_may_be(limits: Limits, fits: int) -> None:
    """Exactly so many are taken; the next says how many rows came, and up to which event."""
    rows = Rows(msgspec.structs.replace(ACCEPT, limits=limits))
    event = {"type": "view", "user_id": "u", "item_id": "é", "event_id": "é"}
    for index in range(fits):
        rows.add(msgspec.convert(event, WireEvent), index)
    with pytest.raises(TooLarge) as refusal:
        rows.add(msgspec.convert(event, WireEvent), 90 + fits)
    (fault,) = refusal.value.faults
    assert fault.came.startswith(f"{fits + 1} rows of {9 * (fits + 1)} bytes")
    assert f"number {90 + fits}." in fault.came
    assert str(limits.rows_max) in fault.right
