"""Compiled plans answer as the pipeline does, byte for byte: the reply, and the served record in the log.

The pipeline is the twin of the kernel. Both answer the same questions of one state here, in turns, so that they also
share the marks of the tables that they search in.
"""

import asyncio
import gc
import json
import math
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config, ItemsSection, Placement
from midstream.core.answers.events import EventsAnswer
from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, Failure, LogPosition, Mask, TimestampMs
from midstream.engine.answer.compiled_slates import EncodedSlate, Stamp, obstacle
from midstream.engine.answer.pending_served import ServedAhead
from midstream.engine.answer.query_mapping import query_of
from midstream.engine.circuit_breaker import _Watched
from midstream.engine.live import LiveState
from midstream.engine.tokens import RequestIds, position_token
from midstream.engine.types import Answer, Ask
from midstream.events.schema import Event, build
from midstream.events.served_body import decode_body, encode_body
from midstream.features.kinds.counts import Count
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_cutoff import CUT
from midstream.ranking.compiled.back_off import BackOff
from midstream.ranking.compiled.compiled_plan import TOO_LONG, CompiledPlan
from midstream.ranking.compiled.decision_kernel import TOO_FEW, UNUSUAL
from midstream.ranking.compiled.obstacles import obstacle_of
from midstream.ranking.compiled.state_kernel import BoundState, answer_question, make_state
from midstream.ranking.filters.expression_filter import ExpressionFilter
from midstream.ranking.filters.repeats import Repeat
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.pin import Pin
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.shortlist import shortlist
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.trending import Trending
from midstream.serving.slates.recommendations import (
    RankBody,
    RecommendationBody,
    Recommendations,
    encoded_reply,
    slate_of,
)
from midstream.state.fold import Fold
from midstream.state.one_pass import OnePass
from midstream.state.one_pass_kernels import fold_run, make_tables
from midstream.state.settings import StateLimits
from midstream.state.structures.stamped_table import EPOCH_MAX
from tests.support.events import START_MS, Stream, random_events
from tests.support.rig import Rig, view

STREAM = Stream(users=40, items=120, sessions=12, step_ms=2_000, people_share=0.02, catalogue_share=0.15)
LIMITS = StateLimits(
    users_max=30,
    items_max=110,
    click_items_max=100,
    sessions_max=25,
    session_items_max=12,
    index_sessions_max=150,
    index_items_max=8,
    index_entries_max=40,
    user_ring_max=9,
    event_ids_max=2_000,
    hot_items_max=40,
    pair_neighbours_max=8,
    aliases_max=6,
)


def random_placement(dice: np.random.Generator, number: int) -> Placement:
    """A placement of parts that programs have, with any of their options."""
    sources: list[SessionKnn | Covisitation | Trending] = [
        SessionKnn(
            name=f"knn{each}",
            last_items_max=int(dice.integers(1, 12)),
            entries_max=int(dice.integers(1, 60)),
            neighbours_max=int(dice.integers(1, 50)),
            position_decay=float(dice.random()),
            sharpness=str(dice.choice(["1", "1.5", "2"])),  # type: ignore[arg-type]
            same_item=float(dice.random()),
            allow_session_items=bool(dice.random() < 0.6),
            exclude_last_item=bool(dice.random() < 0.5),
            history_items_max=int(dice.integers(0, 12)),
            limit=int(dice.integers(1, 60)),
        )
        for each in range(int(dice.integers(0, 3)))
    ]
    sources += [
        Covisitation(
            name=f"pairs{each}",
            last_items_max=int(dice.integers(1, 8)),
            popularity=str(dice.choice(["0", "0.25", "0.5", "0.75", "1"])),  # type: ignore[arg-type]
            same_item=float(dice.choice([0.0, 0.1, 2.0])),
            allow_session_items=bool(dice.random() < 0.6),
            exclude_last_item=bool(dice.random() < 0.5),
            history_items_max=int(dice.integers(0, 12)),
            limit=int(dice.integers(1, 40)),
        )
        for each in range(int(dice.integers(0, 3)))
    ]
    sources += [
        Trending(name=f"hot{each}", limit=int(dice.integers(1, 60)), half_life=Duration(str(dice.choice(["1h", "6h"]))))
        for each in range(int(dice.integers(0, 2)))
    ]
    order = dice.permutation(len(sources))
    names = [each.name for each in sources]
    weights = {name: float(dice.choice([0.0, 0.001, 0.7, 3.0, 800.0])) for name in names if dice.random() < 0.7}
    return Placement(
        name=f"p{number}",
        sources=(*(sources[place] for place in order), Popular(limit=int(dice.integers(20, 60)))),
        weights=weights,
        rank_offset=float(dice.choice([0.1, 1.0, 60.0])),
        repeats=_REPEATS[int(dice.integers(3))],
        slate_size=int(dice.integers(1, 25)),
        candidates_max=100,
    )


