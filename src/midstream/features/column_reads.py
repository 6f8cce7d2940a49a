"""Dependencies of a column: the users, items, sessions and requests that it is read for.

A column that is of one user alone, or of one item alone, has a value beside every request, so it can be written down
for others. A reader that is not listed is taken for one of the request: what nobody looked at is written nowhere.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from midstream.features.readers.condition_inputs import (
    ItemAmong,
    ItemCount,
    ItemFading,
    ItemTagged,
    Listed,
    TextAmong,
    Texts,
    ToldText,
    ToldTexts,
    Top,
)
from midstream.features.readers.history_inputs import Last, Shared
from midstream.features.readers.item_inputs import (
    ItemArrival,
    ItemCategory,
    ItemNumber,
    ItemReduced,
    ItemVector,
    ItemWords,
)
from midstream.features.readers.request_inputs import ContextValue, ToldCategory, ToldNumbers, ToldWords
from midstream.state.expressions.program import Cell, Expression, Input

Owner: TypeAlias = Literal["user", "item", "session", "request"]
Owners: TypeAlias = frozenset[Owner]
_USER: Final[Owners] = frozenset(("user",))
_ITEM: Final[Owners] = frozenset(("item",))
_REQUEST: Final[Owners] = frozenset(("request",))
_CELLS: Final[Mapping[str, Owners]] = {
    "global": frozenset(),
    "user": _USER,
    "item": _ITEM,
    "attribute": _ITEM,
    "session": frozenset(("session",)),
    "user_item": _USER | _ITEM,
    "user_attribute": _USER | _ITEM,
    "outcomes": frozenset(),
    "item_outcomes": _ITEM,
}
_OF_ITEMS: Final = (
    ItemNumber,
    ItemVector,
    ItemReduced,
    ItemCategory,
    ItemArrival,
    ItemWords,
    ItemCount,
    ItemFading,
)
_READERS: Final[Mapping[type, Callable[[Any], Owners]]] = {
    **dict.fromkeys(_OF_ITEMS, lambda _: _ITEM),
    **dict.fromkeys((ContextValue, ToldCategory, ToldWords), lambda reader: _told(reader.place)),
    ToldNumbers: lambda _: _USER,
    Last: lambda reader: _acts(reader.scope),
    Shared: lambda reader: _acts(reader.scope) | _ITEM,
    TextAmong: lambda reader: _texts(reader.text) | _texts(reader.texts),
    ItemAmong: lambda reader: _texts(reader.texts) | _ITEM,
    ItemTagged: lambda reader: _texts(reader.text) | _ITEM,
}


def owners_of(column: Expression) -> Owners:
    """Return whom a column is read for; empty = it is the same for everybody."""
    found: set[Owner] = set()
    for leaf in _leaves(column):
        if isinstance(leaf, Cell):
            found |= _CELLS[leaf.scope]
        else:
            read = _READERS.get(type(leaf.reader))
            found |= _REQUEST if read is None else read(leaf.reader)
    return frozenset(found)


def fading_of(column: Expression) -> tuple[int, ...]:
    """Return the half-lives of the sums in a column, in milliseconds, ascending."""
    cells = (leaf for leaf in _leaves(column) if isinstance(leaf, Cell))
    return tuple(sorted({cell.half_life_ms for cell in cells if cell.half_life_ms}))


def _told(place: str) -> Owners:
    return _USER if place == "user" else _REQUEST


def _acts(scope: str) -> Owners:
    return _USER if scope == "user" else frozenset(("session",))


def _texts(texts: Texts) -> Owners:
    if isinstance(texts, Listed):
        return frozenset()
    if isinstance(texts, ToldText):
        return _told(texts.place)
    return _USER if isinstance(texts, (ToldTexts, Top)) else _REQUEST


def _leaves(column: Expression) -> Iterator[Cell | Input]:
    """Yield each cell and input of a column; of shared parts once."""
    seen: set[int] = set()
    todo = [column]
    while todo:
        each = todo.pop()
        if id(each) not in seen:
            seen.add(id(each))
            todo.extend(each.arguments)
            if isinstance(each.leaf, (Cell, Input)):
                yield each.leaf
