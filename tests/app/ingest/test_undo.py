"""Runs of imports are listed, and one that is taken back leaves the log and the state as if it had never been."""

import json

import msgspec
import pytest

from midstream.app import opening
from midstream.app.config.schema import Config, HistorySection, ItemsSection
from midstream.app.config_history import settings_of
from midstream.app.export.events import export_events
from midstream.app.ingest import undo
from midstream.app.ingest.import_file import import_file
from midstream.app.ingest.undo import list_runs, undo_run
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import open_running
from midstream.app.operate.erase import erase_users
from midstream.app.operate.rebuild import rebuild
from midstream.app.operate.seal import seal_folder
from midstream.cli.data.import_file import show_runs
from midstream.core.durations import Duration
from midstream.core.errors import DiskFull, FolderLocked, Invalid
from midstream.core.kinds import Kind, Operation
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.import_runs import account_of, begin_run
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build, event_at
from midstream.events.segments.segments import SegmentLog
from midstream.state.control.import_runs import ImportRun, import_run_of
from midstream.state.settings import StateLimits

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
CONFIG = msgspec.structs.replace(
    Config(items=ItemsSection(attributes={"price": "number"})),
    limits=StateLimits(users_max=300, items_max=300, click_items_max=300, event_ids_max=9_999),
)
VIEWS = ColumnOptions(constants={"type": "view"}, time_format="ms")
CARTS = ColumnOptions(constants={"type": "cart"}, time_format="ms")
PRICES = ColumnOptions(columns={"attributes.price": "price"}, constants={"type": "item"})


def clicks(folder, name, count=20, start_ms=START_MS, step_ms=DAY_MS):
    """Write a file of acts, as much time between two of them."""
    path = folder / name
    lines = [f"u{n % 3},i{n % 4},{start_ms + n * step_ms}" for n in range(count)]
    path.write_text("\n".join(["user_id,item_id,time", *lines]) + "\n")
    return path


def prices(folder, name, price):
    """Write a file of prices without a time."""
    path = folder / name
    path.write_text("item_id,price\n" + "".join(f"i{n},{price}\n" for n in range(4)))
    return path


def events_of(folder):
    """Return what a log holds but ticks, its accounts of imports and how late it was."""
    found = []
    for batch in LogView(folder).batches():
        for at in range(len(batch)):
            event = event_at(batch, at)
            if event.kind not in (Kind.TICK, Kind.CONTROL):
                found.append(repr(event))
    return found


def log_times(folder):
    """Return the log time of each event of a log."""
    return [time for batch in LogView(folder).batches() for time in batch.rows["log_time_ms"].tolist()]


def state_without_place(folder, config=CONFIG):
    """Return the arrays of the state, but where it stands."""
    arrays = state_of(folder, config, LogView(folder)).fold.arrays()
    return {name: array.tobytes() for name, array in arrays.items() if name != "fold.place"}


def shop_of(folder):
    """Return a folder of a shop in a folder."""
    shop = folder / "shop"
    shop.mkdir()
    return shop


def refused(folder, name):
    """Return the one fault of an undo that is refused, after which nothing is another."""
    before = events_of(folder)
    with pytest.raises(Invalid) as caught:
        undo_run(folder, CONFIG, name)
    assert events_of(folder) == before
    (fault,) = caught.value.faults
    assert fault.right
    assert fault.page == "/docs/data.md"
    return fault


def test_a_wrong_import_is_taken_back_and_done_again(tmp_path):
    """As if it had never been: the same file under the right type folds to what it gives in a new folder, log time
    included; a run of before stays, and both are listed.
    """
    shop, path = shop_of(tmp_path), clicks(tmp_path, "clicks.csv")
    first = import_file(shop, CONFIG, prices(tmp_path, "prices.csv", 5), PRICES)
    wrong = import_file(shop, CONFIG, path, VIEWS)
    done = undo_run(shop, CONFIG, wrong.run)
    assert (done.removed, done.log_position) == (20, 6)
    right = import_file(shop, CONFIG, path, CARTS)
    assert (right.recorded, right.known, right.log_time) == (20, 0, "event time")
    other = tmp_path / "other"
    other.mkdir()
    identity = DataFolder(shop / "data").log / "log.json"
    (other / "data" / "log").mkdir(parents=True)
    SegmentLog(other / "data" / "log", RealDisk(), bytes.fromhex(json.loads(identity.read_text())["log_id"])).close()
    for each, options in ((tmp_path / "prices.csv", PRICES), (path, CARTS)):
        import_file(other, CONFIG, each, options)
    assert events_of(shop) == events_of(other)
    ours, theirs = state_without_place(shop), state_without_place(other)
    assert {name for name, content in ours.items() if theirs[name] != content} == set()
    listed = list_runs(shop)
    assert [(each.run, each.state) for each in listed] == [
        (first.run, "recorded"),
        (wrong.run, "taken back"),
        (right.run, "recorded"),
    ]
    assert listed[2].file == "clicks.csv"
    assert listed[2].mapping == {"--set type": "cart", "--time-format": "ms"}
    assert listed[2].recorded == 20


