"""Snapshots of a running engine: written by a child, compared with the live state, set aside when they differ."""

import asyncio
from pathlib import Path

import pytest

from midstream.app.opening import open_running
from midstream.core.types import EventBatch
from midstream.engine.instance import Instance
from midstream.engine.snapshots import snapshots
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view


def with_events(folder: Path) -> tuple[Instance, EventBatch]:
    """Return an opened folder and events to record there."""
    running = open_running(folder, SMALL)
    return running, Rig().batch(*(view(f"i{number}", event_id=str(number)) for number in range(20)))


def test_a_snapshot_equals_the_live_state(tmp_path: Path) -> None:
    """What the child writes has the digest of the live state, and the next start begins with it."""

    async def work() -> str:
        running, batch = with_events(tmp_path)
        await running.start()
        await running.engine.record(batch)
        assert running.snapshotter is not None
        report = await running.snapshotter.write(compare=True)
        assert report is not None
        assert report.log_position == 20
        assert running.snapshotter.mismatch == ""
        assert await running.snapshotter.write(compare=True) is None  # nothing is new
        await running.stop()
        return report.digest

    digest = asyncio.run(work())
    again = open_running(tmp_path, SMALL)
    again.engine.log.close()
    assert again.started.snapshot_position == 20
    assert again.started.folded == 0
    assert again.engine.fold.digest() == digest


def test_a_snapshot_that_differs_is_set_aside_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest other than the live one: health and a metric say so, and no start reads that snapshot."""

    async def work() -> None:
        running, batch = with_events(tmp_path)
        await running.start()
        await running.engine.record(batch)
        assert running.snapshotter is not None
        with monkeypatch.context() as wrong:
            wrong.setattr(running.engine.fold, "digest", lambda: "another")
            await running.snapshotter.write(compare=True)
        assert "another" in running.snapshotter.mismatch
        assert "set aside" in running.engine.health().reason
        assert running.engine.health().accepts_events
        assert b"midstream_snapshot_mismatches_total 1.0" in running.engine.metrics.text()
        await running.stop()

    asyncio.run(work())
    assert snapshots.names(tmp_path / "data" / "snapshots") == []
    again = open_running(tmp_path, SMALL)
    again.engine.log.close()
    assert again.started.snapshot_position == 0
    assert again.started.folded == 20


def test_snapshots_are_written_while_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the interval a snapshot is written without anybody asking."""

    async def work() -> None:
        running, batch = with_events(tmp_path)
        assert running.snapshotter is not None
        monkeypatch.setattr(running.snapshotter._service, "_first_s", 0.05)
        monkeypatch.setattr(running.snapshotter._service, "_pause_s", 0.05)
        await running.start()
        await running.engine.record(batch)
        async with asyncio.timeout(PATIENCE_S):
            while not snapshots.names(tmp_path / "data" / "snapshots"):  # noqa: ASYNC110  a child process writes it
                await asyncio.sleep(0.05)
        await running.stop()

    asyncio.run(work())
