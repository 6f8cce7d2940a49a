"""Repair of a damaged log: cuts it at its last good position, and keeps the removed bytes in files beside it.

The generation is raised first. So after any interruption, answers from the old history are not taken for the new one,
and the repair can be started again.
"""

from dataclasses import dataclass
from pathlib import Path

import xxhash

from midstream.core.errors import LogDamaged
from midstream.events.disk import Disk
from midstream.events.segments.frames import OPENING_BYTES, head_at, opening_at, seed_of
from midstream.events.segments.log_identity import (
    IDENTITY_NAME,
    LOG_ID_BYTES,
    LogIdentity,
    identity_of,
    read_identity,
    write_identity,
)
from midstream.events.segments.segment_scan import (
    SEGMENT_SUFFIX,
    Damage,
    Survey,
    hot_firsts,
    make_first_segment,
    segment_firsts,
    segment_name,
    survey,
)
from midstream.events.segments.segments import lock_path

_SIDE = ".damaged"
_ID_FROM_BYTES = 4096
"""So much of each file left is enough to differ from any other log."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """Result of a repair."""

    survey: Survey
    """The log as it is now, without damage."""
    damage: Damage | None
    """The damage; None = there was none, and nothing was changed."""
    side_files: tuple[Path, ...]
    """Where the bytes are that were cut off, oldest first."""


def survey_log(folder: Path, disk: Disk, *, thorough: bool = False) -> Survey:
    """Check every byte of a log's segments without changing it, also while it is being written.

    Args:
        folder: Of the log.
        disk: Makes all file calls.
        thorough: Check every byte of history too; else that each file is there in its size.

    Raises:
        LogDamaged: Its identity is missing or not as it was written, or its history is not.
        LogUnreadable: It is of another schema version.
    """
    identity = read_identity(folder, disk)
    if identity is None:
        message = (
            f"{folder} has no log.json, so nothing in it can be checked. Put it back from a backup, or let "
            "`midstream doctor --repair` take the id from the segments and raise the generation"
        )
        raise LogDamaged(message)
    return survey(folder, disk, identity, thorough=thorough)


def repair(folder: Path, disk: Disk) -> Repaired:
    """Cut a log to its last good position before the first damage, raise its generation, keep the rest aside.

    A torn tail is no damage: opening the log drops it. Cost: reads all of the log twice.

    Raises:
        FolderLocked: A process has the data folder open.
        LogUnreadable: It is of another schema version.
        OSError: A file could not be read, written or synced; start the repair again.
    """
    lock = disk.lock(lock_path(folder), folder.parent)
    try:
        return repair_held(folder, disk)
    finally:
        disk.close(lock)


def repair_held(folder: Path, disk: Disk) -> Repaired:
    """Do what ``repair`` does, for who holds the lock of the data folder."""
    lost: Damage | None = None
    if not _has_identity(folder, disk):
        lost = Damage("log.json", 0, 0, 0, "the identity of the log was missing or not as it was written")
    identity = known_identity(folder, disk)
    found = survey(folder, disk, identity)
    if found.damage is None:
        return Repaired(found, lost, ())
    raised = identity_of(identity.id_bytes, identity.generation + 1)
    write_identity(folder, disk, raised)
    side_files = _cut(folder, disk, found, f".generation-{raised.generation}{_SIDE}")
    return Repaired(survey(folder, disk, raised), found.damage, side_files)


def known_identity(folder: Path, disk: Disk) -> LogIdentity:
    """Return the identity of a log, made again from its segments where it is lost."""
    if _has_identity(folder, disk) and (known := read_identity(folder, disk)) is not None:
        return known
    identity = _identity_from_segments(folder, disk)
    write_identity(folder, disk, identity)
    return identity


def _has_identity(folder: Path, disk: Disk) -> bool:
    try:
        return read_identity(folder, disk) is not None
    except LogDamaged:
        return False


def _cut(folder: Path, disk: Disk, found: Survey, suffix: str) -> tuple[Path, ...]:
    """Move everything from the damage on to files whose names end in ``suffix``, newest first."""
    damage = found.damage
    if damage is None:
        return ()
    segments = hot_firsts(folder, disk, found.history)
    side_files: list[Path] = []
    for first in reversed(segments):
        path = folder / segment_name(first)
        if path.name < damage.segment:
            break
        side = folder / (path.name + suffix)
        if path.name == damage.segment and damage.byte > OPENING_BYTES:
            _move_rest(disk, path, damage.byte, side)
        else:
            disk.rename(path, side)
            disk.sync_folder(folder)
        side_files.append(side)
    if not hot_firsts(folder, disk, found.history):
        make_first_segment(folder, disk, 0 if found.history is None else found.history.end)
    return tuple(reversed(side_files))


def _move_rest(disk: Disk, path: Path, start: int, side: Path) -> None:
    """Copy all from byte ``start`` to another file, durably, and only then cut it off."""
    rest = disk.read(path, start, disk.size(path) - start)
    copy = disk.open(side)
    try:
        disk.write(copy, [rest], 0)
        disk.sync(copy)
    finally:
        disk.close(copy)
    disk.sync_folder(side.parent)
    file = disk.open(path)
    try:
        disk.truncate(file, start)
        disk.sync(file)
    finally:
        disk.close(file)


def _identity_from_segments(folder: Path, disk: Disk) -> LogIdentity:
    """Return an identity for segments whose log.json is lost: their own id, a generation above all that is known."""
    log_id = b""
    generation = 0
    for first in segment_firsts(folder, disk):
        path = folder / segment_name(first)
        data = disk.read(path, 0, disk.size(path))
        opening = opening_at(data)
        if opening is None:
            continue
        log_id = log_id or opening.log_id
        start, frame = OPENING_BYTES, head_at(data, OPENING_BYTES, seed_of(log_id))
        while frame is not None:
            generation = max(generation, frame.generation)
            start += frame.length
            frame = head_at(data, start, seed_of(log_id))
    if not log_id:  # nothing of the log can be read, and all of it will be moved aside
        files = [
            folder / name for name in disk.list_folder(folder) if name == IDENTITY_NAME or name.endswith(SEGMENT_SUFFIX)
        ]
        left = b"".join(disk.read(file, 0, _ID_FROM_BYTES) for file in files)
        log_id = xxhash.xxh3_128_digest(left)[:LOG_ID_BYTES]
    return identity_of(log_id, max(generation, _side_generation(folder, disk)) + 1)


def _side_generation(folder: Path, disk: Disk) -> int:
    """Return the highest generation that an earlier repair named its files by."""
    ends = [name.removesuffix(_SIDE).rpartition("-")[2] for name in disk.list_folder(folder) if name.endswith(_SIDE)]
    return max((int(end) for end in ends if end.isdigit()), default=0)
