"""Dry run of a placement before it is set: refuses custom components that raise or return wrong columns.

It answers from the small state of the kernels' warm-up, so no request waits for it. One query runs at two moments, and
at a third one where a component took too long. ``midstream check`` runs more queries, and checks every promise of a
Protocol.
"""

from collections.abc import Mapping
from dataclasses import replace

from midstream.core.errors import ConfigInvalid, Fault, ModelUnavailable, ScoresUnavailable, SourceUnavailable
from midstream.engine.answer.warmup import WarmupResult
from midstream.ranking.boundary import LATE, sentence
from midstream.ranking.plan import SELECTOR, Plan

PAGE = "/docs/contributing.md"
SLOW_PAGE = "/docs/architecture.md"
_MAY_BE = (*(f"{each.__name__}:" for each in (SourceUnavailable, ScoresUnavailable)), LATE)
"""Acceptable failures: a component may have no result in a nearly empty state, and may have had no time left because
of another one or of compilation."""


def _is_without_model(plan: Plan, reason: str) -> bool:
    """Return whether a component failed only because a model that it names in ``model_names`` is not in service.

    So it is before the first version, and of the control of a canary after a withdrawal. A model that is in service and
    read as another class has the same error, and no version of it would ever be read.
    """
    name, _, model = reason.partition(": ")
    return name == ModelUnavailable.__name__ and model in plan.model_names and model not in plan.models.by_name


def plans_to_try(plan: Plan) -> tuple[Plan, ...]:
    """Return a plan, and a copy for each further scorer, so that each runs and not only the first that answers."""
    further = (each for each in plan.scorers[1:-1] if each.name in plan.own)
    return (plan, *(replace(plan, scorers=(each, plan.scorers[-1])) for each in further))


def require_kept(plan: Plan, trial: WarmupResult, places: Mapping[str, str]) -> None:
    """Refuse a plan with a custom component that failed or took too long in its dry run.

    Args:
        plan: The plan of the dry run, with the models that it answered with.
        trial: Its result.
        places: Pointers to components by name; for others the error has the list in which they are.

    Raises:
        ConfigInvalid: Each such component is named, once.
    """
    found: dict[str, Fault] = {}
    for each in trial.failures:
        if each.component not in plan.own or each.reason.startswith(_MAY_BE) or _is_without_model(plan, each.reason):
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
    """Return the place of a component in a placement, and its kind."""
    if part == SELECTOR:
        return "$.selector", "selector"
    if any(part == rule.name for rule in plan.filters):
        return "$.filters", "filter"
    if any(part == scorer.name for scorer in plan.scorers):
        return "$.scorers", "scorer"
    return "$.sources", "source"
