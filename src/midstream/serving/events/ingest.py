"""From the bytes of events to the answer that says what became of each: the same for every route that takes events.

Nothing disappears: every event that came is recorded, a duplicate, a conflict, or rejected with its four parts. An
event of several items is recorded when at least one of them was; an item of it that was refused is listed all the
same.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Overloaded
from midstream.core.types import EventBatch, Index, LogPosition, Mask
from midstream.engine.requests.schema import PAGE
from midstream.engine.types import Outcome, Recorded
from midstream.events.dead_letters.dead_letters import DeadLetter, DeadLetters, dead_letter, field_of
from midstream.events.json.decode import Decoded, Rejected, SingleEvent, decode, parts_of
from midstream.events.schema import TEXTS, TIME_SENT, pick, text_lengths
from midstream.events.wire import PAGE as EVENTS_PAGE
from midstream.events.wire import Accept
from midstream.monitoring.facts import Fact
from midstream.serving.http.problems import CommitTooSlow
from midstream.serving.options import ServerOptions

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

BULK_BYTES = 32_768
"""From here on a body is decoded on the worker thread: about 0.6 ms of work, less than a turn may take."""
NAMED_ROWS_MAX = 20
"""Rows of a batch of which the refused ones are named on the loop: 20 µs each, more are named on the worker thread."""
RETRY_S = 0.05
"""Between two tries to record a piece of a stream while the log's queue is full."""
_ITEM_ID = TEXTS.index("item_id")
_REQUEST_ID = TEXTS.index("request_id")


class Rejection(msgspec.Struct, frozen=True):
    """One event that was not recorded, or one item of it, and why."""

    index: int
    """Of the event in the request, from 0."""
    pointer: str
    came: str
    right: str
    page: str


class Result(msgspec.Struct, frozen=True):
    """What became of one event: ``recorded``, ``duplicate``, ``conflict`` or ``rejected``."""

    index: int
    outcome: str


class EventsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The acknowledgement: everything counted as recorded or as a duplicate is durable and applied."""

    recorded: int
    duplicates: int
    rejected: tuple[Rejection, ...]
    conflicts: int = 0
    """Events whose id was recorded before with other content; the first ones stay."""
    without_dedupe: int = 0
    """Rows with neither ``event_id`` nor ``time``: sent again, they count again."""
    log_position: str | None = None
    """Token: a recommendation that asks for at least this position sees all of it. Absent after a dry run."""
    results: tuple[Result, ...] = ()
    """Every event that was not recorded, or every event when all were asked for."""
    dry_run: bool = False

    @property
    def nothing_taken(self) -> bool:
        """Whether events came and none of them is in the log."""
        return not (self.recorded or self.duplicates) and bool(self.rejected or self.conflicts)


class IngestOptions(msgspec.Struct, frozen=True):
    """How a body is to be read and answered."""

    content_type: str = ""
    """Of the body, when it says more than the body itself."""
    dry_run: bool = False
    """Decode and judge only."""
    all_results: bool = False
    """Name what became of every event, not only of those that were not recorded."""
    only: str = ""
    """The one type that is taken, ``item`` or ``user``; empty = all."""
    buries: bool = True
    """Keep what is rejected as dead letters; without it that is the caller's."""


class AdmittedBatch(NamedTuple):
    """Events that can be appended, the number of each row's event, and what was rejected of the rest."""

    batch: EventBatch
    event_index: Index
    rejected: tuple[Rejected, ...]
    event_count: int


class RecordedBatch(NamedTuple):
    """What became of events that could be appended."""

    taken: AdmittedBatch
    """With those rejected that the engine refused."""
    outcome: NDArray[np.uint8]
    """``Outcome`` of each row."""
    log_position: LogPosition


ERASED_CAME = "An event of a user who was erased, of a time before that."
"""What came, of a rejection that is kept nowhere."""
PLAINLY = IngestOptions()
PartOf: TypeAlias = Callable[[int], SingleEvent]
"""Names one event of those that came."""


class _Parts:
    """The events of a body, split when the first has to be named."""

    def __init__(self, split: Callable[[], Sequence[SingleEvent]]) -> None:
        self._split = split
        self._parts: Sequence[SingleEvent] | None = None

    def __call__(self, number: int) -> SingleEvent:
        if self._parts is None:
            self._parts = self._split()
        return self._parts[number]


