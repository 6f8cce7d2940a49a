"""Feature kinds that read a value as it was sent: item attributes, profile fields, context values.

With the scope ``item`` a name is a declared item attribute, with ``user`` a field of the profile, with ``request`` a
name of the request's context; without ``attribute`` it is the feature's own name. A value that is missing or of another
type is NaN.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from midstream.features.readers.coding import BUCKETS_MAX, Form, coding_of
from midstream.features.readers.inputs import Reader, columns_from
from midstream.features.readers.item_inputs import (
    ItemArrival,
    ItemCategory,
    ItemDifference,
    ItemNumber,
    ItemReduced,
    ItemVector,
    ItemWords,
    TextOverlap,
)
from midstream.features.readers.lists import Reduction
from midstream.features.readers.request_inputs import ContextValue, ToldCategory, ToldNumbers, ToldWords
from midstream.state.expressions.program import NOW, Expression

TellScope: TypeAlias = Literal["item", "user", "request"]
ListScope: TypeAlias = Literal["item", "user"]
Columns: TypeAlias = Mapping[str, Expression]
SECOND_MS = 1_000.0
LENGTH_MAX = 256
"""Numbers of one vector: as many as there may be columns of all features."""
Buckets = Annotated[int, msgspec.Meta(ge=0, le=BUCKETS_MAX)]
Letters = Annotated[int, msgspec.Meta(ge=0, le=10)]
Length = Annotated[int, msgspec.Meta(ge=1, le=LENGTH_MAX)]


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="number", kw_only=True):
    """A number, in its own unit; of an item's vector and of a list in a profile also one number of them."""

    name: str
    scope: TellScope = "item"
    attribute: str = ""
    reduce: Reduction | None = None
    """Which number of a vector attribute, or of a list in a profile: of its known entries the ``min``, ``max``,
    ``mean``, ``sum``, ``first`` or ``last`` one. Without it a list is no number."""

    def expressions(self) -> Columns:
        """Return the number unchanged."""
        name = self.attribute or self.name
        reader: Reader
        if self.scope != "item":
            reader = ContextValue(self.scope, name, "number", self.reduce)
        else:
            reader = ItemNumber(name) if self.reduce is None else ItemReduced(name, self.reduce)
        return dict(zip((self.name,), columns_from(reader), strict=True))


class Boolean(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="boolean", kw_only=True):
    """1 = true, 0 = false. Of an item also ``available``."""

    name: str
    scope: TellScope = "item"
    attribute: str = ""

    def expressions(self) -> Columns:
        """Return the truth as a number."""
        name = self.attribute or self.name
        reader: Reader = ItemNumber(name) if self.scope == "item" else ContextValue(self.scope, name, "boolean")
        return dict(zip((self.name,), columns_from(reader), strict=True))


class Category(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="category", kw_only=True):
    """A text encoded as a number or as several.

    ``index``: its position in ``values``, len(values) for any other text. ``one_hot``: a column for each of ``values``,
    named ``colour_red``, 1 for the text's own and 0 for the others; of a tags attribute 1 for each of its tags.
    ``hashed``: XXH64 of the text modulo ``buckets``. ``index`` and ``hashed`` use the first of several tags.
    """

    name: str
    scope: TellScope = "item"
    attribute: str = ""
    form: Form = "index"
    values: tuple[str, ...] = ()
    buckets: Buckets = 0

    def expressions(self) -> Columns:
        """Return one column, or one for each value."""
        coding = coding_of(self.form, self.values, self.buckets)
        name = self.attribute or self.name
        reader: Reader = ItemCategory(name, coding) if self.scope == "item" else ToldCategory(self.scope, name, coding)
        return dict(zip(coding.names(self.name), columns_from(reader), strict=True))


class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="vector", kw_only=True):
    """Each number of a list in the user's profile or of the item's vector: columns ``taste_0``, ``taste_1`` and so on.

    NaN in all of them when there is none or a profile's list has another length, and in one whose entry is no number.
    """

    name: str
    scope: ListScope = "user"
    attribute: str = ""
    length: Length

    def expressions(self) -> Columns:
        """Return the numbers unchanged."""
        names = tuple(f"{self.name}_{place}" for place in range(self.length))
        name = self.attribute or self.name
        reader: Reader = ItemVector(name, self.length) if self.scope == "item" else ToldNumbers(name, self.length)
        return dict(zip(names, columns_from(reader), strict=True))


class ItemAge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="item_age", kw_only=True):
    """Seconds since the catalogue first named the item, by log time; or since a time in an attribute.

    NaN of an item known from interactions alone. Where history was cut, the age counts from the kept events.
    """

    name: str
    attribute: str = ""
    """Number attribute with a time in milliseconds since 1970, such as ``released``. Negative ages are to come."""

    def expressions(self) -> Columns:
        """Return (now - time) / 1,000."""
        reader: Reader = ItemNumber(self.attribute) if self.attribute else ItemArrival()
        return {self.name: (NOW - columns_from(reader)[0]) / SECOND_MS}


class WordCount(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="word_count", kw_only=True
):
    """Number of words of a text, separated by spaces; of an item any attribute, declared or not (2 µs a candidate)."""

    name: str
    scope: TellScope = "item"
    attribute: str = ""

    def expressions(self) -> Columns:
        """Return the number of words of the first 10,000 characters."""
        name = self.attribute or self.name
        reader: Reader = ItemWords(name) if self.scope == "item" else ToldWords(self.scope, name)
        return dict(zip((self.name,), columns_from(reader), strict=True))


class FieldMatch(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="field_match", kw_only=True
):
    """Jaccard similarity of a text of the request and one of the item, 0 to 1: of a search query and a title.

    Common words, or pieces of words, as a share of all of both texts; 5 µs a candidate. The item's text is any
    attribute, declared or not.
    """

    name: str
    context: str
    """Name in the request's context."""
    attribute: str
    letters: Letters = 0
    """Length of the pieces; 0 = whole words."""

    def expressions(self) -> Columns:
        """Return |both| / |either| of distinct tokens, without regard to case."""
        return {self.name: columns_from(TextOverlap(self.context, self.attribute, self.letters))[0]}


class CandidateDiversity(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="diversity", kw_only=True
):
    """Distance of the candidate from the other candidates of the same request.

    Number: distance to the median of all. Category and tags: 1 - the share of the others that have its value (the mean
    over its tags), so 1 = no other has it. It depends on the set of candidates.
    """

    name: str
    attribute: str = ""

    def expressions(self) -> Columns:
        """Return |x - median| or 1 - shared / others."""
        return {self.name: columns_from(ItemDifference(self.attribute or self.name))[0]}
