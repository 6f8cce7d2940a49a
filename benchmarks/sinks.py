"""Rows a second of a sink, from the state into a store: a pass over users who each have some features.

``python -m benchmarks.sinks redis://localhost:6379 postgresql://postgres@localhost/postgres cassandra://localhost/shop``

Two figures for each store: the sink as a server runs it (the log is read, rows are read in turns of the event loop and
written), and the store alone, given the same rows in groups of the same size. Both are medians of several runs, each
into a table of its own.

And how long the event loop is held meanwhile: a task that asks for its next turn again and again notes what lies
between two of them, as the clock has it and as CPU of the loop's thread, which other processes do not change.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

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
from midstream.engine.stores.online_store import OnlineStore, StoreKind, StoreRows
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
LOG = "bench"
"""Public name of the log that rows are said to be of."""
_BATCH = 5_000
HELD_COLUMNS = (10, 63)


@dataclass
class Turns:
    """A probe of the running event loop, inside of ``async with``."""

    longest_ms: float = 0.0
    """Of the clock."""
    longest_cpu_ms: float = 0.0
    """Of CPU of the loop's thread, the probe's own included."""
    task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def _look(self) -> None:
        await asyncio.sleep(0)
        clock, worked = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            now, cpu = time.perf_counter(), time.thread_time()
            self.longest_ms = max(self.longest_ms, (now - clock) * 1_000)
            self.longest_cpu_ms = max(self.longest_cpu_ms, (cpu - worked) * 1_000)
            clock, worked = now, cpu


def options_of(url: str) -> AnyStore:
    """Return the options of a store by its address."""
    told = {"kind": url.partition(":")[0], "url": url, "give_up": "20s"}
    found: AnyStore = msgspec.convert(told, AnyStore, dec_hook=lambda kind, text: kind(text))
    return found


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


async def held(store: OnlineStore, groups: int) -> Turns:
    """Return how long the loop is held while groups of rows are written, one after the other."""
    await store.open()
    items, turns = tuple(f"item-{each}" for each in range(ACTS)), Turns()
    batches = [
        StoreRows(
            [f"user-{each}" for each in range(start, start + GROUP_ROWS_MAX)],
            {
                name: [items if kind == "texts" else 7 if kind == "integer" else 0.123456789] * GROUP_ROWS_MAX
                for name, kind in store.columns.items()
            },
        )
        for start in range(0, groups * GROUP_ROWS_MAX, GROUP_ROWS_MAX)
    ]
    await store.write(batches[0], 1)
    gc.collect()
    gc.freeze()
    async with turns:
        for each in batches:
            await store.write(each, 2)
    await store.close()
    return turns


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
                    plain.append(await alone(store_of(options, f"{table}_alone", LOG, kinds), users))
                for count in HELD_COLUMNS:
                    wide: dict[str, StoreKind] = {f"c{each}": "number" for each in range(count - 1)}
                    wide["recent"] = "texts"
                    taken = [
                        await held(store_of(options, f"held_{time.time_ns() // 1_000_000}_{count}", LOG, wide), 10)
                        for run in range(runs)
                    ]
                    cpu, clock = (
                        median(each.longest_cpu_ms for each in taken),
                        median(each.longest_ms for each in taken),
                    )
                    print(f"{url}: {count} columns hold the loop for {cpu:.1f} ms of CPU, {clock:.1f} ms")
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
