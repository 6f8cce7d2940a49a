"""Child process that writes a snapshot: newest snapshot + durable log to a position -> new snapshot.

It runs beside the server at a lower priority, and takes the path of a restart each time: it restores the snapshot
before and folds the log, so the comparison of its digest with the live one tests both. With other settings than those
in service it is a rebuild: the same path, from further back.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from midstream.core.types import EventBatch, LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Pace
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import FOLD_EVENTS, batches
from midstream.engine.log_readers import FolderLog, open_reader
from midstream.engine.snapshots import base_state, compactions, snapshots
from midstream.engine.snapshots.parity_watch import ParityWatch
from midstream.engine.snapshots.retention import NONE, Hourly
from midstream.events.schema import cut
from midstream.state.fold import Fold
from midstream.state.settings import decode_settings, encode_settings

STEP_EVENTS = 2_000
"""Folded between two rests: 2 ms of interactions, 60 ms of item events. A child that never rests folds
``FOLD_EVENTS``, as many as two cores share."""
CHECKPOINT_S = 600.0
"""Interval of intermediate snapshots: the most that an interrupted rebuild has to repeat."""


class SnapshotOrder(child_process.WorkOrder, frozen=True):
    """Order of the child, as JSON on its standard input."""

    log_position: int
    settings: str
    """``FoldSettings`` as ``encode_settings`` writes it."""
    keep: int
    versions: tuple[str, ...] = ()
    """Other fold versions in use: their snapshots stay."""
    compacts: bool = False
    """First choose which of the candidates in the folder are dropped, and drop them."""
    takes_back: bool = False
    """First find the acts that were taken back, and pass them by; a compaction does."""
    hourly: Hourly = NONE
    """Which snapshots stay for explanations."""
    watched: str = ""
    """From ``parity_watch.watched``: features whose served values are compared on the way; empty = none."""


class SnapshotReport(msgspec.Struct, frozen=True):
    """Report of the child, as one line of JSON on its standard output."""

    log_position: int
    digest: str
    folded: int
    """Events folded since the snapshot before."""
    refused: tuple[str, ...]
    """Snapshots that were not good."""
    settings: str
    """``FoldSettings`` of the snapshot: the ordered ones, and what it passes by if that was found anew."""
    values_compared: int = 0
    """Values of features that were served and compared with those of the fold."""
    values_unequal: int = 0
    unequal: str = ""
    """One of the differences, in words."""


def run(order: SnapshotOrder, pace: Pace | None = None) -> SnapshotReport:
    """Write the ordered snapshot and remove surplus ones.

    Raises:
        LogDamaged: A checksum of the log does not match.
        OSError: The disk.
    """
    pace = pace or Pace(hurried=True)
    folder = DataFolder(Path(order.folder))
    settings = decode_settings(order.settings)
    reader = open_reader(folder)
    position = LogPosition(order.log_position)

    def read(after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        return reader.read(after, limit, position)

    if order.compacts or order.takes_back:
        every = _paced(base_state.everything(reader, position), "choosing", position, pace)
        if order.compacts:
            dropped = compactions.choose(folder, every, position, settings.hash_key())
        else:
            dropped = compactions.take_back(folder, every, compactions.dropped_by(folder, settings))
        settings = msgspec.structs.replace(settings, compaction=dropped.name)
    loaded = base_state.newest(folder, settings, reader, position, pace)
    fold = loaded.fold
    began, written_at = fold.log_position, time.monotonic()
    looked_through = _paced(batches(read, began, position), "comparing", position, pace) if order.watched else ()
    watch = ParityWatch(order.watched, looked_through, began, settings.hash_key())
    watch.look(fold)
    read_at_once, step = (FOLD_EVENTS, FOLD_EVENTS) if pace.uses_threads else (None, STEP_EVENTS)
    for first, batch in _paced(batches(read, began, position, read_at_once), "folding", position, pace):
        for start, stop in watch.cuts(first, len(batch), step):
            fold.apply(LogPosition(first + start), cut(batch, start, stop))
            watch.look(fold)
            pace.rest()
        if time.monotonic() - written_at >= CHECKPOINT_S:
            _write(order, folder, fold, reader, pace)
            written_at = time.monotonic()
    manifest = _write(order, folder, fold, reader, pace)
    written = encode_settings(settings)
    found = watch.parity.compared, watch.parity.mismatched, watch.said()
    return SnapshotReport(manifest.log_position, manifest.digest, position - began, loaded.refused, written, *found)


def _paced(
    events: Iterable[tuple[LogPosition, EventBatch]], stage: str, total: LogPosition, pace: Pace
) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield the events, saying how far they are and resting between two batches."""
    for first, batch in events:
        yield first, batch
        pace.say(stage, first + len(batch), total)
        pace.rest()


def _write(
    order: SnapshotOrder, folder: DataFolder, fold: Fold, reader: FolderLog, pace: Pace
) -> snapshots.SnapshotManifest:
    manifest = snapshots.write(folder.snapshots, fold, reader.identity, pace)
    versions = {*order.versions, fold.settings.version()}
    snapshots.prune(folder.snapshots, order.keep, reader.identity, versions, order.hourly)
    return manifest


if __name__ == "__main__":
    child_process.main(SnapshotOrder, run)
