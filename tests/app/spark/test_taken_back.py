"""What Spark reads of a log with retractions is what it reads of the log in which the acts never came."""

import numpy as np
import pyarrow as pa
import pytest

from midstream.app.opening import DATA_NAME, config_of, open_shop
from midstream.app.operate.seal import seal_folder
from midstream.app.spark import log_source
from midstream.app.spark.log_ranges import LOG_SCHEMA, LogPlace, LogRange, place_of
from midstream.app.spark.shard_tables import PAIR_SCHEMA, pairs_of, popularity_of, popularity_schema
from midstream.app.spark.taken_back import (
    KeptEvents,
    joined_acts,
    taken_back_here,
)
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.schema import Event, build, concat, cut, pick
from midstream.state.control.retractions import blanked_retraction, retracted_act
from midstream.state.ids.event_ids import SPAN_S, fingerprints
from midstream.state.ids.retraction_event import retraction_of
from midstream.state.structures.hashing import NO_KEY, id_key_of
from tests.app.spark.test_shard_tables import TOML, of_shards
from tests.support.events import START_MS, Stream, random_event_list

STEPS_MS = (20_000, 400_000)
"""Of the one log sessions have several acts; of the other a copy may come days after the act."""


def copies_of(batch):
    """Return of each event the place of the first one that it is a copy of, itself where it is none."""
    prints = fingerprints(batch, id_key_of(NO_KEY))
    first: dict[tuple[int, int], tuple[int, int]] = {}
    found = list(range(len(batch)))
    for at in found:
        second = int(batch.rows["log_time_ms"][at]) // 1_000
        told = int(prints.id_hash[at]), int(prints.check[at])
        if told[0] and told in first and second - first[told][1] <= SPAN_S:
            found[at] = first[told][0]
        else:
            first[told] = at, second
    return found


def logs(step_ms, count=4_000):
    """Return a log in which acts are taken back, and which of its events a log has in which they never came."""
    stream = Stream(
        users=60, items=80, sessions=40, step_ms=step_ms, retraction_share=0.05, people_share=0.01, duplicate_share=0.1
    )
    events = random_event_list(count, 5, stream)
    first = copies_of(build(events))
    acts = set()
    for at, event in enumerate(events):
        act = retracted_act(event.body) if event.kind == Kind.RETRACTION else None
        if act is not None and first[act.log_position] != act.log_position:
            events[at] = Event(Kind.TICK, log_time_ms=event.log_time_ms)  # the engine names the first of copies
        elif act is not None:
            acts.add(act.log_position)
    log = concat([build(events), build((Event(Kind.TICK, log_time_ms=events[-1].log_time_ms),))])
    stays = [at for at in range(count) if first[at] not in acts and events[at].kind != Kind.RETRACTION]
    return log, np.array([*stays, count]), acts, first


def write(folder, log):
    """Make a folder whose log holds the events, in small segments."""
    folder.mkdir(parents=True)
    (folder / "midstream.toml").write_text(TOML + '\n[history]\nhot = "1d"\n')
    opened = open_log(DataFolder(folder / DATA_NAME), bytes(16), 1 << 14)
    for start in range(0, len(log), 50):
        opened.append(cut(log, start, start + 50))
    opened.close()
    return folder


@pytest.fixture(params=STEPS_MS)
def both(request, tmp_path):
    """A folder with retractions, one without them and their acts, and the places of its events in the first one."""
    log, stays, acts, first = logs(request.param)
    assert len(acts) > 100
    copies = [at for at in range(len(first)) if first[at] != at and first[at] in acts]
    assert len(copies) > 5
    return write(tmp_path / "with", log), write(tmp_path / "without", pick(log, stays)), stays


@pytest.mark.parametrize("shards", [1, 7])
def test_popularity_is_that_of_a_log_without_the_acts(both, shards):
    """Heat and counts, to the bit, also where a copy of an act that was taken back is in the log."""
    tables = []
    for folder in both[:2]:
        job, batches = of_shards(folder, "item", shards, popularity_of)
        tables.append(pa.Table.from_batches(batches, schema=popularity_schema(job.settings())).sort_by("item_id"))
    assert tables[0].num_rows > 60
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("shards", [1, 7])
def test_pairs_are_those_of_a_log_without_the_acts(both, shards):
    """An act that was taken back makes no pair, and stands between no others; up to the order of the sums."""
    sums = []
    for folder in both[:2]:
        _, batches = of_shards(folder, "session", shards, pairs_of)
        rows = pa.Table.from_batches(batches, schema=PAIR_SCHEMA).group_by(["item_id", "neighbour_id"])
        table = rows.aggregate([("weight", "sum"), ("pairs", "sum")])
        sums.append(table.sort_by([("item_id", "ascending"), ("neighbour_id", "ascending")]))
    assert sums[0].num_rows > 20
    names = ["item_id", "neighbour_id", "pairs_sum"]
    assert sums[0].select(names).equals(sums[1].select(names))
    weights = [each.column("weight_sum").to_numpy() for each in sums]
    assert weights[0] == pytest.approx(weights[1], rel=1e-12)


