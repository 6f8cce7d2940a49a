"""Constraints between values of a configuration: bounds, references to names, uniqueness, combinations of options."""

import os
import re
from collections.abc import Iterator, Mapping
from keyword import iskeyword

from midstream.app.config.bounds import PAGE, distinct, duration_ms, known, listed, within
from midstream.app.config.component_constraints import component_faults
from midstream.app.config.expressions import columns_in, text_faults
from midstream.app.config.fetch_constraints import fetch_faults, listed_fetch_faults
from midstream.app.config.filter_constraints import filter_faults, search_faults
from midstream.app.config.input_constraints import input_faults
from midstream.app.config.log_section import log_faults
from midstream.app.config.model_constraints import (
    encoder_faults,
    model_faults,
    model_source_faults,
    replay_faults,
    training_faults,
)
from midstream.app.config.outputs import log_topic_faults, output_faults
from midstream.app.config.reason_constraints import reason_faults
from midstream.app.config.schema import Config, Custom, Placement
from midstream.app.config.sinks import sink_faults
from midstream.app.config.slate_constraints import scorer_faults, slate_faults
from midstream.core.durations import format_duration, parse_duration_ms
from midstream.core.errors import Fault
from midstream.core.field_bounds import NAME, Between
from midstream.core.kinds import IMPRESSION, RESERVED_TYPES
from midstream.core.paths import step
from midstream.engine.types import ANY_PLACEMENT
from midstream.events.wire import vector_length
from midstream.features.checking import feature_faults
from midstream.features.readers.external import table_faults
from midstream.monitoring.options import probe_faults
from midstream.monitoring.tracing_options import tracing_faults
from midstream.ranking.scorers.blend import DEFAULT_WEIGHTS
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.item_model import ItemModelSource
from midstream.retrieval.nearest import NearestOptions
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.recently_viewed import RecentlyViewed
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar_users_items import SimilarUsersItems
from midstream.retrieval.trending import Trending
from midstream.serving.access.forwarded_client import proxy_faults
from midstream.serving.access.token_claims import identity_faults
from midstream.serving.http.hosts import host_faults
from midstream.serving.options import ServerOptions
from midstream.state.expressions.program import Expression
from midstream.state.segments.segments import CONTEXT, USER
from midstream.state.settings import FoldSettings
from midstream.state.tables import sizes_max

SOURCES, FILTERS = "/docs/sources.md", "/docs/filters.md"
FEATURES = "/docs/features.md"
HOT_MS_MIN = 3_600_000
"""An hour: a child an hour looks whether there is anything to seal."""
SEGMENT_BYTES_MIN = 1 << 20
"""1 MiB: with less there are more files than a folder is quickly read with."""
KEEP_MAX = "36500d"
"""100 years."""
KEEP_MS_MAX = parse_duration_ms(KEEP_MAX)
HALF_LIVES_MAX = 8
"""Each keeps counters of all items: 8 B an action and item."""


def relation_faults(config: Config) -> Iterator[Fault]:
    """Yield the faults of a configuration whose single values are valid."""
    yield from _sections(config)
    features = tuple(feature_faults(config.features, config.items.attributes, config.events.types))
    yield from features
    yield from table_faults(config.tables, config.features)
    yield from _limits(config, has_size=not features)
    yield from _events(config)
    yield from _attributes(config)
    yield from search_faults(config)
    yield from component_faults(config)
    yield from encoder_faults(config)
    yield from fetch_faults(config)
    yield from input_faults(config)
    yield from output_faults(config.outputs, tuple(config.events.types), config.inputs)
    yield from log_topic_faults(config.log, config.outputs, config.inputs)
    yield from sink_faults(config.sinks, config.features, config.items.attributes, has_columns=not features)
    columns = columns_in(config, is_sound=not features)
    yield from model_faults(config)
    yield from replay_faults(config, columns)
    yield from training_faults(config)
    yield from reason_faults(config)
    yield from _placements(config, columns)


def _connections(server: ServerOptions) -> Iterator[Fault]:
    """Yield settings that need more connections than there are."""
    most = server.connections_max
    yield from within("$.server.connections_per_client_max", server.connections_per_client_max, 0, most)
    yield from within("$.server.connections_reserved", server.connections_reserved, 0, most - 1)


def _sections(config: Config) -> Iterator[Fault]:
    """Yield the faults of sections with a value each.

    Two bounds of fields are here, because simulations lower them to reach a long history in seconds.
    """
    yield from within("$.log.segment_bytes_max", config.log.segment_bytes_max, SEGMENT_BYTES_MIN, 1 << 30)
    yield from log_faults(config.log)
    yield from _history(config)
    yield from host_faults(config.server, "$.server.allow_hosts", "$.server.allow_origins")
    yield from proxy_faults(config.server)
    yield from _connections(config.server)
    yield from identity_faults(config.identity)
    yield from probe_faults(config.probe)
    yield from tracing_faults(config.tracing)
    header = config.server.quota_header
    if header and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header):
        yield Fault("$.server.quota_header", f'"{header}" is no name of a header.', "Letters, digits and -.", PAGE)
    yield from _segment(config.trending.segment)
    if config.snapshots.publish.startswith(("http://", "https://")):
        right = "A folder, file:///… or an address of an object storage: a peer is only read."
        yield Fault("$.snapshots.publish", f'"{config.snapshots.publish}" came.', right, "/docs/replicas.md")
    half_lives = config.half_lives()
    if len(half_lives) > HALF_LIVES_MAX:
        came = f"{len(half_lives)} half-lives are in use: {', '.join(str(each) for each in half_lives)}."
        yield Fault("$.placements", came, f"At most {HALF_LIVES_MAX}, 6h and 7d among them.", SOURCES)


