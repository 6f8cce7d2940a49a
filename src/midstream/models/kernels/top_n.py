"""Top-n lists of many histories at once, for the evaluation on a whole data set.

Where a model is a product of two sets of vectors (``FactorModel``) one kernel multiplies and keeps the best of small
tiles, so that the scores never leave the cache; for any other model ``scores`` of a block are computed. Items that may
not be recommended are looked up only for the few that would enter a list: about k × ln(items / k) a row.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.models.histories import Histories
from midstream.models.kernels.top_n_kernels import TILE_ITEMS, TOGETHER, keep_best, keep_best_products
from midstream.models.model import ItemModel

_BLOCK_SCORES = 16_777_216
"""Scores of a model without vectors that are in memory at once: 64 MiB."""
_THREADS = 2
_PART_ROWS = 1_024
"""Histories that a thread takes at once; a multiple of ``TOGETHER``."""


@runtime_checkable
class FactorModel(Protocol):
    """An item model whose scores are products of two vectors, to rounding."""

    def item_vectors(self) -> Score:
        """Return the vector of each item, (items, d)."""
        ...

    def history_vectors(self, histories: Histories) -> Score:
        """Return the vector of each history, (histories, d)."""
        ...


def top_n(model: ItemModel, histories: Histories, k: int, removed: Histories | None = None) -> Index:
    """Return the k items of the highest scores of each history, best first, equal ones by row; (histories, k).

    All items of the vocabulary are ranked. A ``FactorModel`` is asked for vectors instead of scores, so items whose
    scores differ by rounding alone may stand the other way round than by ``scores``.

    Args:
        model: What ranks.
        histories: What it is asked about.
        k: Length of a list.
        removed: Items that may not be in the list of each history, row for row; None = all may be.

    Returns:
        Rows of the vocabulary, filled up with -1 where no more items may be recommended.

    Cost: with vectors d multiplications a score; without, that of ``scores`` and a look at each score.
    """
    nothing: list[list[int]] = [[]] * len(histories)
    barred = Histories.of(nothing) if removed is None else removed
    # Rows behind the last history are multiplied with it and forgotten.
    spare = -len(histories) % TOGETHER
    rows, start = _ascending(barred), np.append(barred.start, np.full(spare, barred.start[-1]))
    best = np.full((len(histories) + spare, k), -1, dtype=np.int32)
    worth = np.full(best.shape, -np.inf, dtype=np.float32)
    count = len(model.vocabulary)
    if best.size == 0 or count == 0:
        return best[: len(histories)]
    if isinstance(model, FactorModel):
        item, asked = _tiles(model.item_vectors()), _filled(model.history_vectors(histories))

        def multiply(low: int, high: int) -> None:
            part = slice(low, high)
            keep_best_products(asked[part], item, count, rows, start[low : high + 1], best[part], worth[part])

        _in_threads(multiply, 0, len(asked))
        return best[: len(histories)]
    size = max(1, _BLOCK_SCORES // count)
    for begin in range(0, len(histories), size):
        end = min(len(histories), begin + size)
        scores = model.scores(histories.part(begin, end))

        def keep(low: int, high: int, scores: Score = scores, begin: int = begin) -> None:
            lines = scores[low - begin : high - begin]
            keep_best(lines, rows, start[low : high + 1], best[low:high], worth[low:high])

        _in_threads(keep, begin, end)
    return best[: len(histories)]


def _in_threads(work: Callable[[int, int], None], begin: int, end: int) -> None:
    """Do work on rows from one to before another, in parts, by threads; the kernels hold no lock."""
    edges = [*range(begin, end, _PART_ROWS), end]
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(work, edges[:-1], edges[1:]):
            continue


def _tiles(item: Score) -> Score:
    """Return the vectors of items as the kernel reads them: tiles by dimension, filled up with 0."""
    count, size = item.shape
    tiles = np.zeros((-(-count // TILE_ITEMS), TILE_ITEMS, size + -size % TOGETHER), dtype=np.float32)
    tiles.reshape(-1, tiles.shape[2])[:count, :size] = item
    return np.ascontiguousarray(tiles.transpose(0, 2, 1))


def _filled(history: Score) -> Score:
    """Return vectors with rows and dimensions of 0 up to the next multiple of what is multiplied together."""
    rows, size = history.shape
    return np.pad(history.astype(np.float32, copy=False), ((0, -rows % TOGETHER), (0, -size % TOGETHER)))


def _ascending(histories: Histories) -> NDArray[np.int32]:
    """Return the items of each history in ascending order, one history after another."""
    who = np.repeat(np.arange(len(histories)), np.diff(histories.start))
    return histories.row[np.lexsort((histories.row, who))]
