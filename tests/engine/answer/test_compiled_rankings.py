"""Rankings of the caller's own items by compiled plans: reply and record are the pipeline's, byte for byte."""

import asyncio
from collections.abc import Callable
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.answer.compiled_slates import EncodedSlate
from midstream.engine.requests.schema import RANK_ITEMS_MAX
from midstream.ranking.compiled.room import GIVEN_MAX
from midstream.ranking.rules.arrangement import DECIDED_MAX
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.pin import Pin
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK
from midstream.serving.slates.rank import Rankings
from midstream.serving.slates.recommendations import RankBody
from tests.engine.answer.test_compiled_slates import LIMITS, STREAM, Both, answered, random_placement, stamped
from tests.engine.answer.test_composed_slates import (
    CATEGORY,
    PURCHASES,
    VIEWS,
    catalogue,
    composed_placement,
    counted,
    with_models,
)
from tests.support.events import random_events
from tests.support.rig import Rig, view

PINNED = Pin(name="top", items=("item-1",), positions=(0,))
CAPS = (Cap(attribute="category", max=2),)


def random_ranking(dice: np.random.Generator, placement: str) -> RankBody:
    """A question about some items of the stream, and some that nobody knows."""
    told: dict[str, object] = {"placement": placement}
    most = int(dice.choice([1, 2, 12, 60, 130]))
    told["items"] = tuple(f"item-{each}" for each in dice.permutation(140)[:most])
    if dice.random() < 0.7:
        told["user_id"] = f"user-{int(dice.integers(45))}"
    if dice.random() < 0.4:
        told["session_id"] = f"session-{int(dice.integers(6))}-{int(dice.integers(12))}"
    if dice.random() < 0.5:
        told["n"] = int(dice.integers(1, 140))
    for name, count in (("basket", 6), ("exclude", 30)):
        if dice.random() < 0.5:
            told[name] = tuple(f"item-{int(dice.integers(130))}" for _ in range(int(dice.integers(1, count))))
    return RankBody(**told)  # type: ignore[arg-type]


def ranked(config: Config, work: Callable[[Both], object]) -> None:
    """Do work with an engine that has a state, a catalogue and the models."""

    async def begun(both: Both) -> None:
        with_models(both)
        fold = both.rig.engine.fold
        fold.apply(LogPosition(0), random_events(900, 5, STREAM))
        fold.apply(LogPosition(fold.log_position), catalogue(np.random.default_rng(5), fold.log_time_ms))
        both.rig.now_ms = fold.log_time_ms
        found = work(both)
        if asyncio.iscoroutine(found):
            await found

    answered(config, begun)


@pytest.mark.parametrize("seed", range(6))
def test_replies_and_records_are_those_of_the_pipeline(seed: int) -> None:
    """Random plans, with and without parts behind the cut, states and questions, among slates of the same plans."""
    dice = np.random.default_rng(seed)
    plain = [random_placement(dice, number) for number in range(3)]
    placements = (*plain, *(composed_placement(dice, number) for number in range(3, 6)))
    config = Config(limits=LIMITS, placements=placements, items=CATEGORY, features=(PURCHASES, VIEWS))
    batch = random_events(1_500, seed, STREAM)

    async def work(both: Both) -> None:
        with_models(both)
        fold, start = both.rig.engine.fold, 0
        while start < len(batch):
            part = batch.rows[start : start + int(dice.integers(1, 250))]
            fold.apply(LogPosition(fold.log_position), EventBatch(part, batch.text))
            fold.apply(LogPosition(fold.log_position), catalogue(dice, fold.log_time_ms))
            start += len(part)
            both.rig.now_ms = fold.log_time_ms + int(dice.integers(0, 40 * 60_000))
            for number in range(36):
                placement = f"p{number % 6}"
                both.rig.engine.guards._watched.clear()
                both.forget_misses(placement)
                question = random_ranking(dice, placement)
                plan = both.rig.engine.plan(placement)
                way = await both.same_of(question)
                if (question.n or len(question.items)) <= DECIDED_MAX or plan.arrangement is None:
                    both.ways[way] += 1
                elif type(plan.selectors[0]) is TopK and not plan.arrangement.rules:
                    assert way == "pipeline", "the second kernel decides about the first items alone"
                both.ways["slates"] += await both.same(b'{"placement":"%b","n":1}' % placement.encode()) == "compiled"
        assert both.ways["compiled"] > 150, "else this test says nothing"
        assert both.ways["slates"] > 100
        assert not both.ways["pipeline"]

    answered(config, work)


def test_removed_items_are_named_in_the_callers_order() -> None:
    """One that nobody knows, one that is excluded and one of the basket, and how many have no position."""

    async def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), stamped(both.rig, [view(f"i{number}") for number in range(9)]))
        both.rig.now_ms = both.rig.engine.fold.log_time_ms
        items = ("i4", "nobody", "i1", "i2", "i0", "i8", "none")
        question = RankBody(placement="default", items=items, exclude=("i1",), basket=("i8",), n=2)
        found = both.rig.engine.encoded_slate(question, "default")
        assert isinstance(found, EncodedSlate)
        removed = [("nobody", "unknown"), ("i1", "excluded"), ("i8", "repeats"), ("none", "unknown")]
        assert [(each.id, each.filter) for each in found.removed] == removed
        assert found.not_selected == 1
        both.served.clear()
        assert await both.same_of(question) == "compiled"
        assert await both.same_of(msgspec.structs.replace(question, items=("nobody", "none"))) == "compiled"

    answered(Config(limits=LIMITS, placements=(Placement(repeats="none"),)), work)


