"""History file: events as Parquet and back, readable by any program that reads Parquet.

A column for each field of a row and for each text, and ``log_position``. Lengths and places of texts are not stored:
they follow from the texts. Pages have checksums, so that a damaged one is never decompressed; the content of a row
group has a checksum of its own, over the log's bytes, so that reading returns exactly what was written.
"""

import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from midstream.core.errors import LogDamaged
from midstream.core.types import EventBatch
from midstream.events.disk import Bytes, Disk
from midstream.events.history.history import DAY_MS, HistoryFile, RowGroup, damage_text, file_name
from midstream.events.loose_arrow import UNREADABLE, said
from midstream.events.schema import ROW, TEXTS, concat, pick, text_lengths

Rest: TypeAlias = Callable[[int], None]
"""Called after each piece of work with the number of bytes made durable in it."""
FILE_ROWS_MAX = 1_000_000
"""150 MB in most logs: a busy day has several files, and a sealing that is broken off begins again with so much."""
GROUP_ROWS = 16_384
"""3 MB in most logs: what is held in memory at once. For the sake of one event a whole group is unpacked, in 10 ms."""
GROUP_BYTES_MAX = 32 << 20
"""Text of a row group, where events are large: a group ends with the commit that exceeds this."""
_FIELDS = tuple(name for name in ROW.names or () if name != "text_start" and not name.endswith("_length"))
_TYPES: dict[str, pa.DataType] = {name: pa.from_numpy_dtype(ROW[name]) for name in _FIELDS}
SCHEMA = pa.schema(
    [
        ("log_position", pa.int64()),
        *_TYPES.items(),
        *((name, pa.binary()) for name in TEXTS),
    ]
)
_REPEATED = ["kind", "operation", "flags", "action", "position", "user_id", "item_id", "session_id", "unused"]
"""Columns whose values come again and again, and are stored once."""
_WRITE_BYTES = 4 << 20
"""Made durable at once: 10 ms of a disk that writes 400 MB/s."""
_FOOTER_END = 8
"""Length of the footer, and the magic number."""


def go_on(_byte_count: int) -> None:
    """Do not rest."""


def contiguous(batch: EventBatch) -> EventBatch:
    """Return the events with their texts end to end from 0: the one form that equal events have."""
    lengths = text_lengths(batch).sum(axis=1)
    starts = np.cumsum(lengths) - lengths
    if len(batch.text) == int(lengths.sum()) and bool(np.all(batch.rows["text_start"] == starts)):
        return batch
    return pick(batch, np.arange(len(batch)))


def checksum_of(batch: EventBatch) -> str:
    """Return the xxh3-128 over rows and texts of events in their contiguous form."""
    summed = xxhash.xxh3_128(np.ascontiguousarray(batch.rows).data)
    summed.update(batch.text)
    return summed.hexdigest()


def to_table(first: int, batch: EventBatch) -> pa.Table:
    """Return events in their contiguous form as columns, the first at a log position."""
    count = len(batch)
    columns: list[Any] = [pa.array(np.arange(first, first + count, dtype=np.int64))]
    columns += [pa.array(np.ascontiguousarray(batch.rows[name])) for name in _FIELDS]
    edges = np.zeros(count * len(TEXTS) + 1, dtype=np.int32)
    np.cumsum(text_lengths(batch).reshape(-1), out=edges[1:])
    buffers = [None, pa.py_buffer(edges.tobytes()), pa.py_buffer(batch.text)]
    texts = pa.Array.from_buffers(pa.binary(), count * len(TEXTS), buffers)
    own = np.arange(0, count * len(TEXTS), len(TEXTS))
    columns += [texts.take(own + number) for number in range(len(TEXTS))]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def to_batch(table: pa.Table) -> EventBatch:
    """Return the events whose columns these are; the inverse of ``to_table``."""
    rows = np.zeros(table.num_rows, dtype=ROW)
    for name in _FIELDS:
        rows[name] = table.column(name).to_numpy()
    texts: list[Any] = [table.column(name).combine_chunks() for name in TEXTS]
    join: Any = pc.binary_join_element_wise
    length_of: Any = pc.binary_length
    for name, column in zip(TEXTS, texts, strict=True):
        rows[f"{name}_length"] = length_of(column).to_numpy()
    joined = join(*texts, b"")
    _, edges, data = joined.buffers()
    starts = np.frombuffer(edges, dtype=np.int32, count=len(rows) + 1, offset=joined.offset * 4)
    rows["text_start"] = starts[:-1] - starts[0]
    return EventBatch(rows, data[int(starts[0]) : int(starts[-1])].to_pybytes() if data is not None else b"")


