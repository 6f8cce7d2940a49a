"""The training loop: what is due is trained once, tried, promoted and taken back, whenever the process ends."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from msgspec.structs import replace

from midstream.app.opening import Outside, config_of, open_running
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ConfigInvalid, DiskFull, Fault, FitStopped, NotFound, Overloaded
from midstream.core.types import TimestampMs
from midstream.engine.instance import Instance
from midstream.engine.trainings.candidates import (
    CandidateOrder,
    LoopParts,
    MadeCandidate,
    NotMeasured,
    TrialOrder,
    TrialStanding,
)
from midstream.engine.trainings.training_loop import LATE_MS_MAX, SHADOW_AGAIN_MS, TrainingLoop
from midstream.engine.trainings.trial_orders import trial_name
from midstream.events.json.decode import decode_objects
from midstream.training.gates.evidence import GateEvidence, JudgedActs, MeasuredVersion, PairedGap, ShadowAnswers
from midstream.training.options import CanaryOptions, TrainingTable
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_chain, write_folder

T = TypeVar("T")
HOUR_MS = 3_600_000
TABLE = TrainingTable(model="near", every="6h", canary=CanaryOptions(at_least="1h", at_most="3h", units_min=10))
RUNNING = TrialStanding(
    "running",
    by_watch=False,
    reason="",
    is_valid=True,
    units=(50, 50),
    text="as it was",
    harm=0.0,
    seen_position=1 << 40,
)
ANSWERED = ShadowAnswers(requests=100, agreement=1.0, cpu_times=1.0)


@dataclass
class Clock:
    """Time that a test says."""

    ms: int = 1_000_000_000_000

    def __call__(self) -> TimestampMs:
        """Return it."""
        return TimestampMs(self.ms)


@dataclass
class Maker:
    """Publishes a version at each order, or fails; says of it what a test says."""

    registry: Registry
    orders: list[CandidateOrder] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    figure: float = 0.5
    seen: ShadowAnswers = ANSWERED
    shadows: int = 0
    """How often requests were run again later."""

    async def shadow(self, order: CandidateOrder, candidate: str) -> ShadowAnswers:
        """Return what a test says."""
        assert order.champion
        assert candidate
        self.shadows += 1
        return self.seen

    async def make(self, order: CandidateOrder) -> MadeCandidate:
        """Return a version that knows everything, as good as ``figure``."""
        self.orders.append(order)
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails.pop()
        version = publish_chain(self.registry, len(self.orders) + 1, order.table.model)
        measured = MeasuredVersion(
            version=version, end_ms=order.now_ms, bytes=100, items=9, scores=9, apart=1.0, cpu_ms=0.1
        )
        gap = PairedGap(100, self.figure - 0.5, self.figure - 0.51, self.figure - 0.49)
        judged = JudgedActs(metric="NDCG@20", figure=self.figure, questions=100, champion=0.5, difference=gap)
        champion = replace(measured, version=order.champion) if order.champion else None
        evidence = GateEvidence(now_ms=order.now_ms, judged=judged, shadow=self.seen if champion else None)
        return MadeCandidate(measured, champion, evidence)


@dataclass
class FakeTrials:
    """Experiments that a test decides."""

    known: dict[str, TrialStanding] = field(default_factory=dict)
    orders: list[TrialOrder] = field(default_factory=list)
    refuses: bool = False

    async def start(self, order: TrialOrder) -> None:
        """Start one, unless its name was used."""
        if self.refuses or order.name in self.known:
            raise ConfigInvalid((Fault("/name", f"{order.name} came.", "Another.", "/docs/experiments.md"),))
        self.orders.append(order)
        self.known[order.name] = RUNNING

    def standing(self, name: str) -> TrialStanding:
        """Return it."""
        if name not in self.known:
            raise NotFound(name)
        return self.known[name]

    def is_running(self, order: TrialOrder) -> bool:
        """Return whether this very order runs."""
        return order in self.orders and self.known[order.name].state != "stopped"

    async def stop(self, name: str, reason: str) -> None:
        """Stop it, unless it is stopped."""
        if self.known[name].state != "stopped":
            self.known[name] = changed(self.known[name], state="stopped", reason=reason)

    def harm(self, name: str) -> None:
        """Break a guardrail."""
        self.known[name] = changed(self.known[name], state="stopped", by_watch=True, reason="clicks fell by 20 %")


@dataclass
class Shop:
    """One folder with its loop, opened and closed by a test."""

    folder: Path
    clock: Clock
    maker: Maker
    trials: FakeTrials
    tables: list[TrainingTable]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Of all engines of the process."""
    miscalibrated: str = ""
    """Version that predicts other acts than come."""
    running: Instance = field(init=False)
    loop: TrainingLoop = field(init=False)

    def work(self, work: Callable[["Shop"], Awaitable[T]]) -> T:
        """Open the folder, do the work, close it."""

        async def main() -> T:
            self.running = open_running(self.folder, config_of(self.folder), outside=Outside(clock=self.clock))
            async with self.running:
                engine, champions = self.running.engine, self.running.champions
                fakes = self.maker, self.trials, lambda: self.tables, self.turn, self.miscalibrated_since
                parts = LoopParts(engine, champions, *fakes)
                self.loop = TrainingLoop(parts)
                return await work(self)

        return asyncio.run(main())

    def miscalibrated_since(self, model: str, version: str) -> int:
        """Return what a test says: since an hour ago."""
        return self.clock.ms - HOUR_MS if (model, version) == ("near", self.miscalibrated) and version else 0

    async def look(self, hours: float = 0.0) -> None:
        """Let time pass, then one round of each loop."""
        self.clock.ms += round(hours * HOUR_MS)
        await self.loop.train_next()
        await self.loop.look()

    async def viewed(self, count: int = 1) -> None:
        """Have events."""
        events = [{"type": "view", "user_id": "ann", "item_id": f"item-{number % 9}"} for number in range(count)]
        await self.running.engine.record(decode_objects(events, self.running.service.accept).batch)

    @property
    def actions(self) -> list[str]:
        """What was decided, oldest first."""
        return [each.action for each in reversed(self.loop.journal.history())]

    @property
    def metrics(self) -> str:
        """What a scrape reads."""
        return self.running.engine.metrics.text().decode()

    @property
    def champion(self) -> str:
        """The version in service."""
        return self.running.champions.versions.get("near", "")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Return a shop whose placement reads a model without a version."""
    write_folder(tmp_path)
    return Shop(tmp_path, Clock(), Maker(registry_of(tmp_path)), FakeTrials(), [TABLE])


def with_champion(work: Callable[[Shop], Awaitable[T]]) -> Callable[[Shop], Awaitable[T]]:
    """Have the first version trained and in service before."""

    async def first(shop: Shop) -> T:
        await shop.viewed()
        await shop.look()
        await shop.look()
        assert shop.champion.startswith("0001")
        return await work(shop)

    return first


def test_the_first_version_answers_when_it_passed(shop: Shop) -> None:
    """There is nothing to compare it with; an empty log trains nothing; the next one is due six hours later."""

    async def work(shop: Shop) -> None:
        await shop.look()
        assert shop.maker.orders == []
        await shop.viewed()
        await shop.look()
        assert shop.actions == ["passed", "kept"]
        assert shop.champion.startswith("0001")
        assert shop.maker.orders[0].popular == ("item-0",)
        (view,) = shop.loop.views()
        assert (view.state, view.next_ms, view.champion) == ("waits", shop.clock.ms + 6 * HOUR_MS, shop.champion)
        await shop.look(5.9)
        assert len(shop.maker.orders) == 1
        await shop.look(0.1)
        assert len(shop.maker.orders) == 2

    shop.work(work)


def test_a_candidate_goes_by_canary_to_promotion_and_is_kept(shop: Shop) -> None:
    """The champion is the control, then the version before is; each decision has its numbers."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        assert shop.actions[-1] == "canary"
        assert shop.champion == first
        order = shop.trials.orders[0]
        assert (order.control, order.candidate[:4], order.name, order.placement) == (
            first,
            "0002",
            "t0002-near",
            "home",
        )
        await shop.look(0.9)
        assert shop.champion == first
        await shop.look(0.1)
        assert shop.champion == order.candidate
        assert shop.actions[-1] == "promoted"
        assert shop.trials.known["t0002-near"].state == "stopped"
        assert shop.trials.orders[1] == changed(order, name="h0002-near")
        await shop.look(23.9)
        assert shop.actions[-1] == "promoted"
        await shop.look(0.1)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.champion, len(last.gates)) == ("kept", first, 8)
        assert "no guardrail broke" in last.reason
        assert len(shop.maker.orders) == 2, "nothing is trained while a candidate is tried"

    shop.work(work)


