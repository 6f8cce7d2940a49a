"""The request path: nothing disappears, a broken part is named and answered without, a rerun is the same."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid, SourceUnavailable
from midstream.core.types import (
    Candidates,
    Failure,
    FeatureFrame,
    Mask,
    Models,
    Moment,
    Proposal,
    Query,
    Score,
    Selection,
    Served,
)
from midstream.features.expressions.names import Names
from midstream.features.language import Condition, condition
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.explain.why_not import explain_with
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.excluded import Excluded
from midstream.ranking.filters.expression_filter import ExpressionFilter, RequestFilter
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.rules.arrangement import ARRANGEMENT, Arrangement
from midstream.ranking.rules.cap import Cap
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.approximate import ApproximateProposal, approximate_of
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.cut_search import CutProposal
from midstream.retrieval.popular import Popular
from tests.support.frozen_shop import SMALL, StillShop

POPULAR = Popular(limit=10)
NAMES = Names(SMALL.attributes)


@dataclass(frozen=True)
class Fixed:
    """Proposes given items, or does something else."""

    name: str
    item_index: tuple[int, ...] = ()
    error: Exception | None = None
    makes: Callable[[], Proposal] | None = None

    def retrieve(self, moment: Moment) -> Proposal:
        if self.error is not None:
            raise self.error
        if self.makes is not None:
            return self.makes()
        count = len(self.item_index)
        return Proposal(np.array(self.item_index, dtype=np.int32), np.arange(count, 0, -1).astype(np.float32))


@dataclass(frozen=True)
class Keeps:
    """Keeps items whose index leaves a rest, or does something else."""

    name: str
    modulus: int = 1
    rest: int = 0
    error: Exception | None = None
    mask: Mask | None = None

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        if self.error is not None:
            raise self.error
        return candidates.item_index % self.modulus == self.rest if self.mask is None else self.mask


@dataclass(frozen=True)
class Scores:
    """Scores in a given way."""

    name: str
    score_of: Callable[[int], Score]
    wait_s: float = 0.0

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        await asyncio.sleep(self.wait_s)
        return self.score_of(len(features.values))


@dataclass(frozen=True)
class Chooses:
    """Chooses in a given way."""

    selection: Callable[[], Selection]

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        return self.selection()


def shop_of(item_count: int) -> StillShop:
    """A shop with a catalogue, and some acts that make the first ones popular."""
    shop = StillShop()
    for number in range(item_count):
        shop.put(f"i{number}", price=float(number), category="even" if number % 2 == 0 else "odd")
    for number in range(min(item_count, 4)):
        shop.act("view", "bob", *[f"i{number}"] * (5 - number))
    return shop


def plan_of(sources=(), *, filters=(), scorers=(), selectors=(), floor=(POPULAR,)) -> Plan:
    """A plan around given parts."""
    return Plan(
        name="default",
        config_hash="c0ffee",
        fetches=(),
        sources=tuple(sources),
        floor=tuple(floor),
        fill=Catalogue(),
        filters=(Available(), Excluded(), *filters, RequestFilter(NAMES)),
        features=(),
        scorers=(*scorers, Blend()),
        selectors=(*selectors, TopK()),
        models=Models({}),
        fold_version="f01d",
    )


def answer(shop: StillShop, plan: Plan, query: Query | None = None, remaining_s: float = math.inf, **changes) -> Served:
    """Answer a query at rest."""
    asked = replace(shop.query(query), **changes)
    return asyncio.run(recommend(plan, shop.moment, asked, lambda: remaining_s))


def slate(shop: StillShop, served: Served) -> list[str]:
    """The ids of what was served."""
    return shop.ids(served.candidates.item_index[served.selection.chosen].tolist())


def require_conserved(served: Served) -> None:
    """Retrieved = removed + not selected + served, and no item twice."""
    assert served.retrieved_count == sum(served.removed.values()) + len(served.candidates)
    assert len(served.selection.chosen) <= min(len(served.candidates), served.query.slate_size)
    assert len(np.unique(served.candidates.item_index)) == len(served.candidates)
    assert sum(served.retrieved.values()) >= served.retrieved_count
    assert set(served.removed.values()) <= set(range(served.retrieved_count + 1))


indices = st.lists(st.integers(0, 29), unique=True, max_size=25).map(tuple)
SHOP = shop_of(30)


@given(
    proposals=st.lists(indices, max_size=4),
    modulus=st.integers(1, 7),
    slate_size=st.integers(1, 20),
    exclude=st.lists(st.integers(0, 40), max_size=10),
    broken=st.sets(st.sampled_from(("s0", "s1", "scorer", "selector", "keeps", "popular")), max_size=3),
    beyond_slate=st.integers(0, 4),
)
def test_nothing_disappears_and_a_rerun_is_the_same(proposals, modulus, slate_size, exclude, broken, beyond_slate):
    """Whatever fails: each retrieved item is removed, not selected or served; the failed parts are named;
    the slate is full as far as there are eligible items; the logged record answered again gives the same.
    """
    error = ValueError("broken")
    sources = [Fixed(f"s{n}", each, error if f"s{n}" in broken else None) for n, each in enumerate(proposals)]
    bad_score = Scores("scorer", lambda count: np.full(count + 1, 1.0, np.float32))
    bad_choice = Chooses(lambda: Selection(np.array([0, 0]), np.ones(2, np.float32)))
    plan = plan_of(
        sources,
        filters=(Keeps("keeps", modulus, 0, error if "keeps" in broken else None),),
        scorers=(bad_score,) if "scorer" in broken else (),
        selectors=(bad_choice,) if "selector" in broken else (),
        floor=(Fixed("popular", (), error),) if "popular" in broken else (POPULAR,),
    )
    plan = replace(plan, candidates_max=slate_size + beyond_slate)
    excluded = tuple(f"i{number}" for number in exclude)
    served = answer(SHOP, plan, slate_size=slate_size, exclude=excluded)
    assert len(served.candidates) <= plan.candidates_max
    require_conserved(served)
    there = {*(source.name for source in sources), "scorer", "selector", "keeps", "popular"}
    assert {failure.component for failure in served.failures} == broken & there
    assert served.tier == "full" if not served.failures else served.tier in ("reduced", "floor")
    eligible = {number for number in range(30) if number % modulus == 0} - set(exclude)
    expected = 0 if "keeps" in broken else min(slate_size, len(eligible))
    assert len(served.selection.chosen) == expected

    record = decode_served(encode_served(served, slate(SHOP, served)))
    again = asyncio.run(rerun(plan, SHOP.moment, record))
    assert slate(SHOP, again) == [item.id for item in record.items] == slate(SHOP, served)
    assert again.score.tolist() == served.score.tolist()
    assert replace_arrays(again) == replace_arrays(served)


def test_a_rerun_takes_what_an_index_proposed_then():
    """An index that was built otherwise would name other items; the record has those of then, with their scores."""
    lists = iter([(5, 3, 20), (9, 8, 7)])

    def names() -> Proposal:
        return ApproximateProposal(np.array(next(lists), dtype=np.int32), np.array([3, 2, 1], dtype=np.float32))

    plan = plan_of([Fixed("s0", makes=names), Fixed("s1", (1, 2))])
    served = answer(SHOP, plan)
    record = decode_served(encode_served(served, slate(SHOP, served)))
    assert record.approximate.keys() == {"s0"}
    again = asyncio.run(rerun(plan, SHOP.moment, record))
    assert slate(SHOP, again) == slate(SHOP, served)
    assert again.score.tolist() == served.score.tolist()
    explain_with(served, plan, SHOP.moment(served.query), ["i9"])
    assert next(lists) == (9, 8, 7)
    assert not approximate_of(answer(SHOP, plan_of([Fixed("s1", (1, 2))])))


@dataclass(frozen=True)
class Timed(Fixed):
    """Proposes what it finds in the time that is left: one item a second, which is no end of a search of three."""

    def retrieve_within(self, moment: Moment, remaining_s: Callable[[], float]) -> Proposal:
        if remaining_s() >= 3.0:
            return self.retrieve(moment)
        found = np.array(self.item_index[: int(remaining_s())], dtype=np.int32)
        return CutProposal(found, np.ones(len(found), dtype=np.float32), "where", "not all: the time was over")


def test_a_search_that_was_cut_is_named_and_rerun_as_it_was():
    """The source is no failed one: what it found in its time is in the answer, and a rerun looks at no clock."""
    plan = plan_of([Timed("s0", (5, 3, 20)), Fixed("s1", (1, 2))])
    whole = answer(SHOP, plan)
    assert (whole.failures, whole.tier, whole.retrieved["s0"]) == ((), "full", 3)
    served = answer(SHOP, plan, remaining_s=1.0)
    assert served.failures == (Failure("s0.where", "not all: the time was over"),)
    assert (served.tier, served.retrieved["s0"]) == ("reduced", 1)
    record = decode_served(encode_served(served, slate(SHOP, served)))
    again = asyncio.run(rerun(plan, SHOP.moment, record))
    assert slate(SHOP, again) == slate(SHOP, served)
    assert (again.failures, dict(again.retrieved)) == (served.failures, dict(served.retrieved))


def replace_arrays(served: Served) -> tuple[object, ...]:
    """What of an answer can be compared with ==."""
    return (
        served.query,
        served.log_position,
        served.scorer,
        dict(served.retrieved),
        served.retrieved_count,
        dict(served.removed),
        served.failures,
        served.config_hash,
        served.tier,
        served.selection.chosen.tolist(),
        served.candidates.source_rank.tolist(),
    )


def test_a_failing_source_is_named_and_answered_without():
    """The others answer; the failure is in the answer by name and reason."""
    plan = plan_of([Fixed("good", (5, 6)), Fixed("bad", error=SourceUnavailable("its index is not loaded"))])
    served = answer(SHOP, plan)
    assert served.failures == (Failure("bad", "SourceUnavailable: its index is not loaded"),)
    assert served.tier == "reduced"
    assert "bad" not in served.retrieved
    assert slate(SHOP, served)[:2] == ["i5", "i6"]


def test_only_the_floor_answers_when_all_others_fail():
    """The tier says so; what is popular is served."""
    served = answer(SHOP, plan_of([Fixed("bad", error=ValueError("x"))]), slate_size=3)
    assert served.tier == "floor"
    assert slate(SHOP, served) == ["i0", "i1", "i2"]


def test_a_source_with_nothing_to_say_has_not_failed():
    """Nobody known, nothing proposed: that is the full answer."""
    assert answer(SHOP, plan_of([Fixed("shy")])).tier == "full"


@pytest.mark.parametrize(
    "proposal",
    [
        Proposal(np.array([30], np.int32), np.ones(1, np.float32)),
        Proposal(np.array([-1], np.int32), np.ones(1, np.float32)),
        Proposal(np.array([1, 2], np.int32), np.ones(1, np.float32)),
        Proposal(np.array([1], np.int64), np.ones(1, np.float32)),
        Proposal(np.array([[1]], np.int32), np.ones((1, 1), np.float32)),
        Proposal(np.array([1], np.int32), np.ones(1, np.float64)),
    ],
)
def test_a_malformed_proposal_is_a_failed_source(proposal):
    """Items that do not exist and columns that do not go together reach no filter."""
    served = answer(SHOP, plan_of([Fixed("bad", makes=lambda: proposal)]))
    assert [failure.component for failure in served.failures] == ["bad"]
    require_conserved(served)


class Gives:
    """A component of any kind that gives the same whatever it is asked."""

    def __init__(self, came: Any) -> None:
        self.name, self.names, self.came = "bad", ("column",), came

    def retrieve(self, moment: Moment) -> Any:
        return self.came

    def keep(self, moment: Moment, candidates: Candidates) -> Any:
        return self.came

    def read(self, moment: Moment, candidates: Candidates) -> Any:
        return self.came

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Any:
        return self.came

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Any:
        return self.came


class NoCoroutine(Gives):
    """A scorer whose author forgot ``async``."""

    def score(self, query: Query, features: FeatureFrame, models: Models) -> Any:
        return self.came


@pytest.mark.parametrize("came, words", [(None, "None"), ([1], "list")])
@pytest.mark.parametrize(
    "changes, right",
    [
        (lambda bad: {"sources": (bad,)}, "a Proposal"),
        (lambda bad: {"filters": (bad,)}, "an array of bool"),
        (lambda bad: {"features": (bad,)}, "an array of values"),
        (lambda bad: {"scorers": (bad, Blend())}, "an array of scores"),
        (lambda bad: {"scorers": (NoCoroutine(bad.came), Blend())}, "what async def gives"),
        (lambda bad: {"selectors": (bad, TopK())}, "a Selection"),
        (lambda bad: {"sources": (Gives(Proposal(bad.came, bad.came)),)}, "an array of item indices"),
        (lambda bad: {"selectors": (Gives(Selection(bad.came, bad.came)), TopK())}, "an array of rows"),
    ],
)
def test_what_is_of_another_type_is_said_in_words(came, words, changes, right):
    """What came, such as the nothing of a function without ``return``, and what would be right."""
    served = answer(SHOP, replace(plan_of([Fixed("good", (5, 6))]), **changes(Gives(came))))
    assert [each.reason for each in served.failures] == [f"ShapeMismatch: {words} came where {right} is right"]


@pytest.mark.parametrize(
    "rule",
    [
        Keeps("broken", error=ValueError("x")),
        Keeps("broken", mask=np.ones(1, dtype=np.bool_)),
        Keeps("broken", mask=np.ones(400, dtype=np.float32)),
    ],
)
def test_a_failing_filter_lets_nothing_pass(rule):
    """Eligibility fails closed: no item is served that a filter could not be asked about."""
    served = answer(SHOP, plan_of([Fixed("good", (5, 6))], filters=(rule,)))
    assert [failure.component for failure in served.failures] == ["broken"]
    assert len(served.selection.chosen) == 0
    assert served.removed["broken"] == served.retrieved_count > 0
    require_conserved(served)


@pytest.mark.parametrize(
    "scorer",
    [
        Scores("bad", lambda count: np.full(count, np.nan, np.float32)),
        Scores("bad", lambda count: np.full(count - 1, 1.0, np.float32)),
        Scores("bad", lambda count: np.full(count, 1 / 0, np.float32)),
    ],
)
def test_a_failing_scorer_is_followed_by_the_next(scorer):
    """Ranking fails open: the ladder goes on to the blend, and says so."""
    served = answer(SHOP, plan_of([Fixed("good", (5, 6))], scorers=(scorer,)))
    assert (served.scorer, served.tier) == ("blend", "reduced")
    assert [failure.component for failure in served.failures] == ["bad"]
    assert slate(SHOP, served)[:2] == ["i5", "i6"]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A block of features: the number of each item, and of the user, or nothing but an error."""

    error: Exception | None = None
    names: tuple[str, ...] = ("number", "nothing")

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        if self.error is not None:
            raise self.error
        number = candidates.item_index.astype(np.float32)
        return np.stack((number, np.full_like(number, np.nan))).T


