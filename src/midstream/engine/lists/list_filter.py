"""Filter texts of lists: conditions of the language on items, and on users."""

from collections.abc import Mapping
from typing import Final

from midstream.core.errors import RequestInvalid
from midstream.core.types import Models, Moment, Query, TimestampMs
from midstream.features.expressions.names import COUNTS, ITEM, NOW, USER, Names
from midstream.features.language import Condition, Use, condition
from midstream.ranking.filters.expression_filter import RequestFilter
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold

OF_ITEMS: Final = Use(frozenset((ITEM, COUNTS, NOW)), 4_000.0)
"""Attributes and counts of the item: no user asks, and there is no context."""
OF_USERS: Final = Use(frozenset((USER, NOW)), 1_000.0)
"""The profile and the affinities of each user."""
NO_MODELS: Final = Models({})


def compiled(text: str | None, plans: Mapping[str, Plan], use: Use) -> Condition | None:
    """Return the condition of a filter text, None = all pass.

    Raises:
        RequestInvalid: It cannot be read; all faults are named.
    """
    if text is None:
        return None
    found = condition(text, _names_of(plans), "filter", use)
    if not isinstance(found, Condition):
        raise RequestInvalid(found)
    return found


def moment_of(fold: Fold, now_ms: TimestampMs, user_id: str | None = None) -> Moment:
    """Return the state for a condition that no request asks."""
    query = Query("", "", user_id, None, 0, now_ms, 0)
    return fold.moment(query, NO_MODELS)


def _names_of(plans: Mapping[str, Plan]) -> Names:
    """Return the names of texts of requests, which are those of the configuration in every plan."""
    filters = (each for plan in plans.values() for each in plan.filters)
    return next((each.names for each in filters if isinstance(each, RequestFilter)), Names())
