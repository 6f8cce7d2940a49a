"""A snapshot that cannot be written now is written later: nothing that happens to its child ends the writing."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Ended
from midstream.engine.folder import DataFolder
from midstream.engine.listeners import Listener
from midstream.engine.snapshots import snapshotter
from midstream.engine.snapshots.snapshotter import SnapshotOptions, Snapshotter
from midstream.engine.snapshots.worker import SnapshotOrder, SnapshotReport
from midstream.events.disk import RealDisk
from midstream.events.segments.segments import SegmentLog
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, view


async def try_twice(rig: Rig, folder: Path) -> float:
    """Order a snapshot every millisecond until two have failed; return how many did."""
    await rig.engine.record(rig.batch(view("mug")))
    writer = Snapshotter(DataFolder(folder), SnapshotOptions(interval_ms=1), rig.engine, LogPosition(0))
    writer.start()
    failed = 0.0
    async with asyncio.timeout(PATIENCE_S):
        while failed < 2:
            await asyncio.sleep(0.01)
            assert writer._service is not None
            assert writer._service.is_running
            found = rig.engine.metrics.registry.get_sample_value("midstream_snapshots_total", {"outcome": "failed"})
            failed = found or 0.0
    await writer.stop()
    return failed


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for a child the attempt counts as failed, and the next one comes when it is due."""

    async def none_to_be_had(*_: object, **__: object) -> None:
        raise OSError(12, "no memory")

    monkeypatch.setattr(child_process, "spawn", none_to_be_had)
    assert Rig().run(lambda rig: try_twice(rig, tmp_path)) >= 2


def test_a_child_that_hangs_is_ended_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that takes too long is killed; the attempt counts as failed, and the next one comes when it is due."""
    monkeypatch.setattr(snapshotter, "CHILD_S_MAX", 0.001)
    assert Rig().run(lambda rig: try_twice(rig, tmp_path)) >= 2


def test_health_says_why_there_is_no_snapshot_and_how_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's reason until the next good one; an age of three intervals while events wait, and else none."""
    now_s = 0.0
    ends = [
        Ended(b"", "FileExistsError: data/snapshots is a file", is_told=True),
        Ended(msgspec.json.encode(SnapshotReport(1, "", 0, (), "")), ""),
    ]

    async def told(*_: object, **__: object) -> Ended:
        return ends.pop(0)

    monkeypatch.setattr(child_process, "run", told)

    async def work(rig: Rig) -> None:
        nonlocal now_s
        engine = rig.engine
        writer = Snapshotter(DataFolder(tmp_path), SnapshotOptions(interval_ms=600_000), engine, LogPosition(0))
        engine.listeners.add(Listener(name="snapshots", concern=writer.age_concern))
        now_s = 3_000.0
        assert engine.health().reason == ""
        assert await writer.write(compare=False) is None  # there is nothing to write, so nothing is old
        now_s = 4_700.0
        await engine.record(rig.batch(view("mug")))
        assert engine.health().reason == ""
        now_s = 4_900.0
        assert engine.health().reason == "no snapshot for 1900 s: a start would fold 1 events"
        assert await writer.write(compare=False) is None
        assert "no snapshot was written: FileExistsError: data/snapshots is a file" in engine.health().reason
        assert await writer.write(compare=False) is not None
        assert engine.health().reason == ""
        await writer.stop()

    Rig(monotonic=lambda: now_s).run(work)


@pytest.mark.parametrize("mode", ["at_stop", "off"])
def test_no_age_where_none_is_written_while_serving(tmp_path: Path, mode: str) -> None:
    """What was not asked for is not missed."""
    now_s = 0.0

    async def work(rig: Rig) -> None:
        nonlocal now_s
        writer = Snapshotter(DataFolder(tmp_path), SnapshotOptions(mode=mode), rig.engine, LogPosition(0))
        rig.engine.listeners.add(Listener(name="snapshots", concern=writer.age_concern))
        await rig.engine.record(rig.batch(view("mug")))
        now_s = 1e6
        assert rig.engine.health().reason == ""

    Rig(monotonic=lambda: now_s).run(work)


def test_snapshots_of_a_shared_log_stand_at_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes whose states stand elsewhere order the same position, and none twice."""
    asked: list[int] = []

    async def told(_module: str, order: SnapshotOrder, **_: object) -> Ended:
        asked.append(order.log_position)
        return Ended(msgspec.json.encode(SnapshotReport(order.log_position, "", 0, (), "")), "")

    monkeypatch.setattr(child_process, "run", told)
    log = SegmentLog(tmp_path / "log", RealDisk(), bytes(16))

    async def work(rig: Rig) -> None:
        options = SnapshotOptions(interval_ms=60_000, at_marks=True)
        first, second = (Snapshotter(DataFolder(tmp_path), options, rig.engine, LogPosition(0)) for _ in range(2))
        await first._write_due()
        for minute in range(4):
            rig.now_ms += 20_000 * (minute + 1)
            await rig.engine.record(rig.batch(view("mug"), view("cup")))
            await first._write_due()
        await rig.engine.record(rig.batch(view("mug")))
        await second._write_due()
        await second._write_due()

    Rig(log=log).run(work)
    assert asked[-1] == asked[-2]
    assert len(set(asked)) == len(asked) - 1
    assert asked == sorted(asked)
