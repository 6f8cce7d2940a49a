"""What the engine promises: durable and applied once when acknowledged; read your writes; one position an answer."""

import asyncio
import threading

import msgspec
import numpy as np
import pytest

from midstream.core.errors import AppendFailed, DiskFull, NotFound, Overloaded, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest import event_recording, fold_scheduler, writer
from midstream.engine.listeners import Listener
from midstream.engine.types import ANY_PLACEMENT, Ask, Outcome
from midstream.events.memory import MemoryLog
from midstream.events.schema import event_at
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view


def test_an_acknowledged_event_is_applied() -> None:
    """When ``record`` returns the state has the event, and the next slate has seen it."""

    async def work(rig: Rig) -> None:
        recorded = await rig.engine.record(rig.batch(view("mug", event_id="1")))
        assert recorded.outcome.tolist() == [Outcome.RECORDED]
        assert recorded.log_position == rig.log.end == rig.engine.fold.log_position == 1
        answer = await rig.engine.recommend(Ask(user_id="bob"))
        assert [item.id for item in answer.items] == ["mug"]

    Rig().run(work)


def test_the_second_copy_is_a_duplicate() -> None:
    """One id is applied once, whether its first copy is applied, pending, or in the same batch."""

    async def work(rig: Rig) -> None:
        event = view("mug", event_id="1")
        both = [rig.engine.record(rig.batch(event, event)), rig.engine.record(rig.batch(event))]
        first, second = await asyncio.gather(*both)
        assert first.outcome.tolist() == [Outcome.RECORDED, Outcome.DUPLICATE]
        assert second.outcome.tolist() == [Outcome.DUPLICATE]
        assert second.log_position >= 1
        late = await rig.engine.record(rig.batch(event, view("cup", event_id="1")))
        assert late.outcome.tolist() == [Outcome.DUPLICATE, Outcome.CONFLICT]
        assert rig.log.end == 1

    Rig().run(work)


def test_a_duplicate_waits_for_its_first_copy() -> None:
    """A duplicate of an event that cannot be made durable fails as its first copy does."""

    async def work(rig: Rig) -> None:
        event = view("mug", event_id="1")
        calls = [rig.engine.record(rig.batch(event)) for _ in range(2)]
        assert [type(each) for each in await asyncio.gather(*calls, return_exceptions=True)] == [DiskFull, DiskFull]

    Rig(log=MemoryLog(events_max=0)).run(work)


def test_what_is_recorded_beside_a_copy_that_fails_is_counted() -> None:
    """The batch fails as the first copy of one of its events does, and its own event is durable: counted, and once."""
    is_written, goes_on = threading.Event(), threading.Event()

    class FullAtFirst(MemoryLog):
        def append(self, batch: EventBatch) -> LogPosition:
            is_first = not is_written.is_set()
            is_written.set()
            goes_on.wait(PATIENCE_S)
            if is_first:
                message = "no room"
                raise DiskFull(message)
            return super().append(batch)

    async def work(rig: Rig) -> None:
        first, other = view("mug", event_id="1"), view("cup", event_id="2")
        calls = [asyncio.ensure_future(rig.engine.record(rig.batch(first)))]
        await asyncio.wait_for(asyncio.to_thread(is_written.wait), PATIENCE_S)
        calls.append(asyncio.ensure_future(rig.engine.record(rig.batch(first, other))))
        await asyncio.sleep(0)  # it waits behind the first one, which the log thread has
        goes_on.set()
        assert [type(each) for each in await asyncio.gather(*calls, return_exceptions=True)] == [DiskFull, DiskFull]
        assert rig.log.end == 1
        assert b'midstream_events_total{outcome="recorded"} 1.0' in rig.engine.metrics.text()
        again = await rig.engine.record(rig.batch(first, other))
        assert again.outcome.tolist() == [Outcome.RECORDED, Outcome.DUPLICATE]
        text = rig.engine.metrics.text()
        assert b'midstream_events_total{outcome="recorded"} 2.0' in text
        assert b'midstream_events_total{outcome="duplicate"} 1.0' in text

    Rig(log=FullAtFirst()).run(work)


