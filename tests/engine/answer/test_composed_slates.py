"""Compiled plans with features, models and rules of the slate answer as the pipeline does, byte for byte.

The model is one of the test's own: its scores are equal, negative, no numbers or -0 as often as a case wants.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config, ItemsSection, Placement
from midstream.core.durations import Duration
from midstream.core.errors import RequestInvalid
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, LogPosition, Models, Score
from midstream.engine.answer.compiled_slates import EncodedSlate, Stamp
from midstream.engine.requests.schema import Deadline
from midstream.events.schema import Event, build
from midstream.events.served_body import decode_body
from midstream.features.declared import DeclaredFeatures
from midstream.features.kinds.counts import Count
from midstream.models.model import Arrays
from midstream.ranking.compiled.bound_slate import finish_bound
from midstream.ranking.compiled.compiled_plan import CompiledPlan
from midstream.ranking.rules.boost import Boost
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.new_items import NewItems
from midstream.ranking.rules.promote import Promote
from midstream.ranking.scorers.model_scorer import ModelScorer
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.serving.slates.recommendations import RecommendationBody
from midstream.state.structures.hashing import id_hash
from tests.engine.answer.test_compiled_slates import LIMITS, STREAM, Both, answered, random_placement, random_question
from tests.support.events import random_events

CATEGORY = ItemsSection(attributes={"category": "category", "brand": "category", "tags": "tags"})
PURCHASES = Count(name="purchases", scope="item", actions=("purchase",), windows=(Duration("7d"),))
VIEWS = Count(name="views", scope="user", actions=("view",), windows=(Duration("1d"), Duration("30d")))
RULES = (
    Boost(name="dear", where='item.category == "c1"', factor=2.5),
    Boost(name="buried", where='item.brand == "b0"', factor=0.2),
    Promote(name="some", where='item.category == "c2"', min=0.3),
    Promote(name="few", where='item.category == "c3"', max=0.2),
    NewItems(name="fresh", within=Duration("1d"), positions=(0, 3)),
    Boost(name="in the app", where='item.brand == "b1"', factor=3.0, when='context.channel == "app"'),
    Boost(name="over", where='item.category == "c0"', factor=9.0, end="2001-01-01T00:00:00Z"),
)
"""Any of them."""
CONDITIONS = (
    'item.category != "c3"',
    'item.available and item.brand != "b1"',
    'context.channel == "app" or item.category == "c1"',
)
"""Of a placement, or of a request."""
KINDS = ("plain", "ties", "gaps", "zeros", "one", "small", "large", "none", "beyond")


@dataclass
class Odd:
    """A row model of the test's own."""

    kind: str
    inputs: tuple[str, ...] = ("score.popular", "rank.popular", "purchases")

    def score(self, values: Score) -> Score:
        """A number a row, by the row alone; of some kinds none, or of equal size."""
        known = np.nan_to_num(values).astype(np.float64)
        plain = np.sin(known @ np.array([3.0, 1.7, 0.3])) * 4
        found: dict[str, np.ndarray] = {
            "plain": plain,
            "ties": np.round(plain),
            "gaps": np.where(plain > 1, np.nan, plain),
            "zeros": np.where(plain > 1, -0.0, np.where(plain > -1, 0.0, -2.0)),
            "one": np.full(len(values), 0.25),
            "none": np.full(len(values), np.nan),
            "small": plain * 1e-9,
            "large": plain * 1e9,
            "beyond": plain * 1e20,
        }
        score: Score = found[self.kind].astype(np.float32)
        return score

    def arrays(self) -> Arrays:
        """Nothing that is kept."""
        return {}


