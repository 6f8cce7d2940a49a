"""A shared log on a real Kafka: nodes agree bit by bit through kills of nodes and of the broker."""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from midstream.app.config.reader import read_config
from midstream.app.opening import open_running
from midstream.app.operate.model_registry import registry_of
from midstream.app.replicas.bring_up import bring_up, reach_end
from midstream.app.replicas.shared_log import node_log, topic_options
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.instance import Instance
from midstream.engine.models import log_promotions
from midstream.engine.replication.shared_topic import TopicRefused
from midstream.engine.replication.topic_position import read_topic_position
from midstream.engine.types import Ask
from midstream.events.json.decode import decode_objects
from midstream.events.schema import event_at
from midstream.integrations.kafka.library import confluent_kafka
from midstream.integrations.kafka.shared_topic import KafkaSharedTopic
from tests.support.fakes.models import COMPONENTS, publish_chain
from tests.support.patience import wait_on_loop, wait_until
from tests.support.services.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
[log]
kind = "kafka"
servers = "{servers}"
topic = "{topic}"

[limits]
users_max = 1_000
items_max = 1_000
click_items_max = 1_000
sessions_max = 1_000
event_ids_max = 100_000
"""
PLACEMENT = """
[[placements]]
name = "home"
sources = [{ kind = "custom", path = "components:Near" }]
deadline = "10s"
"""
MakeNode = Callable[[str], Path]


@pytest.fixture
def make_node(kafka: Server, tmp_path: Path) -> MakeNode:
    """Return a maker of folders of nodes of one shop: one topic, one key."""
    topic = f"shop-{uuid.uuid4().hex}"

    def make(name: str) -> Path:
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        (folder / "midstream.toml").write_text(CONFIG.format(servers=kafka.address, topic=topic))
        (folder / "data" / "key").write_bytes(b"k" * 32)
        (folder / "data" / "key").chmod(0o600)
        return folder

    return make


def opened(folder: Path) -> Instance:
    """Return the engine of a node, not started."""
    return open_running(folder, read_config(folder / "midstream.toml"))


async def record(running: Instance, *ids: str) -> LogPosition:
    """Record a view for each id."""
    accept = msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock())
    events = [{"type": "view", "event_id": each, "user_id": "ann", "item_id": f"item-{each}"} for each in ids]
    return (await running.engine.record(decode_objects(events, accept).batch)).log_position


def ids_of(folder: Path) -> list[str]:
    """Return the event ids in a node's own log, in order."""
    running = opened(folder)
    try:
        log = running.engine.log
        return [
            event_at(batch, row).event_id
            for _, batch in batches(log.read, LogPosition(0), log.end)
            for row in range(len(batch))
        ]
    finally:
        running.abandon()


def test_a_token_of_one_node_holds_on_another(make_node: MakeNode) -> None:
    """An event recorded by one node is in the next answer of the other, which has an equal state at that position."""

    async def work() -> None:
        async with opened(make_node("a")) as a, opened(make_node("b")) as b:
            waits: list[float] = []
            for number in range(30):
                position = await record(a, f"a-{number}")
                began = time.perf_counter()
                token = a.engine.token(position)
                answer = await b.engine.recommend(Ask(user_id="ann", min_log_position=token, deadline_ms=5_000))
                waits.append(time.perf_counter() - began)
                assert answer.read_your_writes is True
                await record(b, f"b-{number}")
            await reach_end(a)
            end = max(a.engine.log.end, b.engine.log.end)
            assert await a.engine.reached(end, 5.0)
            assert await b.engine.reached(end, 5.0)
            await asyncio.sleep(0.5)  # served records are on their way
            assert await b.engine.reached(a.engine.log.end, 5.0)
            assert a.engine.fold.log_position == b.engine.fold.log_position
            assert a.engine.fold.digest() == b.engine.fold.digest()
            assert a.engine.token(end) == b.engine.token(end)
            print(f"\nseen on the other node after {sorted(waits)[15] * 1_000:.1f} ms (median)")

    asyncio.run(work())


