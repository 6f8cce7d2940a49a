"""Columns of a sink's rows: features and fields that are one user's or one item's alone, and how they are read.

A value is as of the log time of the position at which it is read, never of the clock. So a row is a function of its id
and its version, on every node and at every repetition. ``log_time_ms`` stands in each row: with a column's half-life a
reader can age it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

import msgspec
import numpy as np

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.core.types import Candidates, Models, Query, TimestampMs
from midstream.engine.stores.online_store import COLUMNS_MAX, RESERVED, StoreKind, StoreValue
from midstream.events.wire import AttributeKind, plain_kind
from midstream.features.column_reads import Owners, fading_of, owners_of
from midstream.features.declarations import Declarations
from midstream.features.kinds.kinds import AnyFeature, columns_by_name, columns_of
from midstream.features.readers.external import External
from midstream.state.attributes.attributes import text_of
from midstream.state.fold import Fold

SinkScope: TypeAlias = Literal["user", "item"]
ReadField: TypeAlias = Callable[[Fold, int], StoreValue]
"""Returns a field of a user by slot, or of an item by index."""
PAGE: Final = "/docs/sinks.md"
LOG_TIME: Final = "log_time_ms"
_NAME_CHARS_MAX = 48
_NO_MODELS = Models({})
_USER_ROW: Final[Mapping[str, StoreKind]] = {
    "first_seen": "integer",
    "last_seen": "integer",
    "recent_items": "texts",
    "recent_actions": "texts",
}
_ITEM_KINDS: Final[Mapping[str, StoreKind]] = {
    "number": "number",
    "boolean": "integer",
    "category": "text",
    "tags": "texts",
}


@dataclass(frozen=True, slots=True)
class SinkField:
    """A column that is a field of the state."""

    column: str
    kind: StoreKind
    read: ReadField


@dataclass(frozen=True, slots=True)
class RowColumns:
    """All columns of a table, in order: those of features, then fields, then the log time."""

    scope: SinkScope
    features: tuple[str, ...]
    """Names of the declared features; each may have several columns."""
    feature_columns: tuple[str, ...]
    fields: tuple[SinkField, ...]
    half_lives: Mapping[str, tuple[int, ...]]
    """Of the sums in each column of features that fades, in milliseconds."""

    @property
    def kinds(self) -> Mapping[str, StoreKind]:
        """Kind of each column in the store, by name."""
        numbers: dict[str, StoreKind] = dict.fromkeys(self.feature_columns, "number")
        return {**numbers, **{each.column: each.kind for each in self.fields}, LOG_TIME: "integer"}


def row_columns(
    scope: SinkScope, names: Sequence[str], features: Sequence[AnyFeature], attributes: Mapping[str, AttributeKind]
) -> RowColumns:
    """Return the columns of a sink whose names are free of faults (``column_faults``)."""
    told = columns_of(features)
    chosen = tuple(name for name in names if name in told)
    columns = tuple(column for name in chosen for column in told[name])
    made = columns_by_name(features, attributes) if chosen else {}
    return RowColumns(
        scope=scope,
        features=chosen,
        feature_columns=columns,
        fields=tuple(_field(scope, name, attributes) for name in names if name not in told),
        half_lives={each: found for each in columns if (found := fading_of(made[each]))},
    )


def column_faults(
    where: str,
    scope: SinkScope,
    names: Sequence[str],
    features: Sequence[AnyFeature],
    attributes: Mapping[str, AttributeKind],
) -> Iterator[Fault]:
    """Yield what is wrong with the columns of a sink.

    Args:
        where: Pointer to the list of names.
        scope: Whose rows.
        names: As the configuration has them.
        features: All declared ones; free of faults.
        attributes: Declared item attributes.
    """
    told = columns_of(features)
    kinds = {each.name: each for each in features}
    made = columns_by_name(features, attributes)
    owners: dict[str, str] = {}
    for number, name in enumerate(names):
        place = f"{where}[{number}]"
        if name in told:
            read: Owners = frozenset(owner for column in told[name] for owner in owners_of(made[column]))
            yield from _feature_faults(place, scope, kinds[name], read)
            columns = told[name]
        else:
            found = tuple(_field_faults(place, scope, name, tuple(told), attributes))
            yield from found
            if found:
                continue
            columns = (_field(scope, name, attributes).column,)
        yield from _name_faults(place, name, columns, owners)
    if len(owners) >= COLUMNS_MAX:
        yield Fault(where, f"{len(owners)} columns.", f"At most {COLUMNS_MAX - 1}.", PAGE)


def _feature_faults(place: str, scope: SinkScope, feature: AnyFeature, read: Owners) -> Iterator[Fault]:
    """Yield a fault for a feature that is read for anything but the owner of a row."""
    if isinstance(feature, External):
        came = f'"{feature.name}" is of a table that somebody else writes.'
        yield Fault(place, came, "A feature that midstream counts; that table can be read where it is.", PAGE)
    elif others := sorted(read - {scope}):
        came = f'"{feature.name}" is read for a {" and a ".join(sorted(read))}: one {scope} alone has no value of it.'
        yield Fault(place, came, f"A feature of the scope {scope}; not {', '.join(others)}.", PAGE)


def _field_faults(
    place: str, scope: SinkScope, name: str, features: Sequence[str], attributes: Mapping[str, AttributeKind]
) -> Iterator[Fault]:
    """Yield a fault unless a name is a field of the owner of a row."""
    owner, _, field = name.partition(".")
    known = [*features]
    if scope == "item":
        fields = [each for each, kind in attributes.items() if plain_kind(kind) != "vector"]
        known += [f"item.{each}" for each in (*fields, "available")]
    else:
        known += [f"row.{each}" for each in _USER_ROW]
        if owner == "user" and field and field.replace("_", "").isalnum():
            return
    if name not in known:
        own = "user.<field of the profile>, " if scope == "user" else ""
        right = f"A declared feature, or one of: {own}{', '.join(known)}"
        yield Fault(place, f'"{name[:64]}" is no column of a sink of {scope}s.{nearest(name, known)}', right, PAGE)


def _name_faults(place: str, name: str, columns: Sequence[str], owners: dict[str, str]) -> Iterator[Fault]:
    """Yield the faults of the names that columns have in a store, and note whose they are."""
    for column in columns:
        if column in owners:
            yield Fault(place, f'"{name}" and "{owners[column]}" both make a column {column}.', "Each once.", PAGE)
        elif column in RESERVED or column == LOG_TIME:
            right = f"Another name; each row has {', '.join(sorted({*RESERVED, LOG_TIME}))}."
            yield Fault(place, f'"{name}" makes a column {column}.', right, PAGE)
        elif len(column) > _NAME_CHARS_MAX or not column.islower() or not column[0].isalpha() or not column.isascii():
            right = f"A letter and up to {_NAME_CHARS_MAX - 1} letters, digits and _, in lower case."
            yield Fault(place, f'"{name}" makes a column {column[:64]}, which not every store can have.', right, PAGE)
        owners.setdefault(column, name)


def _field(scope: SinkScope, name: str, attributes: Mapping[str, AttributeKind]) -> SinkField:
    owner, _, field = name.partition(".")
    column = f"{owner}_{field}"
    if owner == "row":
        return SinkField(column, _USER_ROW[field], _OF_ROWS[field])
    if scope == "user":
        return SinkField(column, "text", lambda fold, slot: _profile_text(fold.users.value(slot, field)))
    if field == "available":
        return SinkField(column, "integer", lambda fold, index: int(fold.items.available[index]))
    kind = _ITEM_KINDS[plain_kind(attributes[field])]
    return SinkField(column, kind, lambda fold, index: _attribute(kind, fold.items.value(index, field)))


def _profile_text(value: object) -> StoreValue:
    """Return a value of a profile as text: a list or object as JSON."""
    if value is None:
        return None
    text = text_of(value)
    return msgspec.json.encode(value).decode() if text is None else text


def _attribute(kind: StoreKind, value: object) -> StoreValue:
    """Return an attribute as it was sent; None where it is of another kind."""
    if kind == "texts":
        tags = cast("list[object]", value) if isinstance(value, list) else []
        return tuple(text for each in tags if (text := text_of(each)) is not None) or None
    if kind == "text":
        return text_of(value)
    if kind == "integer":
        return int(value) if isinstance(value, bool) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _recent_actions(fold: Fold, slot: int) -> list[str]:
    names, actions = fold.settings.action_names(), fold.users.recent(slot).action
    return [names[int(each)] for each in actions]


_OF_ROWS: Final[Mapping[str, ReadField]] = {
    "first_seen": lambda fold, slot: fold.users.first_seen_ms(slot) or None,
    "last_seen": lambda fold, slot: fold.users.last_seen_ms(slot) or None,
    "recent_items": lambda fold, slot: fold.vocabulary.item_ids(fold.users.recent(slot).item_index),
    "recent_actions": _recent_actions,
}


class OwnerRowReader:
    """Reads rows of a state, in calls that never wait."""

    def __init__(self, columns: RowColumns) -> None:
        """Read ``columns``."""
        self.columns = columns
        self.texts = tuple((place, *told) for place, told in enumerate(columns.kinds.items()) if "text" in told[1])
        """Place, name and kind of each column of texts: what users send, and a store may be unable to hold."""
        self._nobody = _rows(np.array([-1], dtype=np.int32))

    def user(self, fold: Fold, declared: Declarations, user_id: str, slot: int) -> list[StoreValue]:
        """Return the row of a user, in the order of the columns. Cost: about 30 µs."""
        values: list[StoreValue] = []
        if self.columns.features:
            moment = fold.moment(_query(fold, user_id), _NO_MODELS)
            values += declared.block(self.columns.features).read(moment, self._nobody)[0].tolist()
        values += [each.read(fold, slot) for each in self.columns.fields]
        return [*values, fold.log_time_ms]

    def items(self, fold: Fold, declared: Declarations, indices: Sequence[int]) -> list[list[StoreValue]]:
        """Return the rows of items, each in the order of the columns. Cost: about 50 µs, and 3 µs a field and item."""
        found: list[list[StoreValue]] = [[] for _ in indices]
        if self.columns.features:
            moment = fold.moment(_query(fold, None), _NO_MODELS)
            block = declared.block(self.columns.features)
            values: list[list[float]] = block.read(moment, _rows(np.array(indices, dtype=np.int32))).tolist()
            found = [[*each] for each in values]
        for row, index in zip(found, indices, strict=True):
            row += [each.read(fold, index) for each in self.columns.fields]
            row.append(fold.log_time_ms)
        return found


def _query(fold: Fold, user_id: str | None) -> Query:
    """Return a question about one user, or about items alone, as of the log time of the state."""
    return Query(
        request_id="",
        placement="",
        user_id=user_id,
        session_id=None,
        slate_size=1,
        now_ms=TimestampMs(fold.log_time_ms),
        seed=0,
    )


def _rows(item_index: "np.ndarray[tuple[int], np.dtype[np.int32]]") -> Candidates:
    nothing = (len(item_index), 0)
    return Candidates(item_index, (), np.empty(nothing, np.float32), np.empty(nothing, np.int32))
