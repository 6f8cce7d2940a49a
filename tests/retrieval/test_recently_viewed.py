"""What the user acted on last: the newest first, each item once, of the acts and the time that were asked for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.retrieval.evidence import Evidence
from midstream.retrieval.recently_viewed import RecentlyViewed
from midstream.testing.conformance import check_source
from tests.support.frozen_shop import StillShop

DAY_MS = 86_400_000
NAMES = "abcdef"


def proposed(shop, source=None, **asked):
    """Ids that the source proposes; every promise of a source is checked on the way."""
    moment = shop.moment(replace(shop.query(), **({"user_id": "ann"} | asked)))
    proposal = check_source(source or RecentlyViewed(), moment)
    assert proposal is not None
    return shop.ids(proposal.item_index.tolist())


@pytest.fixture
def shop():
    """Return a shop with a catalogue of letters."""
    shop = StillShop()
    for name in NAMES:
        shop.put(name)
    return shop


ACTS = st.lists(st.tuples(st.sampled_from(["view", "cart", "dismiss"]), st.sampled_from(NAMES)), max_size=70)


@given(ACTS, st.sampled_from([(), ("view",), ("dismiss", "cart")]), st.integers(1, 7))
def test_it_is_the_ring_read_backwards(acts, actions, limit):
    """The last 50 acts, each item where it came last."""
    shop = StillShop()
    for name in NAMES:
        shop.put(name)
    for action, item in acts:
        shop.act(action, "ann", item)
    shop.wait(DAY_MS)
    counted = actions or ("view", "cart")
    expected = dict.fromkeys(item for action, item in reversed(acts[-50:]) if action in counted)
    assert proposed(shop, RecentlyViewed(actions=actions, limit=limit)) == list(expected)[:limit]


def test_an_act_is_there_in_the_next_answer(shop):
    """Of the asking user alone; nobody has nothing."""
    shop.act("view", "ann", "a", "b")
    shop.act("view", "bob", "c")
    assert proposed(shop) == ["b", "a"]
    shop.act("view", "ann", "a")
    assert proposed(shop) == ["a", "b"]
    assert proposed(shop, user_id="nobody") == []
    assert proposed(shop, user_id=None) == []


def test_old_acts_do_not_count(shop):
    """From ``max_age`` on."""
    shop.act("view", "ann", "a")
    shop.wait(2 * DAY_MS)
    shop.act("view", "ann", "b")
    assert proposed(shop, RecentlyViewed(max_age=Duration("1d"))) == ["b"]
    assert proposed(shop) == ["b", "a"]


def test_a_session_stands_behind_the_user(shop):
    """A visitor without an id has the session alone; who logs in keeps it behind what is known of them."""
    shop.act("view", "", "a", "b", "a", session_id="s")
    assert proposed(shop, user_id=None, session_id="s") == ["a", "b"]
    shop.act("view", "ann", "c", "a")
    assert proposed(shop, session_id="s") == ["a", "c", "b"]
    assert proposed(shop, RecentlyViewed(actions=("view",)), session_id="s") == ["a", "c"]


def test_the_item_of_the_page_is_left_out(shop):
    """What the request sends along is on the page already."""
    shop.act("view", "ann", "a", "b")
    assert proposed(shop, items=("b",)) == ["a"]


def test_what_may_not_be_served_is_not_proposed(shop):
    """At once."""
    shop.act("view", "ann", "a", "b", "c")
    shop.put("b", available=False)
    shop.delete("c")
    assert proposed(shop) == ["a"]


def test_it_says_how_often_and_when(shop):
    """Of the user's acts; an item of the session has no time."""
    shop.act("view", "", "d", session_id="s")
    shop.act("view", "ann", "a", "b", "a")
    moment = shop.moment(replace(shop.query(), user_id="ann", session_id="s"))
    index = shop.fold.vocabulary.item_indices(("a", "d", "e"))
    often, session, never = RecentlyViewed().why(moment, index)
    assert often.facts == {"acts": 2, "last_ms": shop.now_ms}
    assert (session.led[0].item_index, dict(session.facts)) == (int(index[1]), {})
    assert never == Evidence()
