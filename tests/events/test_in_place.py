"""Files that are removed, replaced or moved under an open log, and a second process: nothing is acknowledged by two."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from midstream.core.errors import AppendFailed, DiskFull, FolderLocked
from midstream.core.types import LogPosition
from midstream.events.disk import RealDisk
from midstream.events.segments.log_identity import IDENTITY_NAME
from midstream.events.segments.segment_scan import segment_name
from midstream.events.segments.segments import SegmentLog, lock_path
from midstream.testing.log_conformance import sample_batch
from tests.support.disks import DiskFault, FailingDisk, ForgetfulDisk
from tests.support.patience import PATIENCE_S

LOG_ID = bytes(range(16))
TAKE = """
import sys
from pathlib import Path
from midstream.events.disk import RealDisk
RealDisk().lock(*map(Path, sys.argv[1:]))
"""
"""Takes a lock and ends."""


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Put an equal file in its place, as an editor or a synchronising program does."""
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def move(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def move_log(path: Path) -> None:
    path.parent.rename(path.parent.with_suffix(".away"))


def move_data(path: Path) -> None:
    path.parent.parent.rename(path.parent.parent.with_suffix(".away"))


def remove_log(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("act", [remove, replace, move, move_log, move_data, remove_log])
@pytest.mark.parametrize("name", [segment_name(0), IDENTITY_NAME])
def test_a_file_that_lost_its_name_takes_no_more(tmp_path: Path, act: Callable[[Path], None], name: str) -> None:
    """The first commit after it is not acknowledged, nor is any later one, and the error says which file it is."""
    folder = tmp_path / "data" / "log"
    log = SegmentLog(folder, RealDisk(), LOG_ID)
    log.append(sample_batch(0, 3, 0))
    act(folder / name)
    with pytest.raises(AppendFailed, match=r"was removed, replaced or moved while .* nothing more is taken") as caught:
        log.append(sample_batch(3, 1, 1))
    assert not isinstance(caught.value, DiskFull)
    assert log.refused == str(caught.value)
    assert log.end == 3
    with pytest.raises(AppendFailed, match="removed, replaced or moved"):
        log.append(sample_batch(3, 1, 1))
    log.close()


def test_what_was_acknowledged_can_be_had_from_the_open_file(tmp_path: Path) -> None:
    """The remedy that the error names: the bytes of a removed segment, as long as the process lives."""
    folder = tmp_path / "data" / "log"
    log = SegmentLog(folder, RealDisk(), LOG_ID)
    log.append(sample_batch(0, 3, 0))
    path = folder / segment_name(0)
    path.unlink()
    with pytest.raises(AppendFailed) as caught:
        log.append(sample_batch(3, 1, 1))
    shutil.copy(str(caught.value).partition("ends ")[2].partition(" has")[0], path)
    log.close()
    again = SegmentLog(folder, RealDisk(), LOG_ID)
    assert again.end >= LogPosition(3)
    again.close()


def test_links_and_another_writing_on_the_way_make_no_difference(tmp_path: Path) -> None:
    """What counts is the file: over a symbolic link, with another hard link, after a segment ended, all goes on."""
    (tmp_path / "there" / "data").mkdir(parents=True)
    (tmp_path / "here").symlink_to(tmp_path / "there")
    folder = tmp_path / "here" / "data" / "log"
    log = SegmentLog(folder, RealDisk(), LOG_ID, 700)
    for number in range(6):
        log.append(sample_batch(number, 1, number))
        if number == 2:
            os.link(folder / segment_name(0), tmp_path / "linked")
            (folder / segment_name(0)).touch()
    assert log.end == 6
    log.close()


def test_a_fake_disk_plays_it_too() -> None:
    """A file that a stranger took away, or that cannot be looked at, ends the log; the commit before it stays."""
    for fault in (False, True):
        inner = ForgetfulDisk()
        failing = FailingDisk(inner)
        folder = Path("/data/log")
        log = SegmentLog(folder, failing, LOG_ID)
        log.append(sample_batch(0, 1, 0))
        if fault:
            failing.fail(DiskFault("is_at"))
        else:
            inner.take_away(folder / segment_name(0))
        with pytest.raises(AppendFailed, match="could not be looked at" if fault else "removed, replaced"):
            log.append(sample_batch(1, 1, 1))
        assert log.end == 1


def taken_by_another(path: Path, folder: Path) -> str:
    """Let another process take a lock; return what it ends with, empty = it has it."""
    command = [sys.executable, "-c", TAKE, str(path), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stderr


def test_a_lock_belongs_to_the_folder_and_not_to_a_file_in_it(tmp_path: Path) -> None:
    """Another process is refused after the lock file was removed, over a link, and when the log is gone."""
    data = tmp_path / "data"
    log = SegmentLog(data / "log", RealDisk(), LOG_ID)
    (tmp_path / "link").symlink_to(data)
    lock = lock_path(data / "log")
    assert f"in use by process {os.getpid()};" in taken_by_another(lock, data)
    assert f"in use by process {os.getpid()};" in taken_by_another(tmp_path / "link" / "lock", tmp_path / "link")
    lock.unlink()
    assert "FolderLocked" in taken_by_another(lock, data)
    with pytest.raises(FolderLocked):
        SegmentLog(data / "log", RealDisk(), LOG_ID)
    shutil.rmtree(data / "log")
    assert "FolderLocked" in taken_by_another(lock, data)
    log.close()
    assert taken_by_another(lock, data) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_mount_of_the_same_folder_is_the_same_folder(tmp_path: Path) -> None:
    """A container that has the folder by another path is refused; it is the same log that is looked at, too."""
    data, other = tmp_path / "data", tmp_path / "mounted"
    other.mkdir()
    log = SegmentLog(data / "log", RealDisk(), LOG_ID)
    if subprocess.run(["mount", "--bind", str(data), str(other)], check=False, capture_output=True).returncode:
        log.close()
        pytest.skip("no mounts here")
    try:
        assert "FolderLocked" in taken_by_another(other / "lock", other)
        log.close()
        over = SegmentLog(other / "log", RealDisk(), LOG_ID)
        over.append(sample_batch(0, 1, 0))
        over.close()
    finally:
        subprocess.run(["umount", str(other)], check=True)


def test_where_folders_cannot_be_locked_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system refuses the lock of what is not open for writing; two processes are told apart still."""
    real = fcntl.flock

    def flock(file: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    disk = RealDisk()
    held = disk.lock(tmp_path / "lock", tmp_path)
    with pytest.raises(FolderLocked, match=f"in use by process {os.getpid()};"):
        disk.lock(tmp_path / "lock", tmp_path)
    disk.close(held)
    disk.close(disk.lock(tmp_path / "lock", tmp_path))
