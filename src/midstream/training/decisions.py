"""Decisions on candidates as documents of the log: who decided what of which version, by which figures, and why.

A document is the state of one model's trainings after its last change, and its versions are the history. The names of
such documents begin with a mark that no placement has, as those of experiments do, so that no other table is needed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace as changed
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from midstream.state.control.placements import PlacementVersion
from midstream.training.gates.results import GateResult
from midstream.training.schedule import CALIBRATION, TrainingRule, TrainingStanding, is_whole

PREFIX = "@training/"
"""Before the name of a model, in the table of control documents."""
Action: TypeAlias = Literal[
    "begun",
    "failed",
    "refused",
    "shadow",
    "passed",
    "canary",
    "waiting",
    "promoted",
    "kept",
    "stopped",
    "rolled_back",
    "superseded",
]
"""``begun``: a training or its judging runs. ``failed``: it ended without a version, or without its figures.
``refused``: a gate held the candidate back. ``shadow``: it waits for requests that can be run again with it.
``passed``: it is about to be tried. ``canary``: some users get it. ``waiting``: a person is to promote it.
``promoted``: it answers, and some users still get the one before. ``kept``: it answers all. ``stopped``: a guardrail,
or too few users, ended the canary. ``rolled_back``: a guardrail ended its service. ``superseded``: a person put another
version in service meanwhile."""
BUSY: tuple[Action, ...] = ("begun", "shadow", "passed", "canary", "promoted")
"""After these the loop goes on with the candidate before it trains another."""
ENDS: tuple[Action, ...] = ("failed", "refused", "passed")
"""By one of these a training ends; the others say what becomes of its candidate."""


DAY_MS = 86_400_000


class TrainingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision."""

    model: str
    action: Action
    because: str = ""
    """Why it was trained: ``time``, ``events``, ``drift``, ``calibration``, ``again`` after a failure, or ``order`` of
    a person."""
    candidate: str = ""
    """Version, also one that was published and then not measured; empty = none was published."""
    champion: str = ""
    """Version in service when the training began; empty = none."""
    start: str = ""
    """Version that the fit went on from, a warm start; empty = a whole fit."""
    whole_ms: int = 0
    """Clock when the last whole fit began that published a version; 0 = none is known, or none since an alarm."""
    since_ms: int = 0
    """Log time of the last alarm of the calibration: whole fits learn what came since, once it is enough; 0 = none."""
    alarm: str = ""
    """Version that predicted other acts, or was in service when it was trained for; empty = none."""
    alarm_waits: bool = False
    """No training has published a version since that alarm."""
    position: int = 0
    """Log position when the training began."""
    began_ms: int = 0
    """Clock at that moment."""
    at_ms: int = 0
    """Clock of this decision."""
    gates: tuple[GateResult, ...] = ()
    worse_max: float | None = None
    """Relative loss that the offline gate tolerated; None = nothing was judged."""
    experiment: str = ""
    """Of the canary, or of those who still get the version before; empty = there is none."""
    was_behind: bool = False
    """The canary had it behind by its estimate at the end of its least time: it is decided at the end of the second."""
    reason: str = ""
    """In words, with its figures."""
    failures: int = 0
    """One after another."""
    learned_position: int = 0
    """Log position at which the last training that published a version began."""


def encode_decision(decision: TrainingDecision) -> str:
    """Return a decision as it stands in a document."""
    return msgspec.json.encode(decision).decode()


def decision_of(row: PlacementVersion) -> TrainingDecision | None:
    """Return the decision of a document; None = it is none, or none that this release can read."""
    if not row.name.startswith(PREFIX) or not row.content:
        return None
    try:
        return msgspec.json.decode(row.content, type=TrainingDecision)
    except msgspec.DecodeError:
        return None


def decisions_in(rows: Iterable[PlacementVersion]) -> Sequence[TrainingDecision]:
    """Return the decisions among documents, as they come."""
    return [each for row in rows if (each := decision_of(row)) is not None]


class Cause(NamedTuple):
    """Cause of a training."""

    because: str
    """As ``TrainingDecision.because``."""
    alarm_ms: int = 0
    """Log time since when acts are others than the version in service predicts; 0 = they are not."""


def alarmed(last: TrainingDecision, champion: str, alarm_ms: int) -> TrainingDecision:
    """Return a decision with an alarm of the calibration, unless it has this one, or one that still waits.

    While people act otherwise the beginning of what is new moves on with the slates that are looked at, which are those
    of a day: so what begins within a day of an alarm of the same version is that alarm.

    Args:
        last: The last decision on the model.
        champion: Version in service.
        alarm_ms: Log time since when acts are others than it predicts; 0 = they are not.
    """
    is_known = last.alarm_waits or (last.alarm == champion and alarm_ms < last.since_ms + DAY_MS)
    if not alarm_ms or is_known:
        return last
    return replace(last, alarm=champion, alarm_waits=True, since_ms=alarm_ms, whole_ms=0)


def begun_after(
    last: TrainingDecision | None, rule: TrainingRule, cause: Cause, champion: str, now_ms: int
) -> TrainingDecision:
    """Return the decision by which a training begins: a whole fit, or a warm start; model and position are to be set.

    With an alarm of the calibration the window begins anew: whole fits learn what came since. Since there is little of
    it at first a warm start bridges the time until the next training, where the rule has warm starts.

    Args:
        last: The last decision on the model; None = there is none.
        rule: Of its trainings.
        cause: Of this one.
        champion: Version in service; empty = none.
        now_ms: Clock.
    """
    before = TrainingDecision(model="", action="begun") if last is None else last
    if rule.on_calibration:
        before = alarmed(before, champion, cause.alarm_ms)
    else:
        before = replace(before, alarm="", alarm_waits=False, since_ms=0)
    whole_ms = 0 if cause.because == CALIBRATION else before.whole_ms
    standing = changed(standing_of(last), whole_ms=whole_ms or None)
    is_warm = (before.alarm_waits and rule.is_warm) or not is_whole(rule, standing, now_ms)
    return TrainingDecision(
        model="",
        action="begun",
        because=cause.because,
        champion=champion,
        start=champion if is_warm else "",
        whole_ms=whole_ms,
        since_ms=before.since_ms,
        alarm=champion if before.alarm_waits else before.alarm,
        alarm_waits=before.alarm_waits,
        began_ms=now_ms,
        at_ms=now_ms,
        failures=before.failures,
        learned_position=before.learned_position,
    )


def standing_of(last: TrainingDecision | None) -> TrainingStanding:
    """Return what the last decision says to the schedule."""
    if last is None:
        return TrainingStanding()
    # A training that is begun and of which nothing was heard ended with its server: it counts as a failure.
    whole_ms = last.whole_ms or None
    return TrainingStanding(last.at_ms, last.learned_position, last.failures, last.action in BUSY, whole_ms)
