"""A log cut into ranges gives each event once, as an export has it, from Parquet and from segments alike."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest

import midstream
from midstream.app.opening import DATA_NAME, config_of, open_running, open_shop
from midstream.app.operate.seal import seal_folder
from midstream.app.spark import log_source
from midstream.app.spark.log_ranges import LOG_SCHEMA, LogPlace, LogRange, event_batches, place_of
from midstream.core.errors import Invalid, LogRewritten
from midstream.engine import child_process
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import open_log
from midstream.events.disk import RealDisk
from midstream.events.history.history import read_history
from midstream.events.schema import cut
from midstream.events.segments.log_identity import identity_of
from tests.support.events import Stream, random_events
from tests.support.fakes.rebuilds import run_in_process

EVENTS = 3_000
LOG = random_events(EVENTS, seed=3, stream=Stream(duplicate_share=0.0, feedback_share=0.1, step_ms=120_000))


@pytest.fixture
def folder(tmp_path):
    """A folder whose log has some thousand events of every kind, in small segments."""
    (tmp_path / "midstream.toml").write_text('[history]\nhot = "1d"\n')
    log = open_log(DataFolder(tmp_path / DATA_NAME), bytes(16), 1 << 14)
    for first in range(0, EVENTS, 50):
        log.append(cut(LOG, first, first + 50))
    log.close()
    return tmp_path


def read(options):
    """All rows of the ranges of a DataFrame, in their order."""
    pieces = log_source.ranges_of(options)
    batches = [batch for piece in pieces for batch in log_source.read(options, piece)]
    return pa.Table.from_batches(batches, schema=LOG_SCHEMA)


def assert_whole(table, folder):
    """The rows are those of an export, in order, at their positions."""
    told = midstream.read_events(folder)
    assert table.column("log_position").to_pylist() == list(range(EVENTS))
    for name in told.schema.names:
        values = table.column(name)
        if name in ("time", "log_time"):
            values = values.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
        assert values.equals(told.column(name)), name


@pytest.mark.parametrize("events", [7, 500, 262_144])
def test_ranges_have_each_event_once(folder, monkeypatch, events):
    """However long they are; sealed days and the rest are read by the same call."""
    cut_before = LogPlace.ranges
    monkeypatch.setattr(LogPlace, "ranges", lambda self, first, stop: cut_before(self, first, stop, events))
    options = {"path": str(folder)}
    assert_whole(read(options), folder)
    seal_folder(folder, config_of(folder))
    history = read_history(DataFolder(folder / DATA_NAME).log, RealDisk())
    assert history is not None
    assert 0 < history.end < EVENTS  # both kinds are there
    assert_whole(read(options), folder)


def test_a_part_by_time_and_kind(folder):
    """The positions stay those of the log."""
    times = LOG.rows["log_time_ms"].astype(np.int64)
    since, until = int(times[700]), int(times[2_000])
    table = read({"path": str(folder), "since": str(since), "until": str(until), "kinds": "item, interaction"})
    wanted = (times >= since) & (times < until) & np.isin(LOG.rows["kind"], (1, 3))
    assert table.column("log_position").to_pylist() == np.flatnonzero(wanted).tolist()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"kinds": "items"}, "'items' came. Nearest: \"item\"."),
        ({"kind": "item"}, "'kind' came. Nearest: \"kinds\"."),
        ({"since": "yesterday"}, "'yesterday' is no time"),
        ({"path": ""}, None),
    ],
)
def test_options_that_are_none(folder, options, said):
    """Each is named with what would be right; a folder without a log has no event."""
    told = {"path": str(folder), **options}
    if said is None:
        assert not log_source.ranges_of({"path": str(folder / "nowhere")})
        del told["path"]
        said = "No folder came"
    with pytest.raises(Invalid, match=said.replace("(", r"\(")):
        log_source.ranges_of(told)


def test_a_history_is_that_of_the_call(folder, monkeypatch):
    """However often it is computed, and whatever came since; what is wrong is said by the call."""
    options = log_source.fixed(
        {"path": str(folder), "kinds": "interaction,item", "since": "100", "until": "2100-01-01"}
    )
    before = read(options)
    assert before.num_rows == np.count_nonzero(np.isin(LOG.rows["kind"], (1, 3)))
    log = open_log(DataFolder(folder / DATA_NAME), bytes(16), 1 << 14)
    log.append(cut(LOG, EVENTS - 1, EVENTS))
    log.close()
    assert read(options).equals(before)
    assert read(log_source.fixed({"path": str(folder)})).num_rows == EVENTS + 1
    for wrong in ({"kinds": "clicks"}, {"since": "yesterday"}):
        with pytest.raises(Invalid):
            log_source.fixed({"path": str(folder), **wrong})
    none = log_source.fixed({"path": str(folder / "nowhere")})
    assert read(none).num_rows == 0
    monkeypatch.setattr(log_source, "read_identity", lambda *_: identity_of(bytes(16), 4))
    with pytest.raises(LogRewritten, match=r"generation 4 .* began with generation 0"):
        read(options)


def test_a_task_reads_no_other_log(folder):
    """One that was rewritten since the job began says so, and a stream reads on in it."""
    place = place_of(folder)
    part = LogRange(0, 10)
    assert sum(len(batch) for _, batch in event_batches(place, part)) == 10
    other = LogPlace(place.folder, place.log_id, 7, place.begin, place.end)
    with pytest.raises(LogRewritten, match=r"generation 0 .* began with generation 7"):
        list(event_batches(other, part))
    assert sum(len(batch) for _, batch in event_batches(other, part, any_generation=True)) == 10
    stranger = LogPlace(place.folder, "00" * 15 + "01", 0, place.begin, place.end)
    with pytest.raises(LogRewritten):
        list(event_batches(stranger, part, any_generation=True))


def test_a_stream_reads_on_from_a_position(tmp_path):
    """From the beginning or a time, up to what is durable, so many events a batch; what was cut is named."""
    options = {"path": str(tmp_path)}
    begin = log_source.begin_of(options)
    assert begin == log_source.end_of(options, begin) == {"log_position": 0, "log": "", "generation": 0}
    with open_shop(tmp_path) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": f"i{each}"} for each in range(10)])
        end = log_source.end_of(options, begin)
        assert (end["log_position"], end["generation"]) == (10, 0)
        assert log_source.events_max_of({**options, "maxeventspertrigger": "4"}) == 4
        pieces = log_source.between(options, {**end, "log_position": 4}, {**end, "log_position": 8})
        rows = [row for piece in pieces for batch in log_source.read(options, piece) for row in batch.to_pylist()]
        assert [row["item_id"] for row in rows] == ["i4", "i5", "i6", "i7"]
        assert log_source.between(options, end, end) == []
    with pytest.raises(Invalid, match="above 0"):
        log_source.events_max_of({**options, "maxeventspertrigger": "0"})
    with pytest.raises(Invalid, match="until"):
        log_source.begin_of({**options, "until": "2d"})


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"log": "ab"}, "stands in log ab, and the folder holds log"),
        ({"generation": 3}, "stands in generation 3 of log"),
        ({"log_position": EVENTS + 1}, f"stands at log position {EVENTS + 1}, and log .* ends at {EVENTS}"),
    ],
)
def test_a_stream_does_not_go_on_in_another_log(folder, changes, said):
    """As after a restore, a repair or a folder that was made anew: positions there are those of other events."""
    options = {"path": str(folder)}
    begin = log_source.begin_of(options)
    end = log_source.end_of(options, begin)
    other = {**end, **changes}
    with pytest.raises(Invalid, match=said):
        log_source.end_of(options, other)
    with pytest.raises(Invalid, match=said):
        log_source.between(options, begin, other)
    any_writing = {**options, "generations": "any"}
    if "generation" in changes:
        assert log_source.end_of(any_writing, other) == end
        assert sum(each.part.stop - each.part.first for each in log_source.between(any_writing, begin, other)) == EVENTS
        return
    with pytest.raises(Invalid, match=said):
        log_source.end_of(any_writing, other)


def acts(*numbers):
    """Views of two users in turns."""
    return [{"type": "view", "user_id": ("ann", "ben")[each % 2], "item_id": f"i{each}"} for each in numbers]


async def erase(folder):
    """Erase a user, and have the log rewritten without them."""
    running = open_running(folder, config_of(folder))
    await running.start()
    assert running.eraser
    await running.engine.erase("ann")
    await running.eraser.begin(hurried=True)
    assert running.eraser.view.state == "done", running.eraser.view
    await running.stop()


def test_a_stream_stops_at_an_erasure_and_says_how_it_goes_on(tmp_path, monkeypatch):
    """In four parts; with the option that it names the stream reads on, where nobody is named who was erased."""
    monkeypatch.setattr(child_process, "run", run_in_process)
    options = {"path": str(tmp_path)}
    with open_shop(tmp_path) as shop:
        shop.record(acts(*range(10)))
        stood = {**log_source.end_of(options, log_source.begin_of(options)), "log_position": 6}
    asyncio.run(erase(tmp_path))
    for ask in (log_source.end_of, lambda told, at: log_source.between(told, at, at)):
        with pytest.raises(Invalid) as error:
            ask(options, stood)
        (fault,) = error.value.faults
        assert fault.where == str(tmp_path)
        log = stood["log"]
        assert fault.came == f"The stream stands in generation 0 of log {log}, and the folder holds 1."
        assert fault.right == (
            'After an erasure or a retraction option("generations", "any"): positions stayed. '
            "After a restore or a repair events behind the position may be others: a new checkpoint."
        )
        assert fault.page == "/docs/spark.md"
    going_on = {**options, "generations": "any"}
    end = log_source.end_of(going_on, stood)
    pieces = log_source.between(going_on, stood, end)
    rows = [row for piece in pieces for batch in log_source.read(going_on, piece) for row in batch.to_pylist()]
    found = [(row["log_position"], row["user_id"]) for row in rows if row["type"] == "view"]
    assert found == [(6, None), (7, "ben"), (8, None), (9, "ben")]
