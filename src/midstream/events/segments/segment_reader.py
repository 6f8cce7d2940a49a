"""Reader of segment files, in the process that writes them and in others. It never changes a file.

Checksums are checked on each read: a frame whose events are returned by its own, one that is only passed on the way by
the check of its head. Where a read goes on from the last one no byte is passed twice; elsewhere it begins at the
nearest of some remembered places, at most one each 64 KiB and segment.

What lies before the first segment is read from history. While this goes on segments may become history and history may
be cut: a file that is gone makes the reader look again at what there is, and begin the read anew.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from midstream.core.errors import EventsGone, LogDamaged, LogRewritten, LogUnreadable
from midstream.core.types import EventBatch, LogPosition
from midstream.events.disk import Disk
from midstream.events.schema import SCHEMA_VERSION, cut
from midstream.events.segments.frames import (
    HEAD_BYTES,
    OPENING_BYTES,
    Frame,
    batch_at,
    head_at,
    is_sound,
    opening_at,
    seed_of,
)
from midstream.events.segments.log_identity import read_identity
from midstream.events.segments.segment_scan import Damage, gap, history_of, hot_firsts, segment_name, version_text

if TYPE_CHECKING:
    from midstream.events.history.history_reader import HistoryReader

PLACE_BYTES = 1 << 16
"""A segment of 64 MiB has at most 1,024 remembered places, 16 KiB; so 1,000 segments (64 GB) have 16 MiB."""
CHUNK_BYTES_MAX = 1 << 20
"""Beyond 1 MiB a larger read of a file in the page cache is not faster."""
LOOKS_MAX = 4
"""Times that a read begins: sealing and retention come minutes apart, so what is gone at the third look is missing."""
_EVENT_BYTES = 64
"""What an event takes in most logs (25 packed, 250 alone), to read about as much as was asked for."""


class _Place(NamedTuple):
    """Where a frame, or a segment's opening at byte 0, begins."""

    segment: int
    byte: int
    position: int
    chain: bytes | None
    """Checksum that the next frame should name; None = not known here."""


class _Wanted(NamedTuple):
    after: int
    stop: int
    """Reading ends at the first frame that ends here or later."""
    durable: int


class _Missing(LogDamaged):
    """What should come next is not there; perhaps it became history."""


