"""The source of nearest items: towards what, past which items, and fresh with every event."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Proposal
from midstream.features.expressions.names import Names
from midstream.models.vector_index import VectorIndex
from midstream.retrieval import cut_search
from midstream.retrieval.approximate import ApproximateProposal
from midstream.retrieval.cut_search import CutProposal
from midstream.retrieval.nearest import NearestOptions
from midstream.retrieval.vector_search import BREADTH_MAX, LOOKED_TIMES, SPARE
from midstream.testing.conformance import check_source
from tests.support.frozen_shop import SMALL, StillShop

NAMES = Names(dict(SMALL.attributes))
PLACES = {"north": [0, 1, 0], "east": [1, 0, 0], "northeast": [3, 3, 0], "up": [0, 0, 2], "south": [0, -5, 0]}


def source_of(**options):
    """The source that runs, over the attribute ``look``."""
    return NearestOptions(attribute="look", **options).compiled(NAMES, "$")


def proposal(shop, source, **asked):
    """What the source proposes, by id; every promise of a source is checked on the way."""
    moment = shop.moment(replace(shop.query(), **asked))
    found = check_source(source, moment)
    assert found is not None
    return by_id(shop, found)


def by_id(shop, found):
    """Scores by id."""
    return dict(zip(shop.ids(found.item_index.tolist()), found.score.tolist(), strict=True))


@pytest.fixture
def shop():
    """Items that lie in directions, and one without a vector."""
    shop = StillShop()
    for name, look in PLACES.items():
        shop.put(name, look=look, price=float(len(name)))
    shop.put("nowhere")
    return shop


def test_it_goes_by_the_last_items(shop):
    """Of the session, the last most; of the user where the session has none; of nobody none."""
    assert proposal(shop, source_of(), items=("north",)) == {
        "northeast": pytest.approx(0.70710678),
        "east": 0.0,
        "up": 0.0,
    }
    assert next(iter(proposal(shop, source_of(), items=("up", "east")))) == "northeast"
    assert next(iter(proposal(shop, source_of(allow_history_items=True), items=("up", "east")))) == "east"
    assert (
        next(iter(proposal(shop, source_of(last_items_max=1, allow_history_items=True), items=("up", "east"))))
        == "east"
    )
    shop.act("view", "ann", "south")
    assert proposal(shop, source_of(similarity_min=-1.0), user_id="ann")["north"] == -1.0
    assert proposal(shop, source_of()) == {}
    assert proposal(shop, source_of(), items=("nowhere",)) == {}
    assert proposal(shop, source_of(), items=("nobody",)) == {}


def test_it_goes_by_all_items_of_the_user(shop):
    """By the weights of the acts: what was bought counts more than what was seen."""
    shop.act("view", "ann", "up")
    shop.act("purchase", "ann", "east")
    shop.wait(86_400_000)
    source = source_of(to="user", allow_history_items=True)
    found = proposal(shop, source, user_id="ann")
    assert next(iter(found)) == "east"
    assert found["east"] > found["northeast"] > found["up"]
    assert proposal(shop, source, user_id="nobody") == {}


def test_it_goes_by_a_vector_of_the_request(shop):
    """Under the name that was configured; without one nothing is proposed."""
    source = source_of(to="request", similarity_min=-1.0)
    found = proposal(shop, source, context={"vector": "[0, -2, 0]"})
    assert next(iter(found)) == "south"
    assert found["north"] == -1.0
    assert proposal(shop, source) == {}
    assert proposal(shop, source, context={"look": "[1, 0, 0]"}) == {}
    other = source_of(to="request", context="look")
    assert next(iter(proposal(shop, other, context={"look": "[1, 0, 0]"}))) == "east"


def test_faults_of_a_request_are_named():
    """A vector that cannot be used, and what the condition cannot compare; a missing one is none."""
    source = source_of(to="request", where="item.price < context.budget")
    assert source.faults({}) == ()
    assert source.faults({"vector": "[1, 0, 0]", "budget": 3.0}) == ()
    (fault,) = source.faults({"vector": "[1, 0]"})
    assert (fault.where, fault.came) == ("/context/vector", "2 numbers came.")
    (fault,) = source.faults({"budget": "much"})
    assert fault.where == "/context/budget"
    assert source_of().faults({"vector": "[1, 0]"}) == ()


def test_a_vector_counts_from_its_event_on(shop):
    """A new one, a changed one and one that is taken away, and what may not be served."""
    source = source_of()
    shop.put("new", look=[0, 9, 0])
    assert next(iter(proposal(shop, source, items=("north",)))) == "new"
    shop.put("new", look=[9, 0, 0])
    assert next(iter(proposal(shop, source, items=("north",)))) == "northeast"
    shop.put("northeast")
    assert "northeast" not in proposal(shop, source, items=("north",))
    shop.put("new", look=[0, 9, 0], available=False)
    assert "new" not in proposal(shop, source, items=("north",))
    shop.put("new", look=[0, 9, 0])
    shop.delete("new")
    assert "new" not in proposal(shop, source, items=("north",))


def test_a_restored_state_proposes_the_same(shop):
    """To the bit."""
    other = StillShop()
    other.fold.restore({name: each.copy() for name, each in shop.fold.arrays().items()})
    other.now_ms = shop.now_ms
    source = source_of(similarity_min=-1.0)
    assert proposal(other, source, items=("north", "up")) == proposal(shop, source, items=("north", "up"))


@given(st.integers(0, 500), st.integers(1, 4), st.integers(0, 40))
def test_a_condition_gives_what_passes_of_all(seed, limit, price):
    """Whether the nearest suffice or every item has to be asked."""
    rng = np.random.default_rng(seed)
    shop = StillShop()
    count = 12 * LOOKED_TIMES
    looks = rng.integers(-2, 3, size=(count, 3))
    for number, look in enumerate(looks.tolist()):
        shop.put(f"i{number}", look=look, price=float(rng.integers(0, 40)))
    moment = shop.moment(replace(shop.query(), context={"vector": "[1, 2, 3]"}))
    options = {"to": "request", "similarity_min": -1.0}
    every = by_id(shop, source_of(**options, limit=1_000).retrieve(moment))
    found = by_id(shop, source_of(**options, limit=limit, where=f"item.price < {price}").retrieve(moment))
    prices = shop.fold.items.number("price")
    passes = [name for name in every if prices[shop.fold.vocabulary.item_index(name)] < price]
    assert list(found) == passes[:limit]
    assert list(found.values()) == [every[name] for name in found]


def test_it_says_which_items_led_there(shop):
    """By their parts in the cosine; nothing with a vector of the request."""
    index = shop.fold.vocabulary.item_indices(("northeast", "up"))
    moment = shop.moment(replace(shop.query(), items=("north", "east")))
    both, none = source_of().why(moment, index)
    assert shop.ids([each.item_index for each in both.led]) == ["east", "north"]
    assert [each.share for each in both.led] == pytest.approx([1 / 1.7, 0.7 / 1.7])
    assert none.led == ()
    asked = shop.moment(replace(shop.query(), context={"vector": "[1, 0, 0]"}))
    assert [each.led for each in source_of(to="request").why(asked, index)] == [(), ()]


class Named(VectorIndex):
    """An index that names the first rows of a list, and keeps how many it was asked for."""

    def __init__(self, column, rows):
        """Take the rows, None = it is not there yet."""
        super().__init__(column)
        self._rows = rows
        self.counts = []

    @property
    def size(self):
        """All of them."""
        return 0 if self._rows is None else len(self._rows)

    def named(self, direction, count, breadth):
        """Return the first of them."""
        self.counts.append(count)
        none = np.empty(0, dtype=np.int32)
        return None if self._rows is None else (np.array(self._rows[:count], dtype=np.int32), none)


def indexed(shop, names):
    """Put an index of some items in place."""
    column = shop.fold.items.all_vectors("look")
    rows = None if names is None else shop.fold.vocabulary.item_indices(names).tolist()
    column.index = Named(column, rows)
    return column.index


def test_what_an_index_names_is_scored_by_what_there_is(shop):
    """By the vectors of now, without what may not be served or has none; the proposal says that it is approximate."""
    indexed(shop, ("south", "up", "nowhere", "east", "northeast"))
    source = source_of(search="usearch", similarity_min=-1.0)
    assert proposal(shop, source, items=("north",)) == {
        "northeast": pytest.approx(0.70710678),
        "east": 0.0,
        "up": 0.0,
        "south": -1.0,
    }
    shop.put("south", look=[0, 1, 0])
    shop.put("east", look=[1, 0, 0], available=False)
    moment = shop.moment(replace(shop.query(), items=("north",)))
    found = source.retrieve(moment)
    assert isinstance(found, ApproximateProposal)
    assert shop.ids(found.item_index.tolist())[0] == "south"
    assert "east" not in shop.ids(found.item_index.tolist())
    assert not isinstance(source_of().retrieve(moment), ApproximateProposal)


def test_without_an_index_a_scan_answers(shop):
    """One that is not there yet, or that nobody made: the answer is the exact one, and says so."""
    exact = proposal(shop, source_of(), items=("north",))
    source = source_of(search="usearch")
    moment = shop.moment(replace(shop.query(), items=("north",)))
    assert proposal(shop, source, items=("north",)) == exact
    indexed(shop, None)
    assert proposal(shop, source, items=("north",)) == exact
    assert not isinstance(source.retrieve(moment), ApproximateProposal)


def test_an_index_is_asked_for_more_where_few_may_be_proposed():
    """Up to a maximum; after that a scan answers, so a rare kind is found whatever the index names."""
    shop = StillShop()
    names = [f"i{number}" for number in range(1_500)]
    for number, name in enumerate(names):
        shop.put(name, look=[1, number / 1_500, 0], price=float(number))
    source = source_of(search="usearch", to="request", limit=2, where="item.price >= 1000")
    asked = replace(shop.query(), context={"vector": "[1, 0, 0]"})
    index = indexed(shop, names)
    found = source.retrieve(shop.moment(asked))
    assert shop.ids(found.item_index.tolist()) == ["i1000", "i1001"]
    assert index.counts == [2 + SPARE, LOOKED_TIMES * (2 + SPARE), LOOKED_TIMES**2 * (2 + SPARE)]
    rare = source_of(search="usearch", to="request", limit=2, where="item.price < 1")
    far = indexed(shop, [names[-1]] * (BREADTH_MAX + 1))
    scanned = rare.retrieve(shop.moment(asked))
    assert shop.ids(scanned.item_index.tolist()) == ["i0"]
    assert not isinstance(scanned, ApproximateProposal)
    assert far.counts[-1] == BREADTH_MAX


def test_what_an_index_still_names_takes_no_place(shop):
    """Items that were deleted, or whose vectors were taken away: it is asked for others in their place."""
    gone = [f"gone{number}" for number in range(70)]
    for name in gone:
        shop.put(name, look=[0, 1, 0])
    index = indexed(shop, (*gone, "northeast"))
    for number, name in enumerate(gone):
        if number % 2:
            shop.delete(name)
        else:
            shop.put(name)
    source = source_of(search="usearch", limit=1)
    assert proposal(shop, source, items=("north",)) == {"northeast": pytest.approx(0.70710678)}
    assert index.counts[-1] > len(gone)


class Clock:
    """Seconds that are left: one less with each look."""

    def __init__(self, left):
        """Begin with so many looks."""
        self.left = left

    def __call__(self):
        """Look."""
        self.left -= 1
        return float(self.left)


@pytest.fixture(scope="module")
def far_kind():
    """Items on a quarter of a circle, the nearest last in the catalogue; those of a price of 1 lie at its end."""
    shop = StillShop()
    for number in reversed(range(1_200)):
        shop.put(f"i{number}", look=[1_200 - number, number, 0], price=float(number >= 1_190))
    for name in ("i2", "i50"):
        shop.put(name, price=2.0, look=[1_200 - int(name[1:]), int(name[1:]), 0])
    return shop


def seen_from_the_begin(shop):
    """The moment of a request from where the quarter begins."""
    return shop.moment(replace(shop.query(), context={"vector": "[1, 0, 0]"}))


def test_a_condition_is_asked_of_so_many_items_at_most(far_kind):
    """Of the nearest of them, and not in the order of the catalogue; that it was not asked of all is said."""
    moment, options = seen_from_the_begin(far_kind), {"to": "request", "limit": 3, "similarity_min": -1.0}
    whole = source_of(**options, where="item.price == 1", asked_max=1_200).retrieve(moment)
    assert far_kind.ids(whole.item_index.tolist()) == ["i1190", "i1191", "i1192"]
    assert not isinstance(whole, ApproximateProposal)
    cut = source_of(**options, where="item.price == 1", asked_max=1_191).retrieve(moment)
    assert isinstance(cut, CutProposal)
    assert far_kind.ids(cut.item_index.tolist()) == ["i1190"]
    assert (cut.part, cut.reason) == ("where", "not asked of all items: asked_max, 1,191 of 1,200")
    enough = source_of(**options, where="item.price == 1", asked_max=1_193).retrieve(moment)
    assert by_id(far_kind, enough) == by_id(far_kind, whole)
    assert not isinstance(enough, ApproximateProposal)
    check_source(source_of(**options, where="item.price == 1", asked_max=1_191), moment)


def test_a_condition_is_asked_of_no_item_that_is_too_far(far_kind):
    """So an answer that had all that are near enough is whole, however many others there are."""
    near = source_of(to="request", limit=3, similarity_min=0.9, where="item.price == 1", asked_max=1_000)
    found = near.retrieve(seen_from_the_begin(far_kind))
    assert type(found) is Proposal
    assert len(found.item_index) == 0


@pytest.mark.parametrize("asked_max", [1_195, 1_200])
def test_the_time_of_the_request_ends_the_asking(far_kind, monkeypatch, asked_max):
    """Between two parts, with what was found until then, of the nearest."""
    monkeypatch.setattr(cut_search, "ASKED_AT_ONCE", 100)
    options = {"to": "request", "limit": 3, "similarity_min": -1.0, "where": "item.price == 1"}
    source, moment = source_of(**options, asked_max=asked_max), seen_from_the_begin(far_kind)
    whole = source.retrieve_within(moment, Clock(100))
    assert len(whole.item_index) == 3
    assert type(whole) is Proposal
    late = source.retrieve_within(moment, Clock(6))
    assert isinstance(late, CutProposal)
    assert late.reason.startswith("not asked of all items: the time was over, ")
    assert 12 < int(late.reason.split()[-3].replace(",", "")) < 1_000
    at_once = source.retrieve_within(moment, Clock(0))
    assert at_once.reason == "not asked of all items: the time was over, 0 of 1,200"


def test_what_passed_in_time_is_proposed(far_kind, monkeypatch):
    """The nearest of what was asked about, those that were looked at first among them."""
    monkeypatch.setattr(cut_search, "ASKED_AT_ONCE", 100)
    options = {"to": "request", "limit": 3, "similarity_min": -1.0}
    source = source_of(**options, where="item.price > 0")
    assert "i50" in by_id(far_kind, source.retrieve(seen_from_the_begin(far_kind)))
    late = source.retrieve_within(seen_from_the_begin(far_kind), Clock(5))
    assert far_kind.ids(late.item_index.tolist()) == ["i2", "i50"]
    assert isinstance(late, CutProposal)


def test_what_an_index_names_is_asked_about_within_the_same_bounds(far_kind):
    """No item twice, and no scan follows where nothing may be asked about any more."""
    names = [f"i{number}" for number in range(1_200)]
    index = indexed(far_kind, names)
    options = {"search": "usearch", "to": "request", "limit": 3, "similarity_min": -1.0, "where": "item.price == 1"}
    moment = seen_from_the_begin(far_kind)
    found = source_of(**options, asked_max=1_200).retrieve(moment)
    assert type(found) is ApproximateProposal
    assert len(found.item_index) == 3
    cut = source_of(**options, asked_max=1_073).retrieve(moment)
    assert cut.reason == "not asked of all items: asked_max, 1,073 of 1,200"
    assert len(cut.item_index) == 0
    late = source_of(**options).retrieve_within(moment, Clock(2))
    assert late.reason == "not asked of all items: the time was over, 67 of 1,200"
    assert len(late.item_index) == 0
    assert index.counts[-1] == 67
