"""Explanation of a rerun request: whether it came out the same, and why it is what it is."""

import msgspec

from midstream.ranking.explain.differences import FieldDifference
from midstream.ranking.explain.explanation import SlateWhy


class Explained(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a logged request was answered as it was."""

    request_id: str
    identical: bool
    """Whether the request was run again and the answer is the logged one to the bit."""
    differences: tuple[FieldDifference, ...] = ()
    """What is not as it was: of the answer, or what is gone that an answer needs."""
    slate: tuple[str, ...] = ()
    """Ids of the items that were served."""
    continues: str = ""
    """Request id of the slate in whose order it read on, by a cursor: that one's explanation says why, and this one has
    none. Empty = it continues none."""
    why: SlateWhy | None = None
    """Of the request as it is answered now; None = it cannot be answered any more, or it continues another."""
