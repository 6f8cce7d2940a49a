"""Name resolution in expressions: the allowed names, and the column of each."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from midstream.core.durations import Duration, format_duration
from midstream.core.nearest import nearest
from midstream.events.wire import AttributeKind, vector_length
from midstream.features.expressions.tree import Notes
from midstream.features.expressions.values import Kind, Value
from midstream.features.readers.condition_inputs import (
    ItemCount,
    ItemFading,
    Listed,
    ToldText,
    ToldTexts,
    Top,
    ZoneTime,
)
from midstream.features.readers.external import ExternalTable, Tables
from midstream.features.readers.inputs import columns_from
from midstream.features.readers.item_inputs import ItemNumber
from midstream.features.readers.request_inputs import TIME_PARTS, ContextValue, Place
from midstream.state.expressions.program import Expression, Input, column
from midstream.state.items.items import AVAILABLE
from midstream.state.structures.windows import WINDOWS_MS
from midstream.state.users.affinities import AFFINITIES_MAX

Scope: TypeAlias = str
ITEM: Final = "item.<attribute>"
COUNTS: Final = "item.count(), item.fading()"
CONTEXT: Final = "context.<name>"
USER: Final = "user.<attribute>, user.top()"
NOW: Final = "now.<part>"
COLUMNS: Final = "columns of declared features"
SCOPES: Final = frozenset((ITEM, COUNTS, CONTEXT, USER, NOW, COLUMNS))
_SCOPE_OF: Mapping[str, Scope] = {"item": ITEM, "context": CONTEXT, "user": USER, "now": NOW}
_TRUTHS = {"true": 1.0, "false": 0.0}
_KINDS: Mapping[AttributeKind, Kind] = {"number": "number", "boolean": "boolean", "category": "text", "tags": "tags"}
CALLS = ("item.count", "item.fading", "user.top")


@dataclass(frozen=True, slots=True)
class ColumnOf:
    """Placeholder for a column of a declared feature, until its expression is known."""

    name: str
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Names:
    """All names that expressions may use."""

    attributes: Mapping[str, AttributeKind] = field(default_factory=dict[str, AttributeKind])
    """Declared item attributes; ``available`` is always there."""
    columns: Mapping[str, Expression] = field(default_factory=dict[str, Expression])
    """Of declared features, by name."""
    actions: tuple[str, ...] = ()
    """Countable actions of items: configured interactions, and ``impression``."""
    half_lives: tuple[Duration, ...] = ()
    """Of the fading counts of items."""
    tables: Tables = field(default_factory=dict[str, ExternalTable])
    """Content of the tables that columns read; needed where a text is to be evaluated."""
    timezone: str = "UTC"
    """Of ``now``: a name of the tz database."""
    context: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    """Kinds of the names of the context that are declared; of others the text says it."""


class NameResolver:
    """Resolves names to columns, and notes unknown ones."""

    def __init__(self, names: Names, scopes: frozenset[Scope], notes: Notes) -> None:
        """Begin.

        Args:
            names: All names.
            scopes: The allowed ones of them.
            notes: Gets the faults.
        """
        self._names = names
        self._scopes = scopes
        self._notes = notes
        self._attributes: Mapping[str, AttributeKind] = {AVAILABLE: "boolean", **names.attributes}
        self._kinds: dict[tuple[Place, str], Kind] = {}
        self.columns: dict[str, None] = {}
        """Columns of features that were named, in order."""

    @property
    def context(self) -> dict[str, Kind]:
        """Kinds of the names of the context."""
        return {name: kind for (place, name), kind in self._kinds.items() if place == "request"}

    def plain(self, node: ast.Name) -> Value | None:
        """Return the value of a name without a dot: a truth value, or a column of a feature."""
        name = node.id
        if name in _TRUTHS:
            return Value("boolean", name, column(_TRUTHS[name]))
        if name in self._names.columns and COLUMNS in self._scopes:
            self.columns[name] = None
            return Value("number", name, column(Input(ColumnOf(name))))
        attributes = [f"item.{each}" for each in self._attributes] if ITEM in self._scopes else []
        features = list(self._names.columns) if COLUMNS in self._scopes else []
        near = nearest(name, features) or nearest(f"item.{name}", [*attributes, *features, *_TRUTHS])
        came = f'"{name[:64]}" is not a name{"" if name not in self._names.columns else " that may stand here"}.{near}'
        return self._refused(node, came, f"Names here: {self._allowed()}.")

    def dotted(self, node: ast.Attribute, scope: str) -> Value | None:
        """Return the value of ``scope.name``."""
        name = node.attr
        if scope not in _SCOPE_OF:
            came = f'"{scope[:64]}.{name[:64]}" is not a name.{nearest(scope, _SCOPE_OF)}'
            return self._refused(node, came, f"Names here: {self._allowed()}.")
        if not self._may(node, f"{scope}.{name}", _SCOPE_OF[scope]):
            return None
        if scope == "item":
            return self._attribute(node, name)
        if scope == "now":
            return self._clock(node, name)
        place: Place = "user" if scope == "user" else "request"
        if place == "request" and name in self._names.context:
            self._kinds.setdefault((place, name), self._names.context[name])
        return self._told(place, name, self._kinds.get((place, name), "open"))

    def call(self, node: ast.Call, name: str) -> Value | None:
        """Return the value of ``item.count(…)``, ``item.fading(…)`` or ``user.top(…)``."""
        scope = USER if name == "user.top" else COUNTS
        if name not in CALLS:
            known = ", ".join(f"{each}()" for each in CALLS)
            came = f'"{name[:64]}" is not a function.{nearest(name, CALLS)}'
            return self._refused(node, came, f"Another one than {known} is not allowed.")
        if not self._may(node, f"{name}()", scope):
            return None
        arguments = [each.value for each in node.args if isinstance(each, ast.Constant)]
        match arguments:
            case [str() as first, str() as second] if len(node.args) == len(arguments) and name != "user.top":
                return self._counted(node, name, first, second)
            case [str() as first, int() as count] if len(node.args) == len(arguments) and name == "user.top":
                return self._top(node, first, count)
            case _:
                right = 'user.top("category", 3)' if name == "user.top" else f'{name}("view", "7d")'
                return self._refused(node, f"`{self._notes.said(node)}` came.", f"Such as {right}, written out.")

    def as_kind(self, value: Value, kind: Kind) -> Value:
        """Return the value; a name whose kind was open gets this one, for the whole text."""
        if value.kind != "open" or value.told is None:
            return value
        return self._told(*value.told, self._kinds.setdefault(value.told, kind))

    def _attribute(self, node: ast.expr, name: str) -> Value | None:
        """Return a declared attribute."""
        kind = self._attributes.get(name)
        if kind is None:
            known = [f"item.{each}" for each in self._attributes]
            came = f'"item.{name[:64]}" is not a declared attribute.{nearest(f"item.{name}", known)}'
            right = f"Attributes: {', '.join(self._attributes)}. Declare it in [items.attributes]."
            return self._refused(node, came, right)
        if vector_length(kind):
            right = "Texts read numbers, truths, categories and tags; a vector is for features of its own kind."
            return self._refused(node, f"item.{name} is a {kind}.", right)
        found = _KINDS[kind]
        if found in ("number", "boolean"):
            return Value(found, f"item.{name}", columns_from(ItemNumber(name))[0])
        return Value(found, f"item.{name}", attribute=name)

    def _clock(self, node: ast.expr, name: str) -> Value | None:
        """Return a part of the time of the request."""
        for part in TIME_PARTS:
            if part == name:
                return Value("number", f"now.{part}", columns_from(ZoneTime(part, self._names.timezone))[0])
        came = f'"now.{name[:64]}" is no part of a time.{nearest(name, TIME_PARTS)}'
        return self._refused(node, came, f"Parts: {', '.join(f'now.{each}' for each in TIME_PARTS)}.")

    def _told(self, place: Place, name: str, kind: Kind) -> Value:
        """Return a name of the profile or context that is of a kind."""
        said = f"{'user' if place == 'user' else 'context'}.{name}"
        if kind == "number" or kind == "boolean":  # noqa: PLR1714  what narrows the type
            return Value(kind, said, columns_from(ContextValue(place, name, kind))[0], told=(place, name))
        texts = ToldText(place, name) if kind == "text" else ToldTexts(name) if kind == "list" else None
        return Value(kind, said, texts=texts, told=(place, name), elements="text" if kind == "list" else "open")

    def _counted(self, node: ast.Call, name: str, action: str, length: str) -> Value | None:
        """Return a count of the item's events."""
        said, counted = f'{name}("{action}", "{length}")', self._names.actions
        if action not in counted:
            came = f'"{action[:64]}" is not counted.{nearest(action, counted)}'
            return self._refused(node.args[0], came, f"Counted are: {', '.join(counted)}.")
        is_window = name == "item.count"
        kept = WINDOWS_MS if is_window else tuple(each.ms for each in self._names.half_lives)
        try:
            length_ms = Duration(length).ms
        except ValueError:
            length_ms = -1
        if length_ms not in kept:
            what = "window" if is_window else "half-life"
            right = f"Kept are: {', '.join(map(format_duration, kept))}."
            return self._refused(node.args[1], f'"{length[:64]}" is no {what} of item counts.', right)
        reader = ItemCount(action, length_ms) if is_window else ItemFading(action, length_ms)
        return Value("number", said, columns_from(reader)[0])

    def _top(self, node: ast.Call, attribute: str, count: int) -> Value | None:
        """Return the values that the user likes most."""
        categories = [name for name, kind in self._names.attributes.items() if kind == "category"]
        if attribute not in categories:
            came = f'"{attribute[:64]}" is not a category attribute.{nearest(attribute, categories)}'
            return self._refused(node.args[0], came, f"Declared ones: {', '.join(categories) or 'none'}.")
        if not 1 <= count <= AFFINITIES_MAX or isinstance(count, bool):
            right = f"From 1 to {AFFINITIES_MAX}: so many values are kept of one user."
            return self._refused(node.args[1], f"{count} values are asked for.", right)
        said = f'user.top("{attribute}", {count})'
        return Value("list", said, texts=Top(attribute, count), elements="text")

    def _may(self, node: ast.expr, said: str, scope: Scope) -> bool:
        """Return whether something may be named here, with a fault noted if not."""
        if scope not in self._scopes:
            self._notes.refuse(node, f"{said[:64]} cannot be named here.", f"Names here: {self._allowed()}.")
        return scope in self._scopes

    def _allowed(self) -> str:
        return ", ".join(each for each in (ITEM, COUNTS, CONTEXT, USER, NOW, COLUMNS) if each in self._scopes)

    def _refused(self, node: ast.expr, came: str, right: str) -> Value | None:
        """Note a fault, and return a placeholder value."""
        self._notes.refuse(node, came, right)
        return None


