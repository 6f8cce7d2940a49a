"""Inputs from brokers: each message once, by position, whatever is killed, delivered again, cut or made anew."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from midstream.app.opening import accept_of
from midstream.core.errors import ExtraMissing, Invalid, Overloaded
from midstream.core.types import EventBatch
from midstream.engine.child_process import nobody
from midstream.engine.ingest.ingest_service import IngestLimits, IngestService
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.inputs import broker_input, polled_batch, stall_watch, topic_reader
from midstream.engine.inputs.broker_consumer import OpenedTopic, PartitionMessages
from midstream.engine.inputs.broker_input import BrokerInput
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.inputs.message_decoding import decode_json
from midstream.engine.inputs.polled_messages import topic_hash
from midstream.engine.inputs.topic_reader import InputSource, InputStopped
from midstream.engine.lease import OWN
from midstream.engine.types import InputView, Recorded
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, event_at
from midstream.events.wire import Limits
from tests.support.brokers import FakeConsumer, FakeTopic
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view

SHOP = f"events-{topic_hash('one')}"
"""Begins the ids of events of the topic with the id "one"."""


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
        self.service = IngestService(self.rig.engine, IngestLimits(commit_s_max=0.2), dead_letters=self.letters)
        accept = accept_of(SMALL, Limits())
        source = InputSource("shop", "events", self.connect, lambda values: decode_json(values, accept))
        self.input = BrokerInput(source, self.rig.engine, self.service)

    def connect(self, start: str | None) -> FakeConsumer:
        """Return the consumer, which begins at another place where an operator named one."""
        if start is not None:
            return FakeConsumer(self.consumer.broker, start)
        return self.consumer

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
    prefix = f"events-{topic_hash(broker.topic_id)}"
    return sorted(
        f"{prefix}-{part}-{place}" for part, each in enumerate(broker.partitions) for place in range(len(each))
    )


def test_each_message_is_recorded_once_under_the_id_of_its_position(tmp_path: Path) -> None:
    """In the order of its partition; the positions after them stand in the state, and the broker is told."""
    broker, log = topic(), MemoryLog()
    process = Process(tmp_path, log, broker)
    process.until(lambda: broker.shown == {"0": "20", "1": "20"})
    events = events_of(log)
    assert sorted(each.event_id for each in events) == ids(broker)
    for part in ("0", "1"):
        own = [each.item_id for each in events if each.event_id.startswith(f"{SHOP}-{part}-")]
        assert own == [f"p{part}-{place}" for place in range(20)]
    assert process.positions == {"0": "20", "1": "20"}
    assert process.consumer.is_closed
    assert process.input.view().events == 40


@pytest.mark.parametrize("has_positions", [False, True])
def test_the_topic_of_the_shared_log_is_not_read_whatever_its_address(tmp_path: Path, has_positions: bool) -> None:
    """The configuration tells by addresses alone: nothing is appended, by a word of an operator neither."""
    broker, log = topic(), MemoryLog()
    if has_positions:
        Process(tmp_path, log, broker).to_end()
    process, end = Process(tmp_path, log, broker), log.end
    InputGroup([process.input], process.rig.engine.metrics).share(lambda _: OWN, "one")

    async def work(_: Rig) -> None:
        process.input.start()
        await until(lambda: process.input.view().state == "stopped")
        assert "'events', which is the topic of the shared log (one)" in process.input.view().problem
        with pytest.raises(InputStopped, match="topic of the shared log"):
            await process.input.move("latest")
        await process.input.stop()

    process.rig.run(work)
    assert log.end == end
    process = Process(tmp_path, log, broker)
    InputGroup([process.input], process.rig.engine.metrics).share(lambda _: OWN, "another")
    process.to_end()


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
    assert [each.event_id for each in events_of(log)][3:] == [f"{SHOP}-0-8#0", f"{SHOP}-0-8#1"]
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
    assert read == [each for each in ids(broker) if each not in {f"{SHOP}-0-{at}" for at in (0, 4, 6, 7)}]
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
    broker, log = topic(count=5), MemoryLog()
    Process(tmp_path, log, broker).to_end()
    at = "5"
    broker.partitions = topic().partitions
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
    read = [each.event_id for each in events_of(log) if each.event_id.startswith(f"{SHOP}-0-")]
    assert read == [f"{SHOP}-0-{place}" for place in (*range(int(at)), 18, 19)]


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
    assert process.input.view().state == "failing"


def test_a_full_log_pauses_and_drops_nothing(tmp_path: Path) -> None:
    """While the log takes nothing the broker is not read on; when it does, every message comes, in order."""
    broker, log = topic(count=30, partitions=1), MemoryLog()
    process = Process(tmp_path, log, broker)
    recorder = process.rig.engine.record
    is_full = True
    asked: list[int] = []

    async def record(batch: EventBatch) -> Recorded:
        if is_full and len(asked) < 40:
            asked.append(process.consumer.place)
            message = "the queue is at its maximum"
            raise Overloaded(message)
        return await recorder(batch)

    async def work(_: Rig) -> None:
        nonlocal is_full
        process.input.start()
        await until(lambda: len(asked) > 5)
        assert process.positions == {}
        is_full = False
        await until(lambda: process.positions == {"0": "30"})
        await process.input.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process.rig.engine, "record", record)
        process.rig.run(work)
    assert set(asked) == {0}
    assert [each.item_id for each in events_of(log)] == [f"p0-{place}" for place in range(30)]


def test_what_a_broker_delivers_again_is_recorded_once(tmp_path: Path) -> None:
    """Also events with ids of their own, and a group that was rewound, which nothing here reads."""
    broker, log = topic(count=5, partitions=1), MemoryLog()
    Process(tmp_path, log, broker).to_end()
    broker.shown.clear()
    broker.partitions[0] += [broker.partitions[0][0], message("own", event_id="mine"), message("own", event_id="mine")]
    Process(tmp_path, log, broker).to_end()
    found = [each.event_id for each in events_of(log)]
    assert found == [*(f"{SHOP}-0-{place}" for place in range(6)), "mine"]


def test_messages_that_become_too_many_rows_are_read_again_fewer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame takes a number of rows; the next polls are as large as fits."""
    for module in (topic_reader, polled_batch):
        monkeypatch.setattr(module, "MESSAGE_ROWS_MAX", 8)
    monkeypatch.setattr(topic_reader, "FRAME_ROWS", 4)
    lines: list[bytes | None] = [b"\n".join(message(f"m{number}-{row}") for row in range(3)) for number in range(10)]
    broker, log = FakeTopic([lines]), MemoryLog()
    process = Process(tmp_path, log, broker, each_max=100)
    process.to_end()
    assert [each.item_id for each in events_of(log)] == [f"m{number}-{row}" for number in range(10) for row in range(3)]
    assert process.consumer.opens == 2


