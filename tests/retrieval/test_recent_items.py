"""New items come while they are new and hardly anyone has seen them."""

from dataclasses import replace as replaced

import pytest
from msgspec.structs import replace

from midstream.core.durations import Duration
from midstream.retrieval.recent_items import RecentItems
from midstream.testing.conformance import check_source
from tests.support.frozen_shop import SMALL, StillShop

DAY_MS = 86_400_000


def proposed(shop, source):
    """Ids that the source proposes, with their scores; every promise of a source is checked on the way."""
    proposal = check_source(source, shop.moment())
    assert proposal is not None
    return dict(zip(shop.ids(proposal.item_index.tolist()), proposal.score.tolist(), strict=True))


@pytest.fixture
def shop():
    """Three items that came one after another, a day apart, and one that was clicked before the catalogue had it."""
    shop = StillShop()
    for name in "abc":
        shop.put(name)
        shop.wait(DAY_MS - 1_000)
    shop.act("view", "ann", "clicked")
    return shop


def test_the_newest_come_first_and_fade(shop):
    """Half the score for each half-life; the same time at which all were new would give the same scores."""
    found = proposed(shop, RecentItems(half_life=Duration("1d")))
    assert list(found) == ["c", "b", "a"]
    assert found["b"] == pytest.approx(found["c"] / 2)
    assert found["a"] == pytest.approx(found["c"] / 4)
    assert 0.49 < found["c"] < 0.51


def test_what_is_old_is_not_new(shop):
    """Exactly to the age, counted from when the catalogue first named the item, not from its last change."""
    age_ms = shop.now_ms - shop.fold.items.newest()[1][1]
    shop.put("a", price=2.0)
    assert list(proposed(shop, RecentItems(max_age=Duration(f"{age_ms + 1_000}ms")))) == ["c", "b"]
    assert list(proposed(shop, RecentItems(max_age=Duration(f"{age_ms + 999}ms")))) == ["c"]


def test_what_was_seen_often_is_not_cold(shop):
    """The first impression too many takes it out; those of 30 days ago do not count any more."""
    source = RecentItems(impressions_max=2, max_age=Duration("90d"))
    shop.see("ann", "b", "b")
    assert "b" in proposed(shop, source)
    shop.see("bob", "b")
    assert list(proposed(shop, source)) == ["c", "a"]
    shop.wait(32 * DAY_MS)
    assert list(proposed(shop, source)) == ["c", "b", "a"]


def test_what_may_not_be_served_is_not_proposed(shop):
    """Deleted, or not available; back when it is available again."""
    shop.delete("c")
    shop.put("b", available=False)
    assert list(proposed(shop, RecentItems())) == ["a"]
    shop.put("b")
    assert list(proposed(shop, RecentItems())) == ["b", "a"]


def test_only_the_newest_are_remembered():
    """``new_items_max`` of them: items that leave the ring are not proposed, whatever the limit."""
    most = 20
    shop = StillShop(replace(SMALL, limits=replace(SMALL.limits, new_items_max=most)))
    for number in range(most + 3):
        shop.put(f"i{number}")
    found = proposed(shop, RecentItems(limit=2 * most))
    assert list(found) == [f"i{number}" for number in range(most + 2, 2, -1)]
    assert list(proposed(shop, RecentItems(limit=2))) == [f"i{most + 2}", f"i{most + 1}"]


def test_a_clock_behind_log_time_makes_nothing_newer_than_new(shop):
    """An item that came after the time of the query has the score of one that comes now."""
    shop.put("d")
    behind = replaced(shop.query(), now_ms=shop.now_ms - 3_600_000)
    proposal = RecentItems().retrieve(shop.fold.moment(behind, shop.moment().models))
    assert proposal.score[0] == 1.0