class FileWriter:
    """Writes one file, a row group in memory at a time; ``close`` makes it durable."""

    def __init__(self, place: Path, disk: Disk, first: int, rest: Rest = go_on) -> None:
        """Begin the file of the events from a log position on, under a name that counts for nothing.

        ``rest`` is called after each piece of work and each piece that was written.

        Raises:
            OSError: The disk.
        """
        self._place = place
        self._disk = disk
        self._fresh = place / f"{first:020d}.parquet.new"
        self._sink = _Sink(disk, disk.open(self._fresh), rest)
        disk.truncate(self._sink.file, 0)
        self._parquet = pq.ParquetWriter(
            pa.PythonFile(self._sink, "w"),  # type: ignore[arg-type]  # it has all that is asked for
            SCHEMA,
            compression="zstd",
            use_dictionary=_REPEATED,  # type: ignore[arg-type]  # a list of columns is taken as well
            write_page_checksum=True,
            store_schema=False,
        )
        self._first = first
        self._groups: list[RowGroup] = []
        self._waiting: list[EventBatch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._log_times_ms: tuple[int, int] | None = None
        self.end = first
        """Log position after the last event that was added."""

    def takes(self, batch: EventBatch) -> bool:
        """Return whether events of one day of log time that follow the last ones belong into this file."""
        day = int(batch.rows["log_time_ms"][0]) // DAY_MS
        is_same_day = self._log_times_ms is None or self._log_times_ms[0] // DAY_MS == day
        return is_same_day and self.end + len(batch) - self._first <= FILE_ROWS_MAX

    def add(self, batch: EventBatch) -> None:
        """Add events that follow the last ones."""
        if self._waiting_rows + len(batch) > GROUP_ROWS:
            self._flush()
        self._waiting.append(batch)
        self._waiting_rows += len(batch)
        self._waiting_bytes += len(batch.text)
        times = batch.rows["log_time_ms"]
        first_ms = int(times[0]) if self._log_times_ms is None else self._log_times_ms[0]
        self._log_times_ms = first_ms, int(times[-1])
        self.end += len(batch)
        if self._waiting_bytes > GROUP_BYTES_MAX:
            self._flush()

    def close(self) -> HistoryFile:
        """Write what is left, sync, give the file its name, and return what the manifest is to say of it.

        Raises:
            OSError: The disk.
        """
        self._flush()
        self._parquet.close()
        self._sink.store()
        self.give_up()
        path = self._place / file_name(self._first, self.end)
        self._disk.rename(self._fresh, path)
        self._disk.sync_folder(self._place)
        first_ms, last_ms = self._log_times_ms or (0, 0)
        footer = footer_of(path, self._disk, self._sink.size)
        return HistoryFile(
            first=self._first,
            end=self.end,
            first_log_time_ms=first_ms,
            last_log_time_ms=last_ms,
            bytes=self._sink.size,
            footer_bytes=len(footer),
            footer_checksum=xxhash.xxh3_128_hexdigest(footer),
            sha256=self._sink.digest.hexdigest(),
            groups=tuple(self._groups),
        )

    def give_up(self) -> None:
        """Let go of the file; what was written of one that has no name yet is removed by the next sealing."""
        if not self._sink.is_over:
            self._sink.is_over = True
            self._parquet.close()
            self._disk.close(self._sink.file)

    def _flush(self) -> None:
        if self._waiting:
            batch = contiguous(concat(self._waiting))
            first = self.end - len(batch)
            self._groups.append(RowGroup(first, checksum_of(batch)))
            self._parquet.write_table(to_table(first, batch), row_group_size=len(batch))
            self._waiting = []
            self._waiting_rows = self._waiting_bytes = 0
            self._sink.rest(0)


class FileReader:
    """Reads one file, a row group at a time, and checks what it reads."""

    def __init__(self, path: Path, disk: Disk, file: HistoryFile) -> None:
        """Look at a file's footer.

        Raises:
            LogDamaged: It is not as it was written.
            FileNotFoundError: It is gone.
        """
        self.file = file
        self._path = path
        footer = disk.read(path, file.bytes - file.footer_bytes, file.footer_bytes)
        if xxhash.xxh3_128_hexdigest(footer) != file.footer_checksum:
            raise self.damage(file.first, file.end, "its footer does not match its checksum")
        try:
            self._parquet: Any = pq.ParquetFile(opened(path, disk, file.bytes), page_checksum_verification=True)
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            raise self.damage(file.first, file.end, f"its footer cannot be read: {said(error)}") from error

    def read_group(self, number: int) -> EventBatch:
        """Return the events of one row group.

        Raises:
            LogDamaged: They are not those that were written.
            FileNotFoundError: The file is gone.
        """
        first, end = self.group_range(number)
        try:
            batch = to_batch(self._parquet.read_row_group(number, use_threads=False))
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            raise self.damage(first, end, f"it cannot be unpacked: {said(error)}") from error
        if checksum_of(batch) != self.file.groups[number].checksum:
            raise self.damage(first, end, "its events do not match their checksum")
        return batch

    def group_range(self, number: int) -> tuple[int, int]:
        """Return the log positions from which and before which a row group's events lie."""
        groups = self.file.groups
        return groups[number].first, groups[number + 1].first if number + 1 < len(groups) else self.file.end

    def damage(self, first: int, end: int, reason: str) -> LogDamaged:
        """Return the error of a damaged file, with the remedy."""
        return LogDamaged(damage_text(self._path, first, end, reason))


def opened(path: Path, disk: Disk, size: int) -> pa.NativeFile:
    """Return a file of known size as Arrow reads it, through a ``Disk``; nothing stays open."""
    return pa.PythonFile(_Window(disk, path, size), "r")


def footer_of(path: Path, disk: Disk, size: int) -> bytes:
    """Return the last bytes of a Parquet file: the footer, its length and the magic number."""
    length = int.from_bytes(disk.read(path, size - _FOOTER_END, 4), "little")
    return disk.read(path, size - _FOOTER_END - length, length + _FOOTER_END)


class _Sink:
    """A file written from beginning to end through a ``Disk``: as much of one as the writer of Parquet asks for."""

    closed = False

    def __init__(self, disk: Disk, file: int, rest: Rest) -> None:
        self.file = file
        self.rest = rest
        self.size = 0
        self.digest = sha256()
        self.is_over = False
        """Nothing is written any more."""
        self._disk = disk
        self._waiting = bytearray()

    def write(self, data: Bytes) -> int:
        if not self.is_over:
            self._waiting += data
            self.size += len(data)
            if len(self._waiting) >= _WRITE_BYTES:
                self.store()
        return len(data)

    def store(self) -> None:
        """Make what waits durable: a sync of much at once is what the log's next sync would wait for."""
        count = len(self._waiting)
        self._disk.write(self.file, [bytes(self._waiting)], self.size - count)
        self._disk.sync(self.file)
        self.digest.update(self._waiting)
        self._waiting.clear()
        self.rest(count)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing needs to be on the disk before the end."""


class _Window(io.RawIOBase):
    """A file of known size read through a ``Disk``; it holds nothing open."""

    def __init__(self, disk: Disk, path: Path, size: int) -> None:
        super().__init__()
        self._disk = disk
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        length = self._size - self._at if size < 0 else min(size, self._size - self._at)
        data = self._disk.read(self._path, self._at, length)
        self._at += len(data)
        return data
