"""Inverted index of the words in some attributes of items, for full-text search by BM25.

The index follows every item event, so a search has an item from the moment the catalogue names it, and a deleted item
is gone at once. Texts are normalized by NFKC and case folding, and cut into runs of letters and digits. Of an item the
first ``ITEM_WORDS_MAX`` words count. Distinct words and entries have maxima; beyond them words are left out, and
counted. A word that no item has any more gives its number back. Answers follow from words, numbers and entries alone,
so those after a restore are those before it.

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
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.core.types import Index, Mask
from midstream.state.search.sorted_words import SortedWords
from midstream.state.settings import FoldSettings
from midstream.state.structures.exact_math import log2_of

WORDS_MAX: Final = 262_144
"""Distinct words: a catalogue of 200,000 titles has some 100,000. About 250 bytes each."""
ENTRIES_MAX: Final = 4_194_304
"""Pairs of an item and a word: 20 words of 200,000 items. 17 bytes each."""
ITEM_WORDS_MAX: Final = 256
"""Words of an item that count, repetitions included."""
QUERY_WORDS_MAX: Final = 16
"""Words of a query that count, the first ones."""
QUERY_ENTRIES_MAX: Final = 400_000
"""Entries that a query reads, those of its rarest words: 5 ms. Words beyond are in too many items to matter. The words
that a beginning stands for are chosen within it before any entry is read."""
PREFIX_WORDS_MAX: Final = 64
"""Words that the last one of a query may stand for beside itself: those that most items have."""
WORD_BYTES_MAX: Final = 64
_PART: Final = 0.5
"""Worth of a word that only begins as the last one of the query does."""
_K: Final = 1.2
_B: Final = 0.75
_BYTES_OF_WORD: Final = 250
"""Of a word of 12 letters: its text, number, table of entries, and places in two tables of words."""
_BYTES_OF_ENTRY: Final = 17
"""8 by word and 8 by item, with the room in which they grow."""
_BYTES_OF_ITEM: Final = 160
"""Table of words of an item and its place by item."""
_BYTES_OF_MATCH: Final = 13
_WORD: Final = re.compile(r"[^\W_]+")
_COUNT_BITS: Final = 16
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
Real = NDArray[np.float64]


def text_index_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table, 0 where no attribute is searched."""
    if not settings.search:
        return 0
    items = settings.limits.items_max * (_BYTES_OF_ITEM + _BYTES_OF_MATCH + 4)
    return WORDS_MAX * _BYTES_OF_WORD + ENTRIES_MAX * _BYTES_OF_ENTRY + items


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
    words: NDArray[np.uint8]
    """How many of the query's words that were looked for each has, (n,)."""
    asked: int
    """How many were looked for: the most common words of a long query are not."""


