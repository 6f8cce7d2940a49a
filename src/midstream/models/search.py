"""Hyperparameter search by a library that proposes the next trial from the earlier ones (TPE).

Trials are in a file of lines that only grows, so an interrupted search continues. The objective must use validation
data alone; this module reads none. Searches for different questions share no trial, in one file too: each has a name.

Reference: J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, "Algorithms for Hyper-Parameter Optimization", NIPS 2011 (TPE).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

from midstream.core.errors import ExtraMissing, Fault, Invalid
from midstream.models.kinds import Range, Space, Value

if TYPE_CHECKING:
    import optuna

Options = dict[str, Value]
_REFUSED = "refused"
"""Of a trial whose options have no answer: why."""
_NAMED = "named"
"""Of a trial that was asked for by its options: these."""


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
    """One set of options and its value."""

    options: Options
    worth: float


def search_space(
    worth: Callable[[Options], float],
    space: Space,
    journal: Path,
    budget: SearchBudget | None = None,
    first: Sequence[Mapping[str, Value]] = (),
    question: str = "",
) -> tuple[Tried, ...]:
    """Try options until the budget is spent, the most promising next.

    Args:
        worth: Of options, higher is better; asked once a trial. Where it raises ``Invalid`` the trial is kept as
            failed, with the reason, and the search goes on.
        space: What may be tried.
        journal: Holds what was tried; made if it is not there, read and gone on with if it is.
        budget: When to stop. The same seed, space and worth give the same trials in a search that is not broken off.
        question: Tells what is searched for, all that a figure depends on: trials of another one, or of another space,
            are not gone on with.
        first: Options tried before all others, such as the defaults, unless the journal has what came of them; of a
            value outside the space nothing is said, and one inside is drawn.

    Returns:
        Everything that was tried and has a worth, in order, with what the journal held.

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
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what is refused is kept in the journal
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        storage=storage,
        study_name=study_of(question, space),
        direction="maximize",
        load_if_exists=True,
    )
    # A search that goes on would else draw again what it drew when it began.
    study.sampler = optuna.samplers.TPESampler(seed=limits.seed + len(study.trials))
    for each in first:
        _try_next(study, {name: value for name, value in each.items() if _is_within(space.get(name, ()), value)})

    def objective(trial: "optuna.Trial") -> float:
        try:
            return worth({name: _suggested(trial, name, values) for name, values in space.items()})
        except Invalid as error:
            trial.set_user_attr(_REFUSED, str(error))
            raise

    refused = sum(_REFUSED in each.user_attrs for each in study.trials)
    left = limits.trials_max - len(_finished(study)) - refused
    if left > 0:
        study.optimize(objective, n_trials=left, timeout=limits.seconds_max, catch=(Invalid,))
    return _finished(study)


def best_tried(tried: tuple[Tried, ...]) -> Tried:
    """Return the trial of the highest value, the earliest of equal ones.

    Raises:
        Invalid: No trial has a value.
    """
    if not tried:
        right = "More time, or a space whose options have an answer."
        raise Invalid((Fault("search", "No trial came to an end with a worth.", right, "/docs/evaluation.md"),))
    return max(tried, key=lambda each: each.worth)


def study_of(question: str, space: Space) -> str:
    """Return the name of a search: a hash of its question and its space."""
    text = question + "\n" + "\n".join(f"{name}={space[name]!r}" for name in sorted(space))
    return f"settings-{sha256(text.encode()).hexdigest()[:16]}"


def _try_next(study: "optuna.Study", options: Options) -> None:
    """Ask for a trial of some options, unless one waits or has an end: what was killed in one says nothing of them."""
    ended = [each.params for each in study.trials if each.value is not None or _REFUSED in each.user_attrs]
    waiting = [each.user_attrs.get(_NAMED, {}) for each in study.trials if each.state.name == "WAITING"]
    if options and not any(options.items() <= each.items() for each in (*ended, *waiting)):
        study.enqueue_trial(options, user_attrs={_NAMED: options})


def _is_within(values: Range | tuple[Value, ...], value: Value) -> bool:
    """Return whether a value is one of those that a search may take."""
    if not isinstance(values, Range):
        return value in values
    return isinstance(value, int | float) and values.low <= value <= values.high


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
