"""Memory layout of cells, from the settings alone: known before a byte is reserved.

All rows lie in one line of float64, those of a scope one after another. In a row come first the words that every
question reads: the log time of the last event that was folded into it, 0 = none was; the sums, the fading sums and the
totals of windows, which one loop adds to; least, most and last; of distinct counts what their registers add up to.
Behind them lie what is seldom read or never: the registers, a byte each, through the same memory as uint8, and the
rings of the windows.
Parameters of scopes and cells stand in columns of two tables, so that any program is run by the same machine code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import IMPRESSION
from midstream.state.cells.keys import KEY_ROW
from midstream.state.expressions.program import Cell, CellScope, OutcomeScope, ScopeName, TakeName
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.structures.hash_table import table_size

SUM: Final = 0
DECAY: Final = 1
WINDOW: Final = 2
MIN: Final = 3
MAX: Final = 4
LAST: Final = 5
DISTINCT: Final = 6
"""Modes of cells, in the order in which cells lie in a row: what is added to comes first."""
GLOBAL: Final = 0
USER: Final = 1
ITEM: Final = 2
SESSION: Final = 3
ATTRIBUTE: Final = 4
USER_ITEM: Final = 5
USER_ATTRIBUTE: Final = 6
OUTCOMES: Final = 7
ITEM_OUTCOMES: Final = 8
"""Scopes, in the order of ``ScopeName`` and ``OutcomeScope``."""
SCOPES: Final = (*get_args(ScopeName), *get_args(OutcomeScope))
OUTCOME_SCOPES: Final = frozenset(get_args(OutcomeScope))
"""Scopes whose rows the join of outcomes writes (``state.cells.outcome_cells``)."""
BUCKETS: Final = 12
"""Of a window: what it holds is exact to a twelfth."""
REGISTERS: Final = 64
"""Of a distinct count: the standard error is 1.04 / 8 = 13 %, less while there are few."""
TAKES: Final = len(get_args(TakeName))
NOTHING: Final = TAKES
"""What a cell takes of an action that does not count for it."""
MODE, PLACE, PERIOD, OF, REST = 0, 1, 2, 3, 4
"""Rows of ``spec``: mode; first word; half-life or width of a bucket in milliseconds; what is counted (0 user, 1 item,
2 session); the first word of the ring of a window, or of the registers of a distinct count."""
SPEC_ROWS: Final = 5
SCOPE, BASE, STRIDE, ROWS, FIRST, ADDS, STOP, KEY, TABLE, ENTRIES, CODE, CODES, HEADS = range(13)
"""Rows of ``groups``: scope; first word of its rows, words of a row, number of rows; its first cell, the first one that
is not added to, the one after its last; first key, first entry and number of entries of the table where rows have keys;
first column of the codes of its attribute, and number of those; number of heads of chains, behind its table."""
GROUP_ROWS: Final = 13
KEYED: Final = frozenset({"session", "user_item", "user_attribute"})
"""Scopes whose rows are found by a key."""
_MODES: Final = {"sum": SUM, "min": MIN, "max": MAX, "last": LAST, "distinct": DISTINCT}
_WORDS: Final = (1, 1, 1 + BUCKETS, 1, 1, 2, 1 + REGISTERS // 8)
"""Of a cell in a row, by its mode."""
_OF: Final = {"": 0, "user": 0, "item": 1, "session": 2}
_WORD_BYTES: Final = 8


def mode_of(cell: Cell) -> int:
    """Return how the kernels fold a cell."""
    mode = _MODES[cell.fold]
    if mode == SUM and cell.half_life_ms:
        return DECAY
    return WINDOW if mode == SUM and cell.window_ms else mode


def groups_of(cells: Sequence[Cell]) -> Sequence[tuple[CellScope, str]]:
    """Return each scope with its attribute, once, in a fixed order: what shares rows."""
    return sorted({(cell.scope, cell.attribute) for cell in cells})


def cells_in(cells: Sequence[Cell], scope: str, attribute: str) -> tuple[Cell, ...]:
    """Return the cells that share rows, in the order in which they lie there."""
    found = [cell for cell in cells if (cell.scope, cell.attribute) == (scope, attribute)]
    return tuple(sorted(found, key=mode_of))


def words_of(cells: Sequence[Cell]) -> int:
    """Return the words of 8 bytes of a row that holds these cells."""
    return 1 + sum(_WORDS[mode_of(cell)] for cell in cells)


def rows_max(scope: str, limits: StateLimits) -> int:
    """Return how many rows a scope has at most."""
    return {
        "global": 1,
        "user": limits.users_max,
        "item": limits.items_max,
        "attribute": limits.attribute_values_max,
        "session": limits.sessions_max,
        "user_item": limits.feature_user_items_max,
        "user_attribute": limits.feature_user_values_max,
        "outcomes": 1,
        "item_outcomes": limits.items_max,
    }[scope]


def cell_bytes(settings: FoldSettings) -> int:
    """Return the bytes of all rows and keys."""
    total = 0
    for scope, attribute in groups_of(settings.cells):
        rows = rows_max(scope, settings.limits)
        total += rows * _WORD_BYTES * words_of(cells_in(settings.cells, scope, attribute))
        if scope in KEYED:
            total += rows * KEY_ROW.itemsize + 4 * (table_size(rows) + heads_size(scope, rows))
    return total


def heads_size(scope: str, rows: int) -> int:
    """Return the number of chains of a scope with keys: 1 to 2 rows each when full, none where no key has a user."""
    return table_size(rows) // 2 if scope != "session" else 0


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everything lies, as the kernels take it."""

    groups: NDArray[np.int64]
    """Parameters of the scopes, (GROUP_ROWS, scopes)."""
    spec: NDArray[np.int64]
    """Parameters of the cells of all scopes, one after another, (SPEC_ROWS, cells)."""
    take_of: NDArray[np.uint8]
    """What each cell takes of each action, of an impression and of any other event, (actions + 2, cells)."""
    counts: NDArray[np.bool_]
    """Whether any cell of a scope takes something of that, (actions + 2, scopes)."""
    attributes: Mapping[str, tuple[int, int]]
    """First column of the codes of each attribute that is read, and number of those."""
    code_count: int
    """Columns of codes of all attributes."""
    word_count: int
    """Of all rows."""
    key_count: int
    """Of all scopes that have keys."""
    entry_count: int
    """Of their tables and chains."""


