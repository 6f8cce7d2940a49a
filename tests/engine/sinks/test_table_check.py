"""Comparison of a table with the state: no row outlives its user, though a rewrite passed without the sink."""

import asyncio

import pytest

from midstream.engine.outbox import log_relay
from midstream.engine.sinks import feature_sink, row_writer
from midstream.engine.stores.online_store import SCAN_ROWS
from midstream.events.memory import MemoryLog
from tests.support.patience import wait_on_loop
from tests.support.rig import view
from tests.support.sinks import ITEMS, USERS, Process, Shelf, check, merge, profile, rewritten


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a second try."""
    monkeypatch.setattr(log_relay, "BACK_OFF_S_MAX", 0.002)
    monkeypatch.setattr(feature_sink, "IDLE_S", 0.002)
    monkeypatch.setattr(row_writer, "FLOOR_WAIT_S", 0.001)


PEOPLE = ("ann", "bob", "cem")


def filled(shelf: Shelf, *more: dict[str, object], columns: tuple[str, ...] = USERS) -> MemoryLog:
    """Return a log whose users have rows in a store."""
    log = MemoryLog()

    async def work(process: Process) -> None:
        await process.record(*(view("lamp", each) for each in PEOPLE), *more)
        await process.until_even()

    Process(log, shelf, columns).run(work)
    return log


def there(shelf: Shelf) -> set[str]:
    return {each for each, (_, row) in shelf.rows.items() if row is not None}


def test_rows_of_users_who_were_erased_while_the_sink_was_away_are_deleted() -> None:
    """The erase is a tick by now, and no file has the id; the table has it."""
    shelf = Shelf()
    log = rewritten(filled(shelf), "bob")
    Process(log, shelf).to_end()
    assert there(shelf) == {"ann", "cem"}
    check(log, shelf, USERS, PEOPLE)


def test_a_second_rewrite_while_the_sink_was_away_is_noticed_as_well() -> None:
    """The generation is another one, whichever it is, and a restored backup has a lower one."""
    shelf = Shelf()
    log = rewritten(rewritten(filled(shelf), "bob"), "cem")
    Process(log, shelf).to_end()
    assert there(shelf) == {"ann"}
    back = rewritten(log, "ann")
    back._generation = 1
    Process(back, shelf).to_end()
    assert not there(shelf)


def test_a_table_is_compared_once_for_each_writing_of_the_log() -> None:
    """A restart reads no table, and neither does a rewrite that the sink confirmed."""
    shelf = Shelf()
    log = rewritten(filled(shelf), "bob")
    Process(log, shelf).to_end()
    scans = shelf.scans
    Process(log, shelf).to_end()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        assert await process.sink.forget(["dan"]) == 1
        log._generation += 1
        assert not process.sink.view().is_complete
        await process.until_even()

    process.run(work)
    Process(log, shelf).to_end()
    assert shelf.scans == scans
    log._generation += 1  # one that nobody was asked about
    Process(log, shelf).to_end()
    assert shelf.scans > scans


def test_values_of_before_a_rewrite_are_written_anew() -> None:
    """A rewrite may also have taken back an import: rows of users who stay have other values then."""
    shelf = Shelf()
    log = rewritten(filled(shelf, view("bulb", "ann"), profile("ann", "DE-of-import")), "DE-of-import")
    Process(log, shelf).to_end()
    check(log, shelf, USERS, PEOPLE)
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["user_country"] is None


def test_items_that_are_gone_from_the_log_lose_their_rows() -> None:
    """Of an import that was taken back; items of the catalogue stay."""
    shelf = Shelf()
    put: dict[str, object] = {"type": "item", "item_id": "of-import", "operation": "put", "attributes": {"price": 3}}
    log = filled(shelf, put, columns=ITEMS)
    assert there(shelf) == {"lamp", "of-import"}
    Process(rewritten(log, "of-import"), shelf, ITEMS).to_end()
    assert there(shelf) == {"lamp"}


def test_rows_of_a_table_without_a_position_are_compared_too() -> None:
    """A sink that is added later to a table with rows: those of users who were erased before it began."""
    shelf = Shelf()
    log = rewritten(filled(shelf), "bob")
    shelf.positions.clear()
    Process(log, shelf).to_end()
    check(log, shelf, USERS, PEOPLE)
    assert there(shelf) == {"ann", "cem"}


def test_an_order_to_begin_anew_compares_though_the_store_fails_meanwhile() -> None:
    """What it passes by may have been erasures, and the next process knows that it has to."""
    shelf = Shelf()
    log = filled(shelf)
    shelf.rows["stray"] = shelf.rows["ann"]
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        assert "stray" in there(shelf)
        await process.sink.passing.stop()
        await process.relay.move(log.end)

    process.run(work)
    Process(log, shelf).to_end()
    assert there(shelf) == {*PEOPLE}


def test_a_comparison_that_fails_begins_again_and_reads_every_page() -> None:
    """Of more ids than a page has, with faults in between; the alias of a user has no row either."""
    shelf = Shelf()
    log = rewritten(filled(shelf, view("lamp", "anon"), merge("ann", "anon")), "bob")
    row = shelf.rows["cem"]
    for number in range(2 * SCAN_ROWS):
        shelf.rows[f"stray {number:04}"] = row
    shelf.rows["anon"] = (0, row[1])
    shelf.faults.update(dict.fromkeys(range(shelf.calls + 6, shelf.calls + 40, 9), "refuse"))
    Process(log, shelf).to_end()
    assert there(shelf) == {"ann", "cem"}


def test_rows_of_a_later_version_than_the_log_has_are_named() -> None:
    """They are of another log: nothing here can replace them, so an operator has to empty the table."""
    shelf = Shelf()
    log = filled(shelf)
    shelf.rows["stray"] = log.end + 100, shelf.rows["ann"][1]
    log = rewritten(log)
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        assert "has 1 rows of later versions" in process.concerns
        assert "midstream sinks backfill shop" in process.concerns
        del shelf.rows["stray"]
        await process.relay.move(log.end)
        await process.until_even()

    process.run(work)
    assert not process.concerns


def test_a_table_of_another_log_stops_the_sink_by_name_and_keeps_its_rows() -> None:
    """Nothing of it is compared or deleted before an operator says so."""
    shelf = Shelf()
    filled(shelf)
    process = Process(MemoryLog(), shelf, name="b" * 32)

    async def work(_: Process) -> None:
        await process.record(view("lamp", "dan"))
        await wait_on_loop(lambda: "has events of the log" in process.concerns)
        await asyncio.sleep(0.05)

    process.run(work)
    assert there(shelf) == {*PEOPLE}


def test_nodes_of_one_log_compare_at_each_start_and_leave_newer_rows() -> None:
    """Each node rewrites its copy at another time, so the table cannot say what all of them did; one may be behind."""
    shelf = Shelf()
    log = rewritten(filled(shelf), "bob")
    ahead = log.end + 1, shelf.rows["ann"][1]
    shelf.rows["of-another-node"] = ahead
    process = Process(log, shelf, is_shared=True)
    process.to_end()
    assert there(shelf) == {"ann", "cem", "of-another-node"}
    assert not process.concerns
    shelf.rows["stray"] = shelf.rows["ann"]
    Process(log, shelf, is_shared=True).to_end()
    assert "stray" not in there(shelf)


def test_a_user_who_comes_back_while_the_table_is_compared_keeps_the_new_row() -> None:
    """Looked up and deleted as of one position: a row of a later one stays."""
    shelf = Shelf()
    log = rewritten(filled(shelf), "bob")
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.record(view("bulb", "bob"))
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, PEOPLE)
    assert "bob" in there(shelf)