def _segment(segment: str) -> Iterator[Fault]:
    """Yield a fault unless the attribute that makes segments is one of users or of contexts."""
    scope, _, name = segment.partition(".")
    where = "$.trending.segment"
    if segment and (scope not in {USER, CONTEXT} or not name):
        came = f'"{segment}" names no attribute of a user or a context.'
        yield Fault(where, came, 'user.<name> or context.<name>, such as "user.country".', SOURCES)
    elif segment and (came := NAME.excess(name)):
        yield Fault(where, came, NAME.right, SOURCES)


def _history(config: Config) -> Iterator[Fault]:
    """Yield the faults of retention."""
    hot, bound = config.history.hot, Between(format_duration(HOT_MS_MIN), KEEP_MAX)
    if came := bound.excess(str(hot)):
        yield Fault("$.history.hot", came, bound.right, "/docs/data.md")
    if not (keep := config.history.keep):
        return
    right = 'A length of time such as "365d", or "" to keep all.'
    keep_ms = yield from duration_ms("$.history.keep", keep, right, "/docs/data.md")
    if keep_ms is not None and not hot.ms <= keep_ms <= KEEP_MS_MAX:
        right = f'At least hot, {hot}, and at most 36500d; "" keeps all.'
        yield Fault("$.history.keep", f"{keep} came.", right, "/docs/data.md")


def _limits(config: Config, *, has_size: bool) -> Iterator[Fault]:
    """Yield the faults of maxima; their sum is checked only if the features are valid."""
    limits = config.limits
    if has_size:
        yield from _memory(config)
    for name, why in (("click_items_max", "they are a part of it"), ("hot_items_max", "a list holds an item once")):
        if (told := getattr(limits, name)) > limits.items_max:
            came = f"{told} is more than items_max, {limits.items_max}."
            yield Fault(f"$.limits.{name}", came, f"At most items_max: {why}.", PAGE)


def _memory(config: Config) -> Iterator[Fault]:
    """Yield a fault when the tables at their maxima are more than the machine can hold.

    Pages are paid when touched, so the default maxima are right on a small machine too as long as the shop is small.
    """
    sizes = sizes_max(config.fold_settings())
    room = max(memory_bytes(), sum(sizes_max(FoldSettings()).values()))
    if (total := sum(sizes.values())) > room:
        largest = max(sizes, key=sizes.__getitem__)
        came = f"Tables of {_gib(total)} at these maxima, {_gib(sizes[largest])} of them {largest}."
        right = f"At most {_gib(room)}, which this machine has. Lower the maxima."
        if config.features:
            came += f" What {len(config.features)} [[features]] count takes {_gib(sizes['cells'])} of it (cells)."
            right += " `midstream features size` prints what each feature takes."
        yield Fault("$.limits", came, right, PAGE)


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gib(count: int) -> str:
    return f"{count / (1 << 30):,.1f} GiB"


def _events(config: Config) -> Iterator[Fault]:
    """Yield the faults of the configured interactions."""
    types = config.events.types
    for name in types:
        if name.lower() in RESERVED_TYPES:  # as an import reads the types of a file
            came = f'"{name}" is the name of another kind of event.'
            yield Fault(f"$.events.types{step(name)}", came, "Another name.", PAGE)
    for name in config.feedback.reward:
        where, names = f"$.feedback.reward{step(name)}", (*types, IMPRESSION)
        yield from known(where, name, names, "an action", "One of", "/docs/feedback.md")


def _attributes(config: Config) -> Iterator[Fault]:
    """Yield the faults of the declared attributes."""
    for name in config.items.attributes:
        where = f"$.items.attributes{step(name)}"
        if name == "available":
            yield Fault(where, '"available" is always there.', "Leave it out.", PAGE)
        elif not (name.isascii() and name.isidentifier()) or iskeyword(name):
            right = "Letters, digits and _, no digit first, no word of Python: filters say item.<name>."
            yield Fault(where, f'"{name}" cannot be written in a filter.', right, FILTERS)


