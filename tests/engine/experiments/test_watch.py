"""Watch of running experiments: stops what does harm by itself, once, with its figures, and nothing else."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.app.inspect import experiment_units
from midstream.app.inspect.experiment_report import report_of
from midstream.app.inspect.experiment_units import ExperimentSpan, read_units
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of, open_running
from midstream.core.errors import NotFound
from midstream.core.types import LogPosition, Served
from midstream.engine.answer.answering import Answering
from midstream.engine.experiments import running_units
from midstream.engine.experiments import watch as watch_module
from midstream.engine.experiments.designs import metrics_of
from midstream.engine.experiments.live_report import KEPT_S, ExperimentReports, LiveReport
from midstream.engine.experiments.running_units import RunningUnits
from midstream.engine.experiments.views import RampOrder, StartOrder, VariantOrder
from midstream.engine.experiments.watch import ExperimentWatch
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import Said
from midstream.engine.types import Ask
from midstream.evaluation.experiments.grouping import UnitTable
from midstream.evaluation.experiments.guardrails import GuardrailVerdict
from midstream.events.json.decode import decode_objects
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.reallocation import first_shares
from midstream.experiments.routing import experiments_in
from tests.support.fakes.rebuilds import write_config

T = TypeVar("T")
HOME = '[[placements]]\nname = "home"\nslate_size = 5\ndeadline = "10s"\n[[placements.sources]]\nkind = "popular"\n'
SAID = Said("ann")
STOP_S_MAX = 5.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one placement."""
    write_config(tmp_path, HOME)
    return tmp_path


def run(folder: Path, work: Callable[[Instance], Awaitable[T]], *, watches: bool = True) -> T:
    """Open a folder, do the work beside it, and return what the work returned.

    Args:
        folder: Of the configuration and the data.
        work: To be done.
        watches: Whether the watch looks by itself; else ``work`` has it look.
    """

    async def main() -> T:
        running = open_running(folder, config_of(folder))
        if not watches:
            running = replace(running, services=tuple(each for each in running.services if each is not running.watch))
        await running.start()
        try:
            return await work(running)
        finally:
            await running.stop()

    return asyncio.run(main())


async def record(running: Instance, events: list[dict[str, Any]]) -> None:
    """Make events durable and fold them."""
    await running.engine.record(decode_objects(events, running.service.accept).batch)


async def stocked(running: Instance) -> None:
    """Have nine items."""
    await record(running, [{"type": "view", "user_id": "u", "item_id": f"i{number}"} for number in range(9)])


async def served(running: Instance, users: list[str]) -> dict[str, str]:
    """Answer some users; return the variant of each, once their records are in the log and folded."""
    found = {user: (await running.engine.recommend(Ask("home", user_id=user))).variant for user in users}
    running.engine.flush_served()
    await record(running, [{"type": "view", "user_id": "nobody", "item_id": "i0"}])
    await running.engine.reached(running.engine.log.end, 10.0)
    return found


async def dismissed(running: Instance, users: list[str]) -> None:
    """Have some users dismiss an item each."""
    await record(running, [{"type": "dismiss", "user_id": user, "item_id": "i1"} for user in users])


def watch_of(running: Instance) -> ExperimentWatch:
    """Return the watch of an instance."""
    assert running.watch is not None
    return running.watch


def order(*names: str, **more: Any) -> StartOrder:
    """Return the order of an experiment of some variants."""
    return StartOrder("home", tuple(VariantOrder(each) for each in names), **more)


USERS = [f"user-{number}" for number in range(280)]


