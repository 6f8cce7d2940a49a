"""A file into the log: every row once, however often it is run and wherever an earlier run was interrupted.

A row without an event id gets one of the file's content and its line, and what the log holds already is left out. So
there is no second record of how far an import came. A folder that a server has open is written to through that server.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import msgspec
import numpy as np
import xxhash

from midstream.app.config import Config
from midstream.app.import_columns import ColumnOptions, unused_columns
from midstream.app.import_order import (
    ROWS_MAX,
    TEXT_BYTES_MAX,
    Known,
    Plan,
    own_time_ms,
    parts,
    plan_of,
    require_room,
)
from midstream.app.import_rows import Chunk, RowRefused, header_of, read_chunks
from midstream.app.running import DATA_NAME, Outside, accept_of, open_running
from midstream.app.server_address import read_address
from midstream.core.errors import Fault, FolderLocked, Overloaded, StoreUnavailable
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.engine import EngineOptions
from midstream.engine.folder import DataFolder, open_log
from midstream.engine.running import Running
from midstream.engine.types import Outcome
from midstream.engine.writer import QUEUE_BYTES_MAX
from midstream.events.dead_letters import DeadLetters, dead_letter
from midstream.events.decode import Decoded, decode, decode_objects
from midstream.events.disk import RealDisk
from midstream.events.encode import encode_lines
from midstream.events.log_identity import LOG_ID_BYTES
from midstream.events.log_repair import survey_log
from midstream.events.schema import cut
from midstream.events.segment_reader import SegmentReader
from midstream.events.wire import Accept, Limits

REJECTED_NAME = "import-rejected.ndjson"
FAULTS_SHOWN = 5
RECORD_ROWS = 5_000
"""Half a commit's maximum, so that the next part is ready while one is synced."""
IN_FLIGHT_MAX = 4
"""Parts on their way: 20,000 rows of the 100,000 that may wait for the log; fewer where their bytes would not fit."""
AHEAD_MS_MAX = 300_000
"""As in the fold: clocks differ by less. A later time would move log time ahead of every live event for good."""
_SENT_ROWS, _SENT_BYTES = 500, 200_000
"""What a server takes in one request, less some room."""
_TRIES_MAX = 60
_AGAIN = "Run the import again to go on"
_LIMITS = Limits(events_max=RECORD_ROWS * 2, body_bytes_max=1 << 30, rows_max=ROWS_MAX, text_bytes_max=TEXT_BYTES_MAX)
Notify = Callable[[str, int, int], None]
"""Told what is being done, how far, of how much."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What became of a file: rows = recorded + known + conflicts + refused + rejected, each item of an order a row."""

    file: str
    rows: int
    recorded: int
    known: int
    """In the log before."""
    conflicts: int
    """In the log before under the same id with other content; the first ones stay."""
    refused: int
    """Their items are unknown and the configuration takes none, or the catalogue is full."""
    rejected: int
    """No events; each is in ``rejected_file`` with its line and reason."""
    faults: tuple[Fault, ...]
    """The first ones."""
    rejected_file: str
    unused_columns: tuple[str, ...]
    log_time: str
    """``event time`` or ``now``."""
    late: int
    through: str
    """URL of the server that took them, empty when the folder was open here."""
    seconds: float


@dataclass(slots=True)
class _Read:
    """A file's rows as events, and those that are none."""

    batches: list[EventBatch] = field(default_factory=list[EventBatch])
    rejected: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    rows: int = 0
    text_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """What is imported, where to, and who wants to know how far it is."""

    path: Path
    columns: ColumnOptions
    digest: str
    accept: Accept
    notify: Notify


def import_file(
    folder: Path, config: Config, path: Path, columns: ColumnOptions | None = None, notify: Notify | None = None
) -> ImportSummary:
    """Record all rows of a file.

    Args:
        folder: Its data takes them.
        config: Of that folder.
        path: CSV, TSV, NDJSON or Parquet.
        columns: How its columns become fields of events.
        notify: For a progress bar.

    Returns:
        What became of the rows. Durable and applied on return.

    Raises:
        Invalid: The options do not fit the file; nothing was recorded.
        TooLarge: More rows than one import may have; nothing was recorded.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        AppendFailed: The log could not be made durable; run it again to go on.
    """
    began = time.monotonic()
    columns = columns or ColumnOptions()
    now_ms = Outside().clock()
    accept = msgspec.structs.replace(accept_of(config, _LIMITS, trusted=True), now_ms=now_ms)
    source = _Source(path, columns, _content_digest(path), accept, notify or _nobody)
    data = DataFolder(folder / DATA_NAME)
    read = _read(source, data, now_ms)
    url = ""
    try:
        plan, counts = _into_folder(folder, config, read.batches, source, now_ms)
    except FolderLocked:
        url = read_address(data.root) or ""
        if not url:
            raise
        plan, counts = _through_server(data, url, read.batches, source, now_ms)
    return ImportSummary(
        file=path.name,
        rows=read.rows + read.rejected,
        recorded=counts.get(Outcome.RECORDED, 0),
        known=plan.known_count + counts.get(Outcome.DUPLICATE, 0),
        conflicts=plan.conflict_count + counts.get(Outcome.CONFLICT, 0),
        refused=counts.get(Outcome.REFUSED, 0),
        rejected=read.rejected,
        faults=tuple(read.faults),
        rejected_file=REJECTED_NAME if read.rejected else "",
        unused_columns=unused_columns(header_of(path), columns),
        log_time="event time" if plan.keeps_event_time else "now",
        late=plan.late_count,
        through=url,
        seconds=time.monotonic() - began,
    )


