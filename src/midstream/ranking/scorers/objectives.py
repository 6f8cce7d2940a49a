"""Scorer of several objectives: a weighted sum of the probabilities of several models.

    score = Σ weight × probability of the model × value

A click is worth little, a purchase the price of the item, a dismissal less than nothing. Numbers of different models
add up only as probabilities, so each model needs the calibration that its training fitted. All read the same rows,
which are read once. A model without a version in service, or without calibration, is a failure of the whole sum:
without a term it would be another score under the same name. Then the next scorer of the ladder answers, and the answer
names the failure.
"""

from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ModelUnavailable, ScoresUnavailable
from midstream.core.field_bounds import Length, Name
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Models, Query, Score
from midstream.models.rows.calibration import probabilities
from midstream.ranking.scorers.model_scorer import columns_of, row_model

OBJECTIVES_MAX = 8
"""Objectives of a sum: each runs a model, 0.25 ms of 300 trees and 500 candidates."""
Real = NDArray[np.float64]


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One term."""

    model: Name
    """A ranker whose training fitted a calibration."""
    weight: float = 1.0
    """Below 0 for unwanted outcomes."""
    value: str = ""
    """Column of the placement's features that the probability is multiplied by, such as a price; "" = 1."""


class Objectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="objectives"):
    """Scores by the sum over several models. Never waits."""

    traits: ClassVar[Traits] = BOUNDED
    objectives: Annotated[tuple[Objective, ...], Length(1, OBJECTIVES_MAX)]
    name: Name = "objectives"
    """Of this scorer in answers, served records and metrics."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that it reads."""
        return tuple(each.model for each in self.objectives)

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return the sum for each row; NaN where a value or a probability is missing.

        Raises:
            ModelUnavailable: A model is not in service.
            ScoresUnavailable: A model has no calibration, or the features lack a column.
        """
        total: Score = self.terms(features, models).sum(axis=0).astype(np.float32)
        return total

    def terms(self, features: FeatureFrame, models: Models) -> Real:
        """Return the term of each objective in the score of each row, (objectives, n); raises as ``score``."""
        if missing := [name for name in self.model_names if name not in models.by_name]:
            raise ModelUnavailable(", ".join(missing))
        taken: dict[tuple[str, ...], Score] = {}
        found = np.empty((len(self.objectives), len(features.values)), dtype=np.float64)
        for place, objective in enumerate(self.objectives):
            model = row_model(models, objective.model)
            calibration = models.calibrations.get(objective.model)
            if calibration is None:
                message = f"{objective.model} has no calibration: its numbers are no probabilities"
                raise ScoresUnavailable(message)
            if model.inputs not in taken:
                taken[model.inputs] = columns_of(model.inputs, features)
            found[place] = objective.weight * probabilities(calibration, model.score(taken[model.inputs]))
            if objective.value:
                found[place] *= _column(objective.value, features)
        return found


def _column(name: str, features: FeatureFrame) -> Score:
    """Return one column by name."""
    if name not in features.names:
        message = f"an objective is worth {name}, which the placement does not read"
        raise ScoresUnavailable(message)
    column: Score = features.values[:, features.names.index(name)]
    return column
