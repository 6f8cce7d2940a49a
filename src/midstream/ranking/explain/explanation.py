"""Explanation of a slate: sources and evidence of each item, parts of its score, and its rank.

It is computed from the pipeline's result (``Served``), the plan and the moment, live or rebuilt. Nothing is stored for
it, so answers cost nothing for it.
"""

import math
from collections.abc import Iterable, Sequence
from operator import index

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.answers.explanations import ItemWhy, LedBy, Proposed, SlateWhy
from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Source
from midstream.core.types import Candidates, Failure, Index, Moment, Served
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.explain.rule_effects import amounts_of, effects_of
from midstream.ranking.explain.score_parts import score_parts
from midstream.ranking.frame import of_type
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.selectors.top_k import best_first
from midstream.retrieval.evidence import NOTHING, Evidence, Led, SaysWhy
from midstream.state.ids.vocabulary import Vocabulary


def explain(served: Served, plan: Plan, moment: Moment) -> SlateWhy:
    """Return the explanation of each item of a slate, without the parts of scores (``with_parts``).

    Args:
        served: Result of the pipeline.
        plan: Plan of the answer.
        moment: State of the answer. Cost: a few queries of each source, 2 ms in all.
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
    """Return an explanation with the parts of the scores of the slate's items; needs no state.

    A scorer that fails while its scores are attributed is named in ``unexplained``.
    """
    parts, failures = score_parts(served, plan, served.selection.chosen)
    items = tuple(msgspec.structs.replace(each, parts=made) for each, made in zip(why.items, parts, strict=True))
    return msgspec.structs.replace(why, items=items, unexplained={**by_part(failures), **why.unexplained})


def by_part(failures: Iterable[Failure]) -> dict[str, str]:
    """Return the reason of each failed component, by its name; the first of several."""
    found: dict[str, str] = {}
    for each in failures:
        found.setdefault(each.component, each.reason)
    return found


def finite(value: float) -> float | None:
    """Return a number as JSON can have it; None = NaN or infinite."""
    return value if math.isfinite(value) else None


def proposals_of(candidates: Candidates, rows: NDArray[np.intp], run: PlanRun) -> tuple[tuple[Proposed, ...], ...]:
    """Return the sources that proposed each of some candidates, with their evidence.

    Args:
        candidates: Merged.
        rows: Of the candidates, (n,).
        run: With the sources of its plan and the state from which they proposed.
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
    """Return the evidence of a source for some items; empty where the source has none.

    Args:
        source: None = it does not exist any more.
        item_index: Of the items, (n,).
        run: With the state from which it proposed. The source fails in it if it raises, or returns another number of
            values, or no evidence.
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
    """Return evidence in Python's own numbers, as NumPy's are no JSON, for built-in and custom sources.

    Raises:
        ShapeMismatch: It is of another type, or has an item that does not exist, or a share that is no number.
        TypeError: A count is neither a text nor a number.
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
    """Return the feature values of a candidate."""
    if served.features is None:
        return {}
    values = served.features.values[row].tolist()
    return {name: finite(value) for name, value in zip(served.features.names, values, strict=True)}


def served_in_words(proposed: Sequence[Proposed], position: int, rank: int | None, scorer: str) -> str:
    """Return in a sentence why an item is in the slate: its sources, its position and its rank by score.

    Args:
        proposed: Its proposals.
        position: In the slate, 0 = the first.
        rank: By the score alone, 0 = the highest; None = it has no score.
        scorer: Name of the scorer.
    """
    who = " and ".join(each.source for each in proposed[:2]) or "nobody"
    more = f" and {len(proposed) - 2} more" if len(proposed) > 2 else ""  # noqa: PLR2004  those that are named
    by = f"no score by {scorer}" if rank is None else f"{ordinal(rank + 1)} by {scorer}"
    return f"proposed by {who}{more}; position {position + 1}; {by}"


def ordinal(number: int) -> str:
    """Return an ordinal number in words.

    Example:
        >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 22, 113)]
        ['1st', '2nd', '3rd', '4th', '11th', '22nd', '113th']
    """
    is_teen = number % 100 in {11, 12, 13}
    return f"{number}{'th' if is_teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
