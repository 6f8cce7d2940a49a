"""Constraints between values of a configuration: bounds, references to names, uniqueness, combinations of options."""

import os
import re
from collections.abc import Iterator, Mapping
from keyword import iskeyword

from midstream.app.config.bounds import PAGE, WINDOW_MS_MAX, listed, name_faults, within
from midstream.app.config.component_constraints import component_faults
from midstream.app.config.expressions import columns_in, text_faults
from midstream.app.config.filter_constraints import filter_faults
from midstream.app.config.model_constraints import model_faults, model_source_faults, replay_faults
from midstream.app.config.reason_constraints import reason_faults
from midstream.app.config.schema import Config, Custom, Placement
from midstream.app.config.scorer_constraints import scorer_faults
from midstream.app.config.slate_constraints import slate_faults
from midstream.core.durations import Duration
from midstream.core.errors import Fault
from midstream.core.kinds import IMPRESSION, RESERVED_TYPES
from midstream.core.nearest import nearest
from midstream.core.paths import step
from midstream.engine.replication.shared_board import PROCESSES_MAX
from midstream.engine.types import ANY_PLACEMENT
from midstream.features.checking import feature_faults
from midstream.features.readers.external import table_faults
from midstream.ranking.plan import CANDIDATES_MAX, SOURCES_MAX
from midstream.ranking.scorers.blend import DEFAULT_WEIGHTS
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.editorial import Editorial
from midstream.retrieval.item_model import ItemModelSource
from midstream.retrieval.popular import Popular
from midstream.retrieval.recent_items import RecentItems
from midstream.retrieval.repeat import RepeatItems
from midstream.retrieval.session_knn import SessionKnn
from midstream.retrieval.similar import Similar
from midstream.retrieval.trending import Trending
from midstream.serving.http.hosts import host_faults
from midstream.serving.options import ServerOptions
from midstream.state.expressions.program import Expression
from midstream.state.pairs.covisitation import NEIGHBOURS_MAX
from midstream.state.pairs.covisitation_query import ANSWER_MAX
from midstream.state.segments.segments import CONTEXT, SEGMENT_VALUES_MAX, USER
from midstream.state.sessions.session_index import INDEX_ITEMS_MAX
from midstream.state.sessions.sessions import BEFORE_MAX
from midstream.state.settings import FoldSettings
from midstream.state.sizes import sizes_max

SOURCES, FILTERS = "docs/sources.md", "docs/filters.md"
FEATURES, MODELS = "docs/features.md", "docs/models.md"
HOT_MS_MIN = 3_600_000
"""An hour: a child an hour looks whether there is anything to seal."""
SEGMENT_BYTES_MIN = 1 << 20
"""1 MiB: with less there are more files than a folder is quickly read with."""
TYPES_MAX = 16
"""Interactions: a user's row has as many counters."""
ATTRIBUTES_MAX = 64
PLACEMENTS_MAX = 1_000
SLATE_SIZE_MAX = 100
"""Items of one answer; a served record of 20 takes up to 1.5 kB."""
CANDIDATES_LEAST = SLATE_SIZE_MAX
"""As many as the longest slate has places."""
EDITORIAL_MAX = 1_000
DEADLINE_MS_MAX = 60_000
SERVER_BOUNDS = {
    "followers": (0, PROCESSES_MAX - 1),
    "body_bytes_max": (1_024, 1 << 24),
    "head_bytes_max": (1_024, 1 << 20),
    "connections_max": (1, 65_535),
    **dict.fromkeys(("connections_per_client_max", "connections_reserved"), (0, 65_535)),
    **dict.fromkeys(("answers_max", "quota_callers_max"), (1, 1_000_000)),
    **dict.fromkeys(("answers_waiting_max", "quota_burst", "quota_per_second"), (0, 1_000_000)),
    "answer_wait_max": (1, 60_000),
    "bulk_decodes_max": (1, 10_000),
    "bulk_streams_max": (1, 64),
    "bulk_bytes_max": (1_024, 1 << 44),
    "bulk_message_bytes_max": (1_024, 1 << 28),
    **dict.fromkeys(("body_wait_max", "head_wait_max", "commit_wait_max"), (1, 3_600_000)),
    "bulk_wait_max": (1, 86_400_000),
    **dict.fromkeys(("keep_alive", "stop_wait_max"), (1_000, 3_600_000)),
}
"""Of ``[server]``; waits in ms, the last two of whole seconds. With a 0 in any of them no request would be answered."""
INDEX_MAX = 2**31 - 1
"""Indices are 32 bits wide."""
_LIMITS_HIGH: dict[str, int] = {
    "index_items_max": INDEX_ITEMS_MAX,
    "pair_neighbours_max": NEIGHBOURS_MAX,
    "pair_items_max": BEFORE_MAX,
    "segment_values_max": SEGMENT_VALUES_MAX,
}
"""Of ``[limits]``: the first two are counted in a byte, the third has a table of weights, the last has two bytes."""
ERASE_DAYS_MAX = 30
"""Who erases a user has a month at most, as data protection law has it."""
WEIGHT_MAX = 1_000_000
RANK_OFFSETS = (0.1, 10_000.0)
"""From the first place alone to places that hardly differ."""
"""Of a source or an interaction: sums of it stay finite as float32, and the last scorer cannot fail."""
REPEAT_LIMIT_MAX = 1_000
"""Items that ``repeat`` may propose: as many as a list of the hottest holds."""
EVIDENCE_MIN = 0.001
"""With 0 an item without pairs would have no weights to mix."""
KEEP_MS_MAX = 36_500 * 86_400_000
"""100 years."""
VERSION_BYTES = (1 << 20, 1 << 40)
"""Of a version of a model: from what a small one has to what no machine loads."""
MODELS_PAGE = "docs/models.md"
HALF_LIVES_MAX = 8
"""Each keeps counters of all items: 8 B an action and item."""


