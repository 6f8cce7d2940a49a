"""Readers of the candidates: their attributes, age and texts, and their distance from one another."""

from dataclasses import dataclass

import numpy as np

from midstream.core.types import Candidates, Moment
from midstream.features.readers.coding import Coding
from midstream.features.readers.inputs import at_items
from midstream.features.readers.lists import Reduction, reduced_rows
from midstream.features.readers.texts import COMPARED_CHARACTERS_MAX, overlap, tokens, word_count
from midstream.state.attributes.value_overlap import shared_values
from midstream.state.expressions.program import Columns
from midstream.state.items.items import Items


@dataclass(frozen=True, slots=True)
class ItemNumber:
    """A number or boolean attribute."""

    attribute: str
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Take the values from the attribute's column."""
        found[0] = at_items(moment.table(Items), self.attribute, candidates.item_index)


@dataclass(frozen=True, slots=True)
class ItemVector:
    """The numbers of a vector attribute."""

    attribute: str
    length: int

    @property
    def rows(self) -> int:
        """A column for each place."""
        return self.length

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Take the vectors as they are kept: as float32."""
        found[:] = moment.table(Items).vectors(self.attribute, candidates.item_index).T


@dataclass(frozen=True, slots=True)
class ItemReduced:
    """One number of a vector attribute."""

    attribute: str
    reduction: Reduction
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Reduce by place: sums go from the first number to the last, in float64."""
        vectors = moment.table(Items).vectors(self.attribute, candidates.item_index)
        found[0] = reduced_rows(np.ascontiguousarray(vectors.T, dtype=np.float64), self.reduction)


@dataclass(frozen=True, slots=True)
class ItemCategory:
    """A category or tags attribute as numbers."""

    attribute: str
    coding: Coding

    @property
    def rows(self) -> int:
        """Those of the coding."""
        return self.coding.rows

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Take codes from the attribute's column, and numbers by code."""
        found[:] = self.coding.of_items(moment.table(Items), self.attribute, candidates.item_index)


@dataclass(frozen=True, slots=True)
class ItemArrival:
    """Log time at which the catalogue first named the item, in milliseconds."""

    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Leave items that the catalogue never named as NaN."""
        arrived = moment.table(Items).arrived_ms(candidates.item_index)
        found[0] = np.where(arrived > 0, arrived, np.nan)


@dataclass(frozen=True, slots=True)
class ItemWords:
    """Number of words of a text among the item's attributes, declared or not."""

    attribute: str
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Read the documents one by one: about 2 µs a candidate."""
        found[0] = [word_count(each) for each in _texts(moment, candidates, self.attribute)]


@dataclass(frozen=True, slots=True)
class TextOverlap:
    """Jaccard similarity of a text of the request and a text of the item."""

    context: str
    attribute: str
    letters: int
    """Length of the pieces that are compared; 0 = whole words."""
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Read the documents one by one, of each text its beginning: about 5 µs a candidate with 10 words."""
        sent = tokens(moment.query.context.get(self.context), self.letters)
        if sent is not None:
            texts = _texts(moment, candidates, self.attribute)
            begun = (each[:COMPARED_CHARACTERS_MAX] if isinstance(each, str) else None for each in texts)
            found[0] = [overlap(sent, tokens(each, self.letters)) for each in begun]


@dataclass(frozen=True, slots=True)
class ItemDifference:
    """Distance of an item from the other candidates."""

    attribute: str
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Compare numbers with their median, categories and tags with those of all others."""
        items, item_index = moment.table(Items), candidates.item_index
        if items.kind(self.attribute) in {"category", "tags"}:
            found[0] = 1.0 - shared_values(items.codes(self.attribute), item_index, item_index, is_among=True)
            return
        values = at_items(items, self.attribute, item_index)
        known = values[~np.isnan(values)]
        if len(known):
            found[0] = np.abs(values - np.median(known))


def _texts(moment: Moment, candidates: Candidates, attribute: str) -> list[object]:
    """Return an attribute of each candidate as it was sent; None = none."""
    items = moment.table(Items)
    return [items.value(each, attribute) if each >= 0 else None for each in candidates.item_index.tolist()]
