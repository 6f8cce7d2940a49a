"""Models in service: promoted, rolled back, refused and found again, and every answer says which version made it."""

import asyncio
import errno
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import registry_of
from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, ConfigInvalid, MidstreamError, NotFound, Overloaded
from midstream.core.kinds import Kind
from midstream.engine.instance import Instance
from midstream.engine.models import champions as champions_module
from midstream.engine.models.log_promotions import AGAIN_S, LogPromotions
from midstream.engine.types import Answer, Ask
from midstream.events.json.decode import decode_objects
from midstream.events.processes.thread_pace import ThreadPace
from midstream.events.schema import Event, build
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.record.served import ServedRecord
from midstream.state.control import promotions
from midstream.state.control.promotions import promotion_body
from midstream.training.registry import Registry
from tests.support.fakes.models import publish_chain, run_folder, write_folder
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def look(running: Instance) -> None:
    """Have somebody look at all items, the first one last."""
    events = [{"type": "view", "user_id": "ann", "item_id": f"item-{number}"} for number in (*range(1, 9), 0)]
    now = running.service.accept
    await running.engine.record(decode_objects(events, now).batch)


async def asked(running: Instance) -> Answer:
    """Ask for somebody who looked at all items."""
    return await running.engine.recommend(Ask(placement="home", user_id="ann", n=3, deadline_ms=10_000))


async def record_of(running: Instance, answer: Answer) -> ServedRecord:
    """Return the record of an answer, once it is in the log."""
    running.engine.flush_served()
    async with asyncio.timeout(PATIENCE_S):
        while (found := running.engine.served(answer.request_id)) is None:  # noqa: ASYNC110  the log thread writes it
            await asyncio.sleep(0.001)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose placement asks a model."""
    write_folder(tmp_path)
    return tmp_path


def damage(folder: Path, version: str) -> None:
    """Flip one bit of a version's weights."""
    path = registry_of(folder).folder / "near" / version / "weight.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_promotions_of_another_node_are_followed(folder: Path) -> None:
    """By the log alone: served at the next look, given up when withdrawn, tried again once files are there."""
    registry = registry_of(folder)
    first, second = publish_chain(registry, 1), publish_chain(registry, 2)
    manifests = {"": "", **{each: registry.manifest_hash("near", each) for each in (first, second)}}

    async def work(running: Instance) -> None:
        engine, champions = running.engine, running.champions
        now_s = [engine.host.monotonic()]
        engine.host = replace(engine.host, monotonic=lambda: now_s[0])
        following = LogPromotions(engine, champions)

        async def by_another_node(version: str) -> None:
            body = promotion_body("near", "champion", version, manifests[version])
            await engine.record(build((Event(Kind.CONTROL, body=body),)))
            await following.look()

        await look(running)
        await by_another_node(first)
        assert (await asked(running)).models == {"near": first}
        away, here = folder / "away", registry.folder / "near" / second
        here.rename(away)
        await by_another_node(second)
        assert (await asked(running)).models == {"near": first}
        assert second in engine.concerns["models"]
        await by_another_node(first)
        assert "models" not in engine.concerns, "what is promoted is what serves"
        await by_another_node(second)
        assert second in engine.concerns["models"]
        away.rename(here)
        now_s[0] += AGAIN_S - 1
        await following.look()
        assert (await asked(running)).models == {"near": first}
        now_s[0] += 1
        await following.look()
        assert (await asked(running)).models == {"near": second}
        assert "models" not in engine.concerns
        await by_another_node("")
        assert (await asked(running)).models == {}

    run_folder(folder, work)