def test_a_broken_guardrail_leaves_the_champion(shop: Shop) -> None:
    """The canary is stopped by the watch; nothing was promoted; the loop trains again in its turn."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        shop.trials.harm("t0002-near")
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.reason) == ("stopped", "a guardrail: clicks fell by 20 %")
        assert shop.champion == first
        await shop.look(6)
        assert shop.actions[-1] == "canary"

    shop.work(work)


def test_a_guardrail_that_breaks_after_the_promotion_takes_the_version_back(shop: Shop) -> None:
    """In the next look; health says so until the next decision."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        await shop.look(1)
        assert shop.champion != first
        shop.trials.harm("h0002-near")
        await shop.look(1 / 3_600)
        assert shop.champion == first
        assert shop.actions[-1] == "rolled_back"
        assert "clicks fell by 20 %" in shop.running.engine.concerns["training-near"]
        await shop.look(7)
        assert "training-near" not in shop.running.engine.concerns

    shop.work(work)


def test_too_few_users_or_a_wrong_sample_ratio_promote_nothing(shop: Shop) -> None:
    """After the longest time the canary ends, and says why."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        for hours, seen, words in (
            (6, changed(RUNNING, units=(50, 9)), "units_min is 10"),
            (6, changed(RUNNING, is_valid=False), "the sample ratio is wrong"),
        ):
            await shop.look(hours)
            name = shop.trials.orders[-1].name
            shop.trials.known[name] = seen
            await shop.look(2.9)
            assert shop.actions[-1] == "canary"
            await shop.look(0.1)
            last = shop.loop.journal.last("near")
            assert last is not None
            assert (last.action, words in last.reason) == ("stopped", True)
            assert shop.trials.known[name].state == "stopped"
        assert shop.champion == first

    shop.work(work)


def test_a_candidate_that_is_behind_is_tried_twice_as_long(shop: Shop) -> None:
    """Then it is stopped, or promoted if it is not behind any more, and not at a moment between at which it is not."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        shop.trials.known["t0002-near"] = changed(RUNNING, harm=0.004)
        for hours, action in ((1, "canary"), (0.9, "canary"), (0.1, "stopped")):
            await shop.look(hours)
            assert shop.actions[-1] == action
        last = shop.loop.journal.last("near")
        assert last is not None
        assert last.reason == "it is 0.4% behind by its estimate: as it was"
        assert (shop.champion, shop.trials.known["t0002-near"].state) == (first, "stopped")
        await shop.look(6)
        shop.trials.known["t0003-near"] = changed(RUNNING, harm=0.004)
        await shop.look(1.5)
        before = len(shop.loop.journal.history("near"))
        shop.trials.known["t0003-near"] = changed(RUNNING, harm=-0.2)
        for hours, version in ((0, first), (0.2, first), (0.2, first)):
            await shop.look(hours)
            assert (shop.actions[-1], shop.champion) == ("canary", version)
        assert len(shop.loop.journal.history("near")) == before, "what was behind once is no decision of its own"
        await shop.look(0.1)
        assert (shop.actions[-1], shop.champion[:4]) == ("promoted", "0003")

    shop.work(work)