def test_what_came_later_stays_and_earlier_values_come_back(tmp_path):
    """Behind the run there are others' events: each of its rows is a tick, all else has its position and log time, and
    the prices of before hold.
    """
    shop = shop_of(tmp_path)
    import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS)
    import_file(shop, CONFIG, prices(tmp_path, "a.csv", 5), PRICES)
    wrong = import_file(shop, CONFIG, prices(tmp_path, "b.csv", 50), PRICES)
    new = prices(tmp_path, "c.csv", 50)
    new.write_text("item_id,price\nnew,7\n")
    import_file(shop, CONFIG, new, PRICES)
    times = log_times(shop)
    done = undo_run(shop, CONFIG, wrong.run)
    after = LogView(shop)
    assert (done.removed, after.end) == (4, len(times))
    assert log_times(shop) == times
    fold = state_of(shop, CONFIG, after).fold
    assert fold.items.document(fold.vocabulary.item_index("i1")) == {"price": 5}
    assert fold.items.document(fold.vocabulary.item_index("new")) == {"price": 7}
    assert done.digest == fold.digest()
    assert rebuild(shop, CONFIG).digest == done.digest
    again = import_file(shop, CONFIG, tmp_path / "b.csv", PRICES)
    assert (again.recorded, again.known) == (4, 0)


@pytest.mark.parametrize("is_last", [True, False])
def test_a_run_in_history_is_taken_back(tmp_path, is_last):
    """Also where its rows were sealed into Parquet, with what followed them and without."""
    config = msgspec.structs.replace(CONFIG, history=HistorySection(hot=Duration("2d")))
    shop = shop_of(tmp_path)
    first = import_file(shop, config, clicks(tmp_path, "a.csv", 10), VIEWS)
    wrong = import_file(shop, config, clicks(tmp_path, "b.csv", 10, START_MS + 10 * DAY_MS), VIEWS)
    if not is_last:
        import_file(shop, config, clicks(tmp_path, "c.csv", 3, START_MS + 20 * DAY_MS), VIEWS)
    seal_folder(shop, config)
    kept = [each for each in events_of(shop) if not any(f"{START_MS + n * DAY_MS}" in each for n in range(10, 20))]
    done = undo_run(shop, config, wrong.run)
    assert done.removed == 10
    assert events_of(shop) == kept
    assert done.log_position == (12 if is_last else 26)
    assert undo_run(shop, config, first.run).removed == 10
    assert len(events_of(shop)) == (0 if is_last else 3)


def test_runs_that_cannot_be_taken_back_say_why(tmp_path):
    """Unknown, or taken back before; without any log too."""
    shop = shop_of(tmp_path)
    assert list_runs(shop) == []
    assert "is no run" in refused(shop, "nothing").came
    run = import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS).run
    assert "is no run" in refused(shop, f"{run}0").came
    undo_run(shop, CONFIG, run)
    assert "taken back already" in refused(shop, run).came
    assert import_file(shop, CONFIG, tmp_path / "clicks.csv", VIEWS).recorded == 20


def test_a_run_that_was_cut_says_so(tmp_path, monkeypatch):
    """Retention cut some of its rows: of them sums are left, and nothing is changed."""
    shop = shop_of(tmp_path)
    run = import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS).run
    monkeypatch.setattr(LogView, "begin", 3)
    with pytest.raises(Invalid, match=r"\[history\] keep cut"):
        undo_run(shop, CONFIG, run)
    monkeypatch.undo()
    assert len(events_of(shop)) == 20


