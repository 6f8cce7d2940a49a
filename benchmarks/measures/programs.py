"""The programs of the suite: each measures some rows of one version once, in seconds, and is asked in turns.

A program gets the bench (folders, sizes, bodies) and a version, and returns the figures of its rows by their names.
Servers and children run that version's package; what loads and times them is this tree's.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import composed
import ingest
import numpy as np
import serving
from world import World

from benchmarks.generator.http_load import compiled, request, write_requests

from . import starts
from .checkouts import Checkout

HERE = Path(__file__).parent
COMPILE_S_MAX = 1_200
"""For the first start of a version that has no machine code yet."""
CHILD_S_MAX = 1_800
CONNECTIONS, HALF_CONNECTIONS = 16, 32
LEAN = ("lean slates/s, one process", "… server CPU a slate", "… refused or failed at saturation")
COMPOSED = ("composed slates/s", "… server CPU a composed slate", "composed: refused or failed at saturation")
PAIRS_S, RANKS_S = 500, 200
"""Rates: of an event with its slate, and of reranks."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    items: int = 100_000
    users: int = 1_000_000
    sessions: int = 1_000_000
    events: int = 10_000_000
    cell_events: int = 1_000_000
    """Of the state in which columns are read."""
    singles: int = 2_000
    questions: int = 2_000
    sent: int = 500_000
    """Events of one round of ingest, each form."""
    requests: int = 20_000
    trees: int = 300
    seconds: float = 4.0
    """Of one load."""
    idle_s: float = 62.0
    """Without a request: a round of each job that runs every minute, and the longest waits before it."""
    is_short: bool = False

    @property
    def world(self) -> World:
        """The world of the servers."""
        return World(items=self.items, users=self.users, sessions=self.sessions, events=self.events)


SHORT = Sizes(
    items=1_500,
    users=400,
    sessions=500,
    events=4_000,
    cell_events=4_000,
    singles=40,
    questions=10,
    sent=10_000,
    requests=300,
    trees=5,
    seconds=0.4,
    idle_s=0.4,
    is_short=True,
)
"""Enough that each row gets a figure, which means nothing."""


@dataclass
class Bench:
    """Folders and requests of one run."""

    root: Path
    sizes: Sizes
    made: dict[str, list[bytes]] = field(default_factory=dict)
    """Bodies of ingest, by form: built once, sent to a new folder each time."""

    @property
    def generator(self) -> Path:
        """The compiled load."""
        return compiled()

    def folder(self, checkout: Checkout, name: str) -> Path:
        """Return a folder of a version."""
        return self.root / checkout.name.replace("/", "-") / name

    def fresh(self, checkout: Checkout, name: str) -> Path:
        """Return the place of a folder that is not there."""
        found = self.folder(checkout, name)
        shutil.rmtree(found, ignore_errors=True)
        return found


def prepare(bench: Bench, checkout: Checkout, programs: tuple[str, ...]) -> None:
    """Write the folders that some programs serve, fill the cache of machine code, and put the trees in service."""
    sizes = bench.sizes
    numbers = {name: getattr(sizes, name) for name in ("events", "sessions", "users", "items", "trees")}
    for kind in ("lean", "composed"):
        if kind not in programs and not (kind == "lean" and "restart" in programs):
            continue
        folder = bench.folder(checkout, kind)
        folder.mkdir(parents=True)
        child(checkout, HERE / "prepare.py", [kind, str(folder), *options(numbers)])
        if kind == "lean":
            shutil.copytree(folder, bench.folder(checkout, "restart"))
        with served(bench, checkout, kind, COMPILE_S_MAX) as server:
            if kind == "composed":
                composed.promote(server)


def options(numbers: dict[str, int]) -> list[str]:
    """Return arguments of a child."""
    return [f"--{name}={number}" for name, number in numbers.items()]


