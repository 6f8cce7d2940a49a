"""A small shop whose state stands still: events go in at once, and moments come out to try components on."""

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from midstream.core.durations import Duration
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition, Models, Moment, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, StateLimits

START_MS = 1_700_000_000_000
SMALL = FoldSettings(
    attributes={"price": "number", "category": "category", "tags": "tags", "fresh": "boolean", "look": "vector:3"},
    half_lives=(Duration("6h"), Duration("7d")),
    limits=StateLimits(
        users_max=50,
        items_max=2_000,
        click_items_max=200,
        sessions_max=100,
        index_sessions_max=200,
        event_ids_max=10_000,
        requests_max=100,
        outcome_slates_max=100,
        outcome_items_max=2_000,
        outcomes_waiting_max=100,
        hot_items_max=20,
        document_bytes_max=1_000_000,
    ),
)
"""Room for a small shop: 60 MB less than the default, and made in a millisecond."""


class StillShop:
    """The whole state of a small shop, and the time there. Each event comes a second after the one before."""

    def __init__(self, settings: FoldSettings = SMALL) -> None:
        """Begin empty."""
        self.fold = Fold(settings)
        self.now_ms = START_MS

    def record(self, events: Iterable[Event]) -> None:
        """Fold events in order; those without an event time happen now."""
        stamped: list[Event] = []
        for event in events:
            self.now_ms += 1_000
            time_ms = self.now_ms if event.event_time_ms is None else event.event_time_ms
            stamped.append(event._replace(event_time_ms=time_ms, log_time_ms=self.now_ms))
        if stamped:
            self.fold.apply(LogPosition(self.fold.log_position), build(stamped))

    def act(self, action: str, user_id: str, *item_ids: str, session_id: str = "") -> None:
        """Fold interactions of a user, one an item."""
        self.record(
            Event(Kind.INTERACTION, action=action, user_id=user_id, item_id=item_id, session_id=session_id)
            for item_id in item_ids
        )

    def act_in(self, context: bytes, action: str, user_id: str, *item_ids: str) -> None:
        """Fold interactions of a user that bring a context, as JSON, along."""
        self.record(
            Event(Kind.INTERACTION, action=action, user_id=user_id, item_id=item_id, body=context)
            for item_id in item_ids
        )

    def set_user(self, user_id: str, **attributes: object) -> None:
        """Fold a user's profile."""
        self.record((Event(Kind.USER, Operation.PUT, user_id=user_id, body=msgspec.json.encode(attributes)),))

    def see(self, user_id: str, *item_ids: str) -> None:
        """Fold impressions of a user, one an item."""
        self.record(Event(Kind.IMPRESSION, user_id=user_id, item_id=item_id) for item_id in item_ids)

    def put(self, item_id: str, **attributes: object) -> None:
        """Fold a catalogue entry."""
        body = msgspec.json.encode(attributes)
        self.record((Event(Kind.ITEM, Operation.PUT, item_id=item_id, body=body),))

    def delete(self, item_id: str) -> None:
        """Fold the end of a catalogue entry."""
        self.record((Event(Kind.ITEM, Operation.DELETE, item_id=item_id),))

    def wait(self, ms: int) -> None:
        """Let time pass without an event."""
        self.now_ms += ms

    def query(self, query: Query | None = None) -> Query:
        """Return a query, one without anybody unless given, at the time of now."""
        asked = query or Query("r-1", "default", None, None, 5, TimestampMs(0), 7)
        return replace(asked, now_ms=TimestampMs(self.now_ms))

    def moment(self, query: Query | None = None) -> Moment:
        """Return the state at rest for a query."""
        return self.fold.moment(self.query(query), Models({}))

    def ids(self, moment_items: Iterable[int]) -> list[str]:
        """Return the ids of items."""
        return [self.fold.vocabulary.item_id(index) for index in moment_items]
