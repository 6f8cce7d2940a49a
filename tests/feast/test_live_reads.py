"""Calls for rows of ids: as few as their users and sessions need, bounded, and each row finds its own values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid
from midstream.feast.live_reads import ITEMS_MAX, LiveItemValues, ReadAnswer, ReadCall, ReadRow, planned
from midstream.integrations.feast.tags import NO_ITEM

IDS = st.none() | st.sampled_from(["a", "b", "c"])
ROWS = st.lists(st.builds(ReadRow, IDS, IDS, st.none() | st.integers(0, 30).map(str)), max_size=60)


def answered(call):
    """What a server would answer whose values are the ids."""
    rows = [
        LiveItemValues(item, [hash_of(call.user_id), hash_of(call.session_id), hash_of(item)]) for item in call.items
    ]
    return ReadAnswer(("user", "session", "item"), tuple(rows))


def hash_of(text):
    return None if text is None or text == NO_ITEM else float(sum(text.encode()))


@given(ROWS)
def test_each_row_has_its_own_values(rows):
    """In their order, also where one is repeated; one call for each user and session."""
    plan = planned(rows, ["f"], 1_000)
    found = list(plan.rows([answered(each) for each in plan.calls]))
    for row, values in zip(rows, found, strict=True):
        assert values["user"] == hash_of(row.user_id)
        assert values["session"] == hash_of(row.session_id)
        assert row.item_id is None or values["item"] == hash_of(row.item_id)
    assert len(plan.calls) == len({(each.user_id, each.session_id) for each in rows})
    assert all(len(set(each.items)) == len(each.items) for each in plan.calls)


def test_a_call_has_no_more_items_than_a_server_takes():
    """The items of one user are cut, and found again."""
    rows = [ReadRow("a", None, str(number)) for number in range(2 * ITEMS_MAX + 1)]
    plan = planned(rows, ["f"], 3)
    assert [len(each.items) for each in plan.calls] == [ITEMS_MAX, ITEMS_MAX, 1]
    found = [each["item"] for each in plan.rows([answered(each) for each in plan.calls])]
    assert found == [hash_of(each.item_id) for each in rows]
    with pytest.raises(Invalid, match="need 3 calls"):
        planned(rows, ["f"], 2)


def test_a_user_without_items_is_asked_about_beside_none():
    """With items of the same user in the request one of them serves."""
    assert planned([ReadRow("a")], ["f"], 1).calls == (ReadCall((NO_ITEM,), ("f",), "a"),)
    assert planned([ReadRow("a"), ReadRow("a", None, "x")], ["f"], 1).calls == (ReadCall(("x",), ("f",), "a"),)
