"""A rebuild passes by the acts that were taken back: the state is then that of a log in which they never were."""

from pathlib import Path

import msgspec
import pytest

from midstream.app.config_history import settings_of
from midstream.app.opening import config_of
from midstream.app.operate import rebuild
from midstream.app.point_in_time.lookup import Past
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.instance import Instance
from midstream.engine.log_readers import open_reader
from midstream.engine.retractions.act_search import ActQuestion
from midstream.engine.snapshots import compactions
from midstream.events.json.decode import decode_objects
from midstream.events.schema import Event, build, concat, event_at
from midstream.state.fold import Fold
from tests.support.fakes.rebuilds import digest_anew, rebuilt, run_folder, run_in_process, write_config
from tests.support.rig import view

TEXT = '[items.attributes]\ncategory = "category"\n'


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children work on a thread of this process."""
    monkeypatch.setattr(child_process, "run", run_in_process)


async def record(running: Instance, *events: dict[str, object]) -> None:
    """Record events on the terms that are in service."""
    decoded = decode_objects(events, msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock()))
    assert not decoded.rejected
    await running.engine.record(decoded.batch)


async def shop_with_acts(running: Instance) -> None:
    """Record a catalogue, acts of many users in sessions, and take some of them back."""
    items: list[dict[str, object]] = [
        {"type": "item", "item_id": f"i{n}", "attributes": {"category": f"c{n % 3}"}} for n in range(9)
    ]
    await record(running, *items)
    for number in range(60):
        user, item = f"u{number % 7}", f"i{number * number % 9}"
        await record(running, view(item, user, event_id=f"e{number}"))
    for number in (3, 17, 18, 59):
        await running.engine.retractor.by_id(f"e{number}")


def never_came(running: Instance) -> Fold:
    """Return the fold, under what is in service less what it passes by, of a log without acts taken back."""
    log = running.engine.log
    read = batches(log.read, LogPosition(0), log.end)
    batch = concat([each for _, each in read])
    gone = {*range(0)}
    for at in range(len(batch)):
        gone |= compactions.acts_taken_back(build([event_at(batch, at)]))
    events = [event_at(batch, at) for at in range(len(batch))]
    told = [
        Event(Kind.TICK, event_id=each.event_id, log_time_ms=each.log_time_ms)
        if at in gone or each.kind == Kind.RETRACTION
        else each
        for at, each in enumerate(events)
    ]
    fold = Fold(msgspec.structs.replace(running.service.settings, compaction=""))
    fold.apply(LogPosition(0), build(told))
    return fold


def differing(one: Fold, other: Fold) -> set[str]:
    """Return the names of the arrays in which two states differ."""
    theirs = other.arrays()
    return {name for name, array in one.arrays().items() if array.tobytes() != theirs[name].tobytes()}


@pytest.mark.usefixtures("in_process")
def test_a_rebuild_passes_them_by(tmp_path: Path) -> None:
    """Ordered without another configuration; what is taken back later counts at once, and with the next one."""
    write_config(tmp_path, TEXT)

    async def work(running: Instance) -> None:
        engine = running.engine
        await shop_with_acts(running)
        assert "event_ids.content" in differing(engine.fold, never_came(running))
        assert len(differing(engine.fold, never_came(running))) > 3
        assert (await running.rebuilder.order()).change == "state"
        done = await rebuilt(running)
        assert (done.state, done.reason) == ("done", "")
        assert differing(engine.fold, never_came(running)) == {"event_ids.content"}
        assert engine.fold.digest() == digest_anew(running)
        assert len(engine.fold.vocabulary.retractions) == 0
        assert (await engine.retractor.by_id("e17")).already_retracted == 1
        assert (await running.rebuilder.order()).change == "nothing"
        found = await engine.retractor.newest(ActQuestion("u1", "view", "i0"))
        assert found.retracted == 1
        assert engine.fold.digest() == digest_anew(running)
        digests.append(engine.fold.digest())

    digests: list[str] = []
    run_folder(tmp_path, work)

    async def again(running: Instance) -> None:
        """After a restart it is the same state, and the next rebuild passes five acts by."""
        fold = running.engine.fold
        assert [fold.digest()] == digests
        assert (len(fold.dropped.acts), len(fold.vocabulary.retractions)) == (4, 1)
        assert (await running.rebuilder.order()).change == "state"
        assert (await rebuilt(running)).state == "done"
        assert len(running.engine.fold.dropped.acts) == 5
        assert differing(running.engine.fold, never_came(running)) == {"event_ids.content"}

    run_folder(tmp_path, again)


@pytest.mark.usefixtures("in_process")
def test_another_configuration_and_a_compaction_pass_them_by_too(tmp_path: Path) -> None:
    """Items that are dropped stay dropped, and acts that are passed by stay so."""
    write_config(tmp_path, TEXT)

    async def work(running: Instance) -> None:
        await shop_with_acts(running)
        write_config(tmp_path, f'{TEXT}[sessions]\ngap = "7m"\n')
        assert (await running.rebuilder.order()).change == "state"
        assert (await rebuilt(running)).state == "done"
        assert len(running.engine.fold.dropped.acts) == 4
        await record(running, {"type": "item", "item_id": "i8", "operation": "delete"})
        assert (await running.rebuilder.order(compact=True)).change == "state"
        assert (await rebuilt(running)).state == "done"
        dropped = running.engine.fold.dropped
        assert (len(dropped.acts), len(dropped.item_hash)) == (4, 1)
        await running.engine.retractor.by_id("e20")
        assert (await running.rebuilder.order()).change == "state"
        assert (await rebuilt(running)).state == "done"
        dropped = running.engine.fold.dropped
        assert (len(dropped.acts), len(dropped.item_hash)) == (5, 1)
        assert running.engine.fold.digest() == digest_anew(running)

    run_folder(tmp_path, work)
    past = Past(tmp_path, config_of(tmp_path))
    earlier = compactions.dropped_by(DataFolder(tmp_path / "data"), past.eras.earlier)
    assert (len(earlier.acts), len(earlier.item_hash)) == (5, 0)
    assert past.eras.since == compactions.dropped_by(DataFolder(tmp_path / "data"), past.eras.current).before > 0


def test_a_folder_that_nobody_has_open(tmp_path: Path) -> None:
    """The command does the same, and both ways to the state agree."""
    write_config(tmp_path, TEXT)
    config = config_of(tmp_path)
    running = run_folder(tmp_path, shop_with_acts)
    done = rebuild.rebuild(tmp_path, config)
    assert done.acts_taken_back == 4
    assert done.digest != running.engine.fold.digest()
    verified = rebuild.verify(tmp_path, config)
    assert verified.is_equal
    assert verified.from_snapshot == done.digest
    assert rebuild.rebuild(tmp_path, config).digest == done.digest
    settings = settings_of(DataFolder(tmp_path / "data"), config)
    assert compactions.dropped_by(DataFolder(tmp_path / "data"), settings).acts.tolist() == sorted(
        compactions.dropped_by(DataFolder(tmp_path / "data"), settings).acts.tolist()
    )
    assert open_reader(DataFolder(tmp_path / "data")).begin == 0
