"""Deleted items give their slots back, and the state is still a fold of the log."""

import asyncio
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.core.errors import SnapshotInvalid
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.snapshots import compactions
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.settings import FoldSettings
from tests.support.events import START_MS, cuts, random_events, tiny_settings
from tests.support.fakes.rebuilds import digest_anew, rebuilt, run_folder, run_in_process, write_config
from tests.support.ids import KEY, hash_of
from tests.support.rig import Rig, view

EVENTS = random_events(300, seed=11)
ITEMS = sorted({event_at(EVENTS, row).item_id for row in range(300)} - {""})


def dropping(before: int, items: list[str]) -> Dropped:
    """Return what drops these items before a position."""
    return Dropped(LogPosition(before), np.unique(np.array([hash_of(each) for each in items], dtype=np.uint64)))


def fold_of(batch: EventBatch, dropped: Dropped = NOTHING, edges: tuple[int, ...] = ()) -> Fold:
    """Return the fold of a batch that was cut at some places."""
    fold = Fold(msgspec.structs.replace(tiny_settings(), compaction=dropped.name), dropped)
    for start, stop in zip((0, *edges), (*edges, len(batch)), strict=True):
        fold.apply(LogPosition(start), cut(batch, start, stop))
    return fold


def without_items(batch: EventBatch, dropped: Dropped) -> EventBatch:
    """Return the events, those that are passed by without their item: the plain way to the same state.

    A later copy of one without an id is told by its content, so it loses its item too and stays a copy.
    """
    hashes = set(dropped.item_hash.tolist())
    events = [event_at(batch, row) for row in range(len(batch))]
    of_dropped = [each for each in events[: dropped.before] if hash_of(each.item_id) in hashes]
    copied = {repr(each._replace(log_time_ms=0)) for each in of_dropped if not each.event_id}  # NaN is itself here
    return build(
        [
            each._replace(item_id="")
            if (row < dropped.before and hash_of(each.item_id) in hashes)
            or repr(each._replace(log_time_ms=0)) in copied
            else each
            for row, each in enumerate(events)
        ]
    )


@given(before=st.integers(0, 300), items=st.lists(st.sampled_from(ITEMS), unique=True, max_size=8), edges=cuts(300))
@example(before=46, items=["item-0", "item-1"], edges=[])  # row 60 is a copy of row 45, which has no id
def test_dropping_is_leaving_the_item_out(before: int, items: list[str], edges: list[int]) -> None:
    """Every table is that of events which name no item, however the log is cut; nothing else is touched."""
    dropped = dropping(before, items)
    fold = fold_of(EVENTS, dropped, tuple(sorted(set(edges) - {0, 300})))
    plain = fold_of(without_items(EVENTS, dropped))
    found, expected = fold.arrays(), plain.arrays()
    assert found.keys() == expected.keys()
    # Events are told apart by their content, which names the item, and what is passed by is counted.
    differ = {key for key in found if found[key].tobytes() != expected[key].tobytes()}
    assert {key for key in differ if not key.startswith("event_ids.")} <= {"vocabulary.counts"}
    assert fold.digest() == fold_of(EVENTS, dropped).digest()


def test_another_compaction_than_the_settings_name_is_refused() -> None:
    """A fold that dropped other items would have the version of a state that it is not."""
    dropped = dropping(5, ITEMS[:2])
    with pytest.raises(ValueError, match="the compaction"):
        Fold(tiny_settings(), dropped)
    with pytest.raises(ValueError, match="the compaction"):
        Fold(msgspec.structs.replace(tiny_settings(), compaction=dropped.name))


@given(
    names=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["view", "put", "delete"])), max_size=30),
    before=st.integers(0, 30),
    edges=cuts(30),
)
def test_what_is_named_last_by_its_delete_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]], before: int, edges: list[int]
) -> None:
    """Of the candidates exactly those whose last event before the position deletes them; what is kept says so."""
    folder = DataFolder(tmp_path_factory.mktemp("data"))
    before = min(before, len(names))
    operations = {"put": Operation.PUT, "delete": Operation.DELETE}
    batch = build(
        [
            Event(Kind.INTERACTION, action="view", item_id=item, log_time_ms=START_MS)
            if what == "view"
            else Event(Kind.ITEM, operations[what], item_id=item, body=b"{}", log_time_ms=START_MS)
            for item, what in names
        ]
    )
    candidates = "abc"
    compactions.write_candidates(
        folder, np.array([hash_of(each) for each in candidates[:2]], dtype=np.uint64), dropping(1, ["c"])
    )
    places = sorted({0, before, *(edge for edge in edges if edge < before)})
    parts = [(LogPosition(start), cut(batch, start, stop)) for start, stop in pairwise(places)]
    found = compactions.choose(folder, parts, LogPosition(before), KEY)
    last = dict(names[:before])
    expected = {hash_of(each) for each in candidates if last.get(each) == "delete"}
    assert set(found.item_hash.tolist()) == expected
    settings = msgspec.structs.replace(tiny_settings(), compaction=found.name)
    kept = compactions.dropped_by(folder, settings)
    assert (kept.name, kept.item_hash.tolist()) == (found.name, found.item_hash.tolist())
    assert kept.before == (before if expected else 0)


