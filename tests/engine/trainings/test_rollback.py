"""Rollbacks: the newest earlier version that can be put in service answers, else none, and the decision says which."""

from pathlib import Path

import pytest

from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ArtifactInvalid
from midstream.engine.trainings.rollback import earlier_versions
from midstream.training.decisions import TrainingDecision
from tests.engine.trainings.test_training_loop import TABLE, Clock, FakeTrials, Maker, Shop, with_champion
from tests.support.fakes.models import write_folder


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Return a shop whose placement reads a model without a version."""
    write_folder(tmp_path)
    return Shop(tmp_path, Clock(), Maker(registry_of(tmp_path)), FakeTrials(), [TABLE])


def damage(shop: Shop, *versions: str) -> None:
    """Flip a bit of each, and have none of them loaded any more."""
    for version in versions:
        path = shop.maker.registry.folder / "near" / version / "weight.npy"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    shop.running.champions._warm.clear()


async def promoted(shop: Shop) -> str:
    """Have the next version trained, tried and promoted; return it."""
    await shop.look(6)
    await shop.look(1)
    assert shop.actions[-1] == "promoted"
    return shop.champion


def test_a_version_that_cannot_be_loaded_is_passed_by_for_an_older_one(shop: Shop) -> None:
    """In the same look; reason and health say which answers and why no newer one does."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        second = await promoted(shop)
        await shop.look(24)
        third = await promoted(shop)
        damage(shop, second)
        shop.trials.harm("h0003-near")
        await shop.look(1 / 3_600)
        assert (shop.champion, shop.actions[-1]) == (first, "rolled_back")
        last = shop.loop.journal.last("near")
        assert last is not None
        assert last.reason.startswith(f"{first} answers again; {second} cannot be put in service (ArtifactInvalid: ")
        assert last.reason in shop.running.engine.concerns["training-near"]
        count = len(shop.loop.journal.history())
        await shop.look(1 / 3_600)
        assert len(shop.loop.journal.history()) == count, "it is not tried again"
        assert third not in (first, shop.champion)

    shop.work(work)


def test_without_a_version_that_loads_the_model_is_withdrawn(shop: Shop) -> None:
    """The placement answers by what else it has; a restart brings nothing back; the next training may."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await promoted(shop)
        damage(shop, first)
        shop.trials.harm("h0002-near")
        await shop.look(1 / 3_600)
        assert (shop.champion, shop.actions[-1]) == ("", "rolled_back")
        last = shop.loop.journal.last("near")
        assert last is not None
        assert last.reason.startswith("no version of it answers")
        assert f"{first} cannot be put in service (ArtifactInvalid: " in last.reason
        assert last.reason in shop.running.engine.concerns["training-near"]
        missing = "model near has no version in service, answered without it: home"
        assert shop.running.engine.concerns["models"] == missing, "nothing that is promoted is refused"
        plan = shop.running.engine.plans["home"]
        assert "near" not in plan.models.versions

    async def again(shop: Shop) -> None:
        assert shop.champion == ""
        await shop.look(6)
        assert (shop.champion, shop.actions[-1]) == ("", "canary"), "what did harm is not followed by an untried one"
        order = shop.trials.orders[-1]
        assert (order.name, order.control, order.candidate[:4]) == ("t0003-near", "", "0003")
        shop.trials.harm("t0003-near")
        await shop.look(1 / 3_600)
        assert (shop.champion, shop.actions[-1]) == ("", "stopped")
        await shop.look(6)
        assert shop.actions[-1] == "canary"
        await shop.look(1)
        assert shop.actions[-1] == "kept"
        assert shop.champion.startswith("0004")

    shop.work(work)
    shop.work(again)


def test_an_end_between_the_step_and_its_decision_is_made_good(shop: Shop) -> None:
    """The next look finds another version in service, or none, and says what was done."""

    @with_champion
    async def work(shop: Shop) -> None:
        first = shop.champion
        await promoted(shop)
        damage(shop, first)
        shop.trials.harm("h0002-near")
        with pytest.raises(ArtifactInvalid):
            await shop.running.champions.promote("near", first)
        await shop.running.champions.withdraw("near")
        await shop.running.champions.withdraw("near")
        await shop.look()
        last = shop.loop.journal.last("near")
        assert last is not None
        assert (last.action, last.reason.startswith("no version of it answers")) == ("rolled_back", True)

    shop.work(work)


def test_versions_that_did_harm_or_were_refused_are_not_gone_back_to() -> None:
    """The newest first, each once."""

    def said(action: str, candidate: str, champion: str) -> TrainingDecision:
        return TrainingDecision(model="near", action=action, candidate=candidate, champion=champion)  # type: ignore[arg-type]  # one of them

    last = said("promoted", "6", "5")
    decisions = [
        last,
        said("kept", "5", "3"),
        said("rolled_back", "4", "3"),
        said("promoted", "4", "3"),
        said("kept", "3", "1"),
        said("refused", "2", "1"),
    ]
    assert earlier_versions(decisions, last) == ("5", "3", "1")


def test_a_process_that_follows_serves_no_model_that_was_withdrawn(shop: Shop) -> None:
    """Its plans answer without it, as those of the process that it follows do."""

    @with_champion
    async def work(shop: Shop) -> None:
        champions = shop.running.champions
        assert "near" in shop.running.engine.plans["home"].models.versions
        await champions.follow({})
        assert (dict(champions.versions), dict(shop.running.engine.plans["home"].models.versions)) == ({}, {})

    shop.work(work)
