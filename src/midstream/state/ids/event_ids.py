"""Deduplication window: the ids of the newest events, in a ring with a hash table over it.

An event is the same as an earlier one when its id is, or, without an id, when all that the client sent is
the same and that includes a time. Remembered are the newest ``event_ids_max`` ids of the last 24 h of log
time, whichever is fewer. The same id with other content is the same event: the first wins, and it is
counted.

20 bytes an id in the ring and 4 to 8 in the table over it.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import Fingerprints, FoldStep
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.schema import TIME_SENT, Event, build
from midstream.events.siphash import Words, sip_begin, sip_text, sip_word
from midstream.state.settings import FoldSettings
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.hash_ring import TABLE_BEGIN, HashRing, ring_bytes
from midstream.state.structures.hash_table import remove
from midstream.state.structures.hashing import IdKey
from midstream.state.structures.kernel import frozen_columns, inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch

SPAN_S = 86_400
"""Seconds of log time for which an id is remembered: 24 h, to the second."""
_SECOND_MS = 1_000
_LOW32 = np.uint64(0xFFFFFFFF)
_NONE = np.uint64(0)
_SERVED = int(Kind.SERVED)
_TICK = int(Kind.TICK)
_OF_CONTENT, _OF_ID, _OF_REQUEST = np.uint64(0), np.uint64(1), np.uint64(2)
"""First byte of what is hashed, so that no client's event id can stand in the way of a served record's request id."""
_ID_BYTES, _CONTENT_BYTES = 8, 40
"""Of the words before the text."""
_SWEEP_SHARE = 16
"""Clearing an entry of the table costs about a sixteenth of deleting an id."""
_BYTES_EACH = 20


class EventAdmission(IntEnum):
    """Result of looking up an event's id."""

    NEW = 0
    DUPLICATE = 1
    CONFLICT = 2
    """The same id came before with other content: a duplicate that the client may want to hear about."""


_NEW = int(EventAdmission.NEW)
_DUPLICATE = int(EventAdmission.DUPLICATE)
_CONFLICT = int(EventAdmission.CONFLICT)


def fingerprints(batch: EventBatch, key: IdKey) -> Fingerprints:
    """Return the fingerprints of all events, under one key the same wherever and whenever they are taken.

    Cost: about 80 ns an event of 100 bytes.
    """
    count = len(batch)
    found = Fingerprints(
        np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.uint32), np.empty(count, dtype=np.uint32)
    )
    if count:
        fingerprint_events(*frozen_columns(batch), key, found.id_hash, found.check, found.content)
    return found