def composed_placement(dice: np.random.Generator, number: int) -> Placement:
    """A placement of random sources with any of the parts that lie behind the cut."""
    more: dict[str, object] = {}
    if dice.random() < 0.7:
        more |= {"features": ("purchases", "views"), "log_features": float(dice.choice([0.0, 0.5, 1.0]))}
        more["scorers"] = (
            (ModelScorer(name=str(dice.choice(KINDS[:7] * 3 + KINDS[7:]))),) if dice.random() < 0.8 else ()
        )
    caps = [Cap(attribute=each, max=int(dice.integers(1, 4))) for each in ("category", "brand") if dice.random() < 0.5]
    more["caps"] = tuple(caps)
    if dice.random() < 0.7:
        weight = float(dice.choice([1e-17, 0.2, 1.0]))
        more["diversity"] = Diversity(attribute=str(dice.choice(["category", "brand"])), weight=weight)
    if dice.random() < 0.5:
        keep, pool = int(dice.integers(0, 5)), int(dice.choice([1, 3, 40, 100]))
        drawing = (PlackettLuce(keep=keep, pool=pool), EpsilonGreedy(epsilon=0.4, keep=keep, pool=pool))
        more["selector"] = drawing[int(dice.integers(2))]
        if "features" in more and dice.random() < 0.3:
            more["selector"] = Thompson(acts="purchases", impressions="views_1d", keep=keep, pool=pool)
    if dice.random() < 0.5:
        more["rules"] = tuple(each for each in RULES if dice.random() < 0.5)
    if dice.random() < 0.4:
        more["filter"] = str(dice.choice(CONDITIONS))
    if dice.random() < 0.3:
        more["exclude"] = {"purchase": "7d"}
    placement = random_placement(dice, number)
    candidates_max = int(dice.choice([placement.slate_size + 100, 500]))
    return msgspec.structs.replace(placement, **more, candidates_max=candidates_max)


def with_models(both: Both, kinds: tuple[str, ...] = KINDS) -> None:
    """Put the models into service."""
    both.rig.engine.serve_models(Models({kind: Odd(kind) for kind in kinds}, dict.fromkeys(kinds, "7")))


def catalogue(dice: np.random.Generator, log_time_ms: int) -> EventBatch:
    """Two of three items with a category, some with a brand, each new or changed."""
    found = []
    for item in range(STREAM.items):
        body: dict[str, object] = {"category": f"c{int(dice.integers(5))}"} if dice.random() < 0.7 else {}
        body |= {"brand": f"b{int(dice.integers(3))}"} if dice.random() < 0.4 else {}
        body |= {"tags": [f"t{each}" for each in range(int(dice.integers(4)))]} if dice.random() < 0.5 else {}
        told = json.dumps(body).encode()
        found.append(Event(Kind.ITEM, Operation.PATCH, item_id=f"item-{item}", body=told, log_time_ms=log_time_ms))
    return build(found)


@pytest.mark.parametrize("seed", range(8))
def test_replies_and_records_are_those_of_the_pipeline(seed: int) -> None:
    """Random plans, states and questions, while events come in between."""
    dice = np.random.default_rng(seed)
    placements = tuple(composed_placement(dice, number) for number in range(6))
    config = Config(limits=LIMITS, placements=placements, items=CATEGORY, features=(PURCHASES, VIEWS))
    batch = random_events(1_500, seed, STREAM)

    async def work(both: Both) -> None:
        with_models(both)
        fold, start, filtered = both.rig.engine.fold, 0, 0
        while start < len(batch):
            part = batch.rows[start : start + int(dice.integers(1, 200))]
            fold.apply(LogPosition(fold.log_position), EventBatch(part, batch.text))
            fold.apply(LogPosition(fold.log_position), catalogue(dice, fold.log_time_ms))
            start += len(part)
            both.rig.now_ms = fold.log_time_ms + int(dice.integers(0, 40 * 60_000))
            for _ in range(40):
                placement = f"p{int(dice.integers(6))}"
                assert both.obstacle(placement) == ""
                both.rig.engine.guards._watched.clear()  # a scorer without numbers leaves a placement to the pipeline
                both.forget_misses(placement)
                question = msgspec.json.decode(random_question(dice, placement), type=RecommendationBody)
                own = str(dice.choice(CONDITIONS)) if dice.random() < 0.2 else None
                entry = both.rig.engine._answering.compiled._entry(both.rig.engine.plan(placement))
                if entry.composed is not None:
                    question = msgspec.structs.replace(question, filter=own)
                    filtered += own is not None
                both.ways[await both.same_of(question)] += 1
        assert both.ways["compiled"] > 100, "else this test says nothing"
        assert filtered > 20
        assert not both.ways["pipeline"]
        assert any(name.startswith("rule_actions") for name in counted(both))

    answered(config, work)


