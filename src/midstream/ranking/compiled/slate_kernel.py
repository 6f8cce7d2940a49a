"""The kernel from scores to a slate: order, caps and likeness, actions of the rules, and both texts.

The twin of ``ranking.rules.arrangement`` with ``top_k``, of ``ranking.rules.traces`` and of the record; whole slates
are filled by ``ranking.rules.place_kernel``, as there.
"""

from typing import Final

import numpy as np

from midstream.ranking.compiled.decision_kernel import ANSWERED, UNUSUAL, order_key
from midstream.ranking.compiled.encode_kernel import encode, put_array, put_binary, put_text
from midstream.ranking.compiled.room import CHOSEN, DRAWN, PASSED, PROPOSED, SIZE, AnswerRoom
from midstream.ranking.compiled.slate_room import (
    ACTION_BYTES,
    ACTIONS,
    ATTRIBUTE,
    BY_RULE,
    END,
    OUTSIDE,
    RULES,
    SlateRoom,
    SlateRules,
)
from midstream.ranking.rules.place_kernel import PlacingColumns, place_all
from midstream.ranking.rules.rules import WORDS
from midstream.ranking.rules.traces import OUTSIDE_MAX
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.top_k_keys import largest_key, place_of, sort_keys

_LOW_HALF: Final = 0xFFFFFFFF
_CAPPED: Final = WORDS.index("capped")
_LOWERED: Final = WORDS.index("lowered")
_HAS_ID: Final = 128
_NOWHERE: Final = 0xFFFF
_RULE, _WORD, _POSITION, _CANDIDATE = 0, 1, 2, 3
"""Columns of ``actions``."""


@kernel
def order_scores(room: AnswerRoom, slate: SlateRoom, most: int) -> int:
    """Write the rows of the best candidates, best first; return how many, at most ``most``.

    A score that is no number is none. Of equal ones the first candidate is the better; 0 and -0 are equal.
    """
    keys, scores = room.keys, room.blended
    count = 0
    for row in range(room.counts[PASSED]):
        if np.isfinite(scores[row]):
            keys[0, count] = order_key(scores[row], row)
            count += 1
    if count > most:
        least = largest_key(keys[0], count, most, keys[1])
        found = 0
        for place in range(count):
            if keys[0, place] >= least:
                keys[0, found] = keys[0, place]
                found += 1
        count = found
    sort_keys(keys[0], keys[1], 0, count)
    for place in range(count):
        slate.order[place] = _LOW_HALF - place_of(keys[0, place])
    return count


@kernel
def place_candidates(room: AnswerRoom, slate: SlateRoom, rules: SlateRules, count: int) -> int:
    """Fill the slate by the rules; return its length."""
    scores, order = room.blended, slate.order
    alike = rules.likeness[0]
    for place in range(count):
        row = order[place]
        slate.worth[place] = np.float64(scores[row])
        slate.values[place] = slate.attributes[alike, row] if alike >= 0 else -1
    for cap in range(len(rules.caps)):
        codes = slate.attributes[rules.caps[cap, ATTRIBUTE]]
        for place in range(count):
            slate.codes[cap, place] = codes[order[place]]
    whole = 0.0
    if alike >= 0:
        span = slate.worth[0] - slate.worth[count - 1]
        whole = (span if span != 0.0 else 1.0) * rules.weight[0]
    placing = PlacingColumns(
        slate.codes, slate.maxima, slate.values, slate.worth[:count], slate.chosen[: signed(room.ask[SIZE])],
        slate.state, slate.full, slate.passed_over,
    )  # fmt: skip
    return place_all(placing, whole)


@kernel
def note_action(slate: SlateRoom, rule: int, word: int, position: int, candidate: int) -> None:
    """Count an action of a rule, and keep it for the record, which has only so many on items outside of the slate."""
    told = slate.told
    told[BY_RULE + rule] += 1
    if position < 0:
        if told[OUTSIDE] == OUTSIDE_MAX:
            return
        told[OUTSIDE] += 1
    numbers = len(slate.rules) // 2
    if slate.rules[numbers + rule] < 0:
        slate.rules[numbers + rule] = told[RULES]
        slate.rules[told[RULES]] = rule
        told[RULES] += 1
    action = slate.actions[told[ACTIONS]]
    action[_RULE], action[_WORD] = slate.rules[numbers + rule], word
    action[_POSITION], action[_CANDIDATE] = position, candidate
    told[ACTIONS] += 1