def relation_faults(config: Config) -> Iterator[Fault]:
    """Yield everything that is wrong with a configuration whose single values are right."""
    yield from _sections(config)
    features = tuple(feature_faults(config.features, config.items.attributes, config.events.types))
    yield from features
    yield from table_faults(config.tables, config.features)
    yield from _limits(config, has_size=not features)
    yield from _events(config)
    yield from _attributes(config)
    yield from component_faults(config)
    columns = columns_in(config, is_sound=not features)
    yield from model_faults(config)
    yield from replay_faults(config, columns)
    yield from reason_faults(config)
    yield from _placements(config, columns)


def _connections(server: ServerOptions) -> Iterator[Fault]:
    """Yield what there is more of than there are connections."""
    most = server.connections_max
    yield from within("$.server.connections_per_client_max", server.connections_per_client_max, 0, most)
    yield from within("$.server.connections_reserved", server.connections_reserved, 0, most - 1)


def _sections(config: Config) -> Iterator[Fault]:
    """Yield what is wrong in the sections with a value each."""
    yield from within("$.sessions.gap", config.sessions.gap.ms, 1_000, 7 * 86_400_000)
    yield from within("$.pairs.half_life", config.pairs.half_life.ms, 60_000, WINDOW_MS_MAX, SOURCES)
    yield from within("$.feedback.window", config.feedback.window.ms, 60_000, WINDOW_MS_MAX, "docs/feedback.md")
    yield from within("$.users.erase_days_max", config.users.erase_days_max, 1, ERASE_DAYS_MAX)
    yield from within("$.log.segment_bytes_max", config.log.segment_bytes_max, SEGMENT_BYTES_MIN, 1 << 30)
    yield from _history(config)
    yield from within("$.snapshots.interval", config.snapshots.interval.ms, 1_000, 7 * 86_400_000)
    # Two at least: one that turns out to be damaged must not be the only one.
    yield from within("$.snapshots.keep", config.snapshots.keep, 2, 100)
    yield from within("$.snapshots.explain_days", config.snapshots.explain_days, 0, 30)
    yield from within("$.snapshots.explain_bytes_max", config.snapshots.explain_bytes_max, 0, 1 << 44)
    for name, (low, high) in SERVER_BOUNDS.items():
        value = getattr(config.server, name)
        yield from within(f"$.server.{name}", value.ms if isinstance(value, Duration) else value, low, high)
    yield from host_faults(config.server, "$.server.allow_hosts", "$.server.allow_origins")
    yield from _connections(config.server)
    header = config.server.quota_header
    if header and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header):
        yield Fault("$.server.quota_header", f'"{header}" is no name of a header.', "Letters, digits and -.", PAGE)
    yield from within("$.registry.version_bytes_max", config.registry.version_bytes_max, *VERSION_BYTES, MODELS_PAGE)
    yield from within("$.registry.versions_kept", config.registry.versions_kept, 2, 10_000, MODELS_PAGE)
    yield from _segment(config.trending.segment)
    for number, each in enumerate(config.trending.half_life):
        yield from within(f"$.trending.half_life[{number}]", each.ms, 60_000, WINDOW_MS_MAX, SOURCES)
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
    elif segment:
        yield from name_faults(where, name)


