"""What each source proposes, on the real state."""

from dataclasses import replace

import pytest

from midstream.core.durations import Duration
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.editorial import Editorial
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from midstream.testing.still import StillShop

HOUR_MS = 3_600_000


def proposed(shop: StillShop, source, **asked) -> list[str]:
    """Ids that a source proposes."""
    moment = shop.moment(replace(shop.query(), **asked))
    return shop.ids(source.retrieve(moment).item_index.tolist())


@pytest.fixture
def shop() -> StillShop:
    """Six items of a catalogue."""
    shop = StillShop()
    for name in "abcdef":
        shop.put(name)
    return shop


def test_popular_and_trending_differ_in_what_they_remember(shop):
    """Much liked long ago is popular; liked now is trending."""
    shop.act("purchase", "ann", "a", "a")
    shop.wait(48 * HOUR_MS)
    shop.act("view", "bob", "b", "b")
    assert proposed(shop, Popular()) == ["a", "b"]
    assert proposed(shop, Trending()) == ["b", "a"]
    assert proposed(shop, Trending(half_life=Duration("7d"), limit=1)) == ["a"]


def test_an_act_against_an_item_recommends_it_to_nobody(shop):
    """Weights below 0 enter no list."""
    shop.act("dismiss", "ann", "a")
    assert proposed(shop, Popular()) == []


def test_what_is_not_available_leaves_the_lists(shop):
    """At once."""
    shop.act("view", "ann", "a", "b")
    shop.put("a", available=False)
    assert proposed(shop, Popular()) == ["b"]


def test_editorial_keeps_its_order(shop):
    """Known ids once each, in the order of the list."""
    assert proposed(shop, Editorial(items=("c", "nobody", "a", "c"))) == ["c", "a"]
    assert proposed(shop, Editorial()) == []


def test_catalogue_is_everything_once(shop):
    """The popular ones first, then the newest; what is not available is not there."""
    shop.act("view", "ann", "b", "click-only")
    shop.delete("e")
    assert proposed(shop, Catalogue()) == ["b", "click-only", "f", "d", "c", "a"] or proposed(shop, Catalogue()) == [
        "click-only",
        "b",
        "f",
        "d",
        "c",
        "a",
    ]


def test_session_knn_proposes_what_like_sessions_went_on_to(shop):
    """The items of a finished session that shares one; the asking session is no neighbour of itself."""
    shop.act("view", "bob", "a", "b", "c", session_id="s1")
    shop.act("view", "ann", "a", "d", session_id="s2")
    found = proposed(shop, SessionKnn(), user_id="ann", session_id="s2")
    assert set(found) == {"a", "b", "c"}
    assert "d" not in found


def test_session_knn_sees_the_last_click(shop):
    """The next request is about the item of the last event."""
    shop.act("view", "bob", "a", "b", session_id="s1")
    shop.act("view", "cyd", "e", "f", session_id="s2")
    shop.act("view", "ann", "a", session_id="s3")
    assert "f" not in proposed(shop, SessionKnn(), session_id="s3")
    shop.act("view", "ann", "e", session_id="s3")
    assert "f" in proposed(shop, SessionKnn(), session_id="s3")


def test_session_knn_without_a_session(shop):
    """A basket alone is a session; the user's last items stand in for one; without either nothing is proposed."""
    shop.act("view", "bob", "a", "b", session_id="s1")
    assert "b" in proposed(shop, SessionKnn(), items=("a",))
    assert proposed(shop, SessionKnn(), items=("nobody",)) == []
    assert proposed(shop, SessionKnn()) == []
    shop.act("view", "ann", "a", session_id="s2")
    shop.wait(HOUR_MS)
    assert "b" in proposed(shop, SessionKnn(), user_id="ann")
    assert proposed(shop, SessionKnn(history_items_max=0), user_id="ann") == []
    assert proposed(shop, SessionKnn(), user_id="unknown") == []


def test_an_act_against_an_item_does_not_stand_in_for_a_session(shop):
    """What was dismissed is no taste."""
    shop.act("view", "bob", "a", "b", session_id="s1")
    shop.act("dismiss", "ann", "a")
    shop.wait(HOUR_MS)
    assert proposed(shop, SessionKnn(), user_id="ann") == []


def test_the_user_s_other_open_sessions_are_no_neighbours(shop):
    """Nobody's taste is confirmed by a second window."""
    shop.act("view", "ann", "a", "b", session_id="s1")
    shop.act("view", "ann", "a", session_id="s2")
    assert proposed(shop, SessionKnn(), user_id="ann", session_id="s2") == []
