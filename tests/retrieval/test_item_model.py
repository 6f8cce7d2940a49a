"""Sources of fitted models: yesterday's model answers the last click, on whatever state there is now."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import SourceUnavailable
from midstream.core.types import Index, Models, Moment, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.vocabulary import ItemVocabulary
from midstream.retrieval import item_model
from midstream.retrieval.item_model import Als, Content, Ease, Graph, Hybrid, ItemModelSource, Sequence, TwoTower
from midstream.state.users.recent_items import last_acts
from midstream.testing.conformance import check_source
from midstream.testing.model_conformance import check_item_model
from tests.support.frozen_shop import StillShop
from tests.support.item_models import BesideOptions, CoOccurrence, fit_beside

KINDS = (Als, Ease, Graph, Sequence, Content, TwoTower, Hybrid)
ITEMS = "abcdefgh"
SESSIONS = ("abc", "abd", "bcd", "efg", "efh", "agh")


def model_of(items: str = ITEMS, sessions: tuple[str, ...] = SESSIONS) -> CoOccurrence:
    """Return a model of some sessions whose rows are in the order of some items."""
    vocabulary = ItemVocabulary.of(list(items))
    rows = [[items.index(each) for each in session if each in items] for session in sessions]
    return fit_beside(Interactions(vocabulary, Histories.of(rows)), BesideOptions())


def shop_of(items: str = ITEMS) -> StillShop:
    """Return a shop whose catalogue has these items, in this order."""
    shop = StillShop()
    for each in items:
        shop.put(each)
    return shop


def moment_of(shop: StillShop, model: object | None, **asked: object) -> Moment:
    """Return the state with a model called ``m``."""
    query = shop.query(replace(shop.query(), **asked))  # type: ignore[arg-type]
    return shop.fold.moment(query, Models({} if model is None else {"m": model}))


def proposed(shop: StillShop, source: ItemModelSource, model: object | None, **asked: object) -> list[str]:
    """Return the ids that a source proposes."""
    return shop.ids(source.retrieve(moment_of(shop, model, **asked)).item_index.tolist())


def test_the_model_to_test_with_conforms() -> None:
    """So what is tested with it is tested with a model."""
    model = model_of()
    read = lambda arrays: CoOccurrence(model.vocabulary, arrays["beside"])  # noqa: E731
    check_item_model(model, Histories.of([[0, 1], [], [4, 4, 7]]), read)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_conforms(kind: type[ItemModelSource]) -> None:
    """Distinct items that exist, best first, at most its limit, the same again, the state as it was."""
    shop, model = shop_of("hgfedcba"), model_of()
    shop.act("view", "ann", "a", "b")
    for asked in ({}, {"user_id": "ann"}, {"items": ("e",)}, {"user_id": "ann", "items": ("e", "nobody")}):
        for limit in (1, 3, 100):
            for allow in (False, True):
                source = kind(model="m", limit=limit, allow_history_items=allow)
                proposal = check_source(source, moment_of(shop, model, **asked))
                assert proposal is not None
                assert (len(proposal.item_index) > 0) == bool(asked)


def test_the_last_click_changes_the_answer_without_training() -> None:
    """The model stays; what it is asked about is of now."""
    shop, model = shop_of(), model_of()
    shop.act("view", "ann", "a")
    before = proposed(shop, Als(model="m"), model, user_id="ann")
    shop.act("view", "ann", "e")
    after = proposed(shop, Als(model="m"), model, user_id="ann")
    assert before[:1] == ["b"]
    assert "f" not in before
    assert "f" in after


def test_a_visitor_without_an_id_is_answered_by_the_session() -> None:
    """And by what the request brings along."""
    shop, model = shop_of(), model_of()
    shop.act("view", "", "e", session_id="s")
    assert proposed(shop, Ease(model="m"), model, session_id="s")[:1] == ["f"]
    assert proposed(shop, Ease(model="m"), model, items=("c",))[:1] == ["b"]
    assert proposed(shop, Ease(model="m"), model, session_id="nobody") == []


def test_without_a_published_version_nothing_is_proposed_and_nothing_fails() -> None:
    """A new shop is answered in full by the other sources."""
    shop = shop_of()
    shop.act("view", "ann", "a")
    assert proposed(shop, Als(model="m"), None, user_id="ann") == []


def test_a_model_of_another_kind_is_named() -> None:
    """It is wrong and not new."""

    @dataclass(frozen=True)
    class Ranker:
        inputs: tuple[str, ...] = ()

    shop = shop_of()
    shop.act("view", "ann", "a")
    with pytest.raises(SourceUnavailable, match="m does not score items"):
        proposed(shop, Als(model="m"), Ranker(), user_id="ann")


def test_items_that_are_gone_or_were_never_there_are_left_out() -> None:
    """What the model knows and the state does not; and what may not be served takes no place of the limit."""
    shop, model = shop_of("abcefg"), model_of()
    shop.act("view", "ann", "a")
    assert proposed(shop, Als(model="m"), model, user_id="ann") == ["b", "c", "g"]
    shop.delete("b")
    shop.put("c", available=False)
    for limit in (1, 2, 4):
        assert proposed(shop, Als(model="m", limit=limit), model, user_id="ann") == ["g"]


def test_a_source_whose_best_items_are_gone_asks_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many, until its limit is filled, the model has no more, or it was asked for all that it may be."""
    shop, asked = shop_of("ahg"), list[int]()

    class Asked(CoOccurrence):
        def best(self, history: Histories, k: int) -> tuple[Index, Score]:
            asked.append(k)
            return super().best(history, k)

    plain = model_of(sessions=("ab", "ab", "ab", "ac", "ac", "ad", "ae", "af", "ag"))
    counts = plain.beside.copy()
    counts[0, 1:] = np.arange(7, 0, -1)  # of a: b, c, d, e, f, g, h
    model = Asked(plain.vocabulary, counts)
    shop.act("view", "ann", "a")
    monkeypatch.setattr(item_model, "ASKED_AGAIN_MIN", 3)
    assert proposed(shop, Als(model="m", limit=1), model, user_id="ann") == ["g"]
    assert asked == [2, 8]
    asked.clear()
    monkeypatch.setattr(item_model, "ASKED_MAX", 5)
    assert proposed(shop, Als(model="m", limit=1), model, user_id="ann") == []
    assert asked == [2, 5]
    asked.clear()
    shop.put("b")
    assert proposed(shop, Als(model="m", limit=1), model, user_id="ann") == ["b"]
    assert asked == [2]


