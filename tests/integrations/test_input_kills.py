"""kill -9 of the node, of the broker and of both, under the load of a producer: 0 lost, 0 double, one state.

The oracle is the topic itself, read by a consumer of its own at the end: it has all that was sent, the log has each of
its messages once, those of a partition in its order, and the state that was kept through all kills is that of the log
folded anew. Messages have no ids of their own, and the state remembers one event id: what is read twice is in the log
twice, as no id hides it.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from midstream.app.opening import config_of, open_running
from midstream.core.types import LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.engine.inputs.broker_consumer import BrokerConsumer, BrokerUnavailable
from midstream.events.schema import event_at
from midstream.integrations.kafka.consumer import KafkaConsumer
from midstream.state.fold import Fold
from tests.contract.test_broker_consumer import Reading, consuming
from tests.crash.servers import serving
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services.server import Server
from tests.support.topics.on_kafka import KafkaTopic
from tests.support.topics.on_pulsar import PulsarTopic

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow, pytest.mark.crash]
PARTITIONS = 3
ROUNDS, ROUNDS_LONG = 3, 50
FROZEN_S, FROZEN_S_LONG = 10.0, 60.0
PAUSE_S = 0.004
"""Between two messages of the producer."""
CONFIG = """\
[snapshots]
interval = "1s"

[limits]
event_ids_max = 1

