"""Several objectives: a sum of probabilities that is whole or not there at all."""

import asyncio
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid, ModelUnavailable, ScoresUnavailable
from midstream.core.types import Calibration, Failure, FeatureFrame, Models, Query, Score, TimestampMs
from midstream.models.model import Arrays
from midstream.ranking.boundary import Account
from midstream.ranking.decision import Decision
from midstream.ranking.scorers.objectives import Objective, Objectives
from midstream.testing.conformance import check_scorer

QUERY = Query("r", "default", None, None, 5, TimestampMs(0), 7)
LINE = Calibration(0.5, -1.0, is_probability=False)
TEXT = """
[items.attributes]
price = "number"

[[features]]
name = "price"
kind = "number"

[[features]]
name = "carts"
kind = "count"
actions = ["cart"]

[[placements]]
features = ["carts", "price"]
scorers = [{ kind = "objectives", objectives = [
    { model = "click" }, { model = "purchase", weight = 5.0, value = "price" },
    { model = "dismiss", weight = -2.0 } ] }]
"""


@dataclass(frozen=True)
class Column:
    """A row model that gives one of its columns."""

    inputs: tuple[str, ...]
    at: int = 0

    def score(self, values: Score) -> Score:
        """Return the column."""
        return values[:, self.at].astype(np.float32)

    def arrays(self) -> Arrays:
        """Return nothing: nothing was fitted."""
        return {}


def models_of(**named: object) -> Models:
    """Models of these names, each calibrated by the same line."""
    return Models(named, {}, dict.fromkeys(named, LINE))


ALL = models_of(click=Column(("carts",)), purchase=Column(("carts", "score.popular"), 1), dismiss=Column(("carts",)))


def frame_of(rows: list[list[float]]) -> FeatureFrame:
    """Columns of candidates."""
    return FeatureFrame(("score.popular", "rank.popular", "carts", "price"), np.array(rows, dtype=np.float32))


def by_hand(row: list[float]) -> float:
    """The sum of the three terms of the text above, one row at a time."""

    def probability(score: float) -> float:
        return 1 / (1 + math.exp(-(0.5 * score - 1.0)))

    return probability(row[2]) + 5.0 * probability(row[0]) * row[3] - 2.0 * probability(row[2])


numbers = st.floats(-8, 8, width=32)


@given(st.lists(st.tuples(numbers, numbers, numbers, st.floats(0, 99, width=32)).map(list), min_size=1, max_size=20))
def test_the_score_is_the_weighted_sum_of_probabilities(rows):
    """Of the configured weights and values, row by row; the terms add up to it."""
    plan = plans(parse_config(TEXT), models=ALL)["default"]
    scorer = plan.scorers[0]
    assert isinstance(scorer, Objectives)
    found = asyncio.run(scorer.score(QUERY, frame_of(rows), plan.models))
    assert found.tolist() == pytest.approx([by_hand(row) for row in rows], rel=1e-5, abs=1e-5)
    assert scorer.terms(frame_of(rows), plan.models).sum(axis=0) == pytest.approx(found, rel=1e-5, abs=1e-5)


def test_an_unknown_value_gives_no_number():
    """What an item is worth is not made up: it has no score, the others do."""
    scorer = Objectives(objectives=(Objective("click"), Objective("purchase", 5.0, "price")))
    frame = frame_of([[1, 0, 1, 3], [1, 0, 1, math.nan]])
    assert np.isnan(asyncio.run(scorer.score(QUERY, frame, ALL))).tolist() == [False, True]
    check_scorer(scorer, QUERY, frame_of([[1, 0, 1, 3]]), ALL)


def climbed(models: Models) -> tuple[str, list[Failure]]:
    """Who answered, and what failed."""
    plan = replace(plans(parse_config(TEXT))["default"], models=models)
    account = Account((), lambda: 1.0)
    name, _ = asyncio.run(Decision(plan, QUERY, frame_of([[1, 0, 1, 3]]), None, account).scored())
    return name, account.failures


def test_a_sum_is_whole_or_it_does_not_answer():
    """No model yet is no failure; some without others is one that names those, and the blend answers."""
    assert climbed(Models({})) == ("blend", [])
    assert climbed(ALL) == ("objectives", [])
    for gone in ("click", "purchase", "dismiss"):
        name, failures = climbed(ALL.only({"click", "purchase", "dismiss"} - {gone}))
        assert (name, [each.component for each in failures]) == ("blend", ["objectives"])
        assert gone in failures[0].reason
    name, failures = climbed(replace(ALL, calibrations={"click": LINE, "dismiss": LINE}))
    assert (name, "purchase has no calibration" in failures[0].reason) == ("blend", True)


def test_what_a_sum_reads_must_be_there():
    """A model that is none, and a column that the placement does not read."""
    with pytest.raises(ModelUnavailable):
        asyncio.run(
            Objectives(objectives=(Objective("click"),)).score(QUERY, frame_of([[1, 0, 1, 3]]), models_of(click=1))
        )
    with pytest.raises(ScoresUnavailable, match="weight_kg"):
        asyncio.run(
            Objectives(objectives=(Objective("click", 1.0, "weight_kg"),)).score(QUERY, frame_of([[1, 0, 1, 3]]), ALL)
        )


@pytest.mark.parametrize(
    "models, where, says",
    [
        (models_of(purchase=Column(("stock",))), "objectives[1].model", '"purchase" reads "stock"'),
        (models_of(dismiss=object()), "objectives[2].model", "turns no rows"),
        (replace(ALL, calibrations={"click": LINE, "purchase": LINE}), "objectives[2].model", "has no calibration"),
    ],
)
def test_a_version_that_cannot_be_a_term_is_refused(models, where, says):
    """When the plan is made, as when it is promoted: it would never answer."""
    with pytest.raises(ConfigInvalid) as caught:
        plans(parse_config(TEXT), models=models)
    (fault,) = caught.value.faults
    assert fault.where == f"midstream.toml: $.placements[0].scorers[0].{where}"
    assert says in str(fault)


@pytest.mark.parametrize(
    "was, new, where, says",
    [
        ("weight = 5.0", "weight = 0.0", "objectives[1].weight", "Another number than 0"),
        ("weight = 5.0", "weight = nan", "objectives[1].weight", ""),
        ("weight = 5.0", "weight = 1e7", "objectives[1].weight", ""),
        ('value = "price"', 'value = "prices"', "objectives[1].value", 'Nearest: "price"'),
        ('model = "purchase"', 'model = "click"', "objectives[1].model", "Each model once"),
        ('kind = "objectives",', 'kind = "objectives", name = "",', "name", ""),
        ("{ model", "{ modle", "objectives[0]", "modle"),
    ],
)
def test_each_term_is_checked(was, new, where, says):
    """With its place in the file."""
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(TEXT.replace(was, new, 1))
    assert any(f"scorers[0].{where}" in fault.where for fault in caught.value.faults), str(caught.value)
    assert says in str(caught.value)


def test_a_sum_has_a_term_and_no_more_than_eight():
    """And its models count among those of the placement."""
    with pytest.raises(ConfigInvalid):
        parse_config('[[placements]]\nscorers = [{ kind = "objectives", objectives = [] }]')
    nine = ", ".join(f'{{ model = "m{number}" }}' for number in range(9))
    with pytest.raises(ConfigInvalid):
        parse_config(f'[[placements]]\nscorers = [{{ kind = "objectives", objectives = [{nine}] }}]')
    assert plans(parse_config(TEXT))["default"].model_names == ("click", "dismiss", "purchase")
