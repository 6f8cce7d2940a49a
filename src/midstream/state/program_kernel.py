"""The kernel that computes any program of columns, step by step, from parameter tables.

It is as exact as its plain twin, ``program.evaluate``: the same operations in the same order on float64.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.kernel import kernel
from midstream.state.logarithm import log2_of
from midstream.state.program import Cell, Columns, Input, Op, Program

_CONSTANT: Final = 0
_CELL: Final = 1
_INPUT: Final = 2
_LEAF, _NOW = int(Op.LEAF), int(Op.NOW)
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = int(Op.ADD), int(Op.SUBTRACT), int(Op.MULTIPLY), int(Op.DIVIDE)
_LOG, _SQRT, _LESS, _EQUAL = int(Op.LOG), int(Op.SQRT), int(Op.LESS), int(Op.EQUAL)
_MIN, _IF_NAN = int(Op.MIN), int(Op.IF_NAN)
_OP, _KIND, _LEFT, _RIGHT, _FROM = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A program as tables."""

    table: NDArray[np.int32]
    """Operation, kind of a leaf, registers of the arguments, place of a cell or input; (5, steps)."""
    constants: Columns
    """Of the leaves that are numbers, (steps,)."""
    outputs: NDArray[np.intp]
    """The register of each column."""


def steps_of(program: Program) -> Steps:
    """Return the tables of a program."""
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
            table[_KIND, place], table[_FROM, place] = _INPUT, given[step.leaf.name]
        elif step.leaf is not None:
            constants[place] = step.leaf
    return Steps(table, constants, program.outputs)


def compute(steps: Steps, loaded: Columns, inputs: Columns, now_ms: int) -> Columns:
    """Return the columns of n candidates, (n, columns).

    Args:
        steps: Of the program.
        loaded: Values of its cells, (cells, n).
        inputs: Values of its inputs, (inputs, n).
        now_ms: Time of the question.
    """
    registers = np.empty((steps.table.shape[1], loaded.shape[1]), dtype=np.float64)
    _compute(steps.table, steps.constants, loaded, inputs, float(now_ms), registers)
    found: Columns = registers[steps.outputs].T
    return found


@kernel
def _compute(
    table: NDArray[np.int32], constants: Columns, loaded: Columns, inputs: Columns, now: float, registers: Columns
) -> None:
    for step in range(table.shape[1]):
        op, found = table[_OP, step], registers[step]
        left, right = registers[table[_LEFT, step]], registers[table[_RIGHT, step]]
        if op == _LEAF and table[_KIND, step] == _CONSTANT:
            found[:] = constants[step]
        elif op == _LEAF and table[_KIND, step] == _CELL:
            found[:] = loaded[table[_FROM, step]]
        elif op == _LEAF:
            found[:] = inputs[table[_FROM, step]]
        elif op == _NOW:
            found[:] = now
        elif op == _ADD:
            found[:] = left + right
        elif op == _SUBTRACT:
            found[:] = left - right
        elif op == _MULTIPLY:
            found[:] = left * right
        else:
            for i in range(len(found)):
                found[i] = _applied(op, left[i], right[i])


@kernel
def _applied(op: int, left: float, right: float) -> float:
    """Return one operation on two numbers; on one, where it takes one."""
    found = np.nan
    if op == _DIVIDE:
        if right != 0.0:
            found = left / right
    elif op == _LOG:
        if left >= 0.0:
            found = log2_of(1.0 + left)
    elif op == _SQRT:
        if left >= 0.0:
            found = np.sqrt(left)
    elif op == _IF_NAN:
        found = right if np.isnan(left) else left
    elif not (np.isnan(left) or np.isnan(right)):
        if op == _LESS:
            found = 1.0 if left < right else 0.0
        elif op == _EQUAL:
            found = 1.0 if left == right else 0.0
        else:
            found = min(left, right) if op == _MIN else max(left, right)
    return found
