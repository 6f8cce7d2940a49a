"""Results of gates: one line each with a figure and its bound, and the decision that follows from all of them."""

from typing import Literal, TypeAlias

import msgspec

Outcome: TypeAlias = Literal["passed", "refused", "not_judged", "waits"]
"""``not_judged``: there was nothing to judge by; the options of the gates say whether that holds a candidate back.
``waits``: there is nothing to judge by yet, and the gate is asked again."""
GATES = ("validity", "golden_rows", "leak", "offline", "freshness", "off_policy", "cost", "shadow")
"""In their order: what reads the arrays comes before what believes their scores."""


class GateResult(msgspec.Struct, frozen=True):
    """What one gate says of one candidate."""

    name: str
    outcome: Outcome
    figure: float | None
    """What was measured; None = nothing was."""
    bound: float | None
    """The least or the most that passes; None = there is no bound, or none was applied."""
    text: str
    """What it means, in words."""

    @property
    def passed(self) -> bool:
        """Whether the candidate goes on."""
        return self.outcome in {"passed", "not_judged"}

    def __str__(self) -> str:
        """Return gate, outcome and text in one line."""
        return f"{self.name} {self.outcome.replace('_', ' ')}: {self.text}"


class GateDecision(msgspec.Struct, frozen=True):
    """What the gates say together."""

    candidate: str
    """Version."""
    champion: str
    """Version in service; empty = none."""
    results: tuple[GateResult, ...]
    """Of the gates that were asked, in their order, up to the first that does not let the candidate go on."""

    @property
    def passed(self) -> bool:
        """Whether every gate lets the candidate go on."""
        return all(each.passed for each in self.results)

    @property
    def waits(self) -> bool:
        """Whether the last gate has nothing to judge by yet."""
        return bool(self.results) and self.results[-1].outcome == "waits"

    @property
    def gate(self) -> str:
        """The gate that refuses or waits; empty = none."""
        return next((each.name for each in self.results if not each.passed), "")

    @property
    def reason(self) -> str:
        """Why it is refused or waits, or that every gate was passed."""
        said = next((str(each) for each in self.results if not each.passed), "")
        return said or f"{len(self.results)} gates passed"


def passed(name: str, text: str, figure: float | None = None, bound: float | None = None) -> GateResult:
    """Return that a candidate goes on."""
    return GateResult(name, "passed", figure, bound, text)


def refused(name: str, text: str, figure: float | None = None, bound: float | None = None) -> GateResult:
    """Return that a candidate is held back."""
    return GateResult(name, "refused", figure, bound, text)


def not_judged(name: str, text: str, *, holds_back: bool) -> GateResult:
    """Return that there was nothing to judge by, which holds a candidate back or not."""
    return GateResult(name, "refused" if holds_back else "not_judged", None, None, text)


def waits(name: str, text: str) -> GateResult:
    """Return that there is nothing to judge by yet."""
    return GateResult(name, "waits", None, None, text)
