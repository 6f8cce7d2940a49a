"""Sinks of streams: each row of each batch becomes an event once, whatever is killed in between.

**Into a folder** that this process has open, by position: the events of a piece of a batch and one control event, which
says how many rows of which batch are in the log, stand in the same frame. So both are durable or neither is, and a
batch that is handed over again goes on behind them. It is the table of input positions that has them, as for brokers.

**To a server**, by event ids made of the query, the batch and the place of the row: what is sent again is a duplicate,
as long as the server remembers its ids.

Both give a row without an id one of its place, so that equal rows are events of their own.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import msgspec

from midstream.app.server_refusals import answers, reason_of, server_client
from midstream.core.errors import Fault, Invalid, StoreUnavailable, TooLarge
from midstream.core.kinds import Kind
from midstream.engine.ingest.admitted_batch import AdmittedBatch
from midstream.engine.ingest.input_guard import NEVER_MOVED, InputGuard
from midstream.engine.recommender import Recommender
from midstream.events.arrow.columns import check_schema
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.loose_arrow import Batch, pa, pt
from midstream.events.pieces import PIECE_EVENTS, PIECE_LIMITS, table_piece
from midstream.events.schema import Event, build
from midstream.integrations.spark.stream_batches import columns_key, ordered_rows, query_id
from midstream.state.control.input_positions import InputPosition, InputRow, encode_input_position

PAGE = "/docs/spark.md"
TOPIC = "spark"
PARTITION = "0"
_ORDER = "time"
_ARROW = "application/vnd.apache.arrow.stream"
_TOO_LARGE, _NOTHING_TAKEN, _OVERLOADED, _BROKEN = 413, 422, 429, 503
NAME_CHARACTERS_MAX = 64
"""So that an id of name, query, batch and place is one that an order may have, of 125."""
MESSAGE_BYTES_MAX = 8 << 20
"""Of what is sent to a server at once: half of what it takes by default."""


class Done(NamedTuple):
    """How far a stream is in the log: of which batch so many rows, and all of those before it."""

    batch: int = 0
    rows: int = 0
    columns: str = ""
    """Hash of the columns that the rows were ordered by; empty where no row is counted."""

    @property
    def text(self) -> str:
        """As it stands in the log."""
        return f"{self.batch}:{self.rows}" + (f":{self.columns}" if self.rows else "")

    @staticmethod
    def of(row: InputRow | None) -> "Done":
        """Return what the state has; nothing for a stream that it does not know."""
        if row is None:
            return Done()
        batch, rows, columns = (*row.next[PARTITION].split(":"), "")[:3]
        return Done(int(batch), int(rows), columns)


class _Piece(NamedTuple):
    first: int
    """Place of its first row in the batch."""
    rows: Batch
    is_last: bool

    def halves(self) -> "tuple[_Piece, _Piece]":
        """Return two pieces of a piece of two rows or more."""
        half = len(self.rows) // 2
        return _Piece(self.first, self.rows.slice(0, half), is_last=False), _Piece(
            self.first + half, self.rows.slice(half), self.is_last
        )


class _Call(NamedTuple):
    """One batch as it is handed over."""

    query: str
    batch: int
    columns: str


def pieces_of(batches: Iterator[Batch], done: int) -> Iterator[_Piece]:
    """Yield the rows behind the first ``done`` ones in pieces of up to ``PIECE_EVENTS``; the last one says so."""
    held: _Piece | None = None
    first = 0
    for batch in batches:
        for start in range(0, len(batch), PIECE_EVENTS):
            rows = batch.slice(start, PIECE_EVENTS)
            passed = min(max(0, done - first), len(rows))
            if passed < len(rows):
                if held is not None:
                    yield held
                held = _Piece(first + passed, rows.slice(passed), is_last=False)
            first += len(rows)
    if held is not None:
        yield held._replace(is_last=True)


_turns: "WeakKeyDictionary[Recommender, dict[str, asyncio.Lock]]" = WeakKeyDictionary()
"""Of each stream of each shop, for all of its sinks; used on the event loop of the shop."""


@dataclass(frozen=True, slots=True)
class FolderSink:
    """Writes the batches of one query into an open folder; to be given to ``foreachBatch``."""

    shop: Recommender
    name: str
    """Of the stream among the inputs of the shop."""
    begin_at: int | None = None
    """A batch that may come though the one before it is not in the log."""

    def __post_init__(self) -> None:
        """Refuse a name that is none."""
        _require_name(self.name)

    def __call__(self, frame: Any, batch_id: int) -> None:  # noqa: ANN401  a DataFrame
        """Record the rows of a batch that are not in the log; durable and applied on return.

        Raises:
            Invalid: Another query, or another call meanwhile, wrote this stream; batches before this one are missing;
                columns are none of events or others than before; rows cannot be ordered.
            TooLarge: A single row is.
            MidstreamError: As ``shop.record``; what is durable of the batch is not written again.
        """
        call = _Call(query_id(frame), batch_id, columns_key(frame))
        row = self._row()
        self._require_same(call.query, row)
        done = Done.of(row)
        if batch_id < done.batch:
            return
        self._require_next(call, done)
        passed = done.rows if batch_id == done.batch else 0
        is_whole = False
        for piece in pieces_of(ordered_rows(frame, _ORDER), passed):
            is_whole = piece.is_last
            row = self._write(call, piece, row)
        if not is_whole and passed:
            came = f"Batch {batch_id} has at most {passed} rows, and as many of it are in the log with more to come."
            right = "The same rows each time that Spark hands a batch over: no rand(), no source that changes."
            raise Invalid((Fault(f"sink {self.name}", came, right, PAGE),))
        if not is_whole:  # it had no row
            self._record(call, None, Done(batch_id + 1), row)

    def _row(self) -> InputRow | None:
        async def found() -> InputRow | None:
            return self.shop.running.engine.fold.inputs.find(self.name)

        return self.shop.submit(found).result()

    def _require_same(self, query: str, row: InputRow | None) -> None:
        if row is None:
            return
        if row.topic != TOPIC or PARTITION not in row.next:
            came = f"An input of this name reads {row.topic}."
            raise Invalid((Fault(f"sink {self.name}", came, "A name that no input has.", PAGE),))
        if row.topic_id != query:
            came = f"Query {query} came, and {row.topic_id} wrote it before."
            right = "The checkpoint of before, or another name: a new query reads its source anew, from its beginning."
            raise Invalid((Fault(f"sink {self.name}", came, right, PAGE),))

    def _require_next(self, call: _Call, done: Done) -> None:
        if call.batch > done.batch and call.batch != self.begin_at:
            came = f"Batch {call.batch} came, and batch {done.batch} is the next one of the log."
            right = (
                "The checkpoint that belongs to the log, such as that of the same backup. Or "
                f"begin_at={call.batch}, to go on without the batches between."
            )
            raise Invalid((Fault(f"sink {self.name}", came, right, PAGE),))
        if call.batch == done.batch and done.rows and call.columns != done.columns:
            came = f"{done.rows} rows of batch {call.batch} are in the log, ordered by other columns than came now."
            right = "The columns of before, with their types, until the batch is done."
            raise Invalid((Fault(f"sink {self.name}", came, right, PAGE),))

    def _write(self, call: _Call, piece: _Piece, row: InputRow | None) -> InputRow:
        """Record a piece, in halves where it is too large; return the row behind it."""
        pending = [piece]
        while True:
            each = pending.pop()
            try:
                admitted = self._admitted(call, each)
            except TooLarge:
                if len(each.rows) == 1:
                    raise
                pending.extend(reversed(each.halves()))
                continue
            stop = each.first + len(each.rows)
            after = Done(call.batch + 1) if each.is_last else Done(call.batch, stop, call.columns)
            row = self._record(call, admitted, after, row)
            if not pending:
                return row

    def _admitted(self, call: _Call, piece: _Piece) -> AdmittedBatch:
        """Return the events of a piece, decoded on the thread of the query."""
        running = self.shop.running
        accept = msgspec.structs.replace(running.service.accept, limits=PIECE_LIMITS, now_ms=running.engine.clock())
        check_schema(piece.rows.schema, accept, {})
        whole = without_inner_views(piece.rows, PIECE_LIMITS.text_bytes_max)
        plain = without_views(whole, PIECE_LIMITS.text_bytes_max)
        named = with_event_ids(plain, f"{self.name}:{call.query}:{call.batch}", piece.first)
        decoded = table_piece(named, accept, piece.first)
        return running.ingest.admit(decoded.decoded, decoded.part)

    def _record(self, call: _Call, admitted: AdmittedBatch | None, after: Done, before: InputRow | None) -> InputRow:
        """Make events and the place behind them durable, in one frame, and return it; first keep what is no event.

        Raises:
            Invalid: The place is not ``before`` any more: another call wrote this stream. Nothing was recorded.
        """
        body = InputPosition(self.name, TOPIC, call.query, {PARTITION: after.text})
        control = build((Event(Kind.CONTROL, body=encode_input_position(body)),))
        running = self.shop.running
        inputs = running.engine.fold.inputs

        async def record() -> InputRow:
            async with _turns.setdefault(self.shop, {}).setdefault(self.name, asyncio.Lock()):
                if inputs.find(self.name) != before:
                    raise self._moved(before)
                if not inputs.takes(body):
                    message = f"sink {self.name!r}: the positions of all inputs have no room for one more"
                    raise StoreUnavailable(message)
                version = NEVER_MOVED if before is None else before.position
                guard = None if running.leases is None else InputGuard(self.name, version)
                if admitted is not None:
                    running.ingest.keep_rejected(admitted.rejected, self._origin)
                await running.ingest.record_with(control, admitted, asyncio.Lock(), self._origin, guard)
                row = inputs.find(self.name)
                if row is None or row.next != body.next:
                    raise self._moved(before)
                return row

        return self.shop.submit(record).result()

    def _origin(self, _: int) -> dict[str, str]:
        return {"input": self.name}

    def _moved(self, before: InputRow | None) -> Invalid:
        came = f"Another call wrote this stream since this one read that it stands at {Done.of(before).text}."
        right = "One query at a time. Nothing is lost: the newer call has the rest of the batch."
        return Invalid((Fault(f"sink {self.name}", came, right, PAGE),))


class BulkClient(Protocol):
    """A client of a server's HTTP."""

    def post(self, url: str, *, content: bytes, headers: Mapping[str, str]) -> Any:  # noqa: ANN401  an answer
        """Send a request."""
        ...