def test_a_candidate_of_which_nothing_can_be_estimated_is_not_promoted(shop: Shop) -> None:
    """As where nobody with the control acted, or the acts of its guardrails are configured no more."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        shop.trials.known["t0002-near"] = changed(RUNNING, harm=None)
        for hours, action in ((1, "canary"), (1.9, "canary"), (0.1, "stopped")):
            await shop.look(hours)
            assert (shop.actions[-1], shop.champion) == (action, first)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert last.reason == "the canary said nothing in 3h: acts of the least weight give no estimate: as it was"

    shop.work(work)


def test_a_refused_candidate_is_not_tried_and_is_no_failure(shop: Shop) -> None:
    """The gate is named; the next one is due in six hours and not sooner."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.maker.figure = 0.1
        await shop.look(6)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.failures) == ("refused", 0)
        assert last.reason.startswith("offline refused: it is worse")
        assert shop.trials.orders == []
        await shop.look(5.9)
        assert len(shop.maker.orders) == 2

    shop.work(work)


def test_failures_back_off_and_touch_nothing(shop: Shop) -> None:
    """A minute, two, four; health names the cause; a success clears it."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        shop.maker.fails = [FitStopped("killed") for _ in range(3)]
        await shop.look(6)
        for minutes in (1, 2):
            assert shop.actions[-1] == "failed"
            assert "killed" in shop.running.engine.concerns["training-near"]
            assert 'midstream_training_alarm{model="near"} 1.0' in shop.metrics
            count = len(shop.maker.orders)
            await shop.look((minutes - 0.01) / 60)
            assert len(shop.maker.orders) == count
            await shop.look(0.01 / 60)
            assert len(shop.maker.orders) == count + 1
        assert shop.champion == first
        await shop.look(4 / 60)
        assert shop.actions[-1] == "canary"
        assert "training-near" not in shop.running.engine.concerns
        assert 'midstream_training_alarm{model="near"} 0.0' in shop.metrics
        assert 'midstream_trainings_total{model="near",result="failed"} 3.0' in shop.metrics

    shop.work(work)


def test_a_training_that_is_killed_counts_as_failed_at_the_next_start(shop: Shop) -> None:
    """The server ends in the middle: nothing is in service, and the next one waits a minute."""

    async def killed(shop: Shop) -> None:
        await shop.viewed()
        shop.maker.fails = [asyncio.CancelledError()]  # type: ignore[list-item]  # as a stop of the server does
        with pytest.raises(asyncio.CancelledError):
            await shop.loop.train_next()
        assert shop.actions == ["begun"]

    async def again(shop: Shop) -> None:
        await shop.look()
        assert (shop.actions, len(shop.maker.orders)) == (["failed"], 1)
        await shop.look(1 / 60)
        assert (shop.actions[-1], len(shop.maker.orders)) == ("kept", 2)

    shop.work(killed)
    shop.work(again)


STEPS = ("passed", "canary", "promoted", "kept")


@pytest.mark.parametrize("ends_after", range(1, 12))
def test_an_end_of_the_server_between_any_two_writes_is_made_good(shop: Shop, ends_after: int) -> None:
    """Nothing is trained twice or forgotten: the same versions are in service in the end."""

    @with_champion
    async def until(shop: Shop) -> None:
        engine, record, left = shop.running.engine, shop.running.engine.record, ends_after

        async def some(*told: object, **how: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise asyncio.CancelledError
            return await record(*told, **how)  # type: ignore[arg-type]  # as it came

        engine.record = some  # type: ignore[method-assign, assignment]  # the process ends before a write
        try:
            for hours in (6, 1, 24):
                await shop.look(hours)
        except asyncio.CancelledError:
            pass
        finally:
            engine.record = record  # type: ignore[method-assign]  # the last snapshot is written as ever

    async def rest(shop: Shop) -> None:
        for _ in range(40):
            await shop.look(1)
            last = shop.loop.journal.last("near")
            assert last is not None
            if last.action == "kept" and last.champion:
                break
        else:
            pytest.fail(f"{shop.actions}")
        assert shop.champion == last.candidate
        assert [each.state for each in shop.trials.known.values()] == ["stopped"] * len(shop.trials.known)
        assert len(shop.maker.orders) <= 3

    shop.work(until)
    shop.work(rest)


def test_a_full_disk_trains_nothing_and_loses_nothing(shop: Shop) -> None:
    """What cannot be said is not begun; when there is room it is."""

    @with_champion
    async def work(shop: Shop) -> None:
        engine, record = shop.running.engine, shop.running.engine.record

        async def full(*_told: object) -> object:
            raise DiskFull("no room")

        engine.record = full  # type: ignore[method-assign, assignment]  # the disk
        with pytest.raises(DiskFull):
            await shop.look(6)
        assert len(shop.maker.orders) == 1
        engine.record = record  # type: ignore[method-assign]  # there is room
        await shop.look()
        assert shop.actions[-1] == "canary"

    shop.work(work)


def test_a_person_goes_before_the_loop(shop: Shop) -> None:
    """Another version by hand ends the canary; the candidate by hand is watched as if the loop had promoted it."""

    @with_champion
    async def work(shop: Shop) -> None:
        other = publish_chain(shop.maker.registry, 7)
        await shop.look(6)
        await shop.running.champions.promote("near", other)
        await shop.look()
        assert (shop.actions[-1], shop.champion) == ("superseded", other)
        assert all(each.state == "stopped" for each in shop.trials.known.values())
        await shop.look(6)
        await shop.running.champions.promote("near", shop.trials.orders[-1].candidate)
        await shop.look()
        assert shop.actions[-1] == "promoted"
        assert shop.trials.orders[-1].control == other

    shop.work(work)


def test_asked_candidates_wait_for_a_person(shop: Shop) -> None:
    """After the canary; nothing is promoted, and the next training is due as ever."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        shop.tables = [replace(TABLE, promote="ask")]
        await shop.look(6)
        await shop.look(1)
        assert (shop.actions[-1], shop.champion) == ("waiting", first)
        assert shop.trials.known["t0002-near"].state == "stopped"
        await shop.look(6)
        assert shop.actions[-1] == "canary"

    shop.work(work)


