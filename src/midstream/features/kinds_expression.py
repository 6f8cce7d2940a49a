"""The kind that computes one feature from others: a text of numbers, names and operations."""

from collections.abc import Callable
from functools import lru_cache

import msgspec

from midstream.core.errors import Invalid
from midstream.features.feature_text import Formula, parse_formula
from midstream.features.inputs import columns_from
from midstream.features.item_inputs import ItemNumber
from midstream.features.request_inputs import Told
from midstream.state.program import Expression


class Computed(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="expression", kw_only=True
):
    """What a text says: of columns of other features, ``item.<number or boolean>`` and ``context.<name>``.

    NaN where anything in it is NaN, but for ``if_nan(x, y)``.
    """

    name: str
    text: str

    def formula(self) -> Formula:
        """Return the text as it was understood, or raise ``Invalid``."""
        return _formula(self.text)

    def expression(self, column_of: Callable[[str], Expression]) -> Expression:
        """Return the column, from those of the other features by name."""
        return self.formula().expression(
            {
                "": column_of,
                "item": lambda name: columns_from(ItemNumber(name))[0],
                "context": lambda name: columns_from(Told("request", name, "number"))[0],
            }
        )


@lru_cache(maxsize=256)
def _formula(text: str) -> Formula:
    found = parse_formula(text, "$.text")
    if isinstance(found, Formula):
        return found
    raise Invalid(found)
