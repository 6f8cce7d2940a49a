"""Faults of inputs, outputs and sinks, in a shop in process whose broker and store are in memory."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest

from midstream.app import output_services, sinks
from midstream.app.inputs import services as input_services
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.inputs.broker_consumer import BrokerConsumer
from midstream.engine.outbox.log_destination import DeliveredPosition, DestinationUnavailable
from midstream.engine.outbox.output_records import OutputRecord
from midstream.engine.sinks.feature_sink import FOLLOWED
from tests.support.alerts.shop import Shop, opened, story
from tests.support.alerts.tape import Tape, firing
from tests.support.brokers import FakeConsumer, FakeTopic
from tests.support.patience import wait_on_loop
from tests.support.sinks import Shelf, ShelfStore

pytestmark = pytest.mark.integration
INPUT = """
[[inputs]]
name = "clicks"
kind = "kafka"
servers = "127.0.0.1:1"
topic = "events"
"""
MESSAGE = msgspec.json.encode({"type": "view", "session_id": "s1", "item_id": "i1"})
ELSEWHERE = DeliveredPosition("f" * 32, LogPosition(7), TimestampMs(7)).text
"""A position of another log than that of the shop."""


def reading(topic: FakeTopic) -> AbstractContextManager[object]:
    """Have the inputs of shops read a topic in memory."""

    def connect(start: str | None) -> BrokerConsumer:
        return FakeConsumer(topic, start or "earliest", each_max=4_000)

    return patch.object(input_services, "connector_of", lambda *_, **__: connect)


async def read_to(shop: Shop, count: int) -> None:
    """Wait until the input has read so many messages."""
    await wait_on_loop(lambda: shop.running.engine.fold.log_position > count)


@story
async def test_an_input_that_is_behind(tmp_path: Path) -> Tape:
    """The broker holds back eleven thousand messages of one partition, and then gives them out."""
    tape = Tape()
    topic = FakeTopic([[MESSAGE] * 10, [MESSAGE] * 10])
    with reading(topic):
        async with opened(tmp_path, INPUT) as shop:
            await read_to(shop, 20)
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            topic.delay = "a quota"
            topic.partitions[1] += [MESSAGE] * 11_000
            await wait_on_loop(lambda: lag(shop) == 11_000)
            tape.hold(await shop.scrape(), lasts="12m")
            tape.check(firing("MidstreamInputLag", input="clicks"))
            topic.delay = ""
            await read_to(shop, 11_020)
            await wait_on_loop(lambda: lag(shop) == 0)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
    return tape


@dataclass
class TakenLease:
    """The right to read, which another node has now."""

    is_shared: bool = True
    is_held: bool = False
    owner: str = "another"
    position: int = -1

    def tell(self, position: int) -> None:
        """Do nothing."""


@story
async def test_an_input_that_another_node_reads(tmp_path: Path) -> Tape:
    """A node that gives an input up does not go on saying how far it was behind then."""
    tape = Tape()
    topic = FakeTopic([[MESSAGE] * 10, [MESSAGE] * 10])
    with reading(topic):
        async with opened(tmp_path, INPUT) as shop:
            await read_to(shop, 20)
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            topic.delay = "a quota"
            topic.partitions[1] += [MESSAGE] * 11_000
            await wait_on_loop(lambda: lag(shop) == 11_000)
            tape.hold(await shop.scrape(), lasts="12m")
            tape.check(firing("MidstreamInputLag", input="clicks"))
            shop.inputs._named("clicks").lease = TakenLease()
            await wait_on_loop(lambda: lag(shop) is None)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
    return tape


def lag(shop: Shop) -> int | None:
    """Return how many messages the input is behind in its second partition."""
    (view,) = shop.running.engine.listeners.inputs()
    return {each.partition: each.lag for each in view.partitions}.get("1")


@story
async def test_an_input_whose_position_is_gone(tmp_path: Path) -> Tape:
    """While the broker was gone its retention cut what the input has not read; an operator moves it."""
    tape = Tape()
    topic = FakeTopic([[MESSAGE] * 10])
    with reading(topic):
        async with opened(tmp_path, INPUT) as shop:
            await read_to(shop, 10)
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            topic.is_up = False
            await wait_on_loop(lambda: state(shop) == "failing")
            topic.partitions[0] += [MESSAGE] * 10
            topic.first[0], topic.is_up = 15, True
            await wait_on_loop(lambda: state(shop) == "stopped")
            tape.hold(await shop.scrape(), lasts="3m")
            tape.check(firing("MidstreamInputStopped", input="clicks"))
            answer = await shop.client.post("/v1/inputs/clicks/positions", json={"to": "earliest"})
            assert answer.status_code == 200, answer.text
            await read_to(shop, 15)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
    return tape


def state(shop: Shop) -> str:
    """Return the state of the input."""
    (view,) = shop.running.engine.listeners.inputs()
    return view.state


OUTPUT = """
[[outputs]]
name = "acts"
servers = "127.0.0.1:1"
topic = "shop-acts"
from = "beginning"
"""


class FakeProducer:
    """A producer of an output whose topic may be gone, or have another position."""

    def __init__(self) -> None:
        """Begin with an empty topic."""
        self.position: str | None = None
        self.is_up = True

    def resume(self) -> str | None:
        """Return the position in the topic."""
        self._require_up()
        return self.position

    def deliver(self, records: Sequence[OutputRecord], upto: DeliveredPosition) -> None:
        """Keep the position alone."""
        assert records is not None
        self._require_up()
        self.position = upto.text

    def close(self) -> None:
        """Be closed."""

    def _require_up(self) -> None:
        if not self.is_up:
            message = "the broker is down"
            raise DestinationUnavailable(message)


@story
async def test_an_output_without_a_broker(tmp_path: Path) -> Tape:
    """It is gone while events of seven minutes come, and then has them all; later its topic is of another log."""
    tape = Tape()
    producer = FakeProducer()
    with patch.object(output_services, "_producer", lambda *_: producer):
        async with opened(tmp_path, OUTPUT) as shop:
            await wait_on_loop(lambda: has_all(shop, producer.position))
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            producer.is_up = False
            await shop.act()
            await passes(shop, 240.0)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
            await passes(shop, 180.0)
            tape.hold(await shop.scrape(), lasts="12m")
            tape.check(firing("MidstreamOutputLag", output="acts"))
            producer.is_up = True
            await wait_on_loop(lambda: has_all(shop, producer.position))
            tape.hold(await shop.scrape(), lasts="3m")
            tape.check()
            producer.is_up = False
            producer.position = ELSEWHERE
            await shop.act()
            await wait_on_loop(lambda: "background-output_acts" in shop.running.engine.concerns)
            producer.is_up = True
            await wait_on_loop(lambda: "output_acts" in shop.running.engine.concerns)
            tape.hold(await shop.scrape(), lasts="3m")
            tape.check(firing("MidstreamOutputStopped", output="acts"))
            answer = await shop.client.post("/v1/outputs/acts/position", json={"to": "now"})
            assert answer.status_code == 200, answer.text
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
    return tape


async def passes(shop: Shop, seconds: float) -> None:
    """Let log time go by."""
    shop.hands.pass_by(seconds)
    await shop.act()


def has_all(shop: Shop, position: str | None) -> bool:
    """Return whether a position is that of all events."""
    return position is not None and position.split(" ")[1] == str(shop.running.engine.fold.log_position)


SINK = """
[[features]]
name = "views"
kind = "count"
scope = "user"
actions = ["view"]

