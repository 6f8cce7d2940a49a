"""Inverted index of the words in some attributes of items, for full-text search by BM25.

The index follows every item event, so a search has an item from the moment the catalogue names it, and a deleted item
is gone at once. Texts are normalized by NFKC and case folding, and cut into runs of letters and digits. Of an item the
first ``ITEM_WORDS_MAX`` words count. Distinct words and entries have maxima; beyond them words are left out, and
counted.

The score of an item is the sum over the words of the query of idf · tf · (k + 1) / (tf + k · (1 − b + b · length / mean
length)), with idf = log2(1 + (n − m + ½) / (m + ½)) for a word that m of n items have. The last word of a query may be
the beginning of a word: those that begin so count together as one word, at half of its worth where it is not whole.
Logarithms are ``log2_of``, and sums have the order of the query, so scores have the same bits on every CPU.

Reference: S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", Foundations and
Trends in Information Retrieval 3(4), 2009, equation 3.15.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.core.types import Index, Mask
from midstream.state.settings import FoldSettings
from midstream.state.structures.exact_math import log2_of

WORDS_MAX: Final = 262_144
"""Distinct words: a catalogue of 200,000 titles has some 100,000. About 250 bytes each."""
ENTRIES_MAX: Final = 4_194_304
"""Pairs of an item and a word: 20 words of 200,000 items. 16 bytes each."""
ITEM_WORDS_MAX: Final = 256
"""Words of an item that count, repetitions included."""
QUERY_WORDS_MAX: Final = 16
"""Words of a query that count, the first ones."""
QUERY_ENTRIES_MAX: Final = 400_000
"""Entries that a query reads, those of its rarest words: 5 ms. Words beyond are in too many items to matter."""
PREFIX_WORDS_MAX: Final = 64
"""Words that the last one of a query may stand for: those that most items have, of the first ``_SCANNED_MAX``."""
WORD_BYTES_MAX: Final = 64
_SCANNED_MAX: Final = 4_096
_FRESH_MAX: Final = 4_096
"""Words that are not sorted yet: they are looked through one by one."""
_PART: Final = 0.5
"""Worth of a word that only begins as the last one of the query does."""
_K: Final = 1.2
_B: Final = 0.75
_BYTES_OF_WORD: Final = 250
_BYTES_OF_ENTRY: Final = 16
_WORD: Final = re.compile(r"[^\W_]+")
_COUNT_BITS: Final = 16
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
Real = NDArray[np.float64]


def text_index_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table, 0 where no attribute is searched."""
    if not settings.search:
        return 0
    return WORDS_MAX * _BYTES_OF_WORD + ENTRIES_MAX * _BYTES_OF_ENTRY + 4 * settings.limits.items_max


def words_of(text: str) -> list[str]:
    """Return the words of a text in their order, normalized.

    Example:
        >>> words_of("Crème-Brûlée №2, ＢＲＡＳＳ straße")
        ['crème', 'brûlée', 'no2', 'brass', 'strasse']
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(folded)


class Matches(NamedTuple):
    """Items that have words of a query."""

    item_index: Index
    """Ascending, (n,)."""
    score: Real
    """BM25, above 0, (n,)."""
    words: NDArray[np.int64]
    """How many of the query's words that were looked for each has, (n,)."""
    asked: int
    """How many were looked for: the most common words of a long query are not."""


NO_MATCHES: Final = Matches(np.empty(0, np.int32), np.empty(0, np.float64), np.empty(0, np.int64), 0)


