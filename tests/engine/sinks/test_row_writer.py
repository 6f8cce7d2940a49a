"""Rows written from the state: under one version one content, also where declarations or the state change."""

import msgspec
import pytest

from midstream.app.wiring import plans
from midstream.engine.child_process import nobody
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.outbox import log_relay
from midstream.engine.sinks import feature_sink, row_writer
from midstream.events.memory import MemoryLog
from midstream.features.kinds.kinds import Count
from midstream.state.fold import Fold
from midstream.state.settings import EventType
from tests.support.patience import wait_on_loop
from tests.support.rig import view
from tests.support.sinks import CONFIG, FEATURES, USERS, Process, Shelf, check


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a second try."""
    monkeypatch.setattr(log_relay, "BACK_OFF_S_MAX", 0.002)
    monkeypatch.setattr(feature_sink, "IDLE_S", 0.002)
    monkeypatch.setattr(row_writer, "FLOOR_WAIT_S", 0.001)


MORE = (*FEATURES, Count(name="clicks", scope="user", actions=("click",)))
OTHER = msgspec.structs.replace(CONFIG, features=MORE)


def test_other_columns_are_written_to_every_row_though_nobody_acts() -> None:
    """No row keeps the content of the declaration before, not even one of the newest position: a tick moves the log."""
    log, shelf = MemoryLog(), Shelf()

    async def work(process: Process) -> None:
        await process.record(view("lamp", "ann"), view("lamp", "bob"), {**view("lamp", "bob"), "type": "click"})
        await process.until_even()

    Process(log, shelf).run(work)
    columns = (*USERS, "clicks")
    Process(log, shelf, columns, OTHER).to_end()
    check(log, shelf, columns, ("ann", "bob"), OTHER)
    assert shelf.rows["bob"][1] is not None
    assert shelf.rows["bob"][1]["clicks"] == 1.0


def test_a_state_that_is_swapped_in_is_noticed() -> None:
    """A rebuild gives other values at the same position: all rows are written anew above it."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)
    weighted = msgspec.structs.replace(
        CONFIG, features=(*FEATURES[1:], msgspec.structs.replace(FEATURES[0], weighted=True))
    )
    weighted = msgspec.structs.replace(
        weighted, events=msgspec.structs.replace(CONFIG.events, types={"view": EventType(weight=5.0)})
    )

    async def work(_: Process) -> None:
        await process.record(view("lamp", "ann"), view("lamp", "bob"))
        await process.until_even()
        fold = Fold(weighted.fold_settings())
        catch_up(fold, log.read, log.end, nobody)
        process.rig.engine.swap(fold, plans(weighted))
        await wait_on_loop(lambda: not process.sink.view().is_complete)
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, ("ann", "bob"), weighted)
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["views"] == 5.0


def test_features_that_are_gone_stop_a_sink_by_name() -> None:
    """A configuration in service that no longer declares a column is named, and nothing is written."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf, config=msgspec.structs.replace(CONFIG, features=FEATURES[1:]))

    async def work(_: Process) -> None:
        await wait_on_loop(lambda: "columns of views" in process.concerns)

    process.run(work)
    assert not shelf.rows
