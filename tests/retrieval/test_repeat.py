"""What comes again: often and lately acted on, not just now, not long before it is due."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.events.schema import Event
from midstream.retrieval.repeat import RepeatItems
from midstream.testing.conformance import check_source
from tests.support.frozen_shop import StillShop

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW_MS = 1_700_000_000_000


def proposed(shop, source=None, user_id="ann"):
    """Ids that the source proposes to a user; every promise of a source is checked on the way."""
    moment = shop.moment(replace(shop.query(), user_id=user_id))
    proposal = check_source(source or RepeatItems(), moment)
    assert proposal is not None
    return shop.ids(proposal.item_index.tolist())


def plain(source, acts, now_ms):
    """The same scores, one item after another, in the words of the module."""
    times: dict[int, list[int]] = {}
    for item, time_ms in acts:
        times.setdefault(item, []).append(min(time_ms, now_ms))
    found = {}
    for item, own in times.items():
        own.sort()
        if now_ms - own[-1] < source.min_gap.ms:
            continue
        score = sum(2.0 ** ((time_ms - now_ms) / source.half_life.ms) for time_ms in own)
        interval = (own[-1] - own[0]) / (len(own) - 1) if len(own) > 1 else 0
        if source.early * interval > 0:
            score *= min(1, (now_ms - own[-1]) / (source.early * interval))
        found[item] = score
    return found


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-HOUR_MS, 400 * DAY_MS)), max_size=50),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from(["0ms", "1h", "1d", "30d"]),
    st.sampled_from(["1h", "30d", "180d"]),
)
def test_scores_are_those_of_the_plain_words(acts, early, min_gap, half_life):
    """To a step of the decay table, in whatever order the acts come."""
    source = RepeatItems(early=early, min_gap=Duration(min_gap), half_life=Duration(half_life))
    dated = [(item, NOW_MS - ago_ms) for item, ago_ms in acts]
    items = np.array([item for item, _ in dated], dtype=np.int32)
    times = np.array([time_ms for _, time_ms in dated], dtype=np.int64)
    found, score = source.score(items, times, NOW_MS)
    expected = plain(source, dated, NOW_MS)
    assert found.tolist() == sorted(expected)
    for item, value in zip(found.tolist(), score.tolist(), strict=True):
        assert math.isclose(value, expected[item], rel_tol=3e-4, abs_tol=1e-300)


@pytest.fixture
def shop():
    """Milk bought three times, bread twice, a pan once, a hat looked at."""
    shop = StillShop()
    for name in ("milk", "bread", "pan", "hat"):
        shop.put(name)
    for names in (("milk", "pan"), ("milk", "bread"), ("milk", "bread")):
        shop.act("purchase", "ann", *names)
        shop.wait(7 * DAY_MS)
    shop.act("view", "ann", "hat")
    shop.act("purchase", "bob", "hat")
    shop.wait(7 * DAY_MS)
    return shop


def test_what_is_bought_often_comes_first(shop):
    """Of the asking user, of purchases alone, and as many as are wanted."""
    assert proposed(shop) == ["milk", "bread", "pan"]
    assert proposed(shop, RepeatItems(limit=1)) == ["milk"]
    assert proposed(shop, user_id="bob") == ["hat"]
    assert proposed(shop, user_id="nobody") == []
    assert proposed(shop, user_id=None) == []


def test_other_acts_count_when_they_are_named(shop):
    """A film is watched again, not bought again; what is no act of this shop counts for nothing."""
    assert proposed(shop, RepeatItems(actions=("view",))) == ["hat"]
    assert set(proposed(shop, RepeatItems(actions=("purchase", "view")))) == {"milk", "bread", "pan", "hat"}
    assert proposed(shop, RepeatItems(actions=("wave",))) == []


def test_what_was_just_bought_waits(shop):
    """For ``min_gap`` it is not proposed at all; after that for a share of its mean interval it comes later."""
    shop.act("purchase", "ann", "milk")
    shop.wait(DAY_MS - 1_000)
    assert proposed(shop) == ["bread", "pan"]
    shop.wait(1_000)
    assert proposed(shop)[0] == "milk"
    assert proposed(shop, RepeatItems(early=1.0))[0] == "bread"


def test_what_may_not_be_served_is_not_proposed(shop):
    """At once."""
    shop.put("milk", available=False)
    shop.delete("pan")
    assert proposed(shop) == ["bread"]


def test_equal_items_come_by_their_hash():
    """So the order does not depend on which was bought first."""
    orders: list[list[str]] = []
    for names in ("abcdef", "fadbec"):
        shop = StillShop()
        for name in names:
            shop.put(name)
        shop.record(
            Event(Kind.INTERACTION, action="purchase", user_id="ann", item_id=name, event_time_ms=shop.now_ms)
            for name in names
        )
        shop.wait(DAY_MS)
        orders.append(proposed(shop))
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == [*"abcdef"]
