"""Explanations say what happened: every item has a reason, and reasons add up to the counts of the answer."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.answers.explanations import Effect, ScoreParts, SlateWhy
from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.traits import BOUNDED
from midstream.core.types import Failure, Models, Moment, Proposal, Query, Served
from midstream.events.schema import Event
from midstream.features.expressions.names import Names
from midstream.features.language import Condition, condition
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.ranking.explain import score_parts as score_parts_module
from midstream.ranking.explain.explanation import explain, served_in_words, with_parts
from midstream.ranking.explain.score_parts import frame_of, score_parts
from midstream.ranking.explain.why_not import asked_of, conjuncts, why
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.excluded import Excluded
from midstream.ranking.filters.expression_filter import ExpressionFilter, RequestFilter
from midstream.ranking.filters.repeats import Repeats
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.in_force import Ruling
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.scorers.model_scorer import ModelScorer
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.evidence import Evidence, Led
from midstream.retrieval.popular import Popular
from midstream.retrieval.trending import Trending
from tests.support.events import served_body
from tests.support.frozen_shop import SMALL, StillShop

NAMES = Names(SMALL.attributes)
FILTER = 'item.price < 25 and (item.category == "even" or item.price < 12)'


def shop_of(item_count: int) -> StillShop:
    """Return a shop in which sessions go from an item to the next two, and the first ones are popular."""
    shop = StillShop()
    for number in range(item_count):
        shop.put(f"i{number}", price=float(number), category="even" if number % 2 == 0 else "odd")
    for number in range(item_count - 2):
        shop.act("view", f"visitor-{number}", *[f"i{number + step}" for step in range(3)], session_id=f"s{number}")
    shop.act("view", "ann", "i3", "i6")
    shop.put("i7", price=7.0, category="odd", available=False)
    shop.delete("i8")
    return shop


def rule_of(text: str) -> ExpressionFilter:
    """Return a filter of the placement."""
    rule = condition(text, NAMES, "")
    assert isinstance(rule, Condition)
    return ExpressionFilter(rule)


def plan_of(**changes: object) -> Plan:
    """Return a plan of real parts."""
    made = Plan(
        name="default",
        config_hash="c0ffee",
        fetches=(),
        sources=(Covisitation(), Trending(limit=8)),
        floor=(Popular(limit=5),),
        fill=Catalogue(),
        filters=(Available(), Excluded(), Repeats(allow="none"), rule_of(FILTER), RequestFilter(NAMES)),
        features=(),
        scorers=(Blend(),),
        selectors=(TopK(),),
        models=Models({}),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def asking(shop: StillShop, **asked: object) -> Query:
    """Return ann's question of now."""
    return replace(shop.query(), **{"user_id": "ann", **asked})  # type: ignore[arg-type]


def answered(shop: StillShop, plan: Plan, query: Query) -> tuple[Served, Moment]:
    """Return what is served, and the state that it was served from."""
    moment = shop.fold.moment(query, plan.models)
    return asyncio.run(recommend(plan, lambda _: moment, query, lambda: math.inf)), moment


SHOP = shop_of(30)


@given(
    size=st.integers(1, 20),
    exclude=st.sets(st.integers(0, 29), max_size=5),
    text=st.sampled_from([None, "item.price > 4", "item.price > 4 and item.price < 5"]),
    candidates_max=st.sampled_from([3, 500]),
    cap=st.sampled_from([None, 1, 3]),
)
def test_the_reasons_of_all_items_are_the_counts_of_the_answer(size, exclude, text, candidates_max, cap):
    """Whoever was served, cut, removed or passed over says so, each item one thing, and none is without a reason."""
    rules = None if cap is None else Arrangement((Cap(attribute="category", max=cap),), None)
    plan = plan_of(candidates_max=candidates_max, arrangement=rules)
    excluded = tuple(f"i{number}" for number in sorted(exclude))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=size, exclude=excluded, filter=text))
    asked = asked_of(served, plan, moment)
    reasons = {f"i{number}": why(asked, f"i{number}") for number in range(30)}
    outcomes = Counter(each.outcome for each in reasons.values())
    assert outcomes["served"] == len(served.selection.chosen)
    assert outcomes["served"] + outcomes["not_selected"] == len(served.candidates)
    assert reasons["i8"].outcome == "deleted"
    assert why(asked, "nobody").outcome == "unknown"
    assert all(each.because for each in reasons.values())
    if "catalogue" not in served.retrieved:
        first = Counter(each.removed[0].filter for each in reasons.values() if each.removed and each.proposed)
        assert {name: count for name, count in served.removed.items() if count and name != "cut"} == first
        assert outcomes["not_scored"] == served.removed.get("cut", 0)
    slate = SHOP.ids(served.candidates.item_index[served.selection.chosen].tolist())
    told = explain(served, plan, moment)
    assert [each.id for each in told.items] == slate
    for place, each in enumerate(told.items):
        assert each == replaced(reasons[each.id], each)
        assert each.position == place


