"""One way in: the same batch has the same outcomes, dead letters and counts, whoever hands it over."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import httpx
import msgspec
import pytest

from midstream.app.config.schema import ItemsSection
from midstream.app.ingest.import_file import import_file
from midstream.app.opening import DATA_NAME, accept_of, open_shop
from midstream.core.errors import CommitTooSlow, DiskFull, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.child_process import nobody
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.ingest_service import IngestLimits, IngestService
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.recommender import Recommender
from midstream.engine.types import Outcome
from midstream.events.dead_letters.dead_letters import DeadLetters, read_letters
from midstream.events.disk import RealDisk
from midstream.events.memory import MemoryLog
from midstream.events.pieces import NDJSON
from midstream.events.schema import Event, build, event_at
from midstream.events.wire import Limits
from midstream.serving.app import asgi
from midstream.simulation.engine_policy import EngineQuestion, _InProcess
from midstream.state.control.input_positions import InputPosition, encode_input_position
from tests.support.disks import ForgetfulDisk
from tests.support.patience import PATIENCE_S, wait_on_loop
from tests.support.rig import SMALL, START_MS, Rig, view

Events = list[dict[str, object]]
STRICT = msgspec.structs.replace(SMALL, items=ItemsSection(unknown_items="reject"))
BEFORE: Events = [{"type": "item", "operation": "put", "item_id": item, "attributes": {}} for item in ("mug", "cup")]
OLD_MS = START_MS - 3_600_000
UNTAKEN = [
    view("mug", event_id="3", request_id="forged"),
    {"type": "view", "user_id": "ann", "event_id": "4", "time": OLD_MS},
]
"""What no transport may hand to the engine: a request id of nobody's, and an event that is none."""
OTHERS = [
    view("mug", event_id="1", time=OLD_MS),
    view("mug", event_id="1", time=OLD_MS),
    view("cup", event_id="1", time=OLD_MS),
    view("nowhere", event_id="2", time=OLD_MS),
    view("mug", user="eve", event_id="5", time=OLD_MS),
]
"""New, a duplicate, a conflict, of an unknown item, and of a user who was erased since."""
OUTCOMES = {"recorded": 1, "duplicate": 1, "conflict": 1, "refused": 2, "rejected": 2}
LETTERS = {"3": "request_id", "4": "item_id", "2": "item_id"}
"""By event id the field that is wrong; what is of an erased user is kept nowhere."""


@dataclass
class Door:
    """An engine with a catalogue, which forgot a user, and the one service in front of it."""

    rig: Rig = field(default_factory=lambda: Rig(config=STRICT))
    letters: DeadLetters = field(default_factory=lambda: DeadLetters(Path("/data/letters"), ForgetfulDisk()))

    def __post_init__(self) -> None:
        self.service = IngestService(self.rig.engine, dead_letters=self.letters)

    def accept(self) -> Any:
        return msgspec.structs.replace(accept_of(STRICT, Limits()), now_ms=self.rig.now_ms)

    async def begin(self) -> None:
        """Have a catalogue, and forget a user."""
        await self.rig.engine.record(self.rig.batch(*BEFORE, view("mug", user="eve", event_id="0", time=OLD_MS)))
        await self.rig.engine.erase("eve")

    def outcomes(self) -> dict[str, int]:
        """Count the events since by outcome, as the metrics have it."""
        found = {name: -4 * (name == "recorded") for name in OUTCOMES}  # what ``begin`` recorded
        for line in self.rig.engine.metrics.text().decode().splitlines():
            for name in OUTCOMES:
                if line.startswith(f'midstream_events_total{{outcome="{name}"}}'):
                    found[name] += int(float(line.rpartition(" ")[2]))
        return found


async def by_service(door: Door, events: Events) -> None:
    """As a consumer of a broker hands a batch over."""
    body = b"\n".join(msgspec.json.encode(each) for each in events)
    settled = await door.service.take(body, door.accept(), NDJSON, asyncio.Lock())
    expected = ["recorded", "duplicate", "conflict", "rejected", "rejected", "rejected", "rejected"]
    assert settled.names().tolist() == expected


