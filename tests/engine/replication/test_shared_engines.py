"""Whole engines on one topic, with their threads: one consumes an input and delivers an output, and one follows it."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import isnan
from pathlib import Path

import msgspec
import pytest

from midstream.app.replicas.shared_log import NodeLog
from midstream.core.errors import CommitTooSlow
from midstream.core.types import EventBatch
from midstream.engine.ingest.dedupe import Deduplication
from midstream.engine.inputs import broker_input
from midstream.engine.outbox import log_relay
from midstream.engine.replication import lease_keeper, replicated_writer, topic_message
from midstream.engine.replication.lease_table import claim_of
from midstream.engine.types import Outcome
from midstream.monitoring.metrics import Metrics
from tests.support.brokers import FakeTopic as FakeBroker
from tests.support.destinations import FakeStore
from tests.support.patience import PATIENCE_S, wait_on_loop
from tests.support.rig import view
from tests.support.shared_nodes import LiveServer, SharedNode, are_level, serving

TTL_S = 2.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases run out in a second, and a process that was killed leaves at once."""
    monkeypatch.setattr(lease_keeper, "TTL_S", TTL_S)
    monkeypatch.setattr(lease_keeper, "RENEW_S", 0.2)
    monkeypatch.setattr(lease_keeper, "LISTEN_S", 0.3)
    monkeypatch.setattr(lease_keeper, "LOOK_S", 0.02)
    monkeypatch.setattr(broker_input, "STAND_BY_S", 0.02)
    monkeypatch.setattr(log_relay, "STAND_BY_S", 0.02)
    monkeypatch.setattr(log_relay, "BACK_OFF_S_MAX", 0.05)
    monkeypatch.setattr(replicated_writer, "CLOSE_S_MAX", 0.0)
    monkeypatch.setattr(replicated_writer, "READ_WAIT_S", 0.02)


