"""Decisions on candidates as documents of the log: who decided what of which version, by which figures, and why.

A document is the state of one model's trainings after its last change, and its versions are the history. The names of
such documents begin with a mark that no placement has, as those of experiments do, so that no other table is needed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import msgspec

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
    is_alarm = cause.because == CALIBRATION
    # One that was trained for already, by a candidate that was held back, is the same alarm.
    is_first = is_alarm and (last is None or (last.because, last.champion) != (CALIBRATION, champion))
    before = TrainingDecision(model="", action="begun") if last is None else last
    whole_ms = 0 if is_alarm else before.whole_ms
    standing = replace(standing_of(last), whole_ms=whole_ms or None)
    is_warm = (is_first and rule.is_warm) or not is_whole(rule, standing, now_ms)
    return TrainingDecision(
        model="",
        action="begun",
        because=cause.because,
        champion=champion,
        start=champion if is_warm else "",
        whole_ms=whole_ms,
        since_ms=cause.alarm_ms if is_first and cause.alarm_ms else before.since_ms,
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
