"""Feature kind computed from other features by a text of the language."""

from collections.abc import Collection, Mapping
from functools import lru_cache

import msgspec

from midstream.core.errors import Invalid
from midstream.events.wire import AttributeKind
from midstream.features.expressions.names import COLUMNS, CONTEXT, ITEM, USER, Names
from midstream.features.expressions.reading import Text, read_text
from midstream.state.expressions.program import column

SCOPES = frozenset((ITEM, CONTEXT, USER, COLUMNS))
"""Names that a feature's text may use. Counts and the clock have kinds of their own, with names that others can use."""
TEXTS_MAX = 256
"""Cached compiled texts: four times as many as there are features."""


class Computed(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="expression", kw_only=True
):
    """Value of an expression over columns of other features, the item's attributes, the profile and the context.

    NaN where any operand is NaN, except in ``if_nan(x, y)``.
    """

    name: str
    text: str

    def read(self, attributes: Mapping[str, AttributeKind], columns: Collection[str]) -> Text:
        """Return the text as it was understood.

        Args:
            attributes: Declared item attributes.
            columns: Names of the columns of all features.

        Raises:
            Invalid: It cannot be read.
        """
        return _text(self.text, tuple(attributes.items()), tuple(columns))


@lru_cache(maxsize=TEXTS_MAX)
def _text(text: str, attributes: tuple[tuple[str, AttributeKind], ...], columns: tuple[str, ...]) -> Text:
    names = Names(dict(attributes), dict.fromkeys(columns, column(0.0)))
    found = read_text(text, names, "$.text", SCOPES, is_number=True)
    if isinstance(found, Text):
        return found
    raise Invalid(found)