_REPEATS: tuple[Repeat, ...] = ("any", "not_last", "none")


def random_question(dice: np.random.Generator, placement: str) -> bytes:
    """A usual question, about ids of the stream and others."""
    told: dict[str, object] = {"placement": placement}
    if dice.random() < 0.7:
        told["user_id"] = f"user-{int(dice.integers(45))}"
    if dice.random() < 0.4:
        generation = int(dice.integers(0, 6))
        told["session_id"] = f"session-{generation}-{int(dice.integers(12))}"
    if dice.random() < 0.5:
        told["n"] = int(dice.integers(1, 30))
    for name, most in (("items", 6), ("exclude", 12)):
        if dice.random() < 0.5:
            told[name] = [f"item-{int(dice.integers(130))}" for _ in range(int(dice.integers(1, most)))]
    if dice.random() < 0.3:
        told["context"] = {"channel": str(dice.choice(["app", "web"])), "hour": float(dice.integers(24)), "new": True}
    if dice.random() < 0.3:
        told["fields"] = ["category", "brand", "nowhere"][: int(dice.integers(1, 4))]
    return json.dumps(told).encode()


@dataclass
class Both:
    """An engine whose served records are kept here, asked on both ways."""

    rig: Rig
    served: list[Event] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=Counter)
    last: Event | None = None
    """Record of the last answer that was the same on both ways."""

    def __post_init__(self) -> None:
        self.rig.engine._outbox.add = self.served.append  # type: ignore[assignment,method-assign]

    @property
    def ahead(self) -> ServedAhead:
        """Records that are not folded yet."""
        ahead = self.rig.engine._answering.compiled._ahead
        assert ahead is not None
        return ahead

    def obstacle(self, placement: str) -> str:
        """Why the pipeline answers for a placement."""
        engine = self.rig.engine
        return obstacle(engine._answering.compiled._compiled(engine.plan(placement)))

    def forget_misses(self, placement: str) -> None:
        """Let the next question ask the kernels, whatever came of those before."""
        engine = self.rig.engine
        for ranks in (False, True):
            compiled = engine._answering.compiled._entry(engine.plan(placement), ranks=ranks).compiled
            assert isinstance(compiled, CompiledPlan)
            compiled.proposals, compiled.narrowed, compiled.texts = BackOff(), BackOff(), BackOff()

    async def by_pipeline(self, ask: Ask, stamp: Stamp | None) -> Answer:
        """The answer that no kernel had part in."""
        compiled = self.rig.engine._answering.compiled
        with patch.object(compiled, "shortlister", lambda _: None):
            return await self.rig.engine.recommend(ask, stamp)

    async def same(self, body: bytes) -> str:
        """Ask both ways; return which of them answered first: ``compiled``, ``stamp`` or ``pipeline``."""
        return await self.same_of(msgspec.json.decode(body, type=RecommendationBody))

    async def same_of(self, question: RecommendationBody | RankBody) -> str:
        """As ``same``, of a question of either kind."""
        engine = self.rig.engine
        assert question.placement is not None
        found = engine.encoded_slate(question, question.placement)
        if not isinstance(found, EncodedSlate):
            way = "pipeline" if found is None else "stamp"
            assert not self.served, "a way that does not answer leaves nothing behind"
            answer = await engine.recommend(question.ask(question.placement), found)
            if found is not None:
                assert answer.request_id == found.request_id == decode_body(self.served[0].body).request_id
                assert decode_body(self.served[0].body).seed == found.seed
            self.served.clear()
            return way
        reply = encoded_reply(found)
        self.ahead._added.clear()  # else the other way may wait for the record of this one
        (event,) = self.served
        self.served.clear()
        record = decode_body(event.body)
        stamp = Stamp(record.request_id, record.seed, TimestampMs(record.now_ms), math.inf, engine.host.monotonic())
        answer = await self.by_pipeline(question.ask(question.placement), stamp)
        assert reply.decode() == msgspec.json.encode(slate_of(answer, None)).decode()
        self.ahead._added.clear()
        (other,) = self.served
        self.served.clear()
        self.last = event
        assert record.context == question.context
        told = msgspec.structs.replace(decode_body(other.body), took_us=record.took_us)  # a clock may go on
        assert record == told
        assert event == other._replace(body=encode_body(told))
        return "compiled"


