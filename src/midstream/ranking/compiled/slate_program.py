"""Program of what lies behind the cut: caps and likeness as numbers, and why a plan has other parts there.

Features, scorers and models stay what they are: their columns and numbers come between the two kernels. So do selectors
that draw and rules that are no number: they choose the slate there, as in the pipeline.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, get_args

import numpy as np

from midstream.core.errors import NotFound
from midstream.core.traits import traits_of
from midstream.ranking.compiled.program import NotCompiled, custom
from midstream.ranking.compiled.slate_room import SlateRules
from midstream.ranking.plan import Plan
from midstream.ranking.rules.arrangement import DECIDED_MAX, Arrangement
from midstream.ranking.rules.calibration import RULE as CALIBRATED
from midstream.ranking.rules.diversity import RULE as DIVERSITY
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.top_k import TopK
from midstream.state.items.items import Items

_NO_RULES: Final = Arrangement()
_CHOOSING: Final[frozenset[type]] = frozenset(get_args(Choosing))


class SlateProgram(NamedTuple):
    """What a plan has behind the cut, apart from its features and scorers."""

    attributes: tuple[str, ...]
    """Categories whose value codes are read, in the order of the rows of ``SlateRoom.attributes``."""
    rules: SlateRules
    names: tuple[str, ...]
    """Of the rules, in traces and metrics: the caps, then likeness."""
    chooses_between: bool = False
    """Whether selector and rules choose the slate between the kernels; then there are no rules here."""

    @property
    def has_rules(self) -> bool:
        """Whether rules of the second kernel decide."""
        return bool(self.attributes)


def slate_program_of(plan: Plan, items: Items) -> SlateProgram | NotCompiled:
    """Return what makes slates of a plan's scored candidates, or the first part behind the cut that nothing is for."""
    for reason in _obstacles(plan):
        return NotCompiled(reason)
    if type(plan.selectors[0]) is not TopK or any(_no_numbers(plan.arrangement, items)):
        return SlateProgram((), _rules((), -1, 0.0), (), chooses_between=True)
    rules = plan.arrangement or _NO_RULES
    likeness = rules.diversity
    named = [each.attribute for each in rules.caps] + ([] if likeness is None else [likeness.attribute])
    attributes = tuple(dict.fromkeys(named))
    caps = [(attributes.index(each.attribute), each.max) for each in rules.caps]
    alike, weight = (-1, 0.0) if likeness is None else (attributes.index(likeness.attribute), likeness.weight)
    return SlateProgram(attributes, _rules(caps, alike, weight), (*(each.name for each in rules.caps), DIVERSITY))


def _rules(caps: Sequence[tuple[int, int]], alike: int, weight: float) -> SlateRules:
    """Return caps and likeness as columns."""
    return SlateRules(
        np.array(caps, dtype=np.int64).reshape(-1, 2),
        np.array([alike], dtype=np.int64),
        np.array([weight], dtype=np.float64),
    )


def _obstacles(plan: Plan) -> Iterator[str]:
    """Yield what of a plan behind the cut no kernel goes on from."""
    yield from custom(plan)
    for scorer in plan.scorers:
        traits = traits_of(scorer)
        if traits.waits or not traits.bounded:
            yield f"scorer {scorer.name}"
    yield from (f"selector {type(each).__name__}" for each in plan.selectors if type(each) not in _CHOOSING)
    if plan.slate_size_max > DECIDED_MAX:
        yield f"slates of more than {DECIDED_MAX} items"


def _no_numbers(rules: Arrangement | None, items: Items) -> Iterator[str]:
    """Yield what of the rules of a slate is no number, so that it is asked between the kernels."""
    if rules is None:
        return
    yield from (each.rule.name for each in rules.rules)
    yield from (each.name for each in rules.caps if each.within is not None)
    names = [each.name for each in rules.caps]
    if len(set(names)) < len(names):
        yield from names
    yield from (each.name for each in rules.caps if not _is_of_one_value(items, each.attribute))
    if rules.calibrated is not None:
        yield CALIBRATED
    likeness = rules.diversity
    if likeness is not None and not (likeness.method == "mmr" and _is_of_one_value(items, likeness.attribute)):
        yield DIVERSITY


def _is_of_one_value(items: Items, attribute: str) -> bool:
    """Return whether an item has one value of an attribute at most."""
    try:
        return items.kind(attribute) == "category"
    except NotFound:  # the rules then fail in each answer, which says so
        return False
