"""Settings of a model searched by a library that learns from what was tried where to try next.

What was tried lies in a file of lines that only grows: a search that ended, or was ended, goes on where it stopped. The
function that is asked must look at validation data alone; this module knows none.

Reference: J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, "Algorithms for Hyper-Parameter Optimization", NIPS 2011 (TPE).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from midstream.core.errors import ExtraMissing
from midstream.models.kinds import Range, Space, Value

if TYPE_CHECKING:
    import optuna

Options = dict[str, Value]


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """When a search ends: whichever comes first."""

    trials_max: int = 50
    """Together with those of the file."""
    seconds_max: float = 600.0
    """No trial is begun after so long; the one that runs is finished."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Tried:
    """One set of options and what it was worth."""

    options: Options
    worth: float


def search_space(
    worth: Callable[[Options], float],
    space: Space,
    journal: Path,
    budget: SearchBudget | None = None,
    first: Mapping[str, Value] | None = None,
) -> tuple[Tried, ...]:
    """Try options until the budget is spent, the most promising next.

    Args:
        worth: Of options, higher is better; asked once a trial.
        space: What may be tried.
        journal: Holds what was tried; made if it is not there, read and gone on with if it is.
        budget: When to stop. The same seed, space and worth give the same trials in a search that is not broken off.
        first: Options tried first in a new journal, such as the defaults; those outside the space are left out.

    Returns:
        Everything that was tried, in order, with what the journal held.

    Raises:
        ExtraMissing: The library is not installed.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        message = 'a search for settings needs the extra "train": pip install "midstream[train]"'
        raise ExtraMissing(message) from error
    limits = budget or SearchBudget()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        storage=storage,
        study_name="settings",
        sampler=optuna.samplers.TPESampler(seed=limits.seed),
        direction="maximize",
        load_if_exists=True,
    )
    if first and not study.trials:
        study.enqueue_trial({name: value for name, value in first.items() if name in space})

    def objective(trial: "optuna.Trial") -> float:
        return worth({name: _suggested(trial, name, values) for name, values in space.items()})

    left = limits.trials_max - len(_finished(study))
    if left > 0:
        study.optimize(objective, n_trials=left, timeout=limits.seconds_max)
    return _finished(study)


def best_tried(tried: tuple[Tried, ...]) -> Tried:
    """Return what is worth most, the earliest of equal ones."""
    return max(tried, key=lambda each: each.worth)


def _suggested(trial: "optuna.Trial", name: str, values: Range | tuple[Value, ...]) -> Value:
    """Return the value of one option that a trial is of."""
    if not isinstance(values, Range):
        return cast("Value", trial.suggest_categorical(name, values))
    if values.whole:
        return trial.suggest_int(name, round(values.low), round(values.high), log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


def _finished(study: "optuna.Study") -> tuple[Tried, ...]:
    """Return the trials that have a value, in order."""
    return tuple(Tried(dict(each.params), each.value) for each in study.trials if each.value is not None)
