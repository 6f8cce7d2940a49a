"""The ingest rows of docs/benchmarks.md: JSON and Arrow through HTTP, and files through the importer.

Every body is sent once (a second time they were duplicates, which cost less), durable, with all tables on, to a folder
that was empty, so that pages of the tables are touched for the first time. What counts is CPU time of the server for an
event, from when it has done what it leaves behind its start. The file rows import a Parquet file of the size asked for
and print its time and the highest resident memory. About 8 minutes at full size.
"""

import argparse
import http.client
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from serving import CONFIG, Row, Server, serving, table
from world import World, interactions

SIZES = (100, 1_000, 10_000)
ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"
CONNECTIONS = 4
"""As many as may send streams at once."""
REST_LOOK_S, REST_CPU_S, REST_S_MAX = 0.5, 0.02, 10.0
"""A server rests when it used so little in such a time; it is waited for no longer. Routes that are made behind a start
take a quarter of a second, as much as 100,000 events."""
EVENTS_MAX = 500
"""Of a request to ``/v1/events``."""


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000, help="sent over HTTP in each row")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the imported file")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        for size in SIZES:
            for name, make, path, media in FORMS:
                rows.append(http_row(root, (name, size, make, path, media), options.events))
        rows += import_rows(root, options.rows)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(table(rows, machine))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": [vars(row) for row in rows]}, indent=1))


