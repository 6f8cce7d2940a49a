"""Two nodes with the same midstream.toml on a real Kafka: one consumes and delivers, and the other one follows it."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from midstream.app.inspect.folder_view import LogView
from midstream.engine.replication.lease_keeper import LOOK_S, TTL_S
from midstream.events.schema import event_at
from midstream.integrations.kafka.library import confluent_kafka
from tests.integrations.test_kafka_output import committed, make_topic
from tests.support.patience import wait_until
from tests.support.readme import free_port
from tests.support.services.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
CONFIG = """
[limits]
users_max = 1_000

[log]
kind = "kafka"
servers = "{servers}"
topic = "{name}"

[[inputs]]
name = "clicks"
kind = "kafka"
servers = "{servers}"
topic = "{name}-clicks"

[[outputs]]
name = "events"
kind = "kafka"
servers = "{servers}"
topic = "{name}-out"
records = "events"
types = ["view"]
from = "beginning"
"""
FOLLOWED_S_MAX = 10.0
"""docs/replicas.md: another node goes on within so long after a kill."""


@dataclass
class Node:
    """One node."""

    folder: Path
    port: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start its server."""
        command = [sys.executable, "-m", "midstream", "serve", "-f", str(self.folder), "--port", self.port]
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)

    def end(self, number: signal.Signals) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(120)
            self.process = None

    def ask(self, path: str) -> dict[str, Any]:
        """Return an answer, empty = there is none."""
        assert self.process is None or self.process.poll() is None, (self.folder / "said").read_text()[-3_000:]
        with suppress(httpx.HTTPError, ValueError):
            return dict(httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5.0).json())
        return {}

    @property
    def input(self) -> dict[str, Any]:
        """How its input stands."""
        return self.ask("/v1/inputs/clicks")

    @property
    def place(self) -> int:
        """Where its state goes on in the input's topic."""
        parts = self.input.get("partitions") or [{"position": "-1"}]
        return int(parts[0]["position"].partition("@")[0])

    def items(self) -> list[str]:
        """Return the messages of the broker in its log, in order."""
        batches = LogView(self.folder).batches()
        found = [event_at(batch, row).item_id for batch in batches for row in range(len(batch))]
        return [each for each in found if each.startswith("m")]


@pytest.fixture
def nodes(kafka: Server, tmp_path: Path) -> Iterator[tuple[str, list[Node]]]:
    """Two nodes of one shop with one file, and the name of the shop."""
    name = f"shop-{uuid.uuid4().hex}"
    for topic in (f"{name}-clicks", f"{name}-out"):
        make_topic(kafka.address, topic)
    made = [Node(tmp_path / each, free_port()) for each in ("one", "two")]
    for node in made:
        (node.folder / "data").mkdir(parents=True)
        (node.folder / "midstream.toml").write_text(CONFIG.format(servers=kafka.address, name=name))
        (node.folder / "data" / "key").write_bytes(b"k" * 32)
        (node.folder / "data" / "key").chmod(0o600)
    try:
        yield name, made
    finally:
        for node in made:
            node.end(signal.SIGKILL)


@contextmanager
def sender(servers: str, topic: str) -> Iterator[Callable[[int], int]]:
    """Yield what sends messages without ids, and returns how many there are then."""
    producer = confluent_kafka().Producer({"bootstrap.servers": servers, "linger.ms": 1})
    count = 0

    def send(more: int) -> int:
        nonlocal count
        for _ in range(more):
            producer.produce(
                topic, msgspec.json.encode({"type": "view", "user_id": "ann", "item_id": f"m{count}"}), partition=0
            )
            count += 1
        assert producer.flush(30) == 0
        return count

    yield send


def test_the_other_node_goes_on_when_the_owner_is_killed(nodes: tuple[str, list[Node]], kafka: Server) -> None:
    """0 lost, 0 double, in both logs and in the topic of the output, over a kill and a stop of the owner."""
    name, (one, two) = nodes
    with sender(kafka.address, f"{name}-clicks") as send:
        one.start()
        sent = send(200)
        wait_until(lambda: one.place == sent)
        two.start()
        wait_until(lambda: two.place == sent)
        assert (one.input["state"], two.input["state"]) == ("reading", "standing_by")
        assert one.input["owner"] == two.input["owner"] != ""
        assert [each.ask("/v1/outputs/events")["state"] for each in (one, two)][1] == "standing_by"
        said = subprocess.run(
            [sys.executable, "-m", "midstream", "inputs", "show", "-f", str(two.folder), "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(said.stdout)["inputs"][0]["owner"] == one.input["owner"]
        send(500)
        one.end(signal.SIGKILL)
        killed_s = time.monotonic()
        sent = send(500)
        wait_until(lambda: two.place == sent)
        took_s = time.monotonic() - killed_s
        print(
            f"\nthe other node had read 500 messages {took_s:.1f} s after the kill (a lease runs out after {TTL_S:g} s)"
        )
        one.start()
        wait_until(lambda: one.place == sent)
        assert one.input["state"] == "standing_by"
        began_s = time.monotonic()
        two.end(signal.SIGTERM)
        stopped_s = time.monotonic()
        sent = send(100)
        wait_until(lambda: one.place == sent)
        print(f"{time.monotonic() - stopped_s:.1f} s after a stop that took {stopped_s - began_s:.1f} s")
        wait_until(lambda: one.ask("/v1/outputs/events").get("lag_events") == 0)
        two.start()
        wait_until(lambda: two.place == sent)
        for node in (one, two):
            node.end(signal.SIGTERM)
    want = [f"m{n}" for n in range(sent)]
    assert one.items() == two.items() == want
    records = committed(kafka.address, f"{name}-out")
    assert [msgspec.json.decode(each.value())["item_id"] for each in records] == want
    assert took_s < FOLLOWED_S_MAX
    assert TTL_S + LOOK_S < FOLLOWED_S_MAX
