"""Versions of models that placements pin: read beside the champion, named in records, kept, and dropped again."""

import asyncio
from pathlib import Path

import pytest

from midstream.app.explain.reruns import rerun_last
from midstream.app.inspect.folder_view import LogView, answering_of
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ConfigInvalid
from midstream.engine.experiments.views import StartOrder, VariantOrder
from midstream.engine.instance import Instance
from midstream.engine.placements.control_changes import Said
from midstream.engine.types import Answer, Ask
from midstream.events.json.decode import decode_objects
from midstream.models.pins import pin_key
from tests.support.fakes.models import publish_chain, publish_linear, run_folder, write_folder, write_ranked
from tests.support.patience import PATIENCE_S

SAID = Said("ann")
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose placement asks the model ``near``."""
    write_folder(tmp_path)
    return tmp_path


async def look(running: Instance) -> None:
    """Have somebody look at all items, and everybody at the first one."""
    events = [{"type": "view", "user_id": "ann", "item_id": f"item-{number}"} for number in range(9)]
    events += [{"type": "view", "user_id": user, "item_id": "item-0"} for user in USERS]
    await running.engine.record(decode_objects(events, running.service.accept).batch)


async def answers(running: Instance) -> dict[str, Answer]:
    """Ask for everybody."""
    return {
        user: await running.engine.recommend(Ask(placement="home", user_id=user, n=3, deadline_ms=10_000))
        for user in USERS
    }


async def settled(running: Instance, wanted: dict[str, str]) -> None:
    """Wait until the pinned versions that are loaded are these."""
    async with asyncio.timeout(PATIENCE_S):
        while {key: each for key, each in running.engine.live.models.versions.items() if "@" in key} != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def canary(first: str, second: str) -> StartOrder:
    """Return the order of an experiment of two versions."""
    variants = VariantOrder("champion", models={"near": first}), VariantOrder("candidate", models={"near": second})
    return StartOrder("home", variants)


def test_each_variant_reads_its_version_and_its_record_names_it(folder: Path) -> None:
    """Whatever is promoted meanwhile, after a restart as well; all of it is made again exactly."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 4)
    versions = {"champion": first, "candidate": second}
    items: dict[str, list[str]] = {}

    def require(found: dict[str, Answer]) -> None:
        assert {each.variant for each in found.values()} == set(versions)
        for each in found.values():
            assert each.models == {"near": versions[each.variant]}
            assert not each.failures
            assert [item.id for item in each.items] == items[each.models["near"]]

    async def work(running: Instance) -> None:
        await look(running)
        for version in (second, first):
            await running.champions.promote("near", version)
            items[version] = [each.id for each in (await answers(running))[USERS[0]].items]
        assert items[first] != items[second]
        await running.experimenting.start("canary", canary("1", second), SAID)
        require(await answers(running))
        await running.champions.promote("near", second)
        require(await answers(running))
        assert {each.models["near"] for each in (await answers(running)).values()} == {first, second}

    async def again(running: Instance) -> None:
        found = await answers(running)
        require(found)
        assert "models" not in running.engine.concerns
        await running.experimenting.stop("canary", "enough", SAID)
        assert {each.models["near"] for each in (await answers(running)).values()} == {second}
        await settled(running, {})

    run_folder(folder, work)
    view = answering_of(folder, config_of(folder), LogView(folder))
    assert view.plans["home@canary.candidate"].models.versions == {"near": second}
    run_folder(folder, again)
    reruns = list(rerun_last(folder, 60))
    assert len(reruns) == 60
    assert all(not each.differences for each in reruns)


def test_a_pinned_version_is_kept_and_let_go_with_the_experiment(folder: Path) -> None:
    """Pruning takes versions that nothing pins alone; what is pinned is named whole in the document."""
    found = [publish_chain(registry_of(folder), step) for step in (1, 2, 3, 4)]

    async def work(running: Instance) -> None:
        await look(running)
        await running.champions.promote("near", found[3])
        await running.experimenting.start("canary", canary(found[0], "2"), SAID)
        document = running.experimenting.view("canary").variants[1]
        told = running.placing.view(document.placement).in_force
        assert told is not None
        assert told["models"] == {"near": found[1]}
        await running.champions.prune()
        assert running.champions.registry.versions("near") == found

    config = (folder / "midstream.toml").read_text()
    (folder / "midstream.toml").write_text(f"{config}\n[registry]\nversions_kept = 2\n")
    run_folder(folder, work)
    registry = registry_of(folder)
    more = [publish_chain(registry, step) for step in (5, 6)]

    async def again(running: Instance) -> None:
        await running.champions.prune()
        assert registry.versions("near") == [*found[:2], found[3], *more]
        await running.experimenting.stop("canary", "enough", SAID)
        await settled(running, {})
        await running.champions.prune()
        assert registry.versions("near") == [found[3], *more]

    run_folder(folder, again)


