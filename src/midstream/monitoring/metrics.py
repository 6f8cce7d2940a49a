"""Every metric of one engine, in one place: plain numbers in, the Prometheus text out.

Invariants: a metric is named ``midstream_*`` with its unit; seconds and bytes are base units. Labels are
configured names (placement, part, table, route template) or fixed words, never an id that a caller sends, so
the number of time series is bounded by the configuration; of slates, whose placements, rules and parts may be set
while it runs, by ``Series``. Nothing here reads a clock or any state. The
registry is given, not the library's global one, so that several engines can live in one process.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import nan
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from midstream.monitoring.experiment_gauges import ExperimentGauges
from midstream.monitoring.freshness_metrics import FreshnessMetrics
from midstream.monitoring.input_gauges import InputGauges
from midstream.monitoring.loop_metrics import LoopCounter, LoopCounters, LoopHistogram, LoopHistograms
from midstream.monitoring.machine_gauges import MachineGauges
from midstream.monitoring.online_gauges import OnlineGauges
from midstream.monitoring.outcome_totals import OutcomeTotals
from midstream.monitoring.series import Series, sums_of
from midstream.monitoring.totals import Totals
from midstream.monitoring.training_metrics import TrainingMetrics

M = TypeVar("M", Counter, Gauge)
EventOutcome = Literal["recorded", "duplicate", "conflict", "refused", "rejected"]
EVENT_OUTCOMES: tuple[EventOutcome, ...] = ("recorded", "duplicate", "conflict", "refused", "rejected")

# From 0.1 ms (an answer without work takes about 0.03 ms) to 10 s (the time-out of a body).
_REQUEST_SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
# A sync takes about 0.05 ms where the drive has a battery, 10 ms on a disk that turns.
_SYNC_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
# A folding turn is to end within 1 ms.
_TURN_SECONDS = (0.00001, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1)
# Of 40 columns and 500 candidates it is to take 0.1 ms.
_READ_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1)
_COMMIT_EVENTS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000)
_SLATE_ITEMS = (0, 1, 2, 5, 10, 20, 50, 100)
_PLACEMENTS_MAX = 2_048
"""Of which slates are counted: 1,000 of the file, as many that were set, and those that are there without either. Two
histograms of 3.3 kB and three tiers of 0.8 kB each: 18 MB."""
_TIERS = 3
_RULES_MAX = 8 * _PLACEMENTS_MAX
"""Of which actions are counted: half of the 16 that a placement may have; 0.8 kB each, 12 MB."""
_PARTS_MAX = 4 * _PLACEMENTS_MAX
"""Of which it is counted that they failed, overran or are benched: four of each placement. Three metrics of 0.8 kB a
series: 20 MB."""


class Metrics:
    """All metrics of one engine. A metric that moves alone is an attribute; a method moves several, or keeps a promise.

    Each costs 0.2 to 4 µs: what each request counts, those of ``loop_metrics``, the least.

    Example:
        >>> metrics = Metrics(CollectorRegistry())
        >>> metrics.count_events("recorded", 3)
        >>> b'midstream_events_total{outcome="recorded"} 3.0' in metrics.text()
        True
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register everything; each outcome stands at 0, so that a rate exists before the first event."""
        self.registry = registry
        self._version = ""
        self.events_recorded = 0
        """Events of clients that became durable since the start, as a plain number for quotas."""
        self._describe_events()
        self._describe_state()
        self._describe_requests()
        self._describe_running()
        self._of_outcomes = {outcome: self._events.of(outcome) for outcome in EVENT_OUTCOMES}
        self._of_requests: dict[tuple[str, int], tuple[LoopHistogram, LoopCounter]] = {}

    def _counter(self, name: str, documentation: str, *labels: str, begun: Iterable[str] = ()) -> Counter:
        made = Counter(f"midstream_{name}", documentation, labels, registry=self.registry)
        for each in begun:  # at 0, so that the first count is an increase
            made.labels(each)
        return made

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"midstream_{name}", documentation, labels, registry=self.registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"midstream_{name}", documentation, labels, buckets=buckets, registry=self.registry)

    def _loop_histograms(
        self, name: str, documentation: str, bounds: tuple[float, ...], *labels: str
    ) -> LoopHistograms:
        made = LoopHistograms(f"midstream_{name}", documentation, bounds, labels)
        self.registry.register(made)
        return made

    def _slates(self, name: str, documentation: str, series_max: int = 0, *more: str) -> Series[LoopCounter]:
        made = LoopCounters(f"midstream_{name}", documentation, ("placement", *more))
        self.registry.register(made)
        return Series(made.of, made.remove, series_max or _PLACEMENTS_MAX)

    def _parts(self, metric: M) -> Series[M]:
        return Series(metric.labels, metric.remove, _PARTS_MAX)

    def _describe_events(self) -> None:
        self._events = LoopCounters("midstream_events", "Events by what became of them.", ("outcome",))
        self.registry.register(self._events)
        self.fold_counts = Totals("midstream_fold_counts", "Events the fold treated specially.", "reason")
        self.registry.register(self.fold_counts)
        self.outcomes = OutcomeTotals()
        self.registry.register(self.outcomes)
        self.online = OnlineGauges()
        self.registry.register(self.online)
        self.experiments = ExperimentGauges()
        self.registry.register(self.experiments)
        self.machine = MachineGauges()
        self.registry.register(self.machine)
        self._dead_letters = self._counter("dead_letters", "Rejected events kept in the dead-letter file.")
        self._dead_letters_lost = self._counter("dead_letters_lost", "Rejected events it had no room for.")
        self._dead_letters_kept = self._gauge("dead_letters_kept", "Dead letters in the files now.")
        self._dead_letters_bytes = self._gauge("dead_letters_bytes", "Size of their files.")
        self.dead_letters_retried = self._counter("dead_letters_retried", "Dead letters sent again.", "outcome")
        causes = ("disk_full", "append_failed")
        self.append_failures = self._counter("append_failures", "Commits not made durable.", "cause", begun=causes)
        self._overloads = self._counter("overloads", "Requests refused by a full queue.", "queue")
        self.served_lost = self._counter("served_lost", "Served records that never reached the log.")
        self._queued_events = self._gauge("queued_events", "Events waiting for the log.")
        self._waiters = self._gauge("log_position_waiters", "Requests waiting for a log position.")
        self.input_events = self._counter("input_events", "Events of an input that became durable.", "input")
        self.input_rejected = self._counter("input_rejected", "Messages and events of it that are none.", "input")
        self.input_superseded = self._counter(
            "input_superseded", "Batches of an input that did not count, as another node had moved it.", "input"
        )
        self._shared_lag = self._gauge("shared_log_lag_seconds", "Log time behind the topic; NaN = not known.", "topic")
        self._shared_connected = self._gauge("shared_log_connected", "1 while the broker answers.", "topic")
        self._shared_ended = self._gauge("shared_log_ended", "1 = nothing more is taken from the topic.", "topic")
        self._shared_leases = self._gauge("shared_log_leases", "Inputs, outputs and sinks that run here.", "topic")
        self._shared_messages = Totals("midstream_shared_log_messages", "Messages by what became of them.", "outcome")
        self.registry.register(self._shared_messages)
        self.inputs = InputGauges()
        self.registry.register(self.inputs)

    def _describe_state(self) -> None:
        self._sync_seconds = self._loop_histograms("sync_seconds", "Time of one durable write.", _SYNC_SECONDS).of()
        self._commit_events = self._loop_histograms("commit_events", "Events of one write.", _COMMIT_EVENTS).of()
        self.turn_seconds = self._loop_histograms("fold_turn_seconds", "Time of one folding turn.", _TURN_SECONDS).of()
        self._log_position = self._gauge("log_position", "Number of durable events.")
        self._applied_position = self._gauge("applied_log_position", "Number of events folded.")
        self.state_age = self._gauge("state_age_seconds", "Now less the log time of the last folded event.")
        self.log_time_ahead = self._gauge(
            "log_time_ahead_seconds", "Log time less the clock, 0 as it should be: above it the clock stood wrong."
        )
        self.dedupe_span = self._gauge("dedupe_span_seconds", "Log time over which ids are remembered.")
        self.fetch_cache_rows = self._gauge("fetch_cache_rows", "Rows of outside systems that are kept.")
        self.fetch_cache_age = self._gauge("fetch_cache_age_seconds", "Age of the oldest of them, 0 without any.")
        self._erasures = self._gauge("erasures_pending", "Erasures for which the log is still to be rewritten.")
        self._erasure_age = self._gauge("erasure_pending_age_seconds", "Age of the oldest of them, 0 without any.")
        self._table_bytes = self._gauge("table_bytes", "Memory in use by table.", "table")
        self._table_bytes_max = self._gauge("table_bytes_max", "Memory of a full table.", "table")
        self.table_filled = self._gauge("table_filled_ratio", "Share of a table's maximum that is in use.", "table")

    def _describe_requests(self) -> None:
        self._request_seconds = self._loop_histograms(
            "request_seconds", "From the head of a request to its answer's end.", _REQUEST_SECONDS, "route"
        )
        self._requests = LoopCounters("midstream_requests", "Answered requests.", ("route", "status"))
        self.registry.register(self._requests)
        self.waits = self._loop_histograms("wait_seconds", "From a question's head to its turn.", _REQUEST_SECONDS).of()
        self.refusals = self._counter("refusals", "Requests that were told to come again.", "reason")
        self.foreign_requests = self._counter(
            "foreign_requests", "Requests that a web page of elsewhere may have sent, refused by this header.", "header"
        )
        self.key_refusals = self._counter("key_refusals", "Requests that the gate of API keys refused.", "reason")
        self._connection_faults = self._counter(
            "connection_faults", "Connections that were ended, refused or left, and what was ignored.", "reason"
        )
        self._answers_running = self._gauge("answers_running", "Answers being made.")
        self._answers_waiting = self._gauge("answers_waiting", "Questions that wait for a place among them.")
        self._answers = self._slates("answers", "Slates by placement and tier.", _TIERS * _PLACEMENTS_MAX, "tier")
        self.compiled_answers = self._slates("compiled_answers", "Slates that the kernel of compiled plans made.")
        self.compiled_overruns = self._slates(
            "compiled_overruns", "Calls of that kernel that took longer than a part may."
        )
        sizes = self._loop_histograms("slate_items", "Items of a slate.", _SLATE_ITEMS, "placement")
        self._slate_items = Series(sizes.of, sizes.remove, _PLACEMENTS_MAX)
        reads = self._loop_histograms(
            "feature_read_seconds", "Time of reading the features of all candidates.", _READ_SECONDS, "placement"
        )
        self.feature_reads = Series(reads.of, reads.remove, _PLACEMENTS_MAX)
        self._feature_nulls = self._gauge("feature_null_ratio", "Share of newest served items without it.", "feature")
        self._feature_mean = self._gauge("feature_mean", "Mean of the newest served items that have it.", "feature")
        self._feature_psi = self._gauge(
            "feature_psi", "Population stability index of the newest served items against the baseline.", "feature"
        )
        self._feature_ks = self._gauge(
            "feature_ks", "Largest distance of their distribution function from the baseline's.", "feature"
        )
        failures = self._counter("part_failures", "Parts of a plan that did not answer.", "part")
        overruns = self._counter("part_overruns", "Parts that held the thread longer than they may.", "part")
        benched = self._gauge("part_benched", "1 while a part is left out.", "placement", "part")
        self.failures, self.overruns, self.benched = self._parts(failures), self._parts(overruns), self._parts(benched)
        self.rules = self._slates(
            "rule_actions", "What rules of slates moved, dropped or could not do.", _RULES_MAX, "rule"
        )

    def _describe_running(self) -> None:
        self._snapshots = self._counter("snapshots", "Snapshots by outcome.", "outcome")
        self._parity_compared = self._counter(
            "feature_parity_compared", "Served values of features compared with those of the log."
        )
        self._parity_mismatched = self._counter("feature_parity_mismatched", "Those of them that differ.")
        self.snapshot_mismatches = self._counter(
            "snapshot_mismatches", "Snapshots whose digest was not that of the live state."
        )
        self._snapshot_seconds = self._gauge("snapshot_seconds", "Time that the last snapshot took.")
        self._snapshot_age = self._gauge("snapshot_age_seconds", "Age of the newest good snapshot.")
        self._snapshot_position = self._gauge("snapshot_log_position", "Its log position.")
        self.snapshot_overdue = self._gauge("snapshot_overdue_seconds", "By how much the next is late, 0 = it is not.")
        self.rebuilds = self._counter("rebuilds", "Rebuilds by outcome.", "outcome", begun=("done", "failed"))
        self.trainings = TrainingMetrics(self.registry)
        self.freshness = FreshnessMetrics(self.registry)
        self.trace_spans = self._counter("trace_spans", "Spans of traces by what became of them.", "outcome")
        self.model_swaps = self._counter("model_swaps", "Versions of a model that were put in service.", "model")
        self.model_refusals = self._counter("model_refusals", "Versions of a model that were refused.", "model")
        self._model_versions = self._gauge("model_version", "1 for the version in service.", "model", "version")
        self._rebuild_progress = self._gauge("rebuild_progress", "Share of the events that the new state has.")
        self._outdated = self._gauge(
            "configuration_outdated", "1 while another configuration waits for its state to be rebuilt."
        )
        self._deleted_items = self._gauge("deleted_items", "Deleted items that hold a slot; a compaction frees them.")
        self._items = self._gauge("items", "Slots of items in use.")
        self.background_errors = self._counter("background_errors", "Rounds that ended by an error.", "service")
        self.background_running = self._gauge("background_running", "1 while it goes on.", "service")
        self._seals = self._counter("seals", "Tries to make history of old segments, by outcome.", "outcome")
        self._seal_seconds = self._gauge("seal_seconds", "Time that the last one took.")
        self._history_begin = self._gauge("history_begin_log_position", "Log position of the first event kept.")
        self._history_end = self._gauge("history_end_log_position", "Log position at which the segments begin.")
        self._rewrites = self._counter("rewrites", "Rewrites of the log without erased users, by outcome.", "outcome")
        self._rewrite_seconds = self._gauge("rewrite_seconds", "Time that the last good one took.")
        self._ready = self._gauge("ready", "1 while requests can be answered.")
        self._accepts_events = self._gauge("accepts_events", "1 while events can be made durable.")
        self._follower_serves = self._gauge("follower_serves", "1 while a follower takes requests.", "follower")
        self._follower_behind = self._gauge("follower_behind_events", "Durable events it has not folded.", "follower")
        self.follower_restarts = self._counter("follower_restarts", "Ends of a follower by itself.", "follower")
        self.tenants = self._gauge("tenants", "Tenants of this server by state.", "state")
        self.passed_on = self._counter("passed_on", "Requests that a follower passed on to the leader.")
        self._output_lag_events = self._gauge("output_lag_events", "Events that an output has not delivered.", "output")
        self._output_lag_seconds = self._gauge("output_lag_seconds", "The same in log time.", "output")
        self._output_stopped = self._gauge("output_stopped", "1 = an output waits for an order.", "output")
        self._output_delivered = Totals("midstream_output_delivered", "Events that outputs passed by.", "output")
        self.registry.register(self._output_delivered)
        self._sink_lag_events = self._gauge("sink_lag_events", "Events whose rows a sink has not written.", "sink")
        self._sink_lag_seconds = self._gauge("sink_lag_seconds", "The same in log time.", "sink")
        self._sink_pass_left = self._gauge("sink_pass_left", "Events or items that a pass has left.", "sink")
        self._sink_stopped = self._gauge("sink_stopped", "1 = a sink waits for an order.", "sink")
        self._sink_written = Totals("midstream_sink_rows_written", "Rows that a sink wrote.", "sink")
        self._sink_deleted = Totals("midstream_sink_rows_deleted", "Rows that it deleted.", "sink")
        self.registry.register(self._sink_written)
        self.registry.register(self._sink_deleted)
        self._versions = Info("midstream_versions", "What is running.", registry=self.registry)

    def text(self) -> bytes:
        """Return everything in the Prometheus text format. Cost: about 5 ms."""
        return generate_latest(self.registry)

    # Events

    def count_events(self, outcome: EventOutcome, count: int) -> None:
        """Count events that were recorded, or were not."""
        self._of_outcomes[outcome].count += count
        if outcome == "recorded":
            self.events_recorded += count

    def count_dead_letters(self, written: int, lost: int = 0) -> None:
        """Count rejected events that were kept in the dead-letter file, and those it had no room for."""
        self._dead_letters.inc(written)
        self._dead_letters_lost.inc(lost)

    def set_dead_letters(self, kept: int, bytes_kept: int) -> None:
        """Set how many dead letters are in the files, and the size of these."""
        self._dead_letters_kept.set(kept)
        self._dead_letters_bytes.set(bytes_kept)

    def count_overload(self, queue: str) -> None:
        """Count a request refused because ``queue`` (a fixed word, such as ``events``) was at its maximum."""
        self._overloads.labels(queue).inc()

    def set_queues(self, events: int, waiters: int) -> None:
        """Set the number of events waiting for the log, and of requests waiting for a log position."""
        self._queued_events.set(events)
        self._waiters.set(waiters)

    def losses(self) -> Mapping[str, Mapping[str, int]]:
        """Return what was refused, given up or cut off since the start, by kind and by label. Cost: 20 µs."""
        counters = {
            "requests_refused": self.refusals,
            "queue_full": self._overloads,
            "served_records_lost": self.served_lost,
            "dead_letters_lost": self._dead_letters_lost,
            "connections_faulty": self._connection_faults,
            "foreign_requests": self.foreign_requests,
        }
        return {name: sums_of(counter) for name, counter in counters.items()}

    # Log and state

    def observe_commit(self, events: int, sync_seconds: float) -> None:
        """Record one durable write: the number of events and its duration."""
        self._commit_events.observe(events)
        self._sync_seconds.observe(sync_seconds)

    def set_positions(self, log_position: int, applied_log_position: int) -> None:
        """Set how many events are durable and how many are folded."""
        self._log_position.set(log_position)
        self._applied_position.set(applied_log_position)

    def observe_rewrite(self, *, good: bool, seconds: float) -> None:
        """Note one rewrite of the log, and how long it took."""
        self._rewrites.labels("good" if good else "failed").inc()
        if good:
            self._rewrite_seconds.set(seconds)

    def set_erasures(self, pending: int, oldest_seconds: float) -> None:
        """Set how many erasures wait for the log to be rewritten, and the age of the oldest."""
        self._erasures.set(pending)
        self._erasure_age.set(oldest_seconds)

    def set_table_bytes(self, table: str, bytes_now: int, bytes_max: int) -> None:
        """Set the memory of one table of the state."""
        self._table_bytes.labels(table).set(bytes_now)
        self._table_bytes_max.labels(table).set(bytes_max)

    # Requests

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Note one answered request. ``route`` is the template, such as ``/v1/items/{id}``."""
        found = self._of_requests.get((route, status)) or self._request_series(route, status)
        found[1].count += 1
        found[0].observe(seconds)

    def count_request(self, route: str, status: int) -> None:
        """Count a request whose time says nothing, such as one that was refused."""
        found = self._of_requests.get((route, status)) or self._request_series(route, status)
        found[1].count += 1

    def _request_series(self, route: str, status: int) -> tuple[LoopHistogram, LoopCounter]:
        """Return where requests of a route and a status are counted; there are as many as routes and statuses."""
        found = self._request_seconds.of(route), self._requests.of(route, str(status))
        self._of_requests[route, status] = found
        return found

    def count_connection(self, reason: str) -> None:
        """Count an event of a client's connection; ``reason`` is one of a few fixed words, such as ``malformed``."""
        self._connection_faults.labels(reason).inc()

    def set_answers(self, running: int, waiting: int) -> None:
        """Set the number of answers in progress, and of queued requests."""
        self._answers_running.set(running)
        self._answers_waiting.set(waiting)

    def observe_answer(self, placement: str, tier: str, items: int) -> None:
        """Note one slate: its placement, its tier (``full``, ``reduced``, ``floor``), its length."""
        self._answers.of(placement, tier).count += 1
        self._slate_items.of(placement).observe(items)

    def set_feature(self, name: str, *, null_ratio: float, mean: float) -> None:
        """Set the statistics of one column of features among the newest served items; NaN = undefined."""
        self._feature_nulls.labels(name).set(null_ratio)
        self._feature_mean.labels(name).set(mean)

    def set_drift(self, name: str, *, psi: float, ks: float) -> None:
        """Set the drift of one column of features from the baseline; NaN = undefined."""
        self._feature_psi.labels(name).set(psi)
        self._feature_ks.labels(name).set(ks)

    def remove_feature(self, name: str) -> None:
        """Remove the series of a column of features."""
        for gauge in (self._feature_nulls, self._feature_mean, self._feature_psi, self._feature_ks):
            gauge.remove(name)

    # Snapshots and health

    def observe_snapshot(self, *, good: bool, seconds: float) -> None:
        """Note one try to write a snapshot."""
        self._snapshots.labels("written" if good else "failed").inc()
        self._snapshot_seconds.set(seconds)

    def count_parity(self, compared: int, mismatched: int) -> None:
        """Count served values of features that were compared with those of the log, and those that differ."""
        self._parity_compared.inc(compared)
        self._parity_mismatched.inc(mismatched)

    def set_snapshot(self, age_seconds: float, log_position: int) -> None:
        """Set age and log position of the newest good snapshot."""
        self._snapshot_age.set(age_seconds)
        self._snapshot_position.set(log_position)

    def observe_seal(self, *, good: bool, seconds: float) -> None:
        """Note one try to make history of old segments."""
        self._seals.labels("sealed" if good else "failed").inc()
        self._seal_seconds.set(seconds)

    def set_history(self, begin: int, end: int) -> None:
        """Set the log positions of the first event that is kept, and at which the segments begin."""
        self._history_begin.set(begin)
        self._history_end.set(end)

    def set_health(self, *, ready: bool, accepts_events: bool) -> None:
        """Set the abilities of the engine."""
        self._ready.set(ready)
        self._accepts_events.set(accepts_events)

    def set_follower(self, number: int, behind_events: int, *, serves: bool) -> None:
        """Set how one of the followers is."""
        self._follower_serves.labels(number).set(serves)
        self._follower_behind.labels(number).set(behind_events)
        self.follower_restarts.labels(number)  # at 0, as ``begun``

    def set_shared_log(
        self, topic: str, lag_ms: int | None, messages: Mapping[str, int], *, is_connected: bool, has_ended: bool
    ) -> None:
        """Set how the copy of a shared topic stands; a lag that is not known is NaN."""
        self._shared_lag.labels(topic).set(nan if lag_ms is None else lag_ms / 1_000)
        self._shared_connected.labels(topic).set(is_connected)
        self._shared_ended.labels(topic).set(has_ended)
        self._shared_messages.set(messages)

    def set_leases(self, topic: str, held: int) -> None:
        """Set how many inputs, outputs and sinks of a shared log run on this node."""
        self._shared_leases.labels(topic).set(held)

    def set_output(self, name: str, lag_events: int, lag_ms: int, delivered: int, *, is_stopped: bool) -> None:
        """Set how an output stands; a lag below 0 is not known, and nothing is set."""
        if lag_events >= 0:
            self._output_lag_events.labels(name).set(lag_events)
            self._output_lag_seconds.labels(name).set(lag_ms / 1_000)
        self._output_stopped.labels(name).set(is_stopped)
        self._output_delivered.set({name: delivered})

    def set_sink(
        self, name: str, lag: tuple[int, int], pass_left: int, rows: tuple[int, int], *, is_stopped: bool
    ) -> None:
        """Set how a sink stands.

        Args:
            name: Of the sink.
            lag: In events, and in milliseconds of log time; below 0 it is not known, and not set.
            pass_left: Of a pass over earlier rows.
            rows: Written and deleted since the start.
            is_stopped: It waits for an order.
        """
        events, milliseconds = lag
        if events >= 0:
            self._sink_lag_events.labels(name).set(events)
            self._sink_lag_seconds.labels(name).set(milliseconds / 1_000)
        self._sink_pass_left.labels(name).set(pass_left)
        self._sink_stopped.labels(name).set(is_stopped)
        written, deleted = rows
        self._sink_written.set({name: written})
        self._sink_deleted.set({name: deleted})

    def set_versions(self, version: str, config_hash: str, fold_version: str) -> None:
        """Set the versions of program and state."""
        self._version = version
        self.set_configuration(config_hash, fold_version)

    def set_configuration(self, config_hash: str, fold_version: str) -> None:
        """Set the configuration that is in service now."""
        self._versions.info({"version": self._version, "config_hash": config_hash, "fold_version": fold_version})

    # Rebuilds

    def set_models(self, versions: Mapping[str, str]) -> None:
        """Set which version of each model is in service, by name; nothing is said of others any more."""
        self._model_versions.clear()
        for model, version in versions.items():
            self._model_versions.labels(model, version).set(1)

    def set_rebuild(self, progress: float, *, is_outdated: bool) -> None:
        """Set how far a rebuild is, and whether another configuration than that of the file serves meanwhile."""
        self._rebuild_progress.set(progress)
        self._outdated.set(is_outdated)

    def set_deleted_items(self, deleted: int, items: int) -> None:
        """Set how many slots of items are in use, and how many of them by deleted ones."""
        self._deleted_items.set(deleted)
        self._items.set(items)

    def names(self) -> Iterator[str]:
        """Yield the name of every metric, as it stands in the text, for the documentation's test."""
        for metric in self.registry.collect():
            yield metric.name + ("_total" if metric.type == "counter" else "")
