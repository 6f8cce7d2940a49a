"""Drafts of several plans' answers: a plan that cannot answer is left out by name, and a rerun leaves out the same."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from midstream.core.types import Failure, Moment, Query
from midstream.ranking.boundary import Account
from midstream.ranking.drafted_slate import ROUND, SCORER
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.pipeline import PlanRequest
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import FAILURES_MAX, ServedRecord, decode_served, encode_served
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.team_answers import (
    FAILED_PARTS,
    FLOOR_ALONE,
    TeamAnswers,
    obstacle,
    team_answers,
    teams_of,
)
from midstream.retrieval.approximate import ApproximateProposal
from tests.ranking.test_pipeline import Chooses, Fixed, Scores, plan_of, shop_of
from tests.support.virtual_loop import VirtualLoop, only_virtual

SHOP = shop_of(30)
NAMES = ("home@x.a", "home@x.b", "home@x.c")
QUERY = replace(SHOP.query(), placement="home@x.draft", user_id="ann", slate_size=4, order_max=12)


def plans(*sources: Fixed, **more: Any) -> list[Plan]:
    """Plans with a source each."""
    return [replace(plan_of((each,), **more), name=name) for name, each in zip(NAMES, sources, strict=False)]


def observe(_: Plan, query: Query) -> Moment:
    """The state at rest."""
    return SHOP.moment(query)


def answered(teams: list[Plan], query: Query = QUERY, remaining_s: float = math.inf) -> TeamAnswers:
    """The draft of some plans."""
    requests = [PlanRequest.of(each, query, Account((), lambda: remaining_s)) for each in teams]
    return asyncio.run(team_answers(query, requests, observe))


def logged(found: TeamAnswers) -> ServedRecord:
    """The record of a draft as it is read from the log."""
    served = found.served
    assert served is not None
    assert served.order is not None
    rows = np.concatenate((served.selection.chosen, served.order.chosen))
    return decode_served(encode_served(served, SHOP.ids(served.candidates.item_index[rows].tolist())))


def again(teams: list[Plan], record: ServedRecord) -> ServedRecord:
    """The record of the rerun of a draft."""
    known = {each.name: each for each in teams}
    named = [known[name] for name in teams_of(record.source_names, record.scorer)]
    served = asyncio.run(rerun(teams[0], SHOP.moment, record, None, named))
    return logged(TeamAnswers(served, (), ()))


OWN, OTHER = Fixed("own", (1, 2, 3, 4, 5)), Fixed("own", (11, 12, 13, 14, 15))


def test_plans_draft_and_a_rerun_gives_the_same() -> None:
    """With the continuation order, and a part that failed in one of them."""
    teams = plans(OWN, OTHER)
    teams[1] = replace(teams[1], sources=(*teams[1].sources, Fixed("gone", error=OSError("no"))))
    record = logged(answered(teams))
    assert record.scorer == SCORER
    assert record.source_names == (*NAMES[:2], ROUND)
    assert [each.component for each in record.failures] == ["home@x.b.gone"]
    assert record.tier == "reduced"
    assert again(teams, record) == record


@pytest.mark.parametrize("broken", [0, 1])
def test_the_others_draft_without_a_plan_that_raised(broken: int) -> None:
    """Its name and reason are in the record, the slate is the other's, and the rerun is the same."""
    teams = plans(OWN, OTHER)
    kept = teams[1 - broken]

    def fails(_: int) -> Any:
        raise OSError

    teams[broken] = replace(teams[broken], scorers=(Scores("bad", fails),))
    found = answered(teams)
    record = logged(found)
    assert [each.component for each in found.left_out] == [NAMES[broken]]
    assert "ScoresUnavailable" in found.left_out[0].reason
    assert record.failures == found.left_out
    assert record.tier == "reduced"
    assert record.source_names == (kept.name, ROUND)
    own = next(each.item_index for each in kept.sources if isinstance(each, Fixed))
    assert [each.id for each in record.items] == SHOP.ids(list(own[:4]))
    assert {each.propensity for each in record.items} == {1.0}
    assert again(teams, record) == record