def _nobody(_stage: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def _content_digest(path: Path) -> str:
    """Return 16 hex digits of a file's content."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(source: _Source, data: DataFolder, now_ms: TimestampMs) -> _Read:
    """Read the whole file; what is no event goes to the file of rejected rows."""
    found = _Read()
    rejected = data.root / REJECTED_NAME
    rejected.unlink(missing_ok=True)
    letters: DeadLetters | None = None
    total = source.path.stat().st_size
    for chunk in read_chunks(source.path, source.columns, source.accept.attributes):
        batch, refused = _decoded(chunk, source, now_ms)
        found.batches.append(batch)
        found.rows += len(batch)
        found.text_bytes += len(batch.text)
        require_room(found.rows, found.text_bytes, source.path.name)
        found.rejected += len(refused)
        found.faults.extend(each.fault for each in refused[: FAULTS_SHOWN - len(found.faults)])
        if refused:
            letters = letters or DeadLetters(rejected, RealDisk())
            letters.add([dead_letter(now_ms, each.fault, each.raw) for each in refused])
        source.notify("reading", min(chunk.bytes_read, total), total)
    if letters is not None:
        letters.close()
    return found


def _decoded(chunk: Chunk, source: _Source, now_ms: TimestampMs) -> tuple[EventBatch, list[RowRefused]]:
    """Return a chunk's events as rows, and what is refused, by line."""
    events = [_with_id(event, source.digest, line) for line, event in zip(chunk.lines, chunk.events, strict=True)]
    decoded = _decode(events, source.accept)
    refused = [*chunk.refused]
    for each in decoded.rejected:
        line = chunk.lines[each.index]
        field_path = each.fault.where.lstrip("/").partition("/")[2]
        where = f"line {line}: {field_path}" if field_path else f"line {line}"
        refused.append(RowRefused(line, replace(each.fault, where=where), each.raw))
    is_ahead = own_time_ms(decoded.batch) > now_ms + AHEAD_MS_MAX
    ahead: list[int] = np.unique(decoded.event_index[is_ahead]).tolist()
    for event in ahead:
        line, came = chunk.lines[event], f"{events[event].get('time')} is later than now."
        fault = Fault(f"line {line}: time", came, "A time in the past; is --time-format right?", "docs/data.md")
        refused.append(RowRefused(line, fault, msgspec.json.encode(events[event])))
    kept = _without(decoded, is_ahead)
    return kept, sorted(refused, key=lambda each: each.line)


def _decode(events: list[dict[str, object]], accept: Accept) -> Decoded:
    """Return the rows of events; text that is no UTF-8 is judged event by event."""
    try:
        body = msgspec.json.encode(events)
    except UnicodeEncodeError:
        return decode_objects(events, accept)
    return decode(body, accept)


def _with_id(event: dict[str, object], digest: str, line: int) -> dict[str, object]:
    """Return the event with an id; what comes from an export keeps what told it apart before."""
    comes_from_export = "log_time" in event and ("time" in event or "request_id" in event)
    if event.get("event_id") is None and not comes_from_export:
        event["event_id"] = f"import:{digest}:{line}"
    return event


def _without(decoded: Decoded, is_ahead: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> EventBatch:
    """Return the rows of events that have no row in the future."""
    if not is_ahead.any():
        return decoded.batch
    keep = ~np.isin(decoded.event_index, decoded.event_index[is_ahead])
    return EventBatch(decoded.batch.rows[keep], decoded.batch.text)


def _into_folder(
    folder: Path, config: Config, batches: Sequence[EventBatch], source: _Source, now_ms: TimestampMs
) -> tuple[Plan, Mapping[int, int]]:
    """Record what is new with an engine of our own."""
    data = DataFolder(folder / DATA_NAME)
    log = open_log(data, Outside().entropy(LOG_ID_BYTES), config.log.segment_bytes_max)
    try:
        plan = plan_of(batches, Known.of(log.read, log.end, log.begin), log.last_log_time_ms, now_ms)
    finally:
        log.close()
    if len(plan.order) == 0:
        return plan, {}
    options = EngineOptions(keeps_event_time=plan.keeps_event_time, logs_served=False)
    return plan, asyncio.run(_record(open_running(folder, config, options), plan, source.notify))


async def _record(running: Running, plan: Plan, notify: Notify) -> Mapping[int, int]:
    """Record the new rows; return how many had each outcome."""
    counts: dict[int, int] = {}
    total = len(plan.order)
    done = bytes_count = 0
    flights: deque[tuple[asyncio.Task[object], EventBatch]] = deque()

    async def land() -> None:
        nonlocal done, bytes_count
        flight, batch = flights.popleft()
        await flight
        done += len(batch)
        bytes_count -= _bytes_of(batch)
        notify("recording", done, total)

    async def record(batch: EventBatch) -> None:
        recorded = await running.engine.record(batch)
        for outcome, count in zip(*np.unique(recorded.outcome, return_counts=True), strict=True):
            counts[int(outcome)] = counts.get(int(outcome), 0) + int(count)

    notify("starting; the first time on a machine this compiles for about a minute", 0, total)
    await running.start()
    try:
        for batch in parts(plan, RECORD_ROWS):
            bytes_count += _bytes_of(batch)
            while flights and bytes_count > QUEUE_BYTES_MAX:
                await land()
            flights.append((asyncio.create_task(record(batch)), batch))
            await asyncio.sleep(0)  # the engine takes it now, so parts reach the log in order
            if len(flights) == IN_FLIGHT_MAX:
                await land()
        while flights:
            await land()
    finally:
        await running.stop()
    return counts


def _bytes_of(batch: EventBatch) -> int:
    return batch.rows.nbytes + len(batch.text)


def _through_server(
    data: DataFolder, url: str, batches: Sequence[EventBatch], source: _Source, now_ms: TimestampMs
) -> tuple[Plan, Mapping[int, int]]:
    """Record what is new through the server that has the folder open."""
    reader = SegmentReader(data.log, RealDisk())
    end = LogPosition(survey_log(data.log, RealDisk()).end)
    # Log time is the server's: a history does not fold as it happened beside live traffic.
    plan = replace(
        plan_of(
            batches, Known.of(lambda after, limit: reader.read(after, limit, end), end, reader.begin), now_ms, now_ms
        ),
        keeps_event_time=False,
    )
    counts: dict[int, int] = {}
    done = 0
    with httpx.Client(base_url=url, timeout=60.0) as client:
        for part in _requests(plan):
            answer = _post(client, encode_lines(part))
            for outcome, count in answer.outcomes():
                counts[outcome] = counts.get(outcome, 0) + count
            done += len(part)
            source.notify("sending", done, len(plan.order))
    return plan, counts


def _requests(plan: Plan) -> Iterator[EventBatch]:
    """Yield the new rows, as many at a time as fit into a request."""
    for part in parts(plan, _SENT_ROWS):
        pieces = -(-len(encode_lines(part)) // _SENT_BYTES)
        step = max(1, len(part) // pieces)
        for start in range(0, len(part), step):
            yield cut(part, start, start + step)


class _Answer(msgspec.Struct, frozen=True):
    """What of an answer to ``POST /v1/events`` counts here."""

    recorded: int
    duplicates: int
    rejected: tuple[msgspec.Raw, ...]
    conflicts: int = 0

    def outcomes(self) -> tuple[tuple[Outcome, int], ...]:
        """Return how many events had each outcome."""
        taken = ((Outcome.RECORDED, self.recorded), (Outcome.DUPLICATE, self.duplicates))
        return (*taken, (Outcome.CONFLICT, self.conflicts), (Outcome.REFUSED, len(self.rejected)))


def _post(client: httpx.Client, lines: bytes) -> _Answer:
    """Send one request, again while the server is overloaded."""
    for _ in range(_TRIES_MAX):
        try:
            answer = client.post("/v1/events", content=lines, headers={"content-type": "application/x-ndjson"})
        except httpx.TransportError as error:
            message = (
                f"{client.base_url} has the folder open and does not answer: {error}. Run the import again to go on"
            )
            raise StoreUnavailable(message) from error
        if answer.status_code not in (429, 503):
            break
        time.sleep(float(answer.headers.get("retry-after", "1")))
    else:
        message = f"{client.base_url} was overloaded {_TRIES_MAX} times. {_AGAIN}"
        raise Overloaded(message)
    if not answer.is_success:
        message = f"{client.base_url} answered {answer.status_code}: {answer.text[:300]}. {_AGAIN}"
        raise StoreUnavailable(message)
    return msgspec.json.decode(answer.content, type=_Answer)
