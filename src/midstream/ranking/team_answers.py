"""Draft of one query's answers by several plans: gathered at one log position, decided side by side, drafted.

A plan whose answer cannot be used is left out by name, and the others draft without it: one that raised, one of which
only the floor proposed while another had more, and one with what the record of a draft does not hold. Where none is
left there is no draft. Which plans were left out is in the record, so a rerun drafts of the same.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from midstream.core.types import Failure, Moment, Query, Served
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.drafted_slate import ROUND, SCORER, Ranker, Side, drafted, drawn, unfit
from midstream.ranking.pipeline import Gathered, PlanRequest
from midstream.ranking.plan import SELECTOR, Plan
from midstream.ranking.record.served import FAILURES_MAX, ServedRecord
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.source_cache import SourceCache

FLOOR = "floor"
FLOOR_ALONE = "only its floor proposed"
"""Failure reason of a plan that is left out of a draft."""
FAILED_PARTS = "too many of its parts failed for one record"
Observe = Callable[[Plan, Query], Moment]
"""Returns the state at rest for a plan and a query."""


@dataclass(frozen=True, slots=True, eq=False)
class TeamAnswers:
    """A draft, and what each plan answered."""

    served: Served | None
    """None = no plan has an answer that can be drafted."""
    by_plan: tuple[tuple[Plan, Served], ...]
    """Answers of the plans that did not raise, those that were left out among them."""
    left_out: tuple[Failure, ...]
    """Plans that have no part in the draft, and why, in order."""


def obstacle(plan: Plan) -> str:
    """Return why the answers of a plan cannot be drafted; empty = they can."""
    if plan.fetches:
        return "It fetches columns, which the record of a draft does not hold."
    if plan.remote:
        return "A scorer asks a server, whose scores the record of a draft does not hold."
    if any(getattr(getattr(each, "options", None), "search", "exact") == "usearch" for each in plan.sources):
        return "A source searches an index, whose proposals the record of a draft does not hold."
    selector = plan.selectors[0]
    if not isinstance(selector, Choosing):
        return "A selector of its own says no probabilities of what it did not choose."
    is_drawn = len(plan.selectors) > 1
    if is_drawn and (plan.arrangement is not None or plan.pins is not None):
        return "Its selector draws, and rules of its slate do not hold in a draft of drawn rankings."
    return ""


async def team_answers(
    query: Query, teams: Sequence[PlanRequest], observe: Observe, left_out: Sequence[Failure] = ()
) -> TeamAnswers:
    """Return the draft of some plans' answers.

    Args:
        query: Complete with time and seed; filters and context of each plan were checked.
        teams: A request of each plan with this query, the control first.
        observe: The same state each time, as it is read without a wait.
        left_out: Further plans that have no part, as a record names them.

    Raises:
        ValueError: No plan.
    """
    account = Account()
    asked = SourceCache()
    gathered: list[tuple[PlanRequest, Gathered]] = []
    for each in teams:
        with boundary(each.whole.name, account):
            gathered.append((each, each.gathered(partial(observe, each.whole), asked)))
    found = await asyncio.gather(*(_side(request, each, account) for request, each in gathered))
    sides = [each for each in found if each is not None]
    plans = {each.whole.name: each.whole for each in teams}
    by_plan = tuple((plans[each.name], each.served) for each in sides)
    known = {each.component: each for each in account.failures}
    known |= _unusable(sides, len(known) + len(left_out))
    kept = [each for each in sides if each.name not in known]
    out = (*left_out, *(known[name] for name in plans if name in known))
    served = drafted(query, teams[0].whole.config_hash, kept, out) if kept else None
    return TeamAnswers(served, by_plan, out)


async def drafted_again(record: ServedRecord, teams: Mapping[str, Plan], observe: Observe) -> Served | None:
    """Return the draft of a logged request, made again; None = the state has no answer to draft.

    Args:
        record: Of a drafted slate, which continues no other.
        teams: Plans of ``teams_of``, by name.
        observe: The state at the record's log position.
    """
    own: dict[str, list[Failure]] = {name: [] for name in teams}
    left_out: list[Failure] = []
    for each in record.failures:
        name = next((name for name in teams if each.component.startswith(f"{name}.")), None)
        if name is None:
            left_out.append(each)
        else:
            own[name].append(replace(each, component=each.component.removeprefix(f"{name}.")))
    requests = [PlanRequest.of(plan, record.query, Account(own[name])) for name, plan in teams.items()]
    return (await team_answers(record.query, requests, observe, left_out)).served


def teams_of(source_names: Sequence[str], scorer: str) -> tuple[str, ...]:
    """Return the placements that drafted a served slate, in order; empty = it was not drafted."""
    return tuple(each for each in source_names if each != ROUND) if scorer == SCORER else ()


async def _side(request: PlanRequest, gathered: Gathered, account: Account) -> Side | None:
    """Return a plan's answer; None = it raised, and the account says so."""
    name = request.whole.name
    with boundary(name, account, waits=True):
        served = await gathered.decided()
        return Side(name, served, _ranker(request.plan, gathered, served))
    return None


def _ranker(plan: Plan, gathered: Gathered, served: Served) -> Ranker | None:
    """Return the probabilities of a plan whose selector drew; None = its ranking is what it chose."""
    selector = plan.selectors[0]
    parts = [served.selection.propensity, *([] if served.order is None else [served.order.propensity])]
    is_certain = all(bool((each == 1).all()) for each in parts)
    if is_certain or not isinstance(selector, Choosing) or any(each.component == SELECTOR for each in served.failures):
        return None
    return drawn(selector, gathered.features, served.score)


def _unusable(sides: Sequence[Side], failed: int) -> dict[str, Failure]:
    """Return the plans whose answers cannot be drafted, and why; ``failed`` others have none."""
    found: dict[str, Failure] = {}
    has_more = any(each.served.tier != FLOOR for each in sides)
    for each in sides:
        if reason := unfit(each, sides[0].served):
            found[each.name] = Failure(each.name, f"its answer has {reason}")
        elif each.served.tier == FLOOR and has_more:
            found[each.name] = Failure(each.name, FLOOR_ALONE)
    kept = [each for each in sides if each.name not in found]
    while len(kept) > 1 and failed + len(found) + sum(len(each.served.failures) for each in kept) > FAILURES_MAX:
        worst = max(kept, key=lambda each: len(each.served.failures))
        found[worst.name] = Failure(worst.name, FAILED_PARTS)
        kept.remove(worst)
    return found
