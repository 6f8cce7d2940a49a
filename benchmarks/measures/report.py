"""The table of a run: each row's median, lowest and highest, its goals, and the noise of just its rounds."""

import statistics
from collections.abc import Iterator, Sequence

from .checkouts import Checkout
from .goals import Goal
from .machine import told
from .turns import Measured


def table(
    measured: Measured, checkouts: Sequence[Checkout], goals: Sequence[Goal], *, is_judged: bool
) -> Iterator[str]:
    """Yield the lines of a Markdown table; with two versions the first is the one before, and the last is this tree.

    Rows of other sizes than those of the floors are not held against them: ``is_judged`` says which they are.
    """
    names = [each.name for each in checkouts]
    ratio = [f"times better than {names[0]}"] if len(names) > 1 else []
    heads = ["", *(f"{each}: median (least to most)" for each in names), *ratio, "floor", "aim", "stretch", "noise"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    every = [noise for noises in measured.noise.values() for noise in noises]
    best_ms = min((each.spin_ms for each in every), default=1.0)
    for goal in goals:
        values = [measured.figures[name][goal.name] for name in names]
        cells = [spread(each, goal, is_judged=is_judged) for each in values]
        if ratio:
            cells.append(ratios(goal, *values))
        noises = measured.noise[goal.program]
        told_goals = [number(each) if each is not None else "" for each in (goal.floor, goal.aim, goal.stretch)]
        beside = told(noises, best_ms) if noises else ""
        yield f"| {' | '.join([f'{goal.name}, {goal.unit}', *cells, *told_goals, beside])} |"


def spread(values: list[float], goal: Goal, *, is_judged: bool) -> str:
    """Return the median with its bounds, and whether it misses its floor."""
    if not values:
        return "no figure"
    middle = statistics.median(values)
    missed = ", **below its floor**" if is_judged and goal.is_missed(middle) else ""
    return f"{number(middle)} ({number(min(values))} to {number(max(values))}){missed}"


def ratios(goal: Goal, before: list[float], now: list[float]) -> str:
    """Return how many times better, round by round."""
    found = [goal.times_better(new, old) for old, new in zip(before, now, strict=False)]
    if not found:
        return "no figure"
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def number(value: float) -> str:
    """Return three digits, or all of a large number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
