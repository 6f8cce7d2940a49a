"""The best items of rows of scores, and of rows of vectors whose scores are never all in memory.

Products are summed in the order of the dimensions, whatever the block a row is in, so a row alone gets what it gets
among others to the bit, and so on every machine: a BLAS promises neither. On two shared cores this took a third to a
half of the processor time of ``numpy`` products in tiles, whose threads wait for each other at each tile.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.events.kernel import kernel

TILE_ITEMS = 512
"""Items of a tile: with d = 64 its vectors are 128 KiB, which the second cache of a core holds."""
TILE_HISTORIES = 256
"""Histories that meet a tile before the next one is fetched."""
TOGETHER = 4
"""Histories multiplied at once, and dimensions at once: each vector of an item is fetched once for four of them."""
_RUN = 32
"""Scores compared with the least one kept before any of them is looked at alone."""


@kernel
def keep_best(scores: Score, barred: Index, start: NDArray[np.int64], best: Index, worth: Score) -> None:
    """Keep the best items of each row of scores.

    Args:
        scores: Of all items, (rows, items). NaN and -inf are never kept.
        barred: Items that may not be kept, ascending inside each row.
        start: Where those of each row begin and end, (rows + 1,).
        best: Items kept, best first, -1 behind them, (rows, k); changed. k is 1 at least.
        worth: Their scores, -inf behind them; changed. Of equal scores the lower item stands first.
    """
    for row in range(scores.shape[0]):
        _keep(scores[row], 0, barred[start[row] : start[row + 1]], best[row], worth[row])


@kernel
def keep_best_products(
    history: Score, tiles: Score, count: int, barred: Index, start: NDArray[np.int64], best: Index, worth: Score
) -> None:
    """Keep the best items of each history by the product of its vector and the item's.

    Args:
        history: Vectors, (rows, d); rows and d are multiples of ``TOGETHER``, filled up with 0.
        tiles: Vectors of the items, ``TILE_ITEMS`` at a time and each tile by dimension, (tiles, d, TILE_ITEMS).
        count: Items; what stands behind them in the last tile is none.
        barred: As ``keep_best``.
        start: As ``keep_best``.
        best: As ``keep_best``.
        worth: As ``keep_best``.
    """
    scores = np.empty((TOGETHER, TILE_ITEMS), dtype=np.float32)
    for block in range(0, len(history), TILE_HISTORIES):
        for tile in range(len(tiles)):
            first = tile * TILE_ITEMS
            width = min(TILE_ITEMS, count - first)
            for begin in range(block, min(len(history), block + TILE_HISTORIES), TOGETHER):
                _multiply(history[begin : begin + TOGETHER], tiles[tile], scores)
                for each in range(TOGETHER):
                    row = begin + each
                    _keep(scores[each, :width], first, barred[start[row] : start[row + 1]], best[row], worth[row])


@kernel
def _multiply(history: Score, item: Score, scores: Score) -> None:
    """Set the products of a few vectors (TOGETHER, d) with a tile's (d, items), summed dimension by dimension."""
    scores[:] = np.float32(0.0)
    for at in range(0, len(item), TOGETHER):
        a, b, c, d = item[at], item[at + 1], item[at + 2], item[at + 3]
        for row in range(len(history)):
            line = scores[row]
            of_a, of_b, of_c, of_d = history[row, at], history[row, at + 1], history[row, at + 2], history[row, at + 3]
            for place in range(len(line)):
                line[place] = line[place] + of_a * a[place] + of_b * b[place] + of_c * c[place] + of_d * d[place]


@kernel
def _keep(scores: Score, first: int, barred: Index, best: Index, worth: Score) -> None:
    """Keep the best of some items one after another, from ``first`` on, beside those that were kept before."""
    last = len(worth) - 1
    for begin in range(0, len(scores), _RUN):
        end = min(begin + _RUN, len(scores))
        edge = worth[last]
        any_above = False
        for at in range(begin, end):
            any_above |= scores[at] > edge
        if not any_above:
            continue
        for at in range(begin, end):
            if scores[at] > worth[last]:
                _insert(first + at, scores[at], barred, best, worth)


@kernel
def _insert(item: int, score: float, barred: Index, best: Index, worth: Score) -> None:
    """Put an item into its place among those kept, unless it is barred; the last one falls out."""
    place = np.searchsorted(barred, item)
    if place < len(barred) and barred[place] == item:
        return
    at = len(worth) - 1
    while at > 0 and worth[at - 1] < score:
        worth[at] = worth[at - 1]
        best[at] = best[at - 1]
        at -= 1
    worth[at] = score
    best[at] = item
