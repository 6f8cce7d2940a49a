"""Programs: every declared feature as parameter tables of two kernels.

A feature is an expression over cells. A cell is one number kept for each user, item, ...: which actions count, what of
them is taken, how it is folded, how it fades. Equal cells are stored once and equal subexpressions computed once,
whoever declared them. So a new kind of feature is a function that returns an expression: no new state, no new kernel,
nothing of its own to snapshot, replay or test for parity.

Two kernels run any program from parameter tables (``state.cells.fold``, ``state.cells.read``): nothing is generated,
and another configuration compiles nothing. ``evaluate`` here is the plain twin of the second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.exact_math import log2_of

ScopeName = Literal["global", "user", "item", "session", "attribute", "user_item", "user_attribute"]
"""Scopes of cells that count events."""
OutcomeScope = Literal["outcomes", "item_outcomes"]
"""Scopes of cells that count positions of slates by what followed them: of all items, and of each item."""
CellScope: TypeAlias = Literal[ScopeName, OutcomeScope]
TakeName = Literal["one", "weight", "value", "value_squared", "quantity", "time", "has_value"]
FoldName = Literal["sum", "min", "max", "last", "distinct"]
Counted = Literal["", "user", "item", "session"]
Columns: TypeAlias = NDArray[np.float64]


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number kept for each key of a scope."""

    scope: CellScope
    actions: tuple[str, ...]
    """Configured interactions, and ``impression``; ascending."""
    take: TakeName = "one"
    """What of an event is folded; NaN passes it by. ``time`` is its event time in milliseconds, ``has_value`` 1 when a
    value was sent, else NaN."""
    fold: FoldName = "sum"
    """``last`` is of the newest event time, of equal ones the later in the log."""
    half_life_ms: int = 0
    """Of a sum that fades; 0 = it does not."""
    window_ms: int = 0
    """Length of the window a sum is of, exact to a twelfth; 0 = of all time."""
    attribute: str = ""
    """Category or tags attribute whose values are the keys, in the scopes ``attribute`` and ``user_attribute``."""
    of: Counted = ""
    """What ``distinct`` counts."""
    placement: str = ""
    """In the scopes of outcomes: the placement whose slates count, those of its variants too; empty = each."""


class Op(IntEnum):
    """Operation of a step of a program; the kernel knows it by number."""

    LEAF = 0
    NOW = 1
    ADD = 2
    SUBTRACT = 3
    MULTIPLY = 4
    DIVIDE = 5
    LOG = 6
    SQRT = 7
    LESS = 8
    EQUAL = 9
    MIN = 10
    MAX = 11
    IF_NAN = 12


@dataclass(frozen=True, slots=True)
class Input:
    """A column that comes with the question: of the request, of the candidate's attributes, of the caller."""

    reader: object
    """What fills it: equal readers are asked once for all of their columns."""
    row: int = 0
    """Which of the reader's columns."""
    rows: int = 1
    """How many columns the reader has."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A column: a cell, an input, a constant, or an operation on other columns."""

    op: Op
    arguments: tuple["Expression", ...] = ()
    leaf: Cell | Input | float | None = None

    def __add__(self, other: "Expression | float") -> "Expression":
        """Add."""
        return Expression(Op.ADD, (self, column(other)))

    def __sub__(self, other: "Expression | float") -> "Expression":
        """Subtract."""
        return Expression(Op.SUBTRACT, (self, column(other)))

    def __mul__(self, other: "Expression | float") -> "Expression":
        """Multiply."""
        return Expression(Op.MULTIPLY, (self, column(other)))

    def __truediv__(self, other: "Expression | float") -> "Expression":
        """Divide; x / 0 is NaN, because nothing is known."""
        return Expression(Op.DIVIDE, (self, column(other)))


NOW = Expression(Op.NOW)
"""The time of the question in milliseconds."""


