"""The caller's own items in a new order: each is served, removed by name, or not selected, and a rerun is the same."""

import asyncio
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Served
from midstream.ranking.caller_items import GIVEN, UNKNOWN
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from tests.ranking.test_pipeline import Fixed, Keeps, answer, plan_of, require_conserved, shop_of, slate

SHOP = shop_of(30)
for visitor in range(20):
    SHOP.act("view", f"u{visitor}", *(f"i{(visitor * 7 + step) % 30}" for step in range(4)), session_id=f"s{visitor}")
SOURCES = (SessionKnn(), Covisitation(), Trending(half_life=SHOP.fold.settings.half_lives[0]))
ids = st.lists(st.integers(0, 34).map("i{}".format), unique=True, min_size=1, max_size=34).map(tuple)


def known_and_kept(item_id: str, modulus: int) -> bool:
    """What the shop of these tests may serve."""
    number = int(item_id[1:])
    return number < 30 and number % modulus == 0


def rank(plan: Plan, items: tuple[str, ...], **changes) -> Served:
    """Rank items, all of them unless ``slate_size`` says otherwise, for somebody with a session."""
    return answer(SHOP, plan, given=items, **{"slate_size": len(items), "items": ("i3", "i10"), **changes})


def removers(served: Served) -> list[str | None]:
    """What removed each item, by name; None = nothing did."""
    assert served.verdict is not None
    names = tuple(served.removed)
    return [names[at] if at >= 0 else None for at in served.verdict.tolist()]


def rerun_of(plan: Plan, served: Served) -> Served:
    """Answer the logged record again."""
    return asyncio.run(rerun(plan, SHOP.moment, decode_served(encode_served(served, slate(SHOP, served)))))


@given(items=ids, modulus=st.integers(1, 5), seed=st.integers(0, 2**63), explores=st.booleans())
def test_the_slate_is_a_permutation_of_the_eligible_items_and_each_other_one_is_named(items, modulus, seed, explores):
    """Unknown and ineligible items are told by what removed them; a rerun of the record gives the same slate."""
    selectors = (PlackettLuce(),) if explores else ()
    plan = plan_of(SOURCES, filters=(Keeps("keeps", modulus),), selectors=selectors)
    served = rank(plan, items, seed=seed)
    require_conserved(served)
    assert sorted(slate(SHOP, served)) == sorted(each for each in items if known_and_kept(each, modulus))
    assert dict(zip(items, removers(served), strict=True)) == {
        each: UNKNOWN if int(each[1:]) >= 30 else None if known_and_kept(each, modulus) else "keeps" for each in items
    }
    assert served.removed[UNKNOWN] == sum(int(each[1:]) >= 30 for each in items)
    again = rerun_of(plan, served)
    assert slate(SHOP, again) == slate(SHOP, served)
    assert again.score.tobytes() == served.score.tobytes()
    assert again.selection.propensity.tobytes() == served.selection.propensity.tobytes()
    assert (again.removed, again.retrieved, again.query) == (served.removed, served.retrieved, served.query)
    assert removers(again) == removers(served)


@given(items=ids, data=st.data())
def test_a_part_of_the_items_keeps_the_order_of_the_whole(items, data):
    """What an item is worth does not depend on the others, so equal ones stand as the caller has them."""
    part = data.draw(st.lists(st.sampled_from(items), unique=True, min_size=1).map(set))
    kept = tuple(each for each in items if each in part)
    plan = plan_of(SOURCES)
    whole = slate(SHOP, rank(plan, items))
    assert slate(SHOP, rank(plan, kept)) == [each for each in whole if each in part]


@given(items=ids, n=st.integers(1, 40))
def test_fewer_places_are_the_first_of_all(items, n):
    """The rest is not selected: nothing is filled up from the catalogue."""
    plan = plan_of(SOURCES)
    whole, few = rank(plan, items), rank(plan, items, slate_size=n)
    require_conserved(few)
    assert slate(SHOP, few) == slate(SHOP, whole)[:n]


def test_all_items_are_scored_where_other_candidates_would_be_cut():
    """The caller's items are the caller's choice."""
    served = rank(replace(plan_of(SOURCES), candidates_max=2), tuple(f"i{number}" for number in range(9)))
    assert len(slate(SHOP, served)) == 9


def test_sources_say_what_they_know_of_the_given_items_and_add_none():
    """Their own places are kept, and their names stand in the record."""
    plan = plan_of([Fixed("shelf", (9, 4, 7))], floor=())
    served = rank(plan, ("i7", "i1", "i4"))
    assert slate(SHOP, served) == ["i4", "i7", "i1"]
    assert served.retrieved == {GIVEN: 3, "shelf": 2}
    assert served.candidates.source_rank.tolist() == [[0, 2], [1, -1], [2, 1]]
    record = decode_served(encode_served(served, slate(SHOP, served)))
    assert [each.sources for each in record.items] == [(GIVEN, "shelf"), (GIVEN, "shelf"), (GIVEN,)]


def test_the_order_of_the_caller_counts_where_it_is_given_a_weight():
    """By default it decides between equal items alone."""
    plan = replace(plan_of([Fixed("shelf", (4,))], floor=()), scorers=(Blend(weights={GIVEN: 5.0}),))
    assert slate(SHOP, rank(plan, ("i7", "i1", "i4"))) == ["i7", "i4", "i1"]


def test_a_filter_that_fails_removes_all_that_are_known():
    """Eligibility fails closed here too, and the filter is named for each."""
    served = rank(plan_of(filters=(Keeps("keeps", error=ValueError("x")),)), ("i1", "i2", "i99"))
    require_conserved(served)
    assert len(served.selection.chosen) == 0
    assert removers(served) == ["keeps", "keeps", UNKNOWN]


def test_a_source_that_fails_is_left_out_of_a_rerun_as_well():
    """The items are the caller's, so nothing is lost but what it would have said."""
    plan = plan_of([Fixed("bad", error=ValueError("x")), Fixed("good", (2,))])
    served = rank(plan, ("i1", "i2"))
    assert (served.tier, [each.component for each in served.failures]) == ("reduced", ["bad"])
    assert slate(SHOP, rerun_of(plan, served)) == slate(SHOP, served) == ["i2", "i1"]


def test_a_thousand_items_are_ranked_and_logged():
    """As many as a slate may have in the state that joins what follows."""
    items = tuple(f"i{number}" for number in range(1_000))
    served = rank(plan_of(SOURCES), items)
    record = decode_served(encode_served(served, slate(SHOP, served)))
    assert record.query.given == items
    assert len(record.items) == 30
    assert served.removed[UNKNOWN] == 970