def test_a_full_disk_refuses_events_and_goes_on_answering() -> None:
    """Events are refused with ``DiskFull``, slates are served, and events are taken again without a restart."""
    log = MemoryLog(events_max=3)

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug", event_id="1"), view("cup", event_id="2")))
        with pytest.raises(DiskFull):
            await rig.engine.record(rig.batch(view("pot", event_id="3"), view("pan", event_id="4")))
        assert not rig.engine.health().accepts_events
        answer = await rig.engine.recommend(Ask(user_id="bob"))
        assert {item.id for item in answer.items} == {"mug", "cup"}
        log._events_max = 100
        again = await rig.engine.record(rig.batch(view("pot", event_id="3")))
        assert again.outcome.tolist() == [Outcome.RECORDED]
        assert rig.engine.health().accepts_events

    Rig(log=log).run(work)


def test_a_failed_log_takes_nothing_more() -> None:
    """After ``AppendFailed`` every event is refused, health says why, and slates are still served."""

    class Failing(MemoryLog):
        def append(self, batch):
            message = "sync failed"
            raise AppendFailed(message)

    async def work(rig: Rig) -> None:
        for _ in range(2):
            with pytest.raises(AppendFailed, match="sync failed"):
                await rig.engine.record(rig.batch(view("mug")))
        assert "sync failed" in rig.engine.health().reason
        assert rig.engine.health().ready
        assert (await rig.engine.recommend(Ask())).items == ()

    Rig(log=Failing()).run(work)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_on_the_log_thread_is_told_to_everyone() -> None:
    """What waits for a log thread that broke is refused, and so is what comes later; slates are still served."""

    class Broken(MemoryLog):
        def append(self, batch):
            raise ZeroDivisionError

    async def work(rig: Rig) -> None:
        calls = [asyncio.ensure_future(rig.engine.record(rig.batch(view(f"i{n}")))) for n in range(3)]
        done, waiting = await asyncio.wait(calls, timeout=PATIENCE_S)
        assert not waiting
        assert {type(each.exception()) for each in done} == {AppendFailed}
        with pytest.raises(AppendFailed):
            await rig.engine.record(rig.batch(view("late")))
        assert not rig.engine.health().accepts_events
        await rig.engine.recommend(Ask())

    Rig(log=Broken()).run(work)


def test_read_your_writes() -> None:
    """A token of an acknowledged write is seen; one of the future or of another log is refused."""

    async def work(rig: Rig) -> None:
        recorded = await rig.engine.record(rig.batch(view("mug")))
        token = rig.engine.token(recorded.log_position)
        assert (await rig.engine.recommend(Ask(min_log_position=token))).read_your_writes is True
        assert (await rig.engine.recommend(Ask())).read_your_writes is None
        with pytest.raises(RequestInvalid, match="future"):
            await rig.engine.recommend(Ask(min_log_position=rig.engine.token(LogPosition(10_000))))

    Rig().run(work)


def test_the_deadline_ends_the_wait_for_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the position is not applied in time the answer comes all the same and says so."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug")))
        monkeypatch.setattr(rig.engine._folding, "_turn", lambda _: None)
        ticket = asyncio.ensure_future(rig.engine.record(rig.batch(view("cup"))))
        while rig.log.end < 2:  # noqa: ASYNC110  the log thread sets no event
            await asyncio.sleep(0.001)
        token = rig.engine.token(LogPosition(2))
        answer = await rig.engine.recommend(Ask(min_log_position=token, deadline_ms=20))
        assert answer.read_your_writes is False
        assert len(answer.items) == 1
        monkeypatch.undo()
        rig.engine._folding._work.set()
        await ticket

    Rig().run(work)


def test_waiters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More waiting requests than may wait are refused, not queued without end."""
    monkeypatch.setattr(fold_scheduler, "WAITERS_MAX", 0)

    async def work(rig: Rig) -> None:
        with pytest.raises(Overloaded):
            await rig.engine._folding.reached(LogPosition(5), 1.0)

    Rig().run(work)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many events wait, a batch is refused whole and can be sent again."""

    async def work(rig: Rig) -> None:
        monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 1)
        two = rig.batch(view("mug", event_id="1"), view("cup", event_id="2"))
        with pytest.raises(Overloaded):
            await rig.engine.record(two)
        monkeypatch.undo()
        assert (await rig.engine.record(two)).outcome.tolist() == [Outcome.RECORDED] * 2

    Rig().run(work)


