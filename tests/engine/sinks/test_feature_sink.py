"""Sinks: a store has the content of the state in the end, whatever failed or was killed on the way."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import RewriteFailed
from midstream.engine.outbox import log_relay
from midstream.engine.sinks import feature_sink, row_writer
from midstream.events.memory import MemoryLog
from tests.support.patience import wait_on_loop
from tests.support.rig import view
from tests.support.sinks import ITEMS, USERS, Fault, Process, Shelf, check, merge, profile, value


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a second try."""
    monkeypatch.setattr(log_relay, "BACK_OFF_S_MAX", 0.002)
    monkeypatch.setattr(log_relay, "DELIVER_S_MAX", 0.5)
    monkeypatch.setattr(log_relay, "STOP_S_MAX", 0.2)
    monkeypatch.setattr(feature_sink, "IDLE_S", 0.002)
    monkeypatch.setattr(feature_sink, "PASS_ITEMS", 3)
    monkeypatch.setattr(row_writer, "FLOOR_WAIT_S", 0.001)


PEOPLE = ("ann", "bob", "cem", "anon")


def test_a_new_table_gets_all_rows_and_then_follows() -> None:
    """Users of before the sink was declared are written by a pass, later ones as they act."""
    log, shelf = MemoryLog(), Shelf()
    Process(log, Shelf()).run(lambda each: each.record(*(view("lamp", user) for user in PEOPLE)))
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        assert sorted(shelf.rows) == sorted(PEOPLE)
        await process.record(view("bulb", "dan"), view("bulb", "ann"), profile("ann", "DE"))
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, (*PEOPLE, "dan"))
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["user_country"] == "DE"


def test_items_are_written_with_their_fields() -> None:
    """The pass goes through the catalogue; a click makes another row of the item, a change of the catalogue as well."""
    log, shelf = MemoryLog(), Shelf()

    def item(item_id: str, **attributes: object) -> dict[str, object]:
        return {"type": "item", "item_id": item_id, "operation": "put", "attributes": attributes}

    Process(log, Shelf()).run(lambda each: each.record(*(item(f"i{n}", price=n) for n in range(10))))
    process = Process(log, shelf, ITEMS)

    async def work(_: Process) -> None:
        await process.until_even()
        assert len(shelf.rows) == 10
        await process.record(view("i3"), view("new"), item("i4", price=9, available=False))
        await process.until_even()

    process.run(work)
    check(log, shelf, ITEMS, [*(f"i{n}" for n in range(10)), "new"])
    row = shelf.rows["i4"][1]
    assert row is not None
    assert (row["item_price"], row["item_available"]) == (9.0, 0)


def erase(user: str) -> dict[str, object]:
    return {"type": "erase", "user_id": user}


Step = tuple[str, str, str]
steps = st.lists(
    st.tuples(
        st.sampled_from(["view", "profile", "merge", "erase", "delete"]),
        st.sampled_from(PEOPLE),
        st.sampled_from(PEOPLE),
    ),
    min_size=1,
    max_size=8,
)
faults = st.dictionaries(st.integers(1, 40), st.sampled_from(["refuse", "lose", "late"]), max_size=6)


async def act(process: Process, step: Step) -> None:
    what, user, other = step
    if what == "erase":
        await process.rig.engine.erase(user)
    elif what == "merge":
        await process.record(merge(user, other))
    elif what == "delete":
        await process.record({"type": "user", "user_id": user, "operation": "delete"})
    elif what == "profile":
        await process.record(profile(user, other))
    else:
        await process.record(view(f"of-{other}", user))
    process.rig.now_ms += 60_000


@settings(max_examples=15, deadline=None)
@given(before=steps, after=steps, faults=faults, kill_after=st.integers(0, 30))
def test_a_store_has_the_content_of_the_state_whatever_fails(
    before: list[Step], after: list[Step], faults: dict[int, Fault], kill_after: int
) -> None:
    """Calls are refused, lose their answers, and the process is killed; the next one brings all rows."""
    log, shelf = MemoryLog(), Shelf(faults=dict(faults))

    async def begin(process: Process) -> None:
        for step in before:
            await act(process, step)
        for _ in range(kill_after):
            await asyncio.sleep(0)

    Process(log, shelf).run(begin)

    async def go_on(process: Process) -> None:
        for step in after:
            await act(process, step)
        await process.until_even()

    Process(log, shelf).run(go_on)
    check(log, shelf, USERS, PEOPLE)