async def _post(door: Door, path: str, content: bytes, content_type: str) -> dict[str, Any]:
    app = asgi(door.rig.engine, door.accept, service=door.service)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.post(path, content=content, headers={"content-type": content_type})
    assert answer.status_code == 200, answer.text
    return cast("dict[str, Any]", answer.json())


async def by_http(door: Door, events: Events) -> None:
    """One request."""
    answer = await _post(door, "/v1/events", msgspec.json.encode(events), "application/json")
    assert (answer["recorded"], answer["duplicates"], answer["conflicts"], len(answer["rejected"])) == (1, 1, 1, 4)


async def by_stream(door: Door, events: Events) -> None:
    """A stream of lines."""
    body = b"\n".join(msgspec.json.encode(each) for each in events)
    answer = await _post(door, "/v1/events/bulk", body, NDJSON)
    assert (answer["recorded"], answer["duplicates"], answer["conflicts"], answer["rejected"]) == (1, 1, 1, 4)


async def by_simulator(door: Door, events: Events) -> None:
    """All or nothing, so what it may not send is sent for itself."""
    shop: Any = SimpleNamespace(item_ids=())
    policy = _InProcess(shop, door.rig.engine, door.service, door.accept(), EngineQuestion(), [door.rig.now_ms])
    with pytest.raises(RequestInvalid) as caught:
        await policy.learn(events)
    assert len(caught.value.faults) == len(UNTAKEN)
    await policy.learn(OTHERS)


def in_loop(way: Callable[[Door, Events], Awaitable[None]]) -> Door:
    """Hand the batch over on the loop of the engine."""
    door = Door()

    async def work(_rig: Rig) -> None:
        await door.begin()
        await way(door, [*OTHERS, *UNTAKEN])

    door.rig.run(work)
    return door


def by_python() -> Door:
    """The Python API: all or nothing, the same as rows, refused ones with their reasons."""
    door = Door()
    engine = door.rig.engine
    running: Any = SimpleNamespace(engine=engine, ingest=door.service, start=engine.start, stop=engine.stop)
    with Recommender(running, door.accept) as shop:
        asyncio.run_coroutine_threadsafe(door.begin(), shop._loop).result()
        with pytest.raises(RequestInvalid) as caught:
            shop.record([*OTHERS, *UNTAKEN])
        assert {each.where for each in caught.value.faults} == {"/5/request_id", "/6/item_id"}
        recorded = shop.record(OTHERS)
    assert recorded.outcome.tolist() == [
        Outcome.RECORDED,
        Outcome.DUPLICATE,
        Outcome.CONFLICT,
        Outcome.REFUSED,
        Outcome.REFUSED,
    ]
    assert recorded.erased.tolist() == [4]
    assert [each.where for each in recorded.faults] == ["/3/item_id", "/4/user_id"]
    return door


@pytest.mark.parametrize("way", [by_service, by_http, by_stream, by_simulator, by_python])
def test_every_way_in_gives_the_same_guarantees(way: Any) -> None:
    """One new event is in the log; the others are named, counted, and kept as letters but for the erased user's."""
    door = by_python() if way is by_python else in_loop(way)
    assert door.outcomes() == OUTCOMES
    kept = {json.loads(each.raw)["event_id"]: each.reason.where.rpartition("/")[2] for each in door.letters.read()}
    assert kept == LETTERS
    assert door.rig.log.end == 5  # the catalogue, a view, an erase, and what is new


def test_an_import_names_and_keeps_the_same(tmp_path: Path) -> None:
    """In its own file, beside which the letters of live traffic stay; request ids are those of an export."""
    with open_shop(tmp_path / "shop", STRICT) as shop:
        shop.record([*BEFORE, view("mug", user="eve", event_id="0", time=OLD_MS)])
        shop.erase("eve")
    path = tmp_path / "rows.ndjson"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in [*OTHERS, *UNTAKEN]))
    summary = import_file(tmp_path / "shop", STRICT, path)
    assert (summary.recorded, summary.known, summary.conflicts, summary.refused, summary.rejected) == (2, 1, 1, 2, 1)
    assert summary.rejected_kept == 1
    data = DataFolder(tmp_path / "shop" / DATA_NAME)
    letters = read_letters(data.import_rejected, RealDisk())
    found = {json.loads(each.raw)["event_id"]: each.reason.where.rpartition("/")[2] for each in letters}
    assert found == {"4": "line 7: item_id", "2": "item_id"}
    assert not data.dead_letters.exists()


