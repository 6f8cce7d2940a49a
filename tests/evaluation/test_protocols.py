"""The next-item protocol: which questions are asked, of which state, and what a data set's report holds."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.types import Models
from midstream.evaluation.data.importing import DATA_SETTINGS, folded
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.data.session_data import NextItemData, Split
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.next_item import NextItemOptions, choose, run_next_item
from midstream.evaluation.protocols import answers, exam_of, query_of, questions_of
from midstream.evaluation.search import Choice
from midstream.evaluation.settings_file import read_settings
from midstream.retrieval.session_knn import SessionKnn

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("wxyz"), st.integers(0, 50)), max_size=25)
MANY = 30
STROLL = SessionKnn(same_item=0.1)
"""Nobody comes back in the shop of ``walks``."""


def interactions(rows):
    """Rows of (session, item, time)."""
    return InteractionTable(
        user_id=np.full(len(rows), ""),
        session_id=np.array([row[0] for row in rows], dtype=np.str_),
        item_id=np.array([row[1] for row in rows], dtype=np.str_),
        action=np.full(len(rows), "click"),
        time_ms=np.array([row[2] for row in rows], dtype=np.int64),
    )


def walks(first, count, length=4):
    """Sessions that walk up a ring of items, one step a click: the next item is certain."""
    return interactions(
        [
            (f"s{number}", f"i{(number + step) % MANY}", 1_000_000 * number + step)
            for number in range(first, first + count)
            for step in range(length)
        ]
    )


@given(ROWS)
def test_every_position_but_the_last_is_asked_once(rows):
    """The queries are the prefixes of the sessions in order of time, each wanting the item that follows."""
    expected = []
    for session in sorted({row[0] for row in rows}):
        items = [row[1] for row in sorted((row for row in rows if row[0] == session), key=lambda row: row[2])]
        expected += [(tuple(items[:place]), items[place]) for place in range(1, len(items))]
    questions = questions_of(interactions(rows))
    found = [
        (query_of(questions, number, 99).items, str(questions.rows.item_id[questions.last[number] + 1]))
        for number in range(len(questions))
    ]
    assert found == expected


@given(ROWS, st.integers(1, 4))
def test_a_query_sends_the_last_items_that_a_session_keeps(rows, given_max):
    """A longer session is cut at its old end, and asks at the time of its last click."""
    questions = questions_of(interactions(rows))
    for number in range(len(questions)):
        whole, cut = query_of(questions, number, 99), query_of(questions, number, given_max)
        assert cut.items == whole.items[-given_max:]
        assert cut.now_ms == questions.rows.time_ms[questions.last[number]]


def test_an_exam_knows_what_is_wanted_and_leaves_the_state_alone():
    """Indices are the state's, an item that was never learned is -1, and asking changes no bit."""
    fold = folded(walks(0, 40), DATA_SETTINGS)
    before = fold.digest()
    asked = interactions([("t", "i3", 90_000_000), ("t", "new", 90_000_001), ("t", "i5", 90_000_002)])
    exam = exam_of(fold, asked, repeat=False)
    index = fold.vocabulary.item_index
    assert exam.wanted.tolist() == [-1, index("i5")]
    assert exam.last.tolist() == [index("i3"), -1]
    assert [each.tolist() for each in exam.later] == [[-1, index("i5")], [index("i5")]]
    assert [moment.recent_item_index.tolist() for moment in exam.moments] == [[index("i3")]] * 2
    for moment in exam.moments:
        SessionKnn().retrieve(moment)
    assert fold.digest() == before


@given(ROWS)
def test_leave_one_out_asks_for_the_last_act_alone(rows):
    """One question a session of two acts or more: all before the last is given, and the last is wanted."""
    exam = exam_of(folded(interactions(rows), DATA_SETTINGS), interactions(rows), repeat=True, last_only=True)
    expected = {row[0] for row in rows if sum(other[0] == row[0] for other in rows) > 1}
    assert sorted(exam.session_ids) == sorted(expected)
    assert all(len(each) == 1 for each in exam.later)
    assert exam.seen is None