def test_what_cannot_be_pinned_is_refused_and_nothing_is_left_loaded(folder: Path) -> None:
    """Of each version where it stands in the order: unknown, damaged, of a model that no part reads."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)
    other = publish_chain(registry_of(folder), 1, name="other")
    path = registry_of(folder).folder / "near" / second / "weight.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    async def work(running: Instance) -> None:
        await running.champions.promote("near", first)
        end = running.engine.log.end
        for pins, where, came in (
            ({"near": "77"}, "/variants/1/models/near", "no version"),
            ({"near": second}, "/variants/1/models/near", "weight"),
            ({"near": first, "other": other}, "/variants/1/models/other", "No part of the placement reads it"),
        ):
            order = StartOrder("home", (VariantOrder("a"), VariantOrder("b", models=pins)))
            with pytest.raises(ConfigInvalid) as refused:
                await running.experimenting.start("canary", order, SAID)
            (fault,) = refused.value.faults
            assert fault.where == where
            assert came in fault.came
        await settled(running, {})
        assert running.engine.log.end == end

    run_folder(folder, work)


def test_a_ranker_whose_inputs_the_placement_lacks_is_not_pinned(tmp_path: Path) -> None:
    """As it would not be promoted there; one whose inputs are there ranks in its variant alone."""
    write_ranked(tmp_path, ("carts",))
    fit = publish_linear(registry_of(tmp_path), ("carts",))
    unfit = publish_linear(registry_of(tmp_path), ("views",))

    async def work(running: Instance) -> None:
        async def start(version: str) -> None:
            variants = VariantOrder("a"), VariantOrder("b", models={"ranker": version})
            await running.experimenting.start("canary", StartOrder("home", variants), SAID)

        with pytest.raises(ConfigInvalid, match="views"):
            await start(unfit)
        await start(fit)
        await settled(running, {pin_key("ranker", fit): fit})
        assert running.engine.plans["home@canary.b"].models.versions == {"ranker": fit}
        assert running.engine.plans["home@canary.a"].models.versions == {}

    run_folder(tmp_path, work)


def test_a_placement_pins_a_version_and_says_so_when_it_is_gone(folder: Path) -> None:
    """Set, or in the file: read beside the champion; lost, it is answered without it and health names it."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)
    told = {"sources": [{"kind": "custom", "path": "components:Near"}], "deadline": "10s"}

    async def work(running: Instance) -> None:
        await look(running)
        await running.champions.promote("near", second)
        preview = await running.placing.preview(
            "home", {**told, "models": {"near": "1"}}, Ask("home", user_id=USERS[0])
        )
        assert preview.answer.models == {"near": first}
        assert preview.today is not None
        assert preview.today.models == {"near": second}
        await settled(running, {})
        await running.placing.put("home", {**told, "models": {"near": "1"}}, SAID)
        assert {each.models["near"] for each in (await answers(running)).values()} == {first}

    async def without(running: Instance) -> None:
        found = (await answers(running))[USERS[0]]
        assert found.models == {}
        assert [each.component for each in found.failures] == ["near"]
        assert f"version {first} of model near is not loaded" in running.engine.concerns["models"]

    run_folder(folder, work)
    path = registry_of(folder).folder / "near" / first
    moved = path.rename(folder / "moved")
    run_folder(folder, without)
    moved.rename(path)

    damaged, whole = path / "weight.npy", (path / "weight.npy").read_bytes()
    damaged.write_bytes(bytes((*whole[:-1], whole[-1] ^ 1)))
    config = (folder / "midstream.toml").read_text()
    (folder / "midstream.toml").write_text(f"{config}\n[registry]\nversions_kept = 2\n")
    for step in (3, 4):
        publish_chain(registry_of(folder), step)

    async def pruned(running: Instance) -> None:
        await running.champions.prune()
        assert first in running.champions.registry.versions("near")

    run_folder(folder, pruned)
    damaged.write_bytes(whole)

    async def back(running: Instance) -> None:
        assert (await answers(running))[USERS[0]].models == {"near": first}

    run_folder(folder, back)

    async def by_file(running: Instance) -> None:
        await running.placing.remove("home", SAID)
        assert (await answers(running))[USERS[0]].models == {"near": second}
        await settled(running, {})
        (folder / "midstream.toml").write_text(f'{config}models = {{ near = "{first}" }}\n')
        await running.rebuilder.order()
        await settled(running, {pin_key("near", first): first})
        assert (await answers(running))[USERS[0]].models == {"near": first}

    run_folder(folder, by_file)