class SegmentReader:
    """Reads one log. One thread at a time; another thread or process may append, seal and trim meanwhile."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        """Look at a log folder.

        Raises:
            LogDamaged: There is no log, or its identity or the manifest of its history is not as it was written.
        """
        identity = read_identity(folder, disk)
        if identity is None:
            message = f"{folder} holds no log"
            raise LogDamaged(message)
        self.identity = identity
        self.folder = folder
        self._disk = disk
        self._seed = seed_of(identity.id_bytes)
        self._firsts: list[int] = []
        self._places: dict[int, tuple[array[int], array[int]]] = {}
        """By segment: log positions and bytes, ascending."""
        self._last: _Place | None = None
        self._history: HistoryReader | None = None
        self._look_again()

    @property
    def generation(self) -> int:
        """Number of times that history was rewritten, when this was opened."""
        return self.identity.generation

    @property
    def begin(self) -> LogPosition:
        """Oldest log position that can be read, as far as this reader has seen: 0 unless retention cut."""
        return LogPosition(0 if self._history is None else self._history.history.begin)

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, oldest first.

        Args:
            after: Log position of the first event wanted, 0 to ``durable``.
            limit: Whole commits are returned until there are this many events or more, at least 1.
            durable: Log position at which the writer said that all before is durable; nothing at or after it is
                read, even when it is there.

        Returns:
            Pairs of the position before a batch's first event and the batch; the first is cut to begin at ``after``,
            the last to end at ``durable``. Empty when the two are equal.

        Raises:
            LogDamaged: A checksum does not match, or a segment is missing; the text names the range of positions.
            LogRewritten: The folder is no longer the log's: another writing took its place, at the same positions.
            LogUnreadable: A frame is of another schema version.
            EventsGone: ``after`` lies before ``begin``.
            ValueError: ``after`` or ``limit`` is out of range.
        """
        if not 0 <= after <= durable or limit < 1:
            message = f"after {after} of {durable} and limit {limit}: 0 to the end, and 1 or more, would be right"
            raise ValueError(message)
        try:
            return self._read_looking(after, limit, durable)
        except (FileNotFoundError, LogDamaged) as error:
            if self._is_replaced():
                message = (
                    f"{self.folder}: this writing of the log, generation {self.identity.generation}, is gone: the log "
                    "was rewritten meanwhile, as erasures have it done. Read again from the beginning"
                )
                raise LogRewritten(message) from error
            raise

    def _read_looking(self, after: int, limit: int, durable: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Read, and where a file is gone look what became of it and begin anew."""
        for look in range(LOOKS_MAX):
            try:
                return self._read(after, limit, durable)
            except (FileNotFoundError, _Missing):
                if look + 1 == LOOKS_MAX:
                    raise
                self._look_again()
        return []

    def _is_replaced(self) -> bool:
        """Return whether the log of this reader has given its place to another: what goes first then is log.json."""
        try:
            return read_identity(self.folder, self._disk) != self.identity
        except FileNotFoundError:
            return True
        except LogDamaged:
            return False

    def _read(self, after: int, limit: int, durable: int) -> list[tuple[LogPosition, EventBatch]]:
        found: list[tuple[LogPosition, EventBatch]] = []
        stop = min(after + limit, durable)
        if self._history is not None and after < stop:
            history = self._history.history
            if after < history.begin:
                message = f"events from log position {after} are no longer kept; the log begins at {history.begin}"
                raise EventsGone(message)
            if after < history.end:
                found += self._history.read(after, min(stop, history.end))
                after = min(stop, history.end)
        if after >= stop:
            return found
        wanted = _Wanted(after, stop, durable)
        place = self._nearest(after)
        while place.position < wanted.stop:
            place = self._read_chunk(place, wanted, found)
        self._last = place
        return found

    def _look_again(self) -> None:
        """See which files there are now."""
        history = history_of(self.folder, self._disk, self.identity)
        if history is None:
            self._history = None
        elif self._history is None or self._history.history != history:
            from midstream.events.history.history_reader import (
                HistoryReader,  # Arrow takes 0.4 s and 40 MB where it is used
            )

            self._history = HistoryReader(self.folder, self._disk, history)
        self._firsts = hot_firsts(self.folder, self._disk, history)
        self._places = {first: places for first, places in self._places.items() if first in set(self._firsts)}
        self._last = None

    def _nearest(self, after: int) -> _Place:
        last = self._last
        if last is not None and last.position == after:
            return last
        number = bisect_right(self._firsts, after) - 1
        if number + 1 >= len(self._firsts):  # perhaps there is a newer segment by now
            self._firsts = self._segments()
            number = bisect_right(self._firsts, after) - 1
        if number < 0:
            raise self._missing(_Place(self._start, 0, self._start, None), "the first segment is missing")
        segment = self._firsts[number]
        positions, starts = self._places.get(segment, (array("q"), array("q")))
        nearest = bisect_right(positions, after) - 1
        remembered = positions[nearest] if nearest >= 0 else segment
        if last is not None and last.segment == segment and remembered < last.position <= after:
            return last
        if nearest < 0:
            return _Place(segment, 0, segment, None)
        return _Place(segment, starts[nearest], positions[nearest], None)

    def _read_chunk(self, place: _Place, wanted: _Wanted, found: list[tuple[LogPosition, EventBatch]]) -> _Place:
        """Read on from a place, until the chunk or what is wanted ends; return the place after it."""
        length = min(max((wanted.stop - wanted.after) * _EVENT_BYTES, PLACE_BYTES), CHUNK_BYTES_MAX)
        path = self.folder / segment_name(place.segment)
        data = self._disk.read(path, place.byte, length)
        if not data:
            return self._next_segment(place)
        begin = place.byte
        if begin == 0:
            place = self._open_segment(place, data)
        while place.position < wanted.stop and place.byte - begin < len(data):
            start = place.byte - begin
            frame = self._head(place, data, start)
            if frame is None or start + frame.length > len(data):
                if start > 0:
                    return place  # it begins the next chunk
                data = self._disk.read(path, begin, HEAD_BYTES if frame is None else frame.length)
                frame = self._head(place, data, 0)
                if frame is None or len(data) < frame.length:
                    raise self._damage(place, "the commit is cut short")
            if frame.end > wanted.after:
                if not is_sound(data, start, frame, self._seed):
                    raise self._damage(place, "the commit does not match its checksum", frame.end)
                batch = batch_at(data, start, frame)
                if batch is None:
                    raise self._damage(place, "the commit cannot be unpacked", frame.end)
                found.append(_wanted_of(batch, frame, wanted))
            self._remember(place)
            place = _Place(place.segment, place.byte + frame.length, frame.end, frame.checksum)
        return place

    def _head(self, place: _Place, data: bytes, start: int) -> Frame | None:
        """Return the head of the frame that should come next, None when ``data`` ends in it."""
        if start + HEAD_BYTES > len(data):
            return None
        frame = head_at(data, start, self._seed)
        if frame is None:
            raise self._damage(place, "no commit begins here")
        if frame.first != place.position or place.chain not in (None, frame.chain):
            raise self._damage(place, "the commit does not follow the one before it")
        if frame.schema_version != SCHEMA_VERSION:
            raise LogUnreadable(version_text(frame))
        return frame

    def _open_segment(self, place: _Place, data: bytes) -> _Place:
        opening = opening_at(data)
        if opening is None or opening.first != place.segment or opening.log_id != self.identity.id_bytes:
            raise self._damage(place, "the opening of the segment does not match")
        if place.chain not in (None, opening.chain):
            raise self._damage(place, "the segment does not follow the one before it")
        return _Place(place.segment, OPENING_BYTES, place.position, opening.checksum)

    def _next_segment(self, place: _Place) -> _Place:
        """Return the beginning of the segment that follows, where this one ends before what is durable."""
        self._firsts = self._segments()
        number = bisect_right(self._firsts, place.segment)
        if number == len(self._firsts):
            raise self._missing(place, "the segment ends before its last durable event")
        first = self._firsts[number]
        missing = gap(place.position, first)
        if missing is not None:
            raise _Missing(str(missing.error(self.folder)))
        return _Place(first, 0, first, place.chain)

    def _remember(self, place: _Place) -> None:
        positions, starts = self._places.setdefault(place.segment, (array("q"), array("q")))
        if not starts or place.byte >= starts[-1] + PLACE_BYTES:
            positions.append(place.position)
            starts.append(place.byte)

    @property
    def _start(self) -> int:
        """Log position at which the first segment begins, as far as this reader has seen."""
        return 0 if self._history is None else self._history.history.end

    def _segments(self) -> list[int]:
        return hot_firsts(self.folder, self._disk, None if self._history is None else self._history.history)

    def _missing(self, place: _Place, reason: str) -> "_Missing":
        return _Missing(str(self._damage(place, reason)))

    def _damage(self, place: _Place, reason: str, stop: int | None = None) -> LogDamaged:
        damage = Damage(segment_name(place.segment), place.byte, place.position, stop, reason)
        return damage.error(self.folder)


def _wanted_of(batch: EventBatch, frame: Frame, wanted: _Wanted) -> tuple[LogPosition, EventBatch]:
    begin = max(frame.first, wanted.after)
    stop = min(frame.end, wanted.durable)
    return LogPosition(begin), cut(batch, begin - frame.first, stop - frame.first)
