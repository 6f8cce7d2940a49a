"""Composition root: the components that run, in their order. With ``app.config`` it alone names concrete classes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import msgspec

from midstream.app.config.constraints import SOURCES
from midstream.app.config.custom_components import component_type, load
from midstream.app.config.expressions import names_of
from midstream.app.config.reader import FILE_NAME, named
from midstream.app.config.rule_constraints import PAGE as RULES
from midstream.app.config.schema import AnyScorer, AnySource, Config, Custom, FetchTable, Placement
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.paths import step
from midstream.core.protocols import Fetch, Filter, Scorer, Selector, Source
from midstream.core.traits import traits_of
from midstream.core.types import Models
from midstream.engine.types import ANY_PLACEMENT
from midstream.features.declarations import Declarations
from midstream.features.expressions.names import Names
from midstream.features.language import PLACEMENT, SEGMENT, Condition, Use, condition
from midstream.integrations.cassandra.fetch import CassandraFetch, CassandraFetchOptions
from midstream.integrations.feast.fetch import FeastFetch, FeastFetchOptions
from midstream.integrations.hopsworks.fetch import HopsworksFetch, HopsworksFetchOptions
from midstream.integrations.model_servers.remote_scorer import RemoteScorer
from midstream.integrations.postgresql.fetch import PostgresqlFetch, PostgresqlFetchOptions
from midstream.integrations.redis.fetch import RedisFetch, RedisFetchOptions
from midstream.ranking.caller_items import RESERVED
from midstream.ranking.candidate_cutoff import CUT
from midstream.ranking.fetched_columns import DeclaredFetch
from midstream.ranking.fetching import filters_after
from midstream.ranking.filters.available import Available
from midstream.ranking.filters.excluded import Excluded
from midstream.ranking.filters.expression_filter import RequestFilter
from midstream.ranking.filters.options import FilterOptions, FilterScope
from midstream.ranking.filters.text_match import TextMatch
from midstream.ranking.model_gate import unfit
from midstream.ranking.plan import FEATURES, FETCHES, MODELS_MAX, SEARCH, SELECTOR, SIMILAR, Plan, ReadsModels
from midstream.ranking.reason_texts import reasons_of
from midstream.ranking.rules.arrangement import ARRANGEMENT, Arrangement
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.calibration import CalibratedSelector
from midstream.ranking.rules.in_force import Ruling, Stated, span_ms
from midstream.ranking.rules.pin import PINS, Pin, Pins
from midstream.ranking.rules.promote import Promote
from midstream.ranking.rules.rules import AnyRule
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue
from midstream.retrieval.editorial import Editorial
from midstream.retrieval.item_model import ItemModelSource
from midstream.retrieval.nearest import Nearest, NearestOptions
from midstream.retrieval.popular import Popular
from midstream.retrieval.similar import Similar
from midstream.retrieval.text_search import TextSearch
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

if TYPE_CHECKING:
    from midstream.features.readers.external import ExternalTable

HERE = Path()
MODELS_PAGE = "/docs/models.md"
_OF_PARTS = frozenset(
    (
        "editorial",
        "popular",
        "similar",
        "availability",
        "acted",
        "served_lately",
        "expression",
        "filter",
        "repeats",
        "calibrated",
        "diversity",
        FEATURES,
        FETCHES,
        PINS,
        ARRANGEMENT,
        SELECTOR,
    )
)
_BEFORE_NAMES = ("caps.", f"{FEATURES}.", f"{FEATURES}_")
S = TypeVar("S", bound=Stated)


def fold(config: Config) -> Fold:
    """Return the empty state."""
    return Fold(config.fold_settings())


def plans(
    config: Config, folder: Path = HERE, models: Models | None = None, settings: FoldSettings | None = None
) -> dict[str, Plan]:
    """Return the plan of each placement, by name, ``similar`` among them whether it is configured or not.

    Args:
        config: Of ``app.config.reader``: its relations hold.
        folder: Of the configuration file: custom components are searched there.
        models: The loaded artifacts.
        settings: Of the state; None = of one without a log, such as an evaluation's.

    Raises:
        ConfigInvalid: A custom component cannot be loaded, or a loaded model reads inputs that its placement lacks;
            those of all placements are named.
    """
    settings = settings or config.fold_settings()
    declared = declarations(config, settings, folder)
    found: dict[str, Plan] = {}
    faults = list(_component_faults(config, folder))
    for placement in placements(config):
        try:
            found[placement.name] = plan(config, placement, settings, models or Models({}), folder, declared)
        except ConfigInvalid as error:
            faults.extend(error.faults)
    if faults:
        raise named(ConfigInvalid(tuple(faults)), FILE_NAME)
    return found


def _component_faults(config: Config, folder: Path) -> Iterator[Fault]:
    """Yield the faults of each of ``[components]``, whether a placement uses it yet or not."""
    for name, path in config.components.items():
        try:
            component_type(path, f"$.components{step(name)}", folder)
        except ConfigInvalid as error:
            yield from error.faults


def with_any(config: Config, found: Mapping[str, Plan]) -> dict[str, Plan]:
    """Return plans; while no placement is configured the default one answers under any name."""
    if config.placements == Config().placements:
        return {**found, ANY_PLACEMENT: found[config.placements[0].name]}
    return dict(found)


def placements(config: Config) -> tuple[Placement, ...]:
    """Return the placements of a configuration, and behind them the built-in ones of similar items and of searches."""
    built_in = [Placement(name=SIMILAR, sources=(Similar(),))]
    if config.items.search:
        built_in.append(Placement(name=SEARCH, sources=(TextSearch(),), filters=(TextMatch(),), repeats="any"))
    named = {placement.name for placement in config.placements}
    return (*config.placements, *(each for each in built_in if each.name not in named))


def plan(
    config: Config,
    placement: Placement,
    settings: FoldSettings,
    models: Models,
    folder: Path = HERE,
    declared: Declarations | None = None,
) -> Plan:
    """Return the plan of a placement. To change a rule, a model or an experiment, call it again.

    Plans with the same ``declared`` share its compiled parts.
    """
    declared = declared or declarations(config, settings, folder)
    where = f"$.placements[{placements(config).index(placement)}]"
    names = names_of(config, placement, declared)
    sources, floor = _sources(config, placement, where, folder, names)
    rules = tuple(_ruling(rule, names, f"{where}.rules[{n}]") for n, rule in enumerate(placement.rules))
    pins = tuple(
        _ruling(each, names, f"{where}.rules[{n}]") for n, each in enumerate(placement.rules) if type(each) is Pin
    )
    # A pin places an item; its score is the scorer's alone.
    weights = dict.fromkeys((each.name for each in pins), 0.0) | placement.weights
    blend = Blend(weights=weights, rank_offset=placement.rank_offset)
    loading = partial(load, folder=folder, components=config.components)
    scorers = [loading(each, "scorer", f"{where}.scorers[{n}]") for n, each in enumerate(placement.scorers)]
    selector = loading(placement.selector, "selector", f"{where}.selector")
    parts = [(f"{where}.{place}", each) for place, each in placement.filter_parts()]
    chosen = [
        each.compiled(FilterScope(names, settings, place))
        if isinstance(each, FilterOptions)
        else loading(each, "filter", place)
        for place, each in parts
    ]
    filters = (Available(), Excluded(), *chosen, RequestFilter(names))
    own = [each.name for each, (_, told) in zip(chosen, parts, strict=True) if isinstance(told, Custom)]
    reading = [each for each in (*sources, *filters, *scorers, selector) if isinstance(each, ReadsModels)]
    made = Plan(
        name=placement.name,
        config_hash=config.config_hash,
        fetches=(fetches := _fetches(config, placement, folder)),
        sources=sources,
        floor=floor,
        fill=Catalogue(),
        filters=filters,
        features=(declared.block(placement.features),) if placement.features else (),
        scorers=(*scorers, blend),
        selectors=(TopK(),) if isinstance(selector, TopK | CalibratedSelector) else (selector, TopK()),
        models=models,
        arrangement=_arrangement(placement, rules, selector),
        pins=Pins(pins) if pins else None,
        model_names=_model_names(reading, where),
        pinned=placement.models,
        own=frozenset((*own, *_own_names(placement, sources, scorers))),
        slate_size=placement.slate_size,
        slate_size_max=placement.slate_size_max,
        candidates_max=placement.candidates_max,
        deadline_ms=placement.deadline.ms,
        fold_version=settings.version(),
        log_features=placement.log_features,
        reasons=reasons_of(config.reasons, {each.name: _kind(each) for each in (*sources, *floor)}),
        declared=declared,
        after_fetch=frozenset(filters_after(fetches, filters, own)),
        reads_served=_reads_served(filters, placement),
        remote={each.name: each.timeout.ms / 1_000 for each in scorers if isinstance(each, RemoteScorer)},
    )
    _require_parts(made, placement, where)
    _require_inputs(made := made.serving(models), where)
    return made


def _arrangement(placement: Placement, rules: tuple[Ruling[AnyRule], ...], selector: Selector) -> Arrangement | None:
    """Return the rules of a placement's slates, None = it has none."""
    calibrated = selector if isinstance(selector, CalibratedSelector) else None
    if not (placement.caps or placement.diversity or rules or calibrated):
        return None
    return Arrangement(placement.caps, placement.diversity, rules, calibrated)