@dataclass(frozen=True, slots=True)
class Ones:
    """A block of two columns that gives ones of any shape."""

    shape: tuple[int, ...]
    names: tuple[str, ...] = ("number", "nothing")

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        return np.ones(self.shape, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ByNumber:
    """Scores by the block's first column; needs it to be there."""

    name: str = "by_number"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        number = features.values[:, features.names.index("number")]
        return np.where(np.isnan(number), np.float32(1), number).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 2), (), (2,), (1, 1)])
def test_a_block_of_another_shape_is_not_spread_over_the_candidates(shape):
    """One row is not the row of each: the block is named, its columns are NaN."""
    plan = replace(plan_of(scorers=(ByNumber(),)), features=(Ones(shape),), log_features=1.0)
    served = answer(SHOP, plan)
    assert [(each.component, each.reason.partition(":")[0]) for each in served.failures] == [
        ("features", "ShapeMismatch")
    ]
    assert served.features is not None
    assert np.isnan(served.features.values).all()


def test_a_failing_block_of_features_is_nan_and_a_rerun_is_the_same():
    """Its columns are there for the scorers, it is named; read or failed, the record gives the same slate again."""
    for error in (None, ValueError("no memory of it"), KeyError("x")):
        block = Shelf(error)
        plan = replace(plan_of(scorers=(ByNumber(),)), features=(block,), log_features=1.0)
        served = answer(SHOP, plan)
        assert [each.component for each in served.failures] == ([] if error is None else ["features"])
        assert served.features is not None
        assert served.features.names == block.names
        assert served.features.values.shape == (len(served.candidates), 2)
        assert bool(np.isnan(served.features.values[:, 0]).all()) == (error is not None)
        record = decode_served(encode_served(served, slate(SHOP, served)))
        assert record.features is not None
        assert record.features.values.tobytes() == served.features.values[served.selection.chosen].tobytes()
        healed = replace(plan, features=(Shelf(),))
        again = asyncio.run(rerun(healed, SHOP.moment, record))
        assert replace_arrays(again) == replace_arrays(served)
        assert again.features is not None
        assert again.features.values.tobytes() == served.features.values.tobytes()
        assert again.logs_features


