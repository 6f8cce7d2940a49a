"""Orders and views of experiments, for HTTP, Python and the command line alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from midstream.experiments.assignment import BUCKETS
from midstream.experiments.documents import Design, Experiment, Holdout, RampStep, StoppedBy
from midstream.experiments.harm import Harm
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.names import EXPERIMENT_PREFIX, HOLDOUT_NAME
from midstream.experiments.reallocation import Allocation, Reallocation
from midstream.experiments.routes import exposed_share_at, shares_at
from midstream.experiments.routing import experiments_in, holdout_in
from midstream.state.control.placements import PlacementVersion

STATES = Literal["running", "suspended", "stopped"]


class VariantOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One variant of an experiment that is to start."""

    name: str
    placement: Mapping[str, Any] | None = None
    """Its content, of the form of a table of ``[[placements]]``; None = another field says it."""
    change: Mapping[str, Any] | None = None
    """What differs from the experiment's placement as it is in force at the start, or from ``version``, as a JSON merge
    patch: tables are merged, null takes a setting away, all else replaces."""
    version: int | None = None
    """Version of the experiment's placement that was set; None with no content = the placement as it is in force."""
    models: Mapping[str, str] | None = None
    """Versions of models that it reads in place of the champions, beside what the other fields say; a version is named
    whole, by its number or by its first digits."""
    weight: float = 1.0
    """Share of the exposed units, in proportion to the other variants'."""


class RampOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a ramp."""

    exposed: float
    """Share of the experiment's units that get a variant, 0 to 1."""
    after_ms: int = 0
    """Time after the order; steps are in order."""


class RampOrders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps of a ramp from now on."""

    ramp: tuple[RampOrder, ...]


class StartOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An experiment that is to start."""

    placement: str
    variants: tuple[VariantOrder, ...]
    """The control first."""
    layer: str | None = None
    """None = that of the placement's running experiments, else one of the placement's own."""
    share: float = 1.0
    """Share of the layer that it takes: no other experiment of the layer has these units."""
    ramp: tuple[RampOrder, ...] = (RampOrder(1.0),)
    metrics: tuple[ExperimentMetric, ...] = ()
    """What it is judged by, one of them primary; none = the default ones."""
    auto_stop: bool = True
    """A broken guardrail stops it by itself, or takes its variant out where there are more."""
    allocation: Allocation = "fixed"
    """``thompson``: shares move once a day by the posterior of the primary rate, and there is no verdict."""
    design: Design = "split"
    """``interleave``: each slate is drafted of all variants."""


class VariantView(msgspec.Struct, frozen=True):
    """One variant."""

    name: str
    placement: str
    """Name of the placement that answers, as served records have it."""
    sha256: str
    """Of its content as canonical JSON."""
    weight: float
    """Share of the exposed units; 1 of each variant that drafts, as all have the same units."""
    share: float
    """Share of all units that it has now, the holdout left out."""
    slates: int
    """Slates that it served, or drafted with the others, as far as the state counts them."""
    removed: str = ""
    """Why it was taken out while the experiment goes on; empty = it was not."""


class ExperimentView(msgspec.Struct, frozen=True):
    """All that is known of one experiment."""

    name: str
    placement: str
    state: STATES
    """``suspended``: a variant does not hold beside the configuration file, so no unit is assigned."""
    layer: str
    buckets: list[int]
    """Range of the layer's 10,000 that it has: first, and the one behind the last."""
    exposed: float
    """Share of its units that get a variant now."""
    ramp: list[RampStep]
    variants: list[VariantView]
    """The control first."""
    began_ms: int
    ended_ms: int | None
    reason: str
    """Why it stopped."""
    author: str
    """Of the last change."""
    note: str
    version: int
    changed_ms: int
    """Log time."""
    log_position: str
    """Token of the position before its event."""
    metrics: list[ExperimentMetric] = []
    """What it is judged by; none = it is older than their declaration, and the default ones hold."""
    auto_stop: bool = True
    """A broken guardrail stops it by itself; never so of drafts and of shares that move, which have none."""
    stopped_by: StoppedBy = ""
    dropped: list[RampStep] = []
    """Of a ramp that was just ordered: steps of before that were not taken yet, and will not be."""
    harms: list[Harm] = []
    """Broken guardrails by which it was stopped, or variants were taken out."""
    allocation: Allocation = "fixed"
    moves: list[Reallocation] = []
    """Of shares, the newest last."""
    design: Design = "split"
    """``interleave``: each slate is drafted of all variants, and they have the same units and slates."""


