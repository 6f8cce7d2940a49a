"""Sorted words with their numbers, in chunks of bounded length, for the words that begin with a text.

A word is put in and taken out in microseconds, whatever the number of words: there is no sort of all of them. What
``beginning_with`` returns depends on the words and numbers alone, not on where chunks begin.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

CHUNK_WORDS_MAX: Final = 1_024
"""A longer chunk is halved: an insertion moves 8 KB at most, and 262,144 words have some 400 chunks."""
_AFTER: Final = "\U0010ffff"
"""A code point that is no letter or digit, after all that are."""


class SortedWords:
    """Distinct words in the order of their code points, each with a number."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        """Begin with some words. Cost: one sort."""
        words = sorted(numbers)
        step = CHUNK_WORDS_MAX // 2
        self._chunks = [words[start : start + step] for start in range(0, len(words), step)]
        self._numbers = [array("i", [numbers[word] for word in chunk]) for chunk in self._chunks]
        self._firsts = [chunk[0] for chunk in self._chunks]

    def add(self, word: str, number: int) -> None:
        """Put in a word that is not there. Cost: 2 µs."""
        if not self._chunks:
            self._chunks, self._numbers, self._firsts = [[word]], [array("i", [number])], [word]
            return
        chunk, place = self._place(word)
        self._chunks[chunk].insert(place, word)
        self._numbers[chunk].insert(place, number)
        self._firsts[chunk] = self._chunks[chunk][0]
        if len(self._chunks[chunk]) > CHUNK_WORDS_MAX:
            self._halve(chunk)

    def remove(self, word: str) -> None:
        """Take out a word that is there. Cost: 2 µs."""
        chunk, place = self._place(word)
        del self._chunks[chunk][place], self._numbers[chunk][place]
        if not self._chunks[chunk]:
            del self._chunks[chunk], self._numbers[chunk], self._firsts[chunk]
            return
        self._firsts[chunk] = self._chunks[chunk][0]
        for first in (chunk, chunk - 1):
            self._unite(first)

    def beginning_with(self, text: str) -> NDArray[np.int32]:
        """Return the numbers of the words that begin with a text, in the order of the words.

        Cost: 1 µs a chunk of them, and 1 ns a word.
        """
        if not self._chunks:
            return np.empty(0, dtype=np.int32)
        (first, start), (last, stop) = self._place(text), self._place(text + _AFTER)
        parts = self._numbers[first : last + 1]
        parts[-1] = parts[-1][:stop]
        parts[0] = parts[0][start:]
        return np.concatenate([np.frombuffer(part, dtype=np.int32) for part in parts if part] or [_NO_NUMBERS])

    def _place(self, word: str) -> tuple[int, int]:
        """Return the chunk of a word and its place there."""
        chunk = max(0, bisect_right(self._firsts, word) - 1)
        return chunk, bisect_left(self._chunks[chunk], word)

    def _halve(self, chunk: int) -> None:
        middle = len(self._chunks[chunk]) // 2
        self._chunks.insert(chunk + 1, self._chunks[chunk][middle:])
        self._numbers.insert(chunk + 1, self._numbers[chunk][middle:])
        self._firsts.insert(chunk + 1, self._chunks[chunk + 1][0])
        del self._chunks[chunk][middle:], self._numbers[chunk][middle:]

    def _unite(self, first: int) -> None:
        """Make one chunk of two neighbours that are short, so the number of chunks follows that of words."""
        if first < 0 or first + 1 >= len(self._chunks):
            return
        if len(self._chunks[first]) + len(self._chunks[first + 1]) > CHUNK_WORDS_MAX // 2:
            return
        self._chunks[first] += self._chunks.pop(first + 1)
        self._numbers[first] += self._numbers.pop(first + 1)
        del self._firsts[first + 1]


_NO_NUMBERS: Final = np.empty(0, dtype=np.int32)
