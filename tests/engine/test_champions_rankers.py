"""A ranker is put in service where its placements have what it reads, and nowhere else; without one all goes on."""

from pathlib import Path

import pytest

from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ArtifactInvalid, ModelUnfit
from midstream.engine.instance import Instance
from midstream.engine.types import Answer, Ask
from midstream.events.json.decode import decode_objects
from tests.support.fakes.models import publish_linear, run_folder, write_folder, write_ranked


async def asked(running: Instance) -> Answer:
    """Ask for somebody, in a shop where one item was put into carts and another one seen more."""
    acts = [("view", "item-1"), ("view", "item-1"), ("view", "item-2"), ("cart", "item-3")]
    events = [{"type": kind, "user_id": "bob", "item_id": item} for kind, item in acts]
    await running.engine.record(decode_objects(events, running.service.accept).batch)
    return await running.engine.recommend(Ask(placement="home", user_id="ann", n=3, deadline_ms=10_000))


def refusals(running: Instance) -> float:
    """Return how often a version was refused."""
    lines = running.engine.metrics.text().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("midstream_model_refusals_total{"))


def test_a_scorer_without_a_version_fails_nothing_and_health_names_it(tmp_path: Path) -> None:
    """The next scorer answers in full; once a version is promoted it answers, and health has nothing to say."""
    write_ranked(tmp_path)
    version = publish_linear(registry_of(tmp_path))

    async def work(running: Instance) -> None:
        before = await asked(running)
        assert (before.tier, before.failures, before.models) == ("full", (), {})
        assert "model ranker has no version in service" in running.engine.health().reason
        assert "home" in running.engine.health().reason
        assert running.engine.health().ready
        await running.champions.promote("ranker")
        after = await asked(running)
        assert (after.tier, after.failures, after.models) == ("full", (), {"ranker": version})
        assert after.items[0].id == "item-3"
        assert running.engine.health().reason == ""

    run_folder(tmp_path, work)


def test_a_source_without_a_version_is_named_by_health(tmp_path: Path) -> None:
    """Whatever part of a placement names the model."""
    write_folder(tmp_path)

    async def work(running: Instance) -> None:
        assert "model near has no version in service" in running.engine.health().reason

    run_folder(tmp_path, work)


def test_a_ranker_that_reads_what_its_placement_lacks_is_not_promoted(tmp_path: Path) -> None:
    """Four parts for each column; no event, no alias, counted, in health; what was in service answers."""
    write_ranked(tmp_path)
    good = publish_linear(registry_of(tmp_path))
    bad = publish_linear(registry_of(tmp_path), ("views", "carts", "score.nobody"))

    async def work(running: Instance) -> None:
        await running.champions.promote("ranker", good)
        position = running.engine.fold.log_position
        with pytest.raises(ModelUnfit) as caught:
            await running.champions.promote("ranker", bad)
        assert isinstance(caught.value, ArtifactInvalid)
        first, second = caught.value.faults
        assert first.where == "$.placements.home.scorers[0].name"
        assert ('"views"' in first.came, '"score.nobody"' in second.came) == (True, True)
        assert ("carts" in first.right, first.page) == (True, "/docs/models.md")
        assert running.engine.fold.log_position == position
        assert running.champions.versions == {"ranker": good}
        assert (refusals(running), bad in running.engine.health().reason) == (1.0, True)
        assert "\n" not in running.engine.health().reason
        assert (await asked(running)).models == {"ranker": good}
        # An alias that answers nobody may stand for it.
        await running.champions.promote("ranker", bad, "shadow")

    run_folder(tmp_path, work)


def test_a_start_refuses_a_champion_that_its_placement_cannot_use(tmp_path: Path) -> None:
    """The configuration changed while nobody served: the one before serves, or none, and the ladder goes on."""
    write_ranked(tmp_path, ("carts", "views"))
    narrow = publish_linear(registry_of(tmp_path))
    wide = publish_linear(registry_of(tmp_path), ("views", "carts"))

    async def promote(running: Instance) -> None:
        await running.champions.promote("ranker", narrow)
        await running.champions.promote("ranker", wide)

    run_folder(tmp_path, promote)
    write_ranked(tmp_path)

    async def on_narrow(running: Instance) -> None:
        answer = await asked(running)
        assert (answer.models, answer.failures, answer.tier) == ({"ranker": narrow}, (), "full")
        assert f'model ranker {wide}: ModelUnfit: $.placements.home.scorers[0].name "ranker" reads "views"' in (
            running.engine.health().reason
        )
        assert refusals(running) == 1.0

    run_folder(tmp_path, on_narrow)
    write_ranked(tmp_path, ("views",))

    async def on_none(running: Instance) -> None:
        answer = await asked(running)
        assert (answer.models, answer.failures, answer.tier) == ({}, (), "full")
        assert answer.items
        # Both versions read what is gone.
        assert (running.engine.health().ready, refusals(running)) == (True, 2.0)
        assert "in service: none" in running.engine.health().reason

    run_folder(tmp_path, on_none)


def test_health_names_a_ranker_from_which_a_change_of_the_file_took_what_it_reads(tmp_path: Path) -> None:
    """A change of placements while it serves: the ladder goes on, named in the answer, and health says why."""
    write_ranked(tmp_path, ("carts", "views"))
    wide = publish_linear(registry_of(tmp_path), ("views", "carts"))

    async def work(running: Instance) -> None:
        await running.champions.promote("ranker", wide)
        assert running.engine.health().reason == ""
        write_ranked(tmp_path)
        await running.rebuilder.order()
        answer = await asked(running)
        assert [each.component for each in answer.failures] == ["ranker"]
        assert '"ranker" reads "views"' in running.engine.health().reason

    run_folder(tmp_path, work)
