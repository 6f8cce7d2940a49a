"""A folding turn is short whatever is folded, and nothing is left out or applied twice by the cuts."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.turns import DOCUMENT_COST, SERVED_BYTES, STEP_COST, TURN_EVENTS_MAX, Folding, step_length
from midstream.events.schema import ROW
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold
from midstream.testing.events import random_events, tiny_settings
from midstream.testing.patience import PATIENCE_S

KINDS = st.lists(st.sampled_from([int(kind) for kind in Kind]), min_size=1, max_size=STEP_COST)
SERVED, ITEM = int(Kind.SERVED), int(Kind.ITEM)
FEW = STEP_COST // DOCUMENT_COST


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
        DOCUMENT_COST if kind in {Kind.ITEM, Kind.USER} else 1 + (kind == Kind.SERVED) * (size // SERVED_BYTES)
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
        folding = Folding(Fold(tiny_settings()), lambda: 0.0, Metrics(CollectorRegistry()))
        folding.add(LogPosition(0), events, ())
        turns = 0
        while folding._durable:
            before = folding.fold.log_position
            folding._turn(until)
            assert 0 < folding.fold.log_position - before <= TURN_EVENTS_MAX
            turns += 1
        assert turns > 2
        assert folding.fold.digest() == whole.digest()


def test_who_waits_no_more_has_no_place_among_those_who_wait() -> None:
    """A request that was given up leaves its place to another, as one whose time is over does."""

    async def work() -> None:
        folding = Folding(Fold(tiny_settings()), lambda: 0.0, Metrics(CollectorRegistry()))
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