def test_a_folder_that_is_open_is_left_alone(tmp_path, monkeypatch):
    """A server is to be stopped, and its address said; of another process its number is."""
    shop = shop_of(tmp_path)
    run = import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS).run
    log = SegmentLog(shop / "data" / "log", RealDisk(), bytes(16), 1 << 20, RealDisk().lock(
        shop / "data" / "log.lock", shop / "data"))  # fmt: skip
    try:
        with pytest.raises(FolderLocked):
            undo_run(shop, CONFIG, run)
        monkeypatch.setattr(undo, "server_of", lambda _: "http://localhost:8080")
        with pytest.raises(Invalid, match="Stop it, take the run back"):
            undo_run(shop, CONFIG, run)
    finally:
        log.close()


@pytest.mark.parametrize("step", ["_write_state", "remember", "commit", "_clean"])
def test_an_undo_that_is_broken_off_leaves_the_old_log_or_the_new(tmp_path, monkeypatch, step):
    """An error at each step: the folder opens, and the run is there whole or gone whole."""
    shop = shop_of(tmp_path)
    import_file(shop, CONFIG, prices(tmp_path, "prices.csv", 5), PRICES)
    run = import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS).run
    before = events_of(shop)

    def fail(*_, **__):
        raise OSError(5, f"broken off at {step}")

    with monkeypatch.context() as patch:
        patch.setattr(undo, step, fail)
        with pytest.raises(OSError, match="broken off"):
            undo_run(shop, CONFIG, run)
    is_done = step == "_clean"
    assert events_of(shop) == (before[:4] if is_done else before)
    assert not list((shop / "data").glob("log*.new"))
    opened = open_running(shop, CONFIG)
    opened.engine.log.close()
    if not is_done:
        assert undo_run(shop, CONFIG, run).removed == 20
    assert events_of(shop) == before[:4]
    assert rebuild(shop, CONFIG).digest == state_of(shop, CONFIG, LogView(shop)).fold.digest()


def killed(shop, path, at):
    """Import a file and end as a killed process does, behind so many parts."""
    parts = 0

    def interrupt(stage, _done, _total):
        nonlocal parts
        parts += stage == "recording"
        if parts == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(shop, CONFIG, path, VIEWS, interrupt)


def test_an_import_under_way_is_listed_as_that(tmp_path, monkeypatch):
    """While it has the folder it is not broken off, and a journal of another log is no run of this one."""
    monkeypatch.setattr("midstream.app.ingest.import_file.RECORD_ROWS", 2)
    shop, states = shop_of(tmp_path), []

    def look(stage, _done, _total):
        if stage == "recording":
            states.append([each.state for each in list_runs(shop)])

    import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS, look)
    assert states
    assert all(each == ["under way"] for each in states)
    data = DataFolder(shop / "data")
    begin_run(data, ImportRun("20260131-120000-3fa9", "another log", "a.csv", START_MS, ((0, 0),), {}, {}))
    assert [each.state for each in list_runs(shop)] == ["recorded"]


@pytest.mark.parametrize("is_next", ["undo", "import"])
def test_an_import_that_was_killed_is_a_run_all_the_same(tmp_path, monkeypatch, is_next):
    """It is listed as broken off, and whoever opens the folder next closes its account before anything else comes."""
    monkeypatch.setattr("midstream.app.ingest.import_file.RECORD_ROWS", 2)
    shop, path = shop_of(tmp_path), clicks(tmp_path, "clicks.csv")
    killed(shop, path, 1)
    (left,) = list_runs(shop)
    count = len(events_of(shop))
    assert (left.state, left.recorded) == ("broken off", count)
    assert 0 < count < 20
    if is_next == "import":
        rest = import_file(shop, CONFIG, path, VIEWS)
        assert (rest.recorded, rest.log_time) == (20 - count, "event time")
        assert [each.state for each in list_runs(shop)] == ["recorded", "recorded"]
        assert undo_run(shop, CONFIG, rest.run).removed == 20 - count
    assert undo_run(shop, CONFIG, left.run).removed == count
    assert events_of(shop) == []


