"""What each source proposes, on the real state."""

from dataclasses import replace

import pytest

from midstream.core.durations import Duration
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.editorial import Editorial
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar import Similar
from midstream.retrieval.trending import Trending
from tests.support.frozen_shop import StillShop

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


def test_covisitation_proposes_what_was_beside_the_last_items(shop):
    """What came next before what came before; the latest item counts most; the session's own only by ``same_item``."""
    shop.act("view", "bob", "a", "b", session_id="s1")
    shop.act("view", "cyd", "c", "a", session_id="s2")
    shop.act("view", "dan", "e", "f", session_id="s3")
    assert proposed(shop, Covisitation(), items=("a",))[:2] == ["b", "c"]
    assert proposed(shop, Covisitation(), items=("e", "a"))[0] == "b"
    assert proposed(shop, Covisitation(), items=("a", "e"))[0] == "f"
    assert proposed(shop, Covisitation(same_item=0.0), items=("a",)) == ["b", "c"]
    assert proposed(shop, Covisitation(same_item=5.0), items=("a",))[0] == "a"
    assert "a" not in proposed(shop, Covisitation(same_item=5.0, exclude_last_item=True), items=("e", "a"))
    assert proposed(shop, Covisitation(allow_session_items=False), items=("e", "a")) == ["b", "f", "c"]


def test_covisitation_sees_the_last_click_of_anybody(shop):
    """The pair of an act is there in the next answer."""
    shop.act("view", "ann", "a", session_id="s1")
    assert proposed(shop, Covisitation(same_item=0.0), items=("a",)) == []
    shop.act("view", "ann", "f", session_id="s1")
    assert proposed(shop, Covisitation(same_item=0.0), items=("a",)) == ["f"]


def test_covisitation_without_a_session(shop):
    """The user's last items stand in, as for session_knn; without either nothing is proposed."""
    shop.act("view", "bob", "a", "b", session_id="s1")
    shop.act("view", "ann", "a", session_id="s2")
    shop.act("dismiss", "ann", "c")
    shop.wait(HOUR_MS)
    assert "b" in proposed(shop, Covisitation(), user_id="ann")
    assert proposed(shop, Covisitation(history_items_max=0), user_id="ann") == []
    assert proposed(shop, Covisitation()) == []


def test_popular_items_are_held_down_by_their_share(shop):
    """With power 1 what is seen beside this item rather than beside others comes first; with 0 what is seen most."""
    for number in range(60):
        shop.act("view", f"u{number}", "b", ["c", "d", "e"][number % 3], session_id=f"x{number}")
    for number in range(3):
        shop.act("view", f"v{number}", "a", "b", session_id=f"y{number}")
    shop.act("view", "w", "a", "f", session_id="z1")
    shop.act("view", "w", "a", "f", session_id="z2")
    assert proposed(shop, Covisitation(popularity="0", same_item=0.0), items=("a",)) == ["b", "f"]
    assert proposed(shop, Covisitation(popularity="1", same_item=0.0), items=("a",)) == ["f", "b"]


def test_a_new_item_has_similar_ones_at_once(shop):
    """By category and tags, a rare value counting more; not the item itself, nor what cannot be served."""
    shop.put("lamp", category="light", tags=["brass"])
    shop.put("bulb", category="light")
    shop.put("horn", category="music", tags=["brass"])
    for number in range(3):
        shop.put(f"light-{number}", category="light")
    shop.put("gone", category="light", tags=["brass"], available=False)
    found = proposed(shop, Similar(), items=("lamp",))
    assert found[0] == "horn"
    assert set(found[1:]) == {"bulb", "light-0", "light-1", "light-2"}
    assert proposed(shop, Similar(limit=1), items=("lamp",)) == ["horn"]
    assert proposed(shop, Similar(), items=("a",)) == []


def test_of_equally_alike_items_the_one_that_is_acted_on_comes_first(shop):
    """Heat decides between what attributes cannot tell apart."""
    for name in ("lamp", "one", "two", "three"):
        shop.put(name, category="light")
    shop.act("view", "ann", "two")
    assert proposed(shop, Similar(), items=("lamp",))[0] == "two"


def test_visits_take_over_as_they_come(shop):
    """A new item goes by attributes, one with many visits by what was seen with it, and between both by both."""
    shop.put("lamp", category="light")
    shop.put("bulb", category="light")
    shop.put("sofa", category="seat")
    assert proposed(shop, Similar(), items=("lamp",)) == ["bulb"]
    shop.act("view", "u0", "lamp", "sofa", session_id="s0")
    assert proposed(shop, Similar(), items=("lamp",)) == ["bulb", "sofa"]
    for number in range(1, 30):
        shop.act("view", f"u{number}", "lamp", "sofa", session_id=f"s{number}")
    assert proposed(shop, Similar(), items=("lamp",)) == ["sofa", "bulb"]
    assert proposed(shop, Similar(pairs_min=1), items=("lamp",)) == ["sofa"]


def test_similar_is_about_the_last_item(shop):
    """Of the request, or of the session, or of the user."""
    for name, category in (("lamp", "light"), ("bulb", "light"), ("sofa", "seat"), ("chair", "seat")):
        shop.put(name, category=category)
    shop.act("view", "ann", "lamp", "sofa", session_id="s1")
    assert proposed(shop, Similar(), session_id="s1")[0] == "chair"
    assert proposed(shop, Similar(), session_id="s1", items=("lamp",))[0] == "bulb"
    shop.wait(HOUR_MS)
    assert proposed(shop, Similar(), user_id="ann")[0] == "chair"
    assert proposed(shop, Similar()) == []
