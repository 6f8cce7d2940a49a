"""Evaluation of a source by the next-item protocol: settings are chosen and written before the test part is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from midstream.core.protocols import Source
from midstream.core.types import Index
from midstream.evaluation.data.importing import DATA_SETTINGS, folded
from midstream.evaluation.data.session_data import NextItemData, Split
from midstream.evaluation.metrics.list_metrics import RelevantItems, hits_of, precision, recall
from midstream.evaluation.metrics.metrics import (
    Values,
    coverage,
    discounted_gain,
    hit,
    rank_of,
    reciprocal_rank,
)
from midstream.evaluation.metrics.statistics import Estimate, Resampling, estimate
from midstream.evaluation.protocols import LIST_LENGTH, Exam, answers, exam_of
from midstream.evaluation.search import (
    Choice,
    Grid,
    SearchLimits,
    SearchTrial,
    best_of,
    search,
    with_options,
)
from midstream.evaluation.settings_file import read_settings, write_settings
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings


@dataclass(frozen=True, slots=True)
class NextItemOptions:
    """How an evaluation is run."""

    k: int = LIST_LENGTH
    fold: FoldSettings = DATA_SETTINGS
    """Of these only the maxima that hold ids are changed, to fit the data."""
    grid: Grid = field(default_factory=dict[str, tuple[float, ...]])
    """Values to try for the source's options; empty = its options stay as they are."""
    search: SearchLimits = field(default_factory=SearchLimits)
    resampling: Resampling = field(default_factory=Resampling)
    advance: Callable[[str], None] | None = None
    """Called with the current step, for a progress line."""

    def say(self, text: str) -> None:
        """Report progress."""
        if self.advance is not None:
            self.advance(text)


@dataclass(frozen=True, slots=True)
class NextItemReport:
    """The figures of one data set."""

    data: str
    source: str
    k: int
    repeat: bool
    """The last item may be recommended."""
    last_only: bool
    """Only the last act of each session was a question."""
    unseen: bool
    """Nothing that the session had had before was recommended."""
    validation_learned: bool
    """The validation part was learned before the test."""
    learned: int
    """Rows learned."""
    questions: int
    sessions: int
    hit_rate: Estimate
    mrr: Estimate
    ndcg: Estimate
    precision: Estimate
    """Every later item of the session is right."""
    recall: Estimate
    """As precision."""
    coverage: float
    empty: int
    """Questions to which the source proposed nothing."""
    choice: Choice
    fold_version: str


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredExam:
    """The test part of a data set with the lists of a source."""

    data: NextItemData
    source: str
    options: NextItemOptions
    choice: Choice
    split: Split
    fold: Fold
    exam: Exam
    lists: Index


def choose(data: NextItemData, source: Source, settings_path: Path, options: NextItemOptions | None = None) -> Choice:
    """Choose options on the validation part and write them to a file.

    Returns:
        The content of the file, read back.
    """
    used = options or NextItemOptions()
    used.say(f"{data.name}: choosing settings on the validation part")
    split = data.choosing()
    fold = folded(split.learned, used.fold)
    exam = exam_of(fold, split.asked, repeat=data.repeat, last_only=data.last_only, unseen=data.unseen)
    trials: tuple[SearchTrial, ...] = search(
        source,
        exam,
        used.grid,
        used.search,
        lambda trial: used.say(f"{data.name}: HR {trial.hit_rate:.4f} MRR {trial.mrr:.4f} {trial.options}"),
    )
    fold_settings: dict[str, object] = msgspec.to_builtins(used.fold, enc_hook=str)
    choice = Choice(data.name, "validation", len(exam), LIST_LENGTH, fold_settings, best_of(trials), trials)
    write_settings(settings_path, choice)
    return read_settings(settings_path, Choice)


def run_next_item(
    data: NextItemData, source: Source, settings_path: Path, options: NextItemOptions | None = None
) -> NextItemReport:
    """Choose settings on a validation part, answer the test part, and return the figures; see ``answer_exam``."""
    return report_of(answer_exam(data, source, settings_path, options))


def answer_exam(
    data: NextItemData, source: Source, settings_path: Path, options: NextItemOptions | None = None
) -> AnsweredExam:
    """Choose settings on the validation part, write them to ``settings_path``, then answer the test part with them.

    Args:
        data: Has the parts, and decides whether the last item may be recommended again.
        source: The evaluated source, with the options to start from. It must be able to propose ``k`` + 1 items.
        settings_path: Written before the test part is read. If the file exists, its choice is used as it is.
        options: List length, fold settings, values to try, resampling.

    Raises:
        NotFound: A file of the data set is missing.
        Invalid: The grid or the settings file names an option that the source does not have.
    """
    used = options or NextItemOptions()
    choice = (
        read_settings(settings_path, Choice) if settings_path.is_file() else choose(data, source, settings_path, used)
    )
    chosen = with_options(source, choice.best.options)
    used.say(f"{data.name}: learning what the test is asked about")
    split = data.reporting()
    fold = folded(split.learned, used.fold)
    exam = exam_of(fold, split.asked, repeat=data.repeat, last_only=data.last_only, unseen=data.unseen)
    used.say(f"{data.name}: answering {len(exam)} questions")
    return AnsweredExam(data, chosen.name, used, choice, split, fold, exam, answers(chosen, exam, used.k))


def report_of(run: AnsweredExam) -> NextItemReport:
    """Return the figures of answered questions."""
    k, exam, lists, groups = run.options.k, run.exam, run.lists, run.exam.session
    rank = rank_of(lists, exam.wanted)

    def sure(values: Values) -> Estimate:
        return estimate(values, groups, run.options.resampling)

    right = RelevantItems.of([each.tolist() for each in exam.later])
    hits = hits_of(lists, right)
    return NextItemReport(
        data=run.data.name,
        source=run.source,
        k=k,
        repeat=run.data.repeat,
        last_only=run.data.last_only,
        unseen=run.data.unseen,
        validation_learned=run.data.validation_learned,
        learned=len(run.split.learned),
        questions=len(exam),
        sessions=len(np.unique(groups)),
        hit_rate=sure(hit(rank, k)),
        mrr=sure(reciprocal_rank(rank, k)),
        ndcg=sure(discounted_gain(rank, k)),
        precision=sure(precision(hits, right.counts, k)),
        recall=sure(recall(hits, right.counts, k)),
        coverage=coverage(lists, len(np.unique(run.split.learned.item_id))),
        empty=int((lists < 0).all(axis=1).sum()),
        choice=run.choice,
        fold_version=run.fold.settings.version(),
    )
