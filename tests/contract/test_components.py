"""Every source, filter, scorer and selector runs the same checks; a component that breaks a promise is caught."""

import asyncio
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.core.durations import Duration
from midstream.core.errors import ShapeMismatch
from midstream.core.fold_step import ActRetracted, FoldStep, UserForgotten, UserMerged, UserRestarted
from midstream.core.types import (
    Candidates,
    Column,
    FeatureFrame,
    LogPosition,
    Mask,
    Models,
    Moment,
    Proposal,
    Query,
    Score,
    Selection,
)
from midstream.events.schema import cut
from midstream.features.declared import declared
from midstream.features.expressions.names import Names
from midstream.features.language import Condition, condition
from midstream.ranking.boundary import Account
from midstream.ranking.fetched_columns import DeclaredFetch, FetchScope
from midstream.ranking.filters.acted import Acted, Exclusion
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.excluded import Excluded
from midstream.ranking.filters.expression_filter import ExpressionFilter, RequestFilter
from midstream.ranking.filters.repeats import Repeats
from midstream.ranking.filters.text_match import TextMatch
from midstream.ranking.frame import FeatureReader, merge
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.editorial import Editorial
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.recently_viewed import RecentlyViewed
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar import Similar
from midstream.retrieval.similar_users_items import SimilarUsersItems
from midstream.retrieval.text_search import TextSearch
from midstream.retrieval.trending import Trending
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.settings import FoldSettings
from midstream.state.tables import TABLES, TablesAbove
from midstream.testing.conformance import (
    NotConforming,
    check_feature,
    check_fetch,
    check_filter,
    check_scorer,
    check_selector,
    check_source,
    check_state_table,
)
from tests.support.events import Stream, random_events, tiny_settings
from tests.support.frozen_shop import SMALL, StillShop


def busy_shop(settings: FoldSettings = SMALL) -> StillShop:
    """A shop where every table holds something."""
    shop = StillShop(settings)
    rng = np.random.default_rng(3)
    for number in range(40):
        shop.put(f"i{number}", price=float(number), category="even" if number % 2 else "odd", tags=["sale"])
    for session in range(30):
        items = [f"i{number}" for number in rng.integers(0, 45, 6)]
        shop.act(
            ["view", "cart", "purchase", "dismiss"][session % 4], f"u{session % 7}", *items, session_id=f"s{session}"
        )
        shop.see(f"u{session % 7}", *items)
    return shop


SHOP = busy_shop(msgspec.structs.replace(SMALL, search=("category", "tags")))
QUERIES = (
    SHOP.query(),
    replace(SHOP.query(), user_id="u1"),
    replace(SHOP.query(), user_id="u1", session_id="s29", exclude=("i1", "nobody")),
    replace(SHOP.query(), user_id="unknown", items=("i1", "i2", "nobody"), filter="item.price < 20"),
    replace(SHOP.query(), session_id="s28", context={"budget": 12.0}),
    replace(SHOP.query(), user_id="u2", context={"q": "odd sal"}),
)
ATTRIBUTES = tuple(SMALL.attributes.items())
NAMES = Names(dict(ATTRIBUTES))
RULE = condition('item.price <= context.budget and "sale" in item.tags', NAMES, "$")
assert isinstance(RULE, Condition)
SOURCES = (
    *(Popular(), Popular(limit=1), Trending(), Catalogue(), SessionKnn(), SessionKnn(limit=3)),
    *(Covisitation(), Covisitation(limit=2, popularity="1"), Similar(), Similar(limit=3, pairs_min=2)),
    *(
        RecentItems(),
        RecentItems(limit=3),
        RepeatItems(min_gap=Duration("0ms")),
        RepeatItems(min_gap=Duration("1s"), limit=2),
    ),
    *(RecentlyViewed(), RecentlyViewed(limit=2, actions=("view", "dismiss"))),
    *(SimilarUsersItems(), SimilarUsersItems(limit=3, neighbours_max=2, last_items_max=1, actions=("view",))),
    *(TextSearch(), TextSearch(limit=3, require="all", personal=0.0)),
    *(Editorial(), Editorial(items=("i3", "nobody", "i1", "i3"))),
)
FILTERS = (
    Available(),
    Excluded(),
    *(Repeats(allow=allow) for allow in ("any", "not_last", "none")),
    Acted(),
    Acted(exclusions=(Exclusion.read("view", "1d", SMALL), Exclusion.read("cart", 2, SMALL))),
    Acted(exclusions=(Exclusion.read("impression", 2, SMALL),)),
    ExpressionFilter(RULE),
    RequestFilter(NAMES),
    TextMatch(),
)


