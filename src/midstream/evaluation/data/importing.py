"""Fold of a data set, as an import into an empty log: sorted by time, log time = event time."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from midstream.core.durations import Duration
from midstream.evaluation.data.interactions import InteractionTable, batches, by_time
from midstream.state.fold import Fold
from midstream.state.settings import EventType, FoldSettings, StateLimits

BATCH_EVENTS = 10_000
DATA_SETTINGS = FoldSettings(
    types={"click": EventType(), "purchase": EventType()},
    # A data set says itself where a session ends; the longest silence inside one of its sessions is 1.5 h.
    session_gap=Duration("1d"),
    # The few sessions with more than the 20 items of the default come back in later days: worth 0.01 in both figures
    # on the validation part of serenade-toy, nothing on the others.
    limits=StateLimits(index_items_max=50),
)


@dataclass(frozen=True, slots=True)
class Room:
    """Distinct ids and rows that a fold must hold."""

    users: int
    items: int
    sessions: int
    rows: int


def room_for(interactions: InteractionTable) -> Room:
    """Return the maxima for a data set."""
    columns = (interactions.user_id, interactions.item_id, interactions.session_id)
    users, items, sessions = (max(1, len(np.unique(column))) for column in columns)
    return Room(users, items, sessions, max(1, len(interactions)))


def fitted(settings: FoldSettings, room: Room) -> FoldSettings:
    """Return settings with the maxima of a data set, so that no id is refused or evicted and little memory is reserved.

    A data set has no catalogue: every item is known from interactions alone. Settings that change the lists stay: the
    newest sessions kept for each item and in all, the items kept of a session.
    """
    limits = msgspec.structs.replace(
        settings.limits,
        users_max=room.users,
        items_max=room.items,
        click_items_max=room.items,
        sessions_max=room.sessions,
        index_sessions_max=min(settings.limits.index_sessions_max, room.sessions),
        event_ids_max=min(settings.limits.event_ids_max, room.rows),
        hot_items_max=min(settings.limits.hot_items_max, room.items),
        requests_max=1,
        outcome_slates_max=1,
        outcome_items_max=1,
        outcomes_waiting_max=1,
        document_bytes_max=1_048_576,
    )
    return msgspec.structs.replace(settings, limits=limits)


def folded(
    interactions: InteractionTable, settings: FoldSettings, advance: Callable[[int], None] | None = None
) -> Fold:
    """Return the state after all rows.

    Args:
        interactions: Any order; they are sorted by time.
        settings: Every action of the data must be among its types.
        advance: Called with the number of rows after each batch.
    """
    fold = Fold(fitted(settings, room_for(interactions)))
    for first, batch in batches(by_time(interactions), BATCH_EVENTS):
        fold.apply(first, batch)
        if advance is not None:
            advance(len(batch))
    return fold
