"""Exact top-k by inner product with a vector, and all products.

An item is one pass over its row: a product in a fixed order (``lanes``), a comparison with the k-th best so far. There
is nothing to build, so a new or changed item is found at once, and nothing to be off by. For vectors that stay
``halves`` keeps what finds the same in half of the time. An index would be faster, and lose a tenth of the best.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.models.kernels.top_k_kernels import frozen, products, scan

_LOW = np.int64(0xFFFFFFFF)
_MAGNITUDE = np.int32(0x7FFFFFFF)


def top_k(query: NDArray[np.float32], items: NDArray[np.float32], k: int) -> tuple[Index, Score]:
    """Return rows and scores of the k items of the highest inner product, best first, of equal ones the lower row.

    A score has the same bits as in ``inner_products``. One that is NaN or −inf is never among them.

    Args:
        query: (d,).
        items: (n, d).
        k: At most so many; less than 1 gives none.

    Returns:
        Rows and scores, (min(k, n),) where all scores are finite. Cost: n × d, with the n log n of nothing.
    """
    wanted = min(k, len(items))
    if wanted < 1:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    keys = np.empty(min(2 * wanted, len(items)), dtype=np.int64)
    filled = scan(frozen(query[None, :]), frozen(items), wanted, keys)
    return answer_of(keys[:filled], wanted)


def answer_of(keys: NDArray[np.int64], k: int) -> tuple[Index, Score]:
    """Return rows and scores of the k greatest of some keys, the greatest first."""
    found = np.sort(keys)[::-1][:k]
    turned = (found >> np.int64(32)).astype(np.int32)
    bits = np.where(turned < 0, turned ^ _MAGNITUDE, turned)
    return (_LOW - (found & _LOW)).astype(np.int32), bits.view(np.float32)


def inner_products(queries: NDArray[np.float32], items: NDArray[np.float32]) -> Score:
    """Return the inner product of each query (q, d) and each item (n, d), (q, n).

    A pair has the same bits whatever else is asked, which a product of matrices of the BLAS does not promise. Cost:
    q × n × d, one thread.
    """
    found = np.empty((len(queries), len(items)), dtype=np.float32)
    products(frozen(queries), frozen(items), found)
    return found