def candidates_of(moment: Moment) -> Candidates:
    """Candidates of several sources."""
    proposals = {source.name: source.retrieve(moment) for source in (SessionKnn(), Trending(), Catalogue())}
    return merge(proposals, moment.table(Vocabulary).item_count)


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_conforms(source, query):
    """Distinct, existing, best first, at most its limit, the same each time, without a trace in the state."""
    check_source(source, SHOP.fold.moment(query, Models({})))


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.name)
def test_every_filter_conforms(rule, query):
    """One answer a candidate, which depends on the item alone."""
    moment = SHOP.fold.moment(query, Models({}))
    check_filter(rule, moment, candidates_of(moment))


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_the_scorer_and_the_selector_conform(query):
    """One number a row; distinct rows with a finite score, each with a propensity."""
    moment = SHOP.fold.moment(query, Models({}))
    frame = FeatureReader(moment, Account()).frame((), candidates_of(moment))
    score = check_scorer(Blend(), query, frame, Models({}))
    assert score is not None
    check_selector(TopK(), query, frame, score)


def every_kind() -> Config:
    """The declarations of docs/features.md, which has one of every kind that needs no file beside it."""
    page = (Path(__file__).parents[2] / "docs" / "features.md").read_text("utf-8")
    kinds = page.split("\n## Kinds\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```toml\n(.*?)```", kinds, re.DOTALL)
    return parse_config("\n".join(sorted(blocks, key=lambda each: "[[" in each)))


CHANGES = iter(range(10_000))
KINDS = every_kind()
BLOCK = declared(KINDS.features, KINDS.items.attributes)
COUNTING = busy_shop(msgspec.structs.replace(KINDS.fold_settings(), limits=SMALL.limits))


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_the_declared_features_conform(query):
    """All kinds as one block: a number a candidate and column, the same each time, without a trace in the state."""
    moment = COUNTING.fold.moment(query, Models({}))
    values = check_feature(BLOCK, moment, candidates_of(moment))
    assert np.isfinite(values).any()


@dataclass
class AnyBlock:
    """A block that does what it is told."""

    act: Callable[[Moment, Candidates], Score]
    names: tuple[str, ...] = ("one", "two")

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        return self.act(moment, candidates)


def ones(candidates: Candidates, columns: int = 2, dtype: type = np.float32) -> Score:
    return np.ones((len(candidates), columns), dtype=dtype)


@pytest.mark.parametrize(
    "block",
    [
        AnyBlock(lambda _, candidates: ones(candidates), ("one", "one")),
        AnyBlock(lambda _, candidates: ones(candidates, 3)),
        AnyBlock(lambda _, candidates: ones(candidates).T),
        AnyBlock(lambda _, candidates: ones(candidates, dtype=np.float64)),
        AnyBlock(lambda _, candidates: ones(candidates) * np.float32(next(CHANGES))),
        AnyBlock(lambda _, candidates: np.ones((max(len(candidates), 1), 2), np.float32)),
    ],
)
def test_a_block_of_features_that_breaks_a_promise_is_caught(block):
    """Each promise has a block that only breaks this one."""
    with pytest.raises(NotConforming):
        check_feature(block, MOMENT, candidates_of(MOMENT))


def test_a_block_of_features_that_writes_or_lends_state_is_caught():
    """Reading never writes, and what is returned is a copy."""
    kept = ones(candidates_of(MOMENT))
    with pytest.raises(NotConforming, match="copy"):
        check_feature(AnyBlock(lambda _, candidates: kept[: len(candidates)]), MOMENT, candidates_of(MOMENT))
    shop = busy_shop()

    def writes(_: Moment, candidates: Candidates) -> Score:
        shop.act("view", "ann", "i1")
        return ones(candidates)

    with pytest.raises(NotConforming, match="as it was"):
        check_feature(AnyBlock(writes), shop.moment(), candidates_of(shop.moment()))


