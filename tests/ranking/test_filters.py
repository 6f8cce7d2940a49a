"""What each filter removes, on the real state."""

from dataclasses import replace

import numpy as np
import pytest

from midstream.core.types import Candidates
from midstream.ranking.filters.acted import Acted, Exclusion
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.excluded import Excluded
from midstream.ranking.filters.repeats import Repeats
from tests.support.frozen_shop import SMALL, StillShop

DAY_MS = 86_400_000


def kept(shop: StillShop, rule, **asked) -> list[str]:
    """Ids of all items of the shop that a filter keeps."""
    count = shop.fold.vocabulary.item_count
    every = np.arange(count, dtype=np.int32)
    candidates = Candidates(every, (), np.empty((count, 0), np.float32), np.empty((count, 0), np.int32))
    moment = shop.moment(replace(shop.query(), **asked))
    return shop.ids(every[rule.keep(moment, candidates)].tolist())


@pytest.fixture
def shop() -> StillShop:
    """Five items of a catalogue and one known from a click."""
    shop = StillShop()
    for name in "abcde":
        shop.put(name)
    shop.act("view", "eve", "click-only")
    return shop


def test_available(shop):
    """Deleted and unavailable items are gone at once, and back at once."""
    assert kept(shop, Available()) == ["a", "b", "c", "d", "e", "click-only"]
    shop.put("a", available=False)
    shop.delete("b")
    assert kept(shop, Available()) == ["c", "d", "e", "click-only"]
    shop.put("a", available=True)
    assert kept(shop, Available()) == ["a", "c", "d", "e", "click-only"]


def test_excluded(shop):
    """The request's list is gone; ids that nobody knows exclude nothing."""
    assert kept(shop, Excluded(), exclude=("a", "nobody", "c")) == ["b", "d", "e", "click-only"]
    assert kept(shop, Excluded()) == ["a", "b", "c", "d", "e", "click-only"]


@pytest.mark.parametrize(
    "allow, session, basket, gone",
    [
        ("not_last", ("a", "b"), (), "b"),
        ("not_last", ("a", "b"), ("c", "d"), "cd"),
        ("not_last", ("a", "b"), ("nobody-knows",), "b"),
        ("not_last", (), ("c", "d"), "cd"),
        ("not_last", (), (), ""),
        ("none", ("a", "b"), ("c",), "abc"),
        ("any", ("a", "b"), ("c",), ""),
    ],
)
def test_repeats(shop, allow, session, basket, gone):
    """Which items of the session may come again, and none of a basket."""
    shop.act("view", "ann", *session, session_id="s")
    found = kept(shop, Repeats(allow=allow), user_id="ann", session_id="s", items=basket)
    assert found == [name for name in ("a", "b", "c", "d", "e", "click-only") if name not in gone]


def test_acted_by_age(shop):
    """Bought within the time is gone; bought before, and only looked at, is not."""
    rule = Acted(exclusions=(Exclusion.read("purchase", "30d", SMALL),))
    shop.act("purchase", "ann", "a")
    shop.wait(31 * DAY_MS)
    shop.act("purchase", "ann", "b")
    shop.act("view", "ann", "c")
    shop.act("purchase", "bob", "d")
    assert kept(shop, rule, user_id="ann") == ["a", "c", "d", "e", "click-only"]
    shop.wait(30 * DAY_MS + 2_001)
    assert kept(shop, rule, user_id="ann") == ["a", "b", "c", "d", "e", "click-only"]


def test_acted_by_count(shop):
    """Done as often as that is gone, less often is not."""
    rule = Acted(exclusions=(Exclusion.read("view", 3, SMALL),))
    shop.act("view", "ann", "a", "b", "a", "b", "a")
    assert kept(shop, rule, user_id="ann") == ["b", "c", "d", "e", "click-only"]


def test_impressions_by_count_and_age(shop):
    """Seen often enough, or lately, is gone; impressions count from the user's first interaction on."""
    shop.see("ann", "e", "e")
    shop.act("view", "ann", "d")
    shop.see("ann", "a", "b", "a", "c")
    often = Acted(exclusions=(Exclusion.read("impression", 2, SMALL),))
    assert kept(shop, often, user_id="ann") == ["b", "c", "d", "e", "click-only"]
    lately = Acted(exclusions=(Exclusion.read("impression", "1d", SMALL),))
    assert kept(shop, lately, user_id="ann") == ["d", "e", "click-only"]
    shop.wait(2 * DAY_MS)
    assert kept(shop, lately, user_id="ann") == ["a", "b", "c", "d", "e", "click-only"]


def test_several_exclusions_hold_together(shop):
    """Each removes its own."""
    rule = Acted(exclusions=(Exclusion.read("purchase", "30d", SMALL), Exclusion.read("dismiss", 1, SMALL)))
    shop.act("purchase", "ann", "a")
    shop.act("dismiss", "ann", "b")
    assert kept(shop, rule, user_id="ann") == ["c", "d", "e", "click-only"]
    assert len(kept(shop, rule, user_id="nobody")) == 6
    assert len(kept(shop, rule)) == 6