def test_what_waits_is_watched_once_a_person_promotes_it(shop: Shop) -> None:
    """The version before is its control, as after any other promotion."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.tables = [replace(TABLE, promote="ask")]
        await shop.look(6)
        await shop.look(1)
        control, candidate = shop.champion, shop.trials.orders[0].candidate
        await shop.running.champions.promote("near", candidate)
        await shop.look()
        assert shop.actions[-1] == "promoted"
        assert (shop.trials.orders[-1].name, shop.trials.orders[-1].control) == ("h0002-near", control)

    shop.work(work)


@pytest.mark.parametrize("share, first", [(0.0, True), (0.1, True), (0.1, False)])
def test_what_a_person_promotes_during_a_training_stays(shop: Shop, share: float, first: bool) -> None:
    """The candidate was judged beside another version: it is neither tried nor put in service."""

    async def work(shop: Shop) -> None:
        await shop.viewed()
        if first:
            await shop.look()
        shop.tables = [replace(TABLE, canary=replace(TABLE.canary, share=share))]
        own, make = publish_chain(shop.maker.registry, 90, "near"), shop.maker.make

        async def overtaken(order: CandidateOrder) -> MadeCandidate:
            made = await make(order)
            await shop.running.champions.promote("near", own)
            return made

        shop.maker.make = overtaken  # type: ignore[method-assign]
        await shop.look(6)
        assert (shop.champion, shop.actions[-1]) == (own, "superseded")
        assert shop.trials.orders == []

    shop.work(work)


@pytest.mark.parametrize("seen", [changed(RUNNING, state="suspended"), changed(RUNNING, is_valid=False)])
def test_a_trial_that_says_nothing_promotes_nothing_and_a_watch_says_so(shop: Shop, seen: TrialStanding) -> None:
    """A suspended one has figures of the past, a wrong sample ratio has none."""

    @with_champion
    async def work(shop: Shop) -> None:
        before = shop.champion
        await shop.look(6)
        shop.trials.known["t0002-near"] = seen
        await shop.look(2)
        assert (shop.champion, shop.actions[-1]) == (before, "canary")
        shop.trials.known["t0002-near"] = RUNNING
        await shop.look()
        assert shop.actions[-1] == "promoted"
        shop.trials.known["h0002-near"] = seen
        await shop.look(24)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, "the watch saw too little to say anything" in last.reason) == ("kept", True)

    shop.work(work)


def test_an_answer_that_cannot_be_read_is_a_failure_of_the_training(shop: Shop) -> None:
    """It is named, and is not taken for an interruption."""

    async def work(shop: Shop) -> None:
        shop.maker.fails = [msgspec.ValidationError("Expected `float`, got `null` - at `$.judged.difference.low`")]
        await shop.viewed()
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.failures, "judged.difference.low" in last.reason) == ("failed", 1, True)

    shop.work(work)


def test_a_canary_that_cannot_run_leaves_it_to_a_person(shop: Shop) -> None:
    """And says why."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.trials.refuses = True
        await shop.look(6)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, "the canary cannot run" in last.reason) == ("waiting", True)

    shop.work(work)