def answered(config: Config, work: Callable[[Both], object]) -> None:
    """Run work with an engine whose clock stands still: how busy the machine is changes nothing."""

    async def main() -> None:
        both = Both(Rig(config=config, monotonic=lambda: 100.0, worked_s=lambda: 0.0))
        found = work(both)
        if asyncio.iscoroutine(found):
            await found

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(6))
def test_replies_and_records_are_those_of_the_pipeline(seed: int) -> None:
    """Random plans, states with merges and erasures, and questions, while events come in between."""
    dice = np.random.default_rng(seed)
    config = Config(placements=tuple(random_placement(dice, number) for number in range(4)), limits=LIMITS)
    batch = random_events(1_500, seed, STREAM)

    async def work(both: Both) -> None:
        fold = both.rig.engine.fold
        start = 0
        while start < len(batch):
            stop = start + int(dice.integers(1, 200))
            part = batch.rows[start:stop]
            fold.apply(LogPosition(start), type(batch)(part, batch.text))
            start += len(part)
            both.rig.now_ms = fold.log_time_ms + int(dice.integers(0, 40 * 60_000))
            for _ in range(30):
                placement = f"p{int(dice.integers(4))}"
                assert both.obstacle(placement) == ""
                both.forget_misses(placement)
                both.ways[await both.same(random_question(dice, placement))] += 1
        assert both.ways["compiled"] > 150, "else this test says nothing"
        assert not both.ways["pipeline"]

    answered(config, work)


def test_a_question_that_no_program_has_goes_to_the_pipeline() -> None:
    """Decided before anything begins: no request id is made for it twice."""
    told = (
        {"filter": "item.available"},
        {"item_fields": {"item-1": {"own": 1.0}}},
        {"explain": True},
        {"reasons": "en"},
        {"cursor": True},
        {"min_log_position": "x"},
        {"min_log_position": position_token(7, 0)},
        {"n": 100},
        {"placement": "nowhere"},
    )

    def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), random_events(300, 1, STREAM))
        for each in told:
            question = msgspec.convert({"placement": "default", **each}, RecommendationBody, strict=False)
            assert both.rig.engine.encoded_slate(question, question.placement or "") is None, each
        plain = RecommendationBody(placement="default", user_id="user-1")
        assert isinstance(both.rig.engine.encoded_slate(plain, "default"), EncodedSlate)

    answered(Config(limits=LIMITS, placements=(Placement(slate_size=9, slate_size_max=99),)), work)


COMPOSED: tuple[dict[str, object], ...] = (
    {"features": ("purchases",), "log_features": 1.0},
    {"caps": (Cap(attribute="category", max=2),), "diversity": Diversity(attribute="category", weight=0.4)},
    {"rules": (Boost(name="up", where='item.category == "shoes"', factor=2.0),), "selector": PlackettLuce()},
    {"selector": EpsilonGreedy(epsilon=0.3)},
    {"filter": 'item.category != "shoes"', "exclude": {"view": "7d"}},
)
"""Parts behind the cut; of some no program has all."""


@pytest.mark.parametrize("seed", range(3))
def test_shortlists_are_those_of_the_pipeline(seed: int) -> None:
    """Of plans and questions with other parts behind the cut: answers and records are the same bytes."""
    dice = np.random.default_rng(seed)
    placements = tuple(
        msgspec.structs.replace(random_placement(dice, number), **more) for number, more in enumerate(COMPOSED)
    )
    feature = Count(name="purchases", scope="item", actions=("purchase",), windows=(Duration("7d"),))
    attributes = ItemsSection(attributes={"category": "category"})
    config = Config(limits=LIMITS, placements=placements, items=attributes, features=(feature,))
    batch = random_events(1_200, seed, STREAM)

    async def work(both: Both) -> None:
        engine, fold = both.rig.engine, both.rig.engine.fold
        for start in range(0, len(batch), 300):
            fold.apply(LogPosition(start), EventBatch(batch.rows[start : start + 300], batch.text))
            both.rig.now_ms = fold.log_time_ms + int(dice.integers(0, 40 * 60_000))
            for number in range(40):
                body = random_question(dice, f"p{int(dice.integers(len(COMPOSED)))}")
                question = msgspec.json.decode(body, type=RecommendationBody)
                assert question.placement is not None
                if both.obstacle(question.placement):
                    assert engine.encoded_slate(question, question.placement) is None
                own = 'item.category != "hats"' if number % 7 == 0 else None
                ask = msgspec.structs.replace(question.ask(question.placement), cursor=number % 5 == 0, filter=own)
                seed = int(dice.integers(1 << 62))
                stamp = Stamp(f"{number:032d}", seed, TimestampMs(both.rig.now_ms), math.inf, engine.host.monotonic())
                with (
                    patch.object(CompiledPlan, "shortlist", autospec=True, side_effect=CompiledPlan.shortlist) as made,
                    patch.object(RequestIds, "make", lambda _: stamp[:2]),  # noqa: B023  it is called here
                ):
                    found = [await engine.recommend(ask), await both.by_pipeline(ask, stamp)]
                assert made.call_count == 1
                assert msgspec.json.encode(found[0]) == msgspec.json.encode(found[1])
                one, other = both.served
                both.served.clear()
                assert one == other

    answered(config, work)


