"""Embedded event log: append-only segment files in one folder, one writer.

A commit is one frame, written and synced before ``append`` returns; the name of a new segment is synced before its
first frame is. So at any moment at most the last frame may be lost or torn by a crash, and it was not acknowledged.

A write without room is cut off again and the log continues. After a failed sync the kernel may have marked pages clean
that never reached the disk, so the log accepts nothing more and never syncs that file again. For the same reason an
opened log writes its last frame once more before it counts as durable: unsynced bytes of an earlier process look the
same as synced ones.

Reference: A. Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from midstream.core.errors import AppendFailed, DiskFull, LogDamaged
from midstream.core.types import EventBatch, LogPosition
from midstream.events.disk import NO_ROOM, Bytes, Disk
from midstream.events.history.history import DAY_MS, History, history_folder
from midstream.events.segments.frames import (
    HEAD_BYTES,
    OPENING_BYTES,
    FrameBody,
    body_of,
    bytes_of,
    encode,
    encode_opening,
    head_at,
    opening_at,
    opening_bytes,
    seed_of,
)
from midstream.events.segments.known_end import PAGE, KnownEnd
from midstream.events.segments.log_identity import (
    IDENTITY_NAME,
    LOG_ID_BYTES,
    LogIdentity,
    identity_of,
    read_identity,
    write_identity,
)
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segment_scan import (
    Damage,
    Scan,
    Tail,
    TornTail,
    gap,
    history_damage,
    history_of,
    hot_firsts,
    make_first_segment,
    no_segment,
    scan_file,
    segment_firsts,
    segment_name,
    start_of,
)

SEGMENT_BYTES = 64 << 20
_LOCK_NAME = "lock"


def lock_path(folder: Path) -> Path:
    """Return the lock of the data folder that a log's folder lies in: who holds it may write to any of it."""
    return folder.parent / _LOCK_NAME


