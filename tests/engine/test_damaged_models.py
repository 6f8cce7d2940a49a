"""A version of any kind with one bit or its end gone is refused, while who asks is answered by the one in service."""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ArtifactInvalid, ExtraMissing
from midstream.engine.instance import Instance
from midstream.engine.types import Ask
from midstream.events.json.decode import decode_objects
from midstream.models.artifact.artifact import MANIFEST
from tests.support.damage import DamagedPlace, damage_file, damaged, damages
from tests.support.fakes.models import run_folder
from tests.support.small_models import EVERY_KIND, ITEMS, publish_small, write_every_kind

FURTHER, CUTS = 8, 6
"""Of each kind: flipped bits beyond one of each file, and cuts."""
Versions = Mapping[str, tuple[str, str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Versions]:
    """Return a folder with a placement for each kind, and two versions of each kind whose extra is there, by kind."""
    folder = tmp_path_factory.mktemp("shop")
    write_every_kind(folder)
    registry, found = registry_of(folder), dict[str, tuple[str, str]]()
    for kind in EVERY_KIND:
        try:
            found[kind] = publish_small(registry, kind, 1), publish_small(registry, kind, 2)
        except ExtraMissing:
            continue
    return folder, found


async def look(running: Instance) -> None:
    """Have somebody look at some items, and put one into a cart."""
    acts = [("view", number) for number in range(ITEMS // 2)] + [("cart", ITEMS - 1)]
    events = [{"type": kind, "user_id": "ann", "item_id": f"item-{number}"} for kind, number in acts]
    await running.engine.record(decode_objects(events, running.service.accept).batch)


async def ask(running: Instance, kind: str, version: str) -> None:
    """Ask the placement of a kind; what answers is the version, whole and without a failure."""
    answer = await running.engine.recommend(Ask(placement=kind, user_id="ann", n=3, deadline_ms=60_000))
    assert (answer.models, answer.failures, answer.tier) == ({kind: version}, (), "full")
    assert answer.items


def refusals(running: Instance, kind: str) -> float:
    """Return how often a version of a kind was refused."""
    lines = running.engine.metrics.text().decode().splitlines()
    told = f'midstream_model_refusals_total{{model="{kind}"}} '
    return sum(float(line.removeprefix(told)) for line in lines if line.startswith(told))


def test_every_kind_that_can_be_read_is_among_those_that_are_damaged(shop: tuple[Path, Versions]) -> None:
    """Without extras all those that this release reads, but those of which a small model is fitted by an extra."""
    by_extras = {"bpr", "gradient_boosting", "keras", "logistic_regression", "svd", "two_tower"}
    assert by_extras <= set(EVERY_KIND)
    assert set(EVERY_KIND) - by_extras <= shop[1].keys()


def test_damage_is_refused_at_a_promotion_and_fails_nobody(tmp_path: Path, shop: tuple[Path, Versions]) -> None:
    """Bits and cuts over all files of all kinds, one after another, while each kind's placement is asked."""
    shutil.copytree(shop[0], tmp_path, dirs_exist_ok=True)
    versions = shop[1]
    folders = registry_of(tmp_path).folder

    async def work(running: Instance) -> None:
        await look(running)
        for kind, (first, _) in versions.items():
            await running.champions.promote(kind, first)
        over, asked = asyncio.Event(), 0

        async def keep_asking() -> None:
            nonlocal asked
            while not over.is_set():
                for kind, (first, _) in versions.items():
                    await ask(running, kind, first)
                    asked += 1
                    await asyncio.sleep(0)

        asking = asyncio.ensure_future(keep_asking())
        for number, (kind, (first, second)) in enumerate(versions.items()):
            position = running.engine.fold.promotions.find(kind)
            files = {each.name for each in (folders / kind / second).iterdir()}
            tried = damages(folders / kind / second, len(files) + FURTHER, CUTS, seed=number)
            assert {each.file for each in tried if each.bit is not None} == files
            # A bit of a manifest that says something as good as what was written: only the name tells.
            seed = (folders / kind / second / MANIFEST).read_bytes().index(b'"seed": ') + len(b'"seed": ')
            tried.append(DamagedPlace(MANIFEST, seed, 0))
            for each in tried:
                with damaged(folders / kind / second, each), pytest.raises(ArtifactInvalid):
                    await running.champions.promote(kind, second)
            assert refusals(running, kind) == len(tried)
            assert running.engine.fold.promotions.find(kind) == position
            assert running.champions.standing(kind).version == first
            assert f"model {kind} {second}" in running.engine.health().reason
        over.set()
        await asking
        assert asked > len(versions)
        # It was the damage that was refused: whole again, each is put in service.
        for kind, (_, second) in versions.items():
            await running.champions.promote(kind, second)
            await ask(running, kind, second)

    run_folder(tmp_path, work)


@pytest.mark.parametrize("cuts", [0, 1])
def test_damage_is_refused_at_a_start_and_the_version_before_answers(
    tmp_path: Path, shop: tuple[Path, Versions], cuts: int
) -> None:
    """All champions at once, each at another place; each is counted once."""
    shutil.copytree(shop[0], tmp_path, dirs_exist_ok=True)
    versions = shop[1]

    async def promote(running: Instance) -> None:
        await look(running)
        for kind, each in versions.items():
            for version in each:
                await running.champions.promote(kind, version)

    run_folder(tmp_path, promote)
    for number, (kind, (_, second)) in enumerate(versions.items()):
        folder = registry_of(tmp_path).folder / kind / second
        tried = damages(folder, 1 - cuts, cuts, seed=number) + damages(folder, 20, 0, seed=number)
        damage_file(folder, tried[0] if cuts or not number % 2 else tried[-1])

    async def answers(running: Instance) -> None:
        for kind, (first, second) in versions.items():
            await ask(running, kind, first)
            assert refusals(running, kind) == 1.0
            assert f"model {kind} {second}" in running.engine.health().reason
            assert running.engine.health().ready

    run_folder(tmp_path, answers)
