"""Explanation of an absent item (why-not): the first cause that kept it out of a slate, and all further ones.

Sources and filters run again for that one item, on the state of the answer. So the explanation of an item that no
source proposed has the filters that would have removed it, and that of a removed item has its sources.
"""

import ast
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.answers.explanations import Effect, ItemWhy, Proposed, Removed, SlateWhy
from midstream.core.protocols import Filter
from midstream.core.types import Candidates, Index, Moment, Served
from midstream.features.language import Condition, condition
from midstream.ranking.apply_filters import sift
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.caller_items import PAGE
from midstream.ranking.candidate_cutoff import CUT
from midstream.ranking.candidate_generation import proposed_by_sources
from midstream.ranking.explain.explanation import (
    by_part,
    explain,
    features_of,
    finite,
    proposals_of,
    served_in_words,
    with_parts,
)
from midstream.ranking.explain.rule_effects import Amounts, amounts_of, effects_of
from midstream.ranking.explain.score_parts import score_parts
from midstream.ranking.filters.expression_filter import ExpressionFilter, RequestFilter
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.arrangement import ARRANGEMENT, codes_of
from midstream.ranking.rules.cap import Cap, served_before
from midstream.ranking.selectors.top_k import best_first
from midstream.retrieval.approximate import approximate_of
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items


@dataclass(frozen=True, slots=True, eq=False)
class WhyNotQuestion:
    """Inputs of a why-not explanation: a slate, its plan and state, and all proposals."""

    served: Served
    run: PlanRun
    """Its account has the failures of the explanation, and the sources that failed now."""
    proposed: Candidates
    """Before any filter."""
    unasked: tuple[str, ...]
    """Sources that failed at their second proposal: what they had proposed is not known."""
    amounts: Amounts
    """Amounts of boosts and similarity."""


def asked_of(served: Served, plan: Plan, moment: Moment) -> WhyNotQuestion:
    """Return the inputs for a slate; its sources propose once more. Cost: that of the sources.

    What an index named, or a search found until its time was over, is what it was: that is not asked for again.
    """
    failed = frozenset(each.component for each in served.failures)
    run = PlanRun(plan, moment, Account())
    proposed = proposed_by_sources(replace(run, plan=plan.without(failed).recorded(approximate_of(served))))
    unasked = tuple(each.component for each in run.account.failures)
    return WhyNotQuestion(served, run, proposed, unasked, amounts_of(served, run))


def explain_with(served: Served, plan: Plan, moment: Moment, items: Sequence[str]) -> SlateWhy:
    """Return the explanation of a slate's items and of further items, with the parts of their scores.

    Args:
        served: Result of the pipeline.
        plan: Plan of the answer.
        moment: State of the answer. Cost: 2 ms, with items that of the sources once more.
        items: Ids of the further items; ``asked`` of the explanation has this order.
    """
    slate = with_parts(explain(served, plan, moment), served, plan)
    if not items:
        return slate
    asked = asked_of(served, plan, moment)
    found = [why(asked, item) for item in items]
    rows = np.array([row_of(served, moment, item) for item in items], dtype=np.intp)
    parts, failures = score_parts(served, plan, rows[rows >= 0])
    made = iter(parts)
    found = [
        msgspec.structs.replace(each, parts=next(made)) if row >= 0 else each
        for each, row in zip(found, rows.tolist(), strict=True)
    ]
    unexplained = {**by_part((*asked.run.account.failures, *failures)), **slate.unexplained}
    return msgspec.structs.replace(slate, asked=tuple(found), unexplained=unexplained)


def why(asked: WhyNotQuestion, item_id: str) -> ItemWhy:
    """Return why an item is in a slate or not, without the parts of its score (``score_parts``)."""
    served = asked.served
    index = asked.run.moment.table(Vocabulary).item_index(item_id)
    if index < 0:
        return ItemWhy(id=item_id, outcome="unknown", because="nothing had named this item by then")
    rows = np.flatnonzero(served.candidates.item_index == index)
    if len(rows):
        return _candidate(asked, item_id, int(rows[0]))
    if item_id in served.query.taken:
        taken = (Removed(PAGE),)
        return ItemWhy(id=item_id, outcome="removed", because="an earlier slate of the page has it", removed=taken)
    if served.query.given and item_id not in served.query.given:
        return ItemWhy(id=item_id, outcome="not_proposed", because="it is not among the caller's items")
    return _left_out(asked, item_id, index)


