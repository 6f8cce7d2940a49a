"""Import of a file or a table into the log: every row once, however often it runs and wherever an earlier run ended.

A row without an event id gets one of its own content, and rows in the log already are left out. So no separate record
of progress is needed. If a server has the folder open, the import goes through it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from midstream.app.config.schema import Config
from midstream.app.ingest.ordering import PAGE, ImportPlan, RowSpill, parts, plan_of, require_event_time
from midstream.app.ingest.refusals import Refusals, ServerRejection, admitted_rows
from midstream.app.mapping.batches import RowTerms, read_parts
from midstream.app.mapping.columns import ColumnOptions, unused_columns
from midstream.app.mapping.pieces import RowOrigin
from midstream.app.mapping.readers import open_rows
from midstream.app.opening import DATA_NAME, Outside, accept_of, open_running
from midstream.app.rejected_rows import RejectedRows
from midstream.app.replicas.bring_up import bring_up
from midstream.app.server_address import server_of
from midstream.app.server_refusals import answers, reason_of, server_client
from midstream.core.errors import Fault, FolderLocked, StoreUnavailable
from midstream.core.fault_groups import FaultGroup, FaultGroups
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.engine import EngineOptions
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.import_runs import account_of, begin_run, close_run
from midstream.engine.ingest.ingest_service import IngestLimits, IngestService
from midstream.engine.ingest.log_reader import batches
from midstream.engine.instance import Instance
from midstream.engine.log_completeness import survey_folder
from midstream.engine.log_opening import open_log
from midstream.engine.log_readers import open_reader
from midstream.engine.types import Outcome
from midstream.events.arrow.to_arrow import SCHEMA, to_table
from midstream.events.dead_letters.dead_letters import dead_letter
from midstream.events.disk import RealDisk
from midstream.events.faults import shown
from midstream.events.loose_arrow import pa
from midstream.events.schema import build, event_at
from midstream.events.segments.log_identity import LOG_ID_BYTES, identity_of, read_identity
from midstream.events.segments.segments import SegmentLog
from midstream.events.siphash import KEY_BYTES, IdKey, id_key_of
from midstream.events.wire import TRUSTED_FIELDS, Limits
from midstream.state.control.import_runs import ImportRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

REJECTED_NAME = "import-rejected.ndjson"
FAULTS_SHOWN = 5
RECORD_ROWS = 5_000
"""Half a commit's maximum, so that the next part is ready while one is synced."""
IN_FLIGHT_MAX = 4
"""Parts on their way: 20,000 rows of the 100,000 that may wait for the log; where their bytes do not fit, they wait."""
COMMIT_S_MAX = 600.0
"""Until a part is durable, and until the log has room for it: no disk is so slow."""
SENT_ROWS = 20_000
"""Of one request to a server: 3 MB, answered in a fraction of a second."""
SENT_BYTES = 4 << 20
"""Of one request, which is one record batch: a quarter of what a server takes by default."""
_NOTHING_TAKEN, _OVERLOADED = 422, 429
_AGAIN = "Run the import again to go on"
_NAME_BYTES = 2
_FILE_CHARS, _TOLD_MAX = 256, 64
"""Kept of the name of a file or of an option, and options of a run: 32 KiB, an eighth of what an event may have."""
_RIGHT_ID = "An event_id of its own for each event; without the column each row gets one of its content."
_PIECE_ROWS_MAX = 1_000_000
IMPORT_LIMITS = Limits(events_max=100_000, body_bytes_max=1 << 30, rows_max=_PIECE_ROWS_MAX, text_bytes_max=3 << 30)
"""Of one piece of a file: 10,000 rows of a table with 100 items each."""
_SENT_FIELDS = [name for name in SCHEMA.names if name not in TRUSTED_FIELDS]
WARNED_ROWS = 1_000
"""Number of rows without a single event after which a warning is printed at once, since a wrong option would be
noticed minutes later."""
Notify = Callable[[str, int, int], None]
"""Receives the stage, the amount done, and the total."""
Warn = Callable[[Sequence[FaultGroup]], None]


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """Result of an import: rows = recorded + known + conflicts + refused + rejected, each item of an order a row."""

    file: str
    rows: int
    recorded: int
    known: int
    """In the log before."""
    conflicts: int
    """Under an ``event_id`` of other content, of the log or of a row before; the first ones stay."""
    refused: int
    """Well formed, and not taken: of unknown items or of an erased user, without room, or none that a client sends."""
    refusals: tuple[FaultGroup, ...]
    """Reasons, the most frequent first; a server names the first ones of each request."""
    rejected: int
    """No events."""
    rejected_kept: int
    """Of those, the last ones: in ``rejected_file`` and the older one beside it, each with its line and reason; behind
    them stands what the folder refused, but for erased users."""
    faults: tuple[FaultGroup, ...]
    """Kinds of invalid rows, the most frequent first: the first row of each, and their number."""
    faults_others: int
    """Invalid rows of further kinds."""
    conflict_faults: tuple[Fault, ...]
    """The first ones of other content."""
    rejected_file: str
    unused_columns: tuple[str, ...]
    log_time: str
    """``event time`` or ``now``."""
    late: int
    known_untimed: int
    """Known acts without a time: only their content identifies them."""
    late_items: int
    """Items that were acted on before, and that rows without a time described only now."""
    run: str
    """Name for undoing this run; empty when nothing was recorded, a server did it, or the log is shared."""
    through: str
    """URL of the server that took them, empty when the folder was open here."""
    seconds: float
    starting_seconds: float
    """Of these, until the engine had started: the first time on a machine it compiles."""


