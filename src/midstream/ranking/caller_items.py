"""Reranking of the caller's own items: the only candidates, without items that the page has already.

Sources propose as usual, and their ranks and scores of a given item become its columns. Its rank is that among all
proposals, so the score of an item does not depend on the other given items.
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
"""Removal name of given items that no event named."""
PAGE: Final = "page"
"""Removal name of items that an earlier slate of the page has."""
CURSOR: Final = "cursor"
"""Name of the source that the order of an earlier slate is."""
RESERVED: Final = (GIVEN, UNKNOWN, PAGE, CURSOR)
"""No part may be called so."""


def only_given(moment: Moment, proposals: Mapping[str, Proposal]) -> Candidates:
    """Return the known given items, in the caller's order, with the columns of each source.

    Args:
        moment: Its query names them.
        proposals: By source, ``checked``; other items of them are left out.
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
    """Return the number of candidates that each source proposed."""
    return dict(zip(candidates.source_names, (candidates.source_rank >= 0).sum(axis=0).tolist(), strict=True))


def verdict_of(moment: Moment, verdicts: Verdicts) -> NDArray[np.intp]:
    """Return the removal of each given item: -1 = none, 0 = the item is unknown, 1 = the first filter, and so on.

    Args:
        moment: Its query names them.
        verdicts: Of the known items, in the same order.
    """
    of_known = np.where(verdicts.kept, -1, verdicts.removed_by + 1)
    if len(of_known) == len(moment.query.given):  # as usual: to look 100 items up takes 20 µs
        return of_known
    known = moment.table(Vocabulary).item_indices(moment.query.given) >= 0
    found = np.zeros(len(known), dtype=np.intp)
    found[known] = of_known
    return found