def test_a_question_that_no_program_has_goes_to_the_pipeline() -> None:
    """Among them a list with one item twice, which it refuses; nothing is begun for any."""
    told: tuple[dict[str, object], ...] = (
        {"items": ("item-1", "item-2", "item-1")},
        {"items": ()},
        {"filter": "item.available"},
        {"item_fields": {"item-1": {"own": 1.0}}},
        {"explain": True},
        {"reasons": "en"},
        {"min_log_position": "x"},
        {"n": RANK_ITEMS_MAX + 1},
        {"items": tuple(f"i{number}" for number in range(RANK_ITEMS_MAX + 1))},
        {"placement": "pinned"},
        {"placement": "nowhere"},
    )

    def work(both: Both) -> None:
        engine = both.rig.engine
        plain = RankBody(placement="default", items=("item-1", "item-2"))
        for each in told:
            question = msgspec.structs.replace(plain, **each)
            assert engine.encoded_slate(question, question.placement or "") is None, each
        assert isinstance(engine.encoded_slate(plain, "default"), EncodedSlate)

    ranked(
        Config(
            limits=LIMITS,
            placements=(Placement(), Placement(name="pinned", rules=(PINNED,))),
            items=CATEGORY,
        ),
        work,
    )


def test_the_largest_ranking_is_compiled() -> None:
    """As many items as a question may have; behind as many items and excluded ones as there may be."""
    assert GIVEN_MAX == RANK_ITEMS_MAX

    async def work(both: Both) -> None:
        fold = both.rig.engine.fold
        events = [view(f"i{number:04d}", user_id=f"u{number % 7}") for number in range(1_050)]
        fold.apply(LogPosition(0), stamped(both.rig, events))
        both.rig.now_ms = fold.log_time_ms
        items = tuple(f"i{number:04d}" for number in range(1_040, 1_040 - RANK_ITEMS_MAX, -1))
        more = {"basket": tuple(f"i{number:04d}" for number in range(200)), "user_id": "u1", "session_id": "s"}
        exclude = tuple(f"i{number:04d}" for number in range(50, 1_050))
        for each in ({}, more, {**more, "exclude": exclude}):
            question = RankBody(placement="default", items=items, **each)  # type: ignore[arg-type]
            assert await both.same_of(question) == "compiled"

    limits = msgspec.structs.replace(LIMITS, items_max=1_100, click_items_max=1_100, event_ids_max=5_000)
    answered(Config(limits=limits), work)


@pytest.mark.parametrize("more", [{}, {"caps": CAPS}, {"selector": PlackettLuce(keep=2)}])
def test_what_is_counted_is_what_the_pipeline_counts(more: dict[str, object]) -> None:
    """Answers, items and actions of rules."""

    async def work(both: Both) -> None:
        engine = both.rig.engine
        found = []
        for way in ("compiled", "pipeline"):
            dice, before = np.random.default_rng(3), counted(both)
            for _ in range(40):
                question = msgspec.structs.replace(random_ranking(dice, "default"), n=int(dice.integers(1, 90)))
                if way == "compiled":
                    assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
                else:
                    await both.by_pipeline(question.ask("default"), None)
            grown = {name: value - before.get(name, 0.0) for name, value in counted(both).items()}
            found.append({name: each for name, each in grown.items() if each})
        assert found[0] == found[1]
        both.served.clear()

    placement = msgspec.structs.replace(Placement(repeats="any"), **more)
    ranked(Config(limits=LIMITS, placements=(placement,), items=CATEGORY), work)


def test_the_route_answers_by_the_kernel() -> None:
    """With the events that came in the question."""

    async def work(rig: Rig) -> None:
        both = Both(rig)
        for number in range(8):
            await rig.engine.record(rig.batch(view(f"i{number}")))
        both.served.clear()

        async def record(_: bytes) -> object:
            raise AssertionError

        rankings = Rankings(rig.engine, record)  # type: ignore[arg-type]
        body = b'{"items": ["i1", "i7", "gone"], "user_id": "bob", "n": 1}'
        with patch.object(rig.engine, "recommend", side_effect=AssertionError("the kernel answers")):
            reply = await rankings.from_body(body)
        told = msgspec.json.decode(reply.body)
        assert told["removed"] == [{"id": "gone", "filter": "unknown"}]
        assert told["not_selected"] == 1
        with patch.object(rig.engine, "encoded_slate", return_value=None):
            other = msgspec.json.decode((await rankings.from_body(body)).body)
        assert {**other, "request_id": "", "state_age_ms": 0} == {**told, "request_id": "", "state_age_ms": 0}

    Rig(config=Config(limits=LIMITS), worked_s=lambda: 0.0).run(work)
