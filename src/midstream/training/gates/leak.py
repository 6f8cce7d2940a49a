"""Leak alarm: a candidate that is too good to be true has the answers from elsewhere than the past.

Four signs, each of which is enough: a figure beyond what any honest model of a shop reaches; one column that alone
tells what was acted on (it was counted after the act); a jump over the version in service that no new day explains; and
a fit of the past that beats one of the same kind that was told the later acts of all others, which only the answers
themselves can explain.

Reference: S. Kaufman, S. Rosset, C. Perlich, O. Stitelman, "Leakage in data mining", TKDD 2012.
"""

from midstream.training.gates.evidence import GateEvidence, JudgedActs, MeasuredVersion
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, not_judged, passed, refused

NAME = "leak"
JUMP_MIN = 0.05
"""Absolute rise below which no jump is looked for: three times next to nothing is little."""


def leak(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a candidate seems to know the answers."""
    del candidate, champion
    judged, most = evidence.judged, gates.plausible_max
    if judged.figure is None or judged.questions < gates.questions_min:
        return not_judged(NAME, f"{judged.questions} questions show no leak", holds_back=False)
    for name, figure in ((judged.metric, judged.figure), ("AUC", judged.auc)):
        if figure is not None and figure > most:
            return refused(
                NAME, f"{name} of {figure:.4f} is too good to be true, plausible_max is {most:g}", figure, most
            )
    if judged.column_auc is not None and judged.column_auc > most:
        text = f'the column "{judged.column}" alone tells what is acted on (AUC {judged.column_auc:.4f}), '
        return refused(NAME, f"{text}plausible_max is {most:g}: is it counted after the act?", judged.column_auc, most)
    if judged.foresight is not None and judged.foresight.low > 0:
        text = (
            f"{judged.metric} is {judged.foresight.mean:+.4f} above that of a fit which knows the later acts of others"
        )
        return refused(NAME, f"{text}: the answers are among what it learned", judged.foresight.low, 0.0)
    return _jump(judged, gates)


def _jump(judged: JudgedActs, gates: GateOptions) -> GateResult:
    """Return whether the rise over the version in service is plausible."""
    difference, theirs = judged.difference, judged.champion
    if difference is None or theirs is None or difference.questions < gates.questions_min:
        return passed(NAME, f"{judged.metric} of {judged.figure:.4f} is plausible", judged.figure, gates.plausible_max)
    times = (theirs + difference.mean) / theirs if theirs > 0 else 1.0
    if difference.low > JUMP_MIN and times > gates.jump_max:
        text = f"{judged.metric} is {times:.1f} times that of the champion, jump_max is {gates.jump_max:g}"
        return refused(NAME, text, times, gates.jump_max)
    return passed(NAME, f"{judged.metric} is {times:.2f} times that of the champion", times, gates.jump_max)
