"""Evaluation of item models on interactions, with settings chosen on a validation part before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.evaluation.data.interactions import InteractionData, InteractionTable
from midstream.evaluation.data.item_data import rolling, temporal
from midstream.evaluation.full_ranking import (
    ItemData,
    Judged,
    RankingOptions,
    RankingReport,
    Removed,
    Task,
    compare,
    judge,
    report_of,
    worth_of,
)
from midstream.evaluation.metrics.statistics import PairedDifference, Resampling
from midstream.evaluation.settings_file import read_settings, write_settings
from midstream.models.histories import Interactions
from midstream.models.kinds import ROW_KINDS, ItemKind, Space, Value, blend_parts, item_kind
from midstream.models.model import QUIET, ItemModel
from midstream.models.search import SearchBudget, Tried, best_tried, search_space

PROTOCOLS: Mapping[str, Callable[[str, Callable[[], InteractionTable], Removed], ItemData]] = {
    "temporal": lambda name, rows, removed: temporal(name, rows, removed=removed),
    "rolling": lambda name, rows, removed: rolling(name, rows, removed=removed),
}
"""Of interactions with times."""
_PAGE = "/docs/evaluation.md"


@dataclass(frozen=True, slots=True)
class JudgingOptions:
    """Which models are judged, by which protocol, and how their settings are found."""

    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """Of the first model, as text or as they are; other options come from the settings file or the default."""
    against: str | None = None
    """A kind, with its settings file or its defaults, judged on the same questions; the same one too."""
    k: int = 20
    search_seconds: float = 0.0
    """How long options are searched on the validation part; 0 = not at all."""
    trials_max: int = 50
    folder: Path = Path()
    """Where settings files and journals are."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Chosen options with all trials: the content of a settings file."""

    data: str
    protocol: str
    model: str
    chosen_on: str
    metric: str
    options: dict[str, Value]
    worth: float
    trials: tuple[Tried, ...]
    question: str
    """Hash of all that a worth depends on: data, protocol, what is removed, kind, metric; see ``question_of``."""


@dataclass(frozen=True, slots=True)
class JudgedModels:
    """One report, or two with the difference of the first from the second."""

    reports: tuple[RankingReport, ...]
    options: tuple[dict[str, object], ...]
    """Of each model, all of them."""
    differences: dict[str, PairedDifference]


def judge_models(
    data: ItemData, kind_name: str, options: JudgingOptions, tell: Callable[[str], None], tested: ItemData | None = None
) -> JudgedModels:
    """Fit and evaluate a kind of model, and optionally another for comparison.

    Args:
        data: Of ``item_data_of``; settings are chosen on it.
        kind_name: Of ``ITEM_KINDS``.
        options: Of the evaluation.
        tell: Receives the current step.
        tested: The same data under the protocol of the test, where it is another one.

    Raises:
        NotFound: There is no such data.
        Invalid: No such kind or option, columns do not fit, or the settings were chosen for another question.
        ExtraMissing: A library that the model is fitted with is not installed.
    """
    names = [kind_name] if options.against is None else [kind_name, options.against]
    if rankers := [name for name in names if name in ROW_KINDS]:
        came = f"{rankers[0]!r} ranks rows, and these data have acts alone."
        raise Invalid((Fault("model", came, "midstream evaluate ranker FILE, of midstream examples", _PAGE),))
    kinds = {name: item_kind(name) for name in names}
    named = _named(kinds[kind_name], options.options)
    kinds[kind_name].decoded(named)
    tested = tested or data
    found = {name: chosen_options(data, name, kind, options, tell) for name, kind in kinds.items()}
    told: list[dict[str, object]] = [dict(found[name]) for name in names]
    told[0].update(named)
    chosen = [
        kinds[name].decoded(_with_parts(data, kinds[name].decoded(each), each, options, tell))
        for name, each in zip(names, told, strict=True)
    ]
    tell(f"{data.name}: reading what is learned and asked")
    tasks = tested.reporting()
    judged: list[Judged] = []
    for at, (name, settings) in enumerate(zip(names, chosen, strict=True)):
        tell(f"{data.name}: fitting {name} and ranking all items")
        shown = name if names.index(name) == at else f"{name} (settings)"
        judged.append(judge(shown, _fit(kinds[name], settings), tested, tasks, RankingOptions(k=options.k)))
    tell(f"{data.name}: intervals")
    return JudgedModels(
        tuple(report_of(each) for each in judged),
        tuple(msgspec.to_builtins(each) for each in chosen),
        compare(judged[0], judged[1]) if len(judged) > 1 else {},
    )


def _fit(kind: ItemKind[Any], settings: msgspec.Struct) -> Callable[[Interactions], ItemModel]:
    return lambda learned: kind.fit(learned, settings, QUIET)


def _named(kind: ItemKind[Any], options: Mapping[str, object]) -> dict[str, object]:
    """Return options that came as text, those of several values cut at their commas."""
    defaults = kind.decoded({})
    return {
        name: each.split(",") if isinstance(each, str) and isinstance(getattr(defaults, name, None), tuple) else each
        for name, each in options.items()
    }


def _with_parts(
    data: ItemData,
    decoded: msgspec.Struct,
    told: Mapping[str, object],
    options: JudgingOptions,
    tell: Callable[[str], None],
) -> dict[str, object]:
    """Return options in which each part of a blend without options has those of the settings file of its kind."""
    parts: list[dict[str, object]] = [
        {
            "kind": part.kind,
            "options": part.options or chosen_options(data, part.kind, item_kind(part.kind), options, tell),
            "weight": part.weight,
        }
        for part in blend_parts(decoded)
    ]
    return {**told, "parts": parts} if parts else dict(told)