def test_a_broken_guardrail_stops_its_experiment_within_five_seconds(folder: Path) -> None:
    """From its being in the log: by the running service, with the figures kept; a start afterwards changes nothing."""
    told: list[str] = []

    async def work(running: Instance) -> None:
        await stocked(running)
        watch_of(running).listen(told.append)
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        had = await served(running, USERS)
        assert running.experimenting.view("size").state == "running"
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])
        end = running.engine.log.end
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(60):
            while not told:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        took_s = asyncio.get_running_loop().time() - began
        assert took_s <= STOP_S_MAX
        view = running.experimenting.view("size")
        assert (view.state, view.stopped_by, view.author) == ("stopped", "watch", "midstream")
        (harm,) = view.harms
        few = sum(variant == "few" for variant in had.values())
        assert (harm.variant, harm.metric, harm.treated_units, harm.harm_max) == ("few", "dismiss", few, 0.1)
        assert harm.control_units == len(USERS) - few
        assert harm.harm is None  # no unit of the control has any
        assert harm.log_position >= end
        assert "100.00% of units" in harm.reason
        assert view.reason == harm.reason
        assert {(await running.engine.recommend(Ask("home", user_id=each))).experiment for each in USERS[:9]} == {""}
        assert told == ["size"]

    async def again(running: Instance) -> int:
        await watch_of(running).look()
        assert running.experimenting.view("size").version == 2
        return int(running.engine.fold.placements.versions("@experiment/size")[-1].version)

    run(folder, work)
    assert run(folder, again) == 2


LATENCY = ExperimentMetric(
    "latency", "latency_us", "ratio", per="timed_slates", better="lower", role="guardrail", harm_max=0.5
)


def test_a_slow_variant_is_stopped_by_its_latency(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the times in the served records: one that takes twice as long is stopped, and an equal one is not."""
    dice, slow = np.random.default_rng(5), {"home@time.slow": 2.0}

    def timed(_: Answering, served: Served, began_s: float) -> Served:
        assert began_s > 0
        took_us = 20_000 * slow.get(served.query.placement, 1.0) * dice.lognormal(0.0, 0.3)
        return replace(served, took_us=round(took_us))

    monkeypatch.setattr(Answering, "_timed", timed)
    metrics = (ExperimentMetric("ordered", "purchase", role="primary"), LATENCY)

    async def work(running: Instance) -> None:
        await stocked(running)
        watch = watch_of(running)
        equal = StartOrder("home", (VariantOrder("a"), VariantOrder("b")), metrics=metrics)
        await running.experimenting.start("equal", equal, SAID)
        await served(running, USERS)
        await watch.look()
        assert running.experimenting.view("equal").state == "running"
        await running.experimenting.stop("equal", "seen", SAID)
        variants = (VariantOrder("as-is"), VariantOrder("slow"))
        await running.experimenting.start("time", StartOrder("home", variants, metrics=metrics), SAID)
        had = await served(running, USERS)
        assert set(had.values()) == {"as-is", "slow"}
        await watch.look()
        view = running.experimenting.view("time")
        assert (view.state, view.stopped_by) == ("stopped", "watch")
        (harm,) = view.harms
        assert (harm.variant, harm.metric, harm.judged) == ("slow", "latency", "metric")
        assert harm.harm == pytest.approx(1.0, abs=0.15)

    run(folder, work, watches=False)


def test_a_live_report_is_that_of_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same figures to the last digit but for the past of units; given again for some seconds, and then anew."""
    metrics = (
        ExperimentMetric("viewed", "view", role="primary"),
        ExperimentMetric("latency", "latency_us", "ratio", per="timed_slates", better="lower", role="guardrail"),
    )

    async def work(running: Instance) -> LiveReport:
        await stocked(running)
        engine, watch = running.engine, watch_of(running)
        now_s = [engine.host.monotonic()]
        monkeypatch.setattr(engine, "host", replace(engine.host, monotonic=lambda: now_s[0]))
        reports = ExperimentReports(engine, running.experimenting, watch)
        with pytest.raises(NotFound):
            await reports.report("size")
        await running.experimenting.start("size", order("a", "b", metrics=metrics, auto_stop=False), SAID)
        assert "not read" in (await reports.report("size")).why_not
        await watch.look()
        assert "no unit" in (await reports.report("size")).why_not
        had = await served(running, USERS)
        await record(running, [{"type": "view", "user_id": user, "item_id": "i1"} for user in USERS[::3]])
        await watch.look()
        assert "no unit" in (await reports.report("size")).why_not, "it is given again"
        now_s[0] += KEPT_S
        found = await reports.report("size")
        assert found.units == tuple(sum(each == name for each in had.values()) for name in ("a", "b"))
        assert found.slates == found.units
        assert (found.sampled, found.why_not, found.state) == (1, "", "running")
        assert await reports.report("size") is found
        return found

    live = run(folder, work, watches=False)
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    (told,) = experiments_in(fold.placements.current)
    span = ExperimentSpan(LogPosition(told.began_position), told.began_ms)
    units = read_units(log, fold, [each.placement for each in told.variants], span)
    of_log = report_of(told, metrics, units)
    assert msgspec.json.encode(live.report) == msgspec.json.encode(of_log)

    async def stopped(running: Instance) -> None:
        await running.experimenting.stop("size", "enough", SAID)
        found = await ExperimentReports(running.engine, running.experimenting, watch_of(running)).report("size")
        assert (found.report, found.state) == (None, "stopped")
        assert found.why_not.startswith("it is stopped")

    run(folder, stopped, watches=False)


def test_nothing_is_stopped_that_may_not_be(folder: Path) -> None:
    """With ``auto_stop`` off the verdict is seen and nothing done; what a person stopped stays as that person said."""

    async def work(running: Instance) -> None:
        await stocked(running)
        watch = watch_of(running)
        await running.experimenting.start("size", order("as-is", "few", auto_stop=False), SAID)
        had = await served(running, USERS)
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])
        await watch.look()
        look = watch.seen("size")
        assert look is not None
        assert [each.verdict for each in look.verdicts["few"] if each.metric == "dismiss"] == ["stop"]
        assert running.experimenting.view("size").state == "running"
        await running.experimenting.stop("size", "enough", SAID)
        await watch.look()
        view = running.experimenting.view("size")
        assert (view.reason, view.stopped_by, view.harms) == ("enough", "person", [])

    run(folder, work, watches=False)


