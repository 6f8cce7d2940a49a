"""A small state, and texts of the language with what a plain interpreter of three values makes of them."""

import json
import math
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.core.kinds import IMPRESSION, Kind, Operation
from midstream.core.types import LogPosition, Models, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.events.wire import AttributeKind
from midstream.features.expressions.names import Names
from midstream.features.kinds.kinds import (
    Affinity,
    AnyFeature,
    CandidateDiversity,
    Computed,
    Count,
    Number,
    cells_of,
    columns_by_name,
)
from midstream.state.fold import Fold
from tests.support.events import tiny_settings

HOUR = 3_600_000
NOW = 1_750_000_000_000
ZONE = "Asia/Kathmandu"
"""5:45 ahead of UTC."""
ATTRIBUTES: dict[str, AttributeKind] = {
    "price": "number",
    "rank": "number",
    "colour": "category",
    "brand": "category",
    "tags": "tags",
    "fresh": "boolean",
}
FEATURES: tuple[AnyFeature, ...] = (
    Count(name="views", actions=("view",)),
    Count(name="clicks_of_user", scope="user", actions=("click",)),
    Number(name="age", scope="user"),
    Computed(name="dear", text="item.price * 2 + if_nan(views, 0)"),
    Computed(name="red", text='item.colour == "red" or item.price < 1'),
    Affinity(name="leaning", attribute="colour", actions=("view", "click")),
    CandidateDiversity(name="unlike", attribute="colour"),
)
DOCUMENTS: dict[str, dict[str, Any]] = {
    "a": {"price": 1.0, "rank": 3, "colour": "red", "brand": "x", "tags": ["new", "sale"], "fresh": True},
    "b": {"price": 2.0, "rank": 0, "colour": "blue", "brand": "y", "tags": [], "fresh": False},
    "c": {"price": 0.0, "colour": "red", "tags": ["sale"]},
    "d": {"rank": -1, "brand": "red", "fresh": True, "available": False},
    "e": {},
    "f": {"price": 2.0, "rank": 2, "colour": "green", "brand": "x", "fresh": False, "tags": ["new"]},
}
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {"age": 2, "country": "x", "groups": ["vip", "red", 7], "member": True, "limit": 1.5},
    "bob": {"age": "old", "country": 7, "groups": "vip", "member": "yes"},
    "cyd": {},
}
ACTS = (
    ("ann", "a", "view", 0), ("ann", "a", "click", 0), ("ann", "f", "view", 2), ("ann", "b", "dismiss", 1),
    ("bob", "b", "view", 30), ("bob", "c", "click", 2), ("cyd", "e", "view", 0), ("cyd", "a", "impression", 1),
)  # fmt: skip
"""User, item, action, and hours before now."""


@cache
def shop() -> Fold:
    """The state that all tests read."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(tiny.limits, items_max=64, users_max=64, attribute_values_max=64)
    cells = cells_of(FEATURES, ATTRIBUTES)
    half_lives = (Duration("1h"), Duration("7d"))
    kept = {"attributes": ATTRIBUTES, "cells": cells, "limits": limits, "half_lives": half_lives}
    fold = Fold(msgspec.structs.replace(tiny, **kept))
    start = NOW - 40 * HOUR
    events = [
        Event(Kind.ITEM, Operation.PUT, item_id=name, body=json.dumps(each).encode(), log_time_ms=start)
        for name, each in DOCUMENTS.items()
    ]
    events += [
        Event(Kind.USER, Operation.PUT, user_id=name, body=json.dumps(each).encode(), log_time_ms=start)
        for name, each in PEOPLE.items()
    ]
    for user, item, action, hours in sorted(ACTS, key=lambda each: -each[3]):
        told: dict[str, Any] = {
            "user_id": user,
            "item_id": item,
            "event_time_ms": NOW - hours * HOUR,
            "log_time_ms": NOW - hours * HOUR,
        }
        kind = Kind.IMPRESSION if action == "impression" else Kind.INTERACTION
        events.append(Event(kind, action="" if action == "impression" else action, **told))
    fold.apply(LogPosition(0), build([each._replace(event_id=f"e{n}") for n, each in enumerate(events)]))
    return fold


@cache
def names() -> Names:
    """What there is to be named."""
    columns = columns_by_name(FEATURES, ATTRIBUTES)
    fold = shop().settings
    actions = (*fold.action_names(), IMPRESSION)
    return Names(ATTRIBUTES, columns, actions, fold.half_lives, {}, ZONE)


def moment_of(user: str | None, context: dict[str, Any] | None = None):
    """A request's moment."""
    query = Query("r", "home", user, None, 5, TimestampMs(NOW), 1, context=context or {})
    return shop().moment(query, Models({}))


def indices():
    """Of all documents in order, and of an item that is not known."""
    return np.append(shop().vocabulary.item_indices(tuple(DOCUMENTS)), np.int32(-1))


