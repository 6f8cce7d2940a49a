"""Constraints of a placement's scorers: distinct names, and sums whose terms have one unit."""

from collections.abc import Iterator

from midstream.app.config.bounds import listed
from midstream.app.config.schema import Config, Custom, Placement
from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.features.kinds.kinds import columns_of
from midstream.ranking.scorers.objectives import Objectives

PAGE = "/docs/models.md"
WEIGHT_MAX = 1_000_000
"""Of an objective, above or below 0."""


def scorer_faults(config: Config, placement: Placement, where: str) -> Iterator[Fault]:
    """Yield the faults of a placement's scorers; models are checked when they are loaded.

    Args:
        config: All of it.
        placement: One of its placements.
        where: Pointer to the placement.
    """
    names: set[str] = set()
    for number, scorer in enumerate(placement.scorers):
        place = f"{where}.scorers[{number}]"
        if isinstance(scorer, Custom):
            continue
        if scorer.name in names:
            yield Fault(f"{place}.name", f'"{scorer.name}" is there already.', "Each name once.", PAGE)
        names.add(scorer.name)
        if isinstance(scorer, Objectives):
            yield from _terms(config, placement, scorer, place)


def _terms(config: Config, placement: Placement, scorer: Objectives, where: str) -> Iterator[Fault]:
    """Yield the faults of the terms of a sum."""
    read = [each for each in config.features if each.name in placement.features]
    columns = {name for names in columns_of(read).values() for name in names}
    for number, each in enumerate(scorer.objectives):
        place = f"{where}.objectives[{number}]"
        if each.model in scorer.model_names[:number]:
            yield Fault(f"{place}.model", f'"{each.model}" is there already.', "Each model once.", PAGE)
        if not 0 < abs(each.weight) <= WEIGHT_MAX:
            right = f"Another number than 0, at most {WEIGHT_MAX:,} above or below it: it weighs a term of a sum."
            yield Fault(f"{place}.weight", f"{each.weight} came.", right, PAGE)
        if each.value and each.value not in columns:
            came = f'"{each.value}" is no column of the features of the placement.{nearest(each.value, columns)}'
            right = f"Columns: {listed(columns)}" if columns else "A column of one of features; the placement has none."
            yield Fault(f"{place}.value", came, right, PAGE)
