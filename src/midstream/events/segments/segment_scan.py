"""Scan of segment files: the end of the undamaged frames, and whether a torn tail or damage follows.

Each commit is synced before the next is begun, so a crash can leave at most one invalid frame, the last. An invalid
frame without a later commit is such a torn tail. With a later commit behind it, in a segment with a successor, or valid
in a wrong place, it is damage. A scan changes nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from midstream.core.errors import LogDamaged, LogUnreadable
from midstream.events.disk import Bytes, Disk
from midstream.events.history.history import History, damage_text, file_flaw, history_folder, read_history
from midstream.events.schema import SCHEMA_VERSION
from midstream.events.segments.frames import (
    OPENING_BYTES,
    Frame,
    Opening,
    head_at,
    is_sound,
    later_head,
    opening_at,
    seed_of,
)
from midstream.events.segments.known_end import PAGE
from midstream.events.segments.log_identity import LogIdentity

SEGMENT_SUFFIX = ".segment"
_LOOKS_MAX = 4
"""Sealings and cuts come minutes apart; what is missing at the fourth look is missing."""
_DIGITS = 20
"""Positions below 10^20: more than 64 bits hold."""


class Tail(NamedTuple):
    """End of a log after a commit."""

    segment: int
    """Log position at which its segment begins, -1 = there is no segment yet."""
    size: int
    """Sound bytes in that segment."""
    position: int
    """Log position after the last event."""
    chain: bytes
    """Checksum of what the next frame or opening comes after."""
    generation: int
    log_time_ms: int
    last_start: int
    """Byte at which the segment's last frame begins; ``size`` when it has none."""


