"""The time until a node from nothing is ready beside a node of a shared log with many events.

    python benchmarks/joining.py --servers 127.0.0.1:9092 --events 10000000

A file of events is imported into a topic of its own by the first node, which then serves, folds nothing else and takes
snapshots. A second node has the configuration and the key alone. It starts ``--runs`` times with an empty folder and
joins by a snapshot of the first (``peer``), then once without one (``topic``: it folds the whole topic). What counts is
the time from the start of its process until ``/health/ready`` answers 200. Both nodes and the broker share the machine.
About 5 minutes at full size, most of it the import.
"""

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow.parquet as pq
from ingest import events_table

CONFIG = """\
[log]
kind = "kafka"
servers = "{servers}"
topic = "{topic}"
retention = "1d"
join = [{join}]

[snapshots]
interval = "30s"

[limits]
click_items_max = 200000
"""
STEP = 1_000_000
"""Events of a piece of the file."""
WAIT_S_MAX = 1_200.0
MIDSTREAM = (sys.executable, "-m", "midstream")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--servers", required=True, help="of Kafka")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        measure(Path(made), options)


def measure(root: Path, options: argparse.Namespace) -> None:
    """Fill a topic through the first node, then start the second one several times."""
    topic = f"joining-{uuid.uuid4().hex[:8]}"
    first, second = root / "first", root / "second"
    first.mkdir()
    write_config(first, options.servers, topic, ())
    file = root / "events.parquet"
    write_events(file, options.events)
    began = time.monotonic()
    subprocess.run([*MIDSTREAM, "import", str(file), "-f", str(first)], check=True)
    took = time.monotonic() - began
    print(
        f"import of {options.events:,} events into the topic: {took:.0f} s, {options.events / took:,.0f}/s", flush=True
    )
    with serving(first) as (url, _):
        wait_for_snapshot(first)
        joined = []
        for _ in range(options.runs):
            empty(first, second)
            write_config(second, options.servers, topic, (url,))
            with serving(second) as (other, ready_s):
                joined.append(ready_s)
                print(
                    f"ready by a snapshot of the peer after {ready_s:.1f} s; {state_of(url)}; {state_of(other)}",
                    flush=True,
                )
        print(f"by a snapshot: median {statistics.median(joined):.1f} s of {len(joined)}")
        empty(first, second)
        write_config(second, options.servers, topic, ())
        with serving(second) as (other, ready_s):
            print(f"ready by the whole topic after {ready_s:.1f} s; {state_of(other)}")


def write_config(folder: Path, servers: str, topic: str, join: tuple[str, ...]) -> None:
    """Write the configuration of a node."""
    sources = ", ".join(f'"{each}"' for each in join)
    (folder / "midstream.toml").write_text(CONFIG.format(servers=servers, topic=topic, join=sources))


def write_events(file: Path, count: int) -> None:
    """Write views of the benchmarks' world."""
    with pq.ParquetWriter(file, events_table(1, 1).schema, compression="zstd") as writer:
        for start in range(0, count, STEP):
            writer.write_table(events_table(min(STEP, count - start), 1_000 + start // STEP))


def empty(first: Path, second: Path) -> None:
    """Leave the second node its key alone."""
    shutil.rmtree(second, ignore_errors=True)
    (second / "data").mkdir(parents=True)
    shutil.copy(first / "data" / "key", second / "data" / "key")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, float]]:
    """Serve a folder; yield the address, once it is ready, and the seconds that took."""
    began = time.monotonic()
    with (folder / "server.log").open("wb") as said:
        process = subprocess.Popen(
            [*MIDSTREAM, "serve", "-f", str(folder), "--port", "0"], stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
    with process:
        try:
            yield wait_until_ready(process, folder), time.monotonic() - began
        finally:
            process.send_signal(signal.SIGTERM)


def wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Return the address of a server that is ready."""
    published = folder / "data" / "server.url"
    until = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit((folder / "server.log").read_text())
        if published.exists():
            url = published.read_text().split()[0]
            try:
                if httpx.get(f"{url}/health/ready", timeout=5).is_success:
                    return url
            except httpx.HTTPError:
                time.sleep(0.02)
        time.sleep(0.02)
    raise TimeoutError


def wait_for_snapshot(folder: Path) -> None:
    """Return when a node has taken a snapshot of all that it has."""
    until = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < until:
        if any((folder / "data").glob("snapshots/*/manifest.json")):
            return
        time.sleep(0.5)
    raise TimeoutError


def state_of(url: str) -> str:
    """Return what a node says of its log."""
    told = httpx.get(f"{url}/health/ready", timeout=30).json()
    return str({name: told.get(name) for name in ("log_position", "events", "shared_log") if name in told})


if __name__ == "__main__":
    main()