class Ingest:
    """Decodes, records and acknowledges; every route that takes events goes through the one object."""

    def __init__(
        self,
        engine: "Engine",
        accept: Callable[[], Accept],
        options: ServerOptions,
        dead_letters: DeadLetters | None,
    ) -> None:
        """Record with ``engine`` what ``accept`` lets pass; what is rejected goes to ``dead_letters``."""
        self._engine = engine
        self._accept = accept
        self.dead_letters = dead_letters
        """Where rejected events are kept; None = nowhere."""
        self.show_letters()
        self._body_bytes_max = options.body_bytes_max
        self._commit_s_max = options.commit_wait_max.ms / 1_000
        self._bulk_decodes_max = options.bulk_decodes_max
        self._bulk_decodes = 0
        # Starts its thread when it is first needed, and ends it when nobody holds this object any more.
        self._thread = ThreadPoolExecutor(1, "midstream-decode")

    @property
    def accept(self) -> Accept:
        """The terms on which events are taken now; bodies are bounded where they are read."""
        accept = self._accept()
        # What a route wraps around the events of a body that has the full size is not the client's doing.
        limits = msgspec.structs.replace(accept.limits, body_bytes_max=2 * self._body_bytes_max)
        return msgspec.structs.replace(accept, limits=limits)

    async def take(self, body: bytes, how: IngestOptions = PLAINLY) -> EventsAnswer:
        """Record the events of a body; return when all that is acknowledged is durable and applied.

        Args:
            body: One event, a list, ``{"events": [...]}`` or NDJSON.
            how: To read and to answer it.

        Raises:
            RequestInvalid: The body as a whole cannot be read.
            TooLarge: It holds more than one request may.
            DiskFull: No room for events now.
            AppendFailed: The log takes nothing more.
            CommitTooSlow: The events may be durable later; sent again with their ids they count once.
            Overloaded: Too much is waiting already.
        """
        taken = await self._judge(body, how)
        if how.dry_run:
            return _answer(taken, np.zeros(len(taken.batch), np.uint8), None, how)
        parts = _Parts(lambda: parts_of(body, self.accept, how.content_type))
        settled = await self.settle(taken, parts, buries=how.buries)
        return _answer(settled.taken, settled.outcome, self._engine.token(settled.log_position), how)

    async def settle(
        self, taken: AdmittedBatch, part: PartOf, turn: asyncio.Lock | None = None, *, buries: bool = True
    ) -> RecordedBatch:
        """Record what can be taken and bury the rest; return when the former is durable and applied.

        Args:
            taken: Decoded events.
            part: Names one of them that the engine refuses.
            turn: Of a stream whose pieces keep their order: each waits here while the queues are full, for as long as
                a commit may take. Without it a full queue is an error at once.
            buries: Keep what is rejected as dead letters.

        Raises:
            What ``take`` raises, but for what decoding does.
        """
        if taken.rejected:
            # Those that the engine refuses are counted by the engine.
            self._engine.metrics.count_events("rejected", len(taken.rejected))
            self._bury(taken.rejected if buries else ())
        if not len(taken.batch):
            return RecordedBatch(taken, np.zeros(0, np.uint8), self._engine.fold.log_position)
        recorded = await self._record(taken.batch, turn)
        if (recorded.outcome == Outcome.REFUSED).any():
            unknown, people = await self._named(taken, recorded, part)
            self._bury(unknown if buries else ())
            # What is of an erased user is kept nowhere.
            rejected = sorted((*taken.rejected, *unknown, *people), key=lambda each: each.index)
            taken = taken._replace(rejected=tuple(rejected))
        return RecordedBatch(taken, recorded.outcome, recorded.log_position)

    async def _named(
        self, taken: AdmittedBatch, recorded: Recorded, part: PartOf
    ) -> tuple[list[Rejected], list[Rejected]]:
        """Return what the engine refused: rows whose item it does not know, and events of erased users."""

        def named() -> tuple[list[Rejected], list[Rejected]]:
            return _refused_items(taken, recorded, part), _refused_people(taken, recorded.erased, part)

        if len(taken.batch) <= NAMED_ROWS_MAX:
            return named()
        # As many may wait for the thread as batches may wait for the log.
        return await asyncio.get_running_loop().run_in_executor(self._thread, named)

    def _bury(self, rejected: Sequence[Rejected]) -> None:
        """Keep what was rejected where an operator finds it, and say in the log of the process how much it is."""
        if rejected:
            reasons = Counter(field_of(each.fault) for each in rejected)
            fact = Fact("events_rejected", "warning", reasons=reasons, count=len(rejected))
            self._engine.facts.note(fact)
            now_ms = self._engine.clock()
            self.keep([dead_letter(now_ms, each.fault, each.raw, each.item) for each in rejected])

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, count them, and say how many there are now."""
        kept = self.dead_letters
        if kept is not None:
            lost = kept.counts.lost
            kept.add(letters)
            lost = kept.counts.lost - lost
            self._engine.metrics.count_dead_letters(len(letters) - lost, lost)
            self.show_letters()

    def show_letters(self) -> None:
        """Set the metrics of what is kept, after it changed."""
        if self.dead_letters is not None:
            counts = self.dead_letters.counts
            self._engine.metrics.set_dead_letters(counts.kept, counts.bytes_kept)

    async def _judge(self, body: bytes, how: IngestOptions) -> AdmittedBatch:
        accept, content_type = self.accept, how.content_type
        if how.only:
            accept = msgspec.structs.replace(accept, actions=frozenset(), open_types=frozenset({how.only}))
        if len(body) < BULK_BYTES:
            return self._decode(body, accept, content_type)
        if self._bulk_decodes >= self._bulk_decodes_max:
            self._engine.metrics.count_overload("decode")
            message = f"{self._bulk_decodes_max} large bodies wait to be decoded already."
            raise Overloaded(message)
        self._bulk_decodes += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._decode, body, accept, content_type)
        finally:
            self._bulk_decodes -= 1

    def _decode(self, body: bytes, accept: Accept, content_type: str) -> AdmittedBatch:
        decoded = decode(body, accept, content_type)
        return self.own_requests_only(decoded, _Parts(lambda: parts_of(body, accept, content_type)))

    def own_requests_only(self, decoded: Decoded, part: PartOf) -> AdmittedBatch:
        """Refuse the events whose request id this engine did not make. Touches no state, so any thread may call it.

        Cost: 2 µs a row that has a request id, and what ``part`` takes for each that is refused.

        Args:
            decoded: What was sent.
            part: Names one of its events.
        """
        if not decoded.batch.rows["request_id_length"].any():
            return AdmittedBatch(decoded.batch, decoded.event_index, decoded.rejected, decoded.event_count)
        ids = column(decoded.batch, _REQUEST_ID)
        foreign = {each for each in set(ids) if each and not self._engine.request_id_is_ours(each)}
        if not foreign:
            return AdmittedBatch(decoded.batch, decoded.event_index, decoded.rejected, decoded.event_count)
        # All rows of an event have the same request id, so an event goes or stays as a whole.
        keep = np.array([each not in foreign for each in ids])
        numbers: list[int] = decoded.event_index[~keep].tolist()
        wrong = dict(zip(numbers, (each for each in ids if each in foreign), strict=True))
        refused = (_foreign_request(number, each, part(number)) for number, each in wrong.items())
        rejected = [*decoded.rejected, *refused]
        rejected.sort(key=lambda each: each.index)
        batch = pick(decoded.batch, np.flatnonzero(keep).tolist())
        return AdmittedBatch(batch, decoded.event_index[keep], tuple(rejected), decoded.event_count)

    async def _record(self, batch: EventBatch, turn: asyncio.Lock | None) -> Recorded:
        if turn is None:
            work: asyncio.Future[Recorded] = asyncio.ensure_future(self._engine.record(batch))
        else:
            async with turn:
                work = await self._queued(batch)
        done, _ = await asyncio.wait((work,), timeout=self._commit_s_max)
        if done:
            return work.result()
        work.add_done_callback(_retrieve)
        self._engine.metrics.count_overload("commit")
        message = f"Not durable and applied after {self._commit_s_max:g} s, perhaps later."
        raise CommitTooSlow(message)

    async def _queued(self, batch: EventBatch) -> asyncio.Future[Recorded]:
        """Return the work that records a batch once the queues had room for it, or failed otherwise."""
        until = asyncio.get_running_loop().time() + self._commit_s_max
        while True:
            work = asyncio.ensure_future(self._engine.record(batch))
            await asyncio.sleep(0)  # the engine takes it now, or says at once that it does not
            if not work.done() or asyncio.get_running_loop().time() >= until:
                return work
            if not isinstance(work.exception(), Overloaded):
                return work
            await asyncio.sleep(RETRY_S)


def _retrieve(work: asyncio.Future[Recorded]) -> None:
    """Look at a result that nobody waits for: its failure was counted where it happened."""
    if not work.cancelled():
        work.exception()


def column(batch: EventBatch, text: int) -> list[str]:
    """Return one of the seven texts (its place in ``TEXTS``) of every row, in order. Cost: 0.3 µs a row."""
    lengths = text_lengths(batch)
    starts = batch.rows["text_start"].astype(np.int64) + lengths[:, :text].sum(axis=1)
    stops = starts + lengths[:, text]
    return [batch.text[start:stop].decode() for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def _foreign_request(index: int, request_id: str, part: SingleEvent) -> Rejected:
    came = f'"{request_id[:40]}" was not made here.'
    right = "The request_id of an answer to /v1/recommendations, as it came; or none."
    return Rejected(index, Fault(f"{part.prefix}/request_id", came, right, PAGE), part.raw)


def _refused_people(taken: AdmittedBatch, rows: Index, part: PartOf) -> list[Rejected]:
    """Return a rejection for each event that is a late copy of an erased user's."""
    right = "Events of a later time are a new start; for 24 h late copies are refused."
    events = [(index, part(index)) for index in np.unique(taken.event_index[rows]).tolist()]
    return [
        Rejected(index, Fault(f"{event.prefix}/user_id", ERASED_CAME, right, EVENTS_PAGE), event.raw)
        for index, event in events
    ]


