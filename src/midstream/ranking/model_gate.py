"""Model gate: refuses loaded models that cannot rank in a plan, before they are put in service.

A ranker that reads a column which its placement does not have would fail at every request. So it is refused where a
plan is made and where a version is promoted or found at a start, with the same words.
"""

from collections.abc import Callable, Iterator

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.core.types import Models
from midstream.models.model import is_row_model
from midstream.ranking.plan import Plan
from midstream.ranking.scorers.model_scorer import ModelScorer, missing_inputs
from midstream.ranking.scorers.objectives import Objectives

PAGE = "/docs/models.md"


def unfit(plan: Plan, models: Models, where: Callable[[int], str]) -> tuple[Fault, ...]:
    """Return the faults of models that the scorers of a plan cannot use; none = they can be put in service.

    A missing model is no fault: the next scorer answers until it exists.

    Args:
        plan: Its scorers name models.
        models: By name; those that no scorer of the plan names are skipped.
        where: Returns a pointer to a scorer, by its place in the ladder.
    """
    sources = tuple(each.name for each in (*plan.sources, *plan.floor, plan.fill))
    features = tuple(name for block in plan.features for name in block.names)
    faults: list[Fault] = []
    for named, place, is_summed in _asked(plan, where):
        if named not in models.by_name:
            continue
        model = models.by_name[named]
        if not is_row_model(model):
            came = f'"{named}" is loaded and turns no rows of features into scores.'
            faults.append(Fault(place, came, "A ranker: trees, ftrl and the like.", PAGE))
            continue
        for name in missing_inputs(model, sources, features):
            came = f'"{named}" reads "{name}", which this placement does not have.{nearest(name, features)}'
            right = f"The feature in features = [...] of the placement, or the source. It has: {', '.join(features)}"
            faults.append(Fault(place, came, right if features else f"{right}none", PAGE))
        if is_summed and named not in models.calibrations:
            came = f'"{named}" has no calibration, so its numbers are no probabilities that could be added up.'
            right = "A version that was trained with validation above 0, on rows of which some were acted on."
            faults.append(Fault(place, came, right, PAGE))
    return tuple(faults)


def _asked(plan: Plan, where: Callable[[int], str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each model that the scorers of a plan read, a pointer to its name, and whether it is part of a sum."""
    for number, scorer in enumerate(plan.scorers):
        if isinstance(scorer, ModelScorer):
            yield scorer.name, f"{where(number)}.name", False
        elif isinstance(scorer, Objectives):
            for place, each in enumerate(scorer.objectives):
                yield each.model, f"{where(number)}.objectives[{place}].model", True
