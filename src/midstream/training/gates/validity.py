"""Validity: the version can be read, every number is one, its scores tell items apart, and it knows what sells now."""

from midstream.training.gates.evidence import GateEvidence, MeasuredVersion, first_words
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, passed, refused

NAME = "validity"
APART_MIN = 0.5
"""Share of the questions whose scores differ: a model of sparse relations may have nothing to say of some."""


def validity(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a version is a model at all."""
    del champion, evidence
    if candidate.faults:
        return refused(NAME, first_words(candidate.faults))
    if (found := _scores(candidate)) is not None:
        return found
    if candidate.coverage is None:
        return passed(NAME, f"{candidate.scores:,} scores are numbers and tell rows apart", candidate.apart, APART_MIN)
    known = f"it knows {candidate.coverage:.0%} of the most popular items"
    if candidate.coverage < gates.coverage_min:
        text = f"{known}, coverage_min is {gates.coverage_min:.0%}"
        return refused(NAME, text, candidate.coverage, gates.coverage_min)
    return passed(NAME, f"{known}, and its scores are numbers", candidate.coverage, gates.coverage_min)


def _scores(candidate: MeasuredVersion) -> GateResult | None:
    """Return why the scores of a version are of no use; None = they are."""
    if candidate.items == 0:
        return refused(NAME, "its vocabulary is empty", 0.0, 1.0)
    if candidate.not_finite:
        share = candidate.not_finite / max(1, candidate.scores)
        return refused(NAME, f"{candidate.not_finite:,} of {candidate.scores:,} scores are no numbers", share, 0.0)
    if not candidate.scores or candidate.apart < APART_MIN:
        text = f"all scores are equal in {1 - candidate.apart:.0%} of the questions, so it orders nothing there"
        return refused(NAME, text, candidate.apart, APART_MIN)
    return None