def test_promotions_answer_at_once_are_rolled_back_and_outlive_a_restart(folder: Path) -> None:
    """Before any promotion the source fails by name; then each answer, record and metric names the version."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)

    async def work(running: Instance) -> str:
        await look(running)
        before = await asked(running)
        assert before.models == {}
        assert [failure.component for failure in before.failures] == ["near"]
        assert before.items
        row = await running.champions.promote("near", "1")
        assert (row.version, row.previous, row.alias) == (first, "", "champion")
        answer = await asked(running)
        assert (answer.models, answer.failures) == ({"near": first}, ())
        await running.champions.promote("near")
        answer = await asked(running)
        assert answer.models == {"near": second}
        row = await running.champions.rollback("near")
        assert (row.version, row.previous) == (first, second)
        assert (await asked(running)).models == {"near": first}
        await running.champions.rollback("near")
        assert running.champions.standing("near").version == second
        assert running.champions.standing("near").warm == first
        running.engine.refresh_metrics()
        text = running.engine.metrics.text().decode()
        assert f'midstream_model_version{{model="near",version="{second}"}} 1.0' in text
        assert 'midstream_model_swaps_total{model="near"} 4.0' in text
        found = await record_of(running, answer)
        assert found.models == {"near": second}
        return answer.request_id

    request_id = run_folder(folder, work)

    async def again(running: Instance) -> None:
        assert (await asked(running)).models == {"near": second}
        row = running.engine.fold.promotions.find("near")
        assert row is not None
        assert row.previous == first
        assert running.engine.served(request_id) is not None
        await running.champions.rollback("near")
        assert (await asked(running)).models == {"near": first}

    run_folder(folder, again)
    rows = state_of(folder, config_of(folder), LogView(folder)).fold.promotions.rows
    assert [(row.version, row.previous) for row in rows] == [(first, second)]


def test_a_refused_version_leaves_the_one_in_service(folder: Path) -> None:
    """It raises, is counted, named in health, and leaves neither event nor alias; a good one clears that."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)
    third = publish_chain(registry_of(folder), 3)
    damage(folder, second)

    async def work(running: Instance) -> None:
        await look(running)
        await running.champions.promote("near", first)
        position = running.engine.fold.log_position
        with pytest.raises(ArtifactInvalid, match="SHA-256"):
            await running.champions.promote("near", second)
        assert running.engine.fold.log_position == position
        assert (await asked(running)).models == {"near": first}
        assert f"model near {second}" in running.engine.health().reason
        assert running.engine.health().ready
        assert 'midstream_model_refusals_total{model="near"} 1.0' in running.engine.metrics.text().decode()
        await running.champions.promote("near", third)
        assert "near" not in running.engine.health().reason

    run_folder(folder, work)


def test_a_champion_that_was_damaged_meanwhile_gives_way_to_the_one_before(folder: Path) -> None:
    """At a start too an answer is made by a verified version, or by none, and health says so."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)

    async def promote_both(running: Instance) -> None:
        await running.champions.promote("near", first)
        await running.champions.promote("near", second)

    run_folder(folder, promote_both)
    damage(folder, second)

    async def on_first(running: Instance) -> None:
        await look(running)
        assert (await asked(running)).models == {"near": first}
        assert second in running.engine.health().reason

    run_folder(folder, on_first)
    damage(folder, first)

    async def on_none(running: Instance) -> None:
        answer = await asked(running)
        assert answer.models == {}
        assert answer.items
        assert running.engine.health().ready
        assert "in service: none" in running.engine.health().reason

    run_folder(folder, on_none)


def test_what_cannot_be_promoted_is_named(folder: Path) -> None:
    """Unknown models, versions and aliases, and a rollback to nothing; other aliases change no answer."""
    first = publish_chain(registry_of(folder), 1)

    async def work(running: Instance) -> None:
        promote, rollback = running.champions.promote, running.champions.rollback
        cases: list[tuple[Awaitable[object], type[MidstreamError]]] = [
            (promote("nobody"), NotFound),
            (promote("near", "7"), NotFound),
            (promote("near", first, "king"), ConfigInvalid),
            (rollback("near"), NotFound),
            (rollback("near", "king"), ConfigInvalid),
        ]
        for change, error in cases:
            with pytest.raises(error):
                await change

    run_folder(folder, work)


def test_challengers_and_shadows_are_verified_and_answer_nobody(folder: Path) -> None:
    """They are rows of the state alone: not loaded, not warm, not after a start either, and no matter of health."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)
    damaged = publish_chain(registry_of(folder), 3)
    damage(folder, damaged)

    async def work(running: Instance) -> None:
        promote, health = running.champions.promote, running.engine.health
        without = health().reason
        for alias in ("challenger", "shadow"):
            with pytest.raises(ArtifactInvalid, match="SHA-256"):
                await promote("near", damaged, alias)
            assert running.engine.fold.promotions.find("near", alias) is None
        assert health().reason == without
        assert 'midstream_model_refusals_total{model="near"} 2.0' in running.engine.metrics.text().decode()
        assert running.champions.standing("near").refused == ""
        await promote("near", first, "shadow")
        await promote("near", first, "challenger")
        await promote("near", second, "challenger")
        assert running.champions.versions == {}
        assert running.champions.standing("near").warm == ""
        assert (await asked(running)).models == {}
        await promote("near", first)
        with pytest.raises(ArtifactInvalid):
            await promote("near", damaged, "challenger")
        assert health().reason == ""

    run_folder(folder, work)

    async def again(running: Instance) -> None:
        rows = {row.alias: (row.version, row.previous) for row in running.engine.fold.promotions.rows}
        assert rows == {"champion": (first, ""), "challenger": (second, first), "shadow": (first, "")}
        assert running.champions.versions == {"near": first}
        row = await running.champions.rollback("near", "challenger")
        assert (row.version, row.previous) == (first, second)
        assert running.champions.versions == {"near": first}
        assert running.champions.standing("near").warm == ""

    run_folder(folder, again)


