"""The relay of the log: each event delivered once and in order, whatever fails, is killed, rewritten or cut."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from midstream.core.errors import EventsGone, LogRewritten
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.background_service import BackgroundService, Round
from midstream.engine.child_process import nobody
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.listeners import Listeners
from midstream.engine.outbox import log_relay
from midstream.engine.outbox.log_destination import DeliveredPosition
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions, RelayStopped, Start
from midstream.events.memory import MemoryLog
from midstream.monitoring.metrics import Metrics
from midstream.testing.log_conformance import events_in, sample_batch
from tests.support.destinations import FakeDestination, FakeStore, Fault, check_destination
from tests.support.patience import PATIENCE_S, wait_on_loop
from tests.support.rig import Rig, view

LOG = "a" * 32
NAME = "output_shop"
START = LogPosition(0)


@dataclass
class CutLog:
    """A reader of a log in memory, whose beginning may be cut and whose writing may be replaced."""

    log: MemoryLog
    begin: LogPosition = START
    generation: int = 0
    rewritten: bool = False
    reads: list[int] = field(default_factory=list[int])

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Read as a segment reader does."""
        self.reads.append(after)
        if self.rewritten:
            message = "rewritten"
            raise LogRewritten(message)
        if after < self.begin:
            message = "gone"
            raise EventsGone(message)
        assert after <= durable <= self.log.end
        return self.log.read(after, limit)


class Process:
    """A process that has a log and delivers it."""

    def __init__(
        self, log: MemoryLog, store: FakeStore, start: Start = "beginning", *, is_shared: bool = False
    ) -> None:
        self.rig = Rig(log=log)
        catch_up(self.rig.engine.fold, log.read, log.end, nobody)
        self.log = log
        self.reader = CutLog(log)
        self.destination = FakeDestination(store)
        options = RelayOptions(NAME, LOG, start, is_shared, events_max=4)
        self.relay = LogRelay(options, self.rig.engine, lambda: self.reader, self.destination)

    @property
    def concern(self) -> str:
        return self.rig.engine.concerns.get(NAME, "")

    async def record(self, count: int, more: str = "") -> None:
        """Append events of different items."""
        end = self.log.end
        await self.rig.engine.record(self.rig.batch(*(view(f"i{more}{end + each}") for each in range(count))))

    def run(self, work: Callable[["Process"], Awaitable[None]]) -> None:
        """Start engine and relay, do the work, stop both."""

        async def inside(_: Rig) -> None:
            self.relay.start()
            try:
                await work(self)
            finally:
                await self.relay.stop()

        self.rig.run(inside)

    async def until_even(self) -> None:
        """Wait until the destination has all."""
        await wait_on_loop(lambda: self.relay.view().lag_events == 0)


def relayed() -> tuple[MemoryLog, FakeStore, Process]:
    """Return an empty log, what a destination stores of it, and the process that delivers it."""
    log, store = MemoryLog(), FakeStore()
    return log, store, Process(log, store)


