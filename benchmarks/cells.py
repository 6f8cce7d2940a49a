"""Declared features in process: what an event costs with their cells and without, and reading 40 columns of candidates.

The world of the other benchmarks with a category an item. Columns: 8 fading counts and 8 windows of the item, 4 rates
against everybody's, 4 counts of the user, 4 of the user and the category, 2 of the user and the item, 2 distinct
counts, 2 matches with the last items, 4 of the request, 2 expressions over others. Two folds, one without cells, get
the same batches in turn; an event's cost is CPU time of the one thread, so that a busy machine does not count for it,
a question's is given both ways. About a minute at full size.
"""

import argparse
import time
from statistics import median

import msgspec
import numpy as np
from world import World, batches, zipf_items

from midstream.core.durations import Duration
from midstream.core.types import Candidates, LogPosition, Models, Query
from midstream.events.schema import Event, build
from midstream.features.declared import declared
from midstream.features.kinds.kinds import (
    AnyFeature,
    Computed,
    Count,
    ItemField,
    LocalTime,
    Match,
    Random,
    Rate,
    UniqueCount,
    cells_of,
)
from midstream.state.cells.cells import CellOwners
from midstream.state.expressions.program import Cell
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

CANDIDATES, QUESTIONS, WARM_UP = 500, 2_000, 100


def features() -> tuple[AnyFeature, ...]:
    """Return what makes the 40 columns."""
    hours = (6, 12, 18, 24, 30, 36, 42, 48)
    found: list[AnyFeature] = [
        Count(name="fading", actions=("view",), half_life=tuple(Duration(f"{each}h") for each in hours)),
        Count(
            name="window",
            actions=("view",),
            windows=tuple(Duration(f"{each}h") for each in (1, 2, 6, 12, 24, 48, 168, 720)),
        ),
        UniqueCount(name="visitors", actions=("view",), of="user"),
        UniqueCount(name="interests", scope="user", actions=("view",), of="item"),
        Match(name="match_session", attribute="category"),
        Match(name="match_user", scope="user", attribute="category"),
        LocalTime(name="hour"),
        LocalTime(name="weekday", part="weekday"),
        ItemField(name="price"),
        Random(name="random"),
        Computed(name="trend", text="log(window_1h / window_1d)"),
        Computed(name="eagerness", text="user_0 / (interests + 1)"),
    ]
    found += [
        Rate(name=f"rate_{each}", actions=("purchase",), per=("view",), half_life=Duration(f"{each + 1}d"))
        for each in range(4)
    ]
    for number, (name, scope, count) in enumerate(
        (("user", "user", 4), ("category", "user_attribute", 4), ("pair", "user_item", 2))
    ):
        attribute = "category" if scope == "user_attribute" else ""
        found += [
            Count(
                name=f"{name}_{each}",
                scope=scope,
                actions=("view",),
                attribute=attribute,
                half_life=(Duration(f"{(each + 1) * (12, 48, 24)[number]}h"),),
            )
            for each in range(count)
        ]
    return tuple(found)


def settings_of(cells: tuple[Cell, ...]) -> FoldSettings:
    """Return what is folded."""
    return FoldSettings(attributes={"category": "category"}, cells=tuple(sorted(cells, key=msgspec.json.encode)))


def catalogued(world: World, cells: tuple[Cell, ...]) -> Fold:
    """Return a state that knows the items."""
    fold = Fold(settings_of(cells))
    catalogue = [
        Event(3, 1, item_id=f"i{item:07d}", body=b'{"category":"c%d"}' % (item % 200), log_time_ms=1)
        for item in range(world.items)
    ]
    fold.apply(LogPosition(0), build(catalogue))
    return fold


def fold_both(world: World, step: int, cells: tuple[Cell, ...]) -> tuple[Fold, list[float], list[float]]:
    """Fold the world twice, in turn; return the fold with cells, and each's µs an event in the second half."""
    bare, full = catalogued(world, ()), catalogued(world, cells)
    costs: tuple[list[float], list[float]] = ([], [])
    every = list(batches(world, step))
    for number, batch in enumerate(every):
        for which in (0, 1) if number % 2 else (1, 0):
            fold = (bare, full)[which]
            began = time.thread_time()
            fold.apply(fold.log_position, batch)
            if number >= len(every) // 2:
                costs[which].append((time.thread_time() - began) * 1e6 / len(batch))
    return full, *costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    cells = cells_of(features())
    for events, step in ((options.events // 500, 1), (options.events // 10, 1_000), (options.events, 10_000)):
        world = World(items=options.items, events=events, sessions=max(1, events // 5))
        fold, bare, full = fold_both(world, step, cells)
        added = median(full) - median(bare)
        print(
            f"batches of {step:,}: {1e6 / median(bare):,.0f} events/s without cells, {1e6 / median(full):,.0f} with "
            f"{len(cells)}, which add {added:.2f} µs an event"
        )
    ask(fold, world)


def ask(fold: Fold, world: World, questions: int = QUESTIONS) -> dict[str, tuple[float, float]]:
    """Read all columns of candidates for many users; print how long it takes, and return p50 and p99 in µs."""
    block = declared(features(), fold.settings.attributes)
    rng = np.random.default_rng(5)
    walls, works, own = [], [], []
    inputs = np.zeros((len(block.program.inputs), CANDIDATES))
    for number in range(questions + WARM_UP):
        user = f"u{int(rng.integers(0, world.sessions)):07d}"
        item = np.unique(zipf_items(rng, world, 8 * CANDIDATES))
        index = rng.permutation(item)[:CANDIDATES].astype(np.int32)
        query = Query(f"q{number}", "home", user, None, 20, fold.log_time_ms + 1_000, number)
        moment = fold.moment(query, Models({}))
        candidates = Candidates(index, (), np.empty((len(index), 0), np.float32), np.empty((len(index), 0), np.int32))
        began, worked = time.perf_counter(), time.thread_time()
        block.read(moment, candidates)
        works.append((time.thread_time() - worked) * 1e6)
        walls.append((time.perf_counter() - began) * 1e6)
        keys = CellOwners(index, moment.user_index, moment.user_hash, moment.session_number)
        worked = time.thread_time()
        fold.cells.columns(block.program, keys, inputs, query.now_ms)
        own.append((time.thread_time() - worked) * 1e6)
    found = {}
    for name, times in (("wall", walls), ("CPU", works), ("CPU of cells and steps alone", own)):
        p50, p99 = np.percentile(times[WARM_UP:], [50, 99])
        print(f"{len(block.names)} columns of {CANDIDATES} candidates, {name}: p50 {p50:.0f}, p99 {p99:.0f} µs")
        found[name] = (float(p50), float(p99))
    return found


if __name__ == "__main__":
    main()
