"""Cost of the gate of API keys: processor time of a request through it less that of the same one without it, in turns.

The app behind the gate reads the body, as every route does, and answers nothing: what is left is the gate's own. Each
case is a kind of caller. A turn is a thousand requests of each case with the gate and without; the figure is the median
over turns, with the lowest and the highest.

Usage: ``python benchmarks/key_gate.py [--turns 15] [--requests 1000]``
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client import CollectorRegistry

from midstream.monitoring.metrics import Metrics
from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KeyWatch
from midstream.serving.access.visitors import PAGE_ORIGIN, NoUsers
from midstream.serving.http.body_reader import WHOLE, BodyLimits, read_body
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.options import ServerOptions

LIMITS = BodyLimits(1 << 20, 10.0)
QUESTION = {"placement": "home", "user_id": "u0000017", "items": ["i0000003", "i0000009", "i0000027"], "n": 20}
PAGE_QUESTION = {"placement": "home", "session_id": "anon-0123456789abcdefghij", "n": 20}
EVENTS = [{"type": "view", "session_id": f"s{n}", "item_id": f"i{n}"} for n in range(5)]
SITE = "https://shop.example"


class Behind:
    """App that reads a body and says nothing."""

    def __init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.arrivals = LoopArrivals(time.perf_counter)
        self.count = 0

    async def __call__(self, scope: Any, receive: Any, _send: Any) -> None:
        if scope["method"] != "GET":
            await read_body(scope, receive, LIMITS)
        self.count += 1


@dataclass(frozen=True)
class Case:
    """Requests of one kind of caller."""

    name: str
    key: str
    method: str
    path: str
    body: bytes
    is_page: bool = False

    def scope(self) -> dict[str, Any]:
        """Return the scope of a request, as a server makes it."""
        headers = [(b"host", b"localhost:8765"), (b"user-agent", b"shop/1.0"), (b"accept", b"*/*")]
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        headers.append((b"authorization", b"Bearer " + self.key.encode()))
        found: dict[str, Any] = {"type": "http", "method": self.method, "path": self.path, "query_string": b""}
        found |= {"raw_path": self.path.encode(), "client": ("127.0.0.1", 1), WHOLE: True}
        if self.is_page:
            headers.append((b"origin", SITE.encode()))
            found[PAGE_ORIGIN] = SITE.encode()
        return {**found, "headers": headers}


def cases(file: KeyFile) -> list[Case]:
    """Make a key for each kind of caller."""

    def key(*scopes: str, origins: tuple[str, ...] = ()) -> str:
        return file.create(KeyWish(f"k{time.time_ns()}", scopes, origins=origins), 1, "benchmark").key

    question, slates = json.dumps(QUESTION).encode(), "/v1/recommendations"
    of_page = json.dumps(PAGE_QUESTION, separators=(",", ":")).encode()  # as ``JSON.stringify`` writes it
    return [
        Case("read", key("read"), "GET", "/v1/items/lamp", b""),
        Case("events", key("events:write"), "POST", "/v1/events", json.dumps(EVENTS).encode()),
        Case("questions, all scopes", key("admin"), "POST", slates, question),
        Case("questions, recommend alone", key("recommend"), "POST", slates, question),
        Case("questions, one placement", key("recommend:home"), "POST", slates, question),
        Case("questions of a page", key("recommend", origins=(SITE,)), "POST", slates, of_page, is_page=True),
    ]


async def seconds_of(app: Callable[..., Any], case: Case, requests: int) -> float:
    """Return the processor's time of requests, one after another: what other processes take is not in it."""

    async def send(message: Any) -> None:
        raise RuntimeError(str(message))  # the gate refused what it is to let in

    async def receive() -> Any:
        return message

    message = {"type": "http.request", "body": case.body, "more_body": False}
    scopes = [case.scope() for _ in range(requests)]
    began = time.thread_time()
    for scope in scopes:
        await app(scope, receive, send)
    return time.thread_time() - began


async def measured(turns: int, requests: int) -> dict[str, list[float]]:
    """Return microseconds of the gate by case, a value a turn."""
    with TemporaryDirectory() as folder:
        file = KeyFile(Path(folder))
        told = cases(file)
        behind = Behind()
        watch = KeyWatch(file, time.monotonic, lambda: time.time_ns() // 1_000_000)
        gate = KeyGate(behind, watch, ServerOptions(), NoUsers())
        found: dict[str, list[float]] = {each.name: [] for each in told}
        for number in range(turns + 1):
            for case in told:
                apps = (gate, behind) if number % 2 else (behind, gate)
                times = {app: await seconds_of(app, case, requests) for app in apps}
                if number:  # the first one warms up
                    found[case.name].append((times[gate] - times[behind]) / requests * 1e6)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--json", action="store_true", help="the medians alone, a line of JSON")
    chosen = parser.parse_args()
    found = asyncio.run(measured(chosen.turns, chosen.requests))
    if chosen.json:
        print(json.dumps({name: statistics.median(values) for name, values in found.items()}))
        return
    for name, values in found.items():
        print(f"{name}: {statistics.median(values):.1f} µs ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
