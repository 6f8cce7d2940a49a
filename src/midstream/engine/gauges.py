"""Gauges of an engine, set when metrics are scraped; some of them also when the console is looked at."""

from collections.abc import Iterator, Mapping

from midstream.engine.answer.lookups import outcome_sums
from midstream.engine.live import LiveState
from midstream.engine.pending_erasures import ErasureAges
from midstream.engine.types import Health
from midstream.state.fold import Fold


def set_gauges(live: LiveState, health: Health, ages: ErasureAges, waiting: int) -> None:
    """Set the gauges of an engine; ``waiting`` = requests that wait for a log position."""
    fold, metrics, now_ms = live.fold, live.metrics, live.clock()
    set_event_gauges(live)
    metrics.set_queues(health.queued_events, waiting)
    metrics.set_health(ready=health.ready, accepts_events=health.accepts_events)
    metrics.log_time_ahead.set(max(0, live.log.last_log_time_ms - now_ms) / 1_000)
    metrics.fold_counts.set(fold.counts())
    metrics.outcomes.set(outcome_sums(fold))
    metrics.dedupe_span.set(fold.event_ids.span_ms(fold.log_time_ms) / 1_000)
    asked_ms = live.fetched.oldest_ms()
    metrics.fetch_cache_rows.set(len(live.fetched))
    metrics.fetch_cache_age.set(0.0 if asked_ms is None else max(0, now_ms - asked_ms) / 1_000)
    metrics.set_erasures(len(ages.due(fold)), ages.longest_ms(fold) / 1_000)
    live.feature_values.refresh(metrics)
    for table, share in filled(fold).items():
        metrics.table_filled.labels(table).set(share)
    for _ in setting_table_bytes(live):
        pass


def set_event_gauges(live: LiveState) -> None:
    """Set the gauges that each event moves, which the console reads each two seconds. Cost: 20 µs."""
    fold, metrics = live.fold, live.metrics
    metrics.set_positions(live.log.end, fold.log_position)
    metrics.state_age.set(max(0, live.clock() - fold.log_time_ms) / 1_000 if fold.log_time_ms else 0.0)
    metrics.set_deleted_items(fold.items.deleted_count, fold.vocabulary.item_count)


def setting_table_bytes(live: LiveState) -> Iterator[None]:
    """Set the memory of one table at each step. Cost: up to 1 ms a step of a state of 200,000 events."""
    for table, size in live.fold.each_size():
        live.metrics.set_table_bytes(table, size.bytes_now, size.bytes_max)
        yield


def filled(fold: Fold) -> Mapping[str, float]:
    """Return the share that is in use of each maximum at which something is refused or goes early.

    Of rows, and of the text of ids and documents where that ends first: bytes of a table do not say it, since most of
    what is reserved is room for documents.
    """
    limits, ids, placements = fold.settings.limits, fold.vocabulary, fold.placements
    return {
        "users": max(ids.user_count / limits.users_max, fold.users.document_share),
        "items": max(ids.item_count / limits.items_max, ids.item_text_share, fold.items.document_share),
        "sessions": len(fold.sessions) / limits.sessions_max,
        "aliases": len(ids.aliases) / limits.aliases_max,
        "erasures": len(ids.erasures.pending) / limits.erased_max,
        "placements": placements.bytes_now / placements.bytes_max,
    }
