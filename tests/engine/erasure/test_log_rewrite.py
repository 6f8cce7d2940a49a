"""The log written anew without erased users: nothing of them is left in any file, and nothing else is changed."""

import asyncio
import shutil
from hashlib import blake2b

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.config.schema import Config, HistorySection
from midstream.app.opening import DATA_NAME, Outside, config_of, open_running, open_shop
from midstream.app.operate.erase import erase_users
from midstream.core.durations import Duration
from midstream.core.errors import AppendFailed, ErasuresFull, Fault, FolderLocked, RewriteFailed
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine import child_process
from midstream.engine.child_process import Ended
from midstream.engine.engine import EngineOptions
from midstream.engine.erasure import eraser, worker
from midstream.engine.erasure.log_rewrite import receipts
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.ingest.writer import QueueEntry
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.base_state import beginning
from midstream.engine.types import Ask
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter
from midstream.events.disk import RealDisk
from midstream.events.json.decode import decode_objects
from midstream.events.segments.frames import OPENING_BYTES, batch_at, head_at, opening_at, seed_of
from midstream.events.segments.log_repair import survey_log
from midstream.events.segments.segment_reader import SegmentReader
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.settings import StateLimits
from tests.support.fakes.rebuilds import run_in_process, write_config
from tests.support.patience import PATIENCE_S

NOW_MS = 1_760_000_000_000
DAY_MS = 86_400_000
OUTSIDE = Outside(clock=lambda: TimestampMs(NOW_MS))
ERASED = ("anna-maria@example", "anonymous-4711")
CONFIG = msgspec.structs.replace(
    Config(), limits=StateLimits(users_max=300, items_max=300, click_items_max=300, event_ids_max=9_999)
)


@pytest.fixture
def in_process(monkeypatch):
    """No process for a child: how it is started and how it ends is proven where this is not."""
    monkeypatch.setattr(child_process, "run", run_in_process)


def counts_of(engine, item):
    """Return what an item was counted for."""
    return engine.item(item)["counts"]


def views_of(engine, user):
    """Return how often a user viewed something."""
    return engine.user(user)["counts"]["view"]


def batch_of(running, *events):
    """Return events as a client sends them as a batch."""
    decoded = decode_objects(events, msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock()))
    assert not decoded.rejected, decoded.rejected[0].fault
    return decoded.batch


def acts(user, count, prefix):
    """Return views of one user, with the user's id in every place where one can be."""
    return [
        {
            "type": "view",
            "user_id": user,
            "item_id": f"item-{number % 7}",
            "session_id": f"session-of-{user}",
            "event_id": f"{prefix}-{user}-{number}",
            "context": {"mail": user},
        }
        for number in range(count)
    ]


async def refusing(running):
    """Wait until the engine takes no more events, as the log thread tells it to."""
    async with asyncio.timeout(PATIENCE_S):
        while running.engine.health().accepts_events:  # noqa: ASYNC110  the log thread tells
            await asyncio.sleep(0.001)


async def fill(running):
    """Record two erased ids that are one user, others beside them, and slates for all."""
    record = running.engine.record
    await record(batch_of(running, *acts(ERASED[1], 5, "a"), *acts("bob", 6, "b")))
    await record(batch_of(running, {"type": "user", "user_id": ERASED[0], "attributes": {"mail": ERASED[0]}}))
    merge = {"type": "user", "user_id": ERASED[0], "operation": "merge", "attributes": {"from": ERASED[1]}}
    await record(batch_of(running, merge))
    await record(batch_of(running, *acts(ERASED[0], 5, "c"), *acts("eve", 3, "d")))
    for user in (ERASED[0], "bob"):
        await running.engine.recommend(Ask(user_id=user, session_id=f"session-of-{user}", context={"mail": user}))
    running.engine.flush_served()
    await record(batch_of(running, *acts("bob", 2, "e")))