def replaced(one, other):
    """Return an explanation as the other would be, if it is the same: of a slate and of one item alike."""
    assert (one.outcome, one.position, one.score, one.rank) == (other.outcome, other.position, other.score, other.rank)
    assert [(each.source, each.rank, each.led_by) for each in one.proposed] == [
        (each.source, each.rank, each.led_by) for each in other.proposed
    ]
    return one


def test_evidence_names_the_item_that_led_there():
    """An item that follows what ann viewed says which of them, with its share."""
    served, moment = answered(SHOP, plan_of(), asking(SHOP))
    told = why(asked_of(served, plan_of(), moment), "i4")
    (by,) = (each for each in told.proposed if each.source == "covisitation")
    assert {each.id for each in by.led_by} == {"i3", "i6"}
    assert sum(each.share for each in by.led_by) == pytest.approx(1.0)
    alone = [each for each in told.proposed if each.source == "popular"]
    assert all(not each.led_by and each.facts["half_life"] == "7d" for each in alone)


def test_a_filter_says_which_part_is_not_true():
    """Between its outermost ``and``, of the placement's text and of the request's."""
    plan = plan_of()
    served, moment = answered(SHOP, plan, asking(SHOP, filter="item.price > 4 and item.available"))
    asked = asked_of(served, plan, moment)
    assert [(each.filter, each.part) for each in why(asked, "i27").removed] == [
        ("filter", 'item.price < 25; item.category == "even" or item.price < 12')
    ]
    assert [(each.filter, each.part) for each in why(asked, "i13").removed] == [
        ("filter", 'item.category == "even" or item.price < 12')
    ]
    assert [(each.filter, each.part) for each in why(asked, "i2").removed] == [("request_filter", "item.price > 4")]
    assert [each.filter for each in why(asked, "i7").removed] == ["available", "request_filter"]
    assert "repeats" in why(asked, "i6").because
    assert conjuncts("not (a and") == ()


def test_a_cap_that_is_full_is_named():
    """An item that was passed over because its value has its share says so; one that scored too little says that."""
    plan = plan_of(arrangement=Arrangement((Cap(attribute="category", max=1),), None))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=2))
    asked = asked_of(served, plan, moment)
    passed = [why(asked, f"i{number}") for number in range(30)]
    passed = [each for each in passed if each.outcome == "not_selected"]
    assert passed
    assert {each.effects[0].rule for each in passed} == {"caps.category"}
    plain = plan_of()
    served, moment = answered(SHOP, plain, asking(SHOP, slate_size=1))
    (second,) = (
        each
        for number in range(30)
        if (each := why(asked_of(served, plain, moment), f"i{number}")).rank == 1
    )  # fmt: skip
    assert second.because.startswith("place 2 of ")
    assert not second.effects


def test_a_failed_part_is_not_asked_again():
    """What failed then proposes nothing in the explanation either, and a filter that failed let nothing pass."""
    plan = plan_of()
    query = asking(SHOP)
    moment = SHOP.fold.moment(query, plan.models)
    failed = (Failure("covisitation", "gone"), Failure("filter", "broken"))
    served = asyncio.run(recommend(plan, lambda _: moment, query, lambda: math.inf, failed))
    told = why(asked_of(served, plan, moment), "i4")
    assert told.outcome == "removed"
    assert {each.source for each in told.proposed} <= {"trending", "popular"}
    assert told.removed[0].filter == "filter"
    assert "failed" in told.removed[0].part


