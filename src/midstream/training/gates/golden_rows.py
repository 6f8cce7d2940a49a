"""Golden rows: questions that the shop wrote down, with answers that every version has to give."""

from midstream.training.gates.evidence import GateEvidence, MeasuredVersion, first_words
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, passed, refused

NAME = "golden_rows"


def golden_rows(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a version gives the known answers, all of them."""
    del candidate, champion, gates
    golden = evidence.golden
    right = golden.asked - len(golden.wrong)
    if golden.wrong:
        return refused(NAME, first_words(golden.wrong), float(right), float(golden.asked))
    text = f"{golden.asked} known answers are right" if golden.asked else "no known answers were written down"
    return passed(NAME, text, float(right), float(golden.asked))
