"""Declared features: all kinds as one type, and the columns they mean.

A kind is a frozen type with the options that a declaration has, and a method that returns expressions over cells
(``state.program``) and inputs of the question (``features.inputs``). So it needs no state, kernel or snapshot of its
own, and is the same live, after a restart and in training. What is not known is NaN: a rate of nothing, the time since
what never was.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from midstream.features.external import External
from midstream.features.kinds_attributes import (
    Boolean,
    Category,
    Diversity,
    FieldMatch,
    ItemAge,
    Number,
    Vector,
    WordCount,
)
from midstream.features.kinds_counts import Affinity, Count, Counted, Rate, Since, Statistic, UniqueCount
from midstream.features.kinds_expression import Computed
from midstream.features.kinds_history import KnnScore, LastItems, Match, PairScore
from midstream.features.kinds_request import (
    Device,
    ItemField,
    LocalTime,
    Position,
    Random,
    Referrer,
    Relevancy,
)
from midstream.state.program import Cell, Expression, Program, compile_columns

__all__ = [
    "Affinity",
    "AnyFeature",
    "Boolean",
    "Category",
    "Computed",
    "Count",
    "Counted",
    "Device",
    "Diversity",
    "External",
    "FieldMatch",
    "ItemAge",
    "ItemField",
    "KnnScore",
    "LastItems",
    "LocalTime",
    "Match",
    "Number",
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
    "columns_of",
    "program_of",
    "scope_of",
]
Told: TypeAlias = Number | Boolean | Category | Vector | ItemAge | WordCount | FieldMatch | Diversity
Happened: TypeAlias = Count | Rate | UniqueCount | Statistic | Since | Affinity
Recent: TypeAlias = Match | LastItems | PairScore | KnnScore
Asked: TypeAlias = LocalTime | Device | Referrer | ItemField | Relevancy | Position | Random
AnyFeature: TypeAlias = Told | Happened | Recent | Asked | External | Computed
"""Any declaration; its ``kind`` says which."""
_SCOPES: Mapping[type, str] = {
    **dict.fromkeys((ItemAge, FieldMatch, Diversity, ItemField, Relevancy, Position, Random), "item"),
    **dict.fromkeys((LocalTime, Device, Referrer), "request"),
    **dict.fromkeys((PairScore, KnnScore), "session"),
    Affinity: "user_attribute",
    Computed: "",
    External: "",
}
"""Of kinds that have one scope only."""


def scope_of(feature: AnyFeature) -> str:
    """Return whose number a feature is; empty = it follows from other features, or its table says."""
    only = _SCOPES.get(type(feature))
    return str(getattr(feature, "scope", "")) if only is None else only


def columns_of(features: Sequence[AnyFeature]) -> dict[str, tuple[str, ...]]:
    """Return the names of each feature's columns, by the name of the feature."""
    return {each.name: (each.name,) if isinstance(each, Computed) else tuple(each.expressions()) for each in features}


def program_of(features: Sequence[AnyFeature], among: Sequence[AnyFeature] = ()) -> Program:
    """Return what computes the columns of all features, equal parts once.

    Args:
        features: Free of faults (``features.checking``).
        among: Further ones that expressions may name; their columns are not among those that come out.

    Raises:
        KeyError: An expression names a column that is in neither, or itself.
    """
    every = {each.name: each for each in (*among, *features)}
    made = {
        name: column
        for each in every.values()
        if not isinstance(each, Computed)
        for name, column in each.expressions().items()
    }
    todo = {each.name: each for each in every.values() if isinstance(each, Computed)}

    def column_of(name: str) -> Expression:
        if name not in made:
            made[name] = todo.pop(name).expression(column_of)
        return made[name]

    names = [name for each in columns_of(features).values() for name in each]
    return compile_columns({name: column_of(name) for name in names})


def cells_of(features: Sequence[AnyFeature]) -> tuple[Cell, ...]:
    """Return what has to be kept for them: ``FoldSettings.cells``."""
    return tuple(sorted(program_of(features).cells, key=msgspec.json.encode))
