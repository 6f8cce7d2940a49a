"""Each source, the feature read and each scorer slow, raising or lying: an answer all the same, and in time.

Time is a number here: a part that computes spends it, one that waits lets the loop jump to it. So what is checked does
not depend on the machine.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import (
    Candidates,
    Column,
    FeatureFrame,
    Index,
    Mask,
    Models,
    Moment,
    Proposal,
    Query,
    Score,
    Selection,
    Served,
    Trace,
)
from midstream.engine.circuit_breaker import BENCHED, CircuitBreaker
from midstream.monitoring.metrics import Metrics
from midstream.ranking.boundary import LATE
from midstream.ranking.caller_items import said_of
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.fetched_columns import DeclaredFetch
from midstream.ranking.filters.available import Available
from midstream.ranking.frame import merge
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import SELECTOR, Plan
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.popular import Popular
from tests.support.frozen_shop import StillShop
from tests.support.virtual_loop import VirtualLoop

DEADLINE_S = 0.05
ITEMS = 30
POPULAR = Popular(limit=10)


@dataclass
class Fault:
    """What is wrong with a part: nothing while ``is_on`` is False."""

    spends_s: float = 0.0
    waits_s: float = 0.0
    clings_s: float = 0.0
    """How long it goes on after it was cancelled."""
    error: BaseException | None = None
    lie: str = ""
    is_on: bool = True
    calls: int = 0


OK = Fault(is_on=False)


class World:
    """A shop at rest, a loop in which time is a number, and the guards of an engine."""

    def __init__(self) -> None:
        self.shop = StillShop()
        for number in range(ITEMS):
            self.shop.put(f"i{number}", price=float(number), category="even" if number % 2 == 0 else "odd")
        for number in range(4):
            self.shop.act("view", "bob", *[f"i{number}"] * (5 - number))
        self.loop = VirtualLoop(lambda: 0.0)
        self.guards = CircuitBreaker(self.loop.time, Metrics(CollectorRegistry()))

    def close(self) -> None:
        """Let everybody who was cut off come to an end."""
        self.loop.run_until_complete(asyncio.sleep(10_000.0))
        self.loop.close()

    def begin(self, fault: Fault) -> bool:
        """A part begins: it spends its time and raises its error; returns whether it is to lie."""
        fault.calls += 1
        if not fault.is_on:
            return False
        self.loop.spend(fault.spends_s)
        if fault.error is not None:
            raise fault.error
        return bool(fault.lie)

    async def wait(self, fault: Fault) -> bool:
        """As ``begin``, of a part that may wait."""
        if fault.is_on and (fault.waits_s or fault.clings_s):
            try:
                await asyncio.sleep(fault.waits_s)
            except asyncio.CancelledError:
                await asyncio.sleep(fault.clings_s)
                if fault.error is not None:
                    raise fault.error from None
                raise
        return self.begin(fault)

    def answer(self, plan: Plan, deadline_s: float = DEADLINE_S) -> tuple[Served, float]:
        """Answer as the engine does; return what was served and the seconds that it took."""

        async def ask() -> tuple[Served, float]:
            began = self.loop.time()
            query = replace(self.shop.query(), user_id="stranger", slate_size=15)
            left_out = self.guards.left_out(plan)
            served = await recommend(
                plan, self.shop.moment, query, lambda: began + deadline_s - self.loop.time(), left_out, FetchCache()
            )
            self.guards.note(plan, served)
            return served, self.loop.time() - began

        return self.loop.run_until_complete(ask())

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def ids(self, served: Served) -> list[str]:
        """The ids of what was served."""
        return self.shop.ids(served.candidates.item_index[served.selection.chosen].tolist())

    def require_same_again(self, plan: Plan, served: Served) -> None:
        """The record, answered again by a plan in which nothing is wrong any more, gives the same."""
        record = decode_served(encode_served(served, self.ids(served)))
        again = asyncio.run(rerun(plan, self.shop.moment, record))
        assert self.ids(again) == self.ids(served)
        assert again.score.tolist() == served.score.tolist()
        assert (again.failures, again.tier, dict(again.retrieved)) == (
            served.failures,
            served.tier,
            dict(served.retrieved),
        )


@pytest.fixture(name="world")
def _world() -> Iterator[World]:
    with closing(World()) as world:
        yield world


@dataclass(frozen=True)
class FaultySource:
    world: World
    fault: Fault
    name: str = "shelf"

    def retrieve(self, moment: Moment) -> Proposal:
        index, score = np.array([7, 9, 5], np.int32), np.array([3, 2, 1], np.float32)
        if self.world.begin(self.fault):
            return {
                "duplicates": Proposal(np.array([7, 9, 7, 5, 5], np.int32), np.array([5, 4, 3, 2, 1], np.float32)),
                "out of range": Proposal(np.array([7, ITEMS], np.int32), score[:2]),
                "negative": Proposal(np.array([7, -1], np.int32), score[:2]),
                "masked": Proposal(np.ma.masked_array(np.array([7, ITEMS], np.int32), mask=True), score[:2]),
                "wrong length": Proposal(index, score[:2]),
                "wrong dtype": Proposal(cast("Index", index.astype(np.int64)), score),
                "NaN": Proposal(index, np.full(3, np.nan, np.float32)),
                "infinite": Proposal(index, np.full(3, np.inf, np.float32)),
            }[self.fault.lie]
        return Proposal(index, score)


@dataclass(frozen=True)
class FaultyBlock:
    world: World
    fault: Fault
    names: tuple[str, ...] = ("number",)

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        values = candidates.item_index.astype(np.float32)[:, None]
        if self.world.begin(self.fault):
            return {
                "NaN": np.full_like(values, np.nan),
                "infinite": np.full_like(values, np.inf),
                "wrong length": values[:-1],
                "wrong dtype": cast("Score", values.astype("S4")),
            }[self.fault.lie]
        return values


@dataclass(frozen=True)
class FaultyScorer:
    world: World
    fault: Fault
    name: str = "ranker"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        number = features.values[:, features.names.index("number")]
        score = np.where(np.isfinite(number), number, np.float32(0)).astype(np.float32)
        if await self.world.wait(self.fault):
            return {
                "NaN": np.full_like(score, np.nan),
                "infinite": np.full_like(score, np.inf),
                "wrong length": score[:-1],
                "wrong dtype": cast("Score", score.astype(np.complex64)),
                "masked": np.ma.masked_array(score, mask=True),
                "too large": cast("Score", np.full(len(score), 1e300)),
            }[self.fault.lie]
        return score


@dataclass(frozen=True)
class InstantScorer(FaultyScorer):
    """The same, which says that it never waits."""

    traits = BOUNDED


@dataclass(frozen=True)
class FaultyFilter:
    world: World
    fault: Fault
    name: str = "permitted"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        keep: Mask = candidates.item_index % 2 == 1
        if self.world.begin(self.fault):
            return {"wrong length": keep[:-1], "wrong dtype": cast("Mask", keep.astype(np.float32))}[self.fault.lie]
        return keep


@dataclass(frozen=True)
class FaultyFetch:
    world: World
    fault: Fault

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Column]:
        lies = await self.world.wait(self.fault)
        return {"mood": [None, 1.0] if lies else [1.0]}


@dataclass(frozen=True)
class FaultySelector:
    world: World
    fault: Fault

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        made = TopK().select(query, features, score)
        if self.world.begin(self.fault):
            rows, chances = made.chosen, made.propensity
            return {
                "duplicates": Selection(np.array([0, 0]), np.ones(2, np.float32)),
                "nothing": Selection(rows[:0], chances[:0]),
                "objects": Selection(cast("Any", rows.astype(object)), chances),
                "truths": Selection(cast("Any", rows > 0), chances),
                "masked": Selection(np.ma.masked_array(rows, mask=False), chances),
                "impossible": Selection(rows, cast("Score", np.full(len(rows), 1e-60))),
                "texts": Selection(rows, cast("Score", np.full(len(rows), "1.0"))),
                "no traces": Selection(rows, chances, cast("Any", None)),
                "traces of its own": Selection(rows, chances, (Trace("mine", ITEMS, 0, "moved by me"),)),
                "no selection": cast("Selection", None),
            }[self.fault.lie]
        return made


PARTS = ("shelf", "features", "ranker", "permitted", SELECTOR, "fetch")
IN_PROCESS = ("shelf", "features", "ranker", SELECTOR)


def plan_of(world: World, faults: Mapping[str, Fault] | None = None, *, waits: bool = False) -> Plan:
    """A plan of which each part has its fault; ``waits`` = the scorer is asked as one that may."""
    fault = dict.fromkeys(PARTS, OK) | dict(faults or {})
    fetch = FaultyFetch(world, fault["fetch"])
    return Plan(
        name="default",
        config_hash="c0ffee",
        fetches=(DeclaredFetch("fetch", "user", {"mood": "number"}, fetch, 0, 0.04, "fetch"),),
        sources=(FaultySource(world, fault["shelf"]),),
        floor=(POPULAR,),
        fill=Catalogue(),
        filters=(Available(), FaultyFilter(world, fault["permitted"])),
        features=(FaultyBlock(world, fault["features"]),),
        scorers=((FaultyScorer if waits else InstantScorer)(world, fault["ranker"]), Blend()),
        selectors=(FaultySelector(world, fault[SELECTOR]), TopK()),
        models=Models({}),
        fold_version="f01d",
    )


def named(served: Served) -> dict[str, str]:
    """What failed, and why."""
    return {each.component: each.reason for each in served.failures}


LIES = {
    "shelf": ("duplicates", "out of range", "negative", "masked", "wrong length", "wrong dtype", "NaN", "infinite"),
    "features": ("NaN", "infinite", "wrong length", "wrong dtype"),
    "ranker": ("NaN", "infinite", "wrong length", "wrong dtype", "masked", "too large"),
    "fetch": ("wrong length",),
    SELECTOR: (
        "duplicates",
        "nothing",
        "objects",
        "truths",
        "masked",
        "impossible",
        "texts",
        "no traces",
        "traces of its own",
        "no selection",
    ),
}
HARMLESS = {
    *(("shelf", lie) for lie in ("duplicates", "NaN", "infinite")),
    *(("features", lie) for lie in ("NaN", "infinite")),
    *((SELECTOR, lie) for lie in ("no traces", "traces of its own")),
}
"""What is answered with as it is: an item that came twice, a source's own numbers, what nobody knows, what a selector
says of rules."""


@pytest.mark.parametrize("part, lie", [(part, lie) for part, lies in LIES.items() for lie in lies])
@pytest.mark.parametrize("waits", [False, True])
def test_a_lie_costs_the_part_and_nothing_else(world, part, lie, waits):
    """Wrong lengths, types, numbers and repetitions: a full slate of permitted items, and the liar by name."""
    plan = plan_of(world, {part: Fault(lie=lie)}, waits=waits)
    served, took_s = world.answer(plan)
    assert took_s == 0
    assert set(named(served)) == (set() if (part, lie) in HARMLESS else {part})
    slate = world.ids(served)
    assert len(set(slate)) == len(slate) == 15
    assert all(int(each[1:]) % 2 == 1 for each in slate)
    assert np.isfinite(served.score[served.selection.chosen]).all()
    healed = plan_of(world, waits=waits) if (part, lie) not in HARMLESS else plan
    world.require_same_again(healed, served)


@dataclass(frozen=True)
class Writing:
    """A filter, a scorer and a selector that write to what they are given, as calls of NumPy do that work in place."""

    on: list[str]
    name: str = "own"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        if "filter" in self.on:
            candidates.item_index.sort()
            candidates.item_index[:] = 0
        return np.ones(len(candidates), np.bool_)

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        if "scorer" in self.on:
            features.values[:] = 7.0
        return np.arange(len(features.values), 0, -1).astype(np.float32)

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        if "selector" in self.on:
            score[:] = np.nan
        return TopK().select(query, features, score)


class WritingAtOnce(Writing):
    """The same, which says that it never waits, and not that its work is bounded."""

    traits = Traits(waits=False)


@pytest.mark.parametrize("kind", [Writing, WritingAtOnce])
@pytest.mark.parametrize("part", ["filter", "scorer", "selector"])
def test_what_a_part_of_ones_own_is_given_it_cannot_change(world, part, kind):
    """It has failed where it tries; whose columns they are sees them as they were, and nobody is served instead.

    Nothing passes a filter that failed; without the scorer and the selector the answer is what a rerun makes of it.
    """
    world.shop.put("i0", available=False)
    own = kind([part])
    plan = replace(plan_of(world), scorers=(own, Blend()), selectors=(own, TopK()))
    plan = replace(plan, filters=(Available(), replace(own, name="permitted")))
    served, _ = world.answer(plan)
    assert set(named(served)) == {{"filter": "permitted", "scorer": "own", "selector": SELECTOR}[part]}
    assert "read-only" in next(iter(named(served).values()))
    slate = world.ids(served)
    assert len(set(slate)) == len(slate) == (0 if part == "filter" else 15)
    assert "i0" not in slate
    if served.features is not None:
        assert served.features.values[:, 0].tolist() == served.candidates.item_index.tolist()
    own.on.clear()
    world.require_same_again(plan, served)


@dataclass(frozen=True)
class KeepingScorer:
    """Gives the same array each time, and writes to it when it is asked again."""

    kept: list[Score]
    name: str = "ranker"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        if not self.kept:
            self.kept.append(np.arange(len(features.values), 0, -1).astype(np.float32))
        self.kept[0] += 1
        return self.kept[0]


def test_scores_that_their_scorer_keeps_are_not_those_of_the_answer(world):
    """What was served says what it was scored by, whatever the scorer does to its array afterwards."""
    plan = replace(plan_of(world, waits=True), scorers=(KeepingScorer([]), Blend()))
    served, _ = world.answer(plan)
    before = served.score.tolist()
    world.answer(plan)
    assert served.score.tolist() == before


@pytest.mark.parametrize("part", IN_PROCESS)
@pytest.mark.parametrize("spends_s", [0.026, 0.049, 0.051, 3.0])
def test_a_part_that_overran_is_benched_after_the_first_time(world, part, spends_s):
    """It answered once, is left out from the next request on, named, and asked again after 10 s; then it is back."""
    fault = Fault(spends_s=spends_s)
    plan = plan_of(world, {part: fault})
    first, took_s = world.answer(plan)
    assert took_s == spends_s
    assert len(world.ids(first)) == 15
    assert set(named(first).values()) <= {LATE}
    calls = fault.calls
    (view,) = world.guards.views()
    assert (view.placement, view.part, view.state, view.for_s) == ("default", part, "benched", 10.0)
    assert f"{spends_s * 1_000:.0f} ms" in view.reason
    for _ in range(3):
        world.later(3.0)
        served, took_s = world.answer(plan)
        assert took_s == 0
        assert named(served) == {part: BENCHED}
        assert served.tier in {"reduced", "floor"}
        assert len(world.ids(served)) == 15
        world.require_same_again(plan, served)
    assert fault.calls == calls
    fault.is_on = False
    world.later(1.0)
    served, _ = world.answer(plan)
    assert named(served) == {}
    assert fault.calls > calls
    assert world.guards.views() == ()
    assert named(world.answer(plan)[0]) == {}


@pytest.mark.parametrize("part", IN_PROCESS)
def test_a_part_within_its_share_is_never_benched(world, part):
    """Half of the placement's deadline is right, however often, and whatever deadline the caller asked for."""
    plan = plan_of(world, {part: Fault(spends_s=0.024)})
    for deadline_s in (0.05, 0.001, 1.0, 0.03) * 5:
        served, _ = world.answer(plan, deadline_s)
        assert BENCHED not in named(served).values()
    assert world.guards.views() == ()


