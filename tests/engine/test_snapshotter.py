"""A snapshot that cannot be written now is written later: nothing that happens to its child ends the writing."""

import asyncio
from pathlib import Path

import pytest

from midstream.core.types import LogPosition
from midstream.engine import snapshotter
from midstream.engine.folder import DataFolder
from midstream.engine.snapshotter import SnapshotOptions, Snapshotter
from midstream.testing.patience import PATIENCE_S
from midstream.testing.rig import Rig, view


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

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none_to_be_had)
    assert Rig().run(lambda rig: try_twice(rig, tmp_path)) >= 2


def test_a_child_that_hangs_is_ended_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that takes too long is killed; the attempt counts as failed, and the next one comes when it is due."""
    monkeypatch.setattr(snapshotter, "CHILD_S_MAX", 0.001)
    assert Rig().run(lambda rig: try_twice(rig, tmp_path)) >= 2
