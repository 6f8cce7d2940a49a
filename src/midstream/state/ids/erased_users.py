"""Erased users: late copies of theirs are refused for 24 h, and each is listed until the log is rewritten.

A row is the hash of an erased id with the log time and log position of its erase, and when it was asked for. For 24 h
of log time an event of that id whose own time is not after the erase is a late copy of what was to be forgotten, and
passed by. An event with a later time, or without one, which is of now as everywhere, is a new start. A row is pending
until the erase's own event in the log has been blanked; a state made from the rewritten log has no pending row of it.
An id that is erased again and again has two pending rows at most, the first and the last. Full, a row goes, counted:
the oldest that is not pending, else the first of an id that has two, else the oldest. What has to be blanked is read
from the log itself.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, UserForgotten
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, Mask
from midstream.events.schema import TIME_SENT, text_lengths, texts_of
from midstream.state.settings import FoldSettings
from midstream.state.structures.hashing import IdKey, hash_id
from midstream.state.structures.kernel import frozen_columns, kernel, signed

REFUSED_MS = 86_400_000
"""Late copies of an erased user are refused for 24 h of log time: as long as ids of events are remembered."""
ERASURE_BYTES = 400
"""Of a row, about: four Python numbers and a tuple, and its place in two sorted arrays."""
_NEVER = 1 << 62
_USER_TEXT = 2
_ERASE = int(Kind.ERASE)


class Erasure(NamedTuple):
    """One erased id."""

    user_hash: int
    log_time_ms: int
    asked_ms: int
    """When it was asked for, on the clock of the process that took it; never after ``log_time_ms``, which is later
    where a clock that stood in the future once left log time ahead."""
    position: int
    is_pending: bool
    """The erase's event in the log still names the user, and so may other events."""


class _Asked(msgspec.Struct, frozen=True):
    """Body of an erase whose event is not blanked yet."""

    asked_ms: int


class _Blanked(msgspec.Struct, frozen=True):
    """Body of an erase whose event was blanked: hashes as 16 hex digits each."""

    erased: tuple[str, ...]