def test_the_seed_decides_whether_values_are_kept():
    """About the configured share of requests, and each the same when it is run again."""
    plan = replace(plan_of(), features=(Shelf(),), log_features=0.25)
    kept = [answer(SHOP, plan, seed=seed).logs_features for seed in range(400)]
    assert 70 <= sum(kept) <= 130
    assert kept == [answer(SHOP, plan, seed=seed).logs_features for seed in range(400)]
    assert not answer(SHOP, replace(plan, log_features=0.0)).logs_features
    assert answer(SHOP, plan_of()).features is None


def test_a_late_scorer_is_cut_off():
    """What is awaited has a time-out: the next one answers."""
    late = Scores("late", lambda count: np.ones(count, np.float32), wait_s=60.0)
    served = answer(SHOP, plan_of([Fixed("good", (5, 6))], scorers=(late,)), remaining_s=0.02)
    assert served.scorer == "blend"
    assert [failure.component for failure in served.failures] == ["late"]
    assert served.failures[0].reason == "TimeoutError: no answer within 15 ms"  # a tenth of the deadline is kept


def test_what_could_not_begin_in_time_is_left_out_and_named():
    """The budget is checked before each part; the floor and the last scorer run whatever the time."""
    first = Scores("first", lambda count: np.ones(count, np.float32))
    served = answer(SHOP, plan_of([Fixed("good", (5, 6))], scorers=(first,)), remaining_s=0.0)
    assert [failure.component for failure in served.failures] == ["good", "first"]
    assert served.tier == "floor"
    assert slate(SHOP, served)[:2] == ["i0", "i1"]


