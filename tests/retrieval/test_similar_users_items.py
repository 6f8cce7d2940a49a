"""Users like this one: who they are, what of theirs is proposed, and the sums of the module's words."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.events.schema import Event
from midstream.retrieval.similar_users_items import SimilarUsersItems
from midstream.testing.conformance import check_source
from tests.support.frozen_shop import StillShop

NAMES = "abcdefgh"
PEOPLE = ("ann", "bob", "cyd", "dan", "eve")


def like(users_min=1, **options):
    """The source, for which a single neighbour is enough."""
    return SimilarUsersItems(users_min=users_min, **options)


def shop_of(acts):
    """Return a shop with a catalogue of letters and the views of some users, each session of one act's user and day."""
    shop = StillShop()
    for name in NAMES:
        shop.put(name)
    for user, session, item in acts:
        shop.act("view", user, item, session_id=f"{user}{session}")
    return shop


def proposal(shop, source=None, **asked):
    """What the source proposes, by id; every promise of a source is checked on the way."""
    moment = shop.moment(replace(shop.query(), **({"user_id": "ann"} | asked)))
    found = check_source(source or like(), moment)
    assert found is not None
    return dict(zip(shop.ids(found.item_index.tolist()), found.score.tolist(), strict=True))


def last_distinct(items, count):
    """The last distinct ones, the newest first."""
    return list(dict.fromkeys(reversed(items)))[:count]


def plain(source, acts, asker):
    """The same scores in dictionaries, in the words of the module."""
    sessions: dict[str, tuple[str, list[str]]] = {}
    rows: dict[str, list[str]] = {}
    for user, session, item in acts:
        sessions.setdefault(f"{user}{session}", (user, []))[1].append(item)
        rows.setdefault(user, []).append(item)
    overlap: dict[str, float] = {}
    common: dict[str, int] = {}
    for item in last_distinct(rows.get(asker, []), source.last_items_max):
        having = [user for user, items in sessions.values() if item in items]
        for user in set(having[-source.entries_max :]) - {asker}:
            overlap[user] = overlap.get(user, 0.0) + math.log2((len(sessions) + 1) / len(having))
            common[user] = common.get(user, 0) + 1
    overlap = {user: value for user, value in overlap.items() if common[user] >= source.overlap_min}
    score: dict[str, float] = {}
    for user, value in overlap.items():
        items = last_distinct(rows[user], 50)
        for item in items[: source.neighbour_items_max]:
            score[item] = score.get(item, 0.0) + value / math.sqrt(len(items))
    return {item: value for item, value in score.items() if item not in rows.get(asker, [])}


ACTS = st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(0, 2), st.sampled_from(NAMES)), max_size=50)


