"""Canary rule: promotes a candidate at the end of its time if the estimate does not have it behind the champion.

Guardrails stop what is shown to do harm. Over the time of a canary a few percent cannot be shown, so what merely breaks
no guardrail may be worse, and one after another such promotions add up. By the estimate the worse half of candidates
without a real difference is left out, and more of those with one. A candidate that is behind is tried for a second such
time, since chance that has it behind is as likely as chance that has it ahead.
"""

from typing import Literal, TypeAlias

TIMES = 2
"""So many times its least time a candidate is tried that is behind."""
CanaryEnd: TypeAlias = Literal["", "promoted", "given up"]


def canary_end(harm: float | None, age: int, least: int, most: int | None = None) -> CanaryEnd:
    """Return how a canary ends now that no guardrail is broken; empty = it goes on.

    Args:
        harm: Estimated loss against the champion, above 0 = worse; None = it cannot be estimated, and speaks against
            nothing.
        age: Since it began; the unit of all three is of no matter.
        least: How long it runs in any case.
        most: How long it may run, at least ``least``; None = as long as the rule has it.
    """
    if age < least:
        return ""
    if harm is None or harm <= 0.0:
        return "promoted"
    end = TIMES * least if most is None else min(TIMES * least, most)
    return "given up" if age >= end else ""