def test_a_full_disk_keeps_no_folder_closed(tmp_path, monkeypatch):
    """Where there is no room for the account of a run that was broken off, the folder opens without it."""
    monkeypatch.setattr("midstream.app.ingest.import_file.RECORD_ROWS", 2)
    shop = shop_of(tmp_path)
    killed(shop, clicks(tmp_path, "clicks.csv"), 1)

    def full(*_):
        raise DiskFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentLog, "append", full)
        opened = opening.open_running(shop, CONFIG)
        opened.engine.log.close()
    assert list_runs(shop) == []


def test_an_account_of_another_log_says_nothing(tmp_path):
    """Positions of a log that an export came from are none of this one's."""
    shop = shop_of(tmp_path)
    import_file(shop, CONFIG, clicks(tmp_path, "clicks.csv"), VIEWS)
    run = list_runs(shop)[0].run
    (found,) = [
        event_at(batch, at).body
        for batch in LogView(shop).batches()
        for at in range(len(batch))
        if event_at(batch, at).kind == Kind.CONTROL
    ]
    other = tmp_path / "other"
    other.mkdir()
    log = SegmentLog(other / "data" / "log", RealDisk(), bytes(16))
    log.append(build([Event(Kind.CONTROL, body=found, log_time_ms=START_MS)]))
    log.close()
    assert list_runs(other) == []
    assert "is no run" in refused(other, run).came
    assert state_of(shop, CONFIG, LogView(shop)).fold.counts()["control_refused"] == 0


