"""Rankings of users and of values: those of a plain sum over the acts, with ids that the state does not have."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.app.config.schema import ItemsSection
from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.types import LogPosition
from midstream.engine.lists.audiences import AudienceQuestion
from midstream.engine.lists.value_rankings import ValueQuestion
from midstream.events.schema import concat, cut
from midstream.state.fold import Fold
from midstream.state.pairs.covisitation_query import PairQuery
from midstream.state.users import users
from tests.support.rig import SMALL, Rig, view

CONFIG = replace(SMALL, items=ItemsSection(attributes={"brand": "category", "price": "number"}))


def act(kind, user, item, session=""):
    """Return an act as a client sends it."""
    return {"type": kind, "user_id": user, "item_id": item, **({"session_id": session} if session else {})}


acts = st.lists(
    st.tuples(
        st.sampled_from(["view", "cart", "purchase", "dismiss"]),
        st.sampled_from([f"u{n}" for n in range(7)]),
        st.sampled_from([f"i{n}" for n in range(6)]),
    ),
    min_size=1,
    max_size=60,
)


@given(acts, st.integers(1, 8), st.booleans(), st.integers(1, 3))
def test_users_for_an_item_are_those_of_a_plain_sum(events, count, acted, rows) -> None:
    """What the item's pairs weigh, over each user's acts; each user with the id of its last act."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        for number, (kind, user, item) in enumerate(events):
            rig.now_ms += 1_000
            await engine.record(rig.batch(act(kind, user, item, f"s{number // 3}")))
        target = events[0][2]
        fold = engine.fold
        index = fold.vocabulary.item_index(target)
        found = await engine.lists.item_users(AudienceQuestion(target, count, acted))
        beside = PairQuery(last_items_max=1, same_item=0.0, popularity="0.5", limit=500)
        items, scores = fold.pairs.score(beside, np.array([index], np.int32), engine.clock())
        worth = {index: 1.0} if acted else dict(zip(items.tolist(), scores.tolist(), strict=True))
        weights = {"view": 1.0, "cart": 3.0, "purchase": 8.0, "dismiss": 0.0}
        sums = {}
        for user in {each[1] for each in events}:
            own = [(kind, fold.vocabulary.item_index(item)) for kind, each, item in events if each == user]
            if acted or all(item != index for _, item in own):
                sums[user] = sum(weights[kind] * worth.get(item, 0.0) for kind, item in own)
        right = sorted((score for score in sums.values() if score > 0), reverse=True)[:count]
        assert [each.score for each in found.users] == pytest.approx(right)
        for each in found.users:
            assert sums[each.user_id] == pytest.approx(each.score)
        assert len({each.user_id for each in found.users}) == len(found.users)

    before = users.PACKED_AT_ONCE
    users.PACKED_AT_ONCE = rows
    try:
        Rig(config=CONFIG).run(work)
    finally:
        users.PACKED_AT_ONCE = before


