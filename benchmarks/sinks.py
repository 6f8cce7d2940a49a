"""Rows a second of a sink, from the state into a store: a pass over users who each have some features.

``python -m benchmarks.sinks redis://localhost:6379 postgresql://postgres@localhost/postgres cassandra://localhost/shop``

Two figures for each store: the sink as a server runs it (the log is read, rows are read in turns of the event loop and
written), and the store alone, given the same rows in groups of the same size. Both are medians of several runs, each
into a table of its own.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from midstream.app.config.schema import Config
from midstream.app.config.sinks import AnyStore, SinkTable
from midstream.app.opening import open_running
from midstream.app.sinks import sinks_of, store_of
from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.log_readers import open_reader
from midstream.engine.sinks.row_columns import row_columns
from midstream.engine.sinks.write_window import GROUP_ROWS_MAX, WRITES_MAX
from midstream.engine.stores.online_store import OnlineStore, StoreRows
from midstream.events.schema import Event, build
from midstream.features.kinds.kinds import Count, Since

FEATURES = (
    Count(name="views", scope="user", actions=("view",), windows=(Duration("1h"), Duration("24h"), Duration("7d"))),
    Count(name="lately", scope="user", actions=("view", "cart"), half_life=(Duration("1h"), Duration("7d"))),
    Count(name="carts", scope="user", actions=("cart",)),
    Since(name="last_view", scope="user", actions=("view",)),
)
COLUMNS = ("views", "lately", "carts", "last_view", "row.recent_items")
ACTS = 5
"""Of each user."""
_BATCH = 5_000


def options_of(url: str) -> AnyStore:
    """Return the options of a store by its address."""
    told = {"kind": url.partition(":")[0], "url": url, "give_up": "20s"}
    return msgspec.convert(told, AnyStore, dec_hook=lambda kind, text: kind(text))


async def filled(running: Instance, users: int) -> None:
    """Have users act."""
    now_ms = running.engine.clock()
    for start in range(0, users * ACTS, _BATCH):
        events = [
            Event(
                Kind.INTERACTION,
                event_id=str(number),
                action="view" if number % 4 else "cart",
                user_id=f"user-{number % users}",
                item_id=f"item-{number % 997}",
                event_time_ms=now_ms,
            )
            for number in range(start, min(start + _BATCH, users * ACTS))
        ]
        await running.engine.record(build(events))


async def through_sink(running: Instance, folder: Path, options: AnyStore, table: str, users: int) -> float:
    """Return the rows a second of a pass."""
    sink = SinkTable(name=table, scope="user", columns=COLUMNS, store=options)
    config = msgspec.structs.replace(running.config, sinks=(sink,))
    if running.eraser is None:
        raise SystemExit("a log in a folder is needed")
    group = sinks_of(config, running.engine, running.eraser, lambda: open_reader(DataFolder(folder / "data")))
    began = time.perf_counter()
    group.start()
    while not (status := group.view(table)).is_complete:
        await asyncio.sleep(0.01)
        if status.problem:
            raise SystemExit(status.problem)
    seconds = time.perf_counter() - began
    await group.stop()
    if status.rows_written != users:
        raise SystemExit(f"{status.rows_written} rows of {users}")
    return users / seconds


async def alone(store: OnlineStore, users: int) -> float:
    """Return the rows a second that a store takes, of the same columns."""
    await store.open()
    items = tuple(f"item-{each}" for each in range(ACTS))
    room = asyncio.Semaphore(WRITES_MAX)

    async def write(start: int) -> None:
        ids = [f"user-{each}" for each in range(start, min(start + GROUP_ROWS_MAX, users))]
        columns = {
            name: [items if kind == "texts" else 7 if kind == "integer" else 0.123456789] * len(ids)
            for name, kind in store.columns.items()
        }
        async with room:
            await store.write(StoreRows(ids, columns), 1)

    began = time.perf_counter()
    await asyncio.gather(*(write(start) for start in range(0, users, GROUP_ROWS_MAX)))
    seconds = time.perf_counter() - began
    await store.close()
    return users / seconds


async def measured(urls: Sequence[str], users: int, runs: int) -> None:
    """Print the figures of each store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = open_running(folder, Config(features=FEATURES))
        async with running:
            await filled(running, users)
            for url in urls:
                options, sunk, plain = options_of(url), list[float](), list[float]()
                for run in range(runs):
                    table = f"bench_{time.time_ns() // 1_000_000}_{run}"
                    sunk.append(await through_sink(running, folder, options, table, users))
                    kinds = row_columns("user", COLUMNS, FEATURES, {}).kinds
                    plain.append(await alone(store_of(options, f"{table}_alone", kinds), users))
                kind = url.partition(":")[0]
                print(f"{kind}: sink {median(sunk):,.0f} rows/s, store alone {median(plain):,.0f} rows/s, {runs} runs")


def main() -> None:
    """Measure the stores that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", help="of stores, as in [[sinks]]")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    told = parser.parse_args()
    asyncio.run(measured(told.urls, told.users, told.runs))


if __name__ == "__main__":
    main()
