"""The fold alone: the one pass against the same kernels table by table, in turns, by batches of one and of 10,000.

``python benchmarks/fold.py --twin`` folds the workload of ``world.py`` into two states at once, a stretch of batches by
one way and then by the other, so that both see the same machine; after that single events, and batches of 500 with five
user events, which the one pass leaves to the other way: their rows are equal. Prints least and median in CPU time of
the process (of both cores, where two take part; ``taskset -c 0`` has one), and whether the digests are equal. Without
``--twin`` the one pass alone is run: the rate of a server, which has one state in its caches.
"""

import argparse
import os
import time
from collections.abc import Iterator

import numpy as np
from world import START_MS, World, batches

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build, cut
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, StateLimits

STRETCH = 20
"""Batches by one way before it is the other's turn."""
MIXED = 500
"""Events of a mixed batch, as a server's turn has without answers beside it."""


def main() -> None:
    """Fold, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--step", type=int, default=10_000)
    parser.add_argument("--single", type=int, default=5_000)
    parser.add_argument("--mixed", type=int, default=50_000)
    parser.add_argument("--twin", action="store_true", help="also table by table, in turns")
    options = parser.parse_args()
    names = ("one pass", "table by table") if options.twin else ("one pass",)
    folds = {name: state(is_general=name != "one pass") for name in names}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    log = batches(World(events=options.events, sessions=options.events // 10), options.step)
    report("a batch", measured(folds, stretches(log, STRETCH)), options.step)
    more = (batch for each in batches(World(events=options.single, seed=8)) for batch in singles(each))
    report("one event alone", measured(folds, stretches(later(more, options.events), 200)), 1)
    end = options.events + options.single
    report("a batch of 500 with 1 % user events", measured(folds, stretches(mixed(options.mixed, end), STRETCH)), MIXED)
    if options.twin:
        first, second = (fold.digest() for fold in folds.values())
        print("digests are equal" if first == second else f"DIGESTS DIFFER: {first}, {second}")


def state(*, is_general: bool) -> Fold:
    """Return an empty state as large as the workload needs."""
    fold = Fold(FoldSettings(limits=StateLimits(click_items_max=200_000)))
    fold.is_general = is_general
    return fold


def singles(batch: EventBatch) -> Iterator[EventBatch]:
    """Yield each event of a batch alone."""
    for place in range(len(batch)):
        yield cut(batch, place, place + 1)


def mixed(count: int, events: int) -> Iterator[EventBatch]:
    """Yield batches as if they came after so many events; every hundredth event changes a user's profile."""
    profile = Event(Kind.USER, Operation.PATCH, body=b'{"plan":"a"}')
    view = Event(Kind.INTERACTION, action="view")
    for start in range(0, count, MIXED):
        numbers = range(start, start + MIXED)
        yield build(
            [
                view._replace(user_id=f"u{n * 7 % 9_973}", item_id=f"i{n * 13 % 4_999}", log_time_ms=at(events + n))
                if n % 100
                else profile._replace(user_id=f"u{n * 7 % 9_973}", log_time_ms=at(events + n))
                for n in numbers
            ]
        )


def at(event: int) -> int:
    """Return the time of an event."""
    return START_MS + 10 * event


def later(log: Iterator[EventBatch], events: int) -> Iterator[EventBatch]:
    """Yield batches as if they came after so many events."""
    for batch in log:
        batch.rows["log_time_ms"] += 10 * events
        batch.rows["event_time_ms"] += 10 * events
        yield batch


def stretches(log: Iterator[EventBatch], length: int) -> Iterator[list[EventBatch]]:
    """Yield batches, so many at a time."""
    held: list[EventBatch] = []
    for batch in log:
        held.append(batch)
        if len(held) == length:
            yield held
            held = []
    if held:
        yield held


def measured(folds: dict[str, Fold], log: Iterator[list[EventBatch]]) -> dict[str, np.ndarray]:
    """Return nanoseconds of each batch by each way."""
    found: dict[str, list[int]] = {name: [] for name in folds}
    for stretch in log:
        for name, fold in folds.items():
            for batch in stretch:
                began = time.process_time_ns()
                fold.apply(LogPosition(fold.log_position), batch)
                found[name].append(time.process_time_ns() - began)
    return {name: np.array(each) for name, each in found.items()}


def report(what: str, found: dict[str, np.ndarray], events: int) -> None:
    """Print a line for each way; the first batch, in which kernels are loaded, is left out."""
    for name, spent in found.items():
        each = spent[1:] / events / 1_000
        rate = 1e6 / each.mean()
        low, middle, high = each.min(), np.median(each), np.quantile(each, 0.99)
        spread = f"least {low:.2f}, median {middle:.2f}, p99 {high:.2f} µs an event"
        print(f"{what}, {name}: {spread}; {rate:,.0f} events a CPU second")


if __name__ == "__main__":
    main()
