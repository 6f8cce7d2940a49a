"""Search for settings on a validation part, written to a file before any test is read.

Options are tried one after another, each at the best of the others found so far, until a round changes nothing: with
few and nearly independent options this finds the result of a full grid in a small part of its trials.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import msgspec
import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.core.protocols import Source
from midstream.evaluation.metrics.metrics import hit, rank_of, reciprocal_rank
from midstream.evaluation.protocols import LIST_LENGTH, Exam, answers
from midstream.evaluation.settings_file import PAGE

Value = int | float | bool | str
Grid = Mapping[str, Sequence[Value]]
SESSION_KNN_GRID: Grid = {
    "position_decay": (0.2, 0.35, 0.5, 0.7),
    "match_decay": (0.2, 0.3, 0.45, 0.6, 0.8),
    "distance_decay": (0.35, 0.5, 0.7),
    "same_item": (0.3, 1.0, 2.0, 3.0, 4.0),
    "sharpness": ("1", "1.5", "2"),
    "neighbours_max": (50, 100, 200, 300),
}
"""Values for the options of session kNN that change its lists most, around its defaults: about 40 trials."""
COVISITATION_GRID: Grid = {
    "position_decay": (0.35, 0.5, 0.7, 1.0, 1.5),
    "same_item": (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    "popularity": ("0", "0.25", "0.5", "0.75", "1"),
    "last_items_max": (1, 3, 5, 10),
}
"""Values for the options of covisitation, around its defaults: about 25 trials."""


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """One set of options and its figures on the validation part."""

    options: dict[str, Value]
    """Every option of the grid, so that a change of defaults does not change a file's meaning."""
    hit_rate: float
    mrr: float

    @property
    def worth(self) -> float:
        """Product of both figures: a percent more of either is worth the same."""
        return self.hit_rate * self.mrr


@dataclass(frozen=True, slots=True)
class Choice:
    """Chosen options with all trials: the content of a settings file."""

    data: str
    chosen_on: str
    questions: int
    k: int
    fold: dict[str, object]
    """Settings of the fold; the maxima for ids were fitted to the data."""
    best: SearchTrial
    trials: tuple[SearchTrial, ...]


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """When a search ends."""

    rounds_max: int = 3
    trials_max: int = 100


def search(
    source: Source,
    exam: Exam,
    grid: Grid,
    limits: SearchLimits | None = None,
    advance: Callable[[SearchTrial], None] | None = None,
) -> tuple[SearchTrial, ...]:
    """Return all trials, in order; the first one is the source as it is.

    Args:
        source: A frozen msgspec type whose options the grid names.
        exam: The validation part's questions.
        grid: Values to try for each option, in the order in which the options are tried.
        limits: When to stop.
        advance: Called with each trial.

    Raises:
        Invalid: The grid names an option that the source does not have; each is named.
    """
    _check(source, grid)
    stop = limits or SearchLimits()
    seen: dict[tuple[tuple[str, Value], ...], SearchTrial] = {}

    def tried(options: dict[str, Value]) -> SearchTrial:
        key = tuple(sorted(options.items()))
        if key not in seen:
            seen[key] = _trial(source, options, exam)
            if advance is not None:
                advance(seen[key])
        return seen[key]

    best = tried({name: getattr(source, name) for name in grid})
    for _ in range(stop.rounds_max):
        before = best
        for name, values in grid.items():
            for value in values:
                if len(seen) >= stop.trials_max:
                    return tuple(seen.values())
                new = tried({**best.options, name: value})
                best = max(best, new, key=lambda trial: trial.worth)
        if best is before:
            break
    return tuple(seen.values())


def best_of(trials: Sequence[SearchTrial]) -> SearchTrial:
    """Return the trial that is worth most, the earliest of equal ones."""
    return max(trials, key=lambda trial: trial.worth)


def with_options(source: Source, options: Mapping[str, Value]) -> Source:
    """Return the source with other options.

    Raises:
        Invalid: It has no such option, or the value is of another type.
    """
    struct = _check(source, options)
    types = {each.name: each.type for each in msgspec.structs.fields(struct)}
    changed: dict[str, object] = {}
    for name, value in options.items():
        try:
            changed[name] = msgspec.convert(value, types[name])
        except msgspec.ValidationError as error:
            right = "a value of the option's type"
            raise Invalid((Fault(f"options.{name}", f"{value!r}: {error}", right, PAGE),)) from error
    return cast("Source", msgspec.structs.replace(struct, **changed))


def _trial(source: Source, options: dict[str, Value], exam: Exam) -> SearchTrial:
    """Answer the exam with these options."""
    rank = rank_of(answers(with_options(source, options), exam, LIST_LENGTH), exam.wanted)
    if len(rank) == 0:
        return SearchTrial(options, 0.0, 0.0)
    return SearchTrial(
        options, float(np.mean(hit(rank, LIST_LENGTH))), float(np.mean(reciprocal_rank(rank, LIST_LENGTH)))
    )


def _check(source: Source, options: Mapping[str, object]) -> msgspec.Struct:
    """Return the source as the frozen type that it is, or raise ``Invalid`` for options that it does not have."""
    if not isinstance(source, msgspec.Struct):
        came = f"{source.name} is a {type(source).__name__}"
        raise Invalid((Fault("options", came, "a msgspec.Struct, whose options can be read", PAGE),))
    known = source.__struct_fields__
    if unknown := [name for name in options if name not in known]:
        right = "one of " + ", ".join(known)
        raise Invalid(tuple(Fault("options", f'{source.name} has no option "{name}"', right, PAGE) for name in unknown))
    return source