def column(value: Expression | Cell | Input | float) -> Expression:
    """Return a cell, an input or a number as a column."""
    if isinstance(value, Expression):
        return value
    return Expression(Op.LEAF, leaf=value if isinstance(value, Cell | Input) else float(value))


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Parameter tables of all declared features, for the kernels."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    """Distinct, in the order in which they are first needed."""
    inputs: tuple[Input, ...]
    """All columns of each reader, one after another; distinct readers in the order in which they are first needed."""
    steps: tuple[Expression, ...]
    """Distinct, each after its arguments; step r fills register r."""
    outputs: NDArray[np.intp]
    """The register of each name."""


def compile_columns(columns: Mapping[str, Expression]) -> Program:
    """Number each distinct subexpression once, in an order in which they can be computed."""
    register: dict[Expression, int] = {}

    def number(expression: Expression) -> int:
        if expression not in register:
            for argument in expression.arguments:
                number(argument)
            register[expression] = len(register)
        return register[expression]

    outputs = np.array([number(expression) for expression in columns.values()], dtype=np.intp)
    cells = tuple(step.leaf for step in register if isinstance(step.leaf, Cell))
    readers = {step.leaf.reader: step.leaf.rows for step in register if isinstance(step.leaf, Input)}
    inputs = tuple(Input(reader, row, rows) for reader, rows in readers.items() for row in range(rows))
    return Program(tuple(columns), cells, inputs, tuple(register), outputs)


def divide(left: Columns, right: Columns) -> Columns:
    """Return left / right with NaN where right is 0."""
    return np.divide(left, right, out=np.full_like(left, np.nan), where=right != 0.0)


def _compared(compare: Callable[[Columns, Columns], Any]) -> Callable[[Columns, Columns], Columns]:
    """Return a comparison that gives 1, 0, and NaN where either side is."""

    def found(left: Columns, right: Columns) -> Columns:
        return np.where(np.isnan(left) | np.isnan(right), np.nan, compare(left, right).astype(np.float64))

    return found


def _logarithm(value: Columns) -> Columns:
    """Return log2(1 + value), within 1e-8 and the same on every CPU; NaN below 0."""
    return np.array([log2_of(1.0 + each) if each >= 0.0 else np.nan for each in value.tolist()], dtype=np.float64)


def _root(value: Columns) -> Columns:
    """Return the square root, NaN below 0."""
    return np.sqrt(value, out=np.full_like(value, np.nan), where=value >= 0.0)


def _if_nan(value: Columns, other: Columns) -> Columns:
    """Return value, and other where that is NaN."""
    return np.where(np.isnan(value), other, value)


OPERATIONS: Mapping[Op, Callable[..., Columns]] = {
    Op.ADD: np.add,
    Op.SUBTRACT: np.subtract,
    Op.MULTIPLY: np.multiply,
    Op.DIVIDE: divide,
    Op.LOG: _logarithm,
    Op.SQRT: _root,
    Op.LESS: _compared(np.less),
    Op.EQUAL: _compared(np.equal),
    Op.MIN: np.minimum,
    Op.MAX: np.maximum,
    Op.IF_NAN: _if_nan,
}


def evaluate(program: Program, loaded: Columns, inputs: Columns, now_ms: int) -> Columns:
    """Return the columns of n candidates, (n, names).

    NaN in, NaN out: an item that was never seen has no rate, not a rate of 0.

    Args:
        program: What is computed.
        loaded: Values of its cells, (n, cells).
        inputs: Values of its inputs, (n, inputs).
        now_ms: Time of the question.
    """
    cell = {each: place for place, each in enumerate(program.cells)}
    given = {each: place for place, each in enumerate(program.inputs)}
    register = {step: place for place, step in enumerate(program.steps)}
    registers = np.empty((len(program.steps), len(loaded)))
    for place, step in enumerate(program.steps):
        if isinstance(step.leaf, Cell):
            registers[place] = loaded[:, cell[step.leaf]]
        elif isinstance(step.leaf, Input):
            registers[place] = inputs[:, given[step.leaf]]
        elif step.leaf is not None:
            registers[place] = step.leaf
        elif step.op is Op.NOW:
            registers[place] = now_ms
        else:
            registers[place] = OPERATIONS[step.op](*(registers[register[each]] for each in step.arguments))
    return registers[program.outputs].T