def commits_of(data):
    """Return the texts of each commit of a segment, unpacked."""
    found, at, opening = [], OPENING_BYTES, opening_at(data)
    while opening is not None and (frame := head_at(data, at, seed_of(opening.log_id))) is not None:
        batch = batch_at(data, at, frame)
        assert batch is not None
        found.append(batch.text)
        at += frame.length
    assert at >= len(data)
    return found


def traces(root):
    """Return the files below a folder in which an erased id stands, as bytes, in packed commits or inside Parquet."""
    found = []
    for path in sorted(each for each in root.rglob("*") if each.is_file()):
        texts = [path.read_bytes()]
        if path.suffix == ".segment":
            texts.extend(commits_of(texts[0]))
        if path.suffix == ".parquet":
            for column in pq.read_table(path).columns:
                if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
                    texts.extend(bytes(str(each), "utf-8") for each in column.to_pylist())
        if any(each.encode() in text for each in ERASED for text in texts):
            found.append(path.relative_to(root).as_posix())
    return found


def state_of(data, settings):
    """Return the state that the log in a folder gives, from its beginning in batches of another size."""
    reader = SegmentReader(data.log, RealDisk())
    end = LogPosition(survey_log(data.log, RealDisk()).end)
    fold = beginning(settings, NOTHING, reader)
    while fold.log_position < end:
        for first, batch in reader.read(fold.log_position, 7, end):
            fold.apply(first, batch)
    return fold


@pytest.fixture
def shop(tmp_path):
    """A folder with letters that name an erased user."""
    data = DataFolder(tmp_path / DATA_NAME)
    data.root.mkdir()
    for path in (data.dead_letters, data.import_rejected):
        letters = DeadLetters(path, RealDisk())
        fault = Fault("/type", "x", "y", "/docs/events.md")
        letters.add(
            [dead_letter(TimestampMs(1), fault, f'{{"user_id": "{each}"}}'.encode()) for each in (*ERASED, "bob")]
        )
        letters.close()
    return tmp_path


def test_nothing_is_left_in_any_file(shop):
    """After the rewrite a scan finds no erased id; before it, it does: in log, letters and served records."""

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        await fill(running)
        token = running.engine.token(running.engine.fold.log_position)
        due = await running.engine.erase(ERASED[0])
        assert due.ids_count == 2
        assert any(name.endswith(".segment") for name in traces(shop))
        counts = counts_of(running.engine, "item-1")
        running.eraser.outside = ("kafka shop-slates",)
        await asyncio.gather(
            running.eraser.begin(hurried=True),
            *(running.engine.record(batch_of(running, *acts("late", 3, f"r{number}"))) for number in range(20)),
        )
        assert running.eraser.view.state == "done", running.eraser.view
        assert running.engine.log.generation == 1
        assert running.engine.erasures() == []
        assert running.engine.user(ERASED[0]) is None
        after = counts_of(running.engine, "item-1")
        assert after["view"]["24h"] >= counts["view"]["24h"]
        assert views_of(running.engine, "bob") == 8
        assert views_of(running.engine, "late") == 60
        assert not (await running.engine.recommend(Ask(min_log_position=token))).read_your_writes
        await running.engine.record(batch_of(running, *acts("late", 1, "last")))  # what was served is before it
        digest, position = running.engine.fold.digest(), running.engine.fold.log_position
        settings = running.engine.fold.settings
        await running.stop()
        return digest, position, settings

    digest, position, settings = asyncio.run(main())
    data = DataFolder(shop / DATA_NAME)
    assert traces(shop) == []
    fold = state_of(data, settings)
    assert (fold.log_position, fold.digest()) == (position, digest)
    (receipt,) = receipts(data)
    assert (receipt.generation_before, receipt.generation, receipt.dead_letters, receipt.import_rejected) == (
        0,
        1,
        2,
        2,
    )
    assert receipt.events["interaction"] == 10
    assert receipt.outside == ("kafka shop-slates",)
    salted = [blake2b(each.encode(), digest_size=16, salt=bytes.fromhex(receipt.salt)).hexdigest() for each in ERASED]
    assert set(salted) == set(receipt.ids)
    assert [path.name for path in data.root.glob("log*")] == ["log-1"]


