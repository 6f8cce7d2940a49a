"""Scheduled backup: a dated copy in a folder of copies, a restore drill of it, and retention of the older ones.

A copy is removed only after a newer one is complete and, where a drill is asked for, was restored to the state of its
log. So a series of backups that cannot be restored never replaces one that can.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from midstream.app.opening import config_to_read
from midstream.app.operate.backup import PAGE, TAR_SUFFIX, back_up
from midstream.app.operate.rebuild import verify
from midstream.app.operate.restore import restore
from midstream.app.scheduled.text_metrics import write_metrics
from midstream.core.errors import Fault, Invalid, MidstreamError
from midstream.engine.child_process import Notify, nobody
from midstream.events.file_modes import make_folder

_PREFIX = "midstream-"
_DATED = re.compile(rf"{_PREFIX}\d{{8}}T\d{{6}}Z\{TAR_SUFFIX}")


@dataclass(frozen=True, slots=True)
class BackupOrder:
    """Wishes beyond the copy itself."""

    keep: int = 0
    """The target is a folder of copies, of which the newest stay; 0 = the target is the copy."""
    drill: bool = False
    """Restore the copy beside it, compare the state with a fold of its log, and remove what was restored."""
    metrics: Path | None = None
    """File for the results, for the node exporter."""


@dataclass(frozen=True, slots=True)
class ScheduledBackup:
    """A complete copy, and what was done after it."""

    path: Path
    log_position: int
    files: int
    bytes: int
    left_out: str
    """As ``BackedUp`` says it."""
    digest: str = ""
    """Of the restored state; empty = no drill."""
    removed: tuple[str, ...] = ()
    """Names of older copies."""


def scheduled_backup(folder: Path, target: Path, order: BackupOrder, notify: Notify = nobody) -> ScheduledBackup:
    """Copy a folder, restore the copy once, write metrics, and remove copies that are too many.

    Args:
        folder: Holds ``midstream.toml`` and ``data``; a server may have it open.
        target: The copy, or the folder of copies where ``order.keep`` is set.
        order: What is wished.
        notify: Told how far it is.

    Raises:
        Invalid: As ``back_up``; or the copy could not be restored, or was to another state than that of its log, and
            stays beside the older ones.
        LogDamaged: The log of the folder cannot be trusted.
        OSError: The disk.
    """
    path = target
    if order.keep:
        make_folder(target)
        path = target / f"{_PREFIX}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{TAR_SUFFIX}"
    made = back_up(folder, path, notify)
    values = {
        "midstream_backup_timestamp_seconds": time.time(),
        "midstream_backup_bytes": made.bytes,
        "midstream_backup_log_position": made.log_position,
    }
    digest, fault = "", None
    if order.drill:
        values["midstream_restore_drill_success"] = 0.0
    try:
        if order.drill:
            digest, fault = restore_drill(path, notify)
            values["midstream_restore_drill_success"] = float(fault is None)
    finally:  # a drill that ends in any other way is no success either, and the file says so
        if order.metrics is not None:
            write_metrics(order.metrics, values)
    if fault is not None:
        raise Invalid((fault,))
    removed = _prune(target, order.keep) if order.keep else ()
    return ScheduledBackup(path, made.log_position, made.files, made.bytes, made.left_out, digest, removed)


def restore_drill(source: Path, notify: Notify = nobody) -> tuple[str, Fault | None]:
    """Restore a backup into a temporary folder beside it and fold its log in both ways.

    Returns:
        Digest of the restored state, and the fault where it is not that of the log, or where it could not be restored:
        bytes that differ, a damaged log, no room on the disk.
    """
    right = "A backup whose restored state is that of its log. Keep the older ones, and run midstream doctor."
    try:
        with TemporaryDirectory(prefix=".drill-", dir=source.absolute().parent) as work:
            folder = Path(work) / "shop"
            restore(source, folder, notify)
            found = verify(folder, config_to_read(folder), notify)
    except (MidstreamError, OSError) as error:
        reason = error.faults[0].came if isinstance(error, Invalid) else f"{error}"
        return "", Fault(f"{source}", f"It could not be restored: {reason}", right, PAGE)
    if found.is_equal:
        return found.from_snapshot, None
    came = f"Restored, its snapshot leads to {found.from_snapshot}, and its log to {found.from_the_beginning}."
    return found.from_snapshot, Fault(f"{source}", came, right, PAGE)


def _prune(folder: Path, keep: int) -> tuple[str, ...]:
    """Remove the oldest dated copies; what has another name is somebody else's."""
    names = sorted(each.name for each in folder.iterdir() if _DATED.fullmatch(each.name))
    old = tuple(names[:-keep])
    for name in old:
        (folder / name).unlink()
    return old