def test_an_operator_moves_all_partitions_to_an_end(tmp_path: Path) -> None:
    """Of a topic that was made anew as well; what a broker does not have is refused and changes nothing."""
    broker, log = topic(count=4), MemoryLog()
    Process(tmp_path, log, broker).to_end()
    anew = topic(count=6)
    anew.topic_id = "two"
    process = Process(tmp_path, log, anew)

    async def move(_: Rig) -> None:
        process.input.start()
        await until(lambda: process.input.view().state == "stopped")
        for wrong in ({"7": "0"}, {"0": "99"}):
            with pytest.raises(Invalid):
                await process.input.move(wrong)
        assert process.positions == {"0": "4", "1": "4"}
        await process.input.move("latest")
        assert process.positions == {"0": "6", "1": "6"}
        await process.input.move("earliest")
        await until(lambda: process.positions == {"0": "6", "1": "6"} and process.input.is_at_end)
        assert process.input.view().problem == ""
        await process.input.stop()

    process.rig.run(move)
    row = process.rig.engine.fold.inputs.find("shop")
    assert row is not None
    assert row.topic_id == "two"
    assert sorted(each.event_id for each in events_of(log)) == sorted([*ids(broker), *ids(anew)])


def test_topics_of_one_name_in_two_clusters_keep_their_events_apart(tmp_path: Path) -> None:
    """Partition and offset are the same; the topics are not."""
    log = MemoryLog()
    other = topic(count=6)
    other.topic_id = "other"
    Process(tmp_path, log, topic(count=4)).to_end()
    process = Process(tmp_path, log, other)
    source = InputSource("other", "events", process.connect, lambda values: decode_json(values, accept_of(SMALL)))
    process.input = BrokerInput(source, process.rig.engine, process.service)
    process.until(lambda: process.input.view().events == 12 and process.input.is_at_end)
    assert len(events_of(log)) == 8 + 12