def layout_of(settings: FoldSettings) -> Layout:
    """Lay out all rows."""
    named = groups_of(settings.cells)
    cells = [cells_in(settings.cells, scope, attribute) for scope, attribute in named]
    every = [cell for each in cells for cell in each]
    attributes = _code_columns(settings, [attribute for _, attribute in named if attribute])
    groups = np.zeros((GROUP_ROWS, len(named)), dtype=np.int64)
    words = keys = entries = first = 0
    for number, (scope, attribute) in enumerate(named):
        rows, stride, count = rows_max(scope, settings.limits), words_of(cells[number]), len(cells[number])
        adds = first + sum(mode_of(cell) <= WINDOW for cell in cells[number])
        size = table_size(rows) if scope in KEYED else 0
        heads = heads_size(scope, rows) if size else 0
        code, width = attributes.get(attribute, (0, 0))
        place = SCOPES.index(scope)
        groups[:, number] = (
            place, words, stride, rows, first, adds, first + count, keys, entries, size, code, width, heads,
        )  # fmt: skip
        words, entries, first = words + rows * stride, entries + size + heads, first + count
        keys += rows if size else 0
    take_of = _takes(settings, every)
    counts = np.zeros((len(take_of), len(named)), dtype=np.bool_)
    for number in range(len(named)):
        counts[:, number] = (take_of[:, groups[FIRST, number] : groups[STOP, number]] != NOTHING).any(axis=1)
    spec = np.concatenate([_spec_of(each) for each in cells], axis=1) if cells else np.zeros((SPEC_ROWS, 0), np.int64)
    code_count = sum(width for _, width in attributes.values())
    return Layout(groups, spec, take_of, counts, attributes, code_count, words, keys, entries)


def _code_columns(settings: FoldSettings, attributes: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """Return the first column of the codes of each attribute, and number of those."""
    found: dict[str, tuple[int, int]] = {}
    column = 0
    for attribute in sorted(set(attributes)):
        width = settings.limits.item_tags_max if settings.attributes[attribute] == "tags" else 1
        found[attribute] = (column, width)
        column += width
    return found


def _takes(settings: FoldSettings, cells: Sequence[Cell]) -> NDArray[np.uint8]:
    """Return what each cell takes of each action, of an impression and of any other event."""
    names = (*settings.action_names(), IMPRESSION)
    found = np.full((len(names) + 1, len(cells)), NOTHING, dtype=np.uint8)
    for number, cell in enumerate(cells):
        for action in cell.actions if cell.scope not in OUTCOME_SCOPES else ():
            found[names.index(action), number] = get_args(TakeName).index(cell.take)
    return found


def _spec_of(cells: Sequence[Cell]) -> NDArray[np.int64]:
    """Return the parameters of the cells of one row."""
    modes = [mode_of(cell) for cell in cells]
    place = 1 + sum(mode <= WINDOW for mode in modes)
    summary = place + sum(_WORDS[mode] for mode in modes if WINDOW < mode < DISTINCT)
    registers = summary + modes.count(DISTINCT)
    ring = registers + modes.count(DISTINCT) * (REGISTERS // 8)
    spec = np.zeros((SPEC_ROWS, len(cells)), dtype=np.int64)
    for number, (cell, mode) in enumerate(zip(cells, modes, strict=True)):
        period = cell.half_life_ms if mode == DECAY else -(-cell.window_ms // BUCKETS)
        if mode <= WINDOW:
            spec[:, number] = mode, 1 + number, period, 0, ring
            ring += BUCKETS if mode == WINDOW else 0
        elif mode < DISTINCT:
            spec[:, number] = mode, place, 0, 0, 0
            place += _WORDS[mode]
        else:
            spec[:, number] = mode, summary, 0, _OF[cell.of], registers
            summary, registers = summary + 1, registers + REGISTERS // 8
    return spec
