"""Many users of one request: compiled plans answer them, and replies and records are the pipeline's, byte for byte.

Two engines of one state make the same request ids and seeds. One is asked through the route, of the other only the
pipeline answers.
"""

import asyncio
import json
from collections import Counter
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config
from midstream.core.answers.slates import Batch, UserSlate
from midstream.core.errors import MidstreamError
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.answer.answering import Answering
from midstream.engine.answer.compiled_slates import CompiledSlates, EncodedSlate, Stamp
from midstream.engine.requests.schema import BatchBody, RecommendationQuestion
from midstream.engine.types import Answer, Ask
from midstream.ranking.compiled.back_off import BackOff
from midstream.ranking.compiled.compiled_plan import CompiledPlan
from midstream.serving.http.problems import problem_of
from midstream.serving.slates.batch import Batches
from midstream.serving.slates.recommendations import slate_of
from tests.engine.answer.test_compiled_slates import LIMITS, STREAM, Both, answered, random_placement
from tests.engine.answer.test_composed_slates import (
    CATEGORY,
    CONDITIONS,
    PURCHASES,
    VIEWS,
    catalogue,
    composed,
    composed_placement,
    counted,
    with_models,
)
from tests.support.events import random_events
from tests.support.rig import Rig, view

UNUSUAL: tuple[dict[str, object], ...] = (
    {"item_fields": {"item-1": {"own": 1.0}}},
    {"explain": True, "reasons": "en"},
    {"filter": "item.available"},
)
"""Fields with which the pipeline answers, at least where a plan has nothing behind the cut."""


def random_body(dice: np.random.Generator, placement: str) -> bytes:
    """A question for some users, known and unknown, one of them twice, of some kind."""
    users = [f"user-{int(dice.integers(45))}" for _ in range(int(dice.integers(1, 7)))]
    told: dict[str, object] = {"placement": placement, "users": [*users, 'né "quoted"', users[0]]}
    if dice.random() < 0.5:
        told["n"] = int(dice.integers(1, 30))
    if dice.random() < 0.5:
        told["exclude"] = [f"item-{int(dice.integers(130))}" for _ in range(int(dice.integers(1, 12)))]
    if dice.random() < 0.3:
        told["context"] = {"channel": str(dice.choice(["app", "web"])), "hour": float(dice.integers(24)), "new": True}
    if dice.random() < 0.3:
        told["fields"] = ["category", "brand", "nowhere"][: int(dice.integers(1, 4))]
    if dice.random() < 0.2:
        told["filter"] = str(dice.choice(CONDITIONS))
    if dice.random() < 0.15:
        told |= UNUSUAL[int(dice.integers(len(UNUSUAL)))]
    return json.dumps(told).encode()


async def by_pipeline(rig: Rig, body: bytes) -> bytes:
    """The reply that no kernel had part in."""
    question = msgspec.json.decode(body, type=BatchBody)
    with patch.object(CompiledSlates, "shortlister", return_value=None):
        answers = await rig.engine.recommend_many(question.asks(question.placement or "default"))
    return msgspec.json.encode(
        Batch(
            [
                UserSlate(user_id, slate_of(each, None))
                if isinstance(each, Answer)
                else UserSlate(user_id, problem=problem_of(each))
                for user_id, each in zip(question.users, answers, strict=True)
            ]
        )
    )


def compiled_count(rig: Rig) -> float:
    """How many slates kernels made."""
    return sum(
        each.value
        for family in rig.engine.metrics.registry.collect()
        for each in family.samples
        if each.name == "midstream_compiled_answers_total"
    )


def forget_misses(both: Both) -> None:
    """Let the next question ask the kernels, whatever came of those before."""
    for entry in both.rig.engine._answering.compiled._entries.values():
        assert isinstance(entry.compiled, CompiledPlan)
        entry.compiled.proposals, entry.compiled.narrowed, entry.compiled.texts = BackOff(), BackOff(), BackOff()


@pytest.mark.parametrize("seed", range(4))
def test_replies_records_and_counts_are_those_of_the_pipeline(seed: int) -> None:
    """Random plans, with and without parts behind the cut, states and questions, usual and not."""
    dice = np.random.default_rng(seed)
    placements = (
        *(random_placement(dice, number) for number in range(3)),
        *(composed_placement(dice, number) for number in range(3, 6)),
    )
    config = Config(limits=LIMITS, placements=placements, items=CATEGORY, features=(PURCHASES, VIEWS))
    batch = random_events(1_200, seed, STREAM)

    async def work(both: Both) -> None:
        twin = Both(Rig(config=config, monotonic=lambda: 100.0, worked_s=lambda: 0.0))
        route, users = Batches(both.rig.engine), 0
        for each in (both, twin):
            with_models(each)
        for start in range(0, len(batch), 150):
            stocked = int(dice.integers(1_000))
            for each in (both, twin):
                fold = each.rig.engine.fold
                fold.apply(LogPosition(fold.log_position), EventBatch(batch.rows[start : start + 150], batch.text))
                fold.apply(LogPosition(fold.log_position), catalogue(np.random.default_rng(stocked), fold.log_time_ms))
                each.rig.now_ms = fold.log_time_ms + 60_000
            for number in range(18):
                for each in (both, twin):
                    each.rig.engine.guards._watched.clear()
                    each.ahead._added.clear()
                forget_misses(both)
                body = random_body(dice, f"p{number % 6}")
                reply = await route.from_body(body)
                assert reply.body.decode() == (await by_pipeline(twin.rig, body)).decode()
                assert both.served == twin.served
                assert len(both.served) == len(json.loads(reply.body)["answers"])
                users += len(both.served)
                both.served.clear()
                twin.served.clear()
        assert counted(both) == counted(twin)
        assert compiled_count(twin.rig) == 0
        assert users * 0.5 < compiled_count(both.rig) < users, "both ways answered, most often the kernels"

    answered(config, work)