def test_a_run_behind_a_cut_is_taken_back_and_one_before_it_is_not(tmp_path):
    """What stands for events that retention cut stays as it is; a run of which some were cut says so."""
    config = msgspec.structs.replace(CONFIG, history=HistorySection(hot=Duration("2d"), keep="20d"))
    now_ms = opening.wall_ms()
    shop = shop_of(tmp_path)
    old = import_file(shop, config, clicks(tmp_path, "a.csv", 24, now_ms - 40 * DAY_MS), VIEWS)
    new = import_file(shop, config, clicks(tmp_path, "b.csv", 60, now_ms - 2 * DAY_MS, DAY_MS // 48), VIEWS)
    seal_folder(shop, config)
    begin = LogView(shop).begin
    assert 0 < begin < 24
    assert "[history] keep cut" in refused(shop, old.run).came
    kept = events_of(shop)[: 24 - begin]
    done = undo_run(shop, config, new.run)
    assert (done.removed, LogView(shop).begin) == (60, begin)
    assert events_of(shop) == kept
    fold = state_of(shop, config, LogView(shop)).fold
    assert fold.digest() == done.digest == rebuild(shop, config).digest
    counts = fold.items.window_count("view", 30 * DAY_MS, now_ms, fold.vocabulary.item_indices(["i0", "i1"]))
    assert counts.sum() > 0


def fails(*_):
    """Find no room."""
    raise OSError(28, "no room")


def test_a_compaction_that_looked_at_the_run_is_given_up(tmp_path, monkeypatch):
    """An item that the run deleted, and whose slot was given back since, is there again as it was. An undo that fails
    at its commit leaves the compaction in service.
    """
    shop = shop_of(tmp_path)
    import_file(shop, CONFIG, prices(tmp_path, "a.csv", 5), PRICES)
    gone = tmp_path / "gone.csv"
    gone.write_text("item_id,operation\ni1,delete\n")
    wrong = import_file(shop, CONFIG, gone, ColumnOptions(constants={"type": "item"}))
    assert rebuild(shop, CONFIG, compact=True).dropped_items == 1
    import_file(shop, CONFIG, clicks(tmp_path, "c.csv", 2), VIEWS)
    settings = settings_of(DataFolder(shop / "data"), CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(undo, "commit", fails)
        with pytest.raises(OSError, match="no room"):
            undo_run(shop, CONFIG, wrong.run)
    assert settings.compaction
    assert settings_of(DataFolder(shop / "data"), CONFIG) == settings
    undo_run(shop, CONFIG, wrong.run)
    fold = state_of(shop, CONFIG, LogView(shop)).fold
    assert fold.items.document(fold.vocabulary.item_index("i1")) == {"price": 5}
    assert fold.settings.compaction == ""


def test_erasures_that_wait_and_rows_of_their_users_go_together(tmp_path):
    """An erase that is not carried out yet is still there behind an undo, and hides what it hid."""
    shop = shop_of(tmp_path)
    wrong = import_file(shop, CONFIG, clicks(tmp_path, "a.csv", 9), VIEWS)
    erase_users(shop, CONFIG, ["u1"])
    assert undo_run(shop, CONFIG, wrong.run).removed == 9
    (left,) = events_of(shop)
    assert "user_id='u1'" in left
    erase_users(shop, CONFIG, [], now=True)
    assert not any("u1" in each for each in events_of(shop))
    assert list_runs(shop)[0].state == "taken back"


def exported(folder, name, events):
    """Write a file as an export of another folder has it: its events and their log times."""
    path = folder / name
    other = folder / f"{name}.shop"
    log = SegmentLog(other / "data" / "log", RealDisk(), bytes(16))
    log.append(build([each._replace(log_time_ms=START_MS + at) for at, each in enumerate(events)]))
    log.close()
    export_events(other, CONFIG, path)
    return path


def test_what_a_file_brought_of_placements_and_accounts_goes_too(tmp_path):
    """An export of another folder holds a placement that was set and accounts of its own imports: nothing of it stays,
    so the log ends before the run.
    """
    shop = shop_of(tmp_path)
    account = ImportRun("20260131-120000-3fa9", "another log", "a.csv", START_MS, ((0, 1),), {"recorded": 1}, {})
    events = [
        Event(Kind.INTERACTION, action="view", user_id="u1", item_id="i1", event_time_ms=START_MS, event_id="1"),
        Event(Kind.CONTROL, body=b'{"change":"placement","name":"home"}'),
        account_of(account),
    ]
    run = import_file(shop, CONFIG, exported(tmp_path, "all.ndjson", events)).run
    assert sum(len(batch) for batch in LogView(shop).batches()) == 4
    done = undo_run(shop, CONFIG, run)
    assert (done.removed, done.erasures, done.log_position) == (3, 0, 1)
    (left,) = (event_at(batch, 0).body for batch in LogView(shop).batches())
    standing = import_run_of(left)
    assert standing is not None
    assert standing.run == run


def test_an_erasure_that_a_file_brought_stands(tmp_path, monkeypatch, capsys):
    """Who was erased is not known again when the run is taken back: its acts of before stay hidden, and go with the
    next rewrite; the command says how many stand.
    """
    shop = shop_of(tmp_path)
    import_file(shop, CONFIG, clicks(tmp_path, "a.csv", 9, START_MS - DAY_MS, 1), VIEWS)
    view = Event(Kind.INTERACTION, action="view", user_id="u1", item_id="i1", event_time_ms=START_MS, event_id="1")
    run = import_file(shop, CONFIG, exported(tmp_path, "b.ndjson", [view, Event(Kind.ERASE, user_id="u1")])).run
    done = undo_run(shop, CONFIG, run)
    assert (done.removed, done.erasures) == (1, 1)
    monkeypatch.setattr(undo, "undo_run", lambda *_: done)
    monkeypatch.setattr(opening, "config_of", lambda _: CONFIG)
    show_runs(shop, run, as_json=False)
    assert "1 rows that the file brought stand, as they erase users" in " ".join(capsys.readouterr().err.split())
    assert len(events_of(shop)) == 10
    fold = state_of(shop, CONFIG, LogView(shop)).fold
    assert fold.vocabulary.user_index("u1") < 0 <= fold.vocabulary.user_index("u2")
    erase_users(shop, CONFIG, [], now=True)
    assert not any("user_id='u1'" in each for each in events_of(shop))


def test_a_merge_that_carries_an_erasure_stands(tmp_path):
    """An id that the run merged into one that was erased since is erased with it, and stays so; another merge goes."""
    shop = shop_of(tmp_path)
    import_file(shop, CONFIG, clicks(tmp_path, "a.csv", 9, START_MS - DAY_MS, 1), VIEWS)
    merges = [
        Event(Kind.USER, operation=Operation.MERGE, user_id=into, body=json.dumps({"from": other}).encode())
        for into, other in (("u1", "u2"), ("new", "u0"))
    ]
    run = import_file(shop, CONFIG, exported(tmp_path, "b.ndjson", merges)).run
    erase_users(shop, CONFIG, ["u1"])
    done = undo_run(shop, CONFIG, run)
    assert (done.removed, done.erasures) == (1, 1)
    fold = state_of(shop, CONFIG, LogView(shop)).fold
    assert [fold.vocabulary.user_index(each) >= 0 for each in ("u0", "u1", "u2")] == [True, False, False]