def composed(**more: object) -> Config:
    """One placement of two sources with features and the plain model, and what else is given."""
    told = {"features": ("purchases",), "scorers": (ModelScorer(name="plain"),), **more}
    placement = msgspec.structs.replace(Placement(slate_size=9), **told)
    return Config(limits=LIMITS, placements=(placement,), items=CATEGORY, features=(PURCHASES, VIEWS))


DRAWING = (
    PlackettLuce(),
    PlackettLuce(temperature=900, keep=3, pool=4),
    EpsilonGreedy(epsilon=1),
    EpsilonGreedy(epsilon=0.5, keep=2, pool=5),
)


@pytest.mark.parametrize("selector", DRAWING)
@pytest.mark.parametrize("kind", ["plain", "ties", "gaps", "blend"])
def test_drawn_slates_are_the_kernels(selector: PlackettLuce | EpsilonGreedy, kind: str) -> None:
    """Of scores of a model and of the blend, with propensities in the record; longer and shorter than the pool."""

    async def work(both: Both) -> None:
        for n in (1, 3, 9, 40):
            body = {"placement": "default", "user_id": "user-1", "items": ["item-1"], "n": n}
            for _ in range(3):
                assert await both.same(json.dumps(body).encode()) == "compiled"

    more = {"features": (), "scorers": ()} if kind == "blend" else {"scorers": (ModelScorer(name=kind),)}
    asked(composed(selector=selector, **more), work)


def test_a_context_decides_and_a_wrong_one_is_refused() -> None:
    """A condition on the context holds or not; a value of another kind is the pipeline's to name."""

    async def work(both: Both) -> None:
        slates = []
        plain = RecommendationBody(placement="default", user_id="user-1", n=30)
        for channel in ("app", "web"):
            question = msgspec.structs.replace(plain, context={"channel": channel})
            found = both.rig.engine.encoded_slate(question, "default")
            assert isinstance(found, EncodedSlate)
            slates.append(bytes(found.items))
            both.served.clear()
            assert await both.same_of(question) == "compiled"
        assert slates[0] != slates[1]
        wrong = msgspec.structs.replace(plain, context={"channel": 7})
        assert isinstance(both.rig.engine.encoded_slate(wrong, "default"), Stamp)
        with pytest.raises(RequestInvalid, match="channel"):
            await both.rig.engine.recommend(wrong.ask("default"))

    rule = Boost(name="in the app", where='item.category == "c1"', factor=30.0, when='context.channel == "app"')
    asked(composed(rules=(rule,)), work)


def test_requests_whose_filters_pass_nothing_leave_the_others_to_the_kernels() -> None:
    """Narrow ones in a row skip the kernels; a question without a filter of its own is not one of them."""

    async def work(both: Both) -> None:
        plain = RecommendationBody(placement="default", user_id="user-1", n=3)
        narrow = msgspec.structs.replace(plain, filter='item.category == "of no item"')
        compiled = both.rig.engine._answering.compiled._entry(both.rig.engine.plan("default")).compiled
        assert isinstance(compiled, CompiledPlan)
        with patch.object(compiled, "gather", side_effect=compiled.gather) as gathered:
            for _ in range(20):
                assert await both.same_of(narrow) == "stamp"
            assert gathered.call_count == 5
            assert await both.same_of(plain) == "compiled"
            assert gathered.call_count == 6

    asked(composed(), work)


SERVED: dict[str, dict[str, object]] = {
    "an age": {"exclude": {"served": "1h"}},
    "a number": {"exclude": {"served": 2}, "features": (), "scorers": ()},
    "a cap over a time": {"caps": (Cap(attribute="category", max=2, within=Duration("1d")),)},
    "all with a drawing selector": {
        "exclude": {"served": 1},
        "caps": (Cap(attribute="category", max=4, within=Duration("1d")), Cap(attribute="brand", max=3)),
        "selector": PlackettLuce(),
    },
}


