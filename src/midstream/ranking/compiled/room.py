"""Room of one plan's questions: what comes in, what is worked with, and what goes out. Reserved once, never cleared.

Nothing is held from one question to the next: every number that is read was written for the same question.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.ranking.compiled.program import LIMIT, PlanProgram
from midstream.state.structures.top_k_keys import Keys

NOW: Final = 0
SIZE: Final = 1
USER_BYTES: Final = 2
SESSION_BYTES: Final = 3
REQUEST_BYTES: Final = 4
ITEMS: Final = 5
EXCLUDED: Final = 6
SESSION_EPOCH: Final = 7
PAIR_EPOCH: Final = 8
WANTED: Final = 9
LENGTHS: Final = 10
"""Cells of ``ask``: time, size of the slate, bytes of the three ids, items and excluded items, first numbers of queries
over the session index and the pairs, what is wanted, then the bytes of each item and each excluded one."""
SLATE: Final = 0
SHORTLIST: Final = 1
VERDICTS: Final = 2
"""What is wanted: a slate and its record; the candidates after the cut; all candidates with the first filter that
removes each."""

FOUND: Final = 0
PASSED: Final = 1
CUT: Final = 2
CHOSEN: Final = 3
TEXT_END: Final = 4
RECORD_END: Final = 5
PROPOSED: Final = 6
COUNTS: Final = 7
"""Cells of ``counts``: merged candidates, those that passed the filters, those that were cut, the length of the slate,
the ends of both texts, proposals of all sources, then how many each source proposed, and behind them how many each
filter removed."""

SESSION_NUMBER: Final = 0
RECENT: Final = 1
SENT: Final = 2
USER: Final = 3
"""Cells of ``facts``: number of the asking session, -1 = none; its items with those that were sent; those alone; slot
of the user, -1 = none."""
USER_HASH: Final = 0
SESSION_HASH: Final = 1
REQUEST_HASH: Final = 2
RESOLVED_HASH: Final = 3
"""Cells of ``hashes``; the last is that of the user whom the id stands for."""

QUESTION_ITEMS_MAX: Final = 1_200
"""Items and excluded items of a question, as many as one over HTTP may have."""
QUESTION_BYTES_MAX: Final = 65_536
"""Of all ids of a question: 1,200 of 54 bytes. A longer question is one for the pipeline."""
OWN_SESSIONS_MAX: Final = 64
"""Open sessions of one user: as many as a query of the index leaves out. A user with more is one for the pipeline."""
ITEM_TEXT_BYTES: Final = 512 + 96
"""Of an item in a slate: its id and what stands around it."""


class AnswerRoom(NamedTuple):
    """Arrays of all questions to one plan."""

    arena: NDArray[np.uint8]
    """The ids of a question, end to end: user, session, request, items, excluded items."""
    ask: NDArray[np.int64]
    facts: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    recent: Index
    sent: Index
    excluded: Index
    history: Index
    own: NDArray[np.int64]
    stacked: Index
    values: NDArray[np.float32]
    proposed: NDArray[np.int64]
    place: Index
    distinct: Index
    score: NDArray[np.float32]
    rank: NDArray[np.int32]
    verdict: NDArray[np.int64]
    keys: Keys
    blended: NDArray[np.float32]
    rows: Index
    """Row of each candidate that passed, then of each item of the slate or of each candidate of the shortlist."""
    bits: NDArray[np.int64]
    """Of each item of the slate: a bit for each source that proposed it."""
    counts: NDArray[np.int64]
    text: NDArray[np.uint8]
    """JSON of the slate's items."""
    record: NDArray[np.uint8]
    """MessagePack of the served record's fields of items."""


def make_room(program: PlanProgram, sizes: "RoomSizes", place: Index) -> AnswerRoom:
    """Reserve room for the largest question; pages are paid when touched.

    Args:
        program: Of the plan.
        sizes: Maxima of the state and of the plan.
        place: A cell an item, which plans share.
    """
    sources, proposals = len(program.sources), max(int(program.sources[:, LIMIT].sum()), 1)
    texts = ITEM_TEXT_BYTES * sizes.slate_items_max
    return AnswerRoom(
        arena=np.zeros(QUESTION_BYTES_MAX, dtype=np.uint8),
        ask=np.zeros(LENGTHS + QUESTION_ITEMS_MAX, dtype=np.int64),
        facts=np.zeros(4, dtype=np.int64),
        hashes=np.zeros(4, dtype=np.uint64),
        recent=np.zeros(sizes.session_items_max + QUESTION_ITEMS_MAX, dtype=np.int32),
        sent=np.zeros(QUESTION_ITEMS_MAX, dtype=np.int32),
        excluded=np.zeros(QUESTION_ITEMS_MAX, dtype=np.int32),
        history=np.zeros(sizes.ring_items_max, dtype=np.int32),
        own=np.zeros(OWN_SESSIONS_MAX + 1, dtype=np.int64),
        stacked=np.zeros(proposals, dtype=np.int32),
        values=np.zeros(proposals, dtype=np.float32),
        proposed=np.zeros(sources, dtype=np.int64),
        place=place,
        distinct=np.zeros(proposals, dtype=np.int32),
        score=np.zeros(sources * proposals, dtype=np.float32),
        rank=np.zeros(sources * proposals, dtype=np.int32),
        verdict=np.zeros(proposals, dtype=np.int64),
        keys=np.zeros((3, proposals), dtype=np.uint64),
        blended=np.zeros(proposals, dtype=np.float32),
        rows=np.zeros(proposals, dtype=np.int32),
        bits=np.zeros(proposals, dtype=np.int64),
        counts=np.zeros(COUNTS + sources + len(program.filters), dtype=np.int64),
        text=np.zeros(texts, dtype=np.uint8),
        record=np.zeros(texts, dtype=np.uint8),
    )


class RoomSizes(NamedTuple):
    """Maxima that decide about room."""

    session_items_max: int
    ring_items_max: int
    slate_items_max: int
