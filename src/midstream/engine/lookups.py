"""What is known of one item, one user, one request: for operators, and for callers that debug."""

from collections.abc import Mapping

import numpy as np

from midstream.core.durations import parse_duration_ms
from midstream.core.protocols import EventLog
from midstream.core.types import TimestampMs
from midstream.events.schema import texts_of
from midstream.ranking.served import ServedRecord, decode_served
from midstream.state.fold import Fold
from midstream.state.hashing import id_hash

WINDOWS = ("1h", "24h", "7d", "30d")
_REQUEST_TEXT, _BODY_TEXT = 5, 6
"""Places among the texts of a row."""


def item_view(fold: Fold, item_id: str, now_ms: TimestampMs) -> Mapping[str, object] | None:
    """Return what is known of an item: attributes, whether it can be served, acts on it by window; None = nothing."""
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


def user_view(fold: Fold, user_id: str) -> Mapping[str, object] | None:
    """Return what is known of a user: attributes, number of acts, the last ones oldest first; None = nothing."""
    index = fold.vocabulary.user_index(user_id)
    if index < 0 or fold.users.is_forgotten(index):
        return None
    names = fold.settings.action_names()
    recent = fold.users.recent(index)
    ids = fold.vocabulary.item_ids(recent.item_index)
    actions: list[int] = recent.action.tolist()
    times: list[int] = recent.event_time_ms.tolist()
    acts = zip(ids, actions, times, strict=True)
    return {
        "user_id": user_id,
        "attributes": fold.users.document(index),
        "counts": fold.users.counts(index),
        "recent": [{"item_id": item, "action": names[action], "time": time} for item, action, time in acts],
    }


def served_record(fold: Fold, log: EventLog, request_id: str) -> ServedRecord | None:
    """Return what was served under a request id; None when it is unknown or older than what is kept.

    Raises:
        LogDamaged: The record's frame does not match its checksum.
    """
    position = fold.requests.find(id_hash(request_id))
    if position is None:
        return None
    ((_, batch), *_) = log.read(position, 1)
    texts = texts_of(batch, 0)
    if texts[_REQUEST_TEXT].decode() != request_id:
        return None
    return decode_served(texts[_BODY_TEXT])
