"""The kernel that computes any program of columns, step by step, from parameter tables.

It is as exact as its plain twin, ``program.evaluate``: the same operations in the same order on float64.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask
from midstream.state.expressions.program import Cell, Columns, Input, Op, Program
from midstream.state.structures.exact_math import log2_of
from midstream.state.structures.kernel import kernel

_CONSTANT: Final = 0
_CELL: Final = 1
_INPUT: Final = 2
_LEAF, _NOW = int(Op.LEAF), int(Op.NOW)
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = int(Op.ADD), int(Op.SUBTRACT), int(Op.MULTIPLY), int(Op.DIVIDE)
_LOG, _SQRT, _LESS, _EQUAL = int(Op.LOG), int(Op.SQRT), int(Op.LESS), int(Op.EQUAL)
_MIN, _IF_NAN = int(Op.MIN), int(Op.IF_NAN)
_OP, _KIND, _LEFT, _RIGHT, _FROM = 0, 1, 2, 3, 4
_FLOAT32_MAX: Final = np.float32(np.finfo(np.float32).max)
_SAME_SCOPES: Final = frozenset({"global", "user", "session"})
BLOCK: Final = 64
"""Candidates at a time: 60 registers of so many are 30 KiB, what the nearest cache holds."""
WIDTH: Final = BLOCK + 8
"""Places of a register: a line more than are used, so that registers do not lie in the same sets of that cache."""


@dataclass(frozen=True, slots=True, eq=False)
class ProgramTables:
    """A program as tables."""

    table: NDArray[np.int32]
    """Operation, kind of a leaf, registers of the arguments, place of a cell or input; (5, steps)."""
    constants: Columns
    """Of the leaves that are numbers, (steps,)."""
    outputs: NDArray[np.int64]
    """The register of each column."""
    once: NDArray[np.int64]
    """The operations whose result is the same for all candidates of a question, in order."""
    each: NDArray[np.int64]
    """The other operations, in order."""


def steps_of(program: Program, same_inputs: AbstractSet[int] = frozenset()) -> ProgramTables:
    """Return the tables of a program.

    Args:
        program: Of these steps.
        same_inputs: Numbers of the inputs that are the same for all candidates of a question.
    """
    cell = {each: place for place, each in enumerate(program.cells)}
    given = {each: place for place, each in enumerate(program.inputs)}
    register = {step: place for place, step in enumerate(program.steps)}
    table = np.zeros((5, len(program.steps)), dtype=np.int32)
    constants = np.zeros(len(program.steps), dtype=np.float64)
    for place, step in enumerate(program.steps):
        table[_OP, place] = step.op
        for row, argument in zip((_LEFT, _RIGHT), step.arguments, strict=False):
            table[row, place] = register[argument]
        if isinstance(step.leaf, Cell):
            table[_KIND, place], table[_FROM, place] = _CELL, cell[step.leaf]
        elif isinstance(step.leaf, Input):
            table[_KIND, place], table[_FROM, place] = _INPUT, given[step.leaf]
        elif step.leaf is not None:
            constants[place] = step.leaf
    same = _same(program, given, same_inputs)
    operations = np.flatnonzero((table[_OP] != _LEAF) & (table[_OP] != _NOW))
    once, each = operations[same[operations]], operations[~same[operations]]
    return ProgramTables(table, constants, program.outputs.astype(np.int64), once, each)


def _same(program: Program, given: Mapping[Input, int], same_inputs: AbstractSet[int]) -> Mask:
    """Return which registers hold the same for all candidates of a question, (steps,)."""
    register = {step: place for place, step in enumerate(program.steps)}
    same = np.zeros(len(program.steps), dtype=np.bool_)
    for place, step in enumerate(program.steps):
        if isinstance(step.leaf, Cell):
            same[place] = step.leaf.scope in _SAME_SCOPES
        elif isinstance(step.leaf, Input):
            same[place] = given[step.leaf] in same_inputs
        else:
            same[place] = all(same[register[argument]] for argument in step.arguments)
    return same


def compute(steps: ProgramTables, loaded: Columns, inputs: Columns, now_ms: int) -> Columns:
    """Return the columns of n candidates, (n, columns).

    Args:
        steps: Of the program.
        loaded: Values of its cells, (cells, n).
        inputs: Values of its inputs, (inputs, n).
        now_ms: Time of the question.
    """
    found = np.empty((loaded.shape[1], len(steps.outputs)), dtype=np.float64)
    operations = np.sort(np.concatenate((steps.once, steps.each)))
    _compute(steps.table, steps.constants, operations, steps.outputs, loaded, inputs, float(now_ms), found)
    return found


@kernel
def _compute(
    table: NDArray[np.int32],
    constants: Columns,
    operations: NDArray[np.int64],
    outputs: NDArray[np.int64],
    loaded: Columns,
    inputs: Columns,
    now: float,
    found: Columns,
) -> None:
    registers = np.empty((table.shape[1], WIDTH), dtype=np.float64)
    fill_constants(table, constants, now, registers)
    for start in range(0, len(found), BLOCK):
        count = min(BLOCK, len(found) - start)
        fill_leaves(table, _CELL, loaded, start, count, registers)
        fill_leaves(table, _INPUT, inputs, start, count, registers)
        run_steps(table, operations, count, registers)
        for k in range(count):
            for column in range(len(outputs)):
                found[start + k, column] = registers[outputs[column], k]


@kernel
def narrow(registers: Columns, outputs: NDArray[np.int64], start: int, count: int, found: NDArray[np.float32]) -> None:
    """Write registers as float32 into columns from a candidate on; NaN for what float32 cannot hold.

    Nobody is to score with infinity.
    """
    for column in range(len(outputs)):
        step = outputs[column]
        for k in range(count):
            value = np.float32(registers[step, k])
            found[column, start + k] = value if abs(value) <= _FLOAT32_MAX else np.float32(np.nan)


@kernel
def fill_constants(table: NDArray[np.int32], constants: Columns, now: float, registers: Columns) -> None:
    """Fill the registers of constants and of the time of the question."""
    for step in range(table.shape[1]):
        if table[_OP, step] == _NOW:
            registers[step] = now
        elif table[_OP, step] == _LEAF and table[_KIND, step] == _CONSTANT:
            registers[step] = constants[step]


@kernel
def fill_inputs(table: NDArray[np.int32], inputs: Columns, start: int, count: int, registers: Columns) -> None:
    """Fill the registers of inputs with the values of some candidates from one on."""
    fill_leaves(table, _INPUT, inputs, start, count, registers)


@kernel
def fill_leaves(
    table: NDArray[np.int32], kind: int, values: Columns, start: int, count: int, registers: Columns
) -> None:
    """Fill the registers of one kind of leaf."""
    for step in range(table.shape[1]):
        if table[_OP, step] == _LEAF and table[_KIND, step] == kind:
            source = table[_FROM, step]
            for k in range(count):
                registers[step, k] = values[source, start + k]


@kernel
def run_steps(table: NDArray[np.int32], operations: NDArray[np.int64], count: int, registers: Columns) -> None:
    """Run operations, in order, on the first registers of each of their arguments.

    Registers are named by row and place: a row by itself would be an array whose references are counted.
    """
    for place in range(len(operations)):
        step = operations[place]
        op, left, right = table[_OP, step], table[_LEFT, step], table[_RIGHT, step]
        if op == _ADD:
            for k in range(count):
                registers[step, k] = registers[left, k] + registers[right, k]
        elif op == _SUBTRACT:
            for k in range(count):
                registers[step, k] = registers[left, k] - registers[right, k]
        elif op == _MULTIPLY:
            for k in range(count):
                registers[step, k] = registers[left, k] * registers[right, k]
        elif op == _DIVIDE:
            for k in range(count):
                divisor = registers[right, k]
                quotient = registers[left, k] / divisor
                registers[step, k] = quotient if divisor != 0.0 else np.nan
        elif op == _LOG:
            for k in range(count):
                value = registers[left, k]
                registers[step, k] = log2_of(1.0 + max(value, 0.0)) if value >= 0.0 else np.nan
        elif op == _IF_NAN:
            for k in range(count):
                value, other = registers[left, k], registers[right, k]
                registers[step, k] = other if np.isnan(value) else value
        else:
            for k in range(count):
                registers[step, k] = _applied(op, registers[left, k], registers[right, k])


@kernel
def _applied(op: int, left: float, right: float) -> float:
    """Return one operation on two numbers; on one, where it takes one."""
    found = np.nan
    if op == _SQRT:
        if left >= 0.0:
            found = np.sqrt(left)
    elif not (np.isnan(left) or np.isnan(right)):
        if op == _LESS:
            found = 1.0 if left < right else 0.0
        elif op == _EQUAL:
            found = 1.0 if left == right else 0.0
        else:
            found = min(left, right) if op == _MIN else max(left, right)
    return found
