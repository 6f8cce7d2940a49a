"""Encoding of texts as numbers: index in a declared list, one-hot columns, or hash buckets.

A number never depends on the order in which texts reached the state, so it has the same meaning after a rebuild, as of
a past moment, and in a model that was trained elsewhere.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.state.attributes.attributes import value_hash
from midstream.state.expressions.program import Columns
from midstream.state.items.items import Items

Form: TypeAlias = Literal["index", "one_hot", "hashed"]
VALUES_MAX = 256
"""Texts of one list: with more, ``hashed`` is meant."""
BUCKETS_MAX = 1 << 24
"""Whole numbers up to here are exact as float32."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Encoding of a text. A missing text is NaN in every column."""

    form: Form
    values: tuple[str, ...] = ()
    """``index``: the place in this list, any other text is len(values). ``one_hot``: 1 in the text's column, else 0."""
    buckets: int = 0
    """``hashed``: XXH64 of the text modulo this."""

    @property
    def rows(self) -> int:
        """Number of columns."""
        return len(self.values) if self.form == "one_hot" else 1

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of the columns: ``colour_red`` of one that has several."""
        return tuple(f"{name}_{each}" for each in self.values) if self.form == "one_hot" else (name,)

    def of_text(self, text: str | None) -> Columns:
        """Return the numbers of one text, (rows,); None = not known."""
        if text is None:
            return np.full(self.rows, np.nan)
        if self.form == "hashed":
            return np.array([value_hash(text) % self.buckets], dtype=np.float64)
        place = self.values.index(text) if text in self.values else len(self.values)
        if self.form == "index":
            return np.array([place], dtype=np.float64)
        found = np.zeros(self.rows)
        found[place : place + 1] = 1.0
        return found

    def of_hashes(self, hashes: NDArray[np.uint64]) -> Columns:
        """Return the buckets of hashes, of the same shape."""
        bucket: NDArray[np.uint64] = hashes % np.uint64(self.buckets)
        return bucket.astype(np.float64)

    def of_items(self, items: Items, attribute: str, item_index: Index) -> Columns:
        """Return the numbers of a category or tags attribute of items, (rows, n).

        Of several tags the first one counts, but for ``one_hot``, in which each does; there an item without tags has
        none, which is known.
        """
        codes = items.codes(attribute)[item_index]
        unknown = item_index < 0
        if self.form == "one_hot":
            return self._one_hot(items, attribute, codes, unknown)
        first = np.where(unknown, -1, codes if codes.ndim == 1 else codes[:, 0])
        if self.form == "hashed":
            found = self.of_hashes(items.value_hashes(attribute)[first])
        else:
            found = self._places(items, attribute, first)
        found[first < 0] = np.nan
        return found[np.newaxis]

    def _places(self, items: Items, attribute: str, codes: Index) -> Columns:
        """Return the place in the list of each value."""
        listed = np.array([items.value_code(attribute, each) for each in self.values], dtype=np.int64)
        order = np.argsort(listed, kind="stable")
        at = np.minimum(np.searchsorted(listed[order], codes), len(listed) - 1)
        found = np.where(listed[order][at] == codes, order[at], len(self.values))
        return found.astype(np.float64)

    def _one_hot(self, items: Items, attribute: str, codes: Index, unknown: Mask) -> Columns:
        """Return a row for each value of the list."""
        found = np.zeros((self.rows, len(codes)), dtype=np.float64)
        wide = np.ascontiguousarray(np.atleast_2d(codes.T))
        for row, text in enumerate(self.values):
            code = items.value_code(attribute, text)
            if code >= 0:
                found[row] = (wide == code).any(axis=0)
        found[:, unknown | (codes < 0) if codes.ndim == 1 else unknown] = np.nan
        return found


def coding_of(form: Form, values: tuple[str, ...], buckets: int) -> Coding:
    """Return the coding of these options."""
    return Coding(form, () if form == "hashed" else values, buckets if form == "hashed" else 0)
