"""Cost: processor time of an answer and bytes of a version, beside bounds and beside the version in service."""

from midstream.training.gates.evidence import GateEvidence, MeasuredVersion
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, not_judged, passed, refused

NAME = "cost"
FREE_MS = 1.0
"""Of an answer: what no request notices, however many times the champion's it is."""
FREE_BYTES = 1 << 20


def cost(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a candidate is not too slow and not too large."""
    del evidence
    champion = None if champion is None or champion.faults else champion
    size_max = float(gates.bytes_max)
    if champion is not None:
        size_max = min(size_max, max(FREE_BYTES, gates.bytes_times_max * champion.bytes))
    if candidate.bytes > size_max:
        text = f"{candidate.bytes:,} bytes are too many: at most {size_max:,.0f} (bytes_max, bytes_times_max)"
        return refused(NAME, text, float(candidate.bytes), size_max)
    if candidate.cpu_ms is None:
        return not_judged(NAME, "its time was not measured", holds_back=True)
    ms_max = gates.cpu_ms_max
    if champion is not None and champion.cpu_ms is not None:
        ms_max = min(ms_max, max(FREE_MS, gates.cpu_times_max * champion.cpu_ms))
    text = f"{candidate.cpu_ms:.3f} ms of processor time an answer"
    if candidate.cpu_ms > ms_max:
        text = f"{text} are too slow: at most {ms_max:.3f} (cpu_ms_max, cpu_times_max)"
        return refused(NAME, text, candidate.cpu_ms, ms_max)
    return passed(NAME, f"{text}, {candidate.bytes:,} bytes", candidate.cpu_ms, ms_max)
