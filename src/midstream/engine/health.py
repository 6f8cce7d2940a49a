"""Health of an engine: what it can do now, and what an operator should look at."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from midstream.core.errors import AppendFailed
from midstream.engine.types import Health

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class Concern(NamedTuple):
    """What an operator should look at, as a watch sees it now."""

    name: str
    said: str
    """Empty = there is nothing to look at."""


AHEAD_MS_MAX = 300_000
"""Log time this far ahead of the clock is an operator's concern: the clock stood wrong, then or now."""


def health_of(
    engine: "Engine", failure: BaseException | None, refusal: AppendFailed | None, queued_events: int
) -> Health:
    """Return what an engine can do now, and why not more.

    Args:
        engine: Its watches are asked; nothing of it is changed.
        failure: What ended the folding for good, None as it should be.
        refusal: Why the log took no event, None as it should be.
        queued_events: Events that wait for the log.
    """
    reason = ""
    if failure is not None:
        reason = f"folding ended: {type(failure).__name__}: {failure}"
    elif refusal is not None:
        reason = str(refusal)
    return Health(
        ready=failure is None,
        accepts_events=not reason,
        reason="; ".join([*([reason] if reason else []), *concerns_of(engine).values()]),
        log_position=engine.log.end,
        applied_log_position=engine.fold.log_position,
        queued_events=queued_events,
        followers=engine.followers(),
        parts=engine.guards.views(),
    )


def concerns_of(engine: "Engine") -> Mapping[str, str]:
    """Return the concerns, and what is as it is seen now: by the watches and of the clock."""
    seen = [look() for look in engine.watches]
    seen.append(Concern("clock", clock_concern(engine.log.last_log_time_ms - engine.clock())))
    return {**engine.concerns, **{each.name: each.said for each in seen if each.said}}


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