def _history(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with how long events are kept."""
    hot = config.history.hot
    yield from within("$.history.hot", hot.ms, HOT_MS_MIN, KEEP_MS_MAX, "docs/data.md")
    try:
        keep_ms = config.history.keep_ms
    except ValueError as error:
        yield Fault(
            "$.history.keep", f"{error}.", 'A length of time such as "365d", or "" to keep all.', "docs/data.md"
        )
        return
    if config.history.keep and not hot.ms <= keep_ms <= KEEP_MS_MAX:
        right = f'At least hot, {hot}, and at most 36500d; "" keeps all.'
        yield Fault("$.history.keep", f"{config.history.keep} came.", right, "docs/data.md")


def _limits(config: Config, *, has_size: bool) -> Iterator[Fault]:
    """Yield what is wrong with the maxima, whose sum is not known while it is not what features need."""
    limits = config.limits
    faults: list[Fault] = []
    for name in limits.__struct_fields__:
        high = _LIMITS_HIGH.get(name, INDEX_MAX)
        faults.extend(within(f"$.limits.{name}", getattr(limits, name), 1, high))
    yield from faults
    if has_size and not faults:
        yield from _memory(config)
    if limits.click_items_max > limits.items_max:
        came = f"{limits.click_items_max} is more than items_max, {limits.items_max}."
        yield Fault("$.limits.click_items_max", came, "At most items_max: they are a part of it.", PAGE)
    if limits.hot_items_max > limits.items_max:
        came = f"{limits.hot_items_max} is more than items_max, {limits.items_max}."
        yield Fault("$.limits.hot_items_max", came, "At most items_max: a list holds an item once.", PAGE)


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
    """Yield what is wrong with the configured interactions."""
    types = config.events.types
    if not 1 <= len(types) <= TYPES_MAX:
        yield Fault("$.events.types", f"{len(types)} types came.", f"From 1 to {TYPES_MAX}.", PAGE)
    for name, each in types.items():
        where = f"$.events.types{step(name)}"
        if name.lower() in RESERVED_TYPES:  # as an import reads the types of a file
            yield Fault(where, f'"{name}" is the name of another kind of event.', "Another name.", PAGE)
        yield from name_faults(where, name)
        yield from within(f"{where}.weight", each.weight, -WEIGHT_MAX, WEIGHT_MAX)
    known = (*sorted(types), IMPRESSION)
    for name, worth in config.feedback.reward.items():
        where = f"$.feedback.reward{step(name)}"
        if name not in known:
            yield Fault(where, f'"{name}" is no action.', f"One of {', '.join(known)}.", "docs/feedback.md")
        yield from within(where, worth, -WEIGHT_MAX, WEIGHT_MAX, "docs/feedback.md")


def _attributes(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with the declared attributes."""
    attributes = config.items.attributes
    if len(attributes) > ATTRIBUTES_MAX:
        yield Fault("$.items.attributes", f"{len(attributes)} came.", f"At most {ATTRIBUTES_MAX}.", PAGE)
    for name in attributes:
        where = f"$.items.attributes{step(name)}"
        yield from name_faults(where, name)
        if name == "available":
            yield Fault(where, '"available" is always there.', "Leave it out.", PAGE)
        elif not (name.isascii() and name.isidentifier()) or iskeyword(name):
            right = "Letters, digits and _, no digit first, no word of Python: filters say item.<name>."
            yield Fault(where, f'"{name}" cannot be written in a filter.', right, FILTERS)


def _placements(config: Config, columns: Mapping[str, Expression]) -> Iterator[Fault]:
    """Yield what is wrong with the placements, whose texts may name columns."""
    if not 1 <= len(config.placements) <= PLACEMENTS_MAX:
        yield Fault("$.placements", f"{len(config.placements)} came.", f"From 1 to {PLACEMENTS_MAX}.", PAGE)
    names: set[str] = set()
    for number, placement in enumerate(config.placements):
        where = f"$.placements[{number}]"
        yield from name_faults(f"{where}.name", placement.name)
        if placement.name == ANY_PLACEMENT:
            yield Fault(f"{where}.name", f'"{ANY_PLACEMENT}" came, which is any name.', "A name of its own.", PAGE)
        if placement.name in names:
            yield Fault(f"{where}.name", f'"{placement.name}" is there already.', "A name of its own.", PAGE)
        names.add(placement.name)
        yield from _sizes(placement, where)
        yield from _sources(config, placement, where)
        yield from _weights(placement, where)
        yield from filter_faults(config, placement, where)
        yield from text_faults(config, placement, where, columns)
        yield from _read(config, placement, where)
        yield from scorer_faults(config, placement, where)
        yield from slate_faults(config, placement, where)


def _read(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the features that a placement reads."""
    known = {each.name for each in config.features}
    for number, name in enumerate(placement.features):
        place = f"{where}.features[{number}]"
        if name not in known:
            came = f'"{name}" is not a declared feature.{nearest(name, known)}'
            right = f"Features: {listed(known)}" if known else "The name of one of [[features]]; there is none."
            yield Fault(place, came, right, FEATURES)
        elif name in placement.features[:number]:
            yield Fault(place, f'"{name}" is there already.', "Each once.", FEATURES)
    yield from within(f"{where}.log_features", placement.log_features, 0.0, 1.0, FEATURES)
    if placement.log_features > 0 and not placement.features:
        came = f"{placement.log_features} came, and the placement reads no features."
        yield Fault(f"{where}.log_features", came, 'features = ["..."] beside it, or 0.', FEATURES)


def _sizes(placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the numbers of a placement."""
    yield from within(f"{where}.slate_size_max", placement.slate_size_max, 1, SLATE_SIZE_MAX)
    is_sound = 1 <= placement.slate_size_max <= SLATE_SIZE_MAX
    size_max = placement.slate_size_max if is_sound else SLATE_SIZE_MAX
    if not 1 <= placement.slate_size <= size_max:
        right = f"From 1 to {'slate_size_max, ' if is_sound else ''}{size_max}."
        yield Fault(f"{where}.slate_size", f"{placement.slate_size} came.", right, PAGE)
    yield from within(f"{where}.candidates_max", placement.candidates_max, CANDIDATES_LEAST, CANDIDATES_MAX, MODELS)
    yield from within(f"{where}.deadline", placement.deadline.ms, 1, DEADLINE_MS_MAX)
    yield from within(f"{where}.editorial", len(placement.editorial), 0, EDITORIAL_MAX, SOURCES)


def _sources(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the sources of a placement."""
    if len(placement.sources) > SOURCES_MAX:
        yield Fault(f"{where}.sources", f"{len(placement.sources)} came.", f"At most {SOURCES_MAX}.", SOURCES)
    names: set[str] = set()
    for number, source in enumerate(placement.sources):
        place = f"{where}.sources[{number}]"
        if isinstance(source, Custom):
            continue  # its name and bounds are its own; wiring looks at them
        if source.name in names or source.name == "catalogue":
            yield Fault(f"{place}.name", f'"{source.name}" is there already.', "A name of its own.", SOURCES)
        names.add(source.name)
        yield from name_faults(f"{place}.name", source.name)
        yield from _source(config, source, place)


def _source(config: Config, source: object, place: str) -> Iterator[Fault]:
    """Yield what is wrong with the options of one source."""
    limits = config.limits
    match source:
        case Popular() | Trending():
            yield from within(f"{place}.limit", source.limit, 1, limits.hot_items_max, SOURCES)
            yield from within(f"{place}.half_life", source.half_life.ms, 60_000, WINDOW_MS_MAX, SOURCES)
            if isinstance(source, Trending):
                yield from _by_segment(config, source, place)
        case Covisitation():
            yield from within(f"{place}.history_items_max", source.history_items_max, 0, limits.user_ring_max, SOURCES)
        case Similar():
            yield from within(f"{place}.limit", source.limit, 1, ANSWER_MAX, SOURCES)
            yield from within(f"{place}.pairs_min", source.pairs_min, 0, ANSWER_MAX, SOURCES)
            yield from within(f"{place}.evidence", source.evidence, EVIDENCE_MIN, WEIGHT_MAX, SOURCES)
        case Editorial():
            yield from within(f"{place}.items", len(source.items), 0, EDITORIAL_MAX, SOURCES)
        case SessionKnn():
            yield from within(f"{place}.entries_max", source.entries_max, 1, limits.index_entries_max, SOURCES)
            yield from within(f"{place}.history_items_max", source.history_items_max, 0, limits.user_ring_max, SOURCES)
        case RecentItems():
            yield from within(f"{place}.limit", source.limit, 1, limits.new_items_max, SOURCES)
            yield from within(f"{place}.impressions_max", source.impressions_max, 0, 2**31 - 1, SOURCES)
            for name, value in (("max_age", source.max_age), ("half_life", source.half_life)):
                yield from within(f"{place}.{name}", value.ms, 60_000, WINDOW_MS_MAX, SOURCES)
        case RepeatItems():
            yield from _repeat(config, source, place)
        case ItemModelSource():
            yield from model_source_faults(config, source, place)
        case _:
            return


def _by_segment(config: Config, source: Trending, place: str) -> Iterator[Fault]:
    """Yield what is wrong with the options of ``trending`` that are about segments."""
    yield from within(f"{place}.segment_prior", source.segment_prior, 1.0, WEIGHT_MAX, SOURCES)
    if not source.by_segment:
        return
    if not config.trending.segment:
        came, right = "There is no [trending] segment.", 'segment = "user.country" or "context.device", say.'
        yield Fault(f"{place}.by_segment", came, right, SOURCES)
    shortest = config.half_lives()[0]
    if source.half_life != shortest:
        came = f"{source.half_life} came; segments have heat for the shortest half-life in use alone."
        yield Fault(f"{place}.half_life", came, f'"{shortest}", or no shorter one elsewhere.', SOURCES)


def _repeat(config: Config, source: RepeatItems, place: str) -> Iterator[Fault]:
    """Yield what is wrong with the options of one ``repeat``."""
    # More than the ring holds are never found, so the bound is that of the other lists.
    yield from within(f"{place}.limit", source.limit, 1, REPEAT_LIMIT_MAX, SOURCES)
    yield from within(f"{place}.min_gap", source.min_gap.ms, 0, WINDOW_MS_MAX, SOURCES)
    yield from within(f"{place}.half_life", source.half_life.ms, 60_000, WINDOW_MS_MAX, SOURCES)
    yield from within(f"{place}.early", source.early, 0.0, 1.0, SOURCES)
    if not source.actions:
        yield Fault(f"{place}.actions", "No action came.", f"Some of: {listed(config.events.types)}", SOURCES)
    for number, name in enumerate(source.actions):
        if name not in config.events.types:
            came = f'"{name}" is not a configured interaction.{nearest(name, config.events.types)}'
            yield Fault(f"{place}.actions[{number}]", came, f"Some of: {listed(config.events.types)}", SOURCES)


def _weights(placement: Placement, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the blend: each weight names a source and is a number from 0 to ``WEIGHT_MAX``."""
    yield from within(f"{where}.rank_offset", placement.rank_offset, *RANK_OFFSETS, SOURCES)
    known = {*DEFAULT_WEIGHTS, *(each.name for each in placement.sources if not isinstance(each, Custom))}
    is_open = any(isinstance(each, Custom) for each in placement.sources)
    for name, weight in placement.weights.items():
        place = f"{where}.weights{step(name)}"
        if name not in known and not is_open:
            came = f'"{name}" is not a source of this placement.{nearest(name, known)}'
            yield Fault(place, came, f"Sources: {', '.join(sorted(known))}", SOURCES)
        if not 0 <= weight <= WEIGHT_MAX:
            yield Fault(
                f"{where}.weights{step(name)}", f"{weight} came.", f"0 or more, at most {WEIGHT_MAX:,}.", SOURCES
            )
