"""Declared features: all kinds as one type, and the columns of each.

A kind is a frozen type with the options of a declaration, and a method that returns expressions over cells
(``state.expressions.program``) and inputs of the query (``features.readers.inputs``). So it needs no state, kernel or
snapshot of its own, and is the same live, after a restart and in training. A missing value is NaN: a rate without a
denominator, the time since an act that never happened.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from midstream.core.kinds import IMPRESSION
from midstream.events.wire import AttributeKind
from midstream.features.expressions.names import resolved
from midstream.features.kinds.attributes import (
    Boolean,
    CandidateDiversity,
    Category,
    FieldMatch,
    ItemAge,
    Number,
    Vector,
    WordCount,
)
from midstream.features.kinds.counts import (
    Affinity,
    Count,
    EventFeature,
    OutcomeCount,
    OutcomeFeature,
    OutcomeRate,
    Rate,
    Since,
    Statistic,
    UniqueCount,
)
from midstream.features.kinds.expression import Computed
from midstream.features.kinds.history import KnnScore, LastItems, Match, PairScore
from midstream.features.kinds.request import (
    Device,
    ItemField,
    LocalTime,
    Position,
    Random,
    Referrer,
    Relevancy,
)
from midstream.features.readers.condition_inputs import ItemCount, ItemFading
from midstream.features.readers.external import External
from midstream.state.expressions.program import Cell, Expression, Input, Program, compile_columns

__all__ = [
    "Affinity",
    "AnyFeature",
    "Boolean",
    "CandidateDiversity",
    "Category",
    "Computed",
    "Count",
    "Device",
    "EventFeature",
    "External",
    "FieldMatch",
    "ItemAge",
    "ItemField",
    "KnnScore",
    "LastItems",
    "LocalTime",
    "Match",
    "Number",
    "OutcomeCount",
    "OutcomeFeature",
    "OutcomeRate",
    "PairScore",
    "Position",
    "Random",
    "Rate",
    "Referrer",
    "Relevancy",
    "Since",
    "Statistic",
    "UniqueCount",
    "Vector",
    "WordCount",
    "cells_of",
    "columns_by_name",
    "columns_of",
    "impression_features",
    "program_of",
    "scope_of",
]
Told: TypeAlias = Number | Boolean | Category | Vector | ItemAge | WordCount | FieldMatch | CandidateDiversity
Happened: TypeAlias = Count | Rate | UniqueCount | Statistic | Since | Affinity | OutcomeCount | OutcomeRate
Recent: TypeAlias = Match | LastItems | PairScore | KnnScore
Asked: TypeAlias = LocalTime | Device | Referrer | ItemField | Relevancy | Position | Random
AnyFeature: TypeAlias = Told | Happened | Recent | Asked | External | Computed
"""Any declaration, tagged by its ``kind``."""
_NO_ATTRIBUTES: Mapping[str, AttributeKind] = MappingProxyType({})
_OF_ITEMS = frozenset(("item", "attribute", "user_item", "user_attribute"))
"""Scopes of cells of events that may differ from candidate to candidate."""
_OF_SEEN_ITEMS = "item_outcomes"
"""The scope of cells that count what was seen, whatever the action."""
_SCOPES: Mapping[type, str] = {
    **dict.fromkeys((ItemAge, FieldMatch, CandidateDiversity, ItemField, Relevancy, Position, Random), "item"),
    **dict.fromkeys((OutcomeCount, OutcomeRate), "item"),
    **dict.fromkeys((LocalTime, Device, Referrer), "request"),
    **dict.fromkeys((PairScore, KnnScore), "session"),
    Affinity: "user_attribute",
    Computed: "",
    External: "",
}
"""Of kinds that have one scope only."""


def scope_of(feature: AnyFeature) -> str:
    """Return the scope of a feature; empty = it is computed from other features, or its table defines it."""
    only = _SCOPES.get(type(feature))
    return str(getattr(feature, "scope", "")) if only is None else only


def columns_of(features: Sequence[AnyFeature]) -> dict[str, tuple[str, ...]]:
    """Return the names of each feature's columns, by the name of the feature."""
    return {each.name: (each.name,) if isinstance(each, Computed) else tuple(each.expressions()) for each in features}


def impression_features(features: Sequence[AnyFeature], columns: Mapping[str, Expression]) -> tuple[str, ...]:
    """Return the names of features with a column that distinguishes candidates by their impressions.

    A column that is equal for all candidates of a request, such as the impressions of a user, distinguishes none.

    Args:
        features: Free of faults (``features.checking``).
        columns: Expressions of the columns of all features, by name.
    """
    told = columns_of(features)
    return tuple(name for name, own in told.items() if any(map(_is_of_impressions, (columns[each] for each in own))))


def _is_of_impressions(told: Expression) -> bool:
    """Return whether a column reads the impressions of an item, or of a value of it."""
    left, known = [told], set[int]()
    while left:
        each = left.pop()
        if id(each) in known:
            continue
        known.add(id(each))
        left.extend(each.arguments)
        leaf = each.leaf
        if isinstance(leaf, Cell) and (
            leaf.scope == _OF_SEEN_ITEMS or (leaf.scope in _OF_ITEMS and IMPRESSION in leaf.actions)
        ):
            return True
        reader = leaf.reader if isinstance(leaf, Input) else None
        if isinstance(reader, ItemCount | ItemFading) and reader.action == IMPRESSION:
            return True
    return False


def program_of(
    features: Sequence[AnyFeature],
    attributes: Mapping[str, AttributeKind] = _NO_ATTRIBUTES,
    among: Sequence[AnyFeature] = (),
) -> Program:
    """Return the program of the columns of all features, equal parts once.

    Args:
        features: Free of faults (``features.checking``).
        attributes: Declared item attributes, which the texts of expressions name.
        among: Further ones that expressions may name; their columns are not among those that come out.

    Raises:
        Invalid: An expression cannot be read.
        KeyError: An expression names itself.
    """
    every = tuple({each.name: each for each in (*among, *features)}.values())
    made = columns_by_name(every, attributes)
    names = [name for each in columns_of(features).values() for name in each]
    return compile_columns({name: made[name] for name in names})


def columns_by_name(
    features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind] = _NO_ATTRIBUTES
) -> dict[str, Expression]:
    """Return the expression of each column of some features, by its name.

    Args:
        features: Of different names; free of faults (``features.checking``).
        attributes: Declared item attributes, which the texts of expressions name.

    Raises:
        Invalid: An expression cannot be read.
        KeyError: An expression names itself.
    """
    made = {
        name: column
        for each in features
        if not isinstance(each, Computed)
        for name, column in each.expressions().items()
    }
    todo = {each.name: each for each in features if isinstance(each, Computed)}
    known = {*made, *todo}

    def make(name: str) -> None:
        text = todo.pop(name).read(attributes, known)
        for each in text.columns:
            if each not in made:
                make(each)
        made[name] = resolved(text.column, made)

    while todo:
        make(next(iter(todo)))
    return made


def cells_of(
    features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind] = _NO_ATTRIBUTES
) -> tuple[Cell, ...]:
    """Return the cells that the state has to keep for them: ``FoldSettings.cells``."""
    return tuple(sorted(program_of(features, attributes).cells, key=msgspec.json.encode))
