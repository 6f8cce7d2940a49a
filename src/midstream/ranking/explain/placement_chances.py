"""Probability of a logged slate under a plan on the state of its log position: a rerun that draws nothing.

The plan may be that of the record, or one that never served. Sources, filters, features and scorers run as in a
request; then the selector says how likely it makes the slate that was logged.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Moment, Query
from midstream.ranking.boundary import Account
from midstream.ranking.decision import Decision
from midstream.ranking.pipeline import PlanRequest
from midstream.ranking.plan import Plan
from midstream.ranking.record.outside_scores import RecordedScores, scores_in
from midstream.ranking.record.served import ServedRecord
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.slate_chances import SlateChances, slate_chances
from midstream.ranking.selectors.top_k import Real
from midstream.state.ids.vocabulary import Vocabulary

RULES = "rules of the slate decide beside the selector"
CUSTOM = "a selector of one's own says no probabilities"
REMOTE = "a scorer asks a server, which is not asked about the past"
FETCHES = "columns are fetched from outside, which are not known of the past"


@dataclass(frozen=True, slots=True, eq=False)
class PlacementChances:
    """What a plan would have made of one request."""

    item_index: Index
    """Its candidates, (n,)."""
    slate: SlateChances
    """Of the logged slate; shares are row for row of the candidates."""


class NoChances(Exception):
    """A plan whose probabilities cannot be computed; the text has the reason."""


def unknown_chances(plan: Plan) -> str | None:
    """Return why nothing can be said of any slate of a plan that did not log it; None = it can."""
    if plan.remote:
        return REMOTE
    if plan.fetches:
        return FETCHES
    return None if isinstance(plan.selectors[0], Choosing) else CUSTOM


async def placement_chances(
    plan: Plan, observe: Callable[[Query], Moment], record: ServedRecord, *, as_logged: bool, places: int | None = None
) -> PlacementChances:
    """Return the probability with which a plan makes a logged slate.

    Args:
        plan: With its models.
        observe: The state at the record's log position.
        record: Of the slate.
        as_logged: The plan is the record's: what failed then is left out, and what was asked then is known.
        places: Only the first ones; None = all.

    Raises:
        NoChances: The slate was, or would be, decided by more than a built-in selector.
        ScoresUnavailable: No scorer gives scores.

    Cost: that of a request, and of its selector a place.
    """
    account = Account(record.failures if as_logged else ())
    whole = plan.recorded(record.approximate) if as_logged else plan
    request = PlanRequest.of(whole, record.query, account)
    kept = request.plan.without(frozenset(plan.remote) - {record.scorer}) if as_logged else request.plan
    gathered = replace(request, plan=kept, fetched=record.fetched).gathered(observe)
    candidates = gathered.candidates
    recorded = None
    if as_logged and record.scorer in plan.remote:
        given = scores_in(record.outside_scores, _vocabulary(observe, record).item_ids(candidates.item_index))
        recorded = RecordedScores(record.scorer, given)
    decision = Decision(kept, gathered.request.query, gathered.features, gathered.facts, account, recorded)
    _, score = await decision.scored()
    selector = kept.selectors[0]
    if not isinstance(selector, Choosing):
        raise NoChances(CUSTOM)
    if gathered.facts is not None and not gathered.facts.is_idle:
        raise NoChances(RULES)
    rows = _rows(candidates.item_index, _vocabulary(observe, record).item_indices([each.id for each in record.items]))
    return PlacementChances(candidates.item_index, slate_chances(selector, gathered.features, score, rows, places))


def mass_without_support(target: PlacementChances, logged: PlacementChances, least: float) -> Real:
    """Return the target's share of each place on items that the logging plan gives less than ``least``, (places,).

    Args:
        target: Of the plan that never served.
        logged: Of the plan that did, of the same slate.
        least: Probability below which an item counts as one that cannot be logged.
    """
    at = _rows(logged.item_index, target.item_index)
    known = np.where(at >= 0, logged.slate.share[:, at], 0.0)
    return np.asarray(np.where(known < least, target.slate.share, 0.0).sum(axis=1), dtype=np.float64)


def _rows(item_index: Index, wanted: Index) -> NDArray[np.intp]:
    """Return the row of each wanted item among candidates, -1 = it is none."""
    if not len(item_index):
        return np.full(len(wanted), -1, dtype=np.intp)
    order = np.argsort(item_index, kind="stable")
    at = order[np.minimum(np.searchsorted(item_index, wanted, sorter=order), len(order) - 1)]
    return np.where(item_index[at] == wanted, at, -1).astype(np.intp)


def _vocabulary(observe: Callable[[Query], Moment], record: ServedRecord) -> Vocabulary:
    return observe(record.query).table(Vocabulary)
