"""Freshness: the newest act that a candidate learned is not older than it may be, and not of the future.

Time is that of the log, which never goes back, so what is ahead of it was learned elsewhere or under a clock that was
wrong: its age says nothing. A champion of such a time is no measure of its successors.
"""

from midstream.core.durations import format_duration
from midstream.training.gates.evidence import GateEvidence, MeasuredVersion
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, passed, refused

NAME = "freshness"
AHEAD_MS_MAX = 300_000
"""As far as an event's own time may be ahead of the log's."""
_SECOND_MS = 1_000


def freshness(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a candidate learned what is new."""
    ahead_ms, most = candidate.end_ms - evidence.now_ms, gates.age_max.ms
    if ahead_ms > AHEAD_MS_MAX:
        text = f"the newest act that it learned is {_rounded(ahead_ms)} ahead of the log's time"
        return refused(NAME, text, float(-ahead_ms), float(-AHEAD_MS_MAX))
    age_ms = max(0, -ahead_ms)
    text = f"the newest act that it learned is {_rounded(age_ms)} old"
    if age_ms > most:
        return refused(NAME, f"{text}, age_max is {gates.age_max}", float(age_ms), float(most))
    is_measure = champion is not None and champion.end_ms <= evidence.now_ms + AHEAD_MS_MAX
    if champion is not None and is_measure and candidate.end_ms < champion.end_ms:
        behind = f"{text}, and {_rounded(champion.end_ms - candidate.end_ms)} older than the champion's"
        return refused(NAME, behind, float(candidate.end_ms), float(champion.end_ms))
    return passed(NAME, text, float(age_ms), float(most))


def _rounded(ms: int) -> str:
    return format_duration(ms if ms < _SECOND_MS else ms // _SECOND_MS * _SECOND_MS)
