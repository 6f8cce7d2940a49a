"""The kernels that read cells as of a time: into a matrix of cells and candidates, scope by scope. Nothing is changed.

Row by row: all that is read of a candidate while its lines are at hand, and those of later ones are asked for. What
depends on the time of the question and a cell alone is found once a question.
"""

from typing import Final

import numpy as np

from midstream.state.cells.lanes import read_scaled, read_windows
from midstream.state.cells.layout import (
    BUCKETS,
    CODES,
    DECAY,
    DISTINCT,
    FIRST,
    MODE,
    PERIOD,
    PLACE,
    REST,
    STOP,
    STRIDE,
    WINDOW,
)
from midstream.state.cells.merge import add_rows
from midstream.state.cells.rows import NO_ROW, UNKNOWN, Places
from midstream.state.cells.windows import Octets, Words, distinct_of
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.prefetch import LINE_BYTES, prefetch

WORD, PLACE_TO, WORD_RING, BEGIN, END, LATEST, EDGE, ASK = range(8)
"""Rows of ``plan``, for each cell that is read: its word in a row, the row of the result; of a window the word of its
ring that is read as of now; between which log times of a row the factor holds, or from which on a window holds
anything of its buckets; from which on nothing of it is gone, as the row is in the bucket of now; from which on what is
ahead counts. The last are words of the scope that lie in lines of their own."""
PLAN_ROWS: Final = 8
ADDED, MOVED, FADE_BEGIN, FADE_END, ASKED, LAST_WORD, RINGS_FROM, RINGS_TO = range(8)
"""Columns of ``bounds``, for each scope: the first place in ``wanted`` after the sums that are no windows, and after
windows; between which log times the factors of all its cells hold; how many words are to be asked for, and the last;
between which log times a word of any ring is read."""
BOUNDS: Final = 8
READ_ROWS: Final = 64
"""Rows that are read at a time, cell by cell."""
ROWS_AHEAD: Final = READ_ROWS + 16
"""Rows between the request for one and a look at its log time: so many lines come at once as a core can wait for."""
ROWS_NEAR: Final = READ_ROWS
"""The same of words of rings, which the log time of a row decides."""
_POOLED: Final = -3
_EVER: Final = 1 << 62


@kernel
def plan_at(
    starts: Places,
    wanted: Places,
    place_of: Places,
    spec: Places,
    now_ms: int,
    plan: Places,
    factors: Words,
    nothing: Words,
    bounds: Places,
) -> None:
    """Write what a time and each cell decide.

    Args:
        starts: First place in ``wanted`` of each scope, and the length of that.
        wanted: Numbers of the cells that are read, scope by scope, ascending, (c,).
        place_of: The row of the result of each.
        spec: Parameters of all cells.
        now_ms: What fades has faded until then, and windows end then.
        plan: For the result, (PLAN_ROWS, c).
        factors: The same, (c,).
        nothing: For what the cells of a key without a row are, (c,).
        bounds: For what is found of each scope, (scopes, BOUNDS).
    """
    for g in range(len(starts) - 1):
        bounds[g, ADDED] = bounds[g, MOVED] = starts[g]
        bounds[g, FADE_BEGIN], bounds[g, FADE_END] = 0, _EVER
        bounds[g, RINGS_FROM], bounds[g, RINGS_TO] = _EVER, 0
        asked = last = bounds[g, ASKED] = 0
        for w in range(starts[g], starts[g + 1]):
            cell = wanted[w]
            mode, period, factors[w] = spec[MODE, cell], spec[PERIOD, cell], 1.0
            nothing[w] = 0.0 if mode <= WINDOW or mode == DISTINCT else np.nan
            plan[WORD, w], plan[PLACE_TO, w] = spec[PLACE, cell], place_of[w]
            if mode <= DECAY:
                bounds[g, ADDED] = w + 1
            if mode <= WINDOW:
                bounds[g, MOVED] = w + 1
            if mode == DECAY:
                plan[BEGIN, w] = landmark_at(now_ms, period)
                plan[END, w] = plan[BEGIN, w] + period * LANDMARK_HALF_LIVES
                factors[w] = decay_weight(signed(plan[BEGIN, w]), now_ms, period)
                bounds[g, FADE_BEGIN] = max(bounds[g, FADE_BEGIN], plan[BEGIN, w])
                bounds[g, FADE_END] = min(bounds[g, FADE_END], plan[END, w])
            elif mode == WINDOW:
                bucket = now_ms // period
                plan[BEGIN, w] = (bucket - BUCKETS + 1) * period
                plan[LATEST, w] = bucket * period
                plan[EDGE, w] = plan[BEGIN, w] - period
                bounds[g, RINGS_FROM] = min(bounds[g, RINGS_FROM], plan[EDGE, w])
                bounds[g, RINGS_TO] = max(bounds[g, RINGS_TO], plan[LATEST, w])
                plan[WORD_RING, w] = spec[REST, cell] + (bucket + 1) % BUCKETS
            last = signed(plan[WORD, w])
            if last >= asked + LINE_BYTES // 8:
                asked = plan[ASK, starts[g] + bounds[g, ASKED]] = last
                bounds[g, ASKED] += 1
        # Rows begin anywhere in a line, so the last word may lie in one more.
        bounds[g, LAST_WORD] = last