def test_ids_are_those_of_the_last_act() -> None:
    """Of a merged user the id under which it came last; of many with one log time the right one."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(*[act("view", f"u{n}", name, f"s{n}") for n in range(5) for name in ("a", "b")]))
        rig.now_ms += 1_000
        both = [act("view", f"v{n}", "b") for n in range(9)]
        await engine.record(rig.batch(*both))
        merge = {"type": "user", "user_id": "v3", "operation": "merge", "attributes": {"from": "v4"}}
        await engine.record(rig.batch(merge))
        rig.now_ms += 1_000
        await engine.record(rig.batch(act("view", "v4", "b")))
        found = await engine.lists.item_users(AudienceQuestion("a", 20))
        assert found.users[0].user_id == "v4"
        assert {each.user_id for each in found.users} == {f"v{n}" for n in range(9)} - {"v3"}
        with pytest.raises(NotFound):
            await engine.lists.item_users(AudienceQuestion("none", 20))
        with pytest.raises(RequestInvalid, match="101 came"):
            await engine.lists.item_users(AudienceQuestion("a", 101))

    Rig(config=CONFIG).run(work)


def _acts_of_five() -> list[tuple[str, str]]:
    return [("buyer", "a"), ("buyer", "b"), ("fan", "b"), ("other", "z"), ("third", "y")]


async def _record(rig: Rig) -> None:
    for user, item in _acts_of_five():
        rig.now_ms += 1_000
        await rig.engine.record(rig.batch(act("view", user, item, f"s-{user}")))


def _between_rows(monkeypatch, change, *, after: int) -> None:
    """Run a change in one of the turns that a ranking leaves to others, one row of users a turn."""
    turns: list[Any] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == after:
            await change()
        await real(seconds)

    monkeypatch.setattr(users, "PACKED_AT_ONCE", 1)
    monkeypatch.setattr(asyncio, "sleep", sleep)


@pytest.mark.parametrize("after", [1, 3, 4, 5])
def test_users_are_the_same_when_another_state_comes_into_service(monkeypatch, after) -> None:
    """A state of the same events with other slots: the scan begins again, and no score goes to another user."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await _record(rig)
        log = concat([batch for _, batch in engine.log.read(LogPosition(0), 100)])
        other = Fold(engine.fold.settings)
        for position, row in enumerate((3, 4, 2, 0, 1)):
            other.apply(LogPosition(position), cut(log, row, row + 1))
        assert other.vocabulary.user_index("fan") != engine.fold.vocabulary.user_index("fan")
        expected = [(each.user_id, each.score) for each in (await engine.lists.item_users(question)).users]
        assert [user for user, _ in expected] == ["fan"]

        async def swap() -> None:
            engine.swap(other, engine.plans)

        with monkeypatch.context() as patch:
            _between_rows(patch, swap, after=after)
            found = await engine.lists.item_users(question)
        assert engine.fold is other
        assert [each.user_id for each in found.users] == [user for user, _ in expected]
        assert [each.score for each in found.users] == pytest.approx([score for _, score in expected])

    question = AudienceQuestion("a", 5)
    Rig(config=SMALL).run(work)


def test_a_slot_that_changes_hands_names_nobody_else(monkeypatch) -> None:
    """A user who is erased while rows are scanned is left out; who gets the slot is not ranked in its place."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await _record(rig)
        slot = engine.fold.vocabulary.user_index("fan")

        async def erase() -> None:
            await engine.erase("fan")
            await engine.record(rig.batch(act("view", "new", "q", "s-new")))
            assert engine.fold.vocabulary.user_index("new") == slot

        with monkeypatch.context() as patch:
            _between_rows(patch, erase, after=3)
            found = await engine.lists.item_users(AudienceQuestion("a", 5))
        assert found.users == []

    Rig(config=SMALL).run(work)


def test_similar_users_and_values() -> None:
    """Neighbours by items in common; a brand that only they have comes behind the user's own."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        brands = {"a": "arko", "b": "arko", "c": "brio", "d": "cama", "e": "cama"}
        puts = [{"type": "item", "item_id": name, "attributes": {"brand": brand}} for name, brand in brands.items()]
        await engine.record(rig.batch(*puts))
        for user, items in {"ann": "ab", "near": "abcd", "half": "bc", "far": "e"}.items():
            rig.now_ms += 1_000
            await engine.record(rig.batch(*[act("view", user, item, f"s-{user}") for item in items]))
        rig.now_ms += 3_600_000
        await engine.record(rig.batch(*[view("e", f"x{n}") for n in range(3)]))
        found = await engine.lists.similar_users("ann")
        assert [each.user_id for each in found.users] == ["near", "half"]
        assert found.users[0].score > found.users[1].score > 0
        ranking = engine.lists.user_values(ValueQuestion("ann", "brand", 5))
        assert [each.value for each in ranking.values] == ["arko", "brio", "cama"]
        assert ranking.neighbours == 2
        assert [each.own for each in ranking.values] == [1.0, 0.0, 0.0]
        assert sum(each.near for each in ranking.values) == pytest.approx(1.0)
        assert all(each.score == pytest.approx((each.own + each.near) / 2) for each in ranking.values)
        new = engine.lists.user_values(ValueQuestion("ann", "brand", 1, new=True))
        assert [each.value for each in new.values] == ["brio"]
        for wrong in ("price", "brnd"):
            with pytest.raises(RequestInvalid, match="is no category"):
                engine.lists.user_values(ValueQuestion("ann", wrong, 5))
        with pytest.raises(NotFound):
            engine.lists.user_values(ValueQuestion("nobody", "brand", 5))
        with pytest.raises(NotFound):
            await engine.lists.similar_users("nobody")

    Rig(config=CONFIG).run(work)