def test_a_node_with_another_key_and_a_foreign_topic_are_refused(make_node: MakeNode, kafka: Server) -> None:
    """Each is an error in four parts before anything is copied."""
    first = make_node("a")
    bring_up(lambda: opened(first))
    other = make_node("b")
    (other / "data" / "key").write_bytes(b"o" * 32)
    with pytest.raises(TopicRefused, match="another key"):
        opened(other)
    assert not (other / "data" / "log").exists()
    (first / "data" / "key").write_bytes(b"o" * 32)
    with pytest.raises(TopicRefused):
        opened(first)
    wrong = f"wrong-{uuid.uuid4().hex}"
    library = confluent_kafka()
    admin = library.admin.AdminClient({"bootstrap.servers": kafka.address})
    admin.create_topics([library.admin.NewTopic(wrong, 2, 1)])[wrong].result(10)
    options = msgspec.structs.replace(read_config(other / "midstream.toml").log, topic=wrong)
    with pytest.raises(TopicRefused, match=r"partitions = 2, message\.timestamp\.type = CreateTime") as refused:
        KafkaSharedTopic(topic_options(options), {}).open()
    assert "LogAppendTime" in refused.value.faults[0].right


def test_a_node_whose_place_retention_cut_is_told_both_offsets(make_node: MakeNode, kafka: Server) -> None:
    """It does not jump: it names where it would go on and what there is."""
    first = make_node("a")

    async def some(*ids: str) -> None:
        async with opened(first) as running:
            await record(running, *ids)

    asyncio.run(some("a", "b"))
    late = make_node("late")
    config = read_config(first / "midstream.toml").log
    library = confluent_kafka()
    admin = library.admin.AdminClient({"bootstrap.servers": kafka.address})
    found = node_log(config, DataFolder(first / "data"), bytes, {})
    assert found is not None
    end = found.shared.topic.span()[1]
    cut = library.TopicPartition(config.topic, 0, end)
    admin.delete_records([cut])[cut].result(10)
    found.shared.topic.close()
    with pytest.raises(TopicRefused, match=rf"offset 0; the topic has {end} to {end}"):
        opened(late)
    asyncio.run(some("c"))  # the one that has all goes on
    kept = read_topic_position(first / "data" / "topic.json")
    assert kept is not None
    assert kept.newest.offset > end


def with_model(folder: Path) -> Path:
    """Give a node a placement that asks the model ``near``."""
    with (folder / "midstream.toml").open("a") as file:
        file.write(PLACEMENT)
    (folder / "components.py").write_text(COMPONENTS)
    return folder


async def serves(running: Instance, version: str) -> None:
    """Return once a node answers by a version of ``near``; by none where that is empty."""
    wanted = {"near": version} if version else {}

    async def models() -> dict[str, str]:
        answer = await running.engine.recommend(Ask(placement="home", user_id="ann", n=3, deadline_ms=10_000))
        return dict(answer.models)

    await wait_on_loop(lambda: dict(running.champions.versions) == wanted)
    assert await models() == wanted