def test_an_order_is_done_once_and_names_its_reason(shop: Shop) -> None:
    """Twice asked is once trained; not while a candidate is tried; not of a model without a table."""

    @with_champion
    async def work(shop: Shop) -> None:
        assert shop.loop.order("near").state == "queued"
        shop.loop.order("near")
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.because, len(shop.maker.orders)) == ("canary", "order", 2)
        with pytest.raises(Overloaded, match="is tried"):
            shop.loop.order("near")
        with pytest.raises(NotFound, match="there are near"):
            shop.loop.order("far")

    shop.work(work)


def test_one_model_is_trained_at_a_time_and_none_waits_for_ever(shop: Shop) -> None:
    """Three are due at once: each round trains one, in the order in which they were seen."""

    async def work(shop: Shop) -> None:
        shop.tables = [replace(TABLE, model=name) for name in ("near", "far", "deep")]
        await shop.viewed()
        for _ in range(4):
            await shop.look()
        assert [each.table.model for each in shop.maker.orders] == ["near", "far", "deep"]

    shop.work(work)


def test_a_node_without_the_lease_does_nothing(shop: Shop) -> None:
    """Another one trains; orders that came here are forgotten."""

    class Other:
        is_shared, is_held, owner, position = True, False, "there", -1

        def tell(self, position: int) -> None:
            """Say nothing."""

    async def work(shop: Shop) -> None:
        shop.loop.share(Other())
        await shop.viewed()
        await shop.look(7)
        assert (shop.maker.orders, shop.actions) == ([], [])

    shop.work(work)


def test_names_of_trials_have_room() -> None:
    """Experiment, placement and variant together have 64 bytes."""
    assert trial_name("t", "0007-3fa9c2d41b22", "taste", "home") == "t0007-taste"
    name = trial_name("h", "0007-3fa9c2d41b22", "m" * 64, "p" * 40)
    assert len(f"{'p' * 40}@{name}.candidate") == 64
    other = trial_name("h", "0007-3fa9c2d41b22", "m" * 63 + "n", "p" * 40)
    assert (len(other), other == name) == (len(name), False), "of two models with one beginning each has its own"


def test_requests_that_are_not_there_are_waited_for_and_never_pass(shop: Shop) -> None:
    """They are looked for every five minutes; once there are some the gate is asked, after a day it refuses."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        shop.maker.seen = ShadowAnswers(why_not="no request of it is in the log")
        await shop.look(6)
        assert (shop.actions[-1], shop.trials.orders, shop.champion) == ("shadow", [], first)
        assert shop.loop.view("near").state == "shadow"
        again_h = SHADOW_AGAIN_MS / HOUR_MS
        await shop.look(again_h)
        await shop.look(again_h / 2)
        assert (shop.actions[-1], shop.maker.shadows) == ("shadow", 1)
        shop.maker.seen = ANSWERED
        await shop.look(again_h)
        assert (shop.actions[-2:], shop.maker.shadows) == (["passed", "canary"], 2)
        decided = shop.loop.journal.last("near")
        assert decided is not None
        assert [each.outcome for each in decided.gates][-1] == "passed"
        await shop.look(4)
        shop.trials.harm("h0002-near")
        await shop.look()
        shop.maker.seen = ShadowAnswers(why_not="no request of it is in the log")
        await shop.look(6)
        assert shop.actions[-1] == "shadow"
        await shop.look(24)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.gates[-1].outcome) == ("refused", "refused")
        assert "not enough requests in 1d" in last.reason
        assert "no request of it is in the log" in last.reason
        assert shop.champion == first

    shop.work(work)


def test_what_waits_for_requests_goes_on_after_a_restart(shop: Shop) -> None:
    """The decision in the log has what the other gates said."""

    @with_champion
    async def before(shop: Shop) -> None:
        shop.maker.seen = ShadowAnswers()
        await shop.look(6)
        assert shop.actions[-1] == "shadow"

    async def after(shop: Shop) -> None:
        shop.maker.seen = ShadowAnswers(requests=100, failures=50)
        await shop.look()
        await shop.look(SHADOW_AGAIN_MS / HOUR_MS)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, [each.name for each in last.gates][-1], len(last.gates)) == ("refused", "shadow", 8)

    shop.work(before)
    shop.work(after)


def test_a_figure_that_was_lost_in_a_late_shadow_refuses(shop: Shop) -> None:
    """It has its name, and is not taken for one that was not measured."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.maker.seen = ShadowAnswers()
        await shop.look(6)
        shop.maker.seen = ShadowAnswers(requests=9, faults=("shadow.cpu_times",))
        await shop.look(SHADOW_AGAIN_MS / HOUR_MS)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, "not a number: shadow.cpu_times" in last.reason) == ("refused", True)

    shop.work(work)


