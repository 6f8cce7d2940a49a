"""The engine remembers who overran, says so in health and metrics, and its records tell what was left out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from midstream.app.wiring import plans
from midstream.core.errors import RequestInvalid
from midstream.core.tracebacks import Raised
from midstream.core.traits import PROPOSES
from midstream.core.types import Failure, FeatureFrame, Models, Moment, Proposal, Query, Score, Served
from midstream.engine.circuit_breaker import BENCHED, CircuitBreaker, unchanged
from midstream.engine.types import Answer, Ask
from midstream.monitoring.facts import Fact, Facts
from midstream.monitoring.metrics import Metrics
from midstream.ranking.boundary import LATE, RaisedFailure
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.selectors.top_k import TopK
from midstream.state.fold import Fold
from tests.support.rig import SMALL, Rig, view


@dataclass
class Clock:
    """Stands until it is moved."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Slow:
    """A source whose work takes as long as is said beforehand."""

    clock: Clock
    spends_s: list[float] = field(default_factory=list[float])
    calls: list[float] = field(default_factory=list[float])
    name: str = "shelf"

    def retrieve(self, moment: Moment) -> Proposal:
        self.calls.append(self.clock.now)
        self.clock.now += self.spends_s.pop() if self.spends_s else 0.0
        return Proposal(np.array([0], np.int32), np.ones(1, np.float32))


@dataclass(frozen=True)
class SlowAndBounded(Slow):
    """The same, which says that it never waits."""

    traits = PROPOSES


async def answers(rig: Rig, count: int) -> list[Answer]:
    """Some slates."""
    return [await rig.engine.recommend(Ask(user_id="bob")) for _ in range(count)]


def put(rig: Rig, source: Slow) -> None:
    """Put plans with a source of its own in service."""
    made = {name: replace(plan, sources=(source, *plan.sources)) for name, plan in plans(SMALL).items()}
    rig.engine.swap(rig.engine.fold, made)


def test_an_engine_benches_names_and_tries_again() -> None:
    """After the first overrun the source is not asked for 10 s; health, metrics and the record say so; the record,
    run again by plans in which it would answer, gives the same slate.
    """
    clock = Clock()

    async def work(rig: Rig) -> None:
        source = Slow(clock, [0.3])
        put(rig, source)
        await rig.engine.record(rig.batch(view("mug", event_id="1"), view("cup", event_id="2")))
        first, second, third = await answers(rig, 3)
        assert first.tier == "reduced"  # what came behind it could not begin in time
        assert second.failures == third.failures == (Failure("shelf", "benched"),)
        assert len(source.calls) == 1
        (part,) = rig.engine.health().parts
        assert (part.placement, part.part, part.state, part.for_s) == ("default", "shelf", "benched", 10.0)
        assert part.reason == "it took 300 ms, at most 25 ms are right"
        assert rig.engine.health().ready
        text = rig.engine.metrics.text().decode()
        assert 'midstream_part_benched{part="shelf",placement="default"} 1.0' in text
        assert 'midstream_part_overruns_total{part="shelf"} 1.0' in text
        rig.engine.flush_served()
        await rig.engine.record(rig.batch({"type": "user", "user_id": "ann", "attributes": {}}))  # behind the records
        record = rig.engine.served(second.request_id)
        assert record is not None
        assert record.failures == second.failures
        plan = rig.engine.plan("default")
        again = await rerun(plan, lambda query: rig.engine.fold.moment(query, plan.models), record)
        assert rig.engine.fold.vocabulary.item_ids(again.candidates.item_index[again.selection.chosen]) == [
            item.id for item in second.items
        ]
        clock.now += 10.0
        assert [each.tier for each in await answers(rig, 2)] == ["full", "full"]
        assert rig.engine.health().parts == ()
        assert 'midstream_part_benched{part="shelf",placement="default"} 0.0' in rig.engine.metrics.text().decode()

    Rig(monotonic=clock).run(work)