@kernel
def note_actions(slate: SlateRoom, size: int, count: int, placed: int) -> None:
    """Write the actions of the rules on the best ``size`` of ``count`` candidates and on the slate's ``placed``."""
    likeness = len(slate.maxima)
    for at in range(count):
        slate.values[at] = -1  # from here on the position
    for position in range(placed):
        slate.values[slate.chosen[position]] = position
    for at in range(min(size, count)):
        if slate.values[at] < 0:
            if slate.full[at] >= 0:
                note_action(slate, slate.full[at], _CAPPED, -1, at)
            elif slate.passed_over[at]:
                note_action(slate, likeness, _LOWERED, -1, at)
    for at in range(count):
        if slate.passed_over[at] and slate.values[at] >= 0:
            note_action(slate, likeness, _LOWERED, slate.values[at], at)


@kernel
def put_actions(ids: IdColumns, room: AnswerRoom, slate: SlateRoom) -> int:
    """Write the actions and the ids of items outside of the slate as the record has them; return the end."""
    out, told = slate.text, slate.told
    at = put_binary(out, 0, ACTION_BYTES * told[ACTIONS])
    for number in range(told[ACTIONS]):
        action = slate.actions[number]
        is_outside = action[_POSITION] < 0
        position = _NOWHERE if is_outside else action[_POSITION]
        out[at] = action[_RULE]
        out[at + 1] = action[_WORD] + (_HAS_ID if is_outside else 0)
        out[at + 2], out[at + 3] = position & 0xFF, position >> 8
        at += ACTION_BYTES
    at = put_array(out, at, told[OUTSIDE])
    for number in range(told[ACTIONS]):
        action = slate.actions[number]
        if action[_POSITION] < 0:
            item = room.distinct[room.rows[slate.order[action[_CANDIDATE]]]]
            at = put_text(out, at, ids.item_text, signed(ids.item_start[item]), signed(ids.item_start[item + 1]))
    return at


@kernel
def take_chosen(room: AnswerRoom, slate: SlateRoom, placed: int) -> None:
    """Write rows, scores and bits of sources of the slate to the front of the room's columns."""
    sources = len(room.proposed)
    rank = room.rank[: sources * room.counts[PROPOSED]].reshape((sources, signed(room.counts[PROPOSED])))
    for position in range(placed):
        row = slate.order[slate.chosen[position]]
        slate.picked[position] = row
        room.verdict[position] = room.rows[row]
        room.score[position] = room.blended[row]
    for position in range(placed):
        row = room.verdict[position]
        room.rows[position] = row
        room.bits[position] = 0
        for source in range(sources):
            if rank[source, row] >= 0:
                room.bits[position] |= 1 << source


@kernel
def finish_drawn(ids: IdColumns, room: AnswerRoom, slate: SlateRoom, drawn: int) -> int:
    """Make the slate that was chosen between the kernels; return ``ANSWERED``, or ``UNUSUAL``."""
    for position in range(drawn):
        slate.chosen[position] = position
    slate.told[END] = slate.drawn[2]
    take_chosen(room, slate, drawn)
    room.counts[CHOSEN] = drawn
    room.counts[DRAWN] = slate.drawn[1]
    return encode(ids, room)


@kernel
def finish_slate(ids: IdColumns, room: AnswerRoom, slate: SlateRoom, rules: SlateRules) -> int:
    """Make the slate of the room's shortlist and its scores, ``blended``; return ``ANSWERED``, or ``UNUSUAL``."""
    slate.told[:] = 0
    slate.rules[:] = -1
    size, drawn = signed(room.ask[SIZE]), signed(slate.drawn[0])
    if drawn >= 0:
        return finish_drawn(ids, room, slate, drawn)
    has_rules = len(rules.caps) > 0 or rules.likeness[0] >= 0
    count = order_scores(room, slate, signed(room.counts[PASSED]) if has_rules else size)
    if count == 0 and room.counts[PASSED] > 0:  # of no candidate is a score known: another scorer is to be asked
        return UNUSUAL
    if has_rules and count > 0:
        placed = place_candidates(room, slate, rules, count)
        note_actions(slate, size, count, placed)
    else:
        placed = min(size, count)
        for position in range(placed):
            slate.chosen[position] = position
    slate.told[END] = put_actions(ids, room, slate)
    take_chosen(room, slate, placed)
    room.counts[CHOSEN] = placed
    code = encode(ids, room)
    return ANSWERED if code == ANSWERED else UNUSUAL
