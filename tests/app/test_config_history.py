"""A start goes on with the configuration that served when the file says another, and comes to that while it serves."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from midstream.app import config_history
from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.config.template import template
from midstream.app.opening import DATA_NAME, config_of
from midstream.core.errors import NotFound
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Ended, WorkOrder
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.snapshots import snapshots, worker
from midstream.engine.types import Ask
from midstream.state.settings import FoldSettings
from tests.support.fakes.rebuilds import digest_anew, rebuilt, run_folder, run_in_process, write_config
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, view

OTHER = "[sessions]\ngap = '7m'\n"
NOTHING = config_history.Span(LogPosition(0), LogPosition(0))
THIRD = "[sessions]\ngap = '8m'\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children work on a thread, and no log is so short that a start folds it first."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    monkeypatch.setattr("midstream.app.opening.FOLD_AT_START_EVENTS", 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that served, with a snapshot of its state, whose file asks for another one now."""
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        for part in range(4):  # a commit each
            acts = (view(f"i{n % 7}", f"u{n % 3}", event_id=f"{n}") for n in range(10 * part, 10 * part + 10))
            await running.engine.record(Rig().batch(*acts))
        assert running.snapshotter is not None
        assert await running.snapshotter.write(compare=True) is not None

    run_folder(tmp_path, work)
    write_config(tmp_path, OTHER)
    return tmp_path


def gap(running: Instance) -> str:
    """Return the session gap in service."""
    return str(running.service.settings.session_gap)


async def nothing(_running: Instance) -> None:
    """Open and close."""


@pytest.mark.parametrize("text", ["", template(), OTHER + "[[placements]]\nname = 'a'\neditorial = ['x']\n"])
def test_what_is_remembered_is_what_served(tmp_path: Path, text: str) -> None:
    """A configuration comes back equal, and so does the one before it, which records may name."""
    data = DataFolder(tmp_path)
    config = parse_config(text)
    config_history.remember(data, Config(), FoldSettings(), NOTHING)
    config_history.remember(data, config, config.fold_settings(), NOTHING)
    found = config_history.remembered(data)
    assert found is not None
    assert (found.config, found.settings) == (config, config.fold_settings())
    assert config_history.config_named(data, config.config_hash) == config
    assert config_history.config_named(data, Config().config_hash) == Config()


def test_a_configuration_is_kept_as_long_as_a_record_may_name_it(tmp_path: Path) -> None:
    """It goes when the log begins behind the last record of its time; of too many the one that was left first."""
    data, late = DataFolder(tmp_path), config_history.LATE_EVENTS_MAX
    configs = [parse_config(f"[sessions]\ngap = '{number}m'\n") for number in range(1, 6)]

    def kept(number: int, begin: int, end: int) -> list[int]:
        span = config_history.Span(LogPosition(begin), LogPosition(end))
        config_history.remember(data, configs[0], FoldSettings(), span, configs[number])
        return [n for n, each in enumerate(configs) if (data.configurations / f"{each.config_hash}.json").exists()]

    assert kept(1, 0, 10) == [0, 1]
    assert kept(2, 0, 20) == [0, 1, 2]  # 1 was left at 20
    assert kept(3, 0, 30) == [0, 1, 2, 3]  # 2 at 30
    assert kept(2, 19 + late, 30 + late) == [0, 1, 2, 3]  # and is back
    assert kept(2, 20 + late, 40 + late) == [0, 2, 3]
    with pytest.raises(NotFound, match="not kept any more"):
        config_history.config_named(data, configs[1].config_hash)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_history, "KEPT_MAX", 1)
        assert kept(4, 20 + late, 50 + late) == [0, 2, 4]  # 3 was left before 2
    with pytest.raises(NotFound):
        config_history.config_named(data, "../serving")


@pytest.mark.parametrize("damage", ["pointer", "content", "other", "gone"])
def test_what_cannot_be_trusted_is_not_remembered(tmp_path: Path, damage: str) -> None:
    """A damaged file, one of another release, one that says something else than its name: as if it were not there."""
    data = DataFolder(tmp_path)
    config_history.remember(data, Config(), FoldSettings(), NOTHING)
    path = data.configurations / f"{Config().config_hash}.json"
    pointer = data.configurations / "serving.json"
    if damage == "pointer":
        pointer.write_bytes(pointer.read_bytes()[:-5])
    elif damage == "content":
        path.write_bytes(b'{"unheard_of": 1}')
    elif damage == "other":
        for part in data.configurations.rglob("*.json"):
            part.write_bytes(part.read_bytes().replace(b'"30m"', b'"31m"'))
    else:
        path.unlink()
    assert config_history.remembered(data) is None


def test_the_old_state_serves_until_the_new_one_is_there(folder: Path) -> None:
    """At once, saying so; then the new one serves, and the next start begins with it."""

    async def work(running: Instance) -> None:
        assert (running.started.snapshot_position, running.started.folded) == (40, 0)
        assert running.started.instead_of == config_of(folder).config_hash
        assert gap(running) == "30m"
        assert f"until the state of {config_of(folder).config_hash} is rebuilt" in running.engine.health().reason
        running.engine.refresh_metrics()
        assert b"midstream_configuration_outdated 1.0" in running.engine.metrics.text()
        assert len((await running.engine.recommend(Ask())).items) == 7
        assert (await rebuilt(running)).state == "done"
        assert gap(running) == "7m"
        assert running.config == config_of(folder)
        assert running.engine.health().reason == ""
        running.engine.refresh_metrics()
        assert b"midstream_configuration_outdated 0.0" in running.engine.metrics.text()
        assert running.engine.fold.digest() == digest_anew(running)

    run_folder(folder, work, may_serve_before=True)
    again = run_folder(folder, nothing, may_serve_before=True)
    assert (again.started.snapshot_position, again.started.instead_of) == (40, "")
    assert gap(again) == "7m"