@pytest.mark.parametrize("part", IN_PROCESS)
def test_a_part_that_still_overruns_when_it_is_tried_stays_benched(world, part):
    """One request in 10 s pays for the try."""
    fault = Fault(spends_s=1.0)
    plan = plan_of(world, {part: fault})
    slow = 0
    began = world.loop.time()
    while world.loop.time() - began < 65:
        slow += world.answer(plan)[1] > DEADLINE_S
        world.later(0.1)
    assert slow == 6


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), SystemExit(3)])
@pytest.mark.parametrize("part", [part for part in PARTS if part != "permitted"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_part_that_is_cancelled_or_closed_on_its_own_has_failed(world, error, part, waits):
    """No answer is lost by it: the part is named, and benched as any other that keeps failing."""
    plan = plan_of(world, {part: Fault(waits_s=0.001 if waits else 0.0, error=error)}, waits=waits)
    for _ in range(5):
        served, _ = world.answer(plan)
        assert set(named(served)) == {part}
        assert type(error).__name__ in named(served)[part]
        assert len(world.ids(served)) == 15
        world.require_same_again(plan_of(world, waits=waits), served)
    assert named(world.answer(plan)[0]) == {part: BENCHED}


def test_a_filter_that_is_cancelled_lets_nothing_pass(world):
    """It has failed as any other that raises."""
    served, _ = world.answer(plan_of(world, {"permitted": Fault(error=asyncio.CancelledError())}))
    assert (world.ids(served), set(named(served))) == ([], {"permitted"})


@dataclass(frozen=True)
class SharingScorer:
    """Waits for one fetch in flight, which whoever comes first begins."""

    in_flight: list[asyncio.Task[None]]
    name: str = "ranker"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        if not self.in_flight:
            self.in_flight.append(asyncio.ensure_future(asyncio.sleep(1.0)))
        await self.in_flight[0]
        return np.ones(len(features.values), np.float32)


def test_a_fetch_that_others_share_is_cut_off_for_all_of_them(world):
    """The first one's time is over and cancels it; who came later has an answer as well, and names the part."""
    plan = replace(plan_of(world, waits=True), scorers=(SharingScorer([]), Blend()))

    async def ask(after_s: float) -> Served:
        await asyncio.sleep(after_s)
        until = world.loop.time() + DEADLINE_S
        return await recommend(
            plan, world.shop.moment, replace(world.shop.query(None), slate_size=15), lambda: until - world.loop.time()
        )

    async def many() -> tuple[Served, ...]:
        return await asyncio.gather(ask(0.0), ask(0.01), ask(0.02))

    first, *others = world.loop.run_until_complete(many())
    assert named(first) == {"ranker": "TimeoutError: no answer within 45 ms"}
    for each in others:
        assert named(each) == {"ranker": "RuntimeError: it ended in CancelledError though nobody cut it off"}
    assert {len(world.ids(each)) for each in (first, *others)} == {15}


@dataclass(frozen=True)
class LeavingScorer:
    """Cancels the task that it runs in, and gives scores all the same."""

    name: str = "ranker"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return np.ones(len(features.values), np.float32)


def test_a_part_that_cancels_its_own_task_cancels_no_request(world):
    """That task is the part's alone."""
    served, _ = world.answer(replace(plan_of(world, waits=True), scorers=(LeavingScorer(), Blend())))
    assert set(named(served)) == {"ranker"}
    assert len(world.ids(served)) == 15


@dataclass(frozen=True)
class PlainScorer:
    """Does its work before it gives something to wait for."""

    world: World
    fault: Fault
    name: str = "ranker"

    def score(self, query: Query, features: FeatureFrame, models: Models) -> Coroutine[Any, Any, Score]:
        self.world.begin(self.fault)
        return FaultyScorer(self.world, OK).score(query, features, models)


def test_what_a_part_that_waits_does_before_it_waits_is_its_own(world):
    """Its errors are named, and what it holds the thread for counts."""
    plan = plan_of(world, waits=True)
    cancelled = replace(plan, scorers=(PlainScorer(world, Fault(error=asyncio.CancelledError())), Blend()))
    assert set(named(world.answer(cancelled)[0])) == {"ranker"}
    slow = replace(plan, scorers=(PlainScorer(world, Fault(spends_s=0.03)), Blend()))
    assert named(world.answer(slow)[0]) == {}
    assert named(world.answer(slow)[0]) == {"ranker": BENCHED}


@pytest.mark.parametrize("part", ["ranker", "fetch"])
def test_a_request_of_which_the_caller_is_gone_ends(world, part):
    """Its cancellation is no failure of the part that it waits for, which is cut off with it."""
    fault = Fault(waits_s=0.02)
    plan = plan_of(world, {part: fault}, waits=True)

    async def ask() -> asyncio.Task[Served]:
        until = world.loop.time() + DEADLINE_S
        query, cache = replace(world.shop.query(), user_id="stranger"), FetchCache()
        answer = recommend(plan, world.shop.moment, query, lambda: until - world.loop.time(), cache=cache)
        task = asyncio.ensure_future(answer)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        return task

    assert world.loop.run_until_complete(ask()).cancelled()
    world.later(1.0)
    assert fault.calls == 0


def test_a_slow_filter_is_asked_on_and_named(world):
    """Without its yes nothing may pass, so it is never benched; health says that it is slow, as long as it is."""
    fault = Fault(spends_s=0.04)
    plan = plan_of(world, {"permitted": fault})
    for _ in range(3):
        served, _ = world.answer(plan)
        assert all(int(each[1:]) % 2 == 1 for each in world.ids(served))
        (view,) = world.guards.views()
        assert (view.part, view.state) == ("permitted", "slow")
    fault.is_on = False
    world.later(10.1)
    assert world.guards.views() == ()
    world.answer(plan)
    assert named(world.answer(plan)[0]) == {}


@pytest.mark.parametrize(
    "fault",
    [Fault(error=ValueError("x")), Fault(lie="wrong length"), Fault(lie="wrong dtype"), Fault(1.0, error=KeyError())],
)
def test_a_filter_that_fails_lets_nothing_pass_however_often(world, fault):
    """Eligibility fails closed: not after five times, nor when it is slow as well, is an item served that it was not
    asked about.
    """
    plan = plan_of(world, {"permitted": fault})
    for _ in range(12):
        served, _ = world.answer(plan)
        assert world.ids(served) == []
        assert "permitted" in named(served)
        assert BENCHED not in named(served).values()
        (view,) = world.guards.views()
        assert (view.part, view.state, view.for_s) == ("permitted", "failing", 10.0)
        assert view.reason == named(served)["permitted"]
        world.later(2.0)
    fault.is_on = False
    world.later(7.9)
    assert [each.state for each in world.guards.views()] == ["failing"]
    world.later(0.2)
    assert world.guards.views() == ()
    assert named(world.answer(plan)[0]) == {}


@pytest.mark.parametrize("part", IN_PROCESS)
def test_a_part_that_keeps_raising_is_benched_and_comes_back(world, part):
    """Five failures among the last ten; the reason is kept for health. One that heals is back after the first try."""
    fault = Fault(error=ValueError("its index is broken"))
    plan = plan_of(world, {part: fault})
    for _ in range(5):
        served, _ = world.answer(plan)
        assert named(served) == {part: "ValueError: its index is broken"}
    assert named(world.answer(plan)[0]) == {part: BENCHED}
    (view,) = world.guards.views()
    assert view.reason == "ValueError: its index is broken"
    world.later(10.0)
    assert named(world.answer(plan)[0]) == {part: "ValueError: its index is broken"}  # tried
    assert named(world.answer(plan)[0]) == {part: BENCHED}
    fault.is_on = False
    world.later(10.0)
    assert named(world.answer(plan)[0]) == {}
    assert world.guards.views() == ()


class Panic(BaseException):
    """As a library in Rust raises it: no ``Exception``."""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("error", [SystemExit(2), Panic("index out of bounds")])
@pytest.mark.parametrize("waits", [False, True])
def test_a_part_that_leaves_the_program_has_failed(world, part, error, waits):
    """``sys.exit`` of a part ends neither the loop nor the answer, awaited or not: it is that part's failure."""
    plan = plan_of(world, {part: Fault(error=error)}, waits=waits)
    served, _ = world.answer(plan)
    assert named(served) == {part: f"{type(error).__name__}: {error}"}
    assert len(world.ids(served)) == (0 if part == "permitted" else 15)
    world.require_same_again(plan, served)


@pytest.mark.parametrize("part", ["ranker", "fetch"])
def test_a_part_that_leaves_the_program_after_it_was_cut_off_is_nobody_s(world, part):
    """The loop goes on, and so do all who are answered meanwhile."""
    plan = plan_of(world, {part: Fault(waits_s=1.0, clings_s=1.0, error=SystemExit(2))}, waits=True)
    for _ in range(2):
        served, _ = world.answer(plan)
        assert "no answer within" in named(served)[part]
        world.later(5.0)
    assert world.loop.problems == []


@pytest.mark.parametrize("part", [*IN_PROCESS, "permitted"])
def test_what_ends_the_program_goes_through_every_part(world, part):
    """Ctrl-C while a part is at work is no failure of the part: whoever runs the loop hears of it."""
    with pytest.raises(KeyboardInterrupt):
        world.answer(plan_of(world, {part: Fault(error=KeyboardInterrupt())}))


@pytest.mark.parametrize("period, is_benched", [(3, False), (2, True)])
def test_one_failure_in_three_is_no_bench_and_every_other_one_is(world, period, is_benched):
    """What is counted are failures among the last ten, in a row or not."""
    fault = Fault(error=ValueError("now and then"))
    plan = plan_of(world, {"shelf": fault})
    for number in range(60):
        fault.is_on = number % period == 0
        world.answer(plan)
    assert bool(world.guards.views()) == is_benched


@pytest.mark.parametrize("part", ["ranker", "fetch"])
@pytest.mark.parametrize("waits_s", [0.06, 3_600.0])
@pytest.mark.parametrize("clings_s", [0.0, 5.0])
def test_a_part_that_waits_is_cut_off_in_time_then_left_out(world, part, waits_s, clings_s):
    """Every answer comes within the deadline and 5 ms, also when the part clings to its end; after five it is not
    asked, one request in 10 s tries it, and it is back when it answers.
    """
    fault = Fault(waits_s=waits_s, clings_s=clings_s)
    plan = plan_of(world, {part: fault}, waits=True)
    for _ in range(5):
        served, took_s = world.answer(plan)
        assert took_s <= DEADLINE_S + 0.005
        assert set(named(served)) == {part}
        assert "no answer within" in named(served)[part]
        assert len(world.ids(served)) == 15
        world.require_same_again(plan_of(world, waits=True), served)
    served, took_s = world.answer(plan)
    assert (named(served), took_s) == ({part: BENCHED}, 0)
    world.require_same_again(plan_of(world, waits=True), served)
    world.later(10.0)
    assert "no answer within" in named(world.answer(plan)[0])[part]
    assert named(world.answer(plan)[0]) == {part: BENCHED}
    fault.is_on = False
    world.later(10.0)
    assert named(world.answer(plan)[0]) == {}
    world.later(10.0)
    assert world.loop.problems == []


def test_one_request_tries_while_the_others_go_without(world):
    """Of twenty requests at once after the time of the bench one asks the part; a second one does if nothing comes."""
    fault = Fault(waits_s=3_600.0)
    plan = plan_of(world, {"ranker": fault}, waits=True)
    for _ in range(5):
        world.answer(plan)
    world.later(10.0)
    before = fault.calls

    async def ask() -> Served:
        until = world.loop.time() + DEADLINE_S
        query = world.shop.query(None)
        left_out = world.guards.left_out(plan)
        fault.waits_s = 0.01
        served = await recommend(plan, world.shop.moment, query, lambda: until - world.loop.time(), left_out)
        world.guards.note(plan, served)
        return served

    async def many() -> list[Served]:
        return await asyncio.gather(*(ask() for _ in range(20)))

    found = world.loop.run_until_complete(many())
    assert sorted(len(named(each)) for each in found) == [0] + [1] * 19
    assert fault.calls == before + 1
    assert named(world.answer(plan)[0]) == {}


def test_a_caller_in_a_hurry_benches_nobody(world):
    """A deadline of 1 ms cuts every part off: that says nothing of the parts."""
    plan = plan_of(world, {"fetch": Fault(waits_s=0.004), "ranker": Fault(waits_s=0.004)}, waits=True)
    for _ in range(20):
        served, took_s = world.answer(plan, 0.001)
        assert took_s <= 0.006
        assert BENCHED not in named(served).values()
    assert named(world.answer(plan)[0]) == {}


def test_a_part_that_waits_is_benched_at_once_when_it_keeps_the_thread(world):
    """Nothing can cut it off then, and all requests stand still: it is one that computes."""
    plan = plan_of(world, {"ranker": Fault(waits_s=0.001, spends_s=0.03)}, waits=True)
    world.answer(plan)
    assert named(world.answer(plan)[0]) == {"ranker": BENCHED}


def test_a_part_that_waits_leaves_a_tenth_of_the_time(world):
    """What comes after it, here 4 ms of the selector, is in time as well; where less is left it is not begun."""
    slow, selector = Fault(waits_s=1.0), Fault(spends_s=0.004)
    served, took_s = world.answer(plan_of(world, {"ranker": slow, "selector": selector}, waits=True))
    assert named(served) == {"ranker": "TimeoutError: no answer within 45 ms"}
    assert took_s == pytest.approx(0.049)
    source = Fault(spends_s=0.046)
    served, took_s = world.answer(plan_of(world, {"ranker": slow, "shelf": source}, waits=True))
    assert named(served)["ranker"] == LATE
    assert (slow.calls, took_s) == (0, pytest.approx(0.046))


def test_a_part_that_waits_for_long_holds_nobody_up(world):
    """The time of a part that gives way is the others': it is no overrun."""
    plan = plan_of(world, {"ranker": Fault(waits_s=0.044)}, waits=True)
    for _ in range(20):
        assert named(world.answer(plan)[0]) == {}


faults = st.builds(
    Fault,
    spends_s=st.sampled_from((0.0, 0.0, 0.01, 0.03, 0.2)),
    waits_s=st.sampled_from((0.0, 0.0, 0.01, 1.0)),
    clings_s=st.sampled_from((0.0, 0.5)),
    error=st.sampled_from((None, None, ValueError("x"), asyncio.CancelledError(), GeneratorExit())),
)


@given(
    st.dictionaries(st.sampled_from([part for part in PARTS if part != "permitted"]), faults),
    st.lists(st.sampled_from((0.0, 0.3, 4.0, 11.0)), min_size=1, max_size=12),
    st.booleans(),
)
@settings(max_examples=60)
def test_whatever_fails_the_slate_is_full_and_a_rerun_is_the_same(faults, pauses, waits):
    """Never an empty slate while eligible items exist and no filter failed; what waits costs no more than the deadline
    and 5 ms beside what was spent; everything left out is in the record.
    """
    with closing(World()) as world:
        plan = plan_of(world, faults, waits=waits)
        spent_s = sum(each.spends_s for each in faults.values())
        for pause in pauses:
            world.later(pause)
            served, took_s = world.answer(plan)
            if waits:
                assert took_s <= DEADLINE_S + 0.005 + spent_s
            assert len(world.ids(served)) == 15
            assert all(int(each[1:]) % 2 == 1 for each in world.ids(served))
            world.require_same_again(plan_of(world, waits=waits), served)


def test_a_rerun_asks_no_outside_system(world):
    """What it said then is in the record; where it failed then it is not asked either."""
    for fault in (Fault(is_on=False), Fault(error=ValueError("down"))):
        plan = plan_of(world, {"fetch": fault}, waits=True)
        served, _ = world.answer(plan)
        assert dict(served.query.context) == ({} if fault.is_on else {"mood": 1.0})
        assert fault.calls == 1
        world.require_same_again(plan, served)
        assert fault.calls == 1


def test_the_floor_is_asked_whatever_it_takes(world):
    """What is left to answer with is never benched."""
    plan = replace(plan_of(world), floor=(FaultySource(world, Fault(spends_s=1.0), "popular"),))
    for _ in range(3):
        served, _ = world.answer(plan)
        assert "popular" in served.retrieved
        assert BENCHED not in named(served).values()


def test_other_plans_give_every_part_another_chance(world):
    """A new configuration, or a new model, is asked at once."""
    plan = plan_of(world, {"shelf": Fault(spends_s=1.0)})
    world.answer(plan)
    assert world.guards.left_out(plan)
    assert world.guards.left_out(replace(plan, name="other")) == ()
    world.guards.forget()
    assert world.guards.left_out(plan) == ()


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=4))
def test_an_item_proposed_again_counts_at_its_first_place(lists):
    """Rows are distinct, and score and rank are those of a source's first proposal of the item."""
    proposals = {
        f"s{number}": Proposal(np.array(each, np.int32), -np.arange(len(each), dtype=np.float32))
        for number, each in enumerate(lists)
    }
    found = merge(proposals, 10)
    items = found.item_index.tolist()
    assert len(set(items)) == len(items)
    assert set(items) == {item for each in lists for item in each}
    for column, each in enumerate(lists):
        distinct = list(dict.fromkeys(each))
        for row, item in enumerate(items):
            assert found.source_rank[row, column] == (distinct.index(item) if item in distinct else -1)
            if item in distinct:
                assert found.source_score[row, column] == -each.index(item)
    assert list(said_of(found).values()) == [len(set(each)) for each in lists]
