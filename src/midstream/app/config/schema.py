"""Schema of ``midstream.toml``: the sum of the components' own options. Every field has a default.

An empty file is a working engine with one placement ``default``. ``app.config.reader`` reads a file;
``app.config.constraints`` checks relations between values; ``app.config.template`` is the file with every default and
its meaning.
"""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec

from midstream.app.config.broker_inputs import AnyInput
from midstream.app.config.log_section import LogSection
from midstream.app.config.outputs import OUTPUTS_MAX, Output
from midstream.app.config.sinks import SINKS_MAX, SinkTable
from midstream.core.durations import Duration, parse_duration_ms
from midstream.core.field_bounds import Between, HalfLife, Length, Name, TextBytes
from midstream.engine.snapshots.options import SnapshotsSection
from midstream.engine.vectors.encoded_attribute import ENCODERS_MAX, EncodedAttribute
from midstream.events.wire import AttributeKind
from midstream.features.kinds.kinds import AnyFeature, cells_of
from midstream.features.readers.external import Table
from midstream.integrations.cassandra.fetch import CassandraFetchOptions
from midstream.integrations.feast.fetch import FeastFetchOptions
from midstream.integrations.hopsworks.fetch import HopsworksFetchOptions
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.integrations.postgresql.fetch import PostgresqlFetchOptions
from midstream.integrations.redis.fetch import RedisFetchOptions
from midstream.models.pins import PinnedVersions
from midstream.monitoring.options import MonitoringSection, ProbeOptions
from midstream.monitoring.tracing_options import TracingOptions
from midstream.ranking.fetched_columns import COLUMNS_MAX, ColumnKind, FetchScope
from midstream.ranking.filters.acted import ActedOptions
from midstream.ranking.filters.expression_filter import ExpressionOptions
from midstream.ranking.filters.repeats import Repeat, Repeats
from midstream.ranking.filters.served_lately import NAMES as SERVED_NAMES
from midstream.ranking.filters.served_lately import ServedOptions
from midstream.ranking.filters.text_match import TextMatch
from midstream.ranking.plan import CANDIDATES_MAX, FETCHES_MAX, FILTERS_MAX, SCORERS_MAX, SOURCES_MAX
from midstream.ranking.reason_texts import LANGUAGES_MAX
from midstream.ranking.rules.calibration import CalibratedSelector
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.rules import RULES_MAX, AnyRule
from midstream.ranking.scorers.blend import RANK_OFFSET
from midstream.ranking.scorers.model_scorer import ModelScorer
from midstream.ranking.scorers.objectives import Objectives
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.editorial import EDITORIAL_MAX, Editorial
from midstream.retrieval.item_model import ActionWeights, AnyItemModelSource
from midstream.retrieval.nearest import NearestOptions
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.recently_viewed import RecentlyViewed
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar import Similar
from midstream.retrieval.similar_users_items import SimilarUsersItems
from midstream.retrieval.text_search import TextSearch
from midstream.retrieval.trending import Trending
from midstream.serving.access.identity_options import IdentityOptions
from midstream.serving.options import ServerOptions
from midstream.state.control.input_positions import INPUTS_MAX
from midstream.state.settings import WEIGHT_MAX, EventType, FoldSettings, OnlineModel, StateLimits, UnknownItems
from midstream.training.online import Online, online_model
from midstream.training.options import TRAININGS_MAX, TrainingTable
from midstream.training.registry import VERSION_BYTES_MAX, VERSIONS_KEPT

TYPES_MAX = 16
"""Interactions: a user's row has as many counters."""
ATTRIBUTES_MAX = 64
MODELS_MAX = 32
"""Each has arrays in the memory of every process that answers."""
FETCH_TABLES_MAX = 32
"""Outside systems of one shop; a placement asks up to eight."""
COMPONENTS_MAX = 256
"""More files than an operator would review."""
PATH_BYTES_MAX = 512
PLACEMENTS_MAX = 1_000
SLATE_SIZE_MAX = 100
"""Items of one answer; a served record of 20 takes up to 1.5 kB."""
CAPS_MAX = 4
"""Of a placement: each adds 10 µs and more to a request."""
ERASE_DAYS_MAX = 30
"""The law of data protection allows a month at most."""


class Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="custom"):
    """A custom component: ``path = "components:Shelf"`` or a name, and the options that its type declares."""

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
    | RecentlyViewed
    | SimilarUsersItems
    | NearestOptions
    | TextSearch
    | Editorial
    | AnyItemModelSource
    | Custom
)
AnyFilter = Repeats | ActedOptions | ServedOptions | ExpressionOptions | TextMatch | Custom
AnyScorer = ModelScorer | Objectives | RemoteScorer | Custom
AnyFetch = (
    Custom
    | RedisFetchOptions
    | PostgresqlFetchOptions
    | CassandraFetchOptions
    | FeastFetchOptions
    | HopsworksFetchOptions
)
AnySelector = TopK | PlackettLuce | EpsilonGreedy | Thompson | CalibratedSelector | Custom


class EventsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[events]``."""

    types: Annotated[dict[Name, EventType], Length(1, TYPES_MAX)] = msgspec.field(
        default_factory=lambda: dict(FoldSettings().types)
    )
    """Interactions that events may have as their type, and their weights for trending and popular. A weight below 0
    is an act against the item. A change of a type or weight rebuilds the state from the log."""


class ItemsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[items]``."""

    attributes: Annotated[dict[Name, AttributeKind], Length(0, ATTRIBUTES_MAX)] = {}
    """Attributes that filters and features may read: "number", "category" (one text), "tags" (several), "boolean", and
    for features and the source nearest "vector:8" (a list of eight numbers), such as price = "number". ``available``
    is always there: an item with available = false is not served."""
    search: Annotated[tuple[Name, ...], Length(0, 16)] = ()
    """Attributes whose words can be searched, texts and lists of texts: search = ["title"] (docs/sources.md)."""
    unknown_items: UnknownItems = "accept"
    """An interaction with an id that no item event named: accept (the item may be served), hold (it counts, and is not
    served before the catalogue has it) or reject."""


class SessionsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[sessions]``."""

    gap: Annotated[Duration, Between("1s", "7d")] = Duration("30m")
    """Silence of their user after which one is over."""


class PairsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[pairs]``."""

    half_life: HalfLife = Duration("30d")
    """The weight of an act in pairs of items halves with each."""


class TrendingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[trending]``."""

    segment: str = ""
    """The one attribute that makes segments, of a profile or of an act's context, such as "user.country" or
    "context.device"; "" = none, for sources with by_segment = true. A change rebuilds the state from the log."""
    half_life: tuple[HalfLife, ...] = ()
    """For placements that are set while it runs, such as ["1h"]. A change rebuilds the state."""


class FeedbackSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[feedback]``."""

    window: Annotated[Duration, Between("1m", "365d")] = FoldSettings().outcome_window
    """Log time for which it is. A change rebuilds the state from the log."""
    reward: dict[str, Annotated[float, msgspec.Meta(ge=-WEIGHT_MAX, le=WEIGHT_MAX)]] = {}
    """Reward of each action of an example, such as { purchase = 5.0 }, of others 0; {} = the weights of the types."""


class UsersSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[users]``."""

    erase_days_max: Annotated[int, msgspec.Meta(ge=1, le=ERASE_DAYS_MAX)] = 7
    """Days after which every file is to be without a user that was erased."""


class HistorySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[history]``."""

    hot: Duration = Duration("2d")
    """Log time of which the segments stay."""
    keep: str = ""
    """Log time of which events are kept at all, such as "365d"; "" = all. The catalogue, profiles and what the state
    has counted stay."""

    @property
    def keep_ms(self) -> int:
        """Log time for which events are kept; 0 = all."""
        return parse_duration_ms(self.keep) if self.keep else 0


class RegistrySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[registry]``."""

    version_bytes_max: Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 40)] = VERSION_BYTES_MAX
    """Bytes of one; three of a model are in memory while it is promoted."""
    versions_kept: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = VERSIONS_KEPT
    """Newest versions of each model that are kept, beside those that have or had an alias."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[models]]``: a model to fit, and the part of the log for it."""

    name: Name
    kind: str
    options: dict[str, Any] = {}
    last: str = ""
    since: str | int = ""
    until: str | int = ""
    histories: Literal["user", "session"] = "user"
    actions: ActionWeights = {}
    placement: str = ""
    examples: Literal["served", "replay"] = "served"
    first_attributes: bool = True
    validation: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.1
    acts_max: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 1_000
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    time_max: Annotated[Duration, Between("1s", "7d")] = Duration("1h")
    memory_bytes_max: Annotated[int, msgspec.Meta(ge=64 << 20, le=1 << 44)] = 4 << 30
    online: Online | None = None


class FetchTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[fetches]]``: columns of users or items that an outside system has, and how it is asked for them."""

    name: Name
    of: FetchScope
    component: AnyFetch
    columns: Annotated[dict[Name, ColumnKind], Length(1, COLUMNS_MAX)]
    age_max: Annotated[Duration, Between("0s", "1d")] = Duration("10s")
    timeout: Annotated[Duration, Between("1ms", "10s")] = Duration("20ms")


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[placements]]``: the place of a slate, and the components that fill it."""

    name: Name = "default"
    """Name in requests."""
    sources: Annotated[tuple[AnySource, ...], Length(0, SOURCES_MAX)] = (
        SessionKnn(),
        Covisitation(),
        Trending(),
        Popular(),
    )
    """Those that propose items (docs/sources.md), such as session_knn, trending, repeat, nearest, als and custom."""
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0, le=WEIGHT_MAX)]] = {}
    """Weight of each source in the blend. Default: session_knn 1.0, covisitation 0.6, trending 0.05, recent_items
    0.05, popular 0.04, editorial 0.04, any other 1.0."""
    rank_offset: Annotated[float, msgspec.Meta(ge=0.1, le=10_000)] = RANK_OFFSET
    """Added to each rank; the smaller, the more the first ranks of a list count."""
    filter: str | None = None
    """Which items may be served (docs/language.md), such as:
    filter = "item.available and item.price <= context.budget" """
    timezone: str = "UTC"
    """Of now.hour and now.weekday in its texts, such as "Europe/Berlin"."""
    filters: Annotated[tuple[AnyFilter, ...], Length(0, FILTERS_MAX)] = ()
    """More filters, each counted by its name: expression, acted, served_lately, repeats, text_match, custom:
    filters = [{ kind = "expression", name = "in_stock", where = "item.stock > 0" }]"""
    exclude: dict[str, str | int] = {}
    """Items with earlier acts of the user: { purchase = "30d", impression = 5 }: bought in the last 30 days, seen 5
    times or more. Or items of served slates: { served = "24h", served_anywhere = 3 }."""
    repeats: Repeat = "not_last"
    """Items of the session that may be served: not_last (all but the last one and a basket's), none or any."""
    editorial: Annotated[tuple[str, ...], Length(0, EDITORIAL_MAX)] = ()
    """Items that the shop puts forward, the most wanted first."""
    fetches: Annotated[tuple[str, ...], Length(0, FETCHES_MAX)] = ()
    """Columns of outside systems that it needs, by the names of [[fetches]]: ["stock"] (docs/fetches.md)."""
    features: tuple[str, ...] = ()
    """Features that its scorers read, by name: ["item_purchase_rate"]."""
    log_features: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of requests whose features are kept with served slates, such as 0.01."""
    candidates_max: Annotated[int, msgspec.Meta(ge=SLATE_SIZE_MAX, le=CANDIDATES_MAX)] = CANDIDATES_MAX
    """Number of candidates that are scored: the best by the blend of those that pass the filters; 100 to 500."""
    scorers: Annotated[tuple[AnyScorer, ...], Length(0, SCORERS_MAX)] = ()
    """Scorers, best first: models, such as [{ kind = "model", name = "ranker" }], sums of several, models on a server
    (docs/model-servers.md) and custom scorers; the blend of the sources is always the last (docs/models.md)."""
    models: PinnedVersions = {}
    """Versions of models that it reads in place of the champions: { taste = "0007-3fa9c2d41b22" } (docs/models.md)."""
    selector: AnySelector = TopK()
    """Choice and order of the items: top_k, plackett_luce, epsilon_greedy, thompson, calibrated, custom."""
    caps: Annotated[tuple[Cap, ...], Length(0, CAPS_MAX)] = ()
    """At most so many items of one value in a slate: [{ attribute = "category", max = 3 }]; with
    within = "24h" in all that the placement served to the same user or session in that time."""
    diversity: Diversity | None = None
    """Likeness to the items above counts against a score, such as:
    diversity = { attribute = "category", weight = 0.3 }"""
    rules: Annotated[tuple[AnyRule, ...], Length(0, RULES_MAX)] = ()
    """Pins, boosts, promotions and positions for new items, each with its time (docs/rules.md):
    rules = [{ kind = "boost", name = "sale", where = "item.on_sale", factor = 2.0 }]"""
    slate_size: Annotated[int, msgspec.Meta(ge=1, le=SLATE_SIZE_MAX)] = 20
    """Items of an answer when the request has no size."""
    slate_size_max: Annotated[int, msgspec.Meta(ge=1, le=SLATE_SIZE_MAX)] = SLATE_SIZE_MAX
    """Maximum size of a request."""
    deadline: Annotated[Duration, Between("1ms", "1m")] = Duration("50ms")
    """Time for an answer; parts that would be late are left out and named."""

    def filter_parts(self) -> Iterator[tuple[str, AnyFilter]]:
        """Yield the place and the options of each filter; a short setting comes as the tagged part that it means.

        A part of the kind ``repeats`` in the list replaces the default of the short setting.
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
    """Return the place of the main option of a filter: a short setting is that option itself."""
    return f"{place}.{option}" if place.endswith("]") else place


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The whole configuration. An empty file is this default. Values derived for each placement are computed once."""

    events: EventsSection = EventsSection()
    items: ItemsSection = ItemsSection()
    """The catalogue."""
    sessions: SessionsSection = SessionsSection()
    """Sessions of events without a session_id."""
    pairs: PairsSection = PairsSection()
    """Items that are acted on in the same sessions, which covisitation and similar items come from."""
    trending: TrendingSection = TrendingSection()
    """Heat: of which half-lives lists are kept beside 6h, 7d and those in use, and of which segments."""
    feedback: FeedbackSection = FeedbackSection()
    """Outcomes of a slate are joined to it by its request id (docs/feedback.md)."""
    users: UsersSection = UsersSection()
    """People."""
    limits: StateLimits = StateLimits()
    """Maxima, which decide the memory: ``midstream size`` prints the bytes of each."""
    log: LogSection = LogSection()
    """The event log."""
    history: HistorySection = HistorySection()
    """Old segments become Parquet files, a day of log time each, beside the log."""
    snapshots: SnapshotsSection = SnapshotsSection()
    """Snapshots of the state make a start fast; without any it is folded from the log."""
    server: ServerOptions = ServerOptions()
    """HTTP."""
    identity: IdentityOptions = IdentityOptions()
    """Tokens of an identity provider beside API keys (docs/security.md); they need the extra `auth`."""
    registry: RegistrySection = RegistrySection()
    """Versions of models (docs/models.md)."""
    monitoring: MonitoringSection = MonitoringSection()
    """Monitoring of served features."""
    probe: ProbeOptions = ProbeOptions()
    """Freshness probe: an event of a reserved user, and the time until an answer has it (docs/observability.md)."""
    tracing: TracingOptions = TracingOptions()
    """Traces of requests for an OpenTelemetry collector (docs/traces.md); they need the extra `otel`."""
    reasons: Annotated[dict[Annotated[str, Length(1, 16, "characters")], dict[str, str]], Length(0, LANGUAGES_MAX)] = {}
    """Why an item is in a slate, for those who see it, by language and kind of source; there are texts in en and de
    (docs/explanations.md). Such as:
    [reasons.en]
    covisitation = "because you viewed {evidence.title}" """
    components: Annotated[dict[Name, Annotated[str, TextBytes(PATH_BYTES_MAX)]], Length(0, COMPONENTS_MAX)] = {}
    """Types of your own in Python files beside this one, by name (docs/sources.md). Placements that are set over
    HTTP may use these and what the placements here name; nothing else is imported. Such as shelf = "components:Shelf",
    then { kind = "custom", name = "shelf" }."""
    features: tuple[AnyFeature, ...] = ()
    """What scorers can know of items, users, sessions and pairs of them, counted as events come in: a table each
    (docs/features.md). A change of what is counted rebuilds the state from the log. Such as:
    [[features]]
    name = "item_purchase_rate"
    kind = "rate"
    scope = "item"
    actions = ["purchase"]
    per = ["impression"]
    half_life = "7d" """
    tables: tuple[Table, ...] = ()
    """Files that somebody else writes, Parquet or CSV with id, time and numbers, which features of the kind "external"
    read: of each item or user the newest row before the question. Such as:
    [[tables]]
    name = "quality"
    path = "quality.parquet" """
    encoders: Annotated[tuple[EncodedAttribute, ...], Length(0, ENCODERS_MAX)] = ()
    """Vector attributes that are made of the texts of items by a named encoder (docs/models.md). Such as:
    [[encoders]]
    attribute = "embedding"
    texts = ["title", "description"] """
    fetches: Annotated[tuple[FetchTable, ...], Length(0, FETCH_TABLES_MAX)] = ()
    """Outside systems that are asked for columns of the user or of items while a request is answered: stock, prices,
    profiles (docs/fetches.md). Such as:
    [[fetches]]
    name = "stock"
    of = "item"
    component = { kind = "custom", path = "components:Stock" }
    columns = { stock = "number" }
    age_max = "10s"
    timeout = "20ms" """
    inputs: Annotated[tuple[AnyInput, ...], Length(0, INPUTS_MAX)] = ()
    """Topics of brokers whose messages are events, and tables of PostgreSQL whose rows are items or users, each
    recorded once (docs/inputs.md). Such as:
    [[inputs]]
    name = "clicks"
    kind = "kafka"
    servers = "localhost:9092"
    topic = "clicks" """
    outputs: Annotated[tuple[Output, ...], Length(0, OUTPUTS_MAX)] = ()
    """Topics of Kafka that served slates, outcomes or events are delivered to, each record once
    (docs/outputs.md). Such as:
    [[outputs]]
    name = "outcomes"
    kind = "kafka"
    servers = "broker-1:9092,broker-2:9092"
    topic = "shop-outcomes"
    records = "outcomes" """
    sinks: Annotated[tuple[SinkTable, ...], Length(0, SINKS_MAX)] = ()
    """Tables of Redis, PostgreSQL or Cassandra that rows of users or items are written through to, for other services
    (docs/sinks.md). Such as:
    [[sinks]]
    name = "users"
    scope = "user"
    columns = ["user_views", "user.country", "row.recent_items"]
    store = { kind = "redis", url = "redis://localhost:6379/0" } """
    models: Annotated[tuple[Model, ...], Length(0, MODELS_MAX)] = ()
    """What is fitted on the log by ``midstream train NAME`` and answers once a version is promoted (docs/models.md).
    Such as:
    [[models]]
    name = "taste"
    kind = "als"
    last = "90d" """
    trainings: Annotated[tuple[TrainingTable, ...], Length(0, TRAININGS_MAX)] = ()
    """Models that the server trains by itself, and puts in service behind gates (docs/continuous-training.md). Such as:
    [[trainings]]
    model = "taste"
    every = "6h"
    promote = "ask" """
    placements: Annotated[tuple[Placement, ...], Length(1, PLACEMENTS_MAX)] = (Placement(),)
    """One table for each place where recommendations are shown."""

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
        """Return the settings that decide the state."""
        return FoldSettings(
            types=self.events.types,
            attributes=self.items.attributes,
            search=self.items.search,
            unknown_items=self.items.unknown_items,
            session_gap=self.sessions.gap,
            half_lives=self.half_lives(),
            pair_half_life=self.pairs.half_life,
            outcome_window=self.feedback.window,
            cells=cells_of(self.features, self.items.attributes),
            segment=self.trending.segment,
            online=self._online_models(),
            limits=self.limits,
        )

    def _online_models(self) -> tuple[OnlineModel, ...]:
        worth = self.feedback.reward or {name: each.weight for name, each in self.events.types.items()}
        told = ((each.name, each.online, each.actions or worth) for each in self.models)
        return tuple(online_model(name, online, found) for name, online, found in told if online is not None)

    @cached_property
    def config_hash(self) -> str:
        """16 hex digits of a hash of the effective configuration, defaults included; on every served record."""
        text = msgspec.json.encode(self, enc_hook=str, order="deterministic")
        return sha256(text).hexdigest()[:16]
