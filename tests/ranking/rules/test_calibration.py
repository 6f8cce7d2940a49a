"""CalibratedSelector slates: the greedy steps of the published objective, in the shares of what the visitor acts on."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import ItemsSection, Placement
from midstream.core.errors import ConfigInvalid
from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.engine.types import Ask
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.calibration import VALUES_MAX, CalibratedSelector, Miscalibration, taste_of
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.top_k import TopK
from tests.support.rig import SMALL, Rig, view


def divergence(target, slate, smoothing):
    """Return KL(p || q~) of a slate, category by category; items without one count for nothing."""
    known = [each for each in slate if each]
    total = 0.0
    for value, share in target.items():
        q = sum(each.count(value) / len(each) for each in known) / max(len(known), 1)
        total += share * np.log(share / ((1 - smoothing) * q + smoothing * share))
    return total


def greedy(scores, categories, target, options, size):
    """Return the slate of the objective: at each position the item that raises it most, the first of equal ones."""
    low, high = min(scores), max(scores)
    span = (high - low) or 1.0
    chosen: list[int] = []
    for _ in range(min(size, len(scores))):
        best, most = -1, -np.inf
        for row in sorted(range(len(scores)), key=lambda row: -scores[row]):
            if row in chosen:
                continue
            slate = [*chosen, row]
            worth = (1 - options.weight) * sum(scores[each] / span for each in slate)
            worth -= options.weight * divergence(target, [categories[each] for each in slate], options.smoothing)
            if worth > most + 1e-9:
                best, most = row, worth
        chosen.append(best)
    return chosen


@st.composite
def cases(draw):
    """Scores apart from each other, tags of candidates, tags of acts with weights."""
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, acts = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    scores = dice.permutation(count).astype(np.float32) + dice.random(count).astype(np.float32) / 2
    tags = lambda: dice.choice(5, dice.integers(0, 3), replace=False).tolist()  # noqa: E731
    return scores, [tags() for _ in range(count)], [tags() for _ in range(acts)], dice.integers(1, 9, acts)


def packed(values):
    """Return value codes as columns hold them."""
    return np.array([[*each, -1, -1][:2] for each in values], dtype=np.int32).reshape(-1, 2)


@given(cases(), st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.99]), st.sampled_from([0.01, 0.2]), st.integers(1, 8))
def test_slates_are_those_of_the_formula(case, weight, smoothing, size):
    """Position by position, with one value, several or none an item, whatever the weight."""
    scores, tags, acted, weights = case
    options = CalibratedSelector(attribute="tags", weight=weight, smoothing=smoothing)
    taste = taste_of(packed(tags), packed(acted), weights.astype(np.float32))
    mass: dict[Any, float] = {}
    for each, worth in zip(acted, weights.tolist(), strict=True):
        for value in each:
            mass[value] = mass.get(value, 0.0) + worth / len(each)
    if not mass:
        assert taste is None
        return
    target = {value: each / sum(mass.values()) for value, each in sorted(mass.items())}
    assert taste is not None
    assert taste.target == pytest.approx(list(target.values()))
    facts = CandidateFacts(np.arange(len(scores), dtype=np.int32), taste=taste)
    rules = Arrangement(calibrated=options)
    query = Query("r", "home", None, None, size, TimestampMs(0), 1)
    made = rules.select(TopK(), query, FeatureFrame((), np.empty((len(scores), 0), np.float32)), scores, facts)
    assert made.chosen.tolist() == greedy(scores.astype(np.float64).tolist(), tags, target, options, size)
    assert made.propensity.tolist() == [1.0] * len(made.chosen)


def test_costs_are_the_divergence_with_each_candidate():
    """Of the slate so far and the candidate; one without a value leaves it as it is."""
    tags, acted = [[0], [1], [0, 1], [], [4]], [[0], [0], [1]]
    taste = taste_of(packed(tags), packed(acted), np.ones(3, np.float32))
    assert taste is not None
    kept = Miscalibration(taste, 0.01)
    above: list[Any] = []
    for at in (0, 3, 2):
        expected = [divergence({0: 2 / 3, 1: 1 / 3}, [tags[each] for each in (*above, row)], 0.01) for row in range(5)]
        assert kept.cost.tolist() == pytest.approx(expected)
        assert kept.take(at) == bool(tags[at])
        above.append(at)


def test_the_largest_shares_of_many_count():
    """At most ``VALUES_MAX``, those with the most acts, and they sum to 1."""
    acted = np.arange(VALUES_MAX + 30, dtype=np.int32)[:, None]
    weight = np.where(np.arange(len(acted)) < 30, 1.0, 2.0).astype(np.float32)
    taste = taste_of(acted, acted, weight)
    assert taste is not None
    assert taste.target.tolist() == pytest.approx([1 / VALUES_MAX] * VALUES_MAX)
    assert taste.shares.any(axis=1).tolist() == [False] * 30 + [True] * VALUES_MAX


BY_CATEGORY = CalibratedSelector(attribute="category", weight=0.99)
CONFIG = msgspec.structs.replace(
    SMALL,
    items=ItemsSection(attributes={"category": "category"}),
    placements=(Placement(selector=BY_CATEGORY, repeats="any", slate_size=10),),
)


def test_a_visitor_of_two_categories_gets_both_in_their_shares() -> None:
    """Seven of ten acts on one, three on the other, all popular items of the first: the slate has seven and three."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        puts = [
            {"type": "item", "item_id": f"{kind}{n}", "attributes": {"category": kind}}
            for kind in "ab"
            for n in range(20)
        ]
        await engine.record(rig.batch(*puts))
        liked = [view(f"a{n}", f"u{k}") for n in range(20) for k in range(3)] + [view(f"b{n}", "v") for n in range(20)]
        await engine.record(rig.batch(*liked))
        own = [view(f"{'a' if n < 7 else 'b'}{n}", "ann") for n in range(10)]
        await engine.record(rig.batch(*own))
        answer = await engine.recommend(Ask(user_id="ann", explain=True))
        kinds = [item.id[0] for item in answer.items]
        assert (kinds.count("a"), kinds.count("b")) == (7, 3)
        assert answer.tier == "full"
        assert answer.explanation is not None
        told = [effect for item in answer.explanation.items for effect in item.effects if effect.rule == "calibrated"]
        assert told
        assert all(effect.effect == "lowered" and (effect.penalty or 0) > 0 for effect in told)
        nobody = await engine.recommend(Ask(user_id="stranger"))
        plain = msgspec.structs.replace(CONFIG.placements[0], selector=TopK())
        assert nobody.tier == "full"
        assert [item.id[0] for item in nobody.items] == ["a"] * 10
        assert plain.selector != CONFIG.placements[0].selector

    Rig(config=CONFIG).run(work)


