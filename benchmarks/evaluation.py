"""Ranking everything for everybody: 29,858 histories, 40,981 items, vectors of 64, lists of 20, what was seen left out.

Prints seconds of the wall and of the processor, beside plain NumPy (a product in blocks, a partial sort, a sort) on the
same vectors, one after the other, and how many lists agree. ``python benchmarks/evaluation.py [SHARE]`` takes a
share of the histories.
"""

import json
import sys
import time

import numpy as np

from midstream.models.histories import Histories
from midstream.models.kernels.top_n import top_n
from midstream.models.vocabulary import ItemVocabulary

USERS, ITEMS, SIZE, K, SEEN, BLOCK = 29_858, 40_981, 64, 20, 27, 512


class Factors:
    """A model that is two sets of vectors."""

    def __init__(self, history, item):
        self.vocabulary = ItemVocabulary.of([str(row) for row in range(len(item))])
        self._history, self._item = history, item

    def history_vectors(self, histories):
        return self._history[: len(histories)]

    def item_vectors(self):
        return self._item

    def scores(self, histories):
        return self._history[: len(histories)] @ self._item.T

    def best(self, history, k):
        raise NotImplementedError

    def arrays(self):
        return {}


def plain(history, item, seen, k):
    """What one would write without a kernel."""
    found = np.empty((len(history), k), dtype=np.int32)
    for begin in range(0, len(history), BLOCK):
        scores = history[begin : begin + BLOCK] @ item.T
        rows = np.repeat(np.arange(len(scores)), SEEN)
        scores[rows, seen.row[begin * SEEN : (begin + len(scores)) * SEEN]] = -np.inf
        part = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1)
        found[begin : begin + len(scores)] = np.take_along_axis(part, order, axis=1)
    return found


def timed(work):
    """Return what work gives, and the seconds of wall and processor."""
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return found, {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - processor, 2)}


def main():
    """Measure and print."""
    users = round(USERS * float(sys.argv[1])) if len(sys.argv) > 1 else USERS
    random = np.random.default_rng(1)
    history, item = (random.standard_normal((n, SIZE), dtype=np.float32) for n in (users, ITEMS))
    rows = random.integers(0, ITEMS, users * SEEN).astype(np.int32)
    seen = Histories(rows, np.ones(len(rows), np.float32), np.arange(users + 1) * SEEN)
    model = Factors(history, item)
    top_n(model, seen.part(0, 8), K, seen.part(0, 8))  # compiled before it is timed
    ours, took = timed(lambda: top_n(model, seen, K, seen))
    theirs, peer = timed(lambda: plain(history, item, seen, K))
    same = float((ours == theirs).all(axis=1).mean())
    print(json.dumps({"histories": users, "items": ITEMS, "kernel": took, "numpy": peer, "same_lists": round(same, 5)}))


if __name__ == "__main__":
    main()
