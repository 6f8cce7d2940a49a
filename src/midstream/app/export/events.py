"""Export of the log to a file or a program: every event exactly once, in order, streaming.

NDJSON has each event in the form of ``POST /v1/events``, with its log time. CSV, Parquet and Arrow have a column for
each field, with objects as JSON. The files can be imported again; cells of CSV are escaped for that.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pyarrow.parquet as pq

from midstream.app.config.schema import Config
from midstream.app.export.believed_times import BelievedTimes
from midstream.app.inspect.folder_view import LogView
from midstream.app.mapping.csv_cells import CsvTable
from midstream.app.opening import Outside, config_to_read
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault, Invalid, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.arrow.to_arrow import SCHEMA, to_table
from midstream.events.json.encode import encode_lines
from midstream.events.loose_arrow import pa
from midstream.events.schema import pick
from midstream.events.whole_file import OPEN_MODE, WholeFile
from midstream.state.ids.event_ids import EventAdmission, EventIds

FORMATS = ("ndjson", "csv", "parquet", "arrow")
KINDS = tuple(kind.name.lower() for kind in Kind if kind is not Kind.RETRACTION)
"""A retraction names a position of its own log, so an export has neither it nor the act."""
GROUP_ROWS = 65_536
"""Rows of a Parquet row group and of an Arrow record batch: 10 MB, and few enough to stream."""
_PAGE = "/docs/data.md"
_RIGHT_MOMENT = 'ISO 8601 such as 2026-01-31T12:00:00Z, or how long ago, such as "2d" or "6h".'
Moment: TypeAlias = str | datetime | int | None
"""A point of log time: milliseconds since 1970, ISO 8601 (UTC unless it says), how long ago; None = no bound."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Selection of events, and format."""

    format: str = "ndjson"
    """One of ``FORMATS``."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of events; others are left out."""
    since_ms: int | None = None
    """Log time from which on; None = the beginning."""
    until_ms: int | None = None
    """Log time before which; None = the end."""
    now_ms: int | None = None
    """A log time ahead of this clock is not believed; None = the machine's."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """Result of an export."""

    events: int
    left_out: int
    """Events of other kinds or times."""
    duplicates: int
    """Copies that are in the log a second time, as after a crash; state and export skip them."""
    taken_back: int = 0
    """Acts that were taken back; they are in no export."""
    log_times_set: int = 0
    """Events whose log time was ahead of the clock; they get the time that was sent, or that of the event before."""


def moment_ms(moment: Moment, now_ms: int, name: str) -> int | None:
    """Return a point of log time in milliseconds since 1970.

    Raises:
        RequestInvalid: It is none; ``name`` is the option.
    """
    if moment is None or isinstance(moment, int):
        return moment
    try:
        if isinstance(moment, str) and moment[-1:].isalpha() and moment[-1:] not in "Zz":
            return now_ms - parse_duration_ms(moment)
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as error:
        raise RequestInvalid((Fault(name, f"{moment!r} is no time.", _RIGHT_MOMENT, _PAGE),)) from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000)


class _Selection:
    """The selected events of a log, each once."""

    def __init__(self, log: LogView, config: Config, options: ExportOptions) -> None:
        self._log = log
        self._options = options
        self._ids = EventIds(config.limits.event_ids_max, log.id_key)
        self._kinds = [Kind[name.upper()] for name in options.kinds]
        self.events = self.left_out = self.duplicates = self.taken_back = 0

    def batches(self, notify: Callable[[int, int], None] | None = None) -> Iterator[EventBatch]:
        """Yield them, oldest first. All of the log is read: a first copy may lie before what is wanted.

        It is read twice: an act may be taken back at the log's end.
        """
        read = 0
        acts = self._log.acts_taken_back
        for batch in self._log.batches():
            times = batch.rows["log_time_ms"]
            is_first = self._ids.admit(self._ids.fingerprints(batch), times.astype(np.int64)) == EventAdmission.NEW
            is_wanted = np.isin(batch.rows["kind"], self._kinds)
            if self._options.since_ms is not None:
                is_wanted &= times >= self._options.since_ms
            if self._options.until_ms is not None:
                is_wanted &= times < self._options.until_ms
            is_kept = ~np.isin(self._log.begin + read + np.arange(len(batch)), acts)
            self.taken_back += int(np.count_nonzero(is_first & is_wanted & ~is_kept))
            chosen = np.flatnonzero(is_first & is_wanted & is_kept)
            self.events += len(chosen)
            self.duplicates += int(np.count_nonzero(~is_first))
            self.left_out += int(np.count_nonzero(is_first & ~is_wanted))
            if len(chosen):
                yield batch if len(chosen) == len(batch) else pick(batch, chosen)
            read += len(batch)
            if notify is not None:
                notify(read, self._log.end - self._log.begin)


def export_events(
    folder: Path,
    config: Config,
    target: BinaryIO | Path,
    options: ExportOptions | None = None,
    notify: Callable[[int, int], None] | None = None,
) -> ExportSummary:
    """Write the events of a folder's log, also while a server has it open.

    Log times ahead of the clock are corrected by ``BelievedTimes``, so that an import accepts all of them.

    Args:
        folder: Holds ``data``.
        config: Of that folder.
        target: A file, which appears under its name when it is complete; or a stream of bytes.
        options: Format, kinds, times.
        notify: Receives the number of events read, and of all.

    Raises:
        Invalid: There is no such format or kind.
        LogDamaged: The log cannot be trusted.
    """
    used = options or ExportOptions()
    _require_known(used)
    found = _Selection(LogView(folder), config, used)
    believed = BelievedTimes(Outside().clock() if used.now_ms is None else used.now_ms)
    with ExitStack() as stack:
        writer = _writer_of(used.format, stack.enter_context(_opened(target)))
        stack.callback(writer.close)
        for batch in found.batches(notify):
            writer.write(believed.of(batch))
    return ExportSummary(found.events, found.left_out, found.duplicates, found.taken_back, believed.set_count)


def open_selected(folder: str | Path, since: Moment, until: Moment, kinds: Sequence[str] | None) -> Any:  # noqa: ANN401  the stubs know no schema
    """Return a ``pa.RecordBatchReader`` of the events of a folder's log; see ``midstream.read_events``."""
    root = Path(folder)
    now_ms = Outside().clock()
    options = ExportOptions(
        kinds=KINDS if kinds is None else tuple(kinds),
        since_ms=moment_ms(since, now_ms, "since"),
        until_ms=moment_ms(until, now_ms, "until"),
    )
    _require_known(options)
    found = _Selection(LogView(root), config_to_read(root), options)
    return pa.RecordBatchReader.from_batches(SCHEMA, (to_table(batch) for batch in found.batches()))


