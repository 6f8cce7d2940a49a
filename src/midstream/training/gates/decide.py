"""Decision on a candidate: every gate in its order, up to the first that refuses or waits; pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from midstream.training.gates.cost import cost
from midstream.training.gates.evidence import (
    GateEvidence,
    MeasuredVersion,
    ShadowAnswers,
    first_words,
    not_finite,
)
from midstream.training.gates.freshness import freshness
from midstream.training.gates.golden_rows import golden_rows
from midstream.training.gates.leak import leak
from midstream.training.gates.off_policy import off_policy
from midstream.training.gates.offline import offline
from midstream.training.gates.options import DEFAULTS, GateOptions
from midstream.training.gates.results import GATES, GateDecision, GateResult, refused
from midstream.training.gates.shadow import shadow, too_late
from midstream.training.gates.validity import validity

Gate: TypeAlias = Callable[[MeasuredVersion, MeasuredVersion | None, GateEvidence, GateOptions], GateResult]
_GATES: Final[Mapping[str, Gate]] = {
    "validity": validity,
    "golden_rows": golden_rows,
    "leak": leak,
    "offline": offline,
    "freshness": freshness,
    "off_policy": off_policy,
    "cost": cost,
    "shadow": shadow,
}


def decide(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions = DEFAULTS
) -> GateDecision:
    """Return what the gates say of a candidate. A figure that is no number is below no bound: it refuses by itself.

    Args:
        candidate: The new version.
        champion: The version in service, None = none.
        evidence: What else was measured.
        gates: Their bounds.
    """
    against = "" if champion is None else champion.version
    wrong = [*not_finite(candidate, "candidate"), *not_finite(evidence, "evidence"), *evidence.judged.faults]
    wrong += [each for part in (evidence.value, evidence.shadow) if part is not None for each in part.faults]
    wrong += [] if champion is None else not_finite(champion, "champion")
    if wrong:
        text = f"not a number: {first_words(wrong)}"
        return GateDecision(candidate.version, against, (refused(GATES[0], text),))
    found: list[GateResult] = []
    for name in GATES:
        found.append(_GATES[name](candidate, champion, evidence, gates))
        if not found[-1].passed:
            break
    return GateDecision(candidate.version, against, tuple(found))


def shadowed(
    versions: tuple[str, str],
    before: Sequence[GateResult],
    seen: ShadowAnswers,
    gates: GateOptions,
    waited_ms: int,
) -> GateDecision:
    """Return what the gates say of a candidate that waited for requests, once some were looked for again.

    Args:
        versions: Candidate and champion.
        before: What they said so far; the last one waits.
        seen: Of the newest requests.
        gates: Their bounds.
        waited_ms: How long it has waited.
    """
    candidate, champion = versions
    told = GateEvidence(now_ms=0, shadow=seen)
    found = shadow(MeasuredVersion(version=candidate), MeasuredVersion(version=champion), told, gates)
    if wrong := (*seen.faults, *not_finite(seen, "shadow")):
        found = refused(found.name, f"not a number: {first_words(wrong)}")
    if found.outcome == "waits" and waited_ms >= gates.shadow_wait.ms:
        found = too_late(found, gates)
    return GateDecision(candidate, champion, (*before[:-1], found))