def test_an_erasure_by_an_alias_ends_the_row_of_the_user_after_any_failure() -> None:
    """The state has no texts of users, and after the erasure it does not know either whom an alias stood for."""
    log = MemoryLog()
    shelf = Shelf()
    process = Process(log, shelf)

    async def merged(_: Process) -> None:
        await process.record(view("lamp", "anon"), view("lamp", "ann"), merge("ann", "anon"))
        await process.until_even()
        assert [each for each, (_, row) in shelf.rows.items() if row is not None] == ["ann"]
        shelf.is_up = False
        await process.rig.engine.erase("anon")

    process.run(merged)
    shelf.is_up = True
    Process(log, shelf).to_end()
    assert shelf.rows["ann"][1] is None


def test_a_user_who_acts_often_is_read_once() -> None:
    """A batch touches each user once; a row that is new enough is passed by."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(*(view(f"i{n % 5}", "ann", event_id=str(n)) for n in range(100)))
        await process.until_even()

    process.run(work)
    assert process.writer.counts.written == 1  # of the 15 batches of 7 events, which are all in the state at the first
    check(log, shelf, USERS, ("ann",))


def test_a_store_that_was_emptied_gets_all_rows_again() -> None:
    """The position went with the rows, so the next failure shows it, and a pass writes them anew."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(view("lamp", "ann"), view("lamp", "bob"))
        await process.until_even()
        shelf.rows.clear()
        shelf.positions.clear()
        shelf.faults[shelf.calls + 1] = "refuse"
        await process.record(view("bulb", "cem"))
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, ("ann", "bob", "cem"))


def test_a_store_that_is_down_is_named_and_caught_up_with() -> None:
    """Health names the error while it lasts."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        shelf.is_up = False
        await process.record(view("lamp", "ann"))
        await wait_on_loop(lambda: "down" in process.concerns)
        assert process.relay.view().lag_events == 1
        shelf.is_up = True
        await process.until_even()

    process.run(work)
    assert not process.concerns
    check(log, shelf, USERS, ("ann",))


def test_rows_of_erased_users_are_deleted_before_their_ids_are_gone() -> None:
    """A rewrite asks the sink; one whose store is down holds it up. Ids of users who are there again are left alone."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.record(view("lamp", "ann"), view("lamp", "bob"))
        await process.until_even()
        shelf.is_up = False
        with pytest.raises(RewriteFailed, match="sink shop"):
            await process.sink.forget(["cem"])
        shelf.is_up = True
        assert await process.sink.forget(["cem", "ann", "cem"]) == 1
        assert shelf.rows["cem"] == (2, None)

    process.run(work)
    check(log, shelf, USERS, ("ann", "bob"))


def test_a_value_that_no_store_can_hold_is_missing_and_holds_up_nobody() -> None:
    """Anyone who may send events may send a NUL; health has their number and the column."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(profile("ann", "D\0E"), profile("bob", "FR"), profile("cem", "\0"))
        await process.until_even()

    process.run(work)
    countries = {each: value(shelf, each, "user_country") for each in shelf.rows}
    assert countries == {"ann": None, "bob": "FR", "cem": None}
    assert "wrote 2 values as missing since the start, in user_country" in process.concerns


def test_a_refresh_reads_fading_values_anew() -> None:
    """After so much log time all rows are read again, also of those who did nothing."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf, refresh_ms=3_600_000)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(view("lamp", "ann"))
        await process.until_even()
        process.rig.now_ms += 3_600_000
        await process.record(view("lamp", "bob"))
        await wait_on_loop(lambda: shelf.rows["ann"][0] == log.end)

    process.run(work)
    assert value(shelf, "ann", "lately") == pytest.approx(0.5, rel=0.01)
    check(log, shelf, USERS, ("ann", "bob"))


def test_an_evicted_user_keeps_the_last_row() -> None:
    """The log does not say who was evicted; the row ages, and is replaced when the user comes back."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(view("lamp", "ann"))
        await process.until_even()
        await process.record(*(view("lamp", f"u{n}") for n in range(100)))
        await process.until_even()
        assert process.rig.engine.user("ann") is None
        assert shelf.rows["ann"][1] is not None
        await process.record(view("bulb", "ann"))
        await process.until_even()

    process.run(work)
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["row_recent_items"] == ("bulb",)


def test_rows_at_whose_place_something_of_the_shops_lies_are_named() -> None:
    """Health has their number; no other row waits for them."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        cast("Any", process.writer.store).left = 2
        await process.record(view("lamp", "ann"))
        await process.until_even()

    process.run(work)
    assert "left 2 rows unwritten" in process.concerns
    check(log, shelf, USERS, ("ann",))
