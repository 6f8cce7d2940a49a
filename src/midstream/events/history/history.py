"""Manifest of history: old segments as Parquet files in a folder of their own, each named with its range.

The manifest is the truth: a file counts only while it is named there. It is replaced as a whole, and only when every
file in it was synced and read back; only then are the segments of these files removed. So after any interruption the
log has the same content. ``tail`` has the identity of the last of those segments, so that the first remaining one is
checked against it as if the other still existed.
"""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import xxhash

from midstream.core.errors import LogDamaged
from midstream.events.disk import Disk

FORMAT_VERSION = 1
DAY_MS = 86_400_000
FOLDER_NAME = "history"
MANIFEST_NAME = "history.json"
FILE_SUFFIX = ".parquet"
_MANIFEST_BYTES_MAX = 1 << 28
"""A file of one day takes about 400 bytes, and 60 more for each 65,536 events; this is 1,000 years of busy days."""
_READ_BYTES = 1 << 20


class RowGroup(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A row group of a file."""

    first: int
    """Log position of its first event."""
    checksum: str
    """xxh3-128 over its rows and texts."""


class HistoryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Parquet file: the events of at most one day of log time."""

    first: int
    end: int
    """Log position after its last event."""
    first_log_time_ms: int
    last_log_time_ms: int
    bytes: int
    footer_bytes: int
    """Bytes of the index at the file's end."""
    footer_checksum: str
    """xxh3-128."""
    sha256: str
    groups: tuple[RowGroup, ...]

    @property
    def name(self) -> str:
        """File name, in the history folder."""
        return file_name(self.first, self.end)


class LastTrimmed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the newest segment that is gone said of itself: all that the next one names of it."""

    segment: int
    bytes: int
    position: int
    """Log position after its last event: where history ends and the first segment begins."""
    chain: str
    """Checksum of its last frame, hex digits."""
    generation: int
    log_time_ms: int


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the manifest."""

    log_id: str
    begin: int
    """Oldest readable log position; above 0 when retention cut earlier events."""
    files: tuple[HistoryFile, ...]
    """Oldest first, without a gap from ``begin`` to ``end``; the first may begin before ``begin``."""
    tail: LastTrimmed
    format_version: int = FORMAT_VERSION
    checksum: str = ""
    """xxh3-128 of all the others."""

    @property
    def end(self) -> int:
        """Log position at which history ends and the segments begin."""
        return self.tail.position

    def file_at(self, position: int) -> HistoryFile:
        """Return the file that holds a position from ``begin`` to before ``end``."""
        return self.files[bisect_right(self.files, position, key=lambda each: each.first) - 1]


def file_name(first: int, end: int) -> str:
    """Return the name of the file that holds the events from one log position to before another."""
    return f"{first:020d}-{end:020d}{FILE_SUFFIX}"


def history_folder(folder: Path) -> Path:
    """Return the history folder in a log's folder."""
    return folder / FOLDER_NAME


def read_history(folder: Path, disk: Disk) -> History | None:
    """Return the manifest in a log's folder, None when there is none.

    Raises:
        LogDamaged: It is not exactly as it was written, or its files leave a gap.
    """
    place = history_folder(folder)
    if MANIFEST_NAME not in disk.list_folder(place):
        return None
    written = disk.read(place / MANIFEST_NAME, 0, _MANIFEST_BYTES_MAX)
    try:
        history = msgspec.json.decode(written, type=History)
    except (msgspec.MsgspecError, ValueError) as error:
        raise LogDamaged(_damaged(folder)) from error
    if _encode(history) != written or history.format_version != FORMAT_VERSION or not _is_whole(history):
        raise LogDamaged(_damaged(folder))
    return history


def write_history(folder: Path, disk: Disk, history: History) -> None:
    """Replace the manifest: afterwards, and whenever it fails, one of the two is whole."""
    place = history_folder(folder)
    fresh = place / f"{MANIFEST_NAME}.new"
    file = disk.open(fresh)
    try:
        disk.truncate(file, 0)
        disk.write(file, [_encode(history)], 0)
        disk.sync(file)
    finally:
        disk.close(file)
    disk.rename(fresh, place / MANIFEST_NAME)
    disk.sync_folder(place)


def file_flaw(path: Path, disk: Disk, file: HistoryFile, *, thorough: bool) -> str:
    """Return the fault of a file, empty = none.

    Args:
        path: Of the file.
        disk: Makes all file calls.
        file: Its entry in the manifest.
        thorough: Compare every byte; else its size. Cost: about 1 s a GB.
    """
    try:
        size = disk.size(path)
        if size != file.bytes:
            return f"the file has {size} bytes where {file.bytes} were written"
        if thorough and sha256_of(path, disk, size) != file.sha256:
            return "the file does not match its SHA-256"
    except FileNotFoundError:
        return "the file is missing"
    return ""


def damage_text(path: Path, first: int, end: int, reason: str) -> str:
    """Return the message about a damaged file of history."""
    return (
        f"{path}: {reason}. Events from log position {first} to {end} cannot be trusted; nothing was changed. "
        "Put the file back from a backup, or let `midstream doctor --repair` begin the log after it; it keeps the file "
        "and those before it beside the others"
    )


def sha256_of(path: Path, disk: Disk, size: int) -> str:
    """Return the SHA-256 of the first ``size`` bytes of a file, read piece by piece."""
    digest = sha256()
    for start in range(0, size, _READ_BYTES):
        digest.update(disk.read(path, start, min(_READ_BYTES, size - start)))
    return digest.hexdigest()


def unnamed(folder: Path, disk: Disk, history: History | None) -> Sequence[Path]:
    """Return the files in a log's history folder that the manifest does not name: unfinished or removed ones."""
    place = history_folder(folder)
    known = {MANIFEST_NAME, *(file.name for file in (history.files if history is not None else ()))}
    ours = (FILE_SUFFIX, f"{FILE_SUFFIX}.new", f"{MANIFEST_NAME}.new")
    return [place / name for name in disk.list_folder(place) if name not in known and name.endswith(ours)]


def _encode(history: History) -> bytes:
    bare = msgspec.structs.replace(history, checksum="")
    checksum = xxhash.xxh3_128_hexdigest(msgspec.json.encode(bare))
    return msgspec.json.encode(msgspec.structs.replace(bare, checksum=checksum))


def _is_whole(history: History) -> bool:
    ends = [file.end for file in history.files]
    firsts = [file.first for file in history.files]
    if firsts[1:] != ends[:-1]:
        return False
    return firsts[0] <= history.begin < ends[0] and ends[-1] == history.end if ends else history.begin == history.end


def _damaged(folder: Path) -> str:
    return (
        f"{history_folder(folder) / MANIFEST_NAME}: not as it was written, so no file of history can be checked "
        "against it. Nothing was changed. `midstream doctor --repair` makes it again from the files"
    )
