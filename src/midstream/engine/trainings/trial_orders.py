"""Orders of trials: names with room for placement and variant, and the versions that are compared."""

from collections.abc import Mapping

import xxhash
from msgspec.structs import replace

from midstream.core.durations import format_duration
from midstream.core.errors import NotFound
from midstream.engine.trainings.candidates import TrialOrder, TrialStanding, VersionTrials
from midstream.experiments.names import MARK, NAME_BYTES_MAX, PLACEMENT_BYTES_MAX
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold
from midstream.training.decisions import TrainingDecision
from midstream.training.gates.offline import NAME as OFFLINE
from midstream.training.gates.offline import tightened
from midstream.training.gates.options import GateOptions, before_canary
from midstream.training.options import TrainingTable

VARIANT = "candidate"


def trial_name(prefix: str, version: str, model: str, placement: str) -> str:
    """Return the name of a trial: its kind, the number of the version, and the model, cut with a hash of it to fit."""
    room = min(NAME_BYTES_MAX, PLACEMENT_BYTES_MAX - len(f"{placement}{MARK}.{VARIANT}".encode()))
    name = f"{prefix}{version.partition('-')[0]}-{model}"
    if len(name) <= room:
        return name
    mark = xxhash.xxh3_64_hexdigest(model.encode())[:8]
    return f"{name[: max(1, room - len(mark))]}{mark}"


def trial_order(table: TrainingTable, said: TrainingDecision, prefix: str, placement: str) -> TrialOrder:
    """Return the order of a trial: the version before is its control, as guardrails go by that."""
    name = trial_name(prefix, said.candidate, table.model, placement)
    versions = said.champion, said.candidate
    return TrialOrder(name, placement, table.model, *versions, table.canary.share, table.canary.harm_max)


def trial_placement(table: TrainingTable, plans: Mapping[str, Plan]) -> str:
    """Return the placement of a trial; empty = none reads the champion of the model.

    One that pins a version reads that and no champion: an experiment there would compare with what nobody is answered
    by.
    """
    if table.canary.placement:
        return table.canary.placement
    readers = (
        name for name, plan in plans.items() if table.model in plan.model_names and table.model not in plan.pinned
    )
    return next((name for name in readers if MARK not in name), "")


def why_no_canary(table: TrainingTable, champion: str, fold: Fold, placement: str) -> str:
    """Return why a candidate is tried with nobody before it answers all; empty = it is tried.

    What follows a version that was withdrawn is tried beside the placement without the model.

    Args:
        table: Of the model.
        champion: Version beside which the candidate was judged; empty = none.
        fold: Knows whether a version was withdrawn.
        placement: Of the trial; empty = there is none.
    """
    row = fold.promotions.find(table.model)
    if not champion and (row is None or row.version):
        return "no version was in service"
    if not placement:
        return "no placement reads the version in service"
    return "" if table.canary.share else "canary.share is 0"


def bounds_of(table: TrainingTable, champion: str, fold: Fold, placement: str) -> GateOptions:
    """Return the bounds of the gates of a candidate: wider where a canary follows; arguments as ``why_no_canary``."""
    return table.gates if why_no_canary(table, champion, fold, placement) else before_canary(table.gates)


def judged_alone(table: TrainingTable, said: TrainingDecision) -> TrainingDecision | None:
    """Return the refusal of a candidate that passed by the bound before a canary and has none now; None = it goes on.

    Args:
        table: Of the model.
        said: The decision that it passed.
    """
    if said.worse_max is None or not said.champion:
        return None
    found = [
        tightened(each, said.worse_max, table.gates) if each.name == OFFLINE and each.passed else each
        for each in said.gates
    ]
    if all(each.passed for each in found):
        return None
    return replace(said, gates=tuple(found), worse_max=table.gates.loss_max)


def standing_of_trial(trials: VersionTrials, name: str) -> TrialStanding:
    """Return how a trial is; one that is not there any more counts as stopped by a person."""
    try:
        return trials.standing(name)
    except NotFound as error:
        return TrialStanding("stopped", by_watch=False, reason=str(error), is_valid=False, units=())


def is_enough(seen: TrialStanding, table: TrainingTable) -> bool:
    """Return whether a trial may be believed."""
    return seen.state == "running" and seen.is_valid and bool(seen.units) and min(seen.units) >= table.canary.units_min


def why_given_up(seen: TrialStanding, table: TrainingTable) -> str:
    """Return why a canary that may be believed ends without a promotion."""
    if seen.harm is None:
        most = format_duration(table.canary_ms[1])
        return f"the canary said nothing in {most}: acts of the least weight give no estimate: {seen.text}"
    return f"it is {seen.harm:.1%} behind by its estimate: {seen.text}"


def said_nothing(seen: TrialStanding, end: int, table: TrainingTable) -> str:
    """Return why a canary ends that may not be believed; ``end`` as ``too_little``."""
    why = too_little(seen, end)
    why = f"{why}, units_min is {table.canary.units_min}" if why.startswith("users") else why
    return f"the canary said nothing in {format_duration(table.canary_ms[1])}: {why}"


def watched(seen: TrialStanding, end: int, table: TrainingTable) -> str:
    """Return what the watch of a promoted version saw in all its time; ``end`` as ``too_little``."""
    watch = table.watch or "0s"
    if seen.seen_position < end or not is_enough(seen, table):
        return f"the watch saw too little to say anything in {watch}: {too_little(seen, end)}"
    return f"no guardrail broke in {watch} after the promotion: {seen.text}"


def too_little(seen: TrialStanding, end: int) -> str:
    """Return why a trial says nothing.

    Args:
        seen: The trial.
        end: Log position up to which it has to be known.
    """
    if seen.state == "suspended":
        return "it was suspended"
    if seen.seen_position < end:
        return f"its events are known up to log position {seen.seen_position:,} of {end:,}"
    return f"users {seen.units}" if seen.is_valid else "the sample ratio is wrong"