LIES = {
    "another type": cast("Evidence", {}),
    "no item": Evidence((Led(10**7, 0.5),)),
    "an item below 0": Evidence((Led(-1, 0.5),)),
    "no share": Evidence((Led(0, np.nan),)),
    "a text as share": Evidence((Led(0, cast("float", "half")),)),
    "no facts": Evidence(facts=cast("Any", None)),
    "a fact of another type": Evidence(facts={"shelf": cast("Any", object())}),
}


@pytest.mark.parametrize("lie", LIES)
def test_evidence_that_is_none_is_named_and_costs_nothing_else(lie):
    """A type, an item or a number that cannot be told: the source is named, and the rest of it can be sent as JSON."""

    class Lying(Popular, frozen=True, tag="lying"):
        def why(self, moment, item_index):
            return [LIES[lie]] * len(item_index)

    served, moment = answered(SHOP, plan_of(floor=(Lying(limit=5),)), asking(SHOP, slate_size=20))
    told = explain(served, plan_of(floor=(Lying(limit=5),)), moment)
    assert told.unexplained.keys() == {"popular"}
    assert msgspec.json.decode(msgspec.json.encode(told), type=SlateWhy) == told


def test_evidence_in_numbers_of_numpy_is_told_as_any_other():
    """A source of one's own reads them from arrays, and JSON has none of them."""

    class Counting(Popular, frozen=True, tag="counting"):
        def why(self, moment, item_index):
            led = (Led(cast("int", np.int32(0)), cast("float", np.float32(0.5))),)
            return [Evidence(led, {"acts": cast("float", np.int64(3)), "heat": cast("float", np.float32(0.25))})] * len(
                item_index
            )

    served, moment = answered(SHOP, plan_of(floor=(Counting(limit=5),)), asking(SHOP, slate_size=20))
    told = msgspec.json.decode(
        msgspec.json.encode(explain(served, plan_of(floor=(Counting(limit=5),)), moment)), type=SlateWhy
    )
    assert told.unexplained == {}
    said = next(one for item in told.items for one in item.proposed if one.source == "popular")
    assert [(each.id, each.share) for each in said.led_by] == [(SHOP.ids([0])[0], 0.5)]
    assert said.facts == {"acts": 3, "heat": 0.25}


@pytest.mark.parametrize("raised", ["ValueError", "ShapeMismatch"])
def test_evidence_that_fails_leaves_the_rest(raised):
    """A source whose second method raises, or answers with another number, has none, and is named with the reason."""

    class Broken(Popular, frozen=True, tag="broken"):
        def why(self, moment, item_index):
            if raised == "ValueError":
                raise ValueError
            return ()

    plan = plan_of(floor=(Broken(limit=5),))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=20))
    told = explain(served, plan, moment)
    assert any(each.source == "popular" for item in told.items for each in item.proposed)
    assert all(not each.facts for item in told.items for each in item.proposed if each.source == "popular")
    assert told.unexplained.keys() == {"popular"}
    assert told.unexplained["popular"].startswith(raised)
    asked = asked_of(served, plan, moment)
    item_id = next(each.id for each in told.items if any(one.source == "popular" for one in each.proposed))
    assert why(asked, item_id).outcome == "served"
    (failure,) = asked.run.account.failures
    assert (failure.component, failure.reason.partition(":")[0]) == ("popular", raised)


class Twice:
    """A part that is asked once and fails from then on, or says what all parts of its kind say."""

    name = "twice"
    is_broken = False

    def retrieve(self, moment: Moment) -> Proposal:
        if self.is_broken:
            message = "the file is gone"
            raise OSError(message)
        return Proposal(np.array([20], np.int32), np.array([1.0], np.float32))

    def keep(self, moment, candidates):
        return self.retrieve(moment).item_index[0] == 20 + 0 * candidates.item_index


def test_a_source_that_fails_when_it_is_asked_again_is_not_said_to_have_proposed_nothing():
    """What it had proposed is not known, and the item says that, whether others removed it or nobody named it."""
    source = Twice()
    plan = plan_of(sources=(source,), floor=(), candidates_max=500)
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=2, exclude=("i20",)))
    asked = asked_of(served, plan, moment)
    other = next(item for item in (f"i{n}" for n in range(30)) if why(asked, item).outcome == "not_proposed")
    source.is_broken = True
    asked = asked_of(served, plan, moment)
    assert asked.unasked == ("twice",)
    told = why(asked, other)
    assert (told.outcome, "asked again: twice" in told.because) == ("unexplained", True)
    removed = why(asked, "i20")
    assert (removed.outcome, removed.removed[0].filter) == ("removed", "excluded")
    assert "no source" not in removed.because
    assert "twice failed when asked again" in removed.because


