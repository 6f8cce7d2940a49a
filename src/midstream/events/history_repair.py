"""Repair of history: rebuilds the manifest from the files, and removes damaged files from history.

A file that was moved aside keeps its bytes under a name that ends in ``.damaged``: nothing removes it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import xxhash

from midstream.core.errors import LogDamaged
from midstream.events.disk import Disk
from midstream.events.history.history import (
    FILE_SUFFIX,
    MANIFEST_NAME,
    History,
    HistoryFile,
    LastTrimmed,
    RowGroup,
    file_flaw,
    file_name,
    history_folder,
    sha256_of,
    write_history,
)
from midstream.events.history.history_file import checksum_of, footer_of, opened, to_batch
from midstream.events.loose_arrow import UNREADABLE
from midstream.events.segments.frames import HEAD_BYTES, OPENING_BYTES, head_at, opening_at, seed_of
from midstream.events.segments.log_identity import LogIdentity
from midstream.events.segments.segment_scan import history_of, segment_firsts, segment_name

SIDE = ".damaged"


def known_history(folder: Path, disk: Disk, identity: LogIdentity) -> tuple[History | None, bool]:
    """Return the manifest, and whether it had to be made again: because it is damaged, or missing beside its files.

    Raises:
        OSError: The disk.
    """
    try:
        history = history_of(folder, disk, identity)
    except LogDamaged:
        history = None
    else:
        firsts = segment_firsts(folder, disk)
        if history is not None or not firsts or firsts[0] == 0:
            return history, False
    history = _recovered(folder, disk, identity)
    if history is None:
        if MANIFEST_NAME in disk.list_folder(history_folder(folder)):
            move_aside(folder, disk, [MANIFEST_NAME], identity.generation)
    else:
        write_history(folder, disk, history)
    return history, True


def flawed(folder: Path, disk: Disk, history: History) -> list[HistoryFile]:
    """Return the files that are not as they were written, every byte compared."""
    place = history_folder(folder)
    return [file for file in history.files if file_flaw(place / file.name, disk, file, thorough=True)]


def move_aside(folder: Path, disk: Disk, names: Sequence[str], generation: int) -> list[Path]:
    """Rename files of history so that they are ignored and kept; return those that existed."""
    place = history_folder(folder)
    found = set(disk.list_folder(place)) & set(names)
    moved: list[Path] = []
    for name in sorted(found):
        side = place / f"{name}.generation-{generation}{SIDE}"
        disk.rename(place / name, side)
        moved.append(side)
    if moved:
        disk.sync_folder(place)
    return moved


def begin_after(folder: Path, disk: Disk, history: History, position: int) -> None:
    """Let history begin at a position that is the end of one of its files."""
    files = tuple(file for file in history.files if file.end > position)
    write_history(folder, disk, msgspec.structs.replace(history, begin=position, files=files))


def _recovered(folder: Path, disk: Disk, identity: LogIdentity) -> History | None:
    """Make the manifest from what the first segment says of the one before it, and from the files themselves."""
    tail = _tail_from_segment(folder, disk, identity)
    if tail is None:
        return None
    files: list[HistoryFile] = []
    ends = {end: first for first, end in _names(folder, disk)}
    position = tail.position
    while position in ends:
        file = _described(history_folder(folder), disk, ends[position], position)
        if file is None:
            break
        files.insert(0, file)
        position = file.first
    known = {file.name for file in files}
    others = [file_name(first, end) for first, end in _names(folder, disk) if file_name(first, end) not in known]
    move_aside(folder, disk, others, identity.generation)
    log_time_ms = files[-1].last_log_time_ms if files else 0
    tail = msgspec.structs.replace(tail, log_time_ms=log_time_ms)
    return History(identity.log_id, position, tuple(files), tail)


def _names(folder: Path, disk: Disk) -> list[tuple[int, int]]:
    """Return first and end of the files that look like history, by their names."""
    found: list[tuple[int, int]] = []
    for name in disk.list_folder(history_folder(folder)):
        first, _, end = name.removesuffix(FILE_SUFFIX).partition("-")
        if name.endswith(FILE_SUFFIX) and first.isdigit() and end.isdigit():
            found.append((int(first), int(end)))
    return found


def _tail_from_segment(folder: Path, disk: Disk, identity: LogIdentity) -> LastTrimmed | None:
    for first in segment_firsts(folder, disk):
        data = disk.read(folder / segment_name(first), 0, OPENING_BYTES + HEAD_BYTES)
        opening = opening_at(data)
        if opening is None or opening.log_id != identity.id_bytes or opening.before < 0:
            return None
        frame = head_at(data, OPENING_BYTES, seed_of(identity.id_bytes))
        generation = identity.generation if frame is None else frame.generation
        return LastTrimmed(opening.before, opening.before_bytes, first, opening.chain.hex(), generation, 0)
    return None


def _described(place: Path, disk: Disk, first: int, end: int) -> HistoryFile | None:
    """Return what the manifest said of a file; None when it cannot be read to its end."""
    path = place / file_name(first, end)
    size = disk.size(path)
    try:
        parquet: Any = pq.ParquetFile(opened(path, disk, size), page_checksum_verification=True)
        groups: list[RowGroup] = []
        times: list[int] = []
        position = first
        for number in range(parquet.num_row_groups):
            batch = to_batch(parquet.read_row_group(number, use_threads=False))
            groups.append(RowGroup(position, checksum_of(batch)))
            times += (int(batch.rows["log_time_ms"][0]), int(batch.rows["log_time_ms"][-1]))
            position += len(batch)
    except UNREADABLE:
        return None
    if position != end or not times:
        return None
    footer = footer_of(path, disk, size)
    return HistoryFile(
        first=first,
        end=end,
        first_log_time_ms=times[0],
        last_log_time_ms=times[-1],
        bytes=size,
        footer_bytes=len(footer),
        footer_checksum=xxhash.xxh3_128_hexdigest(footer),
        sha256=sha256_of(path, disk, size),
        groups=tuple(groups),
    )