def _left_out(asked: WhyNotQuestion, item_id: str, index: int) -> ItemWhy:
    """Return why a known item is not among the candidates that were scored."""
    removed, unasked = removals(asked, index)
    places = np.flatnonzero(asked.proposed.item_index == index)
    (said,) = proposed_by(asked, asked.proposed, places) if len(places) else ((),)
    if not said and item_id not in asked.served.fetched.item_fields:
        # Columns of an item that the answer did not examine are not kept: no filter that reads them can be run again.
        removed = tuple(each for each in removed if each.filter not in asked.run.plan.after_fetch)
    if not asked.run.moment.table(Items).exists(index):
        outcome, because = "deleted", "it was deleted from the catalogue by then"
    elif removed:
        outcome, because = "removed", _removed_in_words(said, removed, asked.unasked)
    elif said and unasked:
        told = f"proposed by {said[0].source} at place {said[0].rank + 1}"
        outcome, because = "unexplained", f"{told}; what failed when it was asked again: {', '.join(unasked)}"
    elif said and asked.served.removed.get(CUT):
        told = f"proposed by {said[0].source} at place {said[0].rank + 1}, and not among the best by the blend"
        outcome, because = "not_scored", f"{told}, which alone are scored"
    else:
        outcome, because = _not_proposed(asked)
    effects = effects_of(asked.served, index)
    return ItemWhy(id=item_id, outcome=outcome, because=because, proposed=said, removed=removed, effects=effects)


def _not_proposed(asked: WhyNotQuestion) -> tuple[str, str]:
    """Return outcome and sentence of an item that no source proposed, of those that can run again."""
    failed = frozenset(each.component for each in asked.served.failures)
    sources = [each.name for each in (*asked.run.plan.sources, *asked.run.plan.floor)]
    names = ", ".join(each for each in sources if each not in failed and each not in asked.unasked) or "none answered"
    then = ", ".join(each for each in sources if each in failed)
    because = f"no source proposed it: {names}{f'; had failed: {then}' if then else ''}"
    if not asked.unasked:
        return "not_proposed", because
    return "unexplained", f"{because}; failed when asked again: {', '.join(asked.unasked)}"


def proposed_by(
    asked: WhyNotQuestion, candidates: Candidates, rows: NDArray[np.intp]
) -> tuple[tuple[Proposed, ...], ...]:
    """Return the sources that proposed each of some candidates, with their evidence."""
    return proposals_of(candidates, rows, asked.run)


def row_of(served: Served, moment: Moment, item_id: str) -> int:
    """Return the row of an item among the candidates that were scored, -1 = it is not among them."""
    index = moment.table(Vocabulary).item_index(item_id)
    rows = np.flatnonzero(served.candidates.item_index == index)
    return int(rows[0]) if len(rows) and index >= 0 else -1


def removals(asked: WhyNotQuestion, index: int) -> tuple[tuple[Removed, ...], tuple[str, ...]]:
    """Return the filters that remove an item, with the false part of their text, and the filters that fail now.

    Both are in the order of the filters. A filter that fails now is not counted as one that removes the item.
    """
    one = _alone(np.array([index], dtype=np.int32))
    found: list[Removed] = []
    unasked: list[str] = []
    for rule in asked.run.plan.filters:
        if any(each.component == rule.name for each in asked.served.failures):
            found.append(Removed(rule.name, "it failed, so nothing passes"))
            continue
        verdicts = sift(asked.run, one, (rule,))
        if verdicts.is_closed:
            unasked.append(rule.name)
        elif not verdicts.kept[0]:
            part = ""
            with boundary(rule.name, asked.run.account):
                part = false_part(rule, asked.run.moment, one.item_index)
            found.append(Removed(rule.name, part))
    return tuple(found), tuple(unasked)


def _alone(item_index: Index) -> Candidates:
    """Return items as candidates without a source."""
    empty = (len(item_index), 0)
    return Candidates(item_index, (), np.empty(empty, np.float32), np.empty(empty, np.int32))


def false_part(rule: Filter, moment: Moment, item_index: Index) -> str:
    """Return the parts of a filter's text, split at its outermost ``and``, that are false for an item.

    Empty = none. A part that cannot be evaluated by itself is skipped.
    """
    if isinstance(rule, ExpressionFilter):
        text, names = rule.condition.text, rule.condition.names
    elif isinstance(rule, RequestFilter):
        text, names = moment.query.filter or "", rule.names
    else:
        return ""
    parts = ((part, condition(part, names, "")) for part in conjuncts(text))
    return "; ".join(
        part for part, read in parts if isinstance(read, Condition) and not read.passes(moment, item_index)[0]
    )


