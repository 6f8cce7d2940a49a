"""The engine: the only caller of ``append`` and ``apply``. Events in, durable and applied once; slates out.

Order of an event: decode, dedupe, queue, write, sync, apply, acknowledge. Everything here runs on one event loop's
thread, which owns all state; the log thread is the writer's, and child processes write snapshots.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midstream.core.errors import ErasuresFull, MidstreamError, Overloaded
from midstream.core.protocols import EventLog
from midstream.core.types import EventBatch, LogPosition, Models, TimestampMs
from midstream.engine.answer.answering import Answering
from midstream.engine.answer.compiled_slates import EncodedSlate, Stamp
from midstream.engine.answer.feature_reads import view_of, views_of, with_live
from midstream.engine.answer.lookups import item_view, served_record, user_view
from midstream.engine.answer.warmup import warm_up
from midstream.engine.background_service import BackgroundService, Round
from midstream.engine.circuit_breaker import CircuitBreaker, GuardOptions
from midstream.engine.erasure_capacity import ErasurePlaces
from midstream.engine.gauges import set_event_gauges, set_gauges, setting_table_bytes
from midstream.engine.health import IngestView, concerns_of, health_of
from midstream.engine.ingest.commit_dispatcher import CommitDispatcher, CommitParts
from midstream.engine.ingest.dedupe import Deduplication
from midstream.engine.ingest.event_recording import EventRecording
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.input_guard import InputGuard
from midstream.engine.ingest.served_buffer import ServedBuffer
from midstream.engine.ingest.served_forwarder import Forwarding
from midstream.engine.ingest.ticks import TICK_MS, append_tick
from midstream.engine.listeners import LAGGING, Listeners
from midstream.engine.lists.lists import Lists
from midstream.engine.live import Host, LiveState
from midstream.engine.pending_erasures import ErasureAges, erase_event, erasure_fact, last_erasure
from midstream.engine.requests.schema import BatchBody, FeatureAsk, RankQuestion, RecommendationQuestion
from midstream.engine.retractions.retractor import Retractor
from midstream.engine.types import (
    Answer,
    Ask,
    ErasureDue,
    FeatureRead,
    FeatureView,
    Health,
    Liveness,
    PageAnswer,
    Recorded,
)
from midstream.evaluation.metrics.feature_statistics import FeatureStatistics
from midstream.events.schema import build
from midstream.monitoring.facts import Facts
from midstream.monitoring.feature_values import FeatureValues
from midstream.monitoring.metrics import Metrics
from midstream.ranking.plan import Plan
from midstream.ranking.record.served import ServedRecord
from midstream.state.fold import Fold


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options that differ between a server, an import and a replay."""

    keeps_event_time: bool = False
    """Log time = event time: an import into an empty log, or a replay that brings its own clock."""
    logs_served: bool = True
    """Append a served record for each answer."""
    erase_days_max: int = 7
    """Days of log time after which every file is to be without a user that was erased."""
    guards: GuardOptions | None = None
    """When a part of a plan is left out for a while; None = as by default."""
    forwarding: Forwarding | None = None
    """Set in a process that follows another: served records go to that one, and nothing else is taken."""
    baseline: FeatureStatistics | None = None
    """Feature statistics of the training, which served features are compared with; None = statistics are only kept."""
    liveness: Liveness = field(default_factory=lambda: Liveness("live"))
    """Identity for ``GET /health/live``: the public name of the log and the process id."""


