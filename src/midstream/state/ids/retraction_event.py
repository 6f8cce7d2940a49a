"""Event that takes an act back: its owner, session and item, and in its body the place of the act in the log.

It has neither an event id nor a time, so it is never a copy of another one: that an act was taken back before is known
by its log position.
"""

from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event
from midstream.state.control.retractions import RetractedAct, retraction_body
from midstream.state.ids.id_indexing import AHEAD_MS_MAX

ACTS = frozenset((int(Kind.INTERACTION), int(Kind.IMPRESSION)))
"""Kinds of what can be taken back."""


def retraction_of(position: LogPosition, act: Event) -> Event:
    """Return the event that takes back an act, which stands at a log position."""
    is_impression = act.kind == Kind.IMPRESSION
    told = RetractedAct(
        int(position),
        act.log_time_ms,
        folded_time_ms(act),
        IMPRESSION if is_impression else act.action,
        act.event_id,
    )
    return Event(
        Kind.RETRACTION,
        user_id=act.user_id,
        item_id=act.item_id,
        session_id=act.session_id,
        body=retraction_body(told),
    )


def folded_time_ms(event: Event) -> int:
    """Return the event time that the fold goes by: log time where none was sent, or one too far ahead of it."""
    time_ms = event.event_time_ms
    return event.log_time_ms if time_ms is None or time_ms > event.log_time_ms + AHEAD_MS_MAX else time_ms
