"""Compiled plans at the ends of their room and of their time: long histories, slow calls, filters behind the kernel."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import msgspec
import numpy as np

from midstream.app.config.schema import Config, Placement
from midstream.core.traits import BOUNDED
from midstream.core.types import Candidates, LogPosition, Mask, Moment, TimestampMs
from midstream.engine.answer.compiled_slates import EncodedSlate
from midstream.engine.answer.query_mapping import query_of
from midstream.engine.types import Ask
from midstream.ranking.boundary import Account
from midstream.ranking.compiled.back_off import BackOff
from midstream.ranking.compiled.compiled_plan import TOO_LONG, CompiledPlan, compiled_plan
from midstream.ranking.compiled.decision_kernel import ANSWERED
from midstream.ranking.compiled.program import NotCompiled
from midstream.ranking.filters.acted import Acted
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.shortlist import shortlist
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.popular import Popular
from midstream.retrieval.session_knn import SessionKnn
from midstream.serving.slates.recommendations import RecommendationBody
from midstream.state.pairs import covisitation_query
from midstream.state.sessions import session_query
from tests.engine.answer.test_compiled_slates import LIMITS, STREAM, Both, answered, stamped
from tests.support.events import Stream, random_events
from tests.support.rig import Rig

HISTORY = 2_200
"""Items of a user: more than twice as many as a query reads, so that its tables would be full."""


def long_history(rig: Rig) -> None:
    """Ann saw each of many items once; others saw her newest ones, and each beside it one of her oldest."""
    acts: list[dict[str, object]] = [
        {"type": "view", "user_id": "ann", "item_id": f"i{number}"} for number in range(HISTORY)
    ]
    acts += [
        {"type": "view", "user_id": f"bob-{number}", "item_id": f"i{item}"}
        for number in range(30)
        for item in (HISTORY - 1, number, HISTORY - 2, number + 1)
    ]
    rig.engine.fold.apply(LogPosition(0), stamped(rig, acts))
    rig.now_ms = rig.engine.fold.log_time_ms + 86_400_000  # her session is over: her history stands in for it


def long_history_config() -> Config:
    """Sources that read as much of a history as there is, and leave it out."""
    limits = msgspec.structs.replace(
        LIMITS, users_max=40, items_max=HISTORY + 10, click_items_max=HISTORY + 10, user_ring_max=HISTORY
    )
    knn = SessionKnn(history_items_max=HISTORY, allow_session_items=False)
    pairs = Covisitation(history_items_max=HISTORY, allow_session_items=False)
    return Config(limits=limits, placements=(Placement(sources=(knn, pairs, Popular(limit=30))),))


def test_a_history_is_read_as_far_as_queries_read() -> None:
    """Both sources leave out the last 1,024 items alone, as slates and in shortlists; nothing is written elsewhere."""
    assert session_query.RECENT_MAX == covisitation_query.RECENT_MAX

    async def work(both: Both) -> None:
        engine = both.rig.engine
        long_history(both.rig)
        beyond = np.zeros((1 << 14, 2), dtype=np.int64)
        cells = len(engine.fold.pairs._scratch.items)
        engine.fold.pairs._scratch = engine.fold.pairs._scratch._replace(items=beyond[:cells])
        for size in (1, 5, 12):
            assert await both.same(b'{"placement": "default", "user_id": "ann", "n": %d}' % size) == "compiled"
        plan = engine.plan("default")
        compiled = engine._answering.compiled._compiled(plan)
        assert isinstance(compiled, CompiledPlan)
        query = query_of(Ask(user_id="ann", n=5), plan, "r", 1, TimestampMs(both.rig.now_ms))
        run = PlanRun(plan, engine.fold.moment(query, plan.models), Account())
        one, other = compiled.shortlist(run), shortlist(run)
        assert one is not None
        assert one.retrieved == other.retrieved
        assert one.retrieved["covisitation"] > 3
        np.testing.assert_array_equal(one.candidates.item_index, other.candidates.item_index)
        assert not beyond[cells:].any()

    answered(long_history_config(), work)


def test_parts_beyond_the_room_of_a_query_have_no_program() -> None:
    """Options of parts that Python code makes have no bounds; a plan that is too large for the kernel says which."""
    told: dict[str, SessionKnn | Covisitation] = {
        "last_items_max = 51": SessionKnn(last_items_max=51),
        "neighbours_max = 1001": SessionKnn(neighbours_max=1_001),
        "limit = 1001": Covisitation(limit=1_001),
        "limit = -1": Covisitation(limit=-1),
    }

    def work(both: Both) -> None:
        fold, plan = both.rig.engine.fold, both.rig.engine.plan("default")
        for reason, source in told.items():
            found = compiled_plan(replace(plan, sources=(source,)), fold)
            assert isinstance(found, NotCompiled)
            assert found.reason.startswith(f"{reason} of source 0"), found.reason
        most = SessionKnn(last_items_max=50, neighbours_max=1_000, limit=1_000)
        assert isinstance(compiled_plan(replace(plan, sources=(most,)), fold), CompiledPlan)
        many = tuple(Popular(name=f"p{number}") for number in range(17))
        for larger in (replace(plan, sources=many, floor=()), replace(plan, slate_size_max=16_384)):
            found = compiled_plan(larger, fold)
            assert isinstance(found, NotCompiled)
            assert "are right" in found.reason

    answered(Config(limits=LIMITS), work)


def test_the_largest_question_fits() -> None:
    """200 items and 1,000 excluded ones, as over HTTP; of one more there is no room."""

    async def work(both: Both) -> None:
        engine = both.rig.engine
        engine.fold.apply(LogPosition(0), random_events(600, 7, STREAM))
        both.rig.now_ms = engine.fold.log_time_ms
        items = [f"item-{number % 3}" for number in range(200)]
        exclude = [f"gone-{number}" for number in range(1_000)]
        body = {"placement": "default", "user_id": "user-1", "session_id": "s", "items": items, "exclude": exclude}
        assert await both.same(json.dumps({**body, "n": 3}).encode()) == "compiled"
        compiled = engine._answering.compiled._compiled(engine.plan("default"))
        assert isinstance(compiled, CompiledPlan)
        ids = ("user-1", "s", "r")
        assert compiled.ask(ids, (items, exclude), 3, both.rig.now_ms) == ANSWERED
        assert compiled.ask(ids, (items, [*exclude, "more"]), 3, both.rig.now_ms) == TOO_LONG

    answered(Config(limits=LIMITS), work)


@dataclass(frozen=True)
class Counting:
    """A filter of one's own that lets everything pass and counts its calls, whatever it declares."""

    calls: list[int] = field(default_factory=list[int])
    name: str = "mine"
    traits = BOUNDED

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        self.calls.append(len(candidates))
        return np.ones(len(candidates), dtype=np.bool_)


