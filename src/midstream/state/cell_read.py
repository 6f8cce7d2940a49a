"""The kernels that read cells as of a time: into a matrix of cells and candidates, scope by scope. Nothing is changed.

What depends on the time of the question and a cell alone is found once a question.
"""

from typing import Final

import numpy as np

from midstream.state.cell_layout import (
    AHEAD,
    BASE,
    BUCKETS,
    CODES,
    DECAY,
    DISTINCT,
    FIRST,
    GLOBAL,
    MODE,
    PERIOD,
    PLACE,
    REGISTERS,
    RING,
    SESSION,
    STOP,
    STRIDE,
    USER,
    WINDOW,
)
from midstream.state.cell_merge import add_rows
from midstream.state.cell_places import NO_ROW, UNKNOWN, Places
from midstream.state.cell_windows import Octets, Words, distinct_of
from midstream.state.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at
from midstream.state.kernel import kernel, signed
from midstream.state.prefetch import LINE_BYTES, prefetch

WORD, PLACE_TO, WORD_AHEAD, WORD_RING, BEGIN, END, LATEST = 0, 1, 2, 3, 4, 5, 6
"""Rows of ``plan``, for each cell that is read: its word in a row, the row of the result; of a window the words of what
is ahead and of the total before its first bucket; between which log times of a row the factor holds, or from which on
a window holds anything; and from which on nothing of it is gone, as the row is in the bucket of now."""
PLAN_ROWS: Final = 7
ADDED, MOVED, FADE_BEGIN, FADE_END = 0, 1, 2, 3
"""Columns of ``bounds``, for each scope: the first place in ``wanted`` after the sums that are no windows, and after
windows; between which log times the factors of all its cells hold."""
BOUNDS: Final = 4
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
    bounds: Places,
) -> None:
    """Write what a time and each cell decide: ``plan`` (PLAN_ROWS, c), ``factors`` (c,), ``bounds`` (scopes, BOUNDS).

    Args:
        starts: First place in ``wanted`` of each scope, and the length of that.
        wanted: Numbers of the cells that are read, scope by scope, ascending, (c,).
        place_of: The row of the result of each.
        spec: Parameters of all cells.
        now_ms: What fades has faded until then, and windows end then.
        plan: For the result.
        factors: The same.
        bounds: The same.
    """
    for g in range(len(starts) - 1):
        bounds[g, ADDED] = bounds[g, MOVED] = starts[g]
        bounds[g, FADE_BEGIN], bounds[g, FADE_END] = 0, _EVER
        for w in range(starts[g], starts[g + 1]):
            cell = wanted[w]
            mode, period, factors[w] = spec[MODE, cell], spec[PERIOD, cell], 1.0
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
                plan[WORD_AHEAD, w] = spec[AHEAD, cell]
                plan[WORD_RING, w] = spec[RING, cell] + (bucket + 1) % BUCKETS


@kernel
def is_of_items(scope: int) -> bool:
    """Return whether the rows of a scope differ from candidate to candidate."""
    return scope not in (GLOBAL, USER, SESSION)


@kernel
def ask_for_rows(
    group: Places,
    row_of: Places,
    start: int,
    stop: int,
    begin: int,
    end: int,
    spec: Places,
    wanted: Places,
    plan: Places,
    words: Words,
) -> None:
    """Ask for what is read of the rows of some candidates, but for rings, which are seldom read."""
    for k in range(start, stop):
        if row_of[0, k] < 0:
            continue
        at = group[BASE] + row_of[0, k] * group[STRIDE]
        prefetch(words, at, 0)
        asked = last = 0
        for w in range(begin, end):
            last = plan[WORD, w]
            if last >= asked + LINE_BYTES // 8:
                asked = last
                prefetch(words, at + asked, 0)
            if spec[MODE, wanted[w]] == DISTINCT:
                last += REGISTERS // 8 - 1
                prefetch(words, at + last, 0)
        # Rows begin anywhere in a line, so the last word may lie in one more.
        prefetch(words, at + last, 0)


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
    now_ms: int,
    words: Words,
    octets: Octets,
    found: Words,
) -> None:
    """Write cells of one scope of the candidates from ``start`` to before ``stop``.

    Args:
        group: Parameters of the scope, (GROUP_ROWS,).
        row_of: Its rows, (columns, n), as ``place_items`` found them.
        start: First candidate.
        stop: The one after the last.
        begin: First place in ``wanted`` of the scope.
        end: The one after the last.
        bounds: Of the scope, from ``plan_at``, (BOUNDS,).
        spec: Parameters of all cells.
        wanted: Numbers of the cells that are read.
        plan: From ``plan_at``.
        factors: The same.
        now_ms: Time of the question.
        words: All rows of cells.
        octets: The same memory.
        found: For the values, (rows, at least stop - start): the first candidate stands first.
    """
    at_of = np.empty(stop - start, dtype=np.int64)
    if group[CODES] <= 1:
        for k in range(stop - start):
            row = row_of[0, start + k]
            at_of[k] = group[BASE] + row * group[STRIDE] if row >= 0 else row
        read_block(words, octets, at_of, 0, begin, end, bounds, spec, wanted, plan, factors, now_ms, found)
        return
    pool = np.empty(group[STRIDE], dtype=np.float64)
    pool_octets = pool.view(np.uint8)
    for k in range(stop - start):
        at = _pooled(group, row_of[:, start + k], spec, words, octets, pool, pool_octets)
        if at == _POOLED:
            at_of[0] = 0
            read_block(pool, pool_octets, at_of[:1], k, begin, end, bounds, spec, wanted, plan, factors, now_ms, found)
        else:
            at_of[0] = at
            read_block(words, octets, at_of[:1], k, begin, end, bounds, spec, wanted, plan, factors, now_ms, found)


