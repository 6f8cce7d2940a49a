"""Ids on their way: the first copy of each is known until its lot is released, exactly as a dict would know it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.fold_step import Fingerprints
from midstream.state.ids.pending_ids import PendingIds


def prints(ids: list[tuple[int, int]]) -> Fingerprints:
    """Return fingerprints of ids with contents; 0 has no id."""
    return Fingerprints(
        np.array([each for each, _ in ids], dtype=np.uint64),
        np.zeros(len(ids), dtype=np.uint32),
        np.array([content for _, content in ids], dtype=np.uint32),
    )


# Few ids, which collide in a small table: low bits are the same.
ids = st.tuples(st.sampled_from([0, 1, 2, 9, 17, 25, 33, 1 << 40, (1 << 40) + 8]), st.integers(0, 1))
steps = st.lists(st.tuples(st.lists(ids, max_size=6), st.booleans()), max_size=25)


@given(steps)
def test_it_is_a_dict(steps):
    """Admit and release in any order, through growth; a released id is new again."""
    pending = PendingIds(places=4)
    twin: dict[int, tuple[int, int]] = {}
    open_lots: dict[int, Fingerprints] = {}
    for lot, (batch, releases) in enumerate(steps):
        outcome = np.zeros(len(batch), dtype=np.uint8)
        if len(batch) > 2:
            outcome[2] = 3  # refused before: passed by
        first = pending.admit(prints(batch), outcome, lot)
        for number, (each, content) in enumerate(batch):
            if number == 2 or each == 0:
                expected = (3 if number == 2 and len(batch) > 2 else 0, -1)
            elif each in twin:
                held, held_lot = twin[each]
                expected = (1 if held == content else 2, held_lot)
            else:
                twin[each] = (content, lot)
                expected = (0, -1)
            assert (outcome[number], first[number]) == expected
        open_lots[lot] = prints(batch)
        if releases:
            oldest = min(open_lots) if lot % 2 else max(open_lots)
            pending.release(open_lots.pop(oldest), oldest)
            twin = {each: held for each, held in twin.items() if held[1] != oldest}
        assert len(pending) == len(twin)
