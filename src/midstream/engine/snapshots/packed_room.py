"""Packed array of a file on its way into the memory of a table: pieces are spread as they come, and none is held.

The marks come first, so it is known how many words each stretch of the memory takes. A stretch is read, and written
where it belongs while the next one is read, by a second thread where there is one: most of the time is memory that is
touched for the first time, in which a thread of a virtual machine waits for its host.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.packed_words import WORDS_A_MARK, spread_marked

MARKS_AT_ONCE: Final = 1 << 16
"""Of a stretch: 32 MiB of memory, of which half comes at most, and a tenth where nine tenths of the words are zeros."""

Words = NDArray[np.uint64]
Octets = NDArray[np.uint8]


def mark_count(words: int) -> int:
    """Return how many words of marks so many words have."""
    return -(-words // WORDS_A_MARK)


def read_only(words: Words) -> Words:
    """Return a view that is always of the one type that the kernels are compiled for."""
    found = words.view()
    found.flags.writeable = False
    return found


def unpack(fill: Callable[[Octets], bool], words: Words, beside: ThreadPoolExecutor | None) -> bool:
    """Spread packed words over memory; return False where they are not as many as their marks say.

    Nothing needs to be right: whoever calls throws the memory away unless the hash of the file is.

    Args:
        fill: Puts the next bytes of the file into an array; False = it ended before.
        words: The memory, all zero.
        beside: Writes half of the stretches; None = this thread writes all.
    """
    marks = np.empty(mark_count(len(words)), dtype=np.uint64)
    is_whole, pending = fill(marks.view(np.uint8)), None
    for start in range(0, len(marks), MARKS_AT_ONCE):
        marked = marks[start : start + MARKS_AT_ONCE]
        packed = np.empty(int(np.bitwise_count(marked).sum()), dtype=np.uint64)
        is_whole = is_whole and fill(packed.view(np.uint8))
        if not is_whole:
            break
        at = slice(start * WORDS_A_MARK, (start + MARKS_AT_ONCE) * WORDS_A_MARK)
        spread = partial(spread_marked, read_only(marked), read_only(packed), words[at])
        if beside is None or not (pending is None or pending.done()):
            is_whole = spread()
        else:
            is_whole = _is_right(pending)
            pending = beside.submit(spread)
    return _is_right(pending) and is_whole


def _is_right(pending: Future[bool] | None) -> bool:
    """Return what the other thread found of its stretch; True where it has none."""
    return pending is None or pending.result()