[[sinks]]
name = "users"
scope = "user"
columns = ["views"]
every = "0s"
store = { kind = "redis", url = "redis://127.0.0.1:1" }
"""


@story
async def test_a_sink_without_a_store(tmp_path: Path) -> Tape:
    """It is gone while events of seven minutes come, and then has them all; later its table is of another log."""
    tape = Tape()
    shelf = Shelf()
    with patch.object(sinks, "store_of", lambda *told: ShelfStore(shelf, told[-1])):
        async with opened(tmp_path, SINK) as shop:
            await wait_on_loop(lambda: has_all(shop, shelf.positions.get(FOLLOWED)))
            tape.hold(await shop.scrape(), lasts="5m")
            tape.check()
            shelf.is_up = False
            await shop.act(user_id="ann")
            await passes(shop, 240.0)
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
            await passes(shop, 180.0)
            tape.hold(await shop.scrape(), lasts="12m")
            tape.check(firing("MidstreamSinkLag", sink="users"))
            shelf.is_up = True
            await wait_on_loop(lambda: has_all(shop, shelf.positions.get(FOLLOWED)))
            tape.hold(await shop.scrape(), lasts="3m")
            tape.check()
            shelf.is_up = False
            shelf.positions[FOLLOWED] = ELSEWHERE
            await shop.act(user_id="ann")
            await wait_on_loop(lambda: "background-sink_users" in shop.running.engine.concerns)
            shelf.is_up = True
            await wait_on_loop(lambda: "sink_users" in shop.running.engine.concerns)
            tape.hold(await shop.scrape(), lasts="3m")
            tape.check(firing("MidstreamSinkStopped", sink="users"))
            answer = await shop.client.post("/v1/sinks/users/backfill")
            assert answer.status_code == 202, answer.text
            tape.hold(await shop.scrape(), lasts="2m")
            tape.check()
    return tape
