"""p99 of slates while the console is open: ten viewers of its first page beside a load at half of saturation.

Serves a folder of the named size with the real server, pinned to one core, loaded by the compiled generator on the
other. A viewer does what a browser does: it takes the page with its files, opens the stream of live figures, reads its
events, and opens the next stream where one ends. Short loads without viewers and with them take turns, so that noise of
the machine falls on both, and the first of them changes with each round. They begin when the server is idle, and no
history is sealed meanwhile: that takes 26 s with five million events. Viewers share the generator's core and run there
only while it is asleep (``SCHED_IDLE``), so that they delay neither the server nor what measures the latency. Needs a C
compiler. About 4 minutes. With ``--pages`` the time of each page instead, asked for one after the other on an idle
server, median and longest of 20. About 1 minute.
"""

import argparse
import http.client
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from serving import (
    CONFIG,
    Row,
    Server,
    arguments,
    asks,
    compiled,
    disk_rows,
    load,
    prepare,
    quantile,
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
IDLE_S_MAX, IDLE_LOOKS, IDLE_SHARE_MAX = 180.0, 3, 0.02
"""The server is idle where so many seconds in a row had less than this share of a processor and no child process."""
KEEP = '[history]\nhot = "3650d"\n'
"""Nothing is sealed: a seal begins a minute after the start."""
PAGE_ROUNDS = 20
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
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # of this thread: any other work goes first
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


@dataclass(frozen=True)
class Window:
    """What one short load met, and what the server did meanwhile."""

    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of the server a slate."""
    loop_ms: float
    """CPU of the event loop's thread a second."""
    errors: int
    events: int
    """Of live figures that came to the viewers."""


def loop_s(server: Server) -> float:
    """Return CPU seconds of the event loop's thread so far, to the nanosecond (``stat`` counts in 10 ms)."""
    pid = server.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def settle(server: Server) -> None:
    """Return when the server is idle: what it does behind a start and behind the loads before is over.

    Raises:
        TimeoutError: It does not become idle.
    """
    until, quiet = time.perf_counter() + IDLE_S_MAX, 0
    while quiet < IDLE_LOOKS:
        if time.perf_counter() > until:
            raise TimeoutError
        before = server.cpu_s()
        time.sleep(1.0)
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        quiet = quiet + 1 if server.cpu_s() - before < IDLE_SHARE_MAX and not children else 0


def window(server: Server, programs: tuple[Path, Path], rate: float, seconds: float, viewers: int) -> Window:
    """Return what a load met beside so many viewers."""
    generator, slates = programs
    with viewing(server, viewers) as seen:
        before = loop_s(server)
        found = load(server, generator, slates, CONNECTIONS, rate, seconds, "single")
        loop_ms = (loop_s(server) - before) / seconds * 1e3
    cpu_us = found["cpu_s"] / found["count"] * 1e6
    return Window(found["p50_us"] / 1e3, found["p99_us"] / 1e3, cpu_us, loop_ms, found["errors"], sum(seen.events))


def idle(server: Server, seconds: float, viewers: int) -> tuple[float, float]:
    """Return milliseconds of the server's processor and of its loop's thread a second, without a load."""
    with viewing(server, viewers):
        cpu, loop = server.cpu_s(), loop_s(server)
        time.sleep(seconds)
        return (server.cpu_s() - cpu) / seconds * 1e3, (loop_s(server) - loop) / seconds * 1e3


def measured(server: Server, root: Path, told: argparse.Namespace) -> list[Row]:
    """Return the rows: what the load met without and with viewers, and what viewers cost by themselves."""
    requests = [request("/v1/recommendations", ask) for ask in asks(world_of(told), 20_000, 1)]
    programs = compiled(), write_requests(root / "slates", requests)
    load(server, *programs, 16, 0, 2, "single")
    full = statistics.median(load(server, *programs, 16, 0, 3, "single")["per_second"] for _ in range(3))
    settle(server)
    pairs: list[tuple[Window, Window]] = []
    for number in range(told.rounds):
        order = (0, told.viewers) if number % 2 == 0 else (told.viewers, 0)
        found = {each: window(server, programs, full / 2, told.seconds, each) for each in order}
        pairs.append((found[0], found[told.viewers]))
    alone, beside = [each for each, _ in pairs], [each for _, each in pairs]
    quiet, open_pages = (idle(server, 2 * told.seconds, each) for each in (0, told.viewers))
    state = f"none / {told.viewers} viewers"
    return [
        Row("slates a second at saturation; the load is half of it", f"{full:,.0f}", "", ""),
        Row(f"slate p99 ms, {state}", compared(alone, beside, "p99_ms", "{:.2f}"), "", f"× {WANTED}"),
        Row(f"slate p50 ms, {state}", compared(alone, beside, "p50_ms", "{:.3f}"), "", ""),
        Row(f"CPU of the server a slate, µs, {state}", compared(alone, beside, "cpu_us", "{:.0f}"), "", ""),
        Row(f"the loop's thread, ms a second, {state}", compared(alone, beside, "loop_ms", "{:.1f}"), "", ""),
        Row("failed slates; events that came to the viewers", told_of(alone + beside), "", ""),
        Row(f"CPU without a load, ms a second, {state}", f"{quiet[0]:.1f} / {open_pages[0]:.1f}", "", ""),
        Row(f"of these the loop's thread, {state}", f"{quiet[1]:.1f} / {open_pages[1]:.1f}", "", ""),
    ]


def page_rows(server: Server) -> list[Row]:
    """Return the time of each page of a shop that has served slates, in a quiet server."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=READ_S_MAX)) as connection:

        def body(path: str) -> bytes:
            connection.request("GET", path)
            return connection.getresponse().read()

        users = [each["user_id"] for each in msgspec.json.decode(body("/v1/users?limit=50"))["users"]]
        for user in users:
            body(f"/v1/recommendations?user_id={user}")
        time.sleep(SETTLE_S)
        item = msgspec.json.decode(body("/v1/items?limit=1"))["items"][0]["item_id"]
        served = msgspec.json.decode(body("/v1/requests?limit=1"))["requests"][0]["request_id"]
        (base,) = re.findall(rb'name="base" value="(\w+)"', body("/console/placements/default"))
        change = f"/placements/default/change?base={base.decode()}&slate_size=5&deadline=50ms&user={users[0]}"
        pages = (
            *("", "/placements", "/placements/default", f"{change}&source.popular.on=on", "/requests"),
            *(f"/requests?ask=1&placement=default&user_id={users[0]}", f"/requests/{served}", "/catalogue"),
            *(f"/items/{item}", f"/users/{users[0]}", "/models", "/experiments", "/outcomes", "/dead-letters"),
            *("/keys", "/operation", "/nothing"),
        )
        return [Row(page_name(each), page_times(body, f"/console{each}"), "", "") for each in pages]


def page_name(page: str) -> str:
    """Return an address without its values."""
    path, _, query = page.partition("?")
    return f"{path or '/'}{' (' + query.split('=')[0] + ')' if query else ''}"


def page_times(body: Callable[[str], bytes], path: str) -> str:
    """Return median and longest time of a page, ms, and its size."""
    size, found = len(body(path)), list[float]()
    for _ in range(PAGE_ROUNDS):
        began = time.perf_counter()
        body(path)
        found.append(1_000 * (time.perf_counter() - began))
    return f"{statistics.median(found):.1f} ms, at most {max(found):.1f}; {size / 1_000:.1f} kB"


def compared(alone: list[Window], beside: list[Window], name: str, form: str) -> str:
    """Return both states' median, lowest and highest, and the ratio of these within pairs with its quartiles."""
    first, second = ([getattr(each, name) for each in windows] for windows in (alone, beside))
    ratios = sorted(after / before for before, after in zip(first, second, strict=True))
    low, middle, high = (quantile(ratios, share) for share in (25, 50, 75))
    medians = statistics.median(second) / statistics.median(first)
    both = f"{spread(first, form)} / {spread(second, form)}"
    return f"{both}: medians × {medians:.3f}; pairs × {middle:.3f}, half of them {low:.3f} to {high:.3f}"


def told_of(windows: list[Window]) -> str:
    """Return how many slates failed and how many events came."""
    return f"{sum(each.errors for each in windows)}; {sum(each.events for each in windows)}"


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=6.0)
    parser.set_defaults(events=200_000, sessions=40_000, items=10_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--pages", action="store_true", help="time each page, and no load")
    told = parser.parse_args()
    os.sched_setaffinity(0, {1})  # viewers are threads of this process; the server is put on core 0 by its command
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        rows = [*prepare(root, world_of(told), CONFIG + KEEP), *disk_rows(root)]
        before = os.getloadavg()[0]
        with serving(root) as server:
            rows += page_rows(server) if told.pages else measured(server, root, told)
        rows.append(Row("load of the machine before and after", f"{before:.1f}, {os.getloadavg()[0]:.1f}", "", ""))
    report(rows, told.json)


if __name__ == "__main__":
    main()
