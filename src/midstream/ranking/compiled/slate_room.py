"""Room and rules of slates that a kernel makes of scored candidates: what lies behind the cut, as numbers.

The candidates and both texts are in ``AnswerRoom``, where the kernel before the cut leaves them.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.ranking.compiled.program import Values
from midstream.ranking.rules.traces import OUTSIDE_MAX
from midstream.state.ids.item_slots import ITEM_ID_BYTES_MAX

ATTRIBUTE: Final = 0
MOST: Final = 1
"""Columns of a cap: the row of its attribute's codes, and how many items of one value there may be."""

ACTIONS: Final = 0
OUTSIDE: Final = 1
RULES: Final = 2
END: Final = 3
BY_RULE: Final = 4
"""Cells of ``told``: actions in the record, those on items outside of the slate, rules that have any of them, the end
of the text; then how many actions each cap took and likeness, those of no record as well."""


class SlateRules(NamedTuple):
    """Caps and likeness of a placement."""

    caps: NDArray[np.int64]
    """(caps, 2)."""
    likeness: NDArray[np.int64]
    """(1,): row of the codes that make two items alike, -1 = there is no likeness."""
    weight: Values
    """(1,): of likeness."""


class SlateRoom(NamedTuple):
    """Arrays of all questions to plans with something behind the cut."""

    attributes: Index
    """Value code of each candidate, (attributes, n), -1 = none."""
    codes: Index
    maxima: NDArray[np.int64]
    values: Index
    worth: NDArray[np.float64]
    chosen: NDArray[np.int64]
    state: NDArray[np.uint8]
    full: NDArray[np.int64]
    passed_over: NDArray[np.bool_]
    """As ``PlacingColumns``."""
    drawn: NDArray[np.int64]
    """(3,): items of a slate that was chosen between the kernels, whose rows are the first of ``order``, -1 = none was;
    whether any of them was left to chance; the end of ``text``, which has its actions then."""
    order: NDArray[np.int64]
    """Row of each candidate that has a score, best first."""
    picked: NDArray[np.int64]
    """Row of each item of the slate among the candidates."""
    actions: NDArray[np.int64]
    """Of each action of a rule that the record has: rule, word, position and candidate, (actions, 4)."""
    rules: NDArray[np.int64]
    """Rules that have actions in the record, in the order in which they came; then the number of each rule."""
    told: NDArray[np.int64]
    text: NDArray[np.uint8]
    """MessagePack of the actions, and of the ids of items outside of the slate."""


ACTION_BYTES: Final = 4
"""Rule, word, and two bytes of position."""


def make_slate_room(rules: SlateRules, attributes: int, candidates_max: int, slate_max: int) -> SlateRoom:
    """Reserve room for the largest slate of a plan; pages are paid when touched.

    Args:
        rules: Of the plan.
        attributes: Number of rows of codes.
        candidates_max: Candidates that may come.
        slate_max: Items of the largest slate.
    """
    caps = len(rules.caps)
    actions_max = 2 * slate_max
    return SlateRoom(
        attributes=np.zeros((attributes, candidates_max), dtype=np.int32),
        codes=np.zeros((caps, candidates_max), dtype=np.int32),
        maxima=rules.caps[:, MOST].copy(),
        values=np.zeros(candidates_max, dtype=np.int32),
        worth=np.zeros(candidates_max, dtype=np.float64),
        chosen=np.zeros(slate_max, dtype=np.int64),
        state=np.zeros(candidates_max, dtype=np.uint8),
        full=np.zeros(candidates_max, dtype=np.int64),
        passed_over=np.zeros(candidates_max, dtype=np.bool_),
        drawn=np.array([-1, 0, 0], dtype=np.int64),
        order=np.zeros(candidates_max, dtype=np.int64),
        picked=np.zeros(slate_max, dtype=np.int64),
        actions=np.zeros((actions_max, 4), dtype=np.int64),
        rules=np.zeros(2 * (caps + 1), dtype=np.int64),
        told=np.zeros(BY_RULE + caps + 1, dtype=np.int64),
        text=np.zeros(ACTION_BYTES * actions_max + OUTSIDE_MAX * (ITEM_ID_BYTES_MAX + 3) + 16, dtype=np.uint8),
    )
