"""Rolling upgrade of nodes from one fold version to another under load: no request is refused, no event is lost.

One node after the other is stopped in order, gets a configuration with an added feature, starts with a state of the new
version made from its own log, and is ready. Clients stand behind a balancer that looks at the health of the nodes and
sends each request once, so a node that closes before it was seen to stop, or says ready too early, refuses one.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from midstream.app.opening import config_of
from midstream.app.replicas.nodes import NodesView, nodes_of
from tests.integrations import test_input_owner
from tests.integrations.test_three_nodes import QUIET_GAPS, digest_at, end_of, read_back
from tests.support.node_client import BALANCED, LOOK_S, LOOK_S_MAX
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.readme import free_port
from tests.support.services.server import Server
from tests.support.three_nodes import longest_gap

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
COUNT = 2
DRAIN_S = LOOK_S + LOOK_S_MAX + 0.75
"""Longer than a balancer takes to see that a node is not ready: an interval, and a look that is slow."""
CONFIG = f"""
[limits]
users_max = 1_000

[server]
drain = "{DRAIN_S:g}s"

[log]
kind = "kafka"
servers = "{{servers}}"
topic = "{{name}}"

[snapshots]
interval = "20s"
keep = 50
"""
ADDED = """
[[features]]
name = "item_views"
kind = "count"
scope = "item"
actions = ["view"]
half_life = ["3d"]
"""
QUIET_S = 4.0
ANSWERS_S_MAX, WRITES_S_MAX = 1.5, 3.0
"""Without an answer of any node, without an acknowledgement of any: a stop and a start of one are not to be seen."""
BOARD_S = 1.0
"""Between two looks at the board, on which a node reports every five seconds."""


@dataclass
class Node(test_input_owner.Node):
    """One node."""

    @property
    def is_ready(self) -> bool:
        """Whether it says that it is; asked in a way that leaves the processors to the nodes."""
        time.sleep(LOOK_S)
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "said").read_text()[-3_000:]
        connection = http.client.HTTPConnection("127.0.0.1", int(self.port), timeout=LOOK_S_MAX)
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@pytest.fixture
def nodes(kafka: Server, tmp_path: Path) -> Iterator[list[Node]]:
    """Nodes of one shop, ready: whatever a fresh checkout compiles is compiled before the load begins."""
    name = f"shop-{uuid.uuid4().hex}"
    made = [Node(tmp_path / f"node-{n}", free_port()) for n in range(COUNT)]
    try:
        for node in made:
            (node.folder / "data").mkdir(parents=True)
            (node.folder / "midstream.toml").write_text(CONFIG.format(servers=kafka.address, name=name))
            (node.folder / "data" / "key").write_bytes(b"k" * 32)
            (node.folder / "data" / "key").chmod(0o600)
            node.start()
            wait_until(lambda node=node: node.is_ready)  # type: ignore[misc]
        yield made
    finally:
        for node in made:
            node.end(signal.SIGKILL)


def board(node: Node) -> NodesView:
    """Return what ``midstream nodes`` prints in the folder of a node; not more often than is of use."""
    time.sleep(BOARD_S)
    return nodes_of(node.folder, config_of(node.folder))


def fold_versions(node: Node) -> list[str]:
    """Return the fold version of each node that was heard of lately."""
    said = board(node)
    return [each.fold_version for each in said.nodes if each.node not in said.gone]


@contextmanager
def load(nodes: Sequence[Node], folder: Path, report: dict[str, Any]) -> Iterator[None]:
    """Load all nodes by clients behind a balancer; their report is there afterwards."""
    target, said = folder / "client.json", folder / "client.log"
    places = [f"127.0.0.1:{node.port}" for node in nodes]
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.node_client", BALANCED, str(target), *places],
            stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert target.exists(), said.read_text()
    report |= json.loads(target.read_text())


def upgrade(node: Node) -> tuple[float, float]:
    """Stop a node in order, change its file, start it, and wait until it is ready; return the seconds of both."""
    began = time.monotonic()
    node.end(signal.SIGTERM)
    stopped = time.monotonic()
    file = node.folder / "midstream.toml"
    file.write_text(file.read_text() + ADDED)
    node.start()
    wait_until(lambda: node.is_ready)
    return stopped - began, time.monotonic() - stopped


def token_of(node: Node, number: int) -> str:
    """Record an event at a node; return the token of its log position."""
    body = {"event_id": f"token-{number}", "type": "view", "user_id": "token", "item_id": "item 1"}
    answer = httpx.post(f"http://127.0.0.1:{node.port}/v1/events", json=body, timeout=30.0)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["log_position"])


def require_token_holds(node: Node, token: str) -> None:
    """A node answers with a state that has the event."""
    body = {"user_id": "token", "n": 5, "min_log_position": token, "deadline": "5s"}
    answer = httpx.post(f"http://127.0.0.1:{node.port}/v1/recommendations", json=body, timeout=30.0)
    assert answer.status_code == 200, answer.text
    assert answer.json()["read_your_writes"] is True, answer.text


@pytest.mark.timeout(2 * PATIENCE_S)
def test_an_upgrade_goes_from_node_to_node_without_a_refused_request(nodes: list[Node], tmp_path: Path) -> None:
    """Reads and writes are answered all the time, tokens hold across versions, and states of one version are equal."""
    report: dict[str, Any] = {}
    wait_until(lambda: len(fold_versions(nodes[0])) == COUNT)
    (old,) = set(fold_versions(nodes[0]))
    with load(nodes, tmp_path, report):
        time.sleep(QUIET_S)
        began = time.time()
        for number, node in enumerate(nodes):
            stop_s, start_s = upgrade(node)
            print(f"{node.folder.name}: {stop_s:.1f} s to stop (drain {DRAIN_S:g} s), {start_s:.1f} s to start")
            other = nodes[1 - number]
            require_token_holds(other, token_of(node, number))
            require_token_holds(node, token_of(other, COUNT + number))
            left = COUNT - 1 - number
            wait_until(lambda left=left: fold_versions(nodes[0]).count(old) == left)  # type: ignore[misc]
            assert len(set(fold_versions(nodes[0]))) == (2 if left else 1)
        ended = time.time()
        wait_until(lambda: board(nodes[0]).compared)  # by marks of the new version
    assert board(nodes[0]).differences == ()
    for node in nodes:
        node.end(signal.SIGTERM)
    require_answered(report, began, ended)
    require_kept(nodes, report)


def require_answered(report: dict[str, Any], began: float, ended: float) -> None:
    """No request was refused, in no try; and there was no time without answers or acknowledgements."""
    answers, writes = [at for at, _ in report["answers"]], list(report["acknowledged"].values())
    print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}: {len(writes)} events, {len(answers)} answers")
    gaps: list[tuple[str, float, float]] = []
    for what, times, limit in (("answers", answers, ANSWERS_S_MAX), ("writes", writes, WRITES_S_MAX)):
        quiet, gap = longest_gap(times, min(times), began), longest_gap(times, began, ended)
        print(f"{what}: at most {gap:.2f} s without, {quiet:.2f} s before the upgrade")
        gaps.append((what, gap, max(limit, QUIET_GAPS * quiet)))
    assert report["refused"] == {}
    assert [at for at, _ in report["failed"] if began <= at <= ended] == [], "some node was ready all the time"
    assert all(gap <= limit for _, gap, limit in gaps), gaps
    assert report["sent"] - len(writes) <= 2, "each of two writers has at most its last event open"


def require_kept(nodes: Sequence[Any], report: dict[str, Any]) -> None:
    """0 lost, 0 double, and equal states at the end of the shorter log."""
    acknowledged = set(report["acknowledged"])
    for node in nodes:
        fold, times = read_back(node)
        assert not acknowledged - times.keys()
        assert all(times[each] == 1 for each in acknowledged), "nothing was sent twice"
        assert fold.counts()["conflict"] == 0
    end = min(end_of(node) for node in nodes)
    assert len({digest_at(node, end) for node in nodes}) == 1
