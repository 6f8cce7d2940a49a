"""Plan of a placement: an immutable value. A change makes a new plan and swaps one reference."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from midstream.core.protocols import Feature, Filter, Scorer, Selector, Source
from midstream.core.traits import BOUNDED, PROPOSES, Traits, traits_of
from midstream.core.types import Candidates, Failure, Index, Mask, Models, Moment, Proposal, Score
from midstream.features.declarations import NONE, Declarations
from midstream.features.declared import DeclaredFeatures
from midstream.features.degraded_block import less
from midstream.features.kinds.kinds import columns_of
from midstream.models.pins import chosen
from midstream.ranking.fetched_columns import DeclaredFetch
from midstream.ranking.filters.expression_filter import ReadsContext
from midstream.ranking.reason_texts import NO_REASONS, Reasons
from midstream.ranking.rules.arrangement import ARRANGEMENT, Arrangement
from midstream.ranking.rules.pin import PINS, Pins
from midstream.retrieval.approximate import ApproximateProposal
from midstream.retrieval.evidence import NOTHING, Evidence, SaysWhy
from midstream.retrieval.nearest import Nearest

SELECTOR = "selector"
"""Name of a failed selector in answers and served records; the Protocol gives it none of its own."""

FETCHES = "fetches"
"""Failure name where a filter left a slate short, and more items than were asked about are in the catalogue."""
FEATURES = "features"
"""Name of the failed block of declared features; a block of another kind has its number behind it. A feature that
failed alone has its own name behind that: ``features.quality``."""

SIMILAR = "similar"
"""Placement of item-to-item requests; it exists whether it is configured or not."""
SEARCH = "search"
"""Placement of full-text searches; it exists where attributes are searched."""


CANDIDATES_MAX = 500
"""Candidates that go on to features and scorers, by default and at most: 40 columns and 300 trees of so many rows take
0.5 ms, a hundredth of the default deadline."""

SOURCES_MAX = 8
"""Sources of a placement, with popular: each adds about 30 µs, and a bit to the record of each item."""
FILTERS_MAX = 8
"""Custom filters of a placement."""
SCORERS_MAX = 8
"""Scorers of a placement, without the blend: each that fails takes its time from the deadline."""
FETCHES_MAX = 8
"""Fetches of a plan: those of the user are called at once, then those of items."""
FLOOR_MAX = 2
"""Popular and editorial."""
BUILT_IN_FILTERS_MAX = 7
"""Availability, excluded, repeats, acts, served, the placement's condition and the request's."""

MODELS_MAX = 8
"""Models that the components of one plan read: each answer and each served record has their versions, 40 bytes each."""


@runtime_checkable
class ReadsModels(Protocol):
    """Protocol of components that read models: they name them, so that answers can name their versions.

    A component that reads a model without naming it gets no model.
    """

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the models that it reads."""
        ...


@dataclass(frozen=True, slots=True)
class Closed:
    """Replacement of a failed filter (fail closed): no candidate passes."""

    traits: ClassVar[Traits] = BOUNDED
    name: str

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return False for each candidate."""
        return candidates.item_index < 0


@dataclass(frozen=True, slots=True)
class Nothing:
    """Replacement of a failed catalogue: no item fills the slate."""

    traits: ClassVar[Traits] = BOUNDED
    name: str

    def retrieve(self, moment: Moment) -> Proposal:
        """Return no item."""
        return Proposal(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSource:
    """Replacement of a source in a rerun: it proposes what the record has of it."""

    traits: ClassVar[Traits] = PROPOSES
    source: Source
    proposal: Proposal

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    def retrieve(self, moment: Moment) -> Proposal:
        """Return what was proposed then."""
        return ApproximateProposal(self.proposal.item_index.copy(), self.proposal.score.copy())

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the evidence of the source itself."""
        source = self.source
        return source.why(moment, item_index) if isinstance(source, SaysWhy) else (NOTHING,) * len(item_index)