def test_the_queue_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few events with much text are too many as well, while others wait; alone they are taken, and all are written."""
    at_work, go_on = threading.Event(), threading.Event()

    class Slow(MemoryLog):
        def append(self, batch):
            at_work.set()
            assert go_on.wait(PATIENCE_S)
            return super().append(batch)

    async def work(rig: Rig) -> None:
        def event(number: int) -> EventBatch:
            return rig.batch(view("mug", event_id=str(number), context={"text": "x" * 3_000}))

        monkeypatch.setattr(writer, "QUEUE_BYTES_MAX", 2 * (event(1).rows.nbytes + len(event(1).text)))
        taken = [asyncio.ensure_future(rig.engine.record(event(0)))]
        await asyncio.wait_for(asyncio.to_thread(at_work.wait), PATIENCE_S)
        taken += [asyncio.ensure_future(rig.engine.record(event(number))) for number in (1, 2)]
        await asyncio.sleep(0)  # these wait behind the first one, which the log thread has
        with pytest.raises(Overloaded, match="bytes"):
            await rig.engine.record(event(3))
        go_on.set()
        await asyncio.gather(*taken)
        monkeypatch.setattr(writer, "QUEUE_BYTES_MAX", 1)
        assert (await rig.engine.record(event(3))).outcome.tolist() == [Outcome.RECORDED]
        assert rig.log.end == 4

    Rig(log=Slow()).run(work)


def test_what_waits_for_the_fold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is faster than the fold does not pile events up in memory: further ones are refused for a while."""
    monkeypatch.setattr(event_recording, "BEHIND_EVENTS_MAX", 3)

    async def work(rig: Rig) -> None:
        with monkeypatch.context() as slow:
            slow.setattr(rig.engine._folding, "_turn", lambda _: None)
            taken = asyncio.ensure_future(rig.engine.record(rig.batch(*(view(f"i{n}") for n in range(5)))))
            while rig.log.end < 5:  # noqa: ASYNC110  the log thread sets no event
                await asyncio.sleep(0.001)
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(Overloaded, match="applied"):
                    await rig.engine.record(rig.batch(view("late")))
        rig.engine._folding._work.set()
        await taken
        assert (await rig.engine.record(rig.batch(view("late")))).log_position == 6

    Rig().run(work)


def test_a_refused_batch_takes_no_later_copy_out_of_the_dedupe(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a batch was refused and is sent again at once, a third copy is still seen to be one."""

    async def work(rig: Rig) -> None:
        batch = rig.batch(view("mug", event_id="1"))

        async def refused() -> None:
            monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 0)
            with pytest.raises(Overloaded):
                await rig.engine.record(batch)
            monkeypatch.undo()

        first = asyncio.ensure_future(refused())
        second = asyncio.ensure_future(rig.engine.record(batch))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        third = await rig.engine.record(batch)
        await first
        assert (await second).outcome.tolist() == [Outcome.RECORDED]
        assert third.outcome.tolist() == [Outcome.DUPLICATE]
        assert rig.log.end == 1

    Rig().run(work)


def test_every_answer_is_a_served_record() -> None:
    """What was served can be looked up by its request id, with the log position of the state that it saw."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug"), view("cup")))
        answer = await rig.engine.recommend(Ask(user_id="bob", n=1))
        while rig.engine.fold.log_position < 3:  # noqa: ASYNC110  as a client would
            await asyncio.sleep(0.001)
        record = rig.engine.served(answer.request_id)
        assert record is not None
        assert [item.id for item in record.items] == [item.id for item in answer.items]
        assert record.log_position == 2
        assert rig.engine.served("unknown") is None
        assert rig.engine.request_id_is_ours(answer.request_id)

    Rig().run(work)


def test_requests_share_a_commit() -> None:
    """Events that arrive while another commit is under way go into the log together (group commit)."""

    class Counting(MemoryLog):
        commits = 0

        def append(self, batch):
            Counting.commits += 1
            return super().append(batch)

    async def work(rig: Rig) -> None:
        calls = [rig.engine.record(rig.batch(view("mug", event_id=str(n)))) for n in range(200)]
        done = await asyncio.gather(*calls)
        assert sum(int((each.outcome == Outcome.RECORDED).sum()) for each in done) == 200
        assert Counting.commits < 200

    Rig(log=Counting()).run(work)


