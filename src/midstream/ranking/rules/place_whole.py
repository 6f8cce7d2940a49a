"""Slates of caps, ``mmr`` and boosts that one kernel fills: nothing is drawn, and no rule has places of its own.

The choice and its traces equal those of ``arrangement`` position by position, to the bit.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Score, Selection, Trace
from midstream.ranking.rules.boost import lifted, worth_of
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import RULE as DIVERSITY
from midstream.ranking.rules.diversity import Diversity, is_of_one_value, range_of
from midstream.ranking.rules.place_kernel import PlacingColumns, place_all
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.top_k import best_first


def is_plain(facts: CandidateFacts, diversity: Diversity | None) -> bool:
    """Return whether the kernel knows all that the facts say, given a selector that takes the best."""
    if facts.promotions or facts.fresh or facts.pins or facts.taste is not None or any(facts.before):
        return False
    if facts.values is not None and (
        diversity is None or diversity.method != "mmr" or not is_of_one_value(facts.values)
    ):
        return False
    return all(each.shape[1] == 1 for each in facts.capped)


def placed(
    caps: Sequence[Cap], diversity: Diversity | None, score: Score, facts: CandidateFacts, size: int
) -> Selection:
    """Return at most ``size`` rows, best first, with the actions of the rules.

    Args:
        caps: Of the placement.
        diversity: Of the placement.
        score: Of each row, NaN = none.
        facts: Of the same rows, ``is_plain``.
        size: Of the slate.
    """
    worth = worth_of(score, facts.boosts)
    order = best_first(worth)
    count = len(order)
    codes = np.empty((len(caps), count), dtype=np.int32)
    for number, column in enumerate(facts.capped):
        column[:, 0].take(order, out=codes[number])
    values = np.full(count, -1, dtype=np.int32) if facts.values is None else facts.values[:, 0].take(order)
    ranked = worth.take(order)
    whole = 0.0 if diversity is None else range_of(ranked, np.arange(count)) * diversity.weight
    placing = PlacingColumns(
        codes=codes,
        maxima=np.array([each.max for each in caps], dtype=np.int64),
        values=values.astype(np.int32, copy=False),
        worth=ranked,
        chosen=np.empty(size, dtype=np.int64),
        state=np.empty(count, dtype=np.uint8),
        full=np.empty(count, dtype=np.int64),
        passed_over=np.empty(count, dtype=np.bool_),
    )
    chosen = placing.chosen[: place_all(placing, whole)]
    raw: Sequence[int] = range(count)
    if facts.boosts:
        at_of = np.full(len(score), -1, dtype=np.intp)
        at_of[order] = np.arange(count)
        raw = at_of[best_first(score)].tolist()
    rows = order[chosen]
    traces = facts.traces + tuple(_traces(caps, placing, (facts, order, raw), chosen.tolist()))
    return Selection(rows, np.ones(len(rows), dtype=np.float32), traces)


def _traces(
    caps: Sequence[Cap],
    placing: PlacingColumns,
    rows: tuple[CandidateFacts, NDArray[np.intp], Sequence[int]],
    chosen: Sequence[int],
) -> Iterator[Trace]:
    """Yield the actions of the rules: items that boosts moved, that rules dropped, and that came lower.

    Args:
        caps: Of the placement.
        placing: As the kernel left it.
        rows: The facts, the row of each candidate, and the candidates best first by their scores alone.
        chosen: Candidates of the slate.
    """
    facts, order, raw = rows
    items: list[int] = facts.item_index[order].tolist()
    place_of = {at: place for place, at in enumerate(chosen)}
    yield from lifted(facts.boosts, raw, chosen, (items, order))
    for at in raw[: len(placing.chosen)]:
        if at in place_of:
            continue
        if placing.full[at] >= 0:
            yield Trace(caps[int(placing.full[at])].name, items[at], -1, "capped")
        elif placing.passed_over[at]:
            yield Trace(DIVERSITY, items[at], -1, "lowered")
        elif buried := next((each for each in facts.boosts if each.factor < 1 and each.member[order[at]]), None):
            yield Trace(buried.name, items[at], -1, "buried")
    for at in np.flatnonzero(placing.passed_over).tolist():
        if at in place_of:
            yield Trace(DIVERSITY, items[at], place_of[at], "lowered")
