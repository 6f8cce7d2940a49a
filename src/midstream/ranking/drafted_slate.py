"""Drafted slate: answers of several placements to one query, drafted into one slate with its continuation order.

The placements are the sources of the drafted slate. Each item names the placement that drafted it, or all of them where
it is nobody's, and ``ROUND`` where a round of picks begins. So teams are in the served record without a field of their
own, in the slate, in its continuation order and in each page that is read from it.

A ranking is fixed where its placement left nothing to chance: the slate and its order as they were made, by all its
rules. Of a placement that draws, the selector is asked for the probabilities at each place (``drawn``), and rules of
its slate cannot hold.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import (
    Candidates,
    Failure,
    FeatureFrame,
    Index,
    Mask,
    Order,
    Query,
    Score,
    Selection,
    Served,
)
from midstream.experiments.interleaving import CHANCES, NOBODY, Next, TeamDraft, listed, team_draft
from midstream.ranking.record.order import TURNS_MAX
from midstream.ranking.record.served import ServedItem
from midstream.ranking.selectors.sampling import uniforms
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.top_k import best_first, only_best
from midstream.retrieval.approximate import approximate_of

ROUND: Final = "draft.round"
"""Source of the items at which a round begins; no placement has such a name."""
SCORER: Final = "team_draft"
_DRAFTED: Final = 5
"""What is drawn for, beside those of ``sampling``."""
_TIERS: Final = ("full", "reduced", "floor")
Ranker: TypeAlias = Callable[[Sequence[int]], Next]
"""Returns a team of one draft, from the row in the draft of each of its placement's candidates."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One placement's answer to the query."""

    name: str
    """Of the placement."""
    served: Served
    """With a continuation order where the query asks for one."""
    ranker: Ranker | None = None
    """Of a placement that draws (``drawn``); None = its ranking is the slate and the order behind it."""


def drawn(selector: Choosing, features: FeatureFrame, score: Score) -> Ranker:
    """Return the ranker of a selector that draws: its probabilities at a place, given what is taken.

    Args:
        selector: A built-in one; at the first ``keep`` places of the slate its best candidate that is left comes.
        features: Of the candidates, (n,), for the selector.
        score: (n,), NaN = not ranked.

    Returns:
        A ranker. Cost: that of a place of the selector under slate rules.
    """
    order = best_first(score)
    own_rows: list[int] = order.tolist()
    worth = score[order].astype(np.float64)
    chances = selector.chances(features, order, worth)

    def team(row_of: Sequence[int]) -> Next:
        rows = [row_of[own] for own in own_rows]
        at_of = {row: at for at, row in enumerate(rows)}

        def following(taken: AbstractSet[int]) -> Mapping[int, float]:
            allowed: Mask = np.ones(len(rows), dtype=np.bool_)
            allowed[[at_of[row] for row in taken if row in at_of]] = False
            if not allowed.any():
                return {}
            share = only_best(worth, allowed) if len(taken) < selector.keep else chances(worth, allowed)
            whole = float(share.sum())
            likely: list[int] = np.flatnonzero(share > 0).tolist()
            return {rows[at]: float(share[at]) / whole for at in likely}

        return following

    return team


def drafted(query: Query, config_hash: str, sides: Sequence[Side], left_out: Sequence[Failure] = ()) -> Served:
    """Return the draft of the sides' answers, with an order behind the slate where the query asks for one.

    Args:
        query: With the size of the slate, the seed that decides the coins, and ``order_max``.
        config_hash: Of the configuration in which the placements are.
        sides: One or more, of one log position. A side's own query is this one but for its name.
        left_out: Placements that were to be sides and have no answer, and why.

    Returns:
        The slate. Its candidates are those of all sides; a chosen row has the score that its team gave it, an item of
        nobody that of the first side.

    Raises:
        ValueError: The sides are of several log positions or fold versions, a ranking was drawn without a ranker,
            or a side has what the record of a draft does not hold: fetched columns, approximate proposals, items of
            the caller or of the page.
    """
    for side in sides:
        if reason := unfit(side, sides[0].served):
            message = f"{side.name} has {reason}: a draft is of answers without"
            raise ValueError(message)
    items, index_of = _union(sides)
    teams = [_team(side, index) for side, index in zip(sides, index_of, strict=True)]
    places = max(query.slate_size, query.order_max)
    chance = uniforms(query.seed, _DRAFTED, places * CHANCES).reshape(places, CHANCES)
    draft = team_draft(teams, chance)
    size = min(query.slate_size, len(draft))
    first = sides[0].served
    propensity = np.clip(draft.propensity, np.finfo(np.float32).tiny, 1.0).astype(np.float32)
    return Served(
        query=query,
        log_position=first.log_position,
        candidates=_candidates(items, draft, sides),
        scorer=SCORER,
        score=_scores(len(items), index_of, sides, draft),
        selection=Selection(draft.chosen[:size], propensity[:size]),
        retrieved={side.name: len(index) for side, index in zip(sides, index_of, strict=True)},
        retrieved_count=len(items),
        removed={},
        failures=(*left_out, *(_named(side, each) for side in sides for each in side.served.failures)),
        config_hash=config_hash,
        tier=max((*(side.served.tier for side in sides), _TIERS[bool(left_out)]), key=_TIERS.index),
        fold_version=first.fold_version,
        models={name: version for side in sides for name, version in side.served.models.items()},
        order=_order(query, draft, propensity, size) if query.order_max else None,
    )


def teams_in(items: Sequence[ServedItem], names: Sequence[str]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return the team of each item of a served record, ``NOBODY`` = all, and where rounds begin, (n,).

    Args:
        items: Of the slate, or of a part of its order.
        names: The placements, in the order of the sides.
    """
    drafted_by = [[number for number, name in enumerate(names) if name in item.sources] for item in items]
    team = np.array([each[0] if len(each) == 1 else NOBODY for each in drafted_by], dtype=np.int8)
    return team, np.array([ROUND in item.sources for item in items], dtype=np.bool_)


