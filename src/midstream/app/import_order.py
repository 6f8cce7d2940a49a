"""All rows of an import: on disk as they were read, in memory only what says which are new and in what order they go.

A row takes about 60 bytes of memory at its highest: time, hashes, place, and two orders of them. Its events lie in
files without a name, which go when the process does, whatever ends it.
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, TooLarge
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.file_modes import make_folder
from midstream.events.schema import ROW, TEXTS, TIME_SENT
from midstream.events.text_kernels import copy_spans
from midstream.state.event_ids import fingerprints
from midstream.state.hashing import IdKey

ROWS_MAX = 20_000_000
"""Rows of one import: 1.2 GB of memory at 60 B, and 3 GB of disk at 160 B."""
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


@dataclass(slots=True)
class _Keys:
    """What is kept of each row, in the order of the file."""

    time_ms: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    id_hash: list[NDArray[np.uint64]] = field(default_factory=list[NDArray[np.uint64]])
    content: list[NDArray[np.uint32]] = field(default_factory=list[NDArray[np.uint32]])
    is_act: list[NDArray[np.bool_]] = field(default_factory=list[NDArray[np.bool_]])


class Spill:
    """Rows of an import on disk. Use it in a ``with`` block."""

    def __init__(self, folder: Path, name: str, key: IdKey) -> None:
        """Keep them in ``folder``; ``name`` is that of what is imported, ``key`` tells its rows apart from others."""
        make_folder(folder)
        self._name = name
        self.key = key
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed on exit
        self._text: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed on exit
        self._keys = _Keys()
        self._first: list[int] = [0]
        self._base: list[int] = [0]
        self._maps: tuple[mmap.mmap, mmap.mmap] | None = None
        self._read = 0

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the files."""
        for each in (*(self._maps or ()), self._rows, self._text):
            each.close()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._first[-1]

    def add(self, batch: EventBatch) -> None:
        """Keep some rows behind those that are there.

        Raises:
            TooLarge: The import has become larger than one may be.
        """
        if not len(batch):
            return
        rows, text_bytes = self._first[-1] + len(batch), self._base[-1] + len(batch.text)
        if rows > ROWS_MAX or text_bytes > TEXT_BYTES_MAX:
            came = f"{rows} rows or more, {text_bytes} bytes of text."
            right = f"At most {ROWS_MAX} rows and {TEXT_BYTES_MAX} bytes an import: cut the file by time."
            raise TooLarge((Fault(self._name, came, right, "docs/data.md"),))
        self._rows.write(np.ascontiguousarray(batch.rows).data)
        self._text.write(batch.text)
        self._first.append(rows)
        self._base.append(text_bytes)
        prints = fingerprints(batch, self.key)
        kinds = batch.rows["kind"]
        self._keys.time_ms.append(own_time_ms(batch))
        self._keys.id_hash.append(prints.id_hash)
        self._keys.content.append(prints.content)
        self._keys.is_act.append((kinds != Kind.ITEM) & (kinds != Kind.USER))

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint32], NDArray[np.bool_]]:
        """Return time, id hash, content hash and whether it is an act of each row; they are kept no longer."""
        keys, self._keys = self._keys, _Keys()
        return (
            np.concatenate([np.empty(0, np.int64), *keys.time_ms]),
            np.concatenate([np.empty(0, np.uint64), *keys.id_hash]),
            np.concatenate([np.empty(0, np.uint32), *keys.content]),
            np.concatenate([np.empty(0, np.bool_), *keys.is_act]),
        )

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
        return EventBatch(rows, text.tobytes())

    def text_bytes(self, chosen: Rows) -> NDArray[np.int64]:
        """Return the bytes of text of some rows, in the order given; no text is read."""
        rows_map, _ = self._mapped()
        return _text_bytes(np.frombuffer(rows_map, dtype=ROW)[chosen])

    def _mapped(self) -> tuple[mmap.mmap, mmap.mmap]:
        if self._maps is None:
            for file in (self._rows, self._text):
                file.write(b"\0")  # an empty file cannot be mapped
                file.flush()
            size = len(self) * ROW.itemsize
            rows = mmap.mmap(self._rows.fileno(), max(size, 1), access=mmap.ACCESS_READ)
            self._maps = (rows, mmap.mmap(self._text.fileno(), 0, access=mmap.ACCESS_READ))
        return self._maps