class Broker:
    """One partition: messages in order, delivered again from the last one that was acknowledged."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages
        self.acknowledged = 0

    def deliver(self, count: int = 3) -> list[bytes]:
        """Return the next messages."""
        return self._messages[self.acknowledged : self.acknowledged + count]


async def consume(broker: Broker, service: IngestService, accept: Callable[[], Any]) -> None:
    """Take all messages: this is all that a consumer is."""
    turn = asyncio.Lock()
    while messages := broker.deliver():
        lines = b"\n".join(each.replace(b"\n", b" ") for each in messages)
        await service.take(lines, accept(), NDJSON, turn)
        broker.acknowledged += len(messages)


def restarted(log: MemoryLog) -> Door:
    """Return a process that goes on with a log."""
    door = Door(Rig(log=log))
    catch_up(door.rig.engine.fold, log.read, log.end, nobody)
    return door


def test_a_consumer_acknowledges_what_is_durable_and_takes_a_redelivery_once() -> None:
    """Ordered; a message that is none is a letter and holds nothing up; a crash before and after the sync."""
    messages = [msgspec.json.encode(view(f"i{n}", event_id=str(n))) for n in range(8)]
    messages[4] = b'{"type":\n"nothing"}'
    broker, log = Broker(messages), MemoryLog(events_max=4)

    async def crash(rig: Rig) -> None:
        with pytest.raises(DiskFull):
            await consume(broker, first.service, first.accept)
        assert (broker.acknowledged, rig.log.end) == (3, 3)

    first = Door(Rig(log=log))
    first.rig.run(crash)
    log._events_max = 100

    async def lose_an_acknowledgement(_: Rig) -> None:
        await second.service.take(messages[3], second.accept())

    second = restarted(log)
    second.rig.run(lose_an_acknowledgement)

    async def go_on(_: Rig) -> None:
        await consume(broker, third.service, third.accept)

    third = restarted(log)
    third.rig.run(go_on)
    assert broker.acknowledged == len(messages)
    batches = [batch for _, batch in log.read(type(log.end)(0), 100)]
    events = [event_at(batch, row) for batch in batches for row in range(len(batch))]
    assert [each.event_id for each in events if each.item_id] == ["0", "1", "2", "3", "5", "6", "7"]
    assert [each.reason.where for each in third.letters.read()] == ["line 2: /type"]


def test_a_batch_that_fails_leaves_no_letters(tmp_path: Path) -> None:
    """It comes again as a whole; and a service that was closed keeps none either."""
    rig = Rig()
    letters = DeadLetters(tmp_path / "letters.ndjson", RealDisk())
    body = msgspec.json.encode([view("mug"), {"type": "nothing"}])

    async def full(_batch: object) -> Any:
        raise DiskFull

    async def work(rig: Rig) -> None:
        service = IngestService(rig.engine, dead_letters=letters)
        with mock.patch.object(type(rig.engine), "record", lambda _engine, batch, **_: full(batch)):
            for _ in range(3):
                with pytest.raises(DiskFull):
                    await service.take(body, accept_of(SMALL, Limits()))
        assert list(letters.read()) == []
        await service.take(body, accept_of(SMALL, Limits()))
        assert len(list(letters.read())) == 1
        service.close()
        service.keep([next(iter(letters.read()))])
        assert len(list(letters.read())) == 1

    rig.run(work)


class FailsOnce(MemoryLog):
    """A log whose first append fails once the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.may_end = threading.Event(), threading.Event()

    def append(self, batch: EventBatch) -> LogPosition:
        """Append, or fail."""
        if not self.began.is_set():
            self.began.set()
            assert self.may_end.wait(PATIENCE_S)
            message = "no room"
            raise DiskFull(message)
        return super().append(batch)