@kernel
def read_rows(
    group: Places,
    row_of: Places,
    start: int,
    stop: int,
    begin: int,
    end: int,
    bounds: Places,
    spec: Places,
    wanted: Places,
    plan: Places,
    factors: Words,
    nothing: Words,
    now_ms: int,
    words: Words,
    octets: Octets,
    found: Words,
) -> None:
    """Write cells of one scope of the candidates from ``start`` to before ``stop``.

    Args:
        group: Parameters of the scope, (GROUP_ROWS,).
        row_of: Where its rows begin, (columns, n), as ``place_items`` found them.
        start: First candidate.
        stop: The one after the last.
        begin: First place in ``wanted`` of the scope.
        end: The one after the last.
        bounds: Of the scope, from ``plan_at``, (BOUNDS,).
        spec: Parameters of all cells.
        wanted: Numbers of the cells that are read.
        plan: From ``plan_at``.
        factors: The same.
        nothing: The same.
        now_ms: Time of the question.
        words: All rows of cells.
        octets: The same memory.
        found: For the values, (rows, at least stop - start): the first candidate stands first.
    """
    if group[CODES] <= 1:
        read_block(
            words, row_of[0], start, stop, 0, begin, end, bounds, spec, wanted, plan, factors, nothing, now_ms,
            found,
        )  # fmt: skip
        return
    pool, one = np.empty(group[STRIDE], dtype=np.float64), np.empty(1, dtype=np.int64)
    pool_octets = pool.view(np.uint8)
    for k in range(start, stop):
        for column in range(row_of.shape[0]):
            prefetch(words, row_of[column, min(k + ROWS_AHEAD, row_of.shape[1] - 1)], 0)
        one[0] = _pooled(group, row_of[:, k], spec, words, octets, pool, pool_octets)
        to = k - start
        if one[0] == _POOLED:
            one[0] = 0
            read_block(
                pool, one, 0, 1, to, begin, end, bounds, spec, wanted, plan, factors, nothing, now_ms,
                found,
            )  # fmt: skip
        else:
            read_block(words, one, 0, 1, to, begin, end, bounds, spec, wanted, plan, factors, nothing, now_ms, found)


@kernel
def _pooled(
    group: Places, row_of: Places, spec: Places, words: Words, octets: Octets, pool: Words, pool_octets: Octets
) -> int:
    """Return the first word of the one row of several that has anything; of two and more make one in ``pool``.

    Then it is ``_POOLED``; with none that has anything, ``NO_ROW`` or ``UNKNOWN``.
    """
    found = UNKNOWN
    for column in range(len(row_of)):
        at = row_of[column]
        if at < 0 or words[at] == 0.0:
            found = max(found, NO_ROW if at >= NO_ROW else UNKNOWN) if found != _POOLED else found
        elif found >= 0:
            pool[:] = words[found : found + group[STRIDE]]
            add_rows(pool, pool_octets, 0, words, octets, at, group[STRIDE], spec, group[FIRST], group[STOP])
            found = _POOLED
        elif found == _POOLED:
            add_rows(pool, pool_octets, 0, words, octets, at, group[STRIDE], spec, group[FIRST], group[STOP])
        else:
            found = at
    return found