def constant(value: str | float) -> Value:
    """Return the value of a constant: a text, a number, or a truth value."""
    if isinstance(value, bool):
        return Value("boolean", "true" if value else "false", column(float(value)))
    if isinstance(value, str):
        return Value("text", repr(value), texts=Listed((value,)), constants=(value,))
    return Value("number", repr(value), column(value), constants=(value,))


def resolved(expression: Expression, columns: Mapping[str, Expression]) -> Expression:
    """Return an expression with the columns of features in the places of their names.

    Raises:
        KeyError: A column is not there.
    """
    done: dict[int, Expression] = {}

    def resolve(each: Expression) -> Expression:
        if id(each) not in done:
            if isinstance(each.leaf, Input) and isinstance(each.leaf.reader, ColumnOf):
                done[id(each)] = columns[each.leaf.reader.name]
            elif each.arguments:
                done[id(each)] = Expression(each.op, tuple(map(resolve, each.arguments)), each.leaf)
            else:
                done[id(each)] = each
        return done[id(each)]

    return resolve(expression)


def size_of(expression: Expression, sizes: Mapping[str, int] | None = None) -> int:
    """Return the number of steps of an expression, written out: comparing and hashing it takes as long.

    Args:
        expression: Its parts may be shared; each is visited once.
        sizes: Of the columns of features that it names; 1 where one is missing.
    """
    known = sizes or {}
    done: dict[int, int] = {}

    def size(each: Expression) -> int:
        if id(each) not in done:
            reader = each.leaf.reader if isinstance(each.leaf, Input) else None
            own = known.get(reader.name, 1) if isinstance(reader, ColumnOf) else 1
            done[id(each)] = own + sum(map(size, each.arguments))
        return done[id(each)]

    return size(expression)
