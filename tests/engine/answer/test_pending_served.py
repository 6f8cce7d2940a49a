"""The next question sees the slate before it, where its placement goes by what was served; nobody else waits."""

import asyncio

import pytest
from msgspec.structs import replace

from midstream.app.config.schema import Placement
from midstream.core.errors import Overloaded
from midstream.core.types import Query, TimestampMs
from midstream.engine.answer.pending_served import ADDED_MAX, ServedAhead
from midstream.engine.engine import EngineOptions
from midstream.engine.ingest import served_buffer
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.types import Ask
from midstream.events.memory import MemoryLog
from tests.support.ids import hash_of
from tests.support.rig import SMALL, Rig, view

MEMORY = Placement(exclude={"served": "1h"}, slate_size=3, repeats="any")
PLAIN = Placement(name="plain", slate_size=3, repeats="any")
CONFIG = replace(SMALL, placements=(MEMORY, PLAIN))
ITEMS = [view(f"i{each}", user="eve", event_id=str(each)) for each in range(12)]


@pytest.fixture(autouse=True)
def _long_linger(monkeypatch):
    """A record that nobody asks for stays away for as long as a test takes."""
    monkeypatch.setattr(served_buffer, "LINGER_S", 1_000.0)


def ids(answer):
    """Return the items of an answer."""
    return [item.id for item in answer.items]


@pytest.mark.parametrize("who", [{"user_id": "ann"}, {"session_id": "s"}, {"user_id": "ann", "session_id": "s"}])
def test_answers_that_follow_each_other_never_repeat_until_nothing_is_left(who) -> None:
    """Each waits for the record of the one before, so all items come, once."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        answers = [await rig.engine.recommend(Ask(deadline_ms=5_000, **who)) for _ in range(5)]
        assert sorted(item for answer in answers for item in ids(answer)) == sorted(f"i{each}" for each in range(12))
        assert [len(answer.items) for answer in answers] == [3, 3, 3, 3, 0]
        assert {answer.read_your_writes for answer in answers} == {None}

    Rig(config=CONFIG).run(work)


def test_a_cursor_that_is_sent_again_at_once_gives_nothing_that_it_gave_before() -> None:
    """It waits for the record of what it gave; where that does not come in time the answer says so."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann", cursor=True))
        again = Ask("", cursor=first.cursor or False, deadline_ms=5_000)
        answers = [await rig.engine.recommend(again) for _ in range(4)]
        assert len({item for answer in answers for item in ids(answer)}) == 9
        assert [len(answer.items) for answer in answers] == [3, 3, 3, 0]
        assert {answer.read_your_writes for answer in answers} == {None}

    Rig(config=CONFIG).run(work)


def test_a_session_that_signs_in_and_users_that_become_one_remember() -> None:
    """What the session was served counts when its user is named, and what a merged user was served does."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        session = await rig.engine.recommend(Ask(session_id="s", deadline_ms=5_000))
        visitor = await rig.engine.recommend(Ask(user_id="visitor", deadline_ms=5_000))
        merge = {"type": "user", "operation": "merge", "user_id": "ann", "attributes": {"from": "visitor"}}
        await rig.engine.record(rig.batch(merge))
        known = await rig.engine.recommend(Ask(user_id="ann", session_id="s", deadline_ms=5_000))
        assert len(known.items) == 3
        assert not set(ids(known)) & {*ids(session), *ids(visitor)}

    Rig(config=CONFIG).run(work)


def test_a_placement_that_does_not_ask_for_it_waits_for_nothing() -> None:
    """Its records stay where they wait for company; what comes after an event is in the log before it."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        answers = [await rig.engine.recommend(Ask("plain", user_id="ann")) for _ in range(3)]
        assert len({tuple(ids(answer)) for answer in answers}) == 1
        assert rig.log.end == len(ITEMS)
        recorded = await rig.engine.record(rig.batch(view("i1", event_id="last")))
        assert recorded.log_position == len(ITEMS) + 4

    Rig(config=CONFIG).run(work)