NO_MATCHES: Final = Matches(np.empty(0, np.int32), np.empty(0, np.float64), np.empty(0, np.uint8), 0)


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
        """By number; empty = the number was given back."""
        self._free: list[int] = []
        """Heap of the numbers that were given back."""
        self._entries: list[array[int]] = []
        """By word: item << 16 | count, ascending."""
        self._sizes = array("i")
        """By word: number of entries."""
        self._of_item: dict[int, array[int]] = {}
        """By item: word << 16 | count, ascending."""
        self._sorted = SortedWords({})
        self._answer: tuple[tuple[str, bool], Matches] | None = None
        """The last query and its matches, until a document changes: source, filter and explanation ask the same."""
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
        held = len(self._numbers) * _BYTES_OF_WORD + self._entry_count * _BYTES_OF_ENTRY + self._length.nbytes
        matches = len(self._answer[1].item_index) if self._answer else 0
        return held + len(self._of_item) * _BYTES_OF_ITEM + matches * _BYTES_OF_MATCH

    @property
    def bytes_max(self) -> int:
        """Memory when all words and entries are there."""
        return self._bytes_max

    def apply(self, step: FoldStep) -> None:
        """Fold nothing: ``Items`` puts documents in, event by event."""

    def put(self, item: int, document: Mapping[str, object]) -> None:
        """Replace the words of an item by those of a document.

        Cost: about 20 µs of a new item of 20 words. Of a change, 1 µs and the move of the entries behind it for each
        word that differs: at 200,000 items 0.3 ms for 20 other words, 1.4 ms for 256.
        """
        if self._attributes:
            self._put(item, self._read(document))

    def matches(self, query: str, eligible: Mask, *, prefix: bool = True) -> Matches:
        """Return the eligible items that have a word of a query.

        Args:
            query: Text; its first ``QUERY_WORDS_MAX`` distinct words count.
            eligible: By item index, (items_max,).
            prefix: The last word may be the beginning of one, unless something other than a letter or digit follows.

        Returns:
            All of them. Cost: 0.1 ms, and 10 ns an entry of the words, of which ``QUERY_ENTRIES_MAX`` are read. The
            same query again costs 1 ns an item until a document changes.
        """
        if self._answer is None or self._answer[0] != (query, prefix):
            self._answer = (query, prefix), self._found(query, prefix=prefix)
        found = self._answer[1]
        kept = eligible[found.item_index]
        return Matches(found.item_index[kept], found.score[kept], found.words[kept], found.asked)

    def _found(self, query: str, *, prefix: bool) -> Matches:
        """Return the items that have a word of a query, eligible or not."""
        words = list(dict.fromkeys(words_of(query)))[:QUERY_WORDS_MAX]
        if not words or not self._of_item:
            return NO_MATCHES
        is_open = prefix and bool(_WORD.fullmatch(unicodedata.normalize("NFKC", query)[-1:] or " "))
        meant = [self._meant(word, is_open=is_open and word == words[-1]) for word in words]
        sizes = [sum(self._sizes[each] for each in numbers) for numbers in meant]
        read, kept = 0, set[int]()
        for place in sorted(range(len(words)), key=lambda place: (sizes[place], place)):
            read += sizes[place]
            if read <= QUERY_ENTRIES_MAX or not kept:
                kept.add(place)
        return self._scored([self._entries_of(words[place], meant[place]) for place in sorted(kept)])

    def _scored(self, found: Sequence[tuple[Index, Real]]) -> Matches:
        size = len(self._length)
        score, words = np.zeros(size), np.zeros(size, dtype=np.uint8)
        mean = self._length_sum / len(self._of_item)
        for items, counts in found:
            if not len(items):
                continue
            idf = log2_of(1.0 + (len(self._of_item) - len(items) + 0.5) / (len(items) + 0.5))
            weight = counts + _K * (1.0 - _B + _B * self._length[items] / mean)
            score[items] += idf * counts * (_K + 1.0) / weight
            words[items] += 1
        chosen = np.flatnonzero(words).astype(np.int32)
        return Matches(chosen, score[chosen], words[chosen], len(found))

    def _meant(self, word: str, *, is_open: bool) -> list[int]:
        """Return the numbers of the words that one of the query stands for: itself, then those that begin so.

        Of those that begin so come the ones that most items have, as far as ``PREFIX_WORDS_MAX`` and the entries of
        a query allow. The choice follows from the words and their entries alone.
        """
        own = self._numbers.get(word, -1)
        numbers = [own] if own >= 0 else []
        read = self._sizes[own] if own >= 0 else 0
        for each in self._most_common(word) if is_open else ():
            read += self._sizes[each]
            if read > QUERY_ENTRIES_MAX and numbers:
                break
            if each != own:
                numbers.append(each)
            else:
                read -= self._sizes[each]
        return numbers

    def _most_common(self, text: str) -> list[int]:
        """Return the numbers of the words that begin with a text and that most items have; equal ones by the word."""
        numbers = self._sorted.beginning_with(text)
        sizes = np.frombuffer(self._sizes, dtype=np.int32)[numbers] if len(numbers) else numbers
        wanted = PREFIX_WORDS_MAX + 1  # one of them may be the text itself
        if len(numbers) > wanted:
            least = int(np.partition(sizes, len(sizes) - wanted)[len(sizes) - wanted])
            more = np.flatnonzero(sizes > least)
            chosen = np.concatenate((more, np.flatnonzero(sizes == least)[: wanted - len(more)]))
            numbers, sizes = numbers[chosen], sizes[chosen]
        found: list[int] = numbers[np.argsort(-sizes, kind="stable")].tolist()
        return found

    def _entries_of(self, word: str, numbers: Sequence[int]) -> tuple[Index, Real]:
        """Return the items that have one of some words, ascending, and how often; each once.

        Of a word that more items have than a query reads, the items with the highest indices count.
        """
        own = self._numbers.get(word, -1)
        if len(numbers) == 1:
            return self._entries_of_one(numbers[0], 1.0 if numbers[0] == own else _PART)
        most = np.zeros(len(self._length))
        for each in numbers:
            items, counts = self._entries_of_one(each, 1.0 if each == own else _PART)
            most[items] = np.maximum(most[items], counts)
        items = np.flatnonzero(most).astype(np.int32)
        return items, most[items]

    def _entries_of_one(self, number: int, worth: float) -> tuple[Index, Real]:
        packed = np.frombuffer(self._entries[number], dtype=np.uint64)[-QUERY_ENTRIES_MAX:]
        items = (packed >> np.uint64(_COUNT_BITS)).astype(np.int32)
        return items, (packed & np.uint64(_COUNT_MASK)).astype(np.float64) * worth

    def _read(self, document: Mapping[str, object]) -> Counter[str]:
        """Return the words of a document with their counts."""
        texts: list[str] = []
        for name in self._attributes:
            value = document.get(name)
            texts += [value] if isinstance(value, str) else _texts(value)
        words = [word for text in texts for word in words_of(text)][:ITEM_WORDS_MAX]
        return Counter(word for word in words if len(word.encode()) <= WORD_BYTES_MAX)

    def _put(self, item: int, words: Mapping[str, int]) -> None:
        """Replace the words of an item: only what differs is taken out and put in."""
        before = self._of_item.get(item, array("Q"))
        held = {each >> _COUNT_BITS: each & _COUNT_MASK for each in before}
        for number in [each for each in held if self._words[each] not in words]:
            self._take(number, item)
            del held[number]  # the number may be that of another word below
        after: dict[int, int] = {}
        for word, count in words.items():
            number = self._numbers.get(word, -1)
            if number not in held and (number := self._room(word, number)) < 0:
                self.refused_count += 1
                continue
            after[number] = count
            if held.get(number) != count:
                self._enter(number, item, count)
        packed = array("Q", sorted(number << _COUNT_BITS | count for number, count in after.items()))
        if packed != before:
            self._hold(item, packed)

    def _take(self, number: int, item: int) -> None:
        """Take an item out of the entries of a word; a word without entries gives its number back."""
        self._answer = None
        entries = self._entries[number]
        del entries[bisect_left(entries, item << _COUNT_BITS)]
        self._sizes[number] -= 1
        self._entry_count -= 1
        if not entries:
            word = self._words[number]
            self._sorted.remove(word)
            del self._numbers[word]
            self._words[number] = ""
            heappush(self._free, number)

    def _enter(self, number: int, item: int, count: int) -> None:
        """Put an item with its count into the entries of a word, or replace its count."""
        self._answer = None
        entries, packed = self._entries[number], item << _COUNT_BITS | count
        place = bisect_left(entries, item << _COUNT_BITS)
        if place < len(entries) and entries[place] >> _COUNT_BITS == item:
            entries[place] = packed
            return
        entries.insert(place, packed)
        self._sizes[number] += 1
        self._entry_count += 1

    def _hold(self, item: int, held: "array[int]") -> None:
        """Keep the words of an item, none with an empty array."""
        self._length_sum -= int(self._length[item])
        self._length[item] = sum(each & _COUNT_MASK for each in held)
        self._length_sum += int(self._length[item])
        if held:
            self._of_item[item] = held
        else:
            self._of_item.pop(item, None)

    def _room(self, word: str, number: int) -> int:
        """Return the number of a word that is to have one more entry, a new one where it has none; -1 = no room.

        A new word has the lowest number that was given back, so numbers follow from the words that have entries.
        """
        if self._entry_count >= ENTRIES_MAX:
            return -1
        if number >= 0:
            return number
        if self._free:
            number = heappop(self._free)
        elif len(self._words) < WORDS_MAX:
            number = self._add_number()
        else:
            return -1
        self._words[number] = word
        self._numbers[word] = number
        self._sorted.add(word, number)
        return number

    def _add_number(self) -> int:
        self._words.append("")
        self._entries.append(array("Q"))
        self._sizes.append(0)
        return len(self._words) - 1

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the words by number, empty = given back; and item, word and count of each entry, by item and word."""
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
            self._words[self._add_number()] = word
        self._numbers = {word: number for number, word in enumerate(self._words) if word}
        self._free = [number for number, word in enumerate(self._words) if not word]  # ascending: a heap
        self._sorted = SortedWords(self._numbers)
        items, words, counts = (arrays[name].astype(np.int64) for name in ("item", "word", "count"))
        packed = (words << _COUNT_BITS | counts).tolist()
        bounds = [*np.flatnonzero(np.diff(items, prepend=-1)).tolist(), len(items)]
        for start, stop in pairwise(bounds):
            item, held = int(items[start]), array("Q", packed[start:stop])
            for each in held:
                self._entries[each >> _COUNT_BITS].append(item << _COUNT_BITS | each & _COUNT_MASK)
            self._hold(item, held)
        self._sizes = array("i", map(len, self._entries))
        self._entry_count = len(items)
        self.refused_count = int(arrays["refused"][0])


def _texts(value: object) -> list[str]:
    """Return the texts of a list; of anything else none."""
    return [each for each in cast("list[object]", value) if isinstance(each, str)] if isinstance(value, list) else []


def _cut(text: bytes, lengths: Sequence[int]) -> Iterator[str]:
    start = 0
    for length in lengths:
        yield text[start : start + length].decode()
        start += length
