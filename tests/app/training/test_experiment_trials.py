"""Trials by experiments of a running engine: harm ends a canary, and takes a promoted version back."""

from collections.abc import Callable
from dataclasses import replace as changed
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from midstream.app.operate.model_registry import registry_of
from midstream.app.training.experiment_trials import ExperimentTrials, trial_metrics
from midstream.engine.experiments.canaries import CanaryStanding
from midstream.engine.trainings.candidates import LoopParts, TrialOrder
from midstream.engine.trainings.training_loop import TrainingLoop
from midstream.engine.types import Ask
from midstream.evaluation.experiments.guardrails import GuardrailVerdict
from midstream.events.json.decode import decode_objects
from midstream.experiments.metrics import metric_faults
from midstream.state.settings import EventType, FoldSettings
from midstream.training.options import CanaryOptions, TrainingTable
from tests.engine.trainings.test_rollback import damage
from tests.engine.trainings.test_training_loop import Clock, FakeTrials, Maker, Shop
from tests.support.fakes.models import write_folder

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.experiments.canaries import Canaries

TABLE = TrainingTable(
    model="near", every="6h", canary=CanaryOptions(share=0.5, at_least="1h", at_most="3h", units_min=20)
)


class Tried(Shop):
    """A shop whose trials are experiments of its engine."""

    visitors = 0

    @property
    def own_trials(self) -> ExperimentTrials:
        """The engine's own experiments."""
        assert self.running.canaries is not None
        return ExperimentTrials(self.running.engine, self.running.canaries)

    def resume(self) -> None:
        """Use the engine's own experiments for what was decided so far."""
        engine, champions = self.running.engine, self.running.champions
        self.loop = TrainingLoop(LoopParts(engine, champions, self.maker, self.own_trials, lambda: self.tables))

    async def begin(self) -> None:
        """Have a first version in service."""
        self.resume()
        await self.viewed(9)
        await self.look()
        assert self.champion.startswith("0001")

    async def visits(self, users: int, acts: Callable[[str], bool]) -> dict[str, int]:
        """Have users get a slate each, and act on it or not by the version that answered; return how many of each."""
        engine, seen = self.running.engine, dict[str, int]()
        for _ in range(users):
            self.visitors += 1
            user = f"user-{self.visitors}"
            answer = await engine.recommend(Ask(placement="home", user_id=user, n=3, deadline_ms=10_000))
            engine.flush_served()
            version = answer.models.get("near", "")[:4]
            seen[answer.variant or version] = seen.get(answer.variant or version, 0) + 1
            if acts(version):
                event = {"type": "view", "user_id": user, "item_id": "item-1"}
                await engine.record(decode_objects([event], self.running.service.accept).batch)
        return seen

    async def watched(self) -> None:
        """Have the watch of experiments look, then the loop."""
        assert self.running.watch is not None
        await self.running.watch.look()
        await self.loop.look()


def ahead(candidate: str) -> Callable[[str], bool]:
    """Have all users with a candidate act, and nine of ten others."""
    others = count(1)
    return lambda version: version == candidate or next(others) % 10 > 0


@pytest.fixture
def shop(tmp_path: Path) -> Tried:
    """Return a shop with room for some thousand users."""
    write_folder(tmp_path)
    path = tmp_path / "midstream.toml"
    text = path.read_text()
    for name in ("users_max", "sessions_max", "requests_max", "outcome_slates_max", "index_sessions_max"):
        text = text.replace(f"{name} = 100\n", f"{name} = 4000\n")
    text = text.replace("outcome_items_max = 2000", "outcome_items_max = 40000")
    path.write_text(text)
    return Tried(tmp_path, Clock(), Maker(registry_of(tmp_path)), FakeTrials(), [TABLE])


