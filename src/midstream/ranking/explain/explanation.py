"""Explanation of a slate: the sources and evidence of each item, the parts of its score, and its place.

An explanation is made of three things and of nothing that was kept for it: what the pipeline returned (``Served``), the
plan, and the moment, live or rebuilt. So what is explained is what happened, and answers cost nothing for it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import index

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Source
from midstream.core.types import Candidates, Failure, Index, Moment, Served
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.explain.rule_effects import Effect, amounts_of, effects_of
from midstream.ranking.explain.score_parts import ScoreParts, score_parts
from midstream.ranking.frame import of_type
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.selectors.top_k import best_first
from midstream.retrieval.evidence import NOTHING, Evidence, Led, SaysWhy
from midstream.state.ids.vocabulary import Vocabulary


class LedBy(msgspec.Struct, frozen=True):
    """An item of the asker's that led to another."""

    id: str
    share: float
    """Of all that speaks for the other one in this source, above 0 and at most 1."""


class Proposed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one source said of an item."""

    source: str
    rank: int
    """0 = its best."""
    score: float | None
    """None = it is no number."""
    led_by: tuple[LedBy, ...] = ()
    facts: Mapping[str, str | float | None] = {}
    """What the source counts, where it does not go by what the asker did; None = unknown."""


class Removed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A filter that says no."""

    filter: str
    part: str = ""
    """The part of the filter's text that is not true, as it is written; empty where there is no text."""