def events_table(count: int, seed: int) -> pa.Table:
    """Return events of the benchmarks' world with ids and contexts, 180 bytes each as JSON."""
    user, item, session = interactions(World(events=count, sessions=max(1, count // 5), seed=seed))
    now = int(time.time() * 1_000)
    numbers = np.arange(count)
    return pa.table(
        {
            "event_id": named(f"e{seed}-{now % 10**8}-", numbers, 9),
            "type": pa.array(["view"]).take(pa.array(np.zeros(count, dtype=np.int8))),
            "user_id": named("u", user, 7),
            "item_id": named("i", item, 7),
            "session_id": named(f"n{seed}-", session, 8),
            "time": pa.array(np.full(count, now)),
            "context": pa.array(['{"device":"phone","page":"list"}']).take(pa.array(np.zeros(count, dtype=np.int8))),
        }
    )


def named(prefix: str, numbers: np.ndarray, digits: int) -> pa.Array:
    """Return ids of a prefix and a number."""
    head = np.tile(np.frombuffer(prefix.encode(), dtype=np.uint8), (len(numbers), 1))
    tail = (numbers[:, None] // 10 ** np.arange(digits - 1, -1, -1)) % 10 + ord("0")
    return pa.array(np.concatenate([head, tail.astype(np.uint8)], axis=1).view(f"S{len(prefix) + digits}")[:, 0]).cast(
        pa.string()
    )


def json_body(part: pa.Table) -> bytes:
    """Return a list of events."""
    return b"[" + b",".join(lines_of(part)) + b"]"


def ndjson_body(part: pa.Table) -> bytes:
    """Return an event a line."""
    return b"\n".join(lines_of(part)) + b"\n"


def lines_of(part: pa.Table) -> Iterator[bytes]:
    """Yield each event as JSON."""
    for row in part.to_pylist():
        row["context"] = json.loads(row["context"])
        yield json.dumps(row, separators=(",", ":")).encode()


def arrow_body(part: pa.Table) -> bytes:
    """Return a stream of one batch."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part.combine_chunks())
    return sink.getvalue()


Form = tuple[str, Callable[[pa.Table], bytes], str, str]
FORMS: tuple[Form, ...] = (
    ("JSON", json_body, "/v1/events", "application/json"),
    ("NDJSON", ndjson_body, "/v1/events/bulk", NDJSON),
    ("Arrow", arrow_body, "/v1/events/bulk", ARROW),
)


def http_row(root: Path, form: tuple, events: int) -> Row:
    """Send one form in bodies of one size to a fresh server, each body once, over several connections."""
    name, size, make, path, media = form
    what = f"durable ingest over HTTP, {name} in bodies of {size:,}"
    if path == "/v1/events" and size > EVENTS_MAX:
        return Row(what, f"a request has at most {EVENTS_MAX} events", "", "")
    shop = root / f"{name}-{size}"
    found = send_all(shop, bodies_of(make, size, events, size + len(name)), path, media)
    rates = f"{found.recorded / found.cpu_s:,.0f} a CPU-second of the server, {found.recorded / found.seconds:,.0f}/s"
    floor, target = ("500,000", "1,000,000") if name == "Arrow" else ("100,000", "300,000")
    return Row(what, f"{rates}, {found.memory_mb:,.0f} MB", floor, target)


@dataclass(frozen=True)
class Sent:
    """What sending took."""

    recorded: int
    seconds: float
    cpu_s: float
    """Of the server."""
    system_s: float
    """Of that the operating system's: most of it for pages that are touched for the first time, 0.15 ms a megabyte or
    twenty times as much, by what ran before on a virtual machine."""
    memory_mb: float


def bodies_of(make: Callable[[pa.Table], bytes], size: int, events: int, seed: int) -> list[bytes]:
    """Return bodies of one size; the last one is whole too."""
    sent = events_table(max(1, events // size) * size, seed)
    return [make(sent.slice(start, size)) for start in range(0, len(sent), size)]


def send_all(
    shop: Path, bodies: list[bytes], path: str, media: str, environment: Mapping[str, str] | None = None
) -> Sent:
    """Send bodies to a server of a new folder, each once, over several connections."""
    shop.mkdir()
    (shop / "midstream.toml").write_text(CONFIG)
    with serving(shop, environment=environment, log=shop.with_name(f"{shop.name}.log")) as server:
        wait_for_rest(server)
        before, began = server.cpu_parts_s(), time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            shares = [bodies[place::CONNECTIONS] for place in range(CONNECTIONS)]
            recorded = sum(pool.map(lambda share: post_all(server, path, media, share), shares))
        seconds = time.perf_counter() - began
        user_s, system_s = (now - then for now, then in zip(server.cpu_parts_s(), before, strict=True))
        return Sent(recorded, seconds, user_s + system_s, system_s, server.rss_mb())


def wait_for_rest(server: Server) -> None:
    """Return when a server does nothing any more, or after a while."""
    until, used = time.perf_counter() + REST_S_MAX, REST_LOOK_S
    while used > REST_CPU_S and time.perf_counter() < until:
        before = server.cpu_s()
        time.sleep(REST_LOOK_S)
        used = server.cpu_s() - before


def post_all(server: Server, path: str, media: str, bodies: list[bytes]) -> int:
    """Send bodies one after another; return how many events were recorded."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    recorded = 0
    for body in bodies:
        connection.request("POST", path, body, {"content-type": media})
        recorded += json.loads(connection.getresponse().read())["recorded"]
    connection.close()
    return recorded


def import_rows(root: Path, count: int) -> Iterator[Row]:
    """Import a Parquet file in a process of its own; yield time and highest resident memory, then an export."""
    file = root / "events.parquet"
    with pq.ParquetWriter(file, events_table(1, 1).schema, compression="zstd") as writer:
        for start in range(0, count, 1_000_000):
            writer.write_table(events_table(min(1_000_000, count - start), 1_000 + start // 1_000_000))
    shop = root / "imported"
    shop.mkdir()
    (shop / "midstream.toml").write_text(CONFIG)
    size = file.stat().st_size / 1e6
    for what, words in (
        (f"import of {count:,} events, Parquet of {size:,.0f} MB", ["import", str(file)]),
        ("the same again: all known", ["import", str(file)]),
        ("export to Parquet", ["export", str(root / "out.parquet")]),
        ("export to NDJSON", ["export", str(root / "out.ndjson")]),
    ):
        seconds, peak = timed([sys.executable, "-m", "midstream", *words, "--folder", str(shop)])
        yield Row(what, f"{seconds:.1f} s ({count / seconds:,.0f}/s), {peak:,.0f} MB at its highest", "", "")


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command; return its time and the highest resident memory that ``/proc`` saw, in MB."""
    began, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+)", status_of(process.pid))
            peak = max(peak, int(found[1]) / 1_024 if found else 0.0)
            time.sleep(0.05)
    return time.perf_counter() - began, peak


def status_of(pid: int) -> str:
    """Return what the kernel says of a process, nothing once it is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
