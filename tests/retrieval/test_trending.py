"""Trending by segment: one's own where one's own is known, the whole shop where it is not, mixed in between."""

from dataclasses import replace as replaced

import numpy as np
import pytest
from msgspec.structs import replace

from midstream.retrieval.trending import Trending
from midstream.testing.conformance import check_source
from tests.support.frozen_shop import SMALL, StillShop

SEGMENT = Trending(by_segment=True, segment_prior=10.0)


def proposed(shop, source, **asked):
    """Ids that a source proposes, with their scores; every promise of a source is checked on the way."""
    proposal = check_source(source, shop.moment(replaced(shop.query(), **asked)))
    assert proposal is not None
    return dict(zip(shop.ids(proposal.item_index.tolist()), proposal.score.tolist(), strict=True))


@pytest.fixture
def shop():
    """Fifty views of coats, and boots hot in the north alone; ann is from the north, bob from the south."""
    shop = StillShop(replace(SMALL, segment="user.region"))
    for name in ("coat", "boots", "hat"):
        shop.put(name)
    shop.set_user("ann", region="north")
    shop.set_user("bob", region="south")
    shop.act("view", "cyd", *["coat"] * 50)
    shop.act("view", "ann", *["boots"] * 30)
    return shop


def test_the_segment_decides_where_it_is_warm(shop):
    """Ann gets what the north looks at; who is in no segment, and who is unknown, gets the whole shop's list."""
    assert list(proposed(shop, SEGMENT, user_id="ann")) == ["boots", "coat"]
    whole = proposed(shop, Trending())
    assert list(whole) == ["coat", "boots"]
    assert proposed(shop, SEGMENT, user_id="cyd") == proposed(shop, SEGMENT) == whole
    assert proposed(shop, SEGMENT, user_id="nobody") == whole


def test_a_cold_segment_answers_as_the_whole_shop(shop):
    """To the score: nothing is known of the south but what the shop is."""
    found, whole = proposed(shop, SEGMENT, user_id="bob"), proposed(shop, Trending())
    assert list(found) == list(whole)
    assert list(found.values()) == pytest.approx(list(whole.values()))
    assert list(proposed(shop, replace(SEGMENT, segment_prior=1e6), user_id="ann")) == ["coat", "boots"]


def test_the_share_is_that_of_the_formula(shop):
    """(own heat + prior x share of the whole) / (own total + prior), times the whole's total."""
    segments, items = shop.fold.segments, shop.fold.items
    index = shop.fold.vocabulary.item_indices(("boots", "coat"))
    heat = items.heat(segments.half_life_ms, index)
    own = np.array([segments.heat(0, index[:1])[0], 0.0])
    share = (own + 10.0 * heat / heat.sum()) / (own.sum() + 10.0)
    found = proposed(shop, SEGMENT, user_id="ann")
    assert [found["boots"], found["coat"]] == pytest.approx((share * heat.sum()).tolist(), rel=1e-6)
    assert sum(found.values()) == pytest.approx(heat.sum(), rel=1e-6)


def test_it_says_what_the_mean_of_shares_says_wherever_items_are_hot(shop):
    """The best of the mixture over all items is found though only parts of both lists are read."""
    rng = np.random.default_rng(5)
    for number in range(60):
        shop.put(f"i{number}")
    for number in rng.zipf(1.5, 400) % 60:
        shop.act("view", ("ann", "cyd")[int(number) % 2], f"i{number}")
    index = np.arange(shop.fold.items.count, dtype=np.int32)
    heat = shop.fold.items.heat(SEGMENT.half_life.ms, index)
    own = shop.fold.segments.heat(0, index)
    share = (own + 10.0 * heat / heat.sum()) / (own.sum() + 10.0)
    best = shop.ids(np.argsort(-share, kind="stable")[:4].tolist())
    assert list(proposed(shop, replace(SEGMENT, limit=4), user_id="ann")) == best


def test_what_is_not_available_leaves_the_segment_too(shop):
    """At once, and comes back with its heat."""
    shop.put("boots", available=False)
    assert list(proposed(shop, SEGMENT, user_id="ann")) == ["coat"]
    shop.put("boots")
    assert list(proposed(shop, SEGMENT, user_id="ann")) == ["boots", "coat"]


def test_the_context_of_the_request_decides_where_acts_bring_theirs():
    """Without a user."""
    shop = StillShop(replace(SMALL, segment="context.device"))
    shop.act_in(b'{"device":"tv"}', "view", "ann", *["film"] * 20)
    shop.act_in(b'{"device":"phone"}', "view", "ann", *["clip"] * 30)
    assert list(proposed(shop, SEGMENT)) == ["clip", "film"]
    assert list(proposed(shop, SEGMENT, context={"device": "tv"})) == ["film", "clip"]
    assert list(proposed(shop, SEGMENT, context={"device": "radio"})) == ["clip", "film"]


def test_it_has_one_name():
    """In served records, metrics and weights, whichever list answered."""
    assert SEGMENT.name == Trending().name == "trending"
