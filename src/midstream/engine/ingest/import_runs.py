"""Import runs: a journal during a run, and a control event after its rows.

The journal has the log position at which the rows of a run begin. A killed process leaves it, and the next process that
opens the log closes the run first: until then no other process could append, so all later events are the run's.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from midstream.core.errors import DiskFull
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.folder import DataFolder
from midstream.events.schema import Event, build, event_at
from midstream.events.segments.segments import SegmentLog
from midstream.events.whole_file import write_whole
from midstream.state.control.import_runs import ImportRun, encode_import_run, import_run_of

_TAIL_EVENTS = 10
"""Behind the account of a run come a tick or two at most before the process ends."""


def begin_run(data: DataFolder, run: ImportRun) -> None:
    """Write the journal of a run before it records its first row; its one span has no end yet.

    Raises:
        OSError: The disk.
    """
    write_whole(data.import_journal, encode_import_run(run))


def journal_of(path: Path) -> ImportRun | None:
    """Return the run that a journal is about, None = there is none, or it was never whole."""
    try:
        return import_run_of(path.read_bytes())
    except FileNotFoundError:
        return None


def close_run(data: DataFolder, log: SegmentLog) -> ImportRun | None:
    """Close the account of a run that was broken off; return it, None = there is none.

    On a full disk there is no room for it: then the run has no name, and the log is open all the same.

    Args:
        data: Of the log.
        log: As it was opened, and nothing appended since.

    Raises:
        AppendFailed: The log could not be made durable.
    """
    if data.topic_position.exists():  # nothing is appended to the copy of a shared log but what the topic has
        data.import_journal.unlink(missing_ok=True)
        return None
    run = journal_of(data.import_journal)
    told = None if run is None else _told_account(run, log)
    if told is not None:
        run = told
    elif run is not None:
        run = ended(run, log.end)
        if run.spans and run.log == log.public_name:
            try:
                log.append(build((account_of(run)._replace(log_time_ms=log.last_log_time_ms),)))
            except DiskFull:
                run = None
    data.import_journal.unlink(missing_ok=True)
    return run


def _told_account(run: ImportRun, log: SegmentLog) -> ImportRun | None:
    """Return the account at the end of the log: a kill came after it was written and before the journal was removed."""
    begin = LogPosition(max(log.begin, log.end - _TAIL_EVENTS))
    accounts = import_runs(log.read(begin, _TAIL_EVENTS), log.public_name)
    return accounts.get(run.run)


def ended(run: ImportRun, end: int) -> ImportRun:
    """Return a run of a journal whose rows end before a log position; where that is no row, without a span."""
    ((begin, _),) = run.spans
    spans = ((begin, end),) if end > begin else ()
    return msgspec.structs.replace(run, spans=spans, counts={**run.counts, "recorded": max(0, end - begin)})


def account_of(run: ImportRun) -> Event:
    """Return the control event that names a run."""
    return Event(Kind.CONTROL, body=encode_import_run(run))


def import_runs(batches: Iterable[tuple[LogPosition, EventBatch]], log_name: str) -> dict[str, ImportRun]:
    """Return the import runs that a log records, by name, in the order of the log.

    Args:
        batches: All of the log.
        log_name: Public name; runs that an export brought from another log are ignored.
    """
    found: dict[str, ImportRun] = {}
    for _, batch in batches:
        for place in np.flatnonzero(batch.rows["kind"] == Kind.CONTROL).tolist():
            told = import_run_of(event_at(batch, place).body)
            if told is not None and told.log == log_name:
                found[told.run] = _joined(found.get(told.run), told)
    return found


def _joined(before: ImportRun | None, part: ImportRun) -> ImportRun:
    """Return a run with one more part of its account."""
    return part if before is None else msgspec.structs.replace(part, spans=before.spans + part.spans)
