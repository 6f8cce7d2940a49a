"""Acts whose events the log has more than once, and ids that look like those of the rows of one event."""

import asyncio

import pytest
from msgspec.structs import replace

from midstream.app.config.schema import ItemsSection
from midstream.core.errors import ActUnknown
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.retractions.act_search import ActQuestion
from midstream.engine.snapshots.compactions import acts_taken_back
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build, concat
from tests.support.rig import SMALL, Rig
from tests.support.rig import START_MS as RIG_MS

CONFIG = replace(SMALL, items=ItemsSection(attributes={"category": "category"}))
DAY_MS = 86_400_000
START_MS = RIG_MS - 3 * DAY_MS


def act(action, item, event_id="", at=0, **more):
    """Return an act in the log."""
    ids = {"user_id": "ann"} | more
    return Event(Kind.INTERACTION, action=action, item_id=item, event_id=event_id, log_time_ms=START_MS + at, **ids)


def log_of(*batches):
    """Return a log with a commit of each batch."""
    log = MemoryLog()
    for each in batches:
        log.append(build(each))
    return log


def counts(rig, user="ann"):
    """Return the counts of a user that are not 0."""
    return {name: count for name, count in rig.engine.user(user)["counts"].items() if count}


def caught_up(rig):
    """Return the engine when it has folded its log."""
    for first, batch in rig.engine.log.read(LogPosition(0), 100):
        rig.engine.fold.apply(first, batch)
    return rig.engine


def gone_of(engine):
    """Return the log positions that the next rebuild passes by."""
    return acts_taken_back(concat([batch for _, batch in engine.log.read(LogPosition(0), 100)]))


def test_of_a_copy_in_the_log_the_first_is_taken_back() -> None:
    """So the act stays taken back in the state of a rebuild, which passes its position by, and in exports."""
    log = log_of(
        [act("view", "lamp", "e1"), act("cart", "sofa", "e2", 1)],
        [act("cart", "sofa", "e2", 5)],
        [act("view", "bed", at=9)],
    )

    async def work(rig: Rig) -> None:
        engine = caught_up(rig)
        found = await engine.retractor.newest(ActQuestion("ann", "cart", "sofa"))
        assert (found.retracted, counts(rig)) == (1, {"view": 2})
        assert gone_of(engine) == {1}
        assert (await engine.retractor.by_id("e2")).already_retracted == 1

    Rig(config=CONFIG, log=log).run(work)


def test_the_newest_act_is_none_that_the_fold_passed_by() -> None:
    """A copy behind a newer act does not hide it, and what came with another event's id is never found."""
    log = log_of(
        [act("cart", "sofa", "e1"), act("cart", "sofa", "e2", 1), act("cart", "sofa", "e1", 2)],
        [act("cart", "bed", "e1", 3), act("view", "lamp", user_id="bob", at=4, event_id="e4")],
        [act("view", "lamp", "e4", 5)],
    )

    async def work(rig: Rig) -> None:
        engine = caught_up(rig)
        assert (await engine.retractor.newest(ActQuestion("ann", "cart", "sofa"))).events[0].event_id == "e2"
        for asked in (ActQuestion("ann", "cart", "bed"), ActQuestion("ann", "view", "lamp")):
            with pytest.raises(ActUnknown):
                await engine.retractor.newest(asked)
        with pytest.raises(ActUnknown):
            await engine.retractor.by_id("e4", "ann")
        assert gone_of(engine) == {1}

    Rig(config=CONFIG, log=log).run(work)


@pytest.mark.parametrize("age_days", [0, 2], ids=["remembered", "forgotten"])
@pytest.mark.parametrize("has_id", [True, False], ids=["by id", "by content and time"])
def test_the_first_is_found_when_it_is_not_remembered_any_more(age_days, has_id) -> None:
    """Copies are told by what the fold tells them by; those of an event that came again after a day are of that one."""
    same = {"event_id": "e1"} if has_id else {"event_time_ms": START_MS}
    old = [act("cart", "sofa", **same), act("view", "lamp"), act("cart", "sofa", at=1_500, **same)]
    end = [act("view", "lamp", at=age_days * DAY_MS + 2_000)]

    async def work(rig: Rig) -> None:
        engine = caught_up(rig)
        assert (await engine.retractor.newest(ActQuestion("ann", "cart", "sofa"))).retracted == 1
        assert gone_of(engine) == {0}
        if has_id:
            assert (await engine.retractor.by_id("e1")).already_retracted == 1

    Rig(config=CONFIG, log=log_of(old, end)).run(work)


@pytest.mark.parametrize("age_days", [0, 2], ids=["remembered", "forgotten"])
def test_ids_of_events_of_their_own_are_no_rows_of_another(age_days) -> None:
    """The rows of an event with several items begin with #0 and stand one behind the other, of one user and time."""
    own = [act("view", "a", "order77#1", user_id="u1"), act("view", "b", "order77#2", user_id="u2")]
    rows = [act("cart", item, f"o1#{n}", 1) for n, item in enumerate("abc")]
    more = [act("cart", "d", "o1#3", 1, user_id="bob"), act("cart", "e", "o1#4", 1)]
    end = [act("view", "lamp", at=age_days * DAY_MS + 2_000)]

    async def work(rig: Rig) -> None:
        engine = caught_up(rig)
        with pytest.raises(ActUnknown):
            await engine.retractor.by_id("order77")
        assert [each.item_id for each in (await engine.retractor.by_id("o1")).events] == ["a", "b", "c"]
        assert (await engine.retractor.by_id("order77#2")).retracted == 1
        assert gone_of(engine) == {1, 2, 3, 4}

    Rig(config=CONFIG, log=log_of(own, rows + more, end)).run(work)


def test_requests_at_once_take_an_act_back_once() -> None:
    """One says that it did, the others that it was before, and one event is appended."""

    async def work(rig: Rig) -> None:
        engine = caught_up(rig)
        end = engine.log.end
        told = await asyncio.gather(*(engine.retractor.by_id("e1") for _ in range(3)))
        assert sorted((each.retracted, each.already_retracted) for each in told) == [(0, 1), (0, 1), (1, 0)]
        assert engine.log.end == end + 1
        assert counts(rig) == {}

    Rig(config=CONFIG, log=log_of([act("view", "lamp", "e1")])).run(work)
