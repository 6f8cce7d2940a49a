"""Searches: the items that match come first by their words, then by what similar sessions and everybody act on."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import ItemsSection
from midstream.core.errors import ConfigInvalid, NotFound
from midstream.core.types import Candidates
from midstream.engine.types import Ask
from midstream.ranking.filters.text_match import TextMatch
from midstream.retrieval.text_search import TEXT_CHARS_MAX, TextSearch
from tests.support.frozen_shop import SMALL, StillShop
from tests.support.rig import SMALL as CONFIG
from tests.support.rig import Rig, view

SEARCHED = msgspec.structs.replace(SMALL, search=("title", "tags"))


@pytest.fixture
def shop() -> StillShop:
    """Lamps and others."""
    shop = StillShop(SEARCHED)
    titles = {"a": "brass lamp", "b": "brass desk", "c": "lamp", "d": "oak table", "e": "lamp lamp lamp and much more"}
    for name, title in titles.items():
        shop.put(name, title=title)
    return shop


def proposed(shop, source, **asked):
    """Return the items that a source proposes, with their scores."""
    found = source.retrieve(shop.moment(replace(shop.query(), **asked)))
    return dict(zip(shop.ids(found.item_index.tolist()), found.score.tolist(), strict=True))


def test_words_decide_first(shop):
    """Both words before one; all of them where they are required; nothing without a text."""
    plain = TextSearch(personal=0.0, popularity=0.0)
    found = proposed(shop, plain, context={"q": "brass lamp"})
    assert next(iter(found)) == "a"
    assert set(found) == {"a", "b", "c", "e"}
    assert found["a"] == 1.0
    assert list(proposed(shop, TextSearch(require="all"), context={"q": "brass lamp"})) == ["a"]
    assert list(proposed(shop, TextSearch(require="all"), context={"q": "lamp unheard"})) == []
    for context in ({}, {"q": 5.0}, {"q": True}, {"q": "  "}, {"text": "lamp"}):
        assert proposed(shop, plain, context=context) == {}
    assert set(proposed(shop, TextSearch(context="text"), context={"text": "oak"})) == {"d"}
    assert proposed(shop, plain, context={"q": "x" * TEXT_CHARS_MAX + " lamp"}) == {}


def test_acts_decide_among_equal_matches(shop):
    """What similar sessions went on to comes first, then what everybody acts on."""
    for name in ("p", "q"):
        shop.put(name, title="vase")
    equal = list(proposed(shop, TextSearch(personal=0.0, popularity=0.0), context={"q": "vase"}))
    last = equal[-1]
    shop.act("view", "ann", last)
    assert list(proposed(shop, TextSearch(personal=0.0), context={"q": "vase"})) == [last, equal[0]]
    first = equal[0]
    for number in range(3):
        shop.act("view", f"u{number}", "d", first, session_id=f"s{number}")
    shop.act("view", "eve", *[last] * 9)
    shop.act("view", "bob", "d", session_id="now")
    near = TextSearch(personal=0.4, popularity=0.0)
    assert list(proposed(shop, near, context={"q": "vase"}, session_id="now")) == [first, last]
    assert list(proposed(shop, TextSearch(personal=0.0), context={"q": "vase"}, session_id="now")) == [last, first]


def test_the_filter_is_the_other_half(shop):
    """It keeps what matches, whichever source proposed it, and nothing without a text."""
    moment = shop.moment(replace(shop.query(), context={"q": "brass lamp"}))
    every = moment.table(type(shop.fold.items)).available.nonzero()[0].astype("int32")
    columns = (len(every), 0)
    candidates = Candidates(every, (), np.empty(columns, np.float32), np.empty(columns, np.int32))
    for match, right in ((TextMatch(require="any"), "abce"), (TextMatch(require="all"), "a")):
        kept = every[match.keep(moment, candidates)]
        assert "".join(shop.ids(kept.tolist())) == right
    assert not TextMatch().keep(shop.moment(), candidates).any()


def test_evidence_has_the_words(shop):
    """BM25 and the number of words of what matches."""
    moment = shop.moment(replace(shop.query(), context={"q": "brass lamp"}))
    items = shop.fold.vocabulary.item_indices(["a", "c", "d"])
    both, one, none = TextSearch().why(moment, items)
    assert both.facts["words"] == 2.0
    assert one.facts["words"] == 1.0
    higher, lower = both.facts["bm25"], one.facts["bm25"]
    assert isinstance(higher, float)
    assert isinstance(lower, float)
    assert higher > lower > 0
    assert none.facts == {}


def test_the_built_in_placement_answers_with_matches_alone() -> None:
    """Popular items fill no search; a change of the catalogue counts at once; without attributes it is not there."""
    config = msgspec.structs.replace(CONFIG, items=ItemsSection(search=("title",)))

    async def work(rig: Rig) -> None:
        engine = rig.engine
        titles = {"a": "brass lamp", "b": "lamp", "c": "oak"}
        puts = [{"type": "item", "item_id": name, "attributes": {"title": title}} for name, title in titles.items()]
        await engine.record(rig.batch(*puts, *[view("c", f"u{n}") for n in range(5)]))
        answer = await engine.recommend(Ask("search", context={"q": "lam"}, explain=True))
        assert [item.id for item in answer.items] == ["b", "a"]
        assert answer.tier == "full"
        await engine.record(rig.batch({"type": "item", "item_id": "c", "attributes": {"title": "lampoon"}}))
        assert "c" in [item.id for item in (await engine.recommend(Ask("search", context={"q": "lam"}))).items]
        assert (await engine.recommend(Ask("search", context={"q": "zzz"}))).items == ()
        assert (await engine.recommend(Ask("search"))).items == ()

    Rig(config=config).run(work)

    async def without(rig: Rig) -> None:
        with pytest.raises(NotFound):
            rig.engine.plan("search")

    home = msgspec.structs.replace(CONFIG.placements[0], name="home")
    Rig(config=msgspec.structs.replace(CONFIG, placements=(home,))).run(without)


def test_a_part_that_searches_needs_an_attribute():
    """Each is named, with what would be right; an attribute is named once."""
    text = '[[placements]]\nsources = [{ kind = "text_search" }]\nfilters = [{ kind = "text_match" }]\n'
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(text)
    places = [fault.where.partition("$")[2] for fault in caught.value.faults]
    assert places == [".placements[0].sources[0]", ".placements[0].filters[0]"]
    parse_config('[items]\nsearch = ["title"]\n' + text)
    with pytest.raises(ConfigInvalid, match="there already"):
        parse_config('[items]\nsearch = ["title", "title"]\n')