def test_a_promotion_on_one_node_is_served_by_the_other(make_node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """So are a rollback and a withdrawal, from either node; a version whose files come later is served once they do."""
    monkeypatch.setattr(log_promotions, "AGAIN_S", 0.2)
    folders = [with_model(make_node(name)) for name in ("a", "b")]
    registries = [registry_of(folder).folder / "near" for folder in folders]
    first = publish_chain(registry_of(folders[0]), 1)
    shutil.copytree(registries[0], registries[1])
    second = publish_chain(registry_of(folders[0]), 2)

    async def work() -> None:
        async with opened(folders[0]) as a, opened(folders[1]) as b:
            await record(a, *(str(number) for number in range(9)))
            await a.champions.promote("near", first)
            await serves(b, first)
            await a.champions.promote("near", second)
            await wait_on_loop(lambda: second in b.engine.concerns.get("models", ""))
            await serves(b, first)
            await serves(a, second)
            shutil.copytree(registries[0] / second, registries[1] / second)
            await serves(b, second)
            await wait_on_loop(lambda: "models" not in b.engine.concerns)
            await b.champions.rollback("near")
            await serves(a, first)
            await b.champions.withdraw("near")
            await serves(a, "")
            await a.champions.promote("near", second)
            await serves(b, second)
            await reach_end(a)
            await reach_end(b)

    async def again() -> None:
        async with opened(folders[1]) as b:
            await serves(b, second)

    asyncio.run(work())
    asyncio.run(again())


@contextmanager
def process(folder: Path, name: str, acknowledged: set[str]) -> Generator[subprocess.Popen[str]]:
    """Run a node that records, until the block ends with its kill; collect what it acknowledged."""
    command = [sys.executable, "-m", "tests.support.replica_node", str(folder), name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as node:
        lines = node.stdout
        assert lines is not None
        assert lines.readline().strip() == "ready"

        def listen() -> None:
            acknowledged.update(line.strip() for line in lines if line.endswith("\n"))

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield node
        finally:
            node.kill()
            listener.join()


def brought_up(folder: Path) -> list[str]:
    """Copy the topic nearly to its end; return the event ids in the node's own log."""
    bring_up(partial(opened, folder))
    return ids_of(folder)


def kills(make_node: MakeNode, kafka: Server, rounds: int) -> None:
    """Kill a node, or the broker, under load, many times; then compare both nodes with what was acknowledged."""
    a, b = make_node("a"), make_node("b")
    acknowledged: set[str] = set()
    for number in range(rounds):
        with process(a, f"a{number}", acknowledged), process(b, f"b{number}", acknowledged) as other:
            time.sleep(1.0)
            if number % 2:
                other.kill()
            else:
                kafka.kill()
                kafka.up()
            time.sleep(1.0)
    wait_until(lambda: brought_up(a) == brought_up(b))  # each time nearly to the end
    found_a = ids_of(a)
    assert acknowledged <= set(found_a)
    assert len(acknowledged) > 10 * rounds
    running = [opened(folder) for folder in (a, b)]
    try:
        assert len({each.engine.fold.digest() for each in running}) == 1
        counts = running[0].engine.fold.counts()
        named = [each for each in found_a if each]
        assert len(named) - len(set(named)) == counts["duplicate"] + counts["conflict"]
    finally:
        for each in running:
            each.abandon()


def test_kills_of_node_and_broker_lose_and_double_nothing(make_node: MakeNode, kafka: Server) -> None:
    """What was acknowledged is on every node, at equal positions, with equal digests."""
    kills(make_node, kafka, 2)


@pytest.mark.long
def test_many_kills_of_node_and_broker(make_node: MakeNode, kafka: Server) -> None:
    """The same, 50 times."""
    kills(make_node, kafka, 50)


def test_one_node_alone_runs_the_path_of_the_readme(make_node: MakeNode) -> None:
    """Import, recommend, verify and export work on a shared log as on files."""
    folder = make_node("a")
    shutil.copy(folder / "midstream.toml", folder / "kafka.toml")
    midstream = [sys.executable, "-m", "midstream"]

    def run(*words: str) -> str:
        ran = subprocess.run([*midstream, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    rows = [f'{{"type": "view", "event_id": "e{n}", "user_id": "u{n % 7}", "item_id": "i{n % 5}"}}' for n in range(40)]
    (folder / "example.ndjson").write_text("\n".join(rows))
    assert "40" in run("import", "example.ndjson")
    run("import", "example.ndjson")
    assert len([each for each in ids_of(folder) if each]) == 40
    assert "i" in run("recommend", "--user", "u1", "-n", "3")
    run("rebuild", "--verify")
    run("export", "events.parquet")
    assert (folder / "events.parquet").stat().st_size > 0