class Engine:
    """One log, one fold, the plans, and the turns between them."""

    def __init__(
        self,
        log: EventLog,
        fold: Fold,
        plans: Mapping[str, Plan],
        host: Host,
        metrics: Metrics,
        options: EngineOptions | None = None,
    ) -> None:
        """Take a fold whose position is the log's end."""
        self._options = options = options or EngineOptions()
        self.metrics = metrics
        self.host = host
        self.facts = Facts(host.monotonic)
        """What is to be in the log of the process, and is not yet."""
        self.guards = CircuitBreaker(host.monotonic, metrics, options.guards, self.facts)
        """Which parts of plans are left out for a while."""
        self.live = LiveState(log, fold, plans, host, metrics, self.guards, FeatureValues(options.baseline))
        """What is in service; ``swap`` alone puts something else there."""
        self._is_shared = host.token_generation is not None
        self._folding = FoldScheduler(fold, host.monotonic, metrics, host.fold_share)
        self._intake = Deduplication(fold)
        self.concerns: dict[str, str] = {} if options.forwarding is None else options.forwarding.concerns
        """What an operator should look at while all goes on, by what it is about; health shows it."""
        self.listeners = Listeners()
        """The parts beside it, and what each hears of."""
        self._commits = CommitDispatcher(
            CommitParts(self.live, self._folding, self.listeners, self.facts, self.concerns, self._is_shared)
        )
        self._writer = options.forwarding or host.writer(
            log,
            host.clock,
            host.monotonic,
            self._commits.hand_back,
            fold.vocabulary.id_key,
            keeps_event_time=options.keeps_event_time,
        )
        self.erasure_ages = ErasureAges(host.clock, host.monotonic, options.erase_days_max, fold)
        """How long erasures have waited."""
        self._outbox = ServedBuffer(self._writer, lambda: self._commits.is_closed, metrics, self.concerns)
        self._recording = EventRecording(
            self.live, host.monotonic, self._folding, self._commits, self._intake, self._outbox
        )
        self._answering = Answering(self.live, self._folding, self._outbox if options.logs_served else None, self.facts)
        self.lists = Lists(self.live)
        """Pages of items, users, events and served slates, for operators."""
        self.retractor = Retractor(self.live, self.record)
        """Takes acts of users back."""
        self.services: list[BackgroundService] = [] if options.forwarding is None else [options.forwarding.service]
        """The loops that go on beside it."""
        self._ticker = self.supervise("tick", self._tick, TICK_MS / 1_000)
        self.erasure_places = ErasurePlaces()
        """For erasures that wait for the log to be rewritten."""

    @property
    def log(self) -> EventLog:
        """The log, of which another writing may take the place."""
        return self.live.log

    @property
    def fold(self) -> Fold:
        """The state. Read it only between awaits, and keep no reference to it: it may be swapped."""
        return self.live.fold

    @property
    def plans(self) -> Mapping[str, Plan]:
        """Plan of each placement, by name."""
        return self.live.plans

    @property
    def liveness(self) -> Liveness:
        """Identity for ``GET /health/live``: the public name of the log and the process id."""
        return self._options.liveness

    def swap(self, fold: Fold, plans: Mapping[str, Plan]) -> None:
        """Put another state and its plans in service, between two turns.

        Answers in progress keep the state that they began with; no event is folded into it any more, and it is freed
        after the last of them.

        Args:
            fold: May be the one in service, when only plans change.
            plans: Of the fold version of ``fold``. Each gets the models in service that it reads.

        Raises:
            ValueError: The state's position is not that of the one in service.
        """
        self.live.swap(fold, plans)
        self._folding.fold = fold
        self._intake.fold = fold
        self._answering.compiled.forget()
        self.listeners.tell_swap()

    def serve_models(self, models: Models) -> None:
        """Put other models in service, between two turns: in these plans and in all that come after them.

        Answers that are being made keep the models that they began with.
        """
        self.live.models = models
        self.swap(self.fold, self.plans)

    async def hand_over(self, fold: Fold, plans: Mapping[str, Plan] | None) -> None:
        """Fold the rest of the log into a state beside the one in service, then swap; with None the plans stay.

        Raises:
            LogDamaged: A checksum of the log does not match; the state in service stays.
        """
        await self._folding.bring_up(fold, self.log.read)
        self.swap(fold, self.plans if plans is None else plans)

    @property
    def failure(self) -> BaseException | None:
        """Error that ended the folding for good, None = healthy."""
        return self._folding.failure

    async def replace_log(self, replace: Callable[[EventLog], EventLog]) -> None:
        """Continue in another log that has the same events at the same positions, encoded anew.

        Args:
            replace: Called on the log thread between two frames with the current log; returns the other one, open for
                appending, with the same end.

        Raises:
            Overloaded: The engine is stopping.
            MidstreamError: From ``replace``, and ``OSError``; the log stays.
        """
        if isinstance(self._writer, Forwarding):
            message = "a process that follows another has no log of its own"
            raise Overloaded(message)
        loop = asyncio.get_running_loop()

        def work(log: EventLog) -> EventLog:
            fresh = replace(log)
            # Before any later frame is handed back, so that no token of the old generation is given out for it.
            loop.call_soon_threadsafe(self._go_on_in, fresh)
            return fresh

        await asyncio.wrap_future(self._writer.between_frames(work))

    def _go_on_in(self, log: EventLog) -> None:
        self.live.log = log
        self.live.feature_values.clear()
        self.listeners.tell_swap()

    def supervise(
        self, name: str, one_round: Round, pause_s: float, *, first_s: float | None = None
    ) -> BackgroundService:
        """Return a background loop that is not started, whose errors go to health and metrics."""
        service = BackgroundService(name, one_round, pause_s, self.concerns, self.metrics, first_s=first_s)
        self.services.append(service)
        return service

    def clock(self) -> TimestampMs:
        """Return the wall clock in milliseconds."""
        return self.live.clock()

    async def start(self) -> None:
        """Warm the kernels up, then begin to take turns on the running event loop."""
        await warm_up(self.fold.settings, tuple(self.plans.values()), self.host.monotonic)
        self._commits.begin(self._outbox.handed_back)
        self._writer.start()
        self._folding.start()
        if self._options.forwarding is None:
            self._ticker.start()

    async def stop(self) -> None:
        """Make durable, apply and acknowledge all that was taken. The log stays open, for a last snapshot."""
        await self._ticker.stop()
        await self._outbox.drain()
        await asyncio.to_thread(self._writer.close)
        await asyncio.sleep(0)  # the last frame comes through the loop
        await self._folding.stop()

    def record(
        self, batch: EventBatch, guard: InputGuard | None = None, *, within_s: float | None = None
    ) -> Coroutine[Any, Any, Recorded]:
        """Make events durable and apply them, each id once; return when both are done.

        Args:
            batch: From ``events.json.decode``; log times are stamped on the way.
            guard: Condition under which it counts, in a log that several nodes share; None = always.
            within_s: How long to wait; None = as long as it takes.

        Returns:
            The outcome of each row. A duplicate's answer waits until its first copy is durable and applied.

        Raises:
            DiskFull: No room; nothing of the batch is kept, and it may be sent again.
            AppendFailed: The log accepts no event until the process is restarted; the batch may be durable.
            Overloaded: Too many events wait; nothing of the batch is kept.
            Superseded: The guard's version is not the newest one; nothing of the batch is in the log.
            TimeoutError: The time is over; the batch may be durable and applied later.
        """
        return self._recording.record(batch, guard, within_s)

    async def erase(self, user_id: str) -> ErasureDue:
        """Erase a user, under every id that was merged into this one, for all later requests.

        The log still has the user's events; the result is the time by which it is rewritten.

        Raises:
            RequestInvalid: The id is invalid.
            ErasuresFull: The maximum of erasures waits for the log to be rewritten.
            AppendFailed: As ``record``, and so are all other errors.
        """
        erase = build((erase_event(user_id, self.clock()),))
        try:
            self.erasure_places.take(self.fold, user_id)
        except ErasuresFull:
            self.metrics.count_overload("erasures")
            raise
        await self.record(erase)
        due = last_erasure(self.erasures(), self.fold, user_id)
        self.facts.note(erasure_fact(due))
        return due

    def erasures(self) -> Sequence[ErasureDue]:
        """Return the erasures for which the log is still to be rewritten, oldest first."""
        return self.erasure_ages.due(self.fold)

    def record_served(self, lot: EventBatch) -> None:
        """Append a served record of another process, without waiting for it."""
        self._outbox.add_lot(lot)

    def flush_served(self) -> None:
        """Hand over the served records that wait for company."""
        self._outbox.flush()

    def follow(self, first: LogPosition, batch: EventBatch) -> None:
        """Queue events that another process made durable; they are applied in turns, in the order of the log."""
        self._folding.add(first, batch, ())

    async def reached(self, position: LogPosition, timeout_s: float) -> bool:
        """Wait for a log position; return False when the time is over before.

        Raises:
            Overloaded: The maximum of requests waits.
        """
        return await self._folding.reached(position, timeout_s)

    def encoded_slate(
        self, question: RecommendationQuestion | RankQuestion, placement: str
    ) -> EncodedSlate | Stamp | None:
        """Answer a usual question whose placement's plan is compiled, as ``CompiledSlates.answer`` does."""
        return self._answering.compiled.answer(question, placement)

    async def recommend(self, ask: Ask, stamp: Stamp | None = None) -> Answer:
        """Answer with a slate, and append its served record without waiting for it.

        Args:
            ask: The question.
            stamp: Of an answer that ``encoded_slate`` began; None = a new one.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used.
            ItemUnknown: No event has named its item yet.
            Overloaded: Too many requests wait for a log position.
        """
        return await self._answering.recommend(ask, stamp)

    async def recommend_many(self, asks: Sequence[Ask]) -> tuple[Answer | MidstreamError, ...]:
        """Answer the same question for several users, as ``Answering`` has it."""
        return await self._answering.recommend_many(asks)

    def encoded_slates(self, body: BatchBody, placement: str) -> AsyncIterator[EncodedSlate | Answer | MidstreamError]:
        """Answer as ``recommend_many``, by compiled plans where they can, as ``Answering`` has it."""
        return self._answering.encoded_slates(body, placement)

    async def page(self, asks: Sequence[Ask]) -> PageAnswer:
        """Answer with several slates, no item in two of them, as ``Answering`` has it."""
        return await self._answering.page(asks)

    def check_page(self, asks: Sequence[Ask]) -> None:
        """Refuse a page that ``page`` would refuse as a whole."""
        self._answering.check_page(asks)

    def check(self, ask: Ask) -> None:
        """Refuse a request that ``recommend`` would refuse; call it before its events are recorded.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used.
        """
        self._answering.check(ask)

    def plan(self, placement: str) -> Plan:
        """Return the plan of a placement.

        Raises:
            NotFound: There is no such placement.
        """
        return self.live.plan(placement)

    def token(self, position: LogPosition) -> str:
        """Return the opaque text of a log position."""
        return self.live.token(position)

    def request_id_is_ours(self, request_id: str) -> bool:
        """Return whether a request id was made by the engine of this data folder."""
        return self.host.request_ids.are_ours(request_id)

    def item(self, item_id: str) -> Mapping[str, object] | None:
        """Return the state of an item, None = unknown."""
        return item_view(self.fold, item_id, self.clock())

    def user(self, user_id: str) -> Mapping[str, object] | None:
        """Return the state of a user, None = unknown."""
        return user_view(self.fold, user_id, self.clock())

    def served(self, request_id: str) -> ServedRecord | None:
        """Return the served record of a request id, None = unknown or no longer kept."""
        return served_record(self.fold, self.log, request_id)

    async def read_features(self, ask: FeatureAsk) -> FeatureRead:
        """Return feature values of items for a user and a session, all of one log position.

        Raises:
            RequestInvalid: A feature is not declared, there are too many items, or the token cannot be used.
            Overloaded: Too many requests wait for a log position.
            FeatureFailed: One of the features cannot be read; counted as a failed component.
        """
        return await self._answering.read_features(ask)

    def features(self) -> Sequence[FeatureView]:
        """Return the status of each declared feature, in the order of the file."""
        return views_of(self.fold, self.plans, self.clock())

    def feature(self, name: str) -> FeatureView | None:
        """Return the status of one declared feature, None = it is not declared."""
        return with_live(view_of(self.fold, self.plans, name, self.clock()), self.live.feature_values)

    def health(self) -> Health:
        """Return the abilities of the engine now, and the reasons for restrictions."""
        ingest = IngestView(self._folding.failure, self._commits.refusal, self._writer.queued_events)
        return health_of(self.live, self.listeners, self.concerns_now(), ingest)

    def concerns_now(self) -> Mapping[str, str]:
        """Return concerns for an operator, by topic: recorded ones, and those found now."""
        return concerns_of(self.live, self.listeners, self.concerns)

    def refresh_metrics(self) -> None:
        """Set the gauges that are read when metrics are scraped."""
        set_gauges(self.live, self.health(), self.erasure_ages, self._folding.waiting)
        self.listeners.set_gauges()

    def refresh_event_gauges(self) -> None:
        """Set the gauges that each event moves, and those of lags, for a reader that looks often."""
        set_event_gauges(self.live)
        self.listeners.set_gauges(LAGGING)

    def refreshing_table_bytes(self) -> Iterator[None]:
        """Set the gauges of memory, those of one table at each step: together they hold the loop for 2 ms or more."""
        return setting_table_bytes(self.live)

    async def _tick(self) -> None:
        if self._tick_is_due():
            # Nodes of a shared log that wait for the same log time to move append the same tick.
            await append_tick(self._writer.submit, f"tick-{self.log.last_log_time_ms}" if self._is_shared else "")

    def _tick_is_due(self) -> bool:
        """Whether nothing arrived for a minute, and an open session waits for log time to move."""
        is_able = self._commits.refusal is None and self._folding.failure is None
        return is_able and len(self.fold.sessions) > 0 and self.clock() - self.log.last_log_time_ms >= TICK_MS
