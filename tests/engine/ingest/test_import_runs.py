"""An import run has one account, whenever the process that ran it was killed."""

from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME, open_running
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.import_runs import begin_run, close_run, import_runs
from midstream.events.segments.segments import SegmentLog
from midstream.state.control.import_runs import ImportRun
from tests.support.events import random_events


def test_a_kill_between_an_account_and_its_journal_counts_no_row_twice(tmp_path: Path) -> None:
    """The journal is closed again at the next start, with the account that the log has."""
    log = open_running(tmp_path, Config()).engine.log
    assert isinstance(log, SegmentLog)
    data = DataFolder(tmp_path / DATA_NAME)
    run = ImportRun("r1", log.public_name, "clicks.csv", 1, ((0, 0),), {}, {})
    log.append(random_events(50, seed=3))
    begin_run(data, run)
    closed = close_run(data, log)
    assert closed is not None
    assert closed.counts["recorded"] == 50
    end = log.end
    begin_run(data, run)
    assert close_run(data, log) == closed
    assert log.end == end
    assert not data.import_journal.exists()
    assert import_runs(log.read(LogPosition(0), 100), log.public_name) == {"r1": closed}
    log.close()
