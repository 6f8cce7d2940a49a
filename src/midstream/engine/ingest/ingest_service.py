"""Ingest service: the one way in for events of clients, with the same guarantees for every transport.

HTTP, the Python API, ``midstream import``, the simulator and consumers of brokers decode what came (``events``) and
hand it over here. Of each batch this service guarantees:

- request ids that this engine did not make are rejected;
- duplicates of applied and of pending events are recorded once, and answered when the first copy is durable;
- what is returned is durable and applied; the wait for that has a maximum, and so has the wait for a full queue;
- every event that is not recorded is named with its fault, counted, and kept as a dead letter, but for events of
  erased users, which are kept nowhere.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec
import numpy as np

from midstream.core.answers.letters import DeadLetter
from midstream.core.columns import has_any
from midstream.core.errors import CommitTooSlow, Overloaded, RequestInvalid
from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.ingest.admitted_batch import (
    AdmittedBatch,
    PartOf,
    Parts,
    RecordedBatch,
    admit,
    refused_items,
    refused_users,
)
from midstream.engine.ingest.input_guard import InputGuard
from midstream.engine.types import Outcome, Recorded
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter, field_of
from midstream.events.json.decode import Decoded, Rejected, decode, parts_of
from midstream.events.schema import concat
from midstream.events.wire import Accept
from midstream.monitoring.facts import Fact, Facts
from midstream.monitoring.metrics import Metrics

BULK_BYTES = 32_768
"""From here on a body is decoded on the worker thread: about 0.6 ms of work, less than a turn may take."""
NAMED_ROWS_MAX = 20
"""Rows of a batch whose rejections are described on the loop: 20 µs each; larger batches use the worker thread."""
RETRY_S = 0.05
"""Between two tries to record a batch while the log's queue is full."""


OriginOf: TypeAlias = Callable[[int], Mapping[str, str]]
"""Names where an event came from, by its number."""
T = TypeVar("T")


class _State(Protocol):
    @property
    def log_position(self) -> LogPosition: ...


class EventRecorder(Protocol):
    """The engine as this service sees it."""

    @property
    def metrics(self) -> Metrics:
        """Counts events by outcome."""
        ...

    @property
    def facts(self) -> Facts:
        """Facts for the operational log."""
        ...

    @property
    def fold(self) -> _State:
        """The state in service."""
        ...

    def clock(self) -> TimestampMs:
        """Return the wall clock."""
        ...

    def request_id_is_ours(self, request_id: str) -> bool:
        """Return whether this engine made a request id. Any thread may call it."""
        ...

    def record(
        self, batch: EventBatch, guard: InputGuard | None = None, *, within_s: float | None = None
    ) -> Coroutine[Any, Any, Recorded]:
        """Make events durable and apply them, each id once; ``TimeoutError`` where that is not known in time."""
        ...


class IngestLimits(NamedTuple):
    """Maxima of waits and queues."""

    commit_s_max: float = 10.0
    """Until a batch is durable and applied, and until the log's queue has room for it."""
    bulk_decodes_max: int = 64
    """Large bodies that wait for the decoding thread."""


