"""The kernel from proposals to a slate: merge, filters, cut, blend and the best. The twin of the pipeline's steps.

Reference of each step: ``ranking.merge_kernel``, ``ranking.apply_filters``, ``ranking.candidate_cutoff``,
``ranking.scorers.blend``, ``ranking.selectors.top_k``.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.ranking.compiled import program as operations
from midstream.ranking.compiled.program import ALLOWS_ANY, ALLOWS_NONE, CANDIDATES_MAX, OPERATION, PlanProgram
from midstream.ranking.compiled.room import (
    CHOSEN,
    COUNTS,
    CUT,
    DRAWN,
    EXCLUDED,
    FOUND,
    GIVEN,
    KNOWN,
    PASSED,
    PROPOSED,
    RECENT,
    SCORED,
    SENT,
    SIZE,
    SLATE,
    VERDICTS,
    WANTED,
    AnswerRoom,
)
from midstream.ranking.merge_kernel import merge_rows
from midstream.state.structures.hot_lists import HotColumns
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.top_k_keys import largest_key, place_of, sort_keys

_AVAILABLE: Final = operations.AVAILABLE
_EXCLUDED: Final = operations.EXCLUDED
_REPEATS: Final = operations.REPEATS
_ARGUMENT: Final = 1
ANSWERED: Final = 0
TOO_FEW: Final = 1
"""The slate is to be filled from the catalogue."""
UNUSUAL: Final = 2
"""Something that no program has: more open sessions than are left out, a score that is no number, an id with characters
that JSON escapes."""
_ADDED_APART: Final = 8
"""Numbers of a column of one that NumPy adds up in more than one sum."""
_HALF_SHIFT: Final = 32
_LOW_HALF: Final = 0xFFFFFFFF
_SIGN: Final = 0x80000000


@kernel
def remove_named(named: Index, number: int, left: int, room: AnswerRoom) -> int:
    """Give the candidates among some items, -1 allowed, the verdict ``number`` if they have none; return how many.

    Args:
        named: Indices of items.
        number: Of the filter.
        left: The verdict of those that no filter removed.
        room: ``place`` says in which row an item is, if it is in any: of another item it says anything.
    """
    found = room.counts[FOUND]
    removed = 0
    for each in range(len(named)):
        item = named[each]
        if item < 0:
            continue
        row = room.place[item]
        if 0 <= row < found and room.distinct[row] == item and room.verdict[row] == left:
            room.verdict[row] = number
            removed += 1
    return removed


@kernel
def remove_unavailable(number: int, left: int, hot: HotColumns, room: AnswerRoom) -> int:
    """Give the candidates that may not be served the verdict ``number``; return how many."""
    removed = 0
    for row in range(room.counts[FOUND]):
        if room.verdict[row] == left and not hot.available[room.distinct[row]]:
            room.verdict[row] = number
            removed += 1
    return removed


@kernel
def remove_repeats(number: int, left: int, allows: int, room: AnswerRoom) -> int:
    """Give items of the session the verdict ``number``, by the rule of the placement; return how many."""
    if allows == ALLOWS_ANY:
        return 0
    recent = room.recent[: room.facts[RECENT]]
    if allows == ALLOWS_NONE:
        return remove_named(recent, number, left, room)
    # What the request sends is the session's newest.
    if room.facts[SENT] > 0:
        return remove_named(room.sent[: room.facts[SENT]], number, left, room)
    return remove_named(recent[max(len(recent) - 1, 0) :], number, left, room)


@kernel
def apply_filters(program: PlanProgram, hot: HotColumns, room: AnswerRoom) -> int:
    """Write the rows that pass, in order, and the counts of the filters; return how many pass."""
    counts, verdict = room.counts, room.verdict
    found, left = counts[FOUND], len(program.filters)
    start = COUNTS + len(program.sources)
    for row in range(found):
        verdict[row] = left
    for number in range(left):
        operation = program.filters[number, OPERATION]
        removed = 0
        if operation == _AVAILABLE:
            removed = remove_unavailable(number, left, hot, room)
        elif operation == _EXCLUDED:
            removed = remove_named(room.excluded[: room.ask[EXCLUDED]], number, left, room)
        elif operation == _REPEATS:
            removed = remove_repeats(number, left, program.filters[number, _ARGUMENT], room)
        counts[start + number] = removed
    passed = 0
    for row in range(found):
        if verdict[row] == left:
            room.rows[passed] = row
            passed += 1
    return passed


@kernel
def judge_given(room: AnswerRoom, left: int) -> None:
    """Write what removed each item of the caller, in the order of the caller; ``left`` is the verdict of no filter."""
    row = 0
    for each in range(room.ask[GIVEN]):
        if room.given[each] < 0:
            room.given[each] = 0
            continue
        verdict = room.verdict[row]
        room.given[each] = -1 if verdict == left else verdict + 1
        row += 1


@kernel
def order_key(score: np.float32, place: int) -> np.uint64:
    """Return a key in the order of any finite score, of equal ones the lower place first; 0 and -0 are equal."""
    bits = np.int64(np.float32(score + np.float32(0.0)).view(np.uint32))  # -0 + 0 is 0
    bits = bits ^ _LOW_HALF if bits & _SIGN else bits | _SIGN
    return (np.uint64(bits) << np.uint64(_HALF_SHIFT)) | np.uint64(_LOW_HALF - place)


@kernel
def blend(program: PlanProgram, rank: NDArray[np.int32], room: AnswerRoom, passed: int) -> bool:
    """Write the score and the key of each row that passed; return whether all scores are numbers."""
    sources, found = len(program.sources), True
    offset = program.offset[0]
    for place in range(passed):
        row = room.rows[place]
        total = 0.0
        for source in range(sources):
            own = rank[source, row]
            term = program.blend[1, source]
            if own >= 0:
                term = program.blend[0, source] / (offset + np.float64(np.float32(own)))
            total = term if source == 0 else total + term
        score = np.float32(total)
        room.blended[place] = score
        room.keys[0, place] = order_key(score, place)
        found = found and bool(np.isfinite(score))
    return found


@kernel
def choose(rank: NDArray[np.int32], room: AnswerRoom, passed: int, wanted: int) -> None:
    """Write rows, scores and bits of sources of the best to the front of the room's columns, best first."""
    keys = room.keys
    least = largest_key(keys[0], passed, wanted, keys[1])
    count = 0
    for place in range(passed):
        if keys[0, place] >= least:
            keys[1, count] = keys[0, place]
            count += 1
    sort_keys(keys[1], keys[2], 0, count)
    for place in range(count):
        at = _LOW_HALF - place_of(keys[1, place])
        room.verdict[place] = room.rows[at]
        room.score[place] = room.blended[at]
    for place in range(count):
        row = room.verdict[place]
        room.rows[place] = row
        room.bits[place] = 0
        for source in range(len(rank)):
            if rank[source, row] >= 0:
                room.bits[place] |= 1 << source


