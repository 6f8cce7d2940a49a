"""Outcome cells: positions of slates, counted by what followed them, in the rows of cells.

The join of outcomes (``state.outcomes``) calls ``add_positions`` where it learns something of a position. A position
counts once it was seen, and once in each cell any of whose actions came: so a count of acts is never above that of
impressions, up to rounding where they fade, however often and in whatever order they come. An act that comes before
its impression counts with it.

Whenever an outcome comes, it has the decay weight of its slate's log time: an act weighs what the impression of its
position weighs, however late it is, so a fading rate is not raised by delay. Rows are rebased as those of all cells
(``state.cells.fold``), by their own log times.
"""

from typing import Final, NamedTuple

import numpy as np

from midstream.core.kinds import IMPRESSION
from midstream.state.cells.layout import (
    BASE,
    DECAY,
    FIRST,
    ITEM_OUTCOMES,
    MODE,
    OUTCOME_SCOPES,
    OUTCOMES,
    PERIOD,
    PLACE,
    SCOPE,
    STOP,
    STRIDE,
    Layout,
    cells_in,
    groups_of,
    layout_of,
)
from midstream.state.cells.rows import Places
from midstream.state.cells.windows import Words
from midstream.state.settings import FoldSettings
from midstream.state.structures.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at, rebase_factor
from midstream.state.structures.kernel import inlined, signed
from midstream.state.structures.prefetch import prefetch

BEGIN, END, TIME = 0, 1, 2
"""Rows of ``times``, for each cell: the landmark span of now, and the time of which ``factors`` has the weight."""
_NEVER: Final = -1


class OutcomeCellRows(NamedTuple):
    """Parameters and rows of the cells of outcomes, as the join is given them."""

    groups: Places
    """Of the scopes of outcomes alone, (GROUP_ROWS, scopes)."""
    spec: Places
    """Of all cells."""
    masks: Places
    """Bits of the actions of each cell of all cells; 0 = it is none of outcomes."""
    placements: Places
    """Number of the placement whose slates count for each cell; 0 = those of each."""
    words: Words
    """All rows."""
    times: Places
    """What depends on times and periods alone, kept from event to event, (3, cells). No part of the state."""
    factors: Words
    """Likewise: decay weights, (cells,)."""


def has_outcome_cells(settings: FoldSettings) -> bool:
    """Return whether any cell counts outcomes."""
    return any(cell.scope in OUTCOME_SCOPES for cell in settings.cells)


def counted_placements(settings: FoldSettings) -> dict[str, int]:
    """Return the number of each placement that a cell names, from 1 on, in the order of their names."""
    named = sorted({cell.placement for cell in settings.cells if cell.scope in OUTCOME_SCOPES} - {""})
    return {name: number for number, name in enumerate(named, 1)}


def outcome_cell_rows(settings: FoldSettings, layout: Layout, words: Words) -> OutcomeCellRows:
    """Return what the join writes to.

    Args:
        settings: With all cells.
        layout: Of their rows.
        words: All rows.
    """
    cells = [cell for scope in groups_of(settings.cells) for cell in cells_in(settings.cells, *scope)]
    names, placements = (*settings.action_names(), IMPRESSION), counted_placements(settings)
    is_counted = [cell.scope in OUTCOME_SCOPES for cell in cells]
    masks = [sum(1 << names.index(each) for each in cell.actions) for cell in cells]
    chosen = np.flatnonzero(layout.groups[SCOPE] >= OUTCOMES) if cells else np.empty(0, dtype=np.int64)
    return OutcomeCellRows(
        np.ascontiguousarray(layout.groups[:, chosen]),
        layout.spec,
        np.where(is_counted, np.array(masks, dtype=np.int64), 0).astype(np.int64),
        np.array([placements.get(cell.placement, 0) for cell in cells], dtype=np.int64),
        words,
        np.full((3, len(cells)), _NEVER, dtype=np.int64),
        np.ones(len(cells)),
    )


def own_outcome_cell_rows(settings: FoldSettings) -> OutcomeCellRows:
    """Return rows that no table of cells has, for a join that stands alone."""
    layout = layout_of(settings)
    return outcome_cell_rows(settings, layout, np.zeros(layout.word_count))


@inlined
def add_positions(
    item_index: int, before: int, after: int, placement: int, time_ms: int, now: int, rows: OutcomeCellRows
) -> None:
    """Count a position in the cells to which it belongs now and did not before.

    Args:
        item_index: Of its item.
        before: Bits of what had come at it; 0 = it was not seen.
        after: Bits of what has come.
        placement: Number of the placement of its slate, 0 = one that no cell names.
        time_ms: Log time of its slate.
        now: Log time of the event.
        rows: The cells, which are changed.
    """
    for g in range(rows.groups.shape[1]):
        row = item_index if rows.groups[SCOPE, g] == ITEM_OUTCOMES else 0
        at = rows.groups[BASE, g] + row * rows.groups[STRIDE, g]
        first, stop, is_now = rows.groups[FIRST, g], rows.groups[STOP, g], False
        for cell in range(first, stop):
            mask, wanted = rows.masks[cell], rows.placements[cell]
            if (after & mask) == 0 or (before & mask) != 0 or wanted not in (0, placement):
                continue
            if not is_now:
                _move_on(at, first, stop, now, rows)
                is_now = True
            rows.words[at + rows.spec[PLACE, cell]] += _weight(cell, time_ms, now, rows)


@inlined
def ask_for_item(item_index: int, rows: OutcomeCellRows) -> None:
    """Ask for the row of an item that a later event names."""
    for g in range(rows.groups.shape[1]):
        if rows.groups[SCOPE, g] == ITEM_OUTCOMES and item_index >= 0:
            prefetch(rows.words, rows.groups[BASE, g] + item_index * rows.groups[STRIDE, g], 0)


@inlined
def _move_on(at: int, first: int, stop: int, now: int, rows: OutcomeCellRows) -> None:
    """Bring the fading sums of a row to the landmarks that hold now, and note that it was written now."""
    then = signed(rows.words[at])
    if then not in (0, now):
        for cell in range(first, stop):
            if rows.spec[MODE, cell] == DECAY:
                begin, period = _span(cell, now, rows), rows.spec[PERIOD, cell]
                if then < begin:
                    rows.words[at + rows.spec[PLACE, cell]] *= rebase_factor(landmark_at(then, period), begin, period)
    rows.words[at] = now


@inlined
def _span(cell: int, now: int, rows: OutcomeCellRows) -> int:
    """Return the landmark of a cell that holds now."""
    if now < rows.times[BEGIN, cell] or now >= rows.times[END, cell]:
        length = rows.spec[PERIOD, cell] * LANDMARK_HALF_LIVES
        rows.times[BEGIN, cell] = now // length * length
        rows.times[END, cell] = rows.times[BEGIN, cell] + length
        rows.times[TIME, cell] = _NEVER
    return signed(rows.times[BEGIN, cell])


@inlined
def _weight(cell: int, time_ms: int, now: int, rows: OutcomeCellRows) -> float:
    """Return what a position of a slate of some log time adds to a cell."""
    if rows.spec[MODE, cell] != DECAY:
        return 1.0
    begin = _span(cell, now, rows)
    if rows.times[TIME, cell] != time_ms:
        rows.times[TIME, cell] = time_ms
        rows.factors[cell] = decay_weight(time_ms, begin, rows.spec[PERIOD, cell])
    return float(rows.factors[cell])