def _refused_items(taken: AdmittedBatch, recorded: Recorded, part: PartOf) -> list[Rejected]:
    """Return a rejection for each row whose item the engine refused."""
    items = column(taken.batch, _ITEM_ID)
    numbers, first, count = np.unique(taken.event_index, return_index=True, return_counts=True)
    began = dict(zip(numbers.tolist(), first.tolist(), strict=True))
    rows = dict(zip(numbers.tolist(), count.tolist(), strict=True))
    right = "An item of the catalogue; PUT /v1/items/{id} adds one, as long as there is room."
    found: list[Rejected] = []
    for row in np.setdiff1d(np.flatnonzero(recorded.outcome == Outcome.REFUSED), recorded.erased).tolist():
        index = int(taken.event_index[row])
        item = row - began[index] if rows[index] > 1 else -1
        path = f"/items/{item}/item_id" if rows[index] > 1 else "/item_id"
        event = part(index)
        fault = Fault(f"{event.prefix}{path}", f'"{items[row]}" is not known here.', right, PAGE)
        found.append(Rejected(index, fault, event.raw, item))
    return found


def _answer(
    taken: AdmittedBatch, outcome: NDArray[np.uint8], log_position: str | None, how: IngestOptions
) -> EventsAnswer:
    """Sum rows up to events; ``log_position`` None = a dry run."""
    counts = counts_of(taken, outcome)
    if not taken.rejected and not how.all_results and not outcome.any():
        return EventsAnswer(
            taken.event_count, 0, (), 0, counts.without_dedupe, log_position=log_position, dry_run=how.dry_run
        )
    names = _names(taken, outcome).tolist()
    return EventsAnswer(
        counts.recorded,
        counts.duplicates,
        tuple(rejection(each) for each in taken.rejected),
        counts.conflicts,
        counts.without_dedupe,
        log_position,
        tuple(Result(index, name) for index, name in enumerate(names) if how.all_results or name != "recorded"),
        how.dry_run,
    )