def conjuncts(text: str) -> tuple[str, ...]:
    """Return the parts of a condition between its outermost ``and``, as they are written.

    Example:
        >>> conjuncts('item.price < 5 and (item.a or item.b) and "and" in item.tags')
        ('item.price < 5', 'item.a or item.b', '"and" in item.tags')
    """
    try:
        body = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return ()
    parts = body.values if isinstance(body, ast.BoolOp) and isinstance(body.op, ast.And) else [body]
    return tuple(ast.get_source_segment(text, part) or "" for part in parts)


def _candidate(asked: WhyNotQuestion, item_id: str, row: int) -> ItemWhy:
    """Return why a candidate that was scored is where it is."""
    served, chosen = asked.served, asked.served.selection.chosen.tolist()
    order = best_first(served.score).tolist()
    rank = order.index(row) if row in order else None
    (said,) = proposed_by(asked, served.candidates, np.array([row]))
    score = finite(float(served.score[row]))
    if row in chosen:
        place = chosen.index(row)
        return ItemWhy(
            id=item_id,
            outcome="served",
            because=served_in_words(said, place, rank, served.scorer),
            position=place,
            propensity=float(served.selection.propensity[place]),
            score=score,
            rank=rank,
            proposed=said,
            features=features_of(served, row),
            effects=effects_of(served, int(served.candidates.item_index[row]), asked.amounts),
        )
    effects = kept_out(asked, row)
    return ItemWhy(
        id=item_id,
        outcome="not_selected",
        because=_passed_over(asked, rank, score, effects),
        score=score,
        rank=rank,
        proposed=said,
        features=features_of(served, row),
        effects=effects,
    )


def _passed_over(asked: WhyNotQuestion, rank: int | None, score: float | None, effects: Sequence[Effect]) -> str:
    """Return in a sentence why a candidate with a score is not in the slate."""
    served = asked.served
    chosen = served.selection.chosen
    if rank is None or score is None:
        return f"{served.scorer} gave it no score"
    if effects:
        return "; ".join(f"{each.rule}: {each.effect}" for each in effects)
    if not len(chosen):
        return "the slate is empty"
    told = f"place {rank + 1} of {len(served.candidates)} by the score, {score:.5g}"
    scores = [each for each in served.score[chosen].tolist() if math.isfinite(each)]
    return f"{told}; the last of the slate has {scores[-1]:.5g}" if scores else told


def kept_out(asked: WhyNotQuestion, row: int) -> tuple[Effect, ...]:
    """Return the causes that kept a candidate out of the slate: traces of its rules, and full caps.

    Traces cover the best items by score alone; a full cap would have kept out others as well.
    """
    told = effects_of(asked.served, int(asked.served.candidates.item_index[row]), asked.amounts)
    named = {each.rule for each in told}
    return (*told, *(each for each in full_caps(asked, row) if each.rule not in named))


def full_caps(asked: WhyNotQuestion, row: int) -> tuple[Effect, ...]:
    """Return the caps that a candidate would exceed, by the slate's items of its value and those served before.

    Earlier slates count where the cap has a time, as they do for the cap itself (``rule_cap.served_before``).
    """
    arrangement = asked.run.plan.arrangement
    failed = {each.component for each in asked.served.failures}
    if arrangement is None or ARRANGEMENT in failed:
        return ()
    found: list[Effect] = []
    for cap in arrangement.caps:
        with boundary(ARRANGEMENT, asked.run.account):
            found.extend(_full(asked, cap, row))
    return tuple(found)


def _full(asked: WhyNotQuestion, cap: Cap, row: int) -> Iterator[Effect]:
    """Yield the values of a candidate of which a cap lets no more come."""
    items = asked.run.moment.table(Items)
    wide = codes_of(items, cap.attribute, asked.served.candidates.item_index)
    before = served_before(cap, asked.run.moment)
    for value in sorted(set(wide[row].tolist()) - {-1}):
        here = int((wide[asked.served.selection.chosen] == value).any(axis=1).sum())
        lately = before.get(value, 0)
        if here + lately >= cap.max:
            told = f"{_items_are(here)} of {items.value_text(cap.attribute, value)!r} in the slate"
            more = "" if cap.within is None else f" and {lately} served before within {cap.within}"
            yield Effect(cap.name, f"{told}{more}: at most {cap.max}")


def _items_are(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _removed_in_words(proposed: Sequence[Proposed], removed: Sequence[Removed], unasked: Sequence[str]) -> str:
    first = removed[0]
    part = f" ({first.part})" if first.part else ""
    if proposed:
        who = f"{proposed[0].source} had proposed it"
    elif unasked:
        who = f"who proposed it is not known: {', '.join(unasked)} failed when asked again"
    else:
        who = "and no source proposed it"
    return f"removed by {first.filter}{part}; {who}"