def _text_bytes(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the bytes of text of each row."""
    lengths = np.zeros(len(rows), dtype=np.int64)
    for name in TEXTS:
        lengths += rows[f"{name}_length"]
    return lengths


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be recorded, and how."""

    order: Rows
    """The new rows, in the order in which they are recorded."""
    known_count: int
    conflict_count: int
    keeps_event_time: bool
    """Log time = event time: the log's last event is older than all of them."""
    late_count: int
    """Rows more than 24 h behind the log, where log time is not theirs: they reach decayed counters alone."""


def plan_of(spill: Spill, logged: Logged, last_log_time_ms: int, now_ms: int) -> Plan:
    """Return what is to be recorded of the rows that were read.

    Where every act has a time and none is older than the log's last event, rows go in by time and bring their log
    time: so a history folds as it happened, and an import that was interrupted goes on in the same way. Items and
    users without a time go before all of it. Elsewhere rows go in as they stand in the file, now.

    Args:
        spill: The rows.
        logged: All events of the log, as they are read; each is looked at once, 0.5 µs.
        last_log_time_ms: Of the log's last event, 0 = there is none.
        now_ms: The clock.
    """
    time, id_hash, content, is_act = spill.columns()
    verdict = _verdicts(id_hash, content, logged, spill.key)
    del id_hash, content
    is_new = verdict == NEW
    fresh = time[is_new & (time > 0)]
    is_whole = not bool(np.any(is_new & is_act & (time == 0)))
    keeps = is_whole and (int(fresh.min()) >= last_log_time_ms if len(fresh) else last_log_time_ms == 0)
    order = np.flatnonzero(is_new)
    if keeps:
        times = time[order]
        if np.any(times[1:] < times[:-1]):
            order = order[np.argsort(times, kind="stable")]
    late = 0 if keeps else int(np.count_nonzero(fresh < now_ms - 86_400_000))
    return Plan(
        order,
        int(np.count_nonzero(verdict == KNOWN)),
        int(np.count_nonzero(verdict == CONFLICT)),
        keeps_event_time=keeps,
        late_count=late,
    )


def _verdicts(
    id_hash: NDArray[np.uint64], content: NDArray[np.uint32], logged: Logged, key: IdKey
) -> NDArray[np.uint8]:
    """Return for each row whether it is ``NEW``, ``KNOWN`` or in ``CONFLICT`` with one of the same id.

    Of rows of the import with the same id the first one is new at most. Rows without one are always new.
    """
    found = np.zeros(len(id_hash), np.uint8)
    if not len(id_hash):
        return found
    order = np.argsort(id_hash, kind="stable")
    hashes = id_hash[order]
    begins = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))
    distinct = hashes[begins]
    in_log = np.zeros(len(distinct), np.bool_)
    first_content = np.zeros(len(distinct), np.uint32)
    for _, batch in logged:
        prints = fingerprints(batch, key)
        place = np.minimum(np.searchsorted(distinct, prints.id_hash), len(distinct) - 1)
        same = np.flatnonzero((distinct[place] == prints.id_hash) & ~in_log[place])
        # Of two in one batch the first counts: it is written last.
        first_content[place[same[::-1]]] = prints.content[same[::-1]]
        in_log[place[same]] = True
    group = np.zeros(len(hashes), np.int64)
    group[begins] = 1
    group = np.cumsum(group) - 1
    is_later = np.ones(len(hashes), np.bool_)
    is_later[begins] = False
    verdict = np.where(in_log[group], np.where(first_content[group] == content[order], KNOWN, CONFLICT), NEW)
    verdict[is_later & (verdict == NEW)] = KNOWN
    verdict[hashes == 0] = NEW
    found[order] = verdict
    return found


def own_time_ms(batch: EventBatch) -> NDArray[np.int64]:
    """Return the log time that each row brings, else the time that was sent, else 0."""
    rows = batch.rows
    sent = np.where((rows["flags"] & TIME_SENT) > 0, rows["event_time_ms"], 0)
    found: NDArray[np.int64] = np.where(rows["log_time_ms"] > 0, rows["log_time_ms"], sent)
    return found


def parts(spill: Spill, plan: Plan, rows_max: int, bytes_max: int = BYTES_MAX) -> Iterator[EventBatch]:
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