@dataclass(frozen=True, slots=True)
class ServerSink:
    """Sends the batches of one query to a server; to be given to ``foreachBatch``."""

    url: str
    name: str
    """Begins the ids of events that come without one, so that two streams have different ones."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Such as that of a proxy which asks for a key."""

    def __post_init__(self) -> None:
        """Refuse a name that is none."""
        _require_name(self.name)

    def __call__(self, frame: Any, batch_id: int) -> None:  # noqa: ANN401  a DataFrame
        """Send all rows of a batch; durable and applied on return, what the server rejects with its dead letters.

        Raises:
            StoreUnavailable: The server does not answer, or not as it should.
            Overloaded: It had no room for a minute.
            Invalid: Rows cannot be ordered.
        """
        prefix = f"{self.name}:{query_id(frame)}:{batch_id}"
        with server_client(self.url, note=f". Batch {batch_id} is sent again by the query") as client:
            for piece in pieces_of(ordered_rows(frame, _ORDER), 0):
                pending = [piece._replace(rows=with_event_ids(piece.rows, prefix, piece.first))]
                while pending:
                    each = pending.pop()
                    is_one = len(each.rows) == 1
                    if (not is_one and each.rows.nbytes > MESSAGE_BYTES_MAX) or not self._send(client, each, is_one):
                        pending.extend(reversed(each.halves()))

    def _send(self, client: BulkClient, piece: _Piece, is_one: bool) -> bool:  # noqa: FBT001  of two rows or more halves are sent
        """Send rows; False = they are too many for the server."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, piece.rows.schema) as writer:
            writer.write_batch(piece.rows)
        body, headers = sink.getvalue().to_pybytes(), {**self.headers, "content-type": _ARROW}
        for answer in answers(lambda: client.post("/v1/events/bulk", content=body, headers=headers), self.url):
            if answer.status_code == _TOO_LARGE and not is_one:
                return False
            if not answer.is_success and answer.status_code not in (_NOTHING_TAKEN, _OVERLOADED, _BROKEN):
                message = f"{self.url} answered {answer.status_code}: {reason_of(answer)}"
                raise StoreUnavailable(message)
        return True


def _require_name(name: str) -> None:
    if not 0 < len(name) <= NAME_CHARACTERS_MAX:
        right = f"1 to {NAME_CHARACTERS_MAX} characters: ids of rows begin with it."
        raise Invalid((Fault("name", f"{len(name)} characters came.", right, PAGE),))


def with_event_ids(rows: Batch, prefix: str, first: int) -> Batch:
    """Return rows in which those without an ``event_id`` have one of their place in the batch.

    >>> rows = pa.RecordBatch.from_pydict({"event_id": ["a", None], "type": ["view", "view"]})
    >>> with_event_ids(rows, "clicks:q:7", 40).to_pydict()["event_id"]
    ['a', 'clicks:q:7:41']

    Raises:
        Invalid: The column is no text.
    """
    names = rows.schema.names
    kind = rows.schema.field("event_id").type if "event_id" in names else pa.string()
    text = kind.value_type if pt.is_dictionary(kind) else kind
    if not (pt.is_string(text) or pt.is_large_string(text) or pt.is_string_view(text) or pt.is_null(text)):
        raise Invalid((Fault("event_id", f"Its type is {kind}.", "Text: CAST(event_id AS string).", PAGE),))
    sent: list[str | None] = rows.column("event_id").to_pylist() if "event_id" in names else [None] * len(rows)
    ids = [each or f"{prefix}:{first + at}" for at, each in enumerate(sent)]
    others = [(name, rows.column(name)) for name in names if name != "event_id"]
    columns = list(chain([("event_id", pa.array(ids, pa.string()))], others))
    return pa.RecordBatch.from_arrays([column for _, column in columns], names=[name for name, _ in columns])