def test_a_filter_that_fails_when_it_is_asked_again_ends_no_explanation():
    """It is named, the others say what they say, and of an item that it alone decided nothing is made up."""
    rule = Twice()
    plan = plan_of(filters=(rule, *plan_of().filters), candidates_max=3)
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=2))
    before = {f"i{number}": why(asked_of(served, plan, moment), f"i{number}").outcome for number in range(30)}
    rule.is_broken = True
    asked = asked_of(served, plan, moment)
    after = {item: why(asked, item) for item in before}
    assert {failure.component for failure in asked.run.account.failures} == {"twice"}
    assert "not_scored" in before.values()
    for item, outcome in before.items():
        assert after[item].outcome == ("unexplained" if outcome == "not_scored" else outcome)
        assert "twice" not in {each.filter for each in after[item].removed}
    assert all("twice" in each.because for each in after.values() if each.outcome == "unexplained")


def test_an_item_without_a_score_has_none():
    """A pin needs no score; what is no number is none, in an explanation that others can read back."""
    plan = plan_of()
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=2))
    score = served.score.copy()
    score[served.selection.chosen[-1]] = np.nan
    served = replace(served, score=score)
    told = explain(served, plan, moment)
    last = told.items[-1]
    assert (last.score, last.rank) == (None, None)
    assert last.because.endswith("position 2; no score by blend")
    asked = asked_of(served, plan, moment)
    passed = [each for number in range(30) if (each := why(asked, f"i{number}")).outcome == "not_selected"]
    assert passed
    assert not any("nan" in each.because for each in passed)
    assert why(asked, last.id).score is None
    assert msgspec.json.decode(msgspec.json.encode(told), type=SlateWhy) == told


def test_what_is_no_number_comes_last_among_the_parts_of_a_score():
    """The largest first, whatever stands beside them."""
    told = score_parts_module._largest(("a", "b", "c", "d"), (1.0, math.nan, -3.0, 2.0))
    assert list(told.items()) == [("c", -3.0), ("d", 2.0), ("a", 1.0), ("b", None)]
    made = ScoreParts("own", parts=told)
    assert msgspec.json.decode(msgspec.json.encode(made), type=type(made)) == made


def test_a_cap_over_time_has_one_name():
    """A full cap is named as the rules name it, once."""
    cap = Cap(attribute="category", max=1, within=Duration("1h"))
    plan = plan_of(arrangement=Arrangement((cap,), None))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=2))
    asked = asked_of(served, plan, moment)
    passed = [each for number in range(30) if (each := why(asked, f"i{number}")).outcome == "not_selected"]
    assert passed
    assert {tuple(effect.rule for effect in each.effects) for each in passed} == {(cap.name,)}


def test_a_cap_over_time_counts_what_was_served_before():
    """As the rule itself does: a value that earlier slates filled keeps out an item that no trace tells of."""
    shop = shop_of(30)
    cap = Cap(attribute="category", max=2, within=Duration("1h"))
    plan = plan_of(arrangement=Arrangement((cap,), None))
    body = served_body("before", ["i10", "i12"], "default")
    shop.record([Event(Kind.SERVED, user_id="ann", request_id="before", body=body)])
    served, moment = answered(shop, plan, asking(shop, slate_size=1))
    asked = asked_of(served, plan, moment)
    slate = shop.ids(served.candidates.item_index[served.selection.chosen].tolist())
    found = {name: why(asked, name) for name in (f"i{number}" for number in range(30))}
    even = [each for each in found.values() if each.outcome == "not_selected" and int(each.id[1:]) % 2 == 0]
    assert even
    assert slate == ["i5"]
    assert {each.effects for each in even} == {
        (Effect("caps.category.1h", "0 items of 'even' in the slate and 2 served before within 1h: at most 2"),)
    }


@pytest.mark.parametrize("rank, words", [(0, "1st by blend"), (2, "3rd by blend"), (None, "no score by blend")])
def test_position_and_place_by_the_score_are_told_apart(rank, words):
    """The one is of the slate, the other of the scorer."""
    assert served_in_words((), 1, rank, "blend") == f"proposed by nobody; position 2; {words}"


