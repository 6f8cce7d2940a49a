"""Lookups of one item, one user or one request, for operators and for callers that debug."""

from collections.abc import Iterator, Mapping

import numpy as np

from midstream.core.durations import parse_duration_ms
from midstream.core.errors import EventsGone, NotFound
from midstream.core.protocols import EventLog
from midstream.core.types import LogPosition, TimestampMs
from midstream.events.schema import texts_of
from midstream.monitoring.outcome_totals import OutcomeSums
from midstream.ranking.record.served import ServedRecord, decode_served
from midstream.state.fold import Fold
from midstream.state.structures.hashing import id_hash

WINDOWS = ("1h", "24h", "7d", "30d")
ERASED = "The user of this request was erased: nothing is kept of it, so nothing can be explained."
_USER_TEXT, _REQUEST_TEXT, _BODY_TEXT = 2, 5, 6
"""Places among the texts of a row."""


def item_view(fold: Fold, item_id: str, now_ms: TimestampMs) -> Mapping[str, object] | None:
    """Return the state of an item: attributes, whether it can be served, acts by window; None = unknown."""
    index = fold.vocabulary.item_index(item_id)
    if index < 0:
        return None
    items = fold.items
    one = np.array([index], dtype=np.int32)
    return {
        "item_id": item_id,
        "available": bool(items.available[index]),
        "in_catalogue": bool(fold.vocabulary.in_catalogue[index]),
        "attributes": items.document(index),
        "counts": {
            name: {
                window: int(items.window_count(name, parse_duration_ms(window), now_ms, one)[0]) for window in WINDOWS
            }
            for name in fold.settings.action_names()
        },
    }


def user_view(fold: Fold, user_id: str, now_ms: TimestampMs) -> Mapping[str, object] | None:
    """Return the state of a user, under any of its ids; None = unknown.

    Attributes, number of acts, first and last visit, the last acts and the items seen (oldest first), affinities
    (strongest first), items of the open sessions (newest session first), and the number of ids merged into this one.
    """
    vocabulary, users = fold.vocabulary, fold.users
    user_hash = vocabulary.user_hash_of(user_id)
    index = vocabulary.user_slot(user_hash)
    if index < 0 or users.is_forgotten(index):
        return None
    return {
        "user_id": user_id,
        "attributes": users.document(index),
        "counts": users.counts(index),
        "first_seen": users.first_seen_ms(index) or None,
        "last_seen": users.last_seen_ms(index) or None,
        "recent": _acts(fold, index),
        "impressions": _impressions(fold, index),
        "leanings": {name: _leanings(fold, index, name, now_ms) for name in users.categories},
        "sessions": [
            vocabulary.item_ids(session.item_index)
            for session in fold.sessions.sessions_of(user_hash, fold.log_time_ms)
        ],
        "merged_ids_count": len(vocabulary.aliases.members(user_hash)),
    }


def _acts(fold: Fold, user_index: int) -> list[dict[str, object]]:
    names, recent = fold.settings.action_names(), fold.users.recent(user_index)
    columns = (fold.vocabulary.item_ids(recent.item_index), recent.action.tolist(), recent.event_time_ms.tolist())
    return [
        {"item_id": item, "action": names[action], "time": time} for item, action, time in zip(*columns, strict=True)
    ]


def _impressions(fold: Fold, user_index: int) -> list[dict[str, object]]:
    seen = fold.users.impressions(user_index)
    columns = (fold.vocabulary.item_ids(seen.item_index), seen.count.tolist(), seen.event_time_ms.tolist())
    return [{"item_id": item, "count": count, "time": time} for item, count, time in zip(*columns, strict=True)]


def _leanings(fold: Fold, user_index: int, attribute: str, now_ms: TimestampMs) -> list[dict[str, object]]:
    codes, weights = fold.users.affinities(user_index, attribute, now_ms)
    texts = [fold.items.value_text(attribute, code) for code in codes.tolist()]
    return [{"value": text, "weight": weight} for text, weight in zip(texts, weights.tolist(), strict=True)]


def served_record(fold: Fold, log: EventLog, request_id: str) -> ServedRecord | None:
    """Return the served record of a request id; None if it is unknown, older than what is kept, or of an erased user.

    Raises:
        LogDamaged: The record's frame does not match its checksum.
    """
    try:
        _, body = served_body(fold, log, request_id)
    except NotFound:
        return None
    record = decode_served(body)
    # One that was blanked keeps its slate for learning, and names no request any more.
    return record if record.query.request_id == request_id else None


def served_body(fold: Fold, log: EventLog, request_id: str) -> tuple[LogPosition, bytes]:
    """Return the log position of the served event of a request, and its body.

    Raises:
        NotFound: It is unknown, older than what is kept, or of a user who was erased; the text has the cause.
        LogDamaged: The record's frame does not match its checksum.
    """
    position = fold.requests.find(id_hash(request_id, fold.vocabulary.id_key))
    unknown = f'No request "{request_id[:64]}" is known, or it is older than what is kept.'
    if position is None:
        raise NotFound(unknown)
    try:
        ((_, batch), *_) = log.read(position, 1)
    except EventsGone as error:
        raise NotFound(unknown) from error
    texts = texts_of(batch, 0)
    if texts[_REQUEST_TEXT].decode() != request_id:
        raise NotFound(unknown)
    if fold.vocabulary.erasures.hides(id_hash(texts[_USER_TEXT].decode(), fold.vocabulary.id_key), position):
        raise NotFound(ERASED)
    return position, texts[_BODY_TEXT]


def require_asker(body: bytes) -> None:
    """Refuse a redacted served record, which an erasure left in the log.

    Raises:
        NotFound: It is redacted, or a record of another version.
    """
    if not decode_served(body).query.request_id:
        raise NotFound(ERASED)


def outcome_sums(fold: Fold) -> Iterator[OutcomeSums]:
    """Yield the outcome sums of slates, by placement, plan and tier, as metrics take them."""
    for each in fold.outcomes.counts():
        yield OutcomeSums(*each.group, each.slates, each.positions, each.impressions, each.acted)