def unfit(side: Side, first: Served) -> str:
    """Return what an answer has that the record of a draft does not hold; empty = nothing.

    Args:
        side: The answer.
        first: That of the first side.
    """
    served = side.served
    drawn_alone = side.ranker is None and not all(bool((each == 1).all()) for each in _propensities(served))
    faults = {
        "another log position": served.log_position != first.log_position,
        "another fold version": served.fold_version != first.fold_version,
        "a drawn ranking without its probabilities": drawn_alone,
        "fetched columns": bool(served.fetched.context or served.fetched.item_fields),
        "approximate proposals": bool(approximate_of(served)),
        "items of the caller or of the page": bool(served.query.given or served.query.spare or served.query.taken),
    }
    return " and ".join(name for name, is_so in faults.items() if is_so)


def _propensities(served: Served) -> list[Score]:
    return [served.selection.propensity, *([] if served.order is None else [served.order.propensity])]


def _ranking(served: Served) -> list[int]:
    """Return the rows of a slate and of the order behind it."""
    rows = served.selection.chosen if served.order is None else np.append(served.selection.chosen, served.order.chosen)
    found: list[int] = rows.tolist()
    return found


def _union(sides: Sequence[Side]) -> tuple[Index, list[NDArray[np.intp]]]:
    """Return the distinct items of all sides, in the order of the sides, and the row of each side's candidates."""
    every = np.concatenate([side.served.candidates.item_index for side in sides])
    known, first_at, at = np.unique(every, return_index=True, return_inverse=True)
    rank = np.empty(len(known), dtype=np.intp)
    rank[np.argsort(first_at)] = np.arange(len(known))
    stops = np.cumsum([len(side.served.candidates) for side in sides])[:-1]
    return every[np.sort(first_at)], np.split(rank[at], stops)


def _team(side: Side, index: NDArray[np.intp]) -> Next:
    """Return the team of a side over rows of the union."""
    rows: list[int] = index.tolist()
    return listed([rows[row] for row in _ranking(side.served)]) if side.ranker is None else side.ranker(rows)


def _candidates(items: Index, draft: TeamDraft, sides: Sequence[Side]) -> Candidates:
    """Return the union with its teams as sources: rank = place in the draft, of those that drafted the row."""
    place = np.arange(len(draft))
    is_of = [(draft.team == number) | (draft.team == NOBODY) for number in range(len(sides))]
    rank: Index = np.full((len(items), len(sides) + 1), -1, dtype=np.int32)
    for column, mine in enumerate((*is_of, draft.begins)):
        rank[draft.chosen[mine], column] = place[mine]
    score = np.where(rank >= 0, np.float32(0.0), np.float32(np.nan)).astype(np.float32)
    return Candidates(items, (*(side.name for side in sides), ROUND), score, rank)


def _scores(count: int, index_of: Sequence[NDArray[np.intp]], sides: Sequence[Side], draft: TeamDraft) -> Score:
    """Return the score of each row: that of its team, of undrafted rows and nobody's that of the first side with it."""
    by_side = np.full((len(sides), count), np.nan, dtype=np.float32)
    for number, (side, index) in enumerate(zip(sides, index_of, strict=True)):
        by_side[number, index] = side.served.score
    found: Score = by_side[-1].copy()
    for own in by_side[-2::-1]:
        found = np.where(np.isnan(own), found, own)
    has_team = draft.team != NOBODY
    found[draft.chosen[has_team]] = by_side[draft.team[has_team], draft.chosen[has_team]]
    return found


def _order(query: Query, draft: TeamDraft, propensity: Score, size: int) -> Order:
    """Return what is drafted behind the slate, in slates of the size of the first."""
    rest = min(len(draft) - size, TURNS_MAX * query.slate_size)
    whole, part = divmod(rest, query.slate_size)
    lengths = (query.slate_size,) * whole + ((part,) if part else ())
    return Order(draft.chosen[size : size + rest], propensity[size : size + rest], lengths)


def _named(side: Side, failure: Failure) -> Failure:
    return replace(failure, component=f"{side.name}.{failure.component}")
