"""What a follower brings: slates a second at saturation, and an event then a slate, with one process and with several.

The same folder, requests and generator as ``serving.py``. Processes and generator share all cores, so on two cores the
generator takes from the second process what it needs; its CPU time is printed beside. Needs a C compiler. About 2
minutes at full size, and the memory of the state for each process.
"""

import argparse
import http.client
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from serving import Row, asks, compiled, disk_rows, ms, prepare, request, table, write_requests
from world import World

from midstream.app.server_address import read_address

CONNECTIONS = 32
START_S_MAX = 600.0


@dataclass
class Company:
    """A server of several processes under load."""

    process: subprocess.Popen[bytes]
    port: int

    def ask(self, path: str) -> bytes:
        """Return what a path is answered with."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def pids(self) -> list[int]:
        """Return the processes, the leader first."""
        leader = self.process.pid
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        return [leader, *(int(each) for each in children)]

    def cpu_s(self) -> float:
        """Return user and system time so far, of all of them."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def answers(self) -> list[int]:
        """Return the slates so far, by process."""
        found = re.findall(r"^midstream_answers_total\{(.*)\} (.*)$", self.ask("/metrics").decode(), re.MULTILINE)
        sums: dict[str, int] = {}
        for labels, value in found:
            name = re.search(r'process="([^"]*)"', labels)
            key = name[1] if name else "leader"
            sums[key] = sums.get(key, 0) + int(float(value))
        return [sums[key] for key in sorted(sums, key=lambda each: (each != "leader", each))]

    def rss_mb(self) -> list[float]:
        """Return resident memory, by process."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids()]
        return [int(found[1]) / 1_024 for text in texts if (found := re.search(r"VmRSS:\s+(\d+)", text))]


@contextmanager
def serving(root: Path, followers: int) -> Iterator[Company]:
    """Serve the folder in ``1 + followers`` processes until the block ends."""
    command = [
        sys.executable,
        "-m",
        "midstream",
        "serve",
        "-f",
        str(root),
        "--port",
        "0",
        "--followers",
        str(followers),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield wait_until_ready(process, root, followers)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_ready(process: subprocess.Popen[bytes], root: Path, followers: int) -> Company:
    """Return the server when all of its processes take connections."""
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        address = read_address(root / "data")
        if address is not None:
            company = Company(process, int(address.url.rpartition(":")[2]))
            states = [each["state"] for each in json.loads(company.ask("/health/ready"))["followers"]]
            if states == ["serving"] * followers:
                return company
        time.sleep(0.1)
    raise TimeoutError


def load(company: Company, generator: Path, file: Path, rate_s: float, seconds: float, mode: str) -> dict:
    """Run the generator; return what it measured, the processes' CPU time and how they shared the answers."""
    before, shares = company.cpu_s(), company.answers()
    command = [str(generator), str(company.port), str(file), str(CONNECTIONS), str(rate_s), str(seconds), mode]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    cpu_s = company.cpu_s() - before
    after = company.answers()
    shares = [now - then for now, then in zip(after, shares + [0] * (len(after) - len(shares)), strict=True)]
    return {**found, "cpu_s": cpu_s, "shares": shares}


def rows_of(company: Company, generator: Path, root: Path, world: World, seconds: float) -> Iterator[Row]:
    """Yield what one number of processes reaches."""
    processes = len(company.pids())
    name = f"{processes} process{'es' * (processes > 1)}"
    slates = write_requests(root / "slates", [request("/v1/recommendations", ask) for ask in asks(world, 20_000, 1)])
    load(company, generator, slates, 0, 2, "single")
    runs = [load(company, generator, slates, 0, seconds / 2, "single") for _ in range(3)]
    full = statistics.median(run["per_second"] for run in runs)
    cpu = statistics.median(run["cpu_s"] / run["count"] * 1e6 for run in runs)
    yield Row(f"recommendations/s at saturation, {name}", f"{full:,.0f}", "", "")
    yield Row(f"CPU for one, {name}, µs", f"{cpu:.0f}", "", "")
    yield Row(f"slates by process, {name}", " : ".join(f"{share:,}" for share in runs[-1]["shares"]), "", "")
    half = load(company, generator, slates, full / 2, seconds, "single")
    yield Row(f"recommendation at half of it, {name}, p50 / p99 ms", f"{ms(half, 50)} / {ms(half, 99)}", "", "")
    pairs = load(company, generator, event_pairs(root, world), 500, seconds, "pair")
    value = f"{ms(pairs, 50)} / {ms(pairs, 99)}"
    yield Row(
        f"event then recommendation with min_log_position at 500/s, {name}, p50 / p99 ms", value, "4 / 15", "2 / 7"
    )
    errors = sum(run["errors"] for run in [*runs, half, pairs])
    yield Row(f"errors in those runs, {name}", str(errors), "0", "0")
    yield Row(f"resident memory, {name}, MB", " + ".join(f"{each:,.0f}" for each in company.rss_mb()), "", "")


def event_pairs(root: Path, world: World) -> Path:
    """Return a file of requests in twos: an event, then a slate that is to have seen it."""
    requests: list[bytes] = []
    for number, ask in enumerate(asks(world, 20_000, 2)):
        session, items = f"live{number % 3_000}", ask.pop("items")
        event = {"type": "view", "user_id": ask["user_id"], "item_id": items[0], "session_id": session}
        requests.append(request("/v1/events", {**event, "event_id": f"b{time.time_ns()}-{number}"}))
        requests.append(request("/v1/recommendations", {**ask, "session_id": session, "min_log_position": "@" * 16}))
    return write_requests(root / "pairs", requests)


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--followers", type=int, default=1, help="Beside the leader, in the second part.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    world = World(items=options.items, sessions=options.sessions, events=options.events)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        generator = compiled()
        rows = [*prepare(root, world), *disk_rows(root)]
        for followers in (0, options.followers):
            with serving(root, followers) as company:
                rows += rows_of(company, generator, root, world, options.seconds)
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(table(rows, machine))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
