"""Spill and sort of an import: rows on disk as they were read, and in memory their keys and order.

A row with a time and without an id is identified by its content, as in the fold. A row without either gets an id of its
content (``events.content_ids``), and so does the second of two equal rows. So a row is identified by its event: in
another file, in another order, and not under another mapping. Changes of items and users without a time are known if
they still hold (``import_documents``).

A row takes about 70 bytes of memory at most: time, hashes, place, and two orders of them. Its events are in unnamed
files, which the system removes with the process.
"""

import mmap
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.app.ingest.documents import ImportedDocuments
from midstream.app.mapping.batches import own_time_ms
from midstream.app.mapping.pieces import RowOrigin
from midstream.core.errors import DiskFull, Fault, Invalid, TooLarge
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, Mask
from midstream.events.content_ids import ID_BYTES, Hashes, content_hashes, id_texts, numbered, with_ids
from midstream.events.disk import NO_ROOM
from midstream.events.file_modes import make_folder
from midstream.events.schema import ROW, TEXTS, TIME_SENT
from midstream.events.text_kernels import copy_spans
from midstream.state.ids.event_ids import fingerprints
from midstream.state.structures.hashing import IdKey

PAGE = "/docs/data.md"
ROWS_MAX = 20_000_000
"""Rows of one import: 1.4 GB of memory at 70 B, and 3 GB of disk at 160 B."""
TEXT_BYTES_MAX = 1 << 36
"""64 GiB: 3 kB for each of the rows."""
ROW_BYTES = 100
"""Of a row beside its texts: 56 in a log, 90 in an Arrow stream."""
BYTES_MAX = TEXT_BYTES_MAX + ROWS_MAX * ROW_BYTES
KEEP_ROWS = 200_000
"""Rows that are read back before their pages are let go: 30 MB."""
NEW, KNOWN, CONFLICT = 0, 1, 2
Rows: TypeAlias = NDArray[np.intp]
Logged: TypeAlias = Iterable[tuple[LogPosition, EventBatch]]


@dataclass(frozen=True, slots=True, eq=False)
class RowKeys:
    """What is kept of each row, in the order of the file. All columns (n,)."""

    time_ms: NDArray[np.int64]
    id_hash: NDArray[np.uint64]
    content: NDArray[np.uint32]
    """Hash of all but the id."""
    is_act: Mask
    """Neither an item nor a user changes."""
    is_made: Mask
    """It came without an id, and its content tells it apart."""
    line: NDArray[np.int32]

    @property
    def is_standing(self) -> Mask:
        """Which rows say how an item or user is from now on: changes without a time and an id of their own."""
        found: Mask = self.is_made & ~self.is_act & (self.time_ms == 0)
        return found


