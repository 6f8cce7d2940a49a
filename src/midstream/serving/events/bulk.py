"""Bulk ingestion: streams of events of any length, decoded and recorded in pieces while the body arrives.

Each stream has a thread that waits for bytes, decompresses, decodes, validates and counts; the loop records, and reads
only as fast as that proceeds (backpressure). So memory is a few pieces, and a client that is too fast is slowed down. A
stream that breaks has recorded the events before: the answer has their number and the place of the break. Sent again
with its ids it counts once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from midstream.core.answers.events import BulkAnswer, Rejection
from midstream.core.errors import Fault, MidstreamError, Overloaded
from midstream.core.types import LogPosition
from midstream.engine.ingest.admitted_batch import AdmittedBatch, RecordedBatch
from midstream.engine.requests.schema import PAGE
from midstream.events.arrow.messages import MessageBounds
from midstream.events.json.decode import is_ndjson
from midstream.events.pieces import Piece, arrow_pieces, line_pieces
from midstream.events.wire import Accept
from midstream.serving.events.ingest import Ingest, rejection, without_types
from midstream.serving.http.decompression import Unpacking, encoding_of
from midstream.serving.http.pipe import Pipe
from midstream.serving.http.problems import BodyTooSlow, Disconnected, MediaTypeUnsupported, problem_of
from midstream.serving.http.responses import Receive, Scope
from midstream.serving.options import ServerOptions

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

ARROW = "application/vnd.apache.arrow.stream"
REJECTIONS_MAX = 100
"""Listed in an answer; all of them are counted, and kept with the dead letters."""
IN_FLIGHT_MAX = 2
"""Pieces that are recorded while the next is decoded."""
_RIGHT_TYPE = f"content-type {ARROW} (an IPC stream) or application/x-ndjson (one event a line)."


class BulkHow(msgspec.Struct, frozen=True):
    """How a stream is to be taken."""

    dry_run: bool = False
    only: str = ""
    """The one accepted type, ``item`` or ``user``, which rows may omit; empty = all."""
    operation: str = ""
    """Of rows without one, where ``only`` is given."""
    refused_types: frozenset[str] = frozenset()
    """Types that the caller's key does not allow."""
    rewrite: Callable[[bytes], bytes] | None = None
    """Makes lines of the route's own form events."""

    @property
    def defaults(self) -> dict[str, str]:
        """Values of the fields for which a table has no column."""
        return {"type": self.only, "operation": self.operation} if self.only else {}