@pytest.mark.parametrize("hours", [1, 25])
def test_what_came_after_a_rewrite_of_who_was_erased_goes_with_the_next(shop, monkeypatch, hours):
    """Late copies that were logged all the same; also when the erase is too old then to refuse anything."""

    async def on_a_thread(_module, order, *_):
        return Ended(msgspec.json.encode(await asyncio.to_thread(worker.run, order)), "")

    monkeypatch.setattr(child_process, "run", on_a_thread)
    clock = [NOW_MS]
    outside = Outside(clock=lambda: TimestampMs(clock[0]))

    async def main():
        running = open_running(shop, CONFIG, EngineOptions(logs_served=False), outside)
        await running.start()
        assert running.eraser
        await fill(running)
        due = await running.engine.erase(ERASED[0])
        await running.eraser.begin(hurried=True)
        assert traces(shop) == []
        counts = counts_of(running.engine, "item-1")
        time_ms = due.log_time_ms
        merge = {"type": "user", "user_id": "bob", "operation": "merge", "attributes": {"from": ERASED[1]}}
        late = [{**each, "time": time_ms} for each in (*acts(ERASED[0], 5, "l"), *acts(ERASED[1], 5, "l"), merge)]
        running.engine._writer.submit(QueueEntry(batch_of(running, *late), None))  # past what refuses them at the door
        assert await running.engine.reached(LogPosition(running.engine.fold.log_position + len(late)), PATIENCE_S)
        assert traces(shop)
        clock[0] += hours * 3_600_000
        await running.engine.record(batch_of(running, *acts("eve", 1, "f")))
        data, settings = DataFolder(shop / DATA_NAME), running.engine.fold.settings
        assert state_of(data, settings).digest() == running.engine.fold.digest()
        rewrite = running.eraser.begin(hurried=True)
        if hours == 1:  # of what the child did not see yet: such are brought over beside it
            await asyncio.sleep(0)
            more = batch_of(running, *({**each, "event_id": "new"} for each in late))
            running.engine._writer.submit(QueueEntry(more, None))
        await rewrite
        assert running.eraser.view.state == "done", running.eraser.view
        assert counts_of(running.engine, "item-1")["view"]["30d"] == counts["view"]["30d"]
        digest = running.engine.fold.digest()
        await running.stop()
        return digest, settings

    digest, settings = asyncio.run(main())
    data = DataFolder(shop / DATA_NAME)
    assert traces(shop) == []
    assert state_of(data, settings).digest() == digest
    assert receipts(data)[-1].events["interaction"] == 10


def days_ago(running, days, events):
    """Record events of a past day, which is their log time too."""
    time_ms = NOW_MS - int(days * DAY_MS)
    return running.engine.record(batch_of(running, *({**each, "time": time_ms} for each in events)))


@pytest.mark.parametrize("keep", ["", "20d"])
@pytest.mark.usefixtures("in_process")
def test_history_and_what_stands_for_what_was_cut(shop, keep):
    """Sealed and cut history is rewritten too: no id in any column, the same sums, the state that the new log gives."""
    history = HistorySection(hot=Duration("2d"), keep=keep)
    config = msgspec.structs.replace(CONFIG, history=history)

    async def main():
        running = open_running(shop, config, EngineOptions(keeps_event_time=True, logs_served=False), OUTSIDE)
        await running.start()
        assert running.eraser
        assert running.sealer
        for days in (40, 30, 10, 5):
            for user in (*ERASED, "bob"):
                await days_ago(running, days, acts(user, 4, f"{days}"))
        await days_ago(running, 4, [{"type": "user", "user_id": ERASED[0], "attributes": {"mail": ERASED[0]}}])
        await days_ago(
            running,
            4,
            [{"type": "user", "user_id": ERASED[0], "operation": "merge", "attributes": {"from": ERASED[1]}}],
        )
        for hours in range(30, 0, -1):  # a log that went on for a day is cut before its last pause
            await days_ago(running, hours / 24, acts("eve", 1, f"hour {hours}"))
        await days_ago(running, 0, acts("eve", 2, "now"))
        assert await running.sealer.seal(hurried=True)
        before = counts_of(running.engine, "item-1")
        await running.engine.erase(ERASED[0])
        await running.eraser.begin(hurried=True)
        assert running.eraser.view.state == "done", running.eraser.view
        assert counts_of(running.engine, "item-1") == before
        assert views_of(running.engine, "bob") == 16
        found = running.engine.fold.digest(), running.engine.fold.settings
        await days_ago(running, 0, acts("eve", 2, "after"))
        await running.stop()
        return found

    digest, settings = asyncio.run(main())
    data = DataFolder(shop / DATA_NAME)
    assert (data.log / "history" / "history.json").exists()
    assert (SegmentReader(data.log, RealDisk()).begin > 0) == bool(keep)
    assert traces(shop) == []
    again = open_running(shop, config, outside=OUTSIDE)
    assert again.started.refused_snapshots == ()
    assert views_of(again.engine, "bob") == 16
    again.engine.log.close()
    assert state_of(data, settings).digest() == again.engine.fold.digest()
    assert digest != again.engine.fold.digest()


