"""A folding turn is short whatever is folded, and nothing is left out or applied twice by the cuts."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from midstream.core.errors import Overloaded
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.ingest import fold_scheduler
from midstream.engine.ingest.fold_scheduler import (
    DOCUMENT_COST,
    SERVED_BYTES,
    SHARED_STEP_MIN,
    STEP_COST,
    TURN_EVENTS_MAX,
    FoldScheduler,
    FoldShare,
    step_length,
)
from midstream.events.schema import ROW, Event, build, cut
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold
from tests.support.events import random_events, tiny_settings
from tests.support.patience import PATIENCE_S

KINDS = st.lists(st.sampled_from([int(kind) for kind in Kind]), min_size=1, max_size=STEP_COST)
SERVED, ITEM = int(Kind.SERVED), int(Kind.ITEM)
FEW = STEP_COST // DOCUMENT_COST
TICK = build([Event(Kind.TICK)])


def rows_of(kinds: list[int], sizes: list[int]) -> NDArray[np.void]:
    """Return events with bodies."""
    rows = np.zeros(len(kinds), dtype=ROW)
    rows["kind"], rows["body_length"] = kinds, sizes
    return rows


@pytest.mark.parametrize(
    "kinds, sizes, length",
    [
        ([ITEM] * FEW, [0] * FEW, FEW),
        ([ITEM] * (FEW + 1), [0] * (FEW + 1), FEW),
        ([ITEM] * 30 + [SERVED] * 30, [0] * 60, FEW),
        ([int(Kind.RETRACTION)] * STEP_COST, [100] * STEP_COST, FEW),
        ([SERVED] * 5, [800] * 5, 5),
        ([SERVED] * 5, [100 * SERVED_BYTES] * 5, 2),
        ([SERVED] * STEP_COST, [0] * STEP_COST, STEP_COST),
        ([SERVED] * (STEP_COST - 5), [0] * (STEP_COST - 6) + [6 * SERVED_BYTES], STEP_COST - 6),
        ([SERVED] * (STEP_COST - 5), [0] * (STEP_COST - 6) + [5 * SERVED_BYTES], STEP_COST - 5),
    ],
)
def test_a_step_ends_where_its_work_is_done(kinds: list[int], sizes: list[int], length: int) -> None:
    """Whether that is seen at one look or counted event by event."""
    assert step_length(rows_of(kinds, sizes)) == length


@given(KINDS, st.data())
def test_a_step_is_bounded_by_its_cost(kinds: list[int], data: st.DataObject) -> None:
    """At least one event, and no more than the step's work: item and user events count 25, served ones by size."""
    size_max = data.draw(st.sampled_from([0, 3 * SERVED_BYTES, 300_000]))
    sizes = data.draw(st.lists(st.integers(0, size_max), min_size=len(kinds), max_size=len(kinds)))
    length = step_length(rows_of(kinds, sizes))
    cost = [
        DOCUMENT_COST
        if kind in {Kind.ITEM, Kind.USER, Kind.RETRACTION}
        else 1 + (kind == Kind.SERVED) * (size // SERVED_BYTES)
        for kind, size in zip(kinds, sizes, strict=True)
    ]
    assert 1 <= length <= len(kinds)
    assert sum(cost[:length]) <= max(STEP_COST, cost[0])
    if length < len(kinds):
        assert sum(cost[: length + 1]) > STEP_COST


def test_turns_apply_everything_once_and_in_order() -> None:
    """However the clock cuts the turns, the state is that of the batch folded at once."""
    events = random_events(3_000, seed=9)
    whole = Fold(tiny_settings())
    whole.apply(LogPosition(0), events)
    for until in (-1.0, 1e9):  # the time is over at once; the time is never over
        folding = FoldScheduler(Fold(tiny_settings()), lambda: 0.0, Metrics(CollectorRegistry()))
        folding.add(LogPosition(0), events, ())
        count = 0
        while folding._durable:
            before = folding.fold.log_position
            folding._turn(until)
            assert 0 < folding.fold.log_position - before <= TURN_EVENTS_MAX
            count += 1
        assert count > 2
        assert folding.fold.digest() == whole.digest()


def test_events_that_come_alone_are_folded_when_they_are_handed_over() -> None:
    """In the same call, one turn of work; the rest waits for the next turns, as does what comes before it is done."""

    async def work() -> None:
        folding = folding_of_nothing()
        folding.start()
        folding.add(LogPosition(0), TICK, ())
        assert folding.fold.log_position == 0  # the task has not begun to rest
        await settled(folding, 1)
        ticket: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        folding.add(LogPosition(1), TICK, [(LogPosition(2), ticket)])
        assert folding.fold.log_position == 2
        assert ticket.done()
        await asyncio.sleep(0)  # one turn in a pass of the loop
        many = random_events(3_000, seed=9)
        folding.add(LogPosition(2), many, ())
        position = folding.fold.log_position
        assert 2 < position <= 2 + TURN_EVENTS_MAX
        folding.add(LogPosition(3_002), TICK, ())
        assert folding.fold.log_position == position
        await settled(folding, 3_003)
        await folding.stop()
        whole = Fold(tiny_settings())
        for first, batch in ((0, TICK), (1, TICK), (2, many), (3_002, TICK)):
            whole.apply(LogPosition(first), batch)
        assert folding.fold.digest() == whole.digest()

    asyncio.run(work())


async def settled(folding: FoldScheduler, position: int) -> None:
    """Return once all is folded and the task rests."""
    await folding.reached(LogPosition(position), PATIENCE_S)
    for _ in range(5):
        await asyncio.sleep(0)


def test_of_what_comes_in_one_pass_only_the_first_is_folded_at_once() -> None:
    """Answers have their room between two turns, however many frames come together."""
    log = random_events(2_000, seed=3)

    async def main() -> None:
        folding = FoldScheduler(Fold(tiny_settings()), lambda: 0.0, Metrics(CollectorRegistry()))
        folding.start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = []
        for start in range(0, 2_000, 400):
            folding.add(LogPosition(start), cut(log, start, start + 400), ())
            found.append(folding.fold.log_position)
        assert found == [400] * 5
        assert await folding.reached(LogPosition(2_000), PATIENCE_S)
        for _ in range(5):
            await asyncio.sleep(0)
        folding.add(LogPosition(2_000), TICK, ())
        assert folding.fold.log_position == 2_001, "and then it rests again"
        await folding.stop()
        assert not folding._rests

    asyncio.run(main())


def test_a_table_that_raises_ends_the_turns_whoever_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is none from then on: all who wait hear of it, and what comes later is refused."""

    async def work() -> None:
        folding = folding_of_nothing()
        folding.start()
        folding.add(LogPosition(0), TICK, ())
        await settled(folding, 1)
        ticket: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with monkeypatch.context() as patch:
            patch.setattr(Fold, "apply", broken)
            with pytest.raises(ZeroDivisionError):
                folding.add(LogPosition(1), TICK, [(LogPosition(2), ticket)])
        assert isinstance(folding.failure, ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            await ticket
        later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        folding.add(LogPosition(2), TICK, [(LogPosition(3), later)])
        with pytest.raises(ZeroDivisionError):
            await later
        await folding.stop()

    asyncio.run(work())


def broken(*_: object) -> None:
    """Raise what no table should."""
    raise ZeroDivisionError


def test_who_waits_no_more_has_no_place_among_those_who_wait() -> None:
    """A request that was given up leaves its place to another, as one whose time is over does."""

    async def work() -> None:
        folding = FoldScheduler(Fold(tiny_settings()), lambda: 0.0, Metrics(CollectorRegistry()))
        waits = [asyncio.create_task(folding.reached(LogPosition(5), PATIENCE_S)) for _ in range(9)]
        await asyncio.sleep(0)
        assert folding.waiting == 9
        for each in waits[:4]:
            each.cancel()
        await asyncio.wait(waits[:4])
        assert folding.waiting == 5
        folding.add(LogPosition(0), random_events(5, seed=9), ())
        folding._turn(1e9)
        assert await asyncio.gather(*waits[4:]) == [True] * 5
        assert folding.waiting == 0

    asyncio.run(work())


def test_whoever_waits_is_told_of_its_own_copies_alone() -> None:
    """Each ticket has the copies since the one before, and none where they are not asked for, as in a log of one."""

    async def told(*, tells_copies: bool) -> list[list[int]]:
        folding = folding_of_nothing()
        views = [
            Event(Kind.INTERACTION, event_id=each, action="view", user_id="ann", item_id="lamp") for each in "abcd"
        ]
        prints = folding.fold.event_ids.fingerprints(build(views))
        folding.add(LogPosition(0), build((views[0], views[3])), (), prints[np.array([0, 3])])
        tickets: list[asyncio.Future[Any]] = [asyncio.get_running_loop().create_future() for _ in range(3)]
        ends = zip(map(LogPosition, (3, 4, 6)), tickets, strict=True)
        folding.add(LogPosition(2), build(views), ends, prints, tells_copies=tells_copies)
        folding._turn(1e9)
        assert folding.fold.log_position == 6
        return [[each.id_hash for each in await ticket] for ticket in tickets]

    first, _, _, last = fingerprints_of("abcd")
    assert asyncio.run(told(tells_copies=True)) == [[first], [], [last]]
    assert asyncio.run(told(tells_copies=False)) == [[], [], []]


def fingerprints_of(ids: str) -> list[int]:
    """Return what is known of each id."""
    events = [Event(Kind.INTERACTION, event_id=each, action="view", user_id="ann", item_id="lamp") for each in ids]
    return [int(each) for each in folding_of_nothing().fold.event_ids.fingerprints(build(events)).id_hash]


def folding_of_nothing() -> FoldScheduler:
    """Turns over an empty state that a test takes by hand."""
    return FoldScheduler(Fold(tiny_settings()), lambda: 0.0, Metrics(CollectorRegistry()))


async def waiting(folding: FoldScheduler, *positions: int) -> list[asyncio.Task[bool]]:
    """Requests that wait for positions."""
    found = [asyncio.create_task(folding.reached(LogPosition(each), PATIENCE_S)) for each in positions]
    await asyncio.sleep(0)
    return found


@given(st.permutations(range(1, 8)), st.sets(st.integers(0, 6)))
@example([1, 5, 2, 6, 7, 3, 4], {0})
def test_who_waits_is_told_as_soon_as_the_position_is_applied(positions: list[int], gives_up: set[int]) -> None:
    """Whoever waits for what, in whatever order they came, and whoever of them gave up before."""

    async def work() -> None:
        folding = folding_of_nothing()
        waits = await waiting(folding, *positions)
        for each in gives_up:
            waits[each].cancel()
        if gives_up:
            await asyncio.wait([waits[each] for each in gives_up])
        for applied in range(1, 8):
            folding.add(LogPosition(applied - 1), TICK, ())
            folding._turn(1e9)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            told = {positions[at] for at, each in enumerate(waits) if each.done() and not each.cancelled()}
            assert told == {each for at, each in enumerate(positions) if at not in gives_up and each <= applied}
        assert folding.waiting == 0

    asyncio.run(work())


def test_as_many_wait_as_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and whoever asks for what is applied already is answered all the same."""
    monkeypatch.setattr(fold_scheduler, "WAITERS_MAX", 3)

    async def work() -> None:
        folding = folding_of_nothing()
        waits = await waiting(folding, 1, 1, 2)
        with pytest.raises(Overloaded, match="3 requests wait"):
            await folding.reached(LogPosition(1), 0.0)
        assert await folding.reached(LogPosition(0), 0.0)
        folding.add(LogPosition(0), TICK, ())
        folding._turn(1e9)
        assert await asyncio.gather(*waits[:2]) == [True, True]
        assert await folding.reached(LogPosition(2), 0.0) is False
        waits[2].cancel()
        await asyncio.wait(waits)

    asyncio.run(work())


def test_a_stop_applies_what_is_durable_first() -> None:
    """And whoever waits for anything more is told when there is something."""

    async def work() -> None:
        folding = folding_of_nothing()
        folding.start()
        more = asyncio.create_task(folding.progress(PATIENCE_S))
        await asyncio.sleep(0)
        ticket = asyncio.get_running_loop().create_future()
        folding.add(LogPosition(0), random_events(900, seed=9), [(LogPosition(900), ticket)])
        await folding.stop()
        assert folding.fold.log_position == 900
        assert ticket.done()
        assert await more
        assert await folding.progress(0.0) is False

    asyncio.run(work())


def test_a_failure_ends_the_turns_and_tells_whoever_waits_for_an_acknowledgement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is applied after it, nothing is kept for later, and a stop does not wait for what will not come."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def work() -> None:
        folding = folding_of_nothing()
        monkeypatch.setattr(folding.fold, "apply", broken)
        folding.start()
        before, after = (asyncio.get_running_loop().create_future() for _ in range(2))
        folding.add(LogPosition(0), TICK, [(LogPosition(1), before)])
        with pytest.raises(ZeroDivisionError):
            await before
        assert isinstance(folding.failure, ZeroDivisionError)
        folding.add(LogPosition(1), TICK, [(LogPosition(2), after)])
        with pytest.raises(ZeroDivisionError):
            await after
        assert not folding._durable
        await folding.stop()

    async def while_it_stops() -> None:
        folding = folding_of_nothing()
        monkeypatch.setattr(folding.fold, "apply", broken)
        folding.start()
        folding.add(LogPosition(0), TICK, ())
        stop = asyncio.create_task(folding.stop())
        for _ in range(100):
            await asyncio.sleep(0)
        assert stop.done()
        assert isinstance(folding.failure, ZeroDivisionError)

    asyncio.run(work())
    asyncio.run(while_it_stops())


def test_engines_of_one_loop_fold_half_of_the_time_together() -> None:
    """While any of them answers: without a shared account each takes its turn in the room that another one leaves."""

    async def main() -> float:
        share = FoldShare(is_shared=True)
        metrics = [Metrics(CollectorRegistry()) for _ in range(3)]
        both = [FoldScheduler(Fold(tiny_settings()), time.monotonic, each, share) for each in metrics]
        for number, folding in enumerate(both):
            folding.start()
            folding.add(LogPosition(0), random_events(20_000, seed=number), ())
        began = time.monotonic()
        while any(folding._durable for folding in both):
            both[0].note_answer()
            await asyncio.sleep(0)
        seconds = time.monotonic() - began
        folded = sum(each.turn_seconds.total for each in metrics)
        for folding in both:
            await folding.stop()
        assert all(folding.fold.log_position == 20_000 for folding in both)
        return float(folded / seconds)

    assert asyncio.run(main()) < 0.7


def test_a_turn_beside_answers_of_other_engines_is_short() -> None:
    """By how long the newest events took, whatever their number says: others wait for it too."""
    seconds, sizes = [0.0], list[int]()

    async def main() -> None:
        share = FoldShare(is_shared=True)
        folding = FoldScheduler(Fold(tiny_settings()), lambda: seconds[0], Metrics(CollectorRegistry()), share)
        apply = folding.fold.apply

        def slow(first: LogPosition, batch: Any, prints: Any = None) -> None:
            apply(first, batch, prints)
            sizes.append(len(batch))
            seconds[0] += 0.0001 * len(batch)  # a tenth of a millisecond each

        folding.fold.apply = slow  # type: ignore[method-assign]
        folding.start()
        folding.add(LogPosition(0), random_events(1_000, seed=5), ())
        while folding._durable:
            folding.note_answer()
            seconds[0] += 0.0005
            await asyncio.sleep(0)
        await folding.stop()
        assert folding.fold.log_position == 1_000

    asyncio.run(main())
    assert sizes[0] > SHARED_STEP_MIN
    assert max(sizes[2:]) <= SHARED_STEP_MIN
