"""Source of the items that the user has acted on lately, for a shelf "recently viewed" or "continue".

The user's row says them with their times; items of the asking session that the row does not have come behind those: a
session's items have no times, and a visitor without an id has no others. An item stands where its last act is.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.durations import Duration
from midstream.core.field_bounds import Between, Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import NOTHING, Evidence, Led
from midstream.state.items.items import Items
from midstream.state.users.recent_items import NO_ITEMS
from midstream.state.users.users import Users

LIMIT_MAX = 1_000
"""More than the ring of a user and a session hold are never found."""


class RecentlyViewed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="recently_viewed"):
    """The last distinct items of the user, or of the session of a visitor without an id, the newest first.

    The placement must have ``repeats = "any"``, or the session's items would be removed again.
    """

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "recently_viewed"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 50
    actions: tuple[str, ...] = ()
    """Acts that count; none = all with a weight above 0, and items of the session, of which the act is not known."""
    max_age: Annotated[Duration, Between("1m", "3650d")] = Duration("90d")
    """Acts of the user that are older do not count."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items, the newest first, without those that the request sends along. Cost: about 40 µs.

        The score of the item at rank r is 1 / (1 + r): there is no more to it than the order.
        """
        own, _ = self._acts(moment)
        session = NO_ITEMS if self.actions else moment.recent_item_index[::-1]
        items = np.concatenate((own[::-1], session)).astype(np.int32)
        _, first = np.unique(items, return_index=True)
        items = items[np.sort(first)]
        servable = moment.table(Items).available[items] & ~np.isin(items, moment.sent_item_index)
        items = items[servable][: self.limit]
        return Proposal(items, (1.0 / np.arange(1, len(items) + 1)).astype(np.float32))

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the number of the user's acts on each item and the time of the last one; of a session's the item."""
        acted, time_ms = self._acts(moment)
        session = set[int]() if self.actions else set(moment.recent_item_index.tolist())
        found: list[Evidence] = []
        for item in item_index.tolist():
            own = time_ms[acted == item]
            facts: dict[str, str | float] = {"acts": len(own), "last_ms": int(own.max())} if len(own) else {}
            found.append(Evidence((Led(item, 1.0),), facts) if len(own) or item in session else NOTHING)
        return found

    def _acts(self, moment: Moment) -> tuple[Index, NDArray[np.int64]]:
        """Return the items of the user's acts that count, in the order of the log, and their times."""
        if moment.user_index < 0:
            return NO_ITEMS, np.empty(0, dtype=np.int64)
        users = moment.table(Users)
        recent = users.recent(moment.user_index)
        counts = users.is_positive[recent.action]
        if self.actions:
            counts = np.isin(recent.action, users.action_numbers(self.actions))
        counts &= recent.event_time_ms >= moment.query.now_ms - self.max_age.ms
        return recent.item_index[counts], recent.event_time_ms[counts]