class SegmentLog:
    """An ``EventLog`` in a folder. One thread may append while one other reads."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        new_id: bytes,
        segment_bytes: int = SEGMENT_BYTES,
        lock: int | None = None,
        known_end: KnownEnd | None = None,
    ) -> None:
        """Open the log in a folder, or make one there.

        The last segment is checked byte by byte, of those before it that each is there in its full size. Cost: about
        2 µs a commit of the last segment.

        Args:
            folder: The log's own folder, in the data folder.
            disk: Makes all file calls.
            new_id: 16 random bytes that name the log if there is none yet.
            segment_bytes: A commit that would make a segment larger than this begins the next one; so does the first
                of a day of log time.
            lock: The data folder's lock where it is held already, which ``close`` then releases; None = take it.
            known_end: What is known of its end from elsewhere; None = nothing.

        Raises:
            FolderLocked: Another process has the data folder open.
            LogDamaged: It cannot be trusted, or ends before ``known_end``; nothing was changed.
            LogUnreadable: It is of another schema version.
            AppendFailed: What was found could not be made durable.
            OSError: A file could not be opened or read.
        """
        self._folder = folder
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._identity_file: int | None = None
        """Of log.json, open for as long as the log is, to see whether it still is what has the name."""
        self._path = self._identity_path = folder / IDENTITY_NAME
        """Of both files: made when one is opened, as making a path takes longer than looking at the file."""
        self._is_closed = False
        self._known_end = known_end or KnownEnd()
        self._refused = ""
        self.recovered: TornTail | None = None
        """The torn tail that was dropped when the log was opened."""
        self._lock = lock
        with ExitStack() as undo:
            undo.callback(self.close)
            disk.make_folder(folder)
            if self._lock is None:
                self._lock = disk.lock(lock_path(folder), folder.parent)
            self._identity = self._identify(new_id)
            self._seed = seed_of(self._identity.id_bytes)
            self._identity_file = disk.open(folder / IDENTITY_NAME, alone=True)  # two data folders may link to one log
            history = history_of(folder, disk, self._identity)
            self._start = self._tail = start_of(self._identity, history)
            self._before = (self._start.segment, self._start.size)
            """First position and size of the segment before the last one."""
            self._day = 0
            """Of log time, since 1970: of the last event of the segment's first commit."""
            self._resume(history)
            self._reader = SegmentReader(folder, disk)
            undo.pop_all()

    @property
    def generation(self) -> int:
        """Number of times that history was rewritten."""
        return self._identity.generation

    @property
    def public_name(self) -> str:
        """What strangers may know this log by, as ``LogIdentity.public_name``."""
        return self._identity.public_name

    @property
    def log_id(self) -> str:
        """The random id of this log, 32 hex digits."""
        return self._identity.log_id

    @property
    def begin(self) -> LogPosition:
        """Oldest log position that can be read, as far as this log has seen: 0 unless retention cut."""
        return self._reader.begin

    @property
    def end(self) -> LogPosition:
        """Number of durable events."""
        return LogPosition(self._tail.position)

    @property
    def last_log_time_ms(self) -> int:
        """Log time of the last durable event, 0 while there is none."""
        return self._tail.log_time_ms

    @property
    def refused(self) -> str:
        """Why the log takes nothing more until it is opened anew; empty while it does."""
        return self._refused or (f"{self._folder} was closed" if self._is_closed else "")

    @property
    def flaw(self) -> str:
        """Why the next start may not find all that is in this log; empty as it should be, and when it is closed."""
        return self._refused

    def append(self, batch: EventBatch) -> LogPosition:
        """Store a batch as one commit; return the position after its last event. Durable on return.

        Raises:
            DiskFull: No room; nothing was kept, and a later append may succeed.
            AppendFailed: The batch may or may not be durable; every further append is refused.
            ValueError: Log time goes back, or the batch is larger than any the engine makes.
        """
        if self._refused or self._is_closed:
            raise AppendFailed(self.refused)
        if len(batch.rows) == 0:
            return self.end
        self._check(batch)
        body = body_of(batch)
        file = self._begin_segment() if self._file is None or self._is_full(body) else self._file
        tail = self._tail
        opened, chain = self._opening() if tail.size == 0 else (b"", tail.chain)
        frame = encode(body, tail.position, self._identity.generation, chain, self._seed)
        self._store(file, [opened, *frame.parts] if opened else frame.parts)
        start = tail.size + len(opened)
        position = tail.position + body.event_count
        log_time_ms = body.log_time_ms
        if tail.size == 0:
            self._day = log_time_ms // DAY_MS
        end = start + body.length
        self._tail = Tail(tail.segment, end, position, frame.checksum, self.generation, log_time_ms, start)
        return LogPosition(position)

    def read(self, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, whole commits until ``limit`` events, oldest first.

        Raises:
            LogDamaged: A checksum does not match; the text names the range of positions.
            ValueError: ``after`` is beyond the end, or ``limit`` below 1.
        """
        return self._reader.read(after, limit, self.end)

    def keep_lock(self) -> int | None:
        """Return the lock, which ``close`` then leaves held: for the log that takes this one's place."""
        lock, self._lock = self._lock, None
        return lock

    def close(self) -> None:
        """Release files and the lock. Everything that was appended is already durable."""
        self._is_closed = True
        for file in (self._file, self._identity_file, self._lock):
            if file is not None:
                self._disk.close(file)
        self._file = self._identity_file = self._lock = None

    def _identify(self, new_id: bytes) -> LogIdentity:
        known = read_identity(self._folder, self._disk)
        if known is not None:
            return known
        firsts = segment_firsts(self._folder, self._disk)
        if not firsts and self._disk.list_folder(history_folder(self._folder)):
            message = f"{self._folder} holds a history and no log.json beside it; put that back from a backup"
            raise LogDamaged(message)
        # A first segment without a byte is all there is of a log whose making was interrupted.
        if firsts and (firsts != [0] or self._disk.size(self._folder / segment_name(0)) > 0):
            reason = "there are segments and no log.json beside them"
            raise Damage(segment_name(firsts[0]), 0, firsts[0], None, reason, is_missing=True).error(self._folder)
        if len(new_id) != LOG_ID_BYTES:
            message = f"a log id of {len(new_id)} bytes where {LOG_ID_BYTES} would be right"
            raise ValueError(message)
        fresh = identity_of(new_id, 0)
        make_first_segment(self._folder, self._disk, 0)
        write_identity(self._folder, self._disk, fresh)
        return fresh

    def _resume(self, history: History | None) -> None:
        """Find the end, drop a torn tail, and make durable what is there.

        Segments that history holds are passed by: their sealing was interrupted, and the next one removes them.
        """
        lost = history_damage(self._folder, self._disk, history, thorough=False)
        if lost is not None:
            raise lost
        firsts = hot_firsts(self._folder, self._disk, history)
        if not firsts:
            raise no_segment(self._start.position).error(self._folder)
        self._check_links(firsts)
        found = self._scan_last(firsts)
        self._known_end.require(self._folder, found.tail.position)
        self.recovered = found.torn
        self._tail = found.tail
        try:
            self._disk.sync_folder(self._folder)  # an earlier process may have ended before it did
            self._secure(self._tail)
        except OSError as error:
            raise self._refuse("what was found could not be made durable", error) from error

    def _secure(self, tail: Tail) -> None:
        """Open the last segment, cut off a torn tail, and write the last frame again, so that the sync is of it."""
        path = self._folder / segment_name(tail.segment)
        start = tail.last_start if tail.last_start > OPENING_BYTES else 0  # the opening belongs to the first frame
        last = self._disk.read(path, start, tail.size - start)
        first = head_at(self._disk.read(path, OPENING_BYTES, HEAD_BYTES), 0, self._seed)
        self._day = 0 if first is None else first.log_time_ms // DAY_MS
        self._file, self._path = self._disk.open(path), path
        if self.recovered is not None:
            self._disk.truncate(self._file, tail.size)
        self._disk.write(self._file, [last], start)
        self._disk.sync(self._file)  # from here on it is durable whatever became of the sync before

    def _check_links(self, firsts: Sequence[int]) -> None:
        """Check that no segment is missing or cut short, by what each says of the one before it."""
        missing = gap(self._start.position, firsts[0])
        if missing is not None:
            raise missing.error(self._folder)
        sizes = [self._start.size, *(self._disk.size(self._folder / segment_name(first)) for first in firsts[:-1])]
        for (before, first), size in zip(pairwise([self._start.segment, *firsts]), sizes, strict=True):
            opening = opening_at(self._disk.read(self._folder / segment_name(first), 0, OPENING_BYTES))
            if opening is None and first == firsts[-1]:
                return  # perhaps torn: the scan of the last segment will say
            is_next = opening is not None and (opening.before, opening.before_bytes) == (before, size)
            if opening is None or not is_next or (first == firsts[0] and opening.chain != self._start.chain):
                reason = "the segment does not follow the one before it, or that one was cut short"
                raise Damage(segment_name(first), 0, before, None, reason).error(self._folder)

    def _scan_last(self, firsts: Sequence[int]) -> Scan:
        first = firsts[-1]
        before = self._start if len(firsts) == 1 else None
        found = self._scan(first, before, is_last=True)
        if found.tail.size > 0 or before is not None:
            return found
        # No commit of the last segment was ever durable, so nothing vouches for the one before it but itself.
        previous = self._scan(firsts[-2], None, is_last=False).tail
        missing = gap(previous.position, first)
        if missing is not None:
            raise missing.error(self._folder)
        self._before = (previous.segment, previous.size)
        return self._scan(first, previous, is_last=True)

    def _scan(self, first: int, before: Tail | None, *, is_last: bool) -> Scan:
        found = scan_file(self._folder, self._disk, first, self._identity, before, is_last=is_last)
        if found.damage is not None:
            raise found.damage.error(self._folder)
        return found

    def _is_full(self, body: FrameBody) -> bool:
        """Return whether a commit belongs into the next segment: by size, or since another day of log time began.

        So a shop with few events has segments that become history too, and a file of history is a whole day.
        """
        if self._tail.size == 0:
            return False
        is_another_day = body.log_time_ms // DAY_MS > self._day
        return is_another_day or self._tail.size + body.length > self._segment_bytes

    def _check(self, batch: EventBatch) -> None:
        times = batch.rows["log_time_ms"]
        if times.item(0) < self._tail.log_time_ms or (len(times) > 1 and (times[1:] < times[:-1]).any()):
            message = f"log time goes back, within the batch or from {self.last_log_time_ms}"
            raise ValueError(message)

    def _begin_segment(self) -> int:
        """Go on in a new file and return it. Its name is durable before anything is written to it."""
        tail = self._tail
        path = self._folder / segment_name(tail.position)
        try:
            file = self._disk.open(path)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull(self._text("a segment could not be created", error)) from error
            raise self._refuse("a segment could not be created", error) from error
        if self._file is not None:
            with suppress(OSError):  # what was written to it has been durable since its own sync
                self._disk.close(self._file)
        self._file, self._path = file, path
        try:
            self._disk.sync_folder(self._folder)  # a file without a name is lost, however well it is synced
        except OSError as error:
            raise self._refuse("the name of a segment could not be made durable", error) from error
        self._before = (tail.segment, tail.size)
        self._tail = tail._replace(segment=tail.position, size=0, last_start=0)
        return file

    def _opening(self) -> tuple[bytes, bytes]:
        """Return the bytes that begin the current segment, and their checksum."""
        tail = self._tail
        opening = encode_opening(tail.segment, *self._before, self._identity.id_bytes, tail.chain)
        return opening_bytes(opening), opening.checksum

    def _store(self, file: int, parts: Sequence[Bytes]) -> None:
        """Write at the end of the current segment and sync."""
        try:
            self._disk.write(file, parts, self._tail.size)
        except OSError as error:
            self._take_back(file, error)
        try:
            self._disk.sync(file)  # only now may the commit be acknowledged
        except OSError as error:
            raise self._refuse(f"a commit of {bytes_of(parts)} bytes could not be synced", error) from error
        self.require_in_place()  # and only if somebody will find it

    def require_in_place(self) -> None:
        """Raise unless the files that are written to still have their names. Cost: 5 µs, a sync takes 100 at least.

        What was removed, replaced, or moved with its folder while it is open can be written and synced like any other,
        and is gone when it is closed.

        Raises:
            AppendFailed: One of them has not; the log takes nothing more.
        """
        for file, path in ((self._file, self._path), (self._identity_file, self._identity_path)):
            try:
                is_there = file is None or self._disk.is_at(file, path)
            except OSError as error:
                raise self._refuse(f"{path.name} could not be looked at", error) from error
            if not is_there:
                self._refused = (
                    f"{path} was removed, replaced or moved while it was written to, so nothing more is taken. Until "
                    f"this process ends /proc/{os.getpid()}/fd/{file} has its bytes: copy them to that place, then "
                    f"start anew. {PAGE}"
                )
                raise AppendFailed(self._refused)

    def _take_back(self, file: int, error: OSError) -> NoReturn:
        """After a failed write: where there was no room, cut off what was written of it."""
        if error.errno not in NO_ROOM:
            raise self._refuse("a commit could not be written", error) from error
        try:
            self._disk.truncate(file, self._tail.size)
            self._disk.sync(file)
        except OSError as second:
            raise self._refuse("half a commit could not be cut off", second) from second
        raise DiskFull(self._text("a commit found no room", error)) from error

    def _refuse(self, what: str, error: OSError) -> AppendFailed:
        self._refused = self._text(what, error)
        return AppendFailed(self._refused)

    def _text(self, what: str, error: OSError) -> str:
        return f"{self._folder / segment_name(self._tail.segment)}: {what}: {error.strerror or error}"
