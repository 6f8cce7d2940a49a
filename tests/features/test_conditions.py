"""The filter language: what it means, beside a plain twin over dictionaries, and what it refuses."""

import json
import string
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import LogPosition, Models, Moment, Query, TimestampMs
from midstream.events.wire import AttributeKind
from midstream.features.expressions.names import Names
from midstream.features.expressions.tree import NODES_MAX, TEXT_CHARACTERS_MAX
from midstream.features.language import Condition, condition
from midstream.state.cells.cells import Cells
from midstream.state.fold import Fold
from midstream.state.items.items import Items
from tests.support.events import tiny_settings

ATTRIBUTES: dict[str, AttributeKind] = {
    "price": "number",
    "stock": "number",
    "category": "category",
    "tags": "tags",
    "fresh": "boolean",
    "look": "vector:8",
}
NAMES = Names(ATTRIBUTES)
CELLS = Fold(tiny_settings()).cells
CATEGORIES = ("shoes", "coats", "é")
TAGS = ("sale", "new")
CONTEXT = {"budget": "number", "floor": "number", "kind": "category", "wants": "boolean"}


class PlainItems(Items):
    """Columns made from documents, in the way of the items table."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self.documents = documents
        self._codes = {text: code for code, text in enumerate((*CATEGORIES[:2], *TAGS))}

    def kind(self, name: str):
        return "boolean" if name == "available" else ATTRIBUTES[name]

    def number(self, name: str):
        return np.array([each.get(name, np.nan) for each in self.documents], dtype=np.float64)

    def boolean(self, name: str):
        missing = int(name == "available") or -1
        return np.array([each.get(name, missing) for each in self.documents], dtype=np.int8)

    def value_code(self, name: str, text: str) -> int:
        return self._codes.get(text, -1)

    def category(self, name: str):
        return np.array([self.value_code(name, each.get(name, "")) for each in self.documents], dtype=np.int32)

    def tags(self, name: str):
        rows = np.full((len(self.documents), 3), -1, dtype=np.int32)
        for row, each in zip(rows, self.documents, strict=True):
            codes = [self.value_code(name, tag) for tag in each.get(name, ())]
            row[: len(codes)] = codes
        return rows


def passes(text: str, documents: list[dict[str, Any]], context: Mapping[str, Any]) -> list[bool]:
    """Evaluate with the real thing."""
    rule = condition(text, NAMES, "$")
    assert isinstance(rule, Condition), rule
    query = Query("r", "home", None, None, 10, TimestampMs(0), 1, context=context)
    moment = Moment(
        query, LogPosition(0), -1, 0, 0, np.empty(0, np.int32), {Items: PlainItems(documents), Cells: CELLS}, Models({})
    )
    found: list[bool] = rule.passes(moment, np.arange(len(documents), dtype=np.int32)).tolist()
    return found


# A condition is (text, function of document and context giving True, False or None = unknown).
def leaf(text: str, left, right, compare):
    """A comparison that is unknown when a side is."""

    def truth(document, context):
        a, b = left(document, context), right(document, context)
        return None if a is None or b is None else compare(a, b)

    return text, truth


def of_item(name: str):
    """An attribute."""
    return lambda document, _: document.get(name)


def of_context(name: str):
    """A value of the request."""
    return lambda _, context: context.get(name)


def constant(value: object):
    """Always the same."""
    return lambda *_: value


ORDERS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
EQUALS = {name: ORDERS[name] for name in ("==", "!=")}
MEMBER = {"in": lambda a, b: a in b, "not in": lambda a, b: a not in b}
numbers = st.one_of(
    st.sampled_from((0.0, 1.0, 2.5, -3.0)).map(lambda value: (json.dumps(value), constant(value))),
    st.sampled_from(("price", "stock")).map(lambda name: (f"item.{name}", of_item(name))),
    st.sampled_from(("budget", "floor")).map(lambda name: (f"context.{name}", of_context(name))),
)
texts = st.one_of(
    st.sampled_from((*CATEGORIES, "unheard of")).map(
        lambda value: (json.dumps(value, ensure_ascii=False), constant(value))
    ),
    st.just(("context.kind", of_context("kind"))),
)


def tags_of(document, _):
    """No tags are no tags, not something unknown."""
    return document.get("tags", [])


@st.composite
def comparisons(draw):  # noqa: PLR0911  one return a form
    """One comparison of any form."""
    match draw(st.integers(0, 5)):
        case 0:
            (left, a), (right, b) = draw(numbers), draw(numbers)
            name = draw(st.sampled_from(sorted(ORDERS if "item" in left + right else set(ORDERS) - set(EQUALS))))
            return leaf(f"{left} {name} {right}", a, b, ORDERS[name])
        case 1:
            right, b = draw(texts)
            name = draw(st.sampled_from(sorted(EQUALS)))
            return leaf(f"item.category {name} {right}", of_item("category"), b, EQUALS[name])
        case 2:
            chosen = draw(st.lists(st.sampled_from((*CATEGORIES, "unheard of")), max_size=3))
            name = draw(st.sampled_from(sorted(MEMBER)))
            listed = json.dumps(chosen, ensure_ascii=False)
            return leaf(f"item.category {name} {listed}", of_item("category"), constant(chosen), MEMBER[name])
        case 3:
            left = draw(st.sampled_from((*TAGS, "unheard of")))
            name = draw(st.sampled_from(sorted(MEMBER)))
            return leaf(f"{json.dumps(left)} {name} item.tags", constant(left), tags_of, MEMBER[name])
        case 4:
            chosen = draw(st.lists(st.sampled_from((0.0, 1.0, 2.5)), max_size=3))
            name = draw(st.sampled_from(sorted(MEMBER)))
            return leaf(f"item.price {name} {json.dumps(chosen)}", of_item("price"), constant(chosen), MEMBER[name])
        case _:
            name = draw(st.sampled_from(("item.fresh", "item.available", "context.wants", "true", "false")))
            if name in ("true", "false"):
                return name, constant(name == "true")
            side, _, short = name.partition(".")
            if short == "available":
                return name, lambda document, _: document.get("available", True)
            return name, of_item(short) if side == "item" else of_context(short)


def negated(part):
    """Its opposite; unknown stays unknown."""
    text, truth = part

    def opposite(document, context):
        found = truth(document, context)
        return None if found is None else not found

    return f"not ({text})", opposite


def joined(parts, word: str):
    """Kleene: a false part decides ``and``, a true one ``or``; otherwise an unknown part makes it unknown."""

    def truth(document, context):
        found = [part[1](document, context) for part in parts]
        decides = word == "or"
        if decides in found:
            return decides
        return None if None in found else not decides

    return f" {word} ".join(f"({text})" for text, _ in parts), truth


conditions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(negated),
        st.tuples(st.lists(inner, min_size=2, max_size=3), st.sampled_from(("and", "or"))).map(lambda x: joined(*x)),
    ),
    max_leaves=5,
)
documents = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "price": st.sampled_from((0.0, 1.0, 2.5, 4.0)),
            "stock": st.sampled_from((0.0, 2.5)),
            # The third category has no code, as one that came when all codes were used up: it counts as missing.
            "category": st.sampled_from(CATEGORIES[:2]),
            "tags": st.lists(st.sampled_from(TAGS), max_size=2),
            "fresh": st.booleans(),
            "available": st.booleans(),
        },
    ),
    max_size=6,
)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "budget": st.sampled_from((0.0, 2.5, 9.0)),
        "floor": st.integers(-1, 3),
        "kind": st.sampled_from((*CATEGORIES, "unheard of")),
        "wants": st.booleans(),
    },
)


@given(conditions, documents, contexts)
def test_passes_where_the_twin_says_true(drawn, documents, context):
    """A text passes exactly the items for which three-valued logic over plain dictionaries says true."""
    text, truth = drawn
    rule = condition(text, NAMES, "$")
    if not isinstance(rule, Condition):
        assert "At most" in rule[0].right  # a tree that drew too many nodes
        return
    assert passes(text, documents, context) == [truth(each, context) is True for each in documents]


@pytest.mark.parametrize(
    "text",
    [
        "item.price < 3",
        "item.price != 3",
        "not item.price < 3",
        "not item.price == 3",
        "item.price in [3]",
        "item.price not in [3]",
        "not item.price in [3]",
        'item.category == "shoes"',
        'item.category != "shoes"',
        'not item.category == "unheard of"',
        'item.category not in ["shoes"]',
        "item.fresh",
        "not item.fresh",
        "item.available and item.price <= context.budget",
        "not (item.available and item.price <= context.budget)",
        "context.wants",
        "not context.wants",
        'context.kind == "shoes"',
        'context.kind != "shoes"',
        'context.kind not in ["shoes"]',
        "item.stock == item.price",
        "item.stock != item.price",
    ],
)
def test_what_is_missing_does_not_pass(text):
    """Neither a condition nor its opposite passes an item of which nothing is known: eligibility fails closed."""
    assert passes(text, [{}], {}) == [False]


def test_what_does_not_depend_on_the_missing_passes():
    """An unknown part does not hide what the other part decides."""
    assert passes("item.price < 3 or item.available", [{}], {}) == [True]
    assert passes("not (item.price < 3 and not item.available)", [{}], {}) == [True]


@pytest.mark.parametrize("operator", sorted(ORDERS))
@pytest.mark.parametrize("price", [1.0, 2.0, 3.0])
def test_not_is_the_opposite_on_either_side_of_the_border(operator, price):
    """Where the value is known, a comparison or its ``not`` passes, never both."""
    expected = ORDERS[operator](price, 2.0)
    assert passes(f"item.price {operator} 2", [{"price": price}], {}) == [expected]
    assert passes(f"not item.price {operator} 2", [{"price": price}], {}) == [not expected]


@pytest.mark.parametrize("price", [0.0, 1.0, 2.0, 3.0, 4.0])
def test_a_chain_is_each_of_its_comparisons(price):
    """As in mathematics; ``not`` of a chain is ``not`` of all of it."""
    assert passes("1 <= item.price < 3", [{"price": price}], {}) == [1 <= price < 3]
    assert passes("not 1 <= item.price < 3", [{"price": price}], {}) == [not 1 <= price < 3]
    assert passes("not 1 <= item.price < 3", [{}], {}) == [False]


def test_no_tags_is_a_known_answer():
    """An item without tags has none of them."""
    assert passes('"sale" in item.tags', [{}], {}) == [False]
    assert passes('"sale" not in item.tags', [{}], {}) == [True]


def test_nan_in_the_context_is_missing():
    """A number that is none is as if it was not sent."""
    for operator in ORDERS:
        assert passes(f"item.price {operator} context.budget", [{"price": 1.0}], {"budget": float("nan")}) == [False]


def test_a_text_may_go_over_lines_and_hold_comments():
    """A comment hides nothing of the next line."""
    text = "item.available  # only these\n  and item.price < 3  # cheap"
    assert passes(text, [{"price": 1.0}, {"price": 9.0}], {}) == [True, False]


def faults_of(text: str) -> list[str]:
    """What is wrong with a text."""
    rule = condition(text, NAMES, "$.placements[0].filter")
    assert not isinstance(rule, Condition), rule
    return [str(fault) for fault in rule]


@pytest.mark.parametrize(
    "text, says",
    [
        ("item.prize < 3", 'column 1: "item.prize" is not a declared attribute. Nearest: "item.price".'),
        ('"é" == item.category and item.prize < 3', 'column 26: "item.prize"'),
        ("item.available\nand item.prize < 3", 'line 2, column 5: "item.prize"'),
        ("item.available\rand item.prize < 3", 'line 2, column 5: "item.prize"'),
        ("price < 3", 'column 1: "price" is not a name. Nearest: "item.price".'),
        ('item.price < "3"', '"3" has no order'),
        ("item.category < 3", "item.category has no order"),
        ("item.category == 3", "item.category is a text, 3 is a number"),
        ("item.fresh == 1", "item.fresh is a truth, 1 is a number"),
        ("item.price", "item.price is not a condition"),
        ("1", "1 is not a condition"),
        ('item.tags == "sale"', "Use `in` with lists and tags"),
        ('["sale"] in item.tags', "the list cannot be in item.tags"),
        ("item.category in item.tags", "two attributes"),
        ('item.price in ["1"]', "item.price cannot be in the list"),
        ("item.look < 3", "column 1: item.look is a vector:8."),
        ("3 in item.look", "item.look is a vector:8."),
        ("item.look == context.look", "item.look is a vector:8."),
        ("item.look in [1, 2]", "item.look is a vector:8."),
        ("item.fresh and item.look", "column 16: item.look is a vector:8."),
        ("item.price in context.prices", "holds nothing"),
        ('item.price in [1, "1"]', "The list mixes things"),
        ("item.price in [item.stock]", "The list mixes things"),
        ("context.a == context.b", "Two context names are compared"),
        ('context.a < 3 and context.a == "x"', 'context.a is a number, "x" is a text'),
        ("item.price is 3", "`is` compares nothing here"),
        ("item.price ** 2 < 3", "`item.price ** 2` is not allowed"),
        ("item.price + item.category < 3", "column 14: item.category is a category"),
        ("item.price.real < 3", "`item.price.real` is not allowed"),
        ('__import__("os")', "is not allowed"),
        ("(lambda: true)()", "is not allowed"),
        ("[x for x in item.tags] == 1", "is not allowed"),
        ("item.price if true else false", "is not allowed"),
        ("item.price < 1e999", "The number is too large"),
        ("item.price == None", "is not allowed"),
        ("item.price < 3, true", "is not one condition"),
        ("", "is not one condition"),
        ("# nothing", "is not one condition"),
        ("item.price < ", "column "),
        ("true) or (true", "closes no"),
        ("item.price < 3\0", "midstream docs language"),
    ],
)
def test_a_fault_says_where_and_what(text, says):
    """What cannot be used is refused with its column, what came and what would be right."""
    (first, *_) = faults_of(text)
    assert first.startswith("$.placements[0].filter\n")
    assert says in first
    assert first.endswith("midstream docs language")


def test_all_faults_are_reported_together():
    """Two mistakes are two faults."""
    assert len(faults_of("item.prize < 3 and item.stok > 1")) == 2


def test_size_is_bounded():
    """Characters and nodes have their maxima, whatever Python's parser would do with more."""
    assert "At most" in faults_of("item.available" + " " * TEXT_CHARACTERS_MAX)[0]
    most = " or ".join(["item.fresh"] * (NODES_MAX - 1))  # and one for the `or`
    assert isinstance(condition(most, NAMES, "$"), Condition)
    assert "At most 64" in faults_of(f"{most} or item.fresh")[0]
    for text in ("(" * 499 + ")" * 499, "not " * 249 + "true", "-" * 999, "[" * 900):
        faults_of(text)


@given(st.text(alphabet=string.printable + "é\0", max_size=80))
def test_any_text_is_a_rule_or_faults(text):
    """No text raises, and none is run."""
    rule = condition(text, NAMES, "$")
    assert isinstance(rule, Condition) or all(fault.page == "/docs/language.md" for fault in rule)


@pytest.mark.parametrize(
    "text, context, wrong",
    [
        ("item.price < context.budget", {"budget": "9"}, ["/context/budget"]),
        ("item.price < context.budget", {"budget": True}, ["/context/budget"]),
        ("item.price < context.budget", {"budget": 9, "other": "x"}, []),
        ("item.price < context.budget", {}, []),
        ("item.category == context.kind", {"kind": 3.0}, ["/context/kind"]),
        (
            "context.wants and item.category == context.kind",
            {"wants": 1.0, "kind": 1},
            ["/context/wants", "/context/kind"],
        ),
    ],
)
def test_context_values_are_type_checked(text, context, wrong):
    """A context value of another kind is a fault of the request; one that is not sent is not."""
    rule = condition(text, NAMES, "$")
    assert isinstance(rule, Condition)
    assert [fault.where for fault in rule.faults(context)] == wrong