@kernel
def cut(room: AnswerRoom, passed: int, most: int) -> None:
    """Keep the rows of so many best, in their old order."""
    keys = room.keys
    least = largest_key(keys[0], passed, most, keys[1])
    count = 0
    for place in range(passed):
        if keys[0, place] >= least:
            room.rows[count] = room.rows[place]
            count += 1


@kernel
def shorten(program: PlanProgram, rank: NDArray[np.int32], room: AnswerRoom, passed: int, most: int) -> int:
    """Cut the candidates where they are too many; return ``ANSWERED``, or why the pipeline has to answer."""
    if passed > most:
        if not blend(program, rank, room, passed):
            return UNUSUAL
        cut(room, passed, most)
    return ANSWERED


@kernel
def score_rows(program: PlanProgram, rank: NDArray[np.int32], room: AnswerRoom, passed: int) -> int:
    """Write score and key of the first rows that passed; return ``ANSWERED``, or why the pipeline has to answer."""
    is_alone = room.counts[PASSED] == 1 and len(program.sources) >= _ADDED_APART  # NumPy adds them in another order
    if is_alone or not blend(program, rank, room, passed):
        return UNUSUAL
    return ANSWERED


@kernel
def select(program: PlanProgram, rank: NDArray[np.int32], room: AnswerRoom, passed: int) -> int:
    """Score the candidates and choose; return ``ANSWERED``, or why the pipeline has to answer."""
    if passed == 0:  # of a caller's items
        return ANSWERED
    if score_rows(program, rank, room, passed) != ANSWERED:
        return UNUSUAL
    choose(rank, room, passed, room.counts[CHOSEN])
    return ANSWERED


@kernel
def decide(program: PlanProgram, hot: HotColumns, room: AnswerRoom, proposed: int) -> int:
    """Merge the proposals, filter, score and choose; return ``ANSWERED``, or why the pipeline has to answer.

    Of a shortlist it ends with the cut, with or without scores, of verdicts with the filters. Where the caller gave
    items, which are the first proposals, these are the only candidates: all of them are scored, and none is filled up.
    """
    counts, sources, given = room.counts, len(program.sources), signed(room.ask[GIVEN])
    merged = (sources, proposed)
    rank = room.rank[: sources * proposed].reshape(merged)
    found = merge_rows(
        room.stacked[:proposed], room.values[:proposed], room.proposed, room.place, room.distinct[:proposed],
        room.score[: sources * proposed].reshape(merged), rank,
    )  # fmt: skip
    if given > 0:
        found = signed(room.facts[KNOWN])
    counts[FOUND] = found
    counts[PROPOSED] = proposed
    counts[DRAWN] = 0
    for source in range(sources):
        own = 0
        for row in range(found):
            own += rank[source, row] >= 0
        counts[COUNTS + source] = own
    passed = apply_filters(program, hot, room)
    if room.ask[WANTED] == VERDICTS:
        return ANSWERED
    return decide_passed(program, rank, room, passed)


@kernel
def decide_judged(program: PlanProgram, room: AnswerRoom) -> int:
    """Go on from the verdicts of all filters, completed between two calls; return what ``decide`` does."""
    counts, sources = room.counts, len(program.sources)
    rank = room.rank[: sources * counts[PROPOSED]].reshape((sources, signed(counts[PROPOSED])))
    passed = 0
    for row in range(counts[FOUND]):
        if room.verdict[row] == len(program.filters):
            room.rows[passed] = row
            passed += 1
    return decide_passed(program, rank, room, passed)


@kernel
def decide_passed(program: PlanProgram, rank: NDArray[np.int32], room: AnswerRoom, passed: int) -> int:
    """Cut, score and choose among the rows that passed the filters; return what ``decide`` does."""
    counts, given = room.counts, signed(room.ask[GIVEN])
    if given > 0:
        judge_given(room, len(program.filters))
    elif passed < room.ask[SIZE]:
        return TOO_FEW
    most = signed(program.limits[CANDIDATES_MAX]) + given
    counts[CUT] = max(passed - most, 0)
    counts[PASSED] = min(passed, most)
    counts[CHOSEN] = min(signed(room.ask[SIZE]), counts[PASSED])
    if room.ask[WANTED] == SLATE:
        return select(program, rank, room, passed)
    code = shorten(program, rank, room, passed, most)
    if code == ANSWERED and room.ask[WANTED] == SCORED:
        return score_rows(program, rank, room, signed(room.counts[PASSED]))
    return code
