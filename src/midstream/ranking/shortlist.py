"""Shortlist of one request: sources, filters, catalogue and cut, in this order, at one moment.

The answer is made from it, and so is the *peek* that gives the ids of items for fetches (``ranking.fetching``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Candidates
from midstream.ranking.apply_filters import sift
from midstream.ranking.caller_items import GIVEN, UNKNOWN, only_given, said_of, verdict_of
from midstream.ranking.candidate_cutoff import cut
from midstream.ranking.candidate_generation import closed, fill, propose
from midstream.ranking.frame import merge, take
from midstream.ranking.pinned_candidates import pinned_of, with_pins
from midstream.ranking.plan import Closed
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.pin import Pinned
from midstream.ranking.source_cache import SourceCache
from midstream.state.ids.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """Candidates for features and scorers, and the counts of the steps before."""

    candidates: Candidates
    """Those that the filters left."""
    pinned: Pinned
    retrieved: Mapping[str, int]
    retrieved_count: int
    removed: Mapping[str, int]
    verdict: NDArray[np.intp] | None
    """As in ``Served``."""


def shortlist(run: PlanRun, asked: SourceCache | None = None) -> Shortlist:
    """Return the candidates of a plan at a moment, after the cut.

    Args:
        run: Of the plan; its account gets the failures.
        asked: Cache of the sources' proposals to equal queries at the same moment; None = no cache.
    """
    plan, moment, query = run.plan, run.moment, run.moment.query
    proposals = propose(run, asked)
    pinned = pinned_of(run)
    if query.given:
        candidates = only_given(moment, proposals)
        retrieved, retrieved_count = said_of(candidates), len(query.given)
    else:
        candidates = merge(proposals, moment.table(Vocabulary).item_count)
        retrieved = said_of(candidates)
        candidates = with_pins(pinned, candidates, retrieved)
        retrieved_count = len(candidates)
    verdicts = sift(run, candidates)
    removed, verdict = dict(verdicts.removed()), None
    if query.given:
        retrieved[GIVEN] = retrieved_count
        removed = {UNKNOWN: retrieved_count - len(candidates), **removed}
        verdict = verdict_of(moment, verdicts)
    proposed, candidates = candidates, take(candidates, verdicts.kept)
    is_closed = verdicts.is_closed or any(isinstance(rule, Closed) for rule in plan.filters)
    if len(candidates) < query.rows_max and not is_closed and not query.given:
        every = np.concatenate([pinned.item_index, *(each.item_index for each in proposals.values())])
        filled = fill(run, candidates, every)
        if filled is None:
            candidates, removed = closed(run, proposed)
        else:
            candidates, more, refused = filled
            retrieved[plan.fill.name] = more
            retrieved_count += more
            removed = {name: count + refused.get(name, 0) for name, count in removed.items()}
    # What the caller gave is scored to the last item.
    candidates, beyond = cut(plan, candidates, pinned.among(candidates.item_index), query.spare + len(query.given))
    return Shortlist(candidates, pinned, retrieved, retrieved_count, removed | beyond, verdict)
