"""Validation of the expressions of a placement: the names that they may use, and the faults of each text."""

from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo, available_timezones

from midstream.app.config.schema import Config, Placement, option_place
from midstream.core.errors import Fault
from midstream.core.kinds import IMPRESSION
from midstream.core.nearest import nearest
from midstream.features.declarations import Declarations
from midstream.features.expressions.names import Names
from midstream.features.expressions.tree import PAGE
from midstream.features.expressions.values import Kind
from midstream.features.kinds.kinds import columns_by_name, columns_of
from midstream.features.language import PLACEMENT, SEGMENT, Condition, Use, condition
from midstream.features.readers.external import Tables
from midstream.ranking.fetched_columns import ColumnKind
from midstream.ranking.filters.expression_filter import ExpressionOptions
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.promote import Promote
from midstream.retrieval.nearest import WHERE, NearestOptions
from midstream.state.expressions.program import Expression, column

_KINDS: Mapping[ColumnKind, Kind] = {"number": "number", "boolean": "boolean", "category": "text"}


def names_of(config: Config, placement: Placement, declared: Declarations) -> Names:
    """Return the names that the texts of a placement may use, ready to be evaluated."""
    tables = {each.name: each for each in declared.tables}
    return _names(config, placement, declared.columns(), tables)


def columns_in(config: Config, *, is_sound: bool) -> Mapping[str, Expression]:
    """Return the columns that texts may name, for the check of these.

    Args:
        config: Has the features.
        is_sound: These have no fault; otherwise only the names of their columns are known.
    """
    if is_sound:
        return columns_by_name(config.features, config.items.attributes)
    return {name: column(0.0) for each in columns_of(config.features).values() for name in each}


def text_faults(config: Config, placement: Placement, where: str, columns: Mapping[str, Expression]) -> Iterator[Fault]:
    """Yield the faults of the time zone and the texts of a placement: its filter, and those of its rules.

    Args:
        config: All of it.
        placement: The placement.
        where: Pointer to it.
        columns: Of ``columns_in``.
    """
    yield from _zone_faults(placement.timezone, f"{where}.timezone")
    names = _names(config, placement, columns, {})
    for place, text, use in _texts(placement):
        found = condition(text, names, f"{where}.{place}", use)
        if not isinstance(found, Condition):
            yield from found


def _texts(placement: Placement) -> Iterator[tuple[str, str, Use]]:
    """Yield the conditions of a placement: pointer, text, and allowed names."""
    for place, part in placement.filter_parts():
        if isinstance(part, ExpressionOptions):
            yield option_place(place, "where"), part.where, PLACEMENT
    for number, source in enumerate(placement.sources):
        if isinstance(source, NearestOptions) and source.where:
            yield f"sources[{number}].where", source.where, WHERE
    for number, rule in enumerate(placement.rules):
        if rule.when is not None:
            yield f"rules[{number}].when", rule.when, SEGMENT
        if isinstance(rule, Boost | Promote) and rule.where is not None:
            yield f"rules[{number}].where", rule.where, PLACEMENT


def _names(config: Config, placement: Placement, columns: Mapping[str, Expression], tables: Tables) -> Names:
    return Names(
        config.items.attributes,
        columns,
        (*sorted(config.events.types), IMPRESSION),
        config.half_lives(),
        tables,
        placement.timezone,
        {
            name: _KINDS[kind]
            for each in config.fetches
            if each.of == "user" and each.name in placement.fetches
            for name, kind in each.columns.items()
        },
    )


def _zone_faults(timezone: str, where: str) -> Iterator[Fault]:
    """Yield a fault unless this machine knows a time zone."""
    try:
        if timezone != "UTC":
            ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        came = (
            f'"{timezone[:64]}" is not a time zone that this machine knows.{nearest(timezone, available_timezones())}'
        )
        yield Fault(where, came, 'A name of the tz database, such as "Europe/Berlin", or "UTC".', PAGE)
