"""Words of 8 bytes without those that are zero: a mark for each word, and the others one after another.

Rows with room for fifty interactions of a user are nine tenths zeros as long as most users have a few. Marks and words
are those of the memory as it stands, so what comes back is the same to the bit, whatever the words mean.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.kernel import kernel

WORDS_A_MARK = 64
"""Marks are kept 64 in a word, that of the first one in its lowest bit."""
_NONE = np.uint64(0)
_ONE = np.uint64(1)

Words = NDArray[np.uint64]


@kernel
def mark_words(words: Words, marks: Words) -> int:
    """Mark the words that are not zero, and return how many there are.

    Args:
        words: Any, (n,).
        marks: For the result, at least (n + 63) // 64.
    """
    count = 0
    for block in range((len(words) + WORDS_A_MARK - 1) // WORDS_A_MARK):
        start, mark = block * WORDS_A_MARK, _NONE
        for bit in range(min(WORDS_A_MARK, len(words) - start)):
            if words[start + bit] != _NONE:
                mark |= _ONE << np.uint64(bit)
                count += 1
        marks[block] = mark
    return count


@kernel
def take_marked(words: Words, found: Words) -> int:
    """Write the words that are not zero one after another into ``found``, which has room for all; return how many."""
    count = 0
    for place in range(len(words)):
        if words[place] != _NONE:
            found[count] = words[place]
            count += 1
    return count


@kernel
def spread_marked(marks: Words, packed: Words, words: Words) -> bool:
    """Write packed words where they are marked, and return whether there are as many as marks.

    Args:
        marks: At least (n + 63) // 64.
        packed: What ``take_marked`` gave.
        words: All zero, (n,). Those that are not marked are not touched, so that their pages are not paid.
    """
    read = 0
    for block in range((len(words) + WORDS_A_MARK - 1) // WORDS_A_MARK):
        mark, place = marks[block], block * WORDS_A_MARK
        while mark != _NONE:
            if mark & _ONE:
                if read == len(packed) or place >= len(words):
                    return False
                words[place] = packed[read]
                read += 1
            mark >>= _ONE
            place += 1
    return read == len(packed)