@pytest.mark.parametrize("events", [("1",), ("1", "2")])
def test_positions_are_not_durable_before_an_event_whose_first_copy_failed(events: tuple[str, ...]) -> None:
    """A copy came by HTTP and was still pending when the input's came: it failed, so the input's is the event."""
    log = FailsOnce()
    body = InputPosition("clicks", "topic", "id", {"0": "7"})

    async def work(rig: Rig) -> None:
        service = IngestService(rig.engine)
        accept = accept_of(SMALL, Limits())
        first = asyncio.create_task(service.take(msgspec.json.encode(view("mug", event_id="1")), accept))
        await asyncio.to_thread(log.began.wait, PATIENCE_S)
        own = await service.decode(msgspec.json.encode([view("mug", event_id=each) for each in events]), accept)
        control = build((Event(Kind.CONTROL, body=encode_input_position(body)),))
        second = asyncio.create_task(service.record_with(control, own, asyncio.Lock()))
        await asyncio.sleep(0.05)
        assert not second.done()
        log.may_end.set()
        with pytest.raises(DiskFull):
            await first
        await second
        row = rig.engine.fold.inputs.find("clicks")
        assert row is not None
        assert row.next == {"0": "7"}
        found = [event_at(batch, at) for _, batch in log.read(LogPosition(0), 100) for at in range(len(batch))]
        assert [each.event_id for each in found if each.item_id] == [*events]

    Rig(log=log).run(work)


def test_a_wait_for_one_event_has_an_end_and_its_outcome_counts_later() -> None:
    """Its sender is told that it may be durable later; when it is, it counts as recorded, once."""
    rig = Rig()

    def recorded() -> bool:
        return b'midstream_events_total{outcome="recorded"} 1.0' in rig.engine.metrics.text()

    async def work(rig: Rig) -> None:
        service = IngestService(rig.engine, IngestLimits(commit_s_max=0.01))
        held: list[Any] = []
        with mock.patch.object(type(rig.engine._outbox), "submit", lambda _outbox, entry: held.append(entry)):
            with pytest.raises(CommitTooSlow):
                await service.take(msgspec.json.encode(view("mug")), accept_of(SMALL, Limits()))
            assert not recorded()
        held[0].ticket.set_result(())
        await wait_on_loop(lambda: recorded() and not rig.engine._recording._late)

    rig.run(work)
    assert b'midstream_overloads_total{queue="commit"} 1.0' in rig.engine.metrics.text()


def test_the_event_of_a_request_that_is_cancelled_counts_when_it_is_recorded() -> None:
    """Its sender is gone; the log has it all the same."""

    async def work(rig: Rig) -> None:
        held: list[Any] = []
        with mock.patch.object(type(rig.engine._outbox), "submit", lambda _outbox, entry: held.append(entry)):
            waits = asyncio.create_task(rig.engine.record(rig.batch(view("mug"))))
            await wait_on_loop(lambda: bool(held))
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
        held[0].ticket.set_result(())
        recorded = b'midstream_events_total{outcome="recorded"} 1.0'
        await wait_on_loop(lambda: recorded in rig.engine.metrics.text() and not rig.engine._recording._late)

    Rig().run(work)


def test_a_wait_for_the_log_has_an_end() -> None:
    """Whoever hands events over is told that they may be durable later, and the wait is counted."""

    class Stuck:
        metrics, facts, fold = (getattr(Rig().engine, name) for name in ("metrics", "facts", "fold"))

        def clock(self) -> TimestampMs:
            return TimestampMs(START_MS)

        def request_id_is_ours(self, _request_id: str) -> bool:
            return True

        async def record(self, _batch: object, _guard: object = None, *, within_s: float | None = None) -> Any:
            await asyncio.Event().wait()

    async def wait() -> None:
        service = IngestService(Stuck(), IngestLimits(commit_s_max=0.01))
        with pytest.raises(CommitTooSlow):
            await service.take(msgspec.json.encode(view("mug")), accept_of(SMALL, Limits()), "", asyncio.Lock())

    asyncio.run(asyncio.wait_for(wait(), PATIENCE_S))
    assert b'midstream_overloads_total{queue="commit"} 1.0' in Stuck.metrics.text()
