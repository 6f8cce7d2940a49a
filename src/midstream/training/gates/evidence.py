"""Evidence of gates: what was measured of a candidate and of the version in service, as plain numbers.

A child process measures and a server decides, so all of it can be written as JSON. None means that something was not
measured, and never 0; the gates say what follows from that. JSON has no NaN, so a figure that is no number is a fault.
"""

import math
from collections.abc import Sequence

import msgspec


class MeasuredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version, read and asked."""

    version: str
    faults: tuple[str, ...] = ()
    """Why it cannot be read, or answers as no model may: in words; empty as it should be."""
    end_ms: int = 0
    """Log time of the newest act that it learned."""
    bytes: int = 0
    """Of its files."""
    items: int | None = None
    """That it knows; None = it ranks rows."""
    coverage: float | None = None
    """Share of the most popular items now that it knows; None = it ranks rows, or nothing is popular yet."""
    scores: int = 0
    """Numbers that it was asked for."""
    not_finite: int = 0
    """Of these, NaN or infinite ones."""
    apart: float = 0.0
    """Share of the questions whose scores are not all equal."""
    cpu_ms: float | None = None
    """Processor time of one answer, the least of several; None = it was not measured."""


class PairedGap(msgspec.Struct, frozen=True):
    """Mean difference of two over the same questions, with its 95 % interval."""

    questions: int
    mean: float
    low: float
    high: float


class JudgedActs(msgspec.Struct, frozen=True, kw_only=True):
    """The newest acts, which the evaluated fit has not learned, as questions."""

    metric: str = ""
    figure: float | None = None
    """Of the candidate's evaluated fit; None = there was no question."""
    questions: int = 0
    baseline: float | None = None
    """Of the most popular items on the same questions; None = of a ranker, or unknown."""
    champion: float | None = None
    """Of the version in service on the questions that neither has learned."""
    difference: PairedGap | None = None
    """Candidate minus champion on those."""
    why_not: str = ""
    """Why there is no difference."""
    published: float | None = None
    """Of the version that would serve, on these questions, which it has learned: so not less; None = not asked."""
    auc: float | None = None
    """Of a ranker: probability that a row that was acted on is above one that was not."""
    column: str = ""
    """The one column that alone tells rows best apart."""
    column_auc: float | None = None
    """How well, 0.5 to 1, in whichever direction."""
    foresight: PairedGap | None = None
    """Candidate minus a fit of the same kind that knows the later acts of all others, on the same questions. None but
    one that knows the answers is above 0."""
    faults: tuple[str, ...] = ()
    """Figures that are no numbers, by name: None of them would say that nobody asked."""


class GoldenAnswers(msgspec.Struct, frozen=True):
    """Questions with known answers."""

    asked: int = 0
    wrong: tuple[str, ...] = ()
    """What was answered otherwise, in words; the first ten."""


class EstimatedValue(msgspec.Struct, frozen=True, kw_only=True):
    """Off-policy estimate of the slates that were logged."""

    candidate: float | None = None
    """Reward of a slate."""
    low: float | None = None
    """Lower end of its 95 % interval."""
    champion: float | None = None
    slates: int = 0
    why_not: str = ""
    """Why it cannot be estimated; empty = it can."""
    faults: tuple[str, ...] = ()
    """Figures that are no numbers, by name."""


class ShadowAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Requests answered with the candidate beside the version in service, off the path."""

    requests: int = 0
    failures: int = 0
    """That failed with the candidate alone."""
    not_finite: int = 0
    """Answers with a score that is no number."""
    agreement: float | None = None
    """Mean share of the champion's items that the candidate has too."""
    cpu_times: float | None = None
    """Median time of an answer by that of the champion."""
    why_not: str = ""
    """Why nothing was asked; empty = something was."""
    faults: tuple[str, ...] = ()
    """Figures that are no numbers, by name: as JSON they would be none, and pass."""


class GateEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that gates judge by beside the two versions."""

    now_ms: int
    """Log time."""
    judged: JudgedActs = JudgedActs(why_not="nothing was kept apart to judge by")
    golden: GoldenAnswers = GoldenAnswers()
    value: EstimatedValue | None = None
    """None = it was not looked at."""
    shadow: ShadowAnswers | None = None
    """None = not yet."""


def not_finite(told: msgspec.Struct, name: str) -> tuple[str, ...]:
    """Return the names of the numbers of a structure, and of those within it, that are NaN or infinite."""
    found: list[str] = []
    for field in told.__struct_fields__:
        value = getattr(told, field)
        if isinstance(value, msgspec.Struct):
            found += not_finite(value, f"{name}.{field}")
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(f"{name}.{field}")
    return tuple(found)


def first_words(texts: Sequence[str], most: int = 3) -> str:
    """Return the first of some texts, and how many more there are."""
    more = f"; and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