class RowSpill:
    """Rows of an import on disk. Use it in a ``with`` block."""

    def __init__(self, folder: Path, name: str, key: IdKey, log_key: IdKey) -> None:
        """Keep them.

        Args:
            folder: Where.
            name: Of what is imported.
            key: Tells its rows apart from others.
            log_key: Of the ids of the log that they go into, under which ids are made.
        """
        make_folder(folder)
        self._folder = folder
        self._name = name
        self.key = key
        self.log_key = log_key
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed on exit
        self._text: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed on exit
        self._keys = [RowKeys(*(np.empty(0, kind) for kind in ("i8", "u8", "u4", "?", "?", "i4")))]
        self._first: list[int] = [0]
        self._base: list[int] = [0]
        self._maps: tuple[mmap.mmap, mmap.mmap] | None = None
        self._read = 0
        self._renamed = (np.empty(0, dtype=np.intp), np.empty((0, 2), dtype=np.uint64))

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the files."""
        with self._room(), ExitStack() as closing:
            for each in (*(self._maps or ()), self._rows, self._text):
                closing.callback(each.close)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._first[-1]

    def add(self, batch: EventBatch, lines: NDArray[np.int64]) -> None:
        """Keep some rows behind those that are there; what nothing tells apart gets an id.

        Args:
            batch: The rows.
            lines: Of each.

        Raises:
            TooLarge: The import has become larger than one may be.
            DiskFull: No room for them.
        """
        if not len(batch):
            return
        is_nameless = _is_nameless(batch)
        needs = is_nameless & ((batch.rows["flags"] & TIME_SENT) == 0)
        if needs.any():
            hashes = content_hashes(batch, self.log_key)
            batch = with_ids(batch, needs, id_texts(hashes[needs]))
        rows, text_bytes = self._first[-1] + len(batch), self._base[-1] + len(batch.text)
        if rows > ROWS_MAX or text_bytes > TEXT_BYTES_MAX:
            came = f"{rows} rows or more, {text_bytes} bytes of text."
            right = f"At most {ROWS_MAX} rows and {TEXT_BYTES_MAX} bytes an import: cut the file by time."
            raise TooLarge((Fault(self._name, came, right, PAGE),))
        with self._room():
            self._rows.write(np.ascontiguousarray(batch.rows).data)
            self._text.write(batch.text)
        self._first.append(rows)
        self._base.append(text_bytes)
        prints = fingerprints(batch, self.key)
        kinds = batch.rows["kind"]
        is_act = (kinds != Kind.ITEM) & (kinds != Kind.USER)
        line = lines.astype(np.int32)
        self._keys.append(RowKeys(own_time_ms(batch), prints.id_hash, prints.content, is_act, is_nameless, line))

    def keys(self) -> RowKeys:
        """Return what was kept of each row; it is kept no longer."""
        held, self._keys = self._keys, []
        return RowKeys(*(np.concatenate([getattr(each, key.name) for each in held]) for key in fields(RowKeys)))

    def rename(self, rows: Rows, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Give ids of their own to rows that came without.

        Args:
            rows: Which, ascending, (k,); those that were renamed before keep what they got.
            numbers: Hashed into each id, (k,).

        Returns:
            The hash of each new id, (k,).
        """
        hashes, id_hash = np.empty((len(rows), 2), np.uint64), np.empty(len(rows), np.uint64)
        for start in range(0, len(rows), KEEP_ROWS):
            own = slice(start, start + KEEP_ROWS)
            batch = self.pick(rows[own])
            hashes[own] = numbered(content_hashes(batch, self.log_key), numbers[own], self.log_key)
            id_hash[own] = fingerprints(_put_ids(batch, np.arange(len(batch)), hashes[own]), self.key).id_hash
        all_rows = np.concatenate((self._renamed[0], rows))
        order = np.argsort(all_rows, kind="stable")
        self._renamed = (all_rows[order], np.concatenate((self._renamed[1], hashes))[order])
        return id_hash

    def pick(self, chosen: Rows) -> EventBatch:
        """Return some rows, in the order given, with their texts end to end."""
        rows_map, text_map = self._mapped()
        whole = np.frombuffer(rows_map, dtype=ROW)
        rows = whole[chosen]
        lengths = _text_bytes(rows)
        piece = np.searchsorted(np.array(self._first), chosen, side="right") - 1
        starts = rows["text_start"].astype(np.int64) + np.array(self._base)[piece]
        ends = np.cumsum(lengths)
        text = np.empty(int(ends[-1]) if len(rows) else 0, dtype=np.uint8)
        if len(text):
            copy_spans(np.frombuffer(text_map, dtype=np.uint8), starts, lengths, text)
        rows["text_start"] = ends - lengths
        del whole
        self._read += len(rows)
        if self._read >= KEEP_ROWS:
            self._read = 0
            rows_map.madvise(mmap.MADV_DONTNEED)
            text_map.madvise(mmap.MADV_DONTNEED)
        return self._with_new_ids(EventBatch(rows, text.tobytes()), chosen)

    def text_bytes(self, chosen: Rows) -> NDArray[np.int64]:
        """Return the bytes of text of some rows at most, in the order given; no text is read."""
        rows_map, _ = self._mapped()
        found = _text_bytes(np.frombuffer(rows_map, dtype=ROW)[chosen])
        found[np.isin(chosen, self._renamed[0])] += ID_BYTES
        return found

    def _with_new_ids(self, batch: EventBatch, chosen: Rows) -> EventBatch:
        """Return picked rows, those that were renamed under their new ids."""
        renamed, hashes = self._renamed
        if not len(renamed):
            return batch
        place = np.minimum(np.searchsorted(renamed, chosen), len(renamed) - 1)
        here = np.flatnonzero(renamed[place] == chosen)
        return _put_ids(batch, here, hashes[place[here]])

    @contextmanager
    def _room(self) -> Generator[None]:
        """Say of a full disk where there is no room, and for what.

        Raises:
            DiskFull: There is none.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            message = (
                f"{self._folder}: no room for the rows of {self._name}, which are kept there until they are "
                f"recorded ({error.strerror})"
            )
            raise DiskFull(message) from error

    def _mapped(self) -> tuple[mmap.mmap, mmap.mmap]:
        if self._maps is None:
            with self._room():
                for file in (self._rows, self._text):
                    file.write(b"\0")  # an empty file cannot be mapped
                    file.flush()
            size = len(self) * ROW.itemsize
            rows = mmap.mmap(self._rows.fileno(), max(size, 1), access=mmap.ACCESS_READ)
            self._maps = (rows, mmap.mmap(self._text.fileno(), 0, access=mmap.ACCESS_READ))
        return self._maps


def _is_nameless(batch: EventBatch) -> Mask:
    """Return which rows have no id, and are of no export, which keeps what told them apart before."""
    rows = batch.rows
    is_exported = (rows["log_time_ms"] > 0) & (((rows["flags"] & TIME_SENT) > 0) | (rows["request_id_length"] > 0))
    found: Mask = (rows["event_id_length"] == 0) & ~is_exported
    return found


def _put_ids(batch: EventBatch, rows: Rows, hashes: Hashes) -> EventBatch:
    """Return a batch in which some rows have the ids of hashes, in the place of one of that length or of none."""
    if not len(rows):
        return batch
    bare = np.zeros(len(batch), dtype=np.bool_)
    bare[rows] = batch.rows["event_id_length"][rows] == 0
    if bare.any():
        batch = with_ids(batch, bare, np.zeros((int(np.count_nonzero(bare)), ID_BYTES), dtype=np.uint8))
    text = np.frombuffer(batch.text, dtype=np.uint8).copy()
    places = batch.rows["text_start"][rows].astype(np.int64)[:, np.newaxis] + np.arange(ID_BYTES)
    text[places] = id_texts(hashes)
    return EventBatch(batch.rows, text.tobytes())


def _text_bytes(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the bytes of text of each row."""
    lengths = np.zeros(len(rows), dtype=np.int64)
    for name in TEXTS:
        lengths += rows[f"{name}_length"]
    return lengths


