"""Nearest by cosine: the exact scan and the graph of usearch, by number of vectors and their length, one thread.

    python benchmarks/nearest.py [--items 10000 100000 1000000] [--width 128] [--limit 100]

Vectors as encoders of texts and pictures make them: many topics, each a cloud that fills few of the dimensions, and
queries near items. Each query asks the source's own parts: ``Directions.nearest`` over all rows, or the rows that
``VectorIndex.named`` gives, scored by their vectors. Recall is the share of the exact answer in that of the graph. Then
some vectors are taken away: what a search takes and finds before and after the graph has followed, and how long that
is.
"""

import argparse
import resource
import threading
import time
from pathlib import Path

import numpy as np

from midstream.models import vector_index
from midstream.models.kernels.cosine import Directions
from midstream.models.vector_index import VectorIndex
from midstream.state.attributes.vectors import Vectors

TOPICS_EACH = 500
"""Items of a topic, about."""
REMOVED = 5_000
"""Vectors that are taken away, a tenth of all at most: fewer than a search scores beside the graph."""
INNER = 24
"""Dimensions that a topic fills."""


def vectors(count, width, dice):
    """Topics on a falling spectrum, each a cloud in a random subspace, and a little noise in all dimensions."""
    spectrum = np.exp(-np.arange(width) / (width / 3))
    topics = max(count // TOPICS_EACH, 1)
    centres = dice.standard_normal((topics, width)) * spectrum
    spans = dice.standard_normal((64, INNER, width)) * spectrum / np.sqrt(INNER)
    found = np.empty((count, width), dtype=np.float32)
    topic = dice.integers(0, topics, count)
    for begin in range(0, count, 20_000):
        own = topic[begin : begin + 20_000]
        cloud = np.empty((len(own), width))
        inner = dice.standard_normal((len(own), INNER))
        for span in range(64):
            rows = own % 64 == span
            cloud[rows] = inner[rows] @ spans[span]
        found[begin : begin + 20_000] = centres[own] + cloud + 0.05 * dice.standard_normal((len(own), width)) * spectrum
    return found


def column_of(values):
    """The state's own column, filled."""
    column = Vectors(len(values), values.shape[1])
    column.restore(np.arange(len(values), dtype=np.uint32), values)
    return column


def timed(ask, queries):
    """What each query took in µs, and its answer."""
    took, lists = [], []
    for query in queries:
        begin = time.perf_counter_ns()
        found = ask(query)
        took.append((time.perf_counter_ns() - begin) / 1e3)
        lists.append(found)
    return np.percentile(took, [0, 50, 99]), lists


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 50_000, 100_000, 200_000, 1_000_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--breadth", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--no-rest", action="store_true", help="build the graph without the rests of a server")
    parser.add_argument("--no-graph", action="store_true", help="the exact scan alone")
    told = parser.parse_args()
    if told.no_rest:
        vector_index._rest = lambda _: None
    dice = np.random.default_rng(1)
    for count in told.items:
        made = vectors(count + told.queries, told.width, dice)
        column = column_of(made[:count])
        asked = made[count:]
        queries = (asked / np.linalg.norm(asked.astype(np.float64), axis=1)[:, None]).astype(np.float32)
        directions = Directions(column.values, column.scale, np.arange(count, dtype=np.uint64))
        size = f"{count:9,} × {told.width}, {told.limit} wanted"
        every = np.ones(count, dtype=np.bool_)
        exact = scan(directions, queries, every, told.limit, f"{size}: scan               ")
        scan(directions, queries, dice.random(count) < 0.01, told.limit, f"{size}: scan, 1 % eligible ")
        if not told.no_graph:
            graph(told, column, directions, queries, exact, size)


def scan(directions, queries, eligible, limit, what):
    """Ask the scan; print what it took, and return the answers."""
    (low, middle, high), found = timed(lambda query: directions.nearest(query, eligible, limit)[0], queries)
    print(f"{what} least {low:7,.0f}, p50 {middle:7,.0f}, p99 {high:7,.0f} µs", flush=True)
    return found


def graph(told, column, directions, queries, exact, size):
    """Build the graph on a thread, and ask it."""
    index = VectorIndex(column)
    memory, worked = resident(), time.process_time()
    began = time.perf_counter()
    builder = threading.Thread(target=index.catch_up)
    builder.start()
    longest = before = 0.0
    while builder.is_alive():
        before = time.perf_counter()
        time.sleep(0.0005)
        longest = max(longest, time.perf_counter() - before - 0.0005)
    built_s = time.perf_counter() - began
    print(
        f"{size}: graph built in {built_s:.1f} s ({time.process_time() - worked:.1f} s of a core) by one thread, "
        f"{(resident() - memory) / index.size:.0f} B a vector; another thread waited {1e3 * longest:.1f} ms at most",
        flush=True,
    )

    asked(told, index, directions, queries, exact, f"{size}: graph")
    gone = np.random.default_rng(2).choice(len(column.scale), min(REMOVED, len(column.scale) // 10), replace=False)
    for row in gone.tolist():
        column.set(row, None)
    every = np.ones(len(column.scale), dtype=np.bool_)
    exact = scan(directions, queries, every, told.limit, f"{size}: scan, {len(gone):,} gone   ")
    asked(told, index, directions, queries, exact, f"{size}: graph, {len(gone):,} gone")
    began = time.perf_counter()
    index.catch_up()
    print(f"{size}: graph followed in {time.perf_counter() - began:.1f} s", flush=True)
    asked(told, index, directions, queries, exact, f"{size}: graph, followed")


def asked(told, index, directions, queries, exact, what):
    """Ask the graph with each breadth; print what it took, and its recall."""

    def ask(query, breadth):
        rows = np.concatenate(index.named(query, told.limit + 64, breadth))
        rows = rows[directions.scale[rows] > 0.0]
        return directions.in_order(rows, directions.cosines(query, rows), told.limit)[0]

    for breadth in told.breadth:
        (low, middle, high), lists = timed(lambda query, b=breadth: ask(query, b), queries)
        pairs = zip(lists, exact, strict=True)
        recall = np.mean([len(np.intersect1d(one, other)) / told.limit for one, other in pairs])
        print(
            f"{what}, breadth {breadth:5} least {low:7,.0f}, p50 {middle:7,.0f}, p99 {high:7,.0f} µs, "
            f"recall {recall:.4f}",
            flush=True,
        )


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