def test_harm_ends_a_canary_and_the_champion_stays(shop: Tried) -> None:
    """Half of the users are in it, half of those with each version; those of the candidate do nothing."""

    async def work(shop: Shop) -> None:
        assert isinstance(shop, Tried)
        await shop.begin()
        first = shop.champion
        await shop.look(6)
        assert shop.actions[-1] == "canary"
        trials = shop.own_trials
        decided = shop.loop.journal.last("near")
        assert decided is not None
        order = TrialOrder(decided.experiment, "home", "near", first, decided.candidate, 0.5)
        others = [changed(order, candidate=first), changed(order, control="0001-x"), changed(order, model="far")]
        assert [trials.is_running(each) for each in (order, *others)] == [True, False, False, False]
        assert not trials.is_running(changed(order, name="t0003-near"))
        seen = await shop.visits(400, lambda version: version == "0001")
        assert {*seen} == {"champion", "candidate", "0001"}
        await shop.watched()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, shop.champion) == ("stopped", first), last.reason
        assert last.reason.startswith("a guardrail: ")
        assert await shop.visits(20, lambda _: False) == {"0001": 20}

    shop.work(work)


def test_harm_after_a_promotion_takes_the_version_back_in_one_look(shop: Tried) -> None:
    """The version before still answers some, as the control; without harm the canary promoted."""

    async def work(shop: Shop) -> None:
        assert isinstance(shop, Tried)
        await shop.begin()
        first = shop.champion
        await shop.look(6)
        await shop.visits(200, ahead("0002"))
        await shop.watched()
        assert shop.actions[-1] == "canary"
        # What is about no experiment is read as well, so that its time can be known to be over.
        items = [{"type": "item", "item_id": "item-20", "attributes": {}}]
        await shop.running.engine.record(decode_objects(items, shop.running.service.accept).batch)
        shop.clock.ms += 3_600_000
        await shop.loop.look()
        assert shop.actions[-1] == "canary", "the watch has not read all of it"
        await shop.watched()
        assert shop.actions[-1] == "promoted", shop.loop.journal.last("near")
        assert shop.champion.startswith("0002")
        seen = await shop.visits(400, lambda version: version == "0001")
        assert {*seen} == {"champion", "candidate", "0002"}
        await shop.watched()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, shop.champion) == ("rolled_back", first), last.reason
        assert await shop.visits(20, lambda _: False) == {"0001": 20}

    shop.work(work)


def test_a_candidate_that_is_behind_by_its_estimate_is_not_promoted(shop: Tried) -> None:
    """Too little is known to break a guardrail; twice the least time later the candidate is stopped."""

    async def work(shop: Shop) -> None:
        assert isinstance(shop, Tried)
        await shop.begin()
        first, visits = shop.champion, {"0001": 0, "0002": 0}
        await shop.look(6)

        def acts(version: str) -> bool:
            visits[version] += 1
            return version == "0001" or visits[version] % 10 > 0

        await shop.visits(200, acts)
        decided = shop.loop.journal.last("near")
        assert decided is not None
        for hours, action in ((1, "canary"), (1, "stopped")):
            shop.clock.ms += hours * 3_600_000
            await shop.watched()
            assert shop.actions[-1] == action, shop.loop.journal.last("near")
            harm = shop.own_trials.standing(decided.experiment).harm
            assert harm == pytest.approx(0.1, abs=0.03)
        last = shop.loop.journal.last("near")
        assert last is not None
        assert "behind by its estimate" in last.reason
        assert shop.champion == first

    shop.work(work)


async def promoted(shop: Shop) -> None:
    """Have the second version in service, the first one as the control of its watch."""
    assert isinstance(shop, Tried)
    await shop.begin()
    await shop.look(6)
    await shop.visits(200, ahead("0002"))
    shop.clock.ms += 3_600_000
    await shop.watched()
    assert shop.actions[-1] == "promoted"


async def withdrawn(shop: Tried) -> None:
    """Have harm take the second version out of service while the first one cannot be read any more."""
    shop.resume()
    await shop.visits(400, lambda version: version != "0002")
    await shop.watched()
    assert (shop.champion, shop.actions[-1]) == ("", "rolled_back"), shop.loop.journal.last("near")
    assert await shop.visits(20, lambda _: True) == {"": 20}, "the placement answers without the model"


def first_lost(shop: Tried) -> None:
    """End the process in the middle of the watch, and flip a bit of the first version."""
    shop.work(promoted)
    (first,) = [each.name for each in (shop.maker.registry.folder / "near").iterdir() if each.name.startswith("0001")]
    damage(shop, first)


