"""The process that writes a snapshot: newest snapshot + durable log to a position -> new snapshot.

It runs on time that nobody else wants, beside the server, and goes the way of a restart each time: what it writes was
restored from the snapshot before and folded from the log, so the digest that it reports, compared with the live one,
tests both.
"""

import os
import sys
from pathlib import Path

import msgspec

from midstream.core.types import LogPosition
from midstream.engine import snapshots
from midstream.engine.folder import DataFolder
from midstream.engine.replay import catch_up
from midstream.events.disk import RealDisk
from midstream.events.segment_reader import SegmentReader
from midstream.state.settings import decode_settings


class Order(msgspec.Struct, frozen=True):
    """What the server asks of the child, as JSON on its standard input."""

    folder: str
    log_position: int
    settings: str
    """``FoldSettings`` as ``encode_settings`` writes it."""
    keep: int


class Report(msgspec.Struct, frozen=True):
    """What the child says, as one line of JSON on its standard output."""

    log_position: int
    digest: str
    folded: int
    """Events folded since the snapshot before."""
    refused: tuple[str, ...]
    """Snapshots that were not good."""


def run(order: Order) -> Report:
    """Write the snapshot that was ordered and remove those that are too many.

    Raises:
        LogDamaged: A checksum of the log does not match.
        OSError: The disk.
    """
    folder = DataFolder(Path(order.folder))
    settings = decode_settings(order.settings)
    reader = SegmentReader(folder.log, RealDisk())
    position = LogPosition(order.log_position)
    loaded = snapshots.load_newest(folder.snapshots, settings, reader.identity, position)
    fold = loaded.fold
    folded = catch_up(fold, lambda after, limit: reader.read(after, limit, position), position)
    manifest = snapshots.write(folder.snapshots, fold, reader.identity)
    snapshots.prune(folder.snapshots, order.keep, reader.identity)
    return Report(manifest.log_position, manifest.digest, folded, loaded.refused)


def main() -> None:
    """Read the order, write the snapshot, report."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    report = run(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
