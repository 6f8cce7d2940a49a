"""The kernel of the one pass says what it cannot fold before it folds anything, and folds tables in any order."""

import ctypes
import mmap
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import Event, build, cut
from midstream.state import one_pass
from midstream.state.fold import Fold
from midstream.state.one_pass import RUN_EVENTS, _Run
from midstream.state.one_pass_kernels import (
    CELLS,
    IDS,
    ITEMS,
    OUTCOMES,
    PAIRS,
    REQUESTS,
    SESSION_INDEX,
    UNUSUAL,
    USERS,
    usual_until,
)
from midstream.state.structures.kernel import frozen_columns
from tests.state.test_one_pass import counting_settings, plain_settings, usual_part
from tests.support.events import START_MS, Stream, random_events
from tests.support.forked import HOLDS, status_of_a_copy

USUAL = {Kind.INTERACTION, Kind.IMPRESSION, Kind.SERVED, Kind.TICK}


def rows_of(kinds):
    """Return read-only rows of events of these kinds."""
    return frozen_columns(build([Event(kind, 1, item_id="i", log_time_ms=START_MS) for kind in kinds]))[0]


@given(st.lists(st.sampled_from(list(Kind)), max_size=30))
def test_the_first_event_that_is_not_usual_is_found_from_each_place_on(kinds):
    """As a plain search finds it."""
    rows = rows_of(kinds)
    for start in range(len(kinds) + 1):
        until = next((at for at in range(start, len(kinds)) if kinds[at] not in USUAL), len(kinds))
        assert usual_until(rows, start) == until


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in USUAL])
@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_run_with_an_event_that_is_not_usual_changes_nothing(kind, place):
    """Whatever it is and wherever it stands: the general way then folds all of them from the start."""
    acts = [
        Event(Kind.INTERACTION, action="view", user_id=f"u{n}", item_id="i", log_time_ms=START_MS) for n in range(9)
    ]
    acts.insert(place, Event(kind, 1, user_id="u1", item_id="i", body=b"{}", log_time_ms=START_MS))
    fold = Fold(plain_settings())
    before = fold.digest()
    assert fold._one_pass._fold(0, _Run(LogPosition(0), build(acts), None), -1) == UNUSUAL
    assert fold.digest() == before


def test_tables_that_only_read_columns_can_be_folded_in_any_order():
    """So they can be folded side by side, run after run."""
    log = usual_part(random_events(600, 6, Stream(feedback_share=0.2)))
    log.rows["kind"][log.rows["kind"] == Kind.SERVED] = Kind.TICK  # slates are opened by the general way
    whole = Fold(counting_settings())
    for start in range(0, len(log), 100):
        whole.apply(LogPosition(start), cut(log, start, start + 100))
    others = (ITEMS | CELLS, USERS, PAIRS | REQUESTS, SESSION_INDEX | OUTCOMES)
    for order in permutations(others):
        fold = Fold(counting_settings())
        for start in range(0, len(log), 100):
            run = _Run(LogPosition(start), cut(log, start, start + 100), None)
            assert all(fold._one_pass._fold(0, run, which) >= 0 for which in (IDS, *order))
        held, expected = fold.arrays(), whole.arrays()
        assert [name for name in held if held[name].tobytes() != expected[name].tobytes()] == ["fold.place"]
        assert np.array_equal(held["fold.place"], [0, 0])


def guarded(array):
    """Return a copy at whose end a page begins that nobody may read."""
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = np.frombuffer(mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE), np.uint8)
    end = pages * mmap.PAGESIZE
    assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + end), mmap.PAGESIZE, 0)
    copy = memory[end - array.nbytes : end].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def test_nothing_is_read_past_the_end_of_a_run(monkeypatch):
    """What is asked for ahead neither: where columns and rows end, memory does. A child, as it would end there."""
    room = one_pass._room
    monkeypatch.setattr(one_pass, "_room", lambda *sizes: type(columns := room(*sizes))(*map(guarded, columns)))
    log = usual_part(random_events(4 * RUN_EVENTS, 6, Stream(feedback_share=0.2)))
    assert len(log) > 1 + 2 * RUN_EVENTS
    parts = [cut(log, 0, 1), *(cut(log, start, start + RUN_EVENTS) for start in (1, 1 + RUN_EVENTS))]
    fold, general = Fold(counting_settings()), Fold(counting_settings())
    general.is_general = True
    for part in parts:
        general.apply(general.log_position, part)
    fold.apply(LogPosition(0), parts[0])

    def folds_on():
        for part in parts[1:]:
            fold.apply(fold.log_position, EventBatch(guarded(part.rows), part.text))
        return fold.digest() == general.digest()

    assert status_of_a_copy(folds_on) == HOLDS