def test_caps_hold_in_calibrated_slates() -> None:
    """A cap on the same attribute keeps what it keeps."""
    placement = msgspec.structs.replace(CONFIG.placements[0], caps=(Cap(attribute="category", max=2),))

    async def work(rig: Rig) -> None:
        engine = rig.engine
        puts = [
            {"type": "item", "item_id": f"{kind}{n}", "attributes": {"category": kind}}
            for kind in "abc"
            for n in range(5)
        ]
        await engine.record(rig.batch(*puts, view("a1"), view("a2"), view("b1")))
        kinds = [item.id[0] for item in (await engine.recommend(Ask(user_id="ann"))).items]
        assert sorted(kinds) == list("aabbcc")

    Rig(config=msgspec.structs.replace(CONFIG, placements=(placement,))).run(work)


def test_a_wrong_attribute_is_named():
    """A category or tags; and beside diversity one of both."""
    begin = '[items.attributes]\nprice = "number"\ncategory = "category"\n[[placements]]\n'
    for text, where in (
        ('selector = { kind = "calibrated", attribute = "price" }', ".placements[0].selector.attribute"),
        (
            'selector = { kind = "calibrated", attribute = "category" }\ndiversity = { attribute = "category" }',
            ".placements[0].selector",
        ),
    ):
        with pytest.raises(ConfigInvalid) as caught:
            parse_config(begin + text)
        assert [fault.where.partition("$")[2] for fault in caught.value.faults] == [where]
