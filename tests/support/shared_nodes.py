"""Nodes of a shared log in one process: whole engines with their threads on a topic in memory, each with an input."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from midstream.app.opening import accept_of
from midstream.app.wiring import plans
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.engine import Engine, EngineOptions
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.ingest.log_reader import batches, catch_up
from midstream.engine.inputs.broker_input import BrokerInput
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.inputs.message_decoding import decode_json
from midstream.engine.inputs.topic_reader import InputSource
from midstream.engine.live import Host
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions
from midstream.engine.replication.lease_keeper import LeaseKeeper, LeaseNames
from midstream.engine.replication.replicated_writer import ReplicatedWriter, SharedLog
from midstream.engine.replication.topic_message import fingerprint_of, shared_log_id
from midstream.engine.replication.topic_position import TopicPair, TopicPosition, read_topic_position
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Outcome
from midstream.events.json.decode import decode_objects
from midstream.events.memory import MemoryLog
from midstream.events.schema import event_at
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold
from tests.support.brokers import FakeConsumer
from tests.support.brokers import FakeTopic as FakeBroker
from tests.support.destinations import FakeDestination, FakeStore
from tests.support.rig import SMALL
from tests.support.shared_topics import START_MS, FakeTopic, FakeTopicServer

LOG_ID = shared_log_id(b"k" * 32, "cluster/topic")


def now_ms() -> int:
    """Return a time that goes on."""
    return START_MS + int(time.monotonic() * 1_000)


class LiveServer(FakeTopicServer):
    """A topic whose append times go on."""

    def append(self, value: bytes) -> None:
        """Append a message now."""
        self.now_ms = now_ms()
        super().append(value)


@dataclass(eq=False)
class SharedNode:
    """One node: its log and the file of its position outlive the process, which is one of many."""

    name: str
    server: FakeTopicServer
    folder: Path
    broker: FakeBroker = field(default_factory=lambda: FakeBroker([[]]))
    store: FakeStore = field(default_factory=FakeStore)
    log: MemoryLog = field(default_factory=MemoryLog)
    starts: Any = field(default_factory=itertools.count)
    topic: FakeTopic = field(init=False)
    engine: Engine = field(init=False)
    writer: ReplicatedWriter = field(init=False)
    keeper: LeaseKeeper = field(init=False)
    input: BrokerInput = field(init=False)
    relay: LogRelay = field(init=False)

    def make(self) -> None:
        """Make a process on what the one before left."""
        path = self.folder / f"{self.name}.json"
        known = read_topic_position(path) or TopicPosition(
            "shop-log", "cluster/topic", fingerprint_of(LOG_ID), (TopicPair(0, 0, {}),)
        )
        self.topic = FakeTopic(self.server)
        process = f"{self.name} {next(self.starts)}".encode().ljust(16)
        shared = SharedLog(self.topic, LOG_ID, process, known, path)

        def writer(*told: Any, keeps_event_time: bool) -> ReplicatedWriter:
            self.writer = ReplicatedWriter(shared, *told, keeps_event_time=keeps_event_time)
            return self.writer

        numbers = itertools.count(1)
        ids = RequestIds(b"k" * 32, lambda size: (next(numbers) * 97 + hash(process) % 89).to_bytes(size, "little"))
        clock = lambda: TimestampMs(now_ms())  # noqa: E731  an argument
        host = Host(clock, time.monotonic, ids, writer, None, known.token_generation)
        fold = Fold(SMALL.fold_settings())
        catch_up(fold, self.log.read, self.log.end)
        options = EngineOptions(logs_served=False)
        self.engine = Engine(self.log, fold, plans(SMALL), host, Metrics(CollectorRegistry()), options)
        names = LeaseNames(*self.writer.name, self.name)
        self.keeper = LeaseKeeper(self.writer, names, time.monotonic, self.engine.supervise)
        self._make_input(known.topic_id)
        relay = RelayOptions("output_slates", "shop", "beginning", is_shared=True)
        self.relay = LogRelay(relay, self.engine, lambda: Reader(self.log), FakeDestination(self.store))
        self.relay.lease = self.keeper.lease("output slates")

    def _make_input(self, topic_id: str) -> None:
        accept = msgspec.structs.replace(accept_of(SMALL), now_ms=START_MS)
        service = IngestService(self.engine)
        source = InputSource(
            "clicks", "events", lambda _: FakeConsumer(self.broker), lambda each: decode_json(each, accept)
        )
        self.input = BrokerInput(source, self.engine, service)
        InputGroup([self.input], self.engine.metrics).share(self.keeper.lease, topic_id)

    async def start(self) -> None:
        """Start a process."""
        self.make()
        await self.engine.start()
        for each in (self.keeper, self.input, self.relay):
            each.start()

    async def stop(self) -> None:
        """Stop it in order."""
        for each in (self.relay, self.input, self.keeper):
            await each.stop()
        await self.engine.stop()

    async def kill(self) -> None:
        """End it at once: nothing that was not appended is, and no other process hears of it."""
        self.topic.is_cut = True
        for service in (self.keeper._service, self.input._loop, self.relay._loop):
            await service.stop()
        await self.engine._ticker.stop()
        await asyncio.to_thread(self.writer.close)
        await asyncio.sleep(0)
        await self.engine._folding.stop()

    async def record(self, *ids: str, item: str = "lamp") -> list[Outcome]:
        """Record a view of an item under each id; return the outcome of each."""
        accept = msgspec.structs.replace(accept_of(SMALL), now_ms=START_MS)
        events = [{"type": "view", "event_id": each, "user_id": "ann", "item_id": item} for each in ids]
        recorded = await self.engine.record(decode_objects(events, accept).batch)
        return [Outcome(each) for each in recorded.outcome]

    @property
    def place(self) -> str:
        """Where the input goes on in its first partition, by the state."""
        row = self.engine.fold.inputs.find("clicks")
        return "" if row is None else row.next["0"]

    def ids(self) -> Counter[str]:
        """Return how often each event id is in the log."""
        found: Counter[str] = Counter()
        for _, batch in batches(self.log.read, LogPosition(0), self.log.end):
            found.update(event_at(batch, row).event_id for row in range(len(batch)))
        found.pop("", None)
        return found

    def items(self) -> list[str]:
        """Return the items of the broker's messages in the log, in its order."""
        found: list[str] = []
        for _, batch in batches(self.log.read, LogPosition(0), self.log.end):
            found += [event_at(batch, row).item_id for row in range(len(batch))]
        return [each for each in found if each.startswith("m")]


class Reader:
    """A ``LogReader`` of a log in memory."""

    begin = LogPosition(0)
    generation = 0

    def __init__(self, log: MemoryLog) -> None:
        """Read ``log``."""
        self._log = log

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Any:
        """Return events."""
        return self._log.read(after, limit)


@asynccontextmanager
async def serving(*nodes: SharedNode) -> AsyncGenerator[None]:
    """Run nodes."""
    for node in nodes:
        await node.start()
    try:
        yield
    finally:
        for node in nodes:
            await node.stop()


def are_level(nodes: Sequence[SharedNode]) -> bool:
    """Return whether all nodes have folded all that the topic has."""
    ends = {(node.log.end, node.engine.fold.log_position) for node in nodes}
    return len(ends) == 1 and len(set(next(iter(ends)))) == 1