def summed(told: SlateWhy) -> list[float]:
    """Return the scores that base and parts say."""
    found: list[float] = []
    for each in told.items:
        assert each.parts is not None
        terms = [term for term in each.parts.parts.values() if term is not None]
        assert len(terms) == len(each.parts.parts)
        total = each.parts.base + sum(terms)
        found.append(total if each.parts.link == "sum" else 1 / (1 + math.exp(-each.parts.scale * total)))
    return found


def test_parts_add_up_to_the_score_of_the_blend_and_of_a_model():
    """Each source's term of the blend; each column of a model, NaN where a source did not propose."""
    blended = plan_of()
    names = ("score.covisitation", "rank.trending", "rank.gone", "rank.popular")
    values = np.random.default_rng(1).normal(size=(80, 4)).astype(np.float32) * 5
    model = fit_ftrl(Examples.of_rows(names, values, (values[:, 0] > 0).astype(np.float32)), FtrlOptions(l1=0.0))
    ranked = plan_of(
        scorers=(ModelScorer(name="ranker"), Blend()), models=Models({"ranker": model}, {"ranker": "1"})
    )  # fmt: skip
    for plan in (blended, ranked):
        served, moment = answered(SHOP, plan, asking(SHOP))
        assert served.scorer == plan.scorers[0].name
        told = with_parts(explain(served, plan, moment), served, plan)
        np.testing.assert_allclose(summed(told), served.score[served.selection.chosen], rtol=1e-5)
        assert all(each.parts and each.parts.scorer == served.scorer for each in told.items)
        assert frame_of(served).values.shape == (len(served.candidates), len(frame_of(served).names))


def test_of_a_scorer_that_cannot_be_taken_apart_nothing_is_said():
    """A scorer of one's own has a score and no parts."""

    class Own:
        traits = BOUNDED
        name = "own"

        async def score(self, query, features, models):
            return np.arange(len(features.values), dtype=np.float32)

    plan = plan_of(scorers=(Own(), Blend()))
    served, _ = answered(SHOP, plan, asking(SHOP))
    parts, failures = score_parts(served, plan, served.selection.chosen)
    assert parts
    assert all(not each.parts for each in parts)
    assert failures == ()


def test_a_scorer_that_fails_while_its_score_is_taken_apart_is_named(monkeypatch):
    """It ends no explanation: who proposed each item and where it stands is said all the same."""
    plan = plan_of()
    served, moment = answered(SHOP, plan, asking(SHOP))

    def failing(*_):
        raise OSError("no terms")

    monkeypatch.setattr(Blend, "terms_of", failing)
    told = with_parts(explain(served, plan, moment), served, plan)
    assert told.unexplained == {"blend": "OSError: no terms"}
    assert told.items
    assert all(each.proposed and each.parts is not None and not each.parts.parts for each in told.items)


def test_an_item_of_the_own_source_is_explained_without_evidence():
    """A source without the second method proposes, and says nothing of why."""

    class Own:
        name = "own"

        def retrieve(self, moment: Moment) -> Proposal:
            return Proposal(np.array([10], np.int32), np.array([1.0], np.float32))

    plan = plan_of(sources=(Own(),))
    served, moment = answered(SHOP, plan, asking(SHOP))
    told = why(asked_of(served, plan, moment), "i10")
    assert [(each.source, each.led_by) for each in told.proposed if each.source == "own"] == [("own", ())]


def test_the_callers_items_and_those_of_the_page_are_told_apart():
    """What was not given is not among the caller's, and what an earlier slate of the page took says that."""
    plan = plan_of()
    served, moment = answered(SHOP, plan, asking(SHOP, given=("i10", "i4", "i7"), slate_size=3))
    asked = asked_of(served, plan, moment)
    assert {name: why(asked, name).outcome for name in ("i10", "i4", "i7")} == {
        "i10": "served",
        "i4": "served",
        "i7": "removed",
    }
    assert "caller's items" in why(asked, "i5").because
    served, moment = answered(SHOP, plan, asking(SHOP, taken=("i4",), spare=1, slate_size=3))
    taken = why(asked_of(served, plan, moment), "i4")
    assert (taken.outcome, taken.removed[0].filter) == ("removed", "page")