def test_items_that_the_model_does_not_know_say_nothing() -> None:
    """They are left out of what it is asked about; with nothing else it is not asked."""
    shop, model = shop_of("abcz"), model_of()
    shop.act("view", "ann", "z")
    assert proposed(shop, Als(model="m"), model, user_id="ann") == []
    shop.act("view", "ann", "a")
    assert proposed(shop, Als(model="m"), model, user_id="ann") == ["b", "c"]


def test_items_of_the_history_come_where_they_are_wanted() -> None:
    """A shop whose visitors come back."""
    shop, model = shop_of(), model_of()
    shop.act("view", "ann", "a", "b")
    assert "a" not in proposed(shop, Als(model="m"), model, user_id="ann")
    assert "a" in proposed(shop, Als(model="m", allow_history_items=True), model, user_id="ann")


@given(st.permutations(ITEMS), st.permutations(ITEMS), st.lists(st.sampled_from(ITEMS), min_size=1, max_size=6))
def test_neither_the_order_of_rows_nor_that_of_items_matters(
    rows: list[str], items: list[str], acts: list[str]
) -> None:
    """A rebuild that gives items other indices leaves the model right."""
    scores: list[dict[str, float]] = []
    for own_rows, own_items in ((ITEMS, ITEMS), ("".join(rows), "".join(items))):
        shop, model = shop_of(own_items), model_of(own_rows)
        shop.act("view", "ann", *acts)
        found = Als(model="m").retrieve(moment_of(shop, model, user_id="ann"))
        scores.append(dict(zip(shop.ids(found.item_index.tolist()), found.score.tolist(), strict=True)))
    assert scores[0] == scores[1]


def test_acts_weigh_what_the_settings_say_or_the_source() -> None:
    """Acts against an item, and those that weigh nothing here, are left out; of a session the least is known."""
    shop = shop_of()
    shop.act("view", "ann", "a")
    shop.act("purchase", "ann", "b")
    shop.act("dismiss", "ann", "c")

    def acts(actions: dict[str, float], items_max: int = 50, **asked: object) -> tuple[list[str], list[float]]:
        items, weight = last_acts(moment_of(shop, None, **asked), actions, items_max)
        return shop.ids(items.tolist()), weight.tolist()

    assert acts({}, user_id="ann") == (["a", "b"], [1.0, 8.0])
    assert acts({}, user_id="ann", items=("d",)) == (["a", "b", "d"], [1.0, 8.0, 1.0])
    # The session has the view of a too: with purchases alone it stays as what the visitor looks at.
    assert acts({"purchase": 2.0}, user_id="ann") == (["b", "a"], [2.0, 2.0])
    assert acts({}, 1, user_id="ann") == (["b"], [8.0])
    assert acts({}) == ([], [])
    assert acts({}, 2, items=("a", "d", "e")) == (["d", "e"], [1.0, 1.0])