def test_one_harmful_variant_of_several_is_taken_out(folder: Path) -> None:
    """Its units stay together and have the control's content; the others go on; harm of the last one stops all."""

    async def work(running: Instance) -> None:
        await stocked(running)
        watch = watch_of(running)
        variants = (
            VariantOrder("as-is"),
            VariantOrder("few", change={"slate_size": 2}),
            VariantOrder("three", change={"slate_size": 3}),
        )
        await running.experimenting.start("size", StartOrder("home", variants), SAID)
        had = await served(running, USERS)
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])
        await watch.look()
        view = running.experimenting.view("size")
        assert (view.state, view.stopped_by) == ("running", "")
        assert [bool(each.removed) for each in view.variants] == [False, True, False]
        assert [each.variant for each in view.harms] == ["few"]
        sizes = {"as-is": 5, "few": 5, "three": 3}
        for user, variant in had.items():
            answer = await running.engine.recommend(Ask("home", user_id=user))
            assert (answer.variant, len(answer.items)) == (variant, sizes[variant])
        await watch.look()
        assert running.experimenting.view("size").version == 2
        await dismissed(running, [user for user, variant in had.items() if variant == "three"])
        await watch.look()
        view = running.experimenting.view("size")
        assert (view.state, view.stopped_by, [each.variant for each in view.harms]) == (
            "stopped",
            "watch",
            ["few", "three"],
        )

    run(folder, work, watches=False)


