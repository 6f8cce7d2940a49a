"""Child process that rewrites the log without erased users, and writes its state.

It runs at a priority below the server's, which continues to append to the old log. The server copies later events
itself before it commits. No result of this process counts before that.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Pace
from midstream.engine.erasure.log_rewrite import SNAPSHOTS_NAME, Made, Rewrite
from midstream.engine.erasure.redaction import Erase, ErasedIds, Print
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import read_folder
from midstream.engine.snapshots import base_state, compactions, snapshots
from midstream.engine.snapshots.worker import STEP_EVENTS
from midstream.events.disk import RealDisk
from midstream.events.schema import cut
from midstream.state.settings import decode_settings
from midstream.state.structures.hashing import IdKey


class RewriteOrder(child_process.WorkOrder, frozen=True):
    """Order of the child, as JSON on its standard input."""

    log_position: int
    """Before it all is durable."""
    settings: str
    """``FoldSettings`` of the version in service, as ``encode_settings`` writes it."""
    segment_bytes: int


class RewriteReport(msgspec.Struct, frozen=True):
    """Report of the child, as one line of JSON on its standard output. It has ids of users, so it is not kept."""

    log_position: int
    digest: str
    generation: int
    ids: dict[str, tuple[tuple[int, int], ...]]
    """Each erased id to log position and log time of its erases."""
    refused: dict[int, tuple[tuple[int, int], ...]]
    """Hash of each id that an erase from before the last rewrite is about, likewise."""
    groups: dict[int, tuple[str, ...]]
    sessions: dict[str, int]
    prints: dict[int, Print]
    end_log_time_ms: int
    blanked: dict[str, int]
    history_files: int


def run(order: RewriteOrder, pace: Pace | None = None) -> RewriteReport:
    """Write the new log up to the position that was ordered, and a snapshot of its state there.

    Raises:
        FolderLocked: Another process seals, cuts or rewrites the history.
        LogDamaged: The log cannot be trusted.
        OSError: The disk.
    """
    pace = pace or Pace(hurried=True)
    data = DataFolder(Path(order.folder))
    disk = RealDisk()
    lock = lock_history(data, disk)
    try:
        settings = decode_settings(order.settings)
        rewrite = Rewrite(data, disk, order.segment_bytes, pace)
        made = rewrite.make(LogPosition(order.log_position), settings)
        digest = _snapshot(order, data, rewrite, pace)
    finally:
        disk.close(lock)
    return _report(order, made, digest)


def _snapshot(order: RewriteOrder, data: DataFolder, rewrite: Rewrite, pace: Pace) -> str:
    """Fold the new log and write its state beside it: among the snapshots it would take the place of an old one."""
    settings = decode_settings(order.settings)
    reader = read_folder(rewrite.target, RealDisk())
    fold = base_state.beginning(settings, compactions.dropped_by(data, settings), reader, pace)
    upto = LogPosition(order.log_position)
    for first, batch in batches(lambda after, limit: reader.read(after, limit, upto), fold.log_position, upto):
        for start in range(0, len(batch), STEP_EVENTS):
            fold.apply(LogPosition(first + start), cut(batch, start, min(start + STEP_EVENTS, len(batch))))
            pace.rest()
        pace.say("folding", first + len(batch), upto)
    return snapshots.write(rewrite.target / SNAPSHOTS_NAME, fold, reader.identity, pace).digest


def _report(order: RewriteOrder, made: Made, digest: str) -> RewriteReport:
    erased = made.erased
    return RewriteReport(
        log_position=order.log_position,
        digest=digest,
        generation=made.identity.generation,
        ids={each: _places(erases) for each, erases in erased.ids.items()},
        refused={each: _places(erases) for each, erases in erased.refused.items()},
        groups=erased.groups,
        sessions=erased.sessions,
        prints=erased.recent_prints(),
        end_log_time_ms=erased.end_log_time_ms,
        blanked=made.blanked,
        history_files=made.history_files,
    )


def _places(erases: Iterable[Erase]) -> tuple[tuple[int, int], ...]:
    return tuple((each.position, each.log_time_ms) for each in erases)


def erased_of(report: RewriteReport, key: IdKey) -> ErasedIds:
    """Return the erased ids, for the redaction of further events."""
    ids = {each: [Erase(*one) for one in erases] for each, erases in report.ids.items()}
    refused = {each: [Erase(*one) for one in erases] for each, erases in report.refused.items()}
    return ErasedIds(key, ids, refused, report.groups, report.sessions, report.prints, report.end_log_time_ms)


if __name__ == "__main__":
    child_process.main(RewriteOrder, run)