def test_shortlists_are_cut_as_the_pipeline_cuts_them() -> None:
    """More candidates than are scored: the best by the blend stay, in their order, and the others are counted."""
    found: Counter[str] = Counter()

    def work(both: Both) -> None:
        fold, plan = both.rig.engine.fold, both.rig.engine.plan("default")
        fold.apply(LogPosition(0), random_events(2_500, 9, Stream(users=40, items=400, sessions=12, step_ms=2_000)))
        compiled = both.rig.engine._answering.compiled._compiled(plan)
        assert isinstance(compiled, CompiledPlan)
        dice = np.random.default_rng(9)
        for _ in range(60):
            told = msgspec.json.decode(random_question(dice, "default"), type=RecommendationBody)
            query = query_of(told.ask("default"), plan, "r", 1, TimestampMs(fold.log_time_ms))
            run = PlanRun(plan, fold.moment(query, plan.models), Account())
            one, other = compiled.shortlist(run), shortlist(run)
            found["cut" if CUT in other.removed else "whole"] += 1
            if one is None:
                found["none"] += 1
                continue
            assert (one.retrieved, one.retrieved_count) == (other.retrieved, other.retrieved_count)
            assert list(one.removed.items()) == list(other.removed.items())
            mine, theirs = one.candidates, other.candidates
            assert mine.source_names == theirs.source_names
            for name in ("item_index", "source_score", "source_rank"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), strict=True)
            np.testing.assert_array_equal(one.examined[0], other.examined[0], strict=True)

    sources = (SessionKnn(limit=200), Covisitation(limit=200), Trending(limit=150), Popular(limit=150))
    placement = Placement(sources=sources, candidates_max=100)
    limits = msgspec.structs.replace(LIMITS, items_max=400, click_items_max=400, hot_items_max=200)
    answered(Config(limits=limits, placements=(placement,)), work)
    assert found["cut"] > 20
    assert found["none"] < 5


@pytest.mark.parametrize("more", [{}, {"caps": (Cap(attribute="category", max=2),)}, {"features": ("purchases",)}])
def test_slates_are_made_of_what_the_cut_leaves(more: dict[str, object]) -> None:
    """More candidates than are scored, of a plan that is one kernel and of plans that are two."""

    async def work(both: Both) -> None:
        fold = both.rig.engine.fold
        fold.apply(LogPosition(0), random_events(2_500, 9, Stream(users=40, items=400, sessions=12, step_ms=2_000)))
        both.rig.now_ms = fold.log_time_ms
        dice = np.random.default_rng(9)
        for _ in range(40):
            both.ways[await both.same(random_question(dice, "default"))] += 1
        assert both.ways["compiled"] > 30

    sources = (SessionKnn(limit=200), Covisitation(limit=200), Popular(limit=150), Trending(limit=150))
    placement = msgspec.structs.replace(Placement(sources=sources, candidates_max=100), **more)
    limits = msgspec.structs.replace(LIMITS, items_max=400, click_items_max=400, hot_items_max=200)
    feature = Count(name="purchases", scope="item", actions=("purchase",), windows=(Duration("7d"),))
    attributes = ItemsSection(attributes={"category": "category"})
    answered(Config(limits=limits, placements=(placement,), items=attributes, features=(feature,)), work)