def test_another_part_is_asked_at_once_and_the_same_one_is_not() -> None:
    """Whoever repaired a source does not wait for the end of its bench; whoever changes something else ends none."""
    clock = Clock()

    async def work(rig: Rig) -> None:
        source = Slow(clock, [0.3])
        put(rig, source)
        await rig.engine.record(rig.batch(view("mug", event_id="1")))
        await answers(rig, 2)
        (benched,) = rig.engine.health().parts
        put(rig, source)
        rig.engine.serve_models(Models({"other": Known("other", "v2")}))
        assert rig.engine.health().parts == (benched,)
        assert [each.failures for each in await answers(rig, 1)] == [(Failure("shelf", "benched"),)]
        assert len(source.calls) == 1
        put(rig, Slow(clock))
        assert rig.engine.health().parts == ()
        assert 'midstream_part_benched{part="shelf",placement="default"} 0.0' in rig.engine.metrics.text().decode()
        assert [each.failures for each in await answers(rig, 1)] == [()]

    Rig(monotonic=clock).run(work)


def test_another_state_gives_every_part_another_chance() -> None:
    """Who was slow over the one need not be over the other."""
    clock = Clock()

    async def work(rig: Rig) -> None:
        put(rig, Slow(clock, [0.3]))
        await answers(rig, 1)
        assert len(rig.engine.health().parts) == 1
        await rig.engine.hand_over(Fold(SMALL.fold_settings()), None)
        assert rig.engine.health().parts == ()

    Rig(monotonic=clock).run(work)


@pytest.mark.parametrize("is_bounded", [True, False])
@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("as_page", [True, False])
def test_a_machine_that_stands_still_benches_no_part_that_never_waits(
    *, is_bounded: bool, works: bool, as_page: bool
) -> None:
    """Time went by and the processor did not work for it; a part that may have waited is benched all the same."""
    clock = Clock()

    async def work(rig: Rig) -> None:
        put(rig, (SlowAndBounded if is_bounded else Slow)(clock, [0.3]))
        await rig.engine.record(rig.batch(view("mug", event_id="1")))
        if as_page:
            await rig.engine.page((Ask(user_id="bob"),))
        else:
            await answers(rig, 1)
        innocent = is_bounded and not works
        assert [each.part for each in rig.engine.health().parts] == ([] if innocent else ["shelf"])
        assert ("midstream_part_overruns_total{" in rig.engine.metrics.text().decode()) == (not innocent)

    Rig(monotonic=clock, worked_s=clock if works else lambda: 5.0).run(work)


@dataclass(frozen=True)
class Known:
    """A model of which only name and version are known."""

    name: str
    version: str


@dataclass(frozen=True)
class Reading:
    """A scorer that reads a model."""

    name: str = "ranker"
    model_names: tuple[str, ...] = ("clicks",)

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        return np.zeros(len(features.values), np.float32)


@dataclass(frozen=True)
class Arrays(Slow):
    """A part of one's own that cannot be compared: whether two arrays are equal is no one answer."""

    numbers: Score = field(default_factory=lambda: np.zeros(2, np.float32))


def test_what_is_unchanged_is_equal_has_as_much_time_and_the_same_models() -> None:
    """Of each kind of part; a comparison that fails says that it changed."""
    clock = Clock()
    models = Models({"clicks": Known("clicks", "v1")})
    made = plans(SMALL)["default"]
    plan = replace(
        made, sources=(Slow(clock),), scorers=(Reading(), *made.scorers), model_names=("clicks",), models=models
    )
    assert {*unchanged(plan, replace(plan, sources=(Slow(clock),), config_hash="other"))} == {*plan.part_names}
    changed = {
        "shelf": replace(plan, sources=(Slow(Clock(5.0)),)),
        "ranker": replace(plan, models=Models({"clicks": Known("clicks", "v2")})),
        "selector": replace(plan, selectors=(TopK(), *plan.selectors)),
        "available": replace(plan, filters=tuple(each for each in plan.filters if each.name != "available")),
    }
    for part, other in changed.items():
        assert {*plan.part_names} - {*unchanged(plan, other)} == {part}
    assert not {*unchanged(plan, replace(plan, deadline_ms=plan.deadline_ms + 1))}
    odd = replace(plan, sources=(Arrays(clock),))
    assert "shelf" in {*unchanged(odd, odd)}
    assert "shelf" not in {*unchanged(odd, replace(odd, sources=(Arrays(clock),)))}


