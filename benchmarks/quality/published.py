"""Published lists of other recommenders beside the engine's, over the questions that they answer."""

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midstream.core.errors import NotFound
from midstream.core.types import Index
from midstream.evaluation.data.interactions import Rows
from midstream.evaluation.metrics.metrics import Ranks, Values, hit, rank_of, reciprocal_rank
from midstream.evaluation.metrics.statistics import PairedDifference, difference, holm_fields
from midstream.evaluation.next_item import AnsweredExam
from midstream.evaluation.protocols import Exam
from midstream.state.fold import Fold

PUBLISHED_SETS: Mapping[str, tuple[str, ...]] = {"rsc15-100k": ("ar", "sr", "gru4rec", "vsknn")}
"""Sets with published lists: the recommenders."""


@dataclass(frozen=True, slots=True, eq=False)
class PublishedList:
    """The lists of another recommender for some of the questions."""

    name: str
    items: Mapping[tuple[str, int], tuple[str, ...]]
    """(session id, number of the last click given, from 0) → item ids, best first."""


@dataclass(frozen=True, slots=True)
class ListComparison:
    """The engine beside published lists, over the questions that those answer."""

    name: str
    questions: int
    hit_rate: float
    """Of the published lists."""
    mrr: float
    our_hit_rate: float
    our_mrr: float
    hit_rate_difference: PairedDifference
    """Ours less theirs."""
    mrr_difference: PairedDifference


def read_published(folder: Path, name: str) -> PublishedList:
    """Return one file of published lists."""
    path = folder / f"golden_top50_{name}.csv.gz"
    if not path.is_file():
        raise NotFound(str(path))
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        return PublishedList(
            name,
            {
                (row["SessionId"], int(row["Position"])): tuple(row["Recommendations"].split(","))
                for row in csv.DictReader(file, delimiter=";")
            },
        )


def published_lists(name: str, folder: Path) -> tuple[PublishedList, ...]:
    """Return the published lists of a data set."""
    return tuple(read_published(folder / name, each) for each in PUBLISHED_SETS.get(name, ()))


def comparisons_of(published: Sequence[PublishedList], run: AnsweredExam) -> tuple[ListComparison, ...]:
    """Return each list that answers some of the questions beside ours; the tests are corrected together."""
    found = (compare(each, run) for each in published)
    return holm_fields([each for each in found if each is not None], "hit_rate_difference", "mrr_difference")


def compare(published: PublishedList, run: AnsweredExam) -> ListComparison | None:
    """Return published lists and ours side by side, or None when they answer none of the questions."""
    exam, k, resampling = run.exam, run.options.k, run.options.resampling
    rows, theirs = lists_of(published.items, exam, run.fold, k)
    if len(rows) == 0:
        return None
    their, our = rank_of(theirs, exam.wanted[rows]), rank_of(run.lists[rows], exam.wanted[rows])
    session = exam.session[rows]

    def both(metric: Callable[[Ranks, int], Values]) -> tuple[Values, Values]:
        return metric(our, k), metric(their, k)

    our_hit, their_hit = both(hit)
    our_place, their_place = both(reciprocal_rank)
    return ListComparison(
        published.name,
        len(rows),
        float(their_hit.mean()),
        float(their_place.mean()),
        float(our_hit.mean()),
        float(our_place.mean()),
        difference(our_hit, their_hit, session, resampling),
        difference(our_place, their_place, session, resampling),
    )


def lists_of(
    published: Mapping[tuple[str, int], tuple[str, ...]], exam: Exam, fold: Fold, k: int
) -> tuple[Rows, Index]:
    """Return the questions that published lists answer, as rows of the exam, and the first k items of each."""
    keys = zip(exam.session_ids, exam.place.tolist(), strict=True)
    answered = [(row, published[key]) for row, key in enumerate(keys) if key in published]
    lists = np.full((len(answered), k), -1, dtype=np.int32)
    for line, (_, items) in zip(lists, answered, strict=True):
        found = fold.vocabulary.item_indices(items[:k])
        line[: len(found)] = found
    return np.array([row for row, _ in answered], dtype=np.intp), lists
