"""The pair that answers: a state and the plans that read it."""

from collections.abc import Mapping
from dataclasses import dataclass

from midstream.ranking.plan import Plan
from midstream.state.fold import Fold


@dataclass(frozen=True, slots=True, eq=False)
class InService:
    """A state and the plans that read it. They are replaced together, so whoever answers takes both at once."""

    fold: Fold
    plans: Mapping[str, Plan]
