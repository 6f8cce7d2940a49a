"""Proposals of several sources as rows of distinct items: what each source said of each item, side by side.

Beside the structures, because it marks items by index in room that they share the size of; nothing here is state.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.state.structures.kernel import kernel


@kernel
def merge_rows(
    stacked: Index,
    values: Score,
    counts: NDArray[np.int64],
    place: Index,
    distinct: Index,
    score: NDArray[np.float32],
    rank: NDArray[np.int32],
) -> int:
    """Write the distinct items in order of first proposal, and each source's score and rank of them.

    Of an item that a source proposes more than once the first place counts, and the others take no rank.

    Args:
        stacked: Proposed items, source after source, shape (p,).
        values: The sources' scores of them, shape (p,).
        counts: How many each source proposed, shape (s,).
        place: Room for a number an item, with whatever was left there.
        distinct: Filled from the front, shape (p,).
        score: Filled, shape (s, p), from the front of each row, with NaN where a source did not propose the item.
        rank: Filled in the same way, 0 = the source's best, -1 = not proposed.

    Returns:
        The number of distinct items.
    """
    for at in range(len(stacked)):
        place[stacked[at]] = -1
    score[:] = np.nan
    rank[:] = -1
    found = 0
    start = 0
    for source in range(len(counts)):
        place_in_source = 0
        for own in range(counts[source]):
            item = stacked[start + own]
            row = place[item]
            if row < 0:
                row = found
                place[item] = found
                distinct[found] = item
                found += 1
            if rank[source, row] < 0:
                score[source, row] = values[start + own]
                rank[source, row] = place_in_source
                place_in_source += 1
        start += counts[source]
    return found
