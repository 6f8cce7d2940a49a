"""Rooms of a state's compiled plans: arrays that all plans share, as large as the largest of them needs.

One thread asks one question at a time, and nothing is held from one to the next. So the pages of one room are paid, and
not those of a room a placement. No kernel imports this module: a change here compiles nothing.
"""

from typing import Final, NamedTuple

import numpy as np

from midstream.ranking.compiled.program import (
    COVISITATION,
    FIRST,
    LIMIT,
    OPERATION,
    SESSION_KNN,
    THIRD,
    PlanProgram,
)
from midstream.ranking.compiled.room import (
    COUNTS,
    FACTS,
    GIVEN_MAX,
    LENGTHS,
    OWN_SESSIONS_MAX,
    QUESTION_BYTES_MAX,
    QUESTION_ITEMS_MAX,
    RECENT_MAX,
    AnswerRoom,
)
from midstream.state.fold import Fold
from midstream.state.pairs import covisitation_query
from midstream.state.sessions import session_query

_SLATE_ITEMS_MAX: Final = 16_383
"""Four bytes each of a MessagePack text of up to 65,535 bytes."""
_SOURCES_MAX: Final = 16
"""A bit each of a number up to 65,535."""
_MOST: Final = {
    SESSION_KNN: {
        FIRST: ("last_items_max", session_query.LAST_ITEMS_MAX),
        THIRD: ("neighbours_max", session_query.NEIGHBOURS_MAX),
        LIMIT: ("limit", session_query.ANSWER_MAX),
    },
    COVISITATION: {
        FIRST: ("last_items_max", covisitation_query.LAST_ITEMS_MAX),
        LIMIT: ("limit", covisitation_query.ANSWER_MAX),
    },
}
"""Columns of a source by its operation, with the largest number for which its query has room."""
ITEM_TEXT_BYTES: Final = 2 * 512 + 96
"""Of an item in a slate: its id, each octet escaped, and what stands around it."""


class RoomSizes(NamedTuple):
    """Maxima that decide about room: three of the state, three of the plans."""

    items_max: int
    session_items_max: int
    ring_items_max: int
    slate_items_max: int
    proposals_max: int
    cells_max: int
    """Sources times proposals."""


def sizes_of(program: PlanProgram, slate_items_max: int, fold: Fold) -> RoomSizes:
    """Return what a plan needs over a state; what is of the plan is rounded up to a power of two."""
    sources, proposals = len(program.sources), max(int(program.sources[:, LIMIT].sum()), 1)
    limits = fold.settings.limits
    return RoomSizes(
        items_max=int(limits.items_max),
        session_items_max=fold.sessions.columns.items.shape[1],
        ring_items_max=int(limits.user_ring_max),
        slate_items_max=_rounded(slate_items_max),
        proposals_max=_rounded(proposals),
        cells_max=_rounded(sources * proposals),
    )


def _rounded(count: int) -> int:
    return int(1 << (count - 1).bit_length())


def make_room(sizes: RoomSizes) -> AnswerRoom:
    """Reserve room for the largest question to any plan; pages are paid when touched. No source and no filter is in it.

    Args:
        sizes: Maxima of the state and of the plans.
    """
    texts, proposals = ITEM_TEXT_BYTES * sizes.slate_items_max, sizes.proposals_max
    return AnswerRoom(
        arena=np.zeros(QUESTION_BYTES_MAX, dtype=np.uint8),
        ask=np.zeros(LENGTHS + QUESTION_ITEMS_MAX + GIVEN_MAX, dtype=np.int64),
        facts=np.zeros(FACTS, dtype=np.int64),
        hashes=np.zeros(4, dtype=np.uint64),
        recent=np.zeros(sizes.session_items_max + QUESTION_ITEMS_MAX, dtype=np.int32),
        sent=np.zeros(QUESTION_ITEMS_MAX, dtype=np.int32),
        excluded=np.zeros(QUESTION_ITEMS_MAX, dtype=np.int32),
        given=np.zeros(GIVEN_MAX, dtype=np.int32),
        history=np.zeros(min(sizes.ring_items_max, RECENT_MAX), dtype=np.int32),
        own=np.zeros(OWN_SESSIONS_MAX + 1, dtype=np.int64),
        stacked=np.zeros(proposals, dtype=np.int32),
        values=np.zeros(proposals, dtype=np.float32),
        proposed=np.zeros(0, dtype=np.int64),
        place=np.zeros(sizes.items_max, dtype=np.int32),
        distinct=np.zeros(proposals, dtype=np.int32),
        score=np.zeros(sizes.cells_max, dtype=np.float32),
        rank=np.zeros(sizes.cells_max, dtype=np.int32),
        verdict=np.zeros(proposals, dtype=np.int64),
        keys=np.zeros((3, proposals), dtype=np.uint64),
        blended=np.zeros(proposals, dtype=np.float32),
        rows=np.zeros(proposals, dtype=np.int32),
        bits=np.zeros(proposals, dtype=np.int64),
        propensity=np.zeros(sizes.slate_items_max, dtype=np.float32),
        counts=np.zeros(COUNTS, dtype=np.int64),
        text=np.zeros(texts, dtype=np.uint8),
        record=np.zeros(texts, dtype=np.uint8),
    )


class Rooms:
    """The room of a state's plans. A larger plan gets a new one; plans that were made before keep theirs."""

    def __init__(self) -> None:
        """Begin without room."""
        self._sizes = RoomSizes(0, 0, 0, 0, 0, 0)
        self._room: AnswerRoom | None = None

    def room_of(self, program: PlanProgram, sizes: RoomSizes) -> AnswerRoom:
        """Return the shared room with counts of a plan's own, which say how many sources and filters it has."""
        if self._room is None or any(held < needed for held, needed in zip(self._sizes, sizes, strict=True)):
            self._sizes = RoomSizes(*map(max, self._sizes, sizes))
            self._room = make_room(self._sizes)
        sources = len(program.sources)
        return self._room._replace(
            proposed=np.zeros(sources, dtype=np.int64),
            counts=np.zeros(COUNTS + sources + len(program.filters), dtype=np.int64),
        )


def oversize(program: PlanProgram, slate_items_max: int) -> str:
    """Return what of a program is beyond what queries, bits or texts have room for; empty = nothing.

    The bounds of a configuration are tighter or the same; parts that Python code makes have none.
    """
    if slate_items_max > _SLATE_ITEMS_MAX:
        return f"a slate of {slate_items_max} items, at most {_SLATE_ITEMS_MAX} are right"
    if len(program.sources) > _SOURCES_MAX:
        return f"{len(program.sources)} sources, at most {_SOURCES_MAX} are right"
    for number, row in enumerate(program.sources.tolist()):
        most = _MOST.get(row[OPERATION], {})
        for column, (name, right) in most.items():
            if not 0 <= row[column] <= right:
                return f"{name} = {row[column]} of source {number}, from 0 to {right} are right"
    return ""
