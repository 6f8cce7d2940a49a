"""Live state of an engine: log, state, plans and models in service, with the clocks and ids of its host.

It is all that an answer reads. Answers, pages, gauges and health take it instead of the engine, which swaps its values
between two turns. One thread owns it, and a state and its plans change together: code that reads both without an
``await`` between reads a pair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from midstream.core.errors import NotFound
from midstream.core.protocols import EventLog
from midstream.core.types import Clock, LogPosition, Models, TimestampMs
from midstream.engine.circuit_breaker import CircuitBreaker
from midstream.engine.ingest.event_writer import EventWriter
from midstream.engine.ingest.fold_scheduler import FoldShare
from midstream.engine.ingest.writer import LogWriter
from midstream.engine.tokens import RequestIds, position_token
from midstream.engine.types import ANY_PLACEMENT
from midstream.experiments.routing import Routing
from midstream.monitoring.feature_values import FeatureValues
from midstream.monitoring.metrics import Metrics
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold

AHEAD_EVENTS_MAX = 10_000_000
"""Events that another node of a shared log may have and this one has not: ten seconds of the fastest topic, and what a
node that is being brought up lacks. A token beyond is a mistake."""


@dataclass(frozen=True, slots=True)
class Host:
    """Inputs from outside, so that the engine can be simulated and rerun: time and randomness."""

    clock: Clock
    """Wall clock, milliseconds."""
    monotonic: Callable[[], float]
    """Seconds that never go back."""
    request_ids: RequestIds
    """Makes and verifies request ids; makes seeds."""
    writer: Callable[..., EventWriter] = LogWriter
    """Makes the writer of the log: a thread, or in a simulation turns of the loop."""
    worked_s: Callable[[], float] | None = None
    """Seconds that the processor worked for this thread; None = as long as time went by."""
    token_generation: int | None = None
    """Generation in tokens of a log that several nodes share; None = the log is this one's own, and has its own."""
    fold_share: FoldShare | None = None
    """Shared by the engines of one event loop; None = its own."""


@dataclass(slots=True, eq=False)
class LiveState:
    """State, plans and models in service, with metrics and circuit breaker."""

    log: EventLog
    fold: Fold
    """The state. Read it only between awaits, and keep no reference to it: it may be swapped."""
    plans: Mapping[str, Plan]
    """Plan of each placement, by name."""
    host: Host
    metrics: Metrics
    guards: CircuitBreaker
    """Which parts of plans are left out for a while."""
    feature_values: FeatureValues
    """Feature values of newly served items."""
    models: Models = field(default_factory=lambda: Models({}))
    """The models in service; each plan has those that it reads."""
    fetched: FetchCache = field(default_factory=FetchCache)
    """Columns of outside systems."""
    routing: Routing = field(init=False)
    """Which requests experiments and the holdout answer; replaced with the plans."""

    def __post_init__(self) -> None:
        """Read the experiments of the state."""
        self._route()

    def swap(self, fold: Fold, plans: Mapping[str, Plan]) -> None:
        """Put another state and its plans in service, as ``Engine.swap`` does.

        Raises:
            ValueError: The state's position is not that of the one in service.
        """
        if fold.log_position != self.fold.log_position:
            message = f"a state at {fold.log_position} came, the one in service stands at {self.fold.log_position}"
            raise ValueError(message)
        fold_before, plans_before = self.fold, self.plans
        self.fold, self.plans = fold, {name: plan.serving(self.models) for name, plan in plans.items()}
        if fold is fold_before:
            self.guards.swapped(plans_before.values(), self.plans.values())
        else:
            self.guards.forget()
        self.feature_values.clear()
        self._route()

    def _route(self) -> None:
        self.routing = Routing.of(self.fold.placements, self.fold.vocabulary, self.plans)

    def plan_for(self, placement: str, user_id: str | None, session_id: str | None, *, may_draft: bool = True) -> Plan:
        """Return the plan that answers a request: the placement's, or that of a variant, of drafts or of the holdout.

        Args:
            placement: That the request names.
            user_id: Of the request.
            session_id: Of the request.
            may_draft: Several plans may answer it together; else the placement does.

        Raises:
            NotFound: There is no such placement, or it is a variant, which no request names.
        """
        routing = self.routing
        if routing.routes.has(placement):
            found = routing.placement(placement, user_id, session_id, self.host.clock())
            return self.plan(found if may_draft or not routing.teams(found) else placement)
        if placement in routing.variants:
            message = f"placement {placement!r} is a variant: requests name the placement, and are assigned"
            raise NotFound(message)
        return self.plan(placement)

    def teams(self, plan: Plan) -> tuple[Plan, ...]:
        """Return the plans that draft the slates of one, the control's first; empty = it answers by itself."""
        names = self.routing.teams(plan.name)
        return tuple(self.plans[name] for name in names) if names else ()

    def plan(self, placement: str) -> Plan:
        """Return the plan of a placement.

        Raises:
            NotFound: There is no such placement.
        """
        found = self.plans.get(placement) or self.plans.get(ANY_PLACEMENT)
        if found is None:
            message = f"placement {placement!r} is not configured; there are {', '.join(sorted(self.plans))}"
            raise NotFound(message)
        return found

    def clock(self) -> TimestampMs:
        """Return the wall clock in milliseconds."""
        return self.host.clock()

    def token(self, position: LogPosition) -> str:
        """Return the opaque text of a log position."""
        shared = self.host.token_generation
        return position_token(self.log.generation if shared is None else shared, position)

    @property
    def token_generation(self) -> int:
        """Generation in tokens: of a shared log equal on every node, and through rewrites of a node's copy."""
        shared = self.host.token_generation
        return self.log.generation if shared is None else shared

    @property
    def token_end(self) -> LogPosition:
        """Log position beyond which no token was given out; of a shared log another node may be ahead of this one."""
        is_shared = self.host.token_generation is not None
        return LogPosition(self.log.end + AHEAD_EVENTS_MAX) if is_shared else self.log.end