@pytest.mark.usefixtures("in_process")
def test_many_are_erased_at_once(shop, monkeypatch):
    """A rewrite that has more to report than 64 KiB carries all of it out, and folds a commit step by step."""
    monkeypatch.setattr(worker, "STEP_EVENTS", 3)

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.snapshotter
        await fill(running)
        for number in range(100):
            user = f"{ERASED[0]}-{number}-{'x' * 80}"
            await running.engine.record(batch_of(running, *acts(user, 10, "many")))
            await running.engine.erase(user)
        await running.engine.erase(ERASED[0])
        await running.eraser.begin(hurried=True)
        assert running.eraser.view.state == "done", running.eraser.view
        await running.stop()

    asyncio.run(main())
    assert traces(shop) == []


@pytest.mark.usefixtures("in_process")
def test_plans_that_change_meanwhile_stay(shop, monkeypatch):
    """Placements put in service while the rest is folded into the new state are in service after the rewrite."""
    write_config(shop)

    async def main():
        running = open_running(shop, config_of(shop))
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.snapshotter
        await fill(running)
        await running.engine.erase(ERASED[0])
        bring_up = running.engine._folding.bring_up

        async def with_another_file(*given):
            write_config(shop, "[[placements]]\nslate_size = 3\n")
            assert (await running.rebuilder.order()).change == "plans"
            await bring_up(*given)

        monkeypatch.setattr(running.engine._folding, "bring_up", with_another_file)
        await running.eraser.begin(hurried=True)
        assert running.eraser.view.state == "done", running.eraser.view
        assert running.engine.plans.keys() == running.service.plans.keys()
        assert all(running.engine.plans[name] is plan for name, plan in running.service.plans.items())
        assert len((await running.engine.recommend(Ask(user_id="bob"))).items) == 3
        await running.stop()

    asyncio.run(main())


STEPS = ("make", "go_on", "write_receipt", "commit", "settle", "remove_outdated_logs")


@pytest.mark.parametrize("step", STEPS)
def test_broken_off_anywhere_the_log_is_the_old_one_or_the_new(shop, monkeypatch, step):
    """An error at each step: what was recorded is there, and a second rewrite leaves nothing of the user."""
    if step != "make":  # of which the child is a part
        monkeypatch.setattr(child_process, "run", run_in_process)

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        await fill(running)
        await running.engine.erase(ERASED[0])
        with monkeypatch.context() as patch:
            broken = OSError(5, f"broken off at {step}")

            def fail(*_, **__):
                raise broken

            if step == "make":
                patch.setattr(eraser, "CHILD", "midstream.engine.no_such_child")
            elif step == "remove_outdated_logs":
                patch.setattr(DataFolder, step, fail)
            else:
                patch.setattr(eraser, step, fail)
            task = running.eraser.begin(hurried=True)
            with pytest.raises((OSError, RewriteFailed)):
                await task
        assert "not rewritten" in running.engine.concerns["erasure"]
        position = running.engine.fold.log_position
        await running.stop()
        return position

    position = asyncio.run(main())

    async def again():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.engine.fold.log_position >= position
        assert views_of(running.engine, "bob") == 8
        assert not list(DataFolder(shop / DATA_NAME).root.glob("log*.new"))
        await running.eraser.begin(hurried=True)
        await running.stop()

    asyncio.run(again())
    assert traces(shop) == []


