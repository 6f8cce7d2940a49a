"""Published lists beside the engine's: over the same questions, with their tests corrected together."""

import numpy as np
import pytest

from benchmarks.quality.published import PublishedList, comparisons_of
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.session_data import NextItemData, Split
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.next_item import NextItemOptions, answer_exam
from midstream.retrieval.session_knn import SessionKnn

MANY = 30
STROLL = SessionKnn(same_item=0.1)
QUICK = NextItemOptions(k=5, grid={"distance_decay": (0.0, 0.5)}, resampling=Resampling(resamples=200))


def walks(first, count):
    """Sessions of four clicks that walk up a ring of items: the next item is certain."""
    rows = [(number, step) for number in range(first, first + count) for step in range(4)]
    return InteractionTable(
        user_id=np.full(len(rows), ""),
        session_id=np.array([f"s{number}" for number, _ in rows]),
        item_id=np.array([f"i{(number + step) % MANY}" for number, step in rows]),
        action=np.full(len(rows), "click"),
        time_ms=np.array([1_000_000 * number + step for number, step in rows], dtype=np.int64),
    )


DATA = NextItemData(
    "walks", lambda: Split(walks(0, 60), walks(60, 10)), lambda: Split(walks(0, 60), walks(70, 10)), repeat=False
)


@pytest.mark.parametrize("places, sign", [(range(3), 0), ((), 1)])
def test_published_lists_are_compared_over_their_questions(tmp_path, places, sign):
    """Lists as good as ours differ by 0, empty ones lose everything, and questions they lack do not count."""
    right = {(f"s{number}", place): (f"i{(number + place + 1) % MANY}",) for number in (70, 71) for place in range(3)}
    lists = {key: items if key[1] in places else ("none",) for key, items in right.items()}
    published = [PublishedList("theirs", lists), PublishedList("strangers", {("x", 0): ("i1",)})]
    (found,) = comparisons_of(published, answer_exam(DATA, STROLL, tmp_path / "settings.json", QUICK))
    assert (found.name, found.questions, found.our_hit_rate) == ("theirs", 6, 1.0)
    assert found.hit_rate_difference.mean == found.mrr_difference.mean == sign
    assert found.hit_rate_difference.tests_count == found.mrr_difference.tests_count == 2
    assert found.hit_rate == 1 - sign
