"""Pinned items among the candidates: what no source proposed comes from its rule, and goes through every filter."""

from midstream.core.types import Candidates
from midstream.ranking.boundary import boundary
from midstream.ranking.frame import extend
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.pin import NO_PINS, PINS, Pinned


def pinned_of(run: PlanRun) -> Pinned:
    """Return what shall stand where; nothing where there are no pins, or they cannot be read."""
    pins = run.plan.pins
    if pins is not None:
        with boundary(PINS, run.account):
            return pins.read(run.moment)
    return NO_PINS


def with_pins(pinned: Pinned, candidates: Candidates, retrieved: dict[str, int]) -> Candidates:
    """Return the candidates with the pinned items behind them that no source proposed.

    Args:
        pinned: What shall stand where.
        candidates: What the sources proposed.
        retrieved: Gets how many items each rule added, by its name.
    """
    for rule, item_index in pinned.unproposed(candidates.item_index):
        candidates = extend(candidates, rule, item_index, 0)
        retrieved[rule] = len(item_index)
    return candidates
