"""Tables that are folded shard by shard are those of the whole state, however many shards there are."""

import numpy as np
import pyarrow as pa
import pytest

from midstream.app.config.reader import parse_config
from midstream.app.opening import DATA_NAME
from midstream.app.spark import event_shards, shard_tables
from midstream.app.spark.event_shards import ShardEvents
from midstream.app.spark.log_ranges import encode_range, place_and_time
from midstream.app.spark.shard_tables import PAIR_SCHEMA, job_of, pairs_of, popularity_of, popularity_schema
from midstream.app.spark.taken_back import taken_back_here
from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.schema import concat, cut, pick
from midstream.state.fold import Fold
from midstream.state.structures.hashing import id_hash
from midstream.state.structures.windows import WINDOWS_MS
from tests.support.events import Stream, random_events

TOML = """
[items.attributes]
price = "number"

[trending]
half_life = ["10m", "6h"]

[limits]
users_max = 900
items_max = 500
click_items_max = 500
sessions_max = 900
index_sessions_max = 900
hot_items_max = 50
new_items_max = 50
requests_max = 100
pair_neighbours_max = 255
event_ids_max = 100000
"""
STREAM = Stream(users=60, items=80, sessions=40, duplicate_share=0.0, people_share=0.01)


def log_of(count=6_000):
    """Return a stream with merges, erasures, late events and whole copies of some events further on."""
    events = random_events(count, seed=11, stream=STREAM)
    copied = pick(events, np.arange(count - 400, count - 300))
    copied.rows["log_time_ms"] = events.rows["log_time_ms"][-1]
    return concat([events, copied])


LOG = log_of()


@pytest.fixture
def folder(tmp_path):
    """A folder whose log holds the events."""
    (tmp_path / "midstream.toml").write_text(TOML)
    log = open_log(DataFolder(tmp_path / DATA_NAME), bytes(16), 1 << 20)
    for first in range(0, len(LOG), 50):
        log.append(cut(LOG, first, first + 50))
    log.close()
    return tmp_path


def live(job):
    """Return the whole state."""
    fold = Fold(job.settings())
    fold.apply(LogPosition(0), LOG)
    return fold


def of_shards(folder, by, shards, work):
    """Return the job and the rows that the shards of a log give, each folded by itself in the order of the log."""
    config = parse_config(TOML)
    place, last_ms = place_and_time(folder)
    job = job_of(folder, config, last_ms)
    parts = place.ranges(0, place.end, 700)
    merges = [
        row
        for each in parts
        for batch in event_shards.merges_of(place, encode_range(each))
        for row in batch.to_pylist()
    ]
    acts = taken_back_here(place, place.begin)
    pieces = [event_shards.encode_piece(each, acts) for each in parts]
    assert merges
    merged = event_shards.joined_users([(each["into"], each["other"]) for each in merges])
    sharding = event_shards.Sharding(by, shards, merged)
    rows = [batch for piece in pieces for batch in event_shards.sharded(place, sharding, piece)]
    table = pa.Table.from_batches(rows).sort_by([("shard", "ascending"), ("first", "ascending")])
    return job, list(work(job, table.to_batches(max_chunksize=5)))


@pytest.mark.parametrize("shards", [1, 7])
def test_popularity_is_that_of_the_state(folder, shards):
    """Heat and counts of every item, to the bit."""
    job, batches = of_shards(folder, "item", shards, popularity_of)
    table = pa.Table.from_batches(batches, schema=popularity_schema(job.settings()))
    fold = live(job)
    ids = table.column("item_id").to_pylist()
    index = fold.vocabulary.item_indices(ids)
    known = [at for at in range(fold.items.count) if fold.items.exists(at)]
    assert sorted(index.tolist()) == known
    assert len(known) > 60
    settings = job.settings()
    for half_life in settings.half_lives:
        own = fold.items.heat(half_life.ms, index)
        assert table.column(f"heat_{half_life}").to_numpy().tobytes() == own.tobytes()
        assert own.any()
    assert table.column("available").to_pylist() == fold.items.available[index].tolist()
    for action in ("view", "purchase", "impression"):
        for window, name in zip(WINDOWS_MS, ("1h", "1d", "7d", "30d"), strict=True):
            own = fold.items.window_count(action, window, job.log_time_ms, index)
            assert table.column(f"{action}_{name}").to_pylist() == own.tolist(), (action, name)


@pytest.mark.parametrize("shards", [1, 7])
@pytest.mark.parametrize("held", [50, 4_000_000])
def test_pairs_are_those_of_the_state(folder, monkeypatch, shards, held):
    """Neighbours and weights, where no row was ever full; of several shards up to the order of the sums."""
    monkeypatch.setattr(shard_tables, "PAIRS_HELD_MAX", held)
    job, batches = of_shards(folder, "session", shards, pairs_of)
    table = pa.Table.from_batches(batches, schema=PAIR_SCHEMA)
    sums = table.group_by(["item_id", "neighbour_id"]).aggregate([("weight", "sum")]).to_pylist()
    found = {(row["item_id"], row["neighbour_id"]): row["weight_sum"] for row in sums}
    fold = live(job)
    expected: dict[tuple[str, str], float] = {}
    for item in range(fold.vocabulary.item_count):
        neighbours, weights = fold.pairs.neighbours(item, job.log_time_ms)
        names = fold.vocabulary.item_ids(neighbours)
        expected |= {(fold.vocabulary.item_id(item), name): each for name, each in zip(names, weights, strict=True)}
    assert len(expected) > 1_000
    assert found.keys() == expected.keys()
    for pair, weight in expected.items():
        assert found[pair] == pytest.approx(weight, rel=1e-12), pair


def test_users_who_were_merged_are_one():
    """Whoever is merged into whom, acts without a session are in one shard."""
    kinds, operations = LOG.rows["kind"], LOG.rows["operation"]
    assert np.count_nonzero((kinds == Kind.USER) & (operations == Operation.MERGE)) > 10
    one = event_shards.joined_users([("a", "b"), ("c", "d"), ("b", "c"), ("x", "y")])
    hashes = np.array([id_hash(each, event_shards._KEY) for each in "abcdxyz"], dtype=np.uint64)
    found = one.resolve(hashes).tolist()
    assert len(set(found[:4])) == len(set(found[4:6])) == 1
    assert len({found[0], found[4], found[6]}) == 3
    assert event_shards.MergedUsers().resolve(hashes).tolist() == hashes.tolist()


def test_events_of_a_shard_are_packed_as_they_are():
    """Rows and texts, to the byte, and which of them are acts that were taken back."""
    own, acts = pick(LOG, np.arange(0, len(LOG), 3)), np.array([3, 700])
    again = event_shards.unpack(event_shards.pack(ShardEvents(own, acts)))
    assert (again.events.rows.tobytes(), again.events.text) == (own.rows.tobytes(), own.text)
    assert again.taken_back.tolist() == acts.tolist()
    none = ShardEvents(cut(own, 0, 0), acts[:0])
    assert event_shards.unpack(event_shards.pack(none)).events.rows.size == 0