# The plain interpreter. A part is a text and a function of item, user and context that gives a number, a text, True,
# False, or None = unknown.
@dataclass(frozen=True)
class World:
    """One item, one user and one context, as plain dictionaries; None = not known."""

    item: str | None
    user: str | None
    context: dict[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        return DOCUMENTS.get(self.item or "", {})

    def told(self, name: str, kind: Any) -> Any:
        value = PEOPLE.get(self.user or "", {}).get(name)
        if kind is str and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if kind is float:
            return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        return value if isinstance(value, kind) else None

    def count(self, action: str, hours: int) -> float | None:
        if self.item is None:
            return None
        return float(sum(each[1:3] == (self.item, action) and each[3] < hours for each in ACTS))


def known(compute):
    """A function of parts that is unknown when one of them is."""

    def found(*parts):
        def at(world):
            given = [part(world) for part in parts]
            return None if None in given else compute(*given)

        return at

    return found


def finite(value: float) -> float | None:
    """NaN is unknown."""
    return None if math.isnan(value) else value


OPERATIONS = {
    "+": lambda a, b: finite(a + b),
    "-": lambda a, b: finite(a - b),
    "*": lambda a, b: finite(a * b),
    "/": lambda a, b: finite(a / b) if b else None,
    "min": min,
    "max": max,
}
COMPARISONS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
LOCAL = datetime.fromtimestamp(NOW / 1_000, ZoneInfo(ZONE))


def of_tags(world: World) -> Any:
    """No tags are no tags, of an item that is known."""
    return None if world.item is None else world.document.get("tags", [])


def as_float(value: Any) -> float | None:
    """A number that is there."""
    return None if value is None else float(value)


def views_of(world: World) -> float | None:
    """Of all time."""
    return world.count("view", 1_000)


def dear_of(world: World) -> float | None:
    """The feature ``dear``."""
    price = as_float(world.document.get("price"))
    return None if price is None else price * 2 + (views_of(world) or 0.0)


NUMBERS = st.one_of(
    st.sampled_from((0.0, 1.0, 2.0, -1.5)).map(lambda value: (repr(value), lambda _: value)),
    st.sampled_from(("price", "rank")).map(
        lambda name: (f"item.{name}", lambda world: as_float(world.document.get(name)))
    ),
    st.sampled_from(("age", "limit")).map(lambda name: (f"user.{name}", lambda world: world.told(name, float))),
    st.just(("context.budget", lambda world: world.context.get("budget"))),
    st.sampled_from((("view", 24), ("click", 1), ("impression", 24))).map(
        lambda each: (f'item.count("{each[0]}", "{each[1]}h")', lambda world: world.count(*each))
    ),
    st.sampled_from((("now.hour", LOCAL.hour), ("now.weekday", LOCAL.weekday()), ("now.year", LOCAL.year))).map(
        lambda each: (each[0], lambda _: float(each[1]))
    ),
    st.just(("views", views_of)),
    st.just(("dear", dear_of)),
)


def arithmetic(inner):
    """Operations on numbers."""
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(st.sampled_from("+-*/"), pair).map(
            lambda each: (
                f"({each[1][0][0]} {each[0]} {each[1][1][0]})",
                known(OPERATIONS[each[0]])(each[1][0][1], each[1][1][1]),
            )
        ),
        st.tuples(st.sampled_from(("min", "max")), pair).map(
            lambda each: (
                f"{each[0]}({each[1][0][0]}, {each[1][1][0]})",
                known(OPERATIONS[each[0]])(each[1][0][1], each[1][1][1]),
            )
        ),
        pair.map(lambda each: (f"if_nan({each[0][0]}, {each[1][0]})", _either(each[0][1], each[1][1]))),
        inner.map(
            lambda each: (f"sqrt({each[0]})", known(lambda value: math.sqrt(value) if value >= 0 else None)(each[1]))
        ),
        inner.map(lambda each: (f"-({each[0]})", known(lambda value: 0.0 - value)(each[1]))),
    )


def _either(first, second):
    """What ``if_nan`` means."""

    def at(world):
        found = first(world)
        return second(world) if found is None else found

    return at


numbers = st.recursive(NUMBERS, arithmetic, max_leaves=3)
TEXTS = st.one_of(
    st.sampled_from(("red", "x", "7", "unheard of")).map(lambda text: (json.dumps(text), lambda _: text)),
    st.just(("context.kind", lambda world: world.context.get("kind"))),
    st.just(("user.country", lambda world: world.told("country", str))),
)
CATEGORIES = st.sampled_from(("colour", "brand")).map(
    lambda name: (f"item.{name}", lambda world: world.document.get(name))
)
TOP = {
    "ann": {"colour": ["red", "green"], "brand": ["x"]},
    "bob": {"colour": ["red", "blue"], "brand": ["y"]},
    "cyd": {},
}
"""By hand, from ``ACTS``: weights of view and click are above 0, that of dismiss is below."""


