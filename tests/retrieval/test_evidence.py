"""What sources say of why they proposed an item: the acts that led to it, or what they count."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_matrix

from midstream.core.types import Models, Query
from midstream.models.histories import Histories, Interactions
from midstream.models.items.als import AlsOptions, fit_als
from midstream.models.items.item_contributions import act_parts
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.vocabulary import ItemVocabulary
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.evidence import Evidence, SaysWhy, strongest
from midstream.retrieval.item_model import Ease
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar import Similar
from midstream.retrieval.trending import Trending
from tests.support.frozen_shop import StillShop

HOUR_MS = 3_600_000


def vocabulary_of(count: int) -> ItemVocabulary:
    """Return items by number."""
    ids = [f"i{number}" for number in range(count)]
    return ItemVocabulary.of(ids)


def shop_of(*sessions: str) -> StillShop:
    """Return a shop with a catalogue of letters and some finished sessions, each of a visitor of its own."""
    shop = StillShop()
    for name in "abcdefgh":
        shop.put(name)
    for number, items in enumerate(sessions):
        shop.act("view", f"visitor-{number}", *items, session_id=f"s{number}")
    shop.wait(HOUR_MS)
    return shop


def asked(shop: StillShop, **more: object) -> Query:
    """Return a question of the time of now."""
    return replace(shop.query(), **more)  # type: ignore[arg-type]


def led(shop: StillShop, source: SaysWhy, moment, *wanted: str) -> list[dict[str, float]]:
    """Return by id what led to each of some items."""
    index = shop.fold.vocabulary.item_indices(wanted)
    told = source.why(moment, index)
    assert len(told) == len(wanted)
    return [{shop.ids([each.item_index])[0]: each.share for each in evidence.led} for evidence in told]


@pytest.mark.parametrize("source", [Covisitation(), SessionKnn()], ids=lambda source: source.name)
def test_the_item_that_led_there_is_named(source):
    """An item that went with one of the asker's is led to by that one; with two of them, by both, the later more."""
    shop = shop_of("ac", "ac", "bd", "abe", "bae")
    shop.act("view", "ann", "a", "b")
    moment = shop.moment(asked(shop, user_id="ann"))
    assert {"c", "d", "e"} <= set(shop.ids(source.retrieve(moment).item_index.tolist()))
    to_c, to_d, to_e, to_h = led(shop, source, moment, "c", "d", "e", "h")
    assert to_c == {"a": 1.0}
    assert to_d == {"b": 1.0}
    assert set(to_e) == {"a", "b"}
    assert to_e["b"] > to_e["a"]
    assert sum(to_e.values()) == pytest.approx(1.0)
    assert to_h == {}


def test_parts_of_covisitation_are_its_score():
    """What each item of the session says, taken apart, is in the proportions of what a session without it loses."""
    shop = shop_of("ae", "be", "ce", "abce", "ea")
    shop.act("view", "ann", "a", "b")
    source = Covisitation(same_item=0.0, popularity="0")
    whole = led(shop, source, shop.moment(asked(shop, user_id="ann")), "e")[0]
    told = {items: source.retrieve(shop.moment(asked(shop, items=tuple(items)))) for items in ("ab", "b")}
    index = shop.fold.vocabulary.item_index("e")
    score = {items: float(each.score[each.item_index.tolist().index(index)]) for items, each in told.items()}
    assert whole["b"] == pytest.approx(score["b"] / score["ab"], rel=1e-5)


def test_similar_goes_by_one_item():
    """The one that was asked about."""
    shop = shop_of("ab", "ab")
    moment = shop.moment(asked(shop, items=("c", "a")))
    assert led(shop, Similar(), moment, "b", "c") == [{"a": 1.0}, {"a": 1.0}]