@pytest.mark.usefixtures("in_process")
def test_the_old_log_is_not_removed_while_another_process_seals_it(shop, monkeypatch):
    """From the end of the child on the history is the rewrite's: who has it then ends the rewrite, and nothing is lost;
    the next one is whole.
    """
    monkeypatch.setattr(eraser, "SEAL_WAIT_S", 0.0)
    data = DataFolder(shop / DATA_NAME)
    held: list[int] = []

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        await fill(running)
        await running.engine.erase(ERASED[0])

        async def meanwhile(_):
            held.append(lock_history(data, RealDisk()))
            return 0

        running.eraser.forgets["another process"] = meanwhile
        with pytest.raises(FolderLocked):
            await running.eraser.begin(hurried=True)
        assert "not rewritten" in running.engine.concerns["erasure"]
        assert running.engine.log.generation == 0
        RealDisk().close(held.pop())
        del running.eraser.forgets["another process"]
        await running.eraser.begin(hurried=True)
        assert running.engine.log.generation == 1
        RealDisk().close(lock_history(data, RealDisk()))
        await running.stop()

    asyncio.run(main())
    assert traces(shop) == []


@pytest.mark.parametrize("fails", ["once", "twice", "for good"])
@pytest.mark.usefixtures("in_process")
def test_a_commit_that_may_not_last(shop, monkeypatch, fails):
    """The disk takes the new log's name and cannot make it durable: taken back durably, the old log goes on. Where that
    fails too nothing more is acknowledged and health says so, and whichever log is found has all that was acknowledged.
    """
    data = DataFolder(shop / DATA_NAME)
    left: list[int] = []

    class Failing(RealDisk):
        """Does not sync the data folder once the new log has its name, nor takes that name back."""

        def rename(self, old, new):
            """Have what follows fail."""
            if old.parent != data.root:
                super().rename(old, new)
            elif not left:
                super().rename(old, new)
                left.extend(range({"once": 2, "twice": 3, "for good": 1_000}[fails]))
            elif fails == "for good":
                raise OSError(5, "the name stays")
            else:
                super().rename(old, new)

        def sync_folder(self, folder):
            """Fail, if it is time."""
            if folder == data.root and len(left) > 1:
                left.pop()
                raise OSError(5, "the folder was not synced")
            super().sync_folder(folder)

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.snapshotter
        await fill(running)
        await running.engine.erase(ERASED[0])
        with monkeypatch.context() as patch:
            patch.setattr(eraser, "RealDisk", Failing)
            with pytest.raises(OSError if fails == "once" else AppendFailed, match="synced"):
                await running.eraser.begin(hurried=True)
        if fails != "once":
            await refusing(running)
        health = running.engine.health()
        assert health.accepts_events == (fails == "once")
        if fails == "once":
            recorded = await running.engine.record(batch_of(running, *acts("late", 3, "x")))
            assert recorded.log_position == running.engine.fold.log_position
        else:
            assert "The next start finds one of the two" in health.reason
            with pytest.raises(AppendFailed):
                await running.engine.record(batch_of(running, *acts("late", 3, "x")))
        position = running.engine.fold.log_position
        await running.stop()
        return position

    position = asyncio.run(main())
    assert data.log.name == ("log-1" if fails == "for good" else "log")
    again = open_running(shop, CONFIG)
    assert again.engine.fold.log_position == position
    assert views_of(again.engine, "bob") == 8
    assert (again.engine.user("late") is not None) == (fails == "once")
    again.engine.log.close()