def chosen_options(
    data: ItemData, name: str, kind: ItemKind[Any], options: JudgingOptions, tell: Callable[[str], None]
) -> dict[str, Value]:
    """Return the options of the settings file of a kind; on request they are searched and written before.

    Raises:
        Invalid: They were chosen by another metric, on other data, or under another protocol.
    """
    path, metric = options.folder / f"evaluation-{data.name}-{data.protocol}-{name}.json", f"NDCG@{options.k}"
    if not options.search_seconds or not kind.space:
        return kept_options(path, data, name, metric) if path.is_file() else {}
    tell(f"{data.name}: choosing settings of {name} on the validation part")
    tasks = data.choosing()
    # Means alone are asked for here.
    ranking = RankingOptions(k=options.k, resampling=Resampling(resamples=1))

    def worth(tried: dict[str, Value]) -> float:
        judged = judge(name, _fit(kind, kind.decoded(tried)), data, tasks, ranking)
        values = worth_of(judged, "NDCG")
        found = float(values[values == values].mean()) if (values == values).any() else 0.0  # noqa: PLR0124  NaN
        tell(f"{data.name}: {metric} {found:.4f} {tried}")
        return found

    defaults: dict[str, Value] = msgspec.to_builtins(kind.decoded({}))
    budget = SearchBudget(options.trials_max, options.search_seconds)
    question = question_of(data, tasks, name, metric)
    nothing = ModelChoice(data.name, data.protocol, name, "validation", metric, {}, 0.0, (), question)
    return choose(path, nothing, Search(worth, kind.space, defaults, budget)).options


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Search for options: objective, space, and time."""

    worth: Callable[[dict[str, Value]], float]
    """Of options, on the validation part; higher is better."""
    space: Space
    defaults: Mapping[str, Value]
    """Tried first."""
    budget: SearchBudget


def choose(path: Path, nothing: ModelChoice, search: Search) -> ModelChoice:
    """Search for options and write the best to a settings file, with a journal beside it.

    A search begins with the defaults and with the chosen options of a file of the same question. Where the budget
    leaves no room for these, their old figures count: no file is replaced by a worse one.

    Args:
        path: Of the file.
        nothing: The content of the file before any trial.
        search: Space and time.

    Raises:
        Invalid: No trial has a figure.
        ExtraMissing: The library is not installed.
    """
    refused: list[dict[str, Value]] = []

    def worth(options: dict[str, Value]) -> float:
        try:
            return search.worth(options)
        except Invalid:
            refused.append(options)
            raise

    before = read_settings(path, ModelChoice) if path.is_file() else nothing
    chosen = before.options if before.question == nothing.question else {}
    first = [search.defaults, {**search.defaults, **chosen}]
    journal = path.with_suffix(".journal")
    tried = search_space(worth, search.space, journal, search.budget, first, nothing.question)
    if chosen and not any(chosen.items() <= each.items() for each in (*refused, *(each.options for each in tried))):
        tried = (*tried, Tried(chosen, before.worth))
    best = best_tried(tried)
    choice = replace(nothing, options=best.options, worth=best.worth, trials=tried)
    write_settings(path, choice)
    return choice


def kept_options(path: Path, data: ItemData, name: str, metric: str) -> dict[str, Value]:
    """Return the options of a settings file.

    Raises:
        Invalid: They were chosen by another metric, on other data, or under another protocol.
    """
    choice = read_settings(path, ModelChoice)
    right = f"Another --search: it replaces the file. Or without {path.name}."
    if choice.metric != metric:
        raise Invalid((Fault(path.name, f"chosen by {choice.metric}, and {metric} is asked for.", right, _PAGE),))
    if choice.question != question_of(data, data.choosing(), name, metric):
        came = "chosen on other data, under another protocol, or where other items may be recommended."
        raise Invalid((Fault(path.name, came, right, _PAGE),))
    return choice.options


def question_of(data: ItemData, tasks: Sequence[Task], model: str, metric: str) -> str:
    """Return a hash of all that a figure of the validation part depends on but the options.

    Cost: that of reading it, 1 GB a second.
    """
    found = sha256(f"{data.protocol}\n{data.removed}\n{data.validation_learned}\n{model}\n{metric}".encode())
    for task in tasks:
        found.update(task.learned.vocabulary.content_hash.encode())
        histories = [each for one in (task.learned.histories, task.asked) for each in (one.row, one.weight, one.start)]
        for each in (*histories, task.wanted.item, task.wanted.start, task.owner):
            found.update(f"{each.dtype.str}{each.shape}".encode())
            found.update(np.ascontiguousarray(each).tobytes())
    return found.hexdigest()


def item_data_of(data: InteractionData, protocol: str, *, repeat: bool = False) -> ItemData:
    """Return interactions under a protocol.

    Args:
        data: With times.
        protocol: Of ``PROTOCOLS``.
        repeat: All items may be recommended, those of the history too.

    Raises:
        Invalid: There is no such protocol.
    """
    if protocol not in PROTOCOLS:
        right = "one of " + ", ".join(PROTOCOLS)
        raise Invalid((Fault("--protocol", f"{protocol!r}", right, _PAGE),))
    return PROTOCOLS[protocol](data.name, data.read, "nothing" if repeat else "seen")