def test_a_row_that_a_scorer_cannot_score_is_not_served():
    """NaN is no score: the row counts as not selected."""

    def odd_ones(count: int) -> Score:
        score = np.arange(count, dtype=np.float32)
        score[::2] = np.nan
        return score

    served = answer(SHOP, plan_of([Fixed("good", tuple(range(10)))], scorers=(Scores("half", odd_ones),)))
    assert served.scorer == "half"
    assert (served.selection.chosen % 2 == 1).all()
    require_conserved(served)


@pytest.mark.parametrize(
    "selection",
    [
        lambda: Selection(np.array([0, 0]), np.ones(2, np.float32)),
        lambda: Selection(np.arange(6), np.ones(6, np.float32)),
        lambda: Selection(np.array([99]), np.ones(1, np.float32)),
        lambda: Selection(np.array([-1]), np.ones(1, np.float32)),
        lambda: Selection(np.array([0]), np.zeros(1, np.float32)),
        lambda: Selection(np.array([0]), np.full(1, np.nan, np.float32)),
        lambda: Selection(np.array([0]), np.ones(2, np.float32)),
        lambda: 1 / 0,
    ],
)
def test_an_improper_choice_is_made_again(selection):
    """A selector that breaks its promise is named; the highest scores are served."""
    served = answer(SHOP, plan_of([Fixed("good", (5, 6))], selectors=(Chooses(selection),)))
    assert [failure.component for failure in served.failures] == ["selector"]
    assert slate(SHOP, served)[:2] == ["i5", "i6"]


