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

SPAN_BEGIN, SPAN_END, WORD = 0, 1, 2
"""Rows of ``spans``: between which log times of a row the factor or the word of the ring holds."""
SPAN_ROWS: Final = 3
_POOLED: Final = -3
_ASKED_WORDS_MAX: Final = 40
"""Of a row, ahead of time: sums, totals and the like of two dozen cells. Rings and registers come as they come."""


@kernel
def spans_at(spec: Places, now_ms: int, spans: Places, factors: Words) -> None:
    """Write what a time and each cell decide: ``spans`` (SPAN_ROWS, cells), ``factors`` (cells,)."""
    for cell in range(spec.shape[1]):
        mode, period = spec[MODE, cell], spec[PERIOD, cell]
        if mode == DECAY:
            spans[SPAN_BEGIN, cell] = landmark_at(now_ms, period)
            spans[SPAN_END, cell] = spans[SPAN_BEGIN, cell] + period * LANDMARK_HALF_LIVES
            factors[cell] = decay_weight(spans[SPAN_BEGIN, cell], now_ms, period)
        elif mode == WINDOW:
            bucket = now_ms // period
            spans[SPAN_BEGIN, cell] = (bucket - BUCKETS + 1) * period
            spans[SPAN_END, cell] = (bucket + 1) * period
            spans[WORD, cell] = spec[RING, cell] + (bucket + 1) % BUCKETS


@kernel
def is_of_items(scope: int) -> bool:
    """Return whether the rows of a scope differ from candidate to candidate."""
    return scope not in (GLOBAL, USER, SESSION)


@kernel
def ask_for_rows(group: Places, row_of: Places, start: int, stop: int, words: Words) -> None:
    """Ask for the first words of the rows of some candidates, which hold all but rings and registers."""
    rows = words[group[BASE] :]
    for column in range(group[CODES] if group[CODES] > 0 else 1):
        for k in range(start, stop):
            row = row_of[column, k]
            if row >= 0:
                for word in range(0, min(group[STRIDE], _ASKED_WORDS_MAX), LINE_BYTES // 8):
                    prefetch(rows, row * group[STRIDE] + word, 0)


@kernel
def read_rows(
    group: Places,
    row_of: Places,
    start: int,
    stop: int,
    wanted: Places,
    place_of: Places,
    spec: Places,
    spans: Places,
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
        wanted: Numbers of the cells that are read, (c,).
        place_of: The row of ``found`` of each.
        spec: Parameters of all cells.
        spans: From ``spans_at``.
        factors: The same.
        now_ms: Time of the question.
        words: All rows of cells.
        octets: The same memory.
        found: For the values, (rows, at least stop - start): the first candidate stands first.
    """
    base, stride, columns = group[BASE], group[STRIDE], group[CODES]
    if columns > 1:
        pool = np.empty(stride, dtype=np.float64)
        pool_octets = pool.view(np.uint8)
        for k in range(start, stop):
            at = _pooled(group, row_of[:, k], spec, words, octets, pool, pool_octets)
            if at == _POOLED:
                read_row(pool, pool_octets, 0, wanted, place_of, spec, spans, factors, now_ms, found, k - start)
            elif at >= 0:
                read_row(words, octets, at, wanted, place_of, spec, spans, factors, now_ms, found, k - start)
            else:
                _read_nothing(at, wanted, place_of, spec, found, k - start)
        return
    for k in range(start, stop):
        row = row_of[0, k]
        at = base + row * stride
        if row < 0 or words[at] == 0.0:
            _read_nothing(row, wanted, place_of, spec, found, k - start)
        else:
            read_row(words, octets, at, wanted, place_of, spec, spans, factors, now_ms, found, k - start)


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
def _read_nothing(row: int, wanted: Places, place_of: Places, spec: Places, found: Words, k: int) -> None:
    """Write the cells of a key without a row."""
    for w in range(len(wanted)):
        mode = spec[MODE, wanted[w]]
        is_sum = mode <= WINDOW or mode == DISTINCT
        found[place_of[w], k] = 0.0 if row >= NO_ROW and is_sum else np.nan


@kernel
def read_row(
    words: Words,
    octets: Octets,
    at: int,
    wanted: Places,
    place_of: Places,
    spec: Places,
    spans: Places,
    factors: Words,
    now_ms: int,
    found: Words,
    k: int,
) -> None:
    """Write cells of the row that begins at a word into column k."""
    log_time = signed(words[at])
    for w in range(len(wanted)):
        cell, place = wanted[w], place_of[w]
        mode, word = spec[MODE, cell], at + spec[PLACE, cell]
        if mode == DECAY:
            if spans[SPAN_BEGIN, cell] <= log_time < spans[SPAN_END, cell]:
                found[place, k] = words[word] * factors[cell]
            else:
                landmark = landmark_at(log_time, spec[PERIOD, cell])
                found[place, k] = words[word] * decay_weight(landmark, now_ms, spec[PERIOD, cell])
        elif mode == WINDOW:
            ahead = words[at + spec[AHEAD, cell]]
            if log_time >= spans[SPAN_END, cell]:
                found[place, k] = words[word] + ahead
            elif log_time >= spans[SPAN_BEGIN, cell]:
                found[place, k] = words[word] + ahead - words[at + spans[WORD, cell]]
            else:
                found[place, k] = ahead if log_time >= spans[SPAN_BEGIN, cell] - spec[PERIOD, cell] else 0.0
        elif mode == DISTINCT:
            found[place, k] = distinct_of(octets, 8 * word)
        else:
            found[place, k] = words[word]
