"""Off-policy value: what logged slates say the candidate would have earned, where they say anything."""

from midstream.training.gates.evidence import GateEvidence, MeasuredVersion
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, not_judged, passed, refused

NAME = "off_policy"


def off_policy(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether the lower bound of the candidate's value is not far below the champion's."""
    del candidate
    value = evidence.value
    if gates.off_policy == "off" or champion is None:
        why = "it is off" if gates.off_policy == "off" else "no version is in service"
        return not_judged(NAME, why, holds_back=False)
    holds_back = gates.off_policy == "refuse"
    if value is None or value.low is None or value.champion is None:
        why = value.why_not if value is not None and value.why_not else "no slates were looked at"
        return not_judged(NAME, f"cannot be estimated: {why}", holds_back=holds_back)
    least = (
        value.champion * (1 - gates.value_loss_max)
        if value.champion >= 0
        else value.champion * (1 + gates.value_loss_max)
    )
    text = f"reward of a slate {value.candidate:.4f}, at least {value.low:.4f}, the champion's {value.champion:.4f}, "
    text = f"{text}by {value.slates:,} slates"
    if value.low < least:
        return refused(NAME, f"{text}; at least {least:.4f} is asked for", value.low, least)
    return passed(NAME, text, value.low, least)