@dataclass(slots=True)
class _Read:
    """What of a file's rows is no event."""

    rejected: int = 0
    faults: FaultGroups = field(default_factory=FaultGroups)
    header: tuple[str, ...] = ()


@dataclass(slots=True)
class _Source:
    """What is imported, and who wants to know how far it is."""

    origin: RowOrigin
    terms: RowTerms
    notify: Notify
    warn: Warn
    refusals: Refusals
    rejected: RejectedRows
    starting_seconds: float = 0.0


def import_file(
    folder: Path,
    config: Config,
    path: Path,
    columns: ColumnOptions | None = None,
    notify: Notify | None = None,
    warn: Warn | None = None,
) -> ImportSummary:
    """Record all rows of a file: CSV, TSV, NDJSON, Parquet or Arrow; else as ``import_rows`` does."""
    origin = RowOrigin(path.name, lambda: open_rows(path), path.stat().st_size)
    return import_rows(folder, config, origin, columns, notify, warn)


def import_rows(
    folder: Path,
    config: Config,
    origin: RowOrigin,
    columns: ColumnOptions | None = None,
    notify: Notify | None = None,
    warn: Warn | None = None,
) -> ImportSummary:
    """Record all rows of a file or a table.

    Args:
        folder: Of the data.
        config: Of it.
        origin: Gives the rows.
        columns: Mapping of its columns to fields of events.
        notify: For a progress bar.
        warn: Called once while rows are read, with the fault, when none of the first 1,000 is an event.

    Returns:
        Outcomes of the rows. Durable and applied on return.

    Raises:
        Invalid: The options do not fit the rows; nothing was recorded.
        StoreUnavailable: A database does not answer; nothing was recorded.
        TooLarge: More rows than one import may have; nothing was recorded.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        AppendFailed: The log could not be made durable; run it again to continue.
    """
    began, now_ms, columns = time.monotonic(), Outside().clock(), columns or ColumnOptions()
    accept = msgspec.structs.replace(accept_of(config, IMPORT_LIMITS, trusted=True), now_ms=now_ms)
    data = DataFolder(folder / DATA_NAME)
    if config.log.kind == "kafka":
        _copy_topic(folder, config)
    new_id = _new_log_id()
    log_key = _log_key(data, new_id)
    own_key = id_key_of(Outside().entropy(KEY_BYTES).hex())  # of ids, as long as the import lasts
    with RowSpill(data.root, origin.name, own_key, log_key) as spill, RejectedRows(data) as rejected:
        terms = RowTerms(columns, accept, now_ms)
        source = _Source(origin, terms, notify or _nobody, warn or _nobody, Refusals(), rejected)
        read = _read(source, spill)
        into = _Into(folder, config, new_id, _run_of(origin.name, columns, now_ms, read.rejected))
        plan, counts, url = _taken(into, spill, source)
        rejected.put_in_place()
        is_any_kept, kept_count = rejected.kept_count > 0, max(0, rejected.kept_count - rejected.refused_kept)
        rows, conflict_faults = len(spill) + read.rejected, _conflict_faults(spill, plan)
    return ImportSummary(
        file=origin.name,
        rows=rows,
        recorded=counts.get(Outcome.RECORDED, 0),
        known=plan.known_count + counts.get(Outcome.DUPLICATE, 0),
        conflicts=len(plan.conflicts) + counts.get(Outcome.CONFLICT, 0),
        refused=counts.get(Outcome.REFUSED, 0),
        refusals=source.refusals.groups,
        rejected=read.rejected,
        rejected_kept=kept_count,
        faults=tuple(read.faults.groups),
        faults_others=read.faults.others,
        conflict_faults=conflict_faults,
        rejected_file=REJECTED_NAME if is_any_kept else "",
        unused_columns=unused_columns(read.header, columns),
        log_time="event time" if plan.keeps_event_time else "now",
        late=plan.late_count,
        known_untimed=plan.known_untimed_count,
        late_items=plan.late_items_count,
        run=into.run.run if counts.get(Outcome.RECORDED) and not url and config.log.kind == "segments" else "",
        through=url,
        seconds=time.monotonic() - began,
        starting_seconds=source.starting_seconds,
    )


