"""Sinks of streams: each row of each batch becomes an event once, whatever is killed in between.

**Into a folder** that this process has open, by position: the events of a piece of a batch and one control event, which
says how many rows of which batch are in the log, stand in the same frame. So both are durable or neither is, and a
batch that is handed over again goes on behind them. It is the table of input positions that has them, as for brokers.

**To a server**, by event ids made of the query, the batch and the place of the row: what is sent again is a duplicate,
as long as the server remembers its ids.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Protocol

import msgspec

from midstream.app.server_refusals import answers, reason_of, server_client
from midstream.core.errors import Fault, Invalid, StoreUnavailable
from midstream.core.kinds import Kind
from midstream.engine.ingest.admitted_batch import AdmittedBatch
from midstream.engine.recommender import Recommender
from midstream.events.arrow.columns import check_schema
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.loose_arrow import Batch, pa
from midstream.events.pieces import PIECE_EVENTS, PIECE_LIMITS, table_piece
from midstream.events.schema import Event, build
from midstream.integrations.spark.stream_batches import ordered_rows, query_id
from midstream.state.control.input_positions import InputPosition, InputRow, encode_input_position

PAGE = "/docs/spark.md"
TOPIC = "spark"
PARTITION = "0"
_ORDER = "time"
_ARROW = "application/vnd.apache.arrow.stream"
_NOTHING_TAKEN, _OVERLOADED, _BROKEN = 422, 429, 503


class Done(NamedTuple):
    """How far a stream is in the log: of which batch so many rows, and all of those before it."""

    batch: int = 0
    rows: int = 0

    @property
    def text(self) -> str:
        """As it stands in the log."""
        return f"{self.batch}:{self.rows}"

    @staticmethod
    def of(row: InputRow | None) -> "Done":
        """Return what the state has; nothing for a stream that it does not know."""
        if row is None:
            return Done()
        batch, _, rows = row.next[PARTITION].partition(":")
        return Done(int(batch), int(rows))


class _Piece(NamedTuple):
    first: int
    """Place of its first row in the batch."""
    rows: Batch
    is_last: bool


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


@dataclass(slots=True)
class FolderSink:
    """Writes the batches of one query into an open folder; to be given to ``foreachBatch``."""

    shop: Recommender
    name: str
    """Of the stream among the inputs of the shop."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __call__(self, frame: Any, batch_id: int) -> None:  # noqa: ANN401  a DataFrame
        """Record the rows of a batch that are not in the log; durable and applied on return.

        Raises:
            Invalid: Another query wrote this stream, columns are none of events, or rows cannot be ordered.
            MidstreamError: As ``shop.record``; what is durable of the batch is not written again.
        """
        query = query_id(frame)
        row = self._row()
        self._require_same(query, row)
        done = Done.of(row)
        if batch_id < done.batch:
            return
        passed = done.rows if batch_id == done.batch else 0
        is_whole = False
        for piece in pieces_of(ordered_rows(frame, _ORDER), passed):
            is_whole = piece.is_last
            after = Done(batch_id + 1) if is_whole else Done(batch_id, piece.first + len(piece.rows))
            self._record(query, self._admitted(piece), after)
        if not is_whole:  # it had no row
            self._record(query, None, Done(batch_id + 1))

    def _row(self) -> InputRow | None:
        async def found() -> InputRow | None:
            return self.shop.running.engine.fold.inputs.find(self.name)

        return self.shop.submit(found).result()

    def _require_same(self, query: str, row: InputRow | None) -> None:
        if row is not None and row.topic_id != query:
            came = f"Query {query or 'without an id'} came, and {row.topic_id or 'one without an id'} wrote it before."
            right = "The checkpoint of before, or another name: a new query reads its source anew, from its beginning."
            raise Invalid((Fault(f"sink {self.name}", came, right, PAGE),))

    def _admitted(self, piece: _Piece) -> AdmittedBatch:
        """Return the events of a piece, decoded on the thread of the query."""
        running = self.shop.running
        accept = msgspec.structs.replace(running.service.accept, limits=PIECE_LIMITS, now_ms=running.engine.clock())
        check_schema(piece.rows.schema, accept, {})
        whole = without_inner_views(piece.rows, PIECE_LIMITS.text_bytes_max)
        decoded = table_piece(without_views(whole, PIECE_LIMITS.text_bytes_max), accept, piece.first)
        return running.ingest.admit(decoded.decoded, decoded.part)

    def _record(self, query: str, admitted: AdmittedBatch | None, after: Done) -> None:
        """Make events and the place behind them durable, in one frame; first keep what is no event."""
        body = InputPosition(self.name, TOPIC, query, {PARTITION: after.text})
        control = build((Event(Kind.CONTROL, body=encode_input_position(body)),))
        running = self.shop.running

        async def record() -> None:
            if not running.engine.fold.inputs.takes(body):
                message = f"sink {self.name!r}: the positions of all inputs have no room for one more"
                raise StoreUnavailable(message)
            if admitted is not None:
                running.ingest.keep_rejected(admitted.rejected, lambda _: {"input": self.name})
            await running.ingest.record_with(control, admitted, self._turn)

        self.shop.submit(record).result()


class BulkClient(Protocol):
    """A client of a server's HTTP."""

    def post(self, url: str, *, content: bytes, headers: Mapping[str, str]) -> Any:  # noqa: ANN401  an answer
        """Send a request."""
        ...


class _Sent(msgspec.Struct, frozen=True):
    """What of an answer to ``POST /v1/events/bulk`` counts here."""

    recorded: int = 0
    duplicates: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class ServerSink:
    """Sends the batches of one query to a server; to be given to ``foreachBatch``."""

    url: str
    name: str
    """Begins the ids of events that come without one, so that two streams have different ones."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Such as that of a proxy which asks for a key."""

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
                self._send(client, with_event_ids(piece.rows, prefix, piece.first))

    def _send(self, client: BulkClient, rows: Batch) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        body, headers = sink.getvalue().to_pybytes(), {**self.headers, "content-type": _ARROW}
        for answer in answers(lambda: client.post("/v1/events/bulk", content=body, headers=headers), self.url):
            if not answer.is_success and answer.status_code not in (_NOTHING_TAKEN, _OVERLOADED, _BROKEN):
                message = f"{self.url} answered {answer.status_code}: {reason_of(answer)}"
                raise StoreUnavailable(message)


def with_event_ids(rows: Batch, prefix: str, first: int) -> Batch:
    """Return rows in which those without an ``event_id`` have one of their place in the batch.

    >>> rows = pa.RecordBatch.from_pydict({"event_id": ["a", None], "type": ["view", "view"]})
    >>> with_event_ids(rows, "clicks:q:7", 40).to_pydict()["event_id"]
    ['a', 'clicks:q:7:41']
    """
    names = rows.schema.names
    sent: list[str | None] = rows.column("event_id").to_pylist() if "event_id" in names else [None] * len(rows)
    ids = [each or f"{prefix}:{first + at}" for at, each in enumerate(sent)]
    others = [(name, rows.column(name)) for name in names if name != "event_id"]
    columns = list(chain([("event_id", pa.array(ids, pa.string()))], others))
    return pa.RecordBatch.from_arrays([column for _, column in columns], names=[name for name, _ in columns])