def _reads_served(filters: Iterable[Filter], placement: Placement) -> bool:
    """Return whether a part of a placement goes by what was served before."""
    return any(traits_of(each).reads_served for each in filters) or any(
        each.within is not None for each in placement.caps
    )


def _fetches(config: Config, placement: Placement, folder: Path) -> tuple[DeclaredFetch, ...]:
    """Return the fetches that a placement lists, in its order."""
    places = {each.name: (number, each) for number, each in enumerate(config.fetches)}
    found: list[DeclaredFetch] = []
    for number, told in (places[name] for name in placement.fetches):
        component = _fetch(told, f"$.fetches[{number}].component", folder, config.components)
        # The module of a component of one's own names its content: after an edit other code answers.
        content = msgspec.json.encode((told, type(component).__module__), enc_hook=str, order="deterministic")
        found.append(
            DeclaredFetch(
                name=told.name,
                of=told.of,
                columns=told.columns,
                component=component,
                age_ms_max=told.age_max.ms,
                timeout_s=told.timeout.ms / 1_000,
                key=sha256(content).hexdigest(),
            )
        )
    return tuple(found)


def _fetch(told: FetchTable, where: str, folder: Path, components: Mapping[str, str]) -> Fetch:
    """Return the component of a fetch; no system is asked."""
    match told.component:
        case RedisFetchOptions():
            return RedisFetch(told.component, told.columns)
        case PostgresqlFetchOptions():
            return PostgresqlFetch(told.component, told.columns)
        case CassandraFetchOptions():
            return CassandraFetch(told.component, told.columns)
        case FeastFetchOptions():
            return FeastFetch(told.component, told.columns)
        case HopsworksFetchOptions():
            return HopsworksFetch(told.component, told.columns)
        case _:
            component: Fetch = load(told.component, "fetch", where, folder, components)
            return component