def test_stop_acknowledges_what_was_taken() -> None:
    """What was accepted before a stop is durable, applied and acknowledged by it."""

    async def main() -> None:
        rig = Rig()
        await rig.engine.start()
        calls = [asyncio.ensure_future(rig.engine.record(rig.batch(view(f"i{n}")))) for n in range(20)]
        await asyncio.sleep(0)
        await rig.engine.stop()
        done = await asyncio.gather(*calls)
        assert {int(each.outcome[0]) for each in done} == {Outcome.RECORDED}
        assert rig.engine.fold.log_position == rig.log.end == 20

    asyncio.run(main())


def test_unknown_items_are_refused_when_so_configured() -> None:
    """With ``unknown_items = "reject"`` an act on an item that is not in the catalogue is refused, by name."""
    config = msgspec.structs.replace(SMALL, items=msgspec.structs.replace(SMALL.items, unknown_items="reject"))

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch({"type": "item", "item_id": "mug", "operation": "put", "attributes": {}}))
        outcome = (await rig.engine.record(rig.batch(view("mug"), view("cup")))).outcome
        assert outcome.tolist() == [Outcome.RECORDED, Outcome.REFUSED]

    Rig(config=config).run(work)


def test_an_item_is_known_from_its_own_event_on() -> None:
    """An act on an item whose put goes before it, in the same batch or on its way into the log, is not refused."""
    config = msgspec.structs.replace(SMALL, items=msgspec.structs.replace(SMALL.items, unknown_items="reject"))
    put = {"type": "item", "operation": "put", "attributes": {}}

    async def work(rig: Rig) -> None:
        first = rig.batch(view("mug"), put | {"item_id": "mug"}, view("mug", "bob"))
        calls = [rig.engine.record(each) for each in (first, rig.batch(view("mug", "cem"), view("cup", "cem")))]
        outcomes = [each.outcome.tolist() for each in await asyncio.gather(*calls)]
        assert outcomes == [
            [Outcome.REFUSED, Outcome.RECORDED, Outcome.RECORDED],
            [Outcome.RECORDED, Outcome.REFUSED],
        ]
        assert rig.engine.fold.counts()["item_refused"] == 0
        assert not rig.engine._intake._coming

    Rig(config=config).run(work)


def test_log_time_never_goes_back() -> None:
    """When the wall clock jumps back, log time stands still until it has caught up."""

    async def work(rig: Rig) -> None:
        for now in (0, -3_600_000, 5):
            rig.now_ms += now
            await rig.engine.record(rig.batch(view("mug")))
        times = [event_at(batch, 0).log_time_ms for _, batch in rig.log.read(LogPosition(0), 10)]
        assert times == sorted(times)

    Rig().run(work)


def test_a_bug_in_a_table_ends_the_turns_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that raises is a bug: nothing is acknowledged after it, and health says so."""

    async def work(rig: Rig) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(rig.engine.fold, "apply", broken)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await rig.engine.record(rig.batch(view("mug")))
        assert not rig.engine.health().ready

    Rig().run(work)


def test_what_becomes_durable_after_a_bug_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that was on its way into the log when a table broke is answered, and nothing piles up behind it."""
    at_work, may_break, is_broken = threading.Event(), threading.Event(), threading.Event()

    class Slow(MemoryLog):
        def append(self, batch):
            at_work.set()
            assert (may_break, is_broken, is_broken)[self.end].wait(PATIENCE_S)
            return super().append(batch)

    async def work(rig: Rig) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(rig.engine.fold, "apply", broken)
        handed_back = asyncio.Semaphore(0)
        rig.engine.listeners.add(Listener(name="handed_back", committed=handed_back.release))
        first = asyncio.ensure_future(rig.engine.record(rig.batch(view("mug"))))
        assert await asyncio.to_thread(at_work.wait, PATIENCE_S)
        second = asyncio.ensure_future(rig.engine.record(rig.batch(view("cup"))))
        await asyncio.sleep(0)
        may_break.set()
        with pytest.raises(ZeroDivisionError):
            await first
        assert not second.done()
        is_broken.set()
        with pytest.raises(ZeroDivisionError):
            await second
        await rig.engine.recommend(Ask())
        for _ in range(3):  # the last one is of the served record
            await asyncio.wait_for(handed_back.acquire(), PATIENCE_S)
        assert not rig.engine._folding._durable

    Rig(log=Slow()).run(work)


