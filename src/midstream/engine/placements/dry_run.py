"""Tries a placement before it is set: a component of one's own that raises, or lies about its columns, is refused.

What answers while it is tried is the small state that kernels are warmed up in, so nobody's request waits for it. It is
one question, asked at two moments, and at a third one where something took too long: ``midstream check`` asks more, and
holds each component to every promise of its Protocol.
"""

from collections.abc import Mapping
from dataclasses import replace

from midstream.core.errors import ConfigInvalid, Fault, ScoresUnavailable, SourceUnavailable
from midstream.engine.answer.warmup import WarmupResult
from midstream.ranking.boundary import LATE, sentence
from midstream.ranking.plan import SELECTOR, Plan

PAGE = "/docs/contributing.md"
SLOW_PAGE = "/docs/architecture.md"
_MAY_BE = (*(f"{each.__name__}:" for each in (SourceUnavailable, ScoresUnavailable)), LATE)
"""Reasons of a part that keeps its promises: it may have nothing to say where hardly anything happened, and the time
may have been over before it was asked, used up by one that is named or by what compiled.
"""


def plans_to_try(plan: Plan) -> tuple[Plan, ...]:
    """Return a plan, and it again for each further scorer: each is asked, and not only the first that answers."""
    further = (each for each in plan.scorers[1:-1] if each.name in plan.own)
    return (plan, *(replace(plan, scorers=(each, plan.scorers[-1])) for each in further))


def require_kept(plan: Plan, trial: WarmupResult, places: Mapping[str, str]) -> None:
    """Refuse a plan of which a component of one's own failed or took too long when it was tried.

    Args:
        plan: What was tried.
        trial: What came of it.
        places: Pointers to components by name; of others it is told in which list they are.

    Raises:
        ConfigInvalid: Each such part is named, once.
    """
    found: dict[str, Fault] = {}
    for each in trial.failures:
        if each.component not in plan.own or each.reason.startswith(_MAY_BE):
            continue
        where, kind = _place_of(plan, each.component)
        came = sentence(f"{each.component} failed when it was tried: {each.reason}")
        right = (
            f"A {kind} that keeps its promises (core/protocols.py): midstream check tries each part at more moments."
        )
        found.setdefault(each.component, Fault(places.get(each.component, where), came, right, PAGE))
    for each in trial.overruns:
        where, kind = _place_of(plan, each.component)
        came = sentence(f"{each.component} held everybody up when it was tried: {each.reason}")
        right = f"A {kind} that needs no more, as all answers share one thread, or a longer deadline of the placement."
        found.setdefault(each.component, Fault(places.get(each.component, where), came, right, SLOW_PAGE))
    if found:
        raise ConfigInvalid(tuple(found.values()))


def _place_of(plan: Plan, part: str) -> tuple[str, str]:
    """Return where in a placement a part stands, and of which kind it is."""
    if part == SELECTOR:
        return "$.selector", "selector"
    if any(part == rule.name for rule in plan.filters):
        return "$.filters", "filter"
    if any(part == scorer.name for scorer in plan.scorers):
        return "$.scorers", "scorer"
    return "$.sources", "source"
