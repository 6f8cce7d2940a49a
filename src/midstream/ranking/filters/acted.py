"""Filter of items with earlier acts of the user, or with enough impressions to the user."""

from typing import ClassVar

import msgspec
import numpy as np

from midstream.core.durations import parse_duration_ms
from midstream.core.field_bounds import Name
from midstream.core.kinds import IMPRESSION
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import Candidates, Index, Mask, Moment
from midstream.ranking.filters.among import among
from midstream.ranking.filters.options import FilterScope
from midstream.state.settings import FoldSettings
from midstream.state.users.users import Users


class Exclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One act after which an item is not recommended to its user again: for a while, or from some number of times on.

    Exactly one of ``age_ms`` and ``count`` is set.
    """

    action: int
    """Number of the interaction, -1 = impression."""
    age_ms: int | None = None
    """The act lies at most this far back."""
    count: int | None = None
    """The act was done at least this often, as far back as the user's row goes."""

    @classmethod
    def read(cls, name: str, told: str | int, settings: FoldSettings) -> "Exclusion":
        """Return the configured rule: an age such as ``30d``, or a count."""
        action = -1 if name == IMPRESSION else settings.action_names().index(name)
        if isinstance(told, str):
            return cls(action, age_ms=parse_duration_ms(told))
        return cls(action, count=told)


class Acted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Removes items on which the user acted, by kind of act.

    It reads the user's row: the last 50 interactions and the last 50 items seen. An unknown user, or a request without
    a user, has no row, so nothing is removed.
    """

    traits: ClassVar[Traits] = BOUNDED
    name: str = "acted"
    exclusions: tuple[Exclusion, ...] = ()

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return False for items that are not to come again."""
        if moment.user_index < 0 or not self.exclusions:
            return np.ones(len(candidates), dtype=np.bool_)
        users = moment.table(Users)
        found = [_items_of(users, moment, each) for each in self.exclusions]
        return ~among(candidates.item_index, np.concatenate(found))


class ActedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="acted"):
    """Acts after which an item is not recommended to its user again: each an age such as ``30d``, or a count."""

    exclude: dict[str, str | int]
    name: Name = "acted"

    def compiled(self, scope: FilterScope) -> Acted:
        """Return the filter over the numbers of the acts."""
        return Acted(self.name, tuple(Exclusion.read(*each, scope.settings) for each in self.exclude.items()))


def _items_of(users: Users, moment: Moment, exclusion: Exclusion) -> Index:
    """Return the items that one exclusion rules out for the user; one may be there more than once."""
    since_ms = 0 if exclusion.age_ms is None else moment.query.now_ms - exclusion.age_ms
    if exclusion.action < 0:
        seen = users.impressions(moment.user_index)
        if exclusion.count is not None:
            return seen.item_index[seen.count >= exclusion.count]
        return seen.item_index[seen.event_time_ms >= since_ms]
    recent = users.recent(moment.user_index)
    mine = recent.action == exclusion.action
    if exclusion.count is not None:
        item_index, count = np.unique(recent.item_index[mine], return_counts=True)
        often: Index = item_index[count >= exclusion.count]
        return often
    lately: Index = recent.item_index[mine & (recent.event_time_ms >= since_ms)]
    return lately
