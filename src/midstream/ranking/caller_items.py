"""The caller's own items as the only candidates, and items that a page has already.

Sources propose all the same, and what they say of a given item is known of it: its place among all that they proposed,
so what an item is worth does not depend on which others were given.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Candidates, Moment, Proposal
from midstream.ranking.apply_filters import Verdicts
from midstream.ranking.frame import merge
from midstream.state.ids.vocabulary import Vocabulary

GIVEN: Final = "given"
"""Name of the source that the caller is."""
UNKNOWN: Final = "unknown"
"""What removes given items that nothing named before."""
PAGE: Final = "page"
"""What removes items that stand in an earlier slate of the page."""
CURSOR: Final = "cursor"
"""Name of the source that the order of an earlier slate is."""
RESERVED: Final = (GIVEN, UNKNOWN, PAGE, CURSOR)
"""No part may be called so."""


def only_given(moment: Moment, proposals: Mapping[str, Proposal]) -> Candidates:
    """Return those given items that are known, in the caller's order, with what each source says of them.

    Args:
        moment: Its query names them.
        proposals: By source, ``checked``; what else they propose is left out.
    """
    vocabulary = moment.table(Vocabulary)
    item_index = vocabulary.item_indices(moment.query.given)
    known = item_index[item_index >= 0]
    count = len(known)
    own = Proposal(known, (np.arange(count, 0, -1) / max(count, 1)).astype(np.float32))
    merged = merge({GIVEN: own, **proposals}, vocabulary.item_count)
    return Candidates(
        merged.item_index[:count], merged.source_names, merged.source_score[:count], merged.source_rank[:count]
    )


def said_of(candidates: Candidates) -> dict[str, int]:
    """Return of how many candidates each source says something."""
    return dict(zip(candidates.source_names, (candidates.source_rank >= 0).sum(axis=0).tolist(), strict=True))


def verdict_of(moment: Moment, verdicts: Verdicts) -> NDArray[np.intp]:
    """Return what removed each given item: -1 = nothing did, 0 = it is unknown, 1 = the first filter, and so on.

    Args:
        moment: Its query names them.
        verdicts: Of those that are known, in the same order.
    """
    known = moment.table(Vocabulary).item_indices(moment.query.given) >= 0
    found = np.zeros(len(known), dtype=np.intp)
    found[known] = np.where(verdicts.kept, -1, verdicts.removed_by + 1)
    return found