@pytest.mark.parametrize("seed", range(3))
def test_the_watch_says_what_the_report_says(folder: Path, seed: int) -> None:
    """Verdict for verdict, to the last digit: after many looks at a log with a merge, values and a past."""
    dice = random.Random(seed)  # noqa: S311  a seeded world
    metrics = (
        ExperimentMetric("ordered", "purchase", role="primary"),
        ExperimentMetric("revenue", "value", "mean", role="guardrail", cap=50.0),
        ExperimentMetric("views", "view", "ratio", per="slates", role="guardrail"),
        ExperimentMetric("seen", "view", role="guardrail"),
        ExperimentMetric("against", "dismiss", better="lower", role="guardrail"),
        ExperimentMetric("empty", "empty_slates", better="lower", role="guardrail"),
        ExperimentMetric("latency", "latency_us", "ratio", per="timed_slates", better="lower", role="guardrail"),
    )

    async def work(running: Instance) -> tuple[dict[str, tuple[GuardrailVerdict, ...]], tuple[int, ...]]:
        await stocked(running)
        watch = watch_of(running)
        users = [f"user-{number}" for number in range(90)]
        await record(running, [{"type": "view", "user_id": user, "item_id": "i1"} for user in users[::3]])
        wanted = order("a", "b", metrics=metrics, auto_stop=False, ramp=(RampOrder(1.0),))
        await running.experimenting.start("size", wanted, SAID)
        one, other = users[3], users[4]
        for _ in range(6):
            await served(running, [one, other, *dice.sample(users[5:], 40)])
            acts = [
                {
                    "type": dice.choice(["view", "purchase", "dismiss"]),
                    "user_id": dice.choice(users),
                    "item_id": f"i{dice.randrange(9)}",
                    "value": dice.randrange(90),
                    "quantity": dice.randrange(1, 4),
                }
                for _ in range(60)
            ]
            await record(running, acts)
            await watch.look()
        await record(running, [{"type": "user", "operation": "merge", "user_id": one, "attributes": {"from": other}}])
        await watch.look()
        look = watch.seen("size")
        assert look is not None
        assert not look.invalid
        return dict(look.verdicts), look.units

    verdicts, units = run(folder, work, watches=False)
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    (told,) = experiments_in(fold.placements.current)
    span = ExperimentSpan(LogPosition(told.began_position), told.began_ms)
    found = read_units(log, fold, [each.placement for each in told.variants], span)
    report = report_of(told, metrics_of(told, fold.settings.types), found)
    assert report is not None
    assert units == tuple(int((found.table.variant == number).sum()) for number in range(2))
    (variant,) = report.variants
    by_past = {each.metric for each in variant.secondary if each.comparison.variance_ratio < 1.0}
    assert "seen" in by_past  # so a guardrail that used the past would have another figure
    for mine, its in zip(verdicts["b"], variant.guardrails, strict=True):
        assert msgspec.json.encode(mine) == msgspec.json.encode(its)


