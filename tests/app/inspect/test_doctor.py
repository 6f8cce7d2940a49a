"""What doctor says of a disk: a full one is a problem that has no damage behind it, a small one is none."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from midstream.app.config.schema import Config
from midstream.app.inspect.doctor import examine
from midstream.app.opening import open_running

MIB = 1 << 20


@pytest.mark.parametrize(
    "total, free, is_told",
    [(60, 0, True), (60, 5, True), (60, 7, False), (20_000, 900, True), (20_000, 1_100, False), (5_000, 600, False)],
)
def test_a_disk_is_full_by_its_own_size(
    tmp_path: Path, total: int, free: int, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem says that the log is not the one; a disk of 60 MB with room left is none."""
    open_running(tmp_path, Config()).engine.log.close()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=total * MIB, free=free * MIB))
    found = examine(tmp_path, Config())
    assert str(found.facts["log"]).startswith("sound, 0 events")
    assert len(found.problems) == is_told
    assert all("nothing that was acknowledged is lost" in problem for problem in found.problems)
