"""Compiler from the syntax tree of a text to one column: checks each node and infers its kind.

Every condition is a column of 1, 0 and NaN, every number one of numbers, in the terms of ``state.expressions.program``.
All faults of a text are reported together.
"""

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.features.expressions.names import NameResolver, Names, Scope, constant
from midstream.features.expressions.tree import LANGUAGE, Notes, tree_of, unified
from midstream.features.expressions.values import WORDS, Kind, Value, halved, joined, opposite, whole
from midstream.features.readers.condition_inputs import ItemAmong, ItemTagged, Listed, TextAmong, Texts
from midstream.features.readers.inputs import Reader, columns_from
from midstream.state.expressions.program import Expression, Op, column

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
OPERATORS: Mapping[type[ast.cmpop], Operator] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip
_ORDERS: Mapping[Operator, Callable[[Expression, Expression], Expression]] = {
    "<": lambda left, right: Expression(Op.LESS, (left, right)),
    ">": lambda left, right: Expression(Op.LESS, (right, left)),
    ">=": lambda left, right: opposite(Expression(Op.LESS, (left, right))),
    "<=": lambda left, right: opposite(Expression(Op.LESS, (right, left))),
}
_ARITHMETIC: Mapping[type[ast.operator], Op] = {
    ast.Add: Op.ADD, ast.Sub: Op.SUBTRACT, ast.Mult: Op.MULTIPLY, ast.Div: Op.DIVIDE,
}  # fmt: skip
_FUNCTIONS: Mapping[str, tuple[Op, int, int]] = {
    "log": (Op.LOG, 1, 1),
    "sqrt": (Op.SQRT, 1, 1),
    "min": (Op.MIN, 2, 8),
    "max": (Op.MAX, 2, 8),
    "if_nan": (Op.IF_NAN, 2, 2),
}
"""Operation of each function, and its number of arguments."""
_NUMBER_MAX = sys.float_info.max
"""Of a constant, 1.8e308."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it was understood."""

    column: Expression
    """Expression of the text; columns of features are ``ColumnOf``."""
    columns: tuple[str, ...]
    """Columns of features that it names, in order."""
    context: Mapping[str, Kind]
    """The context names that it reads: ``number``, ``boolean`` or ``text``."""


def read_text(
    text: str, names: Names, where: str, scopes: frozenset[Scope], *, is_number: bool
) -> Text | tuple[Fault, ...]:
    """Return the compiled text, or all of its faults.

    Args:
        text: Such as ``item.available and item.price <= context.budget``.
        names: All names.
        where: Pointer to the text, for the faults.
        scopes: The allowed ones of the names.
        is_number: The text is a number, not a condition. A truth value is 1 or 0 in it, wherever a number can be.
    """
    text = unified(text)
    tree = tree_of(text, "formula" if is_number else "condition", where)
    if isinstance(tree, Fault):
        return (tree,)
    notes = Notes(text, where)
    naming = NameResolver(names, scopes, notes)
    reader = _Reader(naming, notes, is_number=is_number)
    found = reader.number(tree) if is_number else reader.truth(tree)
    if found is None or notes.faults:
        return notes.faults
    return Text(found, tuple(naming.columns), naming.context)