class Counts(NamedTuple):
    """How many events had each fate: recorded + duplicates + conflicts + rejected = all that came."""

    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    without_dedupe: int
    """Rows, whatever became of them."""


def counts_of(taken: AdmittedBatch, outcome: NDArray[np.uint8]) -> Counts:
    """Sum rows up to events."""
    undated = int(np.count_nonzero(_cannot_be_told_apart(taken.batch)))
    if not taken.rejected and not outcome.any():
        return Counts(taken.event_count, 0, 0, 0, undated)
    names = _names(taken, outcome)
    count = {name: int(np.count_nonzero(names == name)) for name in ("recorded", "duplicate", "conflict", "rejected")}
    return Counts(count["recorded"], count["duplicate"], count["conflict"], count["rejected"], undated)


def _names(taken: AdmittedBatch, outcome: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return what became of each event."""
    names = np.full(taken.event_count, "duplicate", dtype="U9")
    names[[each.index for each in taken.rejected]] = "rejected"
    # One recorded row makes the event a recorded one, whatever became of the others.
    names[taken.event_index[outcome == Outcome.CONFLICT]] = "conflict"
    names[taken.event_index[outcome == Outcome.RECORDED]] = "recorded"
    return names


def _cannot_be_told_apart(batch: EventBatch) -> Mask:
    """Return which rows have neither an event id nor a time, and so count again when they are sent again."""
    nameless: Mask = batch.rows["event_id_length"] == 0
    undated: Mask = (batch.rows["flags"] & TIME_SENT) == 0
    return nameless & undated


def rejection(rejected: Rejected) -> Rejection:
    """Return an event that was not taken as it is answered."""
    fault = rejected.fault
    return Rejection(rejected.index, fault.where, fault.came, fault.right, fault.page)
