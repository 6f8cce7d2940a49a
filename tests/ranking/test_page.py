"""Several slates of one page: no item twice, one log position, equal sources asked once, each rerun the same."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.traits import PROPOSES
from midstream.core.types import Failure, FeatureFrame, Models, Moment, Proposal, Query, Score, Served
from midstream.ranking.caller_items import PAGE
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.page import recommend_page
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.retrieval.cut_search import CutProposal
from tests.ranking.test_pipeline import Fixed, Keeps, plan_of, require_conserved, shop_of, slate

SHOP = shop_of(30)
CAP = 4
RULES = Arrangement((Cap(attribute="category", max=CAP),), Diversity(attribute="category"))


@dataclass(frozen=True)
class Waits:
    """Scores by item number after a wait in which events may be folded."""

    wait_s: float = 0.0
    name: str = "waits"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        await asyncio.sleep(self.wait_s)
        return np.arange(len(features.values), dtype=np.float32)


@dataclass(frozen=True)
class Counted:
    """Proposes items, and counts how often it is asked."""

    name: str = "counted"
    item_index: tuple[int, ...] = (1, 2, 3)
    asked: Counter[str] = field(default_factory=Counter[str], compare=False)

    def retrieve(self, moment: Moment) -> Proposal:
        self.asked[self.name] += 1
        count = len(self.item_index)
        return Proposal(np.array(self.item_index, dtype=np.int32), np.ones(count, dtype=np.float32))


class Pure(Counted):
    """The same, which says that no slate of a page gets another answer."""

    traits = PROPOSES


def page_of(slots: list[tuple[Plan, Query]], remaining_s: float = math.inf, shop=SHOP) -> list[Served]:
    """Answer a page at rest."""
    observe = lambda plan, query: shop.moment(query)  # noqa: E731, ARG005
    ids_of = lambda item_index: shop.ids(item_index.tolist())  # noqa: E731
    return asyncio.run(recommend_page(slots, observe, ids_of, lambda: remaining_s))


def query(number: int, size: int, **changes) -> Query:
    """The query of a slot."""
    return replace(SHOP.query(), request_id=f"r-{number}", seed=number, slate_size=size, page_id="r-0", **changes)


slots = st.lists(
    st.tuples(
        st.lists(st.integers(0, 29), unique=True, max_size=12).map(tuple),
        st.integers(1, 9),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(told=slots, exclude=st.lists(st.integers(0, 29), max_size=5))
def test_no_item_twice_nothing_disappears_and_each_slate_reruns_by_itself(told, exclude):
    """Each slate is as full as what the slates before it left allows; its record alone gives the same again."""
    plans = [
        replace(
            plan_of(
                [Fixed(f"s{n}", items)],
                filters=(Keeps("keeps", modulus),),
                selectors=(PlackettLuce(),) if explores else (),
                scorers=(Waits(),) if waits else (),
            ),
            arrangement=RULES if has_rules else None,
        )
        for n, (items, _, modulus, explores, waits, has_rules) in enumerate(told)
    ]
    excluded = tuple(f"i{number}" for number in exclude)
    asked = [query(n, each[1], exclude=excluded) for n, each in enumerate(told)]
    page = page_of(list(zip(plans, asked, strict=True)))
    shown: list[str] = []
    for plan, served, (_, size, modulus, _, _, has_rules) in zip(plans, page, told, strict=True):
        require_conserved(served)
        own = slate(SHOP, served)
        left = {f"i{n}" for n in range(0, 30, modulus)} - set(shown) - set(excluded)
        assert set(own) <= left
        assert served.query.taken == tuple(shown)
        assert served.failures == ()
        if has_rules:
            assert max(Counter(int(each[1:]) % 2 for each in own).values(), default=0) <= CAP
        else:
            assert len(own) == min(size, len(left))
        shown += own
        record = decode_served(encode_served(served, own))
        again = asyncio.run(rerun(plan, SHOP.moment, record))
        assert slate(SHOP, again) == own
        assert again.score.tobytes() == served.score.tobytes()
        assert again.selection.propensity.tobytes() == served.selection.propensity.tobytes()
        assert (again.query, again.removed, again.retrieved) == (served.query, served.removed, served.retrieved)
    assert len(set(shown)) == len(shown)


def test_what_stands_above_is_named_in_the_count():
    """Items that an earlier slate took are removed by the page; the first slate has no such line."""
    plan = plan_of([Fixed("shelf", (7, 8, 9))], floor=())
    first, second = page_of([(plan, query(0, 2)), (plan, query(1, 2))])
    assert (slate(SHOP, first), slate(SHOP, second)) == (["i7", "i8"], ["i9", "i0"])
    assert PAGE not in first.removed
    assert second.removed[PAGE] == 2


def test_the_cut_leaves_enough_for_what_earlier_slates_take():
    """As many candidates more go on as may be taken, so no slate is short while there are items."""
    plan = replace(plan_of([Fixed("shelf", tuple(range(20)))]), candidates_max=3)
    page = page_of([(plan, query(n, 3)) for n in range(3)])
    assert [len(slate(SHOP, served)) for served in page] == [3, 3, 3]


def test_equal_sources_are_asked_once_for_all_slates():
    """Those that are shared, and only where their options are equal; what they say is the same for each."""
    counted = Pure()
    other = replace(counted, item_index=(4, 5))
    plans = [plan_of([each]) for each in (counted, counted, other, counted)]
    page = page_of([(plan, query(n, 1)) for n, plan in enumerate(plans)])
    assert counted.asked == {"counted": 2}
    assert [each.retrieved["counted"] for each in page] == [3, 3, 2, 3]
    own = Counted(asked=counted.asked)
    plans = [plan_of([own]) for _ in range(3)]
    page_of([(plan, query(n, 1)) for n, plan in enumerate(plans)])
    assert counted.asked == {"counted": 5}, "a component of one's own may read anything of a query"


class Cut(Pure):
    """The same, whose search ends early."""

    traits = PROPOSES

    def retrieve(self, moment):
        found = super().retrieve(moment)
        return CutProposal(found.item_index, found.score, "where", "not all")


def test_a_search_that_was_cut_is_named_in_each_slate():
    """Also where it was asked once for all of them."""
    cut = Cut()
    page = page_of([(plan_of([cut]), query(n, 1)) for n in range(2)])
    assert cut.asked == {"counted": 1}
    assert [each.failures for each in page] == [(Failure("counted.where", "not all"),)] * 2


class Unlike(Pure):
    """One that cannot be compared."""

    traits = PROPOSES

    def __eq__(self, other: object) -> bool:
        message = "no two are alike"
        raise ValueError(message)

    __hash__ = None  # type: ignore[assignment]


def test_a_source_that_cannot_be_compared_fails_alone():
    """Where a page asks whether it was asked before: that slate goes without it, and all others are as they were."""
    plans = [plan_of([each, Fixed("shelf", (7, 8))]) for each in (Unlike(), Unlike(), Pure())]
    page = page_of([(plan, query(n, 1)) for n, plan in enumerate(plans)])
    assert [{each.component: each.reason for each in served.failures} for served in page] == [
        {},
        {"counted": "ValueError: no two are alike"},
        {},
    ]
    assert [served.retrieved.get("counted") for served in page] == [3, None, 3]
    assert [served.retrieved["shelf"] for served in page] == [2, 2, 2]


def test_all_slates_see_one_log_position_whatever_is_awaited():
    """A scorer waits while events come in: later slates were read before."""
    shop = shop_of(6)
    plan = plan_of(scorers=(Waits(0.01),))

    async def work() -> list[Served]:
        observe = lambda _plan, query: shop.moment(query)  # noqa: E731
        ids_of = lambda item_index: shop.ids(item_index.tolist())  # noqa: E731
        asked = [(plan, query(n, 2)) for n in range(3)]
        answering = asyncio.create_task(recommend_page(asked, observe, ids_of, lambda: math.inf))
        await asyncio.sleep(0.005)
        shop.delete("i0")
        shop.put("new", price=1.0)
        return await answering

    before = shop.fold.log_position
    page = asyncio.run(work())
    assert {each.log_position for each in page} == {before}
    assert sorted(item for each in page for item in slate(shop, each)) == [f"i{n}" for n in range(6)]


def test_a_page_that_is_late_is_answered_by_what_may_not_be_left_out():
    """One deadline for all: parts that could not begin are named in each slate."""
    plan = plan_of([Fixed("shelf", (7, 8, 9))])
    page = page_of([(plan, query(n, 2)) for n in range(3)], remaining_s=0.0)
    assert [[each.component for each in served.failures] for served in page] == [["shelf"]] * 3
    assert [len(served.selection.chosen) for served in page] == [2, 2, 2]