def expected(log: MemoryLog, first: int = 0) -> list[tuple[int, bytes]]:
    """Return what has to be delivered, from a position on."""
    found = events_in(log.read(LogPosition(first), log.end)) if log.end > first else []
    return list(enumerate(found, first))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test waits for a second try."""
    monkeypatch.setattr(log_relay, "BACK_OFF_S_MAX", 0.002)
    monkeypatch.setattr(log_relay, "DELIVER_S_MAX", 0.02)
    monkeypatch.setattr(log_relay, "STOP_S_MAX", 0.2)


def test_the_fake_keeps_the_promises_of_a_destination():
    """What the relay is proven against is a destination as any other."""
    store = FakeStore()

    async def found() -> list[int]:
        return [position for position, _ in store.events]

    asyncio.run(check_destination(lambda: FakeDestination(store), found))


def test_events_are_delivered_as_they_are_applied():
    """All that was there and all that comes is delivered in order, in bounded batches, without a wait for a look."""
    log, store, process = relayed()

    async def work(_: Process) -> None:
        await process.record(11)
        await process.until_even()
        await process.record(1)
        await process.until_even()

    process.run(work)
    assert store.events == expected(log)
    assert store.position is not None
    assert store.position.log_position == log.end == 12
    assert store.position.log == LOG
    assert store.position.log_time_ms == log.last_log_time_ms
    assert process.relay.view().deliveries >= 4
    assert process.destination.is_closed


def test_the_end_is_waited_for_and_a_store_that_is_away_is_not_for_ever():
    """What is applied at the call has to be there; later events may come."""
    log, store, process = relayed()

    async def work(_: Process) -> None:
        await process.until_even()
        store.is_up = False
        await process.record(3)
        assert not await process.relay.reaches_end(0.02)
        store.is_up = True
        assert await process.relay.reaches_end(PATIENCE_S)
        assert store.events == expected(log)

    process.run(work)


def test_a_commit_wakes_the_relay(monkeypatch):
    """It is told of a commit: with no look of its own it delivers all the same."""
    monkeypatch.setattr(log_relay, "LOOK_S_MAX", 1e6)
    log, store, process = relayed()

    async def work(_: Process) -> None:
        await process.until_even()
        for _each in range(5):
            await process.record(1)
            await process.until_even()

    process.run(work)
    assert store.events == expected(log)


@pytest.mark.parametrize("start", ["now", "beginning"])
def test_a_first_start_begins_where_it_is_said(start):
    """The first position is stored at once, so that a restart does not begin behind what came meanwhile."""
    log, store = MemoryLog(), FakeStore()
    before = Process(log, FakeStore())
    before.run(lambda each: each.record(3))
    process = Process(log, store, start)
    process.run(lambda each: each.until_even())
    assert store.position is not None
    again = Process(log, FakeStore())
    again.run(lambda each: each.record(2))
    last = Process(log, store, start)
    last.run(lambda each: each.until_even())
    assert store.events == expected(log, 3 if start == "now" else 0)


FAULTS: list[Fault] = list(get_args(Fault))


@dataclass
class BareEngine:
    """An engine that applies at once what is appended, for many short lives."""

    log: MemoryLog
    listeners: Listeners = field(default_factory=Listeners)
    concerns: dict[str, str] = field(default_factory=dict[str, str])
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))

    @property
    def fold(self) -> Any:
        return SimpleNamespace(log_position=self.log.end)

    async def reached(self, position: LogPosition, timeout_s: float) -> bool:
        return self.log.end >= position

    def supervise(self, name: str, one_round: Round, pause_s: float, *, first_s: float | None = None) -> Any:
        return BackgroundService(name, one_round, pause_s, self.concerns, self.metrics, first_s=first_s)


async def live(log: MemoryLog, store: FakeStore, sizes: Sequence[int], calls: int) -> None:
    """Append batches and deliver; end without any stop after so many calls of the destination."""
    engine, until = BareEngine(log), store.calls + calls
    relay = LogRelay(RelayOptions(NAME, LOG, events_max=4), engine, lambda: CutLog(log), FakeDestination(store))
    relay.start()
    for size in sizes:
        log.append(sample_batch(log.end, size, 1_000 + log.end))
        engine.listeners.tell_commit()
        await asyncio.sleep(0)
    while store.calls < until and relay.view().lag_events:  # noqa: ASYNC110  a kill comes at any turn
        await asyncio.sleep(0.0002)
    (task,) = (each for each in asyncio.all_tasks() if each.get_name() == f"midstream-{NAME}")
    task.cancel()
    await asyncio.wait((task,))


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(st.sampled_from(FAULTS), max_size=12),
    lives=st.lists(st.tuples(st.lists(st.integers(1, 9), max_size=3), st.integers(0, 6)), min_size=1, max_size=4),
    is_atomic=st.booleans(),
)
def test_any_kill_and_any_failure_at_any_call(faults, lives, is_atomic):
    """Each event is delivered whatever fails and whenever it is killed, and none twice where the store is atomic."""
    log, store = MemoryLog(), FakeStore(is_atomic, faults=iter(faults))
    for sizes, calls in lives:
        asyncio.run(live(log, store, sizes, calls))
    store.faults = iter(())
    asyncio.run(live(log, store, [1], 1_000))
    assert store.position is not None
    assert store.position.log_position == log.end
    if is_atomic:
        assert store.events == expected(log)
    else:
        assert sorted(set(store.events)) == expected(log)


def test_a_destination_that_is_down_is_named_and_caught_up_with():
    """While it is down health names it and events go on; when it is back all is delivered."""
    log, store, process = relayed()

    async def work(_: Process) -> None:
        await process.until_even()
        store.is_up = False
        await process.record(3)
        await wait_on_loop(lambda: process.relay.view().state == "failing")
        seen = process.relay.view()
        assert seen.lag_events == 3
        assert "the system is down" in seen.reason
        assert "the system is down" in process.rig.engine.health().reason
        store.is_up = True
        await process.until_even()
        assert process.relay.view().state == "idle"
        assert process.rig.engine.health().reason == ""

    process.run(work)
    assert store.events == expected(log)


def test_the_delivery_of_another_process_is_not_repeated():
    """A process that was replaced is fenced, and takes over from where the other came: no event is there twice."""
    log, store, process = relayed()

    async def work(_: Process) -> None:
        await process.record(3)
        await process.until_even()
        other = FakeDestination(store)
        assert await other.resume() == store.position
        await process.record(4)
        await process.until_even()

    process.run(work)
    assert store.events == expected(log)


def test_lag_is_told_in_events_and_in_log_time():
    """Both count from the last delivered event to the newest applied one."""
    _, store, process = relayed()

    async def work(_: Process) -> None:
        await process.record(2)
        await process.until_even()
        assert (process.relay.view().lag_events, process.relay.view().lag_ms) == (0, 0)
        store.is_up = False
        process.rig.now_ms += 5_000
        await process.record(3)
        assert (process.relay.view().lag_events, process.relay.view().lag_ms) == (3, 5_000)

    process.run(work)


def test_a_rewritten_log_is_read_on_at_the_same_position():
    """An erasure replaces the files: what was read of the old ones is not delivered, and the relay goes on."""
    log, store, process = relayed()

    async def work(_: Process) -> None:
        await process.record(3)
        await process.until_even()
        old = process.reader
        process.reader = CutLog(log, generation=1)
        old.rewritten = True
        await process.record(3)
        await process.until_even()
        assert process.relay.view().state == "idle"
        assert process.rig.engine.services[0].errors_sum == 0
        reads = len(process.reader.reads)
        process.rig.engine.listeners.tell_swap()
        await process.record(3)
        await process.until_even()
        assert len(process.reader.reads) > reads

    process.run(work)
    assert store.events == expected(log)


def test_what_was_read_before_a_rewrite_is_not_delivered(monkeypatch):
    """A swap between the read and the delivery drops what was read, as it may name a user who is erased by now."""
    log, store, process = relayed()
    read, relay = LogRelay._read, process.relay
    reads: list[int] = []

    async def swapped() -> None:
        process.rig.engine.listeners.tell_swap()

    def read_slowly(self, reading, after, upto):
        found = read(self, reading, after, upto)
        reads.append(after)
        if len(reads) == 1:
            asyncio.run_coroutine_threadsafe(swapped(), loop[0]).result()
        return found

    loop: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr(LogRelay, "_read", read_slowly)

    async def work(_: Process) -> None:
        loop.append(asyncio.get_running_loop())
        await process.record(2)
        await process.until_even()

    process.run(work)
    assert relay.view().delivered == len(log.read(LogPosition(0), 9)[0][1])
    assert reads[0] == reads[1] == 0
    assert store.events == expected(log)


def stopped(process: Process, *texts: str) -> None:
    """Run until the relay stops, and look at what is said."""

    async def work(_: Process) -> None:
        await wait_on_loop(lambda: process.relay.view().state == "stopped")
        for text in (*texts, "`midstream outputs move`"):
            assert text in process.concern
        assert process.concern in process.rig.engine.health().reason
        assert process.relay.view().reason == process.concern
        calls = process.destination.store.calls
        await asyncio.sleep(0.05)
        assert process.destination.store.calls == calls

    process.run(work)


def delivered(count: int) -> tuple[MemoryLog, FakeStore]:
    """Return a log of so many events, and a store that has them."""
    log, store = MemoryLog(), FakeStore()

    async def work(process: Process) -> None:
        await process.record(count)
        await process.until_even()

    Process(log, store).run(work)
    return log, store


def test_a_cut_log_waits_for_an_operator():
    """Retention cut events that were not delivered: both positions are named, and nothing is passed by."""
    log, store = delivered(3)
    Process(log, FakeStore()).run(lambda each: each.record(9))
    process = Process(log, store)
    process.reader.begin = LogPosition(7)
    stopped(process, "up to log position 3", "begins at 7", "the 4 events between")
    assert store.events == expected(log)[:3]
    again = Process(log, store)
    again.reader.begin = LogPosition(7)

    async def work(_: Process) -> None:
        await wait_on_loop(lambda: again.relay.view().state == "stopped")
        with pytest.raises(EventsGone, match="before the oldest event, 7"):
            await again.relay.move(LogPosition(6))
        assert again.concern
        await again.relay.move(LogPosition(7))
        assert not again.concern
        await again.until_even()
        assert again.relay.view().state == "idle"

    again.run(work)
    assert store.events == expected(log)[:3] + expected(log)[7:]


def test_a_cut_while_delivering_waits_for_an_operator():
    """A log that is cut while the destination is down is noticed by the read itself."""
    log, store = delivered(3)
    process = Process(log, store)

    async def work(_: Process) -> None:
        await process.until_even()
        process.reader = CutLog(log, begin=LogPosition(5))
        process.rig.engine.listeners.tell_swap()
        await process.record(4)
        await wait_on_loop(lambda: process.relay.view().state == "stopped")
        assert "up to log position 3" in process.concern
        assert "begins at 5" in process.concern

    process.run(work)


def test_another_log_is_noticed():
    """A destination of another log is left alone."""
    _, store = delivered(3)
    store.position = DeliveredPosition("b" * 32, LogPosition(1), TimestampMs(0))
    log, _ = delivered(5)
    stopped(Process(log, store), "the log " + "b" * 32, LOG)
    assert store.position.log_position == 1


def test_a_log_that_ends_before_the_position_is_noticed():
    """A backup was put back: the destination has more than the log."""
    _, store = delivered(9)
    log, _ = delivered(4)
    stopped(Process(log, store), "up to log position 9", "ends at 4", "a backup was restored")


def test_a_log_with_other_events_is_noticed():
    """A backup was put back and went on: as many events, and others."""
    _, store = delivered(9)
    assert store.position is not None
    log, _ = delivered(12)
    store.position = DeliveredPosition(LOG, LogPosition(9), TimestampMs(store.position.log_time_ms - 1))
    stopped(Process(log, store), "before log position 9", "went on with other events")


def test_a_shared_log_may_be_behind_its_destination():
    """Another machine delivered more than this one has: it waits until it has that too, and needs no operator."""
    log, store = delivered(4)
    assert store.position is not None
    ahead = DeliveredPosition(LOG, LogPosition(6), TimestampMs(0))
    store.position = ahead
    process = Process(log, store, is_shared=True)

    async def work(_: Process) -> None:
        await wait_on_loop(lambda: process.relay.view().state == "failing")
        assert "stands at log position 6, this machine at 4" in process.relay.view().reason
        await process.record(5)
        await process.until_even()

    process.run(work)
    assert store.events == expected(log)[:4] + expected(log)[6:]


def test_a_move_back_delivers_again():
    """An operator may have events delivered a second time."""
    log, store = delivered(5)
    process = Process(log, store)

    async def work(_: Process) -> None:
        await process.until_even()
        with pytest.raises(RelayStopped, match="after the newest event, 5"):
            await process.relay.move(LogPosition(6))
        await process.relay.move(LogPosition(3))
        await wait_on_loop(lambda: len(store.events) == 7)

    process.run(work)
    assert store.events == expected(log) + expected(log)[3:]


def test_a_stop_waits_for_a_short_delivery_and_not_for_a_long_one():
    """A delivery that hangs holds a stop no longer than its bound; the next start asks how it went."""
    log, store, process = relayed()
    log_relay.DELIVER_S_MAX = 1e6

    async def work(_: Process) -> None:
        await process.until_even()
        store.faults = iter(["hang after"])
        await process.record(2)
        await wait_on_loop(lambda: len(store.events) == 2)

    process.run(work)
    Process(log, store).run(lambda each: each.until_even())
    assert store.events == expected(log)
