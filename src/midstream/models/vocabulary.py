"""The items that a model knows, by row: what its arrays are about.

A row is the model's own and has nothing to do with the index that the state gives an item: the two meet in the 64-bit
hash of the id, so a model stays right when a rebuild gives items other indices. A model holds texts alone, and hashes
them under the key of the state that it answers beside: so one that was fitted elsewhere answers here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Index
from midstream.events.siphash import IdKey, hashes_of

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class ItemRows:
    """The rows of a model under one key, by the hash of the item. Immutable once made: ``ItemVocabulary.under``."""

    key: IdKey
    hashes: Hashes
    """Of each row, (n,); 0 where an earlier row has the same one, so that of two such items one is known."""
    _order: NDArray[np.intp] = field(repr=False)
    """Rows by ascending hash."""

    def rows_of(self, hashes: Hashes) -> Index:
        """Return the row of each item, -1 = the model does not know it. Cost: a search, 0.1 µs each."""
        if not len(self._order):
            return np.full(len(hashes), -1, dtype=np.int32)
        place = np.searchsorted(self.hashes, hashes, sorter=self._order)
        row = self._order[np.minimum(place, len(self._order) - 1)]
        return np.where((self.hashes[row] == hashes) & (hashes != 0), row, -1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class ItemVocabulary:
    """Distinct items, one a row."""

    text: bytes
    """The ids, UTF-8, end to end."""
    start: NDArray[np.int64]
    """Where each begins in the text, and its length, (n + 1,)."""
    _known: list[ItemRows] = field(default_factory=list[ItemRows], init=False, repr=False, compare=False)
    """Rows under the key that was asked for last."""

    def __post_init__(self) -> None:
        """Look whether the parts fit together.

        Raises:
            ArtifactInvalid: They do not, or an item has no id.
        """
        fits = len(self.start) > 0 and bool((np.diff(self.start) > 0).all())
        if not fits or int(self.start[0]) != 0 or int(self.start[-1]) != len(self.text):
            message = "the texts of the vocabulary are not those of its rows, or an item has no id"
            raise ArtifactInvalid(message)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.start) - 1

    def __eq__(self, other: object) -> bool:
        """Return whether the other has the same items in the same rows."""
        return isinstance(other, ItemVocabulary) and self.content_hash == other.content_hash

    __hash__ = None  # type: ignore[assignment]  # it is compared, and never a key

    @cached_property
    def content_hash(self) -> str:
        """64 hex digits of SHA-256 over the ids, row by row: the same items in the same rows have the same."""
        digest = sha256(np.ascontiguousarray(self.start, dtype="<i8").tobytes())
        digest.update(self.text)
        return digest.hexdigest()

    @classmethod
    def of(cls, ids: Sequence[str]) -> "ItemVocabulary":
        """Return a vocabulary of ids in this order."""
        texts = [each.encode() for each in ids]
        start = np.concatenate([[0], np.cumsum([len(each) for each in texts], dtype=np.int64)]).astype(np.int64)
        return cls(b"".join(texts), start)

    @property
    def ids(self) -> list[str]:
        """The id of each row, in order. Cost: 0.2 µs each."""
        return [self.text[begin:end].decode() for begin, end in pairwise(self.start.tolist())]

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        return self.text[self.start[row] : self.start[row + 1]].decode()

    def under(self, key: IdKey) -> ItemRows:
        """Return what rows are found by in a state of this key.

        Cost: 0.1 µs an item at first, 10 ms for 100,000; then none, until another key is asked for.
        """
        known = self._known[0] if self._known else None
        if known is not None and (known.key is key or np.array_equal(known.key, key)):
            return known
        hashes = hashes_of(np.frombuffer(self.text or b"\0", dtype=np.uint8), self.start, key)
        order = np.argsort(hashes, kind="stable")
        again = order[1:][hashes[order[1:]] == hashes[order[:-1]]]
        if len(again):
            hashes[again] = 0
            order = np.argsort(hashes, kind="stable")
        found = ItemRows(key, hashes, order)
        self._known[:] = [found]
        return found

    def rows_in(self, other: "ItemVocabulary") -> Index:
        """Return the row that each of these items has in another vocabulary, -1 = none."""
        rows = {item: row for row, item in enumerate(other.ids)}
        return np.array([rows.get(item, -1) for item in self.ids], dtype=np.int32)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``restore`` makes the same vocabulary of."""
        return {
            "vocabulary.text": np.frombuffer(self.text, dtype=np.uint8),
            "vocabulary.start": self.start,
        }

    @classmethod
    def restore(cls, arrays: "dict[str, NDArray[np.generic]]") -> "ItemVocabulary":
        """Return the vocabulary whose ``arrays`` are among these.

        Raises:
            ArtifactInvalid: They are no vocabulary, or have an item twice.
        """
        try:
            text, start = arrays["vocabulary.text"], arrays["vocabulary.start"]
        except KeyError as error:
            message = f"the vocabulary lacks {error}"
            raise ArtifactInvalid(message) from error
        if [each.dtype.str for each in (text, start)] != ["|u1", "<i8"]:
            message = "the vocabulary is of other types than it should be"
            raise ArtifactInvalid(message)
        found = cls(text.tobytes(), start.astype(np.int64))
        if len(set(found.ids)) != len(found):
            message = "an item stands twice in the vocabulary"
            raise ArtifactInvalid(message)
        return found
