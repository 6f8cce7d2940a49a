"""Effects of slate rules on each item, with the amounts that boosts added and diversity took.

Traces name the rule and its action. The amounts are recomputed from the slate, its state and its plan, so an answer
pays nothing for them: a boost's from the scores (``rule_boost``), a penalty's from the items above
(``rule_diversity``).
"""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from midstream.core.answers.explanations import Effect
from midstream.core.types import Moment, Served
from midstream.ranking.boundary import boundary
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.arrangement import ARRANGEMENT, DECIDED_MAX, Arrangement
from midstream.ranking.rules.boost import Real, worth_of
from midstream.ranking.rules.calibration import RULE as CALIBRATED
from midstream.ranking.rules.calibration import Miscalibration
from midstream.ranking.rules.diversity import RULE as DIVERSITY
from midstream.ranking.rules.diversity import alike, range_of, unlike
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.top_k import best_first
from midstream.state.ids.vocabulary import Vocabulary

Amounts: TypeAlias = Mapping[tuple[str, int], Effect]
"""By rule and item index."""
_WORDS = frozenset(("boosted", "buried", "lowered"))


def effects_of(served: Served, item_index: int, amounts: Amounts | None = None) -> tuple[Effect, ...]:
    """Return the effects of the slate rules on an item, with the known amounts."""
    told = [
        (amounts or {}).get((each.rule, item_index), Effect(each.rule, each.what))
        for each in served.traces
        if each.item_index == item_index
    ]
    return tuple(dict.fromkeys(told))


def amounts_of(served: Served, run: PlanRun) -> Amounts:
    """Return the amounts of boosts and similarity for the items that they moved, in the slate or out of it.

    Args:
        served: Result of the pipeline.
        run: Plan and state of the answer; ``ARRANGEMENT`` fails in it where the rules cannot be read again. Cost: that
            of reading the rules once more, where a rule moved an item.
    """
    moved = {(each.rule, each.item_index): each.what for each in served.traces if each.what in _WORDS}
    found: dict[tuple[str, int], Effect] = {}
    rules, moment = run.plan.arrangement, run.moment
    if rules is not None and moved:
        with boundary(ARRANGEMENT, run.account):
            facts = rules.read(moment, served.candidates)
            worth = [worth_of(served.score, facts.boosts[:count]) for count in range(len(facts.boosts) + 1)]
            row_of = {int(item): row for row, item in enumerate(facts.item_index)}
            for (rule, item), word in moved.items():
                if rule == DIVERSITY:
                    effect = _lowered(served, (rules, facts, worth[-1]), moment, row_of[item])
                elif rule == CALIBRATED:
                    effect = _miscalibrated(served, (rules, facts, worth[-1]), row_of[item])
                else:
                    effect = _boosted(facts, worth, rule, row_of[item])
                found[rule, item] = msgspec.structs.replace(effect, effect=word)
    return found


def _boosted(facts: CandidateFacts, worth: list[Real], rule: str, row: int) -> Effect:
    """Return the effect of a boost on a candidate; ``worth`` has the worth before the first boost and after each."""
    place = [each.name for each in facts.boosts].index(rule)
    factor, before, after = facts.boosts[place].factor, float(worth[place][row]), float(worth[place + 1][row])
    return Effect(rule, "", factor=factor, before=before, after=after)


def _miscalibrated(served: Served, read: tuple[Arrangement, CandidateFacts, Real], row: int) -> Effect:
    """Return the penalty of a candidate for the divergence of the slate with it from the user's acts."""
    arrangement, facts, worth = read
    if arrangement.calibrated is None or facts.taste is None:
        return Effect(CALIBRATED, "")
    kept = Miscalibration(facts.taste, arrangement.calibrated.smoothing)
    chosen = served.selection.chosen.tolist()[:DECIDED_MAX]
    for each in chosen[: chosen.index(row)] if row in chosen else chosen:
        kept.take(each)
    span = range_of(worth, best_first(worth)) * arrangement.calibrated.odds
    return Effect(CALIBRATED, "", penalty=float(kept.cost[row]) * span)


def _lowered(served: Served, read: tuple[Arrangement, CandidateFacts, Real], moment: Moment, row: int) -> Effect:
    """Return the penalty of a candidate for similarity to the items above it, or to the whole slate if not chosen."""
    arrangement, facts, worth = read
    chosen = served.selection.chosen.tolist()[:DECIDED_MAX]
    above = chosen[: chosen.index(row)] if row in chosen else chosen
    if arrangement.diversity is None or facts.values is None or not above:
        return Effect(DIVERSITY, "")
    kept = unlike(arrangement.diversity, facts.values, len(above))
    for each in above:
        kept.take(each)
    span = range_of(worth, best_first(worth)) * arrangement.diversity.weight
    like = alike(facts.values)(row)
    likest = max(above, key=lambda each: float(like[each]))
    item_id = moment.table(Vocabulary).item_id(int(facts.item_index[likest]))
    penalty, likeness = float(kept.cost[row]) * span, float(like[likest])
    return Effect(DIVERSITY, "", penalty=penalty, like=item_id, likeness=likeness)