@pytest.mark.parametrize("more", SERVED.values(), ids=SERVED.keys())
def test_what_was_served_before_counts(more: dict[str, object]) -> None:
    """Of the same user and of nobody else, once its record is folded; until then the pipeline waits for it."""

    async def work(both: Both) -> None:
        fold, seen, ways = both.rig.engine.fold, set[str](), Counter[str]()
        for number in range(12):
            both.forget_misses("default")
            body = {"placement": "default", "user_id": f"user-{number % 3}", "session_id": "session-0-1", "n": 9}
            question = msgspec.json.decode(json.dumps(body), type=RecommendationBody)
            way = await both.same_of(question)
            ways[way] += 1
            if way != "compiled":
                continue
            assert both.last is not None
            both.ahead.add_hashes(id_hash(f"user-{number % 3}", fold.vocabulary.id_key), 0, 7)
            assert both.rig.engine.encoded_slate(question, "default") is None, "its last record is not folded"
            both.ahead._last.clear()
            fold.apply(LogPosition(fold.log_position), build((both.last._replace(log_time_ms=both.rig.now_ms),)))
            seen.add(str(decode_body(both.last.body).ids))
        assert ways["compiled"] > 5
        assert len(seen) > 3, "what was served changes what is served"

    asked(composed(**more), work)


THOMPSON = Thompson(acts="purchases", impressions="views_1d", pool=30)
BETWEEN: dict[str, dict[str, object]] = {
    "boosts": {"rules": RULES[:2]},
    "all rules": {"rules": RULES, "caps": (Cap(attribute="category", max=2),)},
    "caps of tags": {"caps": (Cap(attribute="tags", max=1),)},
    "dpp": {"diversity": Diversity(method="dpp", attribute="category", weight=0.4)},
    "drawn with caps": {"selector": PlackettLuce(), "caps": (Cap(attribute="category", max=1),)},
    "greedy with boosts": {"selector": EpsilonGreedy(epsilon=0.5), "rules": RULES[:2]},
    "thompson": {"selector": THOMPSON},
    "thompson with rules": {"selector": THOMPSON, "rules": RULES, "caps": (Cap(attribute="brand", max=2),)},
}
"""Choices that are no numbers for the second kernel."""


@pytest.mark.parametrize("more", BETWEEN.values(), ids=BETWEEN.keys())
@pytest.mark.parametrize("kind", ["plain", "gaps", "blend"])
def test_what_is_no_number_is_asked_between_the_kernels(more: dict[str, object], kind: str) -> None:
    """Rules of any kind with any built-in selector, and their actions: reply, record and counts are the pipeline's."""

    async def work(both: Both) -> None:
        for n in (1, 3, 9, 40):
            body = {"placement": "default", "user_id": "user-1", "items": ["item-1"], "n": n}
            for _ in range(3):
                assert await both.same(json.dumps(body).encode()) == "compiled"
        acted = any(name.startswith("rule_actions") and count for name, count in counted(both).items())
        assert acted == any(each in more for each in ("rules", "caps", "diversity"))

    scorers = () if kind == "blend" else (ModelScorer(name=kind),)
    asked(composed(features=("purchases", "views"), scorers=scorers, **more), work)


BODY = b'{"placement": "default", "user_id": "user-1", "items": ["item-1"]}'


def asked(config: Config, work: Callable[[Both], object]) -> None:
    """Do work with an engine that has a state and the models."""

    async def begun(both: Both) -> None:
        with_models(both)
        fold = both.rig.engine.fold
        fold.apply(LogPosition(0), random_events(900, 5, STREAM))
        fold.apply(LogPosition(fold.log_position), catalogue(np.random.default_rng(5), fold.log_time_ms))
        both.rig.now_ms = both.rig.engine.fold.log_time_ms
        found = work(both)
        if asyncio.iscoroutine(found):
            await found

    answered(config, begun)


