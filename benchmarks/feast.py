"""Features beside Feast, in one run: 40 columns of 500 candidates, read by both, the same values.

Feast runs in an environment of its own, which ``--feast-python`` or ``MIDSTREAM_FEAST_PYTHON`` names:

    python3 -m venv F && F/bin/pip install "feast[redis,duckdb]"
    ./scripts/bench feast --feast-python F/bin/python

Its online stores are SQLite and, where ``redis-server`` is installed, a Redis of this run on the loopback, in memory.
They are filled from Parquet with what our block reads, Feast reads the same requests through its Python SDK and through
its feature server, and each value is compared with ours. Then a new value: pushed and read there, an event and a read
here. About 6 minutes at full size.
"""

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from serving import CONFIG, serving
from world import World, batches, zipf_items

from midstream.app.config_history import settings_of
from midstream.app.opening import DATA_NAME, config_of
from midstream.core.types import EventBatch, LogPosition, Models, Query, TimestampMs
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots import snapshots
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build, cut
from midstream.events.segments.log_identity import identity_of
from midstream.events.segments.segments import SegmentLog
from midstream.features.as_of import candidates_of
from midstream.features.declared import DeclaredFeatures, declared
from midstream.state.fold import Fold

PYTHON_VARIABLE = "MIDSTREAM_FEAST_PYTHON"
PEER = Path(__file__).with_name("feast_peer")
CANDIDATES, CATEGORIES, GAP_MS, WARM = 500, 200, 100, 20
KEYS = {
    "item": ("item_id",),
    "user": ("user_id",),
    "pair": ("user_id", "item_id"),
    "taste": ("user_id", "category"),
}
"""Feast's views, by how the names of their columns begin; the keys of their rows."""
VIEWED, PUT = 'actions = ["view"]', 'actions = ["cart"]'
TASTE = 'scope = "user_attribute"\nattribute = "category"'
FEATURES = [
    f'name = "item_fading"\nkind = "count"\n{VIEWED}\nhalf_life = ["1h", "2h", "4h", "8h", "16h", "1d", "2d", "4d"]',
    f'name = "item_views"\nkind = "count"\n{VIEWED}\nwindows = ["1h", "2h", "6h", "12h", "1d", "2d", "7d", "30d"]',
    *(f'name = "item_rate_{n}"\nkind = "rate"\n{PUT}\nper = ["view"]\nhalf_life = "{n * 24}h"' for n in (1, 2, 3, 4)),
    *(
        f'name = "item_{each}"\nkind = "statistic"\n{PUT}\nstatistic = "{each}"'
        for each in ("mean", "min", "max", "last")
    ),
    f'name = "item_users"\nkind = "unique_count"\n{VIEWED}\nof = "user"',
    f'name = "item_idle"\nkind = "since"\n{VIEWED}',
    f'name = "user_views"\nkind = "count"\nscope = "user"\n{VIEWED}\nhalf_life = ["12h", "1d", "36h", "2d"]',
    f'name = "user_items"\nkind = "unique_count"\nscope = "user"\n{VIEWED}\nof = "item"',
    f'name = "user_idle"\nkind = "since"\nscope = "user"\n{VIEWED}',
    f'name = "pair_views"\nkind = "count"\nscope = "user_item"\n{VIEWED}\nhalf_life = ["1d", "2d"]',
    f'name = "pair_idle"\nkind = "since"\nscope = "user_item"\n{VIEWED}',
    f'name = "taste_views"\nkind = "count"\n{TASTE}\n{VIEWED}\nhalf_life = ["2d", "4d", "6d", "8d"]',
    f'name = "taste_idle"\nkind = "since"\n{TASTE}\n{VIEWED}',
]
"""26 columns of the item, 6 of the user, 3 of both, 5 of the user and the category: 40."""


