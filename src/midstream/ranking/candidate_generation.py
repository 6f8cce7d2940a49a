"""Candidate generation: proposals of the sources, filled from the catalogue where the filters leave too few."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from midstream.core.traits import traits_of
from midstream.core.types import Candidates, Failure, Index, Proposal
from midstream.ranking.apply_filters import sift
from midstream.ranking.boundary import boundary
from midstream.ranking.candidate_cutoff import cut
from midstream.ranking.frame import checked, extend, merge, take
from midstream.ranking.plan import Nothing
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.source_cache import SourceCache
from midstream.retrieval.cut_search import CutProposal, retrieved
from midstream.state.ids.vocabulary import Vocabulary

NO_CANDIDATES = Candidates(np.empty(0, np.int32), (), np.empty((0, 0), np.float32), np.empty((0, 0), np.int32))
_FILL_ITEMS = 512
"""Items of the first step of filling a slate; each further step doubles the number."""


def propose(run: PlanRun, asked: SourceCache | None = None) -> dict[str, Proposal]:
    """Return the proposals of each source; one that fails, could not begin in time or was cut is in the account.

    Args:
        run: With the sources of its plan.
        asked: Cache of earlier proposals to equal queries; None = no cache.
    """
    plan, account = run.plan, run.account
    item_count = run.moment.table(Vocabulary).item_count
    proposals: dict[str, Proposal] = {}
    for number, source in enumerate((*plan.sources, *plan.floor)):
        shared = asked if traits_of(source).pure else None
        # The floor is asked whatever the time: it is what is left to answer with.
        is_late = number < len(plan.sources) and account.remaining_s() <= 0
        if is_late and shared is None:
            account.late(source.name)
            continue
        with boundary(source.name, account):  # also around the cache, as a type of one's own compares as it pleases
            proposal = None if shared is None else shared.get(source)
            if proposal is None and is_late:
                account.late(source.name)
                continue
            if proposal is None:
                proposal = checked(retrieved(source, run.moment, account.remaining_s), item_count)
                if shared is not None:
                    shared.put(source, proposal)
            proposals[source.name] = proposal
            if isinstance(proposal, CutProposal):
                account.failures.append(Failure(f"{source.name}.{proposal.part}", proposal.reason))
    return proposals


def proposed_by_sources(run: PlanRun) -> Candidates:
    """Return the merged proposals of the sources, before any filter."""
    return merge(propose(run), run.moment.table(Vocabulary).item_count)


def scored_candidates(run: PlanRun) -> Candidates:
    """Return the candidates that a placement's scorers would get, without pins and without filling."""
    candidates = proposed_by_sources(run)
    return cut(run.plan, take(candidates, sift(run, candidates).kept))[0]


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """Candidates of a slate after filling."""

    candidates: Candidates
    """The earlier ones, with those of the catalogue behind them."""
    examined: Index
    """Items of the catalogue that decided, those that a filter removed among them."""
    removed: Mapping[str, int]
    """Number of them that each filter removed."""


def fill(run: PlanRun, candidates: Candidates, asked: Index, rows_max: int) -> Filled | None:
    """Fill a slate from the catalogue until it has enough items, or no item is left.

    Args:
        run: Its plan's ``fill`` proposes, the filters decide.
        candidates: The sources' proposals that passed the filters.
        asked: Every item that was proposed before.
        rows_max: Number of candidates at which the slate has enough.

    Returns:
        None = a filter failed here, so neither these nor the earlier candidates may pass. Usually one step; at worst,
        when almost nothing is eligible, every item is examined. At 200,000 items: 0.4 ms, at worst 6 ms.
    """
    source, moment = run.plan.fill, run.moment
    wanted = rows_max - len(candidates)
    proposal = None
    with boundary(source.name, run.account):
        proposal = checked(source.retrieve(moment), moment.table(Vocabulary).item_count)
    if proposal is None:
        proposal = Nothing(source.name).retrieve(moment)
    found: list[Index] = [np.empty(0, np.int32)]
    examined: list[Index] = [np.empty(0, np.int32)]
    removed: dict[str, int] = {}
    looked_at, start, step = 0, 0, _FILL_ITEMS
    while start < len(proposal.item_index) and wanted > 0:
        more = proposal.item_index[start : start + step]
        block = extend(NO_CANDIDATES, source.name, more[~np.isin(more, asked)], looked_at)
        verdicts = sift(run, block)
        rows = np.flatnonzero(verdicts.kept)[:wanted]
        wanted -= len(rows)
        # What lies behind the last item needed was not looked at.
        upto = len(block) if wanted else int(rows[-1]) + 1
        for name, count in verdicts.removed(upto).items():
            removed[name] = removed.get(name, 0) + count
        found.append(block.item_index[rows])
        examined.append(block.item_index[:upto])
        looked_at += upto
        start += step
        step *= 2
        if verdicts.is_closed:
            return None
    candidates = extend(candidates, source.name, np.concatenate(found), 0)
    return Filled(candidates, np.concatenate(examined), removed)


def closed(run: PlanRun, candidates: Candidates) -> tuple[Candidates, dict[str, int]]:
    """Return no candidates, since a filter failed closed, and the number that each filter removed."""
    verdicts = sift(run.known(), candidates)
    return take(candidates, verdicts.kept), dict(verdicts.removed())
