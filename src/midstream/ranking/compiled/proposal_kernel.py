"""The kernel that runs the sources of a program: their proposals end to end. The twin of ``propose``."""

import numpy as np

from midstream.core.types import Index
from midstream.ranking.compiled.asker_kernel import read_history, read_own_sessions
from midstream.ranking.compiled.program import (
    CALLER,
    COVISITATION,
    FIRST,
    HIDES,
    HIDES_ALL,
    HIDES_LAST,
    HISTORY,
    HOT_LIST,
    LIMIT,
    OPERATION,
    SECOND,
    SESSION_KNN,
    THIRD,
    PlanProgram,
)
from midstream.ranking.compiled.room import (
    GIVEN,
    KNOWN,
    NOW,
    PAIR_EPOCH,
    RECENT,
    RECENT_MAX,
    SESSION_EPOCH,
    USER,
    AnswerRoom,
)
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.items.item_fold import LANDMARKS_START, LOG_TIME
from midstream.state.pairs import covisitation_query
from midstream.state.pairs.covisitation import LANDMARK, PairColumns
from midstream.state.sessions import session_query
from midstream.state.sessions.session_index import IndexColumns
from midstream.state.sessions.sessions import OpenColumns
from midstream.state.structures.decay import decay_weight
from midstream.state.structures.hot_lists import HotColumns
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.top_list import LENGTH
from midstream.state.users.user_rows import RingColumns

query_sessions = session_query.run_query
query_pairs = covisitation_query.run_query


@kernel
def propose_hot(program: PlanProgram, number: int, hot: HotColumns, room: AnswerRoom, start: int) -> int:
    """Write the items of a hot list and their heat from ``start`` on; return how many."""
    row = program.sources[number]
    line = row[FIRST]
    length = max(min(row[LIMIT], hot.states[line, LENGTH]), 0)
    landmark = signed(hot.clock[LANDMARKS_START + line])
    factor = decay_weight(landmark, signed(hot.clock[LOG_TIME]), signed(row[SECOND]))
    for place in range(length):
        room.stacked[start + place] = hot.items[line, place]
        room.values[start + place] = np.float32(hot.values[line, place] * factor)
    return int(length)


@kernel
def propose_given(room: AnswerRoom) -> int:
    """Write the known items of the caller, the first ones of all, and their places as scores; return how many."""
    known, count = signed(room.facts[KNOWN]), 0
    for each in range(room.ask[GIVEN]):
        if room.given[each] >= 0:
            room.stacked[count] = room.given[each]
            room.values[count] = np.float32(np.float64(known - count) / np.float64(known))
            count += 1
    return count


@kernel
def hidden_of(recent: Index, hides: int) -> Index:
    """Return the items that a source leaves out of its answer."""
    first = len(recent)
    if hides == HIDES_ALL:
        first = 0
    elif hides == HIDES_LAST:
        first = len(recent) - 1
    return recent[first:]


@kernel
def propose_of_recent(
    program: PlanProgram,
    number: int,
    recent: Index,
    own_count: int,
    ids: IdColumns,
    index: IndexColumns,
    pairs: PairColumns,
    room: AnswerRoom,
    start: int,
) -> int:
    """Write the proposals of a source that goes by last items, from ``start`` on; return how many."""
    row = program.sources[number]
    stop = start + row[LIMIT]
    items, scores = room.stacked[start:stop], room.values[start:stop]
    hidden = hidden_of(recent, row[HIDES])
    weights = program.source_weights[number]
    if row[OPERATION] == SESSION_KNN:
        epoch = room.ask[SESSION_EPOCH]
        room.ask[SESSION_EPOCH] = epoch + 1
        return query_sessions(
            epoch, recent, room.own[:own_count], hidden, row[FIRST], row[SECOND], row[THIRD], weights,
            program.source_numbers[number], index.items, index.lengths, index.postings, index.heads, index.state,
            ids.item_hash, index.scratch, items, scores,
        )  # fmt: skip
    epoch = room.ask[PAIR_EPOCH]
    room.ask[PAIR_EPOCH] = epoch + 1
    factor = decay_weight(pairs.clock[LANDMARK], room.ask[NOW], row[THIRD])
    return query_pairs(
        epoch, recent, hidden, weights[: row[FIRST]], program.source_numbers[number], row[SECOND], factor,
        pairs.neighbours, pairs.weights, pairs.shares, ids.item_hash, pairs.scratch, items, scores,
    )  # fmt: skip


@kernel
def propose_all(
    program: PlanProgram,
    ids: IdColumns,
    held: OpenColumns,
    rings: RingColumns,
    hot: HotColumns,
    index: IndexColumns,
    pairs: PairColumns,
    room: AnswerRoom,
) -> int:
    """Write the proposals of all sources end to end, and how many each has; return how many, -1 = not to be known.

    That is of a user with more open sessions than a query leaves out.
    """
    written = 0
    own_count = read_own_sessions(held, room)
    if own_count < 0:
        return -1
    for number in range(len(program.sources)):
        operation = program.sources[number, OPERATION]
        count = 0
        if operation == CALLER:
            count = propose_given(room)
        elif operation == HOT_LIST:
            count = propose_hot(program, number, hot, room, written)
        elif operation in (SESSION_KNN, COVISITATION):
            length = room.facts[RECENT]
            recent = room.recent[max(0, length - RECENT_MAX) : length]
            if length == 0:
                length = read_history(rings, room.facts[USER], program.sources[number, HISTORY], room.history)
                recent = room.history[:length]
            if length > 0:
                count = propose_of_recent(program, number, recent, own_count, ids, index, pairs, room, written)
        room.proposed[number] = count
        written += count
    return written
