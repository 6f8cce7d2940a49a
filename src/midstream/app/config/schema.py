"""Schema of ``midstream.toml``: the sum of the components' own options. Every field has a default.

An empty file is a working engine with one placement ``default``. Reading a file is ``app.config.reader``; relations
between values are ``app.config.constraints``; the file with every default and what it means is ``app.config.template``.
"""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import msgspec

from midstream.core.durations import Duration, parse_duration_ms
from midstream.engine.snapshots.retention import Hourly
from midstream.events.segments.segments import SEGMENT_BYTES
from midstream.events.wire import AttributeKind
from midstream.features.kinds.kinds import AnyFeature, cells_of
from midstream.features.readers.external import Table
from midstream.ranking.filters.acted import ActedOptions
from midstream.ranking.filters.expression_filter import ExpressionOptions
from midstream.ranking.filters.repeats import Repeat, Repeats
from midstream.ranking.filters.served_lately import NAMES as SERVED_NAMES
from midstream.ranking.filters.served_lately import ServedOptions
from midstream.ranking.plan import CANDIDATES_MAX
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.rules import AnyRule
from midstream.ranking.scorers.blend import RANK_OFFSET
from midstream.ranking.scorers.model_scorer import ModelScorer
from midstream.ranking.scorers.objectives import Objectives
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.editorial import Editorial
from midstream.retrieval.item_model import AnyItemModelSource
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar import Similar
from midstream.retrieval.trending import Trending
from midstream.serving.options import ServerOptions
from midstream.state.settings import EventType, FoldSettings, StateLimits, UnknownItems
from midstream.training.registry import VERSION_BYTES_MAX, VERSIONS_KEPT


class Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="custom"):
    """A component of one's own: ``path = "components:Shelf"`` or a name, and the options that its type declares."""

    path: str = ""
    name: str = ""
    """Of ``[components]``, which has the path."""
    options: dict[str, Any] = {}


AnySource = (
    SessionKnn
    | Covisitation
    | Similar
    | Trending
    | Popular
    | RecentItems
    | RepeatItems
    | Editorial
    | AnyItemModelSource
    | Custom
)
AnyFilter = Repeats | ActedOptions | ServedOptions | ExpressionOptions | Custom
AnyScorer = ModelScorer | Objectives | Custom
AnySelector = TopK | PlackettLuce | EpsilonGreedy | Thompson | Custom


class EventsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[events]``."""

    types: dict[str, EventType] = msgspec.field(default_factory=lambda: dict(FoldSettings().types))


class ItemsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[items]``."""

    attributes: dict[str, AttributeKind] = {}
    unknown_items: UnknownItems = "accept"


class SessionsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[sessions]``."""

    gap: Duration = Duration("30m")


class PairsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[pairs]``."""

    half_life: Duration = Duration("30d")


class TrendingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[trending]``."""

    segment: str = ""
    half_life: tuple[Duration, ...] = ()


class FeedbackSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[feedback]``."""

    window: Duration = FoldSettings().outcome_window
    reward: dict[str, float] = {}


class UsersSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[users]``."""

    erase_days_max: int = 7


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``."""

    segment_bytes_max: int = SEGMENT_BYTES


class HistorySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[history]``."""

    hot: Duration = Duration("2d")
    keep: str = ""

    @property
    def keep_ms(self) -> int:
        """Log time for which events are kept; 0 = all."""
        return parse_duration_ms(self.keep) if self.keep else 0


class SnapshotsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[snapshots]``."""

    interval: Duration = Duration("10m")
    keep: int = 2
    mode: Literal["while_serving", "at_stop", "off"] = "while_serving"
    explain_days: int = 2
    explain_bytes_max: int = 10 << 30

    @property
    def hourly(self) -> Hourly:
        """Which snapshots stay for explanations."""
        return Hourly(self.explain_days, self.explain_bytes_max)


class RegistrySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[registry]``."""

    version_bytes_max: int = VERSION_BYTES_MAX
    versions_kept: int = VERSIONS_KEPT


class MonitoringSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[monitoring]``."""

    baseline: str = ""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[models]]``: what is fitted, and on which part of the log."""

    name: str
    kind: str
    options: dict[str, Any] = {}
    last: str = ""
    since: str | int = ""
    until: str | int = ""
    histories: Literal["user", "session"] = "user"
    actions: dict[str, float] = {}
    placement: str = ""
    examples: Literal["served", "replay"] = "served"
    first_attributes: bool = True
    validation: float = 0.1
    acts_max: int = 1_000
    seed: int = 0
    time_max: Duration = Duration("1h")
    memory_bytes_max: int = 4 << 30


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[placements]]``: where a slate goes, and what fills it."""

    name: str = "default"
    sources: tuple[AnySource, ...] = (SessionKnn(), Covisitation(), Trending(), Popular())
    weights: dict[str, float] = {}
    rank_offset: float = RANK_OFFSET
    filter: str | None = None
    timezone: str = "UTC"
    filters: tuple[AnyFilter, ...] = ()
    exclude: dict[str, str | int] = {}
    repeats: Repeat = "not_last"
    editorial: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    log_features: float = 0.0
    candidates_max: int = CANDIDATES_MAX
    scorers: tuple[AnyScorer, ...] = ()
    selector: AnySelector = TopK()
    caps: tuple[Cap, ...] = ()
    diversity: Diversity | None = None
    rules: tuple[AnyRule, ...] = ()
    slate_size: int = 20
    slate_size_max: int = 100
    deadline: Duration = Duration("50ms")

    def filter_parts(self) -> Iterator[tuple[str, AnyFilter]]:
        """Yield the place and the options of each filter; a short setting comes as the tagged part that it stands for.

        A part of the kind ``repeats`` in the list stands in place of the default of the short setting.
        """
        replaced = "not_last" if any(isinstance(each, Repeats) for each in self.filters) else "any"
        if self.repeats not in {"any", replaced}:
            yield "repeats", Repeats(allow=self.repeats)
        if acts := {name: told for name, told in self.exclude.items() if name not in SERVED_NAMES}:
            yield "exclude", ActedOptions(acts)
        if served := {name: told for name, told in self.exclude.items() if name in SERVED_NAMES}:
            yield "exclude", ServedOptions(served)
        if self.filter is not None:
            yield "filter", ExpressionOptions(self.filter, "filter")
        yield from ((f"filters[{number}]", each) for number, each in enumerate(self.filters))


def option_place(place: str, option: str) -> str:
    """Return the place of the option that says what a filter is about: a short setting is that option itself."""
    return f"{place}.{option}" if place.endswith("]") else place


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """All of it. An empty file is this default. What is asked of it for each placement is computed once."""

    events: EventsSection = EventsSection()
    items: ItemsSection = ItemsSection()
    sessions: SessionsSection = SessionsSection()
    pairs: PairsSection = PairsSection()
    trending: TrendingSection = TrendingSection()
    feedback: FeedbackSection = FeedbackSection()
    users: UsersSection = UsersSection()
    limits: StateLimits = StateLimits()
    log: LogSection = LogSection()
    history: HistorySection = HistorySection()
    snapshots: SnapshotsSection = SnapshotsSection()
    server: ServerOptions = ServerOptions()
    registry: RegistrySection = RegistrySection()
    monitoring: MonitoringSection = MonitoringSection()
    reasons: dict[str, dict[str, str]] = {}
    components: dict[str, str] = {}
    features: tuple[AnyFeature, ...] = ()
    tables: tuple[Table, ...] = ()
    models: tuple[Model, ...] = ()
    placements: tuple[Placement, ...] = (Placement(),)

    def half_lives(self) -> tuple[Duration, ...]:
        """Return the half-lives for which a list of the hottest items is kept: default ones, declared ones, in use.

        Ordered by length, so that the order of placements in the file does not change the fold.
        """
        return self._half_lives

    @cached_property
    def _half_lives(self) -> tuple[Duration, ...]:
        used = {
            source.half_life
            for placement in self.placements
            for source in placement.sources
            if isinstance(source, Popular | Trending)
        }
        return tuple(sorted({*FoldSettings().half_lives, *self.trending.half_life, *used}, key=lambda each: each.ms))

    def fold_settings(self) -> FoldSettings:
        """Return what decides the state."""
        return FoldSettings(
            types=self.events.types,
            attributes=self.items.attributes,
            unknown_items=self.items.unknown_items,
            session_gap=self.sessions.gap,
            half_lives=self.half_lives(),
            pair_half_life=self.pairs.half_life,
            outcome_window=self.feedback.window,
            cells=cells_of(self.features, self.items.attributes),
            segment=self.trending.segment,
            limits=self.limits,
        )

    @cached_property
    def config_hash(self) -> str:
        """16 hex digits of a hash of the effective configuration, defaults included; on every served record."""
        text = msgspec.json.encode(self, enc_hook=str, order="deterministic")
        return sha256(text).hexdigest()[:16]
