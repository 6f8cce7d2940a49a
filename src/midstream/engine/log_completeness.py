"""Completeness check of a data folder's log against snapshots, receipts and configurations made of it.

Snapshots and receipts have the log's name, its generation and their position; a configuration is kept once a folder was
opened. Positions hold within a generation: a repair that gives up events begins another one, and files from before are
no evidence any more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from midstream.core.errors import LogDamaged, LogIncomplete
from midstream.engine.erasure.log_rewrite import Receipt
from midstream.engine.folder import DataFolder
from midstream.engine.snapshots import snapshots
from midstream.events.disk import Disk
from midstream.events.history.history import history_folder
from midstream.events.segments.known_end import KnownEnd, incomplete
from midstream.events.segments.log_identity import (
    IDENTITY_NAME,
    LOG_ID_BYTES,
    identity_of,
    read_identity,
    write_identity,
)
from midstream.events.segments.log_repair import survey_log
from midstream.events.segments.segment_reader import LOOKS_MAX
from midstream.events.segments.segment_scan import Survey, make_first_segment, segment_firsts, segment_name


@dataclass(frozen=True, slots=True)
class LossAccepted:
    """Accepted loss: events that were durable once and are in no file of the folder."""

    end: int
    """Log position at which the log ends and continues."""
    missing: str
    """Missing parts."""


def known_end(data: DataFolder, disk: Disk) -> KnownEnd:
    """Return the position that the log of a data folder must reach; call it before the log is read.

    Raises:
        LogIncomplete: The log is missing, or is another one, or an older generation of it.
        LogDamaged: The identity of the log is damaged.
    """
    identity = read_identity(data.log, disk)
    if identity is None:
        _require_unused(data, disk)
        return KnownEnd()
    found = KnownEnd()
    for name, manifest in snapshots.manifests(data.snapshots):
        by = f"snapshot {name}"
        if manifest.log_id != identity.log_id:
            came = f"{by} was made of another log"  # their ids are secrets
            raise LogIncomplete(incomplete(data.log, came, "that log is missing"))
        if manifest.generation > identity.generation:
            came = f"the log has generation {identity.generation}; {by} was made of generation {manifest.generation}"
            raise LogIncomplete(incomplete(data.log, came, "this is an older writing of it, and the newer is missing"))
        if manifest.generation == identity.generation and manifest.log_position > found.position:
            found = KnownEnd(manifest.log_position, by)
    for receipt in _receipts(data):
        if receipt.generation == identity.generation and receipt.log_position > found.position:
            found = KnownEnd(receipt.log_position, f"the receipt of generation {receipt.generation}")
    return found


def survey_folder(data: DataFolder, disk: Disk, *, thorough: bool = False) -> Survey | None:
    """Check the log of a data folder, also while it is being written; None = nothing was ever recorded in it.

    Args:
        data: The folder.
        disk: Makes the file calls of the log.
        thorough: Check every byte of history too; else that each file exists in its size.

    Returns:
        Contents of the log, up to the first damage.

    Raises:
        LogIncomplete: The log is gone, or ends before a position that other files prove durable.
        LogDamaged: Its identity is missing or damaged, or its history is.
        LogUnreadable: It is of another schema version.
    """
    for _ in range(LOOKS_MAX - 1):
        log = data.log
        try:
            found = _survey(data, log, disk, thorough=thorough)
        except (FileNotFoundError, LogDamaged):
            if data.log == log:
                raise
        else:
            if found is None or found.damage is None or data.log == log:
                return found
    return _survey(data, data.log, disk, thorough=thorough)


def _survey(data: DataFolder, log: Path, disk: Disk, *, thorough: bool) -> Survey | None:
    known = known_end(data, disk)  # first: a server that goes on makes the log longer and never shorter
    if is_absent(data, disk):
        return None
    found = survey_log(log, disk, thorough=thorough)
    if found.damage is None:
        known.require(log, found.end)
    return found


def accept_loss(data: DataFolder, disk: Disk, entropy: Callable[[int], bytes]) -> LossAccepted | None:
    """Continue a log that lost its end, or all of it, where it ends, by an operator's decision.

    The generation is raised first, above that of every file made of the missing events: so an earlier log position is
    not taken for a new one, and an interruption can be repeated. Hold the lock of the folder.

    Args:
        data: The folder. Damage within the log was repaired before.
        disk: Makes the file calls of the log.
        entropy: Makes the id of a log that is completely lost.

    Returns:
        The accepted loss; None = nothing was missing, and nothing was changed.
    """
    try:
        survey_folder(data, disk)
    except LogIncomplete as error:
        missing = str(error).partition(". Nothing was changed")[0]
    else:
        return None
    made = [manifest for _, manifest in snapshots.manifests(data.snapshots)]
    known = read_identity(data.log, disk)
    generations = [0 if known is None else known.generation, *(each.generation for each in made)]
    generations += [each.generation for each in _receipts(data)]
    ids = [each.log_id for each in (known, *made) if each is not None]
    log_id = bytes.fromhex(ids[0]) if ids else entropy(LOG_ID_BYTES)
    identity = identity_of(log_id, max(generations) + 1)
    disk.make_folder(data.log)
    if known is None:
        make_first_segment(data.log, disk, 0)
    write_identity(data.log, disk, identity)
    return LossAccepted(survey_log(data.log, disk).end, missing)


def _receipts(data: DataFolder) -> Iterator[Receipt]:
    """Yield the readable receipts: an unreadable one does not prevent opening an undamaged log."""
    for path in data.receipts.glob("*.json"):
        try:
            yield msgspec.json.decode(path.read_bytes(), type=Receipt)
        except (OSError, msgspec.MsgspecError):
            continue


def is_absent(data: DataFolder, disk: Disk) -> bool:
    """Return whether no log was ever made here, or its creation was interrupted."""
    log = data.log
    if IDENTITY_NAME in disk.list_folder(log) or disk.list_folder(history_folder(log)):
        return False
    firsts = segment_firsts(log, disk)
    return not firsts or (firsts == [0] and disk.size(log / segment_name(0)) == 0)


def _require_unused(data: DataFolder, disk: Disk) -> None:
    """Raise if there are files made of a log, and no log."""
    if not is_absent(data, disk):
        return  # what is left of it says more
    traces = [data.snapshots / name for name, _ in snapshots.manifests(data.snapshots)]
    for folder in (data.receipts, data.configurations):
        traces += sorted(folder.glob("*.json"))
    if traces:
        came = f"there is no log, and {traces[0]} is beside it, which is made of one"
        raise LogIncomplete(incomplete(data.log, came, "the log is missing"))
