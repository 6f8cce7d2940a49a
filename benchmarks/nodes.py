"""Saturation of one, two and more nodes, an event that is asked for elsewhere, and the way of a message into an answer.

    python -m benchmarks.nodes saturation --nodes 8001 8002 8003
    python -m benchmarks.nodes across --nodes 8001 8002 8003 --rate 300
    python -m benchmarks.nodes visible --nodes 8001 --kafka 127.0.0.1:9092 --topic events --probes 200

Nodes are given as ports of loopback, or as addresses with ports, however they were started; on one machine they share
its cores with each other and with the load, which belongs beside a figure. ``saturation`` asks the first node alone,
then the first two, and so on, in turns. ``across`` sends each event to one node and asks the next one with its token.
``visible`` produces one event of a new user at a time and asks for that user until an answer knows it: the time is
that from the call of the producer, and half of an asking is its error.
"""

import argparse
import http.client
import json
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.generator.http_load import LOG_POSITION, load, request, write_requests
from tests.support.libraries import library

ROUNDS = 3
DEADLINE_MS = 1_000
"""Has refusals of a node that has too much counted apart from errors."""
VISIBLE_S_MAX = 10.0
"""Until a message that no answer knows is given up."""


def main() -> None:
    """Measure what was asked for; print one line of JSON for each figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("saturation", "across", "visible"))
    parser.add_argument("--nodes", nargs="+", required=True)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16, help="of each node")
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--core", type=int, help="on which the load runs alone")
    parser.add_argument("--kafka", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="events")
    parser.add_argument("--probes", type=int, default=200)
    options = parser.parse_args()
    for row in {"saturation": saturation, "across": across, "visible": visible}[options.what](options):
        print(json.dumps(row), flush=True)


def asks(options: argparse.Namespace, count: int) -> Iterator[dict[str, object]]:
    """Yield questions for slates of users, with items sent along."""
    rng = np.random.default_rng(3)
    for user in rng.integers(0, options.users, count).tolist():
        items = [f"i{each:07d}" for each in rng.integers(0, options.items, 3).tolist()]
        yield {"user_id": f"u{user:07d}", "items": items, "n": 20}


def saturation(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield answers a second of 1, 2, … nodes, closed loop; median, lowest and highest of turns."""
    with TemporaryDirectory() as made:
        bodies = (request("/v1/recommendations", each) for each in asks(options, 5_000))
        file = write_requests(Path(made) / "slates", bodies)
        found: dict[int, list[float]] = {count: [] for count in range(1, len(options.nodes) + 1)}
        errors = refused = 0
        for _ in range(ROUNDS):
            for count, rates in found.items():
                connections = min(options.connections * count, 512)
                run = load(
                    options.nodes[:count],
                    file,
                    connections=connections,
                    rate=0,
                    seconds=options.seconds,
                    deadline_ms=DEADLINE_MS,
                    core=options.core,
                )
                rates.append(float(run["per_second"]))
                errors += int(run["errors"])
                refused += int(run["refused"])
        for count, rates in found.items():
            yield {"nodes": count, "answers_s": statistics.median(rates), "low": min(rates), "high": max(rates)}
        yield {"errors": errors, "refused": refused}


def across(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield latencies of an event and of the question behind it, on one node and on neighbouring ones."""
    run = uuid.uuid4().hex[:8]
    with TemporaryDirectory() as made:
        for mode in ("pair", "across"):
            requests: list[bytes] = []
            for number, ask in enumerate(asks(options, int(options.rate * options.seconds * 1.5) + 1)):
                event = {"type": "view", "user_id": ask["user_id"], "item_id": f"i{number % options.items:07d}"}
                requests.append(request("/v1/events", {**event, "event_id": f"{run}-{mode}-{number}"}))
                requests.append(request("/v1/recommendations", {**ask, "min_log_position": LOG_POSITION}))
            file = write_requests(Path(made) / mode, requests)
            found = load(
                options.nodes,
                file,
                connections=options.connections,
                rate=options.rate,
                seconds=options.seconds,
                mode=mode,
                core=options.core,
            )
            yield {"mode": mode, **found}


@contextmanager
def producing(address: str):
    """Give a producer that sends at once and waits for all copies."""
    producer = library("confluent_kafka").Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 0})
    yield producer
    producer.flush(VISIBLE_S_MAX)


def visible(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield the time from producing a message to an answer of each node that knows its user."""
    run = uuid.uuid4().hex[:8]
    for node in options.nodes:
        host, _, port = node.rpartition(":")
        line = http.client.HTTPConnection(host or "127.0.0.1", int(port), timeout=VISIBLE_S_MAX)
        times: list[float] = []
        asking: list[float] = []
        with producing(options.kafka) as producer:
            for number in range(options.probes):
                user = f"probe-{run}-{port}-{number}"
                event = {"type": "view", "user_id": user, "item_id": "i0000001", "session_id": user}
                began = time.perf_counter()
                producer.produce(options.topic, json.dumps(event).encode())
                producer.poll(0)
                times.append(until_known(line, user, began, asking))
        line.close()
        p50, p99 = np.quantile(times, [0.5, 0.99]).tolist()
        yield {"node": node, "p50_ms": p50, "p99_ms": p99, "max_ms": max(times), "asking_ms": statistics.median(asking)}


def until_known(line: http.client.HTTPConnection, user: str, began: float, asking: list[float]) -> float:
    """Return the milliseconds until a node knows a user.

    Raises:
        TimeoutError: It did not in time.
    """
    while time.perf_counter() - began < VISIBLE_S_MAX:
        asked = time.perf_counter()
        line.request("GET", f"/v1/users/{user}")
        answer = line.getresponse()
        answer.read()
        now = time.perf_counter()
        asking.append((now - asked) * 1e3)
        if answer.status == 200:
            return (now - began) * 1e3
    message = f"no answer knows {user} {VISIBLE_S_MAX:.0f} s behind its event"
    raise TimeoutError(message)


if __name__ == "__main__":
    main()