def test_a_lost_or_damaged_compaction_is_refused(tmp_path: Path) -> None:
    """No state of settings whose dropped items are not known for certain."""
    folder = DataFolder(tmp_path)
    compactions.write_candidates(folder, np.array([hash_of("a")], dtype=np.uint64), NOTHING)
    deleted = build([Event(Kind.ITEM, Operation.DELETE, item_id="a", log_time_ms=START_MS)])
    name = compactions.choose(folder, [(LogPosition(0), deleted)], LogPosition(1), KEY).name
    settings = msgspec.structs.replace(tiny_settings(), compaction=name)
    path = tmp_path / "compactions" / f"{name}.npy"
    content = path.read_bytes()
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[:-9], b""):
        path.write_bytes(damaged)
        with pytest.raises(SnapshotInvalid, match=name):
            compactions.dropped_by(folder, settings)
    path.unlink()
    with pytest.raises(SnapshotInvalid, match=name):
        compactions.dropped_by(folder, settings)


def test_the_last_compactions_stay(tmp_path: Path) -> None:
    """What answered requests of the last months can be made again; what is in use stays however old it is."""
    folder = DataFolder(tmp_path)
    names: list[str] = []
    for number in range(compactions.EARLIER_MAX + 4):
        compactions.write_candidates(folder, np.array([hash_of("a")], dtype=np.uint64), NOTHING)
        deleted = build([Event(Kind.ITEM, Operation.DELETE, item_id="a", log_time_ms=START_MS)])
        names.append(compactions.choose(folder, [(LogPosition(0), deleted)], LogPosition(1 + number), KEY).name)
    (folder.compactions / "half.writing").touch()
    (folder.compactions / "torn.npy").write_bytes(b"\x93NUMPY")  # as old as can be: it takes no other's place
    compactions.prune(folder, {names[0]})
    left = {path.name for path in folder.compactions.iterdir()}
    assert left == {f"{name}.npy" for name in (names[0], *names[4:])}


async def season(running: Instance, name: str) -> None:
    """Put twenty items, have them looked at, delete them."""
    items = [f"{name}{number}" for number in range(20)]
    puts = [{"type": "item", "item_id": item, "attributes": {"price": 1}} for item in items]
    await running.engine.record(Rig().batch(*puts, *(view(item, f"u{name}") for item in items)))
    await running.engine.record(
        Rig().batch(*({"type": "item", "item_id": item, "operation": "delete"} for item in items))
    )


async def compact(running: Instance) -> None:
    """Rebuild without what is deleted."""
    await running.rebuilder.order(compact=True)
    found = await rebuilt(running)
    assert (found.state, found.reason) == ("done", "")
    assert running.engine.fold.digest() == digest_anew(running)


def test_seasons_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are free after it, what was dropped stays so, what is named again is new, and a restart finds the same."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    write_config(tmp_path)

    async def first(running: Instance) -> None:
        await season(running, "spring")
        await running.engine.record(Rig().batch(view("hat"), view("spring3")))
        assert running.engine.fold.vocabulary.item_count == 21
        running.engine.refresh_metrics()
        assert b"midstream_deleted_items 20.0" in running.engine.metrics.text()
        await compact(running)
        assert running.engine.fold.vocabulary.item_ids(np.array([0, 1], dtype=np.int32)) == ["spring3", "hat"]
        assert (await running.rebuilder.order()).change == "nothing"
        await season(running, "autumn")
        await compact(running)
        assert running.engine.fold.vocabulary.item_count == 2
        await running.engine.record(Rig().batch({"type": "item", "item_id": "autumn1", "attributes": {}}))
        assert running.engine.fold.vocabulary.item_count == 3
        assert running.engine.fold.items.deleted_count == 1
        assert running.snapshotter is not None
        await running.snapshotter.write(compare=True)
        assert running.snapshotter.mismatch == ""

    digest = run_folder(tmp_path, first).engine.fold.digest()
    for remove in ((), ("snapshots",)):
        for name in remove:
            for path in sorted((tmp_path / "data" / name).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()

        async def look(running: Instance) -> None:
            assert running.engine.fold.digest() == digest

        run_folder(tmp_path, look)
    for path in (tmp_path / "data" / "compactions").iterdir():
        path.unlink()

    async def taken_again(running: Instance) -> None:
        assert running.service.settings.compaction == ""
        assert running.engine.fold.vocabulary.item_count == 41

    run_folder(tmp_path, taken_again)


def test_a_snapshot_meanwhile_leaves_that_of_the_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of the state in service, written before the compacted state is loaded, does not remove its own."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        await season(running, "spring")
        loop, load = asyncio.get_running_loop(), running.rebuilder._loaded

        async def write() -> None:
            await running.engine.record(Rig().batch(view("hat")))
            assert running.snapshotter is not None
            assert await running.snapshotter.write(compare=True) is not None

        def write_then_load(settings: FoldSettings, position: LogPosition) -> Fold:
            asyncio.run_coroutine_threadsafe(write(), loop).result()
            return load(settings, position)

        monkeypatch.setattr(running.rebuilder, "_loaded", write_then_load)
        await compact(running)
        assert running.engine.fold.vocabulary.item_count == 1

    run_folder(tmp_path, work)


def test_a_compaction_of_nothing_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deleted item the settings stay as they are."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    write_config(tmp_path)

    async def work(running: Instance) -> None:
        await running.engine.record(Rig().batch(view("hat")))
        before = running.service.settings
        await compact(running)
        assert running.service.settings == before

    run_folder(tmp_path, work)