def test_a_canary_is_judged_by_a_look_behind_the_end_of_its_time(shop: Shop) -> None:
    """A look at half of the log, as after a start, says nothing of what the newest users did."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        shop.trials.known["t0002-near"] = changed(RUNNING, seen_position=1)
        await shop.look(1)
        assert (shop.actions[-1], shop.champion) == ("canary", first)
        await shop.viewed(3)
        end = int(shop.running.engine.fold.log_position)
        shop.trials.known["t0002-near"] = changed(RUNNING, seen_position=end - 3)
        await shop.look()
        assert shop.actions[-1] == "promoted", "what came after its time need not be known"

    shop.work(work)


def test_a_trial_whose_events_are_never_known_ends_an_hour_late(shop: Shop) -> None:
    """The canary promotes nothing, and the watch claims nothing."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await shop.look(6)
        stale = changed(RUNNING, seen_position=1)
        shop.trials.known["t0002-near"] = stale
        await shop.look(3)
        assert shop.actions[-1] == "canary"
        await shop.look(LATE_MS_MAX / HOUR_MS)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, "known up to log position 1 of" in last.reason) == ("stopped", True)
        assert shop.champion == first
        await shop.look(6)
        await shop.look(1)
        assert shop.actions[-1] == "promoted"
        shop.trials.known["h0003-near"] = stale
        await shop.look(24)
        assert shop.actions[-1] == "promoted"
        await shop.look(LATE_MS_MAX / HOUR_MS)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, "the watch saw too little" in last.reason) == ("kept", True)

    shop.work(work)


@dataclass
class Turns:
    """A lease that is lost after some events of the log."""

    left: int
    is_shared = True
    owner = "there"
    position = -1

    @property
    def is_held(self) -> bool:
        """Whether it still is."""
        return self.left > 0

    def tell(self, position: int) -> None:
        """Say nothing."""


@pytest.mark.parametrize("left", range(1, 7))
def test_a_node_that_loses_the_lease_says_and_does_nothing_more(shop: Shop, left: int) -> None:
    """Wherever in a round that is: the node that holds it goes on, and both together decide each thing once."""

    @with_champion
    async def work(shop: Shop) -> None:
        lost, record = Turns(left), shop.running.engine.record
        since: list[int] = []

        async def counted(*told: object, **how: object) -> object:
            since.append(lost.left)
            lost.left -= 1
            return await record(*told, **how)  # type: ignore[arg-type]  # as it came

        shop.running.engine.record = counted  # type: ignore[method-assign, assignment]  # who holds it is seen
        shop.loop.share(lost)
        for hours in (6, 1, 24):
            await shop.look(hours)
        assert since == list(range(left, 0, -1)), "nothing is written without it"
        shop.running.engine.record = record  # type: ignore[method-assign]
        shop.loop.share(Turns(1 << 30))
        for _ in range(40):
            await shop.look(1)
            last = shop.loop.journal.last("near")
            assert last is not None
            if last.action == "kept" and last.champion:
                assert shop.champion == last.candidate
                break
        else:
            pytest.fail(f"{shop.actions}")
        assert [each.state for each in shop.trials.known.values()] == ["stopped"] * len(shop.trials.known)

    shop.work(work)


def test_a_version_that_was_published_and_not_measured_is_named(shop: Shop) -> None:
    """The decision says which files are of no use."""

    async def work(shop: Shop) -> None:
        shop.maker.fails = [NotMeasured("it was killed", "0007-a")]
        await shop.viewed()
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.candidate) == ("failed", "0007-a")

    shop.work(work)


def test_an_experiment_of_the_same_name_and_other_versions_is_no_canary(shop: Shop) -> None:
    """Somebody has given that name to another one: the candidate waits for a person."""

    @with_champion
    async def work(shop: Shop) -> None:
        await shop.trials.start(TrialOrder("t0002-near", "home", "near", "0001-x", "0009-x", 0.1))
        await shop.look(6)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, "the canary cannot run" in last.reason) == ("waiting", True)

    shop.work(work)


@pytest.mark.parametrize(
    "share, worse_max, reads, passes",
    [
        (0.1, None, True, True),
        (0.0, None, True, False),
        (0.1, None, False, False),
        (0.0, 0.1, True, True),
        (0.1, 0.05, True, False),
    ],
)
def test_a_bound_is_as_wide_as_the_canary_behind_it_allows(
    shop: Shop, share: float, worse_max: float | None, reads: bool, passes: bool
) -> None:
    """Where nobody tries a candidate first a twentieth may be lost, unless a bound is set."""

    @with_champion
    async def work(shop: Shop) -> None:
        gates = replace(TABLE.gates, worse_max=worse_max)
        shop.tables = [replace(TABLE, canary=replace(TABLE.canary, share=share), gates=gates)]
        shop.maker.figure = 0.48  # the interval reaches to -0.03 of 0.5
        if not reads:
            shop.running.engine.live.plans = {}
        await shop.look(6)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action == "refused") is not passes, last
        assert ("offline refused" in last.reason) is not passes

    shop.work(work)


