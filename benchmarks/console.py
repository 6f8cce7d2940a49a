"""p99 of slates while the console is open: ten viewers of its first page beside a load at half of saturation.

Serves a folder of the named size with the real server, pinned to one core, loaded by the compiled generator on the
other. A viewer does what a browser does: it takes the page with its files, opens the stream of live figures, reads its
events, and opens the next stream where one ends. Loads without viewers and with them take turns, and the first of them
changes with each round. Needs a C compiler. About 4 minutes with five rounds.
"""

import argparse
import http.client
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serving import (
    Row,
    Server,
    arguments,
    asks,
    compiled,
    disk_rows,
    load,
    prepare,
    report,
    request,
    serving,
    spread,
    world_of,
    write_requests,
)

PATHS = ("/console", "/console/assets/console.css", "/console/assets/console.js")
STREAM = "/console/live"
CONNECTIONS, READ_S_MAX, SETTLE_S = 32, 10.0, 3.0
WANTED = 1.05
"""p99 with viewers of p99 without."""


@dataclass
class Viewers:
    """Open pages, and what came to them."""

    port: int
    over: threading.Event = field(default_factory=threading.Event)
    events: list[int] = field(default_factory=list[int])
    """Of each viewer that has ended."""
    failed: list[BaseException] = field(default_factory=list[BaseException])

    def look(self) -> None:
        """Be one viewer, until all are to go."""
        count = 0
        try:
            for path in PATHS:
                with closing(self._asked(path)) as connection:
                    connection.getresponse().read()
            while not self.over.is_set():
                with closing(self._asked(STREAM)) as connection:
                    count += self._read(connection.getresponse())
        except BaseException as error:  # noqa: BLE001  raised where the viewers are closed
            self.failed.append(error)
        self.events.append(count)

    def _asked(self, path: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READ_S_MAX)
        connection.request("GET", path)
        return connection

    def _read(self, answer: http.client.HTTPResponse) -> int:
        """Return the events that came until the stream ended, or the viewers are to go."""
        if answer.status != http.client.OK:
            message = f"{STREAM} answered {answer.status}"
            raise RuntimeError(message)
        count = 0
        while not self.over.is_set() and (line := answer.readline()):
            count += line == b"\n"
        return count


@contextmanager
def viewing(server: Server, count: int) -> Generator[Viewers]:
    """Keep pages open until the block ends; raise what went wrong with one of them."""
    viewers = Viewers(server.port)
    threads = [threading.Thread(target=viewers.look) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(SETTLE_S if count else 0.0)
        yield viewers
    finally:
        viewers.over.set()
        for thread in threads:
            thread.join()
    if viewers.failed:
        raise viewers.failed[0]


def one_turn(server: Server, programs: tuple[Path, Path], rate: float, seconds: float, viewers: int) -> dict:
    """Return what a load measured beside so many viewers, with the events that came to them."""
    generator, slates = programs
    with viewing(server, viewers) as seen:
        found = load(server, generator, slates, CONNECTIONS, rate, seconds, "single")
    return {**found, "events": sum(seen.events)}


def idle_cpu(server: Server, seconds: float, viewers: int) -> float:
    """Return milliseconds of the server's processor a second, without a load."""
    with viewing(server, viewers):
        before = server.cpu_s()
        time.sleep(seconds)
        return (server.cpu_s() - before) / seconds * 1e3


def measured(server: Server, root: Path, told: argparse.Namespace) -> list[Row]:
    """Return the rows: the load, what it met without and with viewers, and what viewers cost by themselves."""
    requests = [request("/v1/recommendations", ask) for ask in asks(world_of(told), 20_000, 1)]
    programs = compiled(), write_requests(root / "slates", requests)
    load(server, *programs, 16, 0, 2, "single")
    full = statistics.median(load(server, *programs, 16, 0, 3, "single")["per_second"] for _ in range(3))
    turns: list[tuple[dict, dict]] = []
    for number in range(told.rounds):
        order = (0, told.viewers) if number % 2 == 0 else (told.viewers, 0)
        found = {each: one_turn(server, programs, full / 2, told.seconds, each) for each in order}
        turns.append((found[0], found[told.viewers]))
    alone, beside = (spread([turn[at]["p99_us"] / 1e3 for turn in turns], "{:.2f}") for at in (0, 1))
    halves = " / ".join(spread([turn[at]["p50_us"] / 1e3 for turn in turns], "{:.2f}") for at in (0, 1))
    ratio = spread([second["p99_us"] / first["p99_us"] for first, second in turns], "{:.3f}")
    cpu = " / ".join(f"{statistics.median(t[at]['cpu_s'] / t[at]['count'] * 1e6 for t in turns):.0f}" for at in (0, 1))
    lost = sum(first["errors"] + second["errors"] for first, second in turns)
    events = sum(second["events"] for _, second in turns)
    quiet, open_pages = (idle_cpu(server, told.seconds, each) for each in (0, told.viewers))
    beside_name = f"none / {told.viewers} viewers"
    return [
        Row("slates a second at saturation; the load is half of it", f"{full:,.0f}", "", ""),
        Row(f"slate p99 ms, {beside_name}", f"{alone} / {beside}: × {ratio}; {lost} failed", "", f"× {WANTED}"),
        Row(f"slate p50 ms, {beside_name}", halves, "", ""),
        Row(f"CPU of the server a slate, µs, {beside_name}", cpu, "", ""),
        Row("events that came to the viewers", str(events), "", ""),
        Row(f"CPU of the server without a load, ms a second, {beside_name}", f"{quiet:.1f} / {open_pages:.1f}", "", ""),
    ]


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--viewers", type=int, default=10)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        rows = [*prepare(root, world_of(told)), *disk_rows(root)]
        before = os.getloadavg()[0]
        with serving(root) as server:
            rows += measured(server, root, told)
        rows.append(Row("load of the machine before and after", f"{before:.1f}, {os.getloadavg()[0]:.1f}", "", ""))
    report(rows, told.json)


if __name__ == "__main__":
    main()