class Shop:
    """Some nodes with one configuration, a broker with messages, and a destination."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        """Make nodes that do not run."""
        self.server, self.broker, self.store = LiveServer(), FakeBroker([[]]), FakeStore()
        self.nodes = [SharedNode(f"node-{n}", self.server, folder, self.broker, self.store) for n in range(count)]
        self.sent = 0

    def send(self, count: int) -> None:
        """Have the broker get messages; their events have no id of their own."""
        messages = self.broker.partitions[0]
        for _ in range(count):
            messages.append(msgspec.json.encode(view(f"m{self.sent}")))
            self.sent += 1

    @property
    def owners(self) -> list[SharedNode]:
        """Nodes that read the input by their own account."""
        return [node for node in self.nodes if node.input.lease.is_held]

    async def read_to_end(self, *nodes: SharedNode) -> None:
        """Wait until all messages are in the states of some nodes."""
        await wait_on_loop(lambda: all(node.place == str(self.sent) for node in nodes or self.nodes))

    async def require_equal(self) -> None:
        """All nodes have all messages once, in order, in equal states, and the destination has the log once."""
        nodes = self.nodes
        await self.read_to_end()
        await wait_on_loop(lambda: are_level(nodes))
        end = nodes[0].log.end
        await wait_on_loop(lambda: self.store.position is not None and self.store.position.log_position == end)
        await wait_on_loop(lambda: are_level(nodes))
        assert [node.items() for node in nodes] == [[f"m{n}" for n in range(self.sent)]] * len(nodes)
        assert len({node.engine.fold.digest() for node in nodes}) == 1
        assert [at for at, _ in self.store.events] == list(range(end))


def test_one_node_consumes_and_the_other_follows_it(tmp_path: Path) -> None:
    """The owner is named on both; the other one reads when it has stopped, at once where it stopped in order."""
    shop = Shop(tmp_path)
    one, two = shop.nodes

    async def work() -> None:
        shop.send(40)
        await one.start()
        await shop.read_to_end(one)
        await two.start()
        await shop.read_to_end()
        assert [node.input.view().state for node in shop.nodes] == ["reading", "standing_by"]
        assert [node.input.view().owner for node in shop.nodes] == ["node-0", "node-0"]
        assert [node.relay.view().state for node in shop.nodes][1] == "standing_by"
        await wait_on_loop(lambda: two.relay.view().lag_events == 0)  # as the owner tells
        assert await two.relay.reaches_end(5.0)
        began = time.monotonic()
        await one.stop()
        shop.send(40)
        await shop.read_to_end(two)
        took_s = time.monotonic() - began
        print(f"the other node had read {took_s:.2f} s after the stop began")
        assert two.input.view().owner == "node-1"
        assert two.engine.metrics.input_superseded.labels("clicks")._value.get() == 0
        await one.start()
        await shop.require_equal()
        await wait_on_loop(lambda: len(shop.owners) == 1)
        await two.stop()
        await one.stop()

    asyncio.run(work())


def test_whoever_is_killed_another_one_goes_on(tmp_path: Path) -> None:
    """0 lost, 0 double, equal states, over kills of the owner in the middle of its work."""
    shop = Shop(tmp_path, 3)

    async def work() -> None:
        for node in shop.nodes:
            await node.start()
        for number in range(4):
            shop.send(30)
            await wait_on_loop(lambda: len(shop.owners) == 1)
            owner = shop.owners[0]
            others = [node for node in shop.nodes if node is not owner]
            await asyncio.sleep(0.01 * number)
            await owner.kill()
            shop.send(30)
            await shop.read_to_end(*others)
            await owner.start()
            await shop.read_to_end()
        await shop.require_equal()
        for node in shop.nodes:
            await node.stop()

    asyncio.run(work())


def test_an_owner_that_was_paused_changes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    """Its batch was made before another node took over, and reaches the topic behind that one's: no log has it."""
    shop = Shop(tmp_path)
    one, two = shop.nodes
    is_paused, goes_on, waits = threading.Event(), threading.Event(), threading.Event()

    def called(call: str) -> None:
        if is_paused.is_set() and call in {"append", "read"}:
            waits.set()
            goes_on.wait()

    async def work() -> None:
        await one.start()
        shop.send(5)
        await shop.read_to_end(one)
        await two.start()
        await shop.read_to_end()
        one.topic.called = called
        is_paused.set()
        shop.send(20)
        await wait_on_loop(lambda: two.place == "25")
        assert waits.is_set()
        appended = len(shop.server.messages)
        goes_on.set()
        is_paused.clear()
        await wait_on_loop(lambda: one.writer.superseded_messages > 0)
        assert len(shop.server.messages) > appended
        await shop.require_equal()
        await wait_on_loop(lambda: len(shop.owners) == 1)
        (other,) = (node for node in shop.nodes if node not in shop.owners)
        assert other.input.view().state == "standing_by"
        assert other.input.view().problem == ""
        for node in shop.nodes:
            await node.stop()

    asyncio.run(work())


def test_two_nodes_that_both_believe_to_own_record_each_message_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any lease: both consume all the time, and still each message is there once."""
    monkeypatch.setattr(lease_keeper.LeaseKeeper, "is_held", lambda *_: True)
    shop = Shop(tmp_path)

    async def work() -> None:
        async with serving(*shop.nodes):
            for _ in range(10):
                shop.send(20)
                await asyncio.sleep(0.02)
            await shop.read_to_end()
            await wait_on_loop(lambda: are_level(shop.nodes))
            assert [node.items() for node in shop.nodes] == [[f"m{n}" for n in range(shop.sent)]] * 2
            assert len({node.engine.fold.digest() for node in shop.nodes}) == 1
            superseded = [node.writer.superseded_messages for node in shop.nodes]
            print(f"{superseded} batches did not count")

    asyncio.run(work())


def test_nodes_that_deliver_one_output_do_not_fight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that was fenced rests: the destination is taken over once a change of owner, and not again and again."""
    shop = Shop(tmp_path)
    resumes: Counter[str] = Counter()

    async def work() -> None:
        async with serving(*shop.nodes):
            for node in shop.nodes:
                destination = node.relay._destination
                resume = destination.resume

                async def counted(name: str = node.name, resume=resume):
                    resumes[name] += 1
                    return await resume()

                monkeypatch.setattr(destination, "resume", counted)
            for number in range(20):
                await shop.nodes[number % 2].record(f"e-{number}")
                await asyncio.sleep(0.05)
            await wait_on_loop(lambda: are_level(shop.nodes))
            end = shop.nodes[0].log.end
            await wait_on_loop(lambda: shop.store.position is not None and shop.store.position.log_position == end)
        assert sum(resumes.values()) <= 4, resumes

    asyncio.run(work())