@pytest.mark.parametrize("kind", [MemoryError, ZeroDivisionError])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("in_process")
def test_what_nobody_expects_while_the_last_events_follow(shop, monkeypatch, kind):
    """No memory leaves the old log in use; a bug ends the log thread, which health says; a stop comes to its end."""

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.snapshotter
        await fill(running)
        await running.engine.erase(ERASED[0])

        def fail(*_):
            raise kind

        said = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        monkeypatch.setattr(running.eraser, "_bring", lambda *_: None)
        monkeypatch.setattr(eraser, "go_on", fail)
        with pytest.raises((RewriteFailed, ZeroDivisionError)):
            await running.eraser.begin(hurried=True)
        if kind is ZeroDivisionError:
            await refusing(running)
        else:
            await running.engine.record(batch_of(running, *acts("late", 3, "x")))
        assert running.engine.health().accepts_events == (kind is MemoryError)
        await running.stop()
        assert len(said) == (kind is ZeroDivisionError)

    asyncio.run(main())


@pytest.mark.usefixtures("in_process")
def test_an_erase_that_was_cut_while_it_waited(shop):
    """Its event is gone with what retention cut: after a rewrite, and a start, nothing waits and none is due again."""
    clock = [NOW_MS - 10 * DAY_MS]
    outside = Outside(clock=lambda: TimestampMs(clock[0]))
    config = msgspec.structs.replace(CONFIG, history=HistorySection(hot=Duration("1d"), keep="2d"))

    async def main():
        running = open_running(shop, config, EngineOptions(logs_served=False), outside)
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.snapshotter
        await fill(running)
        await running.engine.erase(ERASED[0])
        for hour in range(240):  # a log that rests for longer is kept for longer
            clock[0] = NOW_MS - (239 - hour) * DAY_MS // 24
            await running.engine.record(batch_of(running, *acts("bob", 1, f"hour{hour}")))
        assert running.eraser.is_due()
        report = await running.sealer.seal(hurried=True)
        assert report is not None
        assert report.begin > running.engine.erasures()[0].log_position
        for _ in range(2):
            await running.eraser.begin(hurried=True)
            assert running.eraser.view.state == "done", running.eraser.view
            assert running.engine.erasures() == []
            assert not running.eraser.is_due()
        found = running.engine.fold.digest(), running.engine.fold.settings
        await running.stop()
        return found

    digest, settings = asyncio.run(main())
    assert traces(shop) == []
    again = open_running(shop, config, outside=outside)
    assert again.engine.erasures() == []
    again.engine.log.close()
    assert state_of(DataFolder(shop / DATA_NAME), settings).digest() == digest
    other = msgspec.structs.replace(settings, session_gap=Duration("7m"))
    assert state_of(DataFolder(shop / DATA_NAME), other).vocabulary.erasures.pending == []


@pytest.mark.parametrize("ended", ["well", "before it was clean"])
@pytest.mark.usefixtures("in_process")
def test_snapshots_of_before_go(shop, monkeypatch, ended):
    """Also one that was set aside, and also when the process dies right after the commit: then at the next start."""
    data = DataFolder(shop / DATA_NAME)

    async def main():
        running = open_running(shop, CONFIG)
        await running.start()
        assert running.eraser
        assert running.sealer
        assert running.snapshotter
        await fill(running)
        written = await running.snapshotter.write(compare=True)
        assert written is not None
        snapshots.set_aside(data.snapshots, written.log_position, running.service.settings.version())
        await running.engine.record(batch_of(running, *acts("eve", 1, "x")))
        assert await running.snapshotter.write(compare=True)
        (data.snapshots / ".writing-x").mkdir()
        (data.snapshots / ".writing-x" / "part.npy").write_text(ERASED[0])
        assert len({path.partition("/")[0] for path in traces(data.snapshots)}) == 3
        await running.engine.erase(ERASED[0])
        if ended == "well":
            await running.eraser.begin(hurried=True)
            assert traces(shop) == []
        else:
            monkeypatch.setattr(running.eraser, "_clean", lambda: None)
            await running.eraser.begin(hurried=True)
            assert traces(data.snapshots)
        await running.stop()

    asyncio.run(main())
    again = open_running(shop, CONFIG)
    assert traces(shop) == []
    assert again.started.snapshot_position > 0
    assert again.started.refused_snapshots == ()
    again.engine.log.close()