class HoldoutView(msgspec.Struct, frozen=True):
    """The users who are in no experiment."""

    share: float
    """Of all users."""
    variants: list[VariantView]
    """For each placement that answers them as it was."""
    began_ms: int
    author: str
    note: str


class ExperimentList(msgspec.Struct, frozen=True):
    """All experiments that are kept, running ones first, and the holdout."""

    experiments: list[ExperimentView]
    holdout: HoldoutView | None


class KnownExperiments(msgspec.Struct, frozen=True):
    """Experiments of one state, as they are seen at one time."""

    rows: Sequence[PlacementVersion]
    """Newest version of each control document."""
    suspended: frozenset[str]
    slates: Mapping[str, int]
    """Slates of each placement."""
    token: Callable[[int], str]
    """Gives the text of a log position."""
    now_ms: int

    def listed(self) -> ExperimentList:
        """Return all of them."""
        found = [self._view(each) for each in experiments_in(self.rows)]
        found.sort(key=lambda each: (each.state == "stopped", -each.began_ms, each.name))
        return ExperimentList(found, self.holdout())

    def view(self, name: str) -> ExperimentView | None:
        """Return one experiment; None = there is none of that name."""
        return next((self._view(each) for each in experiments_in(self.rows) if each.name == name), None)

    def holdout(self) -> HoldoutView | None:
        """Return the holdout; None = no user is held out."""
        found = holdout_in(self.rows)
        if found is None:
            return None
        row = self._row(HOLDOUT_NAME)
        variants = self._variants(found, [found.share / BUCKETS] * len(found.variants))
        return HoldoutView(found.share / BUCKETS, variants, found.began_ms, row.author, row.note)

    def _view(self, told: Experiment) -> ExperimentView:
        row = self._row(f"{EXPERIMENT_PREFIX}{told.name}")
        is_running = told.state == "running"
        shares = shares_at(told, self.now_ms) if is_running else [0.0] * len(told.variants)
        return ExperimentView(
            name=told.name,
            placement=told.placement,
            state="suspended" if is_running and told.name in self.suspended else told.state,
            layer=told.layer,
            buckets=[told.first, told.end],
            exposed=exposed_share_at(told, self.now_ms) if is_running else 0.0,
            ramp=list(told.steps),
            variants=self._variants(told, shares),
            began_ms=told.began_ms,
            ended_ms=told.ended_ms,
            reason=told.reason,
            author=row.author,
            note=row.note,
            version=row.version,
            changed_ms=row.log_time_ms,
            log_position=self.token(row.position),
            metrics=list(told.metrics),
            auto_stop=told.auto_stop and (told.design, told.allocation) == ("split", "fixed"),
            stopped_by=told.stopped_by,
            harms=list(told.harms),
            allocation=told.allocation,
            moves=list(told.moves),
            design=told.design,
        )

    def _variants(self, told: Experiment | Holdout, shares: Iterable[float]) -> list[VariantView]:
        draft = told.draft if isinstance(told, Experiment) else None
        return [
            VariantView(
                each.name,
                each.placement,
                each.sha256,
                1.0 if draft else each.share / BUCKETS,
                share,
                self.slates.get((draft or each).placement, 0),
                each.removed,
            )
            for each, share in zip(told.variants, shares, strict=True)
        ]

    def _row(self, name: str) -> PlacementVersion:
        return next(each for each in self.rows if each.name == name)
