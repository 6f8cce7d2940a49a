"""Faults of an experiment that is to start, beside what is configured and what runs."""

from collections.abc import Collection, Iterator, Sequence

from midstream.core.errors import Fault
from midstream.engine.types import ANY_PLACEMENT
from midstream.events.faults import shown
from midstream.experiments.assignment import BUCKETS
from midstream.experiments.documents import PAGE, RUNNING_MAX, Experiment, NewExperiment, free_span
from midstream.experiments.names import MARK
from midstream.ranking.plan import Plan
from midstream.ranking.selectors.thompson import Thompson


def start_faults(new: NewExperiment, kept: Sequence[Experiment], plans: Collection[str]) -> Iterator[Fault]:
    """Yield why an experiment cannot start beside what there is.

    Args:
        new: The experiment.
        kept: All that are known.
        plans: Names of the placements in force.
    """
    if any(each.name == new.name for each in kept):
        came, right = f"{shown(new.name)} came, which was started before.", "A name that was never used."
        yield Fault("/name", came, right, PAGE)
    yield from placement_faults("/placement", new.placement, plans)
    running = [each for each in kept if each.state == "running"]
    if len(running) >= RUNNING_MAX:
        yield Fault("/name", f"{len(running)} experiments run.", f"At most {RUNNING_MAX}: stop one first.", PAGE)
    others = {each.layer: each.name for each in running if each.placement == new.placement}
    for layer in others.keys() - {new.layer}:
        came = f"{shown(new.layer)} came, and {others[layer]} runs on {new.placement} in the layer {layer}."
        yield Fault("/layer", came, f"{layer}: a request has one answer.", PAGE)
    if free_span(running, new.layer, new.size) is None and 1 <= new.size <= BUCKETS:
        taken = sum(each.end - each.first for each in running if each.layer == new.layer) / BUCKETS
        came = f"{new.size / BUCKETS:g} came, and others have {taken:g} of the layer {new.layer}."
        yield Fault("/share", came, "A share that is free in one piece, or another layer.", PAGE)


def learning_faults(new: NewExperiment, plans: Sequence[Plan]) -> Iterator[Fault]:
    """Yield why an experiment that has a verdict cannot have variants whose selectors learn while it runs.

    Args:
        new: The experiment.
        plans: Of its variants, in their order.
    """
    if new.allocation == "thompson":
        return
    for number, plan in enumerate(plans):
        if any(isinstance(each, Thompson) for each in plan.selectors):
            came = "thompson came, which changes with the outcomes that the verdict would be about."
            right = 'Another selector; or allocation = "thompson", which has no verdict.'
            yield Fault(f"/variants/{number}/placement/selector", came, right, PAGE)


def placement_faults(where: str, placement: str, plans: Collection[str]) -> Iterator[Fault]:
    """Yield why no experiment can answer a placement."""
    if MARK in placement:
        yield Fault(where, f"{shown(placement)} came.", "A placement that is no variant.", PAGE)
    elif ANY_PLACEMENT in plans:
        came = "No placement is configured, so the default one answers any name."
        yield Fault(where, came, "A placement that is in the file or set: a start would end that.", PAGE)
    elif placement not in plans:
        names = ", ".join(sorted(each for each in plans if MARK not in each))
        yield Fault(where, f"{shown(placement)} is not configured.", f"One of: {names}.", PAGE)