MOMENT = SHOP.fold.moment(QUERIES[2], Models({}))
FRAME = FeatureReader(MOMENT, Account()).frame((), candidates_of(MOMENT))
SCORE = np.linspace(1, 0, len(FRAME.values)).astype(np.float32)


def items(*values: int, scores: Score | None = None, dtype: type = np.int32) -> Proposal:
    """A proposal."""
    falling = np.arange(len(values), 0, -1).astype(np.float32)
    return Proposal(np.array(values, dtype=dtype), falling if scores is None else scores)


@dataclass
class AnySource:
    """A source that does what it is told."""

    act: Callable[[Moment], Proposal]
    name: str = "mine"
    limit: int = 3

    def retrieve(self, moment: Moment) -> Proposal:
        return self.act(moment)


@pytest.mark.parametrize(
    "source",
    [
        AnySource(lambda _: items(1, 1)),
        AnySource(lambda _: items(10_000)),
        AnySource(lambda _: items(-1)),
        AnySource(lambda _: items(1, 2, 3, 4)),
        AnySource(lambda _: items(1, dtype=np.int64)),
        AnySource(lambda _: items(1, scores=np.ones(2, np.float32))),
        AnySource(lambda _: items(1, scores=np.ones(1, np.float64))),
        AnySource(lambda _: items(1, scores=np.full(1, np.nan, np.float32))),
        AnySource(lambda _: items(1, 2, scores=np.array([0, 1], np.float32))),
        AnySource(lambda _: items(next(CHANGES) % 40)),
        AnySource(lambda _: items(1), name="Not a name"),
    ],
)
def test_a_source_that_breaks_a_promise_is_caught(source):
    """Each promise has a component that only breaks this one."""
    with pytest.raises(NotConforming):
        check_source(source, MOMENT)


def test_a_source_that_writes_or_lends_state_is_caught():
    """Reading never writes, and what is returned is a copy."""
    kept = np.arange(3, dtype=np.int32)
    with pytest.raises(NotConforming, match="copy"):
        check_source(AnySource(lambda _: Proposal(kept, np.ones(3, np.float32))), MOMENT)

    shop = busy_shop()

    def writes(_: Moment) -> Proposal:
        shop.act("view", "ann", "i1")
        return items(1)

    with pytest.raises(NotConforming, match="as it was"):
        check_source(AnySource(writes), shop.moment())


@dataclass
class AnyFilter:
    """A filter that does what it is told."""

    act: Callable[[Candidates], Mask]
    name: str = "mine"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        return self.act(candidates)


@pytest.mark.parametrize(
    "act",
    [
        lambda _: np.ones(3, dtype=np.bool_),
        lambda candidates: np.ones(len(candidates), dtype=np.int8),
        lambda candidates: np.arange(len(candidates)) < 3,
        lambda candidates: np.full(len(candidates), len(candidates) > 30),
    ],
)
def test_a_filter_that_breaks_a_promise_is_caught(act):
    """Wrong shape, wrong type, by place, by company."""
    with pytest.raises(NotConforming):
        check_filter(AnyFilter(act), MOMENT, candidates_of(MOMENT))


@dataclass
class AnyScorer:
    """A scorer that does what it is told."""

    act: Callable[[FeatureFrame], Score]
    name: str = "mine"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        return self.act(features)


def spoils(frame: FeatureFrame) -> Score:
    """Writes to what it reads."""
    frame.values[:] = 1.0
    return np.ones(len(frame.values), np.float32)


@pytest.mark.parametrize(
    "act",
    [
        lambda frame: np.ones(len(frame.values) + 1, np.float32),
        lambda frame: np.ones(len(frame.values), np.float64),
        lambda frame: np.full(len(frame.values), np.inf, np.float32),
        lambda frame: np.full(len(frame.values), next(CHANGES), np.float32),
        spoils,
    ],
)
def test_a_scorer_that_breaks_a_promise_is_caught(act):
    """Wrong length, wrong type, infinity, another answer each time, features written to."""
    frame = FeatureFrame(FRAME.names, FRAME.values.copy())
    with pytest.raises(NotConforming):
        check_scorer(AnyScorer(act), QUERIES[0], frame, Models({}))