@kernel
def read_block(
    words: Words,
    at_of: Places,
    start: int,
    stop: int,
    to: int,
    begin: int,
    end: int,
    bounds: Places,
    spec: Places,
    wanted: Places,
    plan: Places,
    factors: Words,
    nothing: Words,
    now_ms: int,
    found: Words,
) -> None:
    """Write cells of the rows that begin at these words, or are ``NO_ROW`` or ``UNKNOWN``, into columns from one on.

    Some rows at a time: first their log times, while lines of later rows come, then cell by cell, so that the values
    of a cell are read and written side by side. A row that is not there is read as the first word of all, which is
    there always, and what was read of it is not taken.
    """
    words, at_of, bounds, plan = borrowed(words), borrowed(at_of), borrowed(bounds), borrowed(plan)
    spec, wanted, found = borrowed(spec), borrowed(wanted), borrowed(found)
    at, log_time = np.zeros(READ_ROWS, dtype=np.int64), np.zeros(READ_ROWS, dtype=np.int64)
    added, moved, rows_max = bounds[ADDED], bounds[MOVED], len(at_of)
    asked, last = begin + bounds[ASKED], bounds[LAST_WORD]
    rings_from, rings_to = bounds[RINGS_FROM], bounds[RINGS_TO]
    fade_begin, fade_end = bounds[FADE_BEGIN], bounds[FADE_END]
    if start == 0:
        ask_rows(words, at_of[: min(ROWS_AHEAD, len(at_of))], begin, bounds, plan)
    for first in range(start, stop, READ_ROWS):
        count, odd, known = min(READ_ROWS, stop - first), 0, 0
        for j in range(count):
            k = first + j
            later = at_of[k + ROWS_AHEAD] if k + ROWS_AHEAD < rows_max else NO_ROW
            if later >= 0:
                prefetch(words, later, 0)
                for w in range(begin, asked):
                    prefetch(words, later + plan[ASK, w], 0)
                prefetch(words, later + last, 0)
            near = at_of[k + ROWS_NEAR] if k + ROWS_NEAR < rows_max else NO_ROW
            if near >= 0:
                seen = signed(words[np.uint64(near)])
                is_any = rings_from <= seen < rings_to
                for w in range(added, moved if is_any else added):
                    is_part = np.int64(seen >= plan[EDGE, w]) & np.int64(seen < plan[LATEST, w])
                    prefetch(words, near + plan[WORD_RING, w] * is_part, 0)
            row = at_of[k]
            at[j] = max(row, 0)
            seen = signed(words[np.uint64(at[j])]) if row >= 0 else 0
            log_time[j] = seen if seen != 0 else (0 if row >= NO_ROW else UNKNOWN)
            known += log_time[j] > 0
            odd += log_time[j] > 0 and not fade_begin <= log_time[j] < fade_end
        column = to + first - start
        if known == 0:
            for w in range(begin, end):
                place = plan[PLACE_TO, w]
                for j in range(count):
                    found[place, column + j] = nothing[w] if log_time[j] == 0 else np.nan
            continue
        _read_cells(
            words, (at, log_time, count), (found, 0, column), odd, begin, end, bounds, spec, wanted, plan, factors,
            nothing, now_ms,
        )  # fmt: skip


@kernel
def _read_cells(
    words: Words,
    rows: tuple[Places, Places, int],
    to: tuple[Words, int, int],
    odd: int,
    begin: int,
    end: int,
    bounds: Places,
    spec: Places,
    wanted: Places,
    plan: Places,
    factors: Words,
    nothing: Words,
    now_ms: int,
) -> None:
    """Write cells of some rows, cell by cell; of ``odd`` rows fading sums have another landmark."""
    rows = borrowed(rows)  # here and not where they are made: numba frees an array after the last line that names it
    added, moved, found, column = bounds[ADDED], bounds[MOVED], to[0], to[2]
    for w in range(begin, added):
        read_scaled(words, rows, (found, plan[PLACE_TO, w], column), (plan[WORD, w], factors[w], nothing[w]))
    if odd:
        _read_odd(words, rows[0][: rows[2]], rows[1], column, begin, bounds, spec, wanted, plan, now_ms, found)
    for w in range(added, moved):
        cell = (plan[WORD, w], plan[WORD_RING, w], plan[EDGE, w], plan[LATEST, w], plan[BEGIN, w], nothing[w])
        read_windows(words, rows, (found, plan[PLACE_TO, w], column), cell)
    for w in range(moved, end):
        place = plan[PLACE_TO, w]
        read_scaled(words, rows, (found, place, column), (plan[WORD, w], 1.0, nothing[w]))
        if spec[MODE, wanted[w]] == DISTINCT:
            for j in range(rows[2]):
                if rows[1][j] > 0:
                    found[place, column + j] = distinct_of(found[place, column + j])


@kernel
def ask_rows(words: Words, at_of: Places, begin: int, bounds: Places, plan: Places) -> None:
    """Ask for all lines that are always read of rows."""
    for at in at_of:
        if at >= 0:
            prefetch(words, at, 0)
            for w in range(begin, begin + bounds[ASKED]):
                prefetch(words, at + plan[ASK, w], 0)
            prefetch(words, at + bounds[LAST_WORD], 0)


@kernel
def _read_odd(
    words: Words,
    at: Places,
    log_time: Places,
    column: int,
    begin: int,
    bounds: Places,
    spec: Places,
    wanted: Places,
    plan: Places,
    now_ms: int,
    found: Words,
) -> None:
    """Write the fading sums of the rows whose last landmark is not that of now."""
    for j in range(len(at)):
        for w in range(begin, bounds[ADDED] if log_time[j] > 0 else begin):
            if spec[MODE, wanted[w]] == DECAY and not plan[BEGIN, w] <= log_time[j] < plan[END, w]:
                period = spec[PERIOD, wanted[w]]
                factor = decay_weight(landmark_at(log_time[j], period), now_ms, period)
                found[plan[PLACE_TO, w], column + j] = words[at[j] + plan[WORD, w]] * factor
