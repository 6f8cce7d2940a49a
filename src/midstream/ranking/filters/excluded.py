"""Filter of the items that the request itself excludes."""

from typing import ClassVar

import msgspec
import numpy as np

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import Candidates, Mask, Moment
from midstream.ranking.filters.among import among
from midstream.state.ids.vocabulary import Vocabulary


class Excluded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="excluded"):
    """Removes the items that the request's ``exclude`` names. Unknown ids exclude nothing."""

    traits: ClassVar[Traits] = BOUNDED
    name: str = "excluded"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return False for items that the request names."""
        named = moment.query.exclude
        if not named:
            return np.ones(len(candidates), dtype=np.bool_)
        return ~among(candidates.item_index, moment.table(Vocabulary).item_indices(named))