def test_each_engine_has_its_own() -> None:
    """What one process finds slow another may find right: nothing is shared but the plans."""
    clock = Clock()

    async def work(rig: Rig) -> None:
        other = Rig(monotonic=clock)
        source = Slow(clock, [0.3])
        await other.engine.start()
        put(rig, source)
        put(other, source)
        await answers(rig, 1)
        assert [each.part for each in rig.engine.health().parts] == ["shelf"]
        assert other.engine.health().parts == ()
        await answers(other, 1)
        assert len(source.calls) == 2
        await answers(rig, 1)
        assert len(source.calls) == 2
        await other.engine.stop()

    Rig(monotonic=clock).run(work)


def test_a_request_that_is_refused_tries_nothing() -> None:
    """The one try after a bench is for a request that comes to the part."""
    clock = Clock()

    async def work(rig: Rig) -> None:
        source = Slow(clock, [0.3])
        put(rig, source)
        await rig.engine.record(rig.batch(view("mug", event_id="1")))
        await answers(rig, 2)
        clock.now += 10.0
        with pytest.raises(RequestInvalid):
            await rig.engine.recommend(Ask(user_id="bob", filter="item.nothing > 3"))
        assert [each.failures for each in await answers(rig, 1)] == [()]
        assert len(source.calls) == 2

    Rig(monotonic=clock).run(work)


def test_a_look_at_who_is_benched_tries_nothing() -> None:
    """What is only looked at goes without who is benched, and leaves the try to a request."""
    clock = Clock()

    async def work(rig: Rig) -> None:
        source = Slow(clock, [0.3])
        put(rig, source)
        await rig.engine.record(rig.batch(view("mug", event_id="1")))
        plan, guards = rig.engine.plan("default"), rig.engine.guards
        assert guards.benched(plan) == ()
        await answers(rig, 1)
        benched = (Failure("shelf", "benched"),)
        assert guards.benched(plan) == benched
        clock.now += 10.0
        assert guards.benched(plan) == benched
        assert guards.benched(replace(plan, sources=())) == guards.benched(replace(plan, name="other")) == ()
        assert [each.failures for each in await answers(rig, 1)] == [()]
        assert guards.benched(plan) == ()

    Rig(monotonic=clock).run(work)


