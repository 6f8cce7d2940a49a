"""The rows of docs/benchmarks.md that go through HTTP: saturation, event + recommendation, ingest, restart, snapshots.

Makes a data folder of the named size once (a log written by columns and its snapshot), serves it with the real server
pinned to one core, and loads it with the compiled generator on the other; a restart has all cores. Prints one table,
and JSON with ``--json``. Needs a C compiler. About 4 minutes at full size.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from world import World, batches, zipf_items

from benchmarks.generator.http_load import compiled, request, write_requests
from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME, config_of
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.worker import SnapshotOrder
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import identity_of
from midstream.events.segments.segments import SegmentLog
from midstream.state.fold import Fold
from midstream.state.settings import encode_settings

HERE = Path(__file__).parent
READY_S, READY_PAUSE_S = 120.0, 0.02
CONFIG = '[snapshots]\nmode = "off"\n[limits]\nclick_items_max = 200000\n'


@dataclass
class Row:
    """One line of the table."""

    what: str
    value: str
    floor: str
    target: str


def main() -> None:
    """Run what was asked for and print it."""
    options = arguments(__doc__, seconds=8.0).parse_args()
    world = world_of(options)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        generator = compiled()
        rows = [*prepare(root, world), *disk_rows(root)]
        with serving(root) as server:
            rows += saturation(server, generator, root, world, options.seconds)
            rows += rerank(server, generator, root, world, options.seconds)
            rows += pages(server, generator, root, world, options.seconds)
            rows += while_batches(server, generator, root, world, options.seconds)
            rows += event_then_slate(server, generator, root, world, options.seconds)
            rows += ingest(server, generator, root, world, options.seconds)
            rows += while_snapshot(server, generator, root, options.seconds)
        rows += restart(root)
    report(rows, options.json)


def arguments(page: str, seconds: float) -> argparse.ArgumentParser:
    """Return what every program that asks a server is told; ``page`` begins with what it does."""
    parser = argparse.ArgumentParser(description=page.splitlines()[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--json", type=Path)
    return parser


def world_of(options: argparse.Namespace) -> World:
    """Return the world that the arguments say."""
    return World(items=options.items, sessions=options.sessions, events=options.events)


def report(rows: list[Row], path: Path | None) -> None:
    """Print the rows with the machine, and write them to a file if one is named."""
    cores = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    machine = f"{platform.processor() or platform.machine()}, {cores}"
    print(table(rows, machine))
    if path:
        path.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1))


def table(rows: list[Row], machine: str) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        f"{machine}; fdatasync beside it, see its row",
        "",
        "| what | measured | floor | target |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {row.what} | {row.value} | {row.floor} | {row.target} |" for row in rows)])


def spread(values: list[float], form: str) -> str:
    """Return the median, the lowest and the highest."""
    low, middle, high = (form.format(each) for each in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def prepare(root: Path, world: World, config: str | None = CONFIG) -> Iterator[Row]:
    """Write the log and its snapshot; yield what that took. ``config`` None = the file is there."""
    if config is not None:
        (root / "midstream.toml").write_text(config)
    data = DataFolder(root / DATA_NAME)
    began = time.perf_counter()
    log = SegmentLog(data.log, RealDisk(), b"b" * 16)
    for batch in batches(world):
        log.append(batch)
    yield Row("log of the world, written by 10,000", rate(world.events, began), "", "")
    fold = Fold(settings_of(data, config_of(root)))  # under the key of this log, else no start takes the snapshot
    began = time.perf_counter()
    catch_up(fold, log.read, log.end)
    yield Row("fold of it, all tables, compile or cache load included", rate(world.events, began), "", "")
    began = time.perf_counter()
    snapshots.write(data.snapshots, fold, identity_of(bytes.fromhex(log.log_id), log.generation))
    used = sum(size.bytes_now for size in fold.sizes().values())
    yield Row(f"snapshot of {used / 1e6:,.0f} MB", f"{time.perf_counter() - began:.1f} s", "", "")
    log.close()
    os.sync()  # the copy is no part of what is measured


def disk_rows(root: Path) -> Iterator[Row]:
    """Yield how long the disk takes to sync 4 KiB."""
    path, times = root / "sync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(300):
            began = time.perf_counter()
            file.write(b"x" * 4_096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    path.unlink()
    yield Row("fdatasync of 4 KiB, p50 / p99 ms", f"{quantile(times, 50):.2f} / {quantile(times, 99):.2f}", "", "")


@dataclass
class Server:
    """The server under load."""

    process: subprocess.Popen[bytes]
    port: int
    started_s: float

    def cpu_s(self) -> float:
        """Return user and system time so far."""
        return sum(self.cpu_parts_s())

    def cpu_parts_s(self) -> tuple[float, float]:
        """Return user time and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks_s = os.sysconf("SC_CLK_TCK")
        return int(fields[11]) / ticks_s, int(fields[12]) / ticks_s

    def rss_mb(self) -> float:
        """Return resident memory."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1_024 if found else float("nan")


@contextmanager
def serving(
    root: Path,
    *,
    pinned: bool = True,
    environment: Mapping[str, str] | None = None,
    ready_s: float = READY_S,
    log: Path | None = None,
) -> Iterator[Server]:
    """Serve the folder until the block ends; pinned on core 0, else where the machine puts it; lines go to ``log``."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port = each.getsockname()[1]
    command = [sys.executable, "-m", "midstream", "serve", "--folder", str(root), "--port", str(port)]
    if pinned and shutil.which("taskset"):
        command = ["taskset", "-c", "0", *command]
    began = time.perf_counter()
    with (
        contextlib.nullcontext() if log is None else log.open("wb") as lines,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=lines, env=environment) as process,
    ):
        try:
            wait_until_ready(port, process, ready_s)
            yield Server(process, port, time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_ready(port: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Return when the server answers.

    Raises:
        TimeoutError: It does not in this time.
        RuntimeError: It ended.
    """
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        if process.poll() is not None:
            message = f"the server ended with status {process.returncode}"
            raise RuntimeError(message)
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/health/ready")
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass  # it does not listen yet
        time.sleep(READY_PAUSE_S)
    raise TimeoutError


def load(
    server: Server,
    generator: Path,
    file: Path,
    connections: int,
    rate_s: float,
    seconds: float,
    mode: str,
    deadline_ms: int = 0,
) -> dict:
    """Run the generator on core 1; return what it measured and the server's CPU time; with a deadline also what of it
    came in time.
    """
    command = [str(generator), str(server.port), str(file), str(connections), str(rate_s), str(seconds), mode]
    if deadline_ms:
        command.append(str(deadline_ms))
    if shutil.which("taskset"):
        command = ["taskset", "-c", "1", *command]
    before = server.cpu_s()
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {**found, "cpu_s": server.cpu_s() - before}


def asks(world: World, count: int, seed: int) -> list[dict[str, object]]:
    """Return requests for slates: sessions that are open and users, with the last items sent along."""
    rng = np.random.default_rng(seed)
    items = zipf_items(rng, world, count * 3).reshape(count, 3)
    users = rng.integers(0, world.users, count)
    return [
        {"user_id": f"u{user:07d}", "items": [f"i{item:07d}" for item in row], "n": 20}
        for user, row in zip(users.tolist(), items.tolist(), strict=True)
    ]


def saturation(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """Recommendations as fast as they go, then at half of that."""
    requests = [request("/v1/recommendations", ask) for ask in asks(world, 20_000, 1)]
    file = write_requests(root / "slates", requests)
    load(server, generator, file, 16, 0, 2, "single")
    runs = [load(server, generator, file, 16, 0, seconds / 2, "single") for _ in range(3)]
    full = statistics.median(run["per_second"] for run in runs)
    half = load(server, generator, file, 32, full / 2, seconds, "single")
    cpu = statistics.median(run["cpu_s"] / run["count"] * 1e6 for run in runs)
    return [
        Row("recommendations/s at saturation, one process, served records on", f"{full:,.0f}", "2,000", "3,500"),
        Row("CPU of the server for one, µs", f"{cpu:.0f}", "", ""),
        Row("recommendation at half of it, p50 / p99 ms", f"{ms(half, 50)} / {ms(half, 99)}", "", ""),
        Row("errors in those runs", str(sum(run["errors"] for run in [*runs, half])), "0", "0"),
        Row("resident memory of the server, MB", f"{server.rss_mb():,.0f}", "", ""),
    ]


def rerank(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """100 and 1,000 items of the caller, distinct, in the order of the default placement, at a fixed rate."""
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    for size, rate_s, count in ((100, 200, 1_000), (1_000, 20, 100)):
        requests = [
            request(
                "/v1/rank",
                {"user_id": ask["user_id"], "basket": ask["items"], "items": distinct(rng, world, size)},
            )
            for ask in asks(world, count, 6)
        ]
        run = load(server, generator, write_requests(root / "ranks", requests), 32, rate_s, seconds, "single")
        errors = f", {run['errors']} errors" if run["errors"] else ""
        what = f"rerank of {size:,} items over HTTP at {rate_s}/s, p50 / p99 ms"
        goals = ("3 / 8", "1.5 / 4") if size == 100 else ("", "")
        rows.append(Row(what, f"{ms(run, 50)} / {ms(run, 99)}{errors}", *goals))
        rows.append(
            Row(f"CPU of the server for one of {size:,}, ms", f"{run['cpu_s'] / run['count'] * 1e3:.2f}", "", "")
        )
    return rows


def distinct(rng: np.random.Generator, world: World, count: int) -> list[str]:
    """Return ids of items, drawn as acts are, each once."""
    drawn = zipf_items(rng, world, 8 * count)
    found = list(dict.fromkeys(drawn.tolist()))[:count]
    found += [item for item in range(2 * count) if item not in set(found)][: count - len(found)]
    return [f"i{item:07d}" for item in found]


def pages(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """Pages of four slates of ten items at 100/s."""
    placements = [{"placement": "default", "n": 10}] * 4
    requests = [
        request("/v1/pages", {"user_id": ask["user_id"], "items": ask["items"], "placements": placements})
        for ask in asks(world, 2_000, 7)
    ]
    run = load(server, generator, write_requests(root / "pages", requests), 32, 100, seconds, "single")
    errors = f", {run['errors']} errors" if run["errors"] else ""
    return [Row("page of four slates at 100/s, p50 / p99 ms", f"{ms(run, 50)} / {ms(run, 99)}{errors}", "", "")]


def while_batches(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """p99 of slates at 300/s alone, and while batches of 100 users are answered, one after another."""
    file = root / "slates"
    alone = load(server, generator, file, 32, 300, seconds, "single")
    users = [ask["user_id"] for ask in asks(world, 100, 8)]
    done, times = threading.Event(), list[float]()

    def batches_in_turn() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        while not done.is_set():
            began = time.perf_counter()
            body = json.dumps({"users": users, "n": 20})
            connection.request("POST", "/v1/recommendations/batch", body, {"content-type": "application/json"})
            answers = json.loads(connection.getresponse().read())["answers"]
            assert all("slate" in each for each in answers)
            times.append((time.perf_counter() - began) * 1e3)

    asking = threading.Thread(target=batches_in_turn)
    asking.start()
    beside = load(server, generator, file, 32, 300, seconds, "single")
    done.set()
    asking.join()
    value = f"{ms(alone, 50)} / {ms(alone, 99)}; {ms(beside, 50)} / {ms(beside, 99)}"
    return [
        Row("slate p50 / p99 ms at 300/s: alone; while users are answered 100 a call without pause", value, "", ""),
        Row("such a call of 100 users beside them, p50 ms", f"{quantile(times, 50):.0f}", "", ""),
    ]


def event_then_slate(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """An event, then a recommendation that has seen it, on one connection."""
    requests: list[bytes] = []
    for number, ask in enumerate(asks(world, 20_000, 2)):
        session, items = f"live{number % 3_000}", ask.pop("items")
        event = {"type": "view", "user_id": ask["user_id"], "item_id": items[0], "session_id": session}
        requests.append(request("/v1/events", {**event, "event_id": f"b{time.time_ns()}-{number}"}))
        requests.append(request("/v1/recommendations", {**ask, "session_id": session, "min_log_position": "@" * 16}))
    file = write_requests(root / "pairs", requests)
    run = load(server, generator, file, 32, 500, seconds, "pair")
    value = f"{ms(run, 50)} / {ms(run, 99)}"
    errors = f", {run['errors']} errors" if run["errors"] else ""
    return [
        Row(
            "event then recommendation with min_log_position at 500/s, both, p50 / p99 ms",
            value + errors,
            "4 / 15",
            "2 / 7",
        ),
        Row(
            "event sent → in the next answer, session and item-to-item alike, ms p50",
            ms(run, 50),
            "20; 1,000",
            "2; 100",
        ),
    ]


def ingest(server: Server, generator: Path, root: Path, world: World, seconds: float) -> list[Row]:
    """JSON events of 100 a request as fast as they go, all tables on."""
    rng = np.random.default_rng(3)
    size, count = 100, 4_000
    items, users = zipf_items(rng, world, size * count), rng.integers(0, world.users, size * count)
    now = int(time.time() * 1_000)
    requests = [
        request(
            "/v1/events",
            [
                {
                    "event_id": f"e{now}{at:07d}",
                    "type": "view",
                    "user_id": f"u{users[at]:07d}",
                    "item_id": f"i{items[at]:07d}",
                    "session_id": f"n{at // 5}",
                    "time": now,
                    "context": {"page": "list", "device": "phone"},
                }
                for at in range(start, start + size)
            ],
        )
        for start in range(0, size * count, size)
    ]
    file = write_requests(root / "events", requests)
    # Every request once: a second round would be duplicates, which cost less.
    run = load(server, generator, file, 8, 0, min(seconds, 2.0), "single")
    sent = min(run["count"], count) * size
    per_cpu = sent / run["cpu_s"] * (1 if run["count"] <= count else count / run["count"])
    return [
        Row(
            "durable ingest over HTTP, events per CPU-second of the server, JSON by 100",
            f"{per_cpu:,.0f}",
            "100,000",
            "300,000",
        ),
        Row("the same, events a second", f"{run['per_second'] * size:,.0f}", "", ""),
    ]


def while_snapshot(server: Server, generator: Path, root: Path, seconds: float) -> list[Row]:
    """p99 of slates at 300/s alone, and while a child process writes a snapshot of the same folder."""
    file = root / "slates"
    alone = load(server, generator, file, 32, 300, seconds, "single")
    copy = root / "copy"
    shutil.copytree(root / DATA_NAME, copy / DATA_NAME, ignore=shutil.ignore_patterns("lock"))
    settings = settings_of(DataFolder(copy / DATA_NAME), config_of(root))
    log = SegmentLog(copy / DATA_NAME / "log", RealDisk(), b"b" * 16)
    end = log.end
    log.close()
    os.sync()  # writing the copy is no part of what is measured

    order = msgspec.json.encode(SnapshotOrder(str(copy / DATA_NAME), end, encode_settings(settings), 2))
    with subprocess.Popen(
        [sys.executable, "-m", "midstream.engine.snapshots.worker"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as child:
        child.stdin.write(order)
        child.stdin.close()
        beside = load(server, generator, file, 32, 300, seconds, "single")
        child.wait()
    shutil.rmtree(copy)
    value = f"{ms(alone, 99)} / {ms(beside, 99)} ({(beside['p99_us'] / alone['p99_us'] - 1) * 100:+.0f} %)"
    return [Row("slate p99 ms at 300/s: alone / while a snapshot is written", value, "+50 %", "")]


def restart(root: Path) -> list[Row]:
    """From the start of the process to the first answer, with snapshot and tail, on all cores: nothing else runs."""
    times = []
    for _ in range(3):
        with serving(root, pinned=False) as server:
            times.append(server.started_s)
    return [Row("restart, snapshot + tail, s", f"{statistics.median(times):.1f}", "10", "3")]


def rate(count: int, began: float) -> str:
    """Return events a second since."""
    return f"{count / (time.perf_counter() - began):,.0f}/s"


def ms(run: dict, percentile: int) -> str:
    """Return a latency of a run in milliseconds."""
    return f"{run[f'p{percentile}_us'] / 1e3:.2f}"


def quantile(values: list[float], percentile: int) -> float:
    """Return a percentile."""
    return float(np.percentile(values, percentile))


if __name__ == "__main__":
    main()
