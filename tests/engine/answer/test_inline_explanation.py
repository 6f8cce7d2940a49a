"""Answers that say why, live: as the explanation of the logged request says it later."""

from dataclasses import replace

import pytest

from midstream.core.errors import RequestInvalid
from midstream.engine.requests.python_values import read_request
from midstream.engine.requests.schema import RecommendationQuestion
from midstream.engine.types import Ask
from midstream.ranking.reason_texts import DEFAULTS
from tests.support.rig import Rig, view


def answered(rig: Rig, *, explain: bool = False, reasons: str | None = None):
    """Record some views, then ask."""

    async def work(rig: Rig):
        await rig.engine.record(rig.batch(*(view(item, user) for user in ("bob", "eve") for item in "abc")))
        await rig.engine.record(rig.batch(view("a")))
        return await rig.engine.recommend(Ask(user_id="ann", explain=explain, reasons=reasons))

    return rig.run(work)


def test_an_answer_explains_itself_when_asked():
    """Items in the order of the slate, scores that are the sum of their parts, evidence; and nothing unless asked."""
    answer = answered(Rig(), explain=True)
    why = answer.explanation
    assert why is not None
    assert (why.request_id, why.config_hash) == (answer.request_id, answer.config_hash)
    assert [each.id for each in why.items] == [each.id for each in answer.items]
    for item, each in zip(answer.items, why.items, strict=True):
        assert each.parts is not None
        assert sum(each.parts.parts.values()) == pytest.approx(item.score, rel=1e-6)
    assert any(one.id == "a" for each in why.items[0].proposed for one in each.led_by)
    plain = answered(Rig())
    assert plain.explanation is None
    assert (plain.unexplained, answer.unexplained) == ({}, {})
    assert all(each.reason is None for each in plain.items)


def test_an_answer_gives_reasons_in_a_language():
    """Each item has one of the texts; another language is refused, with those that there are."""
    answer = answered(Rig(), reasons="de")
    assert answer.explanation is None
    assert answer.items
    assert all(each.reason in DEFAULTS["de"].values() for each in answer.items)
    with pytest.raises(RequestInvalid, match="de, en"):
        answered(Rig(), reasons="eo")
    rig = Rig()

    async def check(rig: Rig) -> None:
        with pytest.raises(RequestInvalid, match="de, en"):
            rig.engine.check(Ask(reasons="eo"))

    rig.run(check)


def test_a_state_that_moved_on_explains_nothing():
    """What is read later could be untrue of this answer, so that alone is said, of each thing that was asked for."""
    rig = Rig()

    async def work(rig: Rig):
        await rig.engine.record(rig.batch(view("a"), view("b", "bob")))
        engine = rig.engine
        plan = engine.plans["default"]

        class Slow:
            name = "slow"

            async def score(self, query, features, models):
                await engine.record(rig.batch(view("c")))
                return features.values[:, 0] * 0 + 1.0

        slow = replace(plan, scorers=(Slow(), *plan.scorers))
        engine.swap(engine.fold, {**engine.plans, "default": slow})
        return await engine.recommend(Ask(user_id="ann", explain=True, reasons="en", deadline_ms=60_000))

    answer = rig.run(work)
    assert answer.items
    assert answer.explanation is None
    assert all(each.reason is None for each in answer.items)
    assert answer.unexplained.keys() == {"explanation", "reasons"}
    assert "events arrived" in answer.unexplained["explanation"]


def test_a_python_caller_asks_with_truths_and_texts():
    """Anything else is refused, by name."""
    assert read_request(RecommendationQuestion, {}, {"explain": True, "reasons": "en"}).ask("default") == Ask(
        explain=True, reasons="en"
    )
    with pytest.raises(RequestInvalid) as refused:
        read_request(RecommendationQuestion, {}, {"explain": "yes", "reasons": 7})
    assert [fault.where for fault in refused.value.faults] == ["/explain", "/reasons"]


@pytest.mark.parametrize("given,n,places", [(2, 101, 0), (101, 2, 0), (101, None, 101), (102, 101, 101)])
def test_a_ranking_is_explained_as_far_as_a_slate_goes(given, n, places):
    """Places are what is returned: no more than items were given, whatever ``n`` is."""
    rig = Rig()

    async def check(rig: Rig) -> None:
        rig.engine.check(Ask(given=tuple(f"i{each}" for each in range(given)), n=n, explain=True))

    if not places:
        rig.run(check)
        return
    with pytest.raises(RequestInvalid, match=f"{places} places"):
        rig.run(check)