def test_shortlists_of_other_questions_are_the_pipelines() -> None:
    """Of given items, of a later slate of a page, of too many bytes, of an account with a failure, too late."""

    def work(both: Both) -> None:
        fold, plan = both.rig.engine.fold, both.rig.engine.plan("default")
        fold.apply(LogPosition(0), random_events(400, 9, STREAM))
        compiled = both.rig.engine._answering.compiled._compiled(plan)
        assert isinstance(compiled, CompiledPlan)
        plain = query_of(Ask(n=2), plan, "r", 1, TimestampMs(fold.log_time_ms))
        for more in ({"given": ("item-1",)}, {"spare": 3}, {"items": ("i" * 70_000,)}):
            moment = fold.moment(replace(plain, **more), plan.models)
            assert compiled.shortlist(PlanRun(plan, moment, Account())) is None
        moment = fold.moment(plain, plan.models)
        assert compiled.shortlist(PlanRun(plan, moment, Account((Failure("trending", "benched"),)))) is None
        assert compiled.shortlist(PlanRun(plan, moment, Account((), lambda: 0.0))) is None
        assert compiled.shortlist(PlanRun(plan.without(frozenset(("trending",))), moment, Account())) is None
        assert compiled.shortlist(PlanRun(plan, moment, Account())) is not None

    answered(Config(limits=LIMITS), work)


def test_a_filter_that_fails_closes_the_slate_as_the_pipeline_does() -> None:
    """It is asked once more there, where its failure is kept: the kernel's way leaves none behind."""

    def failing(*_: object) -> Mask:
        message = "no"
        raise ValueError(message)

    def work(both: Both) -> None:
        fold, plan = both.rig.engine.fold, both.rig.engine.plan("default")
        fold.apply(LogPosition(0), random_events(400, 9, STREAM))
        compiled = both.rig.engine._answering.compiled._compiled(plan)
        assert isinstance(compiled, CompiledPlan)
        query = query_of(Ask(n=2), plan, "r", 1, TimestampMs(fold.log_time_ms))
        run = PlanRun(plan, fold.moment(query, plan.models), Account())
        run.account.timeline = []
        assert compiled.shortlist(run) is not None
        assert [each.name for each in run.account.timeline] == ["filter"]
        with patch.object(ExpressionFilter, "keep", failing):
            assert compiled.shortlist(run) is None
        assert not run.account.failures
        assert len(run.account.timeline) == 1, "the pipeline times it once more"

    placement = Placement(filter="item.available")
    answered(Config(limits=LIMITS, placements=(placement,)), work)


def by_code(config: Config, question: RecommendationBody, *events: Mapping[str, object]) -> int:
    """What the kernel says of a question after some events; the pipeline answers it from the same stamp."""
    found: list[int] = []

    async def work(both: Both) -> None:
        engine = both.rig.engine
        engine.fold.apply(LogPosition(0), stamped(both.rig, events))
        both.rig.now_ms = engine.fold.log_time_ms
        made = engine.encoded_slate(question, "default")
        assert isinstance(made, Stamp)
        assert not both.served
        answer = await engine.recommend(question.ask("default"), made)
        record = decode_body(both.served[0].body)
        assert (answer.request_id, record.seed, record.now_ms) == made[:3]
        compiled = engine._answering.compiled._compiled(engine.plan("default"))
        assert isinstance(compiled, CompiledPlan)
        ids = (question.user_id or "", question.session_id or "", "r")
        found.append(compiled.ask(ids, (question.items, question.exclude), question.n or 20, both.rig.now_ms))

    answered(config, work)
    return found[0]


def stamped(rig: Rig, events: Sequence[Mapping[str, object]]) -> EventBatch:
    """Events as the log has them."""
    batch = rig.batch(*events)
    rows = batch.rows.copy()
    rows["log_time_ms"] = START_MS + np.arange(len(rows))
    rows["event_time_ms"] = rows["log_time_ms"]
    return EventBatch(rows, batch.text)


def test_too_few_candidates_are_filled_by_the_pipeline() -> None:
    """Of three items, a slate of four is filled, and is short all the same."""
    acts = [view(f"i{number}") for number in range(3)]
    assert by_code(Config(limits=LIMITS), RecommendationBody(n=4), *acts) == TOO_FEW


@pytest.mark.parametrize("item", ['a"b', "a\\b", '"' * 128, '\\"\u00fc\u2028/\U0001f600'])
def test_ids_with_escapes_are_the_kernels(item: str) -> None:
    """A quote, a backslash, nothing else, and beside what JSON leaves as it is."""

    async def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), stamped(both.rig, [view(item)]))
        both.rig.now_ms = both.rig.engine.fold.log_time_ms
        assert await both.same(b'{"placement": "default", "n": 1}') == "compiled"

    answered(Config(limits=LIMITS), work)


def control(batch: EventBatch) -> EventBatch:
    """Events with a control character in place of each ~: no client may send one, and a log may have one."""
    return type(batch)(batch.rows, batch.text.replace(b"~", b"\x01"))