class Bench:
    """Guards of one plan with the source ``shelf``, asked by hand: which requests try it, and how its answers went."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.guards = CircuitBreaker(self.clock, Metrics(CollectorRegistry()))
        made = plans(SMALL)["default"]
        self.plan = replace(made, sources=(Slow(self.clock), *made.sources))

    @property
    def is_benched(self) -> bool:
        return bool(self.guards.benched(self.plan))

    def may_ask(self) -> bool:
        """Whether the next request asks the source."""
        return Failure("shelf", BENCHED) not in self.guards.left_out(self.plan)

    def answer(self, reason: str = "", *, asked: bool = True) -> None:
        """An answer came, for which the source failed for some reason (empty = it did not), or that it was not in."""
        failures = (Failure("shelf", reason),) if reason else ()
        answered = SimpleNamespace(failures=failures, took_s={"shelf": 0.0} if asked else {})
        self.guards.note(self.plan, cast("Served", answered))


@pytest.mark.parametrize(
    "failed, is_benched",
    [({1, 4, 7, 10, 11}, False), ({2, 4, 6, 8, 11}, True), ({1, 2, 3, 4}, False), ({1, 2, 3, 4, 5}, True)],
)
def test_five_failures_among_the_last_ten_bench(failed: set[int], *, is_benched: bool) -> None:
    """The answer before the last ten counts no more, the oldest of the ten does."""
    bench = Bench()
    for number in range(1, max(failed) + 1):
        assert not bench.is_benched
        bench.answer("ValueError" if number in failed else "")
    assert bench.is_benched is is_benched


def benched() -> Bench:
    """A source that was benched ten seconds ago."""
    bench = Bench()
    for _ in range(5):
        bench.answer("ValueError")
    assert not bench.may_ask()
    bench.clock.now += 10.0
    return bench


@pytest.mark.parametrize("is_remote, bench_s", [(False, 10.0), (True, 3.0)])
def test_a_part_that_asks_a_server_is_tried_again_sooner(*, is_remote: bool, bench_s: float) -> None:
    """A try costs one request its scores, and a server that is back is to be used."""
    bench = Bench()
    bench.plan = replace(bench.plan, remote={"shelf": 1.0} if is_remote else {})
    for _ in range(5):
        bench.answer("TimeoutError")
    bench.clock.now += bench_s - 0.1
    assert not bench.may_ask()
    bench.clock.now += 0.1
    assert bench.may_ask()


def test_one_request_at_a_time_tries_a_benched_part() -> None:
    """Others are answered without it meanwhile, and let nobody else try by that; after ten seconds another may."""
    bench = benched()
    assert bench.may_ask()
    for _ in range(3):
        assert not bench.may_ask()
        bench.answer(BENCHED, asked=False)
    bench.clock.now += 10.0
    assert bench.may_ask()
    bench.answer()
    assert bench.may_ask()
    assert not bench.is_benched


def test_a_try_that_did_not_come_to_the_part_is_the_next_requests() -> None:
    """A request that was late before it came to the part has said nothing of it."""
    bench = benched()
    assert bench.may_ask()
    bench.answer(LATE, asked=False)
    assert bench.is_benched
    assert bench.may_ask()
    bench.answer("ValueError")
    assert bench.is_benched
    assert not bench.may_ask()


def noted_in_a_day(fail: Callable[[Bench, int], None]) -> list[Fact]:
    """The lines about a source that fails whenever it is tried, which is every ten seconds."""
    bench = Bench()
    facts = Facts(bench.clock)
    bench.guards = CircuitBreaker(bench.clock, Metrics(CollectorRegistry()), facts=facts)
    lines: list[Fact] = []
    for number in range(8_640):
        bench.may_ask()
        fail(bench, number)
        lines += facts.due()
        bench.clock.now += 10.0
    return lines + facts.due(all_of_them=True)


def overrun(bench: Bench, number: int) -> None:
    """An answer took so long as none before."""
    answered = SimpleNamespace(failures=(), took_s={"shelf": 0.1 + number / 1_000})
    bench.guards.note(bench.plan, cast("Served", answered))


def raise_at_a_place(bench: Bench, number: int) -> None:
    """A component raised, each time with another text."""
    failure = RaisedFailure("shelf", f"KeyError: {number}", Raised("KeyError", (("shelf.py", 19, "retrieve"),)))
    answered = SimpleNamespace(failures=(failure,), took_s={"shelf": 0.0})
    bench.guards.note(bench.plan, cast("Served", answered))


@pytest.mark.parametrize("fail", [overrun, raise_at_a_place])
def test_a_part_that_fails_for_a_day_is_a_few_lines(fail: Callable[[Bench, int], None]) -> None:
    """Numbers in a reason make no kind of its own: the period of its lines doubles; how often it was is all there."""
    lines = [each for each in noted_in_a_day(fail) if each.event == "part_benched"]
    assert len(lines) <= 32
    assert sum(each.count for each in lines) > 8_000


def test_errors_of_two_places_are_two_lines() -> None:
    """One that began an hour later than another of its type is not hidden by it."""
    bench = Bench()
    facts = Facts(bench.clock)
    guards = CircuitBreaker(bench.clock, Metrics(CollectorRegistry()), facts=facts)
    for line in (19, 23):
        failure = RaisedFailure("shelf", "KeyError: 1", Raised("KeyError", (("shelf.py", line, "retrieve"),)))
        guards.note(bench.plan, cast("Served", SimpleNamespace(failures=(failure,), took_s={"shelf": 0.0})))
    assert [str(each.raised) for each in facts.due()] == [f"KeyError at shelf.py:{line} retrieve" for line in (19, 23)]