class _Reader:
    """Turns nodes into columns; None = a fault was noted."""

    def __init__(self, naming: NameResolver, notes: Notes, *, is_number: bool) -> None:
        self._naming = naming
        self._notes = notes
        self._is_number = is_number

    def truth(self, node: ast.expr) -> Expression | None:
        """Return a condition: 1 = true, 0 = false, NaN or 1/2 = unknown."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.truth(each) for each in values]
                return self._joined(parts, Op.MIN if isinstance(op, ast.And) else Op.MAX)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                found = self.truth(operand)
                return None if found is None else opposite(found)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [self._value(each) for each in (left, *comparators)]
                pairs = zip(ops, pairwise(sides), strict=True)
                return self._joined([self._comparison(node, op, *pair) for op, pair in pairs], Op.MIN)
            case _:
                value = self._value(node)
                return None if value is None else self._alone(node, value)

    def number(self, node: ast.expr) -> Expression | None:
        """Return a number; a truth is 1 or 0, and NaN = unknown."""
        value = self._value(node)
        return None if value is None else self._numeric(node, value)

    def _joined(self, parts: Sequence[Expression | None], op: Op) -> Expression | None:
        """Return all parts by ``and`` or ``or``; one alone is as it is."""
        good = [part for part in parts if part is not None]
        if len(good) < len(parts):
            return None
        return good[0] if len(good) == 1 else joined([halved(each) for each in good], op)

    def _alone(self, node: ast.expr, value: Value) -> Expression | None:
        """Return a value used as a condition: it must be a truth value."""
        value = self._naming.as_kind(value, "boolean")
        if value.kind != "boolean":
            self._notes.refuse(node, f"{value.said} is not a condition.", "Compare it with something.")
        return value.column if value.kind == "boolean" else None

    def _numeric(self, node: ast.expr, value: Value) -> Expression | None:
        """Return a value that must be a number, or a truth as one."""
        value = self._naming.as_kind(value, "number")
        if value.column is None:
            what = "a category" if value.attribute and value.kind == "text" else WORDS[value.kind]
            came = f"{value.said} is {what}."
            self._notes.refuse(node, came, "A number, or a truth, which is 1 or 0.")
        return value.column

    def _value(self, node: ast.expr) -> Value | None:  # noqa: PLR0911  one return a form, all in a row
        """Return the value of a node."""
        match node:
            case ast.Constant(value=bool() | str() as value):
                return replace(constant(value), said=self._notes.said(node))
            case ast.Constant(value=int() | float() as value):
                return self._constant(node, value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if not isinstance(
                value, bool
            ):
                return self._constant(node, -value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._operation(node, Op.SUBTRACT, (node, operand), (constant(0.0), self._value(operand)))
            case ast.Name():
                return self._naming.plain(node)
            case ast.Attribute(value=ast.Name(id=scope)):
                return self._naming.dotted(node, scope)
            case ast.List(elts=elements):
                return self._list(node, elements)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                values = self._value(left), self._value(right)
                return self._operation(node, _ARITHMETIC[type(op)], (left, right), values)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(node, name, arguments)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=scope), attr=name), keywords=[]):
                return self._naming.call(node, f"{scope}.{name}")
            case ast.BoolOp() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return self._condition(node)
            case _:
                return self._refused(node, f"`{self._notes.said(node)}` is not allowed.", LANGUAGE)

    def _constant(self, node: ast.expr, value: float) -> Value | None:
        """Return a number that fits into 64 bits."""
        if abs(value) <= _NUMBER_MAX:
            return replace(constant(float(value)), said=self._notes.said(node))
        return self._refused(node, "The number is too large.", f"At most {_NUMBER_MAX:.2g}.")

    def _list(self, node: ast.expr, elements: Sequence[ast.expr]) -> Value | None:
        """Return a list of constants that are all numbers or all texts."""
        values = [self._value(element) for element in elements]
        good = [value for value in values if value is not None]
        if len(good) < len(values):
            return None
        constants = [each for value in good if value.kind != "list" for each in value.constants or ()]
        kinds: list[Kind] = list({value.kind for value in good})
        if len(constants) < len(good) or len(kinds) > 1:
            return self._refused(node, "The list mixes things.", "A list holds numbers only, or texts only.")
        texts = Listed(tuple(each for each in constants if isinstance(each, str)))
        return Value(
            "list", "the list", texts=texts, constants=tuple(constants), elements=kinds[0] if kinds else "open"
        )

    def _condition(self, node: ast.expr) -> Value | None:
        """Return a condition as a value of 1, 0 and NaN."""
        truth = self.truth(node)
        if truth is None:
            return None
        is_alone = isinstance(node, ast.Compare) and len(node.ops) == 1
        return Value("boolean", self._notes.said(node), truth if is_alone else whole(halved(truth)))

    def _operation(
        self, node: ast.expr, op: Op, operands: Sequence[ast.expr], values: Sequence[Value | None]
    ) -> Value | None:
        """Return an operation on numbers: of more than two the first two, then with the next."""
        pairs = zip(operands, values, strict=True)
        found = [None if value is None else self._numeric(operand, value) for operand, value in pairs]
        good = [each for each in found if each is not None]
        if len(good) < len(found):
            return None
        result = Expression(op, tuple(good[:2]))
        for each in good[2:]:
            result = Expression(op, (result, each))
        return Value("number", self._notes.said(node), result)

    def _call(self, node: ast.expr, name: str, arguments: Sequence[ast.expr]) -> Value | None:
        """Return a function of its arguments; ``if_nan`` of two truths is a truth."""
        if name not in _FUNCTIONS:
            came = f'"{name[:64]}" is not a function.{nearest(name, _FUNCTIONS)}'
            return self._refused(node, came, f"Functions: {', '.join(_FUNCTIONS)}; another one is not allowed.")
        op, low, high = _FUNCTIONS[name]
        if not low <= len(arguments) <= high:
            right = f"{low}" if low == high else f"{low} to {high}"
            return self._refused(node, f"{name}() has {len(arguments)} arguments.", f"It takes {right}.")
        values = [self._value(each) for each in arguments]
        kinds = [value.kind for value in values if value is not None]
        if op is Op.IF_NAN and "boolean" in kinds and {"boolean", "open"}.issuperset(kinds):
            values = [None if each is None else self._naming.as_kind(each, "boolean") for each in values]
        found = self._operation(node, op, arguments, values)
        is_truth = op is Op.IF_NAN and all(each is not None and each.kind == "boolean" for each in values)
        return replace(found, kind="boolean") if found is not None and is_truth else found

    def _comparison(self, node: ast.expr, op: ast.cmpop, left: Value | None, right: Value | None) -> Expression | None:
        """Return one comparison of two values of compatible kinds."""
        if left is None or right is None:
            return None
        operator = OPERATORS.get(type(op))
        if operator is None:
            self._notes.refuse(node, "`is` compares nothing here.", "Use == or !=.")
            return None
        if operator in _ORDERS:
            return self._ordered(node, operator, left, right)
        found = (self._member if operator in ("in", "not in") else self._equal)(node, left, right)
        return found if found is None or operator in ("in", "==") else opposite(found)

    def _ordered(self, node: ast.expr, operator: Operator, left: Value, right: Value) -> Expression | None:
        """Compare two numbers; in a number also truths."""
        sides = [self._naming.as_kind(each, "number") for each in (left, right)]
        wrong = [each for each in sides if each.column is None or (each.kind == "boolean" and not self._is_number)]
        for side in wrong:
            self._notes.refuse(node, f"{side.said} has no order.", "< <= > >= compare numbers.")
        columns = [each.column for each in sides if each.column is not None]
        return None if wrong else _ORDERS[operator](*columns)

    def _equal(self, node: ast.expr, left: Value, right: Value) -> Expression | None:
        """Compare two things of one kind."""
        kind = right.kind if left.kind == "open" else left.kind
        if kind == "open" and self._is_number:
            kind = "number"
        if kind == "open":
            what = "context names" if (left.said + right.said).count("context.") > 1 else "names without a kind"
            self._notes.refuse(node, f"Two {what} are compared.", "Compare with an attribute or a constant.")
            return None
        if kind in ("list", "tags") or right.kind in ("list", "tags"):
            self._notes.refuse(node, f"{left.said} == {right.said}", "Use `in` with lists and tags.")
            return None
        left, right = self._naming.as_kind(left, kind), self._naming.as_kind(right, kind)
        if left.column is not None and right.column is not None and (left.kind == right.kind or self._is_number):
            return Expression(Op.EQUAL, (left.column, right.column))
        if left.kind != right.kind:
            came = f"{left.said} is {WORDS[left.kind]}, {right.said} is {WORDS[right.kind]}."
            self._notes.refuse(node, came, "Compare things of one kind.")
            return None
        if left.attribute and right.attribute:
            came = f"{left.said} == {right.said}"
            self._notes.refuse(node, came, "Two attributes are compared as numbers or truths only.")
            return None
        return _same_text(left, right) if left.attribute else _same_text(right, left)

    def _member(self, node: ast.expr, left: Value, right: Value) -> Expression | None:
        """Look for the left side in a list or among tags."""
        if right.told is not None and right.told[0] == "user":
            right = self._naming.as_kind(right, "list")
        if right.kind not in ("list", "tags"):
            came = f"{right.said} holds nothing."
            self._notes.refuse(
                node, came, "`in` takes a list, an attribute of tags, user.top() or a list of a profile."
            )
            return None
        kind: Kind = "text" if right.kind == "tags" or right.elements == "text" else right.elements
        if kind == "open":  # an empty list
            kind = "text" if left.kind == "open" else left.kind
        left = self._naming.as_kind(left, kind)
        if right.kind == "tags" and left.attribute:
            came = f"{left.said} in {right.said}: two attributes."
            self._notes.refuse(node, came, f'Such as: "sale" in {right.said}')
            return None
        if left.kind != kind or kind not in ("number", "text"):
            right_kind = WORDS[kind] if kind in ("number", "text") else "a number or a text"
            self._notes.refuse(node, f"{left.said} cannot be in {right.said}.", f"Give {right_kind}.")
            return None
        if kind == "number":
            return _one_of(left, right)
        if right.kind == "tags":
            return _of(ItemTagged(right.attribute, _texts(left)))
        return _same_text(left, right)

    def _refused(self, node: ast.expr, came: str, right: str) -> Value | None:
        """Note a fault, and return a placeholder value."""
        self._notes.refuse(node, came, right)
        return None


def _of(reader: Reader) -> Expression:
    """Return the one column of a reader."""
    return columns_from(reader)[0]


def _texts(value: Value) -> Texts:
    """Return the texts of a value that has some."""
    return value.texts or Listed(())


def _same_text(left: Value, right: Value) -> Expression:
    """Return whether the text on the left is one of those on the right, of which only the left may be of an item."""
    if left.attribute:
        return _of(ItemAmong(left.attribute, _texts(right)))
    if left.constants is not None and right.constants is not None:
        return column(float(left.constants[0] in right.constants))
    return _of(TextAmong(_texts(left), _texts(right)))


def _one_of(left: Value, right: Value) -> Expression | None:
    """Return whether a number is one of a list; in none it is known not to be, as far as it is known."""
    number, numbers = left.column, right.constants or ()
    if number is None:
        return None
    equal = [Expression(Op.EQUAL, (number, column(each))) for each in numbers if isinstance(each, float)]
    return joined(equal, Op.MAX) if equal else Expression(Op.EQUAL, (number, number)) - 1.0