@dataclass
class AnySelector:
    """A selector that does what it is told."""

    act: Callable[[Query, Score], Selection]

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        return self.act(query, score)


def of(rows, propensity: float = 1.0) -> Selection:
    """A choice of rows."""
    chosen = np.array(rows, dtype=np.intp)
    return Selection(chosen, np.full(len(chosen), propensity, np.float32))


def best(query: Query, score: Score) -> list[int]:
    """A proper choice."""
    return [row for row in np.argsort(-score).tolist() if np.isfinite(score[row])][: query.slate_size]


@pytest.mark.parametrize(
    "act",
    [
        lambda query, score: of(best(replace(query, slate_size=query.slate_size + 1), score)),
        lambda query, score: of((best(query, score) * 2)[: query.slate_size]),
        lambda query, score: of(np.arange(min(query.slate_size, len(score)))),
        lambda query, score: of(best(query, score), 0.0),
        lambda query, score: of(best(query, score), 1.5),
        lambda query, score: of(best(query, score)[::-1] if next(CHANGES) % 2 else best(query, score)),
        lambda *_: of([]),
    ],
)
def test_a_selector_that_breaks_a_promise_is_caught(act):
    """Too many, twice, without a score, an impossible propensity, another choice each time, nothing."""
    check_selector(AnySelector(lambda query, score: of(best(query, score))), QUERIES[0], FRAME, SCORE)
    with pytest.raises(NotConforming):
        check_selector(AnySelector(act), QUERIES[0], FRAME, SCORE)


class Tally:
    """A small table: events by kind, and something wrong with it."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.count = np.zeros(10, dtype=np.int64)
        self.bytes_now = 81 if wrong == "has no maximum" else 80
        self.bytes_max = 80

    def apply(self, step) -> None:
        for kind in step.events.kind.tolist():
            self.count[kind] += 1
        if self.wrong == "counts batches" and len(step.events):
            self.count[0] += 1
        if self.wrong == "counts steps without events" and not len(step.events):
            self.count[0] += 1

    def arrays(self):
        if self.wrong == "reading writes":
            self.count[9] += 1
        return {"count": self.count.copy()}

    def restore(self, arrays) -> None:
        if self.wrong != "restores nothing":
            self.count = arrays["count"].copy()


@functools.cache
def steps():
    """Steps of events of all kinds, in parts, as the items table is handed them."""
    found: list[FoldStep] = []
    fold = Fold(tiny_settings())
    fold.items.apply = found.append  # type: ignore[assignment, method-assign]
    log = random_events(160, seed=68, stream=Stream(people_share=0.06, feedback_share=0.1, retraction_share=0.06))
    for start in range(0, 160, 40):
        fold.apply(LogPosition(start), cut(log, start, start + 40))
    return found


class Standing:
    """A table on those above it, which fold what it is given first."""

    def __init__(self, name: str) -> None:
        above = TablesAbove(tiny_settings(), NOTHING)
        names = [each.name for each in TABLES]
        self.tables = {each.name: above.add(each) for each in TABLES[: names.index(name) + 1]}
        self.table = self.tables[name]

    @property
    def bytes_now(self) -> int:
        return self.table.bytes_now

    @property
    def bytes_max(self) -> int:
        return self.table.bytes_max

    def apply(self, step) -> None:
        for table in self.tables.values():
            table.apply(step)

    def arrays(self):
        return {f"{name} {key}": each for name, table in self.tables.items() for key, each in table.arrays().items()}

    def restore(self, arrays) -> None:
        for name, table in self.tables.items():
            start = f"{name} "
            table.restore({key.removeprefix(start): each for key, each in arrays.items() if key.startswith(start)})


def test_a_table_conforms_or_is_caught():
    """Cut anyhow, read any time, restored: the same."""
    given = steps()
    assert {type(each.change) for each in given} == {type(None), UserMerged, UserForgotten, UserRestarted, ActRetracted}
    assert check_state_table(Tally, given)["count"].sum() == 160
    faults = ("counts batches", "counts steps without events", "reading writes", "restores nothing", "has no maximum")
    for wrong in faults:
        with pytest.raises(NotConforming):
            check_state_table(partial(Tally, wrong), given)


@pytest.mark.parametrize("name", [each.name for each in TABLES])
def test_each_table_of_the_fold_conforms(name):
    """All of the order, each on those above it."""
    assert any(each.size for each in check_state_table(partial(Standing, name), steps()).values())


@dataclass
class AnyFetch:
    """A fetch that does what it is told."""

    act: Callable[[Sequence[str]], object]

    async def fetch(self, ids: Sequence[str]) -> Any:
        return self.act(ids)


def fetch_of(act: Callable[[Sequence[str]], object], of: FetchScope = "item") -> DeclaredFetch:
    """Return a declared fetch of one column."""
    return DeclaredFetch("mine", of, {"size": "number"}, AnyFetch(act), 0, 1.0, "")


@pytest.mark.parametrize("of", ["item", "user"])
def test_a_fetch_conforms(of):
    """Each id has its value, whatever the order, and a stranger has none."""
    sizes: dict[str, float] = {"a": 1.0, "b": 2.0}
    assert check_fetch(fetch_of(lambda ids: {"size": [sizes.get(each) for each in ids]}, of), ("a", "b", "a")) == {
        "a": {"size": 1.0},
        "b": {"size": 2.0},
        "midstream-check-unknown": {},
    }


def test_a_system_that_moves_between_two_calls_conforms():
    """What it says may change; only an order that is wrong each time is one."""
    moves = iter((0.0, 1.0, 2.0, 2.0))

    def moving(ids: Sequence[str]) -> object:
        move = next(moves)
        return {"size": [move] * len(ids)}

    assert check_fetch(fetch_of(moving), ("a", "b"))["a"] == {"size": 2.0}


@pytest.mark.parametrize(
    "act",
    [
        lambda _: {"size": [1.0]},
        lambda ids: {"size": [1.0] * len(ids), "more": [1.0] * len(ids)},
        lambda ids: {"size": list(ids)},
        lambda ids: {"size": list(range(len(ids)))},
        lambda ids: [1.0] * len(ids),
        lambda ids: {"size": [float({"a": 1, "b": 2}[each]) for each in ids]},
    ],
)
def test_a_fetch_that_breaks_a_promise_is_caught(act):
    """Another length, another column, another kind, an order of its own, no columns, an error for a stranger."""
    with pytest.raises((NotConforming, ShapeMismatch, KeyError)):
        check_fetch(fetch_of(act), ("a", "b"))


class Client:
    """A client that belongs to the event loop of its first call, as a pool of connections does."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Column]:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            message = "Event loop is closed"
            raise RuntimeError(message)
        return {"size": [1.0] * len(ids)}