def read(options):
    """All rows of the ranges of a DataFrame, in their order."""
    pieces = log_source.ranges_of(options)
    batches = [batch for piece in pieces for batch in log_source.read(options, piece)]
    return pa.Table.from_batches(batches, schema=LOG_SCHEMA)


@pytest.mark.parametrize("events", [130, 262_144])
def test_a_history_is_that_of_a_log_without_the_acts(both, monkeypatch, events):
    """At the positions of the log, however it is cut into ranges, from Parquet and from segments alike."""
    cut_before = LogPlace.ranges
    monkeypatch.setattr(LogPlace, "ranges", lambda self, first, stop: cut_before(self, first, stop, events))
    told, wanted = read(log_source.fixed({"path": str(both[1])})), both[2]
    for is_sealed in (False, True):
        if is_sealed:
            seal_folder(both[0], config_of(both[0]))
        for options in ({"path": str(both[0])}, log_source.fixed({"path": str(both[0])})):
            found = read(options)
            assert found.column("log_position").to_pylist() == wanted.tolist()
            assert found.drop_columns("log_position").equals(told.drop_columns("log_position"))


def test_a_part_by_time_lacks_what_is_taken_back_behind_it(both):
    """And copies in it of acts before it; a retraction further than a day before it is not looked for."""
    times = read({"path": str(both[0])}).column("log_time").cast(pa.int64()).to_numpy() // 1_000
    since, until = int(times[1_500]), int(times[2_500])
    part = read(log_source.fixed({"path": str(both[0]), "since": str(since), "until": str(until)}))
    assert part.column("log_position").to_pylist() == both[2][(times >= since) & (times < until)].tolist()


def test_what_is_taken_back_later_stays(tmp_path):
    """A DataFrame is that of the call; the next call lacks the act. A stream has each event as it came."""
    options = {"path": str(tmp_path)}
    with open_shop(tmp_path) as shop:
        shop.record(
            [{"type": "view", "user_id": "ann", "item_id": f"i{each}", "event_id": f"e{each}"} for each in range(5)]
        )
        before = log_source.fixed(options)

        async def retract():
            return await shop.running.engine.retractor.by_id("e2", None)

        assert shop.submit(retract).result().retracted == 1
        assert read(before).column("item_id").to_pylist() == [f"i{each}" for each in range(5)]
        assert read(log_source.fixed(options)).column("item_id").to_pylist() == ["i0", "i1", "i3", "i4"]
        begin = log_source.begin_of(options)
        pieces = log_source.between(options, begin, log_source.end_of(options, begin))
        rows = [row for piece in pieces for batch in log_source.read(options, piece) for row in batch.to_pylist()]
        assert [row["item_id"] for row in rows] == [f"i{each}" for each in range(5)]


def test_a_range_knows_the_acts_of_a_day_before_it():
    """Their number does not grow with the log; of one whose time is not known it is told wherever it lies."""
    acts = joined_acts([(at, START_MS // 1_000 + at * 3_600) for at in range(100)] + [(200, 0), (5, 0)])
    assert acts.positions.tolist() == [*range(100), 200]
    assert acts.seconds.tolist()[-2:] == [START_MS // 1_000 + 99 * 3_600, 0]
    near = acts.near(LogRange(50, 60)).positions.tolist()
    assert near == list(range(25, 60))
    assert acts.near(LogRange(300, 400)).positions.tolist() == [*range(75, 100), 200]
    assert acts.within(LogRange(50, 60)).tolist() == list(range(50, 60))


def test_acts_of_an_erased_user_stay_taken_back(tmp_path):
    """Their retraction says the position alone; a copy goes with it, as its time is read where it lies."""
    act = Event(Kind.INTERACTION, action="view", item_id="i1", event_id="e1", log_time_ms=START_MS)
    other = act._replace(event_id="e2")
    told = retraction_of(LogPosition(0), act)
    blanked = told._replace(item_id="", body=blanked_retraction(told.body), log_time_ms=START_MS)
    days_later = [each._replace(log_time_ms=START_MS + 1_000 * SPAN_S) for each in (act, other)]
    too_late = act._replace(log_time_ms=START_MS + 1_000 * (SPAN_S + 1))
    log = build([act, other, blanked, *days_later, too_late])
    folder = write(tmp_path / "shop", log)
    place = place_of(folder)
    acts = taken_back_here(place, 0)
    assert (acts.positions.tolist(), acts.seconds.tolist()) == ([0], [0])
    assert read({"path": str(folder)}).column("log_position").to_pylist() == [1, 4, 5]
    part = LogRange(3, 6)
    assert KeptEvents(place, part, acts.near(part)).of(LogPosition(3), cut(log, 3, 6)).tolist() == [False, True, True]