@dataclass(slots=True)
class _Tally:
    """Outcomes of a stream so far."""

    recorded: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    without_dedupe: int = 0
    rejections: list[Rejection] = field(default_factory=list[Rejection])
    log_position: LogPosition = field(kw_only=True)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Pieces are recorded in their order."""

    def add(self, piece: Piece, settled: RecordedBatch) -> None:
        """Count a piece."""
        counts = settled.counts()
        self.recorded += counts.recorded
        self.duplicates += counts.duplicates
        self.conflicts += counts.conflicts
        self.rejected += counts.rejected
        self.without_dedupe += counts.without_dedupe
        self.log_position = settled.recorded.log_position
        for each in settled.admitted.rejected[: REJECTIONS_MAX - len(self.rejections)]:
            self.rejections.append(msgspec.structs.replace(rejection(each), index=piece.first + each.index))


class Bulk:
    """Takes streams; every route that takes them goes through the one object."""

    def __init__(self, engine: "Engine", ingest: Ingest, options: ServerOptions) -> None:
        """Record through ``ingest``."""
        self._engine = engine
        self._ingest = ingest
        self._options = options
        self._bounds = MessageBounds(message_bytes_max=options.bulk_message_bytes_max)
        self._streams = 0
        self._threads = ThreadPoolExecutor(options.bulk_streams_max, "midstream-bulk")

    async def take(self, scope: Scope, receive: Receive, how: BulkHow) -> BulkAnswer:
        """Record the events of a body of any length.

        Args:
            scope: Of the request; its headers have format and compression of the body.
            receive: Returns the body.
            how: Options.

        Raises:
            MediaTypeUnsupported: It is neither Arrow nor NDJSON, or has an unknown compression; nothing was read.
            Overloaded: The maximum of streams is being read; nothing was read.
            Disconnected: The client went away; the events before are recorded.
        """
        encoding = encoding_of(scope)
        pieces = self._pieces_of(scope, how)
        if self._streams >= self._options.bulk_streams_max:
            self._engine.metrics.count_overload("bulk")
            message = f"{self._streams} streams are being read already."
            raise Overloaded(message)
        self._streams += 1
        pipe, tally, failure = Pipe(), _Tally(log_position=self._engine.fold.log_position), None
        pump = asyncio.ensure_future(self._pump(receive, pipe))
        try:
            source = Unpacking(pipe, encoding, lambda: pipe.came, self._options.bulk_bytes_max)
            work = asyncio.get_running_loop().run_in_executor(
                self._threads, self._read, pieces(source), tally, how, asyncio.get_running_loop()
            )
            await work
        except MidstreamError as error:
            failure = error
        finally:
            # Whatever ended this: the thread waits for no more bytes, and nobody puts in any.
            pipe.end(Disconnected())
            pump.cancel()
            self._streams -= 1
        return self._answer(tally, how, failure)

    def _pieces_of(self, scope: Scope, how: BulkHow) -> Callable[[Unpacking], Iterator[Piece]]:
        """Return the splitter of a body, by its content type."""
        sent = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        content_type = sent.decode("latin-1").lower().partition(";")[0].strip()
        accept = self._accept(how)
        if content_type == ARROW:
            return lambda source: arrow_pieces(source, accept, self._bounds, how.defaults)
        if is_ndjson(content_type):
            return lambda source: line_pieces(source, accept, how.rewrite)
        came = f"content-type {content_type[:60]!r} came." if content_type else "No content-type came."
        raise MediaTypeUnsupported((Fault("content-type", came, _RIGHT_TYPE, PAGE),))

    def _accept(self, how: BulkHow) -> Accept:
        accept = self._ingest.accept
        if not how.only:
            return without_types(accept, how.refused_types)
        return msgspec.structs.replace(accept, actions=frozenset(), open_types=frozenset({how.only}))

    async def _pump(self, receive: Receive, pipe: Pipe) -> None:
        """Put arriving bytes into the pipe, with their end."""
        idle_s = self._options.body_wait_max.ms / 1_000
        try:
            async with asyncio.timeout(self._options.bulk_wait_max.ms / 1_000):
                more = True
                while more:
                    async with asyncio.timeout(idle_s):
                        message = await receive()
                    if message["type"] != "http.request":
                        return
                    await pipe.put(message.get("body", b""))
                    more = message.get("more_body", False)
            pipe.end()
        except TimeoutError:
            why = f"Nothing came for {idle_s:g} s, or the body took longer than {self._options.bulk_wait_max}."
            pipe.end(BodyTooSlow(why))
        finally:
            pipe.end(Disconnected())  # unless it has ended already

    def _read(self, pieces: Iterator[Piece], tally: _Tally, how: BulkHow, loop: asyncio.AbstractEventLoop) -> None:
        """Decode, have recorded and count; on the thread. Returns or raises when all that was decoded is settled."""
        flights: deque[tuple[Piece, Future[RecordedBatch]]] = deque()
        failures: list[BaseException] = []
        try:
            for piece in pieces:
                admitted = self._ingest.service.admit(piece.decoded, piece.part)
                settling = self._settle(admitted, tally.turn, how)
                flights.append((piece, asyncio.run_coroutine_threadsafe(settling, loop)))
                if len(flights) >= IN_FLIGHT_MAX:
                    landed, flight = flights.popleft()
                    tally.add(landed, flight.result())
        finally:
            # One that fails must not hide what became of those after it: they are waited for as well.
            for landed, flight in flights:
                failure = flight.exception()
                if failure is None:
                    tally.add(landed, flight.result())
                else:
                    failures.append(failure)
        if failures:
            raise failures[0]

    async def _settle(self, admitted: AdmittedBatch, turn: asyncio.Lock, how: BulkHow) -> RecordedBatch:
        """Record one piece; on the loop."""
        if how.dry_run:
            return RecordedBatch(admitted, self._ingest.service.unrecorded(admitted))
        return await self._ingest.service.record(admitted, turn)

    def _answer(self, tally: _Tally, how: BulkHow, failure: MidstreamError | None) -> BulkAnswer:
        answer = BulkAnswer(
            tally.recorded,
            tally.duplicates,
            tally.rejected,
            tuple(tally.rejections),
            tally.conflicts,
            tally.without_dedupe,
            None if how.dry_run else self._engine.token(tally.log_position),
            how.dry_run,
        )
        if failure is not None:
            problem = problem_of(failure)
            names = ("type", "title", "status", "detail", "pointer", "came", "right", "page", "retry_after")
            return msgspec.structs.replace(answer, **{name: getattr(problem, name) for name in names})
        if answer.nothing_taken:
            return msgspec.structs.replace(
                answer,
                type="urn:midstream:nothing-taken",
                title="None of the events was taken",
                status=422,
                detail=f"{answer.rejected + answer.conflicts} came; rejections say what is wrong with the first ones.",
                page=PAGE,
            )
        return answer