def test_after_unusual_texts_in_a_row_most_questions_are_the_pipelines() -> None:
    """Of 100 slates whose texts the kernel cannot write eight ask for them; of the others it makes the shortlist.

    Smaller ones, and those of another plan, are still asked for.
    """
    placements = Placement(slate_size=4), Placement(name="other", slate_size=4)

    async def work(both: Both) -> None:
        engine = both.rig.engine
        views = [view(item) for item in ("a", *("b", "c~") * 2, *"defg") for _ in range(9)]
        engine.fold.apply(LogPosition(0), control(stamped(both.rig, [*views, *[view("a")] * 5, *[view("b")] * 3])))
        both.rig.now_ms = engine.fold.log_time_ms
        compiled = engine._answering.compiled._compiled(engine.plan("default"))
        assert isinstance(compiled, CompiledPlan)
        with patch.object(compiled, "ask", side_effect=compiled.ask) as asked:
            ways = Counter([await both.same(b'{"placement": "default", "user_id": "ann"}') for _ in range(100)])
            assert ways == {"stamp": 8, "pipeline": 92}
            assert asked.call_count == 8
            with patch.object(compiled, "shortlist", side_effect=compiled.shortlist) as shortened:
                assert await both.same(b'{"placement": "default"}') == "pipeline"
            assert shortened.call_count == 1
            assert await both.same(b'{"placement": "default", "n": 1}') == "compiled"
            assert await both.same(b'{"placement": "other", "n": 1}') == "compiled"

    answered(Config(limits=LIMITS, placements=placements), work)


def test_scores_beyond_the_kernels_texts_are_written_by_the_pipeline() -> None:
    """The largest weight there may be over the smallest offset, and one that leaves little, are the kernel's."""
    for weight in (1e20, 1e-20):
        placement = Placement(sources=(Popular(),), weights={"popular": weight}, rank_offset=0.1)
        assert by_code(Config(limits=LIMITS, placements=(placement,)), RecommendationBody(n=1), view("i")) == UNUSUAL

    async def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), stamped(both.rig, [view("i")]))
        both.rig.now_ms = both.rig.engine.fold.log_time_ms
        assert await both.same(b'{"placement": "default", "n": 1}') == "compiled"

    for weight in (1e9, 1e-9):
        placement = Placement(sources=(Popular(),), weights={"popular": weight}, rank_offset=0.1)
        answered(Config(limits=LIMITS, placements=(placement,)), work)


def test_users_with_many_open_sessions_are_left_to_the_pipeline() -> None:
    """A query leaves out 64 sessions; of 64 the kernel answers, of 65 the pipeline."""
    limits = msgspec.structs.replace(LIMITS, sessions_max=100)
    acts = [view(f"i{number % 3}", session_id=f"s{number}") for number in range(65)]
    question = RecommendationBody(n=1, user_id="ann")
    assert by_code(Config(limits=limits), question, *acts) == UNUSUAL

    async def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), stamped(both.rig, acts[:64]))
        both.rig.now_ms = both.rig.engine.fold.log_time_ms
        assert await both.same(b'{"placement": "default", "n": 1, "user_id": "ann"}') == "compiled"

    answered(Config(limits=limits), work)


def test_a_question_with_too_many_bytes_is_for_the_pipeline() -> None:
    """1,000 excluded ids of 128 characters."""
    question = RecommendationBody(n=1, exclude=tuple(f"{number:0128d}" for number in range(1_000)))
    assert by_code(Config(limits=LIMITS), question, view("i")) == TOO_LONG


def test_a_swap_of_the_state_is_seen_at_once() -> None:
    """The next question is answered from the new state, and nothing holds the old one."""

    async def work(both: Both) -> None:
        engine, settings = both.rig.engine, Config(limits=LIMITS).fold_settings()
        batch = random_events(400, 3, STREAM)
        engine.fold.apply(LogPosition(0), batch)
        both.rig.now_ms = engine.fold.log_time_ms
        body = b'{"placement": "default", "user_id": "user-1", "n": 3}'
        assert await both.same(body) == "compiled"
        old = weakref.ref(engine.fold)
        other = Fold(settings)
        other.apply(LogPosition(0), random_events(400, 4, STREAM))
        engine.swap(other, engine.plans)
        del other
        gc.collect()
        assert old() is None
        assert await both.same(body) == "compiled"
        arrays = {name: each.copy() for name, each in engine.fold.arrays().items()}
        engine.fold.apply(LogPosition(400), type(batch)(batch.rows[:100], batch.text))
        engine.fold.restore(arrays)
        assert await both.same(body) == "compiled"

    answered(Config(limits=LIMITS), work)