def counted(both: Both) -> dict[str, float]:
    """The metrics of answers that are counted, by name and labels."""
    found = {}
    for family in both.rig.engine.metrics.registry.collect():
        for each in family.samples:
            name = each.name.removeprefix("midstream_")
            if name.startswith(("rule", "answers", "feature_read", "slate_items")) and not name.endswith("_created"):
                labels = ",".join(map(str, each.labels.values()))
                found[f"{name} {labels}"] = each.value if "seconds_sum" not in name and "bucket" not in name else 0.0
    return found


def test_what_is_counted_is_what_the_pipeline_counts() -> None:
    """Answers, items, actions of rules, reads of features, and the values of some answers' features."""
    rules = {"caps": (Cap(attribute="category", max=1),), "diversity": Diversity(attribute="brand", weight=0.9)}

    async def work(both: Both) -> None:
        engine = both.rig.engine
        question = msgspec.json.decode(BODY, type=RecommendationBody)
        seeds = [seed for seed in range(400) if seed % 7 == 0]
        found = []
        for way in ("compiled", "pipeline"):
            before, engine.live.feature_values.passed_by = counted(both), 0
            rows = engine.live.feature_values._added.sum()
            for seed in seeds:
                with patch.object(type(engine.host.request_ids), "make", lambda _: (f"{seed:032d}", seed)):  # noqa: B023
                    if way == "compiled":
                        assert isinstance(engine.encoded_slate(question, "default"), EncodedSlate)
                    else:
                        await both.by_pipeline(question.ask("default"), None)
            after = counted(both)
            grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
            found.append(
                ({name: each for name, each in grown.items() if each}, engine.live.feature_values._added.sum() - rows)
            )
        assert found[0] == found[1]
        assert found[0][1] > 0
        assert any(name.startswith("rule") for name in found[0][0])
        both.served.clear()

    asked(composed(**rules), work)


@pytest.mark.parametrize("kind", ["none", "beyond"])
def test_scores_that_no_text_has_are_the_pipelines(kind: str) -> None:
    """No number at all, which is the scorer's failure, and twenty digits: by the same stamp."""

    async def work(both: Both) -> None:
        assert await both.same(BODY) == "stamp"

    asked(composed(scorers=(ModelScorer(name=kind),)), work)


def test_after_scores_without_text_in_a_row_most_questions_are_computed_once() -> None:
    """Of 100 slates with scores of other texts eight are read and scored twice; as soon as they are usual none is."""
    score = Odd.score

    async def work(both: Both) -> None:
        with patch.object(Odd, "score", autospec=True, side_effect=score) as scored:
            ways = Counter([await both.same(BODY) for _ in range(100)])
        assert ways == {"stamp": 8, "pipeline": 92}
        assert scored.call_count == 108
        both.rig.engine.serve_models(Models({"beyond": Odd("plain")}, {"beyond": "8"}))
        ways = Counter([await both.same(BODY) for _ in range(40)])
        assert ways["compiled"] > 8
        assert await both.same(BODY) == "compiled"

    asked(composed(scorers=(ModelScorer(name="beyond"),)), work)


def test_what_kernels_began_ends_by_the_deadline_of_its_begin() -> None:
    """60 ms of features for scores that no text has, of 100 ms: the pipeline has 40 left, and leaves the model out."""
    clock, read = [100.0], DeclaredFeatures.read

    def slow(features: DeclaredFeatures, *told: object) -> object:
        clock[0] += 0.06
        return read(features, *told)  # type: ignore[arg-type]

    async def work(both: Both) -> None:
        engine = both.rig.engine
        question = RecommendationBody(placement="default", user_id="user-1", deadline=Deadline(100))
        host = replace(engine.live.host, monotonic=lambda: clock[0])
        with patch.object(engine.live, "host", host), patch.object(DeclaredFeatures, "read", slow):
            found = engine.encoded_slate(question, "default")
            assert isinstance(found, Stamp)
            assert found.until == pytest.approx(100.1)
            answer = await engine.recommend(question.ask("default"), found)
        assert answer.tier == "reduced"
        assert decode_body(both.served.pop().body).failures == (("beyond", "the time was over before it could begin"),)

    asked(composed(scorers=(ModelScorer(name="beyond"),)), work)


@pytest.mark.parametrize("kind", KINDS[:7])
def test_other_scores_are_the_kernels(kind: str) -> None:
    """Equal ones, negative ones, -0, with exponents, with ten digits, and those of which some are no number."""

    async def work(both: Both) -> None:
        assert await both.same(BODY) == "compiled"

    asked(composed(scorers=(ModelScorer(name=kind),)), work)


def test_a_feature_that_fails_is_named_by_the_pipeline() -> None:
    """Its columns are unknown there, and the answer is reduced."""

    def failing(*_: object) -> None:
        message = "no"
        raise ValueError(message)

    async def work(both: Both) -> None:
        assert await both.same(BODY) == "compiled"
        with patch.object(Odd, "score", failing):
            assert await both.same(BODY) == "stamp"
        both.rig.engine.guards._watched.clear()
        with patch.object(DeclaredFeatures, "read", failing):
            assert await both.same(BODY) == "stamp"
        assert await both.same(BODY) == "pipeline", "the part is watched now"

    asked(composed(), work)


def test_a_scorer_that_comes_too_late_is_left_out_by_the_pipeline() -> None:
    """The clock stands far behind the deadline when it would begin."""

    def work(both: Both) -> None:
        engine, times = both.rig.engine, iter([0.0, *[float(each) for each in range(1, 90)]])
        question = msgspec.json.decode(BODY, type=RecommendationBody)
        with patch.object(engine.live, "host", replace(engine.live.host, monotonic=lambda: next(times))):
            assert isinstance(engine.encoded_slate(question, "default"), Stamp)
        assert not both.served

    asked(composed(), work)


def test_a_slow_part_leaves_the_placement_to_the_pipeline_for_a_while() -> None:
    """The first slow answer is suspected, the second one is judged by the processor's time; its boundaries then say
    which part it is.
    """
    clock = [0.0]

    def slow(model: Odd, values: Score) -> Score:
        clock[0] += 2.0
        return score(model, values)

    score = Odd.score

    def work(both: Both) -> None:
        engine = both.rig.engine
        question = msgspec.json.decode(BODY, type=RecommendationBody)
        slates = engine._answering.compiled
        host = replace(engine.live.host, monotonic=lambda: clock[0])
        with (
            patch.object(engine.live, "host", host),
            patch.object(slates, "_worked_s", lambda: clock[0]),
            patch.object(Odd, "score", slow),
        ):
            late = msgspec.structs.replace(question, deadline=60_000)
            assert isinstance(engine.encoded_slate(late, "default"), EncodedSlate)
            assert isinstance(engine.encoded_slate(late, "default"), EncodedSlate)
            assert engine.encoded_slate(late, "default") is None
            clock[0] += 3_600.0
            assert isinstance(engine.encoded_slate(late, "default"), EncodedSlate)

    asked(composed(), work)


def test_a_plan_without_its_model_is_answered_by_the_blend() -> None:
    """A scorer whose model has no version in service is skipped; when one comes the next answer has it."""

    async def work(both: Both) -> None:
        both.rig.engine.serve_models(Models({}, {}))
        assert await both.same(BODY) == "compiled"
        with_models(both)
        assert await both.same(BODY) == "compiled"

    asked(composed(caps=(Cap(attribute="category", max=1),)), work)


def test_while_the_second_kernel_is_compiled_the_pipeline_answers() -> None:
    """With the shortlist of the first one; as soon as its machine code is there the next answer has it."""

    async def work(both: Both) -> None:
        with patch.object(finish_bound, "is_pending", new=True):
            assert await both.same(BODY) == "pipeline"
            assert both.obstacle("default") == "models"
        assert await both.same(BODY) == "compiled"

    asked(composed(), work)
