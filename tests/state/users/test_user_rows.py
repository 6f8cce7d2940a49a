"""Rows of users in parts: heads, blocks of two pools, and the packed row that a digest covers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.events.schema import Event, build
from midstream.state.settings import FoldSettings, StateLimits
from midstream.state.steps import part, step_of
from midstream.state.users.user_rows import (
    HEAD_BYTES,
    INLINE,
    RING_POOL,
    SEEN_POOL,
    head_dtype,
    release_blocks,
    row_dtype,
    row_sizes,
    take_block,
)
from midstream.state.users.users import Users
from tests.state.users.row_checks import check_blocks, check_packed
from tests.support.events import Stream, indexed, random_events

NO_CODES = dict[str, NDArray[np.int32]]().__getitem__


def settings_of(users_max=3, user_ring_max=3):
    """Return settings with small maxima, without attributes."""
    limits = StateLimits(users_max=users_max, user_ring_max=user_ring_max, items_max=500, click_items_max=400)
    return FoldSettings(limits=limits)


def test_what_is_digested_does_not_say_which_block_is_whose():
    """Two users who need blocks in one order or the other have the same packed rows."""
    settings = settings_of(user_ring_max=20)
    kinds = ((Kind.INTERACTION, "view"), (Kind.IMPRESSION, ""))
    first = [Event(Kind.INTERACTION, action="view", user_id=user, item_id="x", log_time_ms=9) for user in ("a", "b")]
    more = {
        user: [
            Event(kind, action=action, user_id=user, item_id=f"{user}{number}", log_time_ms=9)
            for kind, action in kinds
            for number in range(20)
        ]
        for user in ("a", "b")
    }
    items = [
        Event(Kind.ITEM, item_id=event.item_id, body=b"{}", log_time_ms=9) for each in more.values() for event in each
    ]
    packed, blocks = [], []
    for order in ("ab", "ba"):
        users = Users(settings, NO_CODES)
        acts = [event for user in order for event in more[user]]
        users.apply(step_of(indexed(build([*items, *first, *acts]), settings)))
        packed.append(b"".join(each.tobytes() for each in users.packed_rows()))
        blocks.append(users._heads["ring_block"][:2].tolist() + users._heads["seen_block"][:2].tolist())
    assert packed[0] == packed[1]
    assert blocks == [[1, 2, 1, 2], [2, 1, 2, 1]]


def test_blocks_are_given_back_by_who_starts_cold():
    """However many users come and go, no more blocks are taken than there are slots, and none is anybody's twice."""
    settings = settings_of(users_max=7, user_ring_max=30)
    users = Users(settings, NO_CODES)
    batch = indexed(random_events(20_000, seed=23, stream=Stream(users=40, step_ms=500)), settings)
    for start in range(0, len(batch), 1_000):
        users.apply(step_of(part(batch, start, start + 1_000)))
        check_blocks(users)
    assert 0 < users._used[RING_POOL] <= 7
    assert 0 < users._used[SEEN_POOL] <= 7
    check_packed(users)


def test_a_user_with_few_acts_and_no_impressions_has_no_block():
    """Ten acts lie in the head; memory in use is that of heads."""
    settings = settings_of(users_max=9, user_ring_max=50)
    users = Users(settings, NO_CODES)
    event = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=9)
    events = [event._replace(user_id=f"u{number}") for number in range(9)] * 10
    users.apply(step_of(indexed(build(events), settings)))
    assert (users._used[RING_POOL], users._used[SEEN_POOL]) == (0, 0)
    assert users.bytes_now == users._bytes.nbytes < 9 * users.dtype.itemsize
    assert users._at[INLINE] == 11
    assert [len(users.recent(slot).item_index) for slot in range(9)] == [10] * 9


@pytest.mark.parametrize(
    "dtype",
    [
        *(row_dtype(ring_max, attributes) for ring_max, attributes in ((1, 0), (3, 1), (50, 3))),
        *(head_dtype(*sizes) for sizes in ((1, 1, 0), (3, 16, 1), (50, 5, 3))),
    ],
)
def test_a_row_is_what_its_layout_says(dtype):
    """No field overlaps another or straddles its own size, and rows keep words whole."""
    assert dtype.itemsize % 8 == 0
    end = 0
    for kind, offset in (field[:2] for field in (dtype.fields or {}).values()):
        assert offset == end
        assert offset % kind.base.itemsize == 0
        end += kind.itemsize
    assert end == dtype.itemsize


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(("ring", "seen", "cold"))), max_size=40))
def test_pools_are_those_of_plain_lists(steps):
    """The block given back last is taken first, all zero; else one that nobody had."""
    ints, used = np.zeros((5, 8), np.int32), np.zeros(5, np.int64)
    blocks = {"ring": np.zeros((5, 4), np.int32), "seen": np.zeros((5, 2), np.int32)}
    pools = {"ring": (RING_POOL, 6), "seen": (SEEN_POOL, 7)}
    free: dict[str, list[Any]] = {"ring": [], "seen": []}
    taken: dict[str, int] = {"ring": 0, "seen": 0}
    owned: dict[Any, Any] = {}
    for user, what in steps:
        if what == "cold":
            release_blocks(user, ints, blocks["ring"], blocks["seen"], used)
            ints[user] = 0
            for name in ("ring", "seen"):
                if (number := owned.pop((user, name), None)) is not None:
                    free[name].append(number)
        elif (user, what) not in owned:
            pool, word = pools[what]
            number = ints[user, word] = take_block(blocks[what], used, pool)
            taken[what] += not free[what]
            assert number == (free[what].pop() if free[what] else taken[what])
            assert not blocks[what][number - 1].any()
            blocks[what][number - 1] = 9
            owned[user, what] = number
    assert (used[RING_POOL], used[SEEN_POOL]) == (taken["ring"], taken["seen"])


@pytest.mark.parametrize(
    "ring_max, actions, attributes", [(1, 1, 0), (3, 16, 1), (50, 5, 0), (50, 5, 3), (2_200, 2, 1)]
)
def test_sizes_are_those_of_the_layout(ring_max, actions, attributes):
    """A head fills lines of memory; without attributes three of them at most."""
    sizes, kind = row_sizes(ring_max, actions, attributes), head_dtype(ring_max, actions, attributes)
    assert sizes.head == kind.itemsize
    assert sizes.head % 64 == 0
    assert sizes.head <= HEAD_BYTES + 136 * attributes + 63
    assert (sizes.tail % 8, sizes.seen % 8) == (0, 0)
    assert sizes.tail // 12 + kind["ring"].shape[0] >= ring_max


def test_rows_that_are_packed_later_hold_nothing_of_those_before():
    """The memory of some rows is used for the next ones, and a restore leaves nothing of what was there."""
    settings = settings_of(users_max=1_200, user_ring_max=30)
    event = Event(Kind.INTERACTION, action="view", item_id="x", log_time_ms=9)
    busy = [event._replace(user_id=f"u{number}") for number in range(600)] * 14
    users, fresh = Users(settings, NO_CODES), Users(settings, NO_CODES)
    batch = indexed(build([*busy, *(event._replace(user_id=f"v{number}") for number in range(600))]), settings)
    users.apply(step_of(batch))
    check_packed(users)
    users.restore({name: array.copy() for name, array in fresh.arrays().items()})
    assert not any(room.any() for room in users.rooms().values())
