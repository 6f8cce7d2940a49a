"""Making of candidates, and their trial with users, as the loop asks for both; ``app`` brings what does it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from midstream.core.errors import FitStopped, MidstreamError
from midstream.engine.engine import Engine
from midstream.engine.models.champions import Champions
from midstream.training.decisions import TrainingDecision
from midstream.training.gates.evidence import GateEvidence, MeasuredVersion, ShadowAnswers
from midstream.training.gates.probes import COVERED
from midstream.training.options import TrainingTable
from midstream.training.schedule import PSI_MAX


@dataclass(frozen=True, slots=True)
class CandidateOrder:
    """A training with all that is measured of what it makes."""

    table: TrainingTable
    champion: str
    """Version in service; empty = none."""
    popular: tuple[str, ...]
    """Most popular items now."""
    now_ms: int
    start: str = ""
    """Version that the fit goes on from; empty = a whole fit."""
    since_ms: int = 0
    """Log time of an alarm, before which a whole fit of a ranker learns nothing once enough came since; 0 = none."""


def candidate_order(
    engine: Engine, table: TrainingTable, begun: TrainingDecision, *, with_popular: bool = True
) -> CandidateOrder:
    """Return the order of a training by what is known now.

    Args:
        engine: Has the log, whose time is ahead of a clock that was set back, and counts items.
        table: Of the model.
        begun: Decision that it begins, or that its candidate waits for requests.
        with_popular: Whether gates read the most popular items.
    """
    fold = engine.fold
    popular: tuple[str, ...] = ()
    if with_popular:
        half_life_ms = max(each.ms for each in fold.settings.half_lives)
        found, _ = fold.items.hottest(half_life_ms, COVERED)
        popular = tuple(fold.vocabulary.item_id(index) for index in found.tolist())
    now_ms = max(engine.clock(), fold.log_time_ms)
    return CandidateOrder(table, begun.champion, popular, now_ms, begun.start, begun.since_ms)


def has_drifted(engine: Engine) -> bool:
    """Return whether a feature that placements read is far from its baseline. Cost: 2 ms a column, seldom."""
    values = engine.live.feature_values
    found = (values.drift(name) for name in values.names)
    return any(each is not None and each.psi > PSI_MAX for each in found)


@dataclass(frozen=True, slots=True)
class MadeCandidate:
    """A version that was published, measured beside the version in service."""

    measured: MeasuredVersion
    champion: MeasuredVersion | None
    evidence: GateEvidence


class NotMeasured(FitStopped):
    """A version was published, and what gates judge it by could not be measured."""

    def __init__(self, message: str, candidate: str) -> None:
        """Keep which version."""
        super().__init__(message)
        self.candidate = candidate


class NotInCharge(MidstreamError):
    """Another node has the lease of trainings now; within the loop."""


class CandidateMaker(Protocol):
    """Trains and measures, away from what serves."""

    async def make(self, order: CandidateOrder) -> MadeCandidate:
        """Return a new version of a model and what it was seen to do.

        Raises:
            NotMeasured: There is one, of which too little is known.
            MidstreamError: There is none; the text says why.
            OSError: The disk.
        """
        ...

    async def shadow(self, order: CandidateOrder, candidate: str) -> ShadowAnswers:
        """Return how a version that was published answers the newest requests beside the champion.

        Raises:
            MidstreamError: None was run again; the text says why.
            OSError: The disk.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrialOrder:
    """An experiment of two versions of a model."""

    name: str
    placement: str
    model: str
    control: str
    """Version that a guardrail compares with: the one that was in service before; empty = answers without the model."""
    candidate: str
    share: float
    """Of the users of the placement, half of them with each."""
    harm_max: float = 0.1
    """Relative harm that guardrails on acts tolerate."""


@dataclass(frozen=True, slots=True)
class TrialStanding:
    """How an experiment of two versions is."""

    state: Literal["running", "suspended", "stopped"]
    by_watch: bool
    """Whether a guardrail stopped it."""
    reason: str
    is_valid: bool
    """False = the sample ratio is wrong, so nothing may be claimed."""
    units: tuple[int, ...]
    """Of each version."""
    text: str = ""
    """What was seen so far, in words."""
    harm: float | None = None
    """Estimated loss of users with acts of the least weight, above 0 = worse; None = it cannot be estimated."""
    seen_position: int = 0
    """Log position up to which all this is known; 0 = nothing was looked at by this process."""


class VersionTrials(Protocol):
    """Experiments of two versions, on the event loop."""

    async def start(self, order: TrialOrder) -> None:
        """Start one; it is in force when this returns.

        Raises:
            ConfigInvalid: It cannot run: no share is free, or the placement cannot be under an experiment.
            MidstreamError: Not now.
        """
        ...

    def standing(self, name: str) -> TrialStanding:
        """Return how one is.

        Raises:
            NotFound: There is none of that name.
        """
        ...

    def is_running(self, order: TrialOrder) -> bool:
        """Return whether an experiment of this name, placement and versions runs: the name alone may be another's."""
        ...

    async def stop(self, name: str, reason: str) -> None:
        """Stop one; one that was stopped stays as it is."""
        ...


def never_miscalibrated(_model: str, _version: str) -> int:
    """Return that nothing is known of the calibration of any version."""
    return 0


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What the loop works with."""

    engine: Engine
    champions: Champions
    maker: CandidateMaker
    trials: VersionTrials
    tables: Callable[[], Sequence[TrainingTable]]
    """Those of the configuration in service."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a model is trained, measured or run beside requests; several engines of one process share it."""
    miscalibrated_since: Callable[[str, str], int] = never_miscalibrated
    """Log time since when acts are others than a version of a model predicts; 0 = they are not."""