def test_a_move_on_the_node_that_stands_by_holds(tmp_path: Path) -> None:
    """The owner goes on where the order says, also while nothing comes."""
    shop = Shop(tmp_path)
    one, two = shop.nodes

    async def work() -> None:
        async with serving(one):
            shop.send(10)
            await shop.read_to_end(one)
            async with serving(two):
                await shop.read_to_end()
                await two.input.move({"0": "4"})
                await wait_on_loop(lambda: one.engine.log.end == two.engine.log.end and one.place == "10")
                await wait_on_loop(lambda: len(one.items()) == 10)  # the ids of the copies are known
                assert one.input.view().owner == "node-0"
                assert two.input.view().state == "standing_by"

    asyncio.run(work())


def test_engines_with_threads_are_equal_under_load_from_all(tmp_path: Path) -> None:
    """What each of three acknowledged is in every log once, and states are equal."""
    shop = Shop(tmp_path, 3)

    async def work() -> None:
        async with serving(*shop.nodes):

            async def load(node: SharedNode) -> list[str]:
                ids = [f"{node.name}-{n}" for n in range(60)]
                for each in batched(ids):
                    await asyncio.gather(*(node.record(one) for one in each), node.record("same"))
                return ids

            sent = [each for found in await asyncio.gather(*map(load, shop.nodes)) for each in found]
            await wait_on_loop(lambda: are_level(shop.nodes))
            logs = [node.ids() for node in shop.nodes]
            assert logs[0] == logs[1] == logs[2]
            assert all(logs[0][each] == 1 for each in sent)
            assert len({node.engine.fold.digest() for node in shop.nodes}) == 1
            folded = shop.nodes[0].engine.fold.counts()
            assert logs[0].total() - folded["duplicate"] == len(logs[0])

    asyncio.run(work())


class Hold:
    """Readers of a topic that wait before they read on, so that no node has seen what another one appends."""

    def __init__(self, nodes: Sequence[SharedNode]) -> None:
        """Hold no node yet."""
        self._nodes = nodes
        self._waits: set[str] = set()
        self._goes_on = threading.Event()

    async def begin(self) -> None:
        """Return when every reader waits."""
        for node in self._nodes:
            node.topic.called = partial(self._called, node.name)
        await wait_on_loop(lambda: len(self._waits) == len(self._nodes))

    def end(self) -> None:
        """Let all read on."""
        for node in self._nodes:
            node.topic.called = lambda _: None
        self._goes_on.set()

    def _called(self, name: str, call: str) -> None:
        if call == "read":
            self._waits.add(name)
            self._goes_on.wait()


async def appended(node: SharedNode, *ids: str, item: str = "lamp") -> asyncio.Task[list[Outcome]]:
    """Return a request of a node, whose first message is in the topic."""
    count = node.writer.messages["appended"]
    task = asyncio.create_task(node.record(*ids, item=item))
    await wait_on_loop(lambda: task.done() or node.writer.messages["appended"] > count)
    assert not task.done()
    return task