def _own_names(placement: Placement, sources: Sequence[Source], scorers: Sequence[Scorer]) -> Iterator[str]:
    """Yield the names of the custom sources, scorers and selector."""
    yield from (each.name for each in sources if type(each) not in (*get_args(AnySource), Nearest))
    yield from (each.name for each in scorers if type(each) not in get_args(AnyScorer))
    if isinstance(placement.selector, Custom):
        yield SELECTOR


def _model_names(parts: Sequence[ReadsModels], where: str) -> tuple[str, ...]:
    """Return the models that some parts read, by name.

    Raises:
        ConfigInvalid: They are more than an answer names, or a component has one text instead of names.
    """
    for part in parts:
        if isinstance(part.model_names, str):
            came = f"`model_names` of {type(part).__name__} is the text {part.model_names!r}."
            right = "A tuple of names, each of a model that the component reads."
            raise ConfigInvalid((Fault(where, came, right, "/docs/sources.md"),))
    names = sorted({name for part in parts for name in part.model_names})
    if len(names) > MODELS_MAX:
        came = f"Its parts read {len(names)} models."
        raise ConfigInvalid((Fault(where, came, f"At most {MODELS_MAX} for one placement.", MODELS_PAGE),))
    return tuple(names)


def _require_read(made: Plan, where: str) -> None:
    """Refuse a version of a model that no part of its placement reads.

    Raises:
        ConfigInvalid: Each is named.
    """
    right = f"A model that one reads: {', '.join(made.model_names) or 'none'}."
    faults = tuple(
        Fault(f"{where}.models{step(name)}", "No part of the placement reads it.", right, MODELS_PAGE)
        for name in made.pinned
        if name not in made.model_names
    )
    if faults:
        raise ConfigInvalid(faults)