def test_read_your_writes_is_that_of_the_request() -> None:
    """The log position is waited for once; each slate of a kernel says so, and one without a position says nothing."""

    async def work(rig: Rig) -> None:
        route = Batches(rig.engine)
        await rig.engine.record(rig.batch(*(view(f"i{number}") for number in range(8))))
        end = rig.engine.fold.log_position
        position = rig.engine.token(end)
        for more, told in (({}, None), ({"min_log_position": position}, True)):
            body = {"users": ["ann", "bob"], "n": 3, **more}
            reply = json.loads((await route.from_body(json.dumps(body).encode())).body)
            assert [each["slate"].get("read_your_writes") for each in reply["answers"]] == [told] * 2
            assert [len(each["slate"]["items"]) for each in reply["answers"]] == [3] * 2
        assert compiled_count(rig) == 4
        with patch.object(Answering, "_caught_up", side_effect=[False]) as waits:
            body = {"users": ["ann", "bob"], "n": 3, "min_log_position": position}
            reply = json.loads((await route.from_body(json.dumps(body).encode())).body)
        assert [each["slate"]["read_your_writes"] for each in reply["answers"]] == [False] * 2
        assert waits.call_count == 1
        assert compiled_count(rig) == 6

    Rig(config=Config(limits=LIMITS), worked_s=lambda: 0.0).run(work)


def test_a_user_whose_last_record_is_not_folded_waits_for_it_and_nobody_else_does() -> None:
    """Where a plan reads served records: the second answer to the same user has nothing of the first."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*(view(f"i{n}", f"u{n}", event_id=f"{n}") for n in range(40))))
        route, compiled = Batches(rig.engine), CompiledSlates.answer
        ways: list[tuple[str | None, bool]] = []

        def noted(
            self: CompiledSlates, question: RecommendationQuestion, placement: str
        ) -> EncodedSlate | Stamp | None:
            found = compiled(self, question, placement)
            ways.append((question.user_id, isinstance(found, EncodedSlate)))
            return found

        with patch.object(CompiledSlates, "answer", noted):
            body = {"users": ["ann", "bob", "ann", "eve"], "n": 9}
            reply = json.loads((await route.from_body(json.dumps(body).encode())).body)
        slates = [{item["id"] for item in each["slate"]["items"]} for each in reply["answers"]]
        assert not slates[0] & slates[2]
        assert slates[0] & slates[1]
        assert ways == [("ann", True), ("bob", True), ("ann", False), ("eve", True)]

    Rig(config=composed(exclude={"served": 1}, features=(), scorers=()), worked_s=lambda: 0.0).run(work)


def test_an_error_of_one_user_stands_in_its_place() -> None:
    """Of two questions that a kernel began and left to the pipeline one fails; both have the stamps of their begin."""
    answer, recommend = CompiledSlates.answer, Answering.recommend
    stamps: list[Stamp | None] = []

    def left(self: CompiledSlates, question: RecommendationQuestion, placement: str) -> EncodedSlate | Stamp | None:
        if question.user_id in {"u1", "u2"}:
            return Stamp(f"r-{question.user_id}", 7, self._live.clock(), 200.0, 100.0)
        return answer(self, question, placement)

    async def failing(self: Answering, ask: Ask, stamp: Stamp | None = None) -> Answer:
        stamps.append(stamp)
        if ask.user_id == "u2":
            message = "not now"
            raise MidstreamError(message)
        return await recommend(self, ask, stamp)

    async def work(both: Both) -> None:
        both.rig.engine.fold.apply(LogPosition(0), random_events(400, 7, STREAM))
        body = json.dumps({"placement": "default", "users": [f"u{number}" for number in range(4)]}).encode()
        with patch.object(CompiledSlates, "answer", left), patch.object(Answering, "recommend", failing):
            reply = json.loads((await Batches(both.rig.engine).from_body(body)).body)["answers"]
        assert [each["user_id"] for each in reply] == ["u0", "u1", "u2", "u3"]
        assert ["slate" in each for each in reply] == [True, True, False, True]
        assert reply[2]["problem"]["detail"] == "not now"
        assert reply[1]["slate"]["request_id"] == "r-u1"
        assert [each and each.request_id for each in stamps] == ["r-u1", "r-u2"]
        assert len(both.served) == 3

    answered(Config(limits=LIMITS), work)


def test_others_have_their_turn_between_two_users() -> None:
    """Also between slates of kernels, which wait for nothing: whoever comes waits for one of them."""

    async def work(both: Both) -> None:
        engine = both.rig.engine
        engine.fold.apply(LogPosition(0), random_events(400, 7, STREAM))
        turns: Counter[str] = Counter()

        async def many() -> None:
            body = json.dumps({"placement": "default", "users": ["u1"] * 20}).encode()
            await Batches(engine).from_body(body)
            turns["many"] += 1

        batch = asyncio.create_task(many())
        while not batch.done():
            await asyncio.sleep(0)
            turns["others"] += 1
        assert turns["many"] == 1
        assert turns["others"] >= 20
        assert compiled_count(both.rig) == 20

    answered(Config(limits=LIMITS), work)
