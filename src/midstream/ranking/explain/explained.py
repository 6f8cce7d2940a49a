"""Explanation of a rerun request, with the differences to the logged answer."""

import msgspec

from midstream.ranking.explain.differences import FieldDifference
from midstream.ranking.explain.explanation import SlateWhy


class Explained(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a logged request was answered as it was."""

    request_id: str
    identical: bool
    """Whether the request was run again and the answer is the logged one to the bit."""
    differences: tuple[FieldDifference, ...] = ()
    """Differences to the logged answer, or missing inputs of the rerun."""
    slate: tuple[str, ...] = ()
    """Ids of the items that were served."""
    continues: str = ""
    """Request id of the slate whose order this one continues, by a cursor: its explanation has the reasons, this one
    has none. Empty = it continues none."""
    why: SlateWhy | None = None
    """Of the request as it is answered now; None = it cannot be answered any more, or it continues another."""
