"""Imports that cannot go on leave what was there, say why, and record nothing twice."""

import asyncio
import errno
import gc

import pytest

from midstream.app.config.schema import Config
from midstream.app.ingest import import_file as importing
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import open_running
from midstream.app.rejected_rows import RejectedRows
from midstream.cli.faults import faults_of
from midstream.core.errors import DiskFull, FolderLocked
from midstream.core.kinds import Kind
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.events.disk import RealDisk
from midstream.events.segments.segments import SegmentLog

START_MS = 1_700_000_000_000
CONFIG = Config()
VIEWS = ColumnOptions(constants={"type": "view"}, time_format="ms")


def acts(folder, name="acts.csv", count=12, bad=0):
    """Write a file of acts, behind some that are none."""
    path = folder / name
    lines = [f"u,i{at},never" for at in range(bad)] + [f"u,i{at},{START_MS + at}" for at in range(count)]
    path.write_text("user_id,item_id,time\n" + "".join(f"{line}\n" for line in lines))
    return path


def count_of(folder):
    """Return how many acts the log of a folder holds."""
    return sum(int((batch.rows["kind"] == Kind.INTERACTION).sum()) for batch in LogView(folder).batches())


def test_all_parts_that_fail_are_awaited(tmp_path, monkeypatch):
    """On a full disk several on their way fail: the import raises the first, and no other is left to be reported."""
    monkeypatch.setattr(importing, "RECORD_ROWS", 2)
    reported = []

    async def full(*_):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
        await asyncio.sleep(0.01)
        raise DiskFull("no room")

    monkeypatch.setattr(Engine, "record", full)
    with pytest.raises(DiskFull):
        import_file(tmp_path, CONFIG, acts(tmp_path), VIEWS)
    gc.collect()
    assert reported == []


def test_an_import_that_is_refused_leaves_rejected_rows_of_before(tmp_path):
    """They go when the next import was taken: not where another process has the folder."""
    assert import_file(tmp_path, CONFIG, acts(tmp_path, bad=3), VIEWS).rejected == 3
    kept = tmp_path / "data" / "import-rejected.ndjson"
    before = kept.read_bytes()
    again = acts(tmp_path, "again.csv", bad=1)
    log = SegmentLog(DataFolder(tmp_path / "data").log, RealDisk(), bytes(16))
    try:
        with pytest.raises(FolderLocked):
            import_file(tmp_path, CONFIG, again, VIEWS)
    finally:
        log.close()
    assert kept.read_bytes() == before
    assert [path.name for path in kept.parent.glob("import-rejected*")] == [kept.name]
    assert import_file(tmp_path, CONFIG, again, VIEWS).rejected == 1
    assert kept.read_bytes().count(b"\n") == 1


def test_rejected_rows_that_a_killed_import_left_go(tmp_path):
    """With the next start of an engine, or the next import; those of a process that runs stay."""
    data = DataFolder(tmp_path / "data")
    import_file(tmp_path, CONFIG, acts(tmp_path), VIEWS)
    left, living = (data.root / f"import-rejected.{number}.ndjson" for number in (1 << 22, 1))
    for by in ("start", "import"):
        for path in (left, living):
            path.write_text("{}\n")
        if by == "start":
            open_running(tmp_path, CONFIG).engine.log.close()
        else:
            RejectedRows(data)
        assert living.exists()
        assert not left.exists()


def test_nobody_records_between_the_look_at_the_log_and_the_recording(tmp_path, monkeypatch):
    """The folder is locked from one to the other; what fails in between lets go of it, and run again all goes in."""
    path, opened = acts(tmp_path), open_running

    def full(*_):
        raise DiskFull("no room")

    def late(*arguments):
        patched.setattr(importing, "open_running", opened)
        with pytest.raises(FolderLocked):
            import_file(tmp_path, CONFIG, path, VIEWS)
        patched.setattr("midstream.app.opening.keep_config", full)
        return opened(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(importing, "open_running", late)
        with pytest.raises(DiskFull):
            import_file(tmp_path, CONFIG, path, VIEWS)
    assert [import_file(tmp_path, CONFIG, path, VIEWS).recorded for _ in range(2)] == [12, 0]
    assert count_of(tmp_path) == 12


def test_no_room_for_what_is_read_is_a_full_disk(tmp_path, monkeypatch):
    """It names the data folder and the file, with the remedy of a full disk."""

    class Full:
        def write(self, _content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("midstream.app.ingest.ordering.tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(DiskFull) as caught:
        import_file(tmp_path, CONFIG, acts(tmp_path), VIEWS)
    (fault,) = faults_of(caught.value, "midstream import")
    assert f"{tmp_path / 'data'}: no room for the rows of acts.csv" in fault.came
    assert fault.right.startswith("Make room")
