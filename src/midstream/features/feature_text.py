"""Feature text: a formula over columns, parsed by Python's own parser, each node checked against what is allowed.

Nothing is ever executed: the tree becomes steps of a program (``state.program``), computed with all others. The work is
bounded before it starts (characters) and while it runs (nodes); all faults of one text are reported together, each with
its column.
"""

import ast
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.state.program import Expression, Op, column

TEXT_CHARACTERS_MAX = 1_000
NODES_MAX = 64
"""Values and operations of one text."""
PAGE = "docs/features.md"
_LANGUAGE = "Allowed: numbers, names of columns, item.<attribute>, context.<name>, + - * /, < <= > >= == !=, ( ), {}."
_FUNCTIONS: Mapping[str, tuple[Op, int, int]] = {
    "log": (Op.LOG, 1, 1),
    "sqrt": (Op.SQRT, 1, 1),
    "min": (Op.MIN, 2, 8),
    "max": (Op.MAX, 2, 8),
    "if_nan": (Op.IF_NAN, 2, 2),
}
"""The operation of each, and how many arguments it takes."""
_OPERATORS: Mapping[type[ast.operator], Op] = {
    ast.Add: Op.ADD,
    ast.Sub: Op.SUBTRACT,
    ast.Mult: Op.MULTIPLY,
    ast.Div: Op.DIVIDE,
}
_COMPARISONS: Mapping[type[ast.cmpop], tuple[Op, bool, bool]] = {
    ast.Lt: (Op.LESS, False, False),
    ast.Gt: (Op.LESS, True, False),
    ast.GtE: (Op.LESS, False, True),
    ast.LtE: (Op.LESS, True, True),
    ast.Eq: (Op.EQUAL, False, False),
    ast.NotEq: (Op.EQUAL, False, True),
}
"""The operation, whether its sides change places, and whether 1 - it is meant."""
_ALLOWED = _LANGUAGE.format(", ".join(f"{name}()" for name in _FUNCTIONS))


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in a text."""

    scope: str
    """``item``, ``context``, or empty for a column of a feature."""
    name: str
    place: str
    """Where it stands, such as ``column 7``."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on parts of the formula."""

    op: Op
    parts: tuple["Part", ...]


Part: TypeAlias = Operation | Reference | float
Named: TypeAlias = Mapping[str, Callable[[str], Expression]]
"""What a name stands for, by its scope."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A text, checked but for whether its names are there."""

    part: Part
    references: tuple[Reference, ...]
    """In the order of the text."""

    def expression(self, named: Named) -> Expression:
        """Return the column that it means."""
        return _expression(self.part, named)

    def size(self, sizes: Callable[[Reference], int]) -> int:
        """Return how many steps it has, written out: those of its names included."""
        return _size(self.part, sizes)


def parse_formula(text: str, where: str) -> Formula | tuple[Fault, ...]:
    """Return what a text means, or everything that is wrong with it.

    Args:
        text: Such as ``log(views_24h) * item.price / if_nan(context.budget, 100)``.
        where: Pointer to the text, for the faults.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        came = f"The text has {len(text)} characters."
        return (Fault(where, came, f"At most {TEXT_CHARACTERS_MAX} characters.", PAGE),)
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # which Python takes for ends of lines too
    tree = _tree(text, where)
    if isinstance(tree, Fault):
        return (tree,)
    count = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    if count > NODES_MAX:
        return (Fault(where, f"The text has {count} values and operations.", f"At most {NODES_MAX}.", PAGE),)
    reader = _Reader(text, where)
    part = reader.part(tree)
    return tuple(reader.faults) if reader.faults else Formula(part, tuple(reader.references))


def _tree(text: str, where: str) -> ast.expr | Fault:
    """Parse the text as one Python expression that may go over several lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python only warns of is refused
            tree = ast.parse(f"({text}\n)", mode="eval").body
            # A text such as "a) + (b" must not close that bracket: then it does not fit into another kind.
            ast.parse(f"[{text}\n]", mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError, Warning) as error:
        came = "It cannot be read as a formula."
        if isinstance(error, SyntaxError) and error.offset and error.lineno:
            is_end = error.lineno > text.count("\n") + 1  # the bracket around it
            came = f"{'its end' if is_end else _place(error.lineno, error.offset - 1)}: {error.msg}"
        return Fault(where, came, _ALLOWED, PAGE)
    if isinstance(tree, ast.Tuple):
        return Fault(where, f"{text!r} is not one formula.", _ALLOWED, PAGE)
    return tree


