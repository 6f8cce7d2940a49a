"""Shortlist of one request: sources, filters, catalogue and cut, in this order, at one moment.

The answer is made from it, and so is the *peek* that gives the ids of items for fetches (``ranking.fetching``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Candidates, Index, Proposal
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
from midstream.retrieval.approximate import ApproximateProposal
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
    examined: tuple[Index, ...]
    """Every item whose columns may have decided something: what was proposed, and what filling looked at."""
    approximate: Mapping[str, Proposal]
    """Approximate proposals, by source."""


def shortlist(run: PlanRun, asked: SourceCache | None = None, count_max: int | None = None) -> Shortlist:
    """Return the candidates of a plan at a moment, after the cut.

    Args:
        run: Of the plan; its account gets the failures.
        asked: Cache of the sources' proposals to equal queries at the same moment; None = no cache.
        count_max: Of a peek: number of candidates that it looks for, and to which they are cut. The cut is among the
            removals only where there are more. None = as many as the query and the plan need.
    """
    plan, moment, query = run.plan, run.moment, run.moment.query
    rows_max, spare = query.rows_max, query.spare + len(query.given)  # what the caller gave is scored to the last item
    if count_max is not None:
        rows_max, spare = count_max + 1, count_max - plan.candidates_max
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
    examined: tuple[Index, ...] = (proposed.item_index,)
    if len(candidates) < rows_max and not is_closed and not query.given:
        every = np.concatenate([pinned.item_index, *(each.item_index for each in proposals.values())])
        filled = fill(run, candidates, every, rows_max)
        if filled is None:
            candidates, removed = closed(run, proposed)
        else:
            candidates, examined = filled.candidates, (*examined, filled.examined)
            retrieved[plan.fill.name] = len(filled.examined)
            retrieved_count += len(filled.examined)
            removed = {name: count + filled.removed.get(name, 0) for name, count in removed.items()}
    candidates, beyond = cut(plan, candidates, pinned.among(candidates.item_index), spare)
    approximate = {name: each for name, each in proposals.items() if isinstance(each, ApproximateProposal)}
    return Shortlist(candidates, pinned, retrieved, retrieved_count, removed | beyond, verdict, examined, approximate)