def declarations(config: Config, settings: FoldSettings, folder: Path = HERE, name: str = FILE_NAME) -> Declarations:
    """Return the features of a configuration, for all placements and readers.

    Args:
        config: Of ``app.config.reader``: its relations hold.
        settings: Of the state beside which tables are read: rows of both are joined by the hashes of ids.
        folder: Of the configuration file: paths of tables begin there.
        name: Of the configuration file, the prefix of pointers in faults.

    Raises:
        ConfigInvalid: A table cannot be read; all faults are named.
    """
    tables: Sequence[ExternalTable] = ()
    if config.tables:
        from midstream.app.feature_tables import read_tables  # Arrow takes 0.2 s and 40 MB where it is used

        try:
            tables = tuple(read_tables(config.tables, config.features, folder, settings.hash_key()).values())
        except ConfigInvalid as error:
            raise named(error, name) from error
    return Declarations(config.features, tuple(config.items.attributes.items()), tuple(tables))


def _sources(
    config: Config, placement: Placement, where: str, folder: Path, names: Names
) -> tuple[tuple[Source, ...], tuple[Source, ...]]:
    """Return the sources, and those of the floor: wherever popular and editorial are listed, they run in any case."""
    weights = {each.name: each.actions for each in config.models}
    every: list[Any] = []
    for n, each in enumerate(placement.sources):
        if isinstance(each, NearestOptions):
            every.append(each.compiled(names, f"{where}.sources[{n}]"))
        elif isinstance(each, ItemModelSource) and not each.actions:
            # Acts weigh in a question what they weighed in the training.
            every.append(msgspec.structs.replace(each, actions=weights.get(each.model, {})))
        else:
            every.append(load(each, "source", f"{where}.sources[{n}]", folder, config.components))
    if not any(isinstance(each, Popular) for each in every):
        every.append(Popular())
    if placement.editorial:
        every.append(Editorial(items=placement.editorial))
    floor = tuple(each for each in every if isinstance(each, Popular | Editorial))
    return tuple(each for each in every if not isinstance(each, Popular | Editorial)), floor


def _ruling(rule: S, names: Names, where: str) -> Ruling[S]:
    """Return a rule of the slate, its times and conditions read."""
    about = rule.where if isinstance(rule, Boost | Promote) else None
    return Ruling(
        rule,
        *span_ms(rule),
        when=None if rule.when is None else _condition(rule.when, names, f"{where}.when", SEGMENT),
        where=None if about is None else _condition(about, names, f"{where}.where"),
    )


def _condition(text: str, names: Names, where: str, use: Use = PLACEMENT) -> Condition:
    """Return a compiled condition.

    Raises:
        ConfigInvalid: It cannot be read.
    """
    found = condition(text, names, where, use)
    if not isinstance(found, Condition):
        raise ConfigInvalid(found)
    return found


def _kind(source: Source) -> str:
    """Return the kind of a source; a custom one has its name."""
    struct = type(source.options if isinstance(source, Nearest) else source)
    tag = struct.__struct_config__.tag if issubclass(struct, msgspec.Struct) else None
    return source.name if tag is None else str(tag)


def _require_parts(made: Plan, placement: Placement, where: str) -> None:
    _require_names(made, where)
    _require_rule_names(made, placement, where)
    _require_read(made, where)


def _require_names(made: Plan, where: str) -> None:
    """Refuse two parts of one name: a failure, a rerun and a metric name a part, and must mean one."""
    names = (*made.part_names, *RESERVED, CUT, *((FETCHES,) if made.fetches else ()))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        came = f"Two parts are called {', '.join(twice)}."
        right = f"A name of its own for each. In use: {', '.join(sorted(set(names)))}"
        raise ConfigInvalid((Fault(where, came, right, SOURCES),))


def _require_rule_names(made: Plan, placement: Placement, where: str) -> None:
    """Refuse a rule with the name of a part: traces, counts and sources name both, and must mean one.

    The names of parts that a placement may have are refused where it does not have them too.
    """
    taken = {*made.part_names, *RESERVED, CUT, *_OF_PARTS, *(cap.name for cap in placement.caps)}
    faults = tuple(
        Fault(f"{where}.rules[{n}].name", f'"{rule.name}" is the name of another part.', "A name of its own.", RULES)
        for n, rule in enumerate(placement.rules)
        if rule.name in taken or rule.name.startswith(_BEFORE_NAMES)
    )
    if faults:
        raise ConfigInvalid(faults)


def _require_inputs(made: Plan, where: str) -> None:
    """Refuse a loaded model whose inputs the placement lacks: it would never answer."""
    if faults := unfit(made, made.models, lambda number: f"{where}.scorers[{number}]"):
        raise ConfigInvalid(faults)
