"""Canary rule: promotes a candidate at the end of its time if the estimate does not have it behind the champion.

Guardrails stop what is shown to do harm. Over the time of a canary a few percent cannot be shown, so what merely breaks
no guardrail may be worse, and one after another such promotions add up. By the estimate the worse half of candidates
without a real difference is left out, and more of those with one. A candidate that is behind is tried for a second such
time, since chance that has it behind is as likely as chance that has it ahead. It is decided twice, at the end of each
time: who looks more often promotes at the first moment at which chance has a candidate ahead.
"""

from typing import Literal, TypeAlias

TIMES = 2
"""So many times its least time a candidate is tried that is behind."""
CanaryEnd: TypeAlias = Literal["", "promoted", "given up"]


def canary_end(
    harm: float | None, age: int, least: int, most: int | None = None, *, was_behind: bool = False
) -> CanaryEnd:
    """Return how a canary ends now that no guardrail is broken; empty = it goes on.

    Args:
        harm: Estimated loss against the champion, above 0 = worse; None = it cannot be estimated, and promotes nothing.
        age: Since it began; the unit of all three is of no matter.
        least: How long it runs in any case.
        most: How long it may run, at least ``least``; None = as long as the rule has it.
        was_behind: Whether it was behind when it was first asked after ``least``: then it is decided at the end alone.
    """
    if age < least:
        return ""
    end = TIMES * least if most is None else min(TIMES * least, most)
    if harm is None:
        return "given up" if age >= (most or end) else ""
    if harm <= 0.0:
        return "promoted" if age >= end or not was_behind else ""
    return "given up" if age >= end else ""
