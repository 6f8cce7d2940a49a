"""One call from a question to the columns of its candidates: rows are found, cells read, steps run.

Candidates are taken in blocks, so that the registers of the steps stay in the nearest cache. What is the same for all
candidates (cells of everybody, the user and the session, constants, and what follows from these alone) is computed
once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.cells.layout import CODES, SCOPE
from midstream.state.cells.read import BOUNDS, PLAN_ROWS, plan_at, read_rows
from midstream.state.cells.rows import Hashes, Places, is_of_items, place_items
from midstream.state.cells.windows import Octets, Words
from midstream.state.expressions.program_kernel import BLOCK, WIDTH, fill_constants, fill_inputs, narrow, run_steps
from midstream.state.structures.kernel import kernel


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Cells to read of each scope, and their places in the result; made once a program."""

    groups: NDArray[np.int64]
    """Parameters of the scopes that are read, (GROUP_ROWS, scopes)."""
    starts: NDArray[np.int64]
    """First place in ``wanted`` of each scope, and the length of that, (scopes + 1,)."""
    wanted: NDArray[np.int64]
    """Numbers of the cells, scope by scope, (cells,)."""
    place_of: NDArray[np.int64]
    """The row that each is written to, (cells,)."""
    attributes: tuple[str, ...]
    """Whose values are the keys of any of them."""


class CellQuestion(NamedTuple):
    """Arguments of both kernels that read cells, in order."""

    groups: Places
    """From ``Reading``, like the next three."""
    starts: Places
    wanted: Places
    place_of: Places
    spec: Places
    """Parameters of all cells."""
    user_index: int
    """Slot of the user, -1 = not known."""
    user_hash: np.uint64
    """0 = none."""
    session_number: int
    """-1 = none."""
    item_index: Index
    """Of the candidates, -1 = not known, (n,)."""
    item_hash: Hashes
    """Of the id of each item, by index."""
    codes: Index
    """Of the values of the candidates, -1 = none, (n, columns)."""
    now_ms: int
    """What fades has faded until then, and windows end then."""
    words: Words
    """All rows of cells."""
    octets: Octets
    """The same memory."""
    keys: NDArray[np.void]
    """Of the rows that have some."""
    tables: Index
    """From hash to key."""


@kernel
def read_matrix(
    groups: Places,
    starts: Places,
    wanted: Places,
    place_of: Places,
    spec: Places,
    user_index: int,
    user_hash: np.uint64,
    session_number: int,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    now_ms: int,
    words: Words,
    octets: Octets,
    keys: NDArray[np.void],
    tables: Index,
    found: Words,
) -> None:
    """Write cells as of a time. Nothing is changed.

    The arguments are those of ``CellQuestion``, and ``found`` (rows, n) for the values.
    """
    plan, factors = np.empty((PLAN_ROWS, len(wanted)), dtype=np.int64), np.empty(len(wanted), dtype=np.float64)
    nothing = np.empty(len(wanted), dtype=np.float64)
    bounds = np.empty((groups.shape[1], BOUNDS), dtype=np.int64)
    plan_at(starts, wanted, place_of, spec, now_ms, plan, factors, nothing, bounds)
    count = len(item_index)
    for g in range(groups.shape[1]):
        group = groups[:, g].copy()
        row_of = np.empty((max(1, group[CODES]), max(1, count)), dtype=np.int64)
        place_items(group, user_index, user_hash, session_number, item_index, item_hash, codes, keys, tables, row_of)
        is_spread = count > 0 and not is_of_items(group[SCOPE])
        read_rows(
            group, row_of[:, :1] if is_spread else row_of, 0, 1 if is_spread else count, starts[g], starts[g + 1],
            bounds[g], spec, wanted, plan, factors, nothing, now_ms, words, octets, found,
        )  # fmt: skip
        if is_spread:
            spread(place_of[starts[g] : starts[g + 1]], found)


@kernel
def spread(place_of: Places, found: Words) -> None:
    """Give all candidates the values of the first."""
    for w in range(len(place_of)):
        found[place_of[w]] = found[place_of[w], 0]


@kernel
def read_columns(
    groups: Places,
    starts: Places,
    wanted: Places,
    place_of: Places,
    spec: Places,
    user_index: int,
    user_hash: np.uint64,
    session_number: int,
    item_index: Index,
    item_hash: Hashes,
    codes: Index,
    now_ms: int,
    words: Words,
    octets: Octets,
    keys: NDArray[np.void],
    tables: Index,
    table: NDArray[np.int32],
    constants: Words,
    once: Places,
    each: Places,
    outputs: Places,
    inputs: Words,
    found: NDArray[np.float32],
) -> None:
    """Write the columns of a program as of a time. Nothing is changed.

    The arguments are those of ``CellQuestion``, of which ``place_of`` are registers; those of ``Steps``; values of the
    program's inputs (inputs, n); and ``found`` (columns, n) for the columns. What float32 cannot hold is NaN.
    """
    plan, factors = np.empty((PLAN_ROWS, len(wanted)), dtype=np.int64), np.empty(len(wanted), dtype=np.float64)
    nothing = np.empty(len(wanted), dtype=np.float64)
    bounds = np.empty((groups.shape[1], BOUNDS), dtype=np.int64)
    plan_at(starts, wanted, place_of, spec, now_ms, plan, factors, nothing, bounds)
    registers = np.empty((table.shape[1], WIDTH), dtype=np.float64)
    fill_constants(table, constants, float(now_ms), registers)
    count = len(item_index)
    row_of = np.empty((groups.shape[1], max(1, codes.shape[1]), max(1, count)), dtype=np.int64)
    for g in range(groups.shape[1]):
        group = groups[:, g].copy()
        rows = row_of[g, : max(1, group[CODES])]
        place_items(group, user_index, user_hash, session_number, item_index, item_hash, codes, keys, tables, rows)
        if not is_of_items(group[SCOPE]):
            read_rows(
                group, rows[:, :1], 0, 1, starts[g], starts[g + 1],
                bounds[g], spec, wanted, plan, factors, nothing, now_ms, words, octets, registers,
            )  # fmt: skip
            spread(place_of[starts[g] : starts[g + 1]], registers)
    run_steps(table, once, WIDTH, registers)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        for g in range(groups.shape[1]):
            if is_of_items(groups[SCOPE, g]):
                group = groups[:, g].copy()
                rows = row_of[g, : max(1, group[CODES])]
                read_rows(
                    group, rows, start, stop, starts[g], starts[g + 1],
                    bounds[g], spec, wanted, plan, factors, nothing, now_ms, words, octets, registers,
                )  # fmt: skip
        fill_inputs(table, inputs, start, stop - start, registers)
        run_steps(table, each, stop - start, registers)
        narrow(registers, outputs, start, stop - start, found)