def test_an_unknown_placement_and_a_wrong_size_are_named() -> None:
    """What cannot be answered says what is there and what would be right."""

    async def work(rig: Rig) -> None:
        with pytest.raises(NotFound, match="default"):
            await rig.engine.recommend(Ask("nowhere"))
        for size in (0, 101, -5):
            with pytest.raises(RequestInvalid, match="1 to 100"):
                await rig.engine.recommend(Ask(n=size))
        for wrong in (Ask(n=0), Ask(filter="item.nope == 1"), Ask(min_log_position="nonsense")):
            with pytest.raises(RequestInvalid):
                rig.engine.check(wrong)
        with pytest.raises(NotFound):
            rig.engine.check(Ask("nowhere"))

    Rig().run(work)


def test_an_answer_to_any_name_is_recorded_as_that_of_the_plan_that_gave_it() -> None:
    """Callers cannot make up groups of the join; the answer says the name that was asked for."""

    async def work(rig: Rig) -> None:
        rig.engine.swap(rig.engine.fold, {ANY_PLACEMENT: rig.engine.plan("default")})
        answer = await rig.engine.recommend(Ask("made up"))
        assert answer.placement == "made up"
        while rig.engine.fold.log_position < 1:  # noqa: ASYNC110  as a client would
            await asyncio.sleep(0.001)
        record = rig.engine.served(answer.request_id)
        assert record is not None
        assert record.query.placement == "default"

    Rig().run(work)


def test_nobody_reads_what_a_crash_could_take_back() -> None:
    """A slate never names a log position beyond the durable end."""

    async def work(rig: Rig) -> None:
        calls = [asyncio.ensure_future(rig.engine.record(rig.batch(view(f"i{n}")))) for n in range(50)]
        for _ in range(50):
            await rig.engine.recommend(Ask())
            assert rig.engine.fold.log_position <= rig.log.end
        await asyncio.gather(*calls)

    Rig().run(work)


class Minutes:
    """Stands for ``asyncio.sleep``: what sleeps for a minute sleeps until a test lets it through."""

    def __init__(self) -> None:
        """Let nobody through yet."""
        self._really_sleep = asyncio.sleep
        self._asleep = asyncio.Event()
        self._may_wake = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        """Sleep as long as is asked, but for a minute: that is over when ``let_one_pass`` is called."""
        if seconds < 60:
            await self._really_sleep(seconds)
            return
        self._asleep.set()
        await self._may_wake.acquire()

    def let_pass(self, count: int) -> None:
        """Let so many minutes be over, one after another, as soon as they are slept through."""
        for _ in range(count):
            self._may_wake.release()

    async def let_one_pass(self) -> None:
        """Wake the sleeper, and return when it sleeps again."""
        await asyncio.wait_for(self._asleep.wait(), PATIENCE_S)
        self._asleep.clear()
        self.let_pass(1)
        await asyncio.wait_for(self._asleep.wait(), PATIENCE_S)


def test_a_tick_moves_log_time_on_while_a_session_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing arrives a tick is appended, at most one a minute of log time, and none once no session is open."""
    minutes = Minutes()
    monkeypatch.setattr(asyncio, "sleep", minutes.sleep)

    async def work(rig: Rig) -> list[int]:
        await rig.engine.record(rig.batch(view("mug")))
        ends = []
        for passed in (0, 1, 1, 40, 5, 5):
            rig.now_ms += passed * 60_000
            for _ in range(3):
                await minutes.let_one_pass()
            ends.append(int(rig.log.end))
        return ends

    assert Rig().run(work) == [1, 2, 3, 4, 4, 4]


def test_a_tick_moves_log_time_by_an_hour_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far ahead a clock stands, nobody's events move the log no further than sessions need it."""
    minutes = Minutes()
    monkeypatch.setattr(asyncio, "sleep", minutes.sleep)

    async def work(rig: Rig) -> tuple[int, int]:
        began_ms = rig.now_ms
        await rig.engine.record(rig.batch(view("mug")))
        rig.now_ms += 365 * 86_400_000
        for _ in range(9):
            await minutes.let_one_pass()
        return int(rig.log.end), rig.log.last_log_time_ms - began_ms

    assert Rig().run(work) == (2, 3_600_000)


