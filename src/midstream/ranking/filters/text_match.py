"""Filter of items that match a text of the request: the other half of the source ``text_search``.

A slate is filled with popular items where sources propose too few. In a placement that answers searches this filter
keeps them out.
"""

from typing import ClassVar

import msgspec
import numpy as np

from midstream.core.field_bounds import Name
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import Candidates, Mask, Moment
from midstream.retrieval.text_search import Require, matches_of


class TextMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text_match"):
    """Keeps items that match the text; of a request without a text none."""

    traits: ClassVar[Traits] = BOUNDED
    name: Name = "text_match"
    context: Name = "q"
    """Name of the text in the request's context."""
    require: Require = "any"
    """any (items with one of the words) or all."""

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True where the item matches. Cost: that of ``TextIndex.matches``."""
        found = matches_of(moment, self.context, self.require)
        if found is None:
            return np.zeros(len(candidates), dtype=np.bool_)
        return np.isin(candidates.item_index, found.item_index)