def _require_known(options: ExportOptions) -> None:
    faults: list[Fault] = []
    if options.format not in FORMATS:
        faults.append(Fault("--format", f"{options.format!r}", f"One of {', '.join(FORMATS)}.", "/docs/data.md"))
    faults.extend(
        Fault("--kind", f"{name!r}", f"One of {', '.join(KINDS)}.", "/docs/data.md")
        for name in options.kinds
        if name not in KINDS
    )
    if faults:
        raise Invalid(tuple(faults))


def _opened(target: BinaryIO | Path) -> AbstractContextManager[BinaryIO]:
    if not isinstance(target, Path):
        return nullcontext(target)
    require_folder_of(target)
    return WholeFile(target, OPEN_MODE)


def require_folder_of(path: Path) -> None:
    """Refuse a file of a folder that is not there.

    Raises:
        Invalid: It is not.
    """
    if not (folder := path.absolute().parent).is_dir():
        raise Invalid((Fault(str(path), f"There is no folder {folder}.", "A file in a folder that is there.", _PAGE),))


class _Lines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, batch: EventBatch) -> None:
        self._file.write(encode_lines(batch, log_time=True))

    def close(self) -> None:
        self._file.flush()


class _Tables:
    """Gathers batches to groups of ``GROUP_ROWS``, each written as one table."""

    def __init__(self, writer: Any) -> None:  # noqa: ANN401  of pyarrow, or one of its kind
        self._writer = writer
        self._batches: list[Any] = []
        self._rows = 0

    def write(self, batch: EventBatch) -> None:
        self._batches.append(to_table(batch))
        self._rows += len(batch)
        if self._rows >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches).combine_chunks())
        self._batches, self._rows = [], 0


def _writer_of(name: str, file: BinaryIO) -> _Lines | _Tables:
    if name == "ndjson":
        return _Lines(file)
    writers: dict[str, Callable[[BinaryIO, Any], Any]] = {
        "csv": CsvTable,
        "parquet": partial(pq.ParquetWriter, compression="zstd"),
        "arrow": partial(pa.ipc.new_stream, options=pa.ipc.IpcWriteOptions(compression="zstd")),
    }
    return _Tables(writers[name](file, SCHEMA))
