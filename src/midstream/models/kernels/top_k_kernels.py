"""Kernels of exact top-k: scores as keys that sort as their answer does, and a scan that keeps the best.

A key is one number of 64 bits: the score's bits, turned so that they sort as the score does, above the row counted from
the last. So of two keys the greater is that of the better score or, of equal scores, of the lower row, and no two are
equal.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import kernel
from midstream.models.kernels.simd_dot import EIGHT, inner, inner_eight

_LOW = 0xFFFFFFFF
_MAGNITUDE = 0x7FFFFFFF
BLOCK_ROWS = 256
"""Rows of items that several queries read while they are near: 64 KiB of 64 float32 each."""


@kernel
def key_of(bits: int, row: int) -> int:
    """Return the key of a score, of which the bits are given as int32, and a row."""
    ordered = np.int64(bits)
    if ordered < 0:
        ordered ^= np.int64(_MAGNITUDE)
    return (ordered << 32) | (np.int64(_LOW) - row)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@kernel
def score_of(key: int) -> np.float32:
    """Return the score of which a key was made."""
    one = np.empty(1, dtype=np.int32)
    turned = key >> 32
    one[0] = turned ^ _MAGNITUDE if turned < 0 else turned
    return np.float32(one.view(np.float32)[0])


@kernel
def keep_greatest(keys: NDArray[np.int64], count: int, k: int) -> None:
    """Bring the k greatest of the first ``count`` keys to the front, 0 < k < count, in any order; the k-th last.

    Reference: C. A. R. Hoare, "Algorithm 65: Find", CACM 4(7), 1961; the pivot is the middle one of three.
    """
    low, high, wanted = 0, count - 1, k - 1
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] > keys[low]:
            keys[middle], keys[low] = keys[low], keys[middle]
        if keys[high] > keys[low]:
            keys[high], keys[low] = keys[low], keys[high]
        if keys[high] > keys[middle]:
            keys[high], keys[middle] = keys[middle], keys[high]
        pivot = keys[middle]
        left, right = low, high
        while left <= right:
            while keys[left] > pivot:
                left += 1
            while keys[right] < pivot:
                right -= 1
            if left <= right:
                keys[left], keys[right] = keys[right], keys[left]
                left += 1
                right -= 1
        if wanted <= right:
            high = right
        elif wanted >= left:
            low = left
        else:
            return


@kernel
def scan(query: NDArray[np.float32], items: NDArray[np.float32], k: int, keys: NDArray[np.int64]) -> int:
    """Write the keys of the best items, and some more, in no order; return how many.

    Keys fill up with what is above the k-th best score so far; when they are full, the k best stay. So each item costs
    its product and a comparison, and about 2 k + k log2(n / 2 k) of them a place in the keys.

    Args:
        query: (1, d).
        items: (n, d).
        k: How many are wanted, 1 to n.
        keys: (2 k,), or (n,) if that is less: written.
    """
    some = np.empty(EIGHT, dtype=np.float32)
    bits = some.view(np.int32)
    filled, threshold = 0, np.float32(-np.inf)
    for begin in range(0, len(items), EIGHT):
        count = min(EIGHT, len(items) - begin)
        if count == EIGHT:
            if not inner_eight(items, begin, query, some, threshold):
                continue
        else:
            for number in range(count):
                some[number] = inner(items, begin + number, query)
        for number in range(count):
            if some[number] > threshold:
                keys[filled] = key_of(bits[number], begin + number)
                filled += 1
                if filled == len(keys) and filled > k:
                    keep_greatest(keys, filled, k)
                    filled = k
                    threshold = score_of(keys[k - 1])
    return filled


@kernel
def products(queries: NDArray[np.float32], items: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    """Write the product of each query (q, d) and item (n, d), (q, n)."""
    never = np.float32(np.inf)
    for first in range(0, len(items), BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, len(items))
        for number in range(len(queries)):
            query = queries[number : number + 1]
            row = first
            while row + EIGHT <= last:
                inner_eight(items, row, query, found[number, row : row + EIGHT], never)
                row += EIGHT
            while row < last:
                found[number, row] = inner(items, row, query)
                row += 1


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as kernels take what they only read: without gaps, read-only, so that one version is compiled."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