class TextIndex:
    """Entries of each word: an item and how often it has the word."""

    def __init__(self, settings: FoldSettings) -> None:
        """Begin empty."""
        self._attributes = settings.search
        self._length = np.zeros(settings.limits.items_max if settings.search else 0, dtype=np.int32)
        self._bytes_max = text_index_bytes(settings)
        self._clear()

    def _clear(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words: list[str] = []
        self._entries: list[array[int]] = []
        """By word: item << 16 | count, in the order in which they came."""
        self._of_item: dict[int, array[int]] = {}
        """By item: word << 16 | count, ascending."""
        self._sorted: list[str] = []
        """All words but the fresh ones, sorted. No state of its own."""
        self._fresh: list[str] = []
        self._length[:] = 0
        self._entry_count = 0
        self._length_sum = 0
        self.refused_count = 0
        """Words of items that were left out, as there was no room for them. Part of the state."""

    @property
    def is_declared(self) -> bool:
        """Whether an attribute is searched."""
        return bool(self._attributes)

    @property
    def item_count(self) -> int:
        """Number of items that have words."""
        return len(self._of_item)

    @property
    def bytes_now(self) -> int:
        """Memory of what is held, about."""
        return len(self._words) * _BYTES_OF_WORD + self._entry_count * _BYTES_OF_ENTRY + self._length.nbytes

    @property
    def bytes_max(self) -> int:
        """Memory when all words and entries are there."""
        return self._bytes_max

    def apply(self, step: FoldStep) -> None:
        """Fold nothing: ``Items`` puts documents in, event by event."""

    def put(self, item: int, document: Mapping[str, object]) -> None:
        """Replace the words of an item by those of a document. Cost: about 20 µs."""
        if self._attributes:
            self._put(item, self._read(document))

    def matches(self, query: str, eligible: Mask, *, prefix: bool = True) -> Matches:
        """Return the eligible items that have a word of a query.

        Args:
            query: Text; its first ``QUERY_WORDS_MAX`` distinct words count.
            eligible: By item index, (items_max,).
            prefix: The last word may be the beginning of one, unless something other than a letter or digit follows.

        Returns:
            All of them. Cost: 0.1 ms, and 10 ns an entry of the words.
        """
        words = list(dict.fromkeys(words_of(query)))[:QUERY_WORDS_MAX]
        if not words or not self._of_item:
            return NO_MATCHES
        is_open = prefix and bool(_WORD.fullmatch(unicodedata.normalize("NFKC", query)[-1:] or " "))
        found = [self._entries_of(word, is_open=is_open and word == words[-1]) for word in words]
        rarest = sorted(range(len(found)), key=lambda place: (len(found[place][0]), place))
        read, kept = 0, set[int]()
        for place in rarest:
            read += len(found[place][0])
            if read <= QUERY_ENTRIES_MAX or not kept:
                kept.add(place)
        return self._scored([found[place] for place in sorted(kept)], eligible)

    def _scored(self, found: Sequence[tuple[Index, Real]], eligible: Mask) -> Matches:
        size = len(self._length)
        score, words = np.zeros(size), np.zeros(size, dtype=np.int64)
        mean = self._length_sum / len(self._of_item)
        for items, counts in found:
            if not len(items):
                continue
            idf = log2_of(1.0 + (len(self._of_item) - len(items) + 0.5) / (len(items) + 0.5))
            weight = counts + _K * (1.0 - _B + _B * self._length[items] / mean)
            score[items] += idf * counts * (_K + 1.0) / weight
            words[items] += 1
        chosen = np.flatnonzero((words > 0) & eligible[:size]).astype(np.int32)
        return Matches(chosen, score[chosen], words[chosen], len(found))

    def _entries_of(self, word: str, *, is_open: bool) -> tuple[Index, Real]:
        """Return the items that have a word, ascending, and how often; each once."""
        own = self._numbers.get(word, -1)
        numbers = [own] if own >= 0 else []
        if is_open:
            numbers += [each for each in self._beginning_with(word) if each != own]
        if not numbers:
            return np.empty(0, np.int32), np.empty(0, np.float64)
        parts = [np.frombuffer(self._entries[each], dtype=np.uint64) for each in numbers]
        packed = np.concatenate(parts)
        items = (packed >> np.uint64(_COUNT_BITS)).astype(np.int32)
        worth = np.repeat([1.0 if each == own else _PART for each in numbers], [len(part) for part in parts])
        counts = (packed & np.uint64(_COUNT_MASK)).astype(np.float64) * worth
        distinct, place = np.unique(items, return_inverse=True)
        most = np.zeros(len(distinct))
        np.maximum.at(most, place, counts)
        return distinct, most

    def _beginning_with(self, text: str) -> list[int]:
        """Return the numbers of words that begin with a text: those that most items have."""
        first = bisect_left(self._sorted, text)
        found: list[str] = []
        for word in self._sorted[first : first + _SCANNED_MAX]:
            if not word.startswith(text):
                break
            found.append(word)
        found += [word for word in self._fresh if word.startswith(text)]
        found.sort(key=lambda word: (-len(self._entries[self._numbers[word]]), word))
        return [self._numbers[word] for word in found[:PREFIX_WORDS_MAX]]

    def _read(self, document: Mapping[str, object]) -> Counter[str]:
        """Return the words of a document with their counts."""
        texts: list[str] = []
        for name in self._attributes:
            value = document.get(name)
            texts += [value] if isinstance(value, str) else _texts(value)
        words = [word for text in texts for word in words_of(text)][:ITEM_WORDS_MAX]
        return Counter(word for word in words if len(word.encode()) <= WORD_BYTES_MAX)

    def _put(self, item: int, words: Mapping[str, int]) -> None:
        """Replace the words of an item."""
        before = self._of_item.get(item, array("Q"))
        room = ENTRIES_MAX - self._entry_count + len(before)
        held: list[int] = []
        for word, count in words.items():
            number = self._number(word)
            if number < 0 or len(held) >= room:
                self.refused_count += 1
                continue
            held.append(number << _COUNT_BITS | count)
        if (after := array("Q", sorted(held))) != before:
            self._drop(item, before)
            self._hold(item, after)

    def _drop(self, item: int, held: "array[int]") -> None:
        for each in held:
            entries = self._entries[each >> _COUNT_BITS]
            del entries[_place_of(entries, item)]
        self._entry_count -= len(held)
        self._length_sum -= int(self._length[item])
        self._length[item] = 0
        self._of_item.pop(item, None)

    def _hold(self, item: int, held: "array[int]") -> None:
        if not held:
            return
        for each in held:
            self._entries[each >> _COUNT_BITS].append(item << _COUNT_BITS | each & _COUNT_MASK)
        self._of_item[item] = held
        self._entry_count += len(held)
        self._length[item] = sum(each & _COUNT_MASK for each in held)
        self._length_sum += int(self._length[item])

    def _number(self, word: str) -> int:
        """Return the number of a word, a new one where it has none; -1 = there is no room."""
        number = self._numbers.get(word, -1)
        if number >= 0 or len(self._words) >= WORDS_MAX:
            return number
        self._add_word(word)
        self._fresh.append(word)
        if len(self._fresh) > _FRESH_MAX:
            self._sorted = sorted([*self._sorted, *self._fresh])
            self._fresh = []
        return len(self._words) - 1

    def _add_word(self, word: str) -> None:
        self._numbers[word] = len(self._words)
        self._words.append(word)
        self._entries.append(array("Q"))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the words by number, and item, word and count of each entry, by item and word."""
        texts = [word.encode() for word in self._words]
        rows = [np.frombuffer(each, dtype=np.uint64) for each in self._entries]
        packed = np.concatenate(rows) if rows else np.empty(0, dtype=np.uint64)
        words = np.repeat(np.arange(len(rows), dtype=np.int32), [len(each) for each in rows])
        items = (packed >> np.uint64(_COUNT_BITS)).astype(np.int32)
        order = np.lexsort((words, items))
        return {
            "text": np.frombuffer(b"".join(texts), dtype=np.uint8).copy(),
            "text_length": np.array([len(each) for each in texts], dtype=np.int32),
            "item": items[order],
            "word": words[order].astype(np.int32),
            "count": (packed[order] & np.uint64(_COUNT_MASK)).astype(np.uint16),
            "refused": np.array([self.refused_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the index by what ``arrays`` returned. Cost: 1 s for 4 million entries."""
        self._clear()
        for word in _cut(arrays["text"].tobytes(), arrays["text_length"].tolist()):
            self._add_word(word)
        self._sorted = sorted(self._words)
        items, words, counts = (arrays[name].astype(np.int64) for name in ("item", "word", "count"))
        packed = (words << _COUNT_BITS | counts).tolist()
        bounds = [*np.flatnonzero(np.diff(items, prepend=-1)).tolist(), len(items)]
        for start, stop in pairwise(bounds):
            self._hold(int(items[start]), array("Q", packed[start:stop]))
        self.refused_count = int(arrays["refused"][0])


def _place_of(entries: "array[int]", item: int) -> int:
    """Return the place of an item among the entries of a word that it has."""
    return int(np.flatnonzero(np.frombuffer(entries, dtype=np.uint64) >> np.uint64(_COUNT_BITS) == item)[0])


def _texts(value: object) -> list[str]:
    """Return the texts of a list; of anything else none."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _cut(text: bytes, lengths: Sequence[int]) -> Iterator[str]:
    start = 0
    for length in lengths:
        yield text[start : start + length].decode()
        start += length