@dataclass(frozen=True, slots=True)
class Unread:
    """Replacement of a failed block of features: its columns are NaN."""

    names: tuple[str, ...]

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        """Return NaN for each candidate and column."""
        return np.full((len(candidates), len(self.names)), np.nan, dtype=np.float32)


def block_name(number: int) -> str:
    """Return the name of a block of features, in answers and served records, by its place in the plan."""
    return f"{FEATURES}_{number}" if number else FEATURES


def feature_name(block: str, feature: str) -> str:
    """Return the name of a feature of a block, in answers and served records."""
    return f"{block}.{feature}"


def owners(declared: Declarations) -> dict[str, str]:
    """Return the name of the feature of each column, by the name of the column."""
    return {column: name for name, columns in columns_of(declared.features).items() for column in columns}


def lost_columns(
    components: Collection[str], columns: Collection[str], declared: Declarations, block: str = FEATURES
) -> frozenset[str]:
    """Return the columns of a block that are NaN because their features failed.

    Args:
        components: Names of the failed components.
        columns: All columns of the block; a column of no declared feature is its own feature.
        declared: Every declared feature.
        block: The block's name.
    """
    if not any(each.startswith(f"{block}.") for each in components):
        return frozenset()
    owner = owners(declared)
    return frozenset(each for each in columns if feature_name(block, owner.get(each, each)) in components)


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a request in the order in which they run."""

    name: str
    """The placement's."""
    config_hash: str
    fetches: tuple[DeclaredFetch, ...]
    sources: tuple[Source, ...]
    floor: tuple[Source, ...]
    """Popular, editorial: run in every request, so the last resort is always warm and always tested."""
    fill: Source
    """Every item that may be requested, the best guess first; read when the filters leave less than a slate."""
    filters: tuple[Filter, ...]
    features: tuple[Feature, ...]
    scorers: tuple[Scorer, ...]
    """A ladder, best first. The last one blends the sources' own ranks: arithmetic, cannot fail."""
    selectors: tuple[Selector, ...]
    """A ladder, best first; the last one takes the highest scores."""
    models: Models
    arrangement: Arrangement | None = None
    """Slate rules; None = the selector fills each position by itself."""
    pins: Pins | None = None
    """Items that have positions; they are read with the sources, and ``arrangement`` puts them there."""
    slate_size: int = 20
    """Of a request without a size."""
    slate_size_max: int = 100
    deadline_ms: int = 50
    candidates_max: int = CANDIDATES_MAX
    """Number of candidates that are scored: the best by the blend of those that pass the filters."""
    fold_version: str = ""
    """Of the state that it reads."""
    log_features: float = 0.0
    """Share of requests whose features are kept in the served record, 0 to 1."""
    own: frozenset[str] = frozenset()
    """Names of the custom components: they are tested before a placement is set, whatever they declare."""
    model_names: tuple[str, ...] = ()
    """Models that its parts read; ``models`` has those of them that are loaded."""
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])
    """Version of each model that it reads in place of the champion, by name."""
    reasons: Reasons = NO_REASONS
    """Texts of reasons for visitors."""
    declared: Declarations = NONE
    """Every declared feature of the configuration, of which ``features`` reads some; the same in all of its plans."""
    after_fetch: frozenset[str] = frozenset()
    """Names of the filters that read, or may read, columns that are fetched of items."""
    reads_served: bool = False
    """A component reads served slates: an answer waits for the records of earlier answers to the same user or
    session."""
    remote: Mapping[str, float] = field(default_factory=dict[str, float])
    """Scorers that ask a server, by name, and for how many seconds at most. What they said is in the served record."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of all components that a failure may have, in the order in which they run."""
        sources = (source.name for source in (*self.sources, *self.floor, self.fill))
        filters = (rule.name for rule in self.filters)
        scorers = (scorer.name for scorer in self.scorers)
        blocks = map(block_name, range(len(self.features)))
        pins = () if self.pins is None else (PINS,)
        rules = () if self.arrangement is None else (ARRANGEMENT,)
        return (*(each.name for each in self.fetches), *sources, *pins, *filters, *blocks, *rules, *scorers, SELECTOR)

    @property
    def bounded(self) -> frozenset[str]:
        """Names of the components that are bounded by work and never wait: all but custom ones."""
        sources = (*self.sources, *self.floor, self.fill)
        parts: tuple[Source | Filter | Scorer, ...] = (*sources, *self.filters, *self.scorers)
        unbounded = {part.name for part in parts if not traits_of(part).bounded} | {each.name for each in self.fetches}
        if not traits_of(self.selectors[0]).bounded:
            unbounded.add(SELECTOR)
        return frozenset(self.part_names) - unbounded

    @property
    def context_readers(self) -> tuple[ReadsContext, ...]:
        """Sources that read the request's context, and the conditions of the rules of the slate."""
        rulings = () if self.arrangement is None else self.arrangement.rules
        conditions = (each for ruling in rulings for each in (ruling.when, ruling.where) if each is not None)
        return (*(each for each in self.sources if isinstance(each, Nearest)), *conditions)

    def serving(self, models: Models) -> "Plan":
        """Return the plan with those of some models that it reads; itself where it reads none."""
        if not self.model_names and not self.models.by_name:
            return self
        return replace(self, models=chosen(models, self.model_names, self.pinned))

    def recorded(self, proposals: Mapping[str, Proposal]) -> "Plan":
        """Return the plan whose sources of these names propose what was recorded; itself where there are none."""
        if not proposals:
            return self
        sources = (
            RecordedSource(each, proposals[each.name]) if each.name in proposals else each for each in self.sources
        )
        return replace(self, sources=tuple(sources))

    def less(self, failures: Sequence[Failure]) -> "Plan":
        """Return the plan without the parts that failures name; itself where there are none."""
        return self.without(frozenset(failure.component for failure in failures)) if failures else self

    def without(self, names: frozenset[str]) -> "Plan":
        """Return the plan without failed components: with it and the same state, a rerun gives the same slate.

        A failed filter is replaced by one that lets nothing pass, a catalogue by an empty one, and a block of features,
        or a feature that failed alone, by NaN.
        """
        return replace(
            self,
            fetches=tuple(each for each in self.fetches if each.name not in names),
            sources=tuple(source for source in self.sources if source.name not in names),
            floor=tuple(source for source in self.floor if source.name not in names),
            fill=Nothing(self.fill.name) if self.fill.name in names else self.fill,
            filters=tuple(Closed(rule.name) if rule.name in names else rule for rule in self.filters),
            features=tuple(
                _known(block, block_name(number), names, self.declared) for number, block in enumerate(self.features)
            ),
            scorers=tuple(scorer for scorer in self.scorers if scorer.name not in names),
            selectors=self.selectors[-1:] if SELECTOR in names else self.selectors,
            arrangement=None if ARRANGEMENT in names else self.arrangement,
            pins=None if PINS in names else self.pins,
        )


def _known(block: Feature, name: str, failed: frozenset[str], declared: Declarations) -> Feature:
    """Return a block without its failed features."""
    if name in failed:
        return Unread(block.names)
    lost = lost_columns(failed, block.names, declared, name)
    return less(block, lost) if lost and isinstance(block, DeclaredFeatures) else block


def tier_of(plan: Plan, retrieved: Mapping[str, int], failures: Sequence[Failure]) -> str:
    """Return ``full``, ``reduced`` (something failed), or ``floor`` (and because of it only the floor proposed)."""
    if not failures:
        return "full"
    floor = {plan.fill.name, *(source.name for source in plan.floor), *(plan.pins.names if plan.pins else ())}
    sources = {source.name for source in plan.sources}
    failed_source = any(each.component in sources for each in failures)
    proposed = any(count for name, count in retrieved.items() if name not in floor)
    return "floor" if failed_source and not proposed else "reduced"