def test_a_canary_that_was_taken_away_leaves_no_wide_bound(shop: Shop) -> None:
    """It passed by the bound before a canary; when that is to begin there is none: it is judged by the other bound."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        for figure, action in ((0.48, "refused"), (0.5, "kept")):
            shop.tables = [TABLE]
            shop.maker.figure = figure
            shop.clock.ms += 6 * HOUR_MS
            await shop.loop.train_next()
            assert shop.actions[-1] == "passed"
            shop.tables = [replace(TABLE, canary=replace(TABLE.canary, share=0.0))]
            await shop.loop.look()
            last = shop.loop.journal.last("near")
            assert last is not None
            assert (last.action, last.reason.startswith("canary.share is 0, so without a canary")) == (action, True)
            assert (shop.champion == first) is (action == "refused")

    shop.work(work)


async def turn_of_another(shop: Shop, meanwhile: Callable[[], Awaitable[None] | None], hours: float = 0.0) -> None:
    """Run one round while another engine of the process has the turn, and let something happen meanwhile."""
    await shop.turn.acquire()
    round_of_it = asyncio.create_task(shop.loop.train_next())
    for _ in range(9):
        await asyncio.sleep(0)
    assert not round_of_it.done()
    shop.clock.ms += round(hours * HOUR_MS)
    happened = meanwhile()
    if happened is not None:
        await happened
    shop.turn.release()
    await round_of_it


def test_a_table_that_changed_before_the_turn_is_the_one_that_counts(shop: Shop) -> None:
    """The wait for other tenants may be hours: without a table nothing is trained, and a new one has new bounds."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.clock.ms += 6 * HOUR_MS
        await turn_of_another(shop, shop.tables.clear)
        assert (len(shop.maker.orders), shop.actions[-1]) == (1, "kept")
        shop.tables.append(TABLE)
        assert shop.loop.view("near").state == "waits", "it left the queue with its table"
        new = replace(TABLE, warm_start=True)
        await turn_of_another(shop, lambda: shop.tables.__setitem__(0, new))
        assert [each.table for each in shop.maker.orders] == [TABLE, new]

    shop.work(work)


def test_acts_that_the_champion_does_not_predict_train(shop: Shop) -> None:
    """After the rest, where the table says so, and by the version in service alone; what was before is learned no more.

    The first such training is a warm start. Those that follow in a row learn all since the first alarm anew.
    """
    table = replace(TABLE, every="", events=1 << 40, calibration=True, rest="2h", canary=CanaryOptions(share=0))
    table = replace(table, warm_start=True, whole_every="7d")

    @with_champion
    async def work(shop: Shop) -> None:
        shop.tables = [table]
        await shop.look(100)
        shop.miscalibrated = shop.champion
        shop.tables = [replace(table, calibration=False)]
        await shop.look(2)
        assert len(shop.maker.orders) == 1
        shop.tables = [table]
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.because, last.candidate[:4], shop.champion[:4]) == ("calibration", "0002", "0002")
        await shop.look(100)
        assert len(shop.maker.orders) == 2, "what answers now is another version"
        shop.maker.figure = 0.1
        shop.miscalibrated = shop.champion
        for hours in (0, 1.9, 0.1):
            await shop.look(hours)
        assert shop.actions[-2:] == ["refused", "refused"]
        alarms_ms = [shop.clock.ms - each * HOUR_MS for each in (103, 3)]
        starts = [each.start[:4] for each in shop.maker.orders]
        assert starts == ["", "0001", "0002", ""]
        assert [each.since_ms for each in shop.maker.orders] == [0, alarms_ms[0], alarms_ms[1], alarms_ms[1]]

    shop.work(work)


