"""Ids on their way: the first copy of each is known until its lot is released, exactly as a dict would know it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.fold_step import Fingerprints
from midstream.core.kinds import Kind
from midstream.events.schema import Event, build
from midstream.state.ids.event_ids import EventIds, fingerprints
from midstream.state.ids.pending_ids import PendingIds
from tests.support.ids import KEY


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


@given(steps)
def test_a_batch_is_admitted_in_one_call_as_in_three(steps):
    """Fingerprints, copies of applied and of pending events, and within a batch, growth: as one after another."""
    applied = EventIds(64, KEY)
    first_applied = fingerprints(batch_of([(9, 0), (17, 1)]), KEY)
    applied.admit(first_applied, np.zeros(2, dtype=np.int64))
    at_once, apart = PendingIds(places=4), PendingIds(places=4)
    for lot, (sent, releases) in enumerate(steps):
        batch = batch_of(sent)
        prints, outcome, first = at_once.admit_batch(applied, batch, lot)
        expected = applied.fingerprints(batch)
        expected_outcome = applied.find(expected)
        expected_first = apart.admit(expected, expected_outcome, lot)
        for name in ("id_hash", "check", "content"):
            assert getattr(prints, name).tolist() == getattr(expected, name).tolist()
        assert outcome.tolist() == expected_outcome.tolist()
        if first is None:
            assert not expected_outcome.any()
        else:
            assert expected_outcome.any()
            assert first.tolist() == expected_first.tolist()
        assert len(at_once) == len(apart)
        if releases:
            at_once.release(prints, lot)
            apart.release(expected, lot)


def batch_of(sent: list[tuple[int, int]]):
    """Return events of some ids, 0 has none, and of a content each."""
    return build(
        [
            Event(int(Kind.INTERACTION), event_id=f"e{each}" if each else "", action="view", item_id=f"i{content}")
            for each, content in sent
        ]
    )
