"""Rollback of a version that did harm: to the newest version before it that can be put in service, else to none.

A version is asked for once. One that cannot be loaded now cannot be a second later, and meanwhile the version that does
harm would answer: so the next older one is taken. Versions that were refused or taken back themselves are none of them.
Without any the model is withdrawn, and its placements answer with their other sources and scorers.
"""

from collections.abc import Sequence

from midstream.core.errors import ArtifactInvalid, ExtraMissing, NotFound
from midstream.engine.models.champions import Champions
from midstream.training.decisions import TrainingDecision

CANNOT_SERVE = (ArtifactInvalid, ExtraMissing, NotFound, OSError, MemoryError)
"""Faults of one version: another one may have none of them."""


def earlier_versions(decisions: Sequence[TrainingDecision], last: TrainingDecision) -> tuple[str, ...]:
    """Return the versions that were in service before a candidate, the newest first.

    Args:
        decisions: On the model, the newest first.
        last: Has the candidate.
    """
    found = dict.fromkeys([last.champion])
    for each in decisions:
        served = each.candidate if each.action in {"kept", "promoted"} else ""
        found.update(dict.fromkeys((served, each.champion)))
    harmful = {each.candidate for each in decisions if each.action == "rolled_back"}
    return tuple(each for each in found if each and each not in {last.candidate, *harmful})


async def roll_back(champions: Champions, decisions: Sequence[TrainingDecision], last: TrainingDecision) -> str:
    """Put the newest earlier version in service that can be, else none; return which answers, and why no newer one.

    Raises:
        MidstreamError: The log takes no event now; nothing was changed.
    """
    refused: list[str] = []
    for version in earlier_versions(decisions, last):
        try:
            await champions.promote(last.model, version)
        except CANNOT_SERVE as error:
            refused.append(f"{version} cannot be put in service ({type(error).__name__}: {one_line(error)})")
        else:
            return answers(version, refused)
    await champions.withdraw(last.model)
    return answers("", refused)


def answers(version: str, refused: Sequence[str] = ()) -> str:
    """Return which version answers again, empty = none, and why no newer one does."""
    told = f"{version} answers again" if version else "no version of it answers, but what its placements have beside it"
    return "; ".join((told, *refused))


def one_line(error: BaseException) -> str:
    """Return the text of an error in one line."""
    return " ".join(str(error).split())