[[inputs]]
name = "clicks"
topic = "{topic}"
{broker}
"""
Send = Callable[[int, bytes], None]


def content(part: int, number: int) -> bytes:
    """Return a view of one of some items by one of some users."""
    event = {
        "type": "view",
        "user_id": f"u{number % 97}",
        "item_id": f"i{(number + part) % 61}",
        "context": {"number": number},
    }
    return msgspec.json.encode(event)


class Load:
    """A producer that sends until it is stopped, through all failures of its broker."""

    def __init__(self, send: Send) -> None:
        """Begin."""
        self.sent = 0
        self._send, self._stop = send, threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._ended = self._thread.submit(self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._send(self.sent % PARTITIONS, content(self.sent % PARTITIONS, self.sent // PARTITIONS))
            self.sent += 1
            time.sleep(PAUSE_S)

    def end(self) -> None:
        """Send nothing more; an error of the producer is raised."""
        self._stop.set()
        self._thread.shutdown()
        self._ended.result()

    def numbers(self, part: int) -> list[int]:
        """Return what was sent to a partition, in its order."""
        return list(range(len(range(part, self.sent, PARTITIONS))))


@contextmanager
def kafka_producing(topic: KafkaTopic) -> Iterator[Send]:
    """Produce; behind the block the broker has all of it."""
    producer = topic.producer(**{"message.timeout.ms": int(PATIENCE_S * 1_000), "linger.ms": 2})

    def send(part: int, value: bytes) -> None:
        producer.produce(topic.name, value, partition=part)
        producer.poll(0)

    yield send
    assert producer.flush(PATIENCE_S) == 0


@contextmanager
def pulsar_producing(topic: PulsarTopic) -> Iterator[Send]:
    """Produce; what a killed broker did not acknowledge is sent again, so a topic may have a message twice."""
    client = topic.client()
    producers = [
        client.create_producer(
            f"persistent://public/default/{topic.part(part)}",
            batching_enabled=True,
            batching_max_publish_delay_ms=2,
            block_if_queue_full=True,
            send_timeout_millis=0,
        )
        for part in range(PARTITIONS)
    ]
    failures: list[Any] = []

    def send(part: int, value: bytes) -> None:
        producers[part].send_async(value, lambda result, _: failures.append(result))

    yield send
    for each in producers:
        each.flush()
    client.close()
    assert set(failures) == {library("pulsar").Result.Ok}


class Node:
    """A server of midstream that is started, killed and started again on one folder."""

    def __init__(self, folder: Path, topic: str, broker: str) -> None:
        """Configure and start it."""
        self.folder = folder
        (folder / "midstream.toml").write_text(CONFIG.format(topic=topic, broker=broker))
        self._running = ExitStack()
        self.up()

    def up(self) -> None:
        """Start it."""
        self.process, self.url = self._running.enter_context(serving(self.folder))

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()
        self.close()

    def stop(self) -> None:
        """End it in order."""
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0
        self.close()

    def close(self) -> None:
        """End it at once, where it still runs."""
        self._running.close()

    def positions(self) -> Mapping[str, str]:
        """Return the durable positions by partition."""
        (told,) = httpx.get(f"{self.url}/v1/inputs", timeout=PATIENCE_S).json()["inputs"]
        return {each["partition"]: each["position"].partition("@")[0] for each in told["partitions"]}

    def is_further_than(self, before: Mapping[str, str]) -> bool:
        """Return whether all partitions were read on."""
        now = self.positions()
        return len(now) == PARTITIONS and all(now[each] != before.get(each) for each in now)


def events_of(folder: Path, topic: str) -> dict[str, list[str]]:
    """Return the positions in a log by partition, in its order, when state and log folded anew were found equal."""
    running = open_running(folder, config_of(folder))
    log, fold = running.engine.log, running.engine.fold
    pairs = list(batches(log.read, LogPosition(0), log.end))
    log.close()
    whole = Fold(fold.settings)
    found: dict[str, list[str]] = {}
    for first, batch in pairs:
        whole.apply(first, batch)
        for each in (event_at(batch, row) for row in range(len(batch))):
            if each.item_id:
                _, part, position = each.event_id.removeprefix(f"{topic}-").split("-", 2)
                found.setdefault(part, []).append(position)
    assert whole.digest() == fold.digest()
    return found


def run_campaign(
    topic: KafkaTopic | PulsarTopic, producing: Callable[[Any], Any], node: Node, *, is_long: bool
) -> None:
    """Kill at random moments, then compare the log with the topic."""
    dice = random.Random(topic.name)  # noqa: S311  moments of kills
    kills = {"node": 0, "broker": 0}
    began = time.monotonic()
    with producing(topic) as send:
        load = Load(send)
        try:
            for _ in range(ROUNDS_LONG if is_long else ROUNDS):
                wait_until(lambda: node.is_further_than({}))
                time.sleep(dice.uniform(0.0, 1.5))
                kill_some(node, topic.server, dice.choice(("node", "broker", "node broker")).split(), kills)
                before = node.positions()
                wait_until(lambda: node.is_further_than(before))  # noqa: B023  it is called at once
            topic.server.freeze()
            time.sleep(FROZEN_S_LONG if is_long else FROZEN_S)
            topic.server.thaw()
        finally:
            load.end()
    with consuming(topic) as consumer:
        reading = reading_when_ready(consumer)
        wait_until(lambda: reading.poll() == 0 and is_at_end(consumer))
    for part in range(PARTITIONS):
        assert numbers_of(reading, part) == load.numbers(part)
    ends = {part: text.partition("@")[0] for part, text in reading.next.items()}
    wait_until(lambda: node.positions() == ends)
    node.stop()
    assert events_of(node.folder, topic.name) == reading.positions
    print(
        f"{topic.server.system.name}: {kills}, {load.sent} messages sent, {reading.count} in the topic, each once in"
        f" the log; {time.monotonic() - began:.0f} s"
    )


def reading_when_ready(consumer: BrokerConsumer) -> Reading:
    """Read from the beginning as soon as the broker answers: it was killed or stood still a moment ago."""
    opened: list[Reading] = []

    def is_open() -> bool:
        try:
            opened.append(Reading(consumer))
        except BrokerUnavailable:
            return False
        return True

    wait_until(is_open)
    return opened[0]


def kill_some(node: Node, server: Server, victims: list[str], kills: dict[str, int]) -> None:
    """Kill the broker, the node or both, and start what was killed."""
    for each in victims:
        kills[each] += 1
    if "broker" in victims:
        server.kill()
    if "node" in victims:
        node.kill()
    if "broker" in victims:
        server.up()
    if "node" in victims:
        node.up()


def is_at_end(consumer: BrokerConsumer) -> bool:
    """Return whether a consumer has nothing left to read, as its broker says now."""
    return not consumer.is_outdated() and not any(consumer.lag().values())


def numbers_of(reading: Reading, part: int) -> list[int]:
    """Return the numbers of a partition's messages, each where it is first."""
    values = (msgspec.json.decode(each) for each in reading.values[str(part)] if each is not None)
    return list(dict.fromkeys(each["context"]["number"] for each in values))


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the run is asked for long proofs."""
    return bool(request.config.getoption("--long"))


def test_kills_with_kafka_lose_and_repeat_nothing(kafka: Server, tmp_path: Path, is_long: bool) -> None:
    """Three rounds, fifty in a long run; then a broker that stands still for a while."""
    library("confluent_kafka")
    topic = KafkaTopic(kafka, f"kills-{tmp_path.name}", PARTITIONS, KafkaConsumer)
    broker = f'kind = "kafka"\nservers = "{kafka.address}"'
    with closing(Node(tmp_path, topic.name, broker)) as node:
        run_campaign(topic, kafka_producing, node, is_long=is_long)


def test_kills_with_pulsar_lose_and_repeat_nothing(pulsar: Server, tmp_path: Path, is_long: bool) -> None:
    """As above; the topic is partitioned, and its producers repeat what a killed broker did not acknowledge."""
    library("pulsar")
    topic = PulsarTopic(pulsar, f"kills-{tmp_path.name}", PARTITIONS)
    topic.keep()  # for the oracle: Pulsar removes what the input has acknowledged
    broker = f'kind = "pulsar"\nservice_url = "pulsar://{pulsar.address}"\nadmin_url = "{topic.admin_url}"'
    with closing(Node(tmp_path, topic.name, broker)) as node:
        run_campaign(topic, pulsar_producing, node, is_long=is_long)