def test_an_alarm_while_a_candidate_is_tried_trains_when_that_is_over(shop: Shop) -> None:
    """It holds for less than a day, and a canary may take longer: over its end, and over one of the process."""
    table = replace(TABLE, every="7d", calibration=True, watch="", warm_start=True, whole_every="7d")
    since_ms = shop.clock.ms + 168 * HOUR_MS

    @with_champion
    async def first(shop: Shop) -> None:
        shop.tables, serving = [table], shop.champion
        await shop.look(168)
        shop.miscalibrated = serving
        for hours in (0.5, 0.1):
            await shop.look(hours)
        shop.miscalibrated = ""
        assert shop.actions[-1] == "canary"

    async def second(shop: Shop) -> None:
        await shop.look(0.4)
        assert (shop.actions[-3:], shop.champion[:4]) == (["passed", "canary", "kept"], "0002")
        for hours in (0.9, 0.1):
            assert len(shop.maker.orders) == 2
            await shop.look(hours)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.because, last.start, last.since_ms) == ("calibration", shop.champion, since_ms - HOUR_MS // 2)
        assert (last.alarm, last.alarm_waits) == (shop.champion, False)

    shop.work(first)
    shop.work(second)


def test_an_alarm_is_kept_whatever_else_trains(shop: Shop) -> None:
    """A training that is due by time too is that of the alarm, so is the one after its failure, or one by hand."""
    table = replace(TABLE, calibration=True, watch="", warm_start=True, whole_every="7d", canary=CanaryOptions(share=0))

    @with_champion
    async def work(shop: Shop) -> None:
        shop.tables, first = [table], shop.champion
        shop.miscalibrated, shop.maker.fails = first, [FitStopped("memory")]
        since_ms = shop.clock.ms + 5 * HOUR_MS
        for hours in (6, 1 / 60):
            await shop.look(hours)
        told = [(each.start, each.since_ms) for each in shop.maker.orders[1:]]
        assert told == [(first, since_ms), (first, since_ms)]
        trained = [each for each in reversed(shop.loop.journal.history()) if each.action in {"failed", "passed"}]
        assert [each.because for each in trained][-2:] == ["calibration", "again"]
        second = shop.miscalibrated = shop.champion
        shop.loop.order("near")
        await shop.look()
        order = shop.maker.orders[-1]
        assert (order.start, order.since_ms) == (second, shop.clock.ms - HOUR_MS)

    shop.work(work)


def test_a_whole_fit_comes_once_a_day_between_warm_starts(shop: Shop) -> None:
    """Day by log time from the last whole fit that published a version, over restarts; the decisions say which is one.

    A whole fit that fails is due again.
    """
    warm = replace(TABLE, every="6h", watch="", warm_start=True, whole_every="24h", canary=CanaryOptions(share=0))
    shop.tables = [warm]

    async def first(shop: Shop) -> None:
        await shop.viewed()
        await shop.look()
        for _ in range(3):
            await shop.look(6)

    async def second(shop: Shop) -> None:
        shop.maker.fails = [FitStopped("memory")]
        for _ in range(3):
            await shop.look(6)
        versions = ["", *(f"000{number}" for number in (1, 2, 3)), "", "", "0005"]
        assert [each.start[:4] for each in shop.maker.orders] == versions
        kept = [each.start[:4] for each in reversed(shop.loop.journal.history()) if each.action == "kept"]
        assert kept == [*versions[:4], *versions[5:]]
        shop.tables = [replace(warm, whole_every="")]
        await shop.look(48)
        assert shop.maker.orders[-1].start == shop.maker.orders[-1].champion

    shop.work(first)
    shop.work(second)


def test_a_queue_that_was_emptied_before_the_turn_trains_nothing(shop: Shop) -> None:
    """As by a command in the same process."""

    async def work(shop: Shop) -> None:
        await shop.viewed()
        await turn_of_another(shop, shop.loop._queue.clear)  # nothing else empties it at that moment
        assert (shop.maker.orders, shop.actions) == ([], [])

    shop.work(work)


def test_a_watch_that_began_before_the_turn_is_not_lost(shop: Shop) -> None:
    """A person promoted what waited, while the next training waited: it comes once the watch is over."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.tables = [replace(TABLE, promote="ask")]
        await shop.look(6)
        await shop.look(1)
        assert shop.actions[-1] == "waiting"
        candidate = shop.trials.orders[0].candidate
        shop.clock.ms += 6 * HOUR_MS

        async def promoted() -> None:
            await shop.running.champions.promote("near", candidate)
            await shop.loop.look()

        await turn_of_another(shop, promoted)
        assert (len(shop.maker.orders), shop.actions[-1]) == (2, "promoted")
        await shop.look(24)
        assert shop.trials.known["h0002-near"].state == "stopped"

    shop.work(work)


def test_a_candidate_that_waits_for_requests_is_looked_at_again_in_the_turn(shop: Shop) -> None:
    """With its table of that moment; and hours in which others had the turn are no hours without requests."""

    @with_champion
    async def work(shop: Shop) -> None:
        shop.maker.seen = ShadowAnswers(why_not="no request of it is in the log")
        await shop.look(6)
        assert shop.actions[-1] == "shadow"
        shop.clock.ms += SHADOW_AGAIN_MS
        await turn_of_another(shop, shop.tables.clear)
        assert shop.maker.shadows == 0
        shop.tables.append(TABLE)
        shop.clock.ms += SHADOW_AGAIN_MS
        await turn_of_another(shop, lambda: None, hours=30)
        assert (shop.maker.shadows, shop.actions[-1]) == (1, "shadow")
        await shop.look(23)
        assert shop.actions[-1] == "shadow"
        await shop.look(1)
        assert shop.actions[-1] == "refused"

    shop.work(work)


def test_trainings_are_counted_by_result_gate_and_rollback(shop: Shop) -> None:
    """Every configured model has its series from the start."""

    async def counted(shop: Shop) -> None:
        shop.loop.start()
        await shop.loop.stop()
        text = shop.running.engine.metrics.text().decode()
        assert 'midstream_trainings_total{model="near",result="failed"} 0.0' in text

    @with_champion
    async def work(shop: Shop) -> None:
        await shop.look(6)
        await shop.look(1)
        shop.trials.harm("h0002-near")
        await shop.look()
        shop.maker.figure = 0.1
        await shop.look(6)
        text = shop.running.engine.metrics.text().decode()
        for line in (
            'midstream_trainings_total{model="near",result="passed"} 2.0',
            'midstream_trainings_total{model="near",result="refused"} 1.0',
            'midstream_training_gate_refusals_total{gate="offline",model="near"} 1.0',
            'midstream_training_rollbacks_total{model="near"} 1.0',
        ):
            assert line in text, line
        (last,) = [each for each in text.splitlines() if each.startswith("midstream_training_last_timestamp_seconds{")]
        assert float(last.split()[-1]) == shop.clock.ms / 1_000

    shop.work(counted)
    shop.work(work)