def test_nothing_seen_is_recommended_where_only_new_items_count():
    """Everything that a session has had before is taken out of its list, and the next ones move up."""
    fold = folded(walks(0, 60), DATA_SETTINGS)
    index = fold.vocabulary.item_index
    asked = interactions([("t", item, 90_000_000 + at) for at, item in enumerate(["i5", "i3", "i4", "i6"])])
    plain = exam_of(fold, asked, repeat=False, last_only=True)
    unseen = exam_of(fold, asked, repeat=False, last_only=True, unseen=True)
    assert unseen.seen is not None
    given = [index(item) for item in ("i5", "i3", "i4")]
    assert unseen.seen[0].tolist() == given
    found, left = answers(STROLL, plain, 8)[0], answers(STROLL, unseen, 8)[0]
    assert set(given) & set(found.tolist())
    kept = [item for item in found.tolist() if item not in given]
    assert left[: len(kept)].tolist() == kept


@settings(max_examples=10)
@given(st.permutations(range(20)), st.integers(1, 19))
def test_an_import_is_sorted_whatever_the_order_of_the_file(order, size):
    """The state after an import depends on the rows alone."""
    rows = walks(0, 5)
    shuffled = rows.take(np.array(order))
    told: list[int] = []
    assert folded(shuffled, DATA_SETTINGS, told.append).digest() == folded(rows, DATA_SETTINGS).digest()
    assert sum(told) == 20
    assert len(rows.take(slice(0, size))) == size


def test_ids_of_a_data_set_are_never_refused_or_evicted():
    """The fitted maxima hold each id: no limit is met, and what decides lists is untouched."""
    fold = folded(walks(0, 200), DATA_SETTINGS)
    counts = fold.counts()
    met = {"item_refused", "user_evicted", "session_evicted", "duplicate", "unknown_action"}
    assert all(counts[name] == 0 for name in met)
    assert fold.vocabulary.item_count == MANY
    assert fold.settings.limits.index_entries_max == DATA_SETTINGS.limits.index_entries_max


def data_of(calls):
    """A data set that notes when which part is read."""

    def choosing():
        calls.append("choosing")
        return Split(walks(0, 60), walks(60, 10))

    def reporting():
        calls.append("reporting")
        return Split(walks(0, 60), walks(70, 10))

    return NextItemData("walks", choosing, reporting, repeat=False)


QUICK = NextItemOptions(k=5, grid={"distance_decay": (0.0, 0.5)}, resampling=Resampling(resamples=200))


def test_settings_are_written_before_the_test_is_read(tmp_path):
    """When the test part is asked for, the file is there; a second run uses it and does not choose again."""
    path = tmp_path / "settings.json"
    calls: list[str] = []
    data = data_of(calls)

    def reporting():
        calls.append("written" if path.is_file() else "not written")
        return data.reporting()

    watched = NextItemData("walks", data.choosing, reporting, repeat=False)
    first = run_next_item(watched, STROLL, path, QUICK)
    assert calls == ["choosing", "written", "reporting"]
    assert first.choice == read_settings(path, Choice)
    again = run_next_item(watched, STROLL, path, QUICK)
    assert calls[3:] == ["written", "reporting"]
    assert again == first


def test_certain_next_items_are_found(tmp_path):
    """In a shop where each item leads to one other, that one comes first; the report counts what was asked."""
    report = run_next_item(data_of([]), STROLL, tmp_path / "settings.json", QUICK)
    assert (report.questions, report.sessions, report.learned, report.empty) == (30, 10, 240, 0)
    assert report.hit_rate.mean == report.mrr.mean == report.ndcg.mean == 1.0
    assert msgspec.json.encode(report)


def test_the_chosen_options_are_the_ones_that_answer(tmp_path):
    """Of two settings the better one is written down: reading neighbours in order, not as sets."""
    choice = choose(data_of([]), SessionKnn(same_item=0.1, distance_decay=0.0), tmp_path / "settings.json", QUICK)
    assert choice.best.options == {"distance_decay": 0.5}
    assert choice.best.worth > choice.trials[0].worth


def test_no_models_are_needed_to_ask():
    """A moment of an exam carries no artifact, so figures of a source depend on state and options alone."""
    exam = exam_of(folded(walks(0, 3), DATA_SETTINGS), walks(3, 2), repeat=True)
    assert all(moment.models == Models({}) for moment in exam.moments)
