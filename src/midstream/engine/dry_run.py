"""Tries a placement before it is set: a component of one's own that raises, or lies about its columns, is refused.

What answers while it is tried is the small state that kernels are warmed up in, so nobody's request waits for it. It is
one question: ``midstream check`` asks more, and holds each component to every promise of its Protocol.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from midstream.core.errors import ConfigInvalid, Fault, ScoresUnavailable, SourceUnavailable
from midstream.core.types import Failure
from midstream.ranking.plan import SELECTOR, Plan

PAGE = "docs/contributing.md"
_MAY_BE = tuple(f"{each.__name__}:" for each in (SourceUnavailable, ScoresUnavailable))
"""Reasons of a part that keeps its promises: it may have nothing to say where hardly anything happened."""


def plans_to_try(plan: Plan) -> Iterator[Plan]:
    """Yield a plan, and it again for each further scorer, so that each is asked and not only the first that answers."""
    yield plan
    for scorer in plan.scorers[1:-1]:
        if scorer.name not in plan.bounded:
            yield replace(plan, scorers=(scorer, plan.scorers[-1]))


def require_kept(plan: Plan, failures: Sequence[Failure]) -> None:
    """Refuse a plan of which a component of one's own failed when it was tried.

    Args:
        plan: What was tried.
        failures: What failed.

    Raises:
        ConfigInvalid: Each such part is named, once.
    """
    found: dict[str, Fault] = {}
    for each in failures:
        if each.component in plan.bounded or each.reason.startswith(_MAY_BE):
            continue
        where, kind = _place_of(plan, each.component)
        came = f"{each.component} failed when it was tried: {each.reason}"
        right = (
            f"A {kind} that keeps its promises (core/protocols.py): midstream check tries each part at more moments."
        )
        found.setdefault(each.component, Fault(where, came, right, PAGE))
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