@pytest.mark.parametrize("seed", range(2))
def test_units_of_shares_that_move_are_those_of_the_report(
    folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of their first days alone, though most of them saw both variants: days here are 40 ms long."""
    for module in (running_units, experiment_units):
        monkeypatch.setattr(module, "DAY_MS", 40)
    dice = random.Random(seed)  # noqa: S311  a seeded world
    metrics = (ExperimentMetric("viewed", "view", role="primary"),)

    async def work(running: Instance) -> UnitTable:
        await stocked(running)
        await running.experimenting.start("size", order("a", "b", allocation="thompson", metrics=metrics), SAID)
        users = [f"user-{number}" for number in range(60)]
        for shares in ((9_000, 1_000), (1_000, 9_000), (9_000, 1_000), (1_000, 9_000)):
            await served(running, dice.sample(users, 40))
            await record(
                running,
                [{"type": "view", "user_id": user, "item_id": "i1"} for user in dice.sample(users, 30)],
            )
            await running.experimenting.reallocate("size", first_shares(shares, running.engine.clock()), SAID)
            await served(running, dice.sample(users, 10))
            await watch_of(running).look()
        seen = watch_of(running).units_seen("size")
        assert seen is not None
        return seen.table

    mine = run(folder, work, watches=False)
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    (told,) = experiments_in(fold.placements.current)
    span = ExperimentSpan(LogPosition(told.began_position), told.began_ms, is_first_day=True)
    found = read_units(log, fold, [each.placement for each in told.variants], span)
    its, at = found.table, np.argsort(mine.unit)
    assert np.array_equal(mine.unit[at], its.unit)
    assert np.array_equal(mine.variant[at], its.variant)
    assert np.array_equal(mine.first_day[at], its.first_day)
    assert np.array_equal(mine.columns[:, at], its.columns[: len(mine.columns)])
    assert set(its.variant.tolist()) == {0, 1}
    assert 0 < its.columns[0].sum() < sum(found.slates)


def test_merges_are_made_in_slices_between_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there were, no turn of the event loop makes more than a few; the units are those of the report."""
    monkeypatch.setattr(watch_module, "MERGES_MAX", 4)
    made: list[int] = []
    unite = RunningUnits.unite

    def counted(units: RunningUnits, aliases: NDArray[np.uint64], into: NDArray[np.uint64]) -> bool:
        made.append(len(aliases))
        return unite(units, aliases, into)

    monkeypatch.setattr(RunningUnits, "unite", counted)

    async def work(running: Instance) -> tuple[int, ...]:
        await stocked(running)
        await running.experimenting.start("size", order("a", "b"), SAID)
        await served(running, USERS[:90])
        await watch_of(running).look()
        pairs = [(user, USERS[number % 7]) for number, user in enumerate(USERS[10:70])]
        await record(
            running,
            [
                {"type": "user", "operation": "merge", "user_id": into, "attributes": {"from": user}}
                for user, into in pairs
            ],
        )
        await watch_of(running).look()
        look = watch_of(running).seen("size")
        assert look is not None
        return look.units

    units = run(folder, work, watches=False)
    assert sum(made) == 60
    assert 0 < max(made) <= 5
    log = LogView(folder)
    fold = state_of(folder, config_of(folder), log).fold
    (told,) = experiments_in(fold.placements.current)
    span = ExperimentSpan(LogPosition(told.began_position), told.began_ms)
    found = read_units(log, fold, [each.placement for each in told.variants], span)
    assert units == tuple(int((found.table.variant == number).sum()) for number in range(2))
    assert sum(units) < 30


def test_what_was_interrupted_between_two_turns_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop in the middle of a piece, when one of two experiments had counted it: nothing counts twice."""

    async def work(running: Instance) -> None:
        await stocked(running)
        for name in ("one", "two"):
            order_ = StartOrder("home", (VariantOrder("a"), VariantOrder("b")), layer="home", share=0.5)
            await running.experimenting.start(name, order_, SAID)
        had = await served(running, USERS[:60])
        real = RunningUnits.count

        def fails(*_: object) -> None:
            message = "stopped here"
            raise RuntimeError(message)

        counts = iter((real, fails))

        def first_alone(units: RunningUnits, *told: Any) -> None:
            next(counts)(units, *told)

        monkeypatch.setattr(RunningUnits, "count", first_alone)
        with pytest.raises(RuntimeError, match="stopped here"):
            await watch_of(running).look()
        monkeypatch.setattr(RunningUnits, "count", real)
        await watch_of(running).look()
        looks = [watch_of(running).seen(name) for name in ("one", "two")]
        assert sum(sum(each.slates) for each in looks if each is not None) == len(had)

    run(folder, work, watches=False)


def test_the_lag_of_the_watch_is_a_metric_and_from_a_minute_on_a_concern(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it has the log to read; 0 once it has, and where nothing runs."""

    def figures(running: Instance) -> dict[str, float]:
        running.engine.listeners.set_gauges()
        lines = running.engine.metrics.text().decode().splitlines()
        named = (line.rsplit(" ", 1) for line in lines if line.startswith("midstream_experiment"))
        return {name: float(value) for name, value in named}

    async def work(running: Instance) -> None:
        watch = watch_of(running)
        await stocked(running)
        assert figures(running)["midstream_experiment_watch_lag_events"] == 0
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        await watch.look()
        had = await served(running, USERS)
        clock = running.engine.host.monotonic
        found = figures(running)
        assert found["midstream_experiment_watch_lag_events"] > len(USERS)
        assert "experiments" not in running.engine.concerns_now()
        with monkeypatch.context() as later:
            host = replace(running.engine.host, monotonic=lambda: clock() + 90.0)
            later.setattr(running.engine, "host", host)
            assert figures(running)["midstream_experiment_watch_lag_seconds"] >= 90.0
            assert "read all of it 9" in running.engine.concerns_now()["experiments"]
        await watch.look()
        found = figures(running)
        assert found["midstream_experiment_watch_lag_events"] == 0
        assert found["midstream_experiment_watch_lag_seconds"] == 0
        assert found['midstream_experiments{state="running"}'] == 1
        assert found['midstream_experiment_harmed{experiment="size"}'] == 0
        assert found['midstream_experiment_sample_ratio_wrong{experiment="size"}'] == 0
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])
        await watch.look()
        found = figures(running)
        assert found['midstream_experiments{state="stopped"}'] == 1
        assert found['midstream_experiment_harmed{experiment="size"}'] == 1
        assert not [name for name in found if name.startswith("midstream_experiment_sample_ratio_wrong{")]

    run(folder, work, watches=False)


