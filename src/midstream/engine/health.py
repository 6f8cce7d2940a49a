"""Health of an engine: what it can do now, and what an operator should look at."""

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
    """What ended the folding for good, None as it should be."""
    refusal: AppendFailed | None = None
    """Why the log took no event, None as it should be."""
    queued_events: int = 0
    """Events that wait for the log."""


def health_of(live: LiveState, listeners: Listeners, concerns: Mapping[str, str], ingest: IngestView) -> Health:
    """Return what an engine can do now, and why not more; nothing is changed by it.

    Args:
        live: What is in service.
        listeners: They say how followers are.
        concerns: What ``concerns_of`` returns.
        ingest: How the way of events into the state is.
    """
    reason = ""
    if ingest.failure is not None:
        reason = f"folding ended: {type(ingest.failure).__name__}: {ingest.failure}"
    elif ingest.refusal is not None:
        reason = str(ingest.refusal)
    return Health(
        ready=ingest.failure is None,
        accepts_events=not reason,
        reason="; ".join([*([reason] if reason else []), *concerns.values()]),
        log_position=live.log.end,
        applied_log_position=live.fold.log_position,
        queued_events=ingest.queued_events,
        followers=listeners.followers(),
        parts=live.guards.views(),
    )


def concerns_of(live: LiveState, listeners: Listeners, concerns: Mapping[str, str]) -> Mapping[str, str]:
    """Return the concerns that were named, and what is as it is seen now: by listeners and of the clock."""
    ahead = clock_concern(live.log.last_log_time_ms - live.clock())
    return {**concerns, **listeners.concerns(), **({"clock": ahead} if ahead else {})}


def clock_concern(ahead_ms: int) -> str:
    """Say what a clock that stood wrong does; empty where log time is not ahead of it by much.

    Log time never goes back, so only the clock can catch up.
    """
    if ahead_ms <= AHEAD_MS_MAX:
        return ""
    return (
        f"log time is {ahead_ms / 1_000:.0f} s ahead of the clock, which stood wrong at the last events or does now. "
        "Events that bring their own time count as late by as much; midstream docs data says what to do"
    )