def top_of(attribute: str, count: int):
    """What ``user.top`` means."""

    def at(world):
        return None if world.user is None else TOP[world.user].get(attribute, [])[:count]

    return at


def groups_of(world: World) -> Any:
    """A list in a profile, as texts."""
    found = world.told("groups", list)
    return None if found is None else [str(each) for each in found]


LISTS = st.one_of(
    st.lists(st.sampled_from(("red", "blue", "x", "unheard of")), max_size=3).map(
        lambda chosen: (json.dumps(chosen), lambda _: chosen)
    ),
    st.tuples(st.sampled_from(("colour", "brand")), st.integers(1, 3)).map(
        lambda each: (f'user.top("{each[0]}", {each[1]})', top_of(*each))
    ),
    st.just(("user.groups", groups_of)),
)


def compared(operators, left, right):
    """One comparison."""
    return st.tuples(st.sampled_from(operators), left, right).map(
        lambda each: (f"{each[1][0]} {each[0]} {each[2][0]}", known(COMPARISONS[each[0]])(each[1][1], each[2][1]))
    )


def truth_of(name: str):
    """A truth that stands alone."""
    where, _, short = name.partition(".")

    def at(world):
        if name in ("true", "false"):
            return name == "true"
        if name == "item.available":
            return None if world.item is None else world.document.get("available", True)
        if where == "item":
            return world.document.get(short)
        return world.told(short, bool) if where == "user" else world.context.get(short)

    return name, at


ORDERS = ("<", "<=", ">", ">=")
comparisons = st.one_of(
    compared(ORDERS, numbers, numbers),
    compared(("==", "!="), NUMBERS.filter(lambda each: "." not in each[0] or "item" in each[0]), numbers),
    compared(("==", "!="), CATEGORIES, TEXTS),
    compared(("in", "not in"), st.one_of(CATEGORIES, TEXTS), LISTS),
    compared(("in", "not in"), TEXTS, st.just(("item.tags", of_tags))),
    compared(
        ("in", "not in"),
        NUMBERS,
        st.lists(st.sampled_from((0.0, 1.0, 2.0)), min_size=1, max_size=3).map(
            lambda chosen: (json.dumps(chosen), lambda _: chosen)
        ),
    ),
    st.sampled_from(("item.fresh", "item.available", "user.member", "context.wants", "true", "false")).map(truth_of),
    st.tuples(numbers, st.sampled_from(ORDERS), numbers, st.sampled_from(ORDERS), numbers).map(
        lambda each: (
            f"{each[0][0]} {each[1]} {each[2][0]} {each[3]} {each[4][0]}",
            _joined(
                [
                    known(COMPARISONS[each[1]])(each[0][1], each[2][1]),
                    known(COMPARISONS[each[3]])(each[2][1], each[4][1]),
                ],
                decides=False,
            ),
        )
    ),
)


def _joined(parts, *, decides: bool):
    """Kleene: a false part decides ``and``, a true one ``or``; otherwise an unknown part makes it unknown."""

    def at(world):
        found = [part(world) for part in parts]
        if decides in found:
            return decides
        return None if None in found else not decides

    return at


def nested(inner):
    """Conditions of conditions."""
    return st.one_of(
        inner.map(lambda each: (f"not ({each[0]})", known(lambda truth: not truth)(each[1]))),
        st.tuples(st.lists(inner, min_size=2, max_size=3), st.sampled_from(("and", "or"))).map(
            lambda each: (
                f" {each[1]} ".join(f"({text})" for text, _ in each[0]),
                _joined([truth for _, truth in each[0]], decides=each[1] == "or"),
            )
        ),
        st.tuples(inner, st.sampled_from(("==", "!=")), inner).map(
            lambda each: (
                f"((not ({each[0][0]})) {each[1]} ({each[2][0]}))",
                known(lambda one, other: COMPARISONS[each[1]](not one, other))(each[0][1], each[2][1]),
            )
        ),
    )


CONDITIONS = st.recursive(comparisons, nested, max_leaves=5)


@st.composite
def conditions(draw):
    """A condition; by itself, because its strategy is too long to be printed."""
    return draw(CONDITIONS)


contexts = st.fixed_dictionaries(
    {},
    optional={
        "budget": st.sampled_from((0.0, 2.0, 9.0)),
        "kind": st.sampled_from(("red", "x", "unheard of")),
        "wants": st.booleans(),
    },
)
people = st.sampled_from((None, *PEOPLE))


def worlds(user: str | None, context: dict[str, Any]) -> list[World]:
    """One for each row of ``indices``."""
    return [World(item, user, context) for item in (*DOCUMENTS, None)]
