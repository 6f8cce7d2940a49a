"""Kernels of the scan by cosine: of a column of vectors by item, those that are eligible."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask, Score
from midstream.events.kernel import kernel, signed
from midstream.models.kernels.simd_dot import inner
from midstream.models.kernels.top_k_kernels import keep_greatest, key_of, score_of


@kernel
def scan_directions(query: Score, vectors: Score, scale: Score, eligible: Mask, k: int, keys: NDArray[np.int64]) -> int:
    """Write the keys of the best eligible vectors, and some more, in no order; return how many.

    Keys fill up with what is above the k-th best so far; when they are full, the k best stay. Rows that are not
    eligible are not read.

    Args:
        query: A direction, (1, d).
        vectors: (m, d), m at least the length of ``eligible``.
        scale: Inverse length of each vector, (m,); 0 = it has no direction, and is passed by.
        eligible: (n,).
        k: Number wanted, at least 1.
        keys: (2 k,), or (n,) if that is less: written.
    """
    one = np.empty(1, dtype=np.float32)
    bits = one.view(np.int32)
    filled, threshold = 0, np.float32(-np.inf)
    for row in range(len(eligible)):
        if not eligible[row] or scale[row] == np.float32(0.0):
            continue
        one[0] = inner(vectors, row, query) * scale[row]
        if one[0] > threshold:
            keys[filled] = key_of(bits[0], row)
            filled += 1
            if filled == len(keys) and filled > k:
                keep_greatest(keys, filled, k)
                filled = k
                threshold = score_of(keys[k - 1])
    return filled


@kernel
def score_rows(query: Score, vectors: Score, scale: Score, rows: Index, found: Score) -> None:
    """Write the cosine of a direction (1, d) and each of some rows, (r,); NaN where a vector has no direction.

    A score has the same bits as in ``scan_directions``.
    """
    for place in range(len(rows)):
        row = signed(rows[place])
        found[place] = np.float32(np.nan)
        if scale[row] != np.float32(0.0):
            found[place] = inner(vectors, row, query) * scale[row]