def test_the_slate_is_filled_from_the_catalogue():
    """Where the filters leave less than a slate, the rest of the catalogue is read on, the newest first."""
    rule = condition("item.price > 20", NAMES, "$")
    assert isinstance(rule, Condition)
    served = answer(SHOP, plan_of([Fixed("good", (21, 2, 3))], filters=(ExpressionFilter(rule),)), slate_size=4)
    assert slate(SHOP, served) == ["i21", "i29", "i28", "i27"]
    assert served.retrieved["catalogue"] == 3  # what lay behind the last item needed was not looked at
    assert served.tier == "full"
    require_conserved(served)


@dataclass(frozen=True)
class KeepsAtFirst:
    """Keeps all that sources propose, and fails where the catalogue is read on."""

    name: str = "fails later"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        if candidates.source_names == ("catalogue",):
            raise OSError("nobody to ask")
        return np.ones(len(candidates), dtype=np.bool_)


def record_of(shop: StillShop, served: Served) -> bytes:
    """Return what is logged of an answer."""
    return encode_served(served, slate(shop, served))


@pytest.mark.parametrize("has_pages", [False, True])
def test_a_filter_that_fails_while_the_catalogue_is_read_on_lets_nothing_pass(has_pages):
    """Neither what was found there nor what it let pass before, so that a rerun, which is without it, is the same."""
    rule = condition("item.price > 5", NAMES, "$")
    assert isinstance(rule, Condition)
    plan = plan_of([Fixed("good", (5, 6, 7))], filters=(ExpressionFilter(rule), KeepsAtFirst()), floor=())
    served = answer(SHOP, plan, slate_size=5, order_max=20 if has_pages else 0)
    assert [failure.component for failure in served.failures] == ["fails later"]
    assert (slate(SHOP, served), served.retrieved) == ([], {"good": 3})
    assert (served.removed["filter"], served.removed["fails later"]) == (1, 2)
    require_conserved(served)
    record = record_of(SHOP, served)
    again = asyncio.run(rerun(plan, SHOP.moment, decode_served(record)))
    assert record_of(SHOP, again) == record


