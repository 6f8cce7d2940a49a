"""The log to a file: every event exactly once, in order, streaming; what a file of ours is imported from again.

NDJSON holds each event as ``POST /v1/events`` takes it, with its log time. CSV and Parquet have a column for each
field; objects stand in them as JSON.
"""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from midstream.app.config import Config
from midstream.app.inspection import LogView
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.encode import encode_lines, to_object
from midstream.events.schema import event_at, pick
from midstream.state.event_ids import Admission, EventIds, fingerprints

FORMATS = ("ndjson", "csv", "parquet")
KINDS = tuple(kind.name.lower() for kind in Kind)
GROUP_ROWS = 65_536
"""Rows of a Parquet row group: 10 MB, and few enough to stream."""
_TEXT_FIELDS = ("type", "event_id", "user_id", "session_id", "item_id", "request_id", "operation")
_OBJECT_FIELDS = ("context", "attributes", "content")
_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    *((name, pa.string()) for name in _TEXT_FIELDS),
    ("time", pa.int64()),
    ("log_time", pa.int64()),
    ("value", pa.float64()),
    ("quantity", pa.float64()),
    ("position", pa.int32()),
    *((name, pa.string()) for name in (*_OBJECT_FIELDS, "content_base64")),
)
SCHEMA = pa.schema(_COLUMNS)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported, and how."""

    format: str = "ndjson"
    """One of ``FORMATS``."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of events; others are left out."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was written."""

    events: int
    left_out: int
    """Events of kinds that were not asked for."""
    duplicates: int
    """Copies that stand in the log a second time, as after a crash; the state passes them by, and so does an export."""


class _Writer(Protocol):
    def write(self, batch: EventBatch) -> None: ...
    def close(self) -> None: ...


def export_events(
    folder: Path,
    config: Config,
    target: BinaryIO | Path,
    options: ExportOptions | None = None,
    notify: Callable[[int, int], None] | None = None,
) -> ExportSummary:
    """Write all events of a folder's log, also while a server has it open.

    Args:
        folder: Holds ``data``.
        config: Of that folder.
        target: A file, which appears under its name when it is whole; or where bytes go.
        options: Format and kinds.
        notify: Told how many events were read, of how many.

    Raises:
        Invalid: There is no such format or kind.
        LogDamaged: The log cannot be trusted.
    """
    used = options or ExportOptions()
    _require_known(used)
    log = LogView(folder)
    ids = EventIds(config.limits.event_ids_max)
    wanted = [Kind[name.upper()] for name in used.kinds]
    events = left_out = duplicates = read = 0
    with ExitStack() as stack:
        writer = _writer_of(used.format, stack.enter_context(_opened(target)))
        stack.callback(writer.close)
        for batch in log.batches():
            is_first = ids.admit(fingerprints(batch), batch.rows["log_time_ms"].astype(np.int64)) == Admission.NEW
            is_wanted = np.isin(batch.rows["kind"], wanted)
            chosen = np.flatnonzero(is_first & is_wanted)
            if len(chosen):
                writer.write(batch if len(chosen) == len(batch) else pick(batch, chosen))
            events += len(chosen)
            duplicates += int(np.count_nonzero(~is_first))
            left_out += int(np.count_nonzero(is_first & ~is_wanted))
            read += len(batch)
            if notify is not None:
                notify(read, log.end - log.begin)
    return ExportSummary(events, left_out, duplicates)


def _require_known(options: ExportOptions) -> None:
    faults: list[Fault] = []
    if options.format not in FORMATS:
        faults.append(Fault("--format", f"{options.format!r}", f"One of {', '.join(FORMATS)}.", "docs/data.md"))
    faults.extend(
        Fault("--kind", f"{name!r}", f"One of {', '.join(KINDS)}.", "docs/data.md")
        for name in options.kinds
        if name not in KINDS
    )
    if faults:
        raise Invalid(tuple(faults))


def _opened(target: BinaryIO | Path) -> AbstractContextManager[BinaryIO]:
    return _whole(target) if isinstance(target, Path) else nullcontext(target)


def _whole(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file that gets its name when it is whole; what an export that failed has written is removed."""
    return _WholeFile(path)


class _WholeFile(AbstractContextManager[BinaryIO]):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> BinaryIO:
        self._file = self._part.open("wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)


def _writer_of(name: str, file: BinaryIO) -> _Writer:
    writers: dict[str, Callable[[BinaryIO], _Writer]] = {"ndjson": _Lines, "csv": _Csv, "parquet": _Parquet}
    return writers[name](file)


class _Lines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, batch: EventBatch) -> None:
        self._file.write(encode_lines(batch, log_time=True))

    def close(self) -> None:
        self._file.flush()


class _Csv:
    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._csv = csv.DictWriter(self._text, SCHEMA.names)
        self._csv.writeheader()

    def write(self, batch: EventBatch) -> None:
        self._csv.writerows(_flat_rows(batch))

    def close(self) -> None:
        self._text.detach()


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        self._parquet = pq.ParquetWriter(file, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, batch: EventBatch) -> None:
        self._rows.extend(_flat_rows(batch))
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._parquet.close()

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
            self._rows = []


def _flat_rows(batch: EventBatch) -> Iterator[dict[str, Any]]:
    """Yield each event as a flat row; objects become JSON."""
    for index in range(len(batch)):
        row = to_object(event_at(batch, index), log_time=True)
        for name in _OBJECT_FIELDS:
            if name in row:
                row[name] = msgspec.json.encode(row[name]).decode()
        yield row