class ItemWhy(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why one item is where it is."""

    id: str
    outcome: str
    """``served``, ``not_selected`` (scored, and not in the slate), ``not_scored`` (cut), ``removed`` (by a filter),
    ``not_proposed``, ``deleted``, ``unknown``, or ``unexplained`` (a part that decided it cannot be asked again)."""
    because: str
    """The same in a sentence."""
    position: int | None = None
    propensity: float | None = None
    score: float | None = None
    """None = it has none, as a pinned item may."""
    rank: int | None = None
    """Place by the score alone among the candidates, 0 = the highest; None = it has no score."""
    proposed: tuple[Proposed, ...] = ()
    features: Mapping[str, float | None] = {}
    """What the placement's features were; None = unknown."""
    parts: ScoreParts | None = None
    removed: tuple[Removed, ...] = ()
    effects: tuple[Effect, ...] = ()


class SlateWhy(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Why a slate is what it is."""

    request_id: str
    placement: str
    log_position: int
    """Of the state that answered."""
    config_hash: str
    tier: str
    scorer: str
    recent: tuple[str, ...]
    """Items of the asking session, oldest first."""
    retrieved: Mapping[str, int]
    removed: Mapping[str, int]
    candidate_count: int
    items: tuple[ItemWhy, ...]
    """Of the slate, in its order."""
    asked: tuple[ItemWhy, ...] = ()
    """Of further items that were asked about."""
    failures: Mapping[str, str] = {}
    """Parts that failed when the request was answered, each with its reason."""
    unexplained: Mapping[str, str] = {}
    """Parts that failed while this explanation was made, each with its reason: what they would say is missing."""
    models: Mapping[str, str] = {}


def explain(served: Served, plan: Plan, moment: Moment) -> SlateWhy:
    """Return why each item of a slate is in it, without what made its score (``with_parts``).

    Args:
        served: What the pipeline returned.
        plan: What answered.
        moment: The state that it answered from. Cost: a few queries of each source, 2 ms in all.
    """
    vocabulary, chosen = moment.table(Vocabulary), served.selection.chosen
    ids = vocabulary.item_ids(served.candidates.item_index[chosen])
    order = {row: rank for rank, row in enumerate(best_first(served.score).tolist())}
    run = PlanRun(plan, moment, Account())
    said = proposals_of(served.candidates, chosen, run)
    amounts = amounts_of(served, run)
    items = tuple(
        ItemWhy(
            id=item_id,
            outcome="served",
            because=served_in_words(said[place], place, order.get(row), served.scorer),
            position=place,
            propensity=float(served.selection.propensity[place]),
            score=finite(float(served.score[row])),
            rank=order.get(row),
            proposed=said[place],
            features=features_of(served, row),
            effects=effects_of(served, int(served.candidates.item_index[row]), amounts),
        )
        for place, (row, item_id) in enumerate(zip(chosen.tolist(), ids, strict=True))
    )
    query = served.query
    return SlateWhy(
        request_id=query.request_id,
        placement=query.placement,
        log_position=served.log_position,
        config_hash=served.config_hash,
        tier=served.tier,
        scorer=served.scorer,
        recent=tuple(vocabulary.item_ids(moment.recent_item_index[moment.recent_item_index >= 0])),
        retrieved=dict(served.retrieved),
        removed=dict(served.removed),
        candidate_count=len(served.candidates),
        items=items,
        failures=by_part(served.failures),
        unexplained=by_part(run.account.failures),
        models=dict(served.models),
    )


def with_parts(why: SlateWhy, served: Served, plan: Plan) -> SlateWhy:
    """Return an explanation that says what made the scores of the slate's items; needs no state.

    A scorer that fails while its scores are taken apart is named in ``unexplained``.
    """
    parts, failures = score_parts(served, plan, served.selection.chosen)
    items = tuple(msgspec.structs.replace(each, parts=made) for each, made in zip(why.items, parts, strict=True))
    return msgspec.structs.replace(why, items=items, unexplained={**by_part(failures), **why.unexplained})


def by_part(failures: Iterable[Failure]) -> dict[str, str]:
    """Return the reason of each part that failed, by its name; of one that failed twice the first."""
    found: dict[str, str] = {}
    for each in failures:
        found.setdefault(each.component, each.reason)
    return found


def finite(value: float) -> float | None:
    """Return a number as JSON can have it; None = NaN or infinite."""
    return value if math.isfinite(value) else None


def proposals_of(candidates: Candidates, rows: NDArray[np.intp], run: PlanRun) -> tuple[tuple[Proposed, ...], ...]:
    """Return which sources proposed each of some candidates, with their evidence.

    Args:
        candidates: Merged.
        rows: Of the candidates, (n,).
        run: Its plan's sources are asked for evidence, from the state that they proposed from.
    """
    plan, moment = run.plan, run.moment
    sources = {each.name: each for each in (*plan.sources, *plan.floor, plan.fill)}
    found: list[list[Proposed]] = [[] for _ in rows]
    for column, name in enumerate(candidates.source_names):
        rank, score = candidates.source_rank[rows, column], candidates.source_score[rows, column]
        places = np.flatnonzero(rank >= 0)
        evidence = evidence_of(sources.get(name), candidates.item_index[rows[places]], run)
        for place, told in zip(places.tolist(), evidence, strict=True):
            led = _led_by(told, moment)
            facts = {fact: finite(value) if isinstance(value, float) else value for fact, value in told.facts.items()}
            found[place].append(Proposed(name, int(rank[place]), finite(float(score[place])), led, facts))
    return tuple(tuple(sorted(each, key=lambda one: one.rank)) for each in found)


def evidence_of(source: Source | None, item_index: Index, run: PlanRun) -> Sequence[Evidence]:
    """Return what a source goes by in proposing some items; nothing where it cannot say.

    Args:
        source: None = it is not there any more.
        item_index: Of the items, (n,).
        run: With the state that it proposed from; the source fails in it where it raises, or answers with another
            number, or no evidence.
    """
    nothing = (NOTHING,) * len(item_index)
    if not isinstance(source, SaysWhy) or not len(item_index):
        return nothing
    with boundary(source.name, run.account):
        told = source.why(run.moment, item_index)
        if len(told) != len(item_index):
            message = f"evidence of {len(told)} items came where {len(item_index)} is right"
            raise ShapeMismatch(message)
        item_count = run.moment.table(Vocabulary).item_count
        return tuple(_plain(each, item_count) for each in told)
    return nothing


def _plain(told: Evidence, item_count: int) -> Evidence:
    """Return evidence in Python's own numbers, as NumPy's are no JSON, whoever wrote the source.

    Raises:
        ShapeMismatch: It is of another type, or led by an item that there is not, with a share that is no number.
        TypeError: What it counts is neither a text nor a number.
    """
    of_type(told, Evidence, "Evidence")
    led = tuple(Led(index(each.item_index), float(each.share)) for each in told.led)
    if not all(0 <= each.item_index < item_count and math.isfinite(each.share) for each in led):
        message = f"evidence of an item outside 0 to {item_count - 1}, or of a share that is no number"
        raise ShapeMismatch(message)
    return Evidence(
        led, {name: each if isinstance(each, str | int) else float(each) for name, each in told.facts.items()}
    )


def _led_by(evidence: Evidence, moment: Moment) -> tuple[LedBy, ...]:
    vocabulary = moment.table(Vocabulary)
    return tuple(LedBy(vocabulary.item_id(each.item_index), each.share) for each in evidence.led)


def features_of(served: Served, row: int) -> dict[str, float | None]:
    """Return what the features of a candidate were."""
    if served.features is None:
        return {}
    values = served.features.values[row].tolist()
    return {name: finite(value) for name, value in zip(served.features.names, values, strict=True)}


def served_in_words(proposed: Sequence[Proposed], position: int, rank: int | None, scorer: str) -> str:
    """Return in a sentence why an item is in the slate: who proposed it, where it stands, and its place by the score.

    Args:
        proposed: By whom.
        position: In the slate, 0 = the first.
        rank: By the score alone, 0 = the highest; None = it has no score.
        scorer: Whose score it is.
    """
    who = " and ".join(each.source for each in proposed[:2]) or "nobody"
    more = f" and {len(proposed) - 2} more" if len(proposed) > 2 else ""  # noqa: PLR2004  those that are named
    by = f"no score by {scorer}" if rank is None else f"{ordinal(rank + 1)} by {scorer}"
    return f"proposed by {who}{more}; position {position + 1}; {by}"


def ordinal(number: int) -> str:
    """Return a place as it is said.

    Example:
        >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 22, 113)]
        ['1st', '2nd', '3rd', '4th', '11th', '22nd', '113th']
    """
    is_teen = number % 100 in {11, 12, 13}
    return f"{number}{'th' if is_teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
