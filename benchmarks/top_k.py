"""Exact top-k by inner product beside NumPy and faiss, in one run, one thread.

    python benchmarks/top_k.py --peers ENV/lib/python3.11/site-packages

Vectors as a factorisation makes them: a falling spectrum, lengths of a log-normal. Answers are compared with each
other. Each way is asked all queries and then the next, or, with ``--turns``, query by query in turn, so that each finds
the caches as another left them. ``--peers`` is a folder with faiss, which is no dependency.
"""

import argparse
import sys
import time

import numpy as np

from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import top_k

WIDTH = 64


def numpy_top_k(query, items, k):
    """The peer: all products, a partial sort, a sort of the k."""
    scores = items @ query
    rows = np.argpartition(scores, len(scores) - k)[len(scores) - k :]
    return rows[np.argsort(-scores[rows], kind="stable")]


def vectors(count, dice):
    """Vectors of a falling spectrum and unlike lengths."""
    length = dice.lognormal(0, 0.4, (count, 1))
    return (dice.standard_normal((count, WIDTH)) * np.exp(-np.arange(WIDTH) / 20) * length).astype(np.float32)


def faiss_top_k(items):
    """The other peer, if it is there."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(items)
    return lambda query, k: index.search(query[None, :], k)[1][0]


def asked(ways, queries, k, *, turns):
    """Ask all ways all queries; return what each answer took in µs, and the answers."""
    took, lists = {name: [] for name in ways}, {name: [] for name in ways}
    pairs = [(name, query) for name in ways for query in queries]
    for name, query in [(name, query) for query in queries for name in ways] if turns else pairs:
        begin = time.perf_counter_ns()
        found = ways[name](query, k)
        took[name].append((time.perf_counter_ns() - begin) / 1e3)
        lists[name].append(found.tolist())
    return took, lists


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="a folder with faiss")
    parser.add_argument("--items", type=int, nargs="+", default=[20_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--turns", action="store_true", help="query by query in turn")
    told = parser.parse_args()
    if told.peers:
        sys.path.append(told.peers)
    dice = np.random.default_rng(1)
    for count in told.items:
        items, queries = vectors(count, dice), vectors(told.queries, dice)
        halves = Halves.of(items)
        ways = {"here": lambda query, k, halves=halves: halves.top_k(query, k)[0]}
        ways["all bytes"] = lambda query, k, items=items: top_k(query, items, k)[0]
        ways["NumPy"] = lambda query, k, items=items: numpy_top_k(query, items, k)
        if found := faiss_top_k(items):
            ways["faiss Flat"] = found
        for k in (100, 500):
            took, lists = asked(ways, queries, k, turns=told.turns)
            same = sum(all(set(one) == set(each[0]) for one in each) for each in zip(*lists.values(), strict=True))
            for name, each in took.items():
                low, tenth, middle, high = np.percentile(each, [0, 10, 50, 99])
                print(f"{count:9,} k = {k:3} {name:10} {low:7.0f} / {tenth:7.0f} / {middle:7.0f} / {high:7.0f} µs")
            print(
                f"{count:9,} k = {k:3} the same items in {same} of {len(queries)}; least / p10 / p50 / p99", flush=True
            )


if __name__ == "__main__":
    main()