def test_a_poll_of_positions_alone_leaves_the_size_of_the_next_one(tmp_path: Path) -> None:
    """The end of a transaction says nothing of the rows of a message; a poll of one message is 5,000 times the work."""
    broker = topic(count=40, partitions=1)
    broker.hidden = {(0, at) for at in range(16, 40)}
    process = Process(tmp_path, MemoryLog(), broker, each_max=39)
    asked: list[int] = []
    poll = process.consumer.poll

    def noted(messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        asked.append(messages_max)
        return poll(messages_max, wait_s)

    process.consumer.poll = noted  # type: ignore[method-assign]
    process.until(lambda: process.positions == {"0": "40"} and len(asked) > 6)
    assert asked == sorted(asked)


def test_a_view_has_position_and_lag_of_each_partition(tmp_path: Path) -> None:
    """And what an operator has to know; metrics have the same numbers."""
    broker, log = topic(count=3), MemoryLog()
    process = Process(tmp_path, log, broker)
    group = InputGroup([process.input], process.rig.engine.metrics)
    process.rig.engine.listeners.add(group.listener)

    async def work(_: Rig) -> None:
        group.start()
        await until(lambda: process.positions == {"0": "3", "1": "3"} and process.input.is_at_end)
        (view,) = process.rig.engine.health().inputs
        assert (view.name, view.topic, view.state, view.lag, view.events, view.rejected) == (
            "shop",
            "events",
            "reading",
            0,
            6,
            0,
        )
        assert [(each.partition, each.position, each.lag) for each in view.partitions] == [("0", "3", 0), ("1", "3", 0)]
        process.rig.engine.refresh_metrics()
        text = process.rig.engine.metrics.text().decode()
        assert 'midstream_input_lag{input="shop",partition="1"} 0.0' in text
        assert 'midstream_input_events_total{input="shop"} 6.0' in text
        assert 'midstream_input_open{input="shop"} 1.0' in text
        await group.stop()

    process.rig.run(work)


def test_a_consumer_that_cannot_be_had_is_a_concern(tmp_path: Path) -> None:
    """As without its extra: the server goes on, health says what to install."""
    process = Process(tmp_path, MemoryLog(), topic())

    def connect(_: str | None) -> FakeConsumer:
        message = "Kafka needs the extra `kafka`: pip install 'midstream[kafka]'"
        raise ExtraMissing(message)

    source = InputSource("shop", "events", connect, lambda values: decode_json(values, accept_of(SMALL)))
    process.input = BrokerInput(source, process.rig.engine, process.service)
    process.until_concern("pip install 'midstream[kafka]'")
    assert process.input.view().state == "failing"


def test_a_stop_leaves_a_consumer_that_does_not_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for a broker keeps its thread, and the server ends."""
    monkeypatch.setattr(broker_input, "STOP_S_MAX", 0.05)
    process = Process(tmp_path, MemoryLog(), topic())
    held = threading.Event()

    def hang(topic_id: str, positions: Mapping[str, str]) -> OpenedTopic:
        held.wait(PATIENCE_S)
        return OpenedTopic(topic_id, positions)

    process.consumer.open = hang  # type: ignore[method-assign]
    process.until(lambda: True)
    assert not held.is_set()
    held.set()


@pytest.mark.parametrize("is_gone", [True, False])
def test_quiet_alone_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool) -> None:
    """A broker that is gone returns nothing, without an error; only one that answers has no more messages."""
    monkeypatch.setattr(broker_input, "QUIET_S", 0.05)
    broker = topic(count=20, partitions=1)
    process = Process(tmp_path, MemoryLog(), broker)
    poll = process.consumer.poll
    polls: list[int] = []
    ends: list[bool] = []

    def once(messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        polls.append(messages_max)
        if len(polls) == 1:
            return poll(messages_max, wait_s)
        broker.is_up = not is_gone
        time.sleep(0.01)
        return []

    def seen() -> bool:
        ends.append(process.input.is_at_end)
        return process.input.view().state == "failing" if is_gone else ends[-1]

    process.consumer.poll = once  # type: ignore[method-assign]
    process.until(seen)
    assert any(ends) != is_gone
    assert ("the broker is down" in process.concerns) == is_gone


@pytest.mark.parametrize("stuck", [(0,), (0, 1)])
def test_a_client_that_stands_still_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: tuple[int, ...]
) -> None:
    """Its polls return nothing of a partition, without an error, though the broker has messages there."""
    monkeypatch.setattr(broker_input, "QUIET_S", 0.02)
    monkeypatch.setattr(broker_input, "PARTITIONS_S", 0.02)
    monkeypatch.setattr(stall_watch, "STALL_S", 0.1)
    broker, log = topic(count=5), MemoryLog()
    process = Process(tmp_path, log, broker)
    first, made = process.consumer, list[FakeConsumer]()
    poll = first.poll

    def stand_still(messages_max: int, wait_s: float) -> Sequence[PartitionMessages]:
        found = poll(messages_max, wait_s)
        for number in stuck:
            first._next[number] = 0
        time.sleep(0.01)
        return [each for each in found if int(each.partition) not in stuck]

    def connect(_: str | None) -> FakeConsumer:
        made.append(FakeConsumer(broker) if made else first)
        return made[-1]

    said: set[str] = set()

    def is_read() -> bool:
        said.add(process.concerns)
        return process.positions == {"0": "5", "1": "5"}

    first.poll = stand_still  # type: ignore[method-assign]
    process.input._reader.source = replace(process.input._reader.source, connect=connect)
    process.until(is_read)
    assert first.is_closed
    assert len(made) == 2
    assert any("stands still" in each for each in said)
    assert sorted(each.event_id for each in events_of(log)) == ids(broker)


def test_messages_that_the_broker_keeps_back_are_no_fault_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they wait for is named while the input reads, it is not at its end, and its client is not made anew."""
    monkeypatch.setattr(broker_input, "QUIET_S", 0.02)
    monkeypatch.setattr(broker_input, "PARTITIONS_S", 0.02)
    monkeypatch.setattr(stall_watch, "STALL_S", 0.05)
    broker, log = topic(count=5), MemoryLog()
    broker.delay = "a transaction is open since 08:00"
    process = Process(tmp_path, log, broker)
    asked: list[bool] = []
    is_outdated = process.consumer.is_outdated

    def counted() -> bool:
        asked.append(process.input.is_at_end)
        return is_outdated()

    monkeypatch.setattr(process.consumer, "is_outdated", counted)
    views: list[InputView] = []

    def is_seen() -> bool:
        views.append(process.input.view())
        return len(asked) > 10

    process.until(is_seen)
    seen = views[-1]
    assert (seen.state, seen.problem, seen.lag) == ("reading", broker.delay, 10)
    assert "stands still" not in process.concerns
    assert process.consumer.opens == 1
    assert not any(asked), "an input that waits for messages of the broker is not at its end"
    broker.delay = ""
    again = Process(tmp_path, log, broker)
    again.to_end()
    assert again.input.view().problem == ""
    assert sorted(each.event_id for each in events_of(log)) == ids(broker)
