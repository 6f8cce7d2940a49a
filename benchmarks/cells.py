"""Cells and columns in process: what an event costs with them and without, and reading 40 columns of 500 candidates.

The world of the other benchmarks with a category an item. Columns: 8 fading counts and 8 windows of the item, 4 rates
against everybody's, 4 counts of the user, 4 of the user and the category, 2 of the user and the item, 2 distinct
counts, 4 of the request, 4 expressions over others. About a minute at full size.
"""

import argparse
import time
from itertools import islice

import msgspec
import numpy as np
from world import World, batches, zipf_items

from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.state.cells import Keys
from midstream.state.fold import Fold
from midstream.state.program import Cell, Expression, Input, Op, column, compile_columns
from midstream.state.settings import FoldSettings

HOUR = 3_600_000
CANDIDATES, QUESTIONS = 500, 2_000


def columns() -> dict[str, Expression]:
    """Return the 40 columns."""
    found: dict[str, Expression] = {}
    for number in range(8):
        found[f"fading {number}"] = column(Cell("item", ("view",), half_life_ms=(number + 1) * 6 * HOUR))
        found[f"window {number}"] = column(
            Cell("item", ("view",), window_ms=(1, 2, 6, 12, 24, 48, 168, 720)[number] * HOUR)
        )
    for number in range(4):
        half_life = (number + 1) * 24 * HOUR
        action, per = (Cell("item", (each,), half_life_ms=half_life) for each in ("purchase", "view"))
        everybody = column(msgspec.structs.replace(action, scope="global")) / column(
            msgspec.structs.replace(per, scope="global")
        )
        found[f"rate {number}"] = (column(action) + everybody * 10.0) / (column(per) + 10.0)
        found[f"user {number}"] = column(Cell("user", ("view",), half_life_ms=(number + 1) * 12 * HOUR))
        found[f"user and category {number}"] = column(
            Cell("user_attribute", ("view",), half_life_ms=(number + 1) * 48 * HOUR, attribute="category")
        )
        found[f"request {number}"] = column(Input(f"request {number}"))
        found[f"expression {number}"] = Expression(Op.LOG, (found[f"fading {number}"] / found[f"window {number}"],))
    for number in range(2):
        found[f"user and item {number}"] = column(Cell("user_item", ("view",), half_life_ms=(number + 1) * 24 * HOUR))
        found[f"distinct {number}"] = column(
            Cell(("item", "user")[number], ("view",), fold="distinct", of=("user", "item")[number])
        )
    return found


def settings_of(cells: tuple[Cell, ...]) -> FoldSettings:
    """Return what is folded: these cells, each once."""
    ordered = sorted(set(cells), key=msgspec.json.encode)
    return FoldSettings(attributes={"category": "category"}, cells=tuple(ordered))


def folded(world: World, settings: FoldSettings, step: int) -> tuple[Fold, float]:
    """Return the state of the world, and the events a second of its second half."""
    fold = Fold(settings)
    catalogue = [
        Event(3, 1, item_id=f"i{item:07d}", body=b'{"category":"c%d"}' % (item % 200), log_time_ms=1)
        for item in range(world.items)
    ]
    fold.apply(LogPosition(0), build(catalogue))
    every = list(batches(world, step))
    for batch in every[: len(every) // 2]:
        fold.apply(fold.log_position, batch)
    began, first = time.perf_counter(), fold.log_position
    for batch in every[len(every) // 2 :]:
        fold.apply(fold.log_position, batch)
    return fold, (fold.log_position - first) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    world = World(items=options.items, events=options.events, sessions=options.events // 5)
    program = compile_columns(columns())
    for step in (10_000, 1_000):
        _, bare = folded(world, settings_of(()), step)
        fold, full = folded(world, settings_of(program.cells), step)
        print(f"batches of {step:,}: {bare:,.0f} events/s without cells, {full:,.0f} with {len(program.cells)}")
    rng = np.random.default_rng(5)
    now, times = fold.log_time_ms + 1_000, []
    inputs = np.zeros((len(program.inputs), CANDIDATES))
    for _ in range(QUESTIONS + 100):
        user = int(rng.integers(0, world.sessions))
        item = zipf_items(rng, world, CANDIDATES).astype(np.int32)
        index, hashed = fold.vocabulary.user_index(f"u{user:07d}"), fold.vocabulary.user_hash_of(f"u{user:07d}")
        keys = Keys(item, index, hashed)
        began = time.perf_counter()
        fold.cells.columns(program, keys, inputs, now)
        times.append((time.perf_counter() - began) * 1e6)
    times = sorted(islice(times, 100, None))
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(f"{len(columns())} columns of {CANDIDATES} candidates: p50 {p50:.0f}, p99 {p99:.0f} µs")


if __name__ == "__main__":
    main()