def test_a_client_may_be_kept_for_the_next_call():
    """All calls of one check are of one event loop, and so are those of several checks that share it."""
    client = Client()
    declared = DeclaredFetch("mine", "item", {"size": "number"}, client, 0, 1.0, "")
    assert check_fetch(declared, ("a",))["a"] == {"size": 1.0}
    client.loop = None
    with asyncio.Runner() as runner:
        check_fetch(declared, ("a",), runner)
        check_fetch(replace(declared, of="user"), ("a",), runner)


def test_a_fetch_that_does_not_answer_is_caught_within_its_timeout():
    """A connection may take the first try; who is late twice is named, and holds nobody up."""
    waits = iter((9.0, 0.0, 0.0, 9.0, 9.0))

    async def late(ids: Sequence[str]) -> Mapping[str, Column]:
        await asyncio.sleep(next(waits))
        return {"size": [1.0] * len(ids)}

    slow = AnyFetch(lambda _: None)
    slow.fetch = late  # type: ignore[method-assign]
    declared = DeclaredFetch("mine", "item", {"size": "number"}, slow, 0, 0.01, "")
    assert check_fetch(declared, ("a",))["a"] == {"size": 1.0}
    with pytest.raises(NotConforming, match="within its timeout of 10 ms"):
        check_fetch(declared, ("a",))


def test_a_fetch_that_is_no_coroutine_is_caught():
    """It would hold everybody up."""
    plain = AnyFetch(lambda _: None)
    plain.fetch = lambda ids: {"size": [1.0] * len(ids)}  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(NotConforming, match="Awaitable"):
        check_fetch(DeclaredFetch("mine", "item", {"size": "number"}, plain, 0, 1.0, ""), ("a",))