def _nobody(*_told: object) -> None:
    """Tell nobody; what is wrong stands in the summary too."""


def _copy_topic(folder: Path, config: Config) -> None:
    """Have the folder's copy of a shared log up to date, so that rows are compared with all that the shop has.

    A server that has the folder open keeps it so.
    """
    with suppress(FolderLocked):
        bring_up(lambda: open_running(folder, config, EngineOptions(logs_served=False)))


def _new_log_id() -> bytes:
    """Return the id of a log that is to be made."""
    return Outside().entropy(LOG_ID_BYTES)


def _log_key(data: DataFolder, new_id: bytes) -> IdKey:
    """Return the key of ids of the log of a folder; of one that has none, of the log that is to be made.

    Raises:
        LogDamaged: Its identity is not as it was written.
    """
    known = read_identity(data.log, RealDisk()) if data.log.is_dir() else None
    return id_key_of((known or identity_of(new_id, 0)).id_key)


def _conflict_faults(spill: RowSpill, plan: ImportPlan) -> tuple[Fault, ...]:
    """Return the first rows whose id is that of an event with other content."""
    first = plan.conflicts[:FAULTS_SHOWN]
    if not len(first):
        return ()
    batch = spill.pick(first)
    faults: list[Fault] = []
    for at, line in enumerate(plan.lines[first].tolist()):
        event = event_at(batch, at)
        came = f"{shown(event.event_id)} is the id of an event with other content, which stays."
        faults.append(Fault(f"line {line}: event_id", came, _RIGHT_ID, PAGE))
    return tuple(faults)


def _read(source: _Source, spill: RowSpill) -> _Read:
    """Read all rows; what is no event goes to the rejected ones."""
    found = _Read()
    is_warned = False
    total = source.origin.size
    with source.origin.opened() as opened:
        found.header = opened.header or ()
        for batch, refused, lines in read_parts(opened, source.terms):
            spill.add(batch, lines)
            found.rejected += len(refused)
            for row in refused:
                found.faults.add(row.fault)
            if not is_warned and not len(spill) and found.rejected >= WARNED_ROWS:
                is_warned = True
                source.warn(found.faults.groups)
            source.rejected.add([dead_letter(source.terms.now_ms, each.fault, each.raw) for each in refused])
            done = opened.bytes_read()
            source.notify("reading", min(done, total or done), total)
    return found


@dataclass(frozen=True, slots=True)
class _Into:
    """Where rows go that no server takes."""

    folder: Path
    config: Config
    new_id: bytes
    """Of the log, where there is none yet."""
    run: ImportRun
    """Account of this run, without what is known when it has ended."""


def _run_of(rows_name: str, columns: ColumnOptions, now_ms: TimestampMs, rejected: int) -> ImportRun:
    """Return the account of a run that is about to begin, under a name that nobody has to quote."""
    name = f"{datetime.fromtimestamp(now_ms / 1_000, UTC):%Y%m%d-%H%M%S}-{Outside().entropy(_NAME_BYTES).hex()}"
    return ImportRun(name, "", rows_name[:_FILE_CHARS], now_ms, (), {"rejected": rejected}, _told(columns))


