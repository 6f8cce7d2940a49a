"""A state and its plans are replaced between two turns: nobody reads one with the other's numbers, nothing is lost."""

import asyncio
import gc
import weakref
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest

from midstream.app.wiring import plans
from midstream.core.types import FeatureFrame, LogPosition, Models, Query, Score
from midstream.engine.types import Ask, Outcome
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view

KNOWN = [{"type": "item", "item_id": f"known{number}", "attributes": {}} for number in range(5)]
REJECTING = msgspec.structs.replace(SMALL, items=msgspec.structs.replace(SMALL.items, unknown_items="reject"))
"""In this state the indices of items are others: those that only acts named are not there."""


async def some(rig: Rig) -> None:
    """Record acts on unknown and known items."""
    await rig.engine.record(rig.batch(*(view(f"unknown{number}") for number in range(5))))
    await rig.engine.record(rig.batch(*KNOWN, *(view(f"known{number}", user="bob") for number in range(5))))


def test_a_swapped_state_is_the_fold_of_all_events() -> None:
    """However many events come while the new state is brought up, at the swap it has them all, and goes on."""

    async def work(rig: Rig) -> None:
        await some(rig)
        fold = Fold(REJECTING.fold_settings())

        async def live() -> None:
            for number in range(200):
                await rig.engine.record(rig.batch(view(f"known{number % 5}", user=f"u{number}")))

        going_on = asyncio.ensure_future(live())
        assert await rig.engine.reached(LogPosition(16), PATIENCE_S)
        await rig.engine.hand_over(fold, plans(REJECTING))
        assert rig.engine.fold is fold
        assert fold.log_position > 15
        await going_on
        anew = Fold(REJECTING.fold_settings())
        for first, batch in rig.log.read(LogPosition(0), 10_000):
            anew.apply(first, batch)
        assert rig.engine.fold.digest() == anew.digest()
        assert anew.log_position == 215
        refused = await rig.engine.record(rig.batch(view("unknown1"), view("known1")))
        assert refused.outcome.tolist() == [Outcome.REFUSED, Outcome.RECORDED]

    Rig().run(work)


def test_a_state_at_another_position_is_not_taken() -> None:
    """The caller's own writes would be gone for a while."""

    async def work(rig: Rig) -> None:
        await some(rig)
        with pytest.raises(ValueError, match="a state at 0 came, the one in service stands at 15"):
            rig.engine.swap(Fold(REJECTING.fold_settings()), plans(REJECTING))

    Rig().run(work)


@dataclass(frozen=True, slots=True)
class Slow:
    """A scorer that waits, as one that asks an outside system does."""

    began: asyncio.Event
    go_on: asyncio.Event
    name: str = "slow"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Score all alike, when it is let."""
        self.began.set()
        await self.go_on.wait()
        return np.ones(len(features.values), dtype=np.float32)


def slow(plan: Plan, scorer: Slow) -> Plan:
    """Return a plan that waits in the middle."""
    return replace(plan, scorers=(scorer, *plan.scorers), deadline_ms=10_000)


def test_an_answer_under_way_keeps_its_state() -> None:
    """Swapped while a part of it is awaited, the answer still names the items that it chose, in record and slate."""

    async def work(rig: Rig) -> None:
        await some(rig)
        scorer = Slow(asyncio.Event(), asyncio.Event())
        rig.engine.swap(rig.engine.fold, {"default": slow(plans(SMALL)["default"], scorer)})
        before = rig.engine.fold.vocabulary.item_ids(np.arange(10, dtype=np.int32))
        asked = asyncio.ensure_future(rig.engine.recommend(Ask(user_id="zoe", fields=("x",))))
        await scorer.began.wait()
        await rig.engine.hand_over(Fold(REJECTING.fold_settings()), plans(REJECTING))
        assert rig.engine.fold.vocabulary.item_count == 5
        scorer.go_on.set()
        answer = await asked
        assert answer.failures == ()
        assert {item.id for item in answer.items} == set(before)
        assert await rig.engine.reached(LogPosition(16), PATIENCE_S)
        record = rig.engine.served(answer.request_id)
        assert record is not None
        assert [item.id for item in record.items] == [item.id for item in answer.items]

    Rig().run(work)


def test_a_wait_for_writes_ends_in_the_new_state() -> None:
    """Whoever waits for a position across the swap is answered by the plan and state that are in service then."""

    async def work(rig: Rig) -> None:
        await some(rig)
        before = rig.engine._folding
        asked = asyncio.ensure_future(before.reached(LogPosition(16), PATIENCE_S))
        await asyncio.sleep(0)
        await rig.engine.hand_over(Fold(REJECTING.fold_settings()), plans(REJECTING))
        await rig.engine.record(rig.batch(view("known1")))
        assert await asked
        answer = await rig.engine.recommend(Ask(user_id="zoe", min_log_position=rig.engine.token(LogPosition(16))))
        assert answer.read_your_writes
        assert {item.id for item in answer.items} == {f"known{number}" for number in range(5)}

    Rig().run(work)


def test_nobody_keeps_the_old_state() -> None:
    """After the swap no part of the engine refers to it: a stale reference would serve or fold what is gone."""

    async def work(rig: Rig) -> None:
        await some(rig)
        await rig.engine.recommend(Ask(user_id="bob"))
        old = weakref.ref(rig.engine.fold)
        await rig.engine.hand_over(Fold(REJECTING.fold_settings()), plans(REJECTING))
        await rig.engine.recommend(Ask(user_id="bob"))
        rig.engine.refresh_metrics()
        gc.collect()
        assert old() is None

    Rig().run(work)
