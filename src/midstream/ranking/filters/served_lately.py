"""Filter of recently served items (frequency capping): hidden for a time, or from a number of slates on.

It reads the slates of the outcome join: those of the user, and those of the session without a user. Served is not seen:
the item was in an answer, whether or not it was viewed.
"""

from typing import ClassVar, Final

import msgspec
import numpy as np

from midstream.core.durations import parse_duration_ms
from midstream.core.field_bounds import Name
from midstream.core.traits import Traits
from midstream.core.types import Candidates, Index, Mask, Moment
from midstream.ranking.filters.among import among
from midstream.ranking.filters.options import FilterScope
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.outcomes.outcomes import NOTHING_SERVED, Outcomes, RecentPositions
from midstream.state.outcomes.recipients import placement_hash, session_asker

SERVED: Final = "served"
"""Served in the placement of the request."""
ANYWHERE: Final = "served_anywhere"
"""Served in any placement."""
NAMES: Final = frozenset((SERVED, ANYWHERE))
TIMES_MAX: Final = 100
"""Half of the 200 slates that are read: a larger count could not be found in them."""


class ServedRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Condition after which an item is not served again. Exactly one of ``age_ms`` and ``count`` is set."""

    anywhere: bool
    """Slates of all placements count, not only those of the request's placement."""
    age_ms: int | None = None
    """It was served at most this far back, in log time."""
    count: int | None = None
    """It was in at least so many slates, as far back as slates are held."""

    @classmethod
    def read(cls, name: str, told: str | int) -> "ServedRule":
        """Return the configured rule under one of ``NAMES``: an age such as ``24h``, or a count."""
        if isinstance(told, str):
            return cls(name == ANYWHERE, age_ms=parse_duration_ms(told))
        return cls(name == ANYWHERE, count=told)


class ServedLately(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Removes items that were served to the same user, or the same session, lately or too often.

    A request that names neither was served nothing, so nothing is removed.
    """

    traits: ClassVar[Traits] = Traits(waits=False, bounded=True, reads_served=True)
    name: str = "served_lately"
    rules: tuple[ServedRule, ...] = ()

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return False for items that are not to come again. Cost: 15 µs a rule, of 200 slates of 20 some 0.3 ms."""
        found = [_items_of(moment, rule) for rule in self.rules]
        return ~among(candidates.item_index, np.concatenate((np.empty(0, np.int32), *found)))


class ServedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="served_lately"):
    """After what an item is not served again, under one of ``NAMES``: an age such as ``24h``, or a number of slates."""

    exclude: dict[str, str | int]
    name: Name = "served_lately"

    def compiled(self, scope: FilterScope) -> ServedLately:
        """Return the filter."""
        return ServedLately(self.name, tuple(ServedRule.read(*each) for each in self.exclude.items()))


def recent_of(moment: Moment, *, anywhere: bool = False) -> RecentPositions:
    """Return the slates served to the request's user or session, newest first, the user's before the session's.

    Args:
        moment: The state.
        anywhere: In each placement; else in that of the query.
    """
    askers = [each for each in (moment.user_hash, session_asker(moment.session_hash)) if each]
    if not askers:
        return NOTHING_SERVED
    return moment.table(Outcomes).recent(
        askers, 0 if anywhere else placement_hash(moment.query.placement, moment.table(Vocabulary).id_key)
    )


def items_of(moment: Moment, recent: RecentPositions, age_ms: int) -> Index:
    """Return the items served within an age, once for each slate; -1 = an item that is gone.

    A slate whose log time is after the query's time counts too: the record's log time is a little later than its
    answer.
    """
    lately = recent.log_time_ms >= moment.query.now_ms - age_ms
    return moment.table(Vocabulary).item_indices_of_hashes(recent.item_hash[lately])


def _items_of(moment: Moment, rule: ServedRule) -> Index:
    """Return the items that a rule leaves out; one may be there more than once."""
    recent = recent_of(moment, anywhere=rule.anywhere)
    if rule.age_ms is not None:
        return items_of(moment, recent, rule.age_ms)
    hashes, times = np.unique(recent.item_hash, return_counts=True)
    return moment.table(Vocabulary).item_indices_of_hashes(hashes[times >= (rule.count or 1)])