def _placements(config: Config, columns: Mapping[str, Expression]) -> Iterator[Fault]:
    """Yield the faults of the placements, whose texts may name columns."""
    yield from distinct((f"$.placements[{number}].name", each.name) for number, each in enumerate(config.placements))
    for number, placement in enumerate(config.placements):
        where = f"$.placements[{number}]"
        if placement.name == ANY_PLACEMENT:
            yield Fault(f"{where}.name", f'"{ANY_PLACEMENT}" came, which is any name.', "A name of its own.", PAGE)
        if placement.slate_size > placement.slate_size_max:
            right = f"From 1 to slate_size_max, {placement.slate_size_max}."
            yield Fault(f"{where}.slate_size", f"{placement.slate_size} came.", right, PAGE)
        yield from _sources(config, placement, where)
        yield from _weights(placement, where)
        yield from filter_faults(config, placement, where)
        yield from text_faults(config, placement, where, columns)
        yield from listed_fetch_faults(config, placement, where)
        yield from _read(config, placement, where)
        yield from scorer_faults(config, placement, where)
        yield from slate_faults(config, placement, where)


def _read(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of the features that a placement reads."""
    names = [each.name for each in config.features]
    read = [(f"{where}.features[{number}]", name) for number, name in enumerate(placement.features)]
    for place, name in read:
        yield from known(place, name, names, "a declared feature", "One of [[features]]", FEATURES)
    yield from distinct(read, "Each once.", FEATURES)
    if placement.log_features > 0 and not placement.features:
        came = f"{placement.log_features} came, and the placement reads no features."
        yield Fault(f"{where}.log_features", came, 'features = ["..."] beside it, or 0.', FEATURES)


def _sources(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's sources."""
    # The name and bounds of one's own are its own; wiring looks at them.
    every = [
        (f"{where}.sources[{n}]", each) for n, each in enumerate(placement.sources) if not isinstance(each, Custom)
    ]
    yield from distinct(((f"{place}.name", each.name) for place, each in every), page=SOURCES, taken=("catalogue",))
    for place, source in every:
        yield from _source(config, source, place)


def _source(config: Config, source: object, place: str) -> Iterator[Fault]:
    """Yield the faults of one source's options in relation to the state."""
    limits = config.limits
    match source:
        case Popular() | Trending():
            yield from within(f"{place}.limit", source.limit, 1, limits.hot_items_max, SOURCES)
            if isinstance(source, Trending) and source.by_segment:
                yield from _by_segment(config, source, place)
        case Covisitation():
            yield from within(f"{place}.history_items_max", source.history_items_max, 0, limits.user_ring_max, SOURCES)
        case SessionKnn():
            yield from within(f"{place}.entries_max", source.entries_max, 1, limits.index_entries_max, SOURCES)
            yield from within(f"{place}.history_items_max", source.history_items_max, 0, limits.user_ring_max, SOURCES)
        case RecentItems():
            yield from within(f"{place}.limit", source.limit, 1, limits.new_items_max, SOURCES)
        case RepeatItems():
            if not source.actions:
                yield Fault(f"{place}.actions", "No action came.", f"Some of: {listed(config.events.types)}", SOURCES)
            yield from _actions(config, source.actions, place)
        case RecentlyViewed():
            yield from _actions(config, source.actions, place)
        case SimilarUsersItems():
            yield from within(f"{place}.entries_max", source.entries_max, 1, limits.index_entries_max, SOURCES)
            ring = limits.user_ring_max
            yield from within(f"{place}.neighbour_items_max", source.neighbour_items_max, 1, ring, SOURCES)
            yield from within(f"{place}.overlap_min", source.overlap_min, 1, source.last_items_max, SOURCES)
            yield from within(f"{place}.users_min", source.users_min, 1, source.neighbours_max, SOURCES)
            yield from _actions(config, source.actions, place)
        case NearestOptions():
            names = [name for name, kind in config.items.attributes.items() if vector_length(kind)]
            what = "a declared vector attribute"
            yield from known(f"{place}.attribute", source.attribute, names, what, "Vector attributes", SOURCES)
        case ItemModelSource():
            yield from model_source_faults(config, source, place)
        case _:
            return


def _by_segment(config: Config, source: Trending, place: str) -> Iterator[Fault]:
    """Yield the faults of ``trending`` with segments."""
    if not config.trending.segment:
        came, right = "There is no [trending] segment.", 'segment = "user.country" or "context.device", say.'
        yield Fault(f"{place}.by_segment", came, right, SOURCES)
    shortest = config.half_lives()[0]
    if source.half_life != shortest:
        came = f"{source.half_life} came; segments have heat for the shortest half-life in use alone."
        yield Fault(f"{place}.half_life", came, f'"{shortest}", or no shorter one elsewhere.', SOURCES)


def _actions(config: Config, actions: tuple[str, ...], place: str) -> Iterator[Fault]:
    """Yield a fault for each action of a source that is no configured interaction."""
    for number, name in enumerate(actions):
        where = f"{place}.actions[{number}]"
        yield from known(where, name, config.events.types, "a configured interaction", "Some of", SOURCES)


def _weights(placement: Placement, where: str) -> Iterator[Fault]:
    """Yield a fault for each weight of the blend that names no source."""
    names = {*DEFAULT_WEIGHTS}
    for each in placement.sources:
        if isinstance(each, Custom):
            return
        names.add(each.name)
    for name in placement.weights:
        yield from known(f"{where}.weights{step(name)}", name, names, "a source of this placement", "Sources", SOURCES)