def _place(line: int, before: int) -> str:
    """Return where something stands, from the line and how many characters are before it; the first has a bracket."""
    return f"column {max(1, before)}" if line == 1 else f"line {line}, column {before + 1}"


class _Reader:
    """Turns the tree of one text into a formula and collects what is wrong on the way."""

    def __init__(self, text: str, where: str) -> None:
        self._lines = f"({text}\n)".split("\n")
        self._where = where
        self.faults: list[Fault] = []
        self.references: list[Reference] = []

    def part(self, node: ast.expr) -> Part:  # noqa: PLR0911  one return a form, all in a row
        """Return what a node stands for; NaN with a fault noted where it stands for nothing."""
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(node, value)
            case ast.Name(id=name):
                return self._reference(node, "", name)
            case ast.Attribute(value=ast.Name(id="item" | "context" as scope), attr=name):
                return self._reference(node, scope, name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Operation(Op.SUBTRACT, (0.0, self.part(operand)))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return Operation(_OPERATORS[type(op)], (self.part(left), self.part(right)))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                return self._comparison(op, left, right)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(node, name, arguments)
            case _:
                return self._refuse(node, f"`{ast.unparse(node)[:60]}` is not allowed.", _ALLOWED)

    def _number(self, node: ast.expr, value: float) -> Part:
        """Return a number that fits into 64 bits."""
        number = float(value) if abs(value) < 1e300 else math.inf  # noqa: PLR2004  # float64 ends at 1.8e308
        return number if math.isfinite(number) else self._refuse(node, "The number is too large.", "Below 1e300.")

    def _reference(self, node: ast.expr, scope: str, name: str) -> Part:
        """Return a name, and note that it is needed."""
        found = Reference(scope, name, self._place_of(node))
        self.references.append(found)
        return found

    def _comparison(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Part:
        """Return 1 where a comparison is true, else 0."""
        operation, is_turned, is_opposite = _COMPARISONS[type(op)]
        sides = (self.part(left), self.part(right))
        found = Operation(operation, sides[::-1] if is_turned else sides)
        return Operation(Op.SUBTRACT, (1.0, found)) if is_opposite else found

    def _call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> Part:
        """Return a function of its arguments; of more than two the first two, then with the next."""
        if name not in _FUNCTIONS:
            came = f'"{name}" is not a function.{nearest(name, _FUNCTIONS)}'
            return self._refuse(node, came, f"Functions: {', '.join(_FUNCTIONS)}.")
        op, low, high = _FUNCTIONS[name]
        if not low <= len(arguments) <= high:
            right = f"{low}" if low == high else f"{low} to {high}"
            return self._refuse(node, f"{name}() has {len(arguments)} arguments.", f"It takes {right}.")
        found, *others = [self.part(each) for each in arguments]
        if not others:
            return Operation(op, (found,))
        for each in others:
            found = Operation(op, (found, each))
        return found

    def _refuse(self, node: ast.expr, came: str, right: str) -> Part:
        """Note a fault with the column of the node in the text."""
        self.faults.append(Fault(self._where, f"{self._place_of(node)}: {came}", right, PAGE))
        return math.nan

    def _place_of(self, node: ast.expr) -> str:
        """Return where a node stands in the text."""
        line = self._lines[node.lineno - 1].encode()
        return _place(node.lineno, len(line[: node.col_offset].decode()))


def _expression(part: Part, named: Named) -> Expression:
    """Return the column of a part."""
    match part:
        case Operation(op=op, parts=parts):
            return Expression(op, tuple(_expression(each, named) for each in parts))
        case Reference(scope=scope, name=name):
            return named[scope](name)
        case _:
            return column(part)


def _size(part: Part, sizes: Callable[[Reference], int]) -> int:
    """Return the steps of a part, written out."""
    match part:
        case Operation(parts=parts):
            return 1 + sum(_size(each, sizes) for each in parts)
        case Reference():
            return sizes(part)
        case _:
            return 1