@dataclass(frozen=True, slots=True, eq=False)
class ImportPlan:
    """What is to be recorded, and how."""

    order: Rows
    """The new rows, in the order in which they are recorded."""
    known_count: int
    conflicts: Rows
    """Rows whose own id another event of other content has, in the log or further up in the file."""
    keeps_event_time: bool
    """Log time = event time: the log's last event is older than all of them."""
    late_count: int
    """Rows more than 24 h behind the log, where log time is not theirs: they reach decayed counters alone."""
    lines: NDArray[np.int32]
    """Of all rows of the import."""
    known_untimed_count: int = 0
    """Acts without a time that are known: their content alone says so."""
    late_items_count: int = 0
    """Items that the log has acts on, and that rows without a time are the first to describe."""


def plan_of(
    spill: RowSpill, logged: Logged, last_log_time_ms: int, now_ms: int, *, is_part: bool = False
) -> ImportPlan:
    """Return what is to be recorded of the rows that were read.

    Where every act has a time and none is older than the log's last event, rows go in by time and bring their log
    time: so a history folds as it happened, and an import that was interrupted goes on in the same way. Items and
    users without a time go before all of it. Elsewhere rows go in as they stand in the file, now.

    Args:
        spill: The rows.
        logged: All events of the log, as they are read; each is looked at once, 0.5 µs.
        last_log_time_ms: Of the log's last event, 0 = there is none.
        now_ms: The clock.
        is_part: Of a history in parts: where the log has a change with a time, rows without one say how it was before.
    """
    keys = _told_apart(spill, spill.keys())
    standing = np.flatnonzero(keys.is_standing)
    dated = np.flatnonzero(~keys.is_act & (keys.time_ms > 0))
    documents = ImportedDocuments(spill.pick, standing, dated, spill.log_key)
    verdict = _verdicts(keys, documents.seen(logged), spill.key)
    if is_part:
        documents.count_logged_dates()
    verdict[standing[~documents.is_dated]] = NEW
    verdict[documents.known()] = KNOWN
    is_new = verdict == NEW
    again = standing[is_new[standing] & documents.in_log() & ~documents.is_dated]
    spill.rename(again, now_ms + np.arange(len(again)))  # the log has their content under the ids of before
    time = keys.time_ms
    fresh = time[is_new & (time > 0)]
    is_whole = not bool(np.any(is_new & keys.is_act & (time == 0)))
    keeps = is_whole and (int(fresh.min()) >= last_log_time_ms if len(fresh) else last_log_time_ms == 0)
    order = np.flatnonzero(is_new)
    if keeps:
        times = time[order]
        if np.any(times[1:] < times[:-1]):
            order = order[np.argsort(times, kind="stable")]
    late = 0 if keeps else int(np.count_nonzero(fresh < now_ms - 86_400_000))
    return ImportPlan(
        order,
        int(np.count_nonzero(verdict == KNOWN)),
        np.flatnonzero(verdict == CONFLICT),
        keeps_event_time=keeps,
        late_count=late,
        lines=keys.line,
        known_untimed_count=int(np.count_nonzero((verdict == KNOWN) & keys.is_act & keys.is_made & (time == 0))),
        late_items_count=documents.late_count(),
    )