def child(checkout: Checkout, program: Path, arguments: list[str], cores: str = "0") -> dict[str, float]:
    """Run a program on named cores; return the JSON of its last line, nothing where that is none."""
    pinned = ["taskset", "-c", cores] if shutil.which("taskset") else []
    command = [*pinned, sys.executable, str(program), *arguments]
    ran = subprocess.run(
        command, check=True, env=checkout.environment, stdout=subprocess.PIPE, text=True, timeout=CHILD_S_MAX
    )
    last = ran.stdout.strip().rsplit("\n", 1)[-1]
    return dict(json.loads(last)) if last.startswith("{") else {}


def lean(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """Saturation, half of it, an event with its slate, a rerank of 100, memory: one server of the default placement."""
    sizes, world = bench.sizes, bench.sizes.world
    asks = serving.asks(world, sizes.requests, 1)
    slates = [request("/v1/recommendations", ask) for ask in asks]
    file = write_requests(bench.root / "slates", slates)
    with served(bench, checkout, "lean") as server:
        run = Loads(server, bench)
        found = run.saturated(LEAN, file, CONNECTIONS)
        half = run.at(file, found[LEAN[0]] / 2)
        pairs = run.at(write_requests(bench.root / "pairs", event_pairs(bench)), PAIRS_S, "pair")
        ranks = run.at(write_requests(bench.root / "ranks", rank_requests(world, 1_000)), RANKS_S)
        bare = run.bare(RANKS_S)
        memory = server.rss_mb()
        idle = idle_percent(server, sizes.idle_s)
    return {
        **found,
        **milliseconds("… at half of it", half),
        **milliseconds("event then slate at 500/s", pairs),
        **milliseconds("rerank 100 over HTTP", ranks),
        "… answers without work at 200/s, p99": bare,
        "resident memory, this state": memory,
        "work of the server's own in the minute after the loads": idle,
    }


def idle_percent(server: serving.Server, seconds: float) -> float:
    """Return how much of one core a server takes that is asked nothing: jobs by time, and what loads left to do."""
    before = sum(server.cpu_parts_s())
    time.sleep(seconds)
    return 100 * (sum(server.cpu_parts_s()) - before) / seconds


def composed_slates(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """Saturation of the placement with everything, and half of it."""
    told = serving.asks(bench.sizes.world, bench.sizes.requests, 1)
    file = write_requests(bench.root / "composed", [request("/v1/recommendations", ask) for ask in told])
    with served(bench, checkout, "composed") as server:
        run = Loads(server, bench)
        found = run.saturated(COMPOSED, file, composed.CONNECTIONS)
        half = run.at(file, found[COMPOSED[0]] / 2)
        bare = run.bare(found[COMPOSED[0]] / 2)
    return {
        **found,
        **milliseconds("composed at half of it", half),
        "… answers without work at that rate, p99": bare,
    }


@dataclass(frozen=True)
class Loads:
    """Loads of one server."""

    server: serving.Server
    bench: Bench

    def run(self, file: Path, connections: int, rate_s: float, seconds: float, mode: str) -> dict:
        """Load it.

        Raises:
            RuntimeError: Nothing was answered.
        """
        found = serving.load(self.server, self.bench.generator, file, connections, rate_s, seconds, mode)
        if not found["count"]:
            message = f"{file.name}: no answer has status 200, {found['errors']} have another one"
            raise RuntimeError(message)
        return found

    def saturated(self, names: tuple[str, str, str], file: Path, connections: int) -> dict[str, float]:
        """Return three rows of a closed loop behind a warm-up: slates a second, CPU time for one in µs, and how many of
        a hundred were refused or failed, which are no slates.
        """
        seconds = self.bench.sizes.seconds
        self.run(file, connections, 0, seconds / 2, "single")
        found = self.run(file, connections, 0, seconds, "single")
        lost = 100 * found["errors"] / (found["count"] + found["errors"])
        return dict(zip(names, (found["per_second"], found["cpu_s"] / found["count"] * 1e6, lost), strict=True))

    def at(self, file: Path, rate_s: float, mode: str = "single") -> dict:
        """Load it by an open loop."""
        return self.run(file, HALF_CONNECTIONS, rate_s, self.bench.sizes.seconds, mode)

    def bare(self, rate_s: float) -> float:
        """Return the p99 in ms of answers without work at a rate."""
        file = write_requests(self.bench.root / "bare", [b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"])
        return milliseconds("", self.at(file, rate_s))[", p99"]


def milliseconds(name: str, run: dict) -> dict[str, float]:
    """Return p50 and p99 of a load."""
    return {f"{name}, p{each}": run[f"p{each}_us"] / 1e3 for each in (50, 99)}


def event_pairs(bench: Bench) -> list[bytes]:
    """Return events, each followed by a question that has seen it; ids are new in each round."""
    count = int(PAIRS_S * bench.sizes.seconds * 1.5) + 50
    requests = []
    for number, ask in enumerate(serving.asks(bench.sizes.world, count, 2)):
        session, items = f"live{number % 3_000}", ask.pop("items")
        event = {"type": "view", "user_id": ask["user_id"], "item_id": items[0], "session_id": session}
        requests.append(request("/v1/events", {**event, "event_id": f"b{time.time_ns()}-{number}"}))
        requests.append(request("/v1/recommendations", {**ask, "session_id": session, "min_log_position": "@" * 16}))
    return requests


def rank_requests(world: World, count: int) -> list[bytes]:
    """Return requests to rerank 100 of the caller's items."""
    rng = np.random.default_rng(5)
    return [
        request(
            "/v1/rank",
            {"user_id": ask["user_id"], "basket": ask["items"], "items": serving.distinct(rng, world, 100)},
        )
        for ask in serving.asks(world, count, 6)
    ]


def folded(bench: Bench, checkout: Checkout, name: str, cores: str) -> dict[str, float]:
    """The fold of the whole world, in a process that may use these cores."""
    found = child(checkout, HERE / "inside.py", ["fold", *inside(bench, bench.sizes.events)], cores)
    return {name: found["rate"], f"… {name}: system time of one": found["system_us"]}


def cell_rows(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """One event alone, and columns of candidates."""
    found = child(checkout, HERE / "inside.py", ["cells", *inside(bench, bench.sizes.cell_events)])
    return {
        "one event folded alone, all tables": found["alone_us"],
        "40 columns × 500, p50": found["columns_p50_us"],
        "40 columns × 500, p99": found["columns_p99_us"],
    }


def inside(bench: Bench, events: int) -> list[str]:
    """Return arguments of ``inside.py``."""
    sizes = bench.sizes
    numbers = {name: getattr(sizes, name) for name in ("users", "items", "singles", "questions")}
    return options({**numbers, "events": events, "sessions": max(1, min(sizes.sessions, events // 5))})


def ingested(bench: Bench, checkout: Checkout, form: str, size: int, row: str) -> dict[str, float]:
    """One form of ingest into a new folder."""
    name, make, path, media = next(each for each in ingest.FORMS if each[0] == form)
    if form not in bench.made:
        bench.made[form] = ingest.bodies_of(make, size, bench.sizes.sent, size + len(name))
    shop = bench.fresh(checkout, f"ingest-{form}")
    shop.parent.mkdir(parents=True, exist_ok=True)
    sent = ingest.send_all(shop, bench.made[form], path, media, checkout.environment)
    if sent.recorded != (expected := size * len(bench.made[form])):
        message = f"{form}: {sent.recorded} of {expected} events were recorded"
        raise RuntimeError(message)
    return {
        row: sent.recorded / max(sent.cpu_s, 0.01),
        f"… {row}: system time of one": sent.system_s / sent.recorded * 1e6,
    }


def restarted(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """The start of a server on a folder that no load has touched, from its snapshot, on all cores: nothing else runs.

    Raises:
        RuntimeError: It took none, and folded the whole log.
    """
    with served(bench, checkout, "restart", pinned=False) as server:
        user_s, system_s = server.cpu_parts_s()
        found = {
            "restart with all events": server.started_s,
            "… CPU time of the restart": user_s + system_s,
            "… of that the system's": system_s,
        }
    lines = [json.loads(line) for line in log_of(bench, checkout, "restart").read_text("utf-8").splitlines()]
    recovered = next(line for line in lines if line["event"] == "recovered")
    if not recovered["snapshot"]:
        message = f"no snapshot was taken at the restart: {recovered}"
        raise RuntimeError(message)
    return found


def served(
    bench: Bench, checkout: Checkout, name: str, ready_s: float = serving.READY_S, *, pinned: bool = True
) -> AbstractContextManager[serving.Server]:
    """Return the server of a folder, until the block ends."""
    folder, log = bench.folder(checkout, name), log_of(bench, checkout, name)
    return serving.serving(folder, pinned=pinned, environment=checkout.environment, ready_s=ready_s, log=log)


def log_of(bench: Bench, checkout: Checkout, name: str) -> Path:
    """Return where a server's lines go, those of its last start."""
    return bench.folder(checkout, f"{name}.log")


def started(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """Starts of small folders."""
    return starts.small(bench.fresh(checkout, "start"), checkout)


def cloned(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """The first slate of files that were never run."""
    seconds = starts.first_slate(bench.fresh(checkout, "clone"), checkout, is_cached=bench.sizes.is_short)
    return {"first slate of a fresh clone": seconds}


def quiet_tenant(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """A tenant alone and beside one that floods, on a server of both."""
    turns, seconds = (1, 1.0) if bench.sizes.is_short else (8, 2 * bench.sizes.seconds)
    told = options({"turns": turns, "seconds": seconds})
    found = child(checkout, HERE.parent / "noisy_tenant.py", ["--flood=questions", "--json", *told], "0,1")
    return {
        "a quiet tenant's slates beside a flood, p50 of those alone": found["p50"],
        "… p99 of those alone": found["p99"],
    }


def key_gate(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """What the gate of API keys costs a question that is looked at for its placement."""
    told = options({"turns": 3, "requests": 100} if bench.sizes.is_short else {"turns": 15, "requests": 1_000})
    found = child(checkout, HERE.parent / "key_gate.py", ["--json", *told])
    return {"the gate of keys, a question limited to a placement": found["questions, one placement"]}


def calls(bench: Bench, checkout: Checkout) -> dict[str, float]:
    """Calls of Python and C of a request with events, which no noise touches."""
    told = options({"requests": 50 if bench.sizes.is_short else 500})
    found = child(checkout, HERE / "calls.py", told)
    return {"calls of a request with one event": found["one"], "… with 100 events in one body": found["many"]}


Program = Callable[[Bench, Checkout], dict[str, float]]
PROGRAMS: dict[str, Program] = {
    "lean": lean,
    "composed": composed_slates,
    "cells": cell_rows,
    "fold, one core": lambda bench, each: folded(bench, each, "fold of all events, one core", "0"),
    "fold, two cores": lambda bench, each: folded(bench, each, "fold of all events, two cores", "0,1"),
    "calls": calls,
    "JSON": lambda bench, each: ingested(bench, each, "JSON", 100, "JSON ingest by 100"),
    "NDJSON": lambda bench, each: ingested(bench, each, "NDJSON", 10_000, "NDJSON ingest by 10,000"),
    "tenants": quiet_tenant,
    "key gate": key_gate,
    "Arrow": lambda bench, each: ingested(bench, each, "Arrow", 10_000, "Arrow ingest by 10,000"),
    "restart": restarted,
    "start": started,
    "fresh clone": cloned,
}
ONCE = ("fresh clone",)
"""Measured in the first round alone: minutes of compiling."""