@dataclass(frozen=True)
class Ask:
    """One request of both."""

    user_id: str
    item: np.ndarray
    """Numbers of the candidates, distinct, (CANDIDATES,)."""

    @property
    def items(self) -> tuple[str, ...]:
        """Ids of the candidates."""
        return tuple(f"i{item:07d}" for item in self.item.tolist())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--feast-python", default=os.environ.get(PYTHON_VARIABLE), help="a Python that has feast")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=200)
    options = parser.parse_args()
    world = World(items=options.items, events=options.events, users=20_000, sessions=options.events // 5)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        root = Path(folder)
        fold, block = prepare(root, world)
        asks = requests_of(world, options.requests)
        print(f"{len(block.names)} columns, {CANDIDATES} candidates, {len(asks)} requests; ms, p50 / p99")
        values = read_in_process(fold, block, asks)
        read_over_http(root, asks)
        if options.feast_python is not None:
            write_for_feast(root, world, block.names, asks, values, (fold, block))
        turn_in_process(fold, block, asks[0])  # changes the state, so after what Feast is given
        if options.feast_python is None:
            print(f"Feast is left out: neither --feast-python nor {PYTHON_VARIABLE} names a Python that has it")
            return
        with redis_server(root) as address:
            for store in ("sqlite", "redis"):
                if store == "redis" and not address:
                    print("Feast with Redis is left out: there is no redis-server")
                    continue
                command = [options.feast_python, str(PEER), "online", str(root), store, "--redis", address]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                tell(store, json.loads((root / "told.json").read_text()))
                compare(root, block.names, values)


def acts(world: World, newest_ms: int) -> Iterator[EventBatch]:
    """Yield the events of the world, a tenth of a second apart up to a time; one in twenty puts an item into a cart."""
    rng = np.random.default_rng(3)
    start_ms = newest_ms - GAP_MS * world.events
    for batch in batches(world):
        rows, text = batch.rows, np.frombuffer(batch.text, dtype=np.uint8).reshape(len(batch), -1).copy()
        rows["event_time_ms"] = rows["log_time_ms"] = start_ms + GAP_MS * np.arange(1, len(batch) + 1)
        start_ms = int(rows["log_time_ms"][-1])
        is_put = rng.random(len(batch)) < 0.05
        text[is_put, : len(b"cart")] = np.frombuffer(b"cart", dtype=np.uint8)
        rows["value"][is_put] = rng.integers(100, 10_000, int(is_put.sum())) / 100
        yield EventBatch(rows, text.tobytes())


def prepare(root: Path, world: World) -> tuple[Fold, DeclaredFeatures]:
    """Write configuration, log and snapshot of a folder; return its state, and the block of all features."""
    tables = "".join(f"[[features]]\n{each}\n" for each in FEATURES)
    (root / "midstream.toml").write_text(f'{CONFIG}[items.attributes]\ncategory = "category"\n{tables}')
    config, data = config_of(root), DataFolder(root / DATA_NAME)
    now_ms = time.time_ns() // 1_000_000 - 60_000
    log = SegmentLog(data.log, RealDisk(), b"b" * 16)
    fold = Fold(settings_of(data, config))  # under the key of this log, else no start takes the snapshot
    catalogue = build(
        [
            Event(3, 1, item_id=f"i{item:07d}", body=b'{"category":"%s"}' % category(item).encode(), log_time_ms=1)
            for item in range(world.items)
        ]
    )
    pieces = [cut(catalogue, start, start + 1_000) for start in range(0, world.items, 1_000)]
    for batch in (*pieces, *acts(world, now_ms)):
        log.append(batch)
        fold.apply(LogPosition(fold.log_position), batch)
    snapshots.write(data.snapshots, fold, identity_of(bytes.fromhex(log.log_id), log.generation))
    log.close()
    return fold, declared(config.features, config.items.attributes)


def category(item: int) -> str:
    """Return the category of an item."""
    return f"c{item % CATEGORIES}"


def requests_of(world: World, count: int) -> list[Ask]:
    """Return requests of users who have acted, for items as they are asked for: frequent ones more often."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(count):
        item = np.unique(zipf_items(rng, world, 20 * CANDIDATES))
        found.append(Ask(f"u{rng.integers(0, world.users):07d}", rng.permutation(item)[:CANDIDATES]))
    return found


def query_of(fold: Fold, ask: Ask) -> Query:
    """Return the question: a second after the newest event."""
    return Query("r", "home", ask.user_id, None, 20, TimestampMs(fold.log_time_ms + 1_000), 1)


def read_in_process(fold: Fold, block: DeclaredFeatures, asks: list[Ask]) -> list[np.ndarray]:
    """Print how long reading takes, from ids and from indices as a plan has them; return the values of each request."""
    values, whole, alone, cpu_s = [], [], [], 0.0
    for number, ask in enumerate([*asks[:WARM], *asks]):
        if number == WARM:
            cpu_s = time.process_time()
        query, items = query_of(fold, ask), ask.items
        began = time.perf_counter()
        candidates = candidates_of(fold, items)
        moment = fold.moment(query, Models({}))
        middle = time.perf_counter()
        found = block.read(moment, candidates)
        ended = time.perf_counter()
        whole.append((ended - began) * 1e3)
        alone.append((ended - middle) * 1e3)
        values.append(found)
    cpu_ms = (time.process_time() - cpu_s) / len(asks) * 1e3
    line(f"here, in process: ids to values (CPU {cpu_ms:.2f} ms)", whole[WARM:])
    line("here, in process: indices to values, as a plan reads", alone[WARM:])
    return values[WARM:]


def turn_in_process(fold: Fold, block: DeclaredFeatures, ask: Ask) -> None:
    """Print how long it takes until an event is seen: it is folded, and a value of its item read."""
    times, column = [], block.names.index("item_views_1h")
    item, query = ask.items[:1], query_of(fold, ask)
    before = block.read(fold.moment(query, Models({})), candidates_of(fold, item))[0, column]
    for number in range(100 + WARM):
        event = Event(1, action="view", user_id="new", item_id=item[0], log_time_ms=fold.log_time_ms)
        batch = build([event])
        began = time.perf_counter()
        fold.apply(fold.log_position, batch)
        found = block.read(fold.moment(query, Models({})), candidates_of(fold, item))
        times.append((time.perf_counter() - began) * 1e3)
        if found[0, column] != before + number + 1:
            message = f"{found[0, column]} views were read where there had been {before + number + 1}"
            raise ValueError(message)
    line("here, in process: an event folded and its value read", times[WARM:])


def read_over_http(root: Path, asks: list[Ask]) -> None:
    """Print how long requests take over HTTP, and an event and the read that sees it."""
    with serving(root) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        times, turns, seen = [], [], []
        for ask in [*asks[:WARM], *asks]:
            body = json.dumps({"user_id": ask.user_id, "items": ask.items})
            began = time.perf_counter()
            send(connection, "/v1/features/read", body)
            times.append((time.perf_counter() - began) * 1e3)
        for number in range(100 + WARM):
            item = asks[0].items[0]
            event = json.dumps({"type": "view", "user_id": asks[0].user_id, "item_id": item, "event_id": f"n{number}"})
            began = time.perf_counter()
            told = json.loads(send(connection, "/v1/events", event))
            ask = {"user_id": asks[0].user_id, "items": [item], "min_log_position": told["log_position"]}
            content = send(connection, "/v1/features/read", json.dumps(ask))
            turns.append((time.perf_counter() - began) * 1e3)
            answer = json.loads(content)
            seen.append(answer["items"][0]["values"][answer["features"].index("item_views_30d")])
    if seen != [seen[0] + number for number in range(len(seen))]:
        message = f"one view after another was sent, and these were read: {seen}"
        raise ValueError(message)
    line("here, over HTTP", times[WARM:])
    line("here, over HTTP: an event made durable and its value read", turns[WARM:])


def send(connection: http.client.HTTPConnection, path: str, body: str) -> bytes:
    """Return what a server answers."""
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise ValueError(content[:500])
    return content


def write_for_feast(
    root: Path,
    world: World,
    names: tuple[str, ...],
    asks: list[Ask],
    values: list[np.ndarray],
    state: tuple[Fold, DeclaredFeatures],
) -> None:
    """Write what Feast's stores are filled with: a row for each item, and for each user and pair that was counted."""
    columns = {view: [name for name in names if name.startswith(view)] for view in KEYS}
    every = [Ask(asks[0].user_id, item) for item in np.array_split(np.arange(world.items), world.items // CANDIDATES)]
    rows: dict[str, dict[tuple[str, ...], np.ndarray]] = {view: {} for view in KEYS}
    for ask, found in [*zip(asks, values, strict=True), *((each, read(state, each)) for each in every)]:
        for view, row_of in rows.items():
            at = [number for number, name in enumerate(names) if name in columns[view]]
            for item, row in zip(ask.item.tolist(), found[:, at], strict=True):
                ids = {"user_id": ask.user_id, "item_id": f"i{item:07d}", "category": category(item)}
                if view == "item" or (np.nan_to_num(row) != 0.0).any():
                    row_of[tuple(ids[key] for key in KEYS[view])] = row
    stamp = datetime.now(UTC) - timedelta(minutes=1)
    for view, row_of in rows.items():
        keys = dict(zip(KEYS[view], zip(*row_of, strict=True), strict=True))
        numbers = dict(zip(columns[view], np.array(list(row_of.values())).T, strict=True))
        table = pa.table({**keys, **numbers, "event_timestamp": [stamp] * len(row_of)})
        pq.write_table(table, root / f"{view}.parquet")
        print(f"  Feast's table {view}: {len(row_of):,} rows of {len(columns[view])} columns")
    views = {view: {"keys": KEYS[view], "columns": columns[view]} for view in KEYS}
    (root / "views.json").write_text(json.dumps(views))
    requests = {
        "number": [number for number, ask in enumerate(asks) for _ in ask.items],
        "user_id": [ask.user_id for ask in asks for _ in ask.items],
        "item_id": [item for ask in asks for item in ask.items],
        "category": [category(item) for ask in asks for item in ask.item.tolist()],
    }
    pq.write_table(pa.table(requests), root / "requests.parquet")


def read(state: tuple[Fold, DeclaredFeatures], ask: Ask) -> np.ndarray:
    """Return the values of one request."""
    fold, block = state
    return block.read(fold.moment(query_of(fold, ask), Models({})), candidates_of(fold, ask.items))


def compare(root: Path, names: tuple[str, ...], values: list[np.ndarray]) -> None:
    """Print how many values Feast read otherwise; what it has no row of is 0 or NaN here."""
    table, ours = pq.read_table(root / "values.parquet"), np.concatenate(values)
    theirs = np.array([table[name].to_numpy() for name in names]).T
    missing = np.isnan(theirs) & (ours == 0.0)
    differs = ~((theirs == ours) | missing | (np.isnan(theirs) & np.isnan(ours)))
    print(f"  of {ours.size:,} values {int(differs.sum()):,} differ, {int(missing.sum()):,} were missing for a 0 here")


@contextmanager
def redis_server(root: Path) -> Iterator[str]:
    """Run a Redis without persistence until the block ends; yield its address, empty = there is none."""
    program = shutil.which("redis-server")
    if program is None:
        yield ""
        return
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port = each.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([*command, "--dir", str(root)], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_open(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def wait_until_open(port: int) -> None:
    """Return when somebody listens."""
    for _ in range(100):
        with socket.socket() as each:
            if each.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError


def tell(store: str, told: dict) -> None:
    """Print what the peer measured."""
    print(f"Feast {told['version']}, {store}; filled in {told['filled_s']:.1f} s")
    line("SDK: get_online_features", told["answered_ms"])
    line(f"SDK: and to_dict (CPU {told['read_cpu_ms']:.0f} ms)", told["read_ms"])
    line("feature server, over HTTP", told["served_ms"])
    line("push of one item's new values", told["pushed_ms"])
    line("push, and its value read", told["seen_ms"])


def line(what: str, times: list[float]) -> None:
    """Print p50 and p99 of milliseconds."""
    print(f"  {what}: {np.percentile(times, 50):.3f} / {np.percentile(times, 99):.3f}")


if __name__ == "__main__":
    main()