def test_of_two_nodes_that_take_one_id_at_once_one_says_recorded(tmp_path: Path) -> None:
    """The fold of a node tells whether its own copy counted: a later one is a duplicate, or a conflict."""
    shop = Shop(tmp_path)
    one, two = shop.nodes

    async def work() -> None:
        async with serving(one, two):
            hold = Hold(shop.nodes)
            await hold.begin()
            first = await appended(one, "first", "same", "other")
            later = await appended(two, "same", "later")
            third = await appended(two, "third")
            other = await appended(two, "fourth", "other", item="chair")
            again = asyncio.create_task(two.record("same"))
            hold.end()
            assert await first == [Outcome.RECORDED] * 3
            assert await later == [Outcome.DUPLICATE, Outcome.RECORDED]
            assert await third == [Outcome.RECORDED]
            assert await other == [Outcome.RECORDED, Outcome.CONFLICT]
            assert await again == [Outcome.DUPLICATE]
            await wait_on_loop(lambda: are_level(shop.nodes))
            assert one.ids()["same"] == one.ids()["other"] == 2
            counted = two.engine.metrics.registry.get_sample_value
            outcomes = {each: counted("midstream_events_total", {"outcome": each}) for each in ("recorded", "conflict")}
            assert outcomes == {"recorded": 3, "conflict": 1}

    asyncio.run(work())