def test_a_program_that_embeds_the_engine_has_what_it_asked_for(folder: Path) -> None:
    """Without leave to serve another state the log is folded first."""
    running = run_folder(folder, nothing)
    assert gap(running) == "7m"
    assert running.started.folded == 40
    found = config_history.remembered(DataFolder(folder / DATA_NAME))
    assert found is not None  # it has no snapshot, so the one before is still the one to begin with
    assert str(found.settings.session_gap) == "30m"


@pytest.mark.parametrize("why", ["short", "unknown", "snapshots", "component"])
def test_a_start_folds_first_when_it_must(folder: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """When the log is short, what served is not known, has no snapshot, or needs code that is gone."""
    if why == "short":
        monkeypatch.setattr("midstream.app.opening.FOLD_AT_START_EVENTS", 1_000)
    elif why == "unknown":
        (folder / "data" / "config" / "serving.json").unlink()
    elif why == "snapshots":
        for each in (folder / "data" / "snapshots").rglob("manifest.json"):
            each.write_bytes(b"")
    else:
        data = DataFolder(folder / DATA_NAME)
        config = parse_config('[[placements]]\nscorers = [{ kind = "custom", path = "gone:Scorer" }]\n')
        config_history.remember(data, config, config.fold_settings(), NOTHING)
    running = run_folder(folder, nothing, may_serve_before=True)
    assert gap(running) == "7m"
    assert (running.started.snapshot_position, running.started.folded, running.started.instead_of) == (0, 40, "")


def test_an_interrupted_rebuild_goes_on_at_the_next_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the snapshot that its child made on the way, with the old state serving as before."""
    monkeypatch.setattr(worker, "CHECKPOINT_S", -1.0)
    monkeypatch.setattr(worker, "FOLD_EVENTS", 10)

    died = asyncio.Event()

    async def dies(_module: str, order: WorkOrder, *_: object, **__: object) -> Ended:
        writes = 0
        real = snapshots.write

        def write_once(*arguments: object) -> snapshots.SnapshotManifest:
            nonlocal writes
            writes += 1
            if writes == 2:
                raise KeyboardInterrupt
            return real(*arguments)  # type: ignore[arg-type]  # handed on as they came

        with monkeypatch.context() as patch:
            patch.setattr(snapshots, "write", write_once)
            assert isinstance(order, worker.SnapshotOrder)
            with pytest.raises(KeyboardInterrupt):
                worker.run(order)
        died.set()
        return await asyncio.Future()

    async def until_it_died(_running: Instance) -> None:
        await asyncio.wait_for(died.wait(), PATIENCE_S)

    monkeypatch.setattr(child_process, "run", dies)
    assert gap(run_folder(folder, until_it_died, may_serve_before=True)) == "30m"
    reports: list[bytes] = []

    async def goes_on(module: str, order: WorkOrder, *_: object, **__: object) -> Ended:
        done = await run_in_process(module, order)
        reports.append(done.line)
        return done

    monkeypatch.setattr(child_process, "run", goes_on)

    async def work(running: Instance) -> None:
        assert gap(running) == "30m"
        assert (await rebuilt(running)).state == "done"
        assert running.engine.fold.digest() == digest_anew(running)

    assert gap(run_folder(folder, work, may_serve_before=True)) == "7m"
    assert b'"folded":30' in reports[0]


def test_a_change_of_mind_needs_no_rebuild(folder: Path) -> None:
    """When the file says again what serves, the next start has nothing to do; a third one is rebuilt from the first."""

    async def never(_module: str, _order: WorkOrder, *_: object, **__: object) -> Ended:
        return await asyncio.Future()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_process, "run", never)
        run_folder(folder, nothing, may_serve_before=True)
        write_config(folder)
        running = run_folder(folder, nothing, may_serve_before=True)
        assert (running.started.instead_of, running.started.snapshot_position) == ("", 40)
    write_config(folder, THIRD)

    async def work(running: Instance) -> None:
        assert gap(running) == "30m"
        assert (await rebuilt(running)).state == "done"

    assert gap(run_folder(folder, work, may_serve_before=True)) == "8m"
    names = snapshots.names(folder / "data" / "snapshots")
    assert LogPosition(40) in {snapshots.position_of(name) for name in names}


def test_every_section_takes_effect_somewhere() -> None:
    """A section is part of the state, of the plans, or said to be read at a start: none changes unseen."""
    of_the_state = {"events", "items", "sessions", "pairs", "trending", "limits", "features", "feedback"}
    of_the_plans = {"placements", "tables", "models", "reasons", "components", "fetches", "trainings"}
    assert {*Config.__struct_fields__} == of_the_state | of_the_plans | set(config_history.SECTIONS_AT_START)
    changed = parse_config(
        "[events.types]\nview = { weight = 9.0 }\n[items]\nunknown_items = 'hold'\n[sessions]\ngap = '9m'\n"
        "[pairs]\nhalf_life = '9d'\n[trending]\nsegment = 'user.plan'\n[limits]\nusers_max = 9\n"
        "[[features]]\nname = 'views'\nkind = 'count'\nactions = ['view']\n[feedback]\nwindow = '9d'\n"
    )
    for name in of_the_state:
        alone = msgspec.structs.replace(Config(), **{name: getattr(changed, name)})
        assert alone.fold_settings().version() != Config().fold_settings().version(), name
