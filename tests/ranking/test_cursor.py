"""Slates that continue a slate: the logged order less what became ineligible, no repeats, no gaps, as state moves."""

import asyncio
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import NotFound
from midstream.core.types import Candidates, Selection
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.filters.acted import Acted, Exclusion
from midstream.ranking.pipeline import recommend
from midstream.ranking.record.continuation import query_on, read_on
from midstream.ranking.record.order import ORDER_MAX, TURNS_MAX
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.cap import Cap
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from tests.ranking.test_pipeline import Fixed, plan_of, require_conserved, shop_of, slate
from tests.support.frozen_shop import SMALL

ITEMS = 40
FILTERS = (Acted(exclusions=(Exclusion.read("purchase", 1, SMALL),)),)


def ids(shop, served):
    """Return the ids of a slate and of what comes after it."""
    order = [] if served.order is None else served.order.chosen.tolist()
    rows = [*served.selection.chosen.tolist(), *order]
    return shop.ids(served.candidates.item_index[rows].tolist())


def logged(shop, served):
    """Return the record as it is read from the log."""
    return decode_served(encode_served(served, ids(shop, served)))


def first_of(shop, plan, size, seed=7):
    """Return the record of a slate that may be continued."""
    asked = replace(shop.query(), slate_size=size, seed=seed, user_id="ann", order_max=ORDER_MAX)
    return logged(shop, asyncio.run(recommend(plan, shop.moment, asked, lambda: math.inf)))


def eligible(shop, plan, query, names):
    """Return those of some items that every filter lets pass now, each asked by itself."""
    moment, found = shop.moment(query), []
    for name in names:
        index = np.array([shop.fold.vocabulary.item_index(name)], dtype=np.int32)
        one = Candidates(index, (), np.empty((1, 0), np.float32), np.empty((1, 0), np.int32))
        if all(bool(rule.keep(moment, one)[0]) for rule in plan.filters):
            found.append(name)
    return found


def move(shop, step):
    """Let something happen between two requests."""
    what, number = step
    name = f"i{number}"
    if what == "hide":
        shop.put(name, available=False)
    elif what == "show":
        shop.put(name, available=True)
    elif what == "buy":
        shop.act("purchase", "ann", name)
    elif what == "delete":
        shop.delete(name)
    else:
        shop.put(f"new{number}")
        shop.act("view", "eve", *[f"new{number}"] * 5)


moves = st.lists(
    st.tuples(st.sampled_from(["hide", "hide", "show", "buy", "delete", "new"]), st.integers(0, ITEMS - 1)), max_size=12
)


@given(size=st.integers(1, 9), explores=st.booleans(), has_cap=st.booleans(), steps=st.lists(moves, max_size=30))
def test_pages_together_are_the_logged_order_less_what_became_ineligible(size, explores, has_cap, steps):
    """Whatever happens between two of them: in order, no item twice, none left out, each page within the caps."""
    shop = shop_of(ITEMS)
    cap = Arrangement((Cap(attribute="category", max=2),), None) if has_cap else None
    plan = replace(
        plan_of(
            [Fixed("s", tuple(range(0, ITEMS, 2)))], filters=FILTERS, selectors=(PlackettLuce(),) if explores else ()
        ),
        arrangement=cap,
    )
    first = first_of(shop, plan, size)
    shown, expected = [item.id for item in first.items], [item.id for item in first.items]
    turn, moving = 1, iter(steps)
    while turn <= len(first.order):
        for step in next(moving, []):
            move(shop, step)
        query = query_on(first, replace(shop.query(), request_id=f"page-{turn}"), turn, len(shown))
        found = read_on(plan, shop.moment, query, first)
        for block in first.order[turn - 1 : found.turn - 1]:
            expected += eligible(shop, plan, query, [item.id for item in block])
        require_conserved(found.served)
        page = slate(shop, found.served)
        assert page or found.turn > len(first.order)
        assert query.first_position == len(shown)
        assert len(page) <= size
        if has_cap and page:
            values = [int(each[1:]) % 2 for each in page]
            assert max(values.count(0), values.count(1)) <= 2
        record = logged(shop, found.served)
        known = {item.id: item for block in first.order for item in block}
        assert [known[item.id] for item in record.items] == list(record.items)
        assert record.failures == ()
        again = asyncio.run(rerun(plan, shop.moment, record, first))
        assert slate(shop, again) == page
        shown += page
        turn = found.turn
    assert shown == expected
    assert len(set(shown)) == len(shown)