def test_no_event_makes_a_sum_infinite(folder: Path) -> None:
    """A value beyond 1e18 counts as not sent, and so does a quantity, as in the join of outcomes."""

    async def work(running: Instance) -> None:
        await stocked(running)
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        await served(running, USERS)
        sent = [(1e308, 1e6), (2.0, 1e19), (2.0, 3.0), (-1e300, 1.0)]
        await record(
            running,
            [
                {"type": "purchase", "user_id": USERS[0], "item_id": "i1", "value": value, "quantity": quantity}
                for value, quantity in sent
            ],
        )
        await watch_of(running).look()
        seen = watch_of(running).units_seen("size")
        assert seen is not None
        assert seen.table.columns[seen.names.index("value")].sum() == 8.0

    run(folder, work, watches=False)


def test_a_start_reads_what_was_before_it(folder: Path) -> None:
    """Harm in the log of a server that was killed before it looked is stopped by the next one."""

    async def work(running: Instance) -> None:
        await stocked(running)
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        had = await served(running, USERS)
        await dismissed(running, [user for user, variant in had.items() if variant == "few"])

    async def again(running: Instance) -> None:
        await watch_of(running).look()
        assert running.experimenting.view("size").stopped_by == "watch"

    run(folder, work, watches=False)
    run(folder, again, watches=False)


def test_a_wrong_sample_ratio_claims_nothing_and_says_so(folder: Path) -> None:
    """Whatever the guardrails would say: units are lost in one variant, and those are not like the others."""

    async def work(running: Instance) -> None:
        await stocked(running)
        watch = watch_of(running)
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        routing = running.engine.live.routing
        now_ms = running.engine.clock()
        users = [f"user-{number}" for number in range(900)]
        few = [each for each in users if routing.placement("home", each, None, now_ms) == "home@size.few"]
        rest = [each for each in users if each not in set(few)]
        await served(running, [*few[:40], *rest[:240]])
        await dismissed(running, few[:40])
        await watch.look()
        look = watch.seen("size")
        assert look is not None
        assert look.invalid
        assert not look.verdicts
        assert running.experimenting.view("size").state == "running"
        assert "experiment size is not judged" in running.engine.concerns_now()["experiments"]
        running.engine.listeners.set_gauges()
        assert b'midstream_experiment_sample_ratio_wrong{experiment="size"} 1.0' in running.engine.metrics.text()

    run(folder, work, watches=False)


def test_a_canary_is_stopped_by_harm_and_says_why(folder: Path) -> None:
    """Two nodes' second stop is refused, and a canary whose version is not there does not start."""

    async def work(running: Instance) -> None:
        await stocked(running)
        await running.experimenting.start("size", order("champion", "candidate"), SAID)
        assert running.canaries is not None
        had = await served(running, USERS)
        await watch_of(running).look()
        standing = running.canaries.standing("size")
        assert (standing.state, standing.stopped_by, standing.is_valid) == ("running", "", True)
        assert sum(standing.units) == len(USERS) == sum(standing.slates)
        assert {each.metric for each in standing.verdicts} == {"empty_slates", "dismiss"}
        await dismissed(running, [user for user, variant in had.items() if variant == "candidate"])
        await watch_of(running).look()
        standing = running.canaries.standing("size")
        assert (standing.state, standing.stopped_by) == ("stopped", "watch")
        assert [each.verdict for each in standing.verdicts if each.metric == "dismiss"] == ["stop"]
        assert "dismiss" in standing.reason

    run(folder, work, watches=False)


def test_no_unit_is_a_number(folder: Path) -> None:
    """An experiment without a slate has a look without a verdict."""

    async def work(running: Instance) -> None:
        await stocked(running)
        await running.experimenting.start("size", order("as-is", "few"), SAID)
        await watch_of(running).look()
        look = watch_of(running).seen("size")
        assert look is not None
        assert (look.units, look.verdicts, look.invalid) == ((0, 0), {}, "")
        assert np.array_equal(look.slates, (0, 0))

    run(folder, work, watches=False)