def test_one_tick_is_under_way_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a disk holds a tick, and however often its turn comes meanwhile, no other is made of that time."""
    minutes = Minutes()
    monkeypatch.setattr(asyncio, "sleep", minutes.sleep)
    at_work, go_on = threading.Event(), threading.Event()

    class Slow(MemoryLog):
        def append(self, batch: EventBatch) -> LogPosition:
            if batch.rows["kind"][0] == Kind.TICK:
                at_work.set()
                assert go_on.wait(PATIENCE_S)
            return super().append(batch)

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug")))
        rig.now_ms += 60_000
        minutes.let_pass(200)
        assert await asyncio.to_thread(at_work.wait, PATIENCE_S)
        for _ in range(200):
            await asyncio.sleep(0)  # each is a turn for whoever has something to do
            rig.now_ms += 1_000
        assert rig.engine.health().queued_events == 0
        go_on.set()
        while rig.engine.fold.log_position < 3:
            minutes.let_pass(1)
            await asyncio.sleep(0)
        times = np.concatenate([batch.rows["log_time_ms"] for _, batch in rig.log.read(LogPosition(0), 10)])
        assert (np.diff(times) >= 60_000).all()

    Rig(log=Slow()).run(work)


def test_no_tick_once_a_table_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log thread and the ticker outlive the folding, and add nothing that nobody will fold."""
    minutes = Minutes()
    monkeypatch.setattr(asyncio, "sleep", minutes.sleep)

    async def work(rig: Rig) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        await rig.engine.record(rig.batch(view("mug")))
        monkeypatch.setattr(rig.engine.fold, "apply", broken)
        for _ in range(3):
            rig.now_ms += 60_000
            await minutes.let_one_pass()
        assert rig.log.end == 2  # the tick that found the table broken is the last
        assert "ZeroDivisionError" in rig.engine.health().reason

    Rig().run(work)


def test_ticks_go_on_after_the_queue_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick that found no room is left out, and the next one comes when there is room again."""
    minutes = Minutes()
    monkeypatch.setattr(asyncio, "sleep", minutes.sleep)

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug")))
        monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 0)
        rig.now_ms += 60_000
        for _ in range(3):
            await minutes.let_one_pass()
        assert rig.log.end == 1
        monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 10)
        await minutes.let_one_pass()
        assert rig.log.end == 2

    Rig().run(work)


def test_served_records_are_events() -> None:
    """The log holds a served event for each answer, in order, after the events that it saw."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(view("mug")))
        for _ in range(3):
            await rig.engine.recommend(Ask())

    rig = Rig()
    rig.run(work)
    kinds = np.concatenate([batch.rows["kind"] for _, batch in rig.log.read(LogPosition(0), 10)])
    assert kinds.tolist() == [Kind.INTERACTION, *[Kind.SERVED] * 3]


def test_a_clock_that_jumped_ahead_is_named() -> None:
    """When the clock comes back from the future, health says how far log time is ahead, and events are still taken."""

    async def work(rig: Rig) -> None:
        rig.now_ms += 400 * 86_400_000
        await rig.engine.record(rig.batch(view("mug", event_id="1")))
        assert rig.engine.health().reason == ""
        rig.now_ms -= 400 * 86_400_000
        health = rig.engine.health()
        assert "34560000 s ahead of the clock" in health.reason
        assert health.ready
        assert health.accepts_events
        rig.now_ms += 400 * 86_400_000
        assert rig.engine.health().reason == ""

    Rig().run(work)


def test_who_is_told_of_a_commit_cannot_end_the_engine() -> None:
    """What is durable is folded and acknowledged, all others are told, and what was raised is not hidden."""
    told: list[int] = []
    raised: list[object] = []

    def fail() -> None:
        if len(told) < 2:
            raise LookupError

    async def work(rig: Rig) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context.get("exception")))
        calls = {"first": lambda: told.append(1), "failing": fail, "last": lambda: told.append(2)}
        rig.engine.listeners.add(*(Listener(name=name, committed=call) for name, call in calls.items()))
        for number in range(2):
            recorded = await rig.engine.record(rig.batch(view("mug", event_id=str(number))))
            assert recorded.log_position == number + 1
            assert ("not told of a commit" in rig.engine.health().reason) == (number == 0)

    Rig().run(work)
    assert told == [1, 2, 1, 2]
    assert [type(error) for error in raised] == [LookupError]