@given(ACTS, st.sampled_from([1, 2, 10]), st.sampled_from([1, 3, 20]), st.sampled_from([1, 2]))
def test_scores_are_those_of_the_plain_words(acts, last_items_max, neighbour_items_max, overlap_min):
    """While no list is full; logarithms to 1e-8."""
    source = like(
        last_items_max=last_items_max,
        neighbour_items_max=neighbour_items_max,
        overlap_min=min(overlap_min, last_items_max),
    )
    found, expected = proposal(shop_of(acts), source), plain(source, acts, "ann")
    assert set(found) == set(expected)
    for item, value in found.items():
        assert math.isclose(value, expected[item], rel_tol=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_items_of_who_has_more_in_common_come_first():
    """Rare items in common tell more than what everybody has."""
    shop = shop_of(
        [
            *(("ann", 0, item) for item in "ab"),
            *(("bob", 0, item) for item in "abc"),
            *(("cyd", 0, item) for item in "ad"),
            *(("dan", 0, item) for item in "ae"),
            *(("eve", 0, item) for item in "fg"),
        ]
    )
    found = proposal(shop)
    assert next(iter(found)) == "c"
    assert set(found) == {"c", "d", "e"}
    assert [*proposal(shop, like(neighbours_max=1))] == ["c"]
    assert [*proposal(shop, like(overlap_min=2))] == ["c"]
    assert [*proposal(shop, like(limit=1))] == ["c"]


def test_the_last_act_of_a_neighbour_counts_at_once():
    """And so does the asker's."""
    shop = shop_of([("ann", 0, "a"), ("bob", 0, "a")])
    assert proposal(shop) == {}
    shop.act("view", "bob", "b", session_id="bob0")
    assert [*proposal(shop)] == ["b"]
    shop.act("view", "ann", "b", session_id="ann0")
    assert proposal(shop) == {}


def test_visitors_without_an_id():
    """They ask by their session and are nobody's neighbours: their row does not exist."""
    shop = shop_of([("bob", 0, "a"), ("bob", 0, "b"), ("", 0, "a"), ("", 0, "c")])
    assert [*proposal(shop, user_id=None, items=("a",))] == ["b"]
    assert [*proposal(shop, user_id="new", items=("a",))] == ["b"]
    assert proposal(shop, user_id=None) == {}


def test_acts_against_an_item_are_no_taste():
    """Neither of the asker nor of a neighbour; named acts count alone."""
    shop = shop_of([("ann", 0, "a"), ("bob", 0, "a"), ("bob", 0, "b")])
    shop.act("dismiss", "bob", "c")
    shop.act("cart", "bob", "d")
    assert set(proposal(shop)) == {"b", "d"}
    assert proposal(shop, like(actions=("cart",))) == {}
    shop.act("cart", "ann", "a")
    assert [*proposal(shop, like(actions=("cart",)))] == ["d"]


def test_who_is_forgotten_is_no_neighbour():
    """And what may not be served is not proposed."""
    shop = shop_of([("ann", 0, "a"), ("bob", 0, "a"), ("bob", 0, "b"), ("cyd", 0, "a"), ("cyd", 0, "c")])
    assert set(proposal(shop)) == {"b", "c"}
    shop.put("b", available=False)
    assert set(proposal(shop)) == {"c"}
    shop.record((Event(Kind.ERASE, user_id="cyd"),))
    assert proposal(shop) == {}


def test_equal_users_and_items_come_by_their_hashes():
    """So an answer does not depend on who came first."""
    orders = []
    for people in (PEOPLE[1:], PEOPLE[:0:-1]):
        acts = [
            ("ann", 0, "a"),
            *((user, 0, item) for n, user in enumerate(sorted(people)) for item in ("a", NAMES[n + 1])),
        ]
        shop = shop_of(sorted(acts, key=lambda each: people.index(each[0]) if each[0] in people else -1))
        orders.append([*proposal(shop, like(neighbours_max=2))])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 2


def test_it_says_how_many_users_have_an_item():
    """And by how many of the asker's items they were found."""
    shop = shop_of([("ann", 0, "a"), *((user, 0, item) for user in ("bob", "cyd") for item in "ab"), ("cyd", 0, "c")])
    moment = shop.moment(replace(shop.query(), user_id="ann"))
    index = shop.fold.vocabulary.item_indices(("b", "c", "d"))
    facts = [dict(each.facts) for each in like().why(moment, index)]
    assert facts == [{"users": 2, "items": 1}, {"users": 1, "items": 1}, {}]


def test_what_single_users_looked_at_is_kept_back():
    """Who acts on a rare item is not shown the last items of the one or two others who have it, nor told of them."""
    acts = [("ann", 0, "a"), *((user, 0, item) for user in ("bob", "cyd") for item in "ab"), ("cyd", 0, "c")]
    asked = {"user_id": "ann"}
    for users_min, expected in ((1, {"b", "c"}), (2, {"b"}), (3, set())):
        shop, source = shop_of(acts), like(users_min)
        moment = shop.moment(replace(shop.query(), **asked))
        told = source.why(moment, shop.fold.vocabulary.item_indices(("b", "c")))
        assert set(proposal(shop, source)) == expected
        assert {name for name, each in zip("bc", told, strict=True) if each.facts} == expected
    assert SimilarUsersItems().users_min == 3
    shop = shop_of([*acts, ("dan", 0, "a"), ("dan", 0, "b")])
    assert set(proposal(shop, SimilarUsersItems())) == {"b"}


def test_the_session_stands_for_nobody_with_actions():
    """Its acts are not known, so they may be others than those that count."""
    shop = shop_of([("bob", 0, "a")])
    shop.act("cart", "bob", "b", session_id="bob0")
    assert [*proposal(shop, user_id=None, items=("a",))] == ["b"]
    assert proposal(shop, like(actions=("cart",)), user_id=None, items=("a",)) == {}


@pytest.mark.parametrize("entries_max", [1, 3])
def test_only_the_newest_sessions_of_an_item_are_looked_at(entries_max):
    """So an item that everybody has costs no more than another."""
    acts = [("ann", 0, "a"), *((user, 0, item) for n, user in enumerate(PEOPLE[1:]) for item in ("a", NAMES[n + 1]))]
    found = proposal(shop_of(acts), like(entries_max=entries_max))
    assert set(found) == set(np.array([*NAMES[1:5]])[-entries_max:].tolist())