def test_a_plan_of_which_only_the_floor_is_left_drafts_only_with_its_like() -> None:
    """Else it would be judged by items that are not its own."""
    teams = plans(OWN, Fixed("own", error=OSError("no")))
    found = answered(teams)
    assert found.left_out == (Failure(NAMES[1], FLOOR_ALONE),)
    assert again(teams, logged(found)) == logged(found)
    both = plans(Fixed("own", error=OSError("no")), Fixed("own", error=OSError("no")))
    found = answered(both)
    assert found.left_out == ()
    assert logged(found).tier == "floor"
    assert again(both, logged(found)) == logged(found)


def test_a_late_request_is_answered_by_what_there_is() -> None:
    """Without time each plan answers by its last scorer, and the parts that were left out are named."""
    teams = plans(OWN, OTHER, scorers=(Scores("slow", lambda n: np.arange(n, dtype=np.float32)),))
    found = answered(teams, remaining_s=0.0)
    record = logged(found)
    assert len(record.items) == 4
    assert {each.component for each in record.failures} >= {f"{name}.slow" for name in NAMES[:2]}
    assert again(teams, record) == record


def test_a_plan_that_waits_costs_the_other_no_time() -> None:
    """Both wait side by side: the draft takes as long as the slower one, by the clock of a loop of its own."""
    slow = Scores("slow", lambda n: np.arange(n, dtype=np.float32), wait_s=0.15)
    teams = plans(OWN, OTHER, scorers=(slow,))
    loop = VirtualLoop(lambda: 0.0)
    requests = [PlanRequest.of(each, QUERY, Account((), lambda: 0.25 - loop.time())) for each in teams]
    with only_virtual(loop):
        found = loop.run_until_complete(team_answers(QUERY, requests, observe))
    assert loop.time() == pytest.approx(0.15)
    loop.close()
    assert [served.failures for _, served in found.by_plan] == [(), ()]


def test_what_a_record_cannot_hold_is_left_out() -> None:
    """Approximate proposals of one plan, and one of which more failed than a record names."""
    index = np.array([1, 2], dtype=np.int32)
    near = Fixed("own", makes=lambda: ApproximateProposal(index, np.ones(2, dtype=np.float32)))
    found = answered(plans(OWN, near))
    assert found.left_out == (Failure(NAMES[1], "its answer has approximate proposals"),)
    teams = plans(OWN, OTHER)
    many = tuple(Fixed(f"s{n}", error=OSError("no")) for n in range(FAILURES_MAX + 1))
    teams[1] = replace(teams[1], sources=(*teams[1].sources, *many))
    found = answered(teams)
    assert found.left_out == (Failure(NAMES[1], FAILED_PARTS),)
    assert again(teams, logged(found)) == logged(found)


def test_without_an_answer_there_is_no_draft() -> None:
    """And each plan says why."""
    near = Fixed("own", makes=lambda: ApproximateProposal(np.array([1], dtype=np.int32), np.ones(1, dtype=np.float32)))
    found = answered(plans(near, near))
    assert found.served is None
    assert [each.component for each in found.left_out] == list(NAMES[:2])
    assert [plan.name for plan, _ in found.by_plan] == list(NAMES[:2])


def test_an_obstacle_is_said_before_a_plan_is_a_team() -> None:
    """Selectors of one's own, and servers that are asked."""
    plan = plans(OWN)[0]
    assert obstacle(plan) == ""
    assert obstacle(replace(plan, selectors=(PlackettLuce(), *plan.selectors))) == ""
    custom = Chooses(lambda: answered(plans(OWN)).by_plan[0][1].selection)
    assert "says no probabilities" in obstacle(replace(plan, selectors=(custom, *plan.selectors)))
    assert "asks a server" in obstacle(replace(plan, remote={"far": 0.1}))