def test_a_version_of_more_bytes_than_the_file_says_is_refused(folder: Path) -> None:
    """At a promotion and at a start, as any other that is refused."""
    small, large = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2, items=40_000)
    assert registry_of(folder).manifest("near", large).bytes > 1 << 20

    async def promote(running: Instance) -> None:
        await running.champions.promote("near", small)
        await running.champions.promote("near", large)

    run_folder(folder, promote)
    file = folder / "midstream.toml"
    file.write_text(f"[registry]\nversion_bytes_max = 1_048_576\n{file.read_text()}")

    async def work(running: Instance) -> None:
        assert running.champions.versions == {"near": small}
        with pytest.raises(ArtifactTooLarge):
            await running.champions.promote("near", large)
        assert running.champions.versions == {"near": small}
        assert f"{large}: ArtifactTooLarge" in running.engine.health().reason
        assert 'midstream_model_refusals_total{model="near"} 2.0' in running.engine.metrics.text().decode()

    run_folder(folder, work)


def test_a_rerun_reads_the_versions_that_the_record_names(folder: Path) -> None:
    """An answer made by a version that is champion no more comes out the same again, from what the registry has."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)
    third = publish_chain(registry_of(folder), 3)

    async def work(running: Instance) -> None:
        engine = running.engine
        await look(running)
        await running.champions.promote("near", first)
        answer = await asked(running)
        record = await record_of(running, answer)
        for version in (second, third):
            await running.champions.promote("near", version)
        models = await running.champions.models_of(record.models)
        for plan, is_same in ((engine.plan("home").serving(models), True), (engine.plan("home"), False)):
            served = await rerun(plan, partial(engine.fold.moment, models=plan.models), record)
            chosen = served.candidates.item_index[served.selection.chosen]
            ids = engine.fold.vocabulary.item_ids(chosen)
            assert ((ids, dict(served.models)) == ([each.id for each in record.items], record.models)) is is_same

    run_folder(folder, work)


def test_requests_go_on_while_versions_change(folder: Path) -> None:
    """Every answer names one version and is what that version says: none fails, none is half of each."""
    registry = registry_of(folder)
    steps = {publish_chain(registry, step): step for step in (1, 2, 3)}

    async def work(running: Instance) -> None:
        await look(running)
        await running.champions.promote("near", next(iter(steps)))
        over = asyncio.Event()
        seen: list[str] = []

        async def ask() -> None:
            while not over.is_set():
                answer = await asked(running)
                assert not answer.failures
                seen.append(answer.models["near"])
                await asyncio.sleep(0)

        asking = [asyncio.ensure_future(ask()) for _ in range(4)]
        for version in (*steps, *steps):
            await running.champions.promote("near", version)
        over.set()
        await asyncio.gather(*asking)
        assert set(seen) == set(steps)

    run_folder(folder, work)


def test_a_rollback_reads_no_disk(folder: Path) -> None:
    """The version before answers again though its folder is gone."""
    first, second = publish_chain(registry_of(folder), 1), publish_chain(registry_of(folder), 2)

    async def work(running: Instance) -> None:
        await look(running)
        await running.champions.promote("near", first)
        row = await running.champions.promote("near", second)
        told = row.previous_manifest
        registry_of(folder).remove("near", first)
        row = await running.champions.rollback("near")
        assert (row.version, row.manifest) == (first, told)
        assert (await asked(running)).models == {"near": first}

    run_folder(folder, work)


def test_versions_that_nothing_needs_go_and_the_others_stay(folder: Path) -> None:
    """The newest stay, what aliases stand for and stood for, and what is loaded; a snapshot is when the others go."""
    registry = registry_of(folder)
    versions = [publish_chain(registry, 1 + number) for number in range(7)]
    text = (folder / "midstream.toml").read_text()
    (folder / "midstream.toml").write_text(f"{text}\n[registry]\nversions_kept = 2\n")

    async def work(running: Instance) -> None:
        await look(running)
        for wanted in ("1", "2", "4"):
            await running.champions.promote("near", wanted)
        await running.champions.promote("near", "3", "shadow")
        assert registry.versions("near") == versions
        assert running.snapshotter is not None
        assert await running.snapshotter.write(compare=False, hurried=True) is not None
        assert registry.versions("near") == [versions[number] for number in (1, 2, 3, 5, 6)]
        assert (await asked(running)).models == {"near": versions[3]}
        assert (await running.champions.rollback("near")).version == versions[1]
        assert not list(registry.folder.rglob(".*"))

    run_folder(folder, work)
    assert publish_chain(registry, 9).startswith("0008-")


def test_versions_that_cannot_be_removed_stay_and_nothing_else_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that was written is good whatever becomes of the models beside it; health says what did not go."""
    publish_chain(registry_of(folder), 1)

    def broken(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no right to remove it")

    async def work(running: Instance) -> None:
        await look(running)
        assert running.snapshotter is not None
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "prune", broken)
            assert await running.snapshotter.write(compare=False, hurried=True) is not None
        assert "no right to remove it" in running.engine.health().reason
        await look(running)
        assert await running.snapshotter.write(compare=False, hurried=True) is not None
        assert "no right to remove it" not in running.engine.health().reason

    run_folder(folder, work)