def _told(columns: ColumnOptions) -> dict[str, str]:
    """Return what was asked of columns, for an account; a constant may be somebody's id, and is named alone."""
    asked = {f"--map {name}": column for name, column in columns.columns.items()}
    asked |= {f"--set {name}": value if name == "type" else "…" for name, value in columns.constants.items()}
    asked |= {f"--types {value}": name for value, name in columns.types.items()}
    if columns.time_format != "auto":
        asked["--time-format"] = columns.time_format
    return {name: told[:_FILE_CHARS] for name, told in list(asked.items())[:_TOLD_MAX]}


def _taken(into: _Into, spill: RowSpill, source: _Source) -> tuple[ImportPlan, Mapping[int, int], str]:
    """Record what is new in the folder, or through the server that has it open; return the URL of that too."""
    try:
        return (*_into_folder(into, spill, source), "")
    except FolderLocked:
        data = DataFolder(into.folder / DATA_NAME)
        if not (url := server_of(data) or ""):
            raise
        return (*_through_server(data, url, spill, source, into.config.server.bulk_message_bytes_max), url)


def _into_folder(into: _Into, spill: RowSpill, source: _Source) -> tuple[ImportPlan, Mapping[int, int]]:
    """Record what is new with an engine of our own."""
    data = DataFolder(into.folder / DATA_NAME)
    log = open_log(data, into.new_id, into.config.log.segment_bytes_max)
    with ExitStack() as closing:
        closing.callback(log.close)
        if not np.array_equal(id_key_of(identity_of(bytes.fromhex(log.log_id), 0).id_key), spill.log_key):
            message = f"{data.log}: another log was made while the file was read. {_AGAIN}"
            raise StoreUnavailable(message)
        close_run(data, log)
        logged, now_ms = batches(log.read, log.begin, log.end), source.terms.now_ms
        plan = plan_of(spill, logged, log.last_log_time_ms, now_ms, is_part=source.origin.is_part)
        require_event_time(plan, source.origin)
        if len(plan.order) == 0:
            return plan, {}
        closing.pop_all()  # it stays open and locked: nobody records rows of this file meanwhile

    def opened(*_: object) -> SegmentLog:
        return log

    options = EngineOptions(keeps_event_time=plan.keeps_event_time, logs_served=False)
    running = open_running(into.folder, into.config, options, Outside(log=opened))
    counts = {**into.run.counts, "known": plan.known_count, "conflicts": len(plan.conflicts)}
    run = msgspec.structs.replace(into.run, log=log.public_name, counts=counts)
    new = parts(spill, plan, RECORD_ROWS)
    return plan, asyncio.run(_record_run(running, data, run, (new, len(plan.order)), source))


async def _record_run(
    running: Instance,
    data: DataFolder,
    run: ImportRun,
    rows: tuple["Iterator[EventBatch]", int],
    source: _Source,
) -> Mapping[int, int]:
    """Record the new rows, and the account of the run behind them; return how many had each outcome."""
    source.notify("starting; the first time on a machine this compiles for about a minute", 0, rows[1])
    began = time.monotonic()
    await running.start()
    source.starting_seconds = time.monotonic() - began
    try:
        begin = running.engine.log.end
        await asyncio.to_thread(begin_run, data, msgspec.structs.replace(run, spans=((begin, begin),)))
        counts = await _record(running, *rows, source)
        recorded = counts.get(Outcome.RECORDED, 0)
        told = {**run.counts, "recorded": recorded, "refused": counts.get(Outcome.REFUSED, 0)}
        run = msgspec.structs.replace(run, spans=((begin, running.engine.log.end),), counts=told)
        if recorded and not data.topic_position.exists():  # between its rows a shared log has those of other nodes
            await running.engine.record(build((account_of(run),)))
        data.import_journal.unlink(missing_ok=True)
        return counts
    finally:
        await running.stop()


