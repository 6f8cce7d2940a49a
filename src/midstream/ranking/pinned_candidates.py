"""Pinned items as candidates: those that no source proposed are added, and go through every filter."""

from midstream.core.types import Candidates
from midstream.ranking.boundary import boundary
from midstream.ranking.frame import extend
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.pin import NO_PINS, PINS, Pinned


def pinned_of(run: PlanRun) -> Pinned:
    """Return the pinned items of a request; none where there are no pins, or they cannot be read."""
    pins = run.plan.pins
    if pins is not None:
        with boundary(PINS, run.account):
            return pins.read(run.moment)
    return NO_PINS


def with_pins(pinned: Pinned, candidates: Candidates, retrieved: dict[str, int]) -> Candidates:
    """Return the candidates, followed by the pinned items that no source proposed.

    Args:
        pinned: Pinned items and their positions.
        candidates: The proposals of the sources.
        retrieved: Gets the number of items that each rule added, by its name.
    """
    for rule, item_index in pinned.unproposed(candidates.item_index):
        candidates = extend(candidates, rule, item_index, 0)
        retrieved[rule] = len(item_index)
    return candidates