def test_a_champion_that_answers_makes_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more names than are kept the one that was named longest ago goes, unless a placement asks for it."""
    monkeypatch.setattr(promotions, "PROMOTIONS_MAX", 2)
    registry = registry_of(folder)
    for name in ("near", "other_2026_01_01", "other_2026_01_02"):
        publish_chain(registry, 1, name)

    async def work(running: Instance) -> None:
        champions = running.champions
        await champions.promote("near")
        await champions.promote("other_2026_01_01")
        with pytest.raises(Overloaded, match="champion of 'near', answers in home"):
            await champions.promote("other_2026_01_02")
        await champions.promote("near")
        await champions.promote("other_2026_01_02")
        assert {row.model for row in running.engine.fold.promotions.rows} == {"near", "other_2026_01_02"}

    run_folder(folder, work)


def test_versions_are_read_at_a_pace_while_others_are_answered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion and a challenger alike rest on their own thread; at a start nobody is answered yet, and none rests."""
    registry = registry_of(folder)
    first, second = publish_chain(registry, 1), publish_chain(registry, 2)
    rested = list[int]()

    class Counting(ThreadPace):
        def rest(self) -> None:
            rested.append(threading.get_ident())
            super().rest()

    monkeypatch.setattr(champions_module, "ThreadPace", Counting)

    async def promoted(running: Instance) -> None:
        for version, alias in ((first, "champion"), (second, "challenger")):
            rested.clear()
            await running.champions.promote("near", version, alias)
            assert rested
            assert threading.get_ident() not in rested
        rested.clear()

    run_folder(folder, promoted)

    async def again(running: Instance) -> None:
        assert running.champions.versions == {"near": first}

    run_folder(folder, again)
    assert rested == []
