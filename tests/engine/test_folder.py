"""Which of several logs in a data folder is the one, and that only one process opens it."""

import os
from pathlib import Path

import pytest

from midstream.core.errors import FolderLocked, LogDamaged
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import IDENTITY_NAME, identity_of, write_identity
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import sample_batch

LOG_ID = bytes(range(16))


def with_logs(root: Path, generations: dict[str, int | None]) -> DataFolder:
    """Return a data folder with logs of these generations; None = without an identity."""
    for name, generation in generations.items():
        (root / name).mkdir(parents=True)
        (root / name / "content").touch()
        if generation is not None:
            write_identity(root / name, RealDisk(), identity_of(LOG_ID, generation))
    return DataFolder(root)


@pytest.mark.parametrize(
    "generations,name",
    [
        ({}, "log"),
        ({"log": None}, "log"),
        ({"log": 0}, "log"),
        ({"log": 0, "log-1": None}, "log"),
        ({"log": 0, "log-1": 1}, "log-1"),
        ({"log": 3, "log-2": 1}, "log"),
        ({"log-9": 3, "log-10": 4}, "log-10"),
        ({"log": 0, "log-01": 4, "log-x": 4, "log-": 4, "log_1": 4, "other-1": 4}, "log"),
    ],
)
def test_the_log_is_the_one_of_the_highest_generation(
    tmp_path: Path, generations: dict[str, int | None], name: str
) -> None:
    """A folder counts from its ``log.json`` on; the others of a log's name go at the next start, nothing else does."""
    data = with_logs(tmp_path, generations)
    assert data.log == tmp_path / name
    assert not data.next_log().exists()
    data.remove_outdated_logs()
    strangers = {"log-01", "log-x", "log-", "log_1", "other-1"}
    assert {path.name for path in tmp_path.iterdir()} == generations.keys() & (strangers | {name})


def test_a_damaged_identity_is_not_passed_by(tmp_path: Path) -> None:
    """Rot in the newer log's identity does not bring the older one, with all that was erased from it, back."""
    data = with_logs(tmp_path, {"log": 0, "log-1": 1})
    (tmp_path / "log-1" / IDENTITY_NAME).write_bytes(b"{}")
    with pytest.raises(LogDamaged, match="log-1"):
        open_log(data, LOG_ID, 1_000)
    open_lock = RealDisk().lock(data.lock, data.root)
    RealDisk().close(open_lock)


def test_one_process_has_the_folder_whichever_log_it_is(tmp_path: Path) -> None:
    """The lock is the data folder's; a log takes another's place without letting go of it in between."""
    data = DataFolder(tmp_path / "shop")
    first = open_log(data, LOG_ID, 1_000)
    second = SegmentLog(data.next_log(), RealDisk(), LOG_ID, lock=first.keep_lock())
    first.close()
    with pytest.raises(FolderLocked, match=f"process {os.getpid()};"):
        open_log(data, LOG_ID, 1_000)
    second.append(sample_batch(0, 1, 0))
    second.close()
    open_log(data, LOG_ID, 1_000).close()
