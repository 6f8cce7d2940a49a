"""Three nodes, a broker and a client, each in a network namespace of its own, with faults in random order."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from tests.support.namespaces import Member, Network
from tests.support.patience import wait_until
from tests.support.services.kafka import Kafka
from tests.support.services.replies import NotReady
from tests.support.services.system import Site

PORT, KAFKA_PORT, CONTROLLER_PORT = 8765, 9092, 9093
NAMES = ("broker", "node-1", "node-2", "node-3", "client")
FAULT_S = 3.0
"""Longer than a client waits for an answer, and than a read that proves a connection."""
BURST_S, PAUSE_S = 0.02, 0.18
"""A slow node runs for a tenth of the time, in bursts."""
ASK_S = 2.0
STANDSTILL_S = 60.0
"""Nodes that answer and read nothing for so long have read all."""
SESSION_MS = 60_000
"""It is never killed here. On a busy machine it might end its own session, and then no partition has a leader."""
HTTP_OK = 200


@dataclass
class Node:
    """One node: a folder, a member of the network, and the process while there is one."""

    folder: Path
    member: Member
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def url(self) -> str:
        """Address of its server, from every member and from this machine."""
        return f"http://{self.member.address}:{PORT}"

    def start(self) -> None:
        """Start its server."""
        self.starts += 1
        command = self.member.command(
            *(sys.executable, "-m", "midstream", "serve", "-f", str(self.folder)),
            *("--host", self.member.address, "--port", str(PORT), "--insecure"),
        )
        with (self.folder / f"server-{self.starts}.log").open("wb") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """End its process; return the exit status."""
        self.send(signal.SIGCONT)
        self.send(number)
        return 0 if self.process is None else self.process.wait(120)

    def health(self) -> dict[str, Any]:
        """Return what it says of itself, with the status; empty = it does not answer."""
        try:
            answer = httpx.get(f"{self.url}/health/ready", timeout=ASK_S)
            return {**answer.json(), "status": answer.status_code}
        except (httpx.HTTPError, ValueError):
            return {}

    @property
    def is_ready(self) -> bool:
        """Whether it says that it is."""
        return self.health().get("status") == HTTP_OK

    def said(self) -> str:
        """Return the end of what it has printed."""
        return (self.folder / f"server-{self.starts}.log").read_text(errors="replace")[-3_000:]


@dataclass(frozen=True)
class Round:
    """One fault and what came of it, in seconds."""

    fault: str
    node: int
    began: float
    healed: float
    ready: float


@dataclass
class Shop:
    """The whole of it."""

    network: Network
    nodes: Sequence[Node]
    rounds: list[Round] = field(default_factory=list[Round])
    report: dict[str, Any] = field(default_factory=dict[str, Any])

    def wait_until_ready(self) -> None:
        """Return when every node is ready.

        Raises:
            AssertionError: One has ended.
        """
        for node in self.nodes:
            wait_until(lambda node=node: node.is_ready or _ended(node))  # type: ignore[misc]
            assert node.process is not None
            assert node.process.poll() is None, node.said()

    def wait_until_level(self) -> int:
        """Return the log position that all nodes have reached, once they have.

        Raises:
            AssertionError: They stand still at different ones.
        """
        seen: tuple[set[object], float] = (set(), time.monotonic())

        def is_level() -> bool:
            nonlocal seen
            ends = {(said.get("log_position"), said.get("applied_log_position")) for said in self._healths()}
            if ends != seen[0]:
                seen = (set(ends), time.monotonic())
            assert time.monotonic() - seen[1] < STANDSTILL_S, f"nodes stand still at {ends}"
            return len(ends) == 1 and None not in next(iter(ends)) and len(set(next(iter(ends)))) == 1

        wait_until(is_level)
        return int(self.nodes[0].health()["log_position"])

    def _healths(self) -> list[dict[str, Any]]:
        return [node.health() for node in self.nodes]

    def fault(self, name: str, number: int, seconds: float = FAULT_S) -> Round:
        """Do one node harm for a while, end that, and wait until it is ready again."""
        node = self.nodes[number]
        began = time.time()
        getattr(self, f"_{name}")(node, seconds)
        healed = time.time()
        self.wait_until_ready()
        done = Round(name, number, began, healed, time.time())
        self.rounds.append(done)
        return done

    @staticmethod
    def _kill(node: Node, seconds: float) -> None:
        node.end(signal.SIGKILL)
        time.sleep(seconds)
        node.start()

    @staticmethod
    def _cut(node: Node, seconds: float) -> None:
        node.member.cut()
        try:
            time.sleep(seconds)
        finally:
            node.member.heal()

    @staticmethod
    def _slow(node: Node, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            node.send(signal.SIGSTOP)
            time.sleep(PAUSE_S)
            node.send(signal.SIGCONT)
            time.sleep(BURST_S)

    @contextmanager
    def load(self, folder: Path) -> Iterator[None]:
        """Have the client load all nodes meanwhile; its report is there afterwards."""
        target = folder / "client.json"
        nodes = [f"{node.member.address}:{PORT}" for node in self.nodes]
        client = self.network.members["client"].command(
            sys.executable, "-m", "tests.support.node_client", str(target), *nodes
        )
        with (folder / "client.log").open("wb") as said:
            process = subprocess.Popen(client, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert target.exists(), (folder / "client.log").read_text()
        self.report = json.loads(target.read_text())


def _ended(node: Node) -> bool:
    return node.process is not None and node.process.poll() is not None


@contextmanager
def broker(folder: Path, member: Member) -> Iterator[str]:
    """Run Kafka in a member of a network; yield its address.

    Raises:
        Unavailable: It was not fetched.
    """
    system = Kafka(is_brief=True, session_ms=SESSION_MS)
    site = Site(folder, system.package.find(), member.address, {"client": KAFKA_PORT, "controller": CONTROLLER_PORT})
    site.data.mkdir(parents=True)
    system.prepare(site)
    with (folder / "broker.log").open("wb") as said:
        process = subprocess.Popen(
            member.command(*system.command(site)), stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=folder
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "broker.log").read_text(errors="replace")[-3_000:]
        with suppress(OSError, NotReady):
            system.ask(site)
            return True
        return False

    try:
        wait_until(answers)
        yield f"{member.address}:{KAFKA_PORT}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def three_nodes(folder: Path, configure: Callable[[Path, str], None], *, with_broker: bool = True) -> Iterator[Shop]:
    """Run a shop of three nodes; ``configure`` writes the folder of each, told the address of the broker."""
    with Network(NAMES) as network:
        nodes = [Node(folder / name, network.members[name]) for name in NAMES if name.startswith("node")]
        with suppress_broker(folder / "broker", network, with_broker=with_broker) as address:
            for node in nodes:
                node.folder.mkdir()
                configure(node.folder, address)
            try:
                for node in nodes:
                    node.start()
                shop = Shop(network, nodes)
                shop.wait_until_ready()
                yield shop
            finally:
                for node in nodes:
                    node.end(signal.SIGKILL)


@contextmanager
def suppress_broker(folder: Path, network: Network, *, with_broker: bool) -> Iterator[str]:
    """Run the broker, or nothing."""
    if not with_broker:
        yield ""
        return
    with broker(folder, network.members["broker"]) as address:
        yield address


def faults(rounds: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yield faults and nodes in random order, each fault equally often."""
    chance = random.Random(seed)  # noqa: S311  an order, no secret
    while rounds > 0:
        names = ["kill", "cut", "slow"][:rounds]
        chance.shuffle(names)
        yield from ((name, chance.randrange(3)) for name in names)
        rounds -= len(names)


def longest_gap(times: Sequence[float], begin: float, end: float) -> float:
    """Return the longest time without an entry between two times."""
    inside = sorted(each for each in times if begin <= each <= end)
    every = [begin, *inside, end]
    return max(second - first for first, second in pairwise(every))


SEED = int(os.environ.get("MIDSTREAM_SEED", str(random.SystemRandom().randrange(2**32))))
"""Of the order of faults; a failed run prints it."""