class IngestService:
    """Admits, records and acknowledges events of one engine. On the event loop's thread, but for ``admit``."""

    def __init__(
        self, engine: EventRecorder, limits: IngestLimits | None = None, dead_letters: DeadLetters | None = None
    ) -> None:
        """Record with ``engine``; rejected events go to ``dead_letters``, None = they are not kept."""
        self.dead_letters = dead_letters
        self.metrics = engine.metrics
        self._engine = engine
        self._limits = limits or IngestLimits()
        self._bulk_decodes = 0
        self._is_closed = False
        # Starts its thread when it is first needed, and ends it when nobody holds this object any more.
        self._thread = ThreadPoolExecutor(1, "midstream-decode")
        self.show_letters()

    def close(self) -> None:
        """Release the file of dead letters for good: letters that come later are counted as lost."""
        self._is_closed = True
        if self.dead_letters is not None:
            self.dead_letters.close()

    async def take(
        self, body: bytes, accept: Accept, content_type: str = "", turn: asyncio.Lock | None = None
    ) -> RecordedBatch:
        """Record the events of a body; return when all acknowledged ones are durable and applied.

        Args:
            body: One event, a list, ``{"events": [...]}`` or NDJSON, as ``decode`` reads it.
            accept: Settings of decoding.
            content_type: Of the body, when it names the format.
            turn: As in ``record``.

        Raises:
            RequestInvalid: The body as a whole cannot be read.
            TooLarge: It exceeds the limits of a request.
            Overloaded: Too many events wait; nothing of the body was kept.
            MidstreamError: As ``record`` does.
        """
        return await self.record(await self.decode(body, accept, content_type), turn)

    async def decode(self, body: bytes, accept: Accept, content_type: str = "") -> AdmittedBatch:
        """Decode and admit the events of a body, a large one on the worker thread; nothing is recorded.

        Raises:
            RequestInvalid: The body as a whole cannot be read.
            TooLarge: It holds more than one request may.
            Overloaded: As many large bodies wait to be decoded as may.
        """
        if len(body) < BULK_BYTES:
            return self.decode_here(body, accept, content_type)
        if self._bulk_decodes >= self._limits.bulk_decodes_max:
            self.metrics.count_overload("decode")
            message = f"{self._limits.bulk_decodes_max} large bodies wait to be decoded already."
            raise Overloaded(message)
        self._bulk_decodes += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self.decode_here, body, accept, content_type)
        finally:
            self._bulk_decodes -= 1

    def decode_here(self, body: bytes, accept: Accept, content_type: str) -> AdmittedBatch:
        """Decode and admit the events of a body of less than ``BULK_BYTES`` on this thread, as ``decode`` does."""
        parts = Parts(partial(parts_of, body, accept, content_type))
        is_ours = self._engine.request_id_is_ours
        return admit(decode(body, accept, content_type), parts, is_ours, takes_reserved=accept.takes_reserved)

    def admit(self, decoded: Decoded, part: PartOf, *, takes_reserved: bool = False) -> AdmittedBatch:
        """Reject events with a request id of another engine, or of a reserved user. Any thread may call it."""
        return admit(decoded, part, self._engine.request_id_is_ours, takes_reserved=takes_reserved)

    async def record(
        self,
        admitted: AdmittedBatch,
        turn: asyncio.Lock | None = None,
        *,
        keeps_rejected: bool = True,
        named_max: int | None = None,
    ) -> RecordedBatch:
        """Record admitted events and keep the others as dead letters; return when they are durable and applied.

        Args:
            admitted: Decoded events.
            turn: Of a stream whose batches keep their order: each waits here while the queues are full, for as long as
                a commit may take. Without it a full queue is an error at once.
            keeps_rejected: Keep rejected events as dead letters; otherwise the caller does.
            named_max: Maximum of the engine's refused rows that are named, the first ones; None = all, as outcomes by
                event need it.

        Raises:
            DiskFull: No room for events now; nothing of the batch is kept.
            AppendFailed: The log accepts nothing more.
            CommitTooSlow: The events may be durable later; sent again with their ids they count once.
            Overloaded: Too many events wait; nothing of the batch is kept.
        """
        if not len(admitted.batch.rows):
            self._reject(admitted, keeps_rejected=keeps_rejected)
            return RecordedBatch(admitted, self.unrecorded(admitted))
        try:
            if turn is None:  # no task of its own, nor a coroutine in between: every event of its own would pay for it
                recorded = await self._engine.record(admitted.batch, within_s=self._limits.commit_s_max)
            else:
                recorded = await self._durable(admitted.batch, turn)
        except (TimeoutError, CommitTooSlow) as error:
            self._reject(admitted, keeps_rejected=keeps_rejected)
            if isinstance(error, CommitTooSlow):
                raise
            raise self._too_slow() from None
        if admitted.rejected:
            self._reject(admitted, keeps_rejected=keeps_rejected)  # of a batch that failed all comes again
        if not recorded.is_plain and _is_refused(recorded):
            unknown, users = await self._named(admitted, recorded, named_max)
            self._keep_rejected(unknown if keeps_rejected else ())
            # What is of an erased user is kept nowhere.
            rejected = sorted((*admitted.rejected, *unknown, *users), key=lambda each: each.index)
            admitted = admitted._replace(rejected=tuple(rejected))
        return RecordedBatch(admitted, recorded)

    async def record_with(
        self,
        control: EventBatch,
        admitted: AdmittedBatch | None,
        turn: asyncio.Lock,
        origin: OriginOf | None = None,
        guard: InputGuard | None = None,
    ) -> None:
        """Record events and a control event behind them in one frame; return when they are durable and applied.

        The wait for the commit has no maximum: whoever gave up would read the events again while they may yet become
        durable. The wait for room in the queue has one.

        Args:
            control: One row.
            admitted: Its rejected events are kept by the caller, before; None = no event.
            turn: As ``record`` has it.
            origin: Origin of an event that the engine refuses, for its dead letter.
            guard: Condition under which all of it counts; None = always.

        Raises:
            Superseded: The guard's version is not the newest one; nothing of it is in the log.
            MidstreamError: As ``record`` does.
        """
        record = partial(self._engine.record, guard=guard) if guard is not None else None
        if admitted is None:
            await self._durable(control, turn, gives_up=False, record=record)
            return
        recorded = await self._durable(concat((admitted.batch, control)), turn, gives_up=False, record=record)
        recorded = msgspec.structs.replace(recorded, outcome=recorded.outcome[: len(admitted.batch)])
        if _is_refused(recorded):
            unknown, _ = await self._named(admitted, recorded, None)
            self._keep_rejected(unknown, origin)

    def keep_rejected(self, rejected: Sequence[Rejected], origin: OriginOf | None = None) -> None:
        """Count events that were rejected before the engine saw them, and keep them as dead letters."""
        if rejected:
            self.metrics.count_events("rejected", len(rejected))
            self._keep_rejected(rejected, origin)

    async def on_worker(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, called on the thread that decodes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def record_all(self, batches: Sequence[AdmittedBatch]) -> list[RecordedBatch]:
        """Record batches in their order when no event of them is rejected before; else none of them.

        Raises:
            RequestInvalid: An event cannot be used: every fault is named, and nothing was recorded.
            MidstreamError: As ``record`` does; the batches before are recorded.
        """
        if any(each.rejected for each in batches):
            for each in batches:
                self._reject(each)
            raise RequestInvalid(tuple(rejected.fault for each in batches for rejected in each.rejected))
        turn = asyncio.Lock() if len(batches) > 1 else None
        return [await self.record(each, turn) for each in batches]

    def unrecorded(self, admitted: AdmittedBatch) -> Recorded:
        """Return the acknowledgement of a batch as if all of it were new: for an empty one, and a dry run."""
        return Recorded(self._engine.fold.log_position, np.zeros(len(admitted.batch), np.uint8))

    async def _named(
        self, admitted: AdmittedBatch, recorded: Recorded, rows_max: int | None
    ) -> tuple[list[Rejected], list[Rejected]]:
        """Return the engine's refusals: rows with an unknown item, and events of erased users."""

        def named() -> tuple[list[Rejected], list[Rejected]]:
            return refused_items(admitted, recorded, rows_max), refused_users(admitted, recorded, rows_max)

        if len(admitted.batch) <= NAMED_ROWS_MAX:
            return named()
        # As many may wait for the thread as batches may wait for the log.
        return await asyncio.get_running_loop().run_in_executor(self._thread, named)

    def _reject(self, admitted: AdmittedBatch, *, keeps_rejected: bool = True) -> None:
        """Count and keep events rejected before the engine; the engine counts its own refusals."""
        if keeps_rejected:
            self.keep_rejected(admitted.rejected)
        elif admitted.rejected:
            self.metrics.count_events("rejected", len(admitted.rejected))

    def _keep_rejected(self, rejected: Sequence[Rejected], origin: OriginOf | None = None) -> None:
        """Keep rejected events as dead letters, and log their number."""
        if rejected:
            reasons = Counter(field_of(each.fault) for each in rejected)
            self._engine.facts.note(Fact("events_rejected", "warning", reasons=reasons, count=len(rejected)))
            now_ms = self._engine.clock()
            origin = origin or _no_origin
            kept = [each for each in rejected if each.is_kept]
            self.keep([dead_letter(now_ms, each.fault, each.raw, each.item, origin(each.index)) for each in kept])

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, count them, and update their gauges."""
        kept = self.dead_letters
        if self._is_closed:
            self.metrics.count_dead_letters(0, len(letters))
        elif kept is not None:
            lost = kept.counts.lost
            kept.add(letters)
            lost = kept.counts.lost - lost
            self.metrics.count_dead_letters(len(letters) - lost, lost)
            self.show_letters()

    def show_letters(self) -> None:
        """Set the metrics of dead letters, after a change."""
        if self.dead_letters is not None:
            counts = self.dead_letters.counts
            self.metrics.set_dead_letters(counts.kept, counts.bytes_kept)

    async def _durable(
        self,
        batch: EventBatch,
        turn: asyncio.Lock,
        *,
        gives_up: bool = True,
        record: Callable[[EventBatch], Awaitable[Recorded]] | None = None,
    ) -> Recorded:
        within_s = self._limits.commit_s_max if gives_up else None
        async with turn:
            work = await self._queued(batch, record or self._engine.record)
        done, _ = await asyncio.wait((work,), timeout=within_s)
        if done:
            return work.result()
        work.add_done_callback(_retrieve)
        raise self._too_slow()

    def _too_slow(self) -> CommitTooSlow:
        """Count a batch whose time is over, and return the error."""
        self.metrics.count_overload("commit")
        return CommitTooSlow(f"Not durable and applied after {self._limits.commit_s_max:g} s, perhaps later.")

    async def _queued(
        self, batch: EventBatch, record: Callable[[EventBatch], Awaitable[Recorded]]
    ) -> asyncio.Future[Recorded]:
        """Return the work that records a batch once the queues had room for it, or failed otherwise."""
        until = asyncio.get_running_loop().time() + self._limits.commit_s_max
        while True:
            work = asyncio.ensure_future(record(batch))
            await asyncio.sleep(0)  # the engine takes it now, or says at once that it does not
            if not work.done() or asyncio.get_running_loop().time() >= until:
                return work
            if not isinstance(work.exception(), Overloaded):
                return work
            await asyncio.sleep(RETRY_S)


def _is_refused(recorded: Recorded) -> bool:
    """Return whether the engine refused an event."""
    return has_any(recorded.outcome) and bool((recorded.outcome == Outcome.REFUSED).any())


def _no_origin(_: int) -> Mapping[str, str]:
    return {}


def _retrieve(work: asyncio.Future[Recorded]) -> None:
    """Consume a result without a waiter: its failure was counted where it happened."""
    if not work.cancelled():
        work.exception()
