"""The items that a model knows, by row: what its arrays are about.

A row is the model's own and has nothing to do with the index that the state gives an item: the two meet in the 64-bit
hash of the id, so a model stays right when a rebuild gives items other indices.
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

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class ItemVocabulary:
    """Distinct items, one a row."""

    hashes: Hashes
    """64-bit hash of each id, none of them 0 and none twice, (n,)."""
    text: bytes
    """The ids, UTF-8, end to end."""
    start: NDArray[np.int64]
    """Where each begins in the text, and its length, (n + 1,)."""
    _order: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """Rows by ascending hash."""
    _sorted: Hashes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make what rows are found by.

        Raises:
            ArtifactInvalid: The parts do not fit together, or a hash is there twice.
        """
        order = np.argsort(self.hashes, kind="stable")
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_sorted", self.hashes[order])
        fits = len(self.start) == len(self.hashes) + 1 and bool((np.diff(self.start) > 0).all())
        if not fits or int(self.start[0]) != 0 or int(self.start[-1]) != len(self.text):
            message = "the texts of the vocabulary are not those of its rows"
            raise ArtifactInvalid(message)
        if (self._sorted[1:] == self._sorted[:-1]).any() or (len(self.hashes) and self._sorted[0] == 0):
            message = "an item stands twice in the vocabulary, or has no id"
            raise ArtifactInvalid(message)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.hashes)

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
    def of(cls, ids: Sequence[str], hashes: Hashes) -> "ItemVocabulary":
        """Return a vocabulary of ids in this order, with the hash of each as the state makes it (``id_hash``)."""
        texts = [each.encode() for each in ids]
        start = np.concatenate([[0], np.cumsum([len(each) for each in texts], dtype=np.int64)]).astype(np.int64)
        return cls(np.asarray(hashes, dtype=np.uint64), b"".join(texts), start)

    @property
    def ids(self) -> list[str]:
        """The id of each row, in order. Cost: 0.2 µs each."""
        return [self.text[begin:end].decode() for begin, end in pairwise(self.start.tolist())]

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        return self.text[self.start[row] : self.start[row + 1]].decode()

    def rows_of(self, hashes: Hashes) -> Index:
        """Return the row of each item, -1 = the model does not know it. Cost: a search, 0.1 µs each."""
        if not len(self._sorted):
            return np.full(len(hashes), -1, dtype=np.int32)
        place = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return np.where(self._sorted[place] == hashes, self._order[place], -1).astype(np.int32)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what ``restore`` makes the same vocabulary of."""
        return {
            "vocabulary.hashes": self.hashes,
            "vocabulary.text": np.frombuffer(self.text, dtype=np.uint8),
            "vocabulary.start": self.start,
        }

    @classmethod
    def restore(cls, arrays: "dict[str, NDArray[np.generic]]") -> "ItemVocabulary":
        """Return the vocabulary whose ``arrays`` are among these.

        Raises:
            ArtifactInvalid: They are no vocabulary.
        """
        try:
            hashes, text = arrays["vocabulary.hashes"], arrays["vocabulary.text"]
            start = arrays["vocabulary.start"]
        except KeyError as error:
            message = f"the vocabulary lacks {error}"
            raise ArtifactInvalid(message) from error
        if [each.dtype.str for each in (hashes, text, start)] != ["<u8", "|u1", "<i8"]:
            message = "the vocabulary is of other types than it should be"
            raise ArtifactInvalid(message)
        return cls(hashes.astype(np.uint64), text.tobytes(), start.astype(np.int64))