@dataclass(frozen=True, slots=True)
class TornTail:
    """The rest of a commit that a crash cut short: never acknowledged, and dropped."""

    segment: str
    position: int
    """Log position that its first event would have had."""
    byte: int
    dropped_bytes: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Events that were durable once and cannot be trusted now."""

    segment: str
    byte: int
    """Where it begins in the segment."""
    first: int
    """Log position of the first event that is not to be trusted."""
    stop: int | None
    """Log position at which sound events begin again; None = unknown."""
    reason: str
    is_missing: bool = False
    """Whether a file is gone, which may still be put back."""

    def error(self, folder: Path) -> LogDamaged:
        """Return the error of the damage, with the remedies, those without loss first."""
        until = "the end of the log" if self.stop is None else f"{self.stop}"
        way = "Restore a backup into an empty folder;"
        if self.is_missing:
            way = (
                "Put back what was removed (do not stop a process that has it open: /proc/PID/fd has its bytes), or "
                "restore a backup into an empty folder;"
            )
        message = (
            f"{folder / self.segment} from byte {self.byte}: {self.reason}. Events from log position {self.first} to "
            f"{until} cannot be trusted; nothing was changed. {way} `midstream doctor --repair` accepts the loss: it "
            f"cuts the log to position {self.first} and keeps what there is behind it in files beside it. {PAGE}"
        )
        return LogDamaged(message)


class Scan(NamedTuple):
    """Contents of one segment."""

    tail: Tail
    torn: TornTail | None
    damage: Damage | None


@dataclass(frozen=True, slots=True)
class Survey:
    """Contents of a log folder: every byte of its segments checked, of its history as requested."""

    log_id: str
    generation: int
    end: int
    """Log position after the last event that can be trusted."""
    segment_count: int
    sound_bytes: int
    torn: TornTail | None
    damage: Damage | None
    tail: Tail
    """Where the sound events end."""
    history: History | None = None

    @property
    def begin(self) -> int:
        """Oldest log position that can be read."""
        return 0 if self.history is None else self.history.begin


class _Flaw(NamedTuple):
    reason: str
    stop: int | None
    is_damage: bool


def segment_name(first: int) -> str:
    """Return the file name of the segment that begins at a log position."""
    return f"{first:0{_DIGITS}d}{SEGMENT_SUFFIX}"


def make_first_segment(folder: Path, disk: Disk, first: int) -> None:
    """Make the segment that a log begins with or goes on in, empty: a log without one lost it. Durable on return."""
    disk.close(disk.open(folder / segment_name(first)))
    disk.sync_folder(folder)


def segment_firsts(folder: Path, disk: Disk) -> list[int]:
    """Return the log positions at which the segments of a folder begin, ascending."""
    names = [name.removesuffix(SEGMENT_SUFFIX) for name in disk.list_folder(folder) if name.endswith(SEGMENT_SUFFIX)]
    return sorted(int(name) for name in names if len(name) == _DIGITS and name.isdigit())


def hot_firsts(folder: Path, disk: Disk, history: History | None) -> list[int]:
    """Return the log positions at which the segments begin that history does not hold, ascending."""
    end = 0 if history is None else history.end
    return [first for first in segment_firsts(folder, disk) if first >= end]


def start_of(identity: LogIdentity, history: History | None = None) -> Tail:
    """Return where the first segment of a log begins, and what it comes after."""
    if history is None:
        return Tail(-1, 0, 0, identity.id_bytes, 0, 0, 0)
    tail = history.tail
    size = tail.bytes
    return Tail(tail.segment, size, tail.position, bytes.fromhex(tail.chain), tail.generation, tail.log_time_ms, size)


def history_of(folder: Path, disk: Disk, identity: LogIdentity) -> History | None:
    """Return the manifest of a log's history, None when it has none.

    Raises:
        LogDamaged: It is not as it was written, or of another log.
    """
    history = read_history(folder, disk)
    if history is not None and history.log_id != identity.log_id:
        message = f"{history_folder(folder)} is the history of another log"
        raise LogDamaged(message)
    return history


def history_damage(folder: Path, disk: Disk, history: History | None, *, thorough: bool) -> LogDamaged | None:
    """Return the error of the first file of history that is not as it was written.

    Args:
        folder: Of the log.
        disk: Makes all file calls.
        history: Its manifest.
        thorough: Compare every byte; else that each is there in its full size.
    """
    for file in () if history is None else history.files:
        path = history_folder(folder) / file.name
        flaw = file_flaw(path, disk, file, thorough=thorough)
        if flaw:
            return LogDamaged(damage_text(path, file.first, file.end, flaw))
    return None


def scan(data: Bytes, first: int, identity: LogIdentity, before: Tail | None, *, is_last: bool) -> Scan:
    """Check every byte of a segment.

    Args:
        data: All of the file.
        first: Log position in its name.
        identity: Of the log it should belong to.
        before: Where the segment before it ends; None = not known, and not compared.
        is_last: No segment follows, so a torn tail is possible.

    Returns:
        Where its sound frames end, and what follows them if anything does.

    Raises:
        LogUnreadable: A sound frame is of another schema version.
    """
    seed = seed_of(identity.id_bytes)
    tail = begin = _beginning(first, before)
    if len(data) == 0 and is_last:
        return Scan(begin, None, None)
    opening = opening_at(data)
    flaw = _flaw_of_opening(opening, first, identity, before)
    if opening is not None and flaw is None:
        tail = tail._replace(size=OPENING_BYTES, chain=opening.checksum, last_start=OPENING_BYTES)
    while flaw is None and (tail.size < len(data) or tail.size == OPENING_BYTES):
        frame = head_at(data, tail.size, seed)
        flaw = _flaw_of_frame(data, frame, tail, identity)
        if frame is not None and flaw is None:
            tail = _after(tail, frame)
    if flaw is None:
        return Scan(tail, None, None)
    if not flaw.is_damage:
        later = later_head(data, tail.size + 1, tail.position, seed)
        flaw = _Flaw(flaw.reason, None if later is None else later.first, later is not None or not is_last)
    name = segment_name(first)
    if flaw.is_damage:
        return Scan(tail, None, Damage(name, tail.size, tail.position, flaw.stop, flaw.reason))
    if tail.size == OPENING_BYTES:  # an opening is written with its first commit, and goes with it
        tail = begin
    return Scan(tail, TornTail(name, tail.position, tail.size, len(data) - tail.size), None)


def scan_file(
    folder: Path, disk: Disk, first: int, identity: LogIdentity, before: Tail | None, *, is_last: bool
) -> Scan:
    """Check every byte of a segment file; it is read into memory as a whole."""
    path = folder / segment_name(first)
    data = disk.read(path, 0, disk.size(path))
    return scan(data, first, identity, before, is_last=is_last)


def survey(folder: Path, disk: Disk, identity: LogIdentity, *, thorough: bool = False) -> Survey:
    """Check every byte of a log's segments, up to the first damage, and that each file of history is there.

    Args:
        folder: Of the log.
        disk: Makes all file calls.
        identity: Of the log.
        thorough: Check every byte of history too; reading it does so in any case.

    Raises:
        LogDamaged: The history is not as it was written.
        LogUnreadable: A sound frame is of another schema version.
    """
    for _ in range(_LOOKS_MAX):
        history = history_of(folder, disk, identity)
        try:
            found = _survey(folder, disk, identity, history, thorough=thorough)
        except (FileNotFoundError, LogDamaged):
            if history_of(folder, disk, identity) == history:
                raise
        else:
            if found.damage is None or history_of(folder, disk, identity) == history:
                return found
    message = f"{folder} was sealed or cut {_LOOKS_MAX} times while it was looked at; look again"
    raise LogDamaged(message)


def _survey(folder: Path, disk: Disk, identity: LogIdentity, history: History | None, *, thorough: bool) -> Survey:
    lost = history_damage(folder, disk, history, thorough=thorough)
    if lost is not None:
        raise lost
    return survey_segments(folder, disk, identity, history)


def survey_segments(folder: Path, disk: Disk, identity: LogIdentity, history: History | None) -> Survey:
    """Check every byte of the segments that come after a history, up to the first damage.

    Raises:
        LogUnreadable: A sound frame is of another schema version.
    """
    firsts = hot_firsts(folder, disk, history)
    tail = start_of(identity, history)
    total = 0
    torn = damage = None
    if not firsts:
        damage = no_segment(tail.position)
    for number, first in enumerate(firsts):
        damage = gap(tail.position, first)
        if damage is not None:
            break
        is_last = number + 1 == len(firsts)
        found = scan_file(folder, disk, first, identity, tail, is_last=is_last)
        tail, torn, damage = found
        total += tail.size
        if damage is not None:
            break
    return Survey(identity.log_id, identity.generation, tail.position, len(firsts), total, torn, damage, tail, history)


def no_segment(position: int) -> Damage:
    """Return the damage of a log whose history ends at a position, 0 = it has none, and that has no segment.

    There always is one: a log is made with its first segment, empty.
    """
    reason = "it should follow the history; the segment is missing"
    if position == 0:
        reason = "all segments are missing"
    return Damage(segment_name(position), 0, position, None, reason, is_missing=True)


def gap(position: int, first: int) -> Damage | None:
    """Return the damage of a segment that begins at ``first`` where ``position`` should come next, if it is one."""
    if first == position:
        return None
    lost = first if first > position else None
    reason = f"it should begin at {position}; a segment is missing"
    return Damage(segment_name(first), 0, position, lost, reason, is_missing=True)


def _beginning(first: int, before: Tail | None) -> Tail:
    if before is None:
        return Tail(first, 0, first, b"", 0, 0, 0)
    return Tail(first, 0, first, before.chain, before.generation, before.log_time_ms, 0)


def _after(tail: Tail, frame: Frame) -> Tail:
    return Tail(
        tail.segment,
        tail.size + frame.length,
        frame.end,
        frame.checksum,
        frame.generation,
        frame.log_time_ms,
        tail.size,
    )


def _flaw_of_opening(opening: Opening | None, first: int, identity: LogIdentity, before: Tail | None) -> _Flaw | None:
    if opening is None:
        return _Flaw("the opening of the segment does not match its checksum", None, is_damage=False)
    if opening.log_id != identity.id_bytes:
        return _Flaw("the segment belongs to another log", None, is_damage=True)
    if opening.first != first:
        return _Flaw(f"the segment was written as {segment_name(opening.first)}", None, is_damage=True)
    came = (opening.before, opening.before_bytes, opening.chain)
    if before is not None and came != (before.segment, before.size, before.chain):
        return _Flaw("the segment does not follow the one before it", None, is_damage=True)
    return None


def _flaw_of_frame(data: Bytes, frame: Frame | None, tail: Tail, identity: LogIdentity) -> _Flaw | None:
    seed = seed_of(identity.id_bytes)
    if frame is None:
        return _Flaw("no commit begins here", None, is_damage=False)
    if not is_sound(data, tail.size, frame, seed):
        return _Flaw("the commit does not match its checksum", None, is_damage=False)
    if frame.first < tail.position:
        return _Flaw("an older commit stands here", None, is_damage=False)
    if frame.first > tail.position or frame.chain != tail.chain:
        return _Flaw("the commit does not follow the one before it", frame.first, is_damage=True)
    if not tail.generation <= frame.generation <= identity.generation:
        reason = f"generation {frame.generation} where {tail.generation} to {identity.generation} would be right"
        return _Flaw(reason, None, is_damage=True)
    if frame.schema_version != SCHEMA_VERSION:
        raise LogUnreadable(version_text(frame))
    return None


def version_text(frame: Frame) -> str:
    """Return what to say of a frame of another schema version."""
    return (
        f"events from log position {frame.first} have schema version {frame.schema_version}; this program reads "
        f"{SCHEMA_VERSION}. Export them with the program that wrote them and import them again"
    )