def erasure_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table, about."""
    return settings.limits.erased_max * ERASURE_BYTES


class Erasures:
    """Erased ids, in the order of the log."""

    def __init__(self, erased_max: int) -> None:
        """Start empty."""
        self._erased_max = erased_max
        self._rows: list[Erasure] = []
        self.refused_hash = np.empty(0, dtype=np.uint64)
        """Ids whose late copies are refused, ascending; a new array whenever they change, as the next one."""
        self.refused_until = np.empty(0, dtype=np.int64)
        """Log time of the last erase of each."""
        self._expires_ms = _NEVER
        self.forgotten_count = 0
        """Rows that went for want of room."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    @property
    def bytes_now(self) -> int:
        """Memory of all rows, about."""
        return len(self._rows) * ERASURE_BYTES

    @property
    def bytes_max(self) -> int:
        """Memory of as many as may be, about."""
        return self._erased_max * ERASURE_BYTES

    @property
    def pending(self) -> Sequence[Erasure]:
        """Rows whose events in the log are not blanked yet, oldest first."""
        return [row for row in self._rows if row.is_pending]

    @property
    def newest(self) -> LogPosition | None:
        """Log position of the newest row; None = there is none."""
        return LogPosition(self._rows[-1].position) if self._rows else None

    def apply(self, step: FoldStep) -> None:
        """Fold a step: an erasure is remembered, of a blanked one only what it refuses, and the oldest expire."""
        events = step.events
        if step.changes_user and events.kind[0] == _ERASE and events.folded[0]:
            body, log_time_ms, position = texts_of(step.source, 0)[-1], int(events.log_time_ms[0]), step.first
            if isinstance(step.change, UserForgotten):
                hashes, asked_ms = step.change.hashes.tolist(), asked_at(body, log_time_ms)
                self.add(hashes, log_time_ms, position, asked_ms, is_pending=True)
            else:
                self.add(blanked_hashes(body), log_time_ms, position, log_time_ms, is_pending=False)
        if len(events.kind):
            self.expire(int(events.log_time_ms[-1]))

    def add(
        self, hashes: Sequence[int], log_time_ms: int, position: LogPosition, asked_ms: int, *, is_pending: bool
    ) -> None:
        """Remember ids that were erased at a log position."""
        if is_pending:
            self._leave_first(set(hashes))
        self._rows.extend(Erasure(each, log_time_ms, asked_ms, position, is_pending) for each in hashes)
        self._make_room()
        self._refresh(log_time_ms)

    def expire(self, log_time_ms: int) -> None:
        """Drop what no longer matters at a log time. Nothing is due in nearly every call, which then costs 0.1 µs."""
        if log_time_ms > self._expires_ms:
            self._rows = [row for row in self._rows if row.is_pending or log_time_ms - row.log_time_ms <= REFUSED_MS]
            self._refresh(log_time_ms)

    def carry_out(self, log_time_ms: int) -> None:
        """Have no row pending: what all of them were about is blanked. Those go that no longer matter at a log time."""
        rows = [row._replace(is_pending=False) for row in self._rows]
        self._rows = [row for row in rows if log_time_ms - row.log_time_ms <= REFUSED_MS]
        self._refresh(log_time_ms)

    def late_copies(self, batch: EventBatch, key: IdKey) -> Mask | None:
        """Return which events of a batch that is not stamped yet are late copies, as ``refused`` does."""
        if not len(self.refused_hash):
            return None
        return self.refused(batch.rows, hash_column(batch, _USER_TEXT, key))

    def refused(self, rows: NDArray[np.void], user_hash: NDArray[np.uint64]) -> Mask | None:
        """Return which events are late copies of erased users, (n,); None = none can be.

        Args:
            rows: Of the events. Their log times are those of now, or 0 where they are not stamped yet.
            user_hash: Of the user ids as they were sent, aliases not resolved.
        """
        if not len(self.refused_hash):
            return None
        place = np.minimum(np.searchsorted(self.refused_hash, user_hash), len(self.refused_hash) - 1)
        is_erased = (self.refused_hash[place] == user_hash) & (rows["kind"] != _ERASE)
        until = self.refused_until[place]
        is_before = (rows["flags"] & TIME_SENT != 0) & (rows["event_time_ms"] <= until)
        found: Mask = is_erased & is_before & (rows["log_time_ms"] - until <= REFUSED_MS)
        return found

    def erased_at(self, user_hash: int) -> int | None:
        """Return the log time of an id's last erase while late copies are refused, else None."""
        place = int(np.searchsorted(self.refused_hash, np.uint64(user_hash)))
        is_there = place < len(self.refused_hash) and int(self.refused_hash[place]) == user_hash
        return int(self.refused_until[place]) if is_there else None

    def hides(self, user_hash: int, position: LogPosition) -> bool:
        """Say whether an event at a log position is of a user who was erased after it."""
        return any(row.user_hash == user_hash and row.position > position for row in self._rows if row.is_pending)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the rows as columns, and the counter."""
        return {
            "user_hash": np.array([row.user_hash for row in self._rows], dtype=np.uint64),
            "log_time_ms": np.array([row.log_time_ms for row in self._rows], dtype=np.int64),
            "asked_ms": np.array([row.asked_ms for row in self._rows], dtype=np.int64),
            "position": np.array([row.position for row in self._rows], dtype=np.int64),
            "is_pending": np.array([row.is_pending for row in self._rows], dtype=np.bool_),
            "forgotten": np.array([self.forgotten_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned. What is too old is noticed by the next ``expire``."""
        columns = [arrays[name].tolist() for name in Erasure._fields]
        self._rows = [Erasure(*row) for row in zip(*columns, strict=True)]
        self.forgotten_count = int(arrays["forgotten"].tolist()[0])
        self._refresh(self._rows[-1].log_time_ms if self._rows else 0)

    def _leave_first(self, hashes: Collection[int]) -> None:
        """Drop all pending rows of some ids but the first of each, which says how long it waits.

        With the one that comes now an id has two at most: the last one says up to where events are hidden.
        """
        met: set[int] = set()
        rows: list[Erasure] = []
        for row in self._rows:
            if row.is_pending and row.user_hash in hashes:
                if row.user_hash in met:
                    continue
                met.add(row.user_hash)
            rows.append(row)
        self._rows = rows

    def _make_room(self) -> None:
        """Drop the rows that are more than may be, those first without which no id that waits is lost from sight."""
        surplus = len(self._rows) - self._erased_max
        if surplus <= 0:
            return
        last = {row.user_hash: at for at, row in enumerate(self._rows) if row.is_pending}
        is_last = [row.is_pending and last[row.user_hash] == at for at, row in enumerate(self._rows)]
        order = sorted(range(len(self._rows)), key=lambda at: (self._rows[at].is_pending, is_last[at], at))
        gone = set(order[:surplus])
        self._rows = [row for at, row in enumerate(self._rows) if at not in gone]
        self.forgotten_count += surplus

    def _refresh(self, log_time_ms: int) -> None:
        """Make the sorted columns of the ids whose late copies are refused at a log time."""
        last = {row.user_hash: row.log_time_ms for row in self._rows if log_time_ms - row.log_time_ms <= REFUSED_MS}
        hashes = sorted(last)
        self.refused_hash = np.array(hashes, dtype=np.uint64)
        self.refused_until = np.array([last[each] for each in hashes], dtype=np.int64)
        # A row whose id was erased again says nothing any more, and still goes at its own time: so however a log is cut
        # into batches, the rows are the same.
        due = [row.log_time_ms for row in self._rows if not row.is_pending]
        self._expires_ms = min([*due, *last.values()], default=_NEVER) + REFUSED_MS


