"""Health of an engine: its abilities now, and concerns for an operator."""

from collections.abc import Mapping
from dataclasses import dataclass

from midstream.core.errors import AppendFailed
from midstream.engine.listeners import Listeners
from midstream.engine.live import LiveState
from midstream.engine.types import Health

AHEAD_MS_MAX = 300_000
"""Log time this far ahead of the clock is an operator's concern: the clock stood wrong, then or now."""


@dataclass(frozen=True, slots=True)
class IngestView:
    """How the way of events into the state is."""

    failure: BaseException | None = None
    """Error that ended the folding for good, None = healthy."""
    refusal: AppendFailed | None = None
    """Why the log took no event, None as it should be."""
    queued_events: int = 0
    """Events that wait for the log."""


def health_of(live: LiveState, listeners: Listeners, concerns: Mapping[str, str], ingest: IngestView) -> Health:
    """Return the abilities of an engine now, and the reasons for restrictions; changes nothing.

    Args:
        live: State and plans in service.
        listeners: Have the states of followers and of inputs.
        concerns: From ``concerns_of``.
        ingest: State of the ingest path.
    """
    reason = ""
    if ingest.failure is not None:
        reason = f"folding ended: {type(ingest.failure).__name__}: {ingest.failure}"
    elif ingest.refusal is not None:
        reason = str(ingest.refusal)
    waits = listeners.waits()
    return Health(
        ready=ingest.failure is None and not waits,
        accepts_events=not reason,
        reason="; ".join([*([reason] if reason else []), *waits, *concerns.values()]),
        log_position=live.log.end,
        applied_log_position=live.fold.log_position,
        queued_events=ingest.queued_events,
        followers=listeners.followers(),
        parts=live.guards.views(),
        inputs=listeners.inputs(),
    )


def concerns_of(live: LiveState, listeners: Listeners, concerns: Mapping[str, str]) -> Mapping[str, str]:
    """Return recorded concerns, and those found now: by listeners and of the clock."""
    ahead = clock_concern(live.log.last_log_time_ms - live.clock())
    return {**concerns, **listeners.concerns(), **({"clock": ahead} if ahead else {})}


def clock_concern(ahead_ms: int) -> str:
    """Return the effect of a clock that was wrong; empty where log time is not far ahead of it.

    Log time never goes back, so only the clock can catch up.
    """
    if ahead_ms <= AHEAD_MS_MAX:
        return ""
    return (
        f"log time is {ahead_ms / 1_000:.0f} s ahead of the clock, which stood wrong at the last events or does now. "
        "Events that bring their own time count as late by as much; midstream docs data says what to do"
    )