def require_event_time(plan: ImportPlan, origin: RowOrigin) -> None:
    """Refuse a part of a history that would be folded now, behind parts that were folded as they happened.

    Raises:
        Invalid: It would; nothing of it was recorded.
    """
    if origin.needs_event_time and len(plan.order) and not plan.keeps_event_time:
        came = "The log has newer events than rows of this part, and the parts before were folded as they happened."
        right = "Nobody else writes meanwhile. Take the parts back, or record the rest with an import of its own."
        raise Invalid((Fault(origin.name, came, right, PAGE),))


def _told_apart(spill: RowSpill, keys: RowKeys) -> RowKeys:
    """Return the keys, further ones of equal rows under ids of their own: the second is the second in any order."""
    made = np.flatnonzero(keys.is_made)
    order = made[np.argsort(keys.id_hash[made], kind="stable")]
    hashes = keys.id_hash[order]
    is_later = np.concatenate(([False], hashes[1:] == hashes[:-1])) if len(hashes) else np.empty(0, np.bool_)
    if not is_later.any():
        return keys
    place = np.arange(len(order))
    number = place - np.maximum.accumulate(np.where(is_later, 0, place)) + 1
    later, number = order[is_later], number[is_later]
    by_row = np.argsort(later)
    id_hash = keys.id_hash.copy()
    id_hash[later[by_row]] = spill.rename(later[by_row], number[by_row])
    return replace(keys, id_hash=id_hash)


def _verdicts(keys: RowKeys, logged: Logged, key: IdKey) -> NDArray[np.uint8]:
    """Return for each row whether it is ``NEW``, ``KNOWN`` or in ``CONFLICT`` with one of the same id.

    Of rows of the import with the same id the first one is new at most. Rows without one are always new.
    """
    id_hash, content = keys.id_hash, keys.content
    if not len(id_hash):
        return np.zeros(0, np.uint8)
    distinct, first, group = np.unique(id_hash, return_index=True, return_inverse=True)
    in_log = np.zeros(len(distinct), np.bool_)
    first_content = content[first]
    for _, batch in logged:
        prints = fingerprints(batch, key)
        place = np.minimum(np.searchsorted(distinct, prints.id_hash), len(distinct) - 1)
        same = np.flatnonzero((distinct[place] == prints.id_hash) & ~in_log[place])
        # Of two in one batch the first counts: it is written last.
        first_content[place[same[::-1]]] = prints.content[same[::-1]]
        in_log[place[same]] = True
    is_later = np.ones(len(id_hash), np.bool_)
    is_later[first] = False
    verdict = np.where(first_content[group] == content, KNOWN, CONFLICT).astype(np.uint8)
    verdict[~(in_log[group] | is_later) | (id_hash == 0)] = NEW
    return verdict


def parts(spill: RowSpill, plan: ImportPlan, rows_max: int, bytes_max: int = BYTES_MAX) -> Iterator[EventBatch]:
    """Yield the new rows in their order, some at a time, each part with its texts alone.

    Args:
        spill: The rows.
        plan: Which of them are new, and their order.
        rows_max: Of a part.
        bytes_max: Of a part, as a row's texts and ``ROW_BYTES``, unless a row by itself has more.
    """
    edges = [*range(0, len(plan.order), rows_max), len(plan.order)]
    for start, stop in pairwise(edges):
        chosen = plan.order[start:stop]
        ends = np.cumsum(spill.text_bytes(chosen) + ROW_BYTES)
        first = before = 0
        while first < len(chosen):
            end = max(int(np.searchsorted(ends, before + bytes_max, side="right")), first + 1)
            yield spill.pick(chosen[first:end])
            first, before = end, int(ends[end - 1])