def test_filters_of_ones_own_are_asked_once() -> None:
    """A plan with one has no program: where too few pass, the pipeline would ask it again."""

    async def work(both: Both) -> None:
        engine, rule = both.rig.engine, Counting()
        engine.fold.apply(LogPosition(0), random_events(400, 7, STREAM))
        plan = engine.plan("default")
        made = replace(plan, filters=(*plan.filters, rule), own=frozenset((rule.name,)))
        engine.swap(engine.fold, {"default": made})
        await engine.recommend(Ask(n=100))
        assert len(rule.calls) == 2, "of what was proposed, and of the catalogue"
        assert both.obstacle("default") == "filter mine"

    answered(Config(limits=LIMITS), work)


@contextmanager
def spending(clock: list[float], seconds: float, of: type[Acted | Catalogue], name: str) -> Iterator[list[float]]:
    """Let a method of a part take some seconds of a clock; yield when it was called."""
    run, calls = getattr(of, name), list[float]()

    def slowly(*arguments: object) -> object:
        calls.append(clock[0])
        clock[0] += seconds
        return run(*arguments)

    with patch.object(of, name, slowly):
        yield calls


def with_clock(config: Config, work: Callable[[Rig, list[float]], object]) -> None:
    """Run work with an engine of which clock and processor go only where they are moved."""
    clock = [100.0]

    async def main() -> None:
        rig = Rig(config=config, monotonic=lambda: clock[0], worked_s=lambda: clock[0])
        rig.engine._outbox.add = lambda _: None  # type: ignore[assignment,method-assign]
        found = work(rig, clock)
        if asyncio.iscoroutine(found):
            await found

    asyncio.run(main())


def test_a_filter_that_is_asked_on_both_ways_is_judged_by_one() -> None:
    """10 ms three times, where 25 are right: too few passed, and the pipeline began again. Nothing was slow."""
    limits = msgspec.structs.replace(LIMITS, items_max=1_000, click_items_max=1_000)
    config = Config(limits=limits, placements=(Placement(exclude={"purchase": "30d"}),))

    async def work(rig: Rig, clock: list[float]) -> None:
        rig.engine.fold.apply(LogPosition(0), random_events(600, 7, Stream(items=90)))
        rig.now_ms = rig.engine.fold.log_time_ms
        for size, times in ((5, 1), (85, 3)):
            with spending(clock, 0.01, Acted, "keep") as calls:
                await rig.engine.recommend(Ask(user_id="user-1", n=size))
            assert len(calls) == times
            assert rig.engine.guards.views() == ()
        with spending(clock, 0.03, Acted, "keep"):
            await rig.engine.recommend(Ask(user_id="user-1", n=5))
        (slow,) = rig.engine.guards.views()
        assert (slow.part, slow.state) == ("acted", "slow")

    with_clock(config, work)