@kernel
def _pooled(
    group: Places, row_of: Places, spec: Places, words: Words, octets: Octets, pool: Words, pool_octets: Octets
) -> int:
    """Return the first word of the one row of several that has anything; of two and more make one in ``pool``.

    Then it is ``_POOLED``; with none that has anything, ``NO_ROW`` or ``UNKNOWN``.
    """
    found = UNKNOWN
    for column in range(len(row_of)):
        at = group[BASE] + row_of[column] * group[STRIDE]
        if row_of[column] < 0 or words[at] == 0.0:
            found = max(found, NO_ROW if row_of[column] >= NO_ROW else UNKNOWN) if found != _POOLED else found
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
    octets: Octets,
    at_of: Places,
    to: int,
    begin: int,
    end: int,
    bounds: Places,
    spec: Places,
    wanted: Places,
    plan: Places,
    factors: Words,
    now_ms: int,
    found: Words,
) -> None:
    """Write cells of the rows that begin at these words, or are ``NO_ROW`` or ``UNKNOWN``, into columns from one on.

    Cell by cell, so that what a cell decides is at hand; the rows of a block lie in the nearest cache.
    """
    count = len(at_of)
    at, log_time = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    missing, is_fresh = 0, True
    for k in range(count):
        at[k] = max(at_of[k], 0)
        log_time[k] = signed(words[at[k]])
        missing += at_of[k] < 0 or log_time[k] == 0
        is_fresh &= bounds[FADE_BEGIN] <= log_time[k] < bounds[FADE_END]
    for w in range(begin, bounds[ADDED]):
        line, word, factor = found[plan[PLACE_TO, w]], plan[WORD, w], factors[w]
        for k in range(count):
            line[to + k] = words[at[k] + word] * factor
        if not is_fresh and spec[MODE, wanted[w]] == DECAY:
            first, last, period = plan[BEGIN, w], plan[END, w], spec[PERIOD, wanted[w]]
            for k in range(count):
                if not first <= log_time[k] < last:
                    landmark = landmark_at(signed(log_time[k]), period)
                    line[to + k] = words[at[k] + word] * decay_weight(landmark, now_ms, period)
    for w in range(bounds[ADDED], bounds[MOVED]):
        line, word, ahead, ring = found[plan[PLACE_TO, w]], plan[WORD, w], plan[WORD_AHEAD, w], plan[WORD_RING, w]
        first, latest, period = plan[BEGIN, w], plan[LATEST, w], spec[PERIOD, wanted[w]]
        for k in range(count):
            later = words[at[k] + ahead]
            line[to + k] = words[at[k] + word] + later
            if log_time[k] < first:
                line[to + k] = later if log_time[k] >= first - period else 0.0
            elif log_time[k] < latest:
                line[to + k] -= words[at[k] + ring]
    for w in range(bounds[MOVED], end):
        line, word = found[plan[PLACE_TO, w]], plan[WORD, w]
        if spec[MODE, wanted[w]] == DISTINCT:
            for k in range(count):
                line[to + k] = distinct_of(octets, 8 * (at[k] + word))
        else:
            for k in range(count):
                line[to + k] = words[at[k] + word]
    if missing:
        _read_nothing(words, at_of, to, begin, end, spec, wanted, plan, found)


@kernel
def _read_nothing(
    words: Words,
    at_of: Places,
    to: int,
    begin: int,
    end: int,
    spec: Places,
    wanted: Places,
    plan: Places,
    found: Words,
) -> None:
    """Write the cells of keys without a row, or with one into which nothing was folded."""
    for w in range(begin, end):
        mode, place = spec[MODE, wanted[w]], plan[PLACE_TO, w]
        is_sum = mode <= WINDOW or mode == DISTINCT
        for k in range(len(at_of)):
            if at_of[k] < 0 or words[at_of[k]] == 0.0:
                found[place, to + k] = 0.0 if at_of[k] >= NO_ROW and is_sum else np.nan