def test_a_canary_after_a_withdrawal_has_a_control_without_the_model(shop: Tried) -> None:
    """Users of the control get no version; harm beside them stops the candidate, and the model stays out of service."""

    async def work(shop: Shop) -> None:
        assert isinstance(shop, Tried)
        await withdrawn(shop)
        await shop.look(6)
        assert (shop.champion, shop.actions[-1]) == ("", "canary")
        versions: dict[str, set[str]] = {}

        def acts(version: str) -> bool:
            versions.setdefault(version, set())
            return version == ""

        seen = await shop.visits(400, acts)
        assert {*seen} == {"champion", "candidate", ""}
        assert {*versions} == {"", "0003"}, "only the candidate's users get a version"
        await shop.watched()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.champion, shop.champion) == ("stopped", "", ""), last.reason
        assert last.reason.startswith("a guardrail: ")
        assert await shop.visits(20, lambda _: True) == {"": 20}

    first_lost(shop)
    shop.work(work)


def test_a_canary_with_an_empty_control_goes_on_after_an_end_and_promotes(shop: Tried) -> None:
    """An end between the start of the experiment and its decision begins no second one; without harm it serves all."""

    async def before(shop: Shop) -> None:
        assert isinstance(shop, Tried)
        await withdrawn(shop)
        shop.clock.ms += 6 * 3_600_000
        await shop.loop.train_next()
        decided = shop.loop.journal.last("near")
        assert decided is not None
        assert (decided.action, decided.champion) == ("passed", "")
        order = TrialOrder("t0003-near", "home", "near", "", decided.candidate, 0.5)
        await shop.own_trials.start(order)
        assert shop.own_trials.is_running(order)
        assert not shop.own_trials.is_running(changed(order, control=decided.candidate))

    async def after(shop: Shop) -> None:
        assert isinstance(shop, Tried)
        shop.resume()
        assert shop.champion == ""
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.experiment) == ("canary", "t0003-near"), last.reason
        seen = await shop.visits(200, ahead("0003"))
        await shop.viewed()  # behind the newest slate, which is in the log then
        assert min(seen["champion"], seen["candidate"]) >= 20
        shop.clock.ms += 3_600_000
        await shop.watched()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.experiment) == ("kept", ""), last.reason
        assert shop.champion.startswith("0003")
        assert await shop.visits(20, lambda _: True) == {"0003": 20}, "no user is held back with an empty control"

    first_lost(shop)
    shop.work(before)
    shop.work(after)


def test_a_trial_is_judged_by_its_own_guardrails() -> None:
    """By the last one that it was started with, whatever interactions are configured meanwhile."""
    verdicts = tuple(GuardrailVerdict(name, "open", harm, -1.0, 1.0, "") for name, harm in (("a", 0.1), ("b", 0.2)))
    seen = CanaryStanding(
        "t", "running", "", "", verdicts, (9, 9), (9, 9), is_valid=True, began_ms=1, ended_ms=None, seen_position=5
    )
    trials = ExperimentTrials(
        cast("Engine", None),
        cast("Canaries", SimpleNamespace(standing={"t": seen, "h": msgspec.structs.replace(seen, verdicts=())}.get)),
    )
    assert (trials.standing("t").harm, trials.standing("h").harm) == (0.2, None)


def test_guardrails_are_on_the_heaviest_and_the_lightest_acts() -> None:
    """Beside the default metrics; whatever interactions are called, an experiment takes them."""
    types = FoldSettings().types
    told = trial_metrics(types, 0.2)
    guards = {each.name: each.harm_max for each in told if each.name.startswith("fewer-")}
    assert guards == {"fewer-purchase": 0.2, "fewer-click": 0.2, "fewer-view": 0.2}
    assert not [*metric_faults(told, types)]
    odd = {"Add to basket": EventType(1.0), "Nicht m\N{LATIN SMALL LETTER O WITH DIAERESIS}gen": EventType(-1.0)}
    assert not [*metric_faults(trial_metrics(odd, 0.1), odd)]
    assert not [*metric_faults(trial_metrics({"no": EventType(-1.0)}, 0.1), {"no": EventType(-1.0)})]
