"""The kernel that adds one row of cells to another: of two users who become one, and of all tags of an item."""

import numpy as np

from midstream.state.cells.layout import (
    DECAY,
    LAST,
    MAX,
    MIN,
    MODE,
    PERIOD,
    PLACE,
    REGISTERS,
    REST,
    SUM,
    WINDOW,
)
from midstream.state.cells.rows import Places
from midstream.state.cells.windows import Octets, Words, add_window, advance_window, raise_register
from midstream.state.structures.decay import landmark_at, rebase_factor
from midstream.state.structures.kernel import kernel, signed


@kernel
def add_rows(
    into: Words,
    into_octets: Octets,
    at: int,
    words: Words,
    octets: Octets,
    other: int,
    stride: int,
    spec: Places,
    first: int,
    stop: int,
) -> None:
    """Add what was folded into one row to another, as if both had been one; the first is as new as the newer.

    Args:
        into: Holds the first row.
        into_octets: The same memory.
        at: First word of that row.
        words: Holds the other row, which stays as it is.
        octets: The same memory.
        other: First word of that row.
        stride: Words of a row.
        spec: Parameters of the cells.
        first: The first cell of the rows.
        stop: The one after their last.
    """
    if words[other] == 0.0:
        return
    if into[at] == 0.0:
        into[at : at + stride] = words[other : other + stride]
        return
    mine_ms, theirs_ms = signed(into[at]), signed(words[other])
    now = max(mine_ms, theirs_ms)
    for cell in range(first, stop):
        mode, place, period = spec[MODE, cell], spec[PLACE, cell], spec[PERIOD, cell]
        here, there = at + place, other + place
        if mode == SUM:
            into[here] += words[there]
        elif mode == DECAY:
            landmark = landmark_at(now, period)
            mine = into[here] * rebase_factor(landmark_at(mine_ms, period), landmark, period)
            theirs = words[there] * rebase_factor(landmark_at(theirs_ms, period), landmark, period)
            into[here] = mine + theirs
        elif mode == WINDOW:
            ring, bucket = spec[REST, cell], now // period
            if bucket > mine_ms // period:
                advance_window(into, here, at + ring, mine_ms // period, bucket)
            add_window(into, here, at + ring, bucket, words, there, other + ring, theirs_ms // period)
        elif mode == MIN:
            if np.isnan(into[here]) or words[there] < into[here]:
                into[here] = words[there]
        elif mode == MAX:
            if np.isnan(into[here]) or words[there] > into[here]:
                into[here] = words[there]
        elif mode == LAST:
            if words[there + 1] > into[here + 1]:
                into[here], into[here + 1] = words[there], words[there + 1]
        else:
            for register in range(REGISTERS):
                rank = signed(octets[8 * (other + spec[REST, cell]) + register])
                raise_register(into, into_octets, here, 8 * (at + spec[REST, cell]) + register, rank)
    into[at] = now
