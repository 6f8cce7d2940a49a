"""Filter text to condition: parsed by Python's own parser, then each node checked against a list of what is allowed.

Python's ``ast`` gives precedence, chained comparisons, quoting and columns for nothing; nothing is ever executed. The
work is bounded before it starts (characters) and while it runs (nodes). All faults of one text are reported together.
"""

import ast
import math
import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import cast

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.events.wire import AttributeKind, vector_length
from midstream.features.expression import (
    NODES_MAX,
    OPPOSITE,
    PAGE,
    TEXT_CHARACTERS_MAX,
    AllOf,
    AnyOf,
    Attribute,
    Comparison,
    Condition,
    Constant,
    Context,
    Kind,
    Operand,
    Operator,
    Rule,
    Several,
    Value,
)

OPERATORS: Mapping[type[ast.cmpop], Operator] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip
ORDERS = ("<", "<=", ">", ">=")
_WORDS: Mapping[Kind, str] = {"number": "a number", "category": "a text", "boolean": "a truth", "tags": "tags"}
_TRUTHS = {"true": True, "false": False}
_LANGUAGE = "Allowed: == != < <= > >=, in, and, or, not, ( ), numbers, texts, true, false, lists of numbers or texts."


def parse(text: str, attributes: Mapping[str, AttributeKind], where: str) -> Rule | tuple[Fault, ...]:
    """Return the rule that a filter text means, or everything that is wrong with it.

    Args:
        text: Such as ``item.available and item.price <= context.budget``.
        attributes: The declared item attributes; ``available`` is always there.
        where: Pointer to the text, for the faults.

    Cost: about 0.1 ms. Callers keep the result.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        came = f"The text has {len(text)} characters."
        return (Fault(where, came, f"At most {TEXT_CHARACTERS_MAX} characters.", PAGE),)
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # which Python takes for ends of lines too
    tree = _tree(text, where)
    if isinstance(tree, Fault):
        return (tree,)
    count = sum(isinstance(node, ast.expr) and not isinstance(node, ast.Name) for node in ast.walk(tree))
    if count > NODES_MAX:
        came = f"The text has {count} values and operations."
        return (Fault(where, came, f"At most {NODES_MAX}.", PAGE),)
    reader = _Reader(text, {"available": "boolean", **attributes}, where)
    condition = reader.condition(tree, wanted=True)
    if condition is None or reader.faults:
        return tuple(reader.faults)
    return Rule(text, condition, reader.context)


def _tree(text: str, where: str) -> ast.expr | Fault:
    """Parse the text as one Python expression that may go over several lines."""
    right = f"A condition, such as: item.available and item.price <= context.budget. {_LANGUAGE}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python only warns of is refused
            # The bracket lets a text go on in the next line; the line break ends a comment at its end.
            tree = ast.parse(f"({text}\n)", mode="eval").body
            # A text such as "a) or (b" must not close that bracket: then it does not fit into another kind.
            ast.parse(f"[\n{text}\n]", mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError, Warning) as error:
        return Fault(where, _syntax(error), right, PAGE)
    if isinstance(tree, ast.Tuple):
        return Fault(where, f"{text!r} is not one condition.", right, PAGE)
    return tree


def _syntax(error: BaseException) -> str:
    """Return where the text stops being an expression, as far as Python says."""
    if not isinstance(error, SyntaxError) or not error.offset:
        return "It cannot be read as a condition."
    if error.lineno == 1:
        return f"column {max(1, error.offset - 1)}: {error.msg}"
    return f"line {error.lineno}, column {error.offset}: {error.msg}"


class _Reader:
    """Turns the tree of one text into a condition and collects what is wrong on the way."""

    def __init__(self, text: str, attributes: Mapping[str, AttributeKind], where: str) -> None:
        self._lines = f"({text}\n)".split("\n")
        self._attributes = attributes
        self._where = where
        self.faults: list[Fault] = []
        self.context: dict[str, Kind] = {}

    def condition(self, node: ast.expr, *, wanted: bool) -> Condition | None:
        """Return the condition that ``node`` is true, or false where that is ``wanted``; None = a fault was noted."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(value, wanted=wanted) for value in values]
                return self._joined(parts, every=isinstance(op, ast.And) is wanted)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.condition(operand, wanted=not wanted)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [self._operand(each) for each in (left, *comparators)]
                parts = [
                    self._comparison(node, op, *pair, wanted=wanted)
                    for op, pair in zip(ops, pairwise(sides), strict=True)
                ]
                return self._joined(parts, every=wanted)
            case _:
                return self._alone(node, wanted=wanted)

    @staticmethod
    def _joined(parts: list[Condition | None], *, every: bool) -> Condition | None:
        """Return the parts as one condition, or None when one of them is at fault."""
        good = tuple(part for part in parts if part is not None)
        if len(good) != len(parts):
            return None
        if len(good) == 1:
            return good[0]
        return AllOf(good) if every else AnyOf(good)

    def _alone(self, node: ast.expr, *, wanted: bool) -> Condition | None:
        """Return a value that stands for itself as a condition: it must be a truth."""
        operand = self._operand(node)
        if operand is None:
            return None
        operand = self._as(operand, "boolean")
        if _kind(operand) != "boolean":
            self._refuse(node, f"{_say(operand)} is not a condition.", "Compare it with something.")
            return None
        return Comparison("==", operand, Constant(wanted))

    def _comparison(
        self, node: ast.expr, op: ast.cmpop, left: Operand | None, right: Operand | None, *, wanted: bool
    ) -> Condition | None:
        """Return one comparison whose sides go together."""
        if left is None or right is None:
            return None
        operator = OPERATORS.get(type(op))
        if operator is None:
            self._refuse(node, "`is` compares nothing here.", "Use == or !=.")
            return None
        fault = len(self.faults)
        if operator in ORDERS:
            left, right = self._ordered(node, left, right)
        elif operator in ("in", "not in"):
            left = self._member(node, left, right)
        else:
            left, right = self._equal(node, left, right)
        if len(self.faults) > fault:
            return None
        return Comparison(operator if wanted else OPPOSITE[operator], left, right)

    def _ordered(self, node: ast.expr, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        """Check that both sides of < <= > >= are numbers."""
        left, right = self._as(left, "number"), self._as(right, "number")
        for side in (left, right):
            if _kind(side) != "number":
                self._refuse(node, f"{_say(side)} has no order.", "< <= > >= compare numbers.")
        return left, right

    def _member(self, node: ast.expr, left: Operand, right: Operand) -> Operand:
        """Check that the left side of ``in`` can be one of the right side."""
        if isinstance(right, Several):
            kind = _kind(right) or _kind(left) or "category"
        elif isinstance(right, Attribute) and right.kind == "tags":
            kind = "category"
            if isinstance(left, Attribute):
                self._refuse(node, f"{_say(left)} in {_say(right)}: two attributes.", 'Such as: "sale" in item.tags')
        else:
            self._refuse(node, f"{_say(right)} holds nothing.", "`in` takes a list or an attribute of tags.")
            return left
        left = self._as(left, kind)
        if _kind(left) != kind or isinstance(left, Several) or kind in ("boolean", "tags"):
            self._refuse(node, f"{_say(left)} cannot be in {_say(right)}.", f"Give {_WORDS[kind]}.")
        return left

    def _equal(self, node: ast.expr, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        """Check that the sides of == and != are of one kind, and put an attribute on the left."""
        if isinstance(right, Attribute) and not isinstance(left, Attribute):
            left, right = right, left
        kind = _kind(left) or _kind(right)
        if kind is None:
            self._refuse(node, "Two context names are compared.", "Compare with an attribute or a constant.")
            return left, right
        left, right = self._as(left, kind), self._as(right, kind)
        if isinstance(left, Several) or isinstance(right, Several) or "tags" in (_kind(left), _kind(right)):
            self._refuse(node, f"{_say(left)} == {_say(right)}", "Use `in` with lists and tags.")
        elif _kind(left) != _kind(right):
            came = f"{_say(left)} is {_words(left)}, {_say(right)} is {_words(right)}."
            self._refuse(node, came, "Compare things of one kind.")
        elif isinstance(left, Attribute) and isinstance(right, Attribute) and kind != "number":
            self._refuse(node, f"{_say(left)} == {_say(right)}", "Two attributes are compared as numbers only.")
        return left, right

    def _operand(self, node: ast.expr) -> Operand | None:  # noqa: PLR0911  one return a form, all in a row
        """Return what a value of the text stands for, or None with a fault noted."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return self._constant(node, value)
            case ast.Name(id=name) if name in _TRUTHS:
                return Constant(_TRUTHS[name])
            case ast.Attribute(value=ast.Name(id="item"), attr=name):
                return self._attribute(node, name)
            case ast.Attribute(value=ast.Name(id="context"), attr=name):
                return Context(name, cast("Kind", self.context.get(name, "")))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return self._constant(node, -value)
            case ast.List(elts=elements):
                return self._several(node, elements)
            case ast.Name(id=name):
                known = [*(f"item.{each}" for each in self._attributes), *_TRUTHS]
                came = f'"{name}" is not a name.{nearest(f"item.{name}", known)}'
                return self._no_operand(node, came, "Names: item.<attribute>, item.available, context.<name>.")
            case _:
                return self._no_operand(node, f"`{ast.unparse(node)[:60]}` is not allowed.", _LANGUAGE)

    def _constant(self, node: ast.expr, value: Value) -> Operand | None:
        """Return a constant; a number must fit into 64 bits."""
        if isinstance(value, bool | str):
            return Constant(value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return (
            Constant(number) if math.isfinite(number) else self._no_operand(node, "The number is too large.", _LANGUAGE)
        )

    def _attribute(self, node: ast.expr, name: str) -> Operand | None:
        """Return a declared attribute."""
        kind = self._attributes.get(name)
        if kind is not None and vector_length(kind):
            right = "Filters compare numbers, texts, tags and truths; a vector is for features."
            return self._no_operand(node, f"item.{name} is a {kind}.", right)
        if kind is not None:
            return Attribute(name, cast("Kind", kind))
        known = [f"item.{each}" for each in self._attributes]
        came = f'"item.{name}" is not a declared attribute.{nearest(f"item.{name}", known)}'
        return self._no_operand(
            node, came, f"Attributes: {', '.join(self._attributes)}. Declare it in [items.attributes]."
        )

    def _several(self, node: ast.expr, elements: list[ast.expr]) -> Operand | None:
        """Return a list of constants that are all numbers or all texts."""
        values = [self._operand(element) for element in elements]
        if None in values:
            return None
        constants = tuple(each.value for each in values if isinstance(each, Constant))
        kinds = {type(value) for value in constants}
        if len(constants) < len(values) or len(kinds) > 1 or bool in kinds:
            return self._no_operand(node, "The list mixes things.", "A list holds numbers only, or texts only.")
        return Several(constants)

    def _as(self, operand: Operand, kind: Kind) -> Operand:
        """Return the operand; a context name whose kind was open gets this one, for the whole text."""
        if isinstance(operand, Context) and not operand.kind and kind in ("number", "category", "boolean"):
            known = self.context.setdefault(operand.name, kind)
            return Context(operand.name, known)
        return operand

    def _no_operand(self, node: ast.expr, came: str, right: str) -> Operand | None:
        """Note a fault, and return what stands for the operand that cannot be read."""
        self._refuse(node, came, right)
        return None

    def _refuse(self, node: ast.expr, came: str, right: str) -> None:
        """Note a fault with the column of the node in the text."""
        line = self._lines[node.lineno - 1].encode()
        before = len(line[: node.col_offset].decode())
        place = f"column {before}" if node.lineno == 1 else f"line {node.lineno}, column {before + 1}"
        self.faults.append(Fault(self._where, f"{place}: {came}", right, PAGE))


def _kind(operand: Operand) -> Kind | None:
    """Return the kind of an operand, None = open: a context name not yet compared, an empty list."""
    match operand:
        case Attribute(kind=kind) | Context(kind=kind):
            return kind or None
        case Constant(value=value):
            return _kind_of(value)
        case Several(values=values):
            return _kind_of(values[0]) if values else None


def _kind_of(value: Value) -> Kind:
    """Return the kind of a constant."""
    if isinstance(value, bool):
        return "boolean"
    return "category" if isinstance(value, str) else "number"


def _words(operand: Operand) -> str:
    """Return the kind of an operand in words."""
    kind = _kind(operand)
    return _WORDS[kind] if kind else "of no kind yet"


def _say(operand: Operand) -> str:
    """Return an operand as the text has it."""
    match operand:
        case Attribute(name=name):
            return f"item.{name}"
        case Context(name=name):
            return f"context.{name}"
        case Constant(value=value):
            return str(value).lower() if isinstance(value, bool) else repr(value)
        case Several():
            return "the list"
