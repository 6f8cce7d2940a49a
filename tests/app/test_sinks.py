"""Sinks of a folder: wired beside its engine, asked by erasures, harmless while their store is down."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstream.app import sinks
from midstream.app.config.sinks import SinkTable
from midstream.app.opening import accept_of, open_running
from midstream.core.durations import Duration
from midstream.core.errors import RewriteFailed
from midstream.engine.instance import Instance
from midstream.engine.sinks import feature_sink
from midstream.events.json.decode import decode_objects
from midstream.integrations.redis.store import RedisStoreOptions
from tests.support.patience import wait_on_loop
from tests.support.rig import view
from tests.support.sinks import CONFIG, USERS, Shelf, ShelfStore, value

NOWHERE = RedisStoreOptions(url="redis://127.0.0.1:1")
FOLDER = msgspec.structs.replace(
    CONFIG, sinks=(SinkTable(name="shop", scope="user", columns=USERS, store=NOWHERE, every=Duration("0s")),)
)


def run(folder: Path, work: Callable[[Instance], Awaitable[None]], config: Any = None) -> Instance:
    """Open a folder, do the work, close it."""

    async def main() -> Instance:
        running = open_running(folder, config or FOLDER)
        async with running:
            await work(running)
        return running

    return asyncio.run(main())


async def record(running: Instance, *events: Any) -> None:
    decoded = decode_objects(events, msgspec.structs.replace(accept_of(FOLDER), now_ms=running.engine.clock()))
    await running.engine.record(decoded.batch)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A store in memory in the place of the configured one."""
    found = Shelf()

    def made(*told: Any) -> ShelfStore:
        return ShelfStore(found, told[-1])

    monkeypatch.setattr(sinks, "store_of", made)
    monkeypatch.setattr(feature_sink, "IDLE_S", 0.01)
    return found


def test_rows_follow_the_events_of_a_folder(tmp_path: Path, shelf: Shelf) -> None:
    """A pass reads the log in its folder; lag and rows stand in views and metrics."""
    run(tmp_path, lambda each: record(each, view("lamp", "ann")), CONFIG)

    async def work(running: Instance) -> None:
        group = running.sinks
        assert group is not None
        await record(running, view("lamp", "bob"))
        await wait_on_loop(lambda: set(shelf.rows) == {"ann", "bob"} and group.view("shop").lag_events == 0)
        status = group.view("shop")
        assert (status.store, status.table, status.state, status.is_complete) == ("redis", "shop", "idle", True)
        assert status.half_lives_ms == {"lately": (3_600_000,)}
        running.engine.refresh_metrics()
        text = running.engine.metrics.text().decode()
        assert f'midstream_sink_rows_written_total{{sink="shop"}} {status.rows_written}.0' in text
        assert 'midstream_sink_lag_events{sink="shop"} 0.0' in text
        shelf.rows.clear()
        await group.backfill("shop")
        await wait_on_loop(lambda: set(shelf.rows) == {"ann", "bob"})

    run(tmp_path, work)


def test_a_rewrite_waits_for_the_store_and_its_receipt_has_the_rows(tmp_path: Path, shelf: Shelf) -> None:
    """After a rewrite no file has the id of an erased user, so the row is gone before."""

    async def work(running: Instance) -> None:
        assert running.eraser is not None
        await record(running, view("lamp", "ann"), view("lamp", "bob"))
        await wait_on_loop(lambda: set(shelf.rows) == {"ann", "bob"})
        shelf.is_up = False
        await running.engine.erase("ann")
        with pytest.raises(RewriteFailed, match="sink shop"):
            await running.eraser.carry_out()
        assert shelf.rows["ann"][1] is not None
        shelf.is_up = True
        await running.eraser.carry_out()
        assert shelf.rows["ann"][1] is None
        assert value(shelf, "bob", "views") == 1.0
        assert [each.sinks for each in running.eraser.receipts()] == [{"shop": 1}]

    run(tmp_path, work)


@pytest.mark.parametrize("times", [1, 2])
def test_a_sink_that_was_not_configured_during_rewrites_deletes_the_rows_when_it_is_back(
    tmp_path: Path, shelf: Shelf, times: int
) -> None:
    """No file has the id by then, not even a hash of it after the second rewrite; the table has it."""
    erased = ("ann", "cem")[:times]

    async def even(running: Instance) -> None:
        group = running.sinks
        assert group is not None
        await wait_on_loop(lambda: group.view("shop").is_complete and group.view("shop").lag_events == 0)

    async def fill(running: Instance) -> None:
        await record(running, *(view("lamp", each) for each in ("ann", "bob", "cem")))
        await even(running)

    async def erase(running: Instance) -> None:
        assert running.eraser is not None
        for each in erased:
            await running.engine.erase(each)
            await running.eraser.carry_out()
        assert [each.sinks for each in running.eraser.receipts()] == [{}] * times

    run(tmp_path, fill)
    assert set(shelf.rows) == {"ann", "bob", "cem"}
    run(tmp_path, erase, CONFIG)
    assert all(shelf.rows[each][1] is not None for each in erased)
    run(tmp_path, even)
    assert [each for each in ("ann", "bob", "cem") if shelf.rows[each][1] is None] == [*erased]
    assert value(shelf, "bob", "views") == 1.0


def test_a_store_that_cannot_be_reached_costs_nothing_but_its_rows(tmp_path: Path) -> None:
    """Events are taken, health names the sink, and a stop does not wait for it."""
    asked: list[float] = []

    async def work(running: Instance) -> None:
        await record(running, view("lamp", "ann"))
        await wait_on_loop(lambda: "127.0.0.1:1" in running.engine.concerns.get("background-sink_shop", ""))
        assert running.engine.user("ann") is not None
        assert "sink_shop" in running.engine.health().reason
        asked.append(time.monotonic())

    run(tmp_path, work)
    assert time.monotonic() - asked[0] < 30  # a stop that waited for a store would wait for ever