def test_a_report_that_is_over_keeps_no_kernel_away() -> None:
    """One fill took long, and no fill came after it: after 10 s the kernel answers again, and nothing is watched."""

    async def work(rig: Rig, clock: list[float]) -> None:
        engine, question = rig.engine, RecommendationBody(placement="default", n=3)
        engine.fold.apply(LogPosition(0), random_events(400, 7, STREAM))
        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
        with spending(clock, 0.03, Catalogue, "retrieve"):
            await engine.recommend(Ask(n=100))
        (slow,) = engine.guards.views()
        assert slow.state == "slow"
        assert engine.encoded_slate(question, "default") is None
        clock[0] += engine.guards.bench_s - 0.1
        assert engine.encoded_slate(question, "default") is None
        clock[0] += 0.1
        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
        assert not engine.guards._watched

    with_clock(Config(limits=LIMITS), work)


def test_a_kernel_that_is_slow_now_and_then_is_left_to_the_pipeline() -> None:
    """A fast call after a slow one clears nothing; slow calls further apart than a bench are counted alone."""

    async def work(rig: Rig, clock: list[float]) -> None:
        engine, question = rig.engine, RecommendationBody(placement="default", n=3)
        engine.fold.apply(LogPosition(0), random_events(400, 7, STREAM))
        compiled = engine._answering.compiled._compiled(engine.plan("default"))
        assert isinstance(compiled, CompiledPlan)
        run, spends = compiled._answer, list[float]()

        def as_said(state: object) -> int:
            clock[0] += spends.pop()
            return run(state)  # type: ignore[arg-type]

        compiled._answer = as_said

        def ways(*seconds: float) -> list[bool]:
            found: list[bool] = []
            for each in seconds:
                spends[:] = [each]
                found.append(isinstance(engine.encoded_slate(question, "default"), EncodedSlate))
            return found

        assert ways(1.0, 0.001, 9.0) == [True] * 3
        clock[0] += engine.guards.bench_s
        assert ways(1.0, 0.001, 0.001, 1.0, 0.001) == [True, True, True, True, False]
        said = engine.metrics.text().decode()
        assert 'midstream_compiled_overruns_total{placement="default"} 4.0' in said

    with_clock(Config(limits=LIMITS), work)


def test_small_catalogues_skip_the_kernel() -> None:
    """Of 100 slates that sources cannot fill, eight ask it first; smaller ones all do."""

    async def work(both: Both) -> None:
        engine = both.rig.engine
        engine.fold.apply(LogPosition(0), random_events(600, 7, Stream(items=15)))
        both.rig.now_ms = engine.fold.log_time_ms
        compiled = engine._answering.compiled._compiled(engine.plan("default"))
        assert isinstance(compiled, CompiledPlan)
        for size, times in ((20, 8), (2, 100)):
            with patch.object(compiled, "_answer", side_effect=compiled._answer) as asked:
                for _ in range(100):
                    way = await both.same(b'{"placement": "default", "user_id": "user-1", "n": %d}' % size)
                    assert way == ("stamp" if size == 20 else "compiled")
            assert asked.call_count == times

    answered(Config(limits=LIMITS), work)


def test_a_slate_that_was_filled_once_skips_nothing() -> None:
    """Nor one that is filled every other time: what is proposed depends on who asks."""
    found = BackOff()
    for _ in range(20):
        found.note(20, answered=False)
        assert not found.skips(20)
        found.note(20, answered=True)
        assert not found.skips(20)
    skipped = 0
    for _ in range(1_000):
        if found.skips(20):
            skipped += 1
        else:
            found.note(20, answered=False)
    assert 950 < skipped < 970
    assert not found.skips(19)


def test_plans_share_one_room_and_a_larger_one_gets_its_own() -> None:
    """Questions to both, in turns; what is not changed by a swap is kept, another state holds nothing of the old."""
    placements = (
        Placement(name="small", sources=(Popular(limit=8),), slate_size_max=8, slate_size=4),
        Placement(name="large", sources=(SessionKnn(), Covisitation(), Popular(limit=40)), slate_size=4),
        Placement(name="small2", sources=(Popular(limit=7),), slate_size_max=7, slate_size=4),
    )

    async def work(both: Both) -> None:
        engine = both.rig.engine
        slates = engine._answering.compiled
        engine.fold.apply(LogPosition(0), random_events(600, 7, STREAM))
        both.rig.now_ms = engine.fold.log_time_ms
        for _ in range(3):
            for each in placements:
                body = b'{"placement": "%b", "user_id": "user-3"}' % each.name.encode()
                assert await both.same(body) == "compiled"
        small, large, small2 = (slates._compiled(engine.plan(each.name)) for each in placements)
        assert isinstance(small, CompiledPlan)
        assert isinstance(large, CompiledPlan)
        assert isinstance(small2, CompiledPlan)
        shared = [large.room, small2.room]
        assert all(np.shares_memory(*(getattr(room, name) for room in shared)) for name in ("keys", "text", "arena"))
        assert not np.shares_memory(small.room.keys, large.room.keys)
        changed = {**engine.plans, "small": replace(engine.plan("small"))}
        engine.swap(engine.fold, changed)
        assert slates._compiled(engine.plan("large")) is large
        assert slates._compiled(engine.plan("small")) is not small
        assert await both.same(b'{"placement": "small", "user_id": "user-3"}') == "compiled"

    answered(Config(limits=LIMITS, placements=placements), work)