def test_popular_and_trending_say_their_heat():
    """With the half-life by which it fades: the same number that they order by."""
    shop = shop_of("ab", "a")
    moment = shop.moment(asked(shop))
    for source in (Popular(), Trending()):
        proposal = source.retrieve(moment)
        told = source.why(moment, proposal.item_index)
        assert [each.facts["half_life"] for each in told] == [str(source.half_life)] * 2
        np.testing.assert_allclose([float(each.facts["heat"]) for each in told], proposal.score, rtol=1e-6)
        assert all(not each.led for each in told)


def test_new_and_repeated_items_say_when():
    """An item of the catalogue says its age, a purchase how often and when last."""
    shop = shop_of()
    shop.act("purchase", "ann", "a", "a", "b")
    shop.see("bob", "c")
    shop.wait(48 * HOUR_MS)
    moment = shop.moment(asked(shop, user_id="ann"))
    (old,) = RecentItems().why(moment, shop.fold.vocabulary.item_indices(("c",)))
    assert old.facts["impressions_30d"] == 1
    assert float(old.facts["age_ms"]) >= 48 * HOUR_MS
    indices = shop.fold.vocabulary.item_indices(("a", "c"))
    twice, never = RepeatItems().why(moment, indices)
    assert (twice.facts["acts"], twice.led[0].item_index, never) == (2, indices[0], Evidence())
    assert RepeatItems().why(shop.moment(asked(shop, user_id=None)), indices) == (Evidence(), Evidence())


def test_an_item_model_says_which_acts_led_there():
    """Of its own weights; an item that it does not know is led to by nothing."""
    shop = shop_of()
    ids = ("a", "b", "c")
    vocabulary = ItemVocabulary.of(list(ids))
    start, row = np.array([0, 2, 3, 3], np.int64), np.array([1, 2, 2], np.int32)
    model = ItemToItem(vocabulary, start, row, np.array([1.0, 1.0, 3.0], np.float32))
    shop.act("view", "ann", "a", "b")
    moment = shop.fold.moment(asked(shop, user_id="ann"), Models({"m": model}))
    assert led(shop, Ease(model="m"), moment, "c", "d") == [{"a": 0.25, "b": 0.75}, {}]
    without = shop.moment(asked(shop, user_id="ann"))
    assert led(shop, Ease(model="m"), without, "c") == [{}]


@given(st.integers(0, 1_000), st.lists(st.integers(0, 19), min_size=1, max_size=30))
def test_parts_of_item_models_add_up_to_the_score(seed, acts):
    """Of weights from item to item and of ALS, acts on one item put together, however many there are."""
    dice = np.random.default_rng(seed)
    vocabulary = vocabulary_of(20)
    weights = csr_matrix(random_matrix(20, 20, density=0.3, dtype=np.float32, rng=dice))
    data = Interactions(vocabulary, Histories.of(dice.integers(0, 20, (15, 4)).tolist()))
    factors = fit_als(data, AlsOptions(factors=4, iterations=1, threads=1, seed=seed, item_power=0.5))
    weight = dice.uniform(0.5, 3.0, len(acts)).astype(np.float32)
    history = Histories(np.array(acts, np.int32), weight, np.array([0, len(acts)], np.int64))
    rows = np.arange(20, dtype=np.int32)
    for model in (ItemToItem.of(vocabulary, weights), factors):
        parts = act_parts(model, history, rows)
        assert parts is not None
        assert parts.is_exact
        assert parts.row.tolist() == sorted(set(acts))
        np.testing.assert_allclose(parts.values.sum(axis=0), model.scores(history)[0], rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 5))
def test_shares_are_of_what_speaks_for_an_item(items, columns):
    """At most three, the strongest first, each item once; what speaks against it has no share."""
    said = np.random.default_rng(len(items)).normal(size=(len(items), columns))
    for evidence in strongest(np.array(items, np.int32), said):
        shares = [each.share for each in evidence.led]
        assert shares == sorted(shares, reverse=True)
        assert len({each.item_index for each in evidence.led}) == len(shares) <= 3
        assert all(0 < share <= 1 for share in shares)
        assert sum(shares) <= 1 + 1e-9
