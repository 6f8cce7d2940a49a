"""Checks of a table of users: packed rows say what is read of each user, and blocks are accounted for."""

import numpy as np

from midstream.state.structures.row_merge import ring_places, ring_times
from midstream.state.users.user_rows import ACTIONS_MAX, RING_POOL, SEEN_POOL


def check_packed(users):
    """Compare packed rows with what can be read of each user, and blocks in use with those that users have."""
    packed = np.concatenate([each.copy() for each in users.packed_rows()] or [np.zeros(users.packed_shape, np.uint8)])
    assert packed.shape == users.packed_shape
    for slot, row in enumerate(packed.view(users.dtype)[:, 0]):
        recent, seen = users.recent(slot), users.impressions(slot)
        assert (row["first_ms"], row["last_ms"]) == (users.first_seen_ms(slot), users.last_seen_ms(slot))
        names = users._names
        assert row["counts"].tolist() == [*users.counts(slot).values(), *[0] * (ACTIONS_MAX - len(names))]
        places = ring_places(int(row["added"]), len(row["ring_item"]))
        assert row["ring_item"][places].tolist() == recent.item_index.tolist()
        assert row["ring_action"][places].tolist() == recent.action.tolist()
        assert ring_times(row, places).tolist() == recent.event_time_ms.tolist()
        assert row["seen_item"][: row["seen_length"]].tolist() == seen.item_index.tolist()
        assert row["seen_count"][: row["seen_length"]].tolist() == seen.count.tolist()
        seconds = row["seen_second"][: row["seen_length"]].astype(np.int64)
        assert (seconds * 1_000).tolist() == seen.event_time_ms.tolist()
        for name in ("item", "time_low", "time_high", "action"):
            assert not row[f"ring_{name}"][len(places) :].any()
        for name in ("item", "second", "count"):
            assert not row[f"seen_{name}"][row["seen_length"] :].any()
    check_blocks(users)


def check_blocks(users):
    """Each block that was ever taken is one user's, or free and empty but for the number of the next free one."""
    for pool, blocks, name in ((RING_POOL, users._tails, "ring_block"), (SEEN_POOL, users._seen, "seen_block")):
        owned = [int(each) for each in users._heads[name] if each]
        free, number = [], int(users._used[pool + 1])
        while number:
            free.append(number)
            assert not blocks[number - 1, 1:].any()
            number = int(blocks[number - 1, 0])
        assert sorted([*owned, *free]) == list(range(1, int(users._used[pool]) + 1))