def test_what_the_rules_did_is_told_of_each_item():
    """A pin, a boost, and a cap that kept one of the best out; they name the rule."""
    caps = Arrangement((Cap(attribute="category", max=1),), None)
    plan = plan_of(arrangement=caps)
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=3))
    assert served.traces
    asked = asked_of(served, plan, moment)
    for trace in served.traces:
        (item_id,) = SHOP.ids([trace.item_index])
        told = why(asked, item_id)
        assert (trace.rule, trace.what) in [(each.rule, each.effect) for each in told.effects]
        assert trace.rule in told.because


class Steady:
    """A scorer by which one candidate is as much better than the next as that than the one after."""

    traits = BOUNDED
    name = "steady"

    async def score(self, query, features, models):
        return np.linspace(0.0, 1.0, len(features.values), dtype=np.float32)


def ruled(arrangement: Arrangement) -> Plan:
    """Return a plan with rules, scored steadily."""
    return plan_of(arrangement=arrangement, scorers=(Steady(), Blend()))


def names() -> list[str]:
    """Return the items of the shop."""
    return [f"i{number}" for number in range(30)]


def boost_of(name: str, text: str, factor: float) -> Ruling[Boost]:
    """Return a boost that is always in force."""
    where = condition(text, NAMES, "")
    assert isinstance(where, Condition)
    return Ruling(Boost(name=name, where=text, factor=factor), -(1 << 62), 1 << 62, None, where)


def test_what_a_boost_gave_is_told_of_each_item_it_moved():
    """Its factor, and the worth before and after it: the score first, then that with each boost of the file."""
    boosts = (boost_of("cheap", "item.price < 15", 2.0), boost_of("even", 'item.category == "even"', 0.5))
    plan = ruled(Arrangement(rules=boosts))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=6))
    told = explain(served, plan, moment)
    unit = float(np.std(served.score.astype(np.float64)))
    effects = {(item.id, each.rule): (item, each) for item in told.items for each in item.effects}
    assert {"cheap", "even"} <= {rule for _, rule in effects}
    for (name, rule), (item, each) in effects.items():
        assert (each.factor, each.effect) == {"cheap": (2.0, "boosted"), "even": (0.5, "buried")}[rule]
        assert item.score is not None
        assert each.before is not None
        assert each.factor is not None
        both = rule == "even" and float(name[1:]) < 15
        assert each.before == pytest.approx(item.score + unit * math.log(2) * both)
        assert each.after == pytest.approx(each.before + unit * math.log(each.factor))
        assert next(one for one in why(asked_of(served, plan, moment), name).effects if one.rule == rule) == each


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_what_likeness_took_is_told_with_the_item_that_is_like(method):
    """Of each item that came later because of it, or not at all: the likest above, and how much that took."""
    rule = Diversity(method=method, attribute="category", weight=0.8)
    plan = ruled(Arrangement(diversity=rule))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=6))
    slate = SHOP.ids(served.candidates.item_index[served.selection.chosen].tolist())
    asked = asked_of(served, plan, moment)
    found = {name: [each for each in why(asked, name).effects if each.rule == "diversity"] for name in names()}
    lowered = {name: each for name, (each, *_) in ((name, each) for name, each in found.items() if each)}
    assert set(lowered) & set(slate)
    span = 0.8 * float(served.score.max() - served.score.min())
    for name, each in lowered.items():
        above = slate[: slate.index(name)] if name in slate else slate
        twins = [other for other in above if int(other[1:]) % 2 == int(name[1:]) % 2]
        assert (each.like in twins, each.likeness, each.effect) == (True, 1.0, "lowered")
        assert each.penalty == pytest.approx(span, rel=1e-6 if method == "mmr" else 0.3)
    shown = {item.id: each for item in explain(served, plan, moment).items for each in item.effects}
    assert shown == {name: each for name, each in lowered.items() if name in slate}


def test_rules_that_cannot_be_read_again_are_named(monkeypatch):
    """What they did is said without the amounts."""
    plan = ruled(Arrangement(rules=(boost_of("cheap", "item.price < 15", 2.0),)))
    served, moment = answered(SHOP, plan, asking(SHOP, slate_size=6))

    def failing(*_):
        raise OSError("no facts")

    monkeypatch.setattr(Arrangement, "read", failing)
    told = explain(served, plan, moment)
    assert told.unexplained == {"arrangement": "OSError: no facts"}
    assert Effect("cheap", "boosted") in {each for item in told.items for each in item.effects}