async def _record(running: Instance, new: "Iterator[EventBatch]", total: int, source: _Source) -> Mapping[int, int]:
    """Record the new rows; return how many had each outcome."""
    # What is rejected goes to the file of this import, not among the letters of live traffic.
    ingest = IngestService(running.engine, IngestLimits(COMMIT_S_MAX))
    turn = asyncio.Lock()
    counts: dict[int, int] = {}
    done = 0
    flights: deque[tuple[asyncio.Task[None], EventBatch]] = deque()

    async def land() -> None:
        nonlocal done
        flight, batch = flights.popleft()
        await flight
        done += len(batch)
        source.notify("recording", done, total)

    async def record(batch: EventBatch) -> None:
        room = source.rejected.refused_room
        admitted, recorded = await ingest.record(admitted_rows(batch), turn, named_max=room)
        source.refusals.add_refused(batch, recorded)
        refused_count = np.count_nonzero(recorded.outcome == Outcome.REFUSED) - len(recorded.erased)
        source.rejected.add_refused(admitted.rejected, int(refused_count), source.terms.now_ms)
        for outcome, count in zip(*np.unique(recorded.outcome, return_counts=True), strict=True):
            counts[int(outcome)] = counts.get(int(outcome), 0) + int(count)

    try:
        for batch in new:
            flights.append((asyncio.create_task(record(batch)), batch))
            if len(flights) == IN_FLIGHT_MAX:
                await land()
        while flights:
            await land()
    finally:  # of several that fail the first is told
        await asyncio.gather(*(flight for flight, _ in flights), return_exceptions=True)
    return counts


def _through_server(
    data: DataFolder, url: str, spill: RowSpill, source: _Source, message_bytes_max: int
) -> tuple[ImportPlan, Mapping[int, int]]:
    """Record what is new through the server that has the folder open, which takes messages of so many bytes."""
    found = survey_folder(data, RealDisk())
    end = LogPosition(0 if found is None else found.end)
    reader = open_reader(data)
    now_ms = source.terms.now_ms
    # Log time is the server's: a history does not fold as it happened beside live traffic.
    logged = batches(lambda after, limit: reader.read(after, limit, end), reader.begin, end)
    plan = plan_of(spill, logged, now_ms, now_ms, is_part=source.origin.is_part)
    plan = replace(plan, keeps_event_time=False)
    require_event_time(plan, source.origin)
    counts: dict[int, int] = {}
    done = 0
    with server_client(url, note=f". {_AGAIN}") as client:
        for batch in parts(spill, plan, SENT_ROWS, min(SENT_BYTES, message_bytes_max // 2)):
            for outcome, count in _sent(client, batch, source.refusals).items():
                counts[outcome] = counts.get(outcome, 0) + count
            done += len(batch)
            source.notify("sending", done, len(plan.order))
    return plan, counts


class _Answer(msgspec.Struct, frozen=True):
    """What of an answer to ``POST /v1/events/bulk`` counts here."""

    recorded: int = 0
    duplicates: int = 0
    rejected: int = 0
    conflicts: int = 0
    rejections: tuple[ServerRejection, ...] = ()


def _sent(client: "httpx.Client", batch: EventBatch, refusals: Refusals) -> dict[int, int]:
    """Send some rows, again while the server is overloaded; return how many had each outcome."""
    sink = pa.BufferOutputStream()
    table = to_table(batch).select(_SENT_FIELDS)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    body = sink.getvalue().to_pybytes()
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    url = str(client.base_url)
    before, found = 0, _Answer()
    for answer in answers(lambda: client.post("/v1/events/bulk", content=body, headers=headers), url, f". {_AGAIN}"):
        before += found.recorded  # it broke in the middle: sent again they are duplicates
        found = _Answer()
        if answer.is_success or answer.status_code in (_NOTHING_TAKEN, 503):
            found = msgspec.json.decode(answer.content, type=_Answer)
        elif answer.status_code != _OVERLOADED:
            message = f"{url} answered {answer.status_code}: {reason_of(answer)}. {_AGAIN}"
            raise StoreUnavailable(message)
    refusals.add_answer(found.rejections)
    return {
        Outcome.RECORDED: found.recorded + before,
        Outcome.DUPLICATE: found.duplicates - before,
        Outcome.CONFLICT: found.conflicts,
        Outcome.REFUSED: found.rejected,
    }