def test_the_tables_keep_their_arrays() -> None:
    """A program reads the arrays that a table had when it was made: neither events nor a restore replace one."""
    fold = Fold(Config(limits=LIMITS).fold_settings())
    tables = (fold.sessions, fold.session_index, fold.pairs, fold.vocabulary, fold.vocabulary.aliases)

    def held() -> list[object]:
        found = [each for table in tables for each in table.columns]
        rings = fold.users.ring_columns
        return [*found, *fold.items.hot_columns, rings.ints, rings.tails, rings.at]

    def addresses() -> list[int]:
        flat = [part for each in held() for part in (each if isinstance(each, tuple) else (each,))]
        return [part.ctypes.data for part in flat if isinstance(part, np.ndarray)]

    before, positive = addresses(), fold.users.ring_columns.is_positive  # a copy of what never changes
    fold.apply(LogPosition(0), random_events(1_500, 5, STREAM))
    fold.restore({name: each.copy() for name, each in fold.arrays().items()})
    assert addresses() == before
    np.testing.assert_array_equal(positive, fold.users.is_positive)


def test_numbers_of_queries_run_out_on_both_ways() -> None:
    """All marks go once; neither way takes an old mark for its own."""

    async def work(both: Both) -> None:
        fold = both.rig.engine.fold
        fold.apply(LogPosition(0), random_events(1_000, 6, STREAM))
        both.rig.now_ms = fold.log_time_ms
        dice = np.random.default_rng(6)
        for _ in range(40):
            await both.same(random_question(dice, "default"))
        fold.session_index.epochs.last = fold.pairs.epochs.last = EPOCH_MAX - 7
        for _ in range(40):
            await both.same(random_question(dice, "default"))
        assert fold.session_index.epochs.last < 100
        assert both.ways["compiled"] == 0

    answered(Config(limits=LIMITS), work)


def test_a_slow_kernel_is_left_to_the_pipeline_for_a_while() -> None:
    """Its boundaries say which part is slow; after the time of a bench the kernel answers again.

    Where the machine stood still, the processor did not work for so long, and nothing comes of it.
    """
    clock, worked = [0.0], [0.0]

    async def work(both: Both) -> None:
        engine = both.rig.engine
        engine.fold.apply(LogPosition(0), random_events(400, 7, STREAM))
        question = RecommendationBody(placement="default", n=3)
        compiled = engine._answering.compiled._compiled(engine.plan("default"))
        assert isinstance(compiled, CompiledPlan)
        run = compiled._answer

        def slow(state: BoundState) -> int:
            clock[0] += 1.0
            return run(state)

        def working(state: BoundState) -> int:
            worked[0] += 1.0
            return slow(state)

        compiled._answer = slow
        for _ in range(3):
            assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
        compiled._answer = run
        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
        compiled._answer = working
        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
        assert engine.encoded_slate(question, "default") is None
        clock[0] += engine.guards.bench_s
        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)

    async def main() -> None:
        await work(Both(Rig(config=Config(limits=LIMITS), monotonic=lambda: clock[0], worked_s=lambda: worked[0])))

    asyncio.run(main())


def test_a_question_after_its_own_events_is_answered_by_the_kernel() -> None:
    """Events in the question, or a token that the state has: the reply says so as the pipeline's does."""

    async def work(rig: Rig) -> None:
        both = Both(rig)
        for number in range(8):
            await rig.engine.record(rig.batch(view(f"i{number}")))
        token = rig.engine.token(rig.engine.fold.log_position)
        body = {"placement": "default", "user_id": "ann", "n": 3, "min_log_position": token}
        assert await both.same(json.dumps(body).encode()) == "compiled"
        ahead = {**body, "min_log_position": rig.engine.token(LogPosition(rig.engine.fold.log_position + 1))}
        question = msgspec.convert(ahead, RecommendationBody)
        assert rig.engine.encoded_slate(question, "default") is None
        with patch.object(LiveState, "token_end", LogPosition(rig.engine.fold.log_position + 1)):  # in the log alone
            assert rig.engine.encoded_slate(question, "default") is None
        both.served.clear()

        async def record(events: bytes) -> EventsAnswer:
            await rig.engine.record(rig.batch(*json.loads(events)))
            return EventsAnswer(1, 0, (), log_position=rig.engine.token(rig.engine.fold.log_position))

        body["events"] = [{"type": "view", "user_id": "ann", "item_id": "i9"}]
        del body["min_log_position"]
        reply = (await Recommendations(rig.engine, record).from_body(json.dumps(body).encode())).body
        made = decode_body(both.served.pop().body)
        told = EventsAnswer(1, 0, (), log_position=rig.engine.token(LogPosition(made.log_position)))
        ask = Ask("default", user_id="ann", n=3, min_log_position=told.log_position)
        answer = await both.by_pipeline(ask, Stamp(made.request_id, made.seed, TimestampMs(made.now_ms), math.inf, 0.0))
        assert reply == msgspec.json.encode(slate_of(answer, told))
        served = rig.engine.metrics.text().decode()
        assert 'midstream_compiled_answers_total{placement="default"} 2.0' in served

    Rig(config=Config(limits=LIMITS), worked_s=lambda: 0.0).run(work)


