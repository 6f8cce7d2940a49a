"""Shadow: requests of now, answered with the candidate beside the champion, off the path.

With fewer requests than ``requests_min`` too little was seen, so nothing passes, though what fails is refused: the gate
waits, and its caller asks again until ``shadow_wait`` is over, when ``too_late`` refuses.
"""

from midstream.training.gates.evidence import GateEvidence, MeasuredVersion, ShadowAnswers
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, not_judged, passed, refused, waits

NAME = "shadow"


def shadow(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether the candidate answers requests of now as the champion does: always, and not too slowly."""
    del candidate
    seen = evidence.shadow
    if not gates.shadow or champion is None:
        why = "no version is in service" if champion is None else "it is off"
        return not_judged(NAME, why, holds_back=False)
    if seen is None or not seen.requests:
        why = "no request was run again yet" if seen is None else seen.why_not or "no request could be run again"
        return waits(NAME, f"{why}; shadow_wait is {gates.shadow_wait}")
    text = f"{seen.requests:,} requests, {seen.failures} failures, {seen.not_finite} scores that are no numbers"
    if (found := _harm(seen, gates, text)) is not None:
        return found
    if seen.requests < gates.requests_min:
        why = f"{seen.requests:,} requests were run again, requests_min is {gates.requests_min:,}"
        return waits(NAME, f"{why}; shadow_wait is {gates.shadow_wait}")
    same = "" if seen.agreement is None else f", {seen.agreement:.0%} of the champion's items"
    return passed(NAME, f"{text}{same}", _failed(seen), gates.failures_max)


def _failed(seen: ShadowAnswers) -> float:
    return (seen.failures + seen.not_finite) / seen.requests


def _harm(seen: ShadowAnswers, gates: GateOptions, text: str) -> GateResult | None:
    """Return what refuses the candidate, however few requests there are; None = nothing does."""
    share, most = _failed(seen), gates.failures_max
    if share > most:
        return refused(NAME, f"{text}: failures_max is {most:g}", share, most)
    if seen.cpu_times is not None and seen.cpu_times > gates.cpu_times_max:
        text = f"{text}: an answer takes {seen.cpu_times:.1f} times as long, cpu_times_max is {gates.cpu_times_max:g}"
        return refused(NAME, text, seen.cpu_times, gates.cpu_times_max)
    if seen.agreement is not None and seen.agreement < gates.agreement_min:
        text = f"{text}: {seen.agreement:.0%} of the champion's items, agreement_min is {gates.agreement_min:.0%}"
        return refused(NAME, text, seen.agreement, gates.agreement_min)
    return None


def too_late(result: GateResult, gates: GateOptions) -> GateResult:
    """Return that a shadow which waited has waited long enough."""
    why = result.text.partition(";")[0]
    return refused(NAME, f"not enough requests in {gates.shadow_wait} (shadow_wait): {why}", 0.0, 1.0)