def test_where_the_record_does_not_come_in_time_the_answer_says_so() -> None:
    """It may repeat then; it is asked for once, and the question after it waits for its own."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann"))
        late = await rig.engine.recommend(Ask(user_id="ann", deadline_ms=30))
        assert (first.read_your_writes, late.read_your_writes) == (None, False)
        assert ids(late) == ids(first)

    Rig(config=CONFIG, log=MemoryLog(events_max=len(ITEMS))).run(work)


def test_nothing_is_waited_for_where_nothing_is_logged() -> None:
    """A server that keeps no served records remembers none."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        answers = [await rig.engine.recommend(Ask(user_id="ann")) for _ in range(2)]
        assert ids(answers[0]) == ids(answers[1])

    Rig(config=CONFIG, options=EngineOptions(logs_served=False)).run(work)


def test_many_at_once_each_see_their_own() -> None:
    """Two hundred users, three questions each, in any order: no user is given an item twice."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))

        async def shop(user: str) -> list[str]:
            return [
                item for _ in range(3) for item in ids(await rig.engine.recommend(Ask(user_id=user, deadline_ms=9_000)))
            ]

        for seen in await asyncio.gather(*(shop(f"u{each}") for each in range(200))):
            assert len(set(seen)) == len(seen) == 9

    Rig(config=CONFIG).run(work)


def test_half_of_the_time_is_left_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that does not come may not cost the answer: no wait for it goes beyond half of what there was."""
    waits: list[float] = []

    async def never(_: FoldScheduler, timeout_s: float) -> bool:
        waits.append(timeout_s)
        return False

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        await rig.engine.recommend(Ask(user_id="ann"))
        with monkeypatch.context() as patch:
            patch.setattr(FoldScheduler, "progress", never)
            late = await rig.engine.recommend(Ask(user_id="ann", deadline_ms=60_000))
        assert (late.read_your_writes, late.tier, len(late.items)) == (False, "full", 3)
        assert len(waits) == 1
        assert 0 < waits[0] <= 30.0

    Rig(config=CONFIG).run(work)


def test_where_as_many_wait_as_may_the_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asked for the wait, so it is no reason to refuse; the question after it waits for the same record."""

    async def full(_: FoldScheduler, timeout_s: float) -> bool:
        raise Overloaded(f"too many wait, {timeout_s} s")

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann"))
        with monkeypatch.context() as patch:
            patch.setattr(FoldScheduler, "progress", full)
            second = await rig.engine.recommend(Ask(user_id="ann", deadline_ms=60_000))
        assert (second.read_your_writes, ids(second)) == (False, ids(first))
        third = await rig.engine.recommend(Ask(user_id="ann", deadline_ms=60_000))
        assert third.read_your_writes is None
        assert not set(ids(third)) & set(ids(first))

    Rig(config=CONFIG).run(work)


def test_who_waits_looks_up_a_few_askers_and_still_finds_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers nobody waited for came before: a bounded part of them is left to look up, none is lost."""
    looked: list[ServedAhead] = []
    look_up = ServedAhead._look_up

    def counted(self: ServedAhead) -> None:
        looked.append(self)
        look_up(self)

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        ahead = ServedAhead(rig.engine._folding, rig.engine._outbox, rig.monotonic)
        with monkeypatch.context() as patch:
            patch.setattr(ServedAhead, "_look_up", counted)
            for number in range(1_000):
                ahead.add(Query(f"r{number}", "default", f"u{number}", None, 3, TimestampMs(0), 0))
            assert len(looked) == 1_000 - ADDED_MAX
            looked.clear()
            assert await ahead.seen([], 0.0)
            assert len(looked) == ADDED_MAX
        assert not await ahead.seen([hash_of("u0")], 0.0)
        assert not await ahead.seen([hash_of("u999")], 0.0)
        assert await ahead.seen([hash_of("nobody")], 0.0)

    Rig(config=CONFIG).run(work)
