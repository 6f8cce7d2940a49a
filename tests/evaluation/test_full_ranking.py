"""Item models judged by full ranking: what may not be recommended is not, and figures are of what they name."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from midstream.evaluation.full_ranking import (
    ItemData,
    RankingOptions,
    Task,
    compare,
    is_tail,
    judge,
    removed_of,
    report_of,
    worth_of,
)
from midstream.evaluation.metrics.list_metrics import RelevantItems
from midstream.evaluation.metrics.statistics import Resampling
from midstream.models.histories import Histories, Interactions
from midstream.models.items import popular
from midstream.models.vocabulary import ItemVocabulary

OPTIONS = RankingOptions(k=2, cuts=(1, 2, 5), new_acts_max=1, tail_share=0.3, resampling=Resampling(resamples=50))
LEARNED = Histories.of([[0, 1], [0, 1, 2], [0, 3], [0, 4], [1]])
"""Popularity 4, 3, 1, 1, 1."""


def fit(interactions):
    return popular.fit(interactions, popular.PopularOptions())


def task(asked, wanted):
    return Task(
        Interactions(ItemVocabulary.of(list("abcde")), LEARNED),
        Histories.of(asked),
        RelevantItems.of(wanted),
        np.arange(len(asked), dtype=np.intp),
    )


def data(removed="seen", attributes=None):
    return ItemData("toy", "top-n", tuple, tuple, removed, validation_learned=True, attributes=attributes)


def test_what_is_removed():
    """Everything of a history, its last item, or nothing; an empty history has neither."""
    asked = Histories.of([[0, 1], [], [1, 0]])
    assert removed_of(asked, "nothing") is None
    assert removed_of(asked, "seen") is asked
    last = removed_of(asked, "last")
    assert last is not None
    assert [last.part(row, row + 1).row.tolist() for row in range(3)] == [[1], [], [0]]


@pytest.mark.parametrize(
    "removed,lists", [("seen", [[2, 3], [1, 2]]), ("last", [[0, 2], [1, 2]]), ("nothing", [[0, 1], [0, 1]])]
)
def test_the_switch_decides_what_is_recommended(removed, lists):
    """By popularity, with the lower row first among equals."""
    one = task([[0, 1], [0]], [[2], [4]])
    judged = judge("popular", fit, data(removed), [one], OPTIONS)
    assert judged.lists.tolist() == lists
    report = report_of(judged)
    assert report.removed == removed
    assert report.last_item_allowed == (removed == "nothing")
    assert report.validation_learned
    allowed = "may be recommended" if removed == "nothing" else "is never recommended"
    assert report.switches == f"removed: {removed}; the last item {allowed}; the validation part is learned"


def test_figures_are_those_of_the_lists():
    """Two questions by hand: lists 2 3 and 1 2; right are 3 and an unknown item, and 1."""
    report = report_of(judge("popular", fit, data(), [task([[0, 1], [0]], [[3, -1], [1]])], OPTIONS))
    assert (report.questions, report.items, report.learned, report.unknown) == (2, 5, 10, 1)
    assert report.metrics["recall@2"].mean == pytest.approx((1 / 2 + 1) / 2)
    assert report.metrics["MRR@2"].mean == pytest.approx((1 / 2 + 1) / 2)
    assert report.curves["HR"] == {1: 0.5, 2: 1.0}
    assert report.coverage == pytest.approx(3 / 5)
    # Popularity 1, 1 and 3, 1.
    assert report.metrics["popularity@2"].mean == pytest.approx(1.5)
    # Of five histories.
    assert report.metrics["novelty@2"].mean == pytest.approx((np.log2(5) * 3 + np.log2(5 / 3)) / 4)
    assert report.windows == ()


def test_segments_ask_only_their_own():
    """New users by their acts, tail items by what is right: a tail item found counts there alone."""
    one = task([[0, 1], [0]], [[2, 4], [1]])
    assert is_tail(one, 0.3).tolist() == [False, False, True, True, True]
    new, old, tail, head, unknown = report_of(judge("popular", fit, data(), [one], OPTIONS)).segments
    assert (new.questions, old.questions, tail.questions, head.questions, unknown.questions) == (1, 1, 1, 1, 0)
    assert new.metrics["recall@2"].mean == 1.0
    assert old.metrics["recall@2"].mean == 0.5
    assert tail.metrics["recall@2"].mean == 0.5
    assert head.metrics["recall@2"].mean == 1.0


def test_items_that_nobody_could_learn_are_a_segment_of_their_own() -> None:
    """They are none of those that others acted on often: those found are found in full."""
    one = task([[0, 1], [0]], [[2, -1], [1, -1]])
    report = report_of(judge("popular", fit, data(), [one], OPTIONS))
    _, _, tail, head, unknown = report.segments
    assert (tail.questions, head.questions, unknown.questions) == (1, 1, 2)
    assert unknown.name == "unknown items (in nothing learned)"
    assert (tail.metrics["recall@2"].mean, head.metrics["recall@2"].mean) == (1.0, 1.0)
    assert unknown.metrics["recall@2"].mean == 0.0


def test_whoever_is_not_known_is_answered_with_what_is_popular() -> None:
    """By count, whatever the model: here by one that would answer by the lowest row."""

    class Silent:
        """Says nothing of anything."""

        vocabulary = ItemVocabulary.of(list("abcde"))

        def scores(self, histories):
            return np.zeros((len(histories), 5), dtype=np.float32)

        def best(self, history, k):
            return np.empty(0, np.int32), np.empty(0, np.float32)

        def arrays(self):
            return {}

    learned = Interactions(ItemVocabulary.of(list("abcde")), Histories.of([[4, 2], [4, 2], [4], [0]]))
    one = Task(learned, Histories.of([[], [0], []]), RelevantItems.of([[4], [2], [1]]), np.arange(3))
    options = RankingOptions(k=3, cuts=(1,), resampling=OPTIONS.resampling)
    for model in (lambda _: Silent(), fit):
        judged = judge("any", model, data(), [one], options)
        assert judged.lists[[0, 2]].tolist() == [[4, 2, 0], [4, 2, 0]]
        assert report_of(judged).without_history == 2
    assert judge("any", lambda _: Silent(), data(), [one], options).lists[1].tolist() == [1, 2, 3]
    few = RankingOptions(k=7, cuts=(1,), resampling=OPTIONS.resampling)
    assert judge("any", fit, data(), [one], few).lists[0].tolist() == [4, 2, 0, 1, 3, -1, -1]


def test_windows_are_judged_each_and_together():
    """A fit for each, their own means, and questions of one user counted as that user's."""
    tasks = [task([[0]], [[1]]), task([[0], [1]], [[4], [0]])]
    fits = []

    def counted(interactions):
        fits.append(interactions)
        return fit(interactions)

    report = report_of(judge("popular", counted, data(), tasks, OPTIONS))
    assert len(fits) == 2
    assert [each["recall@2"] for each in report.windows] == [1.0, 0.5]
    assert report.metrics["recall@2"].mean == pytest.approx(2 / 3)


def test_diversity_is_by_attributes_where_there_are_some():
    """Of items 2 and 3, which share one of three attributes."""
    attributes = csr_matrix(np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]]))
    report = report_of(judge("popular", fit, data(attributes=lambda: attributes), [task([[0, 1]], [[2]])], OPTIONS))
    assert report.metrics["diversity@2"].mean == pytest.approx(2 / 3)


def test_a_model_is_compared_question_by_question():
    """A model against itself differs in nothing; against one that finds nothing it differs by its own worth."""
    one = task([[0, 1], [0], [0]], [[2], [1], []])
    ours = judge("popular", fit, data(), [one], OPTIONS)
    none = judge("other", fit, data(), [task([[0, 1], [0], [0]], [[-1], [-1], []])], OPTIONS)
    same = compare(ours, ours)["recall@2"]
    assert (same.mean, same.p_value) == (0.0, 1.0)
    assert same.tests_count == len(compare(ours, ours)) > 1
    assert compare(ours, none)["recall@2"].mean == pytest.approx(1.0)
    assert np.isnan(worth_of(ours, "recall")[2])
