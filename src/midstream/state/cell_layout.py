"""How the rows of cells lie in memory, from the settings alone: known before a byte is reserved."""

from collections.abc import Sequence
from typing import Final

from midstream.state.cell_fold import DECAY, DISTINCT, LAST, MAX, MIN, SUM, WINDOW, WORDS
from midstream.state.cell_keys import KEY_ROW
from midstream.state.hash_table import table_size
from midstream.state.program import Cell, ScopeName
from midstream.state.settings import FoldSettings, Limits

KEYED: Final = frozenset({"session", "user_item", "user_attribute"})
"""Scopes whose rows are found by a key."""
_MODES: Final = {"sum": SUM, "min": MIN, "max": MAX, "last": LAST, "distinct": DISTINCT}
_WORD_BYTES: Final = 8


def mode_of(cell: Cell) -> int:
    """Return how the kernels fold a cell."""
    mode = _MODES[cell.fold]
    if mode == SUM and cell.half_life_ms:
        return DECAY
    return WINDOW if mode == SUM and cell.window_ms else mode


def groups_of(cells: Sequence[Cell]) -> Sequence[tuple[ScopeName, str]]:
    """Return each scope with its attribute, once, in a fixed order: what shares rows."""
    return sorted({(cell.scope, cell.attribute) for cell in cells})


def cells_in(cells: Sequence[Cell], scope: str, attribute: str) -> tuple[Cell, ...]:
    """Return the cells that share rows, in the order in which they lie there."""
    return tuple(cell for cell in cells if (cell.scope, cell.attribute) == (scope, attribute))


def words_of(cells: Sequence[Cell]) -> int:
    """Return the words of 8 bytes of a row that holds these cells."""
    return 1 + sum(WORDS[mode_of(cell)] for cell in cells)


def rows_max(scope: str, limits: Limits) -> int:
    """Return how many rows a scope has at most."""
    return {
        "global": 1,
        "user": limits.users_max,
        "item": limits.items_max,
        "attribute": limits.attribute_values_max,
        "session": limits.sessions_max,
        "user_item": limits.feature_user_items_max,
        "user_attribute": limits.feature_user_values_max,
    }[scope]


def cell_bytes(settings: FoldSettings) -> int:
    """Return the bytes of all rows and keys."""
    total = 0
    for scope, attribute in groups_of(settings.cells):
        rows = rows_max(scope, settings.limits)
        total += rows * _WORD_BYTES * words_of(cells_in(settings.cells, scope, attribute))
        if scope in KEYED:
            total += rows * KEY_ROW.itemsize + 4 * table_size(rows)
    return total
