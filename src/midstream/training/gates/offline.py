"""Offline comparison: on the newest acts not worse than the version in service, and better than no model.

Not worse is shown and not assumed: the lower end of the paired 95 % interval has to be above the loss that is tolerated
(a test of non-inferiority), so few questions pass nobody. The version that would serve is asked the same questions,
which it has learned: if it answers worse than the fit that was judged, it is not what was judged.
"""

from midstream.training.gates.evidence import GateEvidence, JudgedActs, MeasuredVersion
from midstream.training.gates.options import GateOptions
from midstream.training.gates.results import GateResult, not_judged, passed, refused

NAME = "offline"
CHANCE = 0.5
"""AUC of an order that knows nothing."""
REFIT_LOSS_MAX = 0.05
"""Relative loss of what would serve against the fit that was judged: it has learned these acts, so it has none but by
a fault. No bound against the champion, so no option of that moves it."""


def offline(
    candidate: MeasuredVersion, champion: MeasuredVersion | None, evidence: GateEvidence, gates: GateOptions
) -> GateResult:
    """Return whether a candidate is not worse than the champion, and better than no model."""
    del candidate
    judged = evidence.judged
    holds_back = gates.unjudged == "refuse"
    if judged.figure is None or judged.questions < gates.questions_min:
        text = f"{judged.questions} questions judge it, questions_min is {gates.questions_min}: {judged.why_not}"
        return not_judged(NAME, text.removesuffix(": "), holds_back=holds_back)
    if gates.baseline and (found := _baseline(judged, judged.figure)) is not None:
        return found
    least = judged.figure * (1 - REFIT_LOSS_MAX)
    if judged.published is not None and judged.published < least:
        text = f"what would serve has {judged.metric} {judged.published:.4f} on acts that it learned, the fit that was "
        return refused(NAME, f"{text}judged {judged.figure:.4f} without them", judged.published, least)
    if champion is None:
        text = f"{judged.metric} {judged.figure:.4f} on {judged.questions:,} questions; no version is in service"
        return passed(NAME, text, judged.figure, judged.baseline)
    return _beside(judged, gates, holds_back=holds_back)


def tightened(found: GateResult, tolerated: float, gates: GateOptions) -> GateResult:
    """Return what the gate says of a candidate by a lower bound than that by which it passed beside the champion.

    Args:
        found: What the gate said.
        tolerated: Relative loss that was tolerated.
        gates: Their bounds now.
    """
    if found.figure is None or found.bound is None or gates.loss_max >= tolerated:
        return found
    least = found.bound * gates.loss_max / tolerated
    if found.figure >= least:
        return found
    return refused(NAME, f"{found.text}, at least {least:+.4f} is asked for", found.figure, least)


def _baseline(judged: JudgedActs, figure: float) -> GateResult | None:
    """Return why a candidate is no better than no model; None = it is."""
    if judged.auc is not None and judged.auc <= CHANCE:
        return refused(NAME, f"AUC {judged.auc:.4f}: it orders no better than chance", judged.auc, CHANCE)
    if judged.baseline is not None and figure <= judged.baseline:
        text = f"{judged.metric} {figure:.4f}, that of the most popular items is {judged.baseline:.4f}"
        return refused(NAME, text, figure, judged.baseline)
    return None


def _beside(judged: JudgedActs, gates: GateOptions, *, holds_back: bool) -> GateResult:
    """Return whether a candidate is seen to be not worse than the champion."""
    found, theirs = judged.difference, judged.champion
    if found is None or theirs is None or found.questions < gates.questions_min:
        few = (
            ""
            if found is None
            else f"{found.questions} questions are new to both, questions_min is {gates.questions_min}"
        )
        return not_judged(NAME, judged.why_not or few or "it was not compared", holds_back=holds_back)
    least = -gates.loss_max * theirs
    text = (
        f"{judged.metric} {found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f}) beside the champion's {theirs:.4f}"
    )
    text = f"{text} on {found.questions:,} questions"
    if found.low < least:
        said = "it is worse" if found.high < 0 else "that it is not worse is not seen"
        return refused(NAME, f"{said}: {text}, at least {least:+.4f} is asked for", found.low, least)
    return passed(NAME, text, found.low, least)
