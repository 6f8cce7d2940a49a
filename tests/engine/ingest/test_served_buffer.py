"""Served records wait for company, but not until their lot is too large for the way to a leader."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Placement
from midstream.core.errors import AppendFailed, DiskFull, Overloaded
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest import served_buffer
from midstream.engine.ingest.served_buffer import LOT_BYTES_MAX, ServedBuffer
from midstream.engine.ingest.writer import LogWriter, QueueEntry, WrittenFrame
from midstream.engine.types import Ask
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build, event_at
from midstream.monitoring.metrics import Metrics
from midstream.serving.cluster import internal_routes
from tests.support.ids import hash_of
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view


def test_a_lot_goes_when_its_bodies_are_large() -> None:
    """Rankings of a thousand items with fields: what waits is bounded by bytes as well as by number."""
    lots: list[int] = []
    writer: Any = SimpleNamespace(submit=lambda *entries: lots.extend(len(entry.batch.text) for entry in entries))

    async def work() -> None:
        box = ServedBuffer(writer, lambda: False, Metrics(CollectorRegistry()))
        for _ in range(20):
            box.add(Event(Kind.SERVED, body=b"x" * 250_000))
        box.flush()

    asyncio.run(work())
    assert sum(lots) == 20 * 250_000
    assert max(lots) < LOT_BYTES_MAX + 250_000 < internal_routes.LOT_BYTES_MAX


class Full:
    """A queue with room when it says so."""

    def __init__(self) -> None:
        """Begin without room."""
        self.has_room = False
        self.taken: list[str] = []
        self.tries = 0
        self.submitted_entries = -1
        """Others are queued behind whatever is handed back."""

    def submit(self, *entries: QueueEntry) -> None:
        """Take all or nothing."""
        self.tries += 1
        if not self.has_room:
            raise Overloaded("full")
        self.taken += [event_at(entry.batch, row).request_id for entry in entries for row in range(len(entry.batch))]


def served(name: str, size: int = 9) -> Event:
    return Event(Kind.SERVED, request_id=name, body=b"x" * size, event_time_ms=1)


def test_what_finds_no_room_is_kept_and_handed_over_later() -> None:
    """By itself, and in front of a caller's event; nothing is taken out before the queue has it."""

    async def work() -> None:
        writer: Any = Full()
        box = ServedBuffer(writer, lambda: False, Metrics(CollectorRegistry()))
        box.add(served("a"))
        event = QueueEntry(build((Event(Kind.INTERACTION, request_id="event", event_time_ms=1),)), None)
        for _ in range(3):
            with pytest.raises(Overloaded):
                box.submit(event)
        box.add(served("b"))
        box.flush()
        assert writer.taken == []
        writer.has_room = True
        box.submit(event)
        assert writer.taken == ["a", "b", "event"]
        writer.has_room = False
        box.add(served("c"))
        box.flush()
        tries, writer.has_room = writer.tries, True
        await asyncio.sleep(3 * served_buffer.AGAIN_S)
        assert writer.taken[3:] == ["c"]
        assert writer.tries == tries + 1

    asyncio.run(work())


def test_beyond_the_maximum_the_oldest_are_lost_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a metric, in health for a while, and to those who would wait for them."""
    monkeypatch.setattr(served_buffer, "KEPT_EVENTS_MAX", 4)
    monkeypatch.setattr(served_buffer, "LOST_SHOWN_S", 0.2)

    async def work() -> None:
        writer: Any = Full()
        concerns: dict[str, str] = {}
        metrics, lost = Metrics(CollectorRegistry()), set[str]()
        box = ServedBuffer(writer, lambda: False, metrics, concerns)
        box.on_lost = lost.update
        for name in "abcdef":
            box.add(served(name))
            box.flush()
        assert lost == {"a", "b"}
        assert concerns["served"].startswith("2 served records were lost")
        assert b"midstream_served_lost_total 2.0" in metrics.text()
        writer.has_room = True
        box.flush()
        assert writer.taken == list("cdef")
        await asyncio.sleep(0.3)
        assert concerns == {}

    asyncio.run(work())


def test_a_log_that_takes_nothing_more_keeps_nobody_waiting() -> None:
    """What could never be handed over is lost at once, whichever way that shows."""

    async def work() -> None:
        for way in ("before", "when asked", "after", "at the end"):
            writer: Any = Full()
            lost: list[str] = []
            is_over = way == "before"
            box = ServedBuffer(writer, lambda is_over=is_over: is_over, Metrics(CollectorRegistry()))  # type: ignore[misc]
            box.on_lost = lost.extend
            box.add(served("a"))
            if way == "when asked":
                writer.submit = refuse
            if way == "after":
                batch = build((served("a"),))
                over = AppendFailed("over")
                box.handed_back(WrittenFrame(LogPosition(0), batch, (QueueEntry(batch, None),), over, 0.0))
            await (box.drain() if way == "at the end" else asyncio.sleep(served_buffer.LINGER_S * 3))
            assert set(lost) == {"a"}

    def refuse(*_: QueueEntry) -> None:
        raise AppendFailed("over")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_buffer, "STOP_S_MAX", 0.2)
        asyncio.run(work())


def test_a_disk_that_was_full_gives_records_back() -> None:
    """A frame that found no room had served records of this process and of another in it: both go again, in order."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("i1", event_id="1")))
        first = await rig.engine.recommend(Ask(user_id="ann"))
        log.is_full = True
        with pytest.raises(DiskFull):
            await rig.engine.record(rig.batch(view("i2", event_id="2")))
        rig.engine.record_served(build((served("of another"),)))
        await asyncio.sleep(0.1)
        log.is_full = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(served_buffer, "AGAIN_FULL_S", 0.0)
            await rig.engine.record(rig.batch(view("i2", event_id="2")))
        assert await rig.engine.reached(LogPosition(4), PATIENCE_S)
        known = rig.engine.fold.requests
        assert known.find(hash_of(first.request_id)) is not None
        assert known.find(hash_of("of another")) is not None

    log = FullLog()
    Rig(log=log).run(work)


class FullLog(MemoryLog):
    """A log on a disk that is full when it says so."""

    is_full = False

    def append(self, batch: EventBatch) -> LogPosition:
        """Store a batch, or find no room for it."""
        if self.is_full:
            raise DiskFull("no room")
        return super().append(batch)


def test_nobody_waits_for_a_record_that_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its asker's next question is answered at once, and says that it may not know what was served."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*(view(f"i{each}", event_id=str(each)) for each in range(6))))
        await rig.engine.recommend(Ask(user_id="ann"))
        monkeypatch.setattr(served_buffer, "KEPT_EVENTS_MAX", 0)
        monkeypatch.setattr(LogWriter, "submit", full)
        began = asyncio.get_running_loop().time()
        late = await rig.engine.recommend(Ask(user_id="ann", deadline_ms=60_000))
        assert late.read_your_writes is False
        assert asyncio.get_running_loop().time() - began < 10
        assert "served records were lost" in rig.engine.health().reason

    def full(*_: object) -> None:
        raise Overloaded("full")

    config = replace(SMALL, placements=(Placement(exclude={"served": "1h"}, slate_size=3, repeats="any"),))
    Rig(config=config).run(work)
