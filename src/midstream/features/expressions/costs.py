"""Cost estimate of an expression, and whether its value differs between items.

Costs are microseconds for 500 candidates, measured on one core of 2020. They are limits, not predictions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from midstream.features.readers.condition_inputs import (
    ItemAmong,
    ItemCount,
    ItemFading,
    ItemTagged,
    TextAmong,
    ZoneTime,
)
from midstream.features.readers.external import BoundColumns, TableColumns
from midstream.features.readers.history_inputs import KnnScores, Last, PairScores, Shared
from midstream.features.readers.item_inputs import ItemDifference, ItemNumber, ItemWords, TextOverlap
from midstream.features.readers.request_inputs import (
    Agent,
    CameFrom,
    ContextValue,
    LocalTimeReader,
    ToldCategory,
    ToldNumbers,
    ToldWords,
)
from midstream.state.expressions.program import Cell, Expression, Input

_ONCE: Final = (
    ContextValue,
    ToldCategory,
    ToldNumbers,
    ToldWords,
    LocalTimeReader,
    Agent,
    CameFrom,
    Last,
    TextAmong,
    ZoneTime,
)
"""Readers that write the same for all candidates."""
_ONCE_SCOPES: Final = frozenset({"global", "user", "session", "outcomes"})
_CALL_US: Final = 10.0
"""Of the call: the kernel, its arguments, and the mask that is made of the column."""
_STEP_US: Final = 0.5
"""Of an operation on 500 numbers: 1 ns each; an operation on a value that all candidates share costs a tenth."""
_CELL_US: Final = 5.0
"""Of a cell of 500 items that are not in the cache: 10 ns each."""
_OTHER_US: Final = 50.0
"""Of a reader that is not listed: none of them looks at a document."""
_READER_US: Final[Mapping[type, float]] = {
    **dict.fromkeys(_ONCE, 3.0),
    ItemNumber: 4.0,
    ItemAmong: 12.0,
    ItemTagged: 20.0,
    ItemCount: 15.0,
    ItemFading: 10.0,
    ItemWords: 1_000.0,  # a document each, 2 µs
    TextOverlap: 2_500.0,  # and its words, 5 µs
    Shared: 60.0,
    ItemDifference: 60.0,
    PairScores: 100.0,
    KnnScores: 200.0,  # a query of the session index
    TableColumns: 60.0,
    BoundColumns: 60.0,  # a search in a table of 5 M rows each
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a text."""

    total_us: float
    """For 500 candidates."""
    dearest: str
    """Its most expensive part."""


def cost_of(expression: Expression) -> Cost:
    """Return the cost of a column: of each reader, cell and operation in it once, as it is computed."""
    parts: dict[object, float] = {}
    for each in _distinct(expression):
        if isinstance(each.leaf, Input):
            parts[each.leaf.reader] = _READER_US.get(type(each.leaf.reader), _OTHER_US)
        elif isinstance(each.leaf, Cell):
            parts[each.leaf] = _CELL_US
    dearest = max(parts, key=lambda part: parts[part], default=None)
    steps = sum(bool(each.arguments) for each in _distinct(expression))
    return Cost(_CALL_US + steps * _STEP_US + sum(parts.values()), type(dearest).__name__)


def is_of_items(expression: Expression) -> bool:
    """Return whether a column can differ from one candidate to the next."""
    return any(
        not isinstance(each.leaf.reader, _ONCE)
        if isinstance(each.leaf, Input)
        else isinstance(each.leaf, Cell) and each.leaf.scope not in _ONCE_SCOPES
        for each in _distinct(expression)
    )


def compares_candidates(expression: Expression) -> bool:
    """Return whether a column's value depends on the other candidates."""
    readers = (each.leaf.reader for each in _distinct(expression) if isinstance(each.leaf, Input))
    return any(isinstance(reader, ItemDifference) for reader in readers)


def _distinct(expression: Expression) -> Iterator[Expression]:
    """Yield each part once, as an object."""
    seen: set[int] = set()
    todo = [expression]
    while todo:
        each = todo.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            todo.extend(each.arguments)
