"""Comparison with Gorse and Serenade over HTTP: one world, one machine, one generator, turns that alternate.

``--gorse`` and ``--serenade`` name a source tree or a built program; nothing is fetched. A tree is built with what its
package manager has in its cache (``go build`` without a proxy, ``cargo build --offline``); what its compilers need
beyond that is in the environment. Each server has core 0, the generator core 1. Gorse takes the world through its
import of feedback and stores it in SQLite, Serenade reads it as a file of clicks when it starts. An engine that no
argument names is left out, by name. On a machine with other work ``--priority`` puts servers and generator before it
while they are measured. About 10 minutes at full size after the builds, most of them for Gorse's own preparation.
Needs a C compiler.
"""

import argparse
import http.client
import itertools
import json
import math
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from engine_peers import PEERS, Contestant, program, started
from serving import load, spread
from world import World

from benchmarks.generator.http_load import compiled

CONNECTIONS, STEADY_CONNECTIONS = 16, 32
FRESH_S_MAX, FRESH_PAUSE_S, FRESH_USERS, FRESH_ITEM = 60, 0.001, 20, 100
"""Events of new users go to items from this number on: often seen, and not among the first of all."""
ANSWER_S_MAX = 60
CHECKED = 50
"""Answers that are read and counted before the loads, so that no engine is measured by empty ones."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    engine: str
    per_second: str
    cpu_us: str
    latency_ms: str
    items: str
    fresh_ms: str
    memory_mb: str
    errors: int


def main() -> None:
    """Build, start, fill, load in turns, print."""
    options = arguments()
    world = World(items=options.items, users=options.users, sessions=options.events // 5, events=options.events)
    paths = {peer.name: program(peer, getattr(options, peer.name)) for peer in PEERS}
    for name in (name for name, path in paths.items() if path is None):
        print(f"{name} is left out: --{name} names no path")
    generator = compiled()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, ExitStack() as stack:
        root = Path(folder)
        contestants = list(started(stack, root, world, paths))
        lines = measured(contestants, generator, options)
    print(table(lines, world, options))
    if options.json:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1))


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for peer in PEERS:
        parser.add_argument(f"--{peer.name}", type=Path, help="a source tree or a built program")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--priority", type=int, default=0, help="nice value while measuring; below 0 needs root")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def times_until_seen(each: Contestant) -> list[float]:
    """Return for some new users how many seconds pass from the answer to their first event until an answer has an item
    that none of three answers before the event had; infinite = none within a minute.
    """
    times = []
    with closing(socket.create_connection(("127.0.0.1", each.server.port), timeout=ANSWER_S_MAX)) as connection:
        for number in range(FRESH_USERS):
            user = f"fresh{time.time_ns()}"
            sent = each.question(user)
            before = {item for _ in range(3) for item in each.listed(exchanged(connection, sent))}
            exchanged(connection, each.event(user, f"i{FRESH_ITEM + number:07d}"))
            began, seen = time.perf_counter(), math.inf
            while time.perf_counter() - began < FRESH_S_MAX:
                if not before.issuperset(each.listed(exchanged(connection, sent))):
                    seen = time.perf_counter() - began
                    break
                time.sleep(FRESH_PAUSE_S)
            times.append(seen)
    return times


def exchanged(connection: socket.socket, sent: bytes) -> object:
    """Send a request; return the JSON of its answer.

    Raises:
        RuntimeError: The status is not one of success.
    """
    connection.sendall(sent)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    content = answer.read()
    if answer.status // 100 != 2:
        message = f"{answer.status} for {sent[:200]!r}: {content[:300]!r}"
        raise RuntimeError(message)
    return json.loads(content)


def measured(contestants: list[Contestant], generator: Path, options: argparse.Namespace) -> list[Line]:
    """Load all in turns, of which each begins with the next one; return the lines."""
    items = {each.name: mean_items(each) for each in contestants}
    with put_before_others([each.server.process.pid for each in contestants], options.priority):
        for each in contestants:
            load(each.server, generator, each.file, CONNECTIONS, 0, options.seconds / 2, "single")
        for turn in range(options.turns):
            at = turn % len(contestants)
            for each in itertools.chain(contestants[at:], contestants[:at]):
                closed = load(each.server, generator, each.file, CONNECTIONS, 0, options.seconds, "single")
                each.closed.append(closed)
                steady = load(
                    each.server, generator, each.file, STEADY_CONNECTIONS, options.rate, options.seconds, "single"
                )
                each.steady.append(steady)
        for each in contestants:
            each.fresh_s = times_until_seen(each) if each.event else []
    return [line_of(each, items[each.name]) for each in contestants]


@contextmanager
def put_before_others(processes: list[int], priority: int) -> Iterator[None]:
    """Give the threads of processes, and what this one starts, a nice value for the block; 0 = leave all as it is."""
    threads = [int(path.name) for pid in {*processes, os.getpid()} for path in Path(f"/proc/{pid}/task").iterdir()]
    before = {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in threads}
    for thread in threads if priority else ():
        os.setpriority(os.PRIO_PROCESS, thread, priority)
    try:
        yield
    finally:
        for thread, value in before.items() if priority else ():
            if Path(f"/proc/{thread}").exists():
                os.setpriority(os.PRIO_PROCESS, thread, value)


def mean_items(contestant: Contestant) -> float:
    """Return how many items the first answers have in the mean."""
    with closing(socket.create_connection(("127.0.0.1", contestant.server.port), timeout=ANSWER_S_MAX)) as connection:
        counts = [len(contestant.listed(exchanged(connection, each))) for each in contestant.requests[:CHECKED]]
    return statistics.mean(counts)


def line_of(each: Contestant, items: float) -> Line:
    """Return what was measured as text: medians, lowest and highest of the turns."""
    fresh = "takes none" if each.event is None else spread([1e3 * seen for seen in each.fresh_s], "{:.1f}")
    latency = [spread([run[f"p{at}_us"] / 1e3 for run in each.steady], "{:.1f}") for at in (50, 99)]
    return Line(
        each.name,
        spread([run["per_second"] for run in each.closed], "{:,.0f}"),
        spread([run["cpu_s"] / max(run["count"], 1) * 1e6 for run in each.closed], "{:,.0f}"),
        " / ".join(latency),
        f"{items:.1f}",
        fresh,
        f"{each.server.rss_mb():,.0f}",
        sum(run["errors"] for run in [*each.closed, *each.steady]),
    )


def table(lines: list[Line], world: World, options: argparse.Namespace) -> str:
    """Return the lines as a Markdown table, with the load of the machine."""
    size = f"{world.items:,} items, {world.users:,} users, {world.events:,} events"
    machine = "{} cores, load {:.1f} / {:.1f} (1 / 5 minutes)".format(os.cpu_count(), *os.getloadavg()[:2])
    heads = f"engine | recommendations/s | CPU µs | p50 / p99 ms at {options.rate:g}/s | items | event → answer ms | MB"
    rows = [
        f"| {line.engine} | {line.per_second} | {line.cpu_us} | {line.latency_ms} | {line.items} | {line.fresh_ms} "
        f"| {line.memory_mb} | {line.errors} |"
        for line in lines
    ]
    return "\n".join(
        [
            f"{size}; {machine}; {options.turns} turns",
            "",
            f"| {heads} | errors |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