def test_requests_of_several_messages_are_told_of_every_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two nodes that send the same events at once, in messages that alternate, one says recorded of each."""
    shop = Shop(tmp_path)
    ids = [f"{number:0100}" for number in range(600)]
    monkeypatch.setattr(topic_message, "_RAW_BYTES_MAX", 40_000)

    async def work() -> None:
        async with serving(*shop.nodes):
            hold = Hold(shop.nodes)
            await hold.begin()
            tasks = [await appended(node, *ids) for node in shop.nodes]
            hold.end()
            told = zip(*[await task for task in tasks], strict=True)
            assert {tuple(sorted(each)) for each in told} == {(Outcome.RECORDED, Outcome.DUPLICATE)}
            assert all(node.writer.messages["appended"] >= 2 for node in shop.nodes)

    asyncio.run(work())


@pytest.mark.parametrize("fate", ["lost", "arrives before the copy", "arrives behind the copy"])
def test_a_message_with_an_id_of_uncertain_fate_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    """The input waits until the fate of the first copy is told, and takes it for new where that is not known.

    Whether the first copy is in the topic or not, it is counted once, and the position behind it is durable.
    """
    monkeypatch.setattr(lease_keeper, "TTL_S", 2 * PATIENCE_S)  # claims wait behind the message that is held
    shop = Shop(tmp_path)
    one, two = shop.nodes
    first = FirstCopy(one, monkeypatch, "lost" if fate == "lost" else "late")
    event = {"type": "view", "event_id": "same", "user_id": "ann", "item_id": "m0"}

    async def work() -> None:
        async with asyncio.timeout(PATIENCE_S), serving(one), first.ending():
            await wait_on_loop(lambda: one.input.lease.is_held and one.place == "0")
            await two.start()
            await one.engine._ticker.stop()  # a tick would be held in the place of the message
            first.is_held = True
            request = asyncio.create_task(one.record("same", item="m0"))
            await wait_on_loop(first.was_sent.is_set)
            shop.broker.partitions[0].append(msgspec.json.encode(event))
            shop.sent += 1
            await wait_on_loop(lambda: first.is_awaited)
            assert one.place == "0"
            assert not request.done() or isinstance(request.exception(), CommitTooSlow), "nothing is acknowledged"
            first.goes_on.set()
            with pytest.raises(CommitTooSlow):
                await request
            await wait_on_loop(first.copy_comes.is_set)
            assert one.place == "0"
            if fate == "arrives before the copy":
                shop.server.arrive()
                await wait_on_loop(lambda: one.ids()["same"] == 1)
            first.copy_goes_on.set()
            await shop.read_to_end()
            if fate == "arrives behind the copy":
                shop.server.arrive()
            await wait_on_loop(lambda: are_level(shop.nodes) and one.ids()["same"] == (1 if fate == "lost" else 2))
            assert await one.record("same", item="m0") == [Outcome.DUPLICATE]
            assert len({node.engine.fold.digest() for node in shop.nodes}) == 1
            assert [node.engine.fold.counts()["duplicate"] for node in shop.nodes] == [0 if fate == "lost" else 1] * 2
            await two.stop()

    asyncio.run(work())


class FirstCopy:
    """A message of events that is held behind its append, and the next one, which is held before; claims pass."""

    def __init__(self, node: SharedNode, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
        """Hold nothing yet."""
        self.is_held = self.is_awaited = False
        self.was_sent, self.goes_on = threading.Event(), threading.Event()
        self.copy_comes, self.copy_goes_on = threading.Event(), threading.Event()
        self._node, self._fault = node, fault
        awaited, make = Deduplication.await_copies, node.make

        async def await_copies(intake: Deduplication, batch: EventBatch) -> None:
            self.is_awaited |= len(batch) > 1
            await awaited(intake, batch)

        def made() -> None:
            make()
            node.topic.called, node.topic.fault = self._called, self._next_fault

        monkeypatch.setattr(Deduplication, "await_copies", await_copies)
        monkeypatch.setattr(node, "make", made)

    @asynccontextmanager
    async def ending(self) -> AsyncGenerator[None]:
        """Hold nothing any more at the end, whatever failed: a node that is held does not stop."""
        try:
            yield
        finally:
            self.goes_on.set()
            self.copy_goes_on.set()

    def _next_fault(self) -> str:
        is_first = self.is_held and not self.was_sent.is_set() and claim_of(self._node.topic.appending) is None
        return self._fault if is_first else ""

    def _called(self, call: str) -> None:
        if claim_of(self._node.topic.appending) is not None:
            return
        if self.is_held and call == "appended" and not self.was_sent.is_set():
            self.was_sent.set()
            self.goes_on.wait()
        elif call == "append" and self.goes_on.is_set() and not self.copy_comes.is_set():
            self.copy_comes.set()
            self.copy_goes_on.wait()


def batched(ids: list[str]) -> Iterator[list[str]]:
    """Yield ids six at a time."""
    for first in range(0, len(ids), 6):
        yield ids[first : first + 6]


def test_metrics_tell_what_the_topic_holds(tmp_path: Path) -> None:
    """Messages by what became of them, lag, connection, end and leases; a lag that is not known is no number."""
    shop = Shop(tmp_path)
    one, two = shop.nodes

    async def work() -> None:
        async with serving(one, two):
            shop.send(5)
            await shop.read_to_end()
            shop.server.append(b"rubbish")
            await one.record("a")
            await wait_on_loop(lambda: are_level(shop.nodes) and one.writer.messages["skipped"] == 1)
            metrics = one.engine.metrics
            node = NodeLog(one.writer._shared, [one.writer])
            node.set_gauges(metrics)
            metrics.set_leases(one.topic.name, one.keeper.held_count)
            found = value_of(metrics)
            assert found("messages_total", outcome="skipped") == 1
            assert found("messages_total", outcome="superseded") == one.writer.superseded_messages
            assert 2 <= found("messages_total", outcome="appended") < found("messages_total", outcome="read")
            assert found("lag_seconds", topic=one.topic.name) < 5
            assert found("connected", topic=one.topic.name) == 1
            assert found("ended", topic=one.topic.name) == 0
            leases = found("leases", topic=one.topic.name)
            assert leases + two.keeper.held_count == 2
            one.topic.is_cut = True
            await wait_on_loop(lambda: one.writer.is_unreachable)
            node.set_gauges(metrics)
            assert found("connected", topic=one.topic.name) == 0
            one.topic.is_cut = False
        metrics.set_shared_log("other", None, {}, is_connected=False, has_ended=True)
        assert isnan(found("lag_seconds", topic="other"))

    asyncio.run(work())


def value_of(metrics: Metrics) -> Callable[..., float]:
    """Return what reads a metric of the shared log by its labels."""

    def found(name: str, **labels: str) -> float:
        value = metrics.registry.get_sample_value(f"midstream_shared_log_{name}", labels)
        assert value is not None, name
        return value

    return found