@pytest.mark.usefixtures("in_process")
def test_a_rewrite_is_due_when_late_copies_are_no_longer_refused(shop):
    """Not before 24 h, then at the next look; and with a day as the most, before that day is over."""

    async def main(days_max, hours):
        clock = [NOW_MS]
        outside = Outside(clock=lambda: TimestampMs(clock[0]))
        users = msgspec.structs.replace(CONFIG.users, erase_days_max=days_max)
        running = open_running(shop, msgspec.structs.replace(CONFIG, users=users), outside=outside)
        await running.start()
        assert running.eraser
        assert running.sealer
        await running.engine.record(batch_of(running, *acts("bob", 1, f"{days_max}-{hours}")))
        await running.engine.erase(f"user-{days_max}-{hours}")
        assert not running.eraser.is_due()
        clock[0] += int(hours * 3_600_000)
        found = running.eraser.is_due()
        await running.stop()
        return found

    assert not asyncio.run(main(7, 23.9))
    shutil.rmtree(shop / DATA_NAME)
    assert asyncio.run(main(7, 24.1))
    shutil.rmtree(shop / DATA_NAME)
    assert asyncio.run(main(1, 18.1))


@pytest.mark.usefixtures("in_process")
def test_a_rewrite_begins_early_when_places_for_erasures_run_out(shop, monkeypatch):
    """By itself, with a pause between two of that kind; whoever is sent away finds a place when it was told to come."""
    monkeypatch.setattr(eraser, "EARLY_GAP_S", 2.0)
    limits = msgspec.structs.replace(CONFIG.limits, erased_max=20)

    async def settled(running):
        async with asyncio.timeout(PATIENCE_S):
            while running.eraser.is_running:  # noqa: ASYNC110  a child tells
                await asyncio.sleep(0.01)
        assert running.eraser.view.state == "done", running.eraser.view

    async def flood(running, prefix):
        """Erase made-up ids until one is sent away; return how many were taken, and when to come again."""
        for number in range(100):
            try:
                await running.engine.erase(f"{prefix}-{number}")
            except ErasuresFull as error:
                return number, error.retry_after_s
        return 100, 0

    async def main():
        running = open_running(shop, msgspec.structs.replace(CONFIG, limits=limits))
        await running.start()
        assert running.eraser
        await running.engine.record(batch_of(running, *acts("bob", 2, "b"), *acts("eve", 2, "e")))
        taken, wait_s = await flood(running, "nobody")
        assert (taken >= 10, wait_s <= eraser.REWRITE_S) == (True, True)
        await running.engine.erase("bob")
        await settled(running)
        assert running.engine.log.generation == 1
        taken, wait_s = await flood(running, "made-up")
        assert taken <= 11
        await running.engine.erase("eve")
        assert running.engine.log.generation == 1
        await asyncio.sleep(wait_s)
        await settled(running)
        assert running.engine.log.generation == 2
        await running.engine.erase("made-up-99")
        await running.stop()

    asyncio.run(main())


@pytest.mark.usefixtures("in_process")
def test_more_users_are_erased_at_once_than_there_are_places(shop):
    """Without a server those that wait are carried out, as often as that is needed, and then the next are erased."""
    config = msgspec.structs.replace(CONFIG, limits=msgspec.structs.replace(CONFIG.limits, erased_max=4))
    with open_shop(shop, config) as opened:
        opened.record([{"type": "view", "user_id": f"user-{number}", "item_id": "lamp"} for number in range(6)])
    asked = [*(f"user-{number}" for number in range(6)), *(f"nobody-{number}" for number in range(6))]
    assert [each.user_id for each in erase_users(shop, config, asked, now=True)] == asked
    again = open_running(shop, config)
    assert again.engine.erasures() == []
    assert again.engine.log.generation > 1
    again.engine.log.close()
