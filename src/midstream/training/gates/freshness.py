"""Freshness: the newest act that a candidate learned is not older than it may be."""

from midstream.core.durations import format_duration
from midstream.training.gates.evidence import GateEvidence, MeasuredVersion
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, passed, refused

NAME = "freshness"
_SECOND_MS = 1_000


def freshness(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a candidate learned what is new."""
    age_ms, most = max(0, evidence.now_ms - candidate.end_ms), gates.age_max.ms
    text = f"the newest act that it learned is {_rounded(age_ms)} old"
    if age_ms > most:
        return refused(NAME, f"{text}, age_max is {gates.age_max}", float(age_ms), float(most))
    if champion is not None and candidate.end_ms < champion.end_ms:
        behind = f"{text}, and {_rounded(champion.end_ms - candidate.end_ms)} older than the champion's"
        return refused(NAME, behind, float(candidate.end_ms), float(champion.end_ms))
    return passed(NAME, text, float(age_ms), float(most))


def _rounded(ms: int) -> str:
    return format_duration(ms if ms < _SECOND_MS else ms // _SECOND_MS * _SECOND_MS)