def test_a_record_has_the_time_of_its_answer_on_both_ways() -> None:
    """From the admission of the question to the slate, by the clock of the engine; a stamp keeps its beginning."""
    now_s = [100.0]

    def clock() -> float:
        now_s[0] += 0.001
        return now_s[0]

    async def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), random_events(300, 9, STREAM))
        question = msgspec.convert({"placement": "default", "n": 3}, RecommendationBody)
        began_s = now_s[0]
        found = both.rig.engine.encoded_slate(question, "default")
        assert isinstance(found, EncodedSlate)
        (event,) = both.served
        took_us = decode_body(event.body).took_us
        assert took_us is not None
        assert 2_000 <= took_us <= round((now_s[0] - began_s) * 1e6)
        both.served.clear()
        stamp = Stamp("r", 7, TimestampMs(both.rig.now_ms), math.inf, now_s[0] - 5.0)
        for given in (None, stamp):
            await both.by_pipeline(question.ask("default"), given)
        times = [decode_body(each.body).took_us for each in both.served]
        assert times[0] is not None
        assert times[1] is not None
        assert 2_000 <= times[0] < 1_000_000
        assert 5_000_000 < times[1] < 6_000_000

    async def main() -> None:
        both = Both(Rig(config=Config(limits=LIMITS), monotonic=clock, worked_s=lambda: 0.0))
        await work(both)

    asyncio.run(main())


def test_a_watched_part_leaves_its_placement_to_the_pipeline() -> None:
    """A part on the bench is left out of an answer, which the kernel cannot."""

    def work(both: Both) -> None:
        engine = both.rig.engine
        engine.fold.apply(LogPosition(0), random_events(400, 8, STREAM))
        question = RecommendationBody(placement="default", n=3)
        engine.guards._watched["other", "trending"] = _Watched()
        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
        engine.guards._watched["default", "trending"] = _Watched()
        assert engine.encoded_slate(question, "default") is None

    answered(Config(limits=LIMITS), work)


def test_while_kernels_are_made_the_pipeline_answers() -> None:
    """From then on they do, without another plan or state."""
    kernels = (fold_run, make_tables, answer_question, make_state)

    async def work(both: Both) -> None:
        engine = both.rig.engine
        question = msgspec.json.encode({"placement": "default", "user_id": "user-1", "n": 3})
        with ExitStack() as stack:
            for each in kernels:
                stack.enter_context(patch.object(each, "is_pending", new=True))
            with patch.object(OnePass, "fold", side_effect=AssertionError("its kernel has no machine code")):
                engine.fold.apply(LogPosition(0), random_events(300, 1, STREAM))
            assert both.obstacle("default") == "its kernel is being compiled"
            assert await both.same(question) == "pipeline"
        usual = build([Event(Kind.TICK, log_time_ms=engine.fold.log_time_ms)])
        with patch.object(OnePass, "fold", return_value=True) as folded:
            engine.fold.apply(LogPosition(300), usual)
        assert folded.call_count == 1
        assert await both.same(question) == "compiled"

    answered(Config(limits=LIMITS), work)


def test_plans_with_other_parts_say_which() -> None:
    """The first part that a program has not."""
    told = {
        "pinned items": Placement(name="a", rules=(Pin(name="top", items=("item-1",), positions=(0,)),)),
        "source mine": Placement(name="b", sources=(RecentItems(name="mine"),)),
        "source trending": Placement(name="d", sources=(Trending(by_segment=True),)),
    }
    config = Config(
        limits=LIMITS,
        placements=tuple(told.values()),
        items=ItemsSection(attributes={"category": "category", "tags": "tags"}),
    )

    def work(both: Both) -> None:
        engine = both.rig.engine
        found = [both.obstacle(each.name) for each in told.values()]
        assert found == list(told)
        for name, plan in engine.plans.items():
            assert obstacle_of(plan, engine.fold) == both.obstacle(name), "what is told is what happens"

    answered(config, work)