@dataclass(frozen=True)
class NoCatalogue:
    """Fails where all that there is is asked for."""

    name: str = "catalogue"

    def retrieve(self, moment: Moment) -> Proposal:
        raise OSError("nobody to ask")


def test_a_catalogue_that_fails_is_the_same_in_a_rerun():
    """It proposed nothing, then and again."""
    plan = replace(plan_of([Fixed("good", (5, 6))], floor=()), fill=NoCatalogue())
    served = answer(SHOP, plan)
    assert slate(SHOP, served) == ["i5", "i6"]
    record = record_of(SHOP, served)
    assert record_of(SHOP, asyncio.run(rerun(plan, SHOP.moment, decode_served(record)))) == record


def test_the_fill_reads_on_over_many_steps():
    """One eligible item at the far end of the catalogue is found."""
    shop = StillShop()
    for number in range(1_500):
        shop.put(f"i{number}", price=float(number))
    rule = condition("item.price < 1", NAMES, "$")
    assert isinstance(rule, Condition)
    served = answer(shop, plan_of(filters=(ExpressionFilter(rule),)))
    assert slate(shop, served) == ["i0"]
    assert served.retrieved_count == 1_500
    require_conserved(served)


def test_nothing_recorded_gives_the_newest_of_the_catalogue():
    """Before the first interaction there is an answer."""
    shop = StillShop()
    for number in range(8):
        shop.put(f"i{number}")
    assert slate(shop, answer(shop, plan_of())) == ["i7", "i6", "i5", "i4", "i3"]


def test_an_empty_catalogue_gives_an_empty_slate():
    """Nothing to serve is no error."""
    shop = StillShop()
    served = answer(shop, plan_of([Fixed("good")]))
    assert slate(shop, served) == []
    assert served.tier == "full"
    require_conserved(served)


def test_the_request_filter_holds_beside_the_placement_s():
    """Both must be true."""
    rule = condition("item.price >= context.floor", NAMES, "$")
    assert isinstance(rule, Condition)
    plan = plan_of([Fixed("good", tuple(range(30)))], filters=(ExpressionFilter(rule),))
    served = answer(SHOP, plan, filter='item.category == "odd"', context={"floor": 20.0}, slate_size=20)
    assert slate(SHOP, served) == ["i21", "i23", "i25", "i27", "i29"]
    assert answer(SHOP, plan, filter='item.category == "odd"').selection.chosen.size == 0  # no floor was sent


@pytest.mark.parametrize(
    "changes,where",
    [
        ({"filter": "item.prize < 3"}, "/filter"),
        ({"filter": "item.price < context.budget", "context": {"budget": "9"}}, "/context/budget"),
        ({"context": {"floor": True}}, "/context/floor"),
    ],
)
def test_an_unusable_filter_is_the_caller_s_error(changes, where):
    """It is refused with its faults, each with a pointer into the request, not answered with nothing."""
    rule = condition("item.price >= context.floor", NAMES, "$")
    assert isinstance(rule, Condition)
    with pytest.raises(RequestInvalid) as caught:
        answer(SHOP, plan_of(filters=(ExpressionFilter(rule),)), **changes)
    assert [each.where for each in caught.value.faults] == [where]


def test_rules_that_cannot_be_read_are_named_and_left_out():
    """A slate is chosen without rules whose attribute is gone, the answer says so, and a rerun is the same."""
    rules = Arrangement((Cap(attribute="nowhere", max=1),), None)
    plan = replace(plan_of((Fixed("s", tuple(range(12))),)), arrangement=rules)
    served = answer(SHOP, plan, slate_size=8)
    assert [failure.component for failure in served.failures] == [ARRANGEMENT]
    assert served.tier == "reduced"
    assert ARRANGEMENT in plan.part_names
    free = answer(SHOP, plan_of((Fixed("s", tuple(range(12))),)), slate_size=8)
    assert slate(SHOP, served) == slate(SHOP, free)
    record = decode_served(encode_served(served, slate(SHOP, served)))
    assert slate(SHOP, asyncio.run(rerun(plan, SHOP.moment, record))) == slate(SHOP, served)
    assert plan.without(frozenset((ARRANGEMENT,))).arrangement is None
