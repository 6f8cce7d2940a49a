"""Room of questions to plans: what comes in, what is worked with, and what goes out. Reserved once, never cleared.

Nothing is held from one question to the next: every number that is read was written for the same question.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.pairs import covisitation_query
from midstream.state.sessions import session_query
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
GIVEN: Final = 10
LENGTHS: Final = 11
"""Cells of ``ask``: time, size of the slate, bytes of the three ids, items and excluded items, first numbers of queries
over the session index and the pairs, what is wanted, items of the caller that are the only candidates, 0 = any item may
be one; then the bytes of each item, each excluded one and each of the caller's."""
SLATE: Final = 0
SHORTLIST: Final = 1
VERDICTS: Final = 2
SCORED: Final = 3
"""What is wanted: a slate and its record; the candidates after the cut; all candidates with the first filter that
removes each; the candidates after the cut with their blends, in ``blended``."""

FOUND: Final = 0
PASSED: Final = 1
CUT: Final = 2
CHOSEN: Final = 3
TEXT_END: Final = 4
RECORD_END: Final = 5
PROPOSED: Final = 6
DRAWN: Final = 7
COUNTS: Final = 8
"""Cells of ``counts``: merged candidates, those that passed the filters, those that were cut, the length of the slate,
the ends of both texts, proposals of all sources, 1 = the record has propensities, then how many each source proposed,
and behind them how many each filter removed."""

SESSION_NUMBER: Final = 0
RECENT: Final = 1
SENT: Final = 2
USER: Final = 3
KNOWN: Final = 4
FACTS: Final = 5
"""Cells of ``facts``: number of the asking session, -1 = none; its items with those that were sent; those alone; slot
of the user, -1 = none; how many of the caller's items are known."""
USER_HASH: Final = 0
SESSION_HASH: Final = 1
REQUEST_HASH: Final = 2
RESOLVED_HASH: Final = 3
"""Cells of ``hashes``; the last is that of the user whom the id stands for."""

GIVEN_MAX: Final = 1_000
"""Items of the caller, as many as a question over HTTP may have."""
QUESTION_ITEMS_MAX: Final = 1_200
"""Items and excluded items of a question together, as many as one over HTTP may have."""
QUESTION_BYTES_MAX: Final = 65_536
"""Of all ids of a question: 1,200 of 54 bytes. A longer question is one for the pipeline."""
OWN_SESSIONS_MAX: Final = 64
"""Open sessions of one user: as many as a query of the index leaves out. A user with more is one for the pipeline."""
RECENT_MAX: Final = min(session_query.RECENT_MAX, covisitation_query.RECENT_MAX)
"""Items that a query reads, and leaves out at most."""


class AnswerRoom(NamedTuple):
    """Arrays of all questions to one plan."""

    arena: NDArray[np.uint8]
    """The ids of a question, end to end: user, session, request, items, excluded items, items of the caller."""
    ask: NDArray[np.int64]
    facts: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    recent: Index
    sent: Index
    excluded: Index
    given: Index
    """Each item of the caller, -1 = unknown; then what removed it: -1 = nothing, 0 = that, 1 = the first filter."""
    history: Index
    """As many items as a query reads: its tables have no room to leave out more."""
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
    propensity: NDArray[np.float32]
    """Of each item of a slate that was drawn."""
    counts: NDArray[np.int64]
    text: NDArray[np.uint8]
    """JSON of the slate's items."""
    record: NDArray[np.uint8]
    """MessagePack of the served record's fields of items."""