def hash_column(batch: EventBatch, text: int, key: IdKey) -> NDArray[np.uint64]:
    """Return the 64-bit hash of one of the texts of each event, (n,), 0 = empty; ``text`` is its place in ``TEXTS``."""
    lengths = text_lengths(batch)
    starts = batch.rows["text_start"] + lengths[:, :text].sum(axis=1)
    hashes = np.empty(len(batch), dtype=np.uint64)
    _hash_texts(frozen_columns(batch)[1], starts, lengths[:, text].copy(), key, hashes)
    return hashes


@kernel
def _hash_texts(
    text: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    key: IdKey,
    hashes: NDArray[np.uint64],
) -> None:
    for i in range(len(starts)):
        hashes[i] = hash_id(text, starts[i], lengths[i], key)


@kernel
def refuse_each(
    rows: NDArray[np.void],
    user_hash: NDArray[np.uint64],
    refused_hash: NDArray[np.uint64],
    refused_until: NDArray[np.int64],
    folded: Mask,
) -> int:
    """Let late copies of erased users not be folded (``Erasures.refused``, which is its twin); return how many."""
    count = 0
    for i in range(len(rows)):
        place, stop = 0, len(refused_hash)
        while place < stop:
            middle = (place + stop) >> 1
            if refused_hash[middle] < user_hash[i]:
                place = middle + 1
            else:
                stop = middle
        if not folded[i] or place == len(refused_hash) or refused_hash[place] != user_hash[i]:
            continue
        row, until = rows[i], refused_until[place]
        is_before = (row["flags"] & TIME_SENT) != 0 and signed(row["event_time_ms"]) <= until
        if row["kind"] != _ERASE and is_before and signed(row["log_time_ms"]) - until <= REFUSED_MS:
            folded[i] = False
            count += 1
    return count


def asked_body(asked_ms: int) -> bytes:
    """Return the body of an erase that is asked for at a time of the clock."""
    return msgspec.json.encode(_Asked(asked_ms))


def asked_at(body: bytes, log_time_ms: int) -> int:
    """Return when an erase was asked for by its body; its log time when the body says nothing, or something later."""
    try:
        return min(max(0, msgspec.json.decode(body, type=_Asked).asked_ms), log_time_ms)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return log_time_ms


def blanked_body(hashes: Sequence[int]) -> bytes:
    """Return what is left of an erase's event when it is blanked: who it was about, as hashes alone."""
    return msgspec.json.encode(_Blanked(tuple(f"{each:016x}" for each in hashes)))


def blanked_hashes(body: bytes) -> list[int]:
    """Return the hashes of a blanked erase; none when the body is something else."""
    try:
        return [int(each, 16) for each in msgspec.json.decode(body, type=_Blanked).erased]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []
