"""A model as a scorer: columns are found by name, and what cannot answer lets the ladder go on."""

import asyncio
import math
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid, ModelUnavailable, ScoresUnavailable
from midstream.core.traits import traits_of
from midstream.core.types import FeatureFrame, Models, Query, Score, TimestampMs
from midstream.models.model import Arrays
from midstream.ranking.boundary import Account
from midstream.ranking.decision import Decision
from midstream.ranking.pipeline import recommend
from midstream.ranking.scorers.model_scorer import ModelScorer, columns_of, row_model
from midstream.testing.conformance import check_scorer
from tests.support.frozen_shop import SMALL, StillShop

QUERY = Query("r", "default", None, None, 5, TimestampMs(0), 7)
TEXT = """
[[features]]
name = "carts"
kind = "count"
scope = "item"
actions = ["cart"]

[[placements]]
features = ["carts"]
scorers = [{ kind = "model", name = "ranker" }]
"""


@dataclass(frozen=True)
class Sum:
    """A row model that adds its inputs, each ten times what is before; what is unknown is 5."""

    inputs: tuple[str, ...]

    def score(self, values: Score) -> Score:
        """Return the sums."""
        weights = 10.0 ** np.arange(len(self.inputs))
        return (np.nan_to_num(values, nan=5.0) @ weights).astype(np.float32)

    def arrays(self) -> Arrays:
        """Return nothing: nothing was fitted."""
        return {}


def scored(model: object, features: FeatureFrame) -> Score:
    """Return what the scorer says."""
    return asyncio.run(ModelScorer(name="ranker").score(QUERY, features, Models({"ranker": model})))


def account() -> Account:
    """Return an empty account of an answer that has a second."""
    return Account((), lambda: 1.0)


@given(st.permutations(["score.als", "rank.als", "price", "age", "views"]), st.integers(0, 30), st.integers(0, 99))
def test_columns_are_found_by_name(names, rows, seed):
    """Whatever else the frame has, and in whatever order; a row a candidate."""
    values = np.random.default_rng(seed).integers(0, 9, (rows, 5)).astype(np.float32)
    inputs = ("views", "score.als", "price")
    expected = sum(10**n * values[:, names.index(name)] for n, name in enumerate(inputs))
    for layout in (values, np.asfortranarray(values)):
        assert (scored(Sum(inputs), FeatureFrame(tuple(names), layout)) == expected).all()


@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_columns_side_by_side_are_read_where_they_lie(first, last, is_one_missing):
    """As they are and without a copy; not where a source before them did not answer."""
    names = ("score.als", "rank.als", "price", "age", "views")
    frame = FeatureFrame(names, np.asfortranarray(np.arange(15, dtype=np.float32).reshape(3, 5)))
    inputs = names[first:last]
    found = columns_of(inputs, frame)
    assert (found == frame.values[:, first : max(first, last)]).all()
    assert bool(inputs) == np.shares_memory(found, frame.values)
    if is_one_missing:
        found = columns_of(("rank.popular", *inputs), frame)
        assert np.isnan(found[:, 0]).all()
        assert (found[:, 1:] == frame.values[:, first : max(first, last)]).all()
    assert frame.values.tolist() == np.arange(15.0).reshape(3, 5).tolist()


def test_a_source_that_did_not_answer_says_nothing():
    """Its columns are unknown, as for items that it did not propose; others must be there."""
    frame = FeatureFrame(("score.trending", "price"), np.array([[1.0, 2.0], [3.0, np.nan]], dtype=np.float32))
    found = scored(Sum(("price", "rank.als", "score.trending")), frame)
    assert found.tolist() == [2 + 50 + 100, 5 + 50 + 300]
    with pytest.raises(ScoresUnavailable, match="age, taste"):
        scored(Sum(("price", "age", "taste")), frame)
    check_scorer(ModelScorer(name="ranker"), QUERY, frame, Models({"ranker": Sum(("price",))}))


def test_what_is_no_row_model_is_not_there():
    """Nothing of that name, or something that turns no rows into scores."""
    for models in (Models({}), Models({"other": Sum(("a",))}), Models({"ranker": object()})):
        with pytest.raises(ModelUnavailable):
            row_model(models, "ranker")
    model = Sum(("a",))
    assert row_model(Models({"ranker": model}), "ranker") is model


def test_without_the_model_the_blend_answers():
    """A model without a version is no failure, one that breaks is named; with it, it answers without a timer."""
    config = parse_config(TEXT)
    plan = plans(config)["default"]
    assert [each.name for each in plan.scorers] == ["ranker", "blend"]
    assert not any(traits_of(each).waits for each in plan.scorers)
    frame = FeatureFrame(("score.popular", "rank.popular", "carts"), np.ones((2, 3), dtype=np.float32))
    noted = account()
    name, _ = asyncio.run(Decision(plan, QUERY, frame, None, noted).scored())
    assert (name, noted.failures) == ("blend", [])
    wrong = replace(plan, models=Models({"ranker": object()}))
    name, _ = asyncio.run(Decision(wrong, QUERY, frame, None, noted).scored())
    assert (name, [each.component for each in noted.failures]) == ("blend", ["ranker"])
    assert "ModelUnavailable" in noted.failures[0].reason
    loaded = plans(config, models=Models({"ranker": Sum(("carts", "score.popular"))}))["default"]
    name, score = asyncio.run(Decision(loaded, QUERY, frame, None, account()).scored())
    assert (name, score.tolist()) == ("ranker", [11.0, 11.0])
    broken = replace(loaded, models=Models({"ranker": Sum(("gone",))}))
    noted = account()
    name, _ = asyncio.run(Decision(broken, QUERY, frame, None, noted).scored())
    assert (name, "gone" in noted.failures[0].reason) == ("blend", True)


@dataclass(frozen=True)
class Own:
    """A scorer of one's own that names the models that it reads."""

    model_names: tuple[str, ...]
    name: str = "own"

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return 7 for each row."""
        return np.full(len(features.values), 7, dtype=np.float32)


@pytest.mark.parametrize("names, answers", [(("gone",), "blend"), (("gone", "there"), "own"), ((), "own")])
def test_who_names_models_is_passed_over_while_none_is_there(names, answers):
    """Whichever class it is of; who names none is asked."""
    made = plans(parse_config(""))["default"]
    plan = replace(made, scorers=(Own(names), *made.scorers), models=Models({"there": object()}))
    noted = account()
    name, _ = asyncio.run(Decision(plan, QUERY, FeatureFrame((), np.ones((2, 0), np.float32)), None, noted).scored())
    assert (name, noted.failures) == (answers, [])


def test_it_reads_what_the_pipeline_gives():
    """Columns of sources, of the floor, of what fills up and of features may all be read, and decide the slate."""
    inputs = tuple(
        f"{kind}.{name}"
        for kind in ("score", "rank")
        for name in ("session_knn", "covisitation", "trending", "popular", "catalogue")
    )
    config = parse_config(TEXT)
    shop = StillShop(msgspec.structs.replace(config.fold_settings(), limits=SMALL.limits))
    for number in range(4):
        shop.put(f"i{number}")
    shop.act("view", "ann", "i1")
    shop.act("cart", "ann", "i3")
    for model in (Sum(("carts",)), Sum((*inputs, "carts"))):
        plan = plans(config, models=Models({"ranker": model}))["default"]
        served = asyncio.run(recommend(plan, shop.moment, shop.query(), lambda: math.inf))
        assert (served.failures, served.scorer) == ((), "ranker")
        assert served.candidates.item_index[served.selection.chosen[0]] == 3


@pytest.mark.parametrize(
    "model, parts",
    [
        (Sum(("carts", "cart")), ['"ranker" reads "cart"', 'Nearest: "carts"', "carts", "midstream docs models"]),
        (Sum(("score.als",)), ['"ranker" reads "score.als"', "the source"]),
        (object(), ["turns no rows of features into scores"]),
    ],
)
def test_a_model_that_reads_what_is_not_there_is_a_fault(model, parts):
    """When a plan is made, not when it is asked: where, what, what would be right, the page."""
    with pytest.raises(ConfigInvalid) as caught:
        plans(parse_config(TEXT), models=Models({"ranker": model}))
    assert "$.placements[0].scorers[0].name" in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "told, where",
    [
        ('{ kind = "model" }', "scorers[0].name"),
        ('{ kind = "model", name = "" }', "scorers[0].name"),
        ('{ kind = "modle", name = "a" }', "scorers[0].kind"),
        ('{ kind = "model", name = "a", path = "x" }', "scorers[0].path"),
        ('{ kind = "model", name = "a" }, { kind = "model", name = "a" }', "scorers[1].name"),
    ],
)
def test_what_is_wrong_with_a_scorer_is_said(told, where):
    """A name that lacks, is empty or there twice; a kind that is none."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(f"[[placements]]\nscorers = [{told}]\n")
    assert f"$.placements[0].{where}" in str(caught.value)
    assert "midstream docs models" in str(caught.value)