def joined(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Return the fingerprints of several batches as those of one, in order."""
    if len(parts) == 1:
        return parts[0]
    return Fingerprints(
        np.concatenate([each.id_hash for each in parts]),
        np.concatenate([each.check for each in parts]),
        np.concatenate([each.content for each in parts]),
    )


def event_id_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    return ring_bytes(settings.limits.event_ids_max, _BYTES_EACH)


class EventIdRows(NamedTuple):
    """Arrays of the table, and the key under which ids are hashed."""

    key: IdKey
    id_hash: NDArray[np.uint64]
    check: NDArray[np.uint32]
    content: NDArray[np.uint32]
    second: NDArray[np.uint32]
    table: NDArray[np.int32]
    meta: NDArray[np.void]


class EventIds:
    """The ids of the newest events; full, the oldest goes."""

    def __init__(self, event_ids_max: int, key: IdKey, *, table_begin: int = TABLE_BEGIN) -> None:
        """Reserve the maximum; pages are paid when touched. The table over ids begins with ``table_begin`` entries."""
        self._key = key
        self._ring = HashRing(
            event_ids_max,
            {"id_hash": np.uint64, "check": np.uint32, "content": np.uint32, "second": np.uint32},
            table_begin=table_begin,
        )
        self.rows = self._rows()
        """For the one pass over all tables (``state.one_pass``); others after ``make_room``, ``restore``."""

    def _rows(self) -> EventIdRows:
        ids, checks, contents, seconds = self._ring.columns
        return EventIdRows(self._key, ids, checks, contents, seconds, self._ring.table, self._ring.meta)

    def make_room(self, count: int) -> None:
        """Have a table for so many more ids; whoever folds calls it before each batch."""
        if self._ring.make_room(count):
            self.rows = self._rows()

    def __len__(self) -> int:
        """Return the number of ids that are remembered."""
        return len(self._ring)

    @property
    def bytes_now(self) -> int:
        """Memory of what is remembered, about."""
        return self._ring.bytes_now

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return self._ring.bytes_max

    def span_ms(self, log_time_ms: int) -> int:
        """Return for how long back ids are remembered at a log time; 0 when there are none."""
        if not len(self):
            return 0
        oldest = int(self._ring.columns[-1][self._ring.meta["head"][0]]) * _SECOND_MS
        return max(0, log_time_ms - oldest)

    def apply(self, step: FoldStep) -> None:
        """Fold a step: its admission."""
        prints = step.prints or self.fingerprints(step.source)
        step.admission = self.admit(prints, step.source.rows["log_time_ms"].copy())

    def fingerprints(self, batch: EventBatch) -> Fingerprints:
        """Return what tells the events of a batch apart, for ``find`` and ``admit``."""
        return fingerprints(batch, self._key)

    def find(self, prints: Fingerprints) -> NDArray[np.uint8]:
        """Return the ``EventAdmission`` of each event without remembering any.

        Duplicates within the batch are not seen: only ``admit`` knows what goes before what.
        """
        found = np.empty(len(prints.id_hash), dtype=np.uint8)
        ring = self._ring
        ids, checks, contents, _ = ring.columns
        _find(prints.id_hash, prints.check, prints.content, found, ids, checks, contents, ring.table)
        return found

    def second_of(self, event_id: str) -> int | None:
        """Return the second of log time in which an event with an id came first, None = no such id is remembered."""
        prints = self.fingerprints(build((Event(_TICK, event_id=event_id),)))
        return self.second_of_print(int(prints.id_hash[0]), int(prints.check[0]))

    def second_of_print(self, id_hash: int, check: int) -> int | None:
        """Return the second of log time in which a fingerprint came first, None = it is not remembered."""
        ids, checks, _, seconds = self._ring.columns
        table = self._ring.table
        at = id_hash & (len(table) - 1)
        while (held := int(table[at]) - 1) >= 0:
            if int(ids[held]) == id_hash and int(checks[held]) == check:
                return int(seconds[held])
            at = (at + 1) & (len(table) - 1)
        return None

    def admit(self, prints: Fingerprints, log_time_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the ``EventAdmission`` of each event, remember new ones, forget old ones, event by event."""
        self.make_room(len(prints.id_hash))
        found = np.empty(len(prints.id_hash), dtype=np.uint8)
        ring, of = self._ring, (prints.id_hash, prints.check, prints.content)
        ids, checks, contents, seconds = ring.columns
        admit_events(*of, log_time_ms, found, ids, checks, contents, seconds, ring.table, ring.meta)
        return found

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what is remembered, oldest first: ``id_hash``, ``check``, ``content``, ``second``."""
        return self._ring.arrays()

    def rooms(self) -> dict[str, NDArray[np.generic]]:
        """Return the memory of the columns that lie in a snapshot as here (``Fold.rooms``)."""
        return self._ring.rooms()

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned."""
        self._ring.restore(arrays)
        self.rows = self._rows()


@kernel
def fingerprint_events(
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    key: IdKey,
    id_hash: NDArray[np.uint64],
    check: NDArray[np.uint32],
    content: NDArray[np.uint32],
) -> None:
    """Write the fingerprints of all events."""
    rows, text = borrowed((rows, text))
    begin = sip_begin(key)
    a, b, c, d = begin
    of_id = sip_word(a, b, c, d, _OF_ID)
    of_request = sip_word(a, b, c, d, _OF_REQUEST)
    for i in range(len(rows)):
        row = rows[i]
        start = signed(row["text_start"])
        id_length = signed(row["event_id_length"])
        rest = start + id_length
        request = rest + signed(row["action_length"]) + signed(row["user_id_length"])
        request += signed(row["item_id_length"]) + signed(row["session_id_length"])
        request_length = signed(row["request_id_length"])
        length = request - rest + request_length + signed(row["body_length"])
        sent, further = sip_text(_numbers(row, begin), _CONTENT_BYTES, text, rest, length)
        content[i] = np.uint32(sent & _LOW32)
        is_request = id_length == 0 and row["kind"] == _SERVED and request_length > 0
        if id_length > 0 or is_request:
            begun = of_request if is_request else of_id
            at, named = (request, request_length) if is_request else (start, id_length)
            sent, further = sip_text(begun, _ID_BYTES, text, at, named)
        elif row["kind"] == _TICK or (row["flags"] & TIME_SENT) == 0:
            sent, further = _NONE, _NONE
        if sent == _NONE and further != _NONE:
            sent = np.uint64(1)
        id_hash[i] = sent
        check[i] = np.uint32(further & _LOW32)


@inlined
def _numbers(row: np.void, begin: Words) -> Words:
    """Return the hash's state after all that was sent of an event beside its texts, and how long each of these is."""
    a, b, c, d = begin
    fixed = (
        _OF_CONTENT
        | (np.uint64(row["kind"]) << np.uint64(8))
        | (np.uint64(row["operation"]) << np.uint64(16))
        | (np.uint64(row["flags"] & TIME_SENT) << np.uint64(24))
        | (np.uint64(row["body_length"]) << np.uint64(32))
    )
    lengths = (
        np.uint64(row["user_id_length"])
        | (np.uint64(row["item_id_length"]) << np.uint64(16))
        | (np.uint64(row["session_id_length"]) << np.uint64(32))
        | (np.uint64(row["request_id_length"]) << np.uint64(48))
    )
    quantity = (
        np.uint64(np.float32(row["quantity"]).view(np.uint32))
        | (np.uint64(np.int16(row["position"]).view(np.uint16)) << np.uint64(32))
        | (np.uint64(row["action_length"]) << np.uint64(48))
    )
    a, b, c, d = sip_word(a, b, c, d, fixed)
    a, b, c, d = sip_word(a, b, c, d, lengths)
    a, b, c, d = sip_word(a, b, c, d, quantity)
    a, b, c, d = sip_word(a, b, c, d, np.float64(row["value"]).view(np.uint64))
    time = np.uint64(signed(row["event_time_ms"])) if row["flags"] & TIME_SENT else _NONE
    return sip_word(a, b, c, d, time)


@inlined
def _slot_of(
    wanted: np.uint64,
    check: np.uint32,
    id_hash: NDArray[np.uint64],
    checks: NDArray[np.uint32],
    table: NDArray[np.int32],
) -> int:
    """Return the place in the table that holds an id, or -1 minus the free place where it belongs."""
    mask = len(table) - 1
    at = signed(wanted) & mask
    held = signed(table[at]) - 1
    while held >= 0 and (id_hash[held] != wanted or checks[held] != check):
        at = (at + 1) & mask
        held = signed(table[at]) - 1
    return at if held >= 0 else -1 - at


@kernel
def _find(
    id_hash: NDArray[np.uint64],
    check: NDArray[np.uint32],
    content: NDArray[np.uint32],
    found: NDArray[np.uint8],
    ring_id: NDArray[np.uint64],
    ring_check: NDArray[np.uint32],
    ring_content: NDArray[np.uint32],
    table: NDArray[np.int32],
) -> None:
    for i in range(len(id_hash)):
        found[i] = _NEW
        if id_hash[i] != _NONE:
            at = _slot_of(id_hash[i], check[i], ring_id, ring_check, table)
            if at >= 0:
                found[i] = _DUPLICATE if ring_content[table[at] - 1] == content[i] else _CONFLICT


@kernel
def admit_events(
    id_hash: NDArray[np.uint64],
    check: NDArray[np.uint32],
    content: NDArray[np.uint32],
    log_time_ms: NDArray[np.int64],
    found: NDArray[np.uint8],
    ring_id: NDArray[np.uint64],
    ring_check: NDArray[np.uint32],
    ring_content: NDArray[np.uint32],
    ring_second: NDArray[np.uint32],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Write the admission of each event, remember new ids, forget old ones."""
    ids_max = len(ring_id)
    head = meta[0]["head"]
    count = meta[0]["count"]
    for i in range(len(id_hash)):
        _look_ahead(i, id_hash, ring_id, ring_check, table)
        second = log_time_ms[i] // _SECOND_MS
        oldest = second - SPAN_S
        place = head + count  # of the next id: a division takes as long as all else
        place = place if place < ids_max else place - ids_max
        newest = signed(ring_second[place - 1 if place > 0 else ids_max - 1])
        if count * _SWEEP_SHARE > len(table) and newest < oldest:
            # Everything is too old, as after a long stop: one sweep instead of millions of deletions.
            table[:] = 0
            head = 0
            count = 0
        while count > 0 and signed(ring_second[head]) < oldest:
            remove(head, ring_id, table)
            head = head + 1 if head + 1 < ids_max else 0
            count -= 1
        found[i] = _NEW
        if id_hash[i] == _NONE:
            continue
        at = _slot_of(id_hash[i], check[i], ring_id, ring_check, table)
        if at >= 0:
            found[i] = _DUPLICATE if ring_content[table[at] - 1] == content[i] else _CONFLICT
            continue
        if count == ids_max:
            remove(head, ring_id, table)
            head = head + 1 if head + 1 < ids_max else 0
            count -= 1
            at = _slot_of(id_hash[i], check[i], ring_id, ring_check, table)
        place = head + count
        place = place if place < ids_max else place - ids_max
        ring_id[place] = id_hash[i]
        ring_check[place] = check[i]
        ring_content[place] = content[i]
        ring_second[place] = np.uint32(second)
        table[-1 - at] = place + 1
        count += 1
    meta[0]["head"] = head
    meta[0]["count"] = count


@inlined
def _look_ahead(
    event: int,
    id_hash: NDArray[np.uint64],
    ring_id: NDArray[np.uint64],
    ring_check: NDArray[np.uint32],
    table: NDArray[np.int32],
) -> None:
    """Ask for what later ids need: first the entries of the table, then what those name."""
    mask = len(table) - 1
    start, stop = block_ahead(event, len(id_hash), 2)
    for i in range(start, stop):
        prefetch(table, signed(id_hash[i]) & mask, 0)
    start, stop = block_ahead(event, len(id_hash), 1)
    for i in range(start, stop):
        held = max(signed(table[signed(id_hash[i]) & mask]) - 1, 0)
        prefetch(ring_id, held, 0)
        prefetch(ring_check, held, 0)
