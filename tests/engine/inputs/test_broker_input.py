"""Inputs from brokers: each message once, by position, whatever is killed, delivered again, cut or made anew."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstream.app.opening import accept_of
from midstream.engine.child_process import nobody
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.inputs import broker_input
from midstream.engine.inputs.broker_input import BrokerInput
from midstream.engine.inputs.message_decoding import decode_json
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, event_at
from midstream.events.wire import Limits
from tests.support.brokers import FakeConsumer, FakeTopic
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view


def message(item: str, **more: str) -> bytes:
    """Return a view of an item as the content of a message."""
    return msgspec.json.encode({**view(item), **more})


def topic(count: int = 20, partitions: int = 2) -> FakeTopic:
    """Return a topic of views of different items."""
    return FakeTopic([[message(f"p{part}-{place}") for place in range(count)] for part in range(partitions)])


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.005)


class Process:
    """A process that reads a topic into a log."""

    def __init__(self, folder: Path, log: MemoryLog, broker: FakeTopic, **more: Any) -> None:
        self.rig = Rig(log=log)
        catch_up(self.rig.engine.fold, log.read, log.end, nobody)
        self.letters = DeadLetters(folder / "letters.ndjson", RealDisk())
        self.consumer = FakeConsumer(broker, **more)
        service = IngestService(self.rig.engine, dead_letters=self.letters)
        accept = accept_of(SMALL, Limits())
        self.input = BrokerInput(
            "shop", self.rig.engine, service, self.consumer, lambda each: decode_json(each, accept)
        )

    @property
    def positions(self) -> dict[str, str]:
        row = self.rig.engine.fold.inputs.find("shop")
        return {} if row is None else dict(row.next)

    @property
    def concerns(self) -> str:
        return "\n".join(self.rig.engine.concerns.values())

    def until(self, is_so: Callable[[], object]) -> None:
        """Run until something is so."""

        async def work(_: Rig) -> None:
            self.input.start()
            try:
                await until(is_so)
            finally:
                await self.input.stop()

        self.rig.run(work)

    def until_concern(self, text: str) -> None:
        """Run until a concern for an operator has a text."""
        self.until(lambda: text in self.concerns)

    def to_end(self) -> None:
        """Run until all that the broker has is read."""
        broker = self.consumer.broker
        ends = {str(number): str(len(each)) for number, each in enumerate(broker.partitions)}
        self.until(lambda: self.positions == ends)


def events_of(log: MemoryLog) -> list[Event]:
    """Return the events of clients in a log."""
    batches = [batch for _, batch in log.read(type(log.end)(0), 10_000)]
    events = [event_at(batch, row) for batch in batches for row in range(len(batch))]
    return [each for each in events if each.item_id]


def ids(broker: FakeTopic) -> list[str]:
    """Return the ids that the messages of a topic get."""
    return sorted(f"events-{part}-{place}" for part, each in enumerate(broker.partitions) for place in range(len(each)))


def test_each_message_is_recorded_once_under_the_id_of_its_position(tmp_path: Path) -> None:
    """In the order of its partition; the positions after them stand in the state, and the broker is told."""
    broker, log = topic(), MemoryLog()
    process = Process(tmp_path, log, broker)
    process.until(lambda: broker.shown == {"0": "20", "1": "20"})
    events = events_of(log)
    assert sorted(each.event_id for each in events) == ids(broker)
    for part in ("0", "1"):
        own = [each.item_id for each in events if each.event_id.startswith(f"events-{part}-")]
        assert own == [f"p{part}-{place}" for place in range(20)]
    assert process.positions == {"0": "20", "1": "20"}
    assert process.consumer.is_closed
    assert process.input.view().events == 40


def test_a_process_that_ends_anywhere_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """After a failure of the disk in any frame the next process goes on, and the log has every message once."""
    for room in range(1, 45, 6):
        broker, log = topic(), MemoryLog(events_max=room)
        first = Process(tmp_path, log, broker)
        first.until_concern("DiskFull")
        log._events_max = 1_000
        Process(tmp_path, log, broker).to_end()
        assert sorted(each.event_id for each in events_of(log)) == ids(broker)


def test_a_failure_is_got_over_within_the_process(tmp_path: Path) -> None:
    """The broker gone and back, the disk full and not: the same input goes on from what is durable."""
    broker, log = topic(), MemoryLog(events_max=9)
    process = Process(tmp_path, log, broker)

    def mend() -> bool:
        if "DiskFull" in process.concerns:
            log._events_max = 1_000
            broker.is_up = False
        if "is down" in process.concerns:
            broker.is_up = True
        return process.positions == {"0": "20", "1": "20"}

    process.until(mend)
    assert sorted(each.event_id for each in events_of(log)) == ids(broker)
    assert process.consumer.opens >= 2


def test_a_message_without_an_event_is_a_letter_and_stops_nothing(tmp_path: Path) -> None:
    """It names topic, partition, position and headers; tombstones and garbage too; several events count for each."""
    broker = topic(count=3, partitions=1)
    two = msgspec.json.encode([view("a"), view("b")])
    broker.partitions[0] += [None, b"", b"\xff\xfe", b"{", b'{"type":\n"nothing"}', two, b'{"events":[' + two[1:], b"7"]
    broker.headers[0, 6] = {"source": "till"}
    log = MemoryLog()
    process = Process(tmp_path, log, broker, each_max=100)
    process.to_end()
    items = [each.item_id for each in events_of(log)]
    assert items == ["p0-0", "p0-1", "p0-2", "a", "b"]
    assert [each.event_id for each in events_of(log)][3:] == ["events-0-8#0", "events-0-8#1"]
    letters = process.letters.read()
    assert [each.origin["position"] for each in letters] == ["3", "4", "5", "6", "7", "9", "10"]
    assert letters[3].origin == {"topic": "events", "partition": "0", "position": "6", "header source": "till"}
    assert process.input.view().rejected == 7


def test_what_holds_no_message_is_passed_by_the_positions(tmp_path: Path) -> None:
    """As the ends of transactions are, also where a poll has nothing else: no event and no letter comes of them."""
    broker, log = topic(count=8), MemoryLog()
    broker.hidden = {(0, 0), (0, 4), (0, 6), (0, 7)}
    process = Process(tmp_path, log, broker, each_max=1)
    process.to_end()
    read = sorted(each.event_id for each in events_of(log))
    assert read == [each for each in ids(broker) if each not in {f"events-0-{at}" for at in (0, 4, 6, 7)}]
    assert not process.letters.read()


def test_a_letter_is_kept_once_however_often_its_poll_fails(tmp_path: Path) -> None:
    """Within one process; it is there before the position behind it is durable."""
    broker, log = topic(count=2, partitions=1), MemoryLog(events_max=1)
    broker.partitions[0].insert(1, b"poison")
    process = Process(tmp_path, log, broker)
    process.until(lambda: process.input._loop.errors >= 2)
    assert len(process.letters.read()) == 1
    assert process.positions == {"0": "0"}


def test_latest_is_where_the_first_start_found_the_end(tmp_path: Path) -> None:
    """Its position is durable before a message came, so one that comes between two starts is not lost."""
    broker, log = topic(partitions=1), MemoryLog()
    first = Process(tmp_path, log, broker, start="latest")
    first.until(lambda: first.positions)
    assert first.positions == {"0": "20"}
    broker.partitions[0].append(message("late"))
    broker.partitions.append([message("new partition")])
    Process(tmp_path, log, broker, start="latest").to_end()
    assert [each.item_id for each in events_of(log)] == ["late", "new partition"]


def test_a_position_that_retention_cut_waits_for_an_operator(tmp_path: Path) -> None:
    """Both offsets are named, other partitions go on, and nothing is read until someone says where."""
    broker, log = topic(), MemoryLog()
    first = Process(tmp_path, log, broker)
    first.until(lambda: int(first.positions.get("0", 0)) > 2)
    at = first.positions["0"]
    broker.first[0] = 18
    second = Process(tmp_path, log, broker)
    second.until(lambda: second.positions.get("1") == "20" and "is gone" in second.concerns)
    assert f"its position {at} is gone, the broker has 18 to 20" in second.concerns
    assert second.positions["0"] == at

    async def move(_: Rig) -> None:
        third.input.start()
        await until(lambda: "is gone" in third.concerns)
        await third.input.move({"0": "18"})
        await until(lambda: third.positions == {"0": "20", "1": "20"})
        await third.input.stop()
        assert "is gone" not in third.concerns

    third = Process(tmp_path, log, broker)
    third.rig.run(move)
    read = [each.event_id for each in events_of(log) if each.event_id.startswith("events-0-")]
    assert read == [f"events-0-{place}" for place in (*range(int(at)), 18, 19)]


def test_a_topic_made_anew_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    """Its offsets begin again: reading on from the old ones would skip or repeat, silently."""
    broker, log = topic(), MemoryLog()
    Process(tmp_path, log, broker).to_end()
    anew = topic(count=30)
    anew.topic_id = "two"
    process = Process(tmp_path, log, anew)
    process.until(lambda: "deleted and made again" in process.concerns)
    assert len(events_of(log)) == 40


def test_a_partition_that_is_added_is_read_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the input runs, whatever its start is."""
    monkeypatch.setattr(broker_input, "PARTITIONS_S", 0.0)
    broker, log = topic(partitions=1), MemoryLog()
    process = Process(tmp_path, log, broker, start="latest")

    def add() -> bool:
        if process.positions == {"0": "20"} and len(broker.partitions) == 1:
            broker.partitions.append([message("new")])
        return process.positions == {"0": "20", "1": "1"}

    process.until(add)
    assert [each.item_id for each in events_of(log)] == ["new"]


def test_a_stop_without_a_broker_ends(tmp_path: Path) -> None:
    """The consumer is closed, also when nothing was ever open."""
    broker = topic()
    broker.is_up = False
    process = Process(tmp_path, MemoryLog(), broker)
    process.until(lambda: "is down" in process.concerns)
    assert process.consumer.is_closed
    assert not process.input.view().is_open
