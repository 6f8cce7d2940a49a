"""Merged rows of shards depend on no order, repeat or gap of deltas, and are what one fold of all events has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sharding.__main__ import Sharded, settings_of
from benchmarks.sharding.delta_merge import NEVER, Delta, Publisher, Replica, disordered
from benchmarks.sharding.event_streams import LOGICAL, apply, in_time_order, season
from benchmarks.sharding.shop_rows import shop_rows

SHARDS, ROWS = 3, 5
HOUR_MS = 3_600_000


def published(seed, epochs):
    """Deltas of some shards over some epochs, and the rows that each shard has at the end."""
    rng = np.random.default_rng(seed)
    shards = [Publisher(number) for number in range(SHARDS)]
    tables = [np.zeros((ROWS, 2), dtype=np.int64) for _ in shards]
    deltas = []
    for epoch in range(epochs):
        for shard, table in zip(shards, tables, strict=True):
            table[rng.random(ROWS) < 0.4] += rng.integers(1, 9, 2)
            deltas += shard.deltas(epoch, {"heat": table.copy()})
    return deltas, tables


def held(deltas):
    """The rows that a replica has after deltas."""
    replica = Replica()
    replica.join_all(deltas)
    return {shard: rows.tolist() for shard, rows in replica.rows("heat").items()}


def padded(rows):
    """Rows of a replica, as many as a shard has: those that never changed were never published."""
    return {shard: [*each, *[[0, 0]] * (ROWS - len(each))] for shard, each in rows.items()}


@given(seed=st.integers(0, 2**32 - 1), epochs=st.integers(1, 6))
def test_every_order_of_deltas_ends_in_the_rows_of_the_shards(seed, epochs):
    """However often each comes: joining is commutative and idempotent by shard and epoch."""
    deltas, tables = published(seed, epochs)
    came = disordered(deltas, np.random.default_rng(seed), 0.5)
    assert padded(held(came)) == {shard: table.tolist() for shard, table in enumerate(tables)}
    assert held(came) == held(deltas) == held([*deltas, *deltas])


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 12))
def test_replicas_that_are_joined_by_parts_agree(seed, cut):
    """Joining is associative: what one has first and the other last makes no difference."""
    deltas, _ = published(seed, 4)
    assert held([*deltas[cut:], *deltas[:cut]]) == held([*deltas[:cut], *deltas[cut:]])


@given(seed=st.integers(0, 2**32 - 1), lost=st.integers(0, 14))
def test_a_lost_delta_is_made_up_for_by_the_next_one_of_its_rows(seed, lost):
    """Until then a row is the one before, never a sum of other events; nothing is counted twice."""
    deltas, tables = published(seed, 5)
    gone = deltas[lost]
    rows = padded({**{shard: [] for shard in range(SHARDS)}, **held([*deltas[:lost], *deltas[lost + 1 :]])})
    later = [each for each in deltas[lost + 1 :] if each.shard == gone.shard]
    before = padded({gone.shard: [], **held(deltas[:lost])})[gone.shard]
    for shard, table in enumerate(tables):
        for row in range(ROWS):
            is_stale = shard == gone.shard and row in gone.row and not any(row in each.row for each in later)
            assert rows[shard][row] == (before[row] if is_stale else table[row].tolist())


def test_an_older_delta_changes_nothing():
    """Also of rows that the newer one made known, and none is invented between them."""
    replica = Replica()
    replica.join(Delta(0, 2, "heat", np.array([3]), np.array([[7]])))
    replica.join(Delta(0, 1, "heat", np.array([1, 3]), np.array([[5], [6]])))
    assert replica.rows("heat")[0].tolist() == [[0], [5], [0], [7]]
    assert replica.held["heat", 0].epoch.tolist() == [NEVER, 1, NEVER, 2]


@pytest.fixture(scope="module")
def stream():
    """A small season of a simulated shop."""
    return season(seed=3, people=40, days=4)


def test_users_stay_on_their_logical_shard(stream):
    """Whatever the number of machines, all events of a user, and so of a session, are on one of them."""
    for count in (2, 7, LOGICAL):
        owner = stream.shards(count)
        assert owner.max() < count
        for ids in (stream.user, stream.session):
            pairs = {(name, shard) for name, shard in zip(ids.tolist(), owner.tolist(), strict=True)}
            assert len(pairs) == len(set(ids.tolist()))


def test_merged_tables_without_delay_are_those_of_one_fold(stream):
    """Counters and heat but for the order of sums, sessions to the bit, pairs where no row was cut."""
    sharded = Sharded(stream, 3, 1, seed=5)
    sharded.moment(len(stream) - 2, merges=True)
    exact, view = sharded.exact.arrays(), sharded.view.arrays()
    for name in ("items.heat", "items.counters", "pairs.share"):
        np.testing.assert_allclose(view[name].astype(np.float64), exact[name].astype(np.float64), rtol=1e-12)
    for name in ("session_index.length", "session_index.item", "session_index.user", "session_index.newest"):
        np.testing.assert_array_equal(view[name], exact[name])
    width = sharded.exact.settings.limits.pair_neighbours_max
    length, merged = (each["pairs.length"].astype(np.int64) for each in (exact, view))
    whole = length < width
    assert whole.any()
    for item in np.flatnonzero(whole & (merged < width)).tolist():
        right, came = (fold.pairs.neighbours(item, fold.log_time_ms) for fold in (sharded.exact, sharded.view))
        np.testing.assert_array_equal(came[0], right[0])
        np.testing.assert_allclose(came[1], right[1], rtol=1e-12)


def test_an_epoch_without_events_publishes_nothing(stream):
    """A row is published when it changed, and only then."""
    sharded = Sharded(stream, 2, 50, seed=5)
    assert sharded._publish(4, merges=True).keys() == {"heat", "pairs", "sessions"}
    assert sharded._publish(4, merges=True).total() == 0


def test_rows_of_two_landmarks_are_brought_to_one():
    """A shard that was quiet for a long time stands at an older landmark: its sums fade by an exact power of two."""
    days = [0, 1, 40]
    rows = [
        (f"u{n % 2}", f"s{n}", f"i{n % 2}", "view", 1_700_000_000_000 + 24 * HOUR_MS * day)
        for n, day in enumerate(days)
    ]
    stream = in_time_order("quiet", [*rows, ("u3", "s9", "i0", "view", rows[-1][4] + 1)], frozenset())
    sharded = Sharded(stream, 32, 1, seed=1)
    sharded.moment(len(stream) - 1, merges=True)
    landmarks = {shard.fold.items.arrays()["clock"].tolist()[2] for shard in sharded.shards if len(shard.places)}
    assert len(landmarks) > 1
    for name in ("items.heat", "items.counters"):
        np.testing.assert_array_equal(sharded.view.arrays()[name], sharded.exact.arrays()[name])


def test_a_session_that_was_cut_in_two_is_refused(stream):
    """Numbers of sessions would mean others: the simulation goes by their ids alone."""
    sharded = Sharded(stream, 2, 50, seed=5)
    sharded._publish(4, merges=True)
    shard = sharded.shards[0]
    with pytest.raises(ValueError, match="cut in two"):
        shop_rows(shard.fold, np.zeros(1, dtype=np.int64), sharded.items)


def test_what_a_shard_has_not_published_is_not_in_the_others_view(stream):
    """Until the end of the epoch; its own events it sees at once."""
    sharded = Sharded(stream, 2, 200, seed=5)
    place, asking, _ = sharded.moment(2, merges=True)
    every = np.arange(sharded.items, dtype=np.int32)
    half_life = settings_of(stream).half_lives[-1].ms
    seen = np.flatnonzero(
        (np.arange(len(stream)) < 400) | ((sharded.owner == asking) & (np.arange(len(stream)) < place))
    )
    alone = Sharded(stream, 1, 1, seed=5).exact
    apply(alone, stream.batch(seen))
    now = sharded.exact.log_time_ms
    for action in ("view", "purchase"):
        right = alone.items.decayed_count(action, half_life, now, every)
        np.testing.assert_allclose(sharded.view.items.decayed_count(action, half_life, now, every), right, rtol=1e-12)