@dataclass(frozen=True)
class SometimesChooses:
    """Takes the last rows, and fails at some seeds."""

    fails_at: frozenset[int]

    def select(self, query, features, score):
        if query.seed in self.fails_at:
            raise OSError("cannot choose")
        rows = np.flatnonzero(np.isfinite(score))[::-1][: query.slate_size]
        return Selection(rows, np.ones(len(rows), dtype=np.float32))


@pytest.mark.parametrize("fails_at", [(), (7,), (8,), (10,), (7, 8, 9, 10)])
def test_a_selector_that_fails_at_one_slate_chooses_none_of_them(fails_at):
    """A rerun goes without it from the first slate on, so the answer does; it is named once."""
    shop = shop_of(ITEMS)
    plan = plan_of([Fixed("s", tuple(range(ITEMS)))], selectors=(SometimesChooses(frozenset(fails_at)),))
    first = first_of(shop, plan, 4)
    assert first.items[0].id == ("i0" if fails_at else f"i{ITEMS - 1}")
    assert [each.component for each in first.failures] == ["selector"] * bool(fails_at)
    again = asyncio.run(rerun(plan, shop.moment, first))
    assert logged(shop, again) == first


def test_the_order_holds_up_to_two_hundred_of_all_there_is():
    """The first slate is that of a request without an order; what comes after it is chosen slate by slate."""
    shop = shop_of(260)
    plan = plan_of([Fixed("s", tuple(range(260)))])
    record = first_of(shop, plan, 20)
    plain = replace(shop.query(), slate_size=20, user_id="ann")
    assert [item.id for item in record.items] == slate(
        shop, asyncio.run(recommend(plan, shop.moment, plain, lambda: math.inf))
    )
    assert [len(block) for block in record.order] == [20] * 9
    few = first_of(shop, plan, 1)
    assert len(few.order) == TURNS_MAX
    assert logged(shop, asyncio.run(recommend(plan, shop.moment, plain, lambda: math.inf))).order == ()


def test_propensities_of_later_slates_are_those_of_the_draw():
    """Each is the probability given what was chosen before; the next one's draw is another one's."""
    shop = shop_of(12)
    plan = plan_of([Fixed("s", tuple(range(12)))], selectors=(PlackettLuce(temperature=2.0),))
    records = [first_of(shop, plan, 3, seed) for seed in range(1, 6)]
    for record in records:
        every = [item for block in (record.items, *record.order) for item in block]
        assert len({item.id for item in every}) == 12
        assert every[-1].propensity == pytest.approx(1.0)
        assert all(0 < item.propensity <= 1 for item in every)
    assert len({tuple(item.id for item in record.order[0]) for record in records}) > 1


def test_the_first_item_of_the_catalogue_comes_in_its_slate():
    """As any other, wherever it stands in the order."""
    shop = shop_of(5)
    plan = plan_of([Fixed("s", (4, 3, 2, 1, 0))])
    first = first_of(shop, plan, 2)
    pages = [
        slate(shop, read_on(plan, shop.moment, query_on(first, shop.query(), turn, 2), first).served) for turn in (1, 2)
    ]
    assert pages == [["i2", "i1"], ["i0"]]


def test_a_filter_that_fails_lets_nothing_pass_and_nothing_is_lost():
    """The same slate comes once it answers again."""

    class Broken:
        name = "broken"

        def keep(self, moment, candidates):
            raise OSError("gone")

    shop = shop_of(12)
    plan = plan_of([Fixed("s", tuple(range(12)))])
    first = first_of(shop, plan, 3)
    query = query_on(first, shop.query(), 1, 3)
    broken = read_on(replace(plan, filters=(*plan.filters, Broken())), shop.moment, query, first)
    assert (slate(shop, broken.served), broken.turn) == ([], 1)
    assert [each.component for each in broken.served.failures] == ["broken"]
    require_conserved(broken.served)
    assert slate(shop, read_on(plan, shop.moment, query, first).served) == [item.id for item in first.order[0]]


def test_a_record_that_continues_one_that_is_gone_cannot_be_run_again():
    """And says why."""
    shop = shop_of(12)
    plan = plan_of([Fixed("s", tuple(range(12)))])
    first = first_of(shop, plan, 3)
    record = logged(shop, read_on(plan, shop.moment, query_on(first, shop.query(), 1, 3), first).served)
    with pytest.raises(NotFound, match="is not kept any more"):
        asyncio.run(rerun(plan, shop.moment, record))
